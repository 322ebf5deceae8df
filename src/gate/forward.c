/*
 * Towards the worker: a connection, the rebuilt request on it, the clocks; and what happens when that fails before an answer has begun.
 *
 * A request may reach a worker twice at most, so that one that workers cannot stand ends two of them and no more. A connection that is refused has reached nobody and
 * costs nothing but the next try. Tried again is: on a fresh connection, where a kept-alive one had died; on another worker; or, where none is free, at the head of the
 * queue, which also waits for a started worker to come back. What that needs is kept until the first byte of an answer.
 */
#include "base/hash.h"
#include "gate/exchange.h"
#include "pool/sessions.h"
#include <errno.h>
#include <stdlib.h>

#define SENDS_MAX 2
#define RETRIES_MAX 8 /* of connections that were refused or did not come about */

enum tried { TRIED, QUEUE, GIVEN_UP };

static void on_connected(struct tg_upconn *u, int error);
static void on_total(struct tg_timer *t);

void tg_forward_let_go(struct tg_exchange *x)
{
	free(x->up_req);
	x->up_req = NULL;
	free(x->body_owned);
	x->body_owned = NULL;
	free(x->edits);
	x->edits = NULL;
	x->up_nbody = 0;
	tg_gate_unbuffer(x->gl->gate, x->buffered);
	x->buffered = 0;
}

uint64_t tg_forward_print(struct tg_exchange *x)
{
	if (!x->up_req || x->print)
		return x->print;
	/* Who and what for, then the body alone: the head holds the request's id. */
	uint64_t h = tg_hash_seed();
	const char *head = x->up_req + x->up_room, *end = memmem(head, x->up_len - x->up_room, "\r\n\r\n", 4);
	h = tg_hash(h, &x->principal->hash, sizeof x->principal->hash);
	h = tg_hash(h, x->model->conf->name, strlen(x->model->conf->name));
	if (end)
		h = tg_hash_sample(h, end + 4, (size_t)(x->up_req + x->up_len - (end + 4)));
	for (unsigned i = 0; i < x->up_nbody; i++)
		h = tg_hash_sample(h, x->up_body[i].iov_base, x->up_body[i].iov_len);
	return x->print = h ? h : 1;
}

/* The lines that depend on the worker go in front of what is already there. */
static bool write_prefix(struct tg_exchange *x, size_t *start)
{
	const struct tg_worker *w = x->worker;
	const char *path = x->forward->path;
	if (x->model->conf->protocol == TG_PROTO_INFER)
		path = "/infer";
	size_t base = strlen(w->base), plen = strlen(path), need = 5 + base + plen + 11 + w->fixed_len;
	if (need > x->up_room)
		return false;
	char *p = x->up_req + x->up_room - need;
	*start = x->up_room - need;
	memcpy(p, "POST ", 5);
	p += 5;
	memcpy(p, w->base, base);
	p += base;
	memcpy(p, path, plen);
	p += plen;
	memcpy(p, " HTTP/1.1\r\n", 11);
	memcpy(p + 11, w->fixed, w->fixed_len);
	return true;
}

/* False: the connection broke under our hands. */
static bool send_request(struct tg_exchange *x)
{
	size_t start;
	if (!write_prefix(x, &start))
		return false;
	struct iovec v[1 + sizeof x->up_body / sizeof x->up_body[0]];
	v[0] = (struct iovec){ x->up_req + start, x->up_len - start };
	memcpy(v + 1, x->up_body, x->up_nbody * sizeof v[0]);
	if (!tg_conn_send(&x->up->conn, v, 1 + x->up_nbody))
		return false;
	x->sent_upstream = true;
	x->sends++;
	x->sent_us = tg_mono_us();
	tg_relay_attach(x);
	tg_conn_deadline(&x->up->conn, x->model->conf->first_byte_ms);
	if (!x->total_due_ms)
		x->total_due_ms = tg_loop_ms(x->gl->loop) + x->model->conf->total_ms;
	if (!x->timer.due_ms) {
		x->timer.fire = on_total;
		tg_timer_set(&x->gl->loop->wheel, &x->timer, x->total_due_ms);
	}
	return true;
}

