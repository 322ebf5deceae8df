#pragma once
/* Users, keys and ended tokens in the database: the statements. All for use inside tg_store_write or tg_store_read. Times: seconds since the epoch; 0: none. */
#include "policy/identity.h"
#include "policy/token.h"
#include "store/db.h"
#include "store/uses.h"

#define TG_KEY_NAME_MAX 100   /* characters */
#define TG_STORED_ID_LEN 20   /* "key_" or "usr_" and 16 characters */
#define TG_STORED_KEY_LEN 64  /* "tg_", the id's 16 characters, "_", 44 random ones */

/* A new secret and the id it goes with: `id` is made where it is empty, else kept (rotation). False: the system gives no random numbers. */
bool tg_stored_key_make(char id[TG_STORED_ID_LEN + 1], char key[TG_STORED_KEY_LEN + 1]);
bool tg_user_id_make(char id[TG_STORED_ID_LEN + 1]);

/* Limits as the columns keep them: JSON. The text is the caller's; NULL: no memory. */
char *tg_limits_dump(const struct tg_key_limits *l);

struct tg_key_limits tg_limits_load(struct tg_slice text); /* what cannot be read is a limit of nothing rather than none */

struct tg_key_row {
	const char *id, *name, *made_by;
	uint32_t perms;
	const char *limits;      /* JSON */
	int64_t created_s, expires_s, revoked_s, used_s;
	char prefix[TG_KEY_PREFIX_MAX + 1]; /* of its newest secret */
	unsigned secrets;        /* live ones */
	int64_t old_expires_s;   /* of the older secret, while there are two */
};
typedef bool (*tg_key_row_fn)(void *ctx, const struct tg_key_row *k); /* false: enough */
enum tg_db_result tg_keys_list(struct tg_db *db, const char *after, unsigned most, int64_t now, tg_key_row_fn row, void *ctx, struct tg_err *err); /* by id, behind `after` */
enum tg_db_result tg_keys_get(struct tg_db *db, const char *id, int64_t now, tg_key_row_fn row, void *ctx, bool *found, struct tg_err *err);
enum tg_db_result tg_keys_insert(struct tg_db *db, const struct tg_key_row *k, const uint8_t digest[32], struct tg_err *err);
/* *found false: no such key, or it was revoked before. */
enum tg_db_result tg_keys_revoke(struct tg_db *db, const char *id, int64_t now, bool *found, struct tg_err *err);
enum tg_db_result tg_keys_used(struct tg_db *db, const char *id, int64_t used_s, struct tg_err *err);
/* A new secret; those before end at old_expires_s at the latest. The caller has seen that it makes no third live one: old_expires_s is now, or there is one only. */
enum tg_db_result tg_keys_add_secret(struct tg_db *db, const char *id, const uint8_t digest[32], const char *prefix, int64_t now, int64_t old_expires_s, struct tg_err *err);

struct tg_user_row {
	const char *id, *name, *password;
	uint32_t perms;
	const char *limits;
	bool disabled;
	int64_t tokens_from_s, created_s, updated_s;
};
/*
 * tokens_from of a user whose tokens of before are void from now on, who had `was`: for use in the transaction that says so. It lies some seconds ahead, since a login that other threads or programs let in by what
 * the database said before may still be given a token, until the change is in force there; a login that comes after it gets a token that says it was issued then.
 */
#define TG_TOKENS_AHEAD_S 6
int64_t tg_tokens_void(int64_t was);
/*
 * From here on ahead of the clock, tokens_from was set by a clock that was wrong: a token that says it was issued then would be refused as one of the future (TG_TOKEN_SKEW_S, half of which stays for other machines'
 * clocks). Only the command line sets such a one back (tg_tokens_void_now): what was issued while the clock was wrong may live again.
 */
#define TG_TOKENS_FAR_S 30
bool tg_tokens_far(int64_t from, int64_t now);
int64_t tg_tokens_void_now(int64_t was, bool *back); /* *back: it is earlier than `was` */
typedef bool (*tg_user_row_fn)(void *ctx, const struct tg_user_row *u);
enum tg_db_result tg_users_list(struct tg_db *db, const char *after, unsigned most, tg_user_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_users_insert(struct tg_db *db, const struct tg_user_row *u, struct tg_err *err); /* CONFLICT: the name is taken */
enum tg_db_result tg_users_update(struct tg_db *db, const struct tg_user_row *u, bool *found, struct tg_err *err); /* all but id, name, created */
enum tg_db_result tg_users_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err);
/* Of a user by id or by name, whichever is not NULL. */
enum tg_db_result tg_users_get(struct tg_db *db, const char *id, const char *name, tg_user_row_fn row, void *ctx, bool *found, struct tg_err *err);
enum tg_db_result tg_tokens_revoke(struct tg_db *db, const char *jti, int64_t expires_s, int64_t now, struct tg_err *err); /* and forgets those that ended over TG_ENDED_KEPT_S ago */

/* What somebody came with: a key (TG_SRC_STORED_KEY: its digest) or the token of a login (TG_SRC_USER: the rest). */
struct tg_bearer {
	enum tg_source source;
	uint8_t digest[32];
	char id[24], jti[TG_TOKEN_JTI_MAX + 1];
	int64_t issued_s;
};
/* Who that is inside this transaction, judged as a request would be. *found false: nobody (any more). *who has no place to count in. */
enum tg_db_result tg_bearer_look(struct tg_db *db, int64_t now, const struct tg_bearer *b, struct tg_principal *who, bool *found, struct tg_err *err);

/* Everybody, sealed. `uses` (may be NULL) gives each key and user its place. */
enum tg_db_result tg_identity_load(struct tg_db *db, int64_t now, struct tg_uses *uses, struct tg_identity **out, struct tg_err *err);
/*
 * Up to where somebody has read the list of changes (migrations/0004_changes.sql), and a digest of the row that stands there: a list that began anew (another database, an older copy) comes by the same numbers, not by the
 * same rows. seq 0: there are none.
 */
#define TG_MARK_LEN 32
struct tg_list_end {
	int64_t seq;
	char mark[TG_MARK_LEN + 1];
};
/* Asked before tg_identity_load, it is what that one stands for at least. */
enum tg_db_result tg_identity_end(struct tg_db *db, struct tg_list_end *end, struct tg_err *err);
/* Whether the list has that row, as far as it goes back. */
enum tg_db_result tg_identity_has(struct tg_db *db, const struct tg_list_end *end, bool *has, struct tg_err *err);

enum tg_change_kind { TG_CHANGE_KEY, TG_CHANGE_SECRET, TG_CHANGE_USER, TG_CHANGE_TOKEN, TG_CHANGE_KINDS };
#define TG_CHANGE_ID 72
struct tg_change {
	enum tg_change_kind kind; /* SECRET: id is a digest in hexadecimal digits */
	char id[TG_CHANGE_ID];
};
struct tg_changes {
	struct tg_change *v; /* the caller's to free */
	size_t n, cap;
	bool lost; /* no memory, or what no program of ours wrote */
};
/*
 * What changed since *end laid over `was`, sealed; *end moves. *out NULL: nothing did. *whole: the list does not go back so far, or what it says does not fit `was`: everybody must be loaded (OK, *out NULL).
 * *changed: what it was; of a key each of its secrets. Costs what changed, with at most the list's length of look-ups.
 */
enum tg_db_result tg_identity_catch_up(struct tg_db *db, int64_t now, struct tg_uses *uses, const struct tg_identity *was, struct tg_list_end *end, struct tg_identity **out,
				       struct tg_changes *changed, bool *whole, struct tg_err *err);
