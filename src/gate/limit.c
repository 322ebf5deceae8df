/*
 * Stage 5: how much. What is asked, in this order: the key's requests in flight; the window of the route's class (per key; of train and predict per address and per key; of callers without
 * a key per address); the key's own window of requests; and, once the body is known, the key's tokens per minute. Whatever passed authentication counts in the windows, valid or not;
 * what one limit refuses takes nothing of the others asked here.
 *
 * Tokens reserve, then settle (docs/adr/0016). Reserved before the request goes on: its prompt, reckoned by the body's bytes, and the most that the answer may have. Settled at its end, whatever
 * that is. So of what a key's requests use in a window, only what one that is still under way uses beyond its own reservation can be over the limit.
 */
#include "gate/exchange.h"
#include "policy/key_limits.h"
#include <stdlib.h>

#define MINUTE 60u
#define TIMES_MAX 1024u    /* n, best_of: more than that no worker takes */
#define CLIENTS_WAIT_S 120u /* the longest Retry-After that OpenAI's clients follow */

enum { OWN_REQUESTS = 0x100, OWN_TOKENS, OWN_IN_FLIGHT, BY_ADDRESS = 0x200 }; /* beside the classes, for tg_limit_who */
_Static_assert((unsigned)TG_LIMIT_COUNT < (unsigned)OWN_REQUESTS, "a class must not be taken for another limit");

static bool nameless(const struct tg_principal *p)
{
	return !p || p->source == TG_SRC_LOCAL || p->source == TG_SRC_OUTSIDER || p->source == TG_SRC_ANONYMOUS;
}

/* An IPv6 caller has a /64 to choose its addresses from, at least. */
static uint64_t by_address(const struct tg_exchange *x, unsigned what)
{
	static const uint8_t v4[12] = { [10] = 0xff, [11] = 0xff };
	bool whole = x->client.unix_peer || memcmp(x->client.ip, v4, sizeof v4) == 0;
	return tg_limit_who(BY_ADDRESS | what, x->client.ip, whole ? sizeof x->client.ip : 8);
}

static uint64_t who_is(const struct tg_exchange *x, unsigned what, struct tg_limiter **table)
{
	const struct tg_principal *p = x->principal;
	*table = nameless(p) ? x->gl->gate->strangers : x->gl->gate->limiter;
	return nameless(p) ? by_address(x, what) : tg_limit_who(what, &p->hash, sizeof p->hash);
}

struct window {
	struct tg_limiter *table;
	uint64_t who;
	struct tg_rate rate;
	enum tg_bucket_kind kind;
};
enum { WINDOWS_MAX = 3 };

static unsigned windows_of(const struct tg_exchange *x, const struct tg_key_limits *own, struct window w[WINDOWS_MAX])
{
	unsigned class = x->route->limit, n = 0;
	struct tg_rate rate = x->snap->rates[class];
	if (rate.n && (class == TG_LIMIT_TRAIN || class == TG_LIMIT_PREDICT) && !nameless(x->principal))
		w[n++] = (struct window){ x->gl->gate->strangers, by_address(x, class), rate, TG_BUCKET_ADDRESS };
	if (rate.n) {
		w[n] = (struct window){ .rate = rate, .kind = TG_BUCKET_CLASS };
		w[n].who = who_is(x, class, &w[n].table);
		n++;
	}
	if (own->requests.n) {
		w[n] = (struct window){ .rate = own->requests, .kind = TG_BUCKET_KEY };
		w[n].who = who_is(x, OWN_REQUESTS, &w[n].table);
		n++;
	}
	return n;
}

static void put_bucket(struct tg_exchange *x, enum tg_bucket_kind kind, const struct tg_verdict *v, uint32_t period_s)
{
	x->bucket[x->nbuckets++] = (struct tg_bucket){ .end_ms = v->end_ms, .limit = v->limit, .remaining = v->remaining, .period_s = period_s, .kind = (uint8_t)kind,
						       .refused = !v->passed };
}

