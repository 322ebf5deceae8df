/*
 * Measures of predictions (seed ledger S4-41, S4-62): against numbers worked out by hand and against the definitions themselves, counted pair by pair. What scikit-learn says of the same is in
 * tests/engine/test_oracle.py.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/measure.h"
#include "engine/sample.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

static double number(const json_t *o, const char *a, const char *b)
{
	const json_t *v = json_object_get(o, a);
	v = b ? json_object_get(v, b) : v;
	assert_true(json_is_number(v));
	return json_number_value(v);
}

static double item(const json_t *o, const char *a, const char *b, size_t i)
{
	const json_t *v = json_array_get(json_object_get(json_object_get(o, a), b), i);
	assert_true(json_is_number(v));
	return json_number_value(v);
}

static bool near(double a, double b)
{
	return fabs(a - b) < 1e-12;
}

static void test_by_hand(void **state)
{
	(void)state;
	const uint8_t y[] = { 0, 0, 1, 1 };
	const double p[] = { 0.1, 0.4, 0.35, 0.8 };
	double threshold = -1;
	assert_true(near(tg_auc(y, p, 4), 0.75));
	json_t *m = tg_measure_classes(y, p, 4, &threshold);
	assert_non_null(m);
	/* 0.8: half of the ones, none of the zeros. 0.35 has the same J, and comes later. */
	assert_true(near(threshold, 0.8) && near(number(m, "threshold_analysis", "threshold"), 0.8));
	assert_true(near(number(m, "threshold_analysis", "sensitivity"), 0.5) && near(number(m, "threshold_analysis", "specificity"), 1));
	assert_true(near(number(m, "threshold_analysis", "youden_j"), 0.5) && near(number(m, "threshold_analysis", "precision"), 1));
	assert_true(near(number(m, "threshold_analysis", "f1_score"), 2.0 / 3));
	assert_true(near(number(m, "accuracy", NULL), 0.75) && near(number(m, "precision", NULL), 1) && near(number(m, "recall", NULL), 0.5) && near(number(m, "roc_auc", NULL), 0.75));
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "confusion_matrix"), "true_negatives")), 2);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "confusion_matrix"), "false_positives")), 0);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "confusion_matrix"), "false_negatives")), 1);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(m, "confusion_matrix"), "true_positives")), 1);
	/* scikit-learn's example: fpr 0, 0, .5, .5, 1; tpr 0, .5, .5, 1, 1; the first threshold above all. */
	const double fpr[] = { 0, 0, 0.5, 0.5, 1 }, tpr[] = { 0, 0.5, 0.5, 1, 1 }, thresholds[] = { 1.8, 0.8, 0.4, 0.35, 0.1 };
	assert_int_equal(json_array_size(json_object_get(json_object_get(m, "roc_curve"), "fpr")), 5);
	for (size_t i = 0; i < 5; i++)
		assert_true(near(item(m, "roc_curve", "fpr", i), fpr[i]) && near(item(m, "roc_curve", "tpr", i), tpr[i]) && near(item(m, "roc_curve", "thresholds", i), thresholds[i]));
	/* Bins (0, .1], (.3, .4], (.7, .8]: an edge belongs to the bin below it. */
	const double part[] = { 0, 0.5, 1 }, mean[] = { 0.1, 0.375, 0.8 };
	assert_int_equal(json_array_size(json_object_get(json_object_get(m, "calibration_curve"), "prob_true")), 3);
	for (size_t i = 0; i < 3; i++)
		assert_true(near(item(m, "calibration_curve", "prob_true", i), part[i]) && near(item(m, "calibration_curve", "prob_pred", i), mean[i]));
	json_decref(m);
}

static void test_worse_than_chance(void **state)
{
	(void)state;
	const uint8_t y[] = { 1, 1, 0, 0 };
	const double p[] = { 0.1, 0.2, 0.7, 0.9 };
	double threshold = -1;
	json_t *m = tg_measure_classes(y, p, 4, &threshold);
	assert_true(near(threshold, 0.5) && near(number(m, "roc_auc", NULL), 0) && near(number(m, "accuracy", NULL), 0));
	assert_true(near(number(m, "threshold_analysis", "youden_j"), -1) && near(number(m, "precision", NULL), 0) && near(number(m, "f1_score", NULL), 0));
	json_decref(m);
	/* All scores the same: nothing is told apart. */
	const double same[] = { 0.3, 0.3, 0.3, 0.3 };
	m = tg_measure_classes(y, same, 4, &threshold);
	assert_true(near(number(m, "roc_auc", NULL), 0.5) && near(threshold, 0.5) && near(number(m, "recall", NULL), 0));
	json_decref(m);
}

