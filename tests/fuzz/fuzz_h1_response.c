/*
 * Response heads: the end of the head does not depend on how it arrives; what is accepted has one framing, and, written again from its parsed form,
 * reads the same. The first two bytes choose where the input is cut. Input is copied to the heap at its exact size.
 */
#include "http/h1.h"
#include "base/utf8.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const struct tg_h1_limits limits = { .max_head = 4096, .max_headers = 40 };

static void must(bool ok, const char *what)
{
	if (!ok) {
		fprintf(stderr, "property broken: %s\n", what);
		abort();
	}
}

static void *copy(const void *p, size_t n)
{
	void *c = malloc(n);
	if (n && c)
		memcpy(c, p, n);
	return c;
}

static char *put(char *to, struct tg_slice s)
{
	if (s.n)
		memcpy(to, s.p, s.n);
	return to + s.n;
}

static size_t rewrite(const struct tg_head *h, char *to)
{
	char *c = to + snprintf(to, 16, "HTTP/1.%u %03u", h->minor, h->status);
	c = put(c, TG_S("\r\n"));
	for (unsigned i = 0; i < h->nheaders; i++) {
		c = put(c, h->headers[i].name);
		*c++ = ':';
		c = put(c, h->headers[i].value);
		c = put(c, TG_S("\r\n"));
	}
	return (size_t)(put(c, TG_S("\r\n")) - to);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tg_head a, b;
	enum tg_refusal why = TG_REFUSE_NONE, why2 = TG_REFUSE_NONE;
	size_t start = 0, scanned = 0;
	if (size < 2)
		return 0;
	size_t n = size - 2, step = data[0] + 1u, at = data[1];
	const uint8_t *p = data + 2;
	char *whole = copy(p, n);
	long len = tg_h1_head_end(whole, n, &scanned, &start, false, &limits, &why), len2;
	scanned = 0;
	for (at = at < n ? at : n;; at = n - at > step ? at + step : n) {
		char *part = copy(p, at);
		len2 = tg_h1_head_end(part, at, &scanned, &start, false, &limits, &why2);
		free(part);
		if (len2 || at == n)
			break;
	}
	must(len == len2 && why == why2 && start == 0, "the end of the head does not depend on the cut");
	if (len <= 0) {
		if (len < 0 && why != TG_REFUSE_head_too_large)
			must(!tg_h1_parse_response(whole, n, &limits, &a, &why), "the parser refuses what the line rules refuse");
		free(whole);
		return 0;
	}
	char *head = copy(whole, (size_t)len);
	free(whole);
	why = TG_REFUSE_NONE;
	bool ok = tg_h1_parse_response(head, (size_t)len, &limits, &a, &why);
	must(ok == (why == TG_REFUSE_NONE), "a refusal has a reason");
	if (ok) {
		must(a.status >= 100 && a.status <= 599 && a.status != 101 && a.minor <= 1 && a.nheaders <= limits.max_headers, "ranges");
		must(!(a.chunked && (a.content_length >= 0 || a.minor == 0)), "two framings");
		must(!a.expect_continue && !a.host.p && !a.target.p, "an answer has no request's fields");
		unsigned framing = 0;
		for (unsigned i = 0; i < a.nheaders; i++) {
			const struct tg_header *x = &a.headers[i];
			must(x->name.n && x->name.p > head && x->value.p + x->value.n <= head + len - 2 && tg_utf8_valid(x->value.p, x->value.n), "headers");
			for (size_t k = 0; k < x->value.n; k++)
				must(((unsigned char)x->value.p[k] >= 0x20 || x->value.p[k] == '\t') && x->value.p[k] != 0x7f, "no control character in a value");
			framing += tg_slice_eq_nocase(x->name, TG_S("content-length")) || tg_slice_eq_nocase(x->name, TG_S("transfer-encoding"));
		}
		must(framing <= 1 && (framing == 1) == (a.chunked || a.content_length >= 0), "framing headers");
		char *room = malloc((size_t)len + 16);
		if (room) {
			size_t m = rewrite(&a, room);
			must(m <= (size_t)len, "the parsed form is no longer than the original");
			char *again = copy(room, m);
			scanned = 0;
			must(tg_h1_head_end(again, m, &scanned, &start, false, &limits, &why) == (long)m, "written again, it is a head");
			must(tg_h1_parse_response(again, m, &limits, &b, &why), "written again, it is accepted");
			must(a.status == b.status && a.minor == b.minor && a.keep_alive == b.keep_alive && a.chunked == b.chunked && a.content_length == b.content_length &&
				     a.upgrade == b.upgrade && a.nheaders == b.nheaders && !memcmp(a.first, b.first, sizeof a.first),
			     "the same fields");
			for (unsigned i = 0; i < a.nheaders; i++)
				must(tg_slice_eq(a.headers[i].name, b.headers[i].name) && tg_slice_eq(a.headers[i].value, b.headers[i].value), "the same headers");
			free(again);
		}
		free(room);
	}
	free(head);
	return 0;
}
