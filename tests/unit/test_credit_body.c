/* Document 004's options by their table: out of JSON and out of a query string, their bounds, and what they mean for a table's columns. */
#include "api/credit_body.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static json_t *of(const char *text)
{
	json_t *v = json_loads(text, 0, NULL);
	assert_non_null(v);
	return v;
}

static void same(const json_t *got, const char *want)
{
	json_t *w = of(want);
	char *a = json_dumps(got, JSON_SORT_KEYS), *b = json_dumps(w, JSON_SORT_KEYS);
	assert_string_equal(a, b);
	free(a);
	free(b);
	json_decref(w);
}

#define DEFAULTS "\"model_type\":\"logistic_regression\",\"task\":null,\"target\":null,\"dataset\":null,\"random_state\":42,\"cv_folds\":5,\"undersample\":false,\"selected_features\":null"

static void defaults(void **state)
{
	(void)state;
	struct tg_fields_fault f;
	json_t *m = of("{\"test_size\":0.5,\"target\":null}"), *got = tg_credit_read(&tg_credit_train_table, m, &f);
	same(got, "{\"test_size\":0.5," DEFAULTS "}");
	json_decref(got);
	json_decref(m);
	m = of("{\"model_id\":\"x\",\"threshold\":0}");
	got = tg_credit_read(&tg_credit_predict_table, m, &f);
	same(got, "{\"model_id\":\"x\",\"threshold\":0,\"include_probabilities\":true}");
	json_decref(got);
	json_decref(m);
}

