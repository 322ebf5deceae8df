/*
 * /api/v1/auth/api-keys: keys kept in the database (seed ledger S2-11 to S2-19, C-31). The secret is shown once, in the answer that makes it; what is kept is its digest. An
 * answer comes when the change is in force on every loop (gate/job.h).
 */
#include "api/fields.h"
#include "api/maker.h"
#include "api/stored.h"
#include "gate/handlers.h"

#define PATH "/api/v1/auth/api-keys/"
#define DAY 86400
#define OVERLAP_DEFAULT DAY
#define OVERLAP_MAX (30 * DAY)

enum what { CREATE, LIST, GET, REVOKE, ROTATE };

struct key_job {
	struct tg_job job; /* first: callbacks cast */
	enum what what;
	enum tg_db_result r;
	struct tg_err err;
	bool found, two;
	int64_t now, expires, overlap;
	uint32_t perms;
	struct tg_maker maker;
	unsigned most, n;
	char id[TG_STORED_ID_LEN + 12], after[32], key[TG_STORED_KEY_LEN + 1], prefix[TG_KEY_PREFIX_MAX + 1];
	char name[TG_KEY_NAME_MAX * 4 + 1], made_by[24];
	struct tg_key_limits asked;
	char *limits;                      /* owned JSON; of what is given */
	uint8_t digest[32];
	struct tg_buf out;
};

static void key_free(struct tg_job *j)
{
	struct key_job *k = (struct key_job *)j;
	if (k->out.p)
		explicit_bzero(k->out.p, k->out.len); /* it may show a key */
	tg_buf_free(&k->out);
	free(k->limits);
	explicit_bzero(k->key, sizeof k->key);
	free(k);
}

static void put_key(struct key_job *k, const struct tg_key_row *r, const char *secret)
{
	struct tg_buf *b = &k->out;
	bool expired = r->expires_s && r->expires_s <= k->now;
	tg_buf_fmt(b, "{\"id\":\"%s\",\"key_id\":\"%s\",\"name\":", r->id, r->id);
	tg_buf_json(b, tg_slice_cstr(r->name));
	if (secret)
		tg_buf_fmt(b, ",\"key\":\"%s\",\"api_key\":\"%s\"", secret, secret);
	tg_buf_lit(b, ",\"prefix\":");
	tg_buf_json(b, tg_slice_cstr(r->prefix));
	tg_buf_lit(b, ",\"permissions\":");
	tg_put_perms(b, r->perms);
	tg_buf_fmt(b, ",\"limits\":%s,\"status\":\"%s\",\"created_by\":", r->limits[0] ? r->limits : "{}", r->revoked_s ? "revoked" : expired ? "expired" : "active");
	tg_buf_json(b, tg_slice_cstr(r->made_by));
	tg_buf_lit(b, ",\"created_at\":");
	tg_put_time(b, r->created_s);
	tg_buf_lit(b, ",\"expires_at\":");
	tg_put_time(b, r->expires_s);
	tg_buf_lit(b, ",\"revoked_at\":");
	tg_put_time(b, r->revoked_s);
	uint64_t used = tg_store_last_used(k->job.gate->store, r->id);
	tg_buf_lit(b, ",\"last_used_at\":");
	tg_put_time(b, (int64_t)used > r->used_s ? (int64_t)used : r->used_s);
	tg_buf_lit(b, ",\"previous_expires_at\":");
	tg_put_time(b, r->secrets > 1 ? r->old_expires_s : 0);
	tg_buf_char(b, '}');
}

/* ---- on the job pool ---- */

static bool one_row(void *ctx, const struct tg_key_row *r)
{
	struct key_job *k = ctx;
	if (k->what == LIST && k->n++)
		tg_buf_char(&k->out, ',');
	put_key(k, r, NULL);
	snprintf(k->after, sizeof k->after, "%s", r->id);
	return !k->out.failed;
}

static enum tg_db_result create(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct key_job *k = ctx;
	enum tg_db_result rc;
	if (!tg_maker_look(&k->maker, db, &rc, err) || !tg_maker_gives(&k->maker, k->perms) || !tg_maker_bounds_key(&k->maker, &k->expires, &k->asked))
		return rc;
	if (!(k->limits = tg_limits_dump(&k->asked))) {
		tg_err_set(err, "out of memory");
		return TG_DB_AWAY;
	}
	struct tg_key_row r = { .id = k->id, .name = k->name, .made_by = k->made_by, .perms = k->perms, .limits = k->limits, .created_s = k->now, .expires_s = k->expires, .secrets = 1 };
	memcpy(r.prefix, k->prefix, sizeof r.prefix);
	rc = tg_keys_insert(db, &r, k->digest, err);
	if (rc == TG_DB_OK)
		put_key(k, &r, k->key);
	return rc;
}

