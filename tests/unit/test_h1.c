/*
 * HTTP/1.1 heads: one row for each way to misread one. Every row is run through tg_h1_head_end whole, byte by byte and cut at every place, always on
 * a heap copy of the exact size (so that ASan sees a read past the end), and must give the same answer each time. Rows that the line rules refuse are
 * also handed to the parser alone, which must refuse them too: it may not depend on who called it.
 */
#include "http/h1.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const struct tg_h1_limits limits = { .max_head = 16384, .max_headers = TG_HEADERS_MAX };

static char *copy(const char *p, size_t n)
{
	char *c = malloc(n ? n : 1);
	assert_non_null(c);
	memcpy(c, p, n);
	if (!n) /* nothing of an empty input may be read either; keep the byte, poison its value */
		*c = '\n';
	return c;
}

/* Feeds prefixes that end at first, first + step ... and at n. */
static long head_end(const char *p, size_t n, size_t first, size_t step, bool request, const struct tg_h1_limits *lim, size_t *start, enum tg_refusal *why)
{
	size_t scanned = 0;
	*why = TG_REFUSE_NONE;
	for (size_t at = first; ; at = n - at > step ? at + step : n) {
		char *c = copy(p, at);
		long r = tg_h1_head_end(c, at, &scanned, start, request, lim, why);
		free(c);
		if (r != 0 || at == n)
			return r;
		assert_true(scanned <= at);
	}
}

/* TG_REFUSE_NONE: accepted; `malformed` and *incomplete: no end yet. The head's slices point into *mem, which the caller frees. */
static enum tg_refusal run(const char *name, const char *p, size_t n, bool request, const struct tg_h1_limits *lim, struct tg_head *h, char **mem, bool *incomplete)
{
	enum tg_refusal why, other;
	size_t start, start2;
	long len = head_end(p, n, n, 1, request, lim, &start, &why);
	if (n <= 4096)
		for (size_t cut = 0; cut <= n; cut++) {
			size_t step = cut == n ? 1 : n; /* the last round: byte by byte from nothing */
			long l2 = head_end(p, n, cut == n ? 0 : cut, step, request, lim, &start2, &other);
			if (l2 != len || other != why || (len > 0 && start2 != start))
				fail_msg("%s: cut at %zu gives %ld/%s, whole %ld/%s", name, cut, l2, tg_refusals[other].name, len, tg_refusals[why].name);
		}
	*mem = NULL;
	*incomplete = len == 0;
	if (len < 0) {
		assert_int_not_equal(why, TG_REFUSE_NONE);
		*mem = copy(p, n);
		if (request ? tg_h1_parse_request(*mem, n, lim, h, &other) : tg_h1_parse_response(*mem, n, lim, h, &other))
			fail_msg("%s: the parser alone takes what the line rules refuse (%s)", name, tg_refusals[why].name);
		return why;
	}
	if (len == 0)
		return TG_REFUSE_NONE;
	*mem = copy(p + start, (size_t)len);
	why = TG_REFUSE_NONE;
	bool ok = request ? tg_h1_parse_request(*mem, (size_t)len, lim, h, &why) : tg_h1_parse_response(*mem, (size_t)len, lim, h, &why);
	if (ok != (why == TG_REFUSE_NONE))
		fail_msg("%s: answer and reason disagree", name);
	return why;
}

struct row {
	const char *name, *p;
	size_t n;
	enum tg_refusal want;
};
#define ROW(name, bytes, want) { name, bytes, sizeof(bytes) - 1, TG_REFUSE_##want }
#define L "GET / HTTP/1.1\r\n"
#define H "Host: a\r\n"
#define E "\r\n"
#define POST "POST / HTTP/1.1\r\nHost: a\r\n"

