/*
 * Decimals, "12.5", as whole millionths. Money is never a binary fraction here: 0.1 has no exact double, and a million times nearly a tenth is a bill that somebody
 * adds up and finds wrong. One spelling only, as with rates: a sign, an exponent, a comma or a seventh place is a mistake rather than something to be rounded.
 */
#include "config/config.h"

enum { WHOLE_MAX = 12, PLACES = 6, MILLION = 1000000 };

bool tg_decimal_parse(struct tg_slice s, uint64_t *micro)
{
	uint64_t whole = 0, part = 0;
	size_t i = 0, places = 0;
	for (; i < s.n && s.p[i] >= '0' && s.p[i] <= '9'; i++) {
		if (i == WHOLE_MAX)
			return false;
		whole = whole * 10 + (uint64_t)(s.p[i] - '0');
	}
	if (!i || (i > 1 && s.p[0] == '0'))
		return false;
	if (i < s.n && s.p[i] == '.') {
		for (i++; i < s.n && s.p[i] >= '0' && s.p[i] <= '9' && places < PLACES; i++, places++)
			part = part * 10 + (uint64_t)(s.p[i] - '0');
		if (!places)
			return false;
	}
	if (i < s.n)
		return false;
	for (; places < PLACES; places++)
		part *= 10;
	*micro = whole * MILLION + part;
	return true;
}

void tg_decimal_text(uint64_t micro, char out[TG_DECIMAL_TEXT])
{
	size_t n = (size_t)snprintf(out, TG_DECIMAL_TEXT, "%llu.%06u", (unsigned long long)(micro / MILLION), (unsigned)(micro % MILLION));
	while (out[n - 1] == '0')
		out[--n] = 0;
	if (out[n - 1] == '.')
		out[n - 1] = 0;
}
