/*
 * Stage 7: a slot of the model's workers. A free slot beats a queued one; who waits is served in the order of arrival, within a bound and a deadline. A request of a
 * session goes to the worker where the session lives, and waits for that one.
 */
#include "base/hash.h"
#include "gate/exchange.h"
#include "gate/revoked.h"
#include "pool/sessions.h"

static enum tg_step no_worker(struct tg_exchange *x)
{
	if (!x->model->nworkers)
		return tg_answer_problem(x, TG_E_unavailable, "no_worker", "This model has no workers: none are configured to be started.", NULL, "Retry-After: 30\r\n");
	if (tg_model_failed(x->model))
		return tg_answer_problem(x, TG_E_model_failed, "model_failed", "This model has failed: its workers could not be started. The gate's /status says why.", NULL,
					 "Retry-After: 30\r\n");
	return tg_answer_problem(x, TG_E_unavailable, "no_worker", "No worker of this model is up; try again soon.", NULL, "Retry-After: 1\r\n");
}

static void waited_too_long(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	if (!tg_queue_leave(&x->waiter))
		return; /* the grant is on its way */
	tg_metrics_gauge(x->gl->metrics, TG_GAUGE_QUEUED, -1);
	const char *why = tg_model_usable(x->model) ? "All workers of this model are busy; try again soon." : "The workers of this model are still starting; try again soon.";
	tg_answer_problem(x, TG_E_unavailable, "queue_timeout", why, NULL, "Retry-After: 2\r\n");
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
	if (x->aborted) {
		x->stage = TG_STAGE_SETTLE; /* the client left meanwhile: settle gives the slot back */
	} else if (tg_judge_again(x) == TG_ANSWERED) {
		x->stage = TG_STAGE_SETTLE;
	} else if (!x->worker) {
		no_worker(x);
		x->stage = TG_STAGE_SETTLE;
	}
	tg_corridor_run(x);
}

static enum tg_step enter_queue(struct tg_exchange *x, struct tg_worker *pin)
{
	struct tg_model *m = x->model;
	x->queue_seen = tg_queue_length(m->queue);
	x->waiter.loop = x->gl->loop;
	x->waiter.granted = granted;
	x->waiter.pin = pin;
	switch (m->conf->queue || x->waiter.first ? tg_queue_wait(m, &x->waiter) : TG_ENQUEUE_FULL) {
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

/* 001's clients name their session in the request itself. */
static struct tg_slice session_of_infer(const struct tg_exchange *x)
{
	static const char *const names[] = { "session_id" };
	struct tg_json_scan s;
	struct tg_slice body = tg_json_value(x->body, &x->want[TG_WANT_PROMPT]);
	if (tg_json_scan_all(&s, body, names, 1) != TG_JSON_DONE || (s.want[0].type != TG_JSON_STRING && s.want[0].type != TG_JSON_NUMBER))
		return (struct tg_slice){ 0 };
	return tg_json_value(body, &s.want[0]);
}

/* The same name in the mouths of two callers is two sessions. */
static void find_session(struct tg_exchange *x)
{
	enum tg_affinity how = x->model->conf->affinity;
	if (how == TG_AFFINITY_OFF || x->model->nworkers < 2 || !x->head)
		return;
	struct tg_slice id = tg_head_get(x->head, TG_H_X_SESSION_ID);
	if (!id.n && x->family == TG_FAM_INFER)
		id = session_of_infer(x);
	if (!id.n && how != TG_AFFINITY_KEY)
		return;
	uint64_t h = tg_hash(tg_hash_seed(), &x->principal->hash, sizeof x->principal->hash);
	h = id.n ? tg_hash(h, id.p, id.n) : h;
	x->affinity = h ? h : 1;
}

enum tg_step tg_stage_admit(struct tg_exchange *x)
{
	if (!x->forward || x->worker)
		return TG_NEXT;
	if (x->waiter.state != TG_WAIT_NONE)
		return TG_WAIT;
	if (!x->affinity)
		find_session(x);
	struct tg_worker *pin = x->affinity ? tg_sessions_find(x->model->sessions, x->model, x->affinity) : NULL;
	if (pin && pin == x->waiter.except)
		pin = NULL;
	bool waiting = tg_queue_length(x->model->queue) > 0;
	if (pin && !waiting && tg_model_pick_this(x->model, pin) == TG_PICK_OK) {
		x->worker = pin;
		return TG_NEXT;
	}
	if (pin || waiting)
		return enter_queue(x, pin);
	switch (tg_waiter_pick(x->model, &x->waiter)) {
	case TG_PICK_OK:
		x->worker = x->waiter.worker;
		x->trial = x->waiter.trial;
		return TG_NEXT;
	case TG_PICK_BUSY: return enter_queue(x, NULL);
	case TG_PICK_DOWN: break;
	}
	return no_worker(x);
}
