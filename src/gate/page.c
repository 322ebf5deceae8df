/*
 * Which web page a request comes from, by its Origin (RFC 6454). An origin is compared whole, scheme, host and port: another port of the same host is another page, perhaps another user's. Both
 * sides are brought into the form that browsers write, so that nothing is cut out of a text that only looks like an origin. Of two Origin lines neither is believed.
 *
 * Asked only where a cookie wants to change something, and of callers without a key who say where they stand.
 */
#include "gate/exchange.h"

/* False: it has none, more than one, or what is no origin of a page ("null", file:...). */
static bool origin_of(const struct tg_head *h, char out[TG_ORIGIN_MAX])
{
	unsigned n = 0;
	struct tg_err why;
	for (unsigned i = 0; i < h->nheaders; i++)
		n += h->headers[i].id == TG_H_ORIGIN;
	return n == 1 && tg_origin_parse(tg_head_get(h, TG_H_ORIGIN), out, &why) && (strncmp(out, "http://", 7) == 0 || strncmp(out, "https://", 8) == 0);
}

/* What a trusted proxy says of the connection to it. Of a list the right-most is its word: what stands left of it anybody wrote. */
static bool proxy_has_tls(const struct tg_exchange *x)
{
	struct tg_slice proto = { 0 };
	if (!tg_cidr_list_has(&x->snap->policy.trusted, tg_session_peer(x->session)))
		return false;
	for (unsigned i = 0; i < x->head->nheaders; i++)
		if (x->head->headers[i].id == TG_H_X_FORWARDED && tg_slice_eq_nocase(x->head->headers[i].name, TG_S("x-forwarded-proto")))
			proto = x->head->headers[i].value;
	const char *comma = proto.n ? memrchr(proto.p, ',', proto.n) : NULL;
	if (comma)
		proto = tg_slice_trim((struct tg_slice){ comma + 1, (size_t)(proto.p + proto.n - comma - 1) });
	return tg_slice_eq_nocase(proto, TG_S("https"));
}

bool tg_page_is_own(const struct tg_exchange *x)
{
	char from[TG_ORIGIN_MAX], text[TG_ORIGIN_MAX + 16], own[TG_ORIGIN_MAX];
	struct tg_err why;
	struct tg_slice host = x->head->host;
	if (host.n >= TG_ORIGIN_MAX || !origin_of(x->head, from))
		return false;
	snprintf(text, sizeof text, "%s://%.*s", tg_session_tls(x->session) || proxy_has_tls(x) ? "https" : "http", (int)host.n, host.n ? host.p : "");
	return tg_origin_parse(tg_slice_cstr(text), own, &why) && strcmp(from, own) == 0;
}

bool tg_page_is_of_this_machine(const struct tg_exchange *x, const struct tg_addr *self)
{
	char from[TG_ORIGIN_MAX];
	return origin_of(x->head, from) && tg_policy_own_host(&x->snap->policy, tg_host_only(tg_slice_cstr(strstr(from, "://") + 3)), self);
}
