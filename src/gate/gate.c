/*
 * The gate's part in each loop: start, snapshot swaps, draining, the log's clock. A loop's thread runs until it has been drained; other threads reach it by
 * messages only.
 */
#include "gate/gate.h"
#include "gate/exchange.h"
#include "gate/revoked.h"
#include <stdlib.h>
#include <time.h>

#define LOG_FLUSH_MS 100

bool tg_gate_loop_init(struct tg_gate *g, unsigned index, struct tg_err *err)
{
	struct tg_gate_loop *gl = &g->states[index];
	*gl = (struct tg_gate_loop){ .gate = g, .loop = &g->loops[index], .snap = g->snapshot };
	tg_err_set(err, "out of memory");
	if (!tg_loop_init(gl->loop, index) || !tg_digester_init(&gl->digester))
		return false;
	if (g->token_key && !(gl->tokens = tg_token_verifier_new(g->token_key)))
		return false;
	gl->loop->user = gl;
	tg_rng_seed(&gl->rng);
	tg_log_batch_init(&gl->log);
	uv_timer_init(&gl->loop->uv, &gl->log_timer);
	gl->log_timer.data = gl;
	gl->metrics = g->shards[index] = tg_metrics_shard_new();
	gl->listeners = calloc(g->naddrs ? g->naddrs : 1, sizeof *gl->listeners);
	if (!gl->metrics || !gl->listeners)
		return false;
	for (unsigned i = 0; i < g->naddrs; i++) {
		gl->listeners[i].on_accept = tg_session_accept;
		if (!tg_listener_start(&gl->listeners[i], gl->loop, &g->addrs[i])) {
			tg_err_set(err, "cannot watch %s", g->addrs[i].text);
			return false;
		}
	}
	return true;
}

void tg_gate_loop_free(struct tg_gate_loop *gl)
{
	tg_log_batch_free(&gl->log);
	while (gl->spare) {
		struct tg_exchange *x = gl->spare;
		gl->spare = x->next_spare;
		free(x);
	}
	tg_digester_free(&gl->digester);
	tg_token_verifier_free(gl->tokens);
	free(gl->listeners);
	tg_loop_free(gl->loop);
}

void tg_gate_loop_thread(void *arg)
{
	struct tg_gate_loop *gl = arg;
	tg_loop_run(gl->loop);
	tg_log_batch_flush(&gl->log);
	tg_snapshot_put(gl->snap);
	atomic_fetch_add(&gl->gate->loops_ended, 1);
	uv_async_send(&gl->gate->wake);
}

/* ---- snapshots ---- */

void tg_gate_hold(struct tg_gate_loop *gl, struct tg_snapshot **held)
{
	*held = gl->snap;
	gl->snap->in_flight[gl->loop->index]++;
}

void tg_gate_let_go(struct tg_gate_loop *gl, struct tg_snapshot *s)
{
	if (--s->in_flight[gl->loop->index] == 0 && s != gl->snap)
		tg_snapshot_put(s);
}

struct publish {
	struct tg_msg msg;
	struct tg_snapshot *snap;
};

/* The last loop to take a snapshot makes its generation and its number everybody's. Loops take snapshots in order, so these come in order too. */
static void adopt(struct tg_gate *g, struct tg_snapshot *s)
{
	if (atomic_fetch_add(&s->adopted, 1) + 1 != s->nloops)
		return;
	atomic_store(&g->adopted, s->generation);
	atomic_store(&g->in_force, s->number);
}

static void swap(struct tg_loop *l, void *arg)
{
	struct publish *p = arg;
	struct tg_gate_loop *gl = l->user;
	struct tg_snapshot *old = gl->snap;
	gl->snap = p->snap;
	adopt(gl->gate, gl->snap);
	for (unsigned i = 0; i < old->models.n; i++)
		for (unsigned k = 0; k < old->models.v[i].nworkers; k++)
			if (!tg_models_have_worker(&gl->snap->models, old->models.v[i].workers[k]))
				tg_upstream_drop_idle(l, old->models.v[i].workers[k]);
	bool idle = !old->in_flight[l->index]; /* else its last request drops it, which may be now */
	if (old->policy.identity != gl->snap->policy.identity)
		tg_revoked_end(gl); /* `old` may be gone afterwards, where it was not idle */
	if (idle)
		tg_snapshot_put(old);
	free(p);
}

