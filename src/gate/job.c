/*
 * Jobs for exchanges. The pool is libuv's; its callbacks come back on the loop that asked, so nothing here needs a lock.
 *
 * A change is answered only once every loop judges by it: a client that reads "201" may use its key on another connection, which another loop has, in the same microsecond.
 */
#include "gate/job.h"

#define LOOK_MS 1
#define ADOPT_MS 5000 /* a loop that stands still that long is no reason to keep a client */

static void left(struct tg_parking *p)
{
	((struct tg_job *)p)->x = NULL;
}

static void drop(uv_handle_t *h)
{
	struct tg_job *j = h->data;
	j->free(j);
}

static void finish(struct tg_job *j)
{
	struct tg_exchange *x = j->x;
	if (x) {
		x->parked = NULL;
		if (j->answer(j, x) == TG_ANSWERED)
			x->stage = TG_STAGE_SETTLE;
	}
	uv_close((uv_handle_t *)&j->timer, drop);
	if (x)
		tg_corridor_run(x);
}

static bool in_force(const struct tg_job *j)
{
	return atomic_load(&j->gate->adopted) >= j->generation && atomic_load(&j->gate->reloads) >= j->reloads;
}

static void look(uv_timer_t *t)
{
	struct tg_job *j = t->data;
	if (!j->x || in_force(j) || (j->waited_ms += LOOK_MS) >= ADOPT_MS) {
		uv_timer_stop(t);
		finish(j);
	}
}

static void on_pool(uv_work_t *w)
{
	struct tg_job *j = w->data;
	j->run(j);
}

static void back(uv_work_t *w, int status)
{
	(void)status; /* nothing cancels */
	struct tg_job *j = w->data;
	atomic_fetch_sub(&j->gate->jobs, 1);
	if (!in_force(j))
		uv_async_send(&j->gate->wake); /* the control thread publishes it */
	if (j->x && !in_force(j))
		uv_timer_start(&j->timer, look, LOOK_MS, LOOK_MS);
	else
		finish(j);
}

enum tg_step tg_job_start(struct tg_exchange *x, struct tg_job *j)
{
	struct tg_gate *g = x->gl->gate;
	bool full = atomic_fetch_add(&g->jobs, 1) >= TG_JOBS_MAX;
	if (full || !tg_exchange_keep_head(x)) {
		atomic_fetch_sub(&g->jobs, 1);
		j->free(j);
		return tg_answer_problem(x, TG_E_unavailable, full ? "busy" : "memory", "Too much is being done at once; try again.", NULL, "Retry-After: 1\r\n");
	}
	j->x = x;
	j->gate = g;
	j->work.data = j->timer.data = j;
	j->parking.left = left;
	x->parked = &j->parking;
	uv_timer_init(&x->gl->loop->uv, &j->timer);
	uv_queue_work(&x->gl->loop->uv, &j->work, on_pool, back);
	return TG_WAIT;
}
