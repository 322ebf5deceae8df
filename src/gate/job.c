/*
 * Jobs for exchanges. The pool is libuv's; its callbacks come back on the loop that asked, so nothing here needs a lock.
 *
 * A change is answered only once every loop judges by it: a client that reads "201" may use its key on another connection, which another loop has, in the same microsecond.
 */
#include "gate/job.h"
#include "gate/revoked.h"

#define LOOK_MS 1
#define ADOPT_MS 5000 /* a loop that stands still that long is no reason to keep a client */

static struct tg_jobs *line_of(const struct tg_job *j)
{
	return j->away ? &j->gate->away_jobs : &j->gate->jobs;
}

static void drop(uv_handle_t *h)
{
	struct tg_job *j = h->data;
	j->free(j);
}

/* One that is still in line is not done for nobody: and a loop must not end while it has one there. */
static void left(struct tg_parking *p)
{
	struct tg_job *j = (struct tg_job *)p, *before = NULL;
	struct tg_jobs *l = line_of(j);
	j->x = NULL;
	uv_mutex_lock(&l->lock);
	struct tg_job *at = l->first;
	for (; at && at != j; at = at->next)
		before = at;
	if (at) {
		*(before ? &before->next : &l->first) = j->next;
		if (l->last == &j->next)
			l->last = before ? &before->next : &l->first;
		l->all--;
	}
	uv_mutex_unlock(&l->lock);
	if (at)
		uv_close((uv_handle_t *)&j->timer, drop);
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
	if (x && !x->parked) /* something else may be waited for now */
		tg_corridor_run(x);
}

static bool in_force(const struct tg_job *j)
{
	return atomic_load(&j->gate->adopted) >= j->generation && atomic_load(&j->gate->in_force) >= j->number;
}

static void look(uv_timer_t *t)
{
	struct tg_job *j = t->data;
	if (!j->x || in_force(j) || (j->waited_ms += LOOK_MS) >= ADOPT_MS) {
		uv_timer_stop(t);
		finish(j);
	}
}

/* ---- the line ---- */

void tg_jobs_init(struct tg_jobs *l)
{
	*l = (struct tg_jobs){ .last = &l->first };
	uv_mutex_init(&l->lock);
}

void tg_jobs_free(struct tg_jobs *l)
{
	uv_mutex_destroy(&l->lock);
}

static void on_pool(uv_work_t *w);
static void back(uv_work_t *w, int status);

static void begin(struct tg_job *j)
{
	uv_queue_work(&j->loop->uv, &j->work, on_pool, back);
}

static void my_turn(struct tg_loop *l, void *arg);

/* One has ended: the next one in line begins, on its own loop. */
static void next_one(struct tg_jobs *l)
{
	uv_mutex_lock(&l->lock);
	struct tg_job *j = l->first;
	if (j && !(l->first = j->next))
		l->last = &l->first;
	l->all--;
	if (j)
		tg_loop_post(j->loop, &j->msg, my_turn, j); /* under the lock: it cannot leave its loop meanwhile */
	else
		l->running--;
	uv_mutex_unlock(&l->lock);
}

static bool may_still(const struct tg_job *j, struct tg_exchange *x)
{
	if (tg_judge_again(x) != TG_NEXT)
		return false;
	uint32_t missing = j->needs & ~x->perms;
	if (!missing)
		return true;
	char names[TG_PERMS_TEXT], text[TG_PERMS_TEXT + 64];
	tg_perms_text(missing, ", ", names);
	snprintf(text, sizeof text, "Insufficient permissions: this needs %s besides.", names);
	tg_answer_problem(x, TG_E_forbidden, "forbidden", text, NULL, NULL);
	return false;
}

/* Nobody waits for it any more, or whoever does was taken away while it stood in line: it is not done. */
static void my_turn(struct tg_loop *l, void *arg)
{
	struct tg_job *j = arg;
	struct tg_exchange *x = j->x;
	(void)l;
	if (x && may_still(j, x)) {
		begin(j);
		return;
	}
	next_one(line_of(j));
	uv_close((uv_handle_t *)&j->timer, drop);
	if (!x)
		return;
	x->parked = NULL;
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
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
	next_one(line_of(j));
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
	j->gate = g;
	struct tg_jobs *l = line_of(j);
	bool kept = tg_exchange_keep_head(x), full, now = false;
	uv_mutex_lock(&l->lock);
	full = l->all >= TG_JOBS_MAX;
	if (!full && kept) {
		l->all++;
		now = l->running < TG_JOBS_RUNNING;
		l->running += now;
	}
	uv_mutex_unlock(&l->lock);
	if (full || !kept) {
		j->free(j);
		return tg_answer_problem(x, TG_E_unavailable, full ? "busy" : "memory", "Too much is being done at once; try again.", NULL, "Retry-After: 1\r\n");
	}
	j->x = x;
	j->work.data = j->timer.data = j;
	j->parking.left = left;
	x->parked = &j->parking;
	j->loop = x->gl->loop;
	uv_timer_init(&j->loop->uv, &j->timer);
	if (now) {
		begin(j);
		return TG_WAIT;
	}
	uv_mutex_lock(&l->lock);
	now = l->running < TG_JOBS_RUNNING; /* it may have ended meanwhile */
	l->running += now;
	if (!now) {
		*l->last = j;
		l->last = &j->next;
	}
	uv_mutex_unlock(&l->lock);
	if (now)
		begin(j);
	return TG_WAIT;
}