void tg_gate_publish(struct tg_gate *g, struct tg_snapshot *s)
{
	s->number = g->snapshot->number + 1;
	for (unsigned i = 0; i < g->nloops; i++) {
		struct publish *p = malloc(sizeof *p);
		if (!p)
			abort(); /* a loop that kept old keys while others have new ones would be worse */
		p->snap = s;
		if (!tg_loop_post(&g->loops[i], &p->msg, swap, p)) {
			free(p); /* that loop has been drained: its count is not needed */
			adopt(g, s);
			tg_snapshot_put(s);
		}
	}
	struct tg_snapshot *old = g->snapshot;
	g->snapshot = s;
	tg_snapshot_put(old);
}

/* ---- draining ---- */

static void finished(struct tg_gate_loop *gl)
{
	for (unsigned i = 0; i < gl->snap->models.n; i++)
		for (unsigned k = 0; k < gl->snap->models.v[i].nworkers; k++)
			tg_upstream_drop_idle(gl->loop, gl->snap->models.v[i].workers[k]);
	const struct tg_models *engine = tg_engine_models(gl->gate->engine);
	if (engine)
		tg_upstream_drop_idle(gl->loop, engine->v[0].workers[0]);
	if (!uv_is_closing((uv_handle_t *)&gl->log_timer))
		uv_close((uv_handle_t *)&gl->log_timer, NULL);
	tg_loop_stop(gl->loop);
}

void tg_gate_session_ended(struct tg_gate_loop *gl)
{
	if (gl->draining && !gl->nsessions)
		finished(gl);
}

static void drain(struct tg_loop *l, void *arg)
{
	struct tg_gate_loop *gl = arg;
	(void)l;
	for (unsigned i = 0; i < gl->gate->naddrs; i++)
		tg_listener_stop(&gl->listeners[i]);
	gl->draining = true;
	for (struct tg_session *s = gl->sessions; s; s = tg_session_next(s))
		tg_session_drain(s);
	tg_gate_session_ended(gl);
}

static void cut(struct tg_loop *l, void *arg)
{
	struct tg_gate_loop *gl = arg;
	(void)l;
	gl->cutting = true;
	for (struct tg_session *s = gl->sessions, *next; s; s = next) {
		next = tg_session_next(s); /* closing is asynchronous: the list stays whole */
		tg_session_cut(s);
	}
}

void tg_gate_drain(struct tg_gate *g)
{
	atomic_store(&g->draining, true);
	for (unsigned i = 0; i < g->nloops; i++)
		tg_loop_post(&g->loops[i], &g->states[i].drain_msg, drain, &g->states[i]);
}

void tg_gate_cut(struct tg_gate *g)
{
	for (unsigned i = 0; i < g->nloops; i++)
		tg_loop_post(&g->loops[i], &g->states[i].cut_msg, cut, &g->states[i]);
}

/* ---- small services ---- */

static void flush_log(uv_timer_t *t)
{
	struct tg_gate_loop *gl = t->data;
	tg_log_batch_flush(&gl->log);
}

void tg_gate_log_later(struct tg_gate_loop *gl)
{
	if (!uv_is_active((uv_handle_t *)&gl->log_timer) && !uv_is_closing((uv_handle_t *)&gl->log_timer))
		uv_timer_start(&gl->log_timer, flush_log, LOG_FLUSH_MS, 0);
}

uint64_t tg_gate_wall_offset(struct tg_gate_loop *gl, uint64_t mono_us)
{
	if (!gl->offset_at_us || mono_us - gl->offset_at_us > 100000) {
		gl->offset_us = tg_wall_us() - tg_mono_us();
		gl->offset_at_us = mono_us;
	}
	return gl->offset_us;
}

const char *tg_gate_date(struct tg_gate_loop *gl)
{
	struct timespec now; /* of the answer, which may come minutes after the request; the coarse clock costs 9 ns */
	clock_gettime(CLOCK_REALTIME_COARSE, &now);
	uint64_t s = (uint64_t)now.tv_sec;
	if (s != gl->date_s) {
		time_t t = (time_t)s;
		struct tm tm;
		gmtime_r(&t, &tm);
		strftime(gl->date, sizeof gl->date, "%a, %d %b %Y %H:%M:%S GMT", &tm);
		gl->date_s = s;
	}
	return gl->date;
}

bool tg_gate_buffer(struct tg_gate *g, uint64_t bytes, uint64_t max)
{
	if (atomic_fetch_add(&g->buffered, bytes) + bytes <= max)
		return true;
	atomic_fetch_sub(&g->buffered, bytes);
	return false;
}

void tg_gate_unbuffer(struct tg_gate *g, uint64_t bytes)
{
	if (bytes)
		atomic_fetch_sub(&g->buffered, bytes);
}
