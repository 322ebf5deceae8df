/*
 * What an answer's head says of limits, in three families of fields whose names do not meet: the documents' X-RateLimit-Limit, -Remaining and -Reset (epoch seconds) of one limit, the tightest;
 * OpenAI's x-ratelimit-*-requests and -tokens on /v1 (durations: 12ms, 59.874s, 6m0s); and the IETF draft's RateLimit-Policy and RateLimit, which list all of them
 * (draft-ietf-httpapi-ratelimit-headers; it has no unit for tokens, so a parameter of ours says so).
 *
 * Reset stays the same through a window: it is the window's end on the monotonic clock, moved to the wall clock by a difference that all loops share and that is left alone
 * until the wall clock has really been set.
 *
 * A few dozen short pieces on every answer of a limited route: room is made once for all of them, and they are written behind a bare pointer.
 */
#include "gate/exchange.h"

#define WALL_SLACK_MS 500
/* The longest head there can be: 24 bytes of a name, 20 of a number. */
#define ROOM_FIXED 640u         /* the documents' three lines, OpenAI's six, the names of the IETF's two */
#define ROOM_BUCKET 192u        /* one limit in both of those */

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

#define LIT(p, text) ((p) = (char *)memcpy((p), "" text, sizeof(text) - 1) + sizeof(text) - 1)

static char *put_text(char *p, const char *text)
{
	size_t n = strlen(text);
	return (char *)memcpy(p, text, n) + n;
}

static char *put_number(char *p, uint64_t v)
{
	static const char pairs[] = "0001020304050607080910111213141516171819202122232425262728293031323334353637383940414243444546474849"
				    "5051525354555657585960616263646566676869707172737475767778798081828384858687888990919293949596979899";
	unsigned n = 1;
	for (uint64_t t = v; t >= 10; t /= 10)
		n++;
	char *end = p + n, *at = end;
	for (; v >= 100; v /= 100)
		memcpy(at -= 2, pairs + v % 100 * 2, 2);
	if (v >= 10)
		memcpy(at - 2, pairs + v * 2, 2);
	else
		at[-1] = (char)('0' + v);
	return end;
}

static char *put_name(char *p, const struct tg_exchange *x, const struct tg_bucket *k)
{
	switch ((enum tg_bucket_kind)k->kind) {
	case TG_BUCKET_KEY: return LIT(p, "key");
	case TG_BUCKET_TOKENS: return LIT(p, "key-tokens");
	case TG_BUCKET_IN_FLIGHT: return LIT(p, "key-in-flight");
	case TG_BUCKET_ADDRESS:
		p = put_text(p, tg_limit_class_names[x->route->limit]);
		return LIT(p, "-address");
	default: return put_text(p, tg_limit_class_names[x->route->limit]);
	}
}

/* Go's time.Duration, as OpenAI writes it and its clients parse it. */
static char *put_duration(char *p, uint64_t ms)
{
	if (ms && ms < 1000) {
		p = put_number(p, ms);
		return LIT(p, "ms");
	}
	uint32_t s = (uint32_t)(ms / 1000), rest = (uint32_t)(ms % 1000);
	if (s >= 3600) {
		p = put_number(p, s / 3600);
		*p++ = 'h';
	}
	if (s >= 60) {
		p = put_number(p, s / 60 % 60);
		*p++ = 'm';
	}
	p = put_number(p, s % 60);
	if (rest) {
		*p++ = '.';
		*p++ = (char)('0' + rest / 100);
		*p++ = (char)('0' + rest / 10 % 10);
		*p++ = (char)('0' + rest % 10);
	}
	*p++ = 's';
	return p;
}

#define OPENAI(p, what, k, now)                                 \
	do {                                                    \
		LIT(p, "x-ratelimit-limit-" what ": ");         \
		p = put_number(p, (k)->limit);                  \
		LIT(p, "\r\nx-ratelimit-remaining-" what ": "); \
		p = put_number(p, (k)->remaining);              \
		LIT(p, "\r\nx-ratelimit-reset-" what ": ");     \
		p = put_duration(p, left_ms(k, now));           \
		LIT(p, "\r\n");                                 \
	} while (0)

static char *put_ietf(char *p, const struct tg_exchange *x, uint64_t now)
{
	LIT(p, "RateLimit-Policy: ");
	for (unsigned i = 0; i < x->nbuckets; i++) {
		const struct tg_bucket *k = &x->bucket[i];
		if (i)
			LIT(p, ", ");
		*p++ = '"';
		p = put_name(p, x, k);
		LIT(p, "\";q=");
		p = put_number(p, k->limit);
		if (k->kind == TG_BUCKET_IN_FLIGHT) {
			LIT(p, ";qu=\"concurrent-requests\"");
			continue;
		}
		LIT(p, ";w=");
		p = put_number(p, k->period_s);
		if (k->kind == TG_BUCKET_TOKENS)
			LIT(p, ";tollgate-unit=\"tokens\"");
	}
	LIT(p, "\r\nRateLimit: ");
	for (unsigned i = 0; i < x->nbuckets; i++) {
		const struct tg_bucket *k = &x->bucket[i];
		if (i)
			LIT(p, ", ");
		*p++ = '"';
		p = put_name(p, x, k);
		LIT(p, "\";r=");
		p = put_number(p, k->remaining);
		if (k->kind == TG_BUCKET_IN_FLIGHT)
			continue;
		LIT(p, ";t=");
		p = put_number(p, (left_ms(k, now) + 999) / 1000);
	}
	return LIT(p, "\r\n");
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
	if (!tg_buf_reserve(b, ROOM_FIXED + x->nbuckets * ROOM_BUCKET))
		return;
	uint64_t now = tg_loop_ms(x->gl->loop);
	char *p = b->p + b->len;
	if (shown) {
		LIT(p, "X-RateLimit-Limit: ");
		p = put_number(p, shown->limit);
		LIT(p, "\r\nX-RateLimit-Remaining: ");
		p = put_number(p, shown->remaining);
		LIT(p, "\r\nX-RateLimit-Reset: ");
		p = put_number(p, (shown->end_ms + wall_less_mono(x) + 999) / 1000);
		LIT(p, "\r\n");
	}
	if (x->family == TG_FAM_OPENAI) {
		if (window)
			OPENAI(p, "requests", window, now);
		if (tokens)
			OPENAI(p, "tokens", tokens, now);
	}
	b->len = (size_t)(put_ietf(p, x, now) - b->p);
}
