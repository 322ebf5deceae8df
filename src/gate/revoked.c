/*
 * Requests outlive the snapshot they began under. When a newer one no longer knows their key or user, those that are with a worker are ended (a stream gets its error event and no
 * [DONE]), those whose body is still on its way are answered 401, and those that wait for something get 401 when their turn comes, or 403 where they may no longer do what they came for.
 *
 * What runs with a key of files and variables is left alone: their documents know no revocation, and a reload that drops one lets running answers finish. But nothing begins with such a key any more.
 */
#include "gate/revoked.h"

static bool of_the_database(const struct tg_principal *p)
{
	return p->source == TG_SRC_STORED_KEY || p->source == TG_SRC_USER;
}

/* Whose it is now, what this request came with; NULL: nobody's. Who came with nothing is who he was. */
static const struct tg_principal *holder(const struct tg_exchange *x)
{
	const struct tg_principal *p = x->principal;
	const struct tg_policy *was = &x->snap->policy, *now = &x->gl->snap->policy;
	switch (p->source) {
	case TG_SRC_LOCAL:
	case TG_SRC_OUTSIDER:
	case TG_SRC_ANONYMOUS:
		return p;
	case TG_SRC_STORED_KEY:
		return tg_identity_still_has(now->identity, was->identity, p);
	case TG_SRC_USER: {
		const struct tg_user *u = tg_identity_bearer(now->identity, tg_slice_cstr(p->id), tg_slice_cstr(x->token_id), x->token_from);
		return u ? &u->who : NULL;
	}
	default: {
		const uint8_t *digest = tg_keyset_digest(was->keys, p);
		return digest ? tg_policy_key(now, digest) : NULL;
	}
	}
}

bool tg_still_allowed(const struct tg_exchange *x)
{
	return x->snap->policy.identity == x->gl->snap->policy.identity || !x->principal || !of_the_database(x->principal) || holder(x);
}

enum tg_step tg_answer_taken_away(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_unauthenticated, "revoked", "The key or user of this request was taken away.", NULL, NULL);
}

enum tg_step tg_judge_by_now(struct tg_exchange *x)
{
	if (!x->principal)
		return TG_NEXT;
	const struct tg_principal *p = holder(x);
	if (!p)
		return tg_answer_taken_away(x);
	x->perms &= p->perms;
	uint32_t perms = x->perms | (x->local ? TG_PERMS_LOCAL : 0);
	return x->route->guard != TG_GUARD_PERMS || (perms & x->route->perms) ? TG_NEXT : tg_answer_lacks(x, x->route->perms);
}

/* What it still sends is read and dropped within bounds, as after any answer that comes before the body's end. */
static void end_receiving(struct tg_exchange *x)
{
	x->closes = true;
	tg_answer_taken_away(x);
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

void tg_revoked_end(struct tg_gate_loop *gl)
{
	if (!gl->snap->config->end_revoked)
		return;
	for (struct tg_session *s = gl->sessions, *next; s; s = next) {
		next = tg_session_next(s); /* closing is asynchronous: the list stays whole */
		struct tg_exchange *x = tg_session_exchange(s);
		if (!x || x->aborted || x->done || tg_still_allowed(x))
			continue;
		if (x->sent_upstream)
			tg_relay_fail(x, TG_E_unauthenticated, "revoked", "The key or user of this request was taken away.");
		else if (x->intake)
			end_receiving(x);
	}
}
