/*
 * Logins (seed ledger S2-06 to S2-10): a name and a password become a token that says who its bearer is, until when. What he may do is looked up at each request, so that a change of his
 * permissions needs no new token. An unknown name, a disabled user and a wrong password are told apart by neither the answer nor its time: a stand-in is hashed where there is nobody.
 */
#include "api/fields.h"
#include "api/stored.h"
#include "gate/handlers.h"
#include "policy/password.h"
#include "store/identity.h"

#define HOUR 3600

struct login_in {
	struct tg_slice name, password;
};
static const struct tg_field fields[] = {
	{ "username", TG_FIELD_TEXT, true, 1, 256, offsetof(struct login_in, name) },
	{ "password", TG_FIELD_TEXT, true, 1, TG_PASSWORD_MAX, offsetof(struct login_in, password) },
};

const struct tg_body tg_body_login = { fields, sizeof fields / sizeof *fields, false };

struct login {
	struct tg_parking parking; /* first: left() casts */
	struct tg_exchange *x;
	struct tg_password_job *job;
	const struct tg_user *user; /* of x's snapshot, which x holds; NULL: nobody */
	char name[TG_USER_NAME_MAX + 1];
};

static void left(struct tg_parking *p)
{
	struct login *l = (struct login *)p;
	tg_password_cancel(l->job);
	free(l);
}

static void refuse(struct tg_exchange *x)
{
	x->presented = true;
	x->event = "auth.failed_login";
	tg_key_prefix((struct tg_slice){ 0 }, x->presented_prefix); /* of a password nothing is shown */
	tg_audited_failure(x);
	tg_answer_problem(x, TG_E_unauthenticated, "bad_login", "Invalid username or password", NULL, NULL);
}

/* The hash took its time: who has another password by now, or is gone or disabled, does not come in by the old one. By what the store knows, which no loop is ahead of. *from: tokens before are void. */
static bool is_still(struct tg_exchange *x, const struct tg_user *was, int64_t *from)
{
	uint64_t generation;
	struct tg_identity *d = tg_store_identity(x->gl->gate->store, &generation);
	const struct tg_user *u = tg_identity_user(d, tg_slice_cstr(was->who.id));
	bool same = u && !u->disabled && strcmp(u->password, was->password) == 0;
	*from = same ? u->tokens_from : 0;
	tg_identity_put(d);
	return same;
}

/* A token that begins there would be refused everywhere. */
static enum tg_step far_mark(struct tg_exchange *x, int64_t from, int64_t now)
{
	char until[21], text[256], again[48];
	tg_rfc3339_s((uint64_t)(from - TG_TOKENS_FAR_S) * 1000000u, until);
	until[20] = 0;
	snprintf(text, sizeof text, "This user's tokens are void up to a time in the future, because a clock was wrong when that was set: no login works until %s, or until `tollgate users passwd` sets it anew.", until);
	snprintf(again, sizeof again, "Retry-After: %lld\r\n", (long long)(from - TG_TOKENS_FAR_S - now));
	return tg_answer_problem(x, TG_E_unavailable, "clock_was_wrong", text, NULL, again);
}

/* u: of x's snapshot. from: as is_still says. */
static enum tg_step let_in(struct tg_exchange *x, const struct tg_user *u, int64_t from)
{
	struct tg_buf token, out;
	struct tg_token made;
	int64_t now = (int64_t)(tg_wall_us() / 1000000u);
	enum tg_step r;
	if (tg_tokens_far(from, now))
		return far_mark(x, from, now);
	tg_buf_init(&token, TG_TOKEN_MAX);
	tg_buf_init(&out, TG_TOKEN_MAX + 256);
	if (!tg_token_issue(x->gl->gate->token_key, tg_slice_cstr(u->who.id), now < from ? from : now, (int64_t)x->snap->config->token_hours * HOUR, &token, &made)) {
		r = tg_answer_problem(x, TG_E_internal, "memory", "No token could be made.", NULL, NULL);
	} else {
		tg_buf_lit(&out, "{\"token\":");
		tg_buf_json(&out, tg_buf_view(&token));
		tg_buf_lit(&out, ",\"expires_at\":");
		tg_put_time(&out, made.exp);
		tg_buf_char(&out, '}');
		x->principal = &u->who; /* the log says who came in */
		memcpy(x->token_id, made.jti, sizeof x->token_id);
		tg_audited_success(x);
		r = tg_answer_buf(x, "application/json", &out, "Cache-Control: no-store\r\n");
	}
	if (token.p)
		explicit_bzero(token.p, token.len);
	tg_buf_free(&token);
	tg_buf_free(&out);
	return r;
}

