/* What all methods share (see fit.h): a recipe first, then the method's own part, and the scores, a block of rows at a time. */
#include "engine/fit.h"
#include <math.h>
#include <stdlib.h>

static bool is_trees(enum tg_method m)
{
	return m == TG_METHOD_XGBOOST || m == TG_METHOD_FOREST;
}

void tg_fit_free(struct tg_fit *fit)
{
	tg_recipe_free(&fit->recipe);
	tg_trees_free(&fit->trees);
	free(fit->weight);
	free(fit->gain);
	*fit = (struct tg_fit){ 0 };
}

bool tg_fit(struct tg_fit *fit, const struct tg_task *task, struct tg_err *err)
{
	*fit = (struct tg_fit){ .method = task->method, .classes = task->classes };
	err->text[0] = 0;
	if (!tg_recipe_learn(&fit->recipe, task->method, task->frame, task->columns, task->ncolumns, task->rows, task->n, err))
		return false;
	struct tg_view *v = tg_view_open(&fit->recipe, task->frame, err);
	bool ok = v != NULL;
	double **own = is_trees(task->method) ? &fit->gain : &fit->weight;
	if (ok && !(*own = calloc(fit->recipe.width, sizeof **own))) {
		tg_err_set(err, "There is not enough memory.");
		ok = false;
	}
	if (ok && task->method == TG_METHOD_LINEAR)
		ok = tg_fit_linear(fit, task, v, err);
	else if (ok && task->method == TG_METHOD_LOGISTIC)
		ok = tg_fit_logistic(fit, task, v, err);
	else if (ok)
		ok = tg_fit_boosted(fit, task, v, err);
	tg_view_close(v);
	for (uint32_t k = 0; ok && fit->weight && k < fit->recipe.width; k++) {
		if (!(fit->recipe.spread[k] > 0))
			fit->weight[k] = 0; /* whatever comes later, nothing was learnt of it */
		if (!isfinite(fit->weight[k]) || !isfinite(fit->intercept)) {
			tg_err_set(err, "The numbers are too large or too small to be computed with.");
			ok = false;
		}
	}
	if (!ok)
		tg_fit_free(fit);
	return ok;
}

static double score(const struct tg_fit *fit, const double *cells)
{
	if (is_trees(fit->method)) {
		float sum = tg_trees_sum(&fit->trees, cells);
		return fit->classes ? tg_trees_probability(sum) : (double)sum;
	}
	double sum = fit->intercept;
	for (uint32_t k = 0; k < fit->recipe.width; k++)
		sum += fit->weight[k] * cells[k];
	return fit->classes ? 1 / (1 + exp(-sum)) : sum;
}

bool tg_fit_score(const struct tg_fit *fit, const struct tg_frame *f, const uint32_t *rows, size_t n, double *out, struct tg_err *err)
{
	uint32_t width = fit->recipe.width;
	size_t block = tg_view_block(width);
	struct tg_view *v = tg_view_open(&fit->recipe, f, err);
	double *cells = v ? malloc(block * width * sizeof *cells) : NULL;
	bool ok = cells != NULL;
	if (v && !cells)
		tg_err_set(err, "There is not enough memory.");
	for (size_t from = 0; ok && from < n; from += block) {
		size_t take = n - from < block ? n - from : block;
		tg_view_rows(v, rows ? rows + from : NULL, from, take, cells);
		for (size_t i = 0; ok && i < take; i++) {
			double s = score(fit, cells + i * width);
			ok = isfinite(s);
			if (!ok)
				tg_err_set(err, "Row %zu: its numbers are too large to be computed with.", (rows ? rows[from + i] : from + i) + 1);
			out[from + i] = s;
		}
	}
	free(cells);
	tg_view_close(v);
	return ok;
}

void tg_fit_importance(const struct tg_fit *fit, double *out)
{
	const struct tg_recipe *r = &fit->recipe;
	double sum = 0;
	for (unsigned f = 0; f < r->nfeatures; f++) {
		const struct tg_feature *x = &r->features[f];
		out[f] = 0;
		for (uint32_t k = x->first; k < x->first + x->width; k++)
			out[f] += fit->gain ? fit->gain[k] : fabs(fit->weight[k]) * r->spread[k] / r->scale[k];
		sum += out[f];
	}
	for (unsigned f = 0; fit->gain && sum > 0 && f < r->nfeatures; f++)
		out[f] /= sum;
}
