/*
 * From the database's rows to what requests are judged by: everybody at once, at the start and when the database was away, or what changed since (migrations/0004_changes.sql).
 *
 * Invariants of catching up: the list says that something changed, its own table says what it is now, so that reading a newer row than the list has told of does no harm: it will be told of, and read again. Of a key that changed every
 * secret is read, of a secret that is gone its digest is in the list, so that nothing a key ever led to stays behind.
 */
#include "policy/key_limits.h"
#include "policy/token.h"
#include "store/identity.h"
#include "store/column.h"
#include <jansson.h>
#include <stdlib.h>

#define SECRET_COLUMNS "s.digest, k.id, s.prefix, k.permissions, k.limits, k.expires_at, s.expires_at FROM api_key_secrets s JOIN api_keys k ON k.id = s.key_id"
#define SECRET_LIVES "k.revoked_at IS NULL AND (k.expires_at IS NULL OR k.expires_at > $1) AND (s.expires_at IS NULL OR s.expires_at > $1)"
#define USER_COLUMNS "id, name, password, permissions, limits, disabled, tokens_from FROM users"

struct load {
	struct tg_identity *d;
	struct tg_uses *uses;
	bool changes;            /* laid over what was */
	bool found;
	bool failed;
};

/* What we wrote ourselves. */
struct tg_key_limits tg_limits_load(struct tg_slice text)
{
	static const struct tg_key_limits least = { .requests = { 1, 86400 }, .tokens_per_minute = 1, .in_flight = 1 };
	struct tg_key_limits_fault ignored;
	struct tg_key_limits out = { 0 };
	json_t *o = text.n ? json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!o || !tg_key_limits_parse(o, &out, &ignored))
		out = least;
	json_decref(o);
	return out;
}

static void limits_into(const struct tg_db_value *v, struct tg_key_limits *out)
{
	*out = tg_limits_load(v->kind == TG_DB_TEXT ? v->s : (struct tg_slice){ 0 });
}

static bool load_secret(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct load *l = ctx;
	uint8_t digest[32];
	/* Not the key's own name, which may be anything, an e-mail address too: it would stand in every line of the log. The id leads to it. */
	struct tg_principal p = { .source = TG_SRC_STORED_KEY, .name = "database" };
	if (n != 7 || !tg_col_digest(&v[0], digest) || !tg_col_text(&v[1], p.id, sizeof p.id)[0])
		return true; /* no key of ours */
	p.hash = tg_stored_account(p.id);
	if (l->uses && !(p.use = tg_uses_of(l->uses, &p)))
		return !(l->failed = true);
	tg_col_text(&v[2], p.prefix, sizeof p.prefix);
	p.perms = tg_col_perms(&v[3]);
	limits_into(&v[4], &p.limits);
	int64_t key_ends = tg_col_int(&v[5]), secret_ends = tg_col_int(&v[6]);
	p.expires_s = (uint64_t)(!key_ends ? secret_ends : !secret_ends || key_ends < secret_ends ? key_ends : secret_ends);
	l->found = true;
	l->failed = l->changes ? !tg_identity_set_key(l->d, digest, &p) : !tg_identity_add_key(l->d, digest, &p);
	return !l->failed;
}

static bool load_user(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct load *l = ctx;
	struct tg_user u = { .who = { .source = TG_SRC_USER, .name = "user" } };
	char password[256];
	if (n != 7)
		return true;
	tg_col_text(&v[0], u.who.id, sizeof u.who.id);
	tg_col_text(&v[1], u.name, sizeof u.name);
	tg_col_text(&v[2], password, sizeof password);
	u.who.perms = tg_col_perms(&v[3]);
	limits_into(&v[4], &u.who.limits);
	u.disabled = tg_col_int(&v[5]) != 0;
	u.tokens_from = tg_col_int(&v[6]);
	u.who.hash = tg_stored_account(u.who.id);
	l->found = true;
	l->failed = l->uses && !(u.who.use = tg_uses_of(l->uses, &u.who));
	l->failed |= l->changes ? !tg_identity_set_user(l->d, u.who.id, &u, password) : !tg_identity_add_user(l->d, &u, password);
	explicit_bzero(password, sizeof password);
	return !l->failed;
}