static bool enter(struct tg_exchange *x, uint32_t max, uint64_t now)
{
	struct tg_limiter *table;
	uint64_t who = who_is(x, OWN_IN_FLIGHT, &table);
	uint32_t inside;
	x->held = tg_limiter_enter(table, who, max, now, &inside);
	struct tg_verdict v = { .passed = x->held != NULL, .limit = max, .remaining = max > inside ? max - inside : 0, .end_ms = now + 1000 };
	put_bucket(x, TG_BUCKET_IN_FLIGHT, &v, 1);
	return v.passed;
}

bool tg_limit_take(struct tg_exchange *x)
{
	if (x->route->limit == TG_LIMIT_NONE)
		return true;
	struct tg_key_limits own = { 0 };
	if (x->principal)
		own = tg_key_limits_over(&x->principal->limits, &x->snap->policy.key_limits);
	uint64_t now = x->start_us / 1000u;
	x->tokens.limit = x->forward ? own.tokens_per_minute : 0;
	struct window w[WINDOWS_MAX];
	if (own.in_flight && !enter(x, own.in_flight, now)) {
		unsigned n = windows_of(x, &own, w);
		for (unsigned i = 0; i < n; i++) { /* looked at, for the answer's head */
			struct tg_verdict v = tg_limiter_reserve(w[i].table, w[i].who, w[i].rate, 0, now, 0);
			v.passed = true;
			put_bucket(x, w[i].kind, &v, w[i].rate.period_s);
		}
		return false;
	}
	struct tg_verdict v[WINDOWS_MAX];
	unsigned n = windows_of(x, &own, w), first = x->nbuckets;
	for (unsigned i = 0; i < n; i++) {
		v[i] = tg_limiter_take(w[i].table, w[i].who, w[i].rate, now, 0);
		put_bucket(x, w[i].kind, &v[i], w[i].rate.period_s);
		if (v[i].passed)
			continue;
		for (unsigned k = 0; k < i; k++) {
			tg_limiter_settle(w[k].table, w[k].who, w[k].rate, v[k].window, 1, 0, now);
			x->bucket[first + k].remaining++;
		}
		return false;
	}
	return true;
}

static unsigned seconds_left(const struct tg_bucket *k, uint64_t now)
{
	uint64_t left = k->end_ms > now ? k->end_ms - now : 0;
	return left > 1000 ? (unsigned)((left + 999) / 1000) : 1;
}

/* 429 with what the client needs to do right: how long to wait, and whether waiting helps at all. */
static enum tg_step refuse(struct tg_exchange *x, enum tg_error e, const char *reason, const char *text, unsigned wait_s, bool pointless)
{
	char extra[80];
	snprintf(extra, sizeof extra, "%sRetry-After: %u\r\n", pointless || wait_s > CLIENTS_WAIT_S ? "x-should-retry: false\r\n" : "", wait_s);
	return tg_answer_problem(x, e, reason, text, NULL, extra);
}

enum tg_step tg_stage_limit(struct tg_exchange *x)
{
	if (!x->snap->config->limits_enabled || tg_limit_take(x))
		return TG_NEXT;
	const struct tg_bucket *k = &x->bucket[0];
	char text[160], rate[TG_RATE_TEXT];
	if (k->kind == TG_BUCKET_IN_FLIGHT && k->refused) {
		snprintf(text, sizeof text, "Too many requests at once: %u may be in flight. Wait for one of them to end, then try again.", k->limit);
		return refuse(x, TG_E_rate_limited, "too_many_in_flight", text, 1, false);
	}
	k = &x->bucket[x->nbuckets - 1];
	unsigned wait = seconds_left(k, x->start_us / 1000u);
	tg_rate_text((struct tg_rate){ k->limit, k->period_s }, rate);
	snprintf(text, sizeof text, "Too many requests: the limit is %s; wait %u s and try again.", rate, wait);
	return refuse(x, TG_E_rate_limited, "rate_limited", text, wait, false);
}

