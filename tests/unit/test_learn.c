/*
 * Learning (seed ledger S3-26, S3-55, S4-41): document 003's numbers to nine places, what nulls, texts, constant, dependent and badly scaled columns do, sentences for what cannot be learnt from,
 * and that one seed makes one model. How good the methods are is held against scikit-learn and XGBoost in tests/engine/test_oracle.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/model.h"
#include "engine/sample.h"
#include "frame_fixture.h"
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static struct tg_trained *trained(const struct tg_frame *f, struct tg_plan plan, json_t **report)
{
	struct tg_err err;
	json_t *own = NULL;
	struct tg_trained *m = tg_train(f, &plan, NULL, NULL, report ? report : &own, &err);
	if (!m)
		fail_msg("%s", err.text);
	json_decref(own);
	return m;
}

static void predicted(const struct tg_trained *m, const struct tg_frame *f, double *out)
{
	struct tg_err err;
	if (!tg_predict(m, f, out, &err))
		fail_msg("%s", err.text);
}

static void once(const struct tg_frame *f, struct tg_plan plan, const struct tg_frame *future, double *out)
{
	struct tg_trained *m = trained(f, plan, NULL);
	predicted(m, future, out);
	tg_trained_free(m);
}

static void same(const double *a, const double *b, size_t n, double within)
{
	for (size_t i = 0; i < n; i++)
		if (!(fabs(a[i] - b[i]) <= within))
			fail_msg("%zu: %.17g is not %.17g", i, a[i], b[i]);
}

#define RAIN 100.5, 85.2, 120.8, 95.3, 110.0, 75.5, 130.2, 88.9
#define WARMTH 25.3, 27.1, 24.5, 26.2, 26.0, 28.0, 23.8, 27.5
#define CASES 12, 8, 15, 10, 13, 6, 18, 9

static void test_document_003(void **state)
{
	(void)state;
	struct tg_column past[] = { NUMBERS("rainfall", RAIN), NUMBERS("mean_temperature", WARMTH), NUMBERS("disease_cases", CASES) };
	/* Other order, and a column more. */
	struct tg_column future[] = { NUMBERS("mean_temperature", 26.0, 28.0, 24.0, 29.0), NUMBERS("week", 1, 2, 3, 4), NUMBERS("rainfall", 110.0, 90.0, 125.0, 80.0) };
	const double wanted[] = { 13.046377018145838, 8.628929113083778, 16.566732497622098, 6.420205160552747 };
	struct tg_frame f = FRAME(8, past), g = FRAME(4, future);
	double out[4];
	json_t *report;
	struct tg_trained *m = trained(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR, .seed = 42 }, &report);
	predicted(m, &g, out);
	same(out, wanted, 4, 1e-9);
	json_t *about = tg_trained_about(m);
	assert_string_equal(json_string_value(json_object_get(about, "method")), "linear_regression");
	assert_string_equal(json_string_value(json_object_get(about, "target")), "disease_cases");
	assert_int_equal(json_array_size(json_object_get(about, "features")), 2);
	assert_true(json_is_null(json_object_get(about, "classes")) && json_is_null(json_object_get(about, "threshold")));
	assert_true(fabs(json_number_value(json_object_get(json_object_get(report, "coefficients"), "rainfall")) - 0.179418485) < 1e-9);
	assert_true(fabs(json_number_value(json_object_get(report, "intercept")) - 4.0883602906) < 1e-9);
	assert_string_equal(json_string_value(json_object_get(report, "measured_on")), "training");
	json_decref(about);
	json_decref(report);
	tg_trained_free(m);
}

static void test_nulls_are_0_to_a_line(void **state)
{
	(void)state;
	struct tg_column with[] = { NUMBERS("a", 1, NAN, 3, 5), NUMBERS("y", 2, 3, NAN, 9) }, without[] = { NUMBERS("a", 1, 0, 3, 5), NUMBERS("y", 2, 3, 0, 9) };
	struct tg_frame f = FRAME(4, with), g = FRAME(4, without);
	double out[4], wanted[4];
	once(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &f, out);
	once(&g, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &g, wanted);
	same(out, wanted, 4, 0);
	/* A column that is all nulls in what is predicted for. */
	struct tg_column nothing[] = { NOTHING("a") }, zero[] = { NUMBERS("a", 0, 0) };
	struct tg_frame h = FRAME(2, nothing), z = FRAME(2, zero);
	once(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &h, out);
	once(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &z, wanted);
	same(out, wanted, 2, 0);
}

