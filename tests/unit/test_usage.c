/*
 * Token usage read in passing. Every stream is fed whole, cut in two at every byte, in small pieces of each size up to 40 and byte by byte, with its line ends as LF, CRLF
 * and CR; what comes out and what was counted must be the same each time. Pieces lie on heap copies of their exact size.
 */
#include "http/usage.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define CHUNK(extra) "data: {\"id\":\"c\",\"choices\":[{\"index\":0,\"delta\":{\"content\":\" token\"}}]" extra "}\n\n"
#define USAGE "data: {\"id\":\"c\",\"choices\":[],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":7,\"total_tokens\":49}}\n\n"
#define DONE "data: [DONE]\n\n"

static void test_parse(void **state)
{
	(void)state;
	static const struct {
		const char *in;
		bool ok;
		uint64_t prompt, completion;
	} rows[] = {
		{ "{\"prompt_tokens\":42,\"completion_tokens\":58,\"total_tokens\":100}", true, 42, 58 },
		{ "{\"prompt_tokens\":5,\"total_tokens\":5}", true, 5, 0 }, { "{\"completion_tokens\":5}", true, 0, 5 },
		{ "{\"completion_tokens\":1,\"prompt_tokens_details\":{\"prompt_tokens\":9},\"prompt_tokens\":2}", true, 2, 1 },
		{ "{\"prompt_tokens\":0,\"completion_tokens\":0}", true, 0, 0 }, { "{\"prompt_tokens\":9007199254740992}", true, (uint64_t)1 << 53, 0 },
		{ "{\"prompt_tokens\":9007199254740993}", false, 0, 0 }, { "{\"prompt_tokens\":9007199254740993,\"completion_tokens\":3}", true, 0, 3 },
		{ "{\"prompt_tokens\":-1}", false, 0, 0 }, { "{\"prompt_tokens\":1.5}", false, 0, 0 }, { "{\"prompt_tokens\":\"7\"}", false, 0, 0 }, { "{\"prompt_tokens\":null}", false, 0, 0 },
		{ "{}", false, 0, 0 }, { "null", false, 0, 0 }, { "{\"prompt_tokens\":1,\"prompt_tokens\":2}", false, 0, 0 }, { "{\"prompt_tokens\":1", false, 0, 0 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_usage u = { 0 };
		if (tg_usage_parse(tg_slice_cstr(rows[i].in), &u) != rows[i].ok || u.seen != rows[i].ok || u.prompt != rows[i].prompt || u.completion != rows[i].completion)
			fail_msg("%s: %d %lu %lu", rows[i].in, u.seen, (unsigned long)u.prompt, (unsigned long)u.completion);
	}
}

static struct tg_usage scan_in(struct tg_slice doc, size_t first, size_t step)
{
	struct tg_usage_scan u;
	tg_usage_scan_init(&u);
	for (size_t i = 0, n; i < doc.n; i += n) {
		n = i == 0 && first ? first : step;
		if (n > doc.n - i)
			n = doc.n - i;
		char *copy = malloc(n);
		memcpy(copy, doc.p + i, n);
		tg_usage_scan_feed(&u, copy, n);
		free(copy);
	}
	assert_true(u.value.len <= 4096);
	struct tg_usage r = u.usage;
	tg_usage_scan_free(&u);
	return r;
}

static void test_body(void **state)
{
	(void)state;
	char *wide = malloc(6000);
	int head = snprintf(wide, 6000, "{\"usage\":{\"prompt_tokens\":3,\"x\":\"");
	memset(wide + head, 'x', 4500);
	snprintf(wide + head + 4500, 6000 - (size_t)head - 4500, "\"}}");
	const struct {
		const char *in;
		bool seen;
		uint64_t prompt, completion;
	} rows[] = {
		{ "{\"choices\":[{\"message\":{\"content\":\"the \\\"usage\\\":{\\\"prompt_tokens\\\":1}\"}}],\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":58}}", true, 42, 58 },
		{ "{\"usage\" : { \"prompt_tokens\" : 1 , \"completion_tokens\" : 2 } , \"choices\":[]}", true, 1, 2 },
		{ "{\"data\":[{\"usage\":{\"prompt_tokens\":9}}],\"us\\u0061ge\":{\"prompt_tokens\":4}}", true, 4, 0 },
		{ "{\"choices\":[]}", false, 0, 0 }, { "{\"usage\":null}", false, 0, 0 }, { "{\"usage\":{}}", false, 0, 0 }, { "{\"usage\":7}", false, 0, 0 }, { "[{\"usage\":{\"prompt_tokens\":1}}]", false, 0, 0 },
		{ "<html>usage</html>", false, 0, 0 }, { "", false, 0, 0 }, { "{\"a\":nope,\"usage\":{\"prompt_tokens\":1}}", false, 0, 0 }, { "{\"usage\":{\"prompt_tokens\":1", false, 0, 0 },
		{ "{\"usage\":{\"prompt_tokens\":6},\"cut", true, 6, 0 }, { wide, false, 0, 0 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_slice doc = tg_slice_cstr(rows[i].in);
		for (size_t cut = 0; cut <= doc.n; cut++) {
			struct tg_usage u = scan_in(doc, cut, cut ? doc.n : 1);
			if (u.seen != rows[i].seen || u.prompt != rows[i].prompt || u.completion != rows[i].completion)
				fail_msg("%.80s cut at %zu: %d %lu %lu", rows[i].in, cut, u.seen, (unsigned long)u.prompt, (unsigned long)u.completion);
		}
	}
	free(wide);
}

struct result {
	struct tg_buf out;
	struct tg_usage usage;
	bool done, error;
	uint32_t events;
};

/* Without cut, also that nothing is ever held back. */
static struct result stream_in(struct tg_slice in, bool cut, size_t first, size_t step)
{
	struct result r = { 0 };
	struct tg_sse s;
	tg_buf_init(&r.out, (size_t)1 << 20);
	tg_sse_init(&s, cut);
	for (size_t i = 0, n; i < in.n; i += n) {
		n = i == 0 && first ? first : step;
		if (n > in.n - i)
			n = in.n - i;
		char *copy = malloc(n);
		struct tg_slice out[2];
		memcpy(copy, in.p + i, n);
		tg_sse_feed(&s, copy, n, out);
		tg_buf_slice(&r.out, out[0]);
		tg_buf_slice(&r.out, out[1]);
		free(copy);
		if (!cut)
			assert_int_equal(r.out.len, i + n);
		assert_true(s.tail.cap <= 2 * TG_SSE_HOLD + 2);
		assert_true(s.tail.len || !s.tail.p);
	}
	tg_buf_slice(&r.out, tg_sse_end(&s));
	r.usage = s.usage;
	r.done = s.done;
	r.error = s.error;
	r.events = s.events;
	tg_sse_free(&s);
	assert_false(r.out.failed);
	return r;
}

static void check(const struct result *r, const struct result *want, const char *what, size_t first, size_t step)
{
	if (!tg_slice_eq(tg_buf_view(&r->out), tg_buf_view(&want->out)))
		fail_msg("%.300s [%zu, %zu]: out is " TG_SLICE_FMT ", not " TG_SLICE_FMT, what, first, step, TG_SLICE_ARG(tg_buf_view(&r->out)), TG_SLICE_ARG(tg_buf_view(&want->out)));
	if (r->done != want->done || r->error != want->error || r->events != want->events || r->usage.seen != want->usage.seen || r->usage.prompt != want->usage.prompt ||
	    r->usage.completion != want->usage.completion)
		fail_msg("%.300s [%zu, %zu]: done %d error %d events %u usage %d %lu %lu", what, first, step, r->done, r->error, r->events, r->usage.seen, (unsigned long)r->usage.prompt,
			 (unsigned long)r->usage.completion);
}

/* The text with another line end. */
static struct tg_buf with_ends(const char *text, const char *nl)
{
	struct tg_buf b;
	tg_buf_init(&b, (size_t)1 << 20);
	for (; *text; text++)
		if (*text == '\n')
			tg_buf_cstr(&b, nl);
		else
			tg_buf_char(&b, *text);
	return b;
}

static void every_cut(struct tg_slice in, bool cut, const struct result *want)
{
	for (size_t first = 0; first <= in.n; first++) {
		struct result r = stream_in(in, cut, first, in.n ? in.n : 1);
		check(&r, want, in.p, first, in.n);
		tg_buf_free(&r.out);
	}
	for (size_t step = 1; step <= 40; step++) {
		struct result r = stream_in(in, cut, 0, step);
		check(&r, want, in.p, 0, step);
		tg_buf_free(&r.out);
	}
}

static void test_stream(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out; /* out with cut; without it everything comes out */
		bool done, error;
		uint32_t events;
		struct tg_usage usage;
	} rows[] = {
		{ "", "", false, false, 0, { 0 } },
		{ CHUNK("") CHUNK(",\"usage\":null") USAGE DONE, CHUNK("") CHUNK(",\"usage\":null") DONE, true, false, 3, { .seen = true, .prompt = 42, .completion = 7 } },
		{ USAGE, "", false, false, 1, { .seen = true, .prompt = 42, .completion = 7 } },
		{ USAGE DONE, DONE, true, false, 1, { .seen = true, .prompt = 42, .completion = 7 } },
		/* usage beside choices is metered and stays; the last one counts */
		{ CHUNK(",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}") CHUNK(",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}") DONE,
		  CHUNK(",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":1}") CHUNK(",\"usage\":{\"prompt_tokens\":3,\"completion_tokens\":2}") DONE, true, false, 2, { .seen = true, .prompt = 3, .completion = 2 } },
		/* choices [] without a usage object (a content filter's first event) stays */
		{ "data: {\"choices\":[],\"usage\":null}\n\n" DONE, "data: {\"choices\":[],\"usage\":null}\n\n" DONE, true, false, 1, { 0 } },
		{ "data: {\"usage\":{\"prompt_tokens\":1}}\n\n", "data: {\"usage\":{\"prompt_tokens\":1}}\n\n", false, false, 1, { .seen = true, .prompt = 1, .completion = 0 } },
		{ "data: {\"choices\":[ ],\"usage\":{}}\n\n" CHUNK(""), CHUNK(""), false, false, 2, { 0 } },
		{ "data: {\"choic\\u0065s\":[],\"usage\":{\"prompt_tokens\":1}}\n\n", "", false, false, 1, { .seen = true, .prompt = 1, .completion = 0 } },
		/* comments, other fields, an event without data, blank lines */
		{ ": ping\n\n" CHUNK("") "\n\n: a\nevent: x\nid: 1\nretry: 5\n\n" USAGE ": after\n\n", ": ping\n\n" CHUNK("") "\n\n: a\nevent: x\nid: 1\nretry: 5\n\n" ": after\n\n", false, false, 2, { .seen = true, .prompt = 42, .completion = 7 } },
		/* a usage event with other lines in it goes whole */
		{ ": c\nevent: chunk\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":2}}\nid: 9\n\n" DONE, DONE, true, false, 1, { .seen = true, .prompt = 2, .completion = 0 } },
		/* data over several lines is one document, joined by line ends */
		{ "data: {\"choices\":[],\ndata: \"usage\":{\"prompt_tokens\":\ndata:  8}}\n\n" CHUNK(""), CHUNK(""), false, false, 2, { .seen = true, .prompt = 8, .completion = 0 } },
		{ "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1\ndata: 2}}\n\n", "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":1\ndata: 2}}\n\n", false, false, 1, { 0 } },
		/* no space, two spaces, a field that only begins like data, data without colon */
		{ "data:{\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", "", false, false, 1, { .seen = true, .prompt = 5, .completion = 0 } },
		{ "data:  [DONE]\n\n", "data:  [DONE]\n\n", true, false, 0, { 0 } },
		{ "database: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", "database: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", false, false, 0, { 0 } },
		{ " data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", " data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", false, false, 0, { 0 } },
		{ "data\n\n" USAGE, "data\n\n", false, false, 2, { .seen = true, .prompt = 42, .completion = 7 } },
		/* errors */
		{ CHUNK("") "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", CHUNK("") "data: {\"error\":{\"message\":\"out of memory\"}}\n\n", false, true, 2, { 0 } },
		{ "data: {\"error\":null,\"choices\":[{\"error\":1}]}\n\n", "data: {\"error\":null,\"choices\":[{\"error\":1}]}\n\n", false, false, 1, { 0 } },
		{ "data: {\"error\":\"text\"}\n\n", "data: {\"error\":\"text\"}\n\n", false, true, 1, { 0 } },
		/* no JSON, or broken */
		{ "data: hello\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}\n\n", "data: hello\n\ndata: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}\n\n", false, false, 2, { 0 } },
		{ "data: {\"usage\":{},\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", "data: {\"usage\":{},\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n\n", false, false, 1, { 0 } },
		/* the end without an empty line */
		{ CHUNK("") "data: [DONE]", CHUNK("") "data: [DONE]", true, false, 1, { 0 } },
		{ "data: [DONE]\n", "data: [DONE]\n", true, false, 0, { 0 } },
		{ CHUNK("") "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}\n", CHUNK(""), false, false, 2, { .seen = true, .prompt = 5, .completion = 0 } },
		{ CHUNK("") "data: {\"choices\":[],\"usage\":{\"prompt_to", CHUNK("") "data: {\"choices\":[],\"usage\":{\"prompt_to", false, false, 2, { 0 } },
		/* a byte order mark counts only at the very front */
		{ "\xef\xbb\xbf" USAGE CHUNK(""), CHUNK(""), false, false, 2, { .seen = true, .prompt = 42, .completion = 7 } },
		{ ":\n\n\xef\xbb\xbf" USAGE, ":\n\n\xef\xbb\xbf" USAGE, false, false, 0, { 0 } },
	};
	static const char *const nls[] = { "\n", "\r\n", "\r" };
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (int k = 0; k < 3; k++) {
			struct tg_buf in = with_ends(rows[i].in, nls[k]);
			struct result want = { .usage = rows[i].usage, .done = rows[i].done, .error = rows[i].error, .events = rows[i].events };
			want.out = with_ends(rows[i].out, nls[k]);
			tg_buf_char(&in, '\0'), in.len--;
			every_cut(tg_buf_view(&in), true, &want);
			tg_buf_free(&want.out);
			want.out = with_ends(rows[i].in, nls[k]);
			every_cut(tg_buf_view(&in), false, &want);
			tg_buf_free(&want.out);
			tg_buf_free(&in);
		}
}

