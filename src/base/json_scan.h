#pragma once
/*
 * A bounded, resumable pull scanner for JSON (RFC 8259): it finds a few members of the top-level object without building a
 * tree, as the bytes arrive, and checks the grammar of everything it passes. This is the only JSON we write.
 *
 * Feed it a document in any number of pieces; offsets are absolute in the document. The caller keeps the bytes if it wants to
 * read the values found: the scanner remembers offsets only (plus flags it needs), so its cost does not grow with the input.
 * Strict: no NaN, no trailing comma, no leading zero, no control character in a string, valid UTF-8, valid escapes (a lone
 * surrogate escape is refused), depth <= TG_JSON_DEPTH, exactly one top-level value, which must be an object.
 * A member named twice is refused where it is one of those asked for (also when written with escapes: "mod\u0065l" is model).
 * Split-invariant: verdict, offsets and the offset of a fault do not depend on how the document was cut into pieces.
 * Strings are skipped 16 bytes at a time where SSE2 is there, else 8 (TG_JSON_PORTABLE forces that path, for tests): see
 * docs/benchmarks.md, 100 KB row.
 */
#include "base/slice.h"

#define TG_JSON_DEPTH 64
#define TG_JSON_WANT_MAX 8
#define TG_JSON_NAME_MAX 64

enum tg_json_type { TG_JSON_NONE, TG_JSON_STRING, TG_JSON_NUMBER, TG_JSON_TRUE, TG_JSON_FALSE, TG_JSON_NULL, TG_JSON_OBJECT, TG_JSON_ARRAY };
enum tg_json_state { TG_JSON_MORE, TG_JSON_DONE, TG_JSON_BAD };

/* One member that is looked for, and where its value was found. */
struct tg_json_want {
	struct tg_slice name;   /* borrowed; plain ASCII, at most TG_JSON_NAME_MAX bytes */
	enum tg_json_type type; /* TG_JSON_NONE: absent */
	bool escaped;           /* a string with at least one backslash */
	size_t from, to;        /* absolute offsets of the whole value: a string with its quotes, an object with its braces */
	size_t chars;           /* a string's length in code points, escapes counted as what they stand for */
};

struct tg_json_scan {
	struct tg_json_want want[TG_JSON_WANT_MAX];
	unsigned nwant;
	const char *why;        /* static text once BAD: "duplicate member", "control character in string", ... */
	const char *member;     /* the wanted name concerned, or NULL (duplicates) */
	size_t at;              /* absolute offset of the next byte; of the fault once BAD */
	size_t first_member;    /* absolute offset just after the opening brace: where a member can be put in front; 0 before it was seen */
	bool empty;             /* the object had no members (valid once DONE) */
	/* private from here: the resumable state */
	uint8_t state, depth, cur;          /* cur: the wanted member whose value is next or open, else TG_JSON_WANT_MAX */
	uint8_t literal, literal_at;
	uint8_t hexleft, utf8left, utf8lo, utf8hi;
	bool inname, open, esc;
	uint16_t hex, high;
	uint32_t namelen;
	uint64_t isarray;                   /* one bit a level */
	uint64_t lengths;                   /* one bit for each length a wanted name has */
	size_t vfrom, vextra;               /* vextra: bytes of the string that begin no character of their own */
	char name[TG_JSON_NAME_MAX];        /* of the member being read, decoded, where it cannot be read in place */
};

void tg_json_scan_init(struct tg_json_scan *s, const char *const *names, unsigned n);
/* Consumes all n bytes unless BAD. After DONE only white space may follow (else BAD). */
enum tg_json_state tg_json_scan_feed(struct tg_json_scan *s, const char *p, size_t n);
/* Whether the document is whole: DONE, or BAD with why = "unexpected end". */
enum tg_json_state tg_json_scan_end(struct tg_json_scan *s);

/* The wanted member whose value has begun and not ended where the last piece did, and the absolute offset it began at; NULL: none. */
static inline const struct tg_json_want *tg_json_scan_open(const struct tg_json_scan *s, size_t *from)
{
	if (!s->open)
		return NULL;
	*from = s->vfrom;
	return &s->want[s->cur];
}

/* Whole-document convenience on a slice. */
enum tg_json_state tg_json_scan_all(struct tg_json_scan *s, struct tg_slice doc, const char *const *names, unsigned n);
static inline struct tg_slice tg_json_value(struct tg_slice doc, const struct tg_json_want *w)
{
	return (struct tg_slice){ doc.p + w->from, w->to - w->from };
}
/* The first element of an array value ("[...]" as found by the scanner, grammar already checked), as its raw text; empty slice if none. */
struct tg_slice tg_json_first(struct tg_slice array);
/*
 * The next member of an object value (grammar already checked), in order: its name with the quotes, as written, and its value's raw text.
 * *at starts at 0 and is moved on. False: there is none left.
 */
bool tg_json_next_member(struct tg_slice object, size_t *at, struct tg_slice *name, struct tg_slice *value);
/* Unescapes a string value (with quotes, grammar already checked) into out; bytes written, or -1 if it would not fit. */
long tg_json_unescape(struct tg_slice quoted, char *out, size_t cap);
/* A number value as a non-negative integer: false unless it is digits only and <= max. */
bool tg_json_u64(struct tg_slice number, uint64_t max, uint64_t *out);
