/* A key's own limits as JSON and as words of a command line: one row a form, right and wrong; what is written is read again as the same. */
#include "policy/key_limits.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static bool parse(const char *text, struct tg_key_limits *l, struct tg_key_limits_fault *fault)
{
	json_t *v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	if (!v)
		fail_msg("no JSON: %s", text);
	bool ok = tg_key_limits_parse(v, l, fault);
	json_decref(v);
	return ok;
}

static void test_json(void **state)
{
	static const struct {
		const char *text, *again; /* again: as it is written; NULL: the same */
		struct tg_key_limits l;
	} rows[] = {
		{ "{\"requests\":\"60/minute\",\"tokens_per_minute\":1000,\"in_flight\":2}", NULL, { { 60, 60 }, 1000, 2 } },
		{ "{\"in_flight\":1000000,\"tokens_per_minute\":16000000}", "{\"tokens_per_minute\":16000000,\"in_flight\":1000000}", { { 0, 0 }, 16000000, 1000000 } },
		{ "{}", NULL, { { 0, 0 }, 0, 0 } },
		{ "null", "{}", { { 0, 0 }, 0, 0 } },
		{ "{\"requests\":\"off\"}", NULL, { { 0, 1 }, 0, 0 } },
		{ "{\"requests\":null,\"in_flight\":1,\"tokens_per_minute\":null}", "{\"in_flight\":1}", { { 0, 0 }, 0, 1 } },
		{ "{\"requests\":\"5/day\"}", NULL, { { 5, 86400 }, 0, 0 } },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_key_limits l = { { 9, 9 }, 9, 9 };
		struct tg_key_limits_fault fault;
		if (!parse(rows[i].text, &l, &fault))
			fail_msg("%s: %s %s", rows[i].text, fault.field, fault.reason);
		assert_memory_equal(&l, &rows[i].l, sizeof l);
		json_t *v = tg_key_limits_json(&l);
		char *text = json_dumps(v, JSON_COMPACT);
		assert_string_equal(text, rows[i].again ? rows[i].again : rows[i].text);
		free(text);
		json_decref(v);
		assert_int_equal(tg_key_limits_set(&l), i != 2 && i != 3);
	}
	struct tg_key_limits l = { { 9, 9 }, 9, 9 };
	struct tg_key_limits_fault fault;
	assert_true(tg_key_limits_parse(NULL, &l, &fault));
	assert_false(tg_key_limits_set(&l));
}

