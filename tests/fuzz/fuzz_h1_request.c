/*
 * Request heads: where the head ends does not depend on how it arrives; a head that is accepted, written again from its parsed form, is accepted
 * and reads the same. The first two bytes choose where the input is cut. Input is copied to the heap at its exact size.
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
	char *c = put(to, tg_slice_cstr(tg_method_names[h->method]));
	*c++ = ' ';
	c = put(c, h->target);
	c = put(c, h->minor ? TG_S(" HTTP/1.1\r\n") : TG_S(" HTTP/1.0\r\n"));
	for (unsigned i = 0; i < h->nheaders; i++) {
		c = put(c, h->headers[i].name);
		*c++ = ':';
		c = put(c, h->headers[i].value);
		c = put(c, TG_S("\r\n"));
	}
	return (size_t)(put(c, TG_S("\r\n")) - to);
}

static void sound(const struct tg_head *h, const char *head, size_t n)
{
	must(h->method < TG_METHOD_OTHER && h->minor <= 1 && h->content_length >= -1 && h->nheaders <= limits.max_headers, "ranges");
	must(!(h->chunked && (h->content_length >= 0 || h->minor == 0)), "two framings");
	must(h->target.n >= 1 && h->target.p > head && h->target.p + h->target.n < head + n, "target within the head");
	must(h->target.p[0] == '/' || (h->method == TG_OPTIONS && tg_slice_eq(h->target, TG_S("*"))), "origin-form");
	must(h->path.p == h->target.p && (h->query.n ? h->path.n + 1 + h->query.n == h->target.n : h->target.n - h->path.n <= 1), "path and query make the target");
	must(!memchr(h->path.p, '?', h->path.n), "no query in the path");
	must(h->minor == 0 || h->host.n, "Host");
	unsigned hosts = 0, lengths = 0, codings = 0;
	const char *end = h->target.p;
	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct tg_header *x = &h->headers[i];
		must(x->name.n && x->name.p > end && x->value.p > x->name.p + x->name.n - 1 && x->value.p + x->value.n <= head + n - 2, "headers in order, within the head");
		end = x->value.p;
		must(tg_utf8_valid(x->value.p, x->value.n), "UTF-8");
		must(tg_slice_eq(tg_slice_trim(x->value), x->value), "trimmed");
		for (size_t k = 0; k < x->value.n; k++)
			must(((unsigned char)x->value.p[k] >= 0x20 || x->value.p[k] == '\t') && x->value.p[k] != 0x7f, "no control character in a value");
		for (size_t k = 0; k < x->name.n; k++)
			must(x->name.p[k] > 0x20 && x->name.p[k] < 0x7f && x->name.p[k] != ':', "name");
		must(x->id == tg_header_lookup(x->name), "id");
		hosts += tg_slice_eq_nocase(x->name, TG_S("host"));
		lengths += tg_slice_eq_nocase(x->name, TG_S("content-length"));
		codings += tg_slice_eq_nocase(x->name, TG_S("transfer-encoding"));
	}
	must(hosts <= 1 && lengths + codings <= 1 && (lengths == 1) == (h->content_length >= 0) && (codings == 1) == h->chunked, "framing headers");
	for (int id = 1; id < TG_H_COUNT; id++) {
		int16_t f = h->first[id];
		must(f >= -1 && f < (int)h->nheaders && (f < 0 || h->headers[f].id == id), "first");
	}
}

static void same(const struct tg_head *a, const struct tg_head *b)
{
	must(a->method == b->method && a->minor == b->minor && a->keep_alive == b->keep_alive && a->chunked == b->chunked && a->content_length == b->content_length &&
		     a->expect_continue == b->expect_continue && a->upgrade == b->upgrade && a->key_twice == b->key_twice && a->nheaders == b->nheaders && !memcmp(a->first, b->first, sizeof a->first),
	     "the same fields");
	must(tg_slice_eq(a->target, b->target) && tg_slice_eq(a->path, b->path) && tg_slice_eq(a->query, b->query) && tg_slice_eq(a->host, b->host), "the same target");
	for (unsigned i = 0; i < a->nheaders; i++)
		must(tg_slice_eq(a->headers[i].name, b->headers[i].name) && tg_slice_eq(a->headers[i].value, b->headers[i].value), "the same headers");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static struct tg_head a, b;
	enum tg_refusal why = TG_REFUSE_NONE, why2 = TG_REFUSE_NONE;
	size_t start = 0, start2 = 0, scanned = 0;
	if (size < 2)
		return 0;
	size_t n = size - 2, step = data[0] + 1u, at = data[1];
	const uint8_t *p = data + 2;
	char *whole = copy(p, n);
	long len = tg_h1_head_end(whole, n, &scanned, &start, true, &limits, &why), len2;
	scanned = 0;
	for (at = at < n ? at : n;; at = n - at > step ? at + step : n) {
		char *part = copy(p, at);
		len2 = tg_h1_head_end(part, at, &scanned, &start2, true, &limits, &why2);
		free(part);
		if (len2 || at == n)
			break;
	}
	must(len == len2 && why == why2 && (len <= 0 || start == start2), "the end of the head does not depend on the cut");
	if (len <= 0) {
		if (len < 0 && why != TG_REFUSE_head_too_large)
			must(!tg_h1_parse_request(whole, n, &limits, &a, &why), "the parser refuses what the line rules refuse");
		free(whole);
		return 0;
	}
	must(start + (size_t)len <= n && start + (size_t)len <= limits.max_head, "the head lies within input and limit");
	char *head = copy(whole + start, (size_t)len);
	free(whole);
	why = TG_REFUSE_NONE;
	bool ok = tg_h1_parse_request(head, (size_t)len, &limits, &a, &why);
	must(ok == (why == TG_REFUSE_NONE), "a refusal has a reason");
	if (ok) {
		sound(&a, head, (size_t)len);
		char *room = malloc((size_t)len);
		if (room) {
			size_t m = rewrite(&a, room);
			must(m <= (size_t)len, "the parsed form is no longer than the original");
			char *again = copy(room, m);
			scanned = 0;
			must(tg_h1_head_end(again, m, &scanned, &start, true, &limits, &why) == (long)m && start == 0, "written again, it is a head");
			must(tg_h1_parse_request(again, m, &limits, &b, &why), "written again, it is accepted");
			same(&a, &b);
			free(again);
		}
		free(room);
	}
	free(head);
	return 0;
}
