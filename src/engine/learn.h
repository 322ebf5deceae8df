#pragma once
/*
 * Learning: a frame and a plan make a model; a model and a frame make numbers. Repeatable: the same frame, plan and seed give the same model, bit for bit, whatever the number of threads (on one
 * kind of processor: BLAS has others for others).
 *
 * linear_regression is scikit-learn's LinearRegression, logistic_regression its LogisticRegression(solver="liblinear") behind a StandardScaler, xgboost and random_forest are XGBoost's XGBClassifier
 * or XGBRegressor, XGBRFClassifier or XGBRFRegressor (past a million cells by histograms), each with nothing set. A classification is between two classes and predicts the probability of the second of
 * `classes`: of two numbers the larger, of two texts the one that says yes (1, y, yes, t, true in any case), else the later one in the order of their bytes.
 * linear_regression is a regression, logistic_regression a classification. Trees do both; where the plan does not say which, the target does: numbers of more than two values make a regression.
 * A column of texts becomes a column a text of the training part; a text that was not there is none of them, and so is a null. A null among numbers is 0 to linear_regression (in the target too),
 * the mean of the training part to logistic_regression, and missing to trees. No other target may have one.
 * Bounds: recipe.h.
 */
#include "engine/frame.h"
#include <jansson.h>

enum tg_method { TG_METHOD_LINEAR, TG_METHOD_LOGISTIC, TG_METHOD_XGBOOST, TG_METHOD_FOREST, TG_METHOD_COUNT };
extern const char *const tg_method_names[TG_METHOD_COUNT]; /* "linear_regression", "logistic_regression", "xgboost", "random_forest" */
enum tg_task_kind { TG_TASK_BY_TARGET, TG_TASK_CLASSIFICATION, TG_TASK_REGRESSION, TG_TASK_COUNT };
extern const char *const tg_task_names[TG_TASK_COUNT]; /* "" , "classification", "regression" */

struct tg_plan {
	enum tg_method method;
	enum tg_task_kind task;
	const char *target;          /* NULL: the last column */
	const char *const *features; /* NULL: all others */
	unsigned nfeatures;
	uint32_t seed;
	/* How good it is: a share of the rows is held back and the model is measured on those. 0: measured on what it was trained with (and said so). */
	double test_size;            /* 0, or 0.1 to 0.5 */
	unsigned cv_folds;           /* 0, or 2 to 10: k-fold as well */
	bool undersample;            /* the larger class is thinned to the smaller one, in the training part only */
	unsigned threads;            /* 0: one. Folds are shared out among them; one fit is one thread */
};
struct tg_trained; /* a model: opaque */
/* By one thread at a time, not always the caller's; each percent (1 to 90) once, so at most 90 calls. */
typedef void (*tg_progress)(void *ctx, unsigned percent, const char *message);

/*
 * NULL: err is one sentence for the caller, without paths ("The target churn has one value only."). The model is the one that was measured: trained on the training part alone.
 * *report, the caller's (NULL where there is no model), at most some 400 KB of text:
 *   task: "classification" | "regression". metrics: measure.h. measured_on: "held_back" | "training". training_rows, measured_rows.
 *   feature_importance {name: number}: the 256 largest, from the largest down; linear and logistic regression: |weight| times the column's standard deviation; trees: the gain of its splits, as a share of all. Of a
 *   column of texts: the sum over its texts.
 *   optimal_threshold (classification). coefficients {name: number} of the columns of numbers (at most 256 columns) and intercept (linear_regression).
 *   cv (cv_folds): {"folds", "roc_auc" | "rmse": [...], "mean", "std"}, over all rows.
 */
struct tg_trained *tg_train(const struct tg_frame *f, const struct tg_plan *plan, tg_progress progress, void *ctx, json_t **report, struct tg_err *err);
void tg_trained_free(struct tg_trained *m);
/* The model's file (.tgm, at most 64 MiB): magic and version, length, SHA-256, and a body of numbers and counted bytes that no library reads; trees too are plain nodes. In the oldest
 * version that can say it, so that gates of different versions can share what both know. Written beside and renamed, not synced. name: no path. */
bool tg_trained_save(const struct tg_trained *m, int folder, const char *name, struct tg_err *err);
struct tg_trained *tg_trained_load(int folder, const char *name, struct tg_err *err); /* NULL: refused; never a crash, whatever the bytes are */
bool tg_trained_classifies(const struct tg_trained *m); /* else it predicts a number */
json_t *tg_trained_about(const struct tg_trained *m); /* new reference, NULL: no memory: method, task, target, features [{name, type, binary?, values?}], classes [negative, positive] | null, threshold | null, rows, seed. values:
 * where they are short and few (1,000 of all columns together). binary: true, of numbers that were 0 and 1 only, unless the model was read back. */
/* out[rows]: the value (regression), the probability of the positive class (classification). False: err names the missing column or the row and column at fault. Thread-safe. */
bool tg_predict(const struct tg_trained *m, const struct tg_frame *f, double *out, struct tg_err *err);