/* Line ends of all three kinds in one stream, and a lone CR where a LF would have made CRLF. */
static void test_mixed_ends(void **state)
{
	(void)state;
	static const char *const u = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5}}";
	static const char *const after[] = { "\r\n\n", "\n\r\n", "\r\r\n", "\n\r", "\r\r", "\r\n\r", "\n\n" };
	for (size_t i = 0; i < sizeof after / sizeof *after; i++) {
		struct tg_buf in;
		struct result want = { .usage = { .seen = true, .prompt = 5, .completion = 0 }, .done = true, .events = 2 };
		tg_buf_init(&in, 4096);
		tg_buf_init(&want.out, 4096);
		tg_buf_cstr(&in, "data: x\r\r");
		tg_buf_cstr(&in, u);
		tg_buf_cstr(&in, after[i]);
		tg_buf_cstr(&in, DONE);
		tg_buf_char(&in, '\0'), in.len--;
		tg_buf_cstr(&want.out, "data: x\r\r" DONE);
		every_cut(tg_buf_view(&in), true, &want);
		tg_buf_free(&in);
		tg_buf_free(&want.out);
	}
}

/* Around the bound: the longest event that is read, and the shortest that is passed on unread. */
static void test_long(void **state)
{
	(void)state;
	static const char head[] = "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5},\"pad\":\"", foot[] = "\"}";
	static const char *const nls[] = { "\n", "\r\n", "\r" };
	static const size_t steps[] = { 1, 7, 4096, TG_SSE_HOLD - 1, TG_SSE_HOLD, TG_SSE_HOLD + 1, 3 * TG_SSE_HOLD };
	for (int k = 0; k < 3; k++)
		for (size_t len = TG_SSE_HOLD - 2; len <= TG_SSE_HOLD + 2; len++) {
			struct tg_buf in;
			tg_buf_init(&in, 8 * TG_SSE_HOLD);
			tg_buf_cstr(&in, CHUNK(""));
			size_t from = in.len, ends = 2 * strlen(nls[k]) - (k == 1); /* a LF after the last CR does not count */
			tg_buf_cstr(&in, head);
			while (in.len - from < len - ends - strlen(foot))
				tg_buf_char(&in, 'x');
			tg_buf_cstr(&in, foot);
			tg_buf_cstr(&in, nls[k]);
			tg_buf_cstr(&in, nls[k]);
			size_t to = in.len;
			tg_buf_cstr(&in, CHUNK("") DONE);
			struct result want = { .done = true, .events = 3, .usage = len <= TG_SSE_HOLD ? (struct tg_usage){ .seen = true, .prompt = 5, .completion = 0 } : (struct tg_usage){ 0 } };
			tg_buf_init(&want.out, in.len);
			tg_buf_put(&want.out, in.p, from);
			if (len > TG_SSE_HOLD)
				tg_buf_put(&want.out, in.p + from, to - from);
			tg_buf_put(&want.out, in.p + to, in.len - to);
			for (size_t i = 0; i < sizeof steps / sizeof *steps; i++)
				for (size_t first = 0; first < 200; first += 13) {
					struct result r = stream_in(tg_buf_view(&in), true, first, steps[i]);
					check(&r, &want, "long", first, steps[i]);
					tg_buf_free(&r.out);
				}
			tg_buf_free(&in);
			tg_buf_free(&want.out);
		}
}

