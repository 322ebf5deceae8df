/*
 * Header names and methods. A lookup costs one switch on the length and then compares eight bytes at a time with each name of
 * that length (at most five): every header of every message passes through here, and a hash or strncasecmp costs several times as much.
 * Invariant: a name with '_' is never an alias of one with '-', because only letters are folded.
 */
#include "http/message.h"

const char *const tg_method_names[] = {
	[TG_GET] = "GET", [TG_HEAD] = "HEAD", [TG_POST] = "POST", [TG_PUT] = "PUT", [TG_PATCH] = "PATCH",
	[TG_DELETE] = "DELETE", [TG_OPTIONS] = "OPTIONS", [TG_METHOD_OTHER] = "?",
};

/*
 * lower: lower-case letters and '-' only. In those, bit 6 is set in letters alone; moved to bit 5 it is the mask that folds the
 * case of exactly the positions where a letter is wanted.
 */
static inline __attribute__((always_inline)) bool same(const char *p, const char *lower, size_t n)
{
	for (size_t i = 0; i < n; i += 8) {
		uint64_t a = 0, b = 0;
		memcpy(&a, p + i, n - i < 8 ? n - i : 8);
		memcpy(&b, lower + i, n - i < 8 ? n - i : 8);
		if ((a | (b & UINT64_C(0x4040404040404040)) >> 1) != b)
			return false;
	}
	return true;
}

#define NAME(lower, id)                           \
	if (same(name.p, lower, sizeof(lower) - 1)) \
		return id;

enum tg_header_id tg_header_lookup(struct tg_slice name)
{
	switch (name.n) {
	case 2:
		NAME("te", TG_H_TE)
		break;
	case 3:
		NAME("via", TG_H_VIA)
		break;
	case 4:
		NAME("host", TG_H_HOST)
		NAME("date", TG_H_DATE)
		break;
	case 6:
		NAME("accept", TG_H_ACCEPT)
		NAME("cookie", TG_H_COOKIE)
		NAME("origin", TG_H_ORIGIN)
		NAME("expect", TG_H_EXPECT)
		NAME("server", TG_H_SERVER)
		break;
	case 7:
		NAME("upgrade", TG_H_UPGRADE)
		NAME("trailer", TG_H_TRAILER)
		break;
	case 8:
		NAME("location", TG_H_LOCATION)
		break;
	case 9:
		NAME("x-api-key", TG_H_X_API_KEY)
		NAME("x-real-ip", TG_H_X_REAL_IP)
		NAME("forwarded", TG_H_FORWARDED)
		break;
	case 10:
		NAME("user-agent", TG_H_USER_AGENT)
		NAME("connection", TG_H_CONNECTION)
		NAME("keep-alive", TG_H_KEEP_ALIVE)
		NAME("set-cookie", TG_H_SET_COOKIE)
		break;
	case 11:
		NAME("retry-after", TG_H_RETRY_AFTER)
		break;
	case 12:
		NAME("content-type", TG_H_CONTENT_TYPE)
		NAME("x-request-id", TG_H_X_REQUEST_ID)
		NAME("x-session-id", TG_H_X_SESSION_ID)
		break;
	case 13:
		NAME("authorization", TG_H_AUTHORIZATION)
		NAME("cache-control", TG_H_CACHE_CONTROL)
		break;
	case 14:
		NAME("content-length", TG_H_CONTENT_LENGTH)
		NAME("sec-fetch-site", TG_H_SEC_FETCH_SITE)
		break;
	case 15:
		NAME("accept-encoding", TG_H_ACCEPT_ENCODING)
		NAME("x-forwarded-for", TG_H_X_FORWARDED_FOR)
		break;
	case 16:
		NAME("content-encoding", TG_H_CONTENT_ENCODING)
		NAME("x-correlation-id", TG_H_X_CORRELATION_ID)
		NAME("www-authenticate", TG_H_WWW_AUTHENTICATE)
		NAME("proxy-connection", TG_H_PROXY)
		break;
	case 17:
		NAME("transfer-encoding", TG_H_TRANSFER_ENCODING)
		break;
	case 18:
		NAME("proxy-authenticate", TG_H_PROXY)
		break;
	case 19:
		NAME("proxy-authorization", TG_H_PROXY)
		break;
	case 29:
		NAME("access-control-request-method", TG_H_ACCESS_CONTROL_REQUEST_METHOD)
		break;
	case 30:
		NAME("access-control-request-headers", TG_H_ACCESS_CONTROL_REQUEST_HEADERS)
		break;
	default:
		break;
	}
	if (name.n > 12)
		NAME("x-forwarded-", TG_H_X_FORWARDED)
	return TG_H_OTHER;
}

bool tg_head_accepts(const struct tg_head *h, const char *type)
{
	struct tg_slice list = tg_head_get(h, TG_H_ACCEPT);
	size_t n = strlen(type);
	while (list.n) {
		const char *comma = memchr(list.p, ',', list.n);
		size_t k = comma ? (size_t)(comma - list.p) : list.n;
		struct tg_slice one = tg_slice_trim((struct tg_slice){ list.p, k });
		if (one.n >= n && strncasecmp(one.p, type, n) == 0 && (one.n == n || strchr("; \t", one.p[n])))
			return true;
		k += comma != NULL;
		list.p += k;
		list.n -= k;
	}
	return false;
}

/* RFC 9110 section 13.1.2: a list of tags, compared weakly, or a star. Rare enough to be looked for by name. */
bool tg_head_has_tag(const struct tg_head *h, const char *etag)
{
	size_t n = strlen(etag);
	for (unsigned i = 0; i < h->nheaders; i++) {
		struct tg_slice v = h->headers[i].value;
		if (h->headers[i].id != TG_H_OTHER || !tg_slice_eq_nocase(h->headers[i].name, TG_S("if-none-match")))
			continue;
		if (tg_slice_eq(tg_slice_trim(v), TG_S("*")) || memmem(v.p, v.n, etag, n)) /* a tag has its quotes: no other has it inside */
			return true;
	}
	return false;
}

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* The value of the last parameter of that name, as it is written. */
static bool last_value(struct tg_slice q, const char *name, struct tg_slice *value)
{
	size_t len = strlen(name);
	bool found = false;
	for (;;) {
		const char *amp = q.n ? memchr(q.p, '&', q.n) : NULL;
		struct tg_slice one = { q.p, amp ? (size_t)(amp - q.p) : q.n };
		if (one.n > len && memcmp(one.p, name, len) == 0 && one.p[len] == '=') {
			*value = (struct tg_slice){ one.p + len + 1, one.n - len - 1 };
			found = true;
		}
		if (!amp)
			return found;
		q.n -= one.n + 1;
		q.p = amp + 1;
	}
}

long tg_query_get(struct tg_slice q, const char *name, char *out, size_t cap)
{
	struct tg_slice v;
	size_t n = 0;
	if (!last_value(q, name, &v))
		return -1;
	for (size_t i = 0; i < v.n; i++) {
		int c = v.p[i] == '+' ? ' ' : (unsigned char)v.p[i];
		if (c == '%') {
			int hi = v.n - i > 2 ? hex_digit(v.p[i + 1]) : -1, lo = v.n - i > 2 ? hex_digit(v.p[i + 2]) : -1;
			if (hi < 0 || lo < 0)
				return -2;
			c = hi << 4 | lo;
			i += 2;
		}
		if (!c || n + 1 >= cap)
			return -2;
		out[n++] = (char)c;
	}
	out[n] = 0;
	return (long)n;
}
