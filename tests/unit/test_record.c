/* The access-log line: one JSON object a request, in whatever way it ended and whatever the caller put into its path. */
#include "base/clock.h"
#include "gate/record.h"
#include <fcntl.h>
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static const char *const members[] = {
	"ts", "level", "event", "request_id", "client", "tls", "user", "key_name", "key_prefix", "key_label", "method", "endpoint", "model", "stream", "status", "ms",
	"first_byte_ms", "overhead_us", "bytes_in", "bytes_out", "prompt_tokens", "completion_tokens", "partial", "worker", "retries", "reason",
};

static json_t *line(const struct tg_record *r)
{
	struct tg_log_batch b;
	json_error_t err;
	tg_log_batch_init(&b);
	tg_record_line(&b, r);
	assert_int_equal(b.lines, 1);
	assert_true(b.buf.len > 2 && b.buf.len <= TG_LOG_LINE_MAX);
	assert_ptr_equal(memchr(b.buf.p, '\n', b.buf.len), b.buf.p + b.buf.len - 1);
	for (size_t i = 0; i + 1 < b.buf.len; i++)
		assert_true((unsigned char)b.buf.p[i] >= 0x20 && b.buf.p[i] != 0x7f);
	json_t *o = json_loadb(b.buf.p, b.buf.len, JSON_REJECT_DUPLICATES, &err);
	if (!o)
		fail_msg("%s: %.*s", err.text, (int)b.buf.len, b.buf.p);
	const char *k;
	json_t *v;
	size_t n = 0;
	json_object_foreach(o, k, v) {
		assert_true(n < sizeof members / sizeof *members);
		assert_string_equal(k, members[n++]); /* jansson keeps the order */
	}
	assert_int_equal(n, sizeof members / sizeof *members);
	b.buf.len = 0;
	tg_log_batch_free(&b);
	return o;
}

static const char *text(json_t *o, const char *k)
{
	return json_string_value(json_object_get(o, k));
}
static bool null(json_t *o, const char *k)
{
	return json_is_null(json_object_get(o, k));
}
static long long num(json_t *o, const char *k)
{
	assert_true(json_is_integer(json_object_get(o, k)));
	return json_integer_value(json_object_get(o, k));
}

static struct tg_record full(void)
{
	static struct tg_addr client = { .ip = { [10] = 0xff, [11] = 0xff, [12] = 10, [13] = 0, [14] = 0, [15] = 7 }, .port = 4711 };
	static const struct tg_principal p = { .id = "key_0123456789abcdef", .name = "api_keys.json", .prefix = "sk_ml_tra", .label = "sk_ml_train" };
	static const struct tg_route *chat;
	for (unsigned i = 0; i < tg_nroutes; i++)
		if (strcmp(tg_routes[i].handler, "chat") == 0)
			chat = &tg_routes[i];
	return (struct tg_record){ .wall_us = 1795470613123456, .total_us = 1234567, .first_byte_us = 98076, .overhead_us = 38, .client = &client,
				   .principal = &p, .route = chat, .method = TG_POST, .model = "gemma3", .worker = "http://10.0.0.5:8000", .status = 200,
				   .bytes_in = 469, .bytes_out = 18446744073709551ull, .usage = { .seen = true, .prompt = 12, .completion = 99 }, .stream = true, .retries = 1,
				   .request_id = TG_S("01HXYZABCDEFGHJKMNPQRSTVWX") };
}