static const struct row refused[] = {
	/* What llhttp itself refuses. */
	ROW("bare LF after a header line", L "Host: a\nX: b\r\n" E, bare_lf),
	ROW("bare CR in a value", L H "X: a\rb\r\n" E, bad_header_value),
	ROW("bare CR as separator", L "Host: a\rX: b\r\n" E, bad_header_value),
	ROW("CR CR LF", L H "X: a\r\r\n" E, bad_header_value),
	ROW("CR CR LF as blank line", L H "\r\r\n" E, bad_header_name),
	ROW("CR CR LF after the request line", "GET / HTTP/1.1\r\r\n" H E, bad_version),
	ROW("SP before the first header", L " " H E, obs_fold),
	ROW("TAB before the first header", L "\t" H E, obs_fold),
	ROW("SP before the colon", L "Host : a\r\n" E, bad_header_name),
	ROW("SP before the colon of an ordinary header", L H "X-Foo : a\r\n" E, bad_header_name),
	ROW("TAB before the colon", L H "X-Foo\t: a\r\n" E, bad_header_name),
	ROW("SP before the colon of Transfer-Encoding", POST "Transfer-Encoding : chunked\r\n" E, bad_header_name),
	ROW("CL then TE", POST "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n" E, length_and_encoding),
	ROW("TE then CL", POST "Transfer-Encoding: chunked\r\nContent-Length: 5\r\n" E, length_and_encoding),
	ROW("TE chunked twice in one header", POST "Transfer-Encoding: chunked, chunked\r\n" E, bad_transfer_encoding),
	ROW("TE chunked in two headers", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" E, bad_transfer_encoding),
	ROW("TE chunked, gzip", POST "Transfer-Encoding: chunked, gzip\r\n" E, bad_transfer_encoding),
	ROW("TE chunked,", POST "Transfer-Encoding: chunked,\r\n" E, bad_transfer_encoding),
	ROW("TE chunked then identity", POST "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n" E, bad_transfer_encoding),
	ROW("TE xchunked", POST "Transfer-Encoding: xchunked\r\n" E, bad_transfer_encoding),
	ROW("TE chunkedx", POST "Transfer-Encoding: chunkedx\r\n" E, bad_transfer_encoding),
	ROW("TE identity", POST "Transfer-Encoding: identity\r\n" E, bad_transfer_encoding),
	ROW("TE gzip", POST "Transfer-Encoding: gzip\r\n" E, bad_transfer_encoding),
	ROW("TE quoted", POST "Transfer-Encoding: \"chunked\"\r\n" E, bad_transfer_encoding),
	ROW("TE with a parameter", POST "Transfer-Encoding: chunked;q=1\r\n" E, bad_transfer_encoding),
	ROW("TE with VT", POST "Transfer-Encoding: \x0b" "chunked\r\n" E, bad_header_value),
	ROW("CL +5", POST "Content-Length: +5\r\n" E, bad_content_length),
	ROW("CL 5,5", POST "Content-Length: 5,5\r\n" E, bad_content_length),
	ROW("CL 5, 5", POST "Content-Length: 5, 5\r\n" E, bad_content_length),
	ROW("CL 5 5", POST "Content-Length: 5 5\r\n" E, bad_content_length),
	ROW("CL -1", POST "Content-Length: -1\r\n" E, bad_content_length),
	ROW("CL 0x5", POST "Content-Length: 0x5\r\n" E, bad_content_length),
	ROW("CL 5.0", POST "Content-Length: 5.0\r\n" E, bad_content_length),
	ROW("CL empty", POST "Content-Length: \r\n" E, bad_content_length),
	ROW("CL empty without SP", POST "Content-Length:\r\n" E, bad_content_length),
	ROW("CL 2^64", POST "Content-Length: 18446744073709551616\r\n" E, bad_content_length),
	ROW("two CLs, the same", POST "Content-Length: 5\r\nContent-Length: 5\r\n" E, bad_content_length),
	ROW("two CLs, different", POST "Content-Length: 5\r\nContent-Length: 6\r\n" E, bad_content_length),
	ROW("NUL in a value", L H "X: a\0b\r\n" E, bad_header_value),
	ROW("0x01 in a value", L H "X: a\x01" "b\r\n" E, bad_header_value),
	ROW("0x7f in a value", L H "X: a\x7f" "b\r\n" E, bad_header_value),
	ROW("NUL in a name", L H "X\0Y: a\r\n" E, bad_header_name),
	ROW("SP in a name", L H "X Y: a\r\n" E, bad_header_name),
	ROW("( in a name", L H "X(Y: a\r\n" E, bad_header_name),
	ROW("0x80 in a name", L H "X\x80Y: a\r\n" E, bad_header_name),
	ROW("line without a colon", L H "nonsense\r\n" E, bad_header_name),
	ROW("target without a slash", "GET foo HTTP/1.1\r\n" H E, bad_target),
	ROW("NUL in the target", "GET /\0 HTTP/1.1\r\n" H E, bad_target),
	ROW("0x01 in the target", "GET /\x01 HTTP/1.1\r\n" H E, bad_target),
	ROW("0x7f in the target", "GET /\x7f HTTP/1.1\r\n" H E, bad_target),
	ROW("TAB in the target", "GET /a\tb HTTP/1.1\r\n" H E, bad_target),
	ROW("FF in the target", "GET /a\x0c" "b HTTP/1.1\r\n" H E, bad_target),
	ROW("0x80 in the target", "GET /a\x80 HTTP/1.1\r\n" H E, bad_target),
	ROW("UTF-8 in the target", "GET /\xc3\xa9 HTTP/1.1\r\n" H E, bad_target),
	ROW("CR in the target", "GET /a\rb HTTP/1.1\r\n" H E, bad_target),
	ROW("version 1.2", "GET / HTTP/1.2\r\n" H E, bad_version),
	ROW("version 1.10", "GET / HTTP/1.10\r\n" H E, bad_version),
	ROW("version http/1.1", "GET / http/1.1\r\n" H E, bad_version),
	ROW("version 1", "GET / HTTP/1\r\n" H E, bad_version),
	ROW("version 01.1", "GET / HTTP/01.1\r\n" H E, bad_version),
	ROW("HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", bad_version),
	ROW("lower-case method", "get / HTTP/1.1\r\n" H E, bad_method),
	ROW("unknown method", "BREW / HTTP/1.1\r\n" H E, bad_method),
	ROW("indented method", " GET / HTTP/1.1\r\n" H E, bad_request_line),
	ROW("method with a TAB before it", "\tGET / HTTP/1.1\r\n" H E, bad_request_line),
	ROW("TAB after the method", "GET\t/ HTTP/1.1\r\n" H E, bad_request_line),
	ROW("TAB before the version", "GET /\tHTTP/1.1\r\n" H E, bad_version),
	ROW("text after the version", "GET / HTTP/1.1 x\r\n" H E, bad_request_line),
	ROW("space after the version", "GET / HTTP/1.1 \r\n" H E, bad_request_line),
	ROW("TLS bytes", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03\r\n\r\n", bad_request_line),
	ROW("a word", "hello\r\n\r\n", bad_request_line),
	ROW("a word and a space", "GET \r\n\r\n", bad_request_line),
	ROW("bytes after a chunked body, read as the next request", "x\r\nGET / HTTP/1.1\r\n" H E, bad_request_line),

	/* What llhttp lets through. */
	ROW("bare LF after the request line", "GET / HTTP/1.1\n" H E, bare_lf),
	ROW("bare LF as the blank line", L H "\n", bare_lf),
	ROW("bare LF everywhere", "GET / HTTP/1.1\nHost: a\n\n", bare_lf),
	ROW("bare LF before the request line", "\n" L H E, bare_lf),
	ROW("obs-fold with SP", L H "X: a\r\n b\r\n" E, obs_fold),
	ROW("obs-fold with TAB", L H "X: a\r\n\tb\r\n" E, obs_fold),
	ROW("obs-fold of an empty value", L H "X:\r\n b\r\n" E, obs_fold),
	ROW("obs-fold into nothing", L H "X: a\r\n \r\n" E, obs_fold),
	ROW("obs-fold in Host", L "Host: a\r\n b\r\n" E, obs_fold),
	ROW("obs-fold in Transfer-Encoding", POST "Transfer-Encoding:\r\n chunked\r\n" E, obs_fold),
	ROW("obs-fold in Content-Length", POST "Content-Length: 1\r\n 0\r\n" E, obs_fold),
	ROW("obs-fold before Content-Length", POST "Content-Length:\r\n 10\r\n" E, obs_fold),
	ROW("TE gzip, chunked", POST "Transfer-Encoding: gzip, chunked\r\n" E, bad_transfer_encoding),
	ROW("TE , chunked", POST "Transfer-Encoding: , chunked\r\n" E, bad_transfer_encoding),
	ROW("TE identity and chunked in two headers", POST "Transfer-Encoding: identity\r\nTransfer-Encoding: chunked\r\n" E, bad_transfer_encoding),
	ROW("TE empty", POST "Transfer-Encoding:\r\n" E, bad_transfer_encoding),
	ROW("TE empty with CL", POST "Transfer-Encoding:\r\nContent-Length: 5\r\n" E, bad_transfer_encoding),
	ROW("CL with TE empty", POST "Content-Length: 5\r\nTransfer-Encoding:\r\n" E, bad_transfer_encoding),
	ROW("HTTP/1.0 with TE", "POST / HTTP/1.0\r\nHost: a\r\nTransfer-Encoding: chunked\r\n" E, chunked_http10),
	ROW("CL of 40 zeros", POST "Content-Length: 00000000000000000000000000000000000000005\r\n" E, bad_content_length),
	ROW("CL of 20 digits", POST "Content-Length: 00000000000000000005\r\n" E, bad_content_length),
	ROW("empty header name", L H ": b\r\n" E, bad_header_name),
	ROW("empty header name first", L ": b\r\n" H E, bad_header_name),
	ROW("empty header name and value", L H ":\r\n" E, bad_header_name),
	ROW("empty header name after an empty value", L H "X:\r\n: b\r\n" E, bad_header_name),
	ROW("0x80 in a value", L H "X: a\x80\r\n" E, bad_header_value),
	ROW("Latin-1 in a value", L H "X: caf\xe9\r\n" E, bad_header_value),
	ROW("overlong UTF-8 in a value", L H "X: \xc0\xaf\r\n" E, bad_header_value),
	ROW("UTF-8 surrogate in a value", L H "X: \xed\xa0\x80\r\n" E, bad_header_value),
	ROW("UTF-8 cut short in a value", L H "X: \xe2\x82\r\n" E, bad_header_value),
	ROW("absolute-form of another host", "GET http://b/x HTTP/1.1\r\n" H E, host_mismatch),
	ROW("absolute-form with another port", "GET http://a:81/x HTTP/1.1\r\n" H E, host_mismatch),
	ROW("absolute-form with userinfo", "GET http://user:pass@a/x HTTP/1.1\r\n" H E, host_mismatch),
	ROW("absolute-form without Host, 1.0", "GET http://a/x HTTP/1.0\r\n" E, host_mismatch),
	ROW("absolute-form without authority", "GET http:///x HTTP/1.1\r\n" H E, host_mismatch),
	ROW("absolute-form with a query and no path", "GET http://a?x HTTP/1.1\r\n" H E, bad_target),
	ROW("absolute-form OPTIONS without a path", "OPTIONS http://a HTTP/1.1\r\n" H E, bad_target),
	ROW("https", "GET https://a/x HTTP/1.1\r\n" H E, bad_target),
	ROW("file:///", "GET file:///etc/passwd HTTP/1.1\r\n" H E, bad_target),
	ROW("GET *", "GET * HTTP/1.1\r\n" H E, bad_target),
	ROW("OPTIONS **", "OPTIONS ** HTTP/1.1\r\n" H E, bad_target),
	ROW("fragment", "GET /a#b HTTP/1.1\r\n" H E, bad_target),
	ROW("\\ in the target", "GET /a\\b HTTP/1.1\r\n" H E, bad_target),
	ROW("< in the target", "GET /a<b HTTP/1.1\r\n" H E, bad_target),
	ROW("> in the target", "GET /a>b HTTP/1.1\r\n" H E, bad_target),
	ROW("\" in the target", "GET /a\"b HTTP/1.1\r\n" H E, bad_target),
	ROW("^ in the target", "GET /a^b HTTP/1.1\r\n" H E, bad_target),
	ROW("backtick in the target", "GET /a`b HTTP/1.1\r\n" H E, bad_target),
	ROW("{ in the target", "GET /a{b HTTP/1.1\r\n" H E, bad_target),
	ROW("| in the target", "GET /a|b HTTP/1.1\r\n" H E, bad_target),
	ROW("} in the target", "GET /a}b HTTP/1.1\r\n" H E, bad_target),
	ROW("{ in the query", "GET /a?{ HTTP/1.1\r\n" H E, bad_target),
	ROW("HTTP/0.9, no version", "GET /\r\n\r\n", bad_version),
	ROW("HTTP/0.9, no version, LF", "GET /\n\n", bare_lf),
	ROW("HTTP/0.9 said", "GET / HTTP/0.9\r\n" H E, bad_version),
	ROW("HTTP/2.0", "GET / HTTP/2.0\r\n" H E, bad_version),
	ROW("RTSP/1.0", "GET / RTSP/1.0\r\n" H E, bad_version),
	ROW("ICE/1.0", "GET / ICE/1.0\r\n" H E, bad_version),
	ROW("two spaces before the target", "GET  / HTTP/1.1\r\n" H E, bad_request_line),
	ROW("two spaces before the version", "GET /  HTTP/1.1\r\n" H E, bad_request_line),
	ROW("PROPFIND", "PROPFIND / HTTP/1.1\r\n" H E, bad_method),
	ROW("BIND", "BIND / HTTP/1.1\r\n" H E, bad_method),
	ROW("SOURCE", "SOURCE / HTTP/1.1\r\n" H E, bad_method),
	ROW("TRACE", "TRACE / HTTP/1.1\r\n" H E, bad_method),
	ROW("CONNECT", "CONNECT a:443 HTTP/1.1\r\n" H E, connect_method),
	ROW("CONNECT with CL", "CONNECT a:443 HTTP/1.1\r\n" H "Content-Length: 5\r\n" E, connect_method),
	ROW("no Host", L E, bad_host),
	ROW("no Host, other headers", L "X: a\r\n" E, bad_host),
	ROW("empty Host", L "Host:\r\n" E, bad_host),
	ROW("empty Host, 1.0", "GET / HTTP/1.0\r\nHost: \r\n" E, bad_host),
	ROW("two Hosts, the same", L H H E, bad_host),
	ROW("two Hosts, different", L H "Host: b\r\n" E, bad_host),
	ROW("two Hosts, 1.0", "GET / HTTP/1.0\r\n" H H E, bad_host),
	ROW("Host a b/c@d", L "Host: a b/c@d\r\n" E, bad_host),
	ROW("Host with userinfo", L "Host: u@a\r\n" E, bad_host),
	ROW("Host with a path", L "Host: a/\r\n" E, bad_host),
	ROW("Host list", L "Host: a, b\r\n" E, bad_host),
	ROW("Host port only", L "Host: :80\r\n" E, bad_host),
	ROW("Host port empty", L "Host: a:\r\n" E, bad_host),
	ROW("Host port of letters", L "Host: a:x\r\n" E, bad_host),
	ROW("Host port 65536", L "Host: a:65536\r\n" E, bad_host),
	ROW("Host port of six digits", L "Host: a:000080\r\n" E, bad_host),
	ROW("Host two ports", L "Host: a:80:80\r\n" E, bad_host),
	ROW("Host %41", L "Host: %41\r\n" E, bad_host),
	ROW("Host in UTF-8", L "Host: \xc3\xa9\r\n" E, bad_host),
	ROW("Host v6 without brackets", L "Host: ::1\r\n" E, bad_host),
	ROW("Host v6 open", L "Host: [::1\r\n" E, bad_host),
	ROW("Host v6 empty", L "Host: []\r\n" E, bad_host),
	ROW("Host v6 wrong", L "Host: [1:2]\r\n" E, bad_host),
	ROW("Host v6 with a zone", L "Host: [fe80::1%25eth0]\r\n" E, bad_host),
	ROW("Host v6 too long", L "Host: [0000:0000:0000:0000:0000:0000:0000:0000:0000:0000]\r\n" E, bad_host),
	ROW("Host v6 with text after it", L "Host: [::1]x\r\n" E, bad_host),
	ROW("Host v4 in brackets", L "Host: [127.0.0.1]\r\n" E, bad_host),
	ROW("Expect: x", POST "Expect: x\r\n" E, bad_expect),
	ROW("Expect empty", POST "Expect:\r\n" E, bad_expect),
	ROW("Expect list", POST "Expect: 100-continue, x\r\n" E, bad_expect),
	ROW("Expect twice, one unknown", POST "Expect: 100-continue\r\nExpect: x\r\n" E, bad_expect),
};

static void test_refused_requests(void **state)
{
	(void)state;
	static struct tg_head h;
	int failed = 0;
	for (size_t i = 0; i < sizeof refused / sizeof *refused; i++) {
		const struct row *r = &refused[i];
		char *mem;
		bool incomplete;
		enum tg_refusal why = run(r->name, r->p, r->n, true, &limits, &h, &mem, &incomplete);
		free(mem);
		if (incomplete || why != r->want)
			failed++, print_error("%s: %s%s, want %s\n", r->name, incomplete ? "incomplete " : "", tg_refusals[why].name, tg_refusals[r->want].name);
	}
	assert_int_equal(failed, 0);
}

/* Accepted requests, and what is read in them. */
struct accept_row {
	const char *name, *p;
	size_t n;
	enum tg_method method;
	const char *target, *path, *query, *host;
	int minor;
	long long length;
	bool chunked, keep, expect, upgrade;
	unsigned nheaders;
};
#define ACC(name, bytes, ...) { name, bytes, sizeof(bytes) - 1, __VA_ARGS__ }

static const struct accept_row accepted[] = {
	ACC("plain", L H E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("query", "GET /v1/models?a=b?c HTTP/1.1\r\n" H E, TG_GET, "/v1/models?a=b?c", "/v1/models", "a=b?c", "a", 1, -1, false, true, false, false, 1),
	ACC("empty query", "GET /x? HTTP/1.1\r\n" H E, TG_GET, "/x?", "/x", "", "a", 1, -1, false, true, false, false, 1),
	ACC("every allowed character", "GET /!$%&'()*+,-./09:;=?@AZ[]_az~ HTTP/1.1\r\n" H E, TG_GET, "/!$%&'()*+,-./09:;=?@AZ[]_az~", "/!$%&'()*+,-./09:;=", "@AZ[]_az~", "a",
		1, -1, false, true, false, false, 1),
	ACC("$predict", "POST /api/v1/ml/$predict HTTP/1.1\r\n" H "Content-Length: 2\r\n" E, TG_POST, "/api/v1/ml/$predict", "/api/v1/ml/$predict", "", "a", 1, 2, false, true,
		false, false, 2),
	ACC("POST without CL or TE", POST E, TG_POST, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("GET with CL", L H "Content-Length: 5\r\n" E, TG_GET, "/", "/", "", "a", 1, 5, false, true, false, false, 2),
	ACC("GET chunked", L H "Transfer-Encoding: chunked\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, true, true, false, false, 2),
	ACC("CL 0", POST "Content-Length: 0\r\n" E, TG_POST, "/", "/", "", "a", 1, 0, false, true, false, false, 2),
	ACC("CL with leading zeros", POST "Content-Length: 0000000000000000005\r\n" E, TG_POST, "/", "/", "", "a", 1, 5, false, true, false, false, 2),
	ACC("CL with trailing SP", POST "Content-Length: 5 \r\n" E, TG_POST, "/", "/", "", "a", 1, 5, false, true, false, false, 2),
	ACC("CL 2^63 - 1", POST "Content-Length: 9223372036854775807\r\n" E, TG_POST, "/", "/", "", "a", 1, INT64_MAX, false, true, false, false, 2),
	ACC("CL 2^63", POST "Content-Length: 9223372036854775808\r\n" E, TG_POST, "/", "/", "", "a", 1, INT64_MAX, false, true, false, false, 2),
	ACC("CL 19 nines", POST "Content-Length: 9999999999999999999\r\n" E, TG_POST, "/", "/", "", "a", 1, INT64_MAX, false, true, false, false, 2),
	ACC("TE with TAB", POST "Transfer-Encoding:\tchunked\r\n" E, TG_POST, "/", "/", "", "a", 1, -1, true, true, false, false, 2),
	ACC("TE CHUNKED", POST "Transfer-Encoding: CHUNKED\r\n" E, TG_POST, "/", "/", "", "a", 1, -1, true, true, false, false, 2),
	ACC("Transfer_Encoding is another header", POST "Transfer_Encoding: chunked\r\nContent-Length: 5\r\n" E, TG_POST, "/", "/", "", "a", 1, 5, false, true, false, false, 3),
	ACC("CRLF before the request line", "\r\n\r\n" L H E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("bytes of the next request", L H E "GET /2 HTTP/1.1\n", TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("absolute-form", "GET http://a/x?y HTTP/1.1\r\n" H E, TG_GET, "/x?y", "/x", "y", "a", 1, -1, false, true, false, false, 1),
	ACC("absolute-form, case and port", "GET HTTP://EXAMPLE.com:80/ HTTP/1.1\r\nHost: example.COM:80\r\n" E, TG_GET, "/", "/", "", "example.COM:80", 1, -1, false, true, false, false, 1),
	ACC("absolute-form without a path", "GET http://a HTTP/1.1\r\n" H E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("absolute-form with a path of slashes", "GET http://a//b HTTP/1.1\r\n" H E, TG_GET, "//b", "//b", "", "a", 1, -1, false, true, false, false, 1),
	ACC("OPTIONS *", "OPTIONS * HTTP/1.1\r\n" H E, TG_OPTIONS, "*", "*", "", "a", 1, -1, false, true, false, false, 1),
	ACC("OPTIONS path", "OPTIONS /v1/models HTTP/1.1\r\n" H E, TG_OPTIONS, "/v1/models", "/v1/models", "", "a", 1, -1, false, true, false, false, 1),
	ACC("HEAD", "HEAD / HTTP/1.1\r\n" H E, TG_HEAD, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("PUT", "PUT / HTTP/1.1\r\n" H E, TG_PUT, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("PATCH", "PATCH / HTTP/1.1\r\n" H E, TG_PATCH, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("DELETE", "DELETE / HTTP/1.1\r\n" H E, TG_DELETE, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
	ACC("HTTP/1.0 without Host", "GET / HTTP/1.0\r\n" E, TG_GET, "/", "/", "", "", 0, -1, false, false, false, false, 0),
	ACC("HTTP/1.0 keep-alive", "GET / HTTP/1.0\r\nConnection: Keep-Alive\r\n" E, TG_GET, "/", "/", "", "", 0, -1, false, true, false, false, 1),
	ACC("HTTP/1.0 keep-alive and close", "GET / HTTP/1.0\r\nConnection: keep-alive, close\r\n" E, TG_GET, "/", "/", "", "", 0, -1, false, false, false, false, 1),
	ACC("Connection: close", L H "Connection: close\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, false, false, false, 2),
	ACC("Connection: x ,\tCLOSE", L H "Connection: x ,\tCLOSE\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, false, false, false, 2),
	ACC("Connection twice", L H "Connection: keep-alive\r\nConnection: close\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, false, false, false, 3),
	ACC("Connection: closed", L H "Connection: closed\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 2),
	ACC("Connection names Content-Length", POST "Connection: close, Content-Length\r\nContent-Length: 5\r\n" E, TG_POST, "/", "/", "", "a", 1, 5, false, false, false, false, 3),
	ACC("Connection of commas", L H "Connection: ,, ,\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 2),
	ACC("Upgrade", L H "Connection: Upgrade\r\nUpgrade: websocket\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, true, 3),
	ACC("Upgrade with CL", POST "Content-Length: 5\r\nUpgrade: x\r\nConnection: keep-alive, upgrade\r\n" E, TG_POST, "/", "/", "", "a", 1, 5, false, true, false, true, 4),
	ACC("Upgrade that Connection does not name", L H "Upgrade: h2c\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 2),
	ACC("Connection: upgrade without Upgrade", L H "Connection: upgrade\r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 2),
	ACC("Expect", POST "Expect: 100-Continue\r\nContent-Length: 3\r\n" E, TG_POST, "/", "/", "", "a", 1, 3, false, true, true, false, 3),
	ACC("Expect from HTTP/1.0", "POST / HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 3\r\n" E, TG_POST, "/", "/", "", "", 0, 3, false, false, false, false, 2),
	ACC("Host with port", L "Host: model-1.example_x~.com:65535\r\n" E, TG_GET, "/", "/", "", "model-1.example_x~.com:65535", 1, -1, false, true, false, false, 1),
	ACC("Host v6", L "Host: [::1]:9001\r\n" E, TG_GET, "/", "/", "", "[::1]:9001", 1, -1, false, true, false, false, 1),
	ACC("Host v6 without port", L "Host: [2001:db8::ffff:192.0.2.1]\r\n" E, TG_GET, "/", "/", "", "[2001:db8::ffff:192.0.2.1]", 1, -1, false, true, false, false, 1),
	ACC("Host with OWS", L "Host: \t a\t \r\n" E, TG_GET, "/", "/", "", "a", 1, -1, false, true, false, false, 1),
};

static bool is(struct tg_slice s, const char *want)
{
	return tg_slice_eq(s, tg_slice_cstr(want));
}

static void test_accepted_requests(void **state)
{
	(void)state;
	static struct tg_head h;
	for (size_t i = 0; i < sizeof accepted / sizeof *accepted; i++) {
		const struct accept_row *r = &accepted[i];
		char *mem;
		bool incomplete;
		memset(&h, 0x5a, sizeof h); /* nothing may be left over from the head before */
		enum tg_refusal why = run(r->name, r->p, r->n, true, &limits, &h, &mem, &incomplete);
		if (incomplete || why != TG_REFUSE_NONE)
			fail_msg("%s: %s", r->name, incomplete ? "incomplete" : tg_refusals[why].name);
		if (h.method != r->method || !is(h.target, r->target) || !is(h.path, r->path) || !is(h.query, r->query) || !is(h.host, r->host))
			fail_msg("%s: method %s target [%.*s] path [%.*s] query [%.*s] host [%.*s]", r->name, tg_method_names[h.method], TG_SLICE_ARG(h.target), TG_SLICE_ARG(h.path),
				 TG_SLICE_ARG(h.query), TG_SLICE_ARG(h.host));
		if (h.minor != r->minor || h.content_length != r->length || h.chunked != r->chunked || h.keep_alive != r->keep || h.expect_continue != r->expect ||
		    h.upgrade != r->upgrade || h.nheaders != r->nheaders || h.status != 0)
			fail_msg("%s: minor %d length %lld chunked %d keep %d expect %d upgrade %d headers %u", r->name, h.minor, (long long)h.content_length, h.chunked, h.keep_alive,
				 h.expect_continue, h.upgrade, h.nheaders);
		free(mem);
	}
}

static void test_headers(void **state)
{
	(void)state;
	static struct tg_head h;
	static const char bytes[] = "POST /v1/chat/completions HTTP/1.1\r\nHOST: a\r\nx-api-key:k1\r\nX-API-Key: k2 \t\r\nX_Api_Key: k3\r\nEmpty:\r\nBlank: \t \r\n"
				    "User-Agent: caf\xc3\xa9 \xf0\x9f\x98\x80\tx\r\nX-Forwarded-Proto: https\r\n\r\n";
	char *mem;
	bool incomplete;
	assert_int_equal(run("headers", bytes, sizeof bytes - 1, true, &limits, &h, &mem, &incomplete), TG_REFUSE_NONE);
	assert_int_equal(h.nheaders, 8);
	assert_true(is(tg_head_get(&h, TG_H_X_API_KEY), "k1"));
	assert_int_equal(h.first[TG_H_X_API_KEY], 1);
	assert_false(h.key_twice);
	assert_true(is(h.headers[2].value, "k2") && h.headers[2].id == TG_H_X_API_KEY);
	assert_true(is(h.headers[3].name, "X_Api_Key") && h.headers[3].id == TG_H_OTHER && is(h.headers[3].value, "k3"));
	assert_true(h.headers[4].value.n == 0 && h.headers[4].value.p != NULL);
	assert_true(h.headers[5].value.n == 0 && h.headers[5].value.p != NULL);
	assert_true(is(tg_head_get(&h, TG_H_USER_AGENT), "caf\xc3\xa9 \xf0\x9f\x98\x80\tx"));
	assert_int_equal(h.headers[7].id, TG_H_X_FORWARDED);
	assert_null(tg_head_get(&h, TG_H_AUTHORIZATION).p);
	free(mem);
	static const char two[] = "GET / HTTP/1.1\r\nHost: a\r\nauthorization: k1\r\nX: y\r\nAuthorization:\r\n\r\n";
	assert_int_equal(run("two keys", two, sizeof two - 1, true, &limits, &h, &mem, &incomplete), TG_REFUSE_NONE);
	assert_true(h.key_twice && is(tg_head_get(&h, TG_H_AUTHORIZATION), "k1"));
	free(mem);
}

static char *repeat(const char *before, const char *unit, size_t times, const char *after, size_t *n)
{
	size_t a = strlen(before), u = strlen(unit), z = strlen(after);
	char *p = malloc(a + u * times + z);
	assert_non_null(p);
	memcpy(p, before, a);
	for (size_t i = 0; i < times; i++)
		memcpy(p + a + i * u, unit, u);
	memcpy(p + a + u * times, after, z);
	*n = a + u * times + z;
	return p;
}

static void test_sizes(void **state)
{
	(void)state;
	static struct tg_head h;
	static const struct tg_h1_limits wide = { .max_head = 1 << 20, .max_headers = TG_HEADERS_MAX };
	static const struct tg_h1_limits few = { .max_head = 16384, .max_headers = 3 }, more = { .max_head = 16384, .max_headers = 4 }, beyond = { .max_head = 16384, .max_headers = 5000 };
	static const struct {
		const char *name, *before, *unit;
		size_t times;
		const char *after;
		const struct tg_h1_limits *lim;
		enum tg_refusal want;
	} rows[] = {
		{ "header line of 64 KiB", L H "X: ", "a", 65536, "\r\n\r\n", &limits, TG_REFUSE_head_too_large },
		{ "header line of 64 KiB, no end", L H "X: ", "a", 65536, "", &limits, TG_REFUSE_head_too_large },
		{ "target of 60 KiB", "GET /", "a", 60000, " HTTP/1.1\r\n" H E, &limits, TG_REFUSE_long_target },
		{ "target of 60 KiB within the head limit", "GET /", "a", 60000, " HTTP/1.1\r\n" H E, &wide, TG_REFUSE_long_target },
		{ "target of 8 KiB", "GET /", "a", 8191, " HTTP/1.1\r\n" H E, &limits, TG_REFUSE_NONE },
		{ "target of 8 KiB and 1", "GET /", "a", 8192, " HTTP/1.1\r\n" H E, &limits, TG_REFUSE_long_target },
		{ "1,000 headers", L H, "X: a\r\n", 1000, E, &limits, TG_REFUSE_too_many_headers },
		{ "head of 900 KiB", L H, "Xyz: abcdefgh\r\n", 61440, E, &limits, TG_REFUSE_head_too_large },
		{ "100 headers", L H, "X: a\r\n", 99, E, &limits, TG_REFUSE_NONE },
		{ "101 headers", L H, "X: a\r\n", 100, E, &limits, TG_REFUSE_too_many_headers },
		{ "101 headers under a limit past ours", L H, "X: a\r\n", 100, E, &beyond, TG_REFUSE_too_many_headers },
		{ "4 headers of 3", L H, "X: a\r\n", 3, E, &few, TG_REFUSE_too_many_headers },
		{ "4 headers of 4", L H, "X: a\r\n", 3, E, &more, TG_REFUSE_NONE },
		{ "CRLF for ever", "", "\r\n", 10000, L H E, &limits, TG_REFUSE_head_too_large },
		{ "CRLF within the limit", "", "\r\n", 1000, L H E, &limits, TG_REFUSE_NONE },
		{ "a line of no request", "", "a", 20000, "", &limits, TG_REFUSE_long_target },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t n;
		bool incomplete;
		char *mem, *p = repeat(rows[i].before, rows[i].unit, rows[i].times, rows[i].after, &n);
		enum tg_refusal why = run(rows[i].name, p, n, true, rows[i].lim, &h, &mem, &incomplete);
		free(mem);
		free(p);
		if (incomplete || why != rows[i].want)
			fail_msg("%s: %s%s, want %s", rows[i].name, incomplete ? "incomplete " : "", tg_refusals[why].name, tg_refusals[rows[i].want].name);
	}
}

/* A head of exactly max_head bytes passes, one byte more does not, wherever it is cut. */
static void test_head_limit(void **state)
{
	(void)state;
	static const char bytes[] = "\r\n" L H E;
	static struct tg_head h;
	for (uint32_t max = 1; max < sizeof bytes + 2; max++) {
		struct tg_h1_limits lim = { .max_head = max, .max_headers = 10 };
		char *mem;
		bool incomplete;
		enum tg_refusal why = run("limit", bytes, sizeof bytes - 1, true, &lim, &h, &mem, &incomplete);
		assert_false(incomplete);
		if (max >= sizeof bytes - 1)
			assert_int_equal(why, TG_REFUSE_NONE);
		else
			/* While just the CRLF in front has come there is no target that could be too long; a lone CR may still become one. */
			assert_int_equal(why, max != 2 && max < 2 + sizeof(L) - 1 ? TG_REFUSE_long_target : TG_REFUSE_head_too_large);
		free(mem);
	}
}

/* A head cut short is not refused and not accepted. */
static void test_incomplete(void **state)
{
	(void)state;
	static const char bytes[] = "\r\nPOST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n";
	for (size_t n = 0; n < sizeof bytes - 1; n++) {
		size_t start;
		enum tg_refusal why;
		assert_int_equal(head_end(bytes, n, 0, 1, true, &limits, &start, &why), 0);
		/* The parser alone takes no part of it for a whole. */
		static struct tg_head h;
		char *c = copy(bytes + 2, n > 2 ? n - 2 : 0);
		assert_false(tg_h1_parse_request(c, n > 2 ? n - 2 : 0, &limits, &h, &why));
		free(c);
	}
}

/* The parser takes exactly one head: bytes past its blank line are refused, not ignored. */
static void test_bytes_past_the_head(void **state)
{
	(void)state;
	static struct tg_head h;
	static const char *const more[] = { "x", "\n", "\r", "\r\n", L H E };
	for (size_t i = 0; i < sizeof more / sizeof *more; i++) {
		size_t n;
		enum tg_refusal why = TG_REFUSE_NONE;
		char *p = repeat(L H E, more[i], 1, "", &n);
		assert_false(tg_h1_parse_request(p, n, &limits, &h, &why));
		assert_int_equal(why, TG_REFUSE_malformed);
		assert_true(tg_h1_parse_request(p, sizeof(L H E) - 1, &limits, &h, &why));
		free(p);
	}
}

#define S "HTTP/1.1 200 OK\r\n"
static const struct row refused_answers[] = {
	ROW("CL and TE", S "Content-Length: 2\r\nTransfer-Encoding: chunked\r\n" E, length_and_encoding),
	ROW("TE and CL", S "Transfer-Encoding: chunked\r\nContent-Length: 2\r\n" E, length_and_encoding),
	ROW("two CLs", S "Content-Length: 2\r\nContent-Length: 2\r\n" E, bad_content_length),
	ROW("CL 2, 2", S "Content-Length: 2, 2\r\n" E, bad_content_length),
	ROW("CL past 2^63", S "Content-Length: 9223372036854775808\r\n" E, bad_content_length),
	ROW("CL of 20 digits", S "Content-Length: 00000000000000000002\r\n" E, bad_content_length),
	ROW("bare LF after a header line", S "X: a\nY: b\r\n" E, bare_lf),
	ROW("LF after the status line", "HTTP/1.1 200 OK\nX: a\r\n" E, bare_lf),
	ROW("LF as the blank line", S "X: a\r\n\n", bare_lf),
	ROW("NUL in a value", S "X: a\0b\r\n" E, bad_header_value),
	ROW("Latin-1 in a value", S "X: \xe9\r\n" E, bad_header_value),
	ROW("status 2000", "HTTP/1.1 2000 OK\r\n" E, bad_status),
	ROW("status 20", "HTTP/1.1 20 OK\r\n" E, bad_status),
	ROW("status 099", "HTTP/1.1 099 OK\r\n" E, bad_status),
	ROW("status 600", "HTTP/1.1 600 OK\r\n" E, bad_status),
	ROW("status 999", "HTTP/1.1 999 OK\r\n" E, bad_status),
	ROW("status 2x0", "HTTP/1.1 2x0 OK\r\n" E, bad_status),
	ROW("status missing", "HTTP/1.1 \r\n" E, bad_status),
	ROW("status and its SP missing", "HTTP/1.1\r\n" E, bad_status_line),
	ROW("status after two SP", "HTTP/1.1  200 OK\r\n" E, bad_status),
	ROW("status without SP after it", "HTTP/1.1 200OK\r\n" E, bad_status_line),
	ROW("TAB for SP", "HTTP/1.1\t200 OK\r\n" E, bad_status_line),
	ROW("101", "HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n" E, switching_protocols),
	ROW("CR in the reason", "HTTP/1.1 200 O\rK\r\n" E, bad_status_line),
	ROW("NUL in the reason", "HTTP/1.1 200 O\0K\r\n" E, bad_status_line),
	ROW("0x01 in the reason", "HTTP/1.1 200 O\x01K\r\n" E, bad_status_line),
	ROW("0x7f in the reason", "HTTP/1.1 200 O\x7fK\r\n" E, bad_status_line),
	ROW("SP before the colon", S "X : a\r\n" E, bad_header_name),
	ROW("empty header name", S ": a\r\n" E, bad_header_name),
	ROW("RTSP", "RTSP/1.0 200 OK\r\n" E, bad_status_line),
	ROW("ICY", "ICY 200 OK\r\n" E, bad_status_line),
	ROW("HTTP/0.9", "HTTP/0.9 200 OK\r\n" E, bad_version),
	ROW("HTTP/2.0", "HTTP/2.0 200 OK\r\n" E, bad_version),
	ROW("HTTP/1.2", "HTTP/1.2 200 OK\r\n" E, bad_version),
	ROW("HTTP/1.10", "HTTP/1.10 200 OK\r\n" E, bad_status_line),
	ROW("no status line", "X: a\r\n" E, bad_status_line),
	ROW("a body in its place", "{\"a\":1}\r\n\r\n", bad_status_line),
	ROW("blank line first", E S E, bad_status_line),
	ROW("SP first", " " S E, bad_status_line),
	ROW("TE xchunked", S "Transfer-Encoding: xchunked\r\n" E, bad_transfer_encoding),
	ROW("TE identity", S "Transfer-Encoding: identity\r\n" E, bad_transfer_encoding),
	ROW("TE gzip, chunked", S "Transfer-Encoding: gzip, chunked\r\n" E, bad_transfer_encoding),
	ROW("TE chunked twice", S "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n" E, bad_transfer_encoding),
	ROW("TE empty", S "Transfer-Encoding:\r\n" E, bad_transfer_encoding),
	ROW("HTTP/1.0 chunked", "HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n" E, chunked_http10),
	ROW("obs-fold", S "X: a\r\n b\r\n" E, obs_fold),
	ROW("obs-fold after the status line", S " b\r\n" E, obs_fold),
};

static void test_answers(void **state)
{
	(void)state;
	static struct tg_head h;
	char *mem;
	bool incomplete;
	int failed = 0;
	for (size_t i = 0; i < sizeof refused_answers / sizeof *refused_answers; i++) {
		const struct row *r = &refused_answers[i];
		enum tg_refusal why = run(r->name, r->p, r->n, false, &limits, &h, &mem, &incomplete);
		free(mem);
		if (incomplete || why != r->want)
			failed++, print_error("%s: %s%s, want %s\n", r->name, incomplete ? "incomplete " : "", tg_refusals[why].name, tg_refusals[r->want].name);
	}
	assert_int_equal(failed, 0);
	static const struct {
		const char *name, *p;
		int status, minor;
		long long length;
		bool chunked, keep;
	} good[] = {
		{ "plain", S "Content-Length: 2\r\n" E, 200, 1, 2, false, true },
		{ "largest length", S "Content-Length: 9223372036854775807\r\n" E, 200, 1, INT64_MAX, false, true },
		{ "chunked", S "transfer-encoding:\tChunked\r\n" E, 200, 1, -1, true, true },
		{ "no length", S E, 200, 1, -1, false, true },
		{ "close", S "Connection: Close\r\n" E, 200, 1, -1, false, false },
		{ "HTTP/1.0", "HTTP/1.0 404 Not Found\r\nContent-Length: 0\r\n" E, 404, 0, 0, false, false },
		{ "HTTP/1.0 keep-alive", "HTTP/1.0 200 OK\r\nContent-Length: 0\r\nConnection: keep-alive\r\n" E, 200, 0, 0, false, true },
		{ "no reason", "HTTP/1.1 204 \r\n" E, 204, 1, -1, false, true },
		{ "no SP, no reason", "HTTP/1.1 204\r\n" E, 204, 1, -1, false, true },
		{ "reason with obs-text and TAB", "HTTP/1.1 200 \xe9\tok\r\n" E, 200, 1, -1, false, true },
		{ "204 with CL", "HTTP/1.1 204 No\r\nContent-Length: 5\r\n" E, 204, 1, 5, false, true },
		{ "304 with CL", "HTTP/1.1 304 No\r\nContent-Length: 5\r\n" E, 304, 1, 5, false, true },
		{ "100, then another head", "HTTP/1.1 100 Continue\r\n\r\n" S E, 100, 1, -1, false, true },
		{ "103", "HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n" E, 103, 1, -1, false, true },
		{ "599", "HTTP/1.1 599 x\r\n" E, 599, 1, -1, false, true },
		{ "two Hosts mean nothing here", S "Host: a b\r\nHost: c\r\nExpect: x\r\n" E, 200, 1, -1, false, true },
		{ "a 200 that offers an upgrade", S "Connection: upgrade\r\nUpgrade: h2c\r\nContent-Length: 1\r\n" E, 200, 1, 1, false, true },
	};
	for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
		memset(&h, 0x5a, sizeof h);
		enum tg_refusal why = run(good[i].name, good[i].p, strlen(good[i].p), false, &limits, &h, &mem, &incomplete);
		if (incomplete || why != TG_REFUSE_NONE)
			fail_msg("%s: %s", good[i].name, incomplete ? "incomplete" : tg_refusals[why].name);
		if (h.status != good[i].status || h.minor != good[i].minor || h.content_length != good[i].length || h.chunked != good[i].chunked || h.keep_alive != good[i].keep)
			fail_msg("%s: status %d minor %d length %lld chunked %d keep %d", good[i].name, h.status, h.minor, (long long)h.content_length, h.chunked, h.keep_alive);
		assert_false(h.expect_continue);
		free(mem);
	}
}

static void test_names(void **state)
{
	(void)state;
	static const struct {
		const char *name;
		enum tg_header_id id;
	} rows[] = {
		{ "host", TG_H_HOST }, { "content-length", TG_H_CONTENT_LENGTH }, { "transfer-encoding", TG_H_TRANSFER_ENCODING }, { "connection", TG_H_CONNECTION },
		{ "authorization", TG_H_AUTHORIZATION }, { "x-api-key", TG_H_X_API_KEY }, { "cookie", TG_H_COOKIE }, { "content-type", TG_H_CONTENT_TYPE },
		{ "content-encoding", TG_H_CONTENT_ENCODING }, { "expect", TG_H_EXPECT }, { "upgrade", TG_H_UPGRADE }, { "origin", TG_H_ORIGIN }, { "sec-fetch-site", TG_H_SEC_FETCH_SITE },
		{ "x-request-id", TG_H_X_REQUEST_ID }, { "x-correlation-id", TG_H_X_CORRELATION_ID }, { "accept", TG_H_ACCEPT }, { "accept-encoding", TG_H_ACCEPT_ENCODING },
		{ "x-forwarded-for", TG_H_X_FORWARDED_FOR }, { "forwarded", TG_H_FORWARDED }, { "x-real-ip", TG_H_X_REAL_IP }, { "x-forwarded-host", TG_H_X_FORWARDED },
		{ "x-forwarded-proto", TG_H_X_FORWARDED }, { "x-forwarded-p", TG_H_X_FORWARDED }, { "te", TG_H_TE }, { "trailer", TG_H_TRAILER }, { "keep-alive", TG_H_KEEP_ALIVE },
		{ "proxy-connection", TG_H_PROXY }, { "proxy-authorization", TG_H_PROXY }, { "proxy-authenticate", TG_H_PROXY }, { "retry-after", TG_H_RETRY_AFTER },
		{ "set-cookie", TG_H_SET_COOKIE }, { "cache-control", TG_H_CACHE_CONTROL }, { "user-agent", TG_H_USER_AGENT }, { "x-session-id", TG_H_X_SESSION_ID },
		{ "location", TG_H_LOCATION }, { "www-authenticate", TG_H_WWW_AUTHENTICATE }, { "date", TG_H_DATE }, { "server", TG_H_SERVER }, { "via", TG_H_VIA },
		{ "access-control-request-method", TG_H_ACCESS_CONTROL_REQUEST_METHOD }, { "access-control-request-headers", TG_H_ACCESS_CONTROL_REQUEST_HEADERS },
	};
	bool seen[TG_H_COUNT] = { [TG_H_OTHER] = true };
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char name[64];
		size_t n = strlen(rows[i].name);
		seen[rows[i].id] = true;
		assert_int_equal(tg_header_lookup((struct tg_slice){ rows[i].name, n }), rows[i].id);
		for (size_t k = 0; k < n; k++)
			name[k] = rows[i].name[k] >= 'a' && rows[i].name[k] <= 'z' ? (char)(rows[i].name[k] - 32) : rows[i].name[k];
		assert_int_equal(tg_header_lookup((struct tg_slice){ name, n }), rows[i].id);
		/* One byte changed to any other value is no longer that name, save for the case of a letter. */
		for (size_t k = 0; k < n; k++)
			for (int b = 0; b < 256; b++) {
				memcpy(name, rows[i].name, n);
				name[k] = (char)b;
				bool same = strncasecmp(name, rows[i].name, n) == 0;
				enum tg_header_id id = tg_header_lookup((struct tg_slice){ name, n });
				if (same ? id != rows[i].id : id == rows[i].id && id != TG_H_X_FORWARDED)
					fail_msg("%s with byte %zu = %d is %d", rows[i].name, k, b, id);
			}
	}
	for (int i = 0; i < TG_H_COUNT; i++)
		if (!seen[i])
			fail_msg("no row for header id %d", i);
	assert_int_equal(tg_header_lookup((struct tg_slice){ "", 0 }), TG_H_OTHER);
	assert_int_equal(tg_header_lookup(TG_S("x-forwarded-")), TG_H_OTHER);
	assert_int_equal(tg_header_lookup(TG_S("x_forwarded_for")), TG_H_OTHER);
}

static void test_refusal_table(void **state)
{
	(void)state;
	for (int i = 1; i < TG_REFUSE_COUNT; i++) {
		assert_in_range(tg_refusals[i].status, 400, 505);
		assert_true(strlen(tg_refusals[i].text) > 10 && tg_refusals[i].text[strlen(tg_refusals[i].text) - 1] == '.');
	}
	assert_int_equal(tg_refusals[TG_REFUSE_bad_version].status, 505);
	assert_int_equal(tg_refusals[TG_REFUSE_connect_method].status, 405);
	assert_int_equal(tg_refusals[TG_REFUSE_bad_expect].status, 417);
	assert_int_equal(tg_refusals[TG_REFUSE_long_target].status, 414);
	assert_int_equal(tg_refusals[TG_REFUSE_too_many_headers].status, 431);
	assert_string_equal(tg_refusals[TG_REFUSE_bare_lf].name, "bare_lf");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_refused_requests), cmocka_unit_test(test_accepted_requests), cmocka_unit_test(test_headers),
		cmocka_unit_test(test_sizes), cmocka_unit_test(test_head_limit), cmocka_unit_test(test_incomplete), cmocka_unit_test(test_bytes_past_the_head), cmocka_unit_test(test_answers),
		cmocka_unit_test(test_names), cmocka_unit_test(test_refusal_table),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