/* A read that ends a held event, passes others, and begins one that will be held: order and bytes stay. */
static void test_held_then_held(void **state)
{
	(void)state;
	struct tg_sse s;
	struct tg_slice out[2];
	char one[] = "data: {\"choices\":[{", two[] = "}]}\n\ndata: {}\n\ndata: {\"choi", three[] = "ces\":[],\"usage\":{}}\n\ndata: z\n\n";
	tg_sse_init(&s, true);
	tg_sse_feed(&s, one, strlen(one), out);
	assert_int_equal(out[0].n + out[1].n, 0);
	tg_sse_feed(&s, two, strlen(two), out);
	assert_true(tg_slice_eq(out[0], TG_S("data: {\"choices\":[{}]}\n\n")));
	assert_true(tg_slice_eq(out[1], TG_S("data: {}\n\n")));
	tg_sse_feed(&s, three, strlen(three), out);
	assert_int_equal(out[0].n, 0);
	assert_true(tg_slice_eq(out[1], TG_S("data: z\n\n")));
	assert_null(s.tail.p);
	assert_int_equal(tg_sse_end(&s).n, 0);
	tg_sse_free(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_body), cmocka_unit_test(test_stream), cmocka_unit_test(test_mixed_ends), cmocka_unit_test(test_long),
		cmocka_unit_test(test_held_then_held),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