static void test_smallest_weights(void **state)
{
	(void)state;
	/* y = 2 a; a twice, so each takes half. A constant column takes nothing, and may be anything later. */
	struct tg_column twice[] = { NUMBERS("a", 1, 2, 3, 4), NUMBERS("b", 1, 2, 3, 4), NUMBERS("c", 0.1, 0.1, 0.1, 0.1), NUMBERS("y", 2, 4, 6, 8) };
	struct tg_column future[] = { NUMBERS("a", 10, 0), NUMBERS("b", 0, 10), NUMBERS("c", 99, -1e6) };
	struct tg_frame f = FRAME(4, twice), g = FRAME(2, future);
	double out[3];
	once(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &g, out);
	same(out, (double[]){ 10, 10 }, 2, 1e-9);
	/* Two rows of three columns: between them y goes from 1 to 3 while the columns go by (1, 2, 2): the smallest weights are (2, 4, 4) / 9. */
	struct tg_column wide[] = { NUMBERS("a", 0, 1), NUMBERS("b", 0, 2), NUMBERS("c", 5, 7), NUMBERS("y", 1, 3) };
	struct tg_column units[] = { NUMBERS("a", 1, 0, 0), NUMBERS("b", 0, 1, 0), NUMBERS("c", 5, 5, 6) };
	struct tg_frame w = FRAME(2, wide), u = FRAME(3, units);
	once(&w, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &u, out);
	same(out, (double[]){ 1 + 2.0 / 9, 1 + 4.0 / 9, 1 + 4.0 / 9 }, 3, 1e-9);
}

static void test_scales_apart(void **state)
{
	(void)state;
	enum { N = 3000 }; /* several blocks */
	double *a = calloc(N, sizeof *a), *b = calloc(N, sizeof *b), *y = calloc(N, sizeof *y), *out = calloc(N, sizeof *out), *k = calloc(N, sizeof *k), *other = calloc(N, sizeof *other);
	struct tg_rng r = tg_seeded(1, 9);
	for (size_t i = 0; i < N; i++) {
		a[i] = 1e9 + 1e6 * tg_below(&r, 1000000);
		b[i] = 1e-7 * tg_below(&r, 1000000);
		y[i] = 3e-9 * a[i] + 40 * b[i] - 7;
		k[i] = 0.1;
		other[i] = 1e12;
	}
	struct tg_column c[] = { { .name = "a", .type = TG_COLUMN_NUMBER, .number = a }, { .name = "b", .type = TG_COLUMN_NUMBER, .number = b }, { .name = "k", .type = TG_COLUMN_NUMBER, .number = k },
		{ .name = "y", .type = TG_COLUMN_NUMBER, .number = y } };
	struct tg_column d[] = { c[0], c[1], { .name = "k", .type = TG_COLUMN_NUMBER, .number = other } };
	struct tg_frame f = FRAME(N, c), g = FRAME(N, d);
	once(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, &g, out);
	same(out, y, N, 1e-8);
	/* To classes too: a column that was constant says nothing, whatever it is later. */
	for (size_t i = 0; i < N; i++)
		y[i] = b[i] > 0.05;
	once(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, &g, out);
	once(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, &f, k);
	same(out, k, N, 0);
	free(a);
	free(b);
	free(y);
	free(out);
	free(k);
	free(other);
}

static const struct tg_slice colours[] = { { "red", 3 }, { "blue", 4 }, { "green", 5 } };
static const struct tg_slice others[] = { { "green", 5 }, { "violet", 6 }, { "blue", 4 } };

/* Texts are columns of their own, however they come; what was not there in training is none of them, and so is a null. */
static void test_texts(void **state)
{
	(void)state;
	for (int method = 0; method < TG_METHOD_COUNT; method++) {
		struct tg_plan plan = { .method = (enum tg_method)method, .seed = 5 };
		struct tg_column text[] = { NUMBERS("a", 1, 2, 3, 4, 5, 6, 7, 8), TEXTS("colour", colours, 0, 1, 2, 0, 1, 2, 0, NONE), NUMBERS("y", 0, 1, 1, 0, 1, 0, 0, 1) };
		struct tg_column hot[] = { NUMBERS("a", 1, 2, 3, 4, 5, 6, 7, 8), NUMBERS("blue", 0, 1, 0, 0, 1, 0, 0, 0), NUMBERS("green", 0, 0, 1, 0, 0, 1, 0, 0), NUMBERS("red", 1, 0, 0, 1, 0, 0, 1, 0),
			NUMBERS("y", 0, 1, 1, 0, 1, 0, 0, 1) };
		struct tg_column future[] = { TEXTS("colour", others, 0, 1, 2, NONE), NUMBERS("a", 3, 3, 3, 3) };
		struct tg_column spelt[] = { NUMBERS("a", 3, 3, 3, 3), NUMBERS("blue", 0, 0, 1, 0), NUMBERS("green", 1, 0, 0, 0), NUMBERS("red", 0, 0, 0, 0) };
		struct tg_frame f = FRAME(8, text), g = FRAME(8, hot), x = FRAME(4, future), s = FRAME(4, spelt);
		double out[4], wanted[4];
		once(&f, plan, &x, out);
		once(&g, plan, &s, wanted);
		same(out, wanted, 4, 1e-12);
		same(&out[1], &out[3], 1, 0);
	}
}