static void whole(void **state)
{
	(void)state;
	struct tg_record r = full();
	json_t *o = line(&r);
	assert_string_equal(text(o, "ts"), "2026-11-23T21:50:13.123Z");
	assert_string_equal(text(o, "level"), "info");
	assert_string_equal(text(o, "event"), "request");
	assert_string_equal(text(o, "request_id"), "01HXYZABCDEFGHJKMNPQRSTVWX");
	assert_string_equal(text(o, "client"), "10.0.0.7");
	assert_string_equal(text(o, "user"), "key_0123456789abcdef");
	assert_string_equal(text(o, "key_name"), "api_keys.json");
	assert_string_equal(text(o, "key_prefix"), "sk_ml_tra");
	assert_string_equal(text(o, "key_label"), "sk_ml_train");
	assert_string_equal(text(o, "method"), "POST");
	assert_string_equal(text(o, "endpoint"), "/v1/chat/completions");
	assert_string_equal(text(o, "model"), "gemma3");
	assert_string_equal(text(o, "worker"), "http://10.0.0.5:8000");
	assert_true(json_is_true(json_object_get(o, "stream")) && json_is_false(json_object_get(o, "partial")));
	assert_int_equal(num(o, "status"), 200);
	assert_true(json_real_value(json_object_get(o, "ms")) > 1234.5669 && json_real_value(json_object_get(o, "ms")) < 1234.5671);
	assert_true(json_real_value(json_object_get(o, "first_byte_ms")) > 98.0759 && json_real_value(json_object_get(o, "first_byte_ms")) < 98.0761);
	assert_int_equal(num(o, "overhead_us"), 38);
	assert_int_equal(num(o, "bytes_in"), 469);
	assert_true(num(o, "bytes_out") == 18446744073709551ll);
	assert_int_equal(num(o, "prompt_tokens"), 12);
	assert_int_equal(num(o, "completion_tokens"), 99);
	assert_int_equal(num(o, "retries"), 1);
	assert_true(null(o, "reason"));
	json_decref(o);
}

static void nobody(void **state)
{
	(void)state;
	struct tg_record r = { .method = TG_METHOD_OTHER, .model_index = -1, .event = "auth.invalid_key", .key_prefix = "wrong-\"k\\", .reason = "invalid_key",
			       .status = 401 };
	json_t *o = line(&r);
	static const char *const nulls[] = { "request_id", "client", "user", "key_name", "key_label", "endpoint", "model", "first_byte_ms", "prompt_tokens",
					     "completion_tokens", "worker" };
	for (size_t i = 0; i < sizeof nulls / sizeof *nulls; i++)
		if (!null(o, nulls[i]))
			fail_msg("%s", nulls[i]);
	assert_string_equal(text(o, "event"), "auth.invalid_key");
	assert_string_equal(text(o, "key_prefix"), "wrong-\"k\\");
	assert_string_equal(text(o, "reason"), "invalid_key");
	json_decref(o);
	r.status = 0;
	o = line(&r);
	assert_true(null(o, "status"));
	json_decref(o);
}

static void endpoints(void **state)
{
	(void)state;
	static const struct {
		const char *path, *out;
	} t[] = {
		{ "/wp-login.php", "/wp-login.php" },
		{ "/models/", "/models/" },
		{ "//x", "//x" },
		{ "/v1/keys/demo-key-12345", "/v1/keys/***" },         /* short keys too */
		{ "/v1/keys/demo%2Dkey%2D12345/x", "/v1/keys/***/x" }, /* written with escapes */
		{ "/sk%252Dabcdef123", "/***" },                       /* twice */
		{ "/u/joe%40example.com", "/u/***" },
		{ "/u/joe@example.com/x", "/u/***/x" },
		{ "/t/eyJhbGciOi.eyJzdWIi.x", "/t/***" },
		{ "/a%0ab\x1b[1m", "/a\nb\x1b[1m" },
		{ "/api/v2/x9", "/api/v2/x9" },
		{ "/%zz%", "/%zz%" },
		{ "/login?password=hunter", "/login?password=***" }, /* the path has no query, but if one came */
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct tg_record r = { .path = { t[i].path, strlen(t[i].path) }, .status = 404 };
		json_t *o = line(&r);
		if (strcmp(text(o, "endpoint"), t[i].out) != 0)
			fail_msg("%s: %s", t[i].path, text(o, "endpoint"));
		json_decref(o);
		/* The kept form, cut anywhere, shows nothing more, and is left alone the second time. */
		char kept[64], twice[64];
		for (size_t cap = 0; cap <= sizeof kept; cap++) {
			size_t n = tg_record_endpoint((struct tg_slice){ t[i].path, strlen(t[i].path) }, kept, cap);
			assert_null(memmem(kept, n, "demo", 4));
			assert_null(memmem(kept, n, "joe", 3));
			assert_null(memmem(kept, n, "hunter", 6));
		}
		size_t n = tg_record_endpoint((struct tg_slice){ t[i].path, strlen(t[i].path) }, kept, sizeof kept);
		assert_int_equal(tg_record_endpoint((struct tg_slice){ kept, n }, twice, sizeof twice), n);
		assert_memory_equal(kept, twice, n);
	}
	/* A long path: the segment that would be cut is hidden. */
	char *p = malloc(70000);
	for (size_t n = 1000; n < 70000; n += n < 1100 ? 1 : 9973) {
		memset(p, 'a', n);
		memcpy(p, "/x/", 3);
		struct tg_record r = { .path = { p, n } };
		json_t *o = line(&r);
		if (n > 1024)
			assert_string_equal(text(o, "endpoint"), "/x/***");
		json_decref(o);
	}
	free(p);
}

