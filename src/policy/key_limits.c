/*
 * Reading and writing a key's own limits. Strict on purpose: a field that is not known, a number in quotes or one out of bounds is a fault that names the field, because what is
 * silently dropped here is a limit that does not hold (peers did that).
 *
 * "off" for requests has to be told from "not set", which takes the default: it is the rate 0 with a period.
 */
#include "policy/key_limits.h"
#include <inttypes.h>

static const struct {
	const char *name, *option;
	size_t offset;
	uint32_t max; /* 0: a rate */
} fields[] = {
	{ "requests", "--requests", offsetof(struct tg_key_limits, requests), 0 },
	{ "tokens_per_minute", "--tokens-per-minute", offsetof(struct tg_key_limits, tokens_per_minute), TG_TOKENS_MAX },
	{ "in_flight", "--in-flight", offsetof(struct tg_key_limits, in_flight), TG_IN_FLIGHT_MAX },
};
#define NFIELDS (sizeof fields / sizeof *fields)
#define RATE_WORDS "must be \"N/second\", \"N/minute\", \"N/hour\" or \"N/day\", N from 1 to 16000000, or \"off\""

_Static_assert(TG_RATE_MAX == 16000000 && TG_TOKENS_MAX == 16000000, "RATE_WORDS and the documentation say so");

static bool fail(struct tg_key_limits_fault *fault, const char *name, const char *reason)
{
	snprintf(fault->field, sizeof fault->field, name ? "limits.%.48s" : "limits", name);
	snprintf(fault->reason, sizeof fault->reason, "%s", reason);
	return false;
}

static bool set_rate(void *field, struct tg_slice text)
{
	struct tg_rate r;
	if (!tg_rate_parse(text, &r))
		return false;
	if (!r.n)
		r.period_s = 1;
	memcpy(field, &r, sizeof r);
	return true;
}

static bool set(size_t f, struct tg_key_limits *l, const json_t *v, struct tg_key_limits_fault *fault)
{
	void *field = (char *)l + fields[f].offset;
	if (json_is_null(v))
		return true;
	if (!fields[f].max) {
		if (!json_is_string(v) || !set_rate(field, (struct tg_slice){ json_string_value(v), json_string_length(v) }))
			return fail(fault, fields[f].name, RATE_WORDS);
		return true;
	}
	json_int_t n = json_is_integer(v) ? json_integer_value(v) : 0;
	if (n < 1 || n > (json_int_t)fields[f].max) {
		char why[80];
		snprintf(why, sizeof why, "must be a whole number from 1 to %" PRIu32, fields[f].max);
		return fail(fault, fields[f].name, why);
	}
	uint32_t u = (uint32_t)n;
	memcpy(field, &u, sizeof u);
	return true;
}

bool tg_key_limits_parse(const json_t *limits, struct tg_key_limits *out, struct tg_key_limits_fault *fault)
{
	struct tg_key_limits l = { 0 };
	const char *name;
	json_t *v;
	if (limits && !json_is_null(limits) && !json_is_object(limits))
		return fail(fault, NULL, "must be an object with requests, tokens_per_minute, in_flight");
	json_object_foreach((json_t *)(uintptr_t)limits, name, v) {
		size_t f = 0;
		while (f < NFIELDS && strcmp(fields[f].name, name) != 0)
			f++;
		if (f == NFIELDS)
			return fail(fault, name, "is not known; known are requests, tokens_per_minute, in_flight");
		if (!set(f, &l, v, fault))
			return false;
	}
	*out = l;
	return true;
}

json_t *tg_key_limits_json(const struct tg_key_limits *l)
{
	json_t *o = json_object();
	bool ok = o != NULL;
	if (ok && l->requests.period_s) {
		char text[TG_RATE_TEXT];
		tg_rate_text(l->requests, text);
		ok = json_object_set_new(o, "requests", json_string(text)) == 0;
	}
	if (ok && l->tokens_per_minute)
		ok = json_object_set_new(o, "tokens_per_minute", json_integer(l->tokens_per_minute)) == 0;
	if (ok && l->in_flight)
		ok = json_object_set_new(o, "in_flight", json_integer(l->in_flight)) == 0;
	if (ok)
		return o;
	json_decref(o);
	return NULL;
}

static bool more_requests(struct tg_rate asked, struct tg_rate bound)
{
	return !asked.n || asked.n > bound.n || (uint64_t)asked.n * bound.period_s > (uint64_t)bound.n * asked.period_s;
}

const char *tg_key_limits_more(const struct tg_key_limits *asked, const struct tg_key_limits *bound)
{
	if (bound->requests.n && more_requests(asked->requests, bound->requests))
		return "limits.requests";
	if (bound->tokens_per_minute && (!asked->tokens_per_minute || asked->tokens_per_minute > bound->tokens_per_minute))
		return "limits.tokens_per_minute";
	return bound->in_flight && (!asked->in_flight || asked->in_flight > bound->in_flight) ? "limits.in_flight" : NULL;
}

void tg_key_limits_text(const struct tg_key_limits *l, const char *field, char out[TG_RATE_TEXT])
{
	if (strcmp(field, "limits.requests") == 0)
		tg_rate_text(l->requests, out);
	else
		snprintf(out, TG_RATE_TEXT, "%" PRIu32, strcmp(field, "limits.in_flight") == 0 ? l->in_flight : l->tokens_per_minute);
}

static bool number(const char *text, uint32_t max, uint32_t *out)
{
	uint64_t n = 0;
	size_t i = 0;
	for (; text[i] >= '0' && text[i] <= '9' && n <= max; i++)
		n = n * 10 + (uint64_t)(text[i] - '0');
	if (!i || text[i] || n < 1 || n > max)
		return false;
	*out = (uint32_t)n;
	return true;
}

int tg_key_limits_option(struct tg_key_limits *l, const char *option, const char *value, struct tg_err *err)
{
	for (size_t f = 0; f < NFIELDS; f++) {
		if (strcmp(fields[f].option, option) != 0)
			continue;
		void *field = (char *)l + fields[f].offset;
		uint32_t n;
		if (!value) {
			tg_err_set(err, "%s needs a value", option);
		} else if (!fields[f].max) {
			if (set_rate(field, tg_slice_cstr(value)))
				return 1;
			tg_err_set(err, "%s %s: %s", option, value, RATE_WORDS);
		} else {
			if (number(value, fields[f].max, &n)) {
				memcpy(field, &n, sizeof n);
				return 1;
			}
			tg_err_set(err, "%s %s: must be a whole number from 1 to %" PRIu32, option, value, fields[f].max);
		}
		return -1;
	}
	return 0;
}