static void test_faults(void **state)
{
	static const struct {
		const char *text, *field, *reason; /* reason: a part of it */
	} rows[] = {
		{ "[]", "limits", "must be an object" },
		{ "\"60/minute\"", "limits", "must be an object" },
		{ "5", "limits", "must be an object" },
		{ "{\"request\":\"60/minute\"}", "limits.request", "is not known; known are requests, tokens_per_minute, in_flight" },
		{ "{\"Requests\":\"60/minute\"}", "limits.Requests", "is not known" },
		{ "{\"\":1}", "limits.", "is not known" },
		{ "{\"requests\":60}", "limits.requests", "must be \"N/second\"" },
		{ "{\"requests\":\"0/minute\"}", "limits.requests", "N from 1 to 16000000" },
		{ "{\"requests\":\"16000001/minute\"}", "limits.requests", "N from 1 to 16000000" },
		{ "{\"requests\":\"60 per minute\"}", "limits.requests", "or \"off\"" },
		{ "{\"requests\":\"\"}", "limits.requests", "must be" },
		{ "{\"requests\":{\"n\":60}}", "limits.requests", "must be" },
		{ "{\"tokens_per_minute\":0}", "limits.tokens_per_minute", "must be a whole number from 1 to 16000000" },
		{ "{\"tokens_per_minute\":16000001}", "limits.tokens_per_minute", "from 1 to 16000000" },
		{ "{\"tokens_per_minute\":-1}", "limits.tokens_per_minute", "from 1" },
		{ "{\"tokens_per_minute\":1.5}", "limits.tokens_per_minute", "whole number" },
		{ "{\"tokens_per_minute\":1e3}", "limits.tokens_per_minute", "whole number" },
		{ "{\"tokens_per_minute\":\"1000\"}", "limits.tokens_per_minute", "whole number" },
		{ "{\"tokens_per_minute\":true}", "limits.tokens_per_minute", "whole number" },
		{ "{\"in_flight\":0}", "limits.in_flight", "must be a whole number from 1 to 1000000" },
		{ "{\"in_flight\":9223372036854775807}", "limits.in_flight", "from 1 to 1000000" },
		{ "{\"in_flight\":4294967297}", "limits.in_flight", "from 1 to 1000000" },
		{ "{\"in_flight\":[2]}", "limits.in_flight", "whole number" },
		{ "{\"in_flight\":2,\"a_very_long_name_that_does_not_fit_into_the_field_of_the_answer\":2}", "limits.a_very_long_name_that_does_not_fit_into_the_fiel", "is not known" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_key_limits l = { { 9, 9 }, 9, 9 };
		struct tg_key_limits_fault fault;
		if (parse(rows[i].text, &l, &fault))
			fail_msg("taken: %s", rows[i].text);
		assert_string_equal(fault.field, rows[i].field);
		if (!strstr(fault.reason, rows[i].reason))
			fail_msg("%s: %s", rows[i].text, fault.reason);
		assert_true(l.requests.n == 9 && l.tokens_per_minute == 9 && l.in_flight == 9);
	}
}

static void test_options(void **state)
{
	static const struct {
		const char *option, *value;
		int got;
		const char *err;
	} rows[] = {
		{ "--requests", "60/minute", 1, NULL }, { "--tokens-per-minute", "1000", 1, NULL }, { "--in-flight", "2", 1, NULL }, { "--name", "x", 0, NULL },
		{ "--requests", "60", -1, "--requests 60: must be \"N/second\"" }, { "--requests", NULL, -1, "--requests needs a value" },
		{ "--tokens-per-minute", "1k", -1, "--tokens-per-minute 1k: must be a whole number from 1 to 16000000" },
		{ "--tokens-per-minute", "0", -1, "from 1" }, { "--tokens-per-minute", "", -1, "from 1" }, { "--tokens-per-minute", "-5", -1, "from 1" },
		{ "--tokens-per-minute", "16000001", -1, "to 16000000" }, { "--in-flight", "99999999999999999999999999", -1, "to 1000000" },
		{ "--in-flight", " 2", -1, "whole" }, { "--in-flight", "2 ", -1, "whole" },
	};
	(void)state;
	struct tg_key_limits l = { 0 };
	struct tg_err err;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		err.text[0] = 0;
		assert_int_equal(tg_key_limits_option(&l, rows[i].option, rows[i].value, &err), rows[i].got);
		if (rows[i].err && !strstr(err.text, rows[i].err))
			fail_msg("%s %s: %s", rows[i].option, rows[i].value, err.text);
	}
	assert_memory_equal(&l, (&(struct tg_key_limits){ { 60, 60 }, 1000, 2 }), sizeof l);
	assert_int_equal(tg_key_limits_option(&l, "--requests", "off", &err), 1);
	assert_true(l.requests.n == 0 && l.requests.period_s);
}

static void test_over(void **state)
{
	(void)state;
	const struct tg_key_limits defaults = { { 60, 60 }, 1000, 2 }, none = { 0 }, own = { { 5, 1 }, 0, 9 }, off = { { 0, 1 }, 0, 0 };
	struct tg_key_limits l = tg_key_limits_over(&none, &defaults);
	assert_memory_equal(&l, &defaults, sizeof l);
	l = tg_key_limits_over(&own, &defaults);
	assert_memory_equal(&l, (&(struct tg_key_limits){ { 5, 1 }, 1000, 9 }), sizeof l);
	l = tg_key_limits_over(&off, &defaults);
	assert_int_equal(l.requests.n, 0);
	assert_int_equal(l.tokens_per_minute, 1000);
	l = tg_key_limits_over(&own, &none);
	assert_memory_equal(&l, &own, sizeof l);
}