/* Gives the worker back; whatever was wrong with it has been told. */
static void leave_worker(struct tg_exchange *x)
{
	if (x->up)
		tg_upstream_close(x->up);
	x->up = NULL;
	if (x->trial)
		tg_health_untried(x->worker);
	x->trial = false;
	x->failed = x->worker;
	tg_outcome_ended(x);
	x->sent_upstream = x->judged = x->failed_it = false;
}

/* Tries x->worker. False: not even begun, the worker has been left. */
static bool connect_worker(struct tg_exchange *x, bool fresh)
{
	const char *why = NULL;
	if (x->affinity)
		tg_sessions_bind(x->model->sessions, x->affinity, x->worker);
	struct tg_upconn *u = tg_upstream_get(x->gl->loop, x->worker, fresh, x->model->conf->connect_ms, &why);
	if (!u) {
		if (why)
			tg_outcome_fault(x, TG_FAULT_UNREACHABLE, why);
		leave_worker(x);
		return false;
	}
	x->up = u;
	u->x = x;
	u->on_connected = on_connected;
	if (!u->reused)
		tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_CONNECTS);
	if (u->connecting || send_request(x))
		return true;
	if (u->reused) { /* it died while it was idle */
		tg_upstream_close(u);
		x->up = NULL;
		return connect_worker(x, true);
	}
	tg_outcome_fault(x, TG_FAULT_DROPPED, "the connection broke");
	leave_worker(x);
	return false;
}

/* The request has lost its worker and no answer has begun. */
static enum tried try_again(struct tg_exchange *x)
{
	/* The very same one, sent many times at once, must not have two workers each. */
	bool poisonous = x->print && tg_quarantine_left(x->gl->gate->quarantine, x->print, tg_loop_ms(x->gl->loop)) > 0;
	while (!poisonous && x->sends < SENDS_MAX && x->retries < RETRIES_MAX) {
		enum tg_pick p = tg_model_pick(x->model, x->failed, &x->worker, &x->trial);
		if (p == TG_PICK_DOWN && x->failed->started) /* it has been looked at meanwhile, and is there */
			p = tg_model_pick(x->model, NULL, &x->worker, &x->trial);
		if (p == TG_PICK_DOWN)
			break;
		x->retries++;
		tg_metrics_count(x->gl->metrics, TG_COUNT_RETRIES);
		if (p == TG_PICK_BUSY) {
			/* The one that was lost is tried again only as a process that has been started anew, or looked at. */
			x->waiter.except = x->failed->started ? NULL : x->failed;
			x->waiter.first = true;
			return QUEUE;
		}
		if (connect_worker(x, false))
			return TRIED;
	}
	x->worker = NULL;
	return GIVEN_UP;
}

/* From an event: true unless it is given up. */
static bool go_on(struct tg_exchange *x)
{
	switch (try_again(x)) {
	case QUEUE:
		tg_timer_stop(&x->timer);
		x->stage = TG_STAGE_ADMIT;
		tg_corridor_run(x);
		return true;
	case TRIED:
		if (x->sent_upstream && x->stage == TG_STAGE_DISPATCH)
			tg_corridor_run(x);
		return true;
	case GIVEN_UP:
		break;
	}
	return false;
}

/* To another worker that is free right now. STAYED: there is none, and nothing has changed. LOST: neither that one nor any other could be had after all. */
enum change { STAYED, GOING, LOST };
static enum change change_worker(struct tg_exchange *x)
{
	struct tg_worker *other;
	bool trial;
	if (x->sends >= SENDS_MAX || tg_model_pick(x->model, x->worker, &other, &trial) != TG_PICK_OK)
		return STAYED;
	leave_worker(x);
	x->worker = other;
	x->trial = trial;
	x->retries++;
	tg_metrics_count(x->gl->metrics, TG_COUNT_RETRIES);
	return connect_worker(x, false) || go_on(x) ? GOING : LOST;
}

/* A kept-alive connection had died: the worker may have closed it because it was idle, which is nobody's fault; or the worker itself has ended, and would be met in the
 * middle of that on a fresh connection. So another is taken where one is free. (Of a started worker it is known in a moment: that goes the ordinary way.) */
