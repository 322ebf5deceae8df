/*
 * Chunked bodies. Every row is decoded whole, byte by byte and cut at every place, each piece on a heap copy of its exact size; body, length used,
 * end and refusal must come out the same each time.
 */
#include "http/h1.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

struct result {
	char *body;
	size_t n, used;
	bool ok, done;
	enum tg_refusal why;
	uint64_t framing;
	uint32_t chunks;
};

static void piece(struct tg_chunked *c, struct result *r, const char *p, size_t n)
{
	char *buf = malloc(n ? n : 1);
	size_t len, used;
	assert_non_null(buf);
	memcpy(buf, p, n);
	r->ok = tg_chunked_feed(c, buf, n, &len, &used);
	if (r->ok) {
		assert_true(len <= used && used <= n);
		assert_true(used == n || c->done);
		memcpy(r->body + r->n, buf, len);
		r->n += len;
		r->used += used;
	} else {
		assert_int_equal(len, 0);
		/* A refusal is final. */
		assert_false(tg_chunked_feed(c, buf, 0, &len, &used));
	}
	free(buf);
}

static struct result decode(const char *p, size_t n, size_t first, size_t step)
{
	struct tg_chunked c;
	struct result r = { .body = malloc(n + 1), .ok = true };
	assert_non_null(r.body);
	tg_chunked_init(&c);
	piece(&c, &r, p, first);
	for (size_t at = first, k; at < n && r.ok; at += k) {
		k = n - at < step ? n - at : step;
		piece(&c, &r, p + at, k);
	}
	r.done = c.done;
	r.why = c.why;
	r.framing = c.framing;
	r.chunks = c.chunks;
	if (r.ok) {
		assert_int_equal(c.body, r.n);
		assert_int_equal(c.body + c.framing, r.used);
	}
	return r;
}

struct row {
	const char *name, *p;
	size_t n;
	enum tg_refusal want;
	const char *body; /* accepted */
	const char *rest; /* what lies past the end; NULL: the end is not there yet */
};
#define BAD(name, bytes, want) { name, bytes, sizeof(bytes) - 1, TG_REFUSE_##want, NULL, NULL }
#define GOOD(name, bytes, body, rest) { name, bytes, sizeof(bytes) - 1, TG_REFUSE_NONE, body, rest }

