/*
 * The buffer: never past its ceiling, a failure sticks until it is freed, and what the writers write (numbers, thousandths, JSON strings) to the byte.
 * JSON strings are also read back by jansson.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/buf.h"
#include "base/utf8.h"
#include <jansson.h>
#include <stdlib.h>

static void is(struct tg_buf *b, const char *want, size_t n)
{
	assert_false(b->failed);
	if (b->len != n || memcmp(b->p, want, n) != 0)
		fail_msg("got \"%.*s\" (%zu), want \"%.*s\" (%zu)", (int)b->len, b->p, b->len, (int)n, want, n);
	b->len = 0;
}
#define IS(b, lit) is(b, lit, sizeof(lit) - 1)

static void test_ceilings(void **state)
{
	(void)state;
	static const size_t max[] = { 0, 1, 2, 3, 7, 100, 255, 256, 257, 300, 511, 512, 513, 1000, 4096, 70001 };
	for (unsigned i = 0; i < sizeof max / sizeof max[0]; i++) {
		struct tg_buf b;
		/* Byte by byte: exactly max fit. */
		tg_buf_init(&b, max[i]);
		for (size_t k = 0; k < max[i]; k++)
			tg_buf_char(&b, (char)k);
		assert_false(b.failed);
		assert_int_equal(b.len, max[i]);
		assert_true(b.cap <= max[i]);
		for (size_t k = 0; k < max[i]; k++)
			assert_int_equal(b.p[k], (char)k);
		tg_buf_char(&b, 'x');
		assert_true(b.failed);
		assert_int_equal(b.len, max[i]); /* what was there stays */
		tg_buf_free(&b);
		/* In one piece, and one byte too many. */
		char *whole = calloc(1, max[i] + 1);
		tg_buf_put(&b, whole, max[i]);
		assert_false(b.failed);
		assert_int_equal(b.len, max[i]);
		tg_buf_free(&b);
		tg_buf_put(&b, whole, max[i] + 1);
		assert_true(b.failed);
		assert_int_equal(b.len, 0);
		tg_buf_free(&b);
		/* In uneven pieces. */
		size_t sum = 0;
		for (size_t k = 1; sum + k <= max[i]; sum += k, k = k * 3 % 101 + 1)
			tg_buf_put(&b, whole, k);
		assert_false(b.failed);
		assert_int_equal(b.len, sum);
		assert_true(tg_buf_reserve(&b, max[i] - sum));
		assert_false(tg_buf_reserve(&b, max[i] - sum + 1));
		tg_buf_free(&b);
		free(whole);
	}
	struct tg_buf b;
	tg_buf_init(&b, SIZE_MAX);
	tg_buf_lit(&b, "abc");
	assert_false(tg_buf_reserve(&b, SIZE_MAX - 2)); /* a sum that would overflow */
	assert_true(b.failed);
	tg_buf_free(&b);
}

static void test_sticky(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 10);
	tg_buf_lit(&b, "12345");
	tg_buf_lit(&b, "678901");
	assert_true(b.failed);
	tg_buf_lit(&b, "6"); /* it would fit: but something before it is missing */
	tg_buf_char(&b, '7');
	tg_buf_u64(&b, 8);
	tg_buf_fmt(&b, "%d", 9);
	tg_buf_json(&b, TG_S(""));
	assert_false(tg_buf_reserve(&b, 1));
	assert_int_equal(b.len, 5);
	tg_buf_consume(&b, 5);
	assert_int_equal(b.len, 0);
	tg_buf_char(&b, 'x');
	assert_true(b.failed && !b.len);
	tg_buf_free(&b);
	assert_null(b.p);
	assert_int_equal(b.max, 10);
	tg_buf_lit(&b, "0123456789");
	IS(&b, "0123456789");
	tg_buf_put(&b, NULL, 0);
	tg_buf_slice(&b, (struct tg_slice){ NULL, 0 });
	IS(&b, "");
	tg_buf_free(&b);
}

static void test_consume(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 100);
	tg_buf_lit(&b, "hello world");
	tg_buf_consume(&b, 0);
	tg_buf_consume(&b, 6);
	assert_true(tg_slice_eq(tg_buf_view(&b), TG_S("world")));
	tg_buf_char(&b, '!');
	IS(&b, "world!");
	tg_buf_lit(&b, "abc");
	tg_buf_consume(&b, 3);
	assert_int_equal(b.len, 0);
	tg_buf_free(&b);
}

