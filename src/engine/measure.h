#pragma once
/*
 * How good predictions are. Names and definitions are those of scikit-learn's metrics, members those of the credit-risk project that document 004 is about.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define TG_ROC_POINTS_MAX 1000
#define TG_CALIBRATION_BINS 10

/* The area under the ROC curve: y is 0 or 1, p any finite score. NaN: one class only, or no memory. */
double tg_auc(const uint8_t *y, const double *p, size_t n);
/*
 * New reference; NULL: one class only, or no memory. accuracy, precision, recall, f1_score and confusion_matrix are those of the threshold that Youden's J finds (the largest sensitivity +
 * specificity - 1 of the curve; where none is above 0, 0.5), which is also *threshold: p >= *threshold is taken for class 1. A ratio whose denominator is 0 is 0.
 * roc_curve: the points of the curve less those on a straight line between their neighbours, and at most TG_ROC_POINTS_MAX of them, the one at the threshold among them; its first threshold, above
 * every score, is the largest score + 1 (JSON has no infinity).
 * calibration_curve: bins of equal width; empty ones are left out.
 */
json_t *tg_measure_classes(const uint8_t *y, const double *p, size_t n, double *threshold);
/* rmse, mae, r2: null where y has one value only. New reference; NULL: no memory. */
json_t *tg_measure_numbers(const double *y, const double *p, size_t n);
/* {"folds", name: [...], "mean", "std"}: std is that of the folds themselves (divided by n). New reference; NULL: no memory. */
json_t *tg_measure_folds(const char *name, const double *v, unsigned n);
