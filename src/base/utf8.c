/* One decoder step, written from the table of RFC 3629 section 4, so that the rule stands in one place. */
#include "base/utf8.h"

static bool in(unsigned char c, unsigned char lo, unsigned char hi)
{
	return c >= lo && c <= hi;
}

size_t tg_utf8_len(const char *s, size_t n)
{
	const unsigned char *p = (const unsigned char *)s;
	if (!n)
		return 0;
	if (p[0] < 0x80)
		return 1;
	if (in(p[0], 0xc2, 0xdf))
		return n >= 2 && in(p[1], 0x80, 0xbf) ? 2 : 0;
	if (in(p[0], 0xe0, 0xef)) {
		unsigned char lo = p[0] == 0xe0 ? 0xa0 : 0x80, hi = p[0] == 0xed ? 0x9f : 0xbf;
		return n >= 3 && in(p[1], lo, hi) && in(p[2], 0x80, 0xbf) ? 3 : 0;
	}
	if (in(p[0], 0xf0, 0xf4)) {
		unsigned char lo = p[0] == 0xf0 ? 0x90 : 0x80, hi = p[0] == 0xf4 ? 0x8f : 0xbf;
		return n >= 4 && in(p[1], lo, hi) && in(p[2], 0x80, 0xbf) && in(p[3], 0x80, 0xbf) ? 4 : 0;
	}
	return 0;
}

bool tg_utf8_valid(const char *p, size_t n)
{
	for (size_t i = 0, k; i < n; i += k)
		if (!(k = tg_utf8_len(p + i, n - i)))
			return false;
	return true;
}
