#pragma once
/*
 * A growable byte buffer that cannot be created without a ceiling. An append that would pass the ceiling, or that finds no
 * memory, changes nothing and marks the buffer `failed`; later appends do nothing, so that a chain of appends needs one check.
 * Owner: whoever calls tg_buf_init; tg_buf_free gives the memory back and leaves an empty, usable buffer.
 */
#include "base/slice.h"

struct tg_buf {
	char *p;
	size_t len, cap; /* bytes */
	size_t max;      /* ceiling of cap, bytes */
	bool failed;
};

void tg_buf_init(struct tg_buf *b, size_t max);
void tg_buf_free(struct tg_buf *b);
/* Room for n more bytes. False (and failed) past the ceiling or without memory. */
bool tg_buf_reserve_slow(struct tg_buf *b, size_t n);
static inline bool tg_buf_reserve(struct tg_buf *b, size_t n)
{
	return (b->cap - b->len >= n && !b->failed) || tg_buf_reserve_slow(b, n);
}
static inline void tg_buf_put(struct tg_buf *b, const char *p, size_t n)
{
	if (n && tg_buf_reserve(b, n)) {
		memcpy(b->p + b->len, p, n);
		b->len += n;
	}
}
static inline void tg_buf_slice(struct tg_buf *b, struct tg_slice s)
{
	tg_buf_put(b, s.p, s.n);
}
#define tg_buf_lit(b, lit) tg_buf_put((b), "" lit, sizeof(lit) - 1)
static inline void tg_buf_char(struct tg_buf *b, char c)
{
	if (tg_buf_reserve(b, 1))
		b->p[b->len++] = c;
}
static inline void tg_buf_cstr(struct tg_buf *b, const char *s)
{
	tg_buf_put(b, s, strlen(s));
}
void tg_buf_u64(struct tg_buf *b, uint64_t v);
void tg_buf_i64(struct tg_buf *b, int64_t v);
void tg_buf_hex(struct tg_buf *b, uint64_t v);
/* Thousandths: 1234 is written as 1.234 (milliseconds from microseconds). */
void tg_buf_milli(struct tg_buf *b, uint64_t v);
void tg_buf_fmt(struct tg_buf *b, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
/* A JSON string with its quotes (RFC 8259 section 7). Control characters and DEL are escaped, bytes that are no UTF-8 become U+FFFD. */
void tg_buf_json(struct tg_buf *b, struct tg_slice s);
/* The string, or null where s.p is NULL. */
void tg_buf_json_or_null(struct tg_buf *b, struct tg_slice s);
/* Text of a page: & < > " as entities. */
void tg_buf_html(struct tg_buf *b, const char *s);
/* Drops the first n bytes (n <= len). */
void tg_buf_consume(struct tg_buf *b, size_t n);
static inline struct tg_slice tg_buf_view(const struct tg_buf *b)
{
	return (struct tg_slice){ b->p, b->len };
}
