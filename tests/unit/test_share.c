/* Shares: each has his own, what was given back can be taken again, and nobody is locked out of one answer by its size. */
#include "gate/share.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void each_has_his_own(void **state)
{
	(void)state;
	struct tg_shares s;
	tg_shares_init(&s);
	for (unsigned i = 0; i < 3; i++)
		assert_true(tg_share_take(&s, "key_a", TG_SHARE_STREAMS, 1, 3));
	assert_false(tg_share_take(&s, "key_a", TG_SHARE_STREAMS, 1, 3));
	assert_true(tg_share_take(&s, "key_b", TG_SHARE_STREAMS, 1, 3));
	assert_true(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 1, 1));
	tg_share_give(&s, "key_a", TG_SHARE_STREAMS, 1);
	assert_true(tg_share_take(&s, "key_a", TG_SHARE_STREAMS, 1, 3));
	assert_false(tg_share_take(&s, "key_a", TG_SHARE_STREAMS, 1, 3));
	tg_share_give(&s, "key_a", TG_SHARE_STREAMS, 3);
	tg_share_give(&s, "key_b", TG_SHARE_STREAMS, 1);
	assert_non_null(s.first);
	tg_share_give(&s, "key_a", TG_SHARE_ANSWERS, 1);
	assert_null(s.first);
	tg_shares_free(&s);
}

static void one_is_always_let_in(void **state)
{
	(void)state;
	struct tg_shares s;
	tg_shares_init(&s);
	assert_true(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 50, 40));
	assert_false(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 1, 40));
	tg_share_give(&s, "key_a", TG_SHARE_ANSWERS, 50);
	assert_true(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 30, 40));
	assert_false(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, UINT64_MAX, 40));
	assert_false(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 11, 40));
	assert_true(tg_share_take(&s, "key_a", TG_SHARE_ANSWERS, 10, 40));
	tg_shares_free(&s); /* what is left goes */
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(each_has_his_own), cmocka_unit_test(one_is_always_let_in) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
