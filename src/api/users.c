/*
 * /api/v1/users: who can log in (seed ledger S2-27). A password is hashed first (policy/password.h: bounded, on the job pool), then the row is written; a change that takes something away, or a new
 * password, ends the tokens that were issued before.
 */
#include "api/fields.h"
#include "api/maker.h"
#include "api/stored.h"
#include "gate/handlers.h"
#include "gate/revoked.h"
#include "policy/password.h"

#define PATH "/api/v1/users/"

enum what { CREATE, LIST, GET, CHANGE, DELETE };

/* What a request says of a user. */
struct user_in {
	struct tg_slice name, password;
	uint32_t perms;
	struct tg_key_limits limits;
	bool disabled;
};
enum { F_PASSWORD, F_PERMISSIONS, F_LIMITS, F_DISABLED, F_NAME };
static const struct tg_field fields[] = {
	[F_PASSWORD] = { "password", TG_FIELD_PASSWORD, true, 0, 0, offsetof(struct user_in, password) },
	[F_PERMISSIONS] = { "permissions", TG_FIELD_PERMS, true, 0, 0, offsetof(struct user_in, perms) },
	[F_LIMITS] = { "limits", TG_FIELD_LIMITS, false, 0, 0, offsetof(struct user_in, limits) },
	[F_DISABLED] = { "disabled", TG_FIELD_BOOL, false, 0, 0, offsetof(struct user_in, disabled) },
	[F_NAME] = { "username", TG_FIELD_NAME, true, 1, TG_USER_NAME_MAX, offsetof(struct user_in, name) },
};

const struct tg_body tg_body_users_create = { fields, sizeof fields / sizeof *fields, false }, tg_body_users_change = { fields, F_NAME, true };

struct user_job {
	struct tg_job job; /* first: callbacks cast */
	enum what what;
	struct tg_password_job *hashing;
	struct tg_exchange *x; /* while the password is hashed */
	enum tg_db_result r;
	struct tg_err err;
	bool found, disabled;
	uint32_t given, perms;
	struct tg_maker maker;
	unsigned most, n;
	int64_t now;
	char id[TG_STORED_ID_LEN + 12], after[32], name[TG_USER_NAME_MAX + 1], hash[TG_PASSWORD_HASH];
	struct tg_key_limits asked;
	char *limits; /* owned JSON; of what is given */
	struct tg_buf out;
};

static void user_free(struct tg_job *j)
{
	struct user_job *u = (struct user_job *)j;
	tg_buf_free(&u->out);
	free(u->limits);
	explicit_bzero(u->hash, sizeof u->hash);
	free(u);
}

static void put_user(struct tg_buf *b, const struct tg_user_row *r)
{
	tg_buf_fmt(b, "{\"id\":\"%s\",\"username\":", r->id);
	tg_buf_json(b, tg_slice_cstr(r->name));
	tg_buf_lit(b, ",\"permissions\":");
	tg_put_perms(b, r->perms);
	tg_buf_fmt(b, ",\"limits\":%s,\"disabled\":%s,\"created_at\":", r->limits[0] ? r->limits : "{}", r->disabled ? "true" : "false");
	tg_put_time(b, r->created_s);
	tg_buf_lit(b, ",\"updated_at\":");
	tg_put_time(b, r->updated_s);
	tg_buf_char(b, '}');
}

/* ---- on the job pool ---- */

static bool one_row(void *ctx, const struct tg_user_row *r)
{
	struct user_job *u = ctx;
	if (u->what == LIST && u->n++)
		tg_buf_char(&u->out, ',');
	put_user(&u->out, r);
	snprintf(u->after, sizeof u->after, "%s", r->id);
	return !u->out.failed;
}

static bool dump_limits(struct user_job *u, enum tg_db_result *rc, struct tg_err *err)
{
	u->limits = tg_limits_dump(&u->asked);
	if (u->limits)
		return true;
	tg_err_set(err, "out of memory");
	*rc = TG_DB_AWAY;
	return false;
}

static enum tg_db_result create(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct user_job *u = ctx;
	struct tg_maker *m = &u->maker;
	enum tg_db_result rc;
	if (!tg_maker_look(m, db, &rc, err) || !tg_maker_gives(m, u->perms) || !tg_maker_lasts(m) || !tg_maker_bounds_user(m, u->id, &u->asked) || !dump_limits(u, &rc, err))
		return rc;
	struct tg_user_row r = { .id = u->id, .name = u->name, .password = u->hash, .perms = u->perms, .limits = u->limits, .disabled = u->disabled, .tokens_from_s = 0, .created_s = u->now,
				 .updated_s = u->now };
	rc = tg_users_insert(db, &r, err);
	if (rc == TG_DB_OK)
		put_user(&u->out, &r);
	return rc;
}

static enum tg_db_result list(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct user_job *u = ctx;
	return tg_users_list(db, u->after, u->most, one_row, u, err);
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct user_job *u = ctx;
	return tg_users_get(db, u->id, NULL, one_row, u, &u->found, err);
}

static bool has(const struct user_job *u, unsigned field)
{
	return u->given & 1u << field;
}

