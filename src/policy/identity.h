#pragma once
/*
 * Who the database knows: its keys, its users, the tokens that were ended early. Built by the store (store/load.c), immutable afterwards, counted: snapshots
 * hold it and requests borrow from it while they hold their snapshot. Nothing of it is a secret but the password hashes; keys are digests.
 *
 * A change does not build it anew: tg_identity_next lays what changed over what was and shares the rest, so that it costs what changed, however many keys there are. What is laid over is folded in from time to
 * time (tg_identity_fold), by somebody who has the time.
 *
 * Times are seconds since the epoch. A key's expiry is judged at each request (tg_principal.expires_s), so that nobody needs to be awake when it comes.
 */
#include "policy/key.h"
#include "policy/people.h"

/* What a stored key's or user's limits are counted under: its id's, so that the two secrets of a key that is being rotated share one account. */
uint64_t tg_stored_account(const char *id);

/* A name as it is kept and compared: ASCII letters in lower case, others as they come; cut to TG_USER_NAME_MAX bytes. */
void tg_user_name(struct tg_slice name, char out[TG_USER_NAME_MAX + 1]);

struct tg_identity; /* opaque */
struct tg_identity *tg_identity_new(void); /* one reference; NULL: no memory */
/* While it is being built, before it is shared. False: no memory, more than TG_KEYSET_MAX keys, or a digest or name that is there already. */
bool tg_identity_add_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who); /* `who` has an id */
bool tg_identity_add_user(struct tg_identity *d, const struct tg_user *u, const char *password);
bool tg_identity_add_revoked(struct tg_identity *d, const char *jti, int64_t expires_s);
bool tg_identity_seal(struct tg_identity *d); /* the end of building: sorts; false: no memory, or something twice */

/*
 * The same people again, to be changed by these and tg_identity_add_revoked, then sealed. Costs what is laid over `was`, and its users (tokens) where a user (token) changes. NULL: no memory.
 * set_key: `who` NULL: the digest is nobody's. set_user: u NULL: the id is nobody's.
 */
struct tg_identity *tg_identity_next(const struct tg_identity *was, int64_t now);
bool tg_identity_set_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who);
bool tg_identity_set_user(struct tg_identity *d, const char *id, const struct tg_user *u, const char *password);
size_t tg_identity_laid_over(const struct tg_identity *d); /* keys */

/* The same with nothing laid over, without keys that have expired. As long as loading takes less SQL: for a thread that nobody waits for. NULL: no memory. */
struct tg_identity *tg_identity_fold(const struct tg_identity *d, int64_t now);
/* `now` over `folded`, which was made of `was`, an earlier one: what changed in between stays laid over. NULL: no memory, or `now` does not come from `was`. */
struct tg_identity *tg_identity_refold(struct tg_identity *now, struct tg_identity *folded, const struct tg_identity *was);
bool tg_identity_alone(const struct tg_identity *d); /* the caller's count is the last one of it and of what it shares: to free it takes as long as it is large */

struct tg_identity *tg_identity_get(struct tg_identity *d); /* NULL passes */
void tg_identity_put(struct tg_identity *d);

/* NULL d: an identity without anybody. */
const struct tg_principal *tg_identity_key(const struct tg_identity *d, const uint8_t digest[32]);
const uint8_t *tg_identity_digest(const struct tg_identity *d, const struct tg_principal *who); /* of the secret with which `who` (of d) came; NULL: he is none of its keys */
/* Whose the secret with which `who` (of `was`) came is now; NULL: nobody's. */
const struct tg_principal *tg_identity_still_has(const struct tg_identity *now, const struct tg_identity *was, const struct tg_principal *who);
const struct tg_user *tg_identity_user(const struct tg_identity *d, struct tg_slice id);
const struct tg_user *tg_identity_user_named(const struct tg_identity *d, struct tg_slice name); /* names are compared as they are: lower case */
/* Whose a token is that was issued at `issued_s` for that id; NULL: its user is gone or disabled, or it was ended before its time. */
const struct tg_user *tg_identity_bearer(const struct tg_identity *d, struct tg_slice id, struct tg_slice jti, int64_t issued_s);
bool tg_identity_revoked(const struct tg_identity *d, struct tg_slice jti);
uint32_t tg_identity_union(const struct tg_identity *d); /* permissions that somebody holds who may come in */
/* Everybody, for the file of what is known (store/known.c). */
void tg_identity_each_key(const struct tg_identity *d, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx);
const struct tg_user *tg_identity_user_at(const struct tg_identity *d, size_t i);   /* i < tg_identity_users */
const char *tg_identity_revoked_at(const struct tg_identity *d, size_t i, int64_t *expires_s); /* NULL: there are no more */
bool tg_identity_named(const struct tg_identity *d); /* users have names and passwords: it is no file of what was known (store/known.h) */
void tg_identity_nameless(struct tg_identity *d);
/* Nobody, because it is not known who: there is a database, and nothing that it last said. A key of its shape may be anybody's (store/store.c). NULL: no memory. */
struct tg_identity *tg_identity_blind_new(void);
bool tg_identity_blind(const struct tg_identity *d);
/* It looks like a key that the database gives out: "tg_", 16 small letters and digits, "_", 44 letters and digits (tg_stored_key_make). */
bool tg_stored_key_like(struct tg_slice key);
size_t tg_identity_keys(const struct tg_identity *d);
size_t tg_identity_users(const struct tg_identity *d);
