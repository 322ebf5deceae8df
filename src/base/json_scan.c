/*
 * The hot path's JSON scanner: one pass over the bytes, no tree, no allocation, resumable at any byte.
 *
 * Invariants. Every label below is a place where a piece may end: it names the state that brings the next call back to it, and all
 * that must survive the gap is in the struct. A fault is always found at the same byte, however the document was cut, because the
 * fast paths only ever pass over bytes that the byte-wise path would have passed too, and leave every doubt to it.
 *
 * Why like this. A chat body is nearly all text: the long runs inside strings are passed 16 bytes at a time (with SSE2 one signed
 * comparison finds control characters and non-ASCII bytes together), so the rest may be plain code. Labels and gotos instead of
 * a loop over a switch give each kind of transition a branch of its own, which the CPU predicts better. Length in characters costs
 * nothing for ASCII: it is the length in bytes less what multi-byte sequences and escapes took more, counted where they are met.
 * An AVX2 twin of the string loop was measured and left out: no faster on chat bodies of 1 KB, slower on those of 100 KB.
 */
#include "base/json_scan.h"
#if defined(__SSE2__) && !defined(TG_JSON_PORTABLE)
#include <emmintrin.h>
#define WIDE 16
#else
#define WIDE 8
#endif

enum {
	ST_START, ST_OPEN, ST_KEY, ST_COLON, ST_VALUE, ST_ELEMENT, ST_AFTER, ST_STRING, ST_UTF8, ST_ESC, ST_HEX, ST_LOW, ST_LOW_U, ST_LITERAL,
	ST_MINUS, ST_ZERO, ST_INT, ST_DOT, ST_FRAC, ST_E, ST_E_SIGN, ST_EXP, ST_END, ST_BAD
};
#define NO_WANT TG_JSON_WANT_MAX

/* 1: stands for itself in a string, one byte one character. */
static const unsigned char plain[256] = { [0x20 ... 0x21] = 1, [0x23 ... 0x5b] = 1, [0x5d ... 0x7f] = 1 };

#if WIDE == 16
static inline __m128i hits16(const unsigned char *c)
{
	__m128i x = _mm_loadu_si128((const __m128i *)(const void *)c);
	__m128i q = _mm_cmpeq_epi8(x, _mm_set1_epi8('"')), e = _mm_cmpeq_epi8(x, _mm_set1_epi8('\\'));
	return _mm_or_si128(_mm_or_si128(q, e), _mm_cmplt_epi8(x, _mm_set1_epi8(0x20)));
}

static inline const unsigned char *skip_plain(const unsigned char *c, const unsigned char *end)
{
	while (end - c >= 16) {
		unsigned m = (unsigned)_mm_movemask_epi8(hits16(c));
		if (m)
			return c + __builtin_ctz(m);
		c += 16;
		while (end - c >= 64) {
			__m128i h0 = hits16(c), h1 = hits16(c + 16), h2 = hits16(c + 32), h3 = hits16(c + 48);
			if (_mm_movemask_epi8(_mm_or_si128(_mm_or_si128(h0, h1), _mm_or_si128(h2, h3))))
				break;
			c += 64;
		}
	}
	while (c < end && plain[*c])
		c++;
	return c;
}
#else
static inline const unsigned char *skip_plain(const unsigned char *c, const unsigned char *end)
{
	const uint64_t ones = 0x0101010101010101u, tops = 0x8080808080808080u;
	while (end - c >= 8) {
		uint64_t x;
		memcpy(&x, c, sizeof x);
		/* The known "has a byte less than n" and "has a zero byte" tests: exact as to whether, which is all that is asked. */
		uint64_t q = x ^ ones * '"', e = x ^ ones * '\\';
		if (((x - ones * 0x20) | x | (q - ones) | (e - ones)) & tops)
			break;
		c += 8;
	}
	while (c < end && plain[*c])
		c++;
	return c;
}
#endif

static inline bool follows(unsigned char c)
{
	return (c & 0xc0) == 0x80;
}

