/* The statements for users, keys and ended tokens (migrations/0001_identity.sql). SQL is the common part of SQLite and PostgreSQL. How they become what requests are judged by: load.c. */
#include "store/identity.h"
#include "base/clock.h"
#include "policy/key_limits.h"
#include "store/column.h"
#include <stdlib.h>

enum { ID_CHARS = 16, KEY_CHARS = 44 };

/* Letters and digits of one case for ids, which people read out; of both for secrets: 44 characters of 62 are 261 bits. */
static void random_text(char *out, size_t n, const char *alphabet, uint32_t letters)
{
	for (size_t i = 0; i < n; i++)
		out[i] = alphabet[randombytes_uniform(letters)];
	out[n] = 0;
}

static bool make_id(char id[TG_STORED_ID_LEN + 1], const char *prefix)
{
	if (sodium_init() < 0)
		return false;
	memcpy(id, prefix, 4);
	random_text(id + 4, ID_CHARS, "abcdefghijklmnopqrstuvwxyz0123456789", 36);
	return true;
}

bool tg_user_id_make(char id[TG_STORED_ID_LEN + 1])
{
	return make_id(id, "usr_");
}

bool tg_stored_key_make(char id[TG_STORED_ID_LEN + 1], char key[TG_STORED_KEY_LEN + 1])
{
	if (sodium_init() < 0 || (!id[0] && !make_id(id, "key_")))
		return false;
	memcpy(key, "tg_", 3);
	memcpy(key + 3, id + 4, ID_CHARS);
	key[3 + ID_CHARS] = '_';
	random_text(key + 4 + ID_CHARS, KEY_CHARS, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789", 62);
	return true;
}

/* ---- what rows hold ---- */

static struct tg_db_value int_or_null(int64_t v)
{
	return v ? TG_DB_I(v) : TG_DB_N;
}

static void digest_text(const uint8_t digest[32], char out[65])
{
	sodium_bin2hex(out, 65, digest, 32);
}

char *tg_limits_dump(const struct tg_key_limits *l)
{
	json_t *o = tg_key_limits_json(l);
	char *text = o ? json_dumps(o, JSON_COMPACT | JSON_SORT_KEYS) : NULL;
	json_decref(o);
	return text;
}

/* ---- keys ---- */

#define KEY_COLUMNS                                                                                                                                    \
	"k.id, k.name, k.permissions, k.limits, k.made_by, k.created_at, k.expires_at, k.revoked_at, "                                                 \
	"(SELECT s.prefix FROM api_key_secrets s WHERE s.key_id = k.id ORDER BY s.expires_at IS NULL DESC, s.created_at DESC LIMIT 1), "               \
	"(SELECT COUNT(*) FROM api_key_secrets s WHERE s.key_id = k.id AND (s.expires_at IS NULL OR s.expires_at > $1)), "                             \
	"(SELECT MAX(s.expires_at) FROM api_key_secrets s WHERE s.key_id = k.id AND s.expires_at > $1), k.used_at"

struct key_rows {
	tg_key_row_fn row;
	void *ctx;
	bool found;
};

static bool key_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct key_rows *r = ctx;
	char id[32], name[TG_KEY_NAME_MAX * 4 + 1], made_by[32], limits[1024];
	if (n != 12)
		return false;
	struct tg_key_row k = { .id = tg_col_text(&v[0], id, sizeof id), .name = tg_col_text(&v[1], name, sizeof name), .perms = tg_col_perms(&v[2]),
				.limits = tg_col_text(&v[3], limits, sizeof limits), .made_by = tg_col_text(&v[4], made_by, sizeof made_by), .created_s = tg_col_int(&v[5]),
				.expires_s = tg_col_int(&v[6]), .revoked_s = tg_col_int(&v[7]), .secrets = (unsigned)tg_col_int(&v[9]), .old_expires_s = tg_col_int(&v[10]), .used_s = tg_col_int(&v[11]) };
	tg_col_text(&v[8], k.prefix, sizeof k.prefix);
	r->found = true;
	return r->row(r->ctx, &k);
}

enum tg_db_result tg_keys_list(struct tg_db *db, const char *after, unsigned most, int64_t now, tg_key_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(now), TG_DB_T(after), TG_DB_I(most) };
	struct key_rows r = { row, ctx, false };
	return tg_db_run(db, "SELECT " KEY_COLUMNS " FROM api_keys k WHERE k.id > $2 ORDER BY k.id LIMIT $3", args, 3, key_row, &r, NULL, err);
}