static void test_numbers(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 1000);
	static const uint64_t u[] = { 0, 1, 9, 10, 99, 100, 4294967295u, 4294967296u, 9999999999999999999u, 10000000000000000000u, UINT64_MAX };
	for (unsigned i = 0; i < sizeof u / sizeof u[0]; i++) {
		char want[32];
		int n = snprintf(want, sizeof want, "%llu", (unsigned long long)u[i]);
		tg_buf_u64(&b, u[i]);
		is(&b, want, (size_t)n);
		n = snprintf(want, sizeof want, "%llx", (unsigned long long)u[i]);
		tg_buf_hex(&b, u[i]);
		is(&b, want, (size_t)n);
		n = snprintf(want, sizeof want, "%lld", (long long)u[i]);
		tg_buf_i64(&b, (int64_t)u[i]);
		is(&b, want, (size_t)n);
		n = snprintf(want, sizeof want, "%llu.%03llu", (unsigned long long)u[i] / 1000, (unsigned long long)u[i] % 1000);
		tg_buf_milli(&b, u[i]);
		is(&b, want, (size_t)n);
	}
	tg_buf_i64(&b, INT64_MIN);
	IS(&b, "-9223372036854775808");
	tg_buf_i64(&b, INT64_MAX);
	IS(&b, "9223372036854775807");
	tg_buf_i64(&b, -1);
	IS(&b, "-1");
	tg_buf_hex(&b, UINT64_MAX);
	IS(&b, "ffffffffffffffff");
	tg_buf_hex(&b, 0xdeadbeef);
	IS(&b, "deadbeef");
	tg_buf_milli(&b, 7);
	IS(&b, "0.007");
	tg_buf_milli(&b, 1234);
	IS(&b, "1.234");
	tg_buf_milli(&b, 1050);
	IS(&b, "1.050");
	tg_buf_free(&b);
}

static void test_fmt(void **state)
{
	(void)state;
	/* Around the size up to which it is formatted on the stack. */
	for (int n = 250; n < 262; n++) {
		struct tg_buf b;
		char want[300];
		tg_buf_init(&b, 1000);
		tg_buf_lit(&b, "<");
		tg_buf_fmt(&b, "%0*d", n, 42);
		tg_buf_lit(&b, ">");
		int k = snprintf(want, sizeof want, "<%0*d>", n, 42);
		is(&b, want, (size_t)k);
		tg_buf_free(&b);
		/* What does not fit leaves nothing behind. */
		tg_buf_init(&b, (size_t)n - 1);
		tg_buf_fmt(&b, "%0*d", n, 42);
		assert_true(b.failed);
		assert_int_equal(b.len, 0);
		tg_buf_free(&b);
	}
	struct tg_buf b;
	tg_buf_init(&b, 10);
	tg_buf_fmt(&b, "%s", "0123456789");
	IS(&b, "0123456789");
	tg_buf_free(&b);
}

static void test_json(void **state)
{
	(void)state;
	static const struct {
		struct tg_slice in;
		const char *want;
	} rows[] = {
		{ TG_S(""), "\"\"" },
		{ TG_S("plain text, with ~ and /"), "\"plain text, with ~ and /\"" },
		{ TG_S("\"\\\n\r\t"), "\"\\\"\\\\\\n\\r\\t\"" },
		{ TG_S("a\0b\x01\x1f\x7f\b\f"), "\"a\\u0000b\\u0001\\u001f\\u007f\\u0008\\u000c\"" },
		{ TG_S("\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80"), "\"\xc3\xa4\xe2\x82\xac\xf0\x9f\x98\x80\"" },
		{ TG_S("\x80"), "\"\\ufffd\"" },
		{ TG_S("\xff\xfe"), "\"\\ufffd\\ufffd\"" },
		{ TG_S("\xc0\xaf"), "\"\\ufffd\\ufffd\"" },               /* overlong */
		{ TG_S("\xed\xa0\x80"), "\"\\ufffd\\ufffd\\ufffd\"" },    /* a surrogate */
		{ TG_S("\xf4\x90\x80\x80x"), "\"\\ufffd\\ufffd\\ufffd\\ufffdx\"" }, /* above U+10FFFF */
		{ TG_S("\xe2\x82"), "\"\\ufffd\\ufffd\"" },               /* cut short */
		{ TG_S("\xe2\x82\""), "\"\\ufffd\\ufffd\\\"\"" },
	};
	struct tg_buf b;
	tg_buf_init(&b, 1000);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		tg_buf_json(&b, rows[i].in);
		is(&b, rows[i].want, strlen(rows[i].want));
	}
	tg_buf_json_or_null(&b, (struct tg_slice){ NULL, 0 });
	IS(&b, "null");
	tg_buf_json_or_null(&b, TG_S(""));
	IS(&b, "\"\"");
	tg_buf_free(&b);
}

/* Every pair of bytes: jansson takes what is written, and reads the same back where it was UTF-8. */
static void test_json_read_back(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 100);
	for (unsigned v = 0; v < 65536; v++) {
		char in[2] = { (char)(v >> 8), (char)(v & 255) };
		b.len = 0;
		tg_buf_json(&b, (struct tg_slice){ in, 2 });
		assert_false(b.failed);
		json_t *j = json_loadb(b.p, b.len, JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
		if (!json_is_string(j))
			fail_msg("%04x became \"%.*s\"", v, (int)b.len, b.p);
		if (tg_utf8_valid(in, 2)) {
			assert_int_equal(json_string_length(j), 2);
			assert_memory_equal(json_string_value(j), in, 2);
		}
		json_decref(j);
		for (size_t i = 0; i < b.len; i++)
			assert_true((unsigned char)b.p[i] >= 0x20 && b.p[i] != 0x7f);
	}
	tg_buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_ceilings), cmocka_unit_test(test_sticky), cmocka_unit_test(test_consume), cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_fmt), cmocka_unit_test(test_json), cmocka_unit_test(test_json_read_back),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