static bool load_revoked(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct load *l = ctx;
	char jti[TG_TOKEN_JTI_MAX + 1];
	if (n == 2 && !tg_identity_add_revoked(l->d, tg_col_text(&v[0], jti, sizeof jti), tg_col_int(&v[1])))
		l->failed = true;
	return !l->failed;
}

enum tg_db_result tg_identity_load(struct tg_db *db, int64_t now, struct tg_uses *uses, struct tg_identity **out, struct tg_err *err)
{
	struct load l = { .d = tg_identity_new(), .uses = uses };
	struct tg_db_value arg = TG_DB_I(now), kept = TG_DB_I(now - TG_ENDED_KEPT_S);
	*out = NULL;
	if (!l.d) {
		tg_err_set(err, "out of memory");
		return TG_DB_AWAY;
	}
	enum tg_db_result r = tg_db_run(db, "SELECT " SECRET_COLUMNS " WHERE " SECRET_LIVES, &arg, 1, load_secret, &l, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "SELECT " USER_COLUMNS, NULL, 0, load_user, &l, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "SELECT jti, expires_at FROM revoked_tokens WHERE expires_at > $1", &kept, 1, load_revoked, &l, NULL, err);
	if (r == TG_DB_OK && (l.failed || !tg_identity_seal(l.d))) {
		tg_err_set(err, "out of memory, or more than a million keys");
		r = TG_DB_AWAY;
	}
	if (r != TG_DB_OK) {
		tg_identity_put(l.d);
		return r;
	}
	*out = l.d;
	return TG_DB_OK;
}

/* ---- what changed ---- */

enum { CHANGES_MAX = 65536 };
_Static_assert(TG_CHANGE_ID > TG_TOKEN_JTI_MAX, "the list names ended tokens whole");

static const char *const kinds[TG_CHANGE_KINDS] = { "key", "secret", "user", "token" };

static bool remember(struct tg_changes *c, enum tg_change_kind kind, struct tg_slice id)
{
	if (c->n == c->cap) {
		size_t cap = c->cap ? c->cap * 2 : 16;
		struct tg_change *v = cap <= CHANGES_MAX ? realloc(c->v, cap * sizeof *v) : NULL;
		if (!v)
			return !(c->lost = true);
		c->v = v;
		c->cap = cap;
	}
	if (id.n >= TG_CHANGE_ID || memchr(id.p, 0, id.n))
		return !(c->lost = true);
	c->v[c->n].kind = kind;
	memcpy(c->v[c->n].id, id.p, id.n);
	c->v[c->n++].id[id.n] = 0;
	return true;
}

static bool change_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct tg_changes *c = ctx;
	if (n != 2 || v[0].kind != TG_DB_TEXT || v[1].kind != TG_DB_TEXT)
		return !(c->lost = true);
	for (enum tg_change_kind k = 0; k < TG_CHANGE_KINDS; k++)
		if (tg_slice_eq(v[0].s, tg_slice_cstr(kinds[k])))
			return remember(c, k, v[1].s);
	return !(c->lost = true); /* a newer program's */
}

static bool digest_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct tg_changes *c = ctx;
	return n != 1 || v[0].kind != TG_DB_TEXT || remember(c, TG_CHANGE_SECRET, v[0].s);
}

static bool bounds_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	int64_t *first_last = ctx;
	for (unsigned i = 0; i < 2 && i < n; i++)
		first_last[i] = tg_col_int(&v[i]);
	return false;
}