enum tg_db_result tg_keys_get(struct tg_db *db, const char *id, int64_t now, tg_key_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(now), TG_DB_T(id) };
	struct key_rows r = { row, ctx, false };
	enum tg_db_result rc = tg_db_run(db, "SELECT " KEY_COLUMNS " FROM api_keys k WHERE k.id = $2", args, 2, key_row, &r, NULL, err);
	*found = r.found;
	return rc;
}

static enum tg_db_result insert_secret(struct tg_db *db, const char *id, const uint8_t digest[32], const char *prefix, int64_t now, struct tg_err *err)
{
	char hex[65];
	digest_text(digest, hex);
	struct tg_db_value args[] = { TG_DB_T(hex), TG_DB_T(id), TG_DB_T(prefix), TG_DB_I(now) };
	return tg_db_run(db, "INSERT INTO api_key_secrets (digest, key_id, prefix, created_at, expires_at) VALUES ($1, $2, $3, $4, NULL)", args, 4, NULL, NULL, NULL, err);
}

enum tg_db_result tg_keys_insert(struct tg_db *db, const struct tg_key_row *k, const uint8_t digest[32], struct tg_err *err)
{
	char perms[TG_PERMS_TEXT];
	tg_perms_text(k->perms, ",", perms);
	struct tg_db_value args[] = { TG_DB_T(k->id), TG_DB_T(k->name), TG_DB_T(perms), TG_DB_T(k->limits), TG_DB_T(k->made_by), TG_DB_I(k->created_s),
				      int_or_null(k->expires_s) };
	enum tg_db_result r = tg_db_run(db,
					"INSERT INTO api_keys (id, name, permissions, limits, made_by, created_at, expires_at, revoked_at, used_at) "
					"VALUES ($1, $2, $3, $4, $5, $6, $7, NULL, NULL)",
					args, 7, NULL, NULL, NULL, err);
	return r == TG_DB_OK ? insert_secret(db, k->id, digest, k->prefix, k->created_s, err) : r;
}

enum tg_db_result tg_keys_revoke(struct tg_db *db, const char *id, int64_t now, bool *found, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(now), TG_DB_T(id) };
	int64_t changed;
	enum tg_db_result r = tg_db_run(db, "UPDATE api_keys SET revoked_at = $1 WHERE id = $2 AND revoked_at IS NULL", args, 2, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}

enum tg_db_result tg_keys_used(struct tg_db *db, const char *id, int64_t used_s, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(used_s), TG_DB_T(id) };
	return tg_db_run(db, "UPDATE api_keys SET used_at = $1 WHERE id = $2 AND (used_at IS NULL OR used_at < $1)", args, 2, NULL, NULL, NULL, err);
}

enum tg_db_result tg_keys_add_secret(struct tg_db *db, const char *id, const uint8_t digest[32], const char *prefix, int64_t now, int64_t old_expires_s, struct tg_err *err)
{
	struct tg_db_value old[] = { TG_DB_I(old_expires_s), TG_DB_T(id) }, gone[] = { TG_DB_I(now), TG_DB_T(id) };
	enum tg_db_result r = tg_db_run(db, "DELETE FROM api_key_secrets WHERE key_id = $2 AND expires_at <= $1", gone, 2, NULL, NULL, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "UPDATE api_key_secrets SET expires_at = $1 WHERE key_id = $2 AND (expires_at IS NULL OR expires_at > $1)", old, 2, NULL, NULL, NULL, err);
	return r == TG_DB_OK ? insert_secret(db, id, digest, prefix, now, err) : r;
}

/* ---- users ---- */

#define USER_COLUMNS "id, name, password, permissions, limits, disabled, tokens_from, created_at, updated_at"

struct user_rows {
	tg_user_row_fn row;
	void *ctx;
	bool found;
};

static bool user_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct user_rows *r = ctx;
	char id[32], name[TG_USER_NAME_MAX + 1], password[256], limits[1024];
	if (n != 9)
		return false;
	struct tg_user_row u = { .id = tg_col_text(&v[0], id, sizeof id), .name = tg_col_text(&v[1], name, sizeof name), .password = tg_col_text(&v[2], password, sizeof password),
				 .perms = tg_col_perms(&v[3]), .limits = tg_col_text(&v[4], limits, sizeof limits), .disabled = tg_col_int(&v[5]) != 0, .tokens_from_s = tg_col_int(&v[6]),
				 .created_s = tg_col_int(&v[7]), .updated_s = tg_col_int(&v[8]) };
	r->found = true;
	bool more = r->row(r->ctx, &u);
	explicit_bzero(password, sizeof password);
	return more;
}