static void test_one_class(void **state)
{
	(void)state;
	const uint8_t y[] = { 1, 1 };
	const double p[] = { 0.1, 0.2 };
	double threshold;
	assert_true(isnan(tg_auc(y, p, 2)) && isnan(tg_auc(y, p, 0)));
	assert_null(tg_measure_classes(y, p, 2, &threshold));
}

#define MANY 3000
/* Against the definitions, over scores with many ties and with none: the area is the share of pairs in order, the threshold the best of all there are. */
static void test_against_the_definitions(void **state)
{
	(void)state;
	static uint8_t y[MANY];
	static double p[MANY];
	for (unsigned round = 0; round < 4; round++) {
		struct tg_rng r = tg_seeded(round, 77);
		uint32_t grain = round % 2 ? 40 : 1u << 30;
		size_t n = round < 2 ? 200 : MANY;
		for (size_t i = 0; i < n; i++) {
			y[i] = tg_below(&r, 3) == 0;
			p[i] = 0.7 * tg_below(&r, grain) / grain + 0.3 * y[i] * tg_below(&r, grain) / grain;
		}
		double pairs = 0, ordered = 0, at = 0.5, threshold, size = 0;
		int64_t best = 0;
		for (size_t i = 0; i < n; i++)
			for (size_t j = 0; j < n; j++)
				if (y[i] && !y[j]) {
					pairs++;
					ordered += p[i] > p[j] ? 1 : p[i] < p[j] ? 0 : 0.5;
				}
		json_t *m = tg_measure_classes(y, p, n, &threshold);
		assert_true(near(tg_auc(y, p, n), ordered / pairs) && near(number(m, "roc_auc", NULL), ordered / pairs));
		for (size_t k = 0; k < n; k++) {
			int64_t tp = 0, fp = 0, ones = 0;
			for (size_t i = 0; i < n; i++) {
				ones += y[i];
				tp += y[i] && p[i] >= p[k];
				fp += !y[i] && p[i] >= p[k];
			}
			int64_t j = tp * ((int64_t)n - ones) - fp * ones;
			size = (double)ones * (double)((int64_t)n - ones);
			if (j > best || (j == best && p[k] > at)) {
				best = j;
				at = p[k];
			}
		}
		assert_true(near(number(m, "threshold_analysis", "youden_j"), (double)best / size));
		assert_true(near(threshold, at));
		/* A curve goes up and to the right from (0, 0) to (1, 1), is no longer than it may be, and has the threshold's own point. */
		const json_t *curve = json_object_get(m, "roc_curve");
		size_t points = json_array_size(json_object_get(curve, "fpr"));
		bool has = false;
		assert_true(points >= 3 && points <= TG_ROC_POINTS_MAX && points == json_array_size(json_object_get(curve, "tpr")) && points == json_array_size(json_object_get(curve, "thresholds")));
		for (size_t i = 0; i < points; i++) {
			has = has || (item(m, "roc_curve", "thresholds", i) >= threshold && item(m, "roc_curve", "thresholds", i) <= threshold);
			if (i)
				assert_true(item(m, "roc_curve", "fpr", i) >= item(m, "roc_curve", "fpr", i - 1) && item(m, "roc_curve", "tpr", i) >= item(m, "roc_curve", "tpr", i - 1) &&
					item(m, "roc_curve", "thresholds", i) < item(m, "roc_curve", "thresholds", i - 1));
		}
		assert_true(has && near(item(m, "roc_curve", "fpr", 0), 0) && near(item(m, "roc_curve", "tpr", 0), 0));
		assert_true(near(item(m, "roc_curve", "fpr", points - 1), 1) && near(item(m, "roc_curve", "tpr", points - 1), 1));
		json_decref(m);
	}
}

static void test_long_curve_is_thinned(void **state)
{
	(void)state;
	/* Every second row of each class: no three points lie on a line of equal steps, so nothing can be left out for that. */
	enum { N = 8000 };
	uint8_t *y = calloc(N, 1);
	double *p = calloc(N, sizeof *p), threshold;
	for (size_t i = 0; i < N; i++) {
		y[i] = i % 2;
		p[i] = (double)i / N;
	}
	json_t *m = tg_measure_classes(y, p, N, &threshold);
	assert_int_equal(json_array_size(json_object_get(json_object_get(m, "roc_curve"), "fpr")), TG_ROC_POINTS_MAX);
	assert_true(item(m, "roc_curve", "thresholds", 0) > 1 && near(item(m, "roc_curve", "tpr", TG_ROC_POINTS_MAX - 1), 1) && near(item(m, "roc_curve", "fpr", TG_ROC_POINTS_MAX - 1), 1));
	/* The best is the very second point of the curve, which even steps would pass over. */
	assert_true(near(threshold, (double)(N - 1) / N) && near(item(m, "roc_curve", "thresholds", 1), threshold));
	json_decref(m);
	free(y);
	free(p);
}