/* 0 and 0: nothing ever changed. */
static enum tg_db_result bounds(struct tg_db *db, int64_t first_last[2], struct tg_err *err)
{
	first_last[0] = first_last[1] = 0;
	return tg_db_run(db, "SELECT (SELECT MIN(seq) FROM identity_changes), (SELECT MAX(seq) FROM identity_changes)", NULL, 0, bounds_row, first_last, NULL, err);
}

static bool mark_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	char *mark = ctx;
	unsigned char h[TG_MARK_LEN / 2];
	crypto_generichash_state st;
	if (n != 2 || v[0].kind != TG_DB_TEXT || v[1].kind != TG_DB_TEXT)
		return false;
	crypto_generichash_init(&st, NULL, 0, sizeof h);
	crypto_generichash_update(&st, (const unsigned char *)v[0].s.p, v[0].s.n + 1); /* with the NUL behind it */
	crypto_generichash_update(&st, (const unsigned char *)v[1].s.p, v[1].s.n);
	crypto_generichash_final(&st, h, sizeof h);
	sodium_bin2hex(mark, TG_MARK_LEN + 1, h, sizeof h);
	return false;
}

static enum tg_db_result mark_at(struct tg_db *db, int64_t seq, char mark[TG_MARK_LEN + 1], struct tg_err *err)
{
	struct tg_db_value at = TG_DB_I(seq);
	mark[0] = 0;
	return seq ? tg_db_run(db, "SELECT kind, id FROM identity_changes WHERE seq = $1", &at, 1, mark_row, mark, NULL, err) : TG_DB_OK;
}

enum tg_db_result tg_identity_end(struct tg_db *db, struct tg_list_end *end, struct tg_err *err)
{
	int64_t first_last[2];
	enum tg_db_result r = bounds(db, first_last, err);
	end->seq = first_last[1];
	return r == TG_DB_OK ? mark_at(db, end->seq, end->mark, err) : r;
}

enum tg_db_result tg_identity_has(struct tg_db *db, const struct tg_list_end *end, bool *has, struct tg_err *err)
{
	char mark[TG_MARK_LEN + 1];
	enum tg_db_result r = mark_at(db, end->seq, mark, err);
	*has = r == TG_DB_OK && end->seq > 0 && mark[0] && strcmp(mark, end->mark) == 0;
	return r;
}

static enum tg_db_result judge(struct tg_db *db, int64_t now, struct tg_changes *c, size_t i, struct load *l, struct tg_err *err)
{
	struct tg_change one = c->v[i]; /* the list grows while a key is judged */
	struct tg_db_value id = TG_DB_T(one.id), args[] = { TG_DB_I(now), id };
	struct tg_db_value hex = id;
	uint8_t digest[32];
	enum tg_db_result r;
	l->found = false;
	switch (one.kind) {
	case TG_CHANGE_KEY:
		return tg_db_run(db, "SELECT digest FROM api_key_secrets WHERE key_id = $1", &id, 1, digest_row, c, NULL, err);
	case TG_CHANGE_SECRET:
		r = tg_db_run(db, "SELECT " SECRET_COLUMNS " WHERE s.digest = $2 AND " SECRET_LIVES, args, 2, load_secret, l, NULL, err);
		if (r == TG_DB_OK && !l->found && tg_col_digest(&hex, digest))
			l->failed |= !tg_identity_set_key(l->d, digest, NULL);
		return r;
	case TG_CHANGE_USER:
		r = tg_db_run(db, "SELECT " USER_COLUMNS " WHERE id = $1", &id, 1, load_user, l, NULL, err);
		if (r == TG_DB_OK && !l->found)
			l->failed |= !tg_identity_set_user(l->d, one.id, NULL, NULL);
		return r;
	default:
		return tg_db_run(db, "SELECT jti, expires_at FROM revoked_tokens WHERE jti = $1", &id, 1, load_revoked, l, NULL, err);
	}
}

