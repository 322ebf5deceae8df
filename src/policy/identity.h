#pragma once
/*
 * Who the database knows: its keys, its users, the tokens that were ended early. Built whole by the store (store/identity.c), immutable afterwards, counted: snapshots
 * hold it and requests borrow from it while they hold their snapshot. Nothing of it is a secret but the password hashes; keys are digests.
 *
 * Times are seconds since the epoch. A key's expiry is judged at each request (tg_principal.expires_s), so that nobody needs to be awake when it comes.
 */
#include "policy/key.h"

#define TG_USER_NAME_MAX 64

struct tg_user {
	struct tg_principal who; /* source TG_SRC_USER; id "usr_..." */
	char name[TG_USER_NAME_MAX + 1];
	char *password;          /* argon2id, encoded; owned */
	int64_t tokens_from;     /* tokens issued before are void: the password was changed, or all were ended */
	bool disabled;
};

/* What a stored key's or user's limits are counted under: its id's, so that the two secrets of a key that is being rotated share one account. */
uint64_t tg_stored_account(const char *id);

/* A name as it is kept and compared: ASCII letters in lower case, others as they come; cut to TG_USER_NAME_MAX bytes. */
void tg_user_name(struct tg_slice name, char out[TG_USER_NAME_MAX + 1]);

struct tg_identity; /* opaque */
struct tg_identity *tg_identity_new(void); /* one reference; NULL: no memory */
/* While it is being built, before it is shared. False: no memory, or a digest or name that is there already. */
bool tg_identity_add_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who);
bool tg_identity_add_user(struct tg_identity *d, const struct tg_user *u, const char *password);
bool tg_identity_add_revoked(struct tg_identity *d, const char *jti);
bool tg_identity_seal(struct tg_identity *d); /* the end of building: sorts; false: no memory, or something twice */

struct tg_identity *tg_identity_get(struct tg_identity *d); /* NULL passes */
void tg_identity_put(struct tg_identity *d);

/* NULL d: an identity without anybody. */
const struct tg_principal *tg_identity_key(const struct tg_identity *d, const uint8_t digest[32]);
/* Whether the secret with which `who` (of `was`) came is still somebody's. */
bool tg_identity_still_has(const struct tg_identity *now, const struct tg_identity *was, const struct tg_principal *who);
const struct tg_user *tg_identity_user(const struct tg_identity *d, struct tg_slice id);
const struct tg_user *tg_identity_user_named(const struct tg_identity *d, struct tg_slice name); /* names are compared as they are: lower case */
bool tg_identity_revoked(const struct tg_identity *d, struct tg_slice jti);
uint32_t tg_identity_union(const struct tg_identity *d); /* permissions that somebody holds who may come in */
/* Everybody, for the file of what is known (store/known.c). */
void tg_identity_each_key(const struct tg_identity *d, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx);
const struct tg_user *tg_identity_user_at(const struct tg_identity *d, size_t i);   /* i < tg_identity_users */
const char *tg_identity_revoked_at(const struct tg_identity *d, size_t i);          /* NULL: there are no more */
bool tg_identity_named(const struct tg_identity *d); /* users have names and passwords: it is no file of what was known (store/known.h) */
void tg_identity_nameless(struct tg_identity *d);
size_t tg_identity_keys(const struct tg_identity *d);
size_t tg_identity_users(const struct tg_identity *d);
