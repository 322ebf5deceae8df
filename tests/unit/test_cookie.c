/* One cookie out of the Cookie header: the first of its exact name, trimmed, without its quotes (seed ledger C-03, S4's carrier). */
#include "http/cookie.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static void cookies(void **state)
{
	(void)state;
	static const struct {
		const char *header, *value;
	} t[] = {
		{ "api_key=abc", "abc" }, { "api_key=abc; other=x", "abc" }, { "other=x; api_key=abc", "abc" }, { "other=x;api_key=abc;z", "abc" }, { " \t api_key=abc \t ; x=y", "abc" },
		{ "api_key=\"abc\"", "abc" }, { "api_key=\"\"", "" }, { "api_key=\"", "\"" }, { "api_key=\"abc", "\"abc" }, { "api_key=a=b=c", "a=b=c" }, { "api_key=a b", "a b" },
		{ "api_key=first; api_key=second", "first" }, { "api_key=; api_key=second", "" }, { "", "" }, { ";", "" }, { ";;;", "" }, { "api_key", "" }, { "api_key =abc", "" },
		{ "Api_Key=abc", "" }, { "xapi_key=abc", "" }, { "api_keys=abc", "" }, { "api_key2=x; api_key=abc", "abc" }, { "=abc", "" }, { "a=api_key=abc", "" },
		{ "x=\"; api_key=abc; y=\"", "abc" }, /* quotes hide nothing: RFC 6265's values hold no ';' */
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		struct tg_slice v = tg_cookie_get(tg_slice_cstr(t[i].header), TG_S("api_key"));
		assert_true(tg_slice_eq(v, tg_slice_cstr(t[i].value)));
	}
	assert_int_equal(tg_cookie_get((struct tg_slice){ 0 }, TG_S("api_key")).n, 0);
	assert_true(tg_slice_eq(tg_cookie_get(TG_S("api_key=a\0b"), TG_S("api_key")), TG_S("a\0b")));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(cookies) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
