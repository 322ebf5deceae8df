/*
 * Metrics. Each loop has a shard and is its only writer; a scrape, on any loop, adds the shards up. So a count is a relaxed load and store, no locked
 * instruction and no shared cache line; what a scrape reads may be a few requests apart between series, never torn within one.
 *
 * Invariants: the set of series is bounded by tables (routes, statuses, reasons) and by TG_METRIC_MODELS; a series that was never counted is not written
 * (its memory is there, for models it is made on first use). Buckets are kept apart and added up when written, so that an observation is one increment.
 */
#include "gate/metrics.h"
#include "audit/event.h"
#include "base/clock.h"
#include "base/version.h"
#include "pool/worker.h"
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/resource.h>
#include <unistd.h>

#define METRIC(id, type, name, unit, help) M_##id,
enum metric {
#include "tables/metrics.def"
	M_COUNT
};
#undef METRIC
static const struct {
	const char *name, *type, *help;
} about[] = {
#define METRIC(id, type, name, unit, help) [M_##id] = { name, #type, help },
#include "tables/metrics.def"
#undef METRIC
};

static const uint8_t gauge_metric[TG_GAUGE_COUNT] = {
	[TG_GAUGE_CONNECTIONS] = M_connections, [TG_GAUGE_IN_FLIGHT] = M_in_flight, [TG_GAUGE_STREAMS] = M_streams,
	[TG_GAUGE_QUEUED] = M_queued, [TG_GAUGE_GUESSES] = M_guesses_waiting,
};
static const uint8_t counter_metric[TG_COUNT_COUNT] = {
	[TG_COUNT_RETRIES] = M_retries, [TG_COUNT_WORKER_CONNECTS] = M_worker_connects, [TG_COUNT_WORKER_ERRORS] = M_worker_errors,
	[TG_COUNT_CLIENT_GONE] = M_client_gone, [TG_COUNT_RELOADS] = M_reloads, [TG_COUNT_RELOADS_FAILED] = M_reloads_failed,
	[TG_COUNT_GUESSES_DELAYED] = M_guesses_delayed,
	[TG_COUNT_TOKENS_RESERVED] = M_tokens_reserved, [TG_COUNT_TOKENS_SETTLED] = M_tokens_settled,
	[TG_COUNT_TLS_HANDSHAKES] = M_tls_handshakes, [TG_COUNT_TLS_RESUMED] = M_tls_resumed, [TG_COUNT_TLS_FAILED] = M_tls_failed,
};

/* Labels of refusals: both tables, then "other". */
#define REFUSAL(name, status, text) #name,
#define REASON(name, text) #name,
static const char *const reasons[] = {
#include "tables/refusals.def"
#include "tables/reasons.def"
	"other",
};
#undef REFUSAL
#undef REASON
#define NREASONS (sizeof reasons / sizeof *reasons)

/* Statuses with a series of their own; a worker's odd ones share the place of their class. */
static const uint16_t statuses[] = {
	200, 201, 202, 204, 206, 301, 302, 303, 304, 307, 308, 400, 401, 402, 403, 404, 405, 406, 408, 409, 410, 411, 413, 414, 415, 417,
	421, 422, 425, 426, 428, 429, 431, 499, 500, 501, 502, 503, 504, 505, 507, 529,
};
#define NSTATUS (sizeof statuses / sizeof *statuses)
static const char *const classes[] = { "none", "1xx", "2xx", "3xx", "4xx", "5xx" };
#define NCODES (NSTATUS + sizeof classes / sizeof *classes)

#define ROUTES_MAX 256 /* the last: unmatched */
#define OPS 3
static const char *const op_names[OPS] = { "chat", "text_completion", "embeddings" };

/* Upper bounds, in the unit that is counted: microseconds or tokens. `div` turns them into what is written. */
#define BOUNDS_MAX 28
struct scale {
	uint64_t div; /* 1: as it is; 1000000: microseconds written as seconds */
	unsigned n;
	uint64_t bound[BOUNDS_MAX];
};
#define BOUNDS(...) (sizeof((uint64_t[]){ __VA_ARGS__ }) / sizeof(uint64_t)), { __VA_ARGS__ }
/* Fine where the gate's own time lies, 5 to 200 us: peers' 1, 10 and 100 ms would put every request into one bucket. */
static const struct scale overhead_scale = { 1, BOUNDS(5, 10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80, 90, 100, 125, 150, 175, 200, 300, 500, 1000, 2500, 5000,
						      10000, 50000, 100000, 1000000) };
