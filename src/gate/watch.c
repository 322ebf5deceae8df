/*
 * The watch (see watch.h). A URL worker is probed before its first request comes, while it is idle now and then, when requests have failed there, and each second while it is
 * down. Names are looked up anew now and then and while their worker is down.
 */
#include "gate/watch.h"
#include "base/clock.h"
#include "pool/probe.h"
#include "pool/resolve.h"

#define TURN_MS 1000
#define RESOLVE_MS 30000  /* a name whose worker is up */
#define SAMPLE_TURNS 5    /* what the started workers use */

static uint64_t now_ms(void)
{
	return tg_mono_us() / 1000;
}

/* Whoever waits for this worker. */
static void pump(struct tg_gate *g, const struct tg_worker *w)
{
	const struct tg_models *ms = &g->snapshot->models;
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			if (ms->v[i].workers[k] == w)
				tg_queue_pump(ms->v[i].queue);
}

static void probed(struct tg_worker *w, enum tg_probe_result r, void *arg)
{
	struct tg_watch *watch = arg;
	w->probing = false;
	w->probed_ms = now_ms();
	if (watch->stopping)
		return;
	bool was_usable = tg_worker_usable(w);
	bool back = tg_health_probed(w, r, w->probed_ms);
	bool gone = was_usable && !tg_worker_usable(w);
	if (gone && r == TG_PROBE_REFUSED && !w->started)
		tg_quarantine_death(watch->gate->quarantine, w, w->probed_ms);
	if (back || gone)
		pump(watch->gate, w);
}

static bool wants_probe(struct tg_worker *w, uint32_t every_ms, uint64_t now)
{
	if (w->probing)
		return false;
	switch (atomic_load(&w->state)) {
	case TG_WORKER_STARTING:
	case TG_WORKER_FAILED:
		return false; /* the supervisor's */
	case TG_WORKER_DOWN:
		return true;
	default:
		if (atomic_exchange(&w->want_probe, false) || !w->probed_ms)
			return true;
		return every_ms && atomic_load(&w->in_use) <= 0 && now - w->probed_ms >= every_ms;
	}
}

static void look_at(struct tg_watch *watch, struct tg_worker *w, uint32_t every_ms, uint64_t now)
{
	uv_loop_t *loop = &watch->gate->control;
	bool usable = tg_worker_usable(w) && atomic_load(&w->addr);
	if (tg_worker_named(w) && !w->resolving && (!w->resolved_ms || now - w->resolved_ms >= (usable ? RESOLVE_MS : TURN_MS / 2))) {
		w->resolved_ms = now;
		(void)tg_resolve_start(loop, w);
	}
	if (!atomic_load(&w->addr) || !wants_probe(w, every_ms, now))
		return;
	atomic_store(&w->want_probe, false);
	w->probing = true;
	if (!tg_probe_start(loop, w, probed, watch))
		w->probing = false;
}

void tg_watch_look(struct tg_watch *watch)
{
	if (watch->stopping)
		return;
	uint64_t now = now_ms();
	const struct tg_models *ms = &watch->gate->snapshot->models;
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			look_at(watch, ms->v[i].workers[k], ms->v[i].conf->probe_ms, now);
	const struct tg_models *engine = tg_engine_models(watch->gate->engine);
	if (engine)
		look_at(watch, engine->v[0].workers[0], engine->v[0].conf->probe_ms, now);
	tg_supervisor_look(watch->supervisor, now);
}

static void on_turn(uv_timer_t *t)
{
	struct tg_watch *watch = t->data;
	tg_watch_look(watch);
	if (watch->turns++ % SAMPLE_TURNS == 1)
		tg_supervisor_sample(watch->supervisor);
}

bool tg_watch_init(struct tg_watch *watch, struct tg_gate *g, const struct tg_supervisor_conf *conf)
{
	*watch = (struct tg_watch){ .gate = g };
	struct tg_supervisor_conf c = *conf;
	c.loop = &g->control;
	c.quarantine = g->quarantine;
	watch->supervisor = tg_supervisor_new(&c);
	uv_timer_init(&g->control, &watch->timer);
	watch->timer.data = watch;
	return watch->supervisor != NULL;
}

void tg_watch_models(struct tg_watch *watch)
{
	if (!watch->stopping)
		tg_supervisor_update(watch->supervisor, &watch->gate->snapshot->models, watch->gate->snapshot->config->drain_ms);
}

void tg_watch_start(struct tg_watch *watch)
{
	uv_timer_start(&watch->timer, on_turn, 0, TURN_MS);
}

void tg_watch_retry(struct tg_watch *watch)
{
	const struct tg_models *ms = &watch->gate->snapshot->models;
	for (unsigned i = 0; !watch->stopping && i < ms->n; i++) {
		bool asked = false;
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			asked |= atomic_load(&ms->v[i].workers[k]->state) == TG_WORKER_FAILED && atomic_exchange(&ms->v[i].workers[k]->want_retry, false);
		if (asked)
			tg_supervisor_retry(watch->supervisor, &ms->v[i]);
	}
}

bool tg_watch_engine(struct tg_watch *watch)
{
	struct tg_err err;
	bool retry;
	const struct tg_models *engine = watch->stopping ? NULL : tg_engine_turn(watch->gate->engine, &retry, &err);
	if (!engine)
		return false;
	if (retry)
		tg_supervisor_retry(watch->supervisor, &engine->v[0]);
	else
		tg_supervisor_add(watch->supervisor, engine);
	return !retry;
}

void tg_watch_stop(struct tg_watch *watch, void (*done)(void *ctx), void *ctx)
{
	watch->stopping = true;
	uv_timer_stop(&watch->timer);
	tg_probe_cancel_all();
	tg_supervisor_stop(watch->supervisor, done, ctx);
}

void tg_watch_free(struct tg_watch *watch)
{
	tg_supervisor_free(watch->supervisor);
}

void tg_gate_look(struct tg_gate *g)
{
	uv_async_send(&g->wake);
}

void tg_gate_reprobe(struct tg_gate *g, const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++) {
		atomic_store(&m->workers[i]->want_probe, true);
		atomic_store(&m->workers[i]->want_retry, true);
	}
	uv_async_send(&g->wake);
}