static bool refresh(struct tg_exchange *x)
{
	x->refreshed = true;
	tg_quarantine_suspect(x->gl->gate->quarantine, tg_forward_print(x), x->worker, tg_loop_ms(x->gl->loop));
	enum change c = x->affinity ? STAYED : change_worker(x);
	if (c != STAYED)
		return c == GOING;
	x->retries++;
	tg_metrics_count(x->gl->metrics, TG_COUNT_RETRIES);
	tg_upstream_close(x->up);
	x->up = NULL;
	return connect_worker(x, true) || go_on(x);
}

bool tg_forward_retry(struct tg_exchange *x)
{
	if (x->head_sent || !x->up_req || x->aborted || (x->up && x->up->in_len && !x->up->held))
		return false;
	if (x->up && x->up->reused && !x->up->held && !x->refreshed && !x->worker->started)
		return refresh(x);
	tg_outcome_fault(x, TG_FAULT_DROPPED, "it closed the connection without an answer");
	leave_worker(x);
	return go_on(x);
}

bool tg_forward_elsewhere(struct tg_exchange *x)
{
	enum change c = x->aborted ? STAYED : change_worker(x);
	if (c == LOST)
		tg_relay_fail(x, TG_E_unavailable, "no_worker", "No worker of this model could be reached; try again soon.");
	return c != STAYED;
}

static void on_connected(struct tg_upconn *u, int error)
{
	struct tg_exchange *x = u->x;
	if (!error && send_request(x)) {
		tg_corridor_run(x);
		return;
	}
	if (error == ETIMEDOUT)
		tg_metrics_timeout(x->gl->metrics, x->model->index, TG_CLOCK_CONNECT);
	tg_outcome_fault(x, error ? TG_FAULT_UNREACHABLE : TG_FAULT_DROPPED, error ? strerror(error) : "the connection broke");
	leave_worker(x);
	if (go_on(x))
		return;
	if (error == ETIMEDOUT)
		tg_relay_fail(x, TG_E_connect_timeout, "connect_timeout", "The model worker did not accept a connection in time; try again soon.");
	else
		tg_relay_fail(x, TG_E_unavailable, "no_worker", "No worker of this model could be reached; try again soon.");
}

static void on_total(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	tg_metrics_timeout(x->gl->metrics, x->model->index, TG_CLOCK_TOTAL);
	tg_relay_fail(x, TG_E_total_timeout, "total_timeout", "The answer took too long.");
}

/* A request that has ended two workers is not given a third. */
static bool is_quarantined(struct tg_exchange *x, char *extra, size_t cap)
{
	struct tg_quarantine *q = x->gl->gate->quarantine;
	if (tg_quarantine_empty(q))
		return false;
	unsigned left = tg_quarantine_left(q, tg_forward_print(x), tg_loop_ms(x->gl->loop));
	snprintf(extra, cap, "x-should-retry: false\r\nRetry-After: %u\r\n", left);
	return left > 0;
}

enum tg_step tg_forward_start(struct tg_exchange *x)
{
	char extra[80];
	if (!x->up_req) { /* else it has been here before */
		if (!tg_forward_build(x))
			return TG_ANSWERED;
		tg_exchange_drop_head(x);
		if (is_quarantined(x, extra, sizeof extra)) {
			struct tg_slice rid = tg_exchange_rid(x);
			tg_log(TG_LOG_F_WARN, "request.quarantined", "l:request_id", &rid, "t:model", x->model->conf->name, "t:key", x->principal->id, NULL);
			return tg_answer_problem(x, TG_E_poisonous, "poisonous", "Model workers have ended under this very request before; it is not tried again for now.", NULL,
						 extra);
		}
	}
	if (connect_worker(x, false))
		return x->sent_upstream ? TG_NEXT : TG_WAIT;
	switch (try_again(x)) {
	case TRIED: return x->sent_upstream ? TG_NEXT : TG_WAIT;
	case QUEUE: return TG_ADMIT;
	case GIVEN_UP: break;
	}
	return tg_answer_problem(x, TG_E_unavailable, "no_worker", "No worker of this model could be reached; try again soon.", NULL, "Retry-After: 1\r\n");
}