static void test_numbers(void **state)
{
	(void)state;
	const double y[] = { 3, -0.5, 2, 7 }, p[] = { 2.5, 0, 2, 8 }, same[] = { 1, 1 };
	json_t *m = tg_measure_numbers(y, p, 4);
	assert_true(near(number(m, "rmse", NULL), sqrt(0.375)) && near(number(m, "mae", NULL), 0.5) && fabs(number(m, "r2", NULL) - 0.9486081370449679) < 1e-12);
	json_decref(m);
	m = tg_measure_numbers(same, p, 2);
	assert_true(json_is_null(json_object_get(m, "r2")));
	json_decref(m);
	const double folds[] = { 1, 2, 3, 6 };
	m = tg_measure_folds("roc_auc", folds, 4);
	assert_true(near(number(m, "mean", NULL), 3) && near(number(m, "std", NULL), sqrt(3.5)) && near(number(m, "folds", NULL), 4));
	assert_int_equal(json_array_size(json_object_get(m, "roc_auc")), 4);
	json_decref(m);
}

#define ROWS 1000
/* Splits and folds: each row in one part, each class with its share, the same for a seed, others for another. */
static void test_samples(void **state)
{
	(void)state;
	uint8_t y[ROWS], fold[ROWS], again[ROWS];
	uint8_t part[ROWS], other[ROWS];
	for (size_t i = 0; i < ROWS; i++)
		y[i] = i % 10 == 3; /* 100 of 1000 */
	for (int classes = 0; classes < 2; classes++) {
		const uint8_t *by = classes ? y : NULL;
		assert_true(tg_sample_split(by, ROWS, 0.2, 42, part));
		size_t held[2] = { 0 }, same = 0;
		for (size_t i = 0; i < ROWS; i++)
			held[y[i]] += part[i];
		assert_int_equal(held[0] + held[1], 200);
		if (classes)
			assert_int_equal(held[1], 20);
		assert_true(tg_sample_split(by, ROWS, 0.2, 42, other));
		assert_memory_equal(part, other, sizeof part);
		assert_true(tg_sample_split(by, ROWS, 0.2, 43, other));
		for (size_t i = 0; i < ROWS; i++)
			same += part[i] && other[i];
		assert_true(same < 100); /* about 40 by chance */
		for (unsigned k = 2; k <= 10; k++) {
			size_t count[10][2] = { 0 };
			assert_true(tg_sample_folds(by, ROWS, k, 7, fold) && tg_sample_folds(by, ROWS, k, 7, again));
			assert_memory_equal(fold, again, sizeof fold);
			for (size_t i = 0; i < ROWS; i++)
				count[fold[i]][y[i]]++;
			for (unsigned a = 0; a < k; a++) {
				size_t all = count[a][0] + count[a][1];
				assert_true(all == ROWS / k || all == ROWS / k + 1);
				if (classes)
					assert_true(count[a][1] == 100 / k || count[a][1] == 100 / k + 1);
			}
		}
	}
	/* Small classes keep a row on either side. */
	const uint8_t few[] = { 0, 0, 1, 1 };
	uint8_t tiny[4];
	assert_true(tg_sample_split(few, 4, 0.1, 1, tiny));
	assert_int_equal(tiny[0] + tiny[1], 1);
	assert_int_equal(tiny[2] + tiny[3], 1);
}

static void test_even(void **state)
{
	(void)state;
	uint8_t y[ROWS];
	uint32_t rows[ROWS];
	struct tg_rng r = tg_seeded(1, TG_STREAM_UNDERSAMPLE);
	for (uint32_t i = 0; i < ROWS; i++) {
		y[i] = i % 10 != 3;
		rows[i] = i;
	}
	size_t n = tg_sample_even(y, rows, ROWS, &r), ones = 0;
	assert_int_equal(n, 200);
	for (size_t i = 0; i < n; i++) {
		ones += y[rows[i]];
		if (i)
			assert_true(rows[i] > rows[i - 1]);
	}
	assert_int_equal(ones, 100);
	assert_int_equal(tg_sample_even(y, rows, n, &r), 200);
	/* Each number below n, about as often. */
	unsigned seen[7] = { 0 };
	for (int i = 0; i < 70000; i++)
		seen[tg_below(&r, 7)]++;
	for (int i = 0; i < 7; i++)
		assert_true(seen[i] > 9500 && seen[i] < 10500);
	assert_int_equal(tg_below(&r, 1), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_by_hand),
		cmocka_unit_test(test_worse_than_chance),
		cmocka_unit_test(test_one_class),
		cmocka_unit_test(test_against_the_definitions),
		cmocka_unit_test(test_long_curve_is_thinned),
		cmocka_unit_test(test_numbers),
		cmocka_unit_test(test_samples),
		cmocka_unit_test(test_even),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