static void faults(void **state)
{
	(void)state;
	static const struct {
		const char *members, *field;
	} rows[] = {
		{ "{\"nobody\":1}", "nobody" }, { "{\"model_type\":null,\"cv_folds\":1}", "cv_folds" }, { "{\"test_size\":0.09999}", "test_size" }, { "{\"test_size\":1}", "test_size" },
		{ "{\"random_state\":4294967296}", "random_state" }, { "{\"random_state\":9223372036854775807}", "random_state" }, { "{\"cv_folds\":2.0}", "cv_folds" },
		{ "{\"undersample\":0}", "undersample" }, { "{\"selected_features\":{}}", "selected_features" }, { "{\"selected_features\":[\"a\",\"\"]}", "selected_features[1]" },
		{ "{\"selected_features\":[\"a\",\"b\",\"a\"]}", "selected_features[2]" }, { "{\"dataset\":\"a/b\"}", "dataset" }, { "{\"dataset\":\".a\"}", "dataset" }, { "{\"dataset\":\"a\\tb\"}", "dataset" },
		{ "{\"dataset\":[]}", "dataset" }, { "{\"model_type\":\"xgboos\"}", "model_type" },
		{ "{\"task\":\"clustering\",\"model_type\":\"xgboost\"}", "task" }, { "{\"task\":true}", "task" }, { "{\"task\":\"regression\"}", "task" },
		{ "{\"task\":\"classification\",\"model_type\":\"linear_regression\"}", "task" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_fields_fault f = { "", "" };
		json_t *m = of(rows[i].members);
		assert_null(tg_credit_read(&tg_credit_train_table, m, &f));
		assert_string_equal(f.field, rows[i].field);
		assert_true(f.why[0] != 0);
		json_decref(m);
	}
	struct tg_fields_fault f;
	json_t *none = of("{\"model_id\":null}");
	assert_null(tg_credit_read(&tg_credit_predict_table, none, &f));
	assert_string_equal(f.field, "model_id");
	json_decref(none);
}

static void queries(void **state)
{
	(void)state;
	static const struct {
		const char *query, *want, *field;
	} rows[] = {
		{ "", "{}", NULL },
		{ "&&cv_folds=3&", "{\"cv_folds\":3}", NULL },
		{ "test_size=0.3&undersample=true&target=a%20b&random_state=7", "{\"test_size\":0.3,\"undersample\":true,\"target\":\"a b\",\"random_state\":7}", NULL },
		{ "selected_features=a,b+c,", "{\"selected_features\":[\"a\",\"b c\",\"\"]}", NULL },
		{ "selected_features=%5B%22a%2Cb%22%5D", "{\"selected_features\":[\"a,b\"]}", NULL },
		{ "target=5&dataset=true", "{\"target\":\"5\",\"dataset\":\"true\"}", NULL }, /* names stay texts */
		{ "model_type=xgboost&task=regression", "{\"model_type\":\"xgboost\",\"task\":\"regression\"}", NULL },
		{ "cv_folds=three", "{\"cv_folds\":\"three\"}", NULL },                         /* which the check of the value finds */
		{ "cv_folds=3&cv_folds=3", NULL, "cv_folds" },
		{ "cv_folds", NULL, "cv_folds" },
		{ "=3", NULL, "\"\"" }, /* nobody's name is a name too */
		{ "folds=3", NULL, "folds" },
		{ "target=%zz", NULL, "target" },
		{ "target=%00", NULL, "target" },
		{ "target=%ff", NULL, "target" },
		{ "selected_features=a,%ff", NULL, "selected_features" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_fields_fault f = { "", "" };
		json_t *got = tg_credit_query(&tg_credit_train_table, tg_slice_cstr(rows[i].query), &f);
		if (rows[i].want)
			same(got, rows[i].want);
		else
			assert_null(got);
		if (!rows[i].want)
			assert_string_equal(f.field, rows[i].field);
		json_decref(got);
	}
}

/* Beside a file: texts as in a query string, each name in one of the two. */
static void forms(void **state)
{
	(void)state;
	static const struct {
		const char *query, *fields, *want, *field;
	} rows[] = {
		{ "", "{}", "{}", NULL },
		{ "cv_folds=3", "{\"target\":\"a&b=c\",\"undersample\":\"true\"}", "{\"cv_folds\":3,\"target\":\"a&b=c\",\"undersample\":true}", NULL },
		{ "", "{\"selected_features\":\"a,b\",\"target\":\"5\",\"test_size\":\"0.3\"}", "{\"selected_features\":[\"a\",\"b\"],\"target\":\"5\",\"test_size\":0.3}", NULL },
		{ "", "{\"selected_features\":\"[\\\"a,b\\\"]\",\"cv_folds\":\"three\"}", "{\"selected_features\":[\"a,b\"],\"cv_folds\":\"three\"}", NULL },
		{ "cv_folds=3", "{\"cv_folds\":\"3\"}", NULL, "cv_folds" },
		{ "cv_folds=3&cv_folds=3", "{}", NULL, "cv_folds" },
		{ "", "{\"folds\":\"3\"}", NULL, "folds" },
		{ "", "{\"\":\"3\"}", NULL, "\"\"" },
		{ "", "{\"cv_folds\":3}", NULL, "cv_folds" }, /* what no engine sends */
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_fields_fault f = { "", "" };
		json_t *fields = of(rows[i].fields), *got = tg_credit_form(&tg_credit_train_table, tg_slice_cstr(rows[i].query), fields, &f);
		if (rows[i].want)
			same(got, rows[i].want);
		else
			assert_null(got);
		if (!rows[i].want)
			assert_string_equal(f.field, rows[i].field);
		json_decref(got);
		json_decref(fields);
	}
}

static void plan(const char *members, const char *columns, const char *target, const char *field)
{
	struct tg_fields_fault f = { "", "" };
	json_t *m = of(members), *frame = of(columns), *config = tg_credit_read(&tg_credit_train_table, m, &f);
	assert_non_null(config);
	json_t *p = tg_credit_plan(config, frame, &f);
	if (target) {
		assert_non_null(p);
		assert_string_equal(json_string_value(json_object_get(p, "target")), target);
		assert_string_equal(json_string_value(json_object_get(config, "target")), target);
		assert_true(json_equal(json_object_get(p, "method"), json_object_get(config, "model_type")));
		assert_true(json_equal(json_object_get(p, "seed"), json_object_get(config, "random_state")));
		assert_true(json_equal(json_object_get(p, "task"), json_object_get(config, "task")));
		assert_int_equal(json_object_size(p), 8);
	} else {
		assert_null(p);
		assert_string_equal(f.field, field);
	}
	json_decref(p);
	json_decref(config);
	json_decref(frame);
	json_decref(m);
}

#define COLUMNS(last) "{\"columns\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"loan_status\",\"type\":\"number\"},{\"name\":\"" last "\",\"type\":\"text\"}]}"

static void plans(void **state)
{
	(void)state;
	plan("{}", COLUMNS("z"), "loan_status", NULL);
	plan("{\"target\":\"a\",\"selected_features\":[\"z\",\"loan_status\"]}", COLUMNS("z"), "a", NULL);
	plan("{}", "{\"columns\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"b\",\"type\":\"text\"}]}", "b", NULL);
	plan("{\"model_type\":\"linear_regression\"}", "{\"columns\":[{\"name\":\"a\",\"type\":\"number\"},{\"name\":\"b\",\"type\":\"text\"}]}", NULL, "target");
	plan("{\"model_type\":\"xgboost\",\"task\":\"regression\",\"target\":\"z\"}", COLUMNS("z"), NULL, "target");
	plan("{\"model_type\":\"xgboost\",\"task\":\"regression\",\"target\":\"a\"}", COLUMNS("z"), "a", NULL);
	plan("{\"model_type\":\"random_forest\",\"task\":\"classification\",\"target\":\"z\"}", COLUMNS("z"), "z", NULL);
	plan("{\"target\":\"b\"}", COLUMNS("z"), NULL, "target");
	plan("{\"selected_features\":[\"a\",\"b\"]}", COLUMNS("z"), NULL, "selected_features[1]");
	plan("{\"selected_features\":[\"loan_status\"]}", COLUMNS("z"), NULL, "selected_features[0]");
	plan("{}", "{\"columns\":[{\"name\":\"a\",\"type\":\"number\"}]}", NULL, "data");
	plan("{}", "{\"columns\":[]}", NULL, "data");
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(defaults), cmocka_unit_test(faults), cmocka_unit_test(queries), cmocka_unit_test(forms), cmocka_unit_test(plans) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
