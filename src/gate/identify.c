/*
 * Stage 1: which request this is and where it comes from. The caller's own request id is taken if it is short, plain and no credential; the client's
 * address is the socket's peer, or what trusted proxies say.
 */
#include "gate/exchange.h"
#include <stdlib.h>

static bool id_is_safe(struct tg_exchange *x, struct tg_slice s)
{
	if (!s.n || s.n > 128)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' || c == '.' || c == ':'))
			return false;
	}
	/* An id is written to logs and sent to workers: a key in its place must not be. */
	static const char *const secret_like[] = { "sk-", "sk_", "tg_", "eyJ" };
	for (size_t i = 0; i < sizeof secret_like / sizeof secret_like[0]; i++)
		if (tg_slice_starts(s, tg_slice_cstr(secret_like[i])))
			return false;
	uint8_t digest[32];
	return tg_digest(&x->gl->digester, s, digest) && !tg_policy_key(&x->snap->policy, digest);
}

static void take_request_id(struct tg_exchange *x)
{
	struct tg_slice id = tg_head_get(x->head, TG_H_X_REQUEST_ID);
	if (!id.p)
		id = tg_head_get(x->head, TG_H_X_CORRELATION_ID);
	if (!id.p || !id_is_safe(x, id))
		return;
	char *own = malloc(id.n);
	if (!own)
		return;
	memcpy(own, id.p, id.n);
	x->rid_long = own;
	x->rid_len = (uint8_t)id.n;
}

/* A list header may come in several lines: they are one list (RFC 9110 section 5.3). Right-most hops decide: an over-long list loses its left end. */
static struct tg_slice join(const struct tg_head *head, enum tg_header_id id, char *out, size_t cap)
{
	size_t n = 0;
	for (unsigned i = 0; i < head->nheaders; i++) {
		const struct tg_header *h = &head->headers[i];
		if (h->id != id)
			continue;
		size_t k = h->value.n < cap / 2 ? h->value.n : cap / 2;
		if (n + k + 1 > cap) {
			size_t kept = cap - k - 1 < n ? cap - k - 1 : n;
			memmove(out, out + n - kept, kept);
			n = kept;
		}
		if (n)
			out[n++] = ',';
		memcpy(out + n, h->value.p + h->value.n - k, k);
		n += k;
	}
	return (struct tg_slice){ out, n };
}

static void take_client(struct tg_exchange *x)
{
	char xff[2048], forwarded[2048];
	uint16_t port = x->client.port;
	x->client = tg_addr_client(tg_session_peer(x->session), &x->snap->policy.trusted, join(x->head, TG_H_X_FORWARDED_FOR, xff, sizeof xff),
				   join(x->head, TG_H_FORWARDED, forwarded, sizeof forwarded));
	x->client.port = port;
}

enum tg_step tg_stage_identify(struct tg_exchange *x)
{
	const struct tg_head *h = x->head;
	x->method = (uint8_t)h->method;
	x->minor = h->minor;
	x->keep_alive = h->keep_alive;
	x->head_request = h->method == TG_HEAD;
	x->preflight = h->method == TG_OPTIONS && h->first[TG_H_ORIGIN] >= 0 && h->first[TG_H_ACCESS_CONTROL_REQUEST_METHOD] >= 0;
	x->body_left = h->chunked || h->content_length > 0;
	if (x->snap->config->cors_origins.n)
		x->cors = (uint8_t)tg_cors_judge(x->snap->config, h, &x->cors_origin);
	take_request_id(x);
	if (x->snap->policy.trusted.n)
		take_client(x);
	return TG_NEXT;
}