static void worst_line_fits(void **state)
{
	(void)state;
	struct tg_principal p;
	memset(&p, 1, sizeof p);
	p.id[sizeof p.id - 1] = p.name[sizeof p.name - 1] = p.prefix[sizeof p.prefix - 1] = p.label[sizeof p.label - 1] = 0;
	char *s = malloc(5001);
	memset(s, 1, 5000);
	s[5000] = 0;
	struct tg_record r = full();
	r.principal = &p;
	r.route = NULL;
	r.path = (struct tg_slice){ s, 1000 };
	r.model = r.worker = r.event = r.reason = s;
	r.request_id = (struct tg_slice){ s, 5000 };
	r.total_us = r.first_byte_us = r.overhead_us = r.bytes_in = INT64_MAX;
	json_t *o = line(&r);
	assert_int_equal(strlen(text(o, "model")), 256);
	assert_int_equal(strlen(text(o, "endpoint")), 1000);
	json_decref(o);
	free(s);
}

/* Batches go out by themselves when full, in whole lines, and no line is lost or written twice. */
static void batches(void **state)
{
	(void)state;
	char path[] = "/tmp/tg-record-XXXXXX";
	struct tg_err err;
	close(mkstemp(path));
	assert_true(tg_log_open(&(struct tg_log_conf){ .path = path, .level = TG_LOG_F_INFO }, &err));
	struct tg_log_batch b;
	tg_log_batch_init(&b);
	struct tg_record r = full();
	for (uint64_t i = 0; i < 1000; i++) {
		r.bytes_in = i;
		tg_record_line(&b, &r);
		assert_true(b.buf.cap <= TG_LOG_BATCH + TG_LOG_LINE_MAX);
	}
	struct stat st;
	stat(path, &st);
	assert_true(st.st_size > 0);
	tg_log_batch_free(&b);
	FILE *f = fopen(path, "r");
	char text_line[4096];
	for (int i = 0; i < 1000; i++) {
		char want[40];
		assert_non_null(fgets(text_line, sizeof text_line, f));
		snprintf(want, sizeof want, "\"bytes_in\":%d,", i);
		assert_non_null(strstr(text_line, want));
	}
	assert_null(fgets(text_line, sizeof text_line, f));
	fclose(f);
	/* Above info there is no access log. */
	assert_true(tg_log_open(&(struct tg_log_conf){ .path = path, .level = TG_LOG_F_WARN }, &err));
	tg_record_line(&b, &r);
	assert_int_equal(b.buf.len, 0);
	assert_true(tg_log_open(&(struct tg_log_conf){ .path = path, .level = TG_LOG_F_INFO }, &err));
	tg_log_batch_free(&b);
	tg_log_close();
	unlink(path);
}

static void speed(void **state)
{
	(void)state;
	enum { N = 200000 };
	struct tg_err err;
	assert_true(tg_log_open(&(struct tg_log_conf){ .path = "/dev/null", .level = TG_LOG_F_INFO }, &err));
	struct tg_log_batch b;
	tg_log_batch_init(&b);
	struct tg_record r = full();
	uint64_t best = UINT64_MAX;
	for (int round = 0; round < 5; round++) {
		uint64_t t = tg_mono_us();
		for (int i = 0; i < N; i++) {
			r.wall_us += 37;
			r.bytes_in = (uint64_t)i;
			tg_record_line(&b, &r);
		}
		t = tg_mono_us() - t;
		best = t < best ? t : best;
	}
	print_message("a line: %llu ns\n", (unsigned long long)(best * 1000 / N));
	tg_log_batch_free(&b);
	tg_log_close();
	assert_true(best * 1000 / N < 20000); /* a bound for sanitizer builds on a busy machine; the figure is in the benchmarks */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(whole), cmocka_unit_test(nobody), cmocka_unit_test(endpoints), cmocka_unit_test(worst_line_fits),
		cmocka_unit_test(batches), cmocka_unit_test(speed),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
