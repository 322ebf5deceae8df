#pragma once
/* A borrowed view of bytes: no ownership, no terminator. The bytes live as long as whatever lent them. */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

struct tg_slice {
	const char *p;
	size_t n; /* bytes */
};

#define TG_S(lit) ((struct tg_slice){ "" lit, sizeof(lit) - 1 })
#define TG_SLICE_FMT "%.*s"
#define TG_SLICE_ARG(s) (int)(s).n, (s).p

static inline struct tg_slice tg_slice_cstr(const char *s)
{
	return (struct tg_slice){ s, s ? strlen(s) : 0 };
}
static inline bool tg_slice_eq(struct tg_slice a, struct tg_slice b)
{
	return a.n == b.n && (a.n == 0 || memcmp(a.p, b.p, a.n) == 0);
}
static inline bool tg_slice_eq_nocase(struct tg_slice a, struct tg_slice b)
{
	return a.n == b.n && (a.n == 0 || strncasecmp(a.p, b.p, a.n) == 0);
}
static inline bool tg_slice_starts(struct tg_slice a, struct tg_slice prefix)
{
	return a.n >= prefix.n && memcmp(a.p, prefix.p, prefix.n) == 0;
}
/* A NUL-terminated copy, the caller's to free; NULL: no memory. */
static inline char *tg_slice_dup(struct tg_slice s)
{
	char *p = malloc(s.n + 1);
	if (p) {
		if (s.n)
			memcpy(p, s.p, s.n);
		p[s.n] = 0;
	}
	return p;
}
/* Without leading and trailing SP and HTAB (RFC 9110 section 5.6.3, OWS). */
static inline struct tg_slice tg_slice_trim(struct tg_slice s)
{
	while (s.n && (s.p[0] == ' ' || s.p[0] == '\t'))
		s.p++, s.n--;
	while (s.n && (s.p[s.n - 1] == ' ' || s.p[s.n - 1] == '\t'))
		s.n--;
	return s;
}
