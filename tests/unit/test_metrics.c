/* /metrics: the text keeps to the exposition format whatever was counted, adds up over the loops, and cannot be made to grow by callers. */
#include "gate/metrics.h"
#include "pool/worker.h"
#include "base/clock.h"
#include <pthread.h>
#include <regex.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct tg_route *route(const char *handler)
{
	for (unsigned i = 0; i < tg_nroutes; i++)
		if (strcmp(tg_routes[i].handler, handler) == 0)
			return &tg_routes[i];
	fail_msg("%s", handler);
	return NULL;
}

static const struct tg_metrics_model models[] = { { "gemma3", 4 }, { "a\"b\\c\nd", 0 } };
static const struct tg_metrics_worker workers[] = {
	{ .model = "gemma3", .worker = "http://10.0.0.5:8000", .state = TG_WORKER_UP, .in_use = 3, .successes = 41, .errors = 2, .ejections = 1 },
	{ .model = "gemma3", .worker = "unix:/w.sock", .state = TG_WORKER_FAILED, .started = true, .restarts = 5, .cpu_us = 1500000, .rss_bytes = 4096 },
};

static char *scrape(struct tg_metrics_shard *const *s, unsigned n)
{
	struct tg_buf b;
	tg_buf_init(&b, 16 << 20);
	tg_metrics_write(&b, s, n, models, 2, workers, 2, 1795470613123456, 7);
	static const struct tg_metrics_jobs jobs[] = { { "train", 3, 1250 }, { "predict", 0, 0 } };
	tg_metrics_write_jobs(&b, jobs, 2);
	tg_buf_char(&b, 0);
	assert_false(b.failed);
	return b.p;
}

