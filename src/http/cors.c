/*
 * CORS (see cors.h). A refusal is silence: an answer without the allow headers, which a browser does not hand to the page. Nothing here lets a request
 * in or keeps one out; that is for keys.
 */
#include "http/cors.h"

/* What a script may read of an answer besides what the standard lets it: the request's id, the limits, when to come again. */
#define EXPOSED                                                                                                     \
	"X-Request-ID, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset, "                  \
	"x-ratelimit-limit-requests, x-ratelimit-remaining-requests, x-ratelimit-reset-requests, "                  \
	"x-ratelimit-limit-tokens, x-ratelimit-remaining-tokens, x-ratelimit-reset-tokens, "                        \
	"RateLimit, RateLimit-Policy, x-should-retry, WWW-Authenticate"

/* A request has one Origin; of two, neither is believed. */
static bool one_origin(const struct tg_head *h)
{
	unsigned n = 0;
	for (unsigned i = 0; i < h->nheaders; i++)
		n += h->headers[i].id == TG_H_ORIGIN;
	return n == 1;
}

enum tg_cors tg_cors_judge(const struct tg_config *c, const struct tg_head *h, const char **origin)
{
	const struct tg_strlist *l = &c->cors_origins;
	*origin = NULL;
	if (strcmp(l->v[0], "*") == 0) /* it stands alone */
		return TG_CORS_ANY;
	if (h->first[TG_H_ORIGIN] < 0 || !one_origin(h))
		return TG_CORS_VARY;
	struct tg_slice from = tg_head_get(h, TG_H_ORIGIN);
	for (size_t i = 0; i < l->n; i++)
		if (tg_slice_eq(from, tg_slice_cstr(l->v[i]))) {
			*origin = l->v[i];
			return TG_CORS_LISTED;
		}
	return TG_CORS_VARY;
}

void tg_cors_lines(struct tg_buf *b, const struct tg_config *c, enum tg_cors v, const char *origin)
{
	switch (v) {
	case TG_CORS_NONE:
		return;
	case TG_CORS_VARY:
		tg_buf_lit(b, "Vary: Origin\r\n");
		return;
	case TG_CORS_ANY:
		tg_buf_lit(b, "Access-Control-Allow-Origin: *\r\nAccess-Control-Expose-Headers: " EXPOSED "\r\n");
		return;
	case TG_CORS_LISTED:
		tg_buf_lit(b, "Vary: Origin\r\nAccess-Control-Allow-Origin: ");
		tg_buf_cstr(b, origin);
		if (c->cors_credentials)
			tg_buf_lit(b, "\r\nAccess-Control-Allow-Credentials: true");
		tg_buf_lit(b, "\r\nAccess-Control-Expose-Headers: " EXPOSED "\r\n");
	}
}

static bool listed(struct tg_slice name, const struct tg_strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		if (tg_slice_eq_nocase(name, tg_slice_cstr(l->v[i])))
			return true;
	return false;
}

bool tg_cors_all_listed(struct tg_slice list, const struct tg_strlist *allowed)
{
	while (list.n) {
		const char *comma = memchr(list.p, ',', list.n);
		size_t n = comma ? (size_t)(comma - list.p) : list.n;
		struct tg_slice one = tg_slice_trim((struct tg_slice){ list.p, n });
		if (one.n && !listed(one, allowed))
			return false;
		n += comma != NULL;
		list = (struct tg_slice){ list.p + n, list.n - n };
	}
	return true;
}

/* Methods have a case (RFC 9110 section 9.1). */
static bool method_listed(struct tg_slice m, const struct tg_strlist *l)
{
	if (tg_slice_eq(m, TG_S("HEAD")))
		m = TG_S("GET");
	for (size_t i = 0; i < l->n; i++)
		if (tg_slice_eq(m, tg_slice_cstr(l->v[i])))
			return true;
	return false;
}

bool tg_cors_allows(const struct tg_config *c, const struct tg_head *h)
{
	if (!method_listed(tg_head_get(h, TG_H_ACCESS_CONTROL_REQUEST_METHOD), &c->cors_methods))
		return false;
	for (unsigned i = 0; i < h->nheaders; i++)
		if (h->headers[i].id == TG_H_ACCESS_CONTROL_REQUEST_HEADERS && !tg_cors_all_listed(h->headers[i].value, &c->cors_headers))
			return false;
	return true;
}

static void join(struct tg_buf *b, const struct tg_strlist *l)
{
	for (size_t i = 0; i < l->n; i++) {
		if (i)
			tg_buf_lit(b, ", ");
		tg_buf_cstr(b, l->v[i]);
	}
}

void tg_cors_preflight_lines(struct tg_buf *b, const struct tg_config *c)
{
	tg_buf_lit(b, "Access-Control-Allow-Methods: ");
	join(b, &c->cors_methods);
	if (c->cors_headers.n) {
		tg_buf_lit(b, "\r\nAccess-Control-Allow-Headers: ");
		join(b, &c->cors_headers);
	}
	tg_buf_lit(b, "\r\nAccess-Control-Max-Age: ");
	tg_buf_u64(b, c->cors_max_age_s);
	tg_buf_lit(b, "\r\n");
}
