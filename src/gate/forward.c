/*
 * Towards the worker: a connection, the rebuilt request on it, the clocks; and the one retry. A request is tried again only while no byte of an answer
 * has come: on another worker, or, where a kept-alive connection turned out to be stale, on a fresh one. What a retry needs is kept until the first byte.
 */
#include "gate/exchange.h"
#include <stdlib.h>

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
	x->sent_us = tg_mono_us();
	tg_relay_attach(x);
	tg_conn_deadline(&x->up->conn, x->model->conf->first_byte_ms);
	if (!x->timer.due_ms) {
		x->timer.fire = on_total;
		tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + x->model->conf->total_ms);
	}
	return true;
}

/* Gives the worker back; `down`: it could not be reached. */
static void leave_worker(struct tg_exchange *x, const char *down)
{
	if (x->up)
		tg_upstream_close(x->up);
	x->up = NULL;
	if (down)
		tg_worker_down(x->worker, down);
	if (x->trial)
		atomic_store(&x->worker->trying, false);
	x->trial = false;
	x->failed = x->worker;
	tg_model_release(x->model, x->worker);
	x->worker = NULL;
}

/* Tries x->worker. False: not even begun, the worker has been left. */
static bool connect_worker(struct tg_exchange *x, bool fresh)
{
	const char *why = NULL;
	struct tg_upconn *u = tg_upstream_get(x->gl->loop, x->worker, fresh, x->model->conf->connect_ms, &why);
	if (!u) {
		tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_ERRORS);
		leave_worker(x, why);
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
	leave_worker(x, "the connection broke");
	return false;
}

static bool try_another(struct tg_exchange *x)
{
	if (x->retried)
		return false;
	x->retried = true;
	if (tg_model_pick(x->model, x->failed, &x->worker, &x->trial) != TG_PICK_OK) {
		x->worker = NULL;
		return false;
	}
	tg_metrics_count(x->gl->metrics, TG_COUNT_RETRIES);
	return connect_worker(x, false);
}

bool tg_forward_retry(struct tg_exchange *x)
{
	if (x->head_sent || !x->up_req || x->retried || x->aborted || (x->up && x->up->in_len))
		return false;
	bool stale = x->up && x->up->reused;
	tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_ERRORS);
	if (stale) {
		x->retried = true;
		tg_metrics_count(x->gl->metrics, TG_COUNT_RETRIES);
		tg_upstream_close(x->up);
		x->up = NULL;
		return connect_worker(x, true);
	}
	/* It may be this request that it cannot stand: the probe says whether the worker is gone, a caller must not be able to. */
	atomic_store(&x->worker->want_probe, true);
	leave_worker(x, NULL);
	return try_another(x);
}

static void on_connected(struct tg_upconn *u, int error)
{
	struct tg_exchange *x = u->x;
	if (!error && send_request(x)) {
		tg_corridor_run(x);
		return;
	}
	tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_ERRORS);
	leave_worker(x, error ? strerror(error) : "the connection broke");
	if (try_another(x)) {
		if (x->sent_upstream && x->stage == TG_STAGE_DISPATCH)
			tg_corridor_run(x);
		return;
	}
	tg_relay_fail(x, TG_E_unavailable, error == ETIMEDOUT ? "connect_timeout" : "no_worker", "No worker of this model could be reached; try again soon.");
}

static void on_total(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	tg_relay_fail(x, TG_E_gateway_timeout, "total_timeout", "The answer took too long.");
}

enum tg_step tg_forward_start(struct tg_exchange *x)
{
	if (!tg_forward_build(x))
		return TG_ANSWERED;
	tg_exchange_drop_head(x);
	if (connect_worker(x, false) || try_another(x))
		return x->sent_upstream ? TG_NEXT : TG_WAIT;
	return tg_answer_problem(x, TG_E_unavailable, "no_worker", "No worker of this model could be reached; try again soon.", NULL, "Retry-After: 1\r\n");
}
