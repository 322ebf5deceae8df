#pragma once
/*
 * What was learnt from one set of rows: the recipe, and the weights or the trees. A training makes several (one that is kept, one a fold), each by one thread and each alone: no method here starts
 * threads of its own, since sums that are divided among threads depend on how many there are.
 */
#include "engine/recipe.h"

#define TG_TREES_MAX 1024
#define TG_NODES_MAX (1u << 20)

/* A tree's node; the children come after it. left 0: a leaf, value is its share of the sum. Else a cell below value goes left, a missing one where missing_left says. */
struct tg_node {
	uint32_t left, right;
	uint32_t column : 31, missing_left : 1;
	float value;
};
struct tg_trees {
	float base; /* what the sum begins with */
	uint32_t ntrees, nnodes;
	uint32_t *root; /* [ntrees] places in node */
	struct tg_node *node;
};
struct tg_fit {
	enum tg_method method;
	bool classes;
	struct tg_recipe recipe;
	/* linear, logistic: */
	double intercept, *weight; /* [recipe.width], of centred and scaled cells */
	/* xgboost, random_forest: */
	struct tg_trees trees;
	double *gain;              /* [recipe.width] what each column's splits gained in training; NULL in a model that was read back */
};
/* What to fit: the target y of every row of the frame (classes: 0 and 1), the rows to learn from, ascending. */
struct tg_task {
	enum tg_method method;
	bool classes;
	const struct tg_frame *frame;
	const unsigned *columns;
	unsigned ncolumns;
	const double *y;
	const uint32_t *rows;
	size_t n;
	uint32_t seed;
	void (*round)(void *ctx, unsigned done, unsigned of); /* trees: after every round; may be NULL */
	void *ctx;
};
/* False: err is a sentence; *fit is empty. The caller's to free else. */
bool tg_fit(struct tg_fit *fit, const struct tg_task *task, struct tg_err *err);
void tg_fit_free(struct tg_fit *fit);
/* out[n]: the value, the probability of class 1; rows NULL: rows 0 to n - 1. False: err names what is missing or at fault. */
bool tg_fit_score(const struct tg_fit *fit, const struct tg_frame *f, const uint32_t *rows, size_t n, double *out, struct tg_err *err);
/* out[recipe.nfeatures]: |weight| times the column's standard deviation, or the gain, added up over the columns of a feature; trees: as a share of all, so that they add up to 1. */
void tg_fit_importance(const struct tg_fit *fit, double *out);

/* The parts of tg_fit, each in its file: the recipe is there. */
bool tg_fit_linear(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err);
bool tg_fit_logistic(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err);
bool tg_fit_boosted(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err);
/* XGBoost's own description of its model (JSON) as trees, and the gain of their splits. False: it is not as expected. */
bool tg_trees_read(struct tg_trees *t, double *gain, uint32_t width, const char *json, size_t n);
/* Whether every place in it is within it and every walk ends. */
bool tg_trees_sound(const struct tg_trees *t, uint32_t width);
/* The sum for a row of cells. */
float tg_trees_sum(const struct tg_trees *t, const double *cells);
/* What XGBoost makes a probability of such a sum by. */
double tg_trees_probability(float sum);
void tg_trees_free(struct tg_trees *t);