static enum tg_db_result list(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct key_job *k = ctx;
	return tg_keys_list(db, k->after, k->most, k->now, one_row, k, err);
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct key_job *k = ctx;
	return tg_keys_get(db, k->id, k->now, one_row, k, &k->found, err);
}

/* What is known of the key that is to be rotated or revoked. */
static bool may_change(void *ctx, const struct tg_key_row *r)
{
	struct key_job *k = ctx;
	k->found = !r->revoked_s && (k->what == REVOKE || !(r->expires_s && r->expires_s <= k->now));
	k->two = r->secrets > 1;
	if (!k->found || !tg_maker_gives(&k->maker, r->perms) || k->what == REVOKE)
		return false;
	struct tg_key_limits limits = tg_limits_load(tg_slice_cstr(r->limits));
	return tg_maker_takes(&k->maker, r->id, r->expires_s, &limits);
}

/* False: nothing is to be done: *rc is not OK, there is no such key, or it is more than the maker's to change. */
static bool look(struct key_job *k, struct tg_db *db, enum tg_db_result *rc, struct tg_err *err)
{
	bool there;
	if (!tg_maker_look(&k->maker, db, rc, err))
		return false;
	*rc = tg_keys_get(db, k->id, k->now, may_change, k, &there, err);
	return *rc == TG_DB_OK && k->found && !k->maker.missing && !k->maker.field;
}

static enum tg_db_result end_key(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct key_job *k = ctx;
	enum tg_db_result rc;
	return look(k, db, &rc, err) ? tg_keys_revoke(db, k->id, k->now, &k->found, err) : rc;
}

static bool rotated(void *ctx, const struct tg_key_row *r)
{
	struct key_job *k = ctx;
	put_key(k, r, k->key);
	return true;
}

static enum tg_db_result rotate(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct key_job *k = ctx;
	bool there;
	enum tg_db_result rc;
	if (!look(k, db, &rc, err) || (k->two && k->overlap))
		return rc;
	rc = tg_keys_add_secret(db, k->id, k->digest, k->prefix, k->now, k->now + k->overlap, err);
	return rc == TG_DB_OK ? tg_keys_get(db, k->id, k->now, rotated, k, &there, err) : rc;
}

static void run(struct tg_job *j)
{
	struct key_job *k = (struct key_job *)j;
	struct tg_store *s = j->gate->store;
	switch (k->what) {
	case CREATE: k->r = tg_store_write(s, create, k, &j->generation, &k->err); break;
	case REVOKE: k->r = tg_store_write(s, end_key, k, &j->generation, &k->err); break;
	case ROTATE: k->r = tg_store_write(s, rotate, k, &j->generation, &k->err); break;
	case LIST: k->r = tg_store_read(s, list, k, &k->err); break;
	case GET: k->r = tg_store_read(s, get, k, &k->err); break;
	}
}

/* ---- on the loop ---- */

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct key_job *k = (struct key_job *)j;
	static const char fresh[] = "Cache-Control: no-store\r\n";
	enum tg_step refused;
	if (k->r != TG_DB_OK)
		return tg_stored_fault(x, k->r, &k->err);
	if (tg_maker_refused(&k->maker, x, &refused))
		return refused;
	if (!k->found && k->what != CREATE && k->what != LIST)
		return tg_stored_none(x, "key");
	if (k->two && k->what == ROTATE && k->overlap)
		return tg_answer_problem(x, TG_E_conflict, "conflict", "This key has two secrets already: the older one must end first. overlap_seconds 0 ends both at once.", NULL, NULL);
	if (k->what == REVOKE)
		return tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL);
	if (k->what == LIST) {
		tg_buf_lit(&k->out, "],\"next\":");
		tg_buf_json_or_null(&k->out, k->n == k->most ? tg_slice_cstr(k->after) : (struct tg_slice){ 0 });
		tg_buf_char(&k->out, '}');
	}
	if (k->out.failed)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	return tg_answer(x, k->what == CREATE ? 201 : 200, "application/json", tg_buf_view(&k->out), fresh);
}

static struct key_job *job_new(struct tg_exchange *x, enum what what, enum tg_step *answered)
{
	struct key_job *k = x->gl->gate->store ? calloc(1, sizeof *k) : NULL;
	if (!k) {
		struct tg_err none = { "there is none, or no memory" };
		*answered = tg_stored_fault(x, TG_DB_AWAY, &none);
		return NULL;
	}
	k->job.run = run;
	k->job.answer = answer;
	k->job.free = key_free;
	k->what = what;
	k->now = tg_exchange_s(x);
	tg_maker_of(x, &k->maker);
	tg_buf_init(&k->out, 4u << 20);
	return k;
}

