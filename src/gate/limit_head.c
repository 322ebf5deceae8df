/*
 * What an answer's head says of limits, in three families of fields whose names do not meet: the documents' X-RateLimit-Limit, -Remaining and -Reset (epoch seconds) of one limit, the tightest;
 * OpenAI's x-ratelimit-*-requests and -tokens on /v1 (durations: 12ms, 59.874s, 6m0s); and the IETF draft's RateLimit-Policy and RateLimit, which list all of them
 * (draft-ietf-httpapi-ratelimit-headers; it has no unit for tokens, so a parameter of ours says so).
 *
 * Reset stays the same through a window: it is the window's end on the monotonic clock, moved to the wall clock by a difference that all loops share and that is left alone
 * until the wall clock has really been set.
 */
#include "gate/exchange.h"

#define WALL_SLACK_MS 500

static uint64_t wall_less_mono(const struct tg_exchange *x)
{
	_Atomic uint64_t *kept = &x->gl->gate->wall_less_mono_ms;
	uint64_t now = (x->wall_us - x->start_us) / 1000u, k = atomic_load_explicit(kept, memory_order_relaxed);
	if (now + WALL_SLACK_MS - k <= 2 * WALL_SLACK_MS)
		return k;
	/* Whoever is first decides for all: two loops know the clocks' difference to a few microseconds only. */
	return atomic_compare_exchange_strong_explicit(kept, &k, now, memory_order_relaxed, memory_order_relaxed) ? now : k;
}

static uint64_t left_ms(const struct tg_bucket *k, uint64_t now)
{
	uint64_t left = k->end_ms > now ? k->end_ms - now : 0, whole = (uint64_t)k->period_s * 1000;
	return left < whole ? left : whole;
}

const char *tg_limit_bucket_name(const struct tg_exchange *x, const struct tg_bucket *k, char out[24])
{
	const char *class = tg_limit_class_names[x->route->limit];
	switch ((enum tg_bucket_kind)k->kind) {
	case TG_BUCKET_KEY: return "key";
	case TG_BUCKET_TOKENS: return "key-tokens";
	case TG_BUCKET_IN_FLIGHT: return "key-in-flight";
	case TG_BUCKET_ADDRESS:
		snprintf(out, 24, "%s-address", class);
		return out;
	default: return class;
	}
}

/* Go's time.Duration, as OpenAI writes it and its clients parse it. */
static void put_duration(struct tg_buf *b, uint64_t ms)
{
	if (ms && ms < 1000) {
		tg_buf_u64(b, ms);
		tg_buf_lit(b, "ms");
		return;
	}
	uint64_t minutes = ms / 60000, hours = minutes / 60;
	if (hours) {
		tg_buf_u64(b, hours);
		tg_buf_char(b, 'h');
	}
	if (minutes) {
		tg_buf_u64(b, minutes % 60);
		tg_buf_char(b, 'm');
	}
	if (ms % 1000)
		tg_buf_milli(b, ms % 60000);
	else
		tg_buf_u64(b, ms % 60000 / 1000);
	tg_buf_char(b, 's');
}

#define OPENAI(b, what, k, now)                                       \
	do {                                                          \
		tg_buf_lit(b, "x-ratelimit-limit-" what ": ");        \
		tg_buf_u64(b, (k)->limit);                            \
		tg_buf_lit(b, "\r\nx-ratelimit-remaining-" what ": "); \
		tg_buf_u64(b, (k)->remaining);                        \
		tg_buf_lit(b, "\r\nx-ratelimit-reset-" what ": ");    \
		put_duration(b, left_ms(k, now));                     \
		tg_buf_lit(b, "\r\n");                                \
	} while (0)

static void put_ietf(const struct tg_exchange *x, struct tg_buf *b, uint64_t now)
{
	char room[24];
	for (unsigned i = 0; i < x->nbuckets; i++) {
		const struct tg_bucket *k = &x->bucket[i];
		tg_buf_cstr(b, i ? ", \"" : "RateLimit-Policy: \"");
		tg_buf_cstr(b, tg_limit_bucket_name(x, k, room));
		tg_buf_lit(b, "\";q=");
		tg_buf_u64(b, k->limit);
		if (k->kind == TG_BUCKET_IN_FLIGHT) {
			tg_buf_lit(b, ";qu=\"concurrent-requests\"");
			continue;
		}
		tg_buf_lit(b, ";w=");
		tg_buf_u64(b, k->period_s);
		if (k->kind == TG_BUCKET_TOKENS)
			tg_buf_lit(b, ";tollgate-unit=\"tokens\"");
	}
	for (unsigned i = 0; i < x->nbuckets; i++) {
		const struct tg_bucket *k = &x->bucket[i];
		tg_buf_cstr(b, i ? ", \"" : "\r\nRateLimit: \"");
		tg_buf_cstr(b, tg_limit_bucket_name(x, k, room));
		tg_buf_lit(b, "\";r=");
		tg_buf_u64(b, k->remaining);
		if (k->kind == TG_BUCKET_IN_FLIGHT)
			continue;
		tg_buf_lit(b, ";t=");
		tg_buf_u64(b, (left_ms(k, now) + 999) / 1000);
	}
	tg_buf_lit(b, "\r\n");
}

void tg_limit_head(const struct tg_exchange *x, struct tg_buf *b)
{
	const struct tg_bucket *window = NULL, *tokens = NULL; /* window: the tightest of requests; where two are, the later asked, which may be the one that refuses */
	for (unsigned i = 0; i < x->nbuckets; i++) {
		const struct tg_bucket *k = &x->bucket[i];
		if (k->kind == TG_BUCKET_TOKENS)
			tokens = k;
		else if (k->kind != TG_BUCKET_IN_FLIGHT && (!window || k->remaining <= window->remaining))
			window = k;
	}
	/* Requests and tokens are not compared: the documents' three are of requests, unless there are none to tell of or tokens are what the request is refused for. */
	const struct tg_bucket *shown = tokens && (!window || tokens->refused) ? tokens : window;
	uint64_t now = tg_loop_ms(x->gl->loop);
	if (shown) {
		tg_buf_lit(b, "X-RateLimit-Limit: ");
		tg_buf_u64(b, shown->limit);
		tg_buf_lit(b, "\r\nX-RateLimit-Remaining: ");
		tg_buf_u64(b, shown->remaining);
		tg_buf_lit(b, "\r\nX-RateLimit-Reset: ");
		tg_buf_u64(b, (shown->end_ms + wall_less_mono(x) + 999) / 1000);
		tg_buf_lit(b, "\r\n");
	}
	if (x->family == TG_FAM_OPENAI) {
		if (window)
			OPENAI(b, "requests", window, now);
		if (tokens)
			OPENAI(b, "tokens", tokens, now);
	}
	put_ietf(x, b, now);
}