/* ---- tokens ---- */

/* A count as the caller wrote it: workers take 1e3 for 1000, and -1 for no bound. 0: none. What no limit could hold is one more than the largest. *wrong: the name of what is no
 * number: some workers take "100" for 100, so it cannot be passed over. */
static uint64_t number(struct tg_slice doc, const struct tg_json_want *w, const char **wrong)
{
	char text[40];
	if (w->type != TG_JSON_NUMBER) {
		*wrong = w->type == TG_JSON_NONE || w->type == TG_JSON_NULL ? *wrong : w->name.p;
		return 0;
	}
	struct tg_slice v = tg_json_value(doc, w);
	if (v.p[0] == '-')
		return 0;
	if (v.n >= sizeof text)
		return TG_TOKENS_MAX + 1;
	memcpy(text, v.p, v.n);
	text[v.n] = 0;
	double d = strtod(text, NULL);
	return d < TG_TOKENS_MAX ? (uint64_t)d + (d > (double)(uint64_t)d) : TG_TOKENS_MAX + 1;
}

static uint64_t larger(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* The most tokens that the request lets its answer have; 0: it does not say. */
static uint64_t most_of(const struct tg_exchange *x, const struct tg_json_scan *s, const char **wrong)
{
	if (x->family == TG_FAM_INFER) { /* 001's clients say it in the request itself */
		static const char *const names[] = { "max_new_tokens", "max_tokens", "max_completion_tokens" };
		struct tg_json_scan in;
		struct tg_slice doc = tg_json_value(x->body, &s->want[TG_WANT_PROMPT]);
		if (tg_json_scan_all(&in, doc, names, 3) != TG_JSON_DONE)
			return 0; /* it is refused further on */
		uint64_t new = number(doc, &in.want[0], wrong), other = larger(number(doc, &in.want[1], wrong), number(doc, &in.want[2], wrong));
		return new ? new : other;
	}
	/* which of the two counts is the worker's choice */
	return larger(number(x->body, &s->want[TG_WANT_MAX_TOKENS], wrong), number(x->body, &s->want[TG_WANT_MAX_COMPLETION], wrong));
}

static uint64_t answers_of(const struct tg_exchange *x, const struct tg_json_scan *s, const char **wrong)
{
	if (x->family != TG_FAM_OPENAI)
		return 1; /* n is not passed on */
	uint64_t n = larger(number(x->body, &s->want[TG_WANT_N], wrong), number(x->body, &s->want[TG_WANT_BEST_OF], wrong));
	return n < 1 ? 1 : n < TIMES_MAX ? n : TIMES_MAX;
}

uint32_t tg_limit_prompt(const struct tg_exchange *x)
{
	uint64_t n = (x->body.n + x->snap->config->reserve_bytes - 1) / x->snap->config->reserve_bytes;
	return n < UINT32_MAX ? (uint32_t)n : UINT32_MAX;
}

static enum tg_step no_number(struct tg_exchange *x, const char *field)
{
	char text[128];
	snprintf(text, sizeof text, "Validation error on %s: must be a number: this key's tokens are limited, and it says how many are asked for", field);
	return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, field, NULL);
}