enum tg_db_result tg_users_list(struct tg_db *db, const char *after, unsigned most, tg_user_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(after), TG_DB_I(most) };
	struct user_rows r = { row, ctx, false };
	return tg_db_run(db, "SELECT " USER_COLUMNS " FROM users WHERE id > $1 ORDER BY id LIMIT $2", args, 2, user_row, &r, NULL, err);
}

enum tg_db_result tg_users_get(struct tg_db *db, const char *id, const char *name, tg_user_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id ? id : name);
	struct user_rows r = { row, ctx, false };
	enum tg_db_result rc = id ? tg_db_run(db, "SELECT " USER_COLUMNS " FROM users WHERE id = $1", &arg, 1, user_row, &r, NULL, err)
				  : tg_db_run(db, "SELECT " USER_COLUMNS " FROM users WHERE name = $1", &arg, 1, user_row, &r, NULL, err);
	*found = r.found;
	return rc;
}

enum tg_db_result tg_users_insert(struct tg_db *db, const struct tg_user_row *u, struct tg_err *err)
{
	char perms[TG_PERMS_TEXT];
	tg_perms_text(u->perms, ",", perms);
	struct tg_db_value args[] = { TG_DB_T(u->id), TG_DB_T(u->name), TG_DB_T(u->password), TG_DB_T(perms), TG_DB_T(u->limits),
				      TG_DB_I(u->disabled), TG_DB_I(u->tokens_from_s), TG_DB_I(u->created_s), TG_DB_I(u->updated_s) };
	return tg_db_run(db, "INSERT INTO users (" USER_COLUMNS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9)", args, 9, NULL, NULL, NULL, err);
}

enum tg_db_result tg_users_update(struct tg_db *db, const struct tg_user_row *u, bool *found, struct tg_err *err)
{
	char perms[TG_PERMS_TEXT];
	tg_perms_text(u->perms, ",", perms);
	struct tg_db_value args[] = { TG_DB_T(u->id), TG_DB_T(u->password), TG_DB_T(perms), TG_DB_T(u->limits), TG_DB_I(u->disabled),
				      TG_DB_I(u->tokens_from_s), TG_DB_I(u->updated_s) };
	int64_t changed;
	enum tg_db_result r = tg_db_run(db,
					"UPDATE users SET password = $2, permissions = $3, limits = $4, disabled = $5, tokens_from = $6, updated_at = $7 WHERE id = $1",
					args, 7, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}

enum tg_db_result tg_users_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	int64_t changed;
	enum tg_db_result r = tg_db_run(db, "DELETE FROM users WHERE id = $1", &arg, 1, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}

/* ---- tokens ---- */

/* One more than before, at least: a token that was issued ahead of the clock, after the last change, is void as well. */
int64_t tg_tokens_void(int64_t was)
{
	int64_t from = (int64_t)(tg_wall_us() / 1000000u) + TG_TOKENS_AHEAD_S;
	return from > was ? from : was + 1;
}

bool tg_tokens_far(int64_t from, int64_t now)
{
	_Static_assert(TG_TOKENS_AHEAD_S < TG_TOKENS_FAR_S && TG_TOKENS_FAR_S < TG_TOKEN_SKEW_S, "what a change sets is not far, and what is not far works");
	return from > now + TG_TOKENS_FAR_S;
}

int64_t tg_tokens_void_now(int64_t was, bool *back)
{
	*back = tg_tokens_far(was, (int64_t)(tg_wall_us() / 1000000u));
	return tg_tokens_void(*back ? 0 : was);
}

enum tg_db_result tg_tokens_revoke(struct tg_db *db, const char *jti, int64_t expires_s, int64_t now, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(jti), TG_DB_I(expires_s) }, old = TG_DB_I(now - TG_ENDED_KEPT_S);
	enum tg_db_result r = tg_db_run(db, "DELETE FROM revoked_tokens WHERE expires_at < $1", &old, 1, NULL, NULL, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "INSERT INTO revoked_tokens (jti, expires_at) VALUES ($1, $2) ON CONFLICT (jti) DO NOTHING", args, 2, NULL, NULL, NULL, err);
	return r;
}
