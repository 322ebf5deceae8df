/* Numbers are read exactly: the same bits as strtod gives, whichever of the three ways they take; and nothing else is a number. */
#include "engine/number.h"
#include <float.h>
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>

#include <cmocka.h>

static uint64_t rng = 2463534242u;
static uint64_t draw(void)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	return rng ^= rng << 17;
}

static void same(const char *text)
{
	double want = strtod(text, NULL), v = 77;
	bool whole;
	size_t n = strlen(text);
	char *copy = malloc(n); /* without a NUL behind */
	memcpy(copy, text, n);
	if (tg_number(copy, copy + n, &v, &whole) != copy + n)
		fail_msg("%s: is none", text);
	if (memcmp(&v, &want, sizeof v) != 0)
		fail_msg("%s: %a, strtod: %a", text, v, want);
	assert_int_equal(whole, !strpbrk(text, ".eE"));
	free(copy);
}

static void test_known(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"0", "-0", "0.0", "-0.000e5", "1", "12", "110.0", "0.1", "0.30000000000000004", "9007199254740992", "9007199254740993", "9007199254740994", "9007199254740995", "9007199254740997",
		"9223372036854775807", "9223372036854775808", "18446744073709551615", "18446744073709551616", "9999999999999999999", "10000000000000000000", "99999999999999999999",
		"1e22", "1e23", "1e27", "1e28", "9007199254740993e22", "9007199254740993e27", "9007199254740993e-22", "9007199254740993e-27", "9999999999999999999e27", "9999999999999999999e-27",
		"1e-27", "1e-28", "1e308", "1.7976931348623157e308", "1.7976931348623158e308", "1.7976931348623159e308", "1e309", "-1e309", "1e999999999999", "1e-999999999999", "0e999999999999",
		"2.2250738585072014e-308", "2.2250738585072011e-308", "4.9e-324", "2.4703282292062327e-324", "2.4703282292062328e-324", "0.000000000000000000000000000000000000123",
		"1.00000000000000011102230246251565", "1.00000000000000011102230246251566", "4503599627370496.5", "4503599627370497.5", "9007199254740991.5", "36028797018963967", "36028797018963971",
		"0.00000000000000000001e20", "1E5", "1e+5", "1e-5", "-1.5e-07", "123456789012345678901234567890.123456789",
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		same(rows[i]);
}

static void test_drawn(void **state)
{
	(void)state;
	char t[400];
	for (int i = 0; i < 60000; i++) {
		uint64_t bits = draw();
		double d;
		memcpy(&d, &bits, sizeof d);
		if (i % 2)
			d = ldexp((double)(bits >> 11), (int)(draw() % 200) - 150);
		if (isfinite(d)) {
			snprintf(t, sizeof t, "%.*g", (int)(1 + draw() % 25), d);
			same(t);
		}
		snprintf(t, sizeof t, "%s%lluE%d", i & 1 ? "-" : "", (unsigned long long)(draw() >> draw() % 64), (int)(draw() % 80) - 40);
		same(t);
		snprintf(t, sizeof t, "%llu.%0*llu", (unsigned long long)(draw() >> (20 + draw() % 44)), (int)(1 + draw() % 12), (unsigned long long)(draw() % 1000000));
		same(t);
	}
}

/* Half way between two doubles, and one digit beside: where rounding shows. */
static void test_half_way(void **state)
{
	(void)state;
	char t[64];
	for (int i = 0; i < 20000; i++) {
		uint64_t m = (draw() >> 11) | (uint64_t)1 << 52; /* a double's 53 bits */
		unsigned up = 1 + (unsigned)(draw() % 10);
		uint64_t half = (m << up) + ((uint64_t)1 << (up - 1));
		for (int by = -1; by <= 1; by++) {
			snprintf(t, sizeof t, "%llu", (unsigned long long)(half + (uint64_t)by));
			same(t);
			snprintf(t, sizeof t, "%llue-%d", (unsigned long long)(half + (uint64_t)by), (int)(draw() % 28));
			same(t);
		}
	}
	for (uint64_t m = (uint64_t)1 << 53; m < ((uint64_t)1 << 53) + 200; m++) /* m / 2: exact, with one digit behind the point */
		for (int up = 0; up < 3; up++) {
			snprintf(t, sizeof t, "%llu.%s", (unsigned long long)(m >> 1), m & 1 ? up == 0 ? "5" : up == 1 ? "51" : "49" : "0");
			same(t);
		}
}

static void test_none(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		int taken; /* bytes; -1: none begins there */
	} rows[] = {
		{ "", -1 }, { "-", -1 }, { "+1", -1 }, { ".5", -1 }, { "1.", -1 }, { "1.e5", -1 }, { "1e", -1 }, { "1e+", -1 }, { "e5", -1 }, { "NaN", -1 }, { "Infinity", -1 }, { "-Infinity", -1 },
		{ "--1", -1 }, { "0x10", 1 }, { "01", 1 }, { "-01", 2 }, { "1,5", 1 }, { "1 ", 1 }, { "1e5.5", 3 }, { "1..2", -1 }, { "00", 1 }, { "1_000", 1 },
	};
	double v;
	bool whole;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *t = rows[i].text, *e = tg_number(t, t + strlen(t), &v, &whole);
		if ((e ? (int)(e - t) : -1) != rows[i].taken)
			fail_msg("%s: %d", t, e ? (int)(e - t) : -1);
	}
	char digits[TG_NUMBER_MAX + 1];
	memset(digits, '1', sizeof digits);
	assert_ptr_equal(tg_number(digits, digits + TG_NUMBER_MAX, &v, &whole), digits + TG_NUMBER_MAX);
	assert_null(tg_number(digits, digits + TG_NUMBER_MAX + 1, &v, &whole));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_known), cmocka_unit_test(test_drawn), cmocka_unit_test(test_half_way), cmocka_unit_test(test_none) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