/* Length of the well-formed sequence at c, where four bytes can be read; 0 leaves it to the byte-wise path (RFC 3629 section 4). */
static inline size_t whole_sequence(const unsigned char *c)
{
	if (c[0] >= 0xe1 && c[0] <= 0xef && c[0] != 0xed)
		return follows(c[1]) && follows(c[2]) ? 3 : 0;
	if (c[0] >= 0xc2 && c[0] <= 0xdf)
		return follows(c[1]) ? 2 : 0;
	if (c[0] == 0xf0)
		return c[1] >= 0x90 && follows(c[1]) && follows(c[2]) && follows(c[3]) ? 4 : 0;
	return 0;
}

static int hex_digit(unsigned char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The byte a two-character escape stands for; 0: there is no such escape. */
static const unsigned char short_escape[256] = {
	['"'] = '"', ['\\'] = '\\', ['/'] = '/', ['b'] = '\b', ['f'] = '\f', ['n'] = '\n', ['r'] = '\r', ['t'] = '\t',
};

static size_t encode_utf8(uint32_t cp, unsigned char out[4])
{
	if (cp < 0x80) {
		out[0] = (unsigned char)cp;
		return 1;
	}
	size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	for (size_t i = n - 1; i; i--, cp >>= 6)
		out[i] = (unsigned char)(0x80 | (cp & 0x3f));
	out[0] = (unsigned char)((n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0) | cp);
	return n;
}

static inline bool digit(unsigned char c)
{
	return (unsigned char)(c - '0') < 10;
}

static inline bool space(unsigned char c)
{
	return c == ' ' || c == '\n' || c == '\t' || c == '\r';
}

void tg_json_scan_init(struct tg_json_scan *s, const char *const *names, unsigned n)
{
	/* want[] past n and name[] stay as they are: a scan for each event of a stream should not clear 600 bytes it never reads. */
	memset((char *)s + offsetof(struct tg_json_scan, nwant), 0, offsetof(struct tg_json_scan, name) - offsetof(struct tg_json_scan, nwant));
	s->nwant = n < TG_JSON_WANT_MAX ? n : TG_JSON_WANT_MAX;
	s->cur = NO_WANT;
	for (unsigned i = 0; i < s->nwant; i++) {
		s->want[i] = (struct tg_json_want){ .name = tg_slice_cstr(names[i]) };
		s->lengths |= (uint64_t)1 << (s->want[i].name.n & 63);
	}
}

/* A name longer than any that can be asked for only has to stay recognisably too long. */
static void name_add(struct tg_json_scan *s, const unsigned char *p, size_t n)
{
	if (n > TG_JSON_NAME_MAX - (size_t)s->namelen || s->namelen > TG_JSON_NAME_MAX) {
		s->namelen = TG_JSON_NAME_MAX + 1;
		return;
	}
	memcpy(s->name + s->namelen, p, n);
	s->namelen += (uint32_t)n;
}

static uint8_t wanted(const struct tg_json_scan *s, const char *p, size_t n)
{
	if (s->lengths >> (n & 63) & 1)
		for (uint8_t i = 0; i < s->nwant; i++)
			if (s->want[i].name.n == n && memcmp(s->want[i].name.p, p, n) == 0)
				return i;
	return NO_WANT;
}

static void found(struct tg_json_scan *s, enum tg_json_type type, size_t to)
{
	struct tg_json_want *w = &s->want[s->cur];
	w->type = type;
	w->from = s->vfrom;
	w->to = to;
	if (type == TG_JSON_STRING) {
		w->escaped = s->esc;
		w->chars = to - s->vfrom - 2 - s->vextra;
	}
	s->cur = NO_WANT;
	s->open = false;
}

/* Where the piece may end: the state that leads back here, then the byte can be read. */
#define MORE(st) \
	do { \
		if (c == end) { \
			s->state = (st); \
			goto out; \
		} \
	} while (0)
#define SPACE(st) \
	for (;; c++) { \
		MORE(st); \
		if (*c > ' ' || !space(*c)) \
			break; \
	}
#define FAULT(text) \
	do { \
		s->why = (text); \
		goto bad; \
	} while (0)
#define HERE (base + (size_t)(c - b))
#define NAMING (s->inname && depth == 1)

enum tg_json_state tg_json_scan_feed(struct tg_json_scan *s, const char *p, size_t n)
{
	static const char *const words[] = { "true", "false", "null" };
	static const enum tg_json_type word_types[] = { TG_JSON_TRUE, TG_JSON_FALSE, TG_JSON_NULL };
	if (s->state == ST_BAD)
		return TG_JSON_BAD;
	if (!n)
		return s->state == ST_END ? TG_JSON_DONE : TG_JSON_MORE;

	const unsigned char *const b = (const unsigned char *)p, *const end = b + n;
	const unsigned char *c = b, *run = b; /* run: start of the part of a top-level name not yet in s->name */
	const size_t base = s->at;
	unsigned depth = s->depth;
	uint64_t isarray = s->isarray;
	size_t extra = s->vextra; /* kept out of memory: the bytes read may alias *s for all the compiler knows */
	enum tg_json_type type;

	switch (s->state) {
	case ST_START: goto start;
	case ST_OPEN: goto open;
	case ST_KEY: goto key;
	case ST_COLON: goto colon;
	case ST_VALUE: goto value;
	case ST_ELEMENT: goto element;
	case ST_AFTER: goto after;
	case ST_STRING: goto string;
	case ST_UTF8: goto utf8;
	case ST_ESC: goto esc;
	case ST_HEX: goto hex;
	case ST_LOW: goto low;
	case ST_LOW_U: goto low_u;
	case ST_LITERAL: goto literal;
	case ST_MINUS: goto minus;
	case ST_ZERO: goto zero;
	case ST_INT: goto integer;
	case ST_DOT: goto dot;
	case ST_FRAC: goto fraction;
	case ST_E: goto e;
	case ST_E_SIGN: goto e_sign;
	case ST_EXP: goto exponent;
	default: goto done;
	}

start:
	SPACE(ST_START);
	if (*c != '{')
		FAULT("the document is not an object");
	c++;
	s->first_member = HERE;
	depth = 1;
open:
	SPACE(ST_OPEN);
	if (*c == '"')
		goto name;
	if (*c != '}')
		FAULT("member name or } expected");
	if (depth == 1)
		s->empty = true;
	goto close;
key:
	SPACE(ST_KEY);
	if (*c != '"')
		FAULT("member name expected");
name:
	c++;
	s->inname = true;
	if (depth == 1) {
		s->namelen = 0;
		s->esc = false;
		run = c;
	}
string:
	c = skip_plain(c, end);
	MORE(ST_STRING);
	if (*c == '"')
		goto string_end;
	if (*c == '\\')
		goto escape;
	if (*c < 0x20)
		FAULT("control character in string");
	/* Text in other scripts comes in runs of such sequences: stay here as long as they last. */
	while (end - c >= 4) {
		size_t k = whole_sequence(c);
		if (!k)
			break;
		c += k;
		extra += k - 1;
	}
	if (c < end && *c < 0x80)
		goto string;
	MORE(ST_STRING);
	s->utf8lo = 0x80;
	s->utf8hi = 0xbf;
	if (*c >= 0xc2 && *c <= 0xdf) {
		s->utf8left = 1;
	} else if (*c >= 0xe0 && *c <= 0xef) {
		s->utf8left = 2;
		if (*c == 0xe0)
			s->utf8lo = 0xa0;
		else if (*c == 0xed)
			s->utf8hi = 0x9f;
	} else if (*c >= 0xf0 && *c <= 0xf4) {
		s->utf8left = 3;
		if (*c == 0xf0)
			s->utf8lo = 0x90;
		else if (*c == 0xf4)
			s->utf8hi = 0x8f;
	} else {
		FAULT("invalid UTF-8");
	}
	c++;
utf8:
	do {
		MORE(ST_UTF8);
		if (*c < s->utf8lo || *c > s->utf8hi)
			FAULT("invalid UTF-8");
		s->utf8lo = 0x80;
		s->utf8hi = 0xbf;
		c++;
		extra++;
	} while (--s->utf8left);
	goto string;
escape:
	if (!s->inname && end - c >= 2 && short_escape[c[1]]) { /* line ends in text: worth a way of their own */
		s->esc = true;
		extra++;
		c += 2;
		goto string;
	}
	if (NAMING)
		name_add(s, run, (size_t)(c - run));
	s->esc = true;
	c++;
esc:
	MORE(ST_ESC);
	if (*c != 'u') {
		unsigned char ch = short_escape[*c];
		if (!ch)
			FAULT("invalid escape");
		c++;
		extra++;
		if (NAMING) {
			name_add(s, &ch, 1);
			run = c;
		}
		goto string;
	}
	c++;
	s->hexleft = 4;
	s->hex = 0;
hex:
	do {
		MORE(ST_HEX);
		int v = hex_digit(*c);
		if (v < 0)
			FAULT("invalid escape");
		s->hex = (uint16_t)(s->hex << 4 | v);
		if (s->hexleft == 1 && (s->hex >= 0xdc00 && s->hex <= 0xdfff) != (s->high != 0))
			FAULT("lone surrogate");
		c++;
	} while (--s->hexleft);
	if (s->hex >= 0xd800 && s->hex <= 0xdbff) {
		s->high = s->hex;
		extra += 6;
		goto low;
	}
	extra += 5;
	if (NAMING) {
		unsigned char t[4];
		uint32_t cp = s->high ? 0x10000 + ((uint32_t)(s->high - 0xd800) << 10) + (s->hex - 0xdc00u) : s->hex;
		name_add(s, t, encode_utf8(cp, t));
		run = c;
	}
	s->high = 0;
	goto string;
low:
	MORE(ST_LOW);
	if (*c != '\\')
		FAULT("lone surrogate");
	c++;
low_u:
	MORE(ST_LOW_U);
	if (*c != 'u')
		FAULT("lone surrogate");
	c++;
	s->hexleft = 4;
	s->hex = 0;
	goto hex;
string_end:
	if (!s->inname) {
		c++;
		type = TG_JSON_STRING;
		goto finish;
	}
	if (depth == 1) {
		if (s->esc || s->namelen) {
			name_add(s, run, (size_t)(c - run));
			s->cur = wanted(s, s->name, s->namelen);
		} else {
			s->cur = wanted(s, (const char *)run, (size_t)(c - run));
		}
		if (s->cur != NO_WANT && s->want[s->cur].type != TG_JSON_NONE) {
			s->member = s->want[s->cur].name.p;
			FAULT("duplicate member");
		}
	}
	s->inname = false;
	c++;
colon:
	SPACE(ST_COLON);
	if (*c != ':')
		FAULT("colon expected");
	c++;
value:
	SPACE(ST_VALUE);
value_here:
	if (depth == 1 && s->cur != NO_WANT) {
		s->vfrom = HERE;
		s->open = true;
		s->esc = false;
		extra = 0;
	}
	switch (*c) {
	case '"':
		c++;
		goto string;
	case '{':
	case '[':
		if (depth == TG_JSON_DEPTH)
			FAULT("nested too deeply");
		isarray = (isarray & ~((uint64_t)1 << depth)) | (uint64_t)(*c == '[') << depth;
		depth++;
		if (*c++ == '{')
			goto open;
		goto element;
	case '-':
		c++;
		goto minus;
	case '0':
		c++;
		goto zero;
	case '1': case '2': case '3': case '4': case '5': case '6': case '7': case '8': case '9':
		c++;
		goto integer;
	case 't':
		s->literal = 0;
		break;
	case 'f':
		s->literal = 1;
		break;
	case 'n':
		s->literal = 2;
		break;
	default:
		FAULT("value expected");
	}
	s->literal_at = 1;
	c++;
literal:
	do {
		MORE(ST_LITERAL);
		if (*c != (unsigned char)words[s->literal][s->literal_at])
			FAULT("value expected");
		c++;
	} while (words[s->literal][++s->literal_at]);
	type = word_types[s->literal];
	goto finish;
element:
	SPACE(ST_ELEMENT);
	if (*c != ']')
		goto value_here;
close:
	c++;
	depth--;
	if (!depth)
		goto done;
	type = isarray >> depth & 1 ? TG_JSON_ARRAY : TG_JSON_OBJECT;
finish:
	if (depth == 1 && s->cur != NO_WANT) {
		s->vextra = extra;
		found(s, type, HERE);
	}
after:
	SPACE(ST_AFTER);
	if (isarray >> (depth - 1) & 1) {
		if (*c == ',') {
			c++;
			goto value;
		}
		if (*c == ']')
			goto close;
		FAULT("comma or ] expected");
	}
	if (*c == ',') {
		c++;
		goto key;
	}
	if (*c == '}')
		goto close;
	FAULT("comma or } expected");

minus:
	MORE(ST_MINUS);
	if (!digit(*c))
		FAULT("digit expected");
	if (*c++ != '0')
		goto integer;
zero:
	MORE(ST_ZERO);
	if (digit(*c))
		FAULT("leading zero in number");
	goto after_integer;
integer:
	while (c < end && digit(*c))
		c++;
	MORE(ST_INT);
after_integer:
	if (*c == '.') {
		c++;
		goto dot;
	}
	if (*c == 'e' || *c == 'E') {
		c++;
		goto e;
	}
number_end:
	type = TG_JSON_NUMBER;
	goto finish;
dot:
	MORE(ST_DOT);
	if (!digit(*c))
		FAULT("digit expected");
fraction:
	while (c < end && digit(*c))
		c++;
	MORE(ST_FRAC);
	if (*c != 'e' && *c != 'E')
		goto number_end;
	c++;
e:
	MORE(ST_E);
	if (*c == '+' || *c == '-')
		c++;
e_sign:
	MORE(ST_E_SIGN);
	if (!digit(*c))
		FAULT("digit expected");
exponent:
	while (c < end && digit(*c))
		c++;
	MORE(ST_EXP);
	goto number_end;

done:
	s->depth = 0;
	SPACE(ST_END);
	FAULT("data after the document");
bad:
	s->state = ST_BAD;
	s->at = HERE;
	return TG_JSON_BAD;
out:
	if (NAMING && (s->state == ST_STRING || s->state == ST_UTF8))
		name_add(s, run, (size_t)(c - run));
	s->depth = (uint8_t)depth;
	s->isarray = isarray;
	s->vextra = extra;
	s->at = HERE;
	return s->state == ST_END ? TG_JSON_DONE : TG_JSON_MORE;
}

enum tg_json_state tg_json_scan_end(struct tg_json_scan *s)
{
	if (s->state == ST_END)
		return TG_JSON_DONE;
	if (s->state != ST_BAD) {
		s->state = ST_BAD;
		s->why = "unexpected end";
	}
	return TG_JSON_BAD;
}

enum tg_json_state tg_json_scan_all(struct tg_json_scan *s, struct tg_slice doc, const char *const *names, unsigned n)
{
	tg_json_scan_init(s, names, n);
	tg_json_scan_feed(s, doc.p, doc.n);
	return tg_json_scan_end(s);
}

/* The walkers below rely on checked grammar for their answer, never for their bounds. */
static const unsigned char *pass_space(const unsigned char *c, const unsigned char *end)
{
	while (c < end && space(*c))
		c++;
	return c;
}

static const unsigned char *pass_string(const unsigned char *c, const unsigned char *end)
{
	for (c++; (c = skip_plain(c, end)) < end; c++) {
		if (*c == '"')
			return c + 1;
		if (*c == '\\' && end - c > 1)
			c++;
	}
	return end;
}

static const unsigned char *pass_value(const unsigned char *c, const unsigned char *end)
{
	size_t depth = 0;
	while (c < end) {
		switch (*c) {
		case '"':
			c = pass_string(c, end);
			break;
		case '{': case '[':
			depth++;
			c++;
			continue;
		case '}': case ']':
			if (!depth)
				return c;
			depth--;
			c++;
			break;
		case ',': case ':': case ' ': case '\t': case '\n': case '\r':
			if (!depth)
				return c;
			c++;
			continue;
		default:
			c++;
			continue;
		}
		if (!depth)
			return c;
	}
	return c;
}

static struct tg_slice between(const unsigned char *from, const unsigned char *to)
{
	return (struct tg_slice){ (const char *)from, (size_t)(to - from) };
}

struct tg_slice tg_json_first(struct tg_slice array)
{
	if (!array.n || array.p[0] != '[')
		return (struct tg_slice){ 0 };
	const unsigned char *end = (const unsigned char *)array.p + array.n, *c = pass_space((const unsigned char *)array.p + 1, end);
	if (c == end || *c == ']')
		return (struct tg_slice){ 0 };
	return between(c, pass_value(c, end));
}

bool tg_json_next_member(struct tg_slice object, size_t *at, struct tg_slice *name, struct tg_slice *value)
{
	if (*at >= object.n)
		return false;
	const unsigned char *b = (const unsigned char *)object.p, *end = b + object.n;
	/* In front of the first name stands the brace, in front of every other the comma. */
	const unsigned char *c = pass_space(b + *at, end);
	if (c < end)
		c = pass_space(c + 1, end);
	if (c == end || *c != '"') {
		*at = object.n;
		return false;
	}
	const unsigned char *v = pass_string(c, end);
	*name = between(c, v);
	v = pass_space(v, end);
	if (v < end)
		v = pass_space(v + 1, end);
	const unsigned char *to = pass_value(v, end);
	*value = between(v, to);
	*at = (size_t)(to - b);
	return true;
}

static bool hex4(const unsigned char *c, const unsigned char *end, uint32_t *out)
{
	if (end - c < 4)
		return false;
	*out = 0;
	for (int i = 0; i < 4; i++) {
		int v = hex_digit(c[i]);
		if (v < 0)
			return false;
		*out = *out << 4 | (uint32_t)v;
	}
	return true;
}

long tg_json_unescape(struct tg_slice quoted, char *out, size_t cap)
{
	if (quoted.n < 2)
		return -1;
	const unsigned char *c = (const unsigned char *)quoted.p + 1, *end = (const unsigned char *)quoted.p + quoted.n - 1;
	size_t n = 0;
	while (c < end) {
		const unsigned char *esc = memchr(c, '\\', (size_t)(end - c));
		size_t k = (size_t)((esc ? esc : end) - c);
		if (k > cap - n)
			return -1;
		memcpy(out + n, c, k);
		n += k;
		if (!esc)
			break;
		c = esc + 1;
		if (c == end)
			return -1;
		unsigned char t[4];
		if (*c != 'u') {
			t[0] = short_escape[*c++];
			k = 1;
		} else {
			uint32_t cp, lo;
			if (!hex4(c + 1, end, &cp))
				return -1;
			c += 5;
			if (cp >= 0xd800 && cp <= 0xdbff && end - c >= 6 && hex4(c + 2, end, &lo)) {
				cp = 0x10000 + ((cp - 0xd800) << 10) + ((lo - 0xdc00) & 0x3ff);
				c += 6;
			}
			k = encode_utf8(cp, t);
		}
		if (k > cap - n)
			return -1;
		memcpy(out + n, t, k);
		n += k;
	}
	return (long)n;
}

bool tg_json_u64(struct tg_slice number, uint64_t max, uint64_t *out)
{
	uint64_t v = 0;
	if (!number.n)
		return false;
	for (size_t i = 0; i < number.n; i++) {
		if (!digit((unsigned char)number.p[i]))
			return false;
		unsigned d = (unsigned)(number.p[i] - '0');
		if (v > max / 10 || v * 10 > max - d || max < d)
			return false;
		v = v * 10 + d;
	}
	*out = v;
	return true;
}
