/* What the gate says of itself: the landing answer, health, readiness, metrics. */
#include "base/version.h"
#include "gate/exchange.h"
#include "gate/handlers.h"
#include <stdlib.h>

enum tg_step tg_api_root(struct tg_exchange *x)
{
	const char *name = x->snap->config->name;
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	if (tg_head_accepts(x->head, "text/html")) {
		tg_buf_lit(&b, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><title>");
		tg_buf_html(&b, name);
		tg_buf_lit(&b, "</title><h1>");
		tg_buf_html(&b, name);
		tg_buf_lit(&b, " " TG_VERSION "</h1><p>A gate in front of model workers. <a href=\"/docs\">Its interface</a>, to try; <a href=\"/redoc\">to read</a>; <a href=\"/openapi.json\">for programs</a>. <a href=\"/health\">Health</a>.</p></html>");
		return tg_answer_buf(x, "text/html; charset=utf-8", &b, "Content-Security-Policy: default-src 'none'\r\nVary: Accept\r\n");
	}
	tg_buf_lit(&b, "{\"name\":");
	tg_buf_json(&b, tg_slice_cstr(name));
	tg_buf_lit(&b, ",\"version\":\"" TG_VERSION "\",\"health\":\"/health\",\"models\":\"/v1/models\",\"docs\":\"/docs\",\"openapi\":\"/openapi.json\"}");
	return tg_answer_buf(x, "application/json", &b, "Vary: Accept\r\n");
}

/* Document 003's body. While the database is away keys go on, from memory: that is degraded, not dead. */
enum tg_step tg_api_health(struct tg_exchange *x)
{
	struct tg_gate *g = x->gl->gate;
	const struct tg_models *ms = &x->snap->models;
	bool stored = !g->store || tg_store_state(g->store) == TG_STORE_OK, ok = stored && atomic_load(&g->ready) && !atomic_load(&g->draining);
	for (unsigned i = 0; ok && i < ms->n; i++) {
		ok = !ms->v[i].nworkers || tg_model_usable(&ms->v[i]); /* a model that nobody can use: which one is not for strangers */
	}
	char body[96];
	int n = snprintf(body, sizeof body, "{\"status\":\"%s\",\"checks\":{\"database\":\"%s\"}}", ok ? "healthy" : "degraded", stored ? "healthy" : "unhealthy");
	return tg_answer(x, 200, "application/json", (struct tg_slice){ body, (size_t)n }, "Cache-Control: no-store\r\n");
}

enum tg_step tg_api_livez(struct tg_exchange *x)
{
	return tg_answer(x, 200, "application/json", TG_S("{\"status\":\"alive\"}"), "Cache-Control: no-store\r\n");
}

enum tg_step tg_api_readyz(struct tg_exchange *x)
{
	struct tg_gate *g = x->gl->gate;
	if (atomic_load(&g->draining))
		return tg_answer(x, 503, "application/json", TG_S("{\"status\":\"draining\"}"), "Cache-Control: no-store\r\nRetry-After: 1\r\n");
	if (!atomic_load(&g->ready))
		return tg_answer(x, 503, "application/json", TG_S("{\"status\":\"starting\"}"), "Cache-Control: no-store\r\nRetry-After: 1\r\n");
	if (tg_identity_blind(x->snap->policy.identity)) /* it cannot tell its callers from others */
		return tg_answer(x, 503, "application/json", TG_S("{\"status\":\"database_away\"}"), "Cache-Control: no-store\r\nRetry-After: 2\r\n");
	return tg_answer(x, 200, "application/json", TG_S("{\"status\":\"ready\"}"), "Cache-Control: no-store\r\n");
}

static struct tg_metrics_worker worker_figures(const struct tg_model *m, struct tg_worker *w)
{
	struct tg_metrics_worker f = {
		.model = m->conf->name, .worker = w->name, .state = atomic_load(&w->state), .in_use = (unsigned)atomic_load(&w->in_use),
		.connections = atomic_load(&w->connections), .ejections = atomic_load(&w->ejections), .requests = atomic_load(&w->requests), .successes = atomic_load(&w->successes), .errors = atomic_load(&w->errors), .started = w->started != NULL,
	};
	if (w->started) {
		f.restarts = atomic_load(&w->started->restarts);
		f.cpu_us = atomic_load(&w->started->cpu_us);
		f.rss_bytes = atomic_load(&w->started->rss_bytes);
	}
	return f;
}

static void write_jobs(struct tg_buf *b, const struct tg_waiting *w, uint64_t now_us)
{
	struct tg_metrics_jobs jobs[TG_WAITING_KINDS];
	for (unsigned i = 0; i < TG_WAITING_KINDS; i++) {
		int64_t oldest = atomic_load(&w->kind[i].oldest_us);
		uint64_t since = oldest > 0 && (uint64_t)oldest < now_us ? now_us - (uint64_t)oldest : 0;
		jobs[i] = (struct tg_metrics_jobs){ tg_waiting_kinds[i], atomic_load(&w->kind[i].n), since / 1000 };
	}
	tg_metrics_write_jobs(b, jobs, TG_WAITING_KINDS);
}

enum tg_step tg_api_metrics(struct tg_exchange *x)
{
	struct tg_gate *g = x->gl->gate;
	const struct tg_models *ms = &x->snap->models;
	struct tg_metrics_model models[TG_METRIC_MODELS];
	unsigned n = 0, all = 0, nmodels = ms->n < TG_METRIC_MODELS ? ms->n : TG_METRIC_MODELS;
	for (unsigned i = 0; i < ms->n; i++)
		all += ms->v[i].nworkers;
	struct tg_metrics_worker *workers = calloc(all ? all : 1, sizeof *workers);
	for (unsigned i = 0; i < ms->n; i++) {
		if (i < nmodels)
			models[i] = (struct tg_metrics_model){ ms->names[i], tg_queue_length(ms->v[i].queue) };
		for (unsigned k = 0; workers && k < ms->v[i].nworkers; k++)
			workers[n++] = worker_figures(&ms->v[i], ms->v[i].workers[k]);
	}
	struct tg_buf b;
	tg_buf_init(&b, 16u << 20);
	tg_metrics_write(&b, g->shards, g->nloops + 1, models, nmodels, workers, n, g->start_wall_us, tg_log_lost());
	write_jobs(&b, &g->waiting, x->wall_us);
	free(workers);
	return tg_answer_buf(x, "text/plain; version=0.0.4; charset=utf-8", &b, NULL);
}

/* Rows that only close a tree or wait for their issue are answered by authorize; their handlers are never reached. */
enum tg_step tg_api_later(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_not_implemented, "later", "This route is not built yet.", NULL, NULL);
}

enum tg_step tg_api_nowhere(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_not_found, "not_found", "There is nothing here.", NULL, NULL);
}