static void verified(void *ctx, enum tg_password_answer how, const char *hash)
{
	struct login *l = ctx;
	struct tg_exchange *x = l->x;
	enum tg_step r;
	int64_t from;
	(void)hash;
	x->parked = NULL;
	if (how == TG_PASSWORD_OK && l->user && is_still(x, l->user, &from))
		r = let_in(x, l->user, from);
	else if (how == TG_PASSWORD_FAILED)
		r = tg_answer_problem(x, TG_E_unavailable, "memory", "The password could not be checked; try again.", NULL, "Retry-After: 1\r\n");
	else
		r = tg_guess_answer(x, tg_guess_password_failed(x->gl->gate->guess, x->snap->config->password_guesses, &x->client, tg_slice_cstr(l->name), x->start_us / 1000u), refuse);
	explicit_bzero(l, sizeof *l);
	free(l);
	if (r == TG_WAIT)
		return; /* a refusal that is delayed */
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static struct login *login_new(struct tg_exchange *x, const struct login_in *in)
{
	struct login *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->parking.left = left;
	l->x = x;
	/* A longer name is nobody's; its beginning stands for it where failures are counted. */
	tg_user_name(in->name, l->name);
	const struct tg_user *u = in->name.n <= TG_USER_NAME_MAX ? tg_identity_user_named(x->snap->policy.identity, tg_slice_cstr(l->name)) : NULL;
	l->user = u && !u->disabled ? u : NULL;
	l->job = tg_password_verify_start(x->gl->gate->hasher, x->gl->loop, l->user ? l->user->password : NULL, in->password, verified, l);
	if (l->job)
		return l;
	free(l);
	return NULL;
}

enum tg_step tg_api_login(struct tg_exchange *x)
{
	struct login_in in = { 0 };
	struct tg_fields f;
	enum tg_step answered;
	struct tg_store *s = x->gl->gate->store;
	if (!tg_fields_read(x, fields, 2, &in, &f, &answered))
		return answered;
	bool nobody = !s || (tg_store_state(s) == TG_STORE_AWAY && !tg_identity_named(x->snap->policy.identity));
	struct login *l = nobody ? NULL : login_new(x, &in);
	tg_fields_free(&f);
	if (l) {
		x->parked = &l->parking;
		return TG_WAIT;
	}
	if (nobody)
		return tg_answer_problem(x, TG_E_unavailable, "store_away", "The database cannot be reached now, and nobody can log in without it. Keys work on.", NULL, "Retry-After: 2\r\n");
	return tg_answer_problem(x, TG_E_unavailable, "busy", "Too many logins are being checked; try again.", NULL, "Retry-After: 1\r\n");
}

/* ---- logout ---- */

struct logout {
	struct tg_job job; /* first: callbacks cast */
	enum tg_db_result r;
	struct tg_err err;
	int64_t now, expires;
	char jti[TG_TOKEN_JTI_MAX + 1];
};

static enum tg_db_result end_token(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct logout *l = ctx;
	return tg_tokens_revoke(db, l->jti, l->expires, l->now, err);
}

static void run_logout(struct tg_job *j)
{
	struct logout *l = (struct logout *)j;
	l->r = tg_store_write(j->gate->store, end_token, l, &j->generation, &l->err);
}

static enum tg_step answer_logout(struct tg_job *j, struct tg_exchange *x)
{
	struct logout *l = (struct logout *)j;
	return l->r == TG_DB_OK ? tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL) : tg_stored_fault(x, l->r, &l->err);
}

static void free_logout(struct tg_job *j)
{
	free(j);
}

enum tg_step tg_api_logout(struct tg_exchange *x)
{
	if (x->principal->source != TG_SRC_USER)
		return tg_answer_problem(x, TG_E_bad_request, "bad_body", "This request came with a key; only the token of a login can be logged out. Keys are revoked: DELETE /api/v1/auth/api-keys/{id}.", NULL, NULL);
	struct logout *l = calloc(1, sizeof *l);
	if (!l)
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	l->job.run = run_logout;
	l->job.answer = answer_logout;
	l->job.free = free_logout;
	l->now = tg_exchange_s(x);
	l->expires = x->token_ends;
	memcpy(l->jti, x->token_id, sizeof l->jti);
	return tg_job_start(x, &l->job);
}

/* ---- /auth/verify (seed ledger S4-18, C-32) ---- */

enum tg_step tg_api_verify(struct tg_exchange *x)
{
	static const char text[] = "{\"status\":\"valid\",\"message\":\"API key is valid\"}";
	return tg_answer(x, 200, "application/json", (struct tg_slice){ text, sizeof text - 1 }, "Cache-Control: no-store\r\n");
}
