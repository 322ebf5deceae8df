/* Decimals and what things cost: exact, rounded where it says so, bounded. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "policy/price.h"

static void test_decimals(void **state)
{
	(void)state;
	static const struct {
		const char *text, *again;
		uint64_t micro;
	} rows[] = {
		{ "0", "0", 0 }, { "0.0", "0", 0 }, { "1", "1", 1000000 }, { "0.15", "0.15", 150000 }, { "42.50", "42.5", 42500000 }, { "0.000001", "0.000001", 1 }, { "100", "100", 100000000 },
		{ "999999999999.999999", "999999999999.999999", 999999999999999999ull },
	};
	static const char *const none[] = { "", ".", ".5", "1.", "-1", "+1", " 1", "1 ", "1e3", "0x1", "1,5", "01", "00", "0.0000001", "1.0000000", "1.2.3", "1000000000000", "nan", "1_0", "0.00000x" };
	uint64_t v;
	char text[TG_DECIMAL_TEXT];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_true(tg_decimal_parse(tg_slice_cstr(rows[i].text), &v));
		assert_true(v == rows[i].micro);
		tg_decimal_text(v, text);
		assert_string_equal(text, rows[i].again);
	}
	for (size_t i = 0; i < sizeof none / sizeof *none; i++) {
		v = 77;
		if (tg_decimal_parse(tg_slice_cstr(none[i]), &v))
			fail_msg("%s is taken", none[i]);
		assert_true(v == 77);
	}
	assert_false(tg_decimal_parse((struct tg_slice){ "1\0" "2", 3 }, &v));
}

static void test_tokens(void **state)
{
	(void)state;
	static const struct {
		uint64_t prompt_price, completion_price, prompt, completion, nano;
	} rows[] = {
		{ 0, 0, 1000000, 1000000, 0 },
		{ 150000, 2500000, 7, 5, 13550 },               /* 0.15 and 2.50: 1.05 + 12.5 millionths */
		{ 1000000, 0, 1000000, 0, 1000000000 },         /* a million tokens at 1 cost 1 */
		{ 1, 0, 499, 0, 0 }, { 1, 0, 500, 0, 1 },       /* half a nano is rounded up, less is not */
		{ 1, 0, 1499, 0, 1 }, { 1, 1, 250, 250, 1 },    /* the request is rounded, not its parts */
		{ 1000000000, 1000000000, 1000000000, 1000000000, TG_COST_MAX }, /* the dearest, and a worker that lies */
		{ 1000000000, 0, UINT64_MAX, 0, TG_COST_MAX },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_model_conf m = { .price_prompt = rows[i].prompt_price, .price_completion = rows[i].completion_price };
		if (tg_price_tokens(&m, rows[i].prompt, rows[i].completion) != rows[i].nano)
			fail_msg("row %zu: %llu", i, (unsigned long long)tg_price_tokens(&m, rows[i].prompt, rows[i].completion));
	}
}

static void test_operations(void **state)
{
	(void)state;
	struct tg_config c = { .price_train = 42000000, .price_train_row = 500000, .price_predict = 0, .price_predict_row = 1 };
	assert_true(tg_price_train(&c, 0) == 42000000000ull);
	assert_true(tg_price_train(&c, 1000) == 42500000000ull); /* 42.50, as in document 003's event */
	assert_true(tg_price_train(&c, 1) == 42000500000ull);
	assert_true(tg_price_predict(&c, 7) == 7);               /* a millionth a thousand rows: a nano each, nothing is rounded */
	assert_true(tg_price_predict(&c, UINT64_MAX) == TG_COUNT_MAX);
	c.price_train = c.price_train_row = 1000000000;
	assert_true(tg_price_train(&c, UINT64_MAX) == TG_COST_MAX);
}

static void test_costs_as_text(void **state)
{
	(void)state;
	static const struct {
		uint64_t nano;
		const char *text;
	} rows[] = { { 0, "0" }, { 1, "0.000000001" }, { 13550, "0.00001355" }, { 1000000000, "1" }, { 42500000000ull, "42.5" }, { 10000000000000ull, "10000" }, { UINT64_MAX, "18446744073.709551615" } };
	char text[TG_COST_TEXT];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		tg_cost_text(rows[i].nano, text);
		assert_string_equal(text, rows[i].text);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_decimals), cmocka_unit_test(test_tokens), cmocka_unit_test(test_operations), cmocka_unit_test(test_costs_as_text) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