static void test_nulls_of_classes(void **state)
{
	(void)state;
	struct tg_column past[] = { NUMBERS("a", 1, 2, NAN, 4, 5, 7, 2, 7), NUMBERS("y", 0, 1, 0, 0, 1, 1, 0, 1) };
	struct tg_column mean[] = { NUMBERS("a", 1, 2, 4, 4, 5, 7, 2, 7), NUMBERS("y", 0, 1, 0, 0, 1, 1, 0, 1) };
	struct tg_column future[] = { NUMBERS("a", NAN, 4) }, nothing[] = { NOTHING("a") };
	struct tg_frame f = FRAME(8, past), g = FRAME(8, mean), x = FRAME(2, future), z = FRAME(1, nothing);
	double out[2], wanted[2];
	/* The mean of the others, of the training part. */
	once(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, &x, out);
	once(&g, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, &x, wanted);
	same(&out[0], &out[1], 1, 0);
	same(out + 1, wanted + 1, 1, 0);
	once(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, &z, wanted);
	same(out, wanted, 1, 0);
	/* Trees learn where the missing go: here to the ones, whatever the others do. */
	enum { N = 60 };
	double a[N], y[N], p[2];
	for (size_t i = 0; i < N; i++) {
		a[i] = i % 3 ? (double)i : NAN;
		y[i] = i % 3 == 0 || i > 50;
	}
	struct tg_column t[] = { { .name = "a", .type = TG_COLUMN_NUMBER, .number = a }, { .name = "y", .type = TG_COLUMN_NUMBER, .number = y } }, low[] = { NUMBERS("a", NAN, 10) };
	struct tg_frame h = FRAME(N, t), l = FRAME(2, low);
	for (int method = TG_METHOD_XGBOOST; method <= TG_METHOD_FOREST; method++) {
		once(&h, (struct tg_plan){ .method = (enum tg_method)method, .seed = 1 }, &l, p);
		assert_true(p[0] > 0.6 && p[1] < 0.4);
	}
}

static void test_classes(void **state)
{
	(void)state;
	static const struct tg_slice yes_no[] = { { "Yes", 3 }, { "zero", 4 } }, letters[] = { { "b", 1 }, { "a", 1 } }, digits[] = { { "1", 1 }, { "0", 1 } };
	const struct {
		struct tg_column target;
		const char *classes;
	} cases[] = {
		{ NUMBERS("y", 0, 0, 0, 0, 1, 1, 1, 1), "[0, 1]" },
		{ NUMBERS("y", 2.5, 2.5, 2.5, 2.5, 7.25, 7.25, 7.25, 7.25), "[2.5, 7.25]" },
		{ TEXTS("y", yes_no, 1, 1, 1, 1, 0, 0, 0, 0), "[\"zero\", \"Yes\"]" },
		{ TEXTS("y", letters, 1, 1, 1, 1, 0, 0, 0, 0), "[\"a\", \"b\"]" },
		{ TEXTS("y", digits, 1, 1, 1, 1, 0, 0, 0, 0), "[\"0\", \"1\"]" },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
		struct tg_column c[] = { NUMBERS("a", 1, 2, 3, 4, 5, 6, 7, 8), cases[i].target };
		c[1].integers = i == 0;
		struct tg_frame f = FRAME(8, c);
		struct tg_trained *m = trained(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, NULL);
		json_t *about = tg_trained_about(m);
		char *text = json_dumps(json_object_get(about, "classes"), JSON_ENCODE_ANY);
		double out[8];
		assert_string_equal(text, cases[i].classes);
		predicted(m, &f, out);
		assert_true(out[0] < 0.2 && out[7] > 0.8);
		free(text);
		json_decref(about);
		tg_trained_free(m);
	}
}

