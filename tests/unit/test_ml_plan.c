/* Plans of trainings, and frames against models: what is taken, what is refused and under which name. */
#include "api/ml_config.h"
#include "api/ml_plan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

#define FRAME "{\"rows\":3,\"columns\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"place\",\"type\":\"text\"},{\"name\":\"y\",\"type\":\"number\"}]}"

static json_t *of(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);
	assert_non_null(v);
	return v;
}

static void plan(const char *config, const char *frame, const char *want, const char *field)
{
	json_t *c = of(config), *f = of(frame);
	struct tg_fields_fault fault;
	json_t *p = tg_ml_plan(c, f, &fault);
	if (field) {
		assert_null(p);
		assert_string_equal(fault.field, field);
		assert_true(fault.why[0] != 0);
	} else {
		json_t *w = of(want);
		assert_non_null(p);
		char *got = json_dumps(p, JSON_SORT_KEYS), *wanted = json_dumps(w, JSON_SORT_KEYS);
		assert_string_equal(got, wanted);
		free(got);
		free(wanted);
		json_decref(w);
	}
	json_decref(p);
	json_decref(c);
	json_decref(f);
}

static void plans(void **state)
{
	(void)state;
	plan("{}", FRAME, "{\"method\":\"linear_regression\",\"task\":null,\"target\":\"y\",\"features\":null,\"seed\":42,\"test_size\":0.0,\"cv_folds\":0,\"undersample\":false}", NULL);
	plan("{\"method\":\"xgboost\",\"target\":\"place\",\"features\":[\"y\"],\"seed\":7,\"test_size\":0.25,\"cv_folds\":5,\"undersample\":true,\"note\":\"mine\"}", FRAME,
	     "{\"method\":\"xgboost\",\"task\":null,\"target\":\"place\",\"features\":[\"y\"],\"seed\":7,\"test_size\":0.25,\"cv_folds\":5,\"undersample\":true}", NULL);
	plan("{\"target\":null,\"features\":null}", FRAME, "{\"method\":\"linear_regression\",\"task\":null,\"target\":\"y\",\"features\":null,\"seed\":42,\"test_size\":0.0,\"cv_folds\":0,\"undersample\":false}",
	     NULL);
}

