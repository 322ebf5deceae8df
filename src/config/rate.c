/*
 * Rates, "N/period". One spelling only, the one every document uses, so that a limit that was mistyped stops the start instead of
 * limiting something else. Zero requests is no limit but a switched-off route, so "0/minute" is refused; "off" means no limit.
 */
#include "config/config.h"

static const struct {
	const char *name;
	uint32_t seconds;
} periods[] = { { "second", 1 }, { "minute", 60 }, { "hour", 3600 }, { "day", 86400 } };

bool tg_rate_parse(struct tg_slice s, struct tg_rate *out)
{
	if (tg_slice_eq(s, TG_S("off"))) {
		*out = (struct tg_rate){ 0 };
		return true;
	}
	size_t i = 0;
	uint32_t n = 0;
	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		n = n * 10 + (uint32_t)(s.p[i] - '0');
		if (n > TG_RATE_MAX)
			return false;
	}
	if (!n || s.p[0] == '0' || i == s.n || s.p[i] != '/')
		return false;
	struct tg_slice period = { s.p + i + 1, s.n - i - 1 };
	for (size_t k = 0; k < sizeof periods / sizeof *periods; k++)
		if (tg_slice_eq(period, tg_slice_cstr(periods[k].name))) {
			*out = (struct tg_rate){ n, periods[k].seconds };
			return true;
		}
	return false;
}

void tg_rate_text(struct tg_rate r, char out[TG_RATE_TEXT])
{
	const char *period = "second";
	for (size_t k = 0; k < sizeof periods / sizeof *periods; k++)
		if (periods[k].seconds == r.period_s)
			period = periods[k].name;
	if (r.n)
		snprintf(out, TG_RATE_TEXT, "%u/%s", r.n, period);
	else
		snprintf(out, TG_RATE_TEXT, "off");
}
