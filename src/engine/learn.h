#pragma once
/*
 * Learning: a frame and a plan make a model; a model and a frame make numbers. Repeatable: the same frame, plan and seed give the same model, bit for bit, whatever the number of threads.
 */
#include "engine/frame.h"
#include <jansson.h>

enum tg_method { TG_METHOD_LINEAR, TG_METHOD_LOGISTIC, TG_METHOD_XGBOOST, TG_METHOD_FOREST, TG_METHOD_COUNT };
extern const char *const tg_method_names[TG_METHOD_COUNT]; /* "linear_regression", "logistic_regression", "xgboost", "random_forest" */

struct tg_plan {
	enum tg_method method;
	const char *target;          /* NULL: the last column */
	const char *const *features; /* NULL: all others */
	unsigned nfeatures;
	uint32_t seed;
	/* How good it is: a share of the rows is held back and the model is measured on those. 0: measured on what it was trained with (and said so). */
	double test_size;            /* 0, or 0.1 to 0.5 */
	unsigned cv_folds;           /* 0, or 2 to 10: k-fold as well */
	bool undersample;            /* the larger class is thinned to the smaller one, in the training part only */
	unsigned threads;            /* 0: one */
};
struct tg_trained; /* a model: opaque */
typedef void (*tg_progress)(void *ctx, unsigned percent, const char *message);

/* NULL: err is one sentence for the caller, without paths ("The target churn has one value only."). report: the result's members (metrics, feature_importance, optimal_threshold, ...), the caller's. */
struct tg_trained *tg_train(const struct tg_frame *f, const struct tg_plan *plan, tg_progress progress, void *ctx, json_t **report, struct tg_err *err);
void tg_trained_free(struct tg_trained *m);
/* The model's file (.tgm): our own container with a magic, a version, sizes and a checksum of every part; XGBoost's part is its own UBJ/JSON. */
bool tg_trained_save(const struct tg_trained *m, int folder, const char *name, struct tg_err *err);
struct tg_trained *tg_trained_load(int folder, const char *name, struct tg_err *err); /* NULL: refused; never a crash, whatever the bytes are */
enum tg_method tg_trained_method(const struct tg_trained *m);
json_t *tg_trained_about(const struct tg_trained *m); /* new reference: method, target, features [{name, type, values?}], classes, threshold */
/* out[rows]: the value (regression), the probability of the positive class (classification). False: err names the missing column or the row and column at fault. */
bool tg_predict(const struct tg_trained *m, const struct tg_frame *f, double *out, struct tg_err *err);
