/*
 * Rates ("60/minute") and the limits of a key, as JSON and as words. Beyond not crashing: what is taken is within its bounds and has one spelling, which is read again as the same; what is
 * refused leaves nothing behind and is told with a field and a reason.
 */
#include "policy/key_limits.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool same(const struct tg_key_limits *a, const struct tg_key_limits *b)
{
	return a->requests.n == b->requests.n && a->requests.period_s == b->requests.period_s && a->tokens_per_minute == b->tokens_per_minute && a->in_flight == b->in_flight;
}

static void rate(struct tg_slice text)
{
	struct tg_rate r, again;
	char out[TG_RATE_TEXT];
	if (!tg_rate_parse(text, &r))
		return;
	must(r.n <= TG_RATE_MAX && (r.n == 0 || r.period_s == 1 || r.period_s == 60 || r.period_s == 3600 || r.period_s == 86400));
	tg_rate_text(r, out);
	must(tg_slice_eq(text, tg_slice_cstr(out)));
	must(tg_rate_parse(tg_slice_cstr(out), &again) && again.n == r.n && again.period_s == r.period_s);
}

static void object(const json_t *v)
{
	struct tg_key_limits l = { { 7, 7 }, 7, 7 }, again;
	const struct tg_key_limits before = l;
	struct tg_key_limits_fault fault = { 0 };
	if (!tg_key_limits_parse(v, &l, &fault)) {
		must(same(&l, &before) && strncmp(fault.field, "limits", 6) == 0 && fault.reason[0]);
		return;
	}
	must(l.requests.n <= TG_RATE_MAX && l.tokens_per_minute <= TG_TOKENS_MAX && l.in_flight <= TG_IN_FLIGHT_MAX);
	json_t *w = tg_key_limits_json(&l);
	must(w && tg_key_limits_parse(w, &again, &fault) && same(&l, &again));
	must(tg_key_limits_set(&l) == (json_object_size(w) > 0));
	json_decref(w);
}

static void words(struct tg_slice text)
{
	static const char *const names[] = { "--requests", "--tokens-per-minute", "--in-flight" };
	char *value = tg_slice_dup(text);
	must(value != NULL);
	for (size_t i = 0; i < 3; i++) {
		struct tg_key_limits l = { { 7, 7 }, 7, 7 };
		const struct tg_key_limits before = l;
		struct tg_err err = { "" };
		int got = tg_key_limits_option(&l, names[i], value, &err);
		must(got == 1 || (got == -1 && err.text[0] && same(&l, &before)));
		must(l.requests.n <= TG_RATE_MAX && l.tokens_per_minute <= TG_TOKENS_MAX && l.in_flight <= TG_IN_FLIGHT_MAX);
	}
	struct tg_key_limits l = { 0 };
	struct tg_err err;
	must(tg_key_limits_option(&l, "--", value, &err) == 0);
	free(value);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tg_slice text = { (const char *)data, size };
	rate(text);
	words(text);
	json_t *v = json_loadb(text.p, text.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (v)
		object(v);
	json_decref(v);
	return 0;
}
