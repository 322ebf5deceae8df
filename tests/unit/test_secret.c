/*
 * What may be shown of a key (seed ledger C-18), and the one comparison of secrets. The labels' table is the contract between
 * the log and `grep`: a row that changes here changes what people find in their logs.
 */
#include "base/secret.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

struct row {
	const char *key, *prefix, *label;
};

static const struct row rows[] = {
	{ "sk_ml_train_abc123", "sk_ml_tra", "sk_ml_train" },
	{ "sk_ml_train_ds_team_abc123", "sk_ml_tra", "sk_ml_train_ds_team" },
	{ "sk_ml_predict_app_xyz789", "sk_ml_pre", "sk_ml_predict_app" },
	{ "iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc", "iszcx8YNM", "" },
	{ "demo-key-12345", "***", "" },
	{ "prod-key-67890", "***", "" },
	{ "", "***", "" },
	{ "123456789012345", "***", "" },
	{ "1234567890123456", "123456789", "" },
	{ "team_123_abcde", "***", "team_123" },           /* three digits are a word */
	{ "team_1234_abcde", "***", "" },                  /* four are not */
	{ "abcdefghij_abcde", "abcdefghi", "abcdefghij" }, /* ten letters */
	{ "abcdefghijk_abcde", "abcdefghi", "" },          /* eleven */
	{ "team_abcd", "***", "" },                        /* last part of four */
	{ "team_abcde", "***", "team" },
	{ "_abcdefghijklmnop", "_abcdefgh", "" },
	{ "a__abcdefghijklmnop", "a__abcdef", "" },
	{ "Team_abcdefghijklmnop", "Team_abcd", "" },
	{ "te4m_abcdefghijklmnop", "te4m_abcd", "" },
	{ "abcdefgh_abcdefgh_abcdef_secret", "abcdefgh_", "abcdefgh_abcdefgh_abcdef" }, /* a label of 24 */
	{ "abcdefgh_abcdefgh_abcdefg_secret", "abcdefgh_", "" },                       /* of 25 */
	{ "tollgate_", "***", "" },
	{ "\xc3\xa9t\xc3\xa9_\x01\x7f-abcdefghijk", "?" "?t?" "?_?" "?-", "" },
};

static void test_prefix_and_label(void **state)
{
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char prefix[TG_KEY_PREFIX_MAX + 1], label[TG_KEY_LABEL_MAX + 1];
		tg_key_prefix(tg_slice_cstr(rows[i].key), prefix);
		tg_key_label(tg_slice_cstr(rows[i].key), label);
		assert_string_equal(prefix, rows[i].prefix);
		assert_string_equal(label, rows[i].label);
	}
}

static void test_random_keys_show_nothing_but_the_prefix(void **state)
{
	(void)state;
	/* Every part of 6 or more characters of a generated key holds, but for one in thousands, an upper-case letter or mixes letters and digits. */
	char label[TG_KEY_LABEL_MAX + 1];
	static const char *const keys[] = { "Zk3_vhQ81mTtyw-0aBcDeFgHiJkLmNoP", "abc9_defghijklmnopqrstuvwxyz0123", "q-w_erty0123456789ABCDEFGHIJKLMN" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++) {
		tg_key_label(tg_slice_cstr(keys[i]), label);
		assert_string_equal(label, "");
	}
}

static void test_equal(void **state)
{
	(void)state;
	assert_true(tg_secret_equal(TG_S("abc"), TG_S("abc")));
	assert_false(tg_secret_equal(TG_S("abc"), TG_S("abd")));
	assert_false(tg_secret_equal(TG_S("abc"), TG_S("abcd")));
	assert_false(tg_secret_equal(TG_S("a\0b"), TG_S("a\0c")));
	/* S0-12: an empty header must never match an unset key. */
	assert_false(tg_secret_equal(TG_S(""), TG_S("")));
	assert_false(tg_secret_equal((struct tg_slice){ 0 }, (struct tg_slice){ 0 }));
}

static void test_set_and_wipe(void **state)
{
	(void)state;
	struct tg_secret s = { 0 };
	assert_true(tg_secret_set(&s, TG_S("first-secret")));
	assert_string_equal(s.p, "first-secret");
	assert_int_equal(s.n, 12);
	/* A part of itself. */
	assert_true(tg_secret_set(&s, (struct tg_slice){ s.p + 6, 6 }));
	assert_string_equal(s.p, "secret");
	assert_true(tg_secret_set(&s, (struct tg_slice){ 0 }));
	assert_int_equal(s.n, 0);
	assert_string_equal(s.p, "");
	tg_secret_wipe(&s);
	assert_null(s.p);
	tg_secret_wipe(&s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_prefix_and_label),
		cmocka_unit_test(test_random_keys_show_nothing_but_the_prefix),
		cmocka_unit_test(test_equal),
		cmocka_unit_test(test_set_and_wipe),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
