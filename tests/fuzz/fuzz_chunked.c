/*
 * Chunked bodies: whole, byte by byte, and in pieces whose sizes come from the input, the same body, end, counts and refusal must come out; and a
 * second, plain reader of the grammar (RFC 9112 section 7.1, written for this test) must find the same body wherever ours accepts one. The first byte
 * chooses the pieces; each is a heap copy of its exact size.
 */
#include "http/h1.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "property broken: %s\n", what);
		abort();
	}
}

struct result {
	char *body;
	size_t n, used;
	bool ok;
	struct tg_chunked c;
};

/* Pieces of `step` bytes; 0: of sizes made from `seed`. */
static struct result decode(const uint8_t *p, size_t n, size_t step, uint32_t seed)
{
	struct result r = { .body = malloc(n + 1), .ok = true };
	must(r.body != NULL, "memory");
	tg_chunked_init(&r.c);
	for (size_t at = 0, k; at < n && r.ok && !r.c.done; at += k) {
		seed = seed * 1664525 + 1013904223;
		k = step ? step : 1 + (seed >> 24) % 40;
		if (k > n - at)
			k = n - at;
		size_t len = 0, used = 0;
		char *buf = malloc(k);
		must(buf != NULL, "memory");
		memcpy(buf, p + at, k);
		r.ok = tg_chunked_feed(&r.c, buf, k, &len, &used);
		if (r.ok) {
			must(len <= used && used <= k && (used == k || r.c.done), "lengths");
			memcpy(r.body + r.n, buf, len);
			r.n += len;
			r.used += used;
		}
		free(buf);
	}
	must(r.ok == (r.c.why == TG_REFUSE_NONE), "a refusal has a reason");
	if (r.ok) {
		must(r.c.body == r.n, "decoded bytes are those counted");
		must(r.c.body + r.c.framing == r.used, "every byte used is body or framing");
		must(r.c.framing <= TG_CHUNKED_FRAMING + (uint64_t)r.c.chunks * TG_CHUNKED_PER_CHUNK, "the budget");
		must(r.used == n || r.c.done, "all is used before the end");
	}
	return r;
}

static const uint8_t *line_end(const uint8_t *p, const uint8_t *end)
{
	const uint8_t *lf = p < end ? memchr(p, '\n', (size_t)(end - p)) : NULL;
	must(lf && lf > p && lf[-1] == '\r', "an accepted line ends with CR LF");
	return lf + 1;
}

/* Reads a body that was accepted as whole. */
static void reread(const uint8_t *p, const struct result *r)
{
	const uint8_t *end = p + r->used;
	size_t at = 0, chunks = 0;
	for (;;) {
		size_t size = 0, digits = 0;
		const uint8_t *next = line_end(p, end);
		for (; *p != '\r' && *p != ';'; p++, digits++) {
			int v = *p >= '0' && *p <= '9' ? *p - '0' : (*p | 32) >= 'a' && (*p | 32) <= 'f' ? (*p | 32) - 'a' + 10 : -1;
			must(v >= 0, "the size is hexadecimal");
			size = size * 16 + (size_t)v;
		}
		must(digits >= 1 && digits <= 16, "1 to 16 digits");
		chunks++;
		p = next;
		if (!size)
			break;
		must(size <= (size_t)(end - p) && size <= r->n - at && !memcmp(r->body + at, p, size), "the same data");
		at += size;
		p += size;
		must(end - p >= 2 && p[0] == '\r' && p[1] == '\n', "data ends with CR LF");
		p += 2;
	}
	while (*p != '\r') {
		must(*p != ' ' && *p != '\t', "no folded trailer");
		p = line_end(p, end);
	}
	must(line_end(p, end) == p + 2 && p + 2 == end, "the last line is blank, and the last");
	must(at == r->n && chunks == r->c.chunks, "the same length and chunks");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (size < 1)
		return 0;
	const uint8_t *p = data + 1;
	size_t n = size - 1;
	struct result whole = decode(p, n, n ? n : 1, 0);
	for (int i = 0; i < 3; i++) {
		struct result r = decode(p, n, i == 0 ? 1 : i == 1 ? 1 + data[0] % 16u : 0, data[0]);
		must(r.ok == whole.ok && r.c.why == whole.c.why, "the same verdict for every cut");
		if (r.ok)
			must(r.n == whole.n && r.used == whole.used && r.c.done == whole.c.done && r.c.framing == whole.c.framing && r.c.chunks == whole.c.chunks &&
				     !memcmp(r.body, whole.body, r.n),
			     "the same body for every cut");
		free(r.body);
	}
	if (whole.ok && whole.c.done)
		reread(p, &whole);
	free(whole.body);
	return 0;
}
