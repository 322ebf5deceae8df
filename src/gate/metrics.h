#pragma once
/*
 * Counters and histograms. One shard per loop, written by that loop alone (relaxed atomics, no lock), summed when /metrics is read. Label sets are
 * fixed (route pattern, status, model of the configuration, refusal reason): a caller cannot make new ones (peers.md 5).
 * Names: tables/metrics.def (name, type, unit, help); gen_ai names and buckets are wire.md 4g's.
 */
#include "gate/record.h"
#include "http/h1.h"

#define TG_METRIC_MODELS 256 /* models beyond this share the last place, labelled */
#define TG_METRIC_OTHER "(other)" /* which no model can be called */

struct tg_metrics_shard; /* opaque, cache-line aligned */
struct tg_metrics_shard *tg_metrics_shard_new(void);
void tg_metrics_shard_free(struct tg_metrics_shard *s);

void tg_metrics_record(struct tg_metrics_shard *s, const struct tg_record *r); /* at the end of each request */
void tg_metrics_refusal(struct tg_metrics_shard *s, const char *reason);      /* a name from refusals.def or tables/reasons.def */
enum tg_gauge { TG_GAUGE_CONNECTIONS, TG_GAUGE_IN_FLIGHT, TG_GAUGE_STREAMS, TG_GAUGE_QUEUED, TG_GAUGE_GUESSES, TG_GAUGE_COUNT };
void tg_metrics_gauge(struct tg_metrics_shard *s, enum tg_gauge g, int delta);
enum tg_counter { TG_COUNT_RETRIES, TG_COUNT_WORKER_CONNECTS, TG_COUNT_WORKER_ERRORS, TG_COUNT_CLIENT_GONE, TG_COUNT_RELOADS, TG_COUNT_RELOADS_FAILED, TG_COUNT_TOKENS_RESERVED,
		  TG_COUNT_TOKENS_SETTLED, TG_COUNT_GUESSES_DELAYED, TG_COUNT_TLS_HANDSHAKES, TG_COUNT_TLS_RESUMED, TG_COUNT_TLS_FAILED, TG_COUNT_COUNT };
void tg_metrics_count(struct tg_metrics_shard *s, enum tg_counter c);
void tg_metrics_add(struct tg_metrics_shard *s, enum tg_counter c, uint64_t n);

enum tg_clock { TG_CLOCK_CONNECT, TG_CLOCK_FIRST_BYTE, TG_CLOCK_IDLE, TG_CLOCK_TOTAL, TG_CLOCK_COUNT };
void tg_metrics_timeout(struct tg_metrics_shard *s, unsigned model_index, enum tg_clock c); /* one of a model's four clocks has run out */

struct tg_metrics_model { /* one a model, by its index; filled by the handler */
	const char *name;
	unsigned queued;
};
struct tg_metrics_worker { /* one a worker, filled by the handler */
	const char *model, *worker;
	int state;             /* enum tg_worker_state */
	unsigned in_use, connections, ejections;
	uint64_t requests, successes, errors; /* requests: of which neither the one nor the other were cut */
	bool started;          /* it is ours: the rest is known */
	unsigned restarts;
	uint64_t cpu_us, rss_bytes;
};
struct tg_metrics_jobs { /* one a kind of jobs, filled by the handler */
	const char *kind;
	uint64_t waiting, oldest_ms;
};
void tg_metrics_write_jobs(struct tg_buf *out, const struct tg_metrics_jobs *jobs, unsigned n); /* behind the others */
/* Prometheus text format 0.0.4. */
void tg_metrics_write(struct tg_buf *out, struct tg_metrics_shard *const *shards, unsigned nshards, const struct tg_metrics_model *models, unsigned nmodels,
		      const struct tg_metrics_worker *workers, unsigned nworkers, uint64_t start_wall_us, uint64_t log_lost);