static const struct scale duration_scale = { 1000000, BOUNDS(100, 250, 500, 1000, 2500, 5000, 10000, 25000, 50000, 100000, 250000, 500000, 1000000, 2500000,
							    5000000, 10000000, 30000000, 60000000, 300000000) };
static const struct scale server_scale = { 1000000, BOUNDS(10000, 20000, 40000, 80000, 160000, 320000, 640000, 1280000, 2560000, 5120000, 10240000, 20480000,
							  40960000, 81920000) };
static const struct scale first_scale = { 1000000, BOUNDS(1000, 5000, 10000, 20000, 40000, 60000, 80000, 100000, 250000, 500000, 750000, 1000000, 2500000, 5000000,
							 7500000, 10000000, 15000000, 30000000, 60000000) };
static const struct scale per_scale = { 1000000, BOUNDS(10000, 25000, 50000, 75000, 100000, 150000, 200000, 300000, 400000, 500000, 750000, 1000000, 2500000) };
static const struct scale token_scale = { 1, BOUNDS(1, 4, 16, 64, 256, 1024, 4096, 16384, 65536, 262144, 1048576, 4194304, 16777216, 67108864) };

typedef _Atomic uint64_t counter;
struct histogram {
	counter bucket[BOUNDS_MAX + 1], sum; /* bucket[n]: above the last bound */
};
struct model_block {
	struct histogram server, first, per, input, output;
};

struct tg_metrics_shard {
	_Alignas(64) counter requests[ROUTES_MAX][NCODES];
	struct histogram duration[ROUTES_MAX], overhead[2]; /* overhead: answered here, forwarded */
	counter bytes_in, bytes_out, partial;
	counter refusals[NREASONS];
	counter counters[TG_COUNT_COUNT];
	_Atomic int64_t gauges[TG_GAUGE_COUNT];
	counter timeouts[TG_METRIC_MODELS][TG_CLOCK_COUNT];
	_Atomic(struct model_block *) models[TG_METRIC_MODELS][OPS]; /* owned; made on first use */
};

