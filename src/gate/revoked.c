/*
 * Requests outlive the snapshot they began under. When a newer one no longer knows their key or user, those that are with a worker are ended (a stream gets its error event and no
 * [DONE]), and those that wait for a slot get 401 when their turn comes. Keys of files and variables are left alone: their documents know no revocation, and a reload that drops one
 * lets running answers finish.
 */
#include "gate/revoked.h"

bool tg_still_allowed(const struct tg_exchange *x)
{
	const struct tg_principal *p = x->principal;
	const struct tg_identity *was = x->snap->policy.identity, *now = x->gl->snap->policy.identity;
	if (was == now || !p || (p->source != TG_SRC_STORED_KEY && p->source != TG_SRC_USER))
		return true;
	if (p->source == TG_SRC_STORED_KEY)
		return tg_identity_still_has(now, was, p);
	const struct tg_user *u = tg_identity_user(now, tg_slice_cstr(p->id));
	return u && !u->disabled && x->token_from >= u->tokens_from && !tg_identity_revoked(now, tg_slice_cstr(x->token_id));
}

void tg_revoked_end(struct tg_gate_loop *gl)
{
	if (!gl->snap->config->end_revoked)
		return;
	for (struct tg_session *s = gl->sessions, *next; s; s = next) {
		next = tg_session_next(s); /* closing is asynchronous: the list stays whole */
		struct tg_exchange *x = tg_session_exchange(s);
		if (x && x->sent_upstream && !x->aborted && !x->done && !tg_still_allowed(x))
			tg_relay_fail(x, TG_E_unauthenticated, "revoked", "The key or user of this request was taken away.");
	}
}