enum tg_step tg_limit_tokens(struct tg_exchange *x, const struct tg_json_scan *s)
{
	const struct tg_config *c = x->snap->config;
	struct tg_reservation *t = &x->tokens;
	uint64_t prompt = t->prompt, answer = 0;
	if (!x->forward->embeds) {
		const char *wrong = NULL;
		uint64_t times = answers_of(x, s, &wrong);
		answer = most_of(x, s, &wrong) * times;
		if (wrong)
			return no_number(x, wrong);
		if (!answer) { /* a guess must not make a request impossible */
			uint64_t guess = (c->reserve_tokens < t->limit / 4 ? c->reserve_tokens : t->limit / 4) * times, room = t->limit > prompt ? t->limit - prompt : 0;
			answer = guess < room ? guess : room;
		}
	}
	uint64_t all = prompt + answer, now = tg_mono_us() / 1000u;
	bool fits = all <= t->limit;
	struct tg_limiter *table;
	uint64_t who = who_is(x, OWN_TOKENS, &table);
	struct tg_verdict v = tg_limiter_reserve(table, who, (struct tg_rate){ t->limit, MINUTE }, fits ? (uint32_t)all : 0, now, 0);
	put_bucket(x, TG_BUCKET_TOKENS, &v, MINUTE);
	struct tg_bucket *k = &x->bucket[x->nbuckets - 1];
	if (fits && v.passed) {
		t->reserved = (uint32_t)all;
		t->window = v.window;
		tg_metrics_add(x->gl->metrics, TG_COUNT_TOKENS_RESERVED, all);
		return TG_NEXT;
	}
	k->refused = true;
	char text[256];
	unsigned wait = seconds_left(k, now);
	if (fits) {
		snprintf(text, sizeof text, "Too many tokens: this request reserves %llu (prompt %llu, answer %llu), and %u of %u per minute are left; wait %u s and try again.",
			 (unsigned long long)all, (unsigned long long)prompt, (unsigned long long)answer, k->remaining, k->limit, wait);
		return refuse(x, TG_E_tokens_limited, "tokens_limited", text, wait, false);
	}
	snprintf(text, sizeof text, "Too many tokens: this request reserves %llu (prompt %llu, answer %llu), and the limit is %u per minute. Send less, or name a smaller max_tokens.",
		 (unsigned long long)all, (unsigned long long)prompt, (unsigned long long)answer, k->limit);
	return refuse(x, TG_E_tokens_limited, "tokens_never_fit", text, wait, true);
}

/* What the request has cost. Its worker says so; where it does not, what passed through here is counted. An error, or no answer at all, costs nothing; but whoever leaves a worker at its task
 * pays for the prompt. */
static uint64_t used(const struct tg_exchange *x, uint64_t about_to_send)
{
	const struct tg_reservation *t = &x->tokens;
	if (x->usage.seen && !x->usage.counted)
		return x->usage.prompt + x->usage.completion; /* each at most 2^53 */
	if (!x->sent_upstream)
		return 0;
	if (x->status == 499)
		return t->prompt;
	if (x->status < 200 || x->status >= 300)
		return 0;
	if (x->sse)
		return t->prompt + x->sse->events; /* each carries about one */
	uint64_t relayed = t->prompt + (x->bytes_out + about_to_send) / x->snap->config->reserve_bytes;
	return relayed < t->reserved ? relayed : t->reserved;
}

void tg_limit_reckon(struct tg_exchange *x)
{
	bool begun = x->status >= 200 && x->status < 300;
	if (!x->forward || x->usage.seen || !x->partial || (!begun && x->status != 499))
		return;
	uint64_t answer = !begun || x->forward->embeds ? 0 : x->sse ? x->sse->events : x->bytes_out / x->snap->config->reserve_bytes;
	x->usage = (struct tg_usage){ .seen = true, .counted = true, .prompt = x->tokens.prompt, .completion = answer };
}

void tg_limit_finish(struct tg_exchange *x, uint64_t about_to_send)
{
	struct tg_reservation *t = &x->tokens;
	uint64_t now = tg_mono_us() / 1000u;
	if (x->held)
		tg_limiter_leave(x->held, now);
	x->held = NULL;
	if (!t->reserved)
		return;
	uint64_t n = used(x, about_to_send);
	struct tg_limiter *table;
	uint64_t who = who_is(x, OWN_TOKENS, &table);
	tg_limiter_settle(table, who, (struct tg_rate){ t->limit, MINUTE }, t->window, t->reserved, n < UINT32_MAX ? (uint32_t)n : UINT32_MAX, now);
	t->reserved = 0;
	tg_metrics_add(x->gl->metrics, TG_COUNT_TOKENS_SETTLED, n);
}
