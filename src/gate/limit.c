/*
 * Stage 5: request windows per class. Whatever passed authentication counts, valid or not. Per principal; a local caller without a key by its address.
 */
#include "gate/exchange.h"

enum tg_step tg_stage_limit(struct tg_exchange *x)
{
	unsigned class = x->route->limit;
	struct tg_rate rate = x->snap->rates[class];
	if (class == TG_LIMIT_NONE || !rate.n)
		return TG_NEXT;
	const struct tg_principal *p = x->principal;
	bool nameless = !p || p->source == TG_SRC_LOCAL || p->source == TG_SRC_OUTSIDER || p->source == TG_SRC_ANONYMOUS;
	uint64_t who = nameless ? tg_limit_who(class, x->client.ip, sizeof x->client.ip) : tg_limit_who(class, &p->hash, sizeof p->hash);
	uint64_t mono_ms = x->start_us / 1000u, wall_ms = (mono_ms * 1000u + (x->wall_us - x->start_us)) / 1000u;
	x->verdict = tg_limiter_take(x->gl->gate->limiter, who, rate, mono_ms, wall_ms);
	if (x->verdict.passed)
		return TG_NEXT;
	char retry[48];
	snprintf(retry, sizeof retry, "Retry-After: %u\r\n", x->verdict.retry_after_s);
	return tg_answer_problem(x, TG_E_rate_limited, "rate_limited", "Too many requests; wait and try again.", NULL, retry);
}
