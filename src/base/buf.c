/*
 * Growable buffers with a ceiling. Growth doubles, so that n appends cost O(n); the sticky `failed` mark lets callers write
 * a whole head or log line and check once.
 */
#include "base/buf.h"
#include "base/utf8.h"
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

void tg_buf_init(struct tg_buf *b, size_t max)
{
	*b = (struct tg_buf){ .max = max };
}

void tg_buf_free(struct tg_buf *b)
{
	free(b->p);
	tg_buf_init(b, b->max);
}

bool tg_buf_reserve_slow(struct tg_buf *b, size_t n)
{
	if (b->failed)
		return false;
	if (n <= b->cap - b->len)
		return true;
	if (n > b->max || b->len > b->max - n) {
		b->failed = true;
		return false;
	}
	size_t cap = b->cap ? b->cap : b->max < 256 ? b->max : 256;
	while (cap - b->len < n)
		cap = cap > b->max / 2 ? b->max : cap * 2;
	char *p = realloc(b->p, cap);
	if (!p) {
		b->failed = true;
		return false;
	}
	b->p = p;
	b->cap = cap;
	return true;
}

void tg_buf_u64(struct tg_buf *b, uint64_t v)
{
	char t[20];
	size_t i = sizeof t;
	do
		t[--i] = (char)('0' + v % 10);
	while (v /= 10);
	tg_buf_put(b, t + i, sizeof t - i);
}

void tg_buf_i64(struct tg_buf *b, int64_t v)
{
	if (v < 0)
		tg_buf_char(b, '-');
	tg_buf_u64(b, v < 0 ? 0 - (uint64_t)v : (uint64_t)v);
}

void tg_buf_hex(struct tg_buf *b, uint64_t v)
{
	char t[16];
	size_t i = sizeof t;
	do
		t[--i] = "0123456789abcdef"[v & 15];
	while (v >>= 4);
	tg_buf_put(b, t + i, sizeof t - i);
}

void tg_buf_milli(struct tg_buf *b, uint64_t v)
{
	tg_buf_u64(b, v / 1000);
	char t[4] = { '.', (char)('0' + v / 100 % 10), (char)('0' + v / 10 % 10), (char)('0' + v % 10) };
	tg_buf_put(b, t, sizeof t);
}

void tg_buf_fmt(struct tg_buf *b, const char *fmt, ...)
{
	va_list ap, again;
	va_start(ap, fmt);
	va_copy(again, ap);
	char t[256];
	int n = vsnprintf(t, sizeof t, fmt, ap);
	va_end(ap);
	if (n >= 0 && (size_t)n < sizeof t) {
		tg_buf_put(b, t, (size_t)n);
	} else if (n >= 0 && tg_buf_reserve(b, (size_t)n + 1)) {
		vsnprintf(b->p + b->len, (size_t)n + 1, fmt, again);
		b->len += (size_t)n;
	}
	va_end(again);
}

/* 1: this byte can stand in a JSON string as it is. */
static const unsigned char plain[256] = {
	[0x20 ... 0x21] = 1, [0x23 ... 0x5b] = 1, [0x5d ... 0x7e] = 1,
};

void tg_buf_json(struct tg_buf *b, struct tg_slice s)
{
	tg_buf_char(b, '"');
	size_t i = 0;
	while (i < s.n) {
		size_t from = i;
		while (i < s.n && plain[(unsigned char)s.p[i]])
			i++;
		tg_buf_put(b, s.p + from, i - from);
		if (i == s.n)
			break;
		unsigned char c = (unsigned char)s.p[i];
		if (c >= 0x80) {
			size_t k = tg_utf8_len(s.p + i, s.n - i);
			if (k) {
				tg_buf_put(b, s.p + i, k);
				i += k;
			} else {
				tg_buf_lit(b, "\\ufffd");
				i++;
			}
			continue;
		}
		switch (c) {
		case '"': tg_buf_lit(b, "\\\""); break;
		case '\\': tg_buf_lit(b, "\\\\"); break;
		case '\n': tg_buf_lit(b, "\\n"); break;
		case '\r': tg_buf_lit(b, "\\r"); break;
		case '\t': tg_buf_lit(b, "\\t"); break;
		default: tg_buf_fmt(b, "\\u%04x", c);
		}
		i++;
	}
	tg_buf_char(b, '"');
}

void tg_buf_json_or_null(struct tg_buf *b, struct tg_slice s)
{
	if (s.p)
		tg_buf_json(b, s);
	else
		tg_buf_lit(b, "null");
}

void tg_buf_html(struct tg_buf *b, const char *s)
{
	for (; *s; s++)
		switch (*s) {
		case '&': tg_buf_lit(b, "&amp;"); break;
		case '<': tg_buf_lit(b, "&lt;"); break;
		case '>': tg_buf_lit(b, "&gt;"); break;
		case '"': tg_buf_lit(b, "&quot;"); break;
		default: tg_buf_char(b, *s);
		}
}

void tg_buf_consume(struct tg_buf *b, size_t n)
{
	if (n >= b->len) {
		b->len = 0;
		return;
	}
	memmove(b->p, b->p + n, b->len - n);
	b->len -= n;
}