/* Data with something to learn in it: one number, one text, and noise. */
enum { SOME = 200 };
struct some {
	double a[SOME], b[SOME], y[SOME];
	uint32_t w[SOME];
	struct tg_column c[4];
	struct tg_frame f;
};

static struct some *some(uint32_t seed)
{
	struct some *s = calloc(1, sizeof *s);
	struct tg_rng r = tg_seeded(seed, 99);
	for (size_t i = 0; i < SOME; i++) {
		s->a[i] = tg_below(&r, 1000);
		s->b[i] = tg_below(&r, 20) ? (double)tg_below(&r, 1000) : NAN;
		s->w[i] = tg_below(&r, 3);
		s->y[i] = s->a[i] + 200 * s->w[i] + tg_below(&r, 300) > 900;
	}
	s->c[0] = (struct tg_column){ .name = "a", .type = TG_COLUMN_NUMBER, .number = s->a, .integers = true };
	s->c[1] = (struct tg_column){ .name = "b", .type = TG_COLUMN_NUMBER, .number = s->b };
	s->c[2] = (struct tg_column){ .name = "w", .type = TG_COLUMN_TEXT, .word = s->w, .words = colours, .nwords = 3 };
	s->c[3] = (struct tg_column){ .name = "y", .type = TG_COLUMN_NUMBER, .number = s->y, .integers = true };
	s->f = FRAME(SOME, s->c);
	return s;
}

/* The report and every prediction, as text. */
static char *all_of(const struct some *s, struct tg_plan plan)
{
	json_t *report, *list = json_array();
	double out[SOME];
	struct tg_trained *m = trained(&s->f, plan, &report);
	predicted(m, &s->f, out);
	for (size_t i = 0; i < SOME; i++)
		json_array_append_new(list, json_real(out[i]));
	json_object_set_new(report, "predictions", list);
	char *text = json_dumps(report, 0);
	json_decref(report);
	tg_trained_free(m);
	return text;
}

static void test_one_seed_one_model(void **state)
{
	(void)state;
	struct some *s = some(1);
	for (int method = 0; method < TG_METHOD_COUNT; method++) {
		struct tg_plan plan = { .method = (enum tg_method)method, .seed = 42, .test_size = 0.25, .cv_folds = 3, .undersample = method != TG_METHOD_LINEAR };
		char *first = all_of(s, plan), *again;
		for (plan.threads = 1; plan.threads < 3; plan.threads++) {
			again = all_of(s, plan);
			assert_string_equal(first, again);
			free(again);
		}
		plan.seed = 43;
		again = all_of(s, plan);
		assert_string_not_equal(first, again);
		free(again);
		free(first);
		/* Nothing held back: only the forest draws. */
		plan = (struct tg_plan){ .method = (enum tg_method)method, .seed = 42 };
		first = all_of(s, plan);
		plan.seed = 43;
		again = all_of(s, plan);
		assert_int_equal(strcmp(first, again) != 0, method == TG_METHOD_FOREST);
		free(again);
		free(first);
	}
	free(s);
}

static void test_report(void **state)
{
	(void)state;
	struct some *s = some(2);
	const char *features[] = { "w", "a" };
	for (int method = 0; method < TG_METHOD_COUNT; method++) {
		json_t *report;
		struct tg_plan plan = { .method = (enum tg_method)method, .target = "y", .features = features, .nfeatures = 2, .seed = 1, .test_size = 0.5, .cv_folds = 4 };
		struct tg_trained *m = trained(&s->f, plan, &report);
		json_t *importance = json_object_get(report, "feature_importance"), *cv = json_object_get(report, "cv");
		assert_int_equal(json_object_size(importance), 2);
		assert_true(json_number_value(json_object_get(importance, "a")) > 0 && json_number_value(json_object_get(importance, "w")) > 0);
		assert_string_equal(json_string_value(json_object_get(report, "measured_on")), "held_back");
		assert_int_equal(json_integer_value(json_object_get(report, "training_rows")) + json_integer_value(json_object_get(report, "measured_rows")), SOME);
		assert_int_equal(json_array_size(json_object_get(cv, method == TG_METHOD_LINEAR ? "rmse" : "roc_auc")), 4);
		if (method == TG_METHOD_LINEAR) {
			assert_null(json_object_get(report, "optimal_threshold"));
			assert_true(json_number_value(json_object_get(json_object_get(report, "metrics"), "r2")) > 0.4);
		} else {
			double threshold = json_number_value(json_object_get(report, "optimal_threshold"));
			json_t *about = tg_trained_about(m);
			assert_true(threshold > 0 && threshold < 1);
			assert_true(json_number_value(json_object_get(about, "threshold")) >= threshold && json_number_value(json_object_get(about, "threshold")) <= threshold);
			assert_true(json_number_value(json_object_get(json_object_get(report, "metrics"), "roc_auc")) > 0.85 && json_number_value(json_object_get(cv, "mean")) > 0.85);
			json_decref(about);
		}
		json_decref(report);
		tg_trained_free(m);
	}
	free(s);
}