static const struct row rows[] = {
	GOOD("one chunk", "5\r\nhello\r\n0\r\n\r\n", "hello", ""),
	GOOD("two chunks", "5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", "hello world", ""),
	GOOD("hex sizes", "a\r\n0123456789\r\nF\r\n0123456789abcde\r\n0\r\n\r\n", "01234567890123456789abcde", ""),
	GOOD("empty body", "0\r\n\r\n", "", ""),
	GOOD("zeros before the size", "0000000000000005\r\nhello\r\n0000000000000000\r\n\r\n", "hello", ""),
	GOOD("data that looks like framing", "7\r\n0\r\n\r\n\r\n\r\n0\r\n\r\n", "0\r\n\r\n\r\n", ""),
	GOOD("bare LF in the data", "3\r\n\na\n\r\n0\r\n\r\n", "\na\n", ""),
	GOOD("extension", "5;a;b=c\r\nhello\r\n0;x\r\n\r\n", "hello", ""),
	GOOD("quoted extension", "5;a=\"q r\";b\r\nhello\r\n0\r\n\r\n", "hello", ""),
	GOOD("hex digits in an extension", "5;abcdef0123456789abcdef=0123456789\r\nhello\r\n0\r\n\r\n", "hello", ""),
	GOOD("trailers are dropped", "5\r\nhello\r\n0\r\nX-Sum: abc\r\nHost: evil\r\n\r\n", "hello", ""),
	GOOD("Content-Length in a trailer", "5\r\nhello\r\n0\r\nContent-Length: 5\r\n\r\nrest", "hello", "rest"),
	GOOD("trailer Connection: close", "1\r\na\r\n0\r\nConnection: close\r\n\r\nGET", "a", "GET"),
	GOOD("trailer Upgrade", "1\r\na\r\n0\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\nGET", "a", "GET"),
	GOOD("the next request is left alone", "5\r\nhello\r\n0\r\n\r\nGET / HTTP/1.1\r\n", "hello", "GET / HTTP/1.1\r\n"),
	GOOD("garbage after the end is left alone", "1\r\na\r\n0\r\n\r\n\r\n\n\0", "a", "\r\n\n"),
	GOOD("no end: size line", "5\r\nhello\r\n", "hello", NULL),
	GOOD("no end: data", "5\r\nhel", "hel", NULL),
	GOOD("no end: last line", "5\r\nhello\r\n0\r\n", "hello", NULL),
	GOOD("a huge chunk that never ends", "ffffffffffffffff\r\nhello", "hello", NULL),

	BAD("size 0x2", "0x2\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("SP before the size", " 2\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("TAB before the size", "\t2\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("SP after the size", "2 \r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("TAB after the size", "2\t\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size +2", "+2\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size -1", "-1\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size empty", "\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size empty with an extension", ";a\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size of 17 digits", "11111111111111111\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size of 17 digits, zeros", "00000000000000002\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("size of 40 zeros", "00000000000000000000000000000000000000002\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("last chunk of 17 zeros", "2\r\nab\r\n00000000000000000\r\n\r\n", bad_chunk),
	BAD("size line LF only", "2\nab\r\n0\r\n\r\n", bare_lf),
	BAD("size line CR only", "2\rab\r\n0\r\n\r\n", bad_chunk),
	BAD("size line CR CR LF", "2\r\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("data too long", "2\r\nabc\r\n0\r\n\r\n", bad_chunk),
	BAD("data too short by one", "3\r\nab\r\n0\r\n\r\n", bare_lf), /* its CR was data */
	BAD("data too short by three", "5\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("data ended by LF", "2\r\nab\n0\r\n\r\n", bare_lf),
	BAD("data ended by CR", "2\r\nab\r0\r\n\r\n", bad_chunk),
	BAD("data ended by nothing", "2\r\nab0\r\n\r\n", bad_chunk),
	BAD("last chunk LF only", "2\r\nab\r\n0\n\r\n", bare_lf),
	BAD("last blank line LF only", "2\r\nab\r\n0\r\n\n", bare_lf),
	BAD("blank line after trailers LF only", "2\r\nab\r\n0\r\nX: a\r\n\n", bare_lf),
	BAD("trailer LF only", "2\r\nab\r\n0\r\nX: a\n\r\n", bare_lf),
	BAD("extension with SP", "2; a\r\nab\r\n0\r\n\r\n", bad_chunk),
	/* Legal (RFC 9112 section 7.1.1), and refused by llhttp 8.1: kept, since nobody sends them and a refusal is safe. */
	BAD("extension after an extension's unquoted value", "2;a=b;c\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("quoted pair in an extension", "2;a=\"\\\"\"\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("extension with LF", "2;a\nb\r\nab\r\n0\r\n\r\n", bare_lf),
	BAD("extension with CR", "2;a\rb\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("extension with NUL", "2;a\0\r\nab\r\n0\r\n\r\n", bad_chunk),
	BAD("TE in a trailer", "2\r\nab\r\n0\r\nTransfer-Encoding: chunked\r\n\r\n", bad_chunk),
	BAD("NUL in a trailer", "2\r\nab\r\n0\r\nX: a\0b\r\n\r\n", bad_chunk),
	BAD("trailer without a colon", "2\r\nab\r\n0\r\nabc\r\n\r\n", bad_chunk),
	BAD("folded trailer", "2\r\nab\r\n0\r\nX: a\r\n b\r\n\r\n", obs_fold),
	BAD("SP before the first trailer", "2\r\nab\r\n0\r\n X: a\r\n\r\n", obs_fold),
	BAD("text for a size", "hello", bad_chunk),
};

static void check(const struct row *w, struct result r, const char *how, size_t cut)
{
	if (r.why != w->want || r.ok != (w->want == TG_REFUSE_NONE))
		fail_msg("%s, %s %zu: %s, want %s", w->name, how, cut, tg_refusals[r.why].name, tg_refusals[w->want].name);
	if (r.ok) {
		size_t rest = r.done ? w->n - r.used : 0;
		if (r.done != (w->rest != NULL) || r.n != strlen(w->body) || memcmp(r.body, w->body, r.n) != 0)
			fail_msg("%s, %s %zu: done %d, body [%.*s]", w->name, how, cut, r.done, (int)r.n, r.body);
		if (r.done && (rest < strlen(w->rest) || memcmp(w->p + r.used, w->rest, strlen(w->rest)) != 0 || (!*w->rest && rest)))
			fail_msg("%s, %s %zu: %zu bytes left over", w->name, how, cut, rest);
	}
	free(r.body);
}

static void test_rows(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct row *w = &rows[i];
		for (size_t cut = 0; cut <= w->n; cut++)
			check(w, decode(w->p, w->n, cut, w->n + 1), "cut at", cut);
		for (size_t step = 1; step <= 7; step++)
			check(w, decode(w->p, w->n, 0, step), "steps of", step);
	}
}

static char *repeat(const char *before, const char *unit, size_t times, const char *after, size_t *n)
{
	size_t a = strlen(before), u = strlen(unit), z = strlen(after);
	char *p = malloc(a + u * times + z + 1);
	assert_non_null(p);
	memcpy(p, before, a);
	for (size_t i = 0; i < times; i++)
		memcpy(p + a + i * u, unit, u);
	memcpy(p + a + u * times, after, z);
	*n = a + u * times + z;
	return p;
}

/* The framing budget: to the byte, and the same for every cut. */
static void test_budget(void **state)
{
	(void)state;
	static const struct {
		const char *name, *before, *unit;
		size_t times;
		const char *after;
		enum tg_refusal want;
	} cases[] = {
		{ "extension of 60 KiB", "2;", "a", 61440, "\r\nab\r\n0\r\n\r\n", TG_REFUSE_chunk_overhead },
		/* 4 bytes around it, and the line must fit what was granted before its chunk. */
		{ "extension that just fits", "2;", "a", 4092, "\r\nab\r\n0\r\n\r\n", TG_REFUSE_NONE },
		{ "extension one byte longer", "2;", "a", 4093, "\r\nab\r\n0\r\n\r\n", TG_REFUSE_chunk_overhead },
		{ "trailers of 60 KiB", "0\r\n", "X: abcdefgh\r\n", 5000, "\r\n", TG_REFUSE_chunk_overhead },
		{ "one endless trailer", "0\r\nX: ", "a", 60000, "", TG_REFUSE_chunk_overhead },
		/* 3 + 4n + 2 <= 4096 + 32 */
		{ "trailers that just fit", "0\r\n", "X:\r\n", 1030, "\r\n", TG_REFUSE_NONE },
		{ "one trailer more", "0\r\n", "X:\r\n", 1031, "\r\n", TG_REFUSE_chunk_overhead },
		{ "chunks of one byte", "", "1\r\na\r\n", 20000, "0\r\n\r\n", TG_REFUSE_NONE },
		{ "chunks of one byte with small extensions", "", "1;abcdefghijklmnopqrstuvwx\r\na\r\n", 2000, "0\r\n\r\n", TG_REFUSE_NONE },
		{ "chunks of one byte with extensions past the grant", "", "1;abcdefghijklmnopqrstuvwxyzabcdefghijklmnop\r\na\r\n", 2000, "0\r\n\r\n", TG_REFUSE_chunk_overhead },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		size_t n;
		char *p = repeat(cases[i].before, cases[i].unit, cases[i].times, cases[i].after, &n);
		static const size_t steps[] = { 1, 2, 3, 5, 17, 1000, 4096, 4097, 65536, SIZE_MAX };
		struct result whole = decode(p, n, n, 1);
		if (whole.why != cases[i].want)
			fail_msg("%s: %s, want %s", cases[i].name, tg_refusals[whole.why].name, tg_refusals[cases[i].want].name);
		for (size_t k = 0; k < sizeof steps / sizeof *steps; k++) {
			struct result r = decode(p, n, 0, steps[k]);
			if (r.why != whole.why || r.done != whole.done || r.framing != whole.framing || r.chunks != whole.chunks)
				fail_msg("%s, steps of %zu: %s", cases[i].name, steps[k], tg_refusals[r.why].name);
			if (r.ok && (r.n != whole.n || memcmp(r.body, whole.body, r.n) != 0))
				fail_msg("%s, steps of %zu: another body", cases[i].name, steps[k]);
			assert_true(r.framing <= TG_CHUNKED_FRAMING + (uint64_t)r.chunks * TG_CHUNKED_PER_CHUNK);
			free(r.body);
		}
		free(whole.body);
		free(p);
	}
}

/* Bodies of random chunks, cut at random: what went in comes out. */
static void test_random(void **state)
{
	(void)state;
	uint32_t seed = 12345;
	for (int round = 0; round < 300; round++) {
		char body[4096], wire[65536];
		size_t nbody = 0, nwire = 0;
		while (nbody < 3500 && nwire < 60000) {
			seed = seed * 1664525 + 1013904223;
			size_t k = 1 + (seed >> 16) % (round % 3 ? 9 : 500);
			nwire += (size_t)snprintf(wire + nwire, 32, round & 1 ? "%zx%s\r\n" : "%zX%s\r\n", k, seed >> 31 ? ";q" : "");
			for (size_t i = 0; i < k; i++) {
				seed = seed * 1664525 + 1013904223;
				body[nbody++] = wire[nwire++] = (char)(seed >> 24);
			}
			nwire += (size_t)snprintf(wire + nwire, 3, "\r\n");
		}
		nwire += (size_t)snprintf(wire + nwire, 6, "0\r\n\r\n");
		struct result r = decode(wire, nwire, (seed >> 8) % nwire, 1 + (seed >> 4) % 700);
		assert_true(r.ok && r.done && r.used == nwire && r.n == nbody);
		assert_memory_equal(r.body, body, nbody);
		free(r.body);
	}
}

/* A decoder may be moved between feeds: it keeps no pointer into itself. */
static void test_moved(void **state)
{
	(void)state;
	struct tg_chunked a, b;
	char one[] = "5\r\nhe", two[] = "llo\r\n0\r\n\r\n";
	size_t len, used;
	tg_chunked_init(&a);
	assert_true(tg_chunked_feed(&a, one, sizeof one - 1, &len, &used));
	assert_int_equal(len, 2);
	b = a;
	memset(&a, 0xff, sizeof a);
	assert_true(tg_chunked_feed(&b, two, sizeof two - 1, &len, &used));
	assert_int_equal(len, 3);
	assert_memory_equal(two, "llo", 3);
	assert_true(b.done && used == sizeof two - 1);
	/* Past the end nothing is used. */
	assert_true(tg_chunked_feed(&b, one, 3, &len, &used));
	assert_true(len == 0 && used == 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_rows), cmocka_unit_test(test_budget), cmocka_unit_test(test_random), cmocka_unit_test(test_moved),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
