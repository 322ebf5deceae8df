/* Answers of the engine, read whole, byte by byte and cut at every place: status, body and verdict must be the same each time. */
#include "http/h1_reader.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static bool gather(void *ctx, const char *p, size_t n)
{
	struct tg_buf *b = ctx;
	tg_buf_put(b, p, n);
	return !b->failed;
}

/* Pieces of `step` bytes after a first one, each on a heap copy of its size. True: no fault. */
static bool feed(struct tg_h1_reader *r, struct tg_buf *body, const char *text, size_t first, size_t step)
{
	bool ok = true;
	size_t n = strlen(text);
	for (size_t at = 0, k; at < n && ok; at += k) {
		k = at ? step : first;
		k = k > n - at ? n - at : k;
		char *piece = malloc(k ? k : 1);
		assert_non_null(piece);
		memcpy(piece, text + at, k);
		ok = tg_h1_reader_feed(r, piece, k, gather, body);
		free(piece);
	}
	return ok;
}

static void expect(const char *text, bool ok, uint16_t status, const char *want, bool done_by_itself)
{
	size_t n = strlen(text);
	for (size_t first = 1; first <= n; first++)
		for (size_t step = 1; step <= n; step += n - 1 ? n - 1 : 1) {
			struct tg_h1_reader r;
			struct tg_buf body;
			tg_h1_reader_init(&r);
			tg_buf_init(&body, 1 << 20);
			assert_int_equal(feed(&r, &body, text, first, step), ok);
			if (ok) {
				assert_int_equal(r.status, status);
				assert_int_equal(r.done, done_by_itself);
				assert_true(tg_h1_reader_eof(&r) || !want);
				if (want) {
					assert_int_equal(body.len, strlen(want));
					assert_memory_equal(body.p ? body.p : "", want, body.len);
				}
			}
			tg_buf_free(&body);
			tg_h1_reader_free(&r);
		}
}

static void answers(void **state)
{
	(void)state;
	expect("HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello", true, 200, "hello", true);
	expect("HTTP/1.1 400 Bad Request\r\nContent-Length: 0\r\n\r\n", true, 400, "", true);
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n6\r\n world\r\n0\r\n\r\n", true, 200, "hello world", true);
	expect("HTTP/1.1 200 OK\r\nConnection: close\r\n\r\nuntil the end", true, 200, "until the end", false);
	expect("HTTP/1.1 204 No Content\r\n\r\n", true, 204, "", true);
}

static void faults(void **state)
{
	(void)state;
	expect("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nhello", false, 0, NULL, false);
	expect("HTTP/1.1 200 OK\r\nContent-Length: two\r\n\r\nhello", false, 0, NULL, false);
	expect("HTTP/1.1 100 Continue\r\n\r\n", false, 0, NULL, false);
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n", false, 0, NULL, false);
	expect("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\nHTTP/1.1 200 OK\r\n", false, 0, NULL, false);
	expect("SSH-2.0-OpenSSH_9.2\r\n\r\n", false, 0, NULL, false);
	/* Not whole: no fault, but not done either. */
	expect("HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nhello", true, 200, NULL, false);
	expect("HTTP/1.1 200 OK\r\nContent-Len", true, 0, NULL, false);
}

static bool no_more(void *ctx, const char *p, size_t n)
{
	(void)ctx, (void)p, (void)n;
	return false;
}

static void bounds(void **state)
{
	(void)state;
	struct tg_h1_reader r;
	char big[TG_H1_READER_HEAD_MAX + 100], small[] = "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello";
	memset(big, 'a', sizeof big);
	memcpy(big, "HTTP/1.1 200 OK\r\nX: ", 20);
	tg_h1_reader_init(&r);
	assert_false(tg_h1_reader_feed(&r, big, sizeof big, no_more, NULL));
	tg_h1_reader_free(&r);
	tg_h1_reader_init(&r);
	assert_false(tg_h1_reader_feed(&r, small, sizeof small - 1, no_more, NULL)); /* who takes it has had enough */
	tg_h1_reader_free(&r);
	tg_h1_reader_init(&r);
	assert_false(tg_h1_reader_eof(&r));
	tg_h1_reader_free(&r);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(answers), cmocka_unit_test(faults), cmocka_unit_test(bounds) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
