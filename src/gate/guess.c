/*
 * The answer to a failed credential: at once, after a delay, or 429 where too many wait already (policy/guess.h decides). While it waits, the exchange is parked on its own timer and holds one place; settle
 * gives that back, so a client that leaves frees it in the same turn. Draining ends all waits at once.
 */
#include "gate/exchange.h"

static enum tg_step too_many(struct tg_exchange *x, uint32_t seconds)
{
	char retry[48];
	snprintf(retry, sizeof retry, "Retry-After: %u\r\n", seconds);
	return tg_answer_problem(x, TG_E_rate_limited, "guessing", "Too many credentials from this address were wrong; wait and try again.", NULL, retry);
}

static void waited(struct tg_timer *t)
{
	tg_guess_release((struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer)));
}

enum tg_step tg_guess_answer(struct tg_exchange *x, struct tg_guess_verdict v, void (*refuse)(struct tg_exchange *x))
{
	if (v.retry_after_s)
		return too_many(x, v.retry_after_s);
	if (!v.delay_ms || x->gl->draining) {
		tg_guess_leave(x->gl->gate->guess, v.who);
		refuse(x);
		return TG_ANSWERED;
	}
	x->delayed = v.who;
	x->delayed_answer = refuse;
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_GUESSES, 1);
	tg_metrics_count(x->gl->metrics, TG_COUNT_GUESSES_DELAYED);
	x->timer.fire = waited;
	tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + v.delay_ms);
	return TG_WAIT;
}

void tg_guess_release(struct tg_exchange *x)
{
	if (!x->delayed)
		return;
	tg_timer_stop(&x->timer);
	x->delayed_answer(x);
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

void tg_guess_settle(struct tg_exchange *x)
{
	tg_guess_leave(x->gl->gate->guess, x->delayed);
	x->delayed = 0;
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_GUESSES, -1);
}
