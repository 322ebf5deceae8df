/*
 * Most cells of most tables are numbers of at most 19 digits, so those are worked out here, and every result is exact:
 * - at most 2^53 and a power of ten up to 22: both are doubles, so one multiplication or division rounds once and rightly (Clinger, PLDI 1990);
 * - at most 64 bits and a power up to 27: 5^27 fits 64 bits, so the product or the quotient is had whole in 128 bits, with what is left over, and is rounded once by hand;
 * - all others go to strtod.
 * The second case is there because programs write doubles with 16 or 17 digits: half of all numbers would take the slow way.
 */
#include "engine/number.h"
#include <locale.h>

__extension__ typedef unsigned __int128 u128;

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static double power_of_2(int e) /* of a normal double */
{
	uint64_t bits = (uint64_t)(e + 1023) << 52;
	double d;
	memcpy(&d, &bits, sizeof d);
	return d;
}

/* The upper 53 bits of n, rounded to even; sticky: something is left below n. *shift: how many bits were dropped. */
static double upper(u128 n, bool sticky, int *shift)
{
	uint64_t hi = (uint64_t)(n >> 64);
	int bits = hi ? 128 - __builtin_clzll(hi) : 64 - __builtin_clzll((uint64_t)n);
	if (bits <= 53) {
		*shift = 0;
		return (double)(uint64_t)n;
	}
	*shift = bits - 53;
	uint64_t q = (uint64_t)(n >> *shift);
	u128 left = n & (((u128)1 << *shift) - 1), half = (u128)1 << (*shift - 1);
	if (left > half || (left == half && (sticky || (q & 1))))
		q++;
	return (double)q; /* 2^53 at most: exact */
}

static const uint64_t power_of_5[] = {
	1u, 5u, 25u, 125u, 625u, 3125u, 15625u, 78125u, 390625u, 1953125u, 9765625u, 48828125u, 244140625u, 1220703125u, 6103515625u, 30517578125u, 152587890625u, 762939453125u,
	3814697265625u, 19073486328125u, 95367431640625u, 476837158203125u, 2384185791015625u, 11920928955078125u, 59604644775390625u, 298023223876953125u, 1490116119384765625u,
	7450580596923828125u,
};
#define POWER_MAX 27

/* m * 10^e, m not 0. */
static double in_128_bits(uint64_t m, int e)
{
	int shift;
	if (e >= 0) {
		double d = upper((u128)m * power_of_5[e], false, &shift);
		return d * power_of_2(shift + e);
	}
	uint64_t by = power_of_5[-e];
	int up = __builtin_clzll(m), by_up = __builtin_clzll(by);
	m <<= up;
	by <<= by_up;
	u128 n = (u128)m << 63;                  /* the quotient has 63 or 64 bits: more than 53 and one to round by */
	uint64_t q = (uint64_t)(n / by), left = (uint64_t)n - q * by;
	double d = upper(q, left != 0, &shift);
	return d * power_of_2(shift - 63 + by_up - up + e);
}

static double by_strtod(const char *p, size_t n)
{
	char t[TG_NUMBER_MAX + 1];
	memcpy(t, p, n);
	t[n] = 0;
	return strtod_l(t, NULL, newlocale(LC_ALL_MASK, "C", NULL)); /* the C locale is static: nothing to free */
}

const char *tg_number(const char *p, const char *end, double *v, bool *whole)
{
	static const double power_of_10[] = { 1, 1e1, 1e2, 1e3, 1e4, 1e5, 1e6, 1e7, 1e8, 1e9, 1e10, 1e11, 1e12, 1e13, 1e14, 1e15, 1e16, 1e17, 1e18, 1e19, 1e20, 1e21, 1e22 };
	const char *c = p + (p < end && *p == '-'), *from = c;
	uint64_t m = 0;
	long e = 0;
	if (c == end || !digit(*c))
		return NULL;
	if (*c == '0')
		from = ++c;
	else
		for (; c < end && digit(*c); c++)
			m = m * 10 + (uint64_t)(*c - '0');
	ptrdiff_t digits = c - from;
	*whole = true;
	if (c < end && *c == '.') {
		*whole = false;
		from = ++c;
		if (c == end || !digit(*c))
			return NULL;
		const char *point = c;
		if (!digits)
			while (c < end && *c == '0')
				from = ++c;
		for (; c < end && digit(*c); c++)
			m = m * 10 + (uint64_t)(*c - '0');
		digits += c - from;
		e = (long)(point - c);
	}
	if (c < end && (*c == 'e' || *c == 'E')) {
		*whole = false;
		c++;
		bool minus = c < end && *c == '-';
		if (c < end && (*c == '-' || *c == '+'))
			c++;
		if (c == end || !digit(*c))
			return NULL;
		long x = 0;
		for (; c < end && digit(*c); c++)
			x = x < 100000 ? x * 10 + (*c - '0') : x;
		e += minus ? -x : x;
	}
	if (c - p > TG_NUMBER_MAX)
		return NULL;
	double d;
	const char *number = p + (*p == '-');
	if (digits > 19)
		d = by_strtod(number, (size_t)(c - number));
	else if (!m)
		d = 0;
	else if (m <= (uint64_t)1 << 53 && e >= -22 && e <= 22)
		d = e < 0 ? (double)m / power_of_10[-e] : (double)m * power_of_10[e];
	else if (e >= -POWER_MAX && e <= POWER_MAX)
		d = in_128_bits(m, (int)e);
	else
		d = by_strtod(number, (size_t)(c - number));
	*v = *p == '-' ? -d : d;
	return c;
}
