/*
 * The workers as they are now: /status (document 001's origin: model_pools, with what the origin has and more), the same as a table for terminals, and /dashboard, a page
 * without scripts. All three from one row a worker, read from the workers' own atomics: nothing here waits for anybody.
 */
#include "base/version.h"
#include "gate/exchange.h"
#include "gate/handlers.h"
#include <arpa/inet.h>
#include <netinet/in.h>

#define PAGE_MAX (8u << 20)
#define OVERCHARGED 10 /* waiting requests from which on the origin calls a worker so */

struct row {
	const struct tg_model *model;
	struct tg_worker *w;
	const char *state;
	unsigned port, in_use, queued;
	bool busy;
	char reason[256]; /* "": none */
};

static unsigned port_of(struct tg_worker *w)
{
	const struct tg_sockaddr *a = atomic_load(&w->addr);
	if (a && a->ss.ss_family == AF_INET)
		return ntohs(((const struct sockaddr_in *)(const void *)&a->ss)->sin_port);
	if (a && a->ss.ss_family == AF_INET6)
		return ntohs(((const struct sockaddr_in6 *)(const void *)&a->ss)->sin6_port);
	return 0;
}

static void read_row(struct row *r, const struct tg_model *m, struct tg_worker *w)
{
	int in_use = atomic_load(&w->in_use);
	*r = (struct row){ .model = m, .w = w, .in_use = in_use > 0 ? (unsigned)in_use : 0, .queued = tg_queue_length(m->queue), .port = port_of(w) };
	r->state = tg_worker_state_names[atomic_load(&w->state)];
	r->busy = r->in_use >= (m->conf->slots ? m->conf->slots : 1);
	if (!w->started)
		return;
	uv_mutex_lock(&w->started->lock);
	memcpy(r->reason, w->started->reason, sizeof r->reason);
	uv_mutex_unlock(&w->started->lock);
}

static uint64_t uptime_s(const struct tg_worker *w, uint64_t now_us)
{
	uint64_t since = atomic_load(&w->started->since_us);
	return since && now_us > since ? (now_us - since) / 1000000 : 0;
}

/* ---- JSON ---- */

static void number(struct tg_buf *b, const char *name, uint64_t v)
{
	tg_buf_cstr(b, name);
	tg_buf_u64(b, v);
}

static void number_or_null(struct tg_buf *b, const char *name, uint64_t v)
{
	tg_buf_cstr(b, name);
	if (v)
		tg_buf_u64(b, v);
	else
		tg_buf_lit(b, "null");
}

static void json_row(struct tg_buf *b, const struct row *r, uint64_t now_us)
{
	struct tg_worker *w = r->w;
	number(b, "{\"worker_id\":", w->index);
	tg_buf_lit(b, ",\"name\":");
	tg_buf_json(b, tg_slice_cstr(w->name));
	tg_buf_lit(b, ",\"state\":");
	tg_buf_json(b, tg_slice_cstr(r->state));
	number_or_null(b, ",\"port\":", r->port);
	tg_buf_cstr(b, r->busy ? ",\"is_busy\":true" : ",\"is_busy\":false");
	number(b, ",\"in_use\":", r->in_use);
	number_or_null(b, ",\"slots\":", r->model->conf->slots);
	number(b, ",\"queue_length\":", r->queued);
	tg_buf_cstr(b, r->queued > OVERCHARGED ? ",\"overcharged\":true" : ",\"overcharged\":false");
	number(b, ",\"requests\":", atomic_load(&w->requests));
	number(b, ",\"success\":", atomic_load(&w->successes));
	number(b, ",\"errors\":", atomic_load(&w->errors));
	tg_buf_lit(b, ",\"avg_recent_latency_ms\":");
	tg_buf_milli(b, atomic_load(&w->average_us));
	tg_buf_lit(b, ",\"last_duration_ms\":");
	tg_buf_milli(b, atomic_load(&w->last_us));
	number(b, ",\"ejections\":", atomic_load(&w->ejections));
	if (w->started) {
		number_or_null(b, ",\"pid\":", (uint64_t)atomic_load(&w->started->pid));
		number(b, ",\"restarts\":", atomic_load(&w->started->restarts));
		number(b, ",\"start_tries\":", atomic_load(&w->started->tries));
		number(b, ",\"uptime_seconds\":", uptime_s(w, now_us));
		tg_buf_lit(b, ",\"cpu_seconds\":");
		tg_buf_milli(b, atomic_load(&w->started->cpu_us) / 1000);
		number(b, ",\"memory_bytes\":", atomic_load(&w->started->rss_bytes));
		tg_buf_lit(b, ",\"reason\":");
		tg_buf_json_or_null(b, r->reason[0] ? tg_slice_cstr(r->reason) : (struct tg_slice){ 0 });
	}
	tg_buf_char(b, '}');
}