/* What a target asks for, where the plan does not say it; and what each answers with. */
static void test_tasks(void **state)
{
	(void)state;
	static const struct tg_slice words[] = { { "no", 2 }, { "yes", 3 } };
	const struct {
		struct tg_column target;
		enum tg_task_kind asked;
		bool classes;
	} cases[] = {
		{ NUMBERS("y", 0, 1, 0, 1, 0, 1, 0, 1), TG_TASK_BY_TARGET, true },
		{ NUMBERS("y", 0.25, 7, 0.25, 7, 0.25, 7, 0.25, 7), TG_TASK_BY_TARGET, true },
		{ TEXTS("y", words, 0, 1, 0, 1, 0, 1, 0, 1), TG_TASK_BY_TARGET, true },
		{ NUMBERS("y", 0, 1, 0, 1, 0, 1, 0, 2), TG_TASK_BY_TARGET, false },
		{ NUMBERS("y", 0, 1, 0, 1, 0, 1, 0, 1), TG_TASK_REGRESSION, false },
		{ NUMBERS("y", 0, 1, 0, 1, 0, 1, 0, 1), TG_TASK_CLASSIFICATION, true },
	};
	for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
		for (int method = TG_METHOD_XGBOOST; method <= TG_METHOD_FOREST; method++) {
			struct tg_column c[] = { NUMBERS("a", 1, 2, 1, 2, 1, 2, 1, 2), cases[i].target };
			struct tg_frame f = FRAME(8, c);
			json_t *report;
			struct tg_trained *m = trained(&f, (struct tg_plan){ .method = (enum tg_method)method, .task = cases[i].asked }, &report);
			json_t *about = tg_trained_about(m);
			const char *task = cases[i].classes ? "classification" : "regression";
			assert_int_equal(tg_trained_classifies(m), cases[i].classes);
			assert_string_equal(json_string_value(json_object_get(about, "task")), task);
			assert_string_equal(json_string_value(json_object_get(report, "task")), task);
			assert_int_equal(json_is_array(json_object_get(about, "classes")), cases[i].classes);
			assert_int_equal(json_is_real(json_object_get(about, "threshold")), cases[i].classes);
			assert_int_equal(json_object_get(report, "optimal_threshold") != NULL, cases[i].classes);
			assert_int_equal(json_object_get(json_object_get(report, "metrics"), "rmse") != NULL, !cases[i].classes);
			assert_null(json_object_get(report, "coefficients"));
			json_decref(about);
			json_decref(report);
			tg_trained_free(m);
		}
}

