/*
 * Stage 10: gives back what the request took. Runs once for every request, however it ended. Its place among the key's requests in flight and its tokens were given back before
 * the last bytes left, where there were such.
 */
#include "gate/exchange.h"

enum tg_step tg_stage_settle(struct tg_exchange *x)
{
	if (x->up) {
		tg_upstream_close(x->up);
		x->up = NULL;
	}
	tg_timer_stop(&x->timer);
	if (x->delayed)
		tg_guess_settle(x);
	if (x->worker && x->trial)
		tg_health_untried(x->worker);
	x->trial = false;
	if (x->print && x->done && !x->partial && !x->failed_it)
		tg_quarantine_clear(x->gl->gate->quarantine, x->print); /* it was answered: whatever ended a worker, it was not this */
	if (x->sse)
		tg_metrics_gauge(x->gl->metrics, TG_GAUGE_STREAMS, -1);
	tg_limit_reckon(x);
	tg_limit_end(x, 0);
	return TG_NEXT;
}