struct changing {
	struct user_job *u;
	struct tg_db *db;
	enum tg_db_result r;
	struct tg_err *err;
};

/* Whether the maker may do that to whom `was` says. */
static bool may_change(struct user_job *u, const struct tg_user_row *was)
{
	struct tg_maker *m = &u->maker;
	struct tg_key_limits limits = tg_limits_load(tg_slice_cstr(was->limits));
	uint32_t perms = has(u, F_PERMISSIONS) ? u->perms : 0;
	bool more = (perms & ~was->perms) || (was->disabled && has(u, F_DISABLED) && !u->disabled);
	if (!tg_maker_gives(m, was->perms | perms)) /* a new password is all that the user may */
		return false;
	if (has(u, F_PASSWORD) && !tg_maker_takes(m, was->id, 0, &limits))
		return false;
	if (has(u, F_LIMITS) && !tg_maker_bounds_user(m, was->id, &u->asked))
		return false;
	more |= has(u, F_LIMITS) && tg_key_limits_more(&u->asked, &limits);
	return !more || tg_maker_lasts(m);
}

/* The old row with what was given put over it. */
static bool change_row(void *ctx, const struct tg_user_row *was)
{
	struct changing *c = ctx;
	struct user_job *u = c->u;
	struct tg_user_row r = *was;
	bool found;
	if (!may_change(u, was) || !dump_limits(u, &c->r, c->err))
		return false;
	if (has(u, F_PASSWORD))
		r.password = u->hash;
	if (has(u, F_PERMISSIONS))
		r.perms = u->perms;
	if (has(u, F_LIMITS))
		r.limits = u->limits;
	if (has(u, F_DISABLED))
		r.disabled = u->disabled;
	if (has(u, F_PASSWORD) || (r.disabled && !was->disabled))
		r.tokens_from_s = tg_tokens_void(was->tokens_from_s);
	r.updated_s = u->now;
	c->r = tg_users_update(c->db, &r, &found, c->err);
	if (c->r == TG_DB_OK)
		put_user(&u->out, &r);
	return false;
}

static enum tg_db_result change(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct user_job *u = ctx;
	struct changing c = { u, db, TG_DB_OK, err };
	enum tg_db_result rc;
	if (!tg_maker_look(&u->maker, db, &rc, err))
		return rc;
	rc = tg_users_get(db, u->id, NULL, change_row, &c, &u->found, err);
	return rc == TG_DB_OK ? c.r : rc;
}

static bool may_delete(void *ctx, const struct tg_user_row *r)
{
	struct user_job *u = ctx;
	return tg_maker_gives(&u->maker, r->perms);
}

static enum tg_db_result delete(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct user_job *u = ctx;
	enum tg_db_result rc;
	if (!tg_maker_look(&u->maker, db, &rc, err))
		return rc;
	rc = tg_users_get(db, u->id, NULL, may_delete, u, &u->found, err);
	return rc == TG_DB_OK && u->found && !u->maker.missing ? tg_users_delete(db, u->id, &u->found, err) : rc;
}

static void run(struct tg_job *j)
{
	struct user_job *u = (struct user_job *)j;
	struct tg_store *s = j->gate->store;
	switch (u->what) {
	case CREATE: u->r = tg_store_write(s, create, u, &j->generation, &u->err); break;
	case CHANGE: u->r = tg_store_write(s, change, u, &j->generation, &u->err); break;
	case DELETE: u->r = tg_store_write(s, delete, u, &j->generation, &u->err); break;
	case LIST: u->r = tg_store_read(s, list, u, &u->err); break;
	case GET: u->r = tg_store_read(s, get, u, &u->err); break;
	}
}

/* ---- on the loop ---- */

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct user_job *u = (struct user_job *)j;
	enum tg_step refused;
	if (u->r == TG_DB_CONFLICT)
		return tg_answer_problem(x, TG_E_conflict, "conflict", "There is a user of that name.", "username", NULL);
	if (u->r != TG_DB_OK)
		return tg_stored_fault(x, u->r, &u->err);
	if (tg_maker_refused(&u->maker, x, &refused))
		return refused;
	if (!u->found && u->what != CREATE && u->what != LIST)
		return tg_stored_none(x, "user");
	if (u->what == DELETE)
		return tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL);
	if (u->what == LIST) {
		tg_buf_lit(&u->out, "],\"next\":");
		tg_buf_json_or_null(&u->out, u->n == u->most ? tg_slice_cstr(u->after) : (struct tg_slice){ 0 });
		tg_buf_char(&u->out, '}');
	}
	if (u->out.failed)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	return tg_answer(x, u->what == CREATE ? 201 : 200, "application/json", tg_buf_view(&u->out), "Cache-Control: no-store\r\n");
}

static struct user_job *job_new(struct tg_exchange *x, enum what what, enum tg_step *answered)
{
	struct user_job *u = x->gl->gate->store ? calloc(1, sizeof *u) : NULL;
	if (!u) {
		struct tg_err none = { "there is none, or no memory" };
		*answered = tg_stored_fault(x, TG_DB_AWAY, &none);
		return NULL;
	}
	u->job.run = run;
	u->job.answer = answer;
	u->job.free = user_free;
	u->what = what;
	u->now = tg_exchange_s(x);
	tg_maker_of(x, &u->maker);
	tg_buf_init(&u->out, 4u << 20);
	return u;
}