enum tg_db_result tg_identity_catch_up(struct tg_db *db, int64_t now, struct tg_uses *uses, const struct tg_identity *was, struct tg_list_end *end, struct tg_identity **out,
				       struct tg_changes *changed, bool *whole, struct tg_err *err)
{
	struct load l = { .uses = uses, .changes = true };
	struct tg_changes *c = changed;
	struct tg_list_end to = { 0 };
	int64_t first_last[2];
	*out = NULL;
	*whole = false;
	*c = (struct tg_changes){ 0 };
	enum tg_db_result r = bounds(db, first_last, err);
	if (r != TG_DB_OK || first_last[1] == end->seq)
		return r;
	*whole = first_last[1] < end->seq || first_last[0] > end->seq + 1;
	if (*whole)
		return TG_DB_OK;
	to.seq = first_last[1];
	struct tg_db_value args[] = { TG_DB_I(end->seq), TG_DB_I(to.seq) };
	r = mark_at(db, to.seq, to.mark, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "SELECT DISTINCT kind, id FROM identity_changes WHERE seq > $1 AND seq <= $2", args, 2, change_row, c, NULL, err);
	if (r == TG_DB_OK)
		l.failed = !(l.d = tg_identity_next(was, now));
	for (size_t i = 0; r == TG_DB_OK && !l.failed && !c->lost && i < c->n; i++)
		r = judge(db, now, c, i, &l, err);
	/* A name that two users have may be one that moved on while we read; memory may be there for a whole load only when this one's is given back. */
	*whole = r == TG_DB_OK && (l.failed || c->lost || !tg_identity_seal(l.d));
	if (r != TG_DB_OK || *whole) {
		tg_identity_put(l.d);
		return r;
	}
	*out = l.d;
	*end = to;
	return TG_DB_OK;
}

/* ---- one of them ---- */

static enum tg_db_result load_bearer(struct tg_db *db, int64_t now, const struct tg_bearer *b, struct load *l, struct tg_err *err)
{
	char hex[65];
	sodium_bin2hex(hex, sizeof hex, b->digest, sizeof b->digest);
	struct tg_db_value key[] = { TG_DB_I(now), TG_DB_T(hex) }, id = TG_DB_T(b->id), jti = TG_DB_T(b->jti);
	if (b->source == TG_SRC_STORED_KEY)
		return tg_db_run(db, "SELECT " SECRET_COLUMNS " WHERE s.digest = $2 AND " SECRET_LIVES, key, 2, load_secret, l, NULL, err);
	enum tg_db_result r = tg_db_run(db, "SELECT " USER_COLUMNS " WHERE id = $1", &id, 1, load_user, l, NULL, err);
	return r == TG_DB_OK ? tg_db_run(db, "SELECT jti, expires_at FROM revoked_tokens WHERE jti = $1", &jti, 1, load_revoked, l, NULL, err) : r;
}

enum tg_db_result tg_bearer_look(struct tg_db *db, int64_t now, const struct tg_bearer *b, struct tg_principal *who, bool *found, struct tg_err *err)
{
	struct load l = { .d = tg_identity_new() };
	enum tg_db_result r = l.d ? load_bearer(db, now, b, &l, err) : TG_DB_AWAY;
	*found = false;
	if (r == TG_DB_OK && (l.failed || !tg_identity_seal(l.d)))
		r = TG_DB_AWAY;
	if (r == TG_DB_OK) {
		const struct tg_user *u = b->source == TG_SRC_USER ? tg_identity_bearer(l.d, tg_slice_cstr(b->id), tg_slice_cstr(b->jti), b->issued_s) : NULL;
		const struct tg_principal *p = b->source == TG_SRC_USER ? (u ? &u->who : NULL) : tg_identity_key(l.d, b->digest);
		*found = p != NULL;
		if (p)
			*who = *p;
	} else if (!l.d || l.failed) {
		tg_err_set(err, "out of memory");
	}
	tg_identity_put(l.d);
	return r;
}
