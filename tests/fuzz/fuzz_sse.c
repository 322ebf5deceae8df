/*
 * Streams of events and JSON bodies, read for usage in passing. The first byte of the input picks whether to cut and how to cut the rest into reads. However it is cut: the
 * same bytes come out and the same is counted. Without `cut` they are the input; with it, the input less whole events, each of which is a usage chunk when read by a plain
 * splitter written here.
 */
#include "http/usage.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

struct result {
	char *out;
	size_t n;
	struct tg_usage usage;
	bool done, error;
	uint32_t events;
};

static struct result feed(struct tg_slice in, bool cut, size_t step, bool grow)
{
	struct result r = { .out = malloc(in.n + 1) };
	struct tg_sse s;
	struct tg_slice out[2];
	tg_sse_init(&s, cut);
	for (size_t i = 0, k; i < in.n; i += k) {
		k = step < in.n - i ? step : in.n - i;
		char *copy = malloc(k);
		memcpy(copy, in.p + i, k);
		tg_sse_feed(&s, copy, k, out);
		CHECK(r.n + out[0].n + out[1].n <= i + k);
		CHECK(cut || r.n + out[1].n == i + k);
		for (int j = 0; j < 2; r.n += out[j].n, j++)
			if (out[j].n)
				memcpy(r.out + r.n, out[j].p, out[j].n);
		free(copy);
		CHECK(s.tail.len - s.sent <= TG_SSE_HOLD && s.tail.cap <= 2 * TG_SSE_HOLD + 2);
		if (grow)
			step = step * 2 + 1;
	}
	struct tg_slice last = tg_sse_end(&s);
	CHECK(r.n + last.n <= in.n);
	if (last.n)
		memcpy(r.out + r.n, last.p, last.n);
	r.n += last.n;
	r.usage = s.usage;
	r.done = s.done;
	r.error = s.error;
	r.events = s.events;
	tg_sse_free(&s);
	return r;
}

static bool same(const struct result *a, const struct result *b)
{
	return a->n == b->n && memcmp(a->out, b->out, a->n) == 0 && a->usage.seen == b->usage.seen && a->usage.prompt == b->usage.prompt &&
	       a->usage.completion == b->usage.completion && a->done == b->done && a->error == b->error && a->events == b->events;
}

/* End of the event at p: after the first empty line. */
static size_t event_len(const char *p, size_t n)
{
	bool empty = true;
	for (size_t i = 0; i < n;) {
		if (p[i] != '\n' && p[i] != '\r') {
			empty = false;
			i++;
			continue;
		}
		i += p[i] == '\r' && i + 1 < n && p[i + 1] == '\n' ? 2 : 1;
		if (empty)
			return i;
		empty = true;
	}
	return n;
}

static void check_cuts(struct tg_slice in, const struct result *r)
{
	size_t o = 0;
	for (size_t i = 0, k; i < in.n; i += k) {
		k = event_len(in.p + i, in.n - i);
		/* With nothing but a comment in front (a byte order mark counts only where nothing is), the event shows whether it is a usage chunk. */
		size_t front = i ? 3 : 0;
		char *ev = malloc(k + front);
		memcpy(ev, ":\n\n", front);
		memcpy(ev + front, in.p + i, k);
		struct result alone = feed((struct tg_slice){ ev, k + front }, true, k + front, false);
		if (alone.n == front) {
			CHECK(memmem(ev, k + front, "data", 4) && memchr(ev, '[', k + front) && memchr(ev, '{', k + front));
		} else {
			CHECK(alone.n == front + k);
			CHECK(r->n - o >= k && memcmp(r->out + o, in.p + i, k) == 0);
			o += k;
		}
		free(ev);
		free(alone.out);
	}
	CHECK(o == r->n);
}

static void body(struct tg_slice in, size_t step)
{
	struct tg_usage seen[2];
	for (int how = 0; how < 2; how++) {
		struct tg_usage_scan u;
		tg_usage_scan_init(&u);
		for (size_t i = 0, k; i < in.n; i += k) {
			k = how && step < in.n - i ? step : in.n - i;
			char *copy = malloc(k);
			memcpy(copy, in.p + i, k);
			tg_usage_scan_feed(&u, copy, k);
			free(copy);
		}
		seen[how] = u.usage;
		tg_usage_scan_free(&u);
	}
	CHECK(seen[0].seen == seen[1].seen && seen[0].prompt == seen[1].prompt && seen[0].completion == seen[1].completion);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (!n)
		return 0;
	struct tg_slice in = { (const char *)data + 1, n - 1 };
	size_t step = 1 + data[0] / 2 % 64;
	bool grow = data[0] & 1;
	for (int cut = 0; cut < 2; cut++) {
		struct result whole = feed(in, cut, in.n ? in.n : 1, false), parts = feed(in, cut, step, grow), bytes = feed(in, cut, 1, false);
		CHECK(same(&whole, &parts));
		CHECK(same(&whole, &bytes));
		if (cut)
			check_cuts(in, &whole);
		else
			CHECK(whole.n == in.n && memcmp(whole.out, in.p, in.n) == 0);
		free(whole.out);
		free(parts.out);
		free(bytes.out);
	}
	body(in, step);
	return 0;
}