struct tg_metrics_shard *tg_metrics_shard_new(void)
{
	/* Straight from the kernel: zero, aligned, and routes that are never called cost no memory. */
	void *s = mmap(NULL, sizeof(struct tg_metrics_shard), PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	return s == MAP_FAILED ? NULL : s;
}

void tg_metrics_shard_free(struct tg_metrics_shard *s)
{
	if (!s)
		return;
	for (unsigned m = 0; m < TG_METRIC_MODELS; m++)
		for (unsigned op = 0; op < OPS; op++)
			free(atomic_load_explicit(&s->models[m][op], memory_order_relaxed));
	munmap(s, sizeof *s);
}

static inline void add(counter *c, uint64_t n)
{
	atomic_store_explicit(c, atomic_load_explicit(c, memory_order_relaxed) + n, memory_order_relaxed);
}
static inline uint64_t get(const counter *c)
{
	return atomic_load_explicit(c, memory_order_relaxed);
}

static inline void observe(struct histogram *h, const struct scale *s, uint64_t v)
{
	unsigned i = 0;
	while (i < s->n && v > s->bound[i])
		i++;
	add(&h->bucket[i], 1);
	add(&h->sum, v);
}

static unsigned code_place(unsigned status)
{
	for (unsigned i = 0; i < NSTATUS; i++)
		if (statuses[i] == status)
			return i;
	return NSTATUS + (status >= 100 && status < 600 ? status / 100 : 0);
}

static unsigned route_place(const struct tg_route *r)
{
	size_t i = r ? (size_t)(r - tg_routes) : ROUTES_MAX - 1;
	return i < ROUTES_MAX - 1 ? (unsigned)i : ROUTES_MAX - 1;
}

static unsigned op_of(const struct tg_route *r)
{
	if (strcmp(r->handler, "embeddings") == 0)
		return 2;
	return strcmp(r->handler, "completions") == 0;
}

static struct model_block *block_of(struct tg_metrics_shard *s, const struct tg_record *r)
{
	unsigned m = r->model_index < TG_METRIC_MODELS ? (unsigned)r->model_index : TG_METRIC_MODELS - 1;
	_Atomic(struct model_block *) *place = &s->models[m][op_of(r->route)];
	struct model_block *b = atomic_load_explicit(place, memory_order_relaxed);
	if (!b && (b = calloc(1, sizeof *b)))
		atomic_store_explicit(place, b, memory_order_release);
	return b;
}

/* What a worker answered. Failures are counted by status, not timed: a refusal in a millisecond would make the model look fast. */
static void record_model(struct tg_metrics_shard *s, const struct tg_record *r)
{
	struct model_block *b = block_of(s, r);
	if (!b)
		return;
	if (r->usage.seen) {
		if (!r->usage.counted)
			observe(&b->input, &token_scale, r->usage.prompt);
		observe(&b->output, &token_scale, r->usage.completion);
	}
	if (r->stream && r->first_byte_us)
		observe(&b->first, &first_scale, r->first_byte_us);
	if (r->partial)
		return;
	observe(&b->server, &server_scale, r->total_us);
	if (r->stream && r->first_byte_us && r->usage.seen && r->usage.completion > 1 && r->total_us >= r->first_byte_us)
		observe(&b->per, &per_scale, (r->total_us - r->first_byte_us) / (r->usage.completion - 1));
}

void tg_metrics_record(struct tg_metrics_shard *s, const struct tg_record *r)
{
	unsigned route = route_place(r->route);
	add(&s->requests[route][code_place(r->status)], 1);
	observe(&s->duration[route], &duration_scale, r->total_us);
	observe(&s->overhead[r->worker != NULL], &overhead_scale, r->overhead_us);
	add(&s->bytes_in, r->bytes_in);
	add(&s->bytes_out, r->bytes_out);
	if (r->partial)
		add(&s->partial, 1);
	if (r->route && r->worker && r->model_index >= 0 && r->status >= 200 && r->status < 400)
		record_model(s, r);
}

void tg_metrics_refusal(struct tg_metrics_shard *s, const char *reason)
{
	size_t i = 0;
	while (i < NREASONS - 1 && strcmp(reasons[i], reason) != 0)
		i++;
	add(&s->refusals[i], 1);
}

void tg_metrics_gauge(struct tg_metrics_shard *s, enum tg_gauge g, int delta)
{
	atomic_store_explicit(&s->gauges[g], atomic_load_explicit(&s->gauges[g], memory_order_relaxed) + delta, memory_order_relaxed);
}

void tg_metrics_count(struct tg_metrics_shard *s, enum tg_counter c)
{
	add(&s->counters[c], 1);
}

void tg_metrics_add(struct tg_metrics_shard *s, enum tg_counter c, uint64_t n)
{
	add(&s->counters[c], n);
}

void tg_metrics_timeout(struct tg_metrics_shard *s, unsigned model, enum tg_clock c)
{
	add(&s->timeouts[model < TG_METRIC_MODELS ? model : TG_METRIC_MODELS - 1][c], 1);
}

/* ---- writing ---- */

struct page {
	struct tg_buf *out;
	struct tg_metrics_shard *const *shards;
	unsigned nshards;
};

static void head(struct page *p, enum metric m)
{
	tg_buf_fmt(p->out, "# HELP %s %s\n# TYPE %s %s\n", about[m].name, about[m].help, about[m].name, about[m].type);
}

/* A label's value: backslash, quote and line end are escaped (text format 0.0.4). */
static void label(struct tg_buf *b, const char *name, const char *value)
{
	if (b->len && b->p[b->len - 1] != '{')
		tg_buf_char(b, ',');
	tg_buf_cstr(b, name);
	tg_buf_lit(b, "=\"");
	for (; *value; value++) {
		if (*value == '\n')
			tg_buf_lit(b, "\\n");
		else if (*value == '"' || *value == '\\')
			tg_buf_char(b, '\\'), tg_buf_char(b, *value);
		else
			tg_buf_char(b, *value);
	}
	tg_buf_char(b, '"');
}

static void number(struct tg_buf *b, uint64_t v)
{
	tg_buf_char(b, ' ');
	tg_buf_u64(b, v);
	tg_buf_char(b, '\n');
}

/* v / div with as many decimals as it needs: 2500 / 1000000 is 0.0025. */
static void fraction(struct tg_buf *b, uint64_t v, uint64_t div)
{
	tg_buf_u64(b, v / div);
	v %= div;
	if (v)
		tg_buf_char(b, '.');
	while (v) {
		div /= 10;
		tg_buf_char(b, (char)('0' + v / div));
		v %= div;
	}
}

static void plain(struct page *p, enum metric m, uint64_t v)
{
	head(p, m);
	tg_buf_cstr(p->out, about[m].name);
	number(p->out, v);
}

/* Where each shard keeps one histogram; NULL: not there. */
static const struct histogram *in_shard(const struct tg_metrics_shard *s, enum metric m, unsigned i, unsigned j)
{
	if (m == M_duration)
		return &s->duration[i];
	if (m == M_overhead)
		return &s->overhead[i];
	const struct model_block *b = atomic_load_explicit(&s->models[i][j % OPS], memory_order_acquire);
	if (!b)
		return NULL;
	switch (m) {
	case M_server_duration: return &b->server;
	case M_first_token: return &b->first;
	case M_per_token: return &b->per;
	default: return j / OPS ? &b->output : &b->input;
	}
}

/* The routes or models [from, to) that one series adds up; j: operation, and kind of token. */
struct places {
	unsigned from, to, j;
};

/* One series of a histogram; `labels` ends up between the braces. Nothing where nothing was observed. */
static void histogram(struct page *p, enum metric m, const struct scale *s, struct places at, struct tg_slice labels)
{
	uint64_t bucket[BOUNDS_MAX + 1] = { 0 }, sum = 0, total = 0;
	for (unsigned k = 0; k < p->nshards; k++)
		for (unsigned i = at.from; i < at.to; i++) {
			const struct histogram *h = in_shard(p->shards[k], m, i, at.j);
			for (unsigned b = 0; h && b <= s->n; b++)
				bucket[b] += get(&h->bucket[b]);
			sum += h ? get(&h->sum) : 0;
		}
	for (unsigned b = 0; b <= s->n; b++)
		total += bucket[b];
	if (!total)
		return;
	struct tg_buf *o = p->out;
	uint64_t cumulated = 0;
	for (unsigned b = 0; b <= s->n; b++) {
		cumulated += bucket[b];
		tg_buf_cstr(o, about[m].name);
		tg_buf_lit(o, "_bucket{");
		tg_buf_slice(o, labels);
		tg_buf_cstr(o, labels.n ? ",le=\"" : "le=\"");
		if (b < s->n)
			fraction(o, s->bound[b], s->div);
		else
			tg_buf_lit(o, "+Inf");
		tg_buf_lit(o, "\"}");
		number(o, cumulated);
	}
	static const char *const ends[] = { "_sum", "_count" };
	for (unsigned e = 0; e < 2; e++) {
		tg_buf_cstr(o, about[m].name);
		tg_buf_cstr(o, ends[e]);
		if (labels.n) {
			tg_buf_char(o, '{');
			tg_buf_slice(o, labels);
			tg_buf_char(o, '}');
		}
		tg_buf_char(o, ' ');
		if (e == 0)
			fraction(o, sum, s->div);
		else
			tg_buf_u64(o, total);
		tg_buf_char(o, '\n');
	}
}

/* The route's labels, method and pattern, into b (emptied first), after a brace that is not part of them. */
static struct tg_slice route_labels(struct tg_buf *b, unsigned place)
{
	b->len = 0;
	tg_buf_char(b, '{');
	const struct tg_route *r = place < tg_nroutes && place < ROUTES_MAX - 1 ? &tg_routes[place] : NULL;
	label(b, "method", !r ? "" : r->method == TG_METHOD_ANY ? "*" : tg_method_names[r->method]);
	label(b, "route", r ? r->path.p : "");
	return b->failed ? (struct tg_slice){ 0 } : (struct tg_slice){ b->p + 1, b->len - 1 };
}

static void write_requests(struct page *p, struct tg_buf *t)
{
	head(p, M_requests);
	for (unsigned r = 0; r < ROUTES_MAX; r++)
		for (unsigned c = 0; c < NCODES; c++) {
			uint64_t n = 0;
			for (unsigned k = 0; k < p->nshards; k++)
				n += get(&p->shards[k]->requests[r][c]);
			if (!n)
				continue;
			tg_buf_cstr(p->out, about[M_requests].name);
			tg_buf_char(p->out, '{');
			tg_buf_slice(p->out, route_labels(t, r));
			tg_buf_lit(p->out, ",code=\"");
			if (c < NSTATUS)
				tg_buf_u64(p->out, statuses[c]);
			else
				tg_buf_cstr(p->out, classes[c - NSTATUS]);
			tg_buf_lit(p->out, "\"}");
			number(p->out, n);
		}
	head(p, M_duration);
	for (unsigned r = 0; r < ROUTES_MAX; r++)
		histogram(p, M_duration, &duration_scale, (struct places){ r, r + 1, 0 }, route_labels(t, r));
	head(p, M_overhead);
	histogram(p, M_overhead, &overhead_scale, (struct places){ 0, 1, 0 }, TG_S("kind=\"local\""));
	histogram(p, M_overhead, &overhead_scale, (struct places){ 1, 2, 0 }, TG_S("kind=\"forwarded\""));
}

static void write_counters(struct page *p, uint64_t log_lost)
{
	uint64_t in = 0, out = 0, partial = 0;
	for (unsigned k = 0; k < p->nshards; k++) {
		in += get(&p->shards[k]->bytes_in);
		out += get(&p->shards[k]->bytes_out);
		partial += get(&p->shards[k]->partial);
	}
	plain(p, M_bytes_in, in);
	plain(p, M_bytes_out, out);
	plain(p, M_partial, partial);
	plain(p, M_log_lost, log_lost);
	plain(p, M_audit_lost, tg_audit_lost());
	plain(p, M_audit_faults, tg_audit_faults());
	plain(p, M_audit_waiting, tg_audit_waiting());
	for (unsigned c = 0; c < TG_COUNT_COUNT; c++) {
		uint64_t n = 0;
		for (unsigned k = 0; k < p->nshards; k++)
			n += get(&p->shards[k]->counters[c]);
		plain(p, counter_metric[c], n);
	}
	head(p, M_refusals);
	for (unsigned i = 0; i < NREASONS; i++) {
		uint64_t n = 0;
		for (unsigned k = 0; k < p->nshards; k++)
			n += get(&p->shards[k]->refusals[i]);
		if (n) {
			tg_buf_fmt(p->out, "%s{reason=\"%s\"}", about[M_refusals].name, reasons[i]);
			number(p->out, n);
		}
	}
	for (unsigned g = 0; g < TG_GAUGE_COUNT; g++) {
		/* A connection may be opened on one loop and closed on another: only the sum has a meaning. */
		int64_t n = 0;
		for (unsigned k = 0; k < p->nshards; k++)
			n += atomic_load_explicit(&p->shards[k]->gauges[g], memory_order_relaxed);
		head(p, gauge_metric[g]);
		tg_buf_cstr(p->out, about[gauge_metric[g]].name);
		tg_buf_char(p->out, ' ');
		tg_buf_i64(p->out, n);
		tg_buf_char(p->out, '\n');
	}
}

/* The places that one model's series adds up: its own, or for the name "other" all that have none. */
static struct places places_of(unsigned m, unsigned named)
{
	return (struct places){ m, m < named ? m + 1 : TG_METRIC_MODELS, 0 };
}

static void write_waits(struct page *p, const struct tg_metrics_model *models, unsigned nmodels, unsigned named)
{
	static const char *const clocks[TG_CLOCK_COUNT] = { "connect", "first_byte", "idle", "total" };
	head(p, M_queue_length);
	for (unsigned m = 0; m < nmodels; m++) {
		tg_buf_fmt(p->out, "%s{", about[M_queue_length].name);
		label(p->out, "model", models[m].name);
		tg_buf_char(p->out, '}');
		number(p->out, models[m].queued);
	}
	head(p, M_timeouts);
	for (unsigned m = 0; m <= named; m++)
		for (unsigned c = 0; c < TG_CLOCK_COUNT; c++) {
			struct places at = places_of(m, named);
			uint64_t n = 0;
			for (unsigned k = 0; k < p->nshards; k++)
				for (unsigned i = at.from; i < at.to; i++)
					n += get(&p->shards[k]->timeouts[i][c]);
			if (!n)
				continue;
			tg_buf_fmt(p->out, "%s{", about[M_timeouts].name);
			label(p->out, "model", m < named ? models[m].name : TG_METRIC_OTHER);
			label(p->out, "clock", clocks[c]);
			tg_buf_char(p->out, '}');
			number(p->out, n);
		}
}

static void write_models(struct page *p, struct tg_buf *t, const struct tg_metrics_model *models, unsigned nmodels)
{
	static const struct {
		enum metric m;
		const struct scale *scale;
		unsigned kinds; /* token types */
	} rows[] = {
		{ M_server_duration, &server_scale, 1 }, { M_first_token, &first_scale, 1 }, { M_per_token, &per_scale, 1 }, { M_token_usage, &token_scale, 2 },
	};
	/* Names as far as they go; the rest, models beyond the table or gone with an older configuration, is one series. */
	unsigned named = nmodels < TG_METRIC_MODELS ? nmodels : TG_METRIC_MODELS - 1;
	write_waits(p, models, nmodels, named);
	for (unsigned r = 0; r < sizeof rows / sizeof *rows; r++) {
		head(p, rows[r].m);
		for (unsigned m = 0; m <= named; m++)
			for (unsigned j = 0; j < OPS * rows[r].kinds; j++) {
				t->len = 0;
				tg_buf_char(t, '{');
				label(t, "gen_ai_operation_name", op_names[j % OPS]);
				label(t, "gen_ai_request_model", m < named ? models[m].name : TG_METRIC_OTHER);
				if (rows[r].kinds > 1)
					label(t, "gen_ai_token_type", j / OPS ? "output" : "input");
				if (!t->failed)
					histogram(p, rows[r].m, rows[r].scale, (struct places){ m, m < named ? m + 1 : TG_METRIC_MODELS, j },
						  (struct tg_slice){ t->p + 1, t->len - 1 });
			}
	}
}

/* The labels of one worker's series, the brace opened; what comes next closes it. */
static void worker_labels(struct page *p, enum metric m, const struct tg_metrics_worker *w)
{
	tg_buf_cstr(p->out, about[m].name);
	tg_buf_char(p->out, '{');
	label(p->out, "model", w->model);
	label(p->out, "worker", w->worker);
}

static void worker_value(struct page *p, enum metric m, const struct tg_metrics_worker *w, uint64_t v, uint64_t div)
{
	worker_labels(p, m, w);
	tg_buf_lit(p->out, "} ");
	fraction(p->out, v, div);
	tg_buf_char(p->out, '\n');
}

static bool takes_requests(const struct tg_metrics_worker *w)
{
	return w->state == TG_WORKER_UP || w->state == TG_WORKER_UNKNOWN;
}

static void write_workers(struct page *p, const struct tg_metrics_worker *v, unsigned n)
{
	head(p, M_worker_up);
	for (unsigned i = 0; i < n; i++)
		worker_value(p, M_worker_up, &v[i], takes_requests(&v[i]), 1);
	head(p, M_worker_state);
	for (unsigned i = 0; i < n; i++)
		for (int s = 0; s < TG_WORKER_STATES; s++) {
			worker_labels(p, M_worker_state, &v[i]);
			label(p->out, "state", tg_worker_state_names[s]);
			tg_buf_char(p->out, '}');
			number(p->out, v[i].state == s);
		}
	head(p, M_worker_in_use);
	for (unsigned i = 0; i < n; i++)
		worker_value(p, M_worker_in_use, &v[i], v[i].in_use, 1);
	head(p, M_worker_connections);
	for (unsigned i = 0; i < n; i++)
		worker_value(p, M_worker_connections, &v[i], v[i].connections, 1);
	head(p, M_worker_requests);
	for (unsigned i = 0; i < 3 * n; i++) {
		const struct tg_metrics_worker *w = &v[i / 3];
		static const char *const outcomes[] = { "ok", "error", "cut" };
		uint64_t known = w->successes + w->errors, counts[] = { w->successes, w->errors, w->requests > known ? w->requests - known : 0 };
		worker_labels(p, M_worker_requests, w);
		label(p->out, "outcome", outcomes[i % 3]);
		tg_buf_char(p->out, '}');
		number(p->out, counts[i % 3]);
	}
	head(p, M_worker_ejections);
	for (unsigned i = 0; i < n; i++)
		worker_value(p, M_worker_ejections, &v[i], v[i].ejections, 1);
	head(p, M_worker_restarts);
	for (unsigned i = 0; i < n; i++)
		if (v[i].started)
			worker_value(p, M_worker_restarts, &v[i], v[i].restarts, 1);
	head(p, M_worker_cpu);
	for (unsigned i = 0; i < n; i++)
		if (v[i].started)
			worker_value(p, M_worker_cpu, &v[i], v[i].cpu_us, 1000000);
	head(p, M_worker_rss);
	for (unsigned i = 0; i < n; i++)
		if (v[i].started)
			worker_value(p, M_worker_rss, &v[i], v[i].rss_bytes, 1);
}

static void write_process(struct page *p, uint64_t start_wall_us)
{
	struct tg_buf *o = p->out;
	head(p, M_build_info);
	tg_buf_fmt(o, "%s{version=\"" TG_VERSION "\"} 1\n", about[M_build_info].name);
	head(p, M_start_time);
	tg_buf_cstr(o, about[M_start_time].name);
	tg_buf_char(o, ' ');
	fraction(o, start_wall_us, 1000000);
	tg_buf_char(o, '\n');
	struct rusage u;
	getrusage(RUSAGE_SELF, &u);
	head(p, M_cpu);
	tg_buf_cstr(o, about[M_cpu].name);
	tg_buf_char(o, ' ');
	fraction(o, (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 + (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec), 1000000);
	tg_buf_char(o, '\n');
	FILE *f = fopen("/proc/self/statm", "re");
	unsigned long long size, pages;
	if (f && fscanf(f, "%llu %llu", &size, &pages) == 2)
		plain(p, M_rss, pages * (uint64_t)sysconf(_SC_PAGESIZE));
	if (f)
		fclose(f);
}

void tg_metrics_write(struct tg_buf *out, struct tg_metrics_shard *const *shards, unsigned nshards, const struct tg_metrics_model *models, unsigned nmodels,
		      const struct tg_metrics_worker *workers, unsigned nworkers, uint64_t start_wall_us, uint64_t log_lost)
{
	struct page p = { out, shards, nshards };
	struct tg_buf t;
	tg_buf_init(&t, 65536);
	write_process(&p, start_wall_us);
	write_requests(&p, &t);
	write_counters(&p, log_lost);
	write_workers(&p, workers, nworkers);
	write_models(&p, &t, models, nmodels);
	if (t.failed)
		out->failed = true;
	tg_buf_free(&t);
}

void tg_metrics_write_jobs(struct tg_buf *out, const struct tg_metrics_jobs *jobs, unsigned n)
{
	struct page p = { .out = out };
	for (unsigned i = 0; i < 2 * n; i++) {
		const struct tg_metrics_jobs *j = &jobs[i % n];
		enum metric m = i < n ? M_jobs_waiting : M_jobs_oldest;
		if (i % n == 0)
			head(&p, m);
		tg_buf_fmt(out, "%s{kind=\"%s\"} ", about[m].name, j->kind);
		fraction(out, i < n ? j->waiting : j->oldest_ms, i < n ? 1 : 1000);
		tg_buf_char(out, '\n');
	}
}
