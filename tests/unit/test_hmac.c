/* HMAC-SHA256 against the examples of RFC 4231 and against OpenSSL's HMAC over lengths of keys and texts around each block's end. */
#include "base/hmac.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <cmocka.h>

static void hex(const uint8_t *d, char out[65])
{
	for (int i = 0; i < TG_HMAC; i++)
		snprintf(out + 2 * i, 3, "%02x", d[i]);
}

static void test_rfc4231(void **state)
{
	(void)state;
	char long_key[131];
	memset(long_key, 0xaa, sizeof long_key);
	static const char data4[] = "This is a test using a larger than block-size key and a larger than block-size data. The key needs to be hashed before being used by the HMAC algorithm.";
	const struct {
		struct tg_slice key, text;
		const char *want;
	} v[] = {
		{ TG_S("\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b\x0b"), TG_S("Hi There"), "b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7" },
		{ TG_S("Jefe"), TG_S("what do ya want for nothing?"), "5bdcc146bf60754e6a042426089575c75a003f089d2739839dec58b964ec3843" },
		{ { long_key, sizeof long_key }, TG_S("Test Using Larger Than Block-Size Key - Hash Key First"), "60e431591ee0b67f0d8a26aacbf5b77f8e0bc6213728c5140546040f0ee37f54" },
		{ { long_key, sizeof long_key }, { data4, sizeof data4 - 1 }, "9b09ffa71b942fcb27635fbcd5b0e944bfdc63644f0713938a7f51535c3a35e2" },
	};
	for (size_t i = 0; i < sizeof v / sizeof *v; i++) {
		struct tg_hmac h;
		uint8_t got[TG_HMAC];
		char text[65];
		assert_true(tg_hmac_key(&h, v[i].key));
		assert_true(tg_hmac(&h, v[i].text, got));
		hex(got, text);
		assert_string_equal(text, v[i].want);
		tg_hmac_wipe(&h);
	}
}

static void test_against_openssl(void **state)
{
	uint8_t bytes[300], want[TG_HMAC], got[TG_HMAC];
	unsigned n;
	(void)state;
	for (size_t i = 0; i < sizeof bytes; i++)
		bytes[i] = (uint8_t)(i * 31 + 7);
	static const size_t keys[] = { 0, 1, 32, 63, 64, 65, 128, 300 };
	for (size_t k = 0; k < sizeof keys / sizeof *keys; k++) {
		struct tg_hmac h;
		assert_true(tg_hmac_key(&h, (struct tg_slice){ (const char *)bytes, keys[k] }));
		for (size_t i = 0; i <= sizeof bytes; i++) {
			assert_true(tg_hmac(&h, (struct tg_slice){ (const char *)bytes, i }, got));
			assert_non_null(HMAC(EVP_sha256(), bytes, (int)keys[k], bytes, i, want, &n));
			assert_memory_equal(got, want, TG_HMAC);
		}
		assert_true(tg_hmac(&h, (struct tg_slice){ NULL, 0 }, got));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rfc4231), cmocka_unit_test(test_against_openssl) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
