/*
 * Credentials on the audit trail (seed ledger S4-59, S4-60): which key or token was used and from where; and which was refused. What for, the access log says under the same request id. Once a request, where it is decided, not where the request ends: a stream of
 * hours is on record while it runs. A loop hands the line over and goes on; where the writer has no room, the event is counted as lost and said (audit/event.h).
 *
 * Inference (whatever is under /v1, /infer, /api/v1/inference) is left out of the successes: one request a line is what the access log does, and these routes get records of their own. Their refusals are here.
 */
#include "audit/event.h"
#include "gate/exchange.h"

#define HASH_DIGITS 16

/* A key is told by the first 8 bytes of its keyed digest, as the ids of listed keys have them; a token by those of its jti's. Neither can be turned back without the gate's secret. */
static void hash_of(struct tg_exchange *x, char out[HASH_DIGITS + 1])
{
	static const char hex[] = "0123456789abcdef";
	uint8_t digest[32];
	if (x->principal->source == TG_SRC_USER && tg_digest(&x->gl->digester, tg_slice_cstr(x->token_id), digest))
		memcpy(x->credential, digest, sizeof x->credential);
	for (unsigned i = 0; i < HASH_DIGITS; i++)
		out[i] = hex[x->credential[i / 2] >> (i % 2 ? 0 : 4) & 15];
	out[HASH_DIGITS] = 0;
}

static bool is_inference(const struct tg_exchange *x)
{
	return x->family == TG_FAM_OPENAI || x->family == TG_FAM_INFER || (x->route && tg_slice_eq(x->route->path, TG_S("/api/v1/inference")));
}

void tg_audited_success(struct tg_exchange *x)
{
	char hash[HASH_DIGITS + 1], ip[TG_ADDR_TEXT];
	if (is_inference(x) || !tg_audit_on())
		return;
	hash_of(x, hash);
	ip[tg_addr_text(&x->client, ip)] = 0;
	const struct tg_slice rid = tg_exchange_rid(x);
	tg_audit_offer(TG_AUDIT_auth_success, &rid, "t:api_key_hash", hash, "t:ip", ip, NULL);
}

void tg_audited_failure(struct tg_exchange *x)
{
	char ip[TG_ADDR_TEXT];
	if (!tg_audit_on())
		return;
	ip[tg_addr_text(&x->client, ip)] = 0;
	const struct tg_slice rid = tg_exchange_rid(x);
	tg_audit_offer(TG_AUDIT_auth_failure, &rid, "t:ip", ip, "t:attempted_key_prefix", x->presented_prefix, NULL);
}