/* T-PERM: what a maker gives is never more than he has: in no window, and not in the long run. */
static void test_more(void **state)
{
	static const struct {
		struct tg_key_limits asked, bound;
		const char *more; /* NULL: it is within */
	} rows[] = {
		{ { { 60, 60 }, 0, 0 }, { { 60, 60 }, 0, 0 }, NULL },
		{ { { 61, 60 }, 0, 0 }, { { 60, 60 }, 0, 0 }, "limits.requests" },
		{ { { 1, 1 }, 0, 0 }, { { 60, 60 }, 0, 0 }, NULL },
		{ { { 2, 1 }, 0, 0 }, { { 60, 60 }, 0, 0 }, "limits.requests" }, /* 120 a minute */
		{ { { 61, 86400 }, 0, 0 }, { { 60, 60 }, 0, 0 }, "limits.requests" }, /* few a day, but more at once */
		{ { { 60, 86400 }, 0, 0 }, { { 60, 60 }, 0, 0 }, NULL },
		{ { { 16000000, 1 }, 0, 0 }, { { 16000000, 86400 }, 0, 0 }, "limits.requests" },
		{ { { 0, 1 }, 0, 0 }, { { 60, 60 }, 0, 0 }, "limits.requests" }, /* off */
		{ { { 0, 0 }, 0, 0 }, { { 60, 60 }, 0, 0 }, "limits.requests" }, /* not set */
		{ { { 0, 1 }, 0, 0 }, { { 0, 1 }, 0, 0 }, NULL },
		{ { { 0, 1 }, 16000000, 1000000 }, { { 0, 0 }, 0, 0 }, NULL },
		{ { { 0, 0 }, 1000, 0 }, { { 0, 0 }, 1000, 0 }, NULL },
		{ { { 0, 0 }, 1001, 0 }, { { 0, 0 }, 1000, 0 }, "limits.tokens_per_minute" },
		{ { { 0, 0 }, 0, 0 }, { { 0, 0 }, 1000, 0 }, "limits.tokens_per_minute" },
		{ { { 0, 0 }, 0, 3 }, { { 0, 0 }, 0, 2 }, "limits.in_flight" },
		{ { { 0, 0 }, 0, 0 }, { { 0, 0 }, 0, 2 }, "limits.in_flight" },
		{ { { 0, 0 }, 0, 2 }, { { 0, 0 }, 0, 2 }, NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const char *more = tg_key_limits_more(&rows[i].asked, &rows[i].bound);
		if (!more != !rows[i].more || (more && strcmp(more, rows[i].more) != 0))
			fail_msg("row %zu: %s", i, more ? more : "within");
	}
}

static void test_under(void **state)
{
	const struct tg_key_limits maker = { { 5, 60 }, 1000, 2 }, off = { { 0, 1 }, 0, 2 }, none = { 0 }, own = { { 0, 1 }, 50, 0 };
	char text[TG_RATE_TEXT];
	(void)state;
	struct tg_key_limits l = tg_key_limits_under(&none, &maker);
	assert_memory_equal(&l, &maker, sizeof l);
	l = tg_key_limits_under(&none, &off);
	assert_memory_equal(&l, (&(struct tg_key_limits){ { 0, 0 }, 0, 2 }), sizeof l);
	l = tg_key_limits_under(&own, &maker);
	assert_memory_equal(&l, (&(struct tg_key_limits){ { 0, 1 }, 50, 2 }), sizeof l);
	tg_key_limits_text(&maker, "limits.requests", text);
	assert_string_equal(text, "5/minute");
	tg_key_limits_text(&maker, "limits.tokens_per_minute", text);
	assert_string_equal(text, "1000");
	tg_key_limits_text(&maker, "limits.in_flight", text);
	assert_string_equal(text, "2");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_json), cmocka_unit_test(test_faults), cmocka_unit_test(test_options), cmocka_unit_test(test_over),
					    cmocka_unit_test(test_more), cmocka_unit_test(test_under) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