/* Trees of numbers: the levels that are there, nulls and texts as to classes; and far from where the sum begins. */
static void test_numbers_by_trees(void **state)
{
	(void)state;
	enum { N = 400 };
	struct tg_rng r = tg_seeded(4, 4);
	double *a = calloc(N, sizeof *a), *y = calloc(N, sizeof *y);
	uint32_t *w = calloc(N, sizeof *w);
	for (size_t i = 0; i < N; i++) {
		a[i] = i % 4 ? (double)tg_below(&r, 100) : NAN;
		w[i] = tg_below(&r, 2);
		y[i] = 1e6 + 1000 * (w[i] ? 3 : 1) + (i % 4 ? a[i] : 5000) + (double)tg_below(&r, 3) / 10;
	}
	struct tg_column c[] = { { .name = "a", .type = TG_COLUMN_NUMBER, .number = a }, { .name = "w", .type = TG_COLUMN_TEXT, .word = w, .words = colours, .nwords = 2 },
		{ .name = "y", .type = TG_COLUMN_NUMBER, .number = y } };
	struct tg_column future[] = { NUMBERS("a", NAN, 50, NAN, 50), TEXTS("w", colours, 0, 0, 1, 1) };
	const double wanted[] = { 1006000, 1001050, 1008000, 1003050 };
	struct tg_frame f = FRAME(N, c), x = FRAME(4, future);
	for (int method = TG_METHOD_XGBOOST; method <= TG_METHOD_FOREST; method++) {
		bool forest = method == TG_METHOD_FOREST; /* each of its trees sees a part of the columns at a split, and there is one round */
		json_t *report;
		double out[4];
		struct tg_trained *m = trained(&f, (struct tg_plan){ .method = (enum tg_method)method, .seed = 1, .test_size = 0.25, .cv_folds = 4 }, &report);
		predicted(m, &x, out);
		same(out, wanted, 4, forest ? 700 : 100);
		json_t *metrics = json_object_get(report, "metrics"), *cv = json_object_get(report, "cv");
		assert_true(json_number_value(json_object_get(metrics, "r2")) > 0.95 && json_number_value(json_object_get(metrics, "rmse")) >= json_number_value(json_object_get(metrics, "mae")));
		assert_int_equal(json_array_size(json_object_get(cv, "rmse")), 4);
		assert_true(json_number_value(json_object_get(cv, "mean")) < (forest ? 700 : 100) && json_number_value(json_object_get(cv, "mean")) > 0);
		assert_true(json_number_value(json_object_get(json_object_get(report, "feature_importance"), "a")) > 0.5);
		json_decref(report);
		tg_trained_free(m);
	}
	/* As large as they may be: still a model, and finite. */
	for (size_t i = 0; i < N; i++)
		y[i] = (w[i] ? 1e15 : -1e15) + 1e10 * (double)i;
	for (size_t i = 0; i < N; i++)
		y[i] = fmax(-1e15, fmin(1e15, y[i]));
	double out[4];
	once(&f, (struct tg_plan){ .method = TG_METHOD_XGBOOST }, &x, out);
	same(out, (double[]){ -1e15, -1e15, 1e15, 1e15 }, 4, 1e13);
	free(a);
	free(y);
	free(w);
}

struct seen {
	unsigned last, calls;
};

static void on_progress(void *ctx, unsigned percent, const char *message)
{
	struct seen *s = ctx;
	assert_true(percent > s->last && percent < 100 && *message);
	s->last = percent;
	s->calls++;
}

static void test_progress(void **state)
{
	(void)state;
	struct some *s = some(3);
	struct seen seen = { 0 };
	json_t *report;
	struct tg_err err;
	struct tg_plan plan = { .method = TG_METHOD_XGBOOST, .cv_folds = 2 };
	struct tg_trained *m = tg_train(&s->f, &plan, on_progress, &seen, &report, &err);
	assert_non_null(m);
	assert_true(seen.calls > 20 && seen.last == 90);
	json_decref(report);
	tg_trained_free(m);
	free(s);
}

static void refused(const struct tg_frame *f, struct tg_plan plan, const char *why)
{
	struct tg_err err;
	json_t *report = (json_t *)1;
	struct tg_trained *m = tg_train(f, &plan, NULL, NULL, &report, &err);
	assert_null(m);
	assert_null(report);
	assert_string_equal(err.text, why);
}