static void has(const char *text, const char *line)
{
	size_t n = strlen(line);
	for (const char *p = text; (p = strstr(p, line)); p++)
		if ((p == text || p[-1] == '\n') && p[n] == '\n')
			return;
	fail_msg("no line: %s", line);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

/* Text format 0.0.4: line by line; HELP and TYPE before the samples of their metric, each once; no series twice; buckets rise up to _count. */
static void check_format(const char *text)
{
	regex_t sample, about;
	assert_int_equal(regcomp(&about, "^# (HELP [a-zA-Z_:][a-zA-Z0-9_:]* .+|TYPE [a-zA-Z_:][a-zA-Z0-9_:]* (counter|gauge|histogram))$", REG_EXTENDED | REG_NOSUB), 0);
	assert_int_equal(regcomp(&sample,
				 "^[a-zA-Z_:][a-zA-Z0-9_:]*([{][a-zA-Z_]+=\"([^\"\\]|\\\\[\\\"n])*\"(,[a-zA-Z_]+=\"([^\"\\]|\\\\[\\\"n])*\")*[}])? -?[0-9]+([.][0-9]+)?$",
				 REG_EXTENDED | REG_NOSUB), 0);
	char *copy = strdup(text), *series[20000], metric[128] = "";
	unsigned n = 0, types = 0;
	unsigned long long last = 0;
	for (char *p = copy, *e; *p; p = e + 1) {
		e = strchr(p, '\n');
		assert_non_null(e);
		*e = 0;
		if (*p == '#') {
			if (regexec(&about, p, 0, NULL, 0) != 0)
				fail_msg("comment: %s", p);
			char name[128];
			assert_int_equal(sscanf(p, "# %*s %127s", name), 1);
			if (p[2] == 'H') {
				assert_string_not_equal(name, metric);
				snprintf(metric, sizeof metric, "%s", name);
			} else {
				assert_string_equal(name, metric);
				types++;
			}
			continue;
		}
		if (regexec(&sample, p, 0, NULL, 0) != 0)
			fail_msg("sample: %s", p);
		assert_int_equal(strncmp(p, metric, strlen(metric)), 0);
		char *value = strrchr(p, ' ');
		unsigned long long v = strtoull(value + 1, NULL, 10);
		if (strstr(p, "_bucket{")) {
			assert_true(v >= last);
			last = v;
		} else if (strstr(p, "_count")) {
			assert_true(v == last);
			last = 0;
		}
		*value = 0;
		assert_true(n < sizeof series / sizeof *series);
		series[n++] = p;
	}
	qsort(series, n, sizeof *series, by_text);
	for (unsigned i = 1; i < n; i++)
		if (strcmp(series[i - 1], series[i]) == 0)
			fail_msg("twice: %s", series[i]);
#define METRIC(id, type, name, unit, help) +1
	const unsigned rows = 0
#include "tables/metrics.def"
		;
#undef METRIC
	assert_int_equal(types, rows);
	free(copy);
	regfree(&sample);
	regfree(&about);
}

static void empty(void **state)
{
	(void)state;
	struct tg_metrics_shard *s = tg_metrics_shard_new();
	assert_int_equal((uintptr_t)s % 64, 0);
	char *t = scrape(&s, 1);
	check_format(t);
	has(t, "tollgate_connections 0");
	has(t, "tollgate_log_lost_lines_total 7");
	has(t, "tollgate_jobs_waiting{kind=\"train\"} 3");
	has(t, "tollgate_jobs_waiting{kind=\"predict\"} 0");
	has(t, "tollgate_jobs_waiting_oldest_seconds{kind=\"train\"} 1.25");
	has(t, "tollgate_jobs_waiting_oldest_seconds{kind=\"predict\"} 0");
	has(t, "process_start_time_seconds 1795470613.123456");
	has(t, "tollgate_worker_up{model=\"gemma3\",worker=\"http://10.0.0.5:8000\"} 1");
	has(t, "tollgate_worker_up{model=\"gemma3\",worker=\"unix:/w.sock\"} 0");
	has(t, "tollgate_worker_slots_in_use{model=\"gemma3\",worker=\"http://10.0.0.5:8000\"} 3");
	has(t, "tollgate_worker_state{model=\"gemma3\",worker=\"http://10.0.0.5:8000\",state=\"up\"} 1");
	has(t, "tollgate_worker_state{model=\"gemma3\",worker=\"http://10.0.0.5:8000\",state=\"failed\"} 0");
	has(t, "tollgate_worker_state{model=\"gemma3\",worker=\"unix:/w.sock\",state=\"failed\"} 1");
	has(t, "tollgate_worker_requests_total{model=\"gemma3\",worker=\"http://10.0.0.5:8000\",outcome=\"ok\"} 41");
	has(t, "tollgate_worker_requests_total{model=\"gemma3\",worker=\"http://10.0.0.5:8000\",outcome=\"error\"} 2");
	has(t, "tollgate_worker_ejections_total{model=\"gemma3\",worker=\"http://10.0.0.5:8000\"} 1");
	has(t, "tollgate_worker_restarts_total{model=\"gemma3\",worker=\"unix:/w.sock\"} 5");
	has(t, "tollgate_worker_cpu_seconds{model=\"gemma3\",worker=\"unix:/w.sock\"} 1.5");
	has(t, "tollgate_worker_resident_memory_bytes{model=\"gemma3\",worker=\"unix:/w.sock\"} 4096");
	assert_null(strstr(t, "tollgate_worker_restarts_total{model=\"gemma3\",worker=\"http")); /* not ours: nobody knows */
	has(t, "tollgate_queue_length{model=\"gemma3\"} 4");
	assert_null(strstr(t, "_bucket"));
	free(t);
	tg_metrics_shard_free(s);
}

static void adds_up(void **state)
{
	(void)state;
	struct tg_metrics_shard *s[2] = { tg_metrics_shard_new(), tg_metrics_shard_new() };
	struct tg_record stream = { .route = route("chat"), .method = TG_POST, .status = 200, .model_index = 0, .worker = "w", .stream = true, .total_us = 1050000,
				    .first_byte_us = 50000, .overhead_us = 38, .bytes_in = 10, .bytes_out = 100, .usage = { .seen = true, .prompt = 12, .completion = 101 } };
	tg_metrics_record(s[0], &stream);
	tg_metrics_record(s[1], &stream);
	struct tg_record embed = { .route = route("embeddings"), .method = TG_POST, .status = 200, .model_index = 1, .worker = "w", .total_us = 2500, .overhead_us = 40,
				   .usage = { .seen = true, .prompt = 5, .completion = 0 } };
	tg_metrics_record(s[0], &embed);
	struct tg_record unmatched = { .method = TG_GET, .status = 401, .model_index = -1, .total_us = 7, .overhead_us = 7 };
	tg_metrics_record(s[1], &unmatched);
	struct tg_record cut = stream;
	cut.partial = true;
	tg_metrics_record(s[0], &cut);
	struct tg_record failed = stream;
	failed.status = 502;
	tg_metrics_record(s[0], &failed);
	tg_metrics_refusal(s[0], "missing_key");
	tg_metrics_refusal(s[1], "missing_key");
	tg_metrics_refusal(s[1], "bare_lf");
	tg_metrics_refusal(s[1], "made up by a caller");
	tg_metrics_gauge(s[0], TG_GAUGE_CONNECTIONS, 3);
	tg_metrics_gauge(s[1], TG_GAUGE_CONNECTIONS, -1);
	tg_metrics_count(s[0], TG_COUNT_RELOADS_FAILED);
	char *t = scrape(s, 2);
	check_format(t);
	has(t, "tollgate_requests_total{method=\"POST\",route=\"/v1/chat/completions\",code=\"200\"} 3");
	has(t, "tollgate_requests_total{method=\"POST\",route=\"/v1/chat/completions\",code=\"502\"} 1");
	has(t, "tollgate_requests_total{method=\"\",route=\"\",code=\"401\"} 1");
	has(t, "tollgate_request_bytes_total 40");
	has(t, "tollgate_response_bytes_total 400");
	has(t, "tollgate_partial_responses_total 1");
	has(t, "tollgate_refusals_total{reason=\"missing_key\"} 2");
	has(t, "tollgate_refusals_total{reason=\"bare_lf\"} 1");
	has(t, "tollgate_refusals_total{reason=\"other\"} 1");
	has(t, "tollgate_connections 2");
	has(t, "tollgate_reloads_failed_total 1");
	has(t, "tollgate_overhead_microseconds_bucket{kind=\"forwarded\",le=\"35\"} 0");
	has(t, "tollgate_overhead_microseconds_bucket{kind=\"forwarded\",le=\"40\"} 5"); /* a bound belongs to its bucket */
	has(t, "tollgate_overhead_microseconds_sum{kind=\"forwarded\"} 192");
	has(t, "tollgate_overhead_microseconds_bucket{kind=\"local\",le=\"5\"} 0");
	has(t, "tollgate_overhead_microseconds_bucket{kind=\"local\",le=\"10\"} 1");
	has(t, "tollgate_request_duration_seconds_sum{method=\"POST\",route=\"/v1/embeddings\"} 0.0025");
	has(t, "tollgate_request_duration_seconds_bucket{method=\"POST\",route=\"/v1/embeddings\",le=\"0.0025\"} 1");
#define CHAT "gen_ai_operation_name=\"chat\",gen_ai_request_model=\"gemma3\""
	has(t, "gen_ai_server_request_duration_seconds_count{" CHAT "} 2"); /* not the cut one, not the failed one */
	has(t, "gen_ai_server_request_duration_seconds_sum{" CHAT "} 2.1");
	has(t, "gen_ai_server_time_to_first_token_seconds_count{" CHAT "} 3");
	has(t, "gen_ai_server_time_per_output_token_seconds_bucket{" CHAT ",le=\"0.01\"} 2"); /* 1 s for the 100 tokens after the first */
	has(t, "gen_ai_server_time_per_output_token_seconds_sum{" CHAT "} 0.02");
	has(t, "gen_ai_client_token_usage_sum{" CHAT ",gen_ai_token_type=\"input\"} 36");
	has(t, "gen_ai_client_token_usage_sum{" CHAT ",gen_ai_token_type=\"output\"} 303");
	has(t, "gen_ai_server_request_duration_seconds_count{gen_ai_operation_name=\"embeddings\",gen_ai_request_model=\"a\\\"b\\\\c\\nd\"} 1");
	free(t);
	tg_metrics_shard_free(s[0]);
	tg_metrics_shard_free(s[1]);
}

static unsigned count_lines(const char *t, const char *prefix)
{
	unsigned n = 0;
	for (const char *p = t; p; p = strchr(p, '\n'), p = p ? p + 1 : NULL)
		n += strncmp(p, prefix, strlen(prefix)) == 0;
	return n;
}

static void series_are_bounded(void **state)
{
	(void)state;
	struct tg_metrics_shard *s = tg_metrics_shard_new();
	for (unsigned status = 0; status <= 65535; status += status < 1200 ? 1 : 97) {
		struct tg_record r = { .route = route("chat"), .status = (uint16_t)status, .model_index = (int)status, .worker = "w", .total_us = status };
		tg_metrics_record(s, &r);
	}
	for (unsigned i = 0; i < 1000; i++) {
		char reason[32];
		snprintf(reason, sizeof reason, "reason %u", i);
		tg_metrics_refusal(s, reason);
	}
	for (int m = 0; m < 1000; m++) {
		struct tg_record r = { .route = route("chat"), .status = 200, .model_index = m, .worker = "w", .total_us = 5 };
		tg_metrics_record(s, &r);
	}
	char *t = scrape(&s, 1);
	check_format(t);
	assert_true(count_lines(t, "tollgate_requests_total{") < 60);
	has(t, "tollgate_refusals_total{reason=\"other\"} 1000");
	assert_int_equal(count_lines(t, "tollgate_refusals_total{"), 1);
	/* What was counted for models that the configuration no longer names is kept, as one series. */
	assert_int_equal(count_lines(t, "gen_ai_server_request_duration_seconds_count{"), 3);
	has(t, "gen_ai_server_request_duration_seconds_count{gen_ai_operation_name=\"chat\",gen_ai_request_model=\"(other)\"} 1198");
	free(t);
	tg_metrics_shard_free(s);
}

static void ceiling(void **state)
{
	(void)state;
	struct tg_metrics_shard *s = tg_metrics_shard_new();
	struct tg_buf b;
	tg_buf_init(&b, 1000);
	tg_metrics_write(&b, &s, 1, models, 2, workers, 2, 0, 0);
	assert_true(b.failed && b.len <= 1000);
	tg_buf_free(&b);
	tg_metrics_shard_free(s);
}

enum { EACH = 100000 };
struct job {
	struct tg_metrics_shard *s;
};

static void *count(void *arg)
{
	struct job *j = arg;
	struct tg_record r = { .route = route("chat"), .status = 200, .worker = "w", .total_us = 5, .bytes_in = 1, .usage = { .seen = true, .prompt = 1, .completion = 1 } };
	for (int i = 0; i < EACH; i++) {
		r.model_index = i % 2;
		tg_metrics_record(j->s, &r);
		tg_metrics_gauge(j->s, TG_GAUGE_STREAMS, i % 2 ? -1 : 1);
	}
	return NULL;
}

static void scrapes_while_loops_count(void **state)
{
	(void)state;
	struct tg_metrics_shard *s[2] = { tg_metrics_shard_new(), tg_metrics_shard_new() };
	struct job j[2] = { { s[0] }, { s[1] } };
	pthread_t t[2];
	for (int i = 0; i < 2; i++)
		pthread_create(&t[i], NULL, count, &j[i]);
	for (int i = 0; i < 50; i++) {
		char *x = scrape(s, 2);
		assert_non_null(strstr(x, "tollgate_build_info"));
		free(x);
	}
	for (int i = 0; i < 2; i++)
		pthread_join(t[i], NULL);
	char *x = scrape(s, 2), want[64];
	check_format(x);
	snprintf(want, sizeof want, "tollgate_request_bytes_total %d", 2 * EACH);
	has(x, want);
	has(x, "tollgate_streams 0");
	free(x);
	tg_metrics_shard_free(s[0]);
	tg_metrics_shard_free(s[1]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(empty), cmocka_unit_test(adds_up), cmocka_unit_test(series_are_bounded), cmocka_unit_test(ceiling),
		cmocka_unit_test(scrapes_while_loops_count),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
