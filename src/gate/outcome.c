/*
 * What became of a request at its worker, told to those who judge by it: the worker's health and figures, the list of requests that end workers, and the queue. Each
 * request is told of once a worker: as begun well, or as failed by the worker; and once more where what had begun well is then not brought to its end. A client that leaves says nothing about anybody.
 */
#include "gate/exchange.h"

static uint64_t now_ms(const struct tg_exchange *x)
{
	return tg_loop_ms(x->gl->loop);
}

void tg_outcome_begun(struct tg_exchange *x)
{
	if (x->judged)
		return;
	x->judged = true;
	bool back = tg_health_good(x->worker, x->trial, now_ms(x));
	x->trial = false;
	if (back)
		tg_queue_pump(x->model->queue); /* whoever waits need not wait for this answer's end */
}

void tg_outcome_fault(struct tg_exchange *x, enum tg_fault f, const char *why)
{
	struct tg_gate *g = x->gl->gate;
	struct tg_worker *w = x->worker;
	uint64_t now = now_ms(x);
	bool again = x->failed_it; /* a server error that it then did not even bring to its end */
	x->judged = x->failed_it = true;
	if (f == TG_FAULT_DROPPED) {
		uint64_t print = x->print ? x->print : tg_forward_print(x);
		if (print)
			tg_quarantine_suspect(g->quarantine, print, w, now);
	}
	if (again)
		return;
	tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_ERRORS);
	bool out = tg_health_fault(x->model, w, f, why, x->trial, now);
	x->trial = false;
	if (!out && f == TG_FAULT_STATUS)
		return; /* it lives, and its errors are counted: no need to look at once */
	if (out && f == TG_FAULT_UNREACHABLE && !w->started)
		tg_quarantine_death(g->quarantine, w, now);
	if (out)
		tg_queue_pump(x->model->queue); /* those who wait for it may have to be told that there is nobody */
	tg_gate_look(g);
}

void tg_outcome_ended(struct tg_exchange *x)
{
	struct tg_worker *w = x->worker;
	if (x->sent_upstream)
		tg_worker_account(w, x->failed_it ? TG_REQUEST_FAILED : x->done && !x->partial ? TG_REQUEST_OK : TG_REQUEST_CUT, (x->end_us ? x->end_us : tg_mono_us()) - x->sent_us);
	x->worker = NULL;
	tg_model_release(x->model, w);
}
