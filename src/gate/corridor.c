/*
 * THE CORRIDOR: every request walks these stages in this order, and nothing reaches a handler or a worker by another way.
 *
 * A stage answers NEXT (go on), WAIT (parked; whoever holds the event that wakes it calls tg_corridor_run, which enters the same stage again) or
 * ANSWERED (an answer was written: go on at settle). One way leads back: a request whose worker was lost before an answer began, and for which no other is free, is
 * admitted again (ADMIT), at the head of the queue. settle and record always run, once, whatever happened before: each request ends in one line
 * of the access log and leaves no slot, memory or connection behind.
 */
#include "gate/exchange.h"

static const struct {
	const char *name;
	enum tg_step (*run)(struct tg_exchange *x);
} corridor[TG_STAGE_END] = {
	[TG_STAGE_IDENTIFY] = { "identify", tg_stage_identify },             /* request id, client address, Host */
	[TG_STAGE_MATCH] = { "match", tg_stage_match },                      /* method and path -> route */
	[TG_STAGE_AUTHENTICATE] = { "authenticate", tg_stage_authenticate }, /* credential -> principal, or 401 */
	[TG_STAGE_AUTHORIZE] = { "authorize", tg_stage_authorize },          /* the route's guard, then 404, 405 and 501 */
	[TG_STAGE_LIMIT] = { "limit", tg_stage_limit },                      /* request windows */
	[TG_STAGE_RECEIVE] = { "receive", tg_stage_receive },                /* the body, its model, streaming permission */
	[TG_STAGE_ADMIT] = { "admit", tg_stage_admit },                      /* a slot of the model's workers, or its queue */
	[TG_STAGE_DISPATCH] = { "dispatch", tg_stage_dispatch },             /* a local handler, or on to the worker */
	[TG_STAGE_RELAY] = { "relay", tg_stage_relay },                      /* the worker's answer, as it comes */
	[TG_STAGE_SETTLE] = { "settle", tg_stage_settle },                   /* gives back what was taken */
	[TG_STAGE_RECORD] = { "record", tg_stage_record },                   /* access log and metrics */
};

void tg_corridor_run(struct tg_exchange *x)
{
	/* Whoever has just read the clock left it in mark_us: at tens of thousands of requests a second each reading counts. */
	uint64_t from = x->mark_us ? x->mark_us : tg_mono_us();
	x->mark_us = 0;
	while (x->stage < TG_STAGE_END) {
		if (x->stage == TG_STAGE_RECORD) {
			x->end_us = tg_mono_us();
			x->overhead_us += x->end_us - from;
		}
		switch (corridor[x->stage].run(x)) {
		case TG_NEXT:
			x->stage++;
			break;
		case TG_WAIT:
			x->overhead_us += (x->sent_us > from ? x->sent_us : tg_mono_us()) - from;
			return;
		case TG_ANSWERED:
			x->stage = TG_STAGE_SETTLE;
			break;
		case TG_ADMIT:
			x->stage = TG_STAGE_ADMIT;
			break;
		}
	}
	struct tg_session *s = x->session;
	tg_session_answered(s);
}