/* A new secret and what is kept of it. */
static bool make_secret(struct tg_exchange *x, struct key_job *k)
{
	if (!tg_stored_key_make(k->id, k->key) || !tg_digest(&x->gl->digester, tg_slice_cstr(k->key), k->digest))
		return false;
	tg_key_prefix(tg_slice_cstr(k->key), k->prefix);
	return true;
}

struct new_key {
	struct tg_slice name;
	uint32_t perms;
	int64_t days;
	struct tg_key_limits limits;
};
static const struct tg_field new_key_fields[] = {
	{ "name", TG_FIELD_NAME, true, 1, TG_KEY_NAME_MAX, offsetof(struct new_key, name) },
	{ "permissions", TG_FIELD_PERMS, true, 0, 0, offsetof(struct new_key, perms) },
	{ "expires_in_days", TG_FIELD_INT, false, 1, 36500, offsetof(struct new_key, days) },
	{ "limits", TG_FIELD_LIMITS, false, 0, 0, offsetof(struct new_key, limits) },
};

const struct tg_body tg_body_keys_create = { new_key_fields, sizeof new_key_fields / sizeof *new_key_fields, false };

enum tg_step tg_api_keys_create(struct tg_exchange *x)
{
	struct new_key in = { 0 };
	struct tg_fields f;
	enum tg_step answered;
	if (!tg_fields_read(x, new_key_fields, sizeof new_key_fields / sizeof *new_key_fields, &in, &f, &answered))
		return answered;
	struct key_job *k = tg_may_give(x, in.perms, &answered) ? job_new(x, CREATE, &answered) : NULL;
	if (!k) {
		tg_fields_free(&f);
		return answered;
	}
	k->perms = in.perms;
	k->expires = in.days ? k->now + in.days * DAY : 0;
	k->asked = in.limits;
	memcpy(k->name, in.name.p, in.name.n); /* characters were counted: at most four bytes each */
	memcpy(k->made_by, x->principal->id, sizeof k->made_by);
	bool ok = make_secret(x, k);
	tg_fields_free(&f);
	if (ok)
		return tg_job_start(x, &k->job);
	key_free(&k->job);
	return tg_answer_problem(x, TG_E_internal, "memory", "No key could be made.", NULL, NULL);
}

enum tg_step tg_api_keys_list(struct tg_exchange *x)
{
	enum tg_step answered;
	unsigned most;
	char after[32];
	struct key_job *k = tg_page_of(x, &most, after, &answered) ? job_new(x, LIST, &answered) : NULL;
	if (!k)
		return answered;
	k->most = most;
	memcpy(k->after, after, sizeof after);
	tg_buf_lit(&k->out, "{\"api_keys\":[");
	return tg_job_start(x, &k->job);
}

/* One key, named by the path. An id that is none is of no key. */
static enum tg_step on_one(struct tg_exchange *x, enum what what, int64_t overlap)
{
	enum tg_step answered;
	struct tg_slice id = tg_path_segment(x, sizeof PATH - 1);
	if (id.n != TG_STORED_ID_LEN)
		return tg_stored_none(x, "key");
	struct key_job *k = job_new(x, what, &answered);
	if (!k)
		return answered;
	memcpy(k->id, id.p, id.n);
	k->overlap = overlap;
	if (what != ROTATE || make_secret(x, k))
		return tg_job_start(x, &k->job);
	key_free(&k->job);
	return tg_answer_problem(x, TG_E_internal, "memory", "No key could be made.", NULL, NULL);
}

enum tg_step tg_api_keys_get(struct tg_exchange *x)
{
	return on_one(x, GET, 0);
}

enum tg_step tg_api_keys_revoke(struct tg_exchange *x)
{
	return on_one(x, REVOKE, 0);
}

struct overlap {
	int64_t seconds;
};
static const struct tg_field overlap_fields[] = { { "overlap_seconds", TG_FIELD_INT, false, 0, OVERLAP_MAX, offsetof(struct overlap, seconds) } };
const struct tg_body tg_body_keys_rotate = { overlap_fields, 1, false };

enum tg_step tg_api_keys_rotate(struct tg_exchange *x)
{
	struct overlap in = { OVERLAP_DEFAULT };
	struct tg_fields f;
	enum tg_step answered;
	if (!tg_fields_read(x, overlap_fields, 1, &in, &f, &answered))
		return answered;
	tg_fields_free(&f);
	return on_one(x, ROTATE, in.seconds);
}