static void test_what_cannot_be_learnt_from(void **state)
{
	(void)state;
	struct tg_column c[] = { NUMBERS("a", 1, 2, 3, 4), TEXTS("t", colours, 0, 1, 2, 0), NUMBERS("k", 5, 5, 5, 5), NUMBERS("y", 0, 1, 0, 1), NUMBERS("n", 0, 1, NAN, 1), NOTHING("e"),
		NUMBERS("big", 1e300, -1e300, 1e300, 5), NUMBERS("one", 0, 0, 0, 1), NUMBERS("many", 1, NAN, 2, 3) };
	struct tg_frame f = FRAME(4, c), none = { .rows = 0, .ncolumns = 9, .columns = c }, bare = { 0 };
	const char *a[] = { "a" }, *gone[] = { "a", "b" }, *self[] = { "y" }, *twice[] = { "a", "a" }, *empty[] = { "e" }, *big[] = { "big" };
#define PLAN(...) (struct tg_plan){ __VA_ARGS__ }
	refused(&none, PLAN(.method = TG_METHOD_LINEAR, .target = "y"), "There are no rows to learn from.");
	refused(&bare, PLAN(.method = TG_METHOD_LINEAR), "There are no columns to learn from.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "q"), "The target q is not a column.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "t"), "The target t holds texts; a regression is about numbers.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .task = TG_TASK_REGRESSION, .target = "t"), "The target t holds texts; a regression is about numbers.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .task = TG_TASK_CLASSIFICATION, .target = "y"), "A linear regression predicts numbers; it is no classification.");
	refused(&f, PLAN(.method = TG_METHOD_LOGISTIC, .task = TG_TASK_REGRESSION, .target = "a"), "A logistic regression is a classification; it predicts no numbers.");
	refused(&f, PLAN(.method = TG_METHOD_FOREST, .task = TG_TASK_COUNT, .target = "y"), "There is no such task.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "k"), "The target k has one value only.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "e"), "The target e has one value only.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "big"), "Row 1: the number in the target big is too large.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "k"), "The target k has one value only.");
	refused(&f, PLAN(.method = TG_METHOD_LOGISTIC, .target = "a"), "The target a has more than two values; a classification is between two.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .task = TG_TASK_REGRESSION, .target = "k"), "The target k has one value only.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .task = TG_TASK_REGRESSION, .target = "n"), "Row 3: there is no value in the target n.");
	refused(&f, PLAN(.method = TG_METHOD_FOREST, .target = "many"), "Row 2: there is no value in the target many.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "big"), "Row 1: the number in the target big is too large.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "a", .undersample = true), "undersample is about classes; a regression has none.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "a", .cv_folds = 5), "There are 4 rows, fewer than the 5 folds.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .task = TG_TASK_CLASSIFICATION, .target = "a"), "The target a has more than two values; a classification is between two.");
	refused(&f, PLAN(.method = TG_METHOD_FOREST, .target = "t"), "The target t has more than two values; a classification is between two.");
	refused(&f, PLAN(.method = TG_METHOD_LOGISTIC, .target = "n"), "Row 3: there is no value in the target n.");
	refused(&f, PLAN(.method = TG_METHOD_LOGISTIC, .target = "e"), "Row 1: there is no value in the target e.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .features = gone, .nfeatures = 2), "The column b is missing.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .features = self, .nfeatures = 1), "The target y cannot be a feature too.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .features = twice, .nfeatures = 2), "The feature a is named twice.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .features = a, .nfeatures = 0), "There is no column to learn from.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .features = empty, .nfeatures = 1), "No column to learn from has a value.");
	refused(&f, PLAN(.method = TG_METHOD_LOGISTIC, .target = "y", .features = big, .nfeatures = 1), "The numbers in the column big are too large.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "y", .features = big, .nfeatures = 1), "Row 1: the number in the column big is too large.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .cv_folds = 5), "There are 4 rows, fewer than the 5 folds.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "y", .cv_folds = 3), "The smaller class of the target y has 2 rows, fewer than the 3 folds.");
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST, .target = "one", .test_size = 0.2), "The smaller class of the target one has 1 row, fewer than the 2 parts.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .undersample = true), "undersample is about classes; a regression has none.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .cv_folds = 11), "cv_folds must be 0 or 2 to 10.");
	refused(&f, PLAN(.method = TG_METHOD_LINEAR, .target = "y", .test_size = 0.05), "test_size must be 0 or 0.1 to 0.5.");
	refused(&f, PLAN(.method = TG_METHOD_COUNT, .target = "y"), "There is no such method.");
	struct tg_column single[] = { NUMBERS("y", 0, 1) };
	struct tg_frame alone = FRAME(2, single);
	refused(&alone, PLAN(.method = TG_METHOD_LINEAR), "There is no column to learn from.");
}