/* One word for a whole model: ready if one of its workers is, failed if all have. */
static const char *model_state(const struct tg_model *m)
{
	if (tg_model_usable(m))
		return "ready";
	if (!m->nworkers)
		return "empty";
	if (tg_model_failed(m))
		return "failed";
	for (unsigned k = 0; k < m->nworkers; k++)
		if (atomic_load(&m->workers[k]->state) == TG_WORKER_STARTING)
			return "starting";
	return "down";
}

static void json_models(struct tg_buf *b, const struct tg_models *ms)
{
	for (unsigned i = 0; i < ms->n; i++) {
		const struct tg_model *m = &ms->v[i];
		unsigned ready = 0;
		for (unsigned k = 0; k < m->nworkers; k++)
			ready += tg_worker_usable(m->workers[k]);
		tg_buf_cstr(b, i ? ",{\"model\":" : "{\"model\":");
		tg_buf_json(b, tg_slice_cstr(m->conf->name));
		tg_buf_lit(b, ",\"state\":");
		tg_buf_json(b, tg_slice_cstr(model_state(m)));
		number(b, ",\"workers\":", m->nworkers);
		number(b, ",\"ready\":", ready);
		number(b, ",\"queue_length\":", tg_queue_length(m->queue));
		number(b, ",\"queue_bound\":", m->conf->queue);
		tg_buf_char(b, '}');
	}
}

static enum tg_step as_json(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	struct tg_buf b;
	struct row r;
	tg_buf_init(&b, PAGE_MAX);
	tg_buf_lit(&b, "{\"version\":\"" TG_VERSION "\"");
	number(&b, ",\"uptime_seconds\":", (x->wall_us - x->gl->gate->start_wall_us) / 1000000);
	number(&b, ",\"connections\":", (uint64_t)atomic_load(&x->gl->gate->connections));
	tg_buf_lit(&b, ",\"models\":[");
	json_models(&b, ms);
	tg_buf_lit(&b, "],\"model_pools\":{");
	for (unsigned i = 0; i < ms->n; i++) {
		if (i)
			tg_buf_char(&b, ',');
		tg_buf_json(&b, tg_slice_cstr(ms->v[i].conf->name));
		tg_buf_lit(&b, ":[");
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			if (k)
				tg_buf_char(&b, ',');
			read_row(&r, &ms->v[i], ms->v[i].workers[k]);
			json_row(&b, &r, x->wall_us);
		}
		tg_buf_char(&b, ']');
	}
	tg_buf_lit(&b, "}}");
	return tg_answer_buf(x, "application/json", &b, "Cache-Control: no-store\r\n");
}

/* ---- the table, as text and as a page ---- */

static const char *const titles[] = { "worker", "state", "pid", "port", "in use", "waiting", "requests", "errors", "avg ms", "restarts", "cpu s", "MiB" };
static const int widths[] = { -20, -9, 7, 6, 7, 8, 9, 7, 9, 9, 8, 7 };
enum { COLUMNS = sizeof titles / sizeof titles[0] };

