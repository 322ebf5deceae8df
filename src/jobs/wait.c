/*
 * Waiting for a job's end (see wait.h). Who waits is in one list under one lock; a thread that ends a job takes its waiters out and posts each to its own loop, which by then is the only one that
 * touches it. What ends in another process is told by nobody: where that can be, each is let look now and then. A waiter whose exchange has left is freed by whoever has it: its loop while it is in the list, its message afterwards.
 */
#include "jobs/wait.h"
#include <stdlib.h>

struct tg_job_wait {
	struct tg_parking parking; /* first: left() casts */
	struct tg_msg msg;
	struct tg_job_wait *next;
	struct tg_waits *waits;
	struct tg_exchange *x;     /* NULL: it has left */
	tg_wait_answer answer;
	uint64_t until_ms;
	char id[TG_ULID_LEN + 1];
};

void tg_waits_init(struct tg_waits *w)
{
	*w = (struct tg_waits){ 0 };
	uv_mutex_init(&w->lock);
}

void tg_waits_free(struct tg_waits *w)
{
	uv_mutex_destroy(&w->lock);
}

/* Under the lock. False: its message is on the way. */
static bool take_out(struct tg_job_wait *j)
{
	for (struct tg_job_wait **at = &j->waits->first; *at; at = &(*at)->next)
		if (*at == j) {
			*at = j->next;
			return true;
		}
	return false;
}

static void finish(struct tg_job_wait *j, unsigned left_ms)
{
	struct tg_exchange *x = j->x;
	x->parked = NULL;
	tg_timer_stop(&x->timer);
	enum tg_step step = j->answer(x, j->id, left_ms);
	free(j);
	if (step != TG_ANSWERED)
		return;
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static void has_ended(struct tg_loop *l, void *arg)
{
	struct tg_job_wait *j = arg;
	(void)l;
	if (j->x)
		finish(j, 0);
	else
		free(j);
}

static void post(struct tg_job_wait *j)
{
	(void)tg_loop_post(j->x->gl->loop, &j->msg, has_ended, j); /* under the lock: a loop that has an exchange has not ended */
}

void tg_waits_ended(struct tg_waits *w, const char *id)
{
	uv_mutex_lock(&w->lock);
	snprintf(w->ended[w->next], sizeof w->ended[0], "%s", id);
	w->next = (w->next + 1) % TG_WAITS_ENDED;
	for (struct tg_job_wait **at = &w->first, *j; (j = *at);) {
		if (strcmp(j->id, id) == 0) {
			*at = j->next;
			post(j);
		} else {
			at = &j->next;
		}
	}
	uv_mutex_unlock(&w->lock);
}

void tg_waits_stop(struct tg_waits *w)
{
	uv_mutex_lock(&w->lock);
	w->stopped = true;
	for (struct tg_job_wait *j; (j = w->first);) {
		w->first = j->next;
		post(j);
	}
	uv_mutex_unlock(&w->lock);
}

static bool withdraw(struct tg_job_wait *j)
{
	uv_mutex_lock(&j->waits->lock);
	bool out = take_out(j);
	uv_mutex_unlock(&j->waits->lock);
	return out;
}

static void left(struct tg_parking *p)
{
	struct tg_job_wait *j = (struct tg_job_wait *)p;
	uv_mutex_lock(&j->waits->lock);
	bool out = take_out(j);
	j->x = NULL;
	uv_mutex_unlock(&j->waits->lock);
	if (out)
		free(j);
}

/* Of the whole wait, or of the next look. */
static void set_timer(struct tg_job_wait *j, uint64_t now)
{
	uint64_t left = j->until_ms - now;
	tg_timer_set(&j->x->gl->loop->wheel, &j->x->timer, now + (left < TG_WAITS_LOOK_MS ? left : TG_WAITS_LOOK_MS));
}

static void too_long(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	struct tg_job_wait *j = (struct tg_job_wait *)x->parked;
	uint64_t now = tg_loop_ms(x->gl->loop);
	unsigned left_ms = j->until_ms > now ? (unsigned)(j->until_ms - now) : 0;
	if (left_ms && !(j->waits->elsewhere && j->waits->elsewhere(j->waits->ctx)))
		set_timer(j, now);
	else if (withdraw(j))
		finish(j, left_ms);
}

enum tg_step tg_job_wait(struct tg_exchange *x, struct tg_waits *w, const char *id, unsigned ms, tg_wait_answer answer)
{
	struct tg_job_wait *j = tg_exchange_keep_head(x) ? calloc(1, sizeof *j) : NULL;
	if (!j)
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	*j = (struct tg_job_wait){ .parking.left = left, .waits = w, .x = x, .answer = answer };
	snprintf(j->id, sizeof j->id, "%s", id);
	x->parked = &j->parking;
	x->timer.fire = too_long;
	j->until_ms = tg_loop_ms(x->gl->loop) + ms;
	set_timer(j, j->until_ms - ms);
	uv_mutex_lock(&w->lock);
	bool already = w->stopped;
	for (unsigned i = 0; i < TG_WAITS_ENDED; i++)
		already |= strcmp(w->ended[i], id) == 0;
	if (already) {
		post(j);
	} else {
		j->next = w->first;
		w->first = j;
	}
	uv_mutex_unlock(&w->lock);
	return TG_WAIT;
}