static void test_bounds(void **state)
{
	(void)state;
	enum { ROWS = 20000 };
	double *x = calloc(ROWS, sizeof *x);
	uint32_t *w = calloc(ROWS, sizeof *w);
	struct tg_slice *words = calloc(ROWS, sizeof *words);
	char (*text)[16] = calloc(ROWS, sizeof *text), *novel = malloc(100000);
	struct tg_column *c = calloc(TG_FRAME_COLUMNS_MAX, sizeof *c);
	for (uint32_t i = 0; i < ROWS; i++) {
		x[i] = i % 2;
		w[i] = i;
		words[i] = (struct tg_slice){ text[i], (size_t)snprintf(text[i], sizeof text[i], "%u", i) };
	}
	for (size_t i = 0; i < TG_FRAME_COLUMNS_MAX; i++)
		c[i] = (struct tg_column){ .name = i ? "x" : "first", .type = TG_COLUMN_NUMBER, .number = x };
	struct tg_frame f = { .rows = ROWS, .ncolumns = TG_FRAME_COLUMNS_MAX, .columns = c };
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST),
		"There are 20000 rows of 4095 columns to learn from, each text of a column of texts being one; of so many columns at most 16380 rows.");
	c[0] = (struct tg_column){ .name = "id", .type = TG_COLUMN_TEXT, .word = w, .words = words, .nwords = ROWS };
	f.ncolumns = 2;
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST), "The column id has more than 10000 different texts.");
	f.rows = 10000;
	c[2] = c[1];
	f.ncolumns = 3;
	refused(&f, PLAN(.method = TG_METHOD_XGBOOST), "There are more than 10000 columns to learn from, each text of a column of texts being one.");
	f.rows = 4097;
	f.ncolumns = 2;
	refused(&f, PLAN(.method = TG_METHOD_LINEAR), "There are 4097 columns to learn from, each text of a column of texts being one; linear regression takes 4096.");
	memset(novel, 'x', 100000);
	for (uint32_t i = 0; i < 100; i++)
		words[i] = (struct tg_slice){ novel, 60000 + i };
	f.rows = 100;
	refused(&f, PLAN(.method = TG_METHOD_LINEAR), "The texts of the column id are too long to be categories: all texts together may have 4194304 bytes.");
	free(x);
	free(w);
	free(words);
	free(text);
	free(novel);
	free(c);
}

static void test_what_cannot_be_predicted(void **state)
{
	(void)state;
	static const struct tg_slice mixed[] = { { "12", 2 }, { "dry", 3 } };
	struct tg_column past[] = { NUMBERS("a", 1, 2, 3, 4), TEXTS("t", colours, 0, 1, 2, 0), NUMBERS("y", 0, 1, 0, 1) };
	struct tg_column less[] = { NUMBERS("a", 1) }, text[] = { TEXTS("a", mixed, NONE, 0, 1), TEXTS("t", colours, 0, 1, 2) }, number[] = { NUMBERS("a", 1, 2), NUMBERS("t", NAN, 2) };
	struct tg_column huge[] = { NUMBERS("a", 1, 1.7e308), TEXTS("t", colours, 0, 1) };
	struct tg_frame f = FRAME(4, past), l = FRAME(1, less), t = FRAME(3, text), n = FRAME(2, number), h = FRAME(2, huge), nothing = { 0 };
	struct tg_trained *m = trained(&f, (struct tg_plan){ .method = TG_METHOD_LOGISTIC }, NULL);
	struct tg_err err;
	double out[3];
	assert_false(tg_predict(m, &l, out, &err));
	assert_string_equal(err.text, "The column t is missing.");
	assert_false(tg_predict(m, &nothing, out, &err));
	assert_string_equal(err.text, "The column a is missing.");
	assert_false(tg_predict(m, &t, out, &err));
	assert_string_equal(err.text, "Row 3: the column a must hold numbers, as it did in training.");
	assert_false(tg_predict(m, &n, out, &err));
	assert_string_equal(err.text, "Row 2: the column t must hold texts, as it did in training.");
	tg_trained_free(m);
	past[2] = (struct tg_column)NUMBERS("y", 0, 100, 3, 10000);
	m = trained(&f, (struct tg_plan){ .method = TG_METHOD_LINEAR }, NULL);
	assert_false(tg_predict(m, &h, out, &err));
	assert_string_equal(err.text, "Row 2: its numbers are too large to be computed with.");
	tg_trained_free(m);
	/* Trees only compare. */
	past[2] = (struct tg_column)NUMBERS("y", 0, 1, 0, 1);
	m = trained(&f, (struct tg_plan){ .method = TG_METHOD_XGBOOST }, NULL);
	assert_true(tg_predict(m, &h, out, &err));
	tg_trained_free(m);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_document_003),
		cmocka_unit_test(test_nulls_are_0_to_a_line),
		cmocka_unit_test(test_smallest_weights),
		cmocka_unit_test(test_scales_apart),
		cmocka_unit_test(test_texts),
		cmocka_unit_test(test_nulls_of_classes),
		cmocka_unit_test(test_classes),
		cmocka_unit_test(test_one_seed_one_model),
		cmocka_unit_test(test_report),
		cmocka_unit_test(test_tasks),
		cmocka_unit_test(test_numbers_by_trees),
		cmocka_unit_test(test_progress),
		cmocka_unit_test(test_what_cannot_be_learnt_from),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test(test_what_cannot_be_predicted),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
