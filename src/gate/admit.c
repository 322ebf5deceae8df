/*
 * Stage 7: a slot of the model's workers. A free slot beats a queued one; who waits is served in the order of arrival, within a bound and a deadline.
 */
#include "gate/exchange.h"

static enum tg_step no_worker(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_unavailable, "no_worker", "No worker of this model is up; try again soon.", NULL, "Retry-After: 1\r\n");
}

static void waited_too_long(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	if (!tg_queue_leave(&x->waiter))
		return; /* the grant is on its way */
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_QUEUED, -1);
	tg_answer_problem(x, TG_E_unavailable, "queue_timeout", "All workers of this model are busy; try again soon.", NULL, "Retry-After: 2\r\n");
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static void granted(struct tg_loop *l, void *arg)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)arg - offsetof(struct tg_exchange, waiter));
	(void)l;
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_QUEUED, -1);
	tg_timer_stop(&x->timer);
	x->waiter.state = TG_WAIT_NONE;
	x->worker = x->waiter.worker;
	x->trial = x->waiter.trial;
	if (x->aborted)
		x->stage = TG_STAGE_SETTLE; /* the client left meanwhile: settle gives the slot back */
	tg_corridor_run(x);
}

static enum tg_step enter_queue(struct tg_exchange *x)
{
	struct tg_model *m = x->model;
	x->queue_seen = tg_queue_length(m->queue);
	x->waiter.loop = x->gl->loop;
	x->waiter.granted = granted;
	switch (m->conf->queue ? tg_queue_wait(m, &x->waiter) : TG_ENQUEUE_FULL) {
	case TG_ENQUEUE_WAITING:
		break;
	case TG_ENQUEUE_GOT:
		x->worker = x->waiter.worker;
		x->trial = x->waiter.trial;
		return TG_NEXT;
	case TG_ENQUEUE_DOWN:
		return no_worker(x);
	case TG_ENQUEUE_FULL:
		return tg_answer_problem(x, TG_E_unavailable, "queue_full", "All workers of this model are busy and its queue is full; try again soon.", NULL,
					 "Retry-After: 2\r\n");
	}
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_QUEUED, 1);
	x->timer.fire = waited_too_long;
	tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + m->conf->queue_ms);
	return TG_WAIT;
}

enum tg_step tg_stage_admit(struct tg_exchange *x)
{
	if (!x->forward || x->worker)
		return TG_NEXT;
	if (x->waiter.state != TG_WAIT_NONE)
		return TG_WAIT;
	if (x->model->conf->slots && tg_queue_length(x->model->queue))
		return enter_queue(x);
	switch (tg_model_pick(x->model, NULL, &x->worker, &x->trial)) {
	case TG_PICK_OK:
		return TG_NEXT;
	case TG_PICK_BUSY:
		return enter_queue(x);
	case TG_PICK_DOWN:
		break;
	}
	return no_worker(x);
}