static void fill_cells(const struct row *r, char cell[COLUMNS][160])
{
	const struct tg_started *s = r->w->started;
	struct tg_worker *w = r->w;
	memset(cell, 0, COLUMNS * sizeof cell[0]);
	snprintf(cell[0], sizeof cell[0], "%.150s", w->name);
	snprintf(cell[1], sizeof cell[0], "%s", r->state);
	if (r->port)
		snprintf(cell[3], sizeof cell[0], "%u", r->port);
	if (r->model->conf->slots)
		snprintf(cell[4], sizeof cell[0], "%u/%u", r->in_use, r->model->conf->slots);
	else
		snprintf(cell[4], sizeof cell[0], "%u", r->in_use);
	snprintf(cell[5], sizeof cell[0], "%u", r->queued);
	snprintf(cell[6], sizeof cell[0], "%llu", (unsigned long long)atomic_load(&w->requests));
	snprintf(cell[7], sizeof cell[0], "%llu", (unsigned long long)atomic_load(&w->errors));
	snprintf(cell[8], sizeof cell[0], "%.1f", (double)atomic_load(&w->average_us) / 1000);
	if (!s)
		return;
	if (atomic_load(&s->pid))
		snprintf(cell[2], sizeof cell[0], "%d", atomic_load(&s->pid));
	snprintf(cell[9], sizeof cell[0], "%u", atomic_load(&s->restarts));
	snprintf(cell[10], sizeof cell[0], "%.1f", (double)atomic_load(&s->cpu_us) / 1e6);
	snprintf(cell[11], sizeof cell[0], "%.0f", (double)atomic_load(&s->rss_bytes) / 1048576);
}

static enum tg_step as_text(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	char cell[COLUMNS][160];
	struct tg_buf b;
	struct row r;
	tg_buf_init(&b, PAGE_MAX);
	for (int i = 0; i < COLUMNS; i++)
		tg_buf_fmt(&b, "%*s%s", widths[i], titles[i], i + 1 < COLUMNS ? " " : "\n");
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			read_row(&r, &ms->v[i], ms->v[i].workers[k]);
			fill_cells(&r, cell);
			for (int c = 0; c < COLUMNS; c++)
				tg_buf_fmt(&b, "%*s%s", widths[c], cell[c], c + 1 < COLUMNS ? " " : "\n");
			if (r.reason[0])
				tg_buf_fmt(&b, "  %s\n", r.reason);
		}
	return tg_answer_buf(x, "text/plain; charset=utf-8", &b, "Cache-Control: no-store\r\n");
}

enum tg_step tg_api_status(struct tg_exchange *x)
{
	return tg_head_accepts(x->head, "text/plain") ? as_text(x) : as_json(x);
}

/* No script, nothing from elsewhere, not in anybody's frame. The one style sheet is allowed by its hash (CSP level 2). */
#define STYLE "body{font:15px system-ui,sans-serif;margin:2rem;color-scheme:light dark}table{border-collapse:collapse}th,td{padding:.35rem .8rem;text-align:right;border-bottom:1px solid #8884}" \
	      "th:first-child,td:first-child,td:nth-child(2),th:nth-child(2),.why{text-align:left}.up,.unknown{color:#197a2b}.down,.failed{color:#c22}.starting{color:#b60}.why{color:#888}"
#define STYLE_HASH "sha256-WtqA/O86PMWI1phKt8QnMrIbCCCcS4c3E2FcLkDXe3A="

enum tg_step tg_api_dashboard(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	char cell[COLUMNS][160];
	struct tg_buf b;
	struct row r;
	tg_buf_init(&b, PAGE_MAX);
	tg_buf_lit(&b, "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\"><meta http-equiv=\"refresh\" content=\"5\">"
		       "<title>Tollgate: workers</title><style>" STYLE "</style><h1>Workers</h1><table><thead><tr>");
	for (int i = 0; i < COLUMNS; i++)
		tg_buf_fmt(&b, "<th scope=\"col\">%s", titles[i]);
	tg_buf_lit(&b, "<tbody>");
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			read_row(&r, &ms->v[i], ms->v[i].workers[k]);
			fill_cells(&r, cell);
			tg_buf_lit(&b, "<tr>");
			for (int c = 0; c < COLUMNS; c++) {
				tg_buf_cstr(&b, "<td");
				if (c == 1)
					tg_buf_fmt(&b, " class=\"%s\"", r.state);
				tg_buf_char(&b, '>');
				tg_buf_html(&b, cell[c]);
			}
			if (r.reason[0]) {
				tg_buf_fmt(&b, "<tr><td class=\"why\" colspan=\"%d\">", COLUMNS);
				tg_buf_html(&b, r.reason);
			}
		}
	tg_buf_lit(&b, "</table>");
	return tg_answer_buf(x, "text/html; charset=utf-8", &b,
			     "Cache-Control: no-store\r\nContent-Security-Policy: default-src 'none'; style-src '" STYLE_HASH "'; frame-ancestors 'none'; base-uri 'none'\r\n"
			     "X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\n");
}
