/*
 * Stage 2: method and path to a route. An unmatched path keeps only its family: whether it exists is told after authentication, not before.
 */
#include "gate/exchange.h"
#include "gate/forwards.h"
#include "gate/match_table.h"
#include <stdlib.h>

/* Decodes %xx; the log must not show a key because it was written in escapes. */
static size_t decoded(struct tg_slice s, char *out, size_t cap)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n && n < cap; i++) {
		unsigned v = (unsigned char)s.p[i];
		if (v == '%' && i + 2 < s.n) {
			char hex[3] = { s.p[i + 1], s.p[i + 2], 0 }, *end;
			unsigned long byte = strtoul(hex, &end, 16);
			if (end == hex + 2) {
				v = (unsigned)byte;
				i += 2;
			}
		}
		out[n++] = (char)v;
	}
	return n;
}

/* Of an unmatched path the log shows a redacted form, and nothing of one in which a segment is a key. */
static void keep_path_for_log(struct tg_exchange *x)
{
	struct tg_slice path = x->head->path;
	char plain[256];
	for (size_t i = 0; i < path.n;) {
		size_t end = i + 1;
		while (end < path.n && path.p[end] != '/')
			end++;
		struct tg_slice segment = { plain, decoded((struct tg_slice){ path.p + i + 1, end - i - 1 }, plain, sizeof plain) };
		uint8_t digest[32];
		if (segment.n && tg_digest(&x->gl->digester, segment, digest) && tg_policy_key(&x->snap->policy, digest)) {
			memcpy(x->path_text, "/***", 4);
			x->path_len = 4;
			return;
		}
		i = end;
	}
	x->path_len = (uint8_t)tg_record_endpoint(path, x->path_text, sizeof x->path_text);
}

enum tg_step tg_stage_match(struct tg_exchange *x)
{
	const struct tg_head *h = x->head;
	x->route = tg_route_match(h->method, h->path, &x->path_known, &x->allow);
	x->family = x->route ? x->route->family : (uint8_t)tg_route_family(h->path);
	if (x->route)
		x->forward = tg_forward_of(x->route);
	else
		keep_path_for_log(x);
	if (x->snap->config->hosts.n && h->host.n) {
		struct tg_addr self;
		bool have = tg_session_self(x->session, &self);
		if (!tg_policy_own_host(&x->snap->policy, tg_host_only(h->host), have ? &self : NULL))
			return tg_answer_problem(x, TG_E_misdirected, "unknown_host", "This server does not answer to that Host.", NULL, NULL);
	}
	if (h->upgrade)
		return tg_answer_refusal(x, TG_REFUSE_upgrade);
	return TG_NEXT;
}
