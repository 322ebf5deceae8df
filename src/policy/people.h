#pragma once
/*
 * The users of an identity, and the tokens that were ended early. Both are counted and immutable once sealed, so that an identity in which only keys changed shares them with the one before; a copy shares every user
 * that did not change. Owner: struct tg_identity (policy/identity.h), which is what the rest of the program sees of them.
 */
#include "policy/principal.h"

#define TG_USER_NAME_MAX 64

struct tg_user {
	struct tg_principal who; /* source TG_SRC_USER; id "usr_..." */
	char name[TG_USER_NAME_MAX + 1];
	char *password;          /* argon2id, encoded; owned */
	int64_t tokens_from;     /* tokens issued before are void: the password was changed, or all were ended */
	bool disabled;
};

struct tg_people; /* opaque */
struct tg_people *tg_people_new(void); /* one count; NULL: no memory */
struct tg_people *tg_people_copy(const struct tg_people *p); /* to be changed and sealed; shares the users */
struct tg_people *tg_people_get(struct tg_people *p);
void tg_people_put(struct tg_people *p);
/* Before it is shared. The id must not be there (tg_people_drop): what is there twice is found by tg_people_seal. */
bool tg_people_add(struct tg_people *p, const struct tg_user *u, const char *password);
void tg_people_drop(struct tg_people *p, const char *id);
bool tg_people_seal(struct tg_people *p); /* sorts; false: no memory, or an id or a name twice */
const struct tg_user *tg_people_by_id(const struct tg_people *p, struct tg_slice id);
const struct tg_user *tg_people_by_name(const struct tg_people *p, struct tg_slice name);
size_t tg_people_count(const struct tg_people *p);
const struct tg_user *tg_people_at(const struct tg_people *p, size_t i); /* i < tg_people_count */
uint32_t tg_people_union(const struct tg_people *p); /* permissions of those who are not disabled */

/*
 * For so long past its end an ended token is remembered. It is refused by then; but the clock that says so may have been ahead for a while, and once it is right again the token would live, with nobody knowing that it
 * was logged out.
 */
#define TG_ENDED_KEPT_S 2592000
struct tg_ended; /* opaque */
struct tg_ended *tg_ended_new(void);
struct tg_ended *tg_ended_copy(const struct tg_ended *e, int64_t now); /* without those that nobody needs to remember */
struct tg_ended *tg_ended_get(struct tg_ended *e);
void tg_ended_put(struct tg_ended *e);
bool tg_ended_add(struct tg_ended *e, const char *jti, int64_t expires_s); /* false: no memory. An id longer than a token may have (policy/token.h) is passed over */
void tg_ended_seal(struct tg_ended *e);
bool tg_ended_has(const struct tg_ended *e, struct tg_slice jti);
const char *tg_ended_at(const struct tg_ended *e, size_t i, int64_t *expires_s); /* NULL: there are no more */
