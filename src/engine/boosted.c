/*
 * Trees by XGBoost. xgboost: what its XGBClassifier or XGBRegressor does when nothing is set (100 rounds, learning rate 0.3, depth 6); random_forest: its XGBRFClassifier or XGBRFRegressor (one round of
 * 100 trees, each from 80 % of the rows, each split from 80 % of the columns). base_score is that of 1.7 for both, though it says little of numbers: later ones estimate it.
 * One thread: XGBoost's sums of gradients are divided among its threads, so their last bits, and with them now and then a split, depend on how many there are. The exact method looks at every split
 * there is; past HISTOGRAM_CELLS that takes long (30,000 rows of 26 columns: 3 s; 100,000: 28 s), and the method of histograms (256 steps a column) does as well in 2 s.
 * XGBoost only trains. Its model is read out as plain trees (trees.c), which are what is stored and what predicts: its readers of model files are never fed with one, and a prediction needs no
 * library.
 */
#include "engine/fit.h"
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <xgboost/c_api.h>

#define HISTOGRAM_CELLS 1000000 /* rows times columns */
#define ROUNDS 100
#define FOREST_TREES 100

struct setting {
	const char *name, *value;
};
static const struct setting common[] = { { "base_score", "0.5" }, { "nthread", "1" }, { "verbosity", "0" }, { "max_depth", "6" }, { "min_child_weight", "1" } };
static const struct setting objective[2] = { { "objective", "reg:squarederror" }, { "objective", "binary:logistic" } }; /* of numbers, of classes */
static const float base[2] = { 0.5f, 0 }; /* base_score, and what it is before it becomes a probability */
static const struct setting boosting[] = { { "learning_rate", "0.3" }, { "reg_lambda", "1" } };
static const struct setting forest[] = { { "learning_rate", "1" }, { "reg_lambda", "1e-5" }, { "subsample", "0.8" }, { "colsample_bynode", "0.8" }, { "num_parallel_tree", "100" } };
_Static_assert(FOREST_TREES == 100 && ROUNDS <= TG_TREES_MAX && FOREST_TREES <= TG_TREES_MAX, "as set above");

static bool set(BoosterHandle b, const struct setting *s, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (XGBoosterSetParam(b, s[i].name, s[i].value) != 0)
			return false;
	return true;
}

/* The matrix copies what it is given. */
static DMatrixHandle matrix(const struct tg_task *task, const struct tg_view *v, uint32_t width)
{
	size_t block = tg_view_block(width), n = task->n;
	float *all = calloc(n * width, sizeof *all), *label = calloc(n, sizeof *label);
	double *cells = malloc(block * width * sizeof *cells);
	DMatrixHandle d = NULL;
	if (all && label && cells) {
		for (size_t from = 0; from < n; from += block) {
			size_t take = n - from < block ? n - from : block;
			tg_view_rows(v, task->rows + from, from, take, cells);
			for (size_t i = 0; i < take * width; i++)
				all[from * width + i] = (float)cells[i];
			for (size_t i = 0; i < take; i++)
				label[from + i] = (float)task->y[task->rows[from + i]];
		}
		if (XGDMatrixCreateFromMat_omp(all, n, width, NAN, &d, 1) != 0)
			d = NULL;
		if (d && XGDMatrixSetFloatInfo(d, "label", label, n) != 0) {
			XGDMatrixFree(d);
			d = NULL;
		}
	}
	free(all);
	free(label);
	free(cells);
	return d;
}

bool tg_fit_boosted(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err)
{
	bool one = task->method == TG_METHOD_FOREST, ok;
	char seed[16];
	snprintf(seed, sizeof seed, "%u", task->seed & 0x7fffffffu);
	const struct setting own[] = { { "seed", seed }, { "tree_method", task->n * fit->recipe.width > HISTOGRAM_CELLS ? "hist" : "exact" } };
	DMatrixHandle d = matrix(task, v, fit->recipe.width);
	BoosterHandle b = NULL;
	ok = d && XGBoosterCreate(&d, 1, &b) == 0 && set(b, &objective[task->classes], 1) && set(b, common, sizeof common / sizeof common[0]) && set(b, own, sizeof own / sizeof own[0]) &&
		(one ? set(b, forest, sizeof forest / sizeof forest[0]) : set(b, boosting, sizeof boosting / sizeof boosting[0]));
	int rounds = one ? 1 : ROUNDS;
	for (int i = 0; ok && i < rounds; i++) {
		ok = XGBoosterUpdateOneIter(b, i, d) == 0;
		if (task->round)
			task->round(task->ctx, (unsigned)i + 1, (unsigned)rounds);
	}
	bst_ulong n = 0;
	const char *json = NULL; /* the booster's */
	ok = ok && XGBoosterSaveModelToBuffer(b, "{\"format\":\"json\"}", &n, &json) == 0 && tg_trees_read(&fit->trees, fit->gain, fit->recipe.width, json, n);
	fit->trees.base = base[task->classes];
	if (b)
		XGBoosterFree(b);
	if (d)
		XGDMatrixFree(d);
	if (!ok)
		tg_err_set(err, "The trees could not be trained.");
	return ok;
}