static void hashing_left(struct tg_parking *p)
{
	struct user_job *u = (struct user_job *)p;
	tg_password_cancel(u->hashing);
	user_free(&u->job);
}

static void hashed(void *ctx, enum tg_password_answer how, const char *hash)
{
	struct user_job *u = ctx;
	struct tg_exchange *x = u->x;
	enum tg_step r = tg_judge_again(x);
	x->parked = NULL;
	u->hashing = NULL;
	if (r == TG_NEXT && how == TG_PASSWORD_OK && hash) {
		snprintf(u->hash, sizeof u->hash, "%s", hash);
		r = tg_job_start(x, &u->job);
	} else {
		user_free(&u->job);
		if (r == TG_NEXT)
			r = tg_answer_problem(x, TG_E_unavailable, "memory", "The password could not be hashed; try again.", NULL, "Retry-After: 1\r\n");
	}
	if (r == TG_WAIT)
		return;
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static enum tg_step start(struct tg_exchange *x, struct user_job *u, struct tg_slice password)
{
	if (!password.p)
		return tg_job_start(x, &u->job);
	u->x = x;
	u->job.parking.left = hashing_left;
	if (tg_exchange_keep_head(x) && (u->hashing = tg_password_hash_start(x->gl->gate->hasher, x->gl->loop, password, hashed, u))) {
		x->parked = &u->job.parking;
		return TG_WAIT;
	}
	user_free(&u->job);
	return tg_answer_problem(x, TG_E_unavailable, "busy", "Too many passwords are being hashed; try again.", NULL, "Retry-After: 1\r\n");
}

enum tg_step tg_api_users_create(struct tg_exchange *x)
{
	struct user_in in = { 0 };
	struct tg_fields f;
	enum tg_step answered;
	if (!tg_fields_read(x, fields, sizeof fields / sizeof *fields, &in, &f, &answered))
		return answered;
	struct user_job *u = NULL;
	if (in.name.n > TG_USER_NAME_MAX)
		answered = tg_field_fault(x, "username", "must have at most 64 bytes");
	else if (tg_may_give(x, in.perms, &answered))
		u = job_new(x, CREATE, &answered);
	if (u) {
		tg_user_name(in.name, u->name);
		u->perms = in.perms;
		u->disabled = in.disabled;
		u->asked = in.limits;
		if (tg_user_id_make(u->id)) {
			answered = start(x, u, in.password);
		} else {
			user_free(&u->job);
			answered = tg_answer_problem(x, TG_E_internal, "memory", "No user could be made.", NULL, NULL);
		}
	}
	tg_fields_free(&f);
	return answered;
}

enum tg_step tg_api_users_list(struct tg_exchange *x)
{
	enum tg_step answered;
	unsigned most;
	char after[32];
	struct user_job *u = tg_page_of(x, &most, after, &answered) ? job_new(x, LIST, &answered) : NULL;
	if (!u)
		return answered;
	u->most = most;
	memcpy(u->after, after, sizeof after);
	tg_buf_lit(&u->out, "{\"users\":[");
	return tg_job_start(x, &u->job);
}

/* The job for the user that the path names; NULL: *answered. */
static struct user_job *on_one(struct tg_exchange *x, enum what what, enum tg_step *answered)
{
	struct tg_slice id = tg_path_segment(x, sizeof PATH - 1);
	if (id.n != TG_STORED_ID_LEN) {
		*answered = tg_stored_none(x, "user");
		return NULL;
	}
	struct user_job *u = job_new(x, what, answered);
	if (u)
		memcpy(u->id, id.p, id.n);
	return u;
}

enum tg_step tg_api_users_get(struct tg_exchange *x)
{
	enum tg_step answered;
	struct user_job *u = on_one(x, GET, &answered);
	return u ? tg_job_start(x, &u->job) : answered;
}

enum tg_step tg_api_users_delete(struct tg_exchange *x)
{
	enum tg_step answered;
	struct user_job *u = on_one(x, DELETE, &answered);
	return u ? tg_job_start(x, &u->job) : answered;
}

enum tg_step tg_api_users_change(struct tg_exchange *x)
{
	struct tg_field some[F_NAME]; /* all but the name, none of them required */
	struct user_in in = { 0 };
	struct tg_fields f;
	enum tg_step answered;
	memcpy(some, fields, sizeof some);
	for (unsigned i = 0; i < F_NAME; i++)
		some[i].required = false;
	if (!tg_fields_read(x, some, F_NAME, &in, &f, &answered))
		return answered;
	struct user_job *u = tg_may_give(x, in.perms, &answered) ? on_one(x, CHANGE, &answered) : NULL;
	if (u) {
		u->given = f.given;
		u->perms = in.perms;
		u->disabled = in.disabled;
		u->asked = in.limits;
		answered = start(x, u, in.password);
	}
	tg_fields_free(&f);
	return answered;
}
