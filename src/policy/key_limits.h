#pragma once
/*
 * A key's or user's own limits, as people and clients write them: {"requests": "60/minute", "tokens_per_minute": 1000, "in_flight": 2} in a request's or a database's JSON,
 * --requests 60/minute --tokens-per-minute 1000 --in-flight 2 on a command line. One table knows the names and bounds of all three.
 */
#include "base/err.h"
#include "policy/principal.h"
#include <jansson.h>

#define TG_TOKENS_MAX 16000000u /* a minute: what the limiter's cells count, with room for what goes over */
#define TG_IN_FLIGHT_MAX 1000000u

/* What was wrong: "Validation error on {field}: {reason}". field: "limits", "limits.requests"; of an unknown member its name, cut to what fits, as the caller wrote it: escape it. */
struct tg_key_limits_fault {
	char field[64], reason[160];
};
/*
 * The object. A member that is absent or null is not set: [limits] key_* applies to the key. "requests": "off" is set: the key has none, whatever the default. NULL and JSON null: nothing
 * is set. False: *out is as it was. An unknown member is a fault, never ignored: a limit that was mistyped would be no limit. Duplicates are for whoever loads the JSON to refuse (JSON_REJECT_DUPLICATES).
 */
bool tg_key_limits_parse(const json_t *limits, struct tg_key_limits *out, struct tg_key_limits_fault *fault);
/* The same object again: parsed, it gives the same limits. Only members that are set. A new reference; NULL: no memory. */
json_t *tg_key_limits_json(const struct tg_key_limits *l);
/* What is more in `asked` than in `bound`: "limits.requests" ...; NULL: nothing. Where bound has no value (or "off") anything goes; where asked has none it is more than any. A window is more with more requests, or with more in the long run. */
const char *tg_key_limits_more(const struct tg_key_limits *asked, const struct tg_key_limits *bound);
/* One value of them in words, by the name that tg_key_limits_more gives: "60/minute". */
void tg_key_limits_text(const struct tg_key_limits *l, const char *field, char out[TG_RATE_TEXT]);
/* One option of a command line ("--requests", its value or NULL). 0: not one of these. 1: taken. -1: err says what is wrong with it. */
int tg_key_limits_option(struct tg_key_limits *l, const char *option, const char *value, struct tg_err *err);
#define TG_KEY_LIMITS_USAGE "[--requests N/PERIOD] [--tokens-per-minute N] [--in-flight N]"

static inline bool tg_key_limits_set(const struct tg_key_limits *l) /* at least one */
{
	return l->requests.period_s || l->tokens_per_minute || l->in_flight;
}
/* What applies to a key: its own values, else the defaults. */
static inline struct tg_key_limits tg_key_limits_over(const struct tg_key_limits *own, const struct tg_key_limits *defaults)
{
	return (struct tg_key_limits){
		.requests = own->requests.period_s ? own->requests : defaults->requests,
		.tokens_per_minute = own->tokens_per_minute ? own->tokens_per_minute : defaults->tokens_per_minute,
		.in_flight = own->in_flight ? own->in_flight : defaults->in_flight,
	};
}
/* What a key gets that asked for `asked` and whose maker has `bound`: what was not asked for is the maker's. "off" is not handed on: then the default applies. */
static inline struct tg_key_limits tg_key_limits_under(const struct tg_key_limits *asked, const struct tg_key_limits *bound)
{
	struct tg_key_limits l = tg_key_limits_over(asked, bound);
	if (!asked->requests.period_s && !l.requests.n)
		l.requests.period_s = 0;
	return l;
}