/* Which task a method can do; what a target asks for is the engine's to find. */
static void tasks(void **state)
{
	(void)state;
	plan("{\"method\":\"xgboost\",\"task\":\"regression\"}", FRAME,
	     "{\"method\":\"xgboost\",\"task\":\"regression\",\"target\":\"y\",\"features\":null,\"seed\":42,\"test_size\":0.0,\"cv_folds\":0,\"undersample\":false}", NULL);
	plan("{\"method\":\"random_forest\",\"task\":\"classification\",\"target\":\"place\"}", FRAME,
	     "{\"method\":\"random_forest\",\"task\":\"classification\",\"target\":\"place\",\"features\":null,\"seed\":42,\"test_size\":0.0,\"cv_folds\":0,\"undersample\":false}", NULL);
	plan("{\"method\":\"random_forest\",\"task\":\"regression\",\"target\":\"place\"}", FRAME, NULL, "data.columns[1]");
	plan("{\"method\":\"logistic_regression\",\"task\":\"regression\"}", FRAME, NULL, "config.data.task"); /* kept by a program that knew no tasks */
	plan("{\"task\":\"clustering\"}", FRAME, NULL, "config.data.task");
	static const struct {
		const char *data, *why; /* NULL: right */
	} rows[] = {
		{ "{\"task\":null}", NULL },
		{ "{\"task\":\"regression\"}", NULL },
		{ "{\"method\":\"logistic_regression\",\"task\":\"classification\"}", NULL },
		{ "{\"method\":\"xgboost\",\"task\":\"classification\"}", NULL },
		{ "{\"method\":\"random_forest\",\"task\":\"regression\"}", NULL },
		{ "{\"task\":\"classification\"}", "cannot be classification with linear_regression, which does regression only" },
		{ "{\"method\":\"linear_regression\",\"task\":\"classification\"}", "cannot be classification with linear_regression, which does regression only" },
		{ "{\"method\":\"logistic_regression\",\"task\":\"regression\"}", "cannot be regression with logistic_regression, which does classification only" },
		{ "{\"method\":\"xgboost\",\"task\":\"\"}", "must be one of classification, regression, or null" },
		{ "{\"method\":\"xgboost\",\"task\":1}", "must be one of classification, regression, or null" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_fields_fault f = { "", "" };
		json_t *data = of(rows[i].data);
		assert_int_equal(tg_ml_config_check(data, &f), rows[i].why == NULL);
		assert_string_equal(f.field, rows[i].why ? "data.task" : "");
		assert_string_equal(f.why, rows[i].why ? rows[i].why : "");
		json_decref(data);
	}
}

static void faults(void **state)
{
	(void)state;
	plan("{\"method\":\"magic\"}", FRAME, NULL, "config.data.method");
	plan("{\"seed\":-1}", FRAME, NULL, "config.data.seed");
	plan("{\"target\":\"z\"}", FRAME, NULL, "data.columns");
	plan("{\"target\":\"place\"}", FRAME, NULL, "data.columns[1]"); /* text, and the method needs numbers */
	plan("{\"features\":[\"a\",\"z\"]}", FRAME, NULL, "data.columns");
	plan("{\"features\":[\"a\",\"y\"]}", FRAME, NULL, "config.data.features[1]");
	plan("{\"features\":[\"a\",\"a\"]}", FRAME, NULL, "config.data.features[1]");
	plan("{}", "{\"rows\":3,\"columns\":[{\"name\":\"y\",\"type\":\"number\"}]}", NULL, "data.columns");
	plan("{}", "{\"rows\":0,\"columns\":[]}", NULL, "data.columns");
}

#define BINARY "\"type\":\"number\",\"binary\":true"
static void fits(void **state)
{
	(void)state;
	json_t *frame = of(FRAME);
	static const struct {
		const char *about, *field, *where;
	} rows[] = {
		{ "{\"features\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"place\",\"type\":\"text\"}]}", NULL, "future" },
		{ "{\"features\":[{\"name\":\"a\",\"type\":\"text\"}]}", NULL, "future" }, /* numbers are texts too */
		{ "{\"features\":[{\"name\":\"z\",\"type\":\"number\"}]}", "future.columns", "future" },
		{ "{\"features\":[{\"name\":\"place\",\"type\":\"number\"}]}", "future.columns[1]", "future" },
		{ "{\"features\":[{\"name\":\"place\",\"type\":\"number\"}]}", "data.columns[1]", "data" },
		{ "{\"features\":[{\"name\":\"place\",\"type\":\"number\"}]}", "applications", "applications" },
		/* coded before training: of the text column `place`, and of no other */
		{ "{\"features\":[{\"name\":\"place_RENT\"," BINARY "},{\"name\":\"place_a_b\"," BINARY "},{\"name\":\"place_\"," BINARY "}]}", NULL, "data" },
		{ "{\"features\":[{\"name\":\"place_RENT\"," BINARY "}]}", NULL, "applications" },
		{ "{\"features\":[{\"name\":\"a_RENT\"," BINARY "}]}", "applications", "applications" },
		{ "{\"features\":[{\"name\":\"place_RENT\",\"type\":\"text\"}]}", "data.columns", "data" },
		{ "{\"features\":[{\"name\":\"placeRENT\"," BINARY "}]}", "data.columns", "data" },
		/* what was more than 0 and 1 is no code of a text, and document 003 knows none */
		{ "{\"features\":[{\"name\":\"place_size\",\"type\":\"number\"}]}", "data.columns", "data" },
		{ "{\"features\":[{\"name\":\"place_RENT\"," BINARY "}]}", "future.columns", "future" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_fields_fault fault = { "", "" };
		json_t *about = of(rows[i].about);
		assert_int_equal(tg_ml_fits(about, frame, rows[i].where, &fault), rows[i].field == NULL);
		assert_string_equal(fault.field, rows[i].field ? rows[i].field : "");
		json_decref(about);
	}
	json_decref(frame);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(plans), cmocka_unit_test(tasks), cmocka_unit_test(faults), cmocka_unit_test(fits) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
