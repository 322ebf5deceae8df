/*
 * Logistic regression by liblinear, as scikit-learn's LogisticRegression(solver="liblinear") calls it: L2 penalty, C = 1, the intercept as one more column of ones (and penalised like the others),
 * tolerance 1e-4, the primal problem by a trust region method. That solver draws no random numbers, so it is repeatable as it is. Columns have mean 0 and standard deviation 1 (recipe.h): the
 * penalty is the same for an income in cents and a share between 0 and 1.
 */
#include "engine/fit.h"
#include <limits.h>
#include <linear.h>
#include <pthread.h>
#include <stdlib.h>

static pthread_once_t silenced = PTHREAD_ONCE_INIT;

static void silent(const char *text)
{
	(void)text;
}

static void silence(void)
{
	set_print_string_function(silent);
}

static void fill(struct feature_node *nodes, struct feature_node **x, double *y, const struct tg_task *task, const struct tg_view *v, uint32_t width, double *cells, size_t block)
{
	for (size_t from = 0; from < task->n; from += block) {
		size_t take = task->n - from < block ? task->n - from : block;
		tg_view_rows(v, task->rows + from, from, take, cells);
		for (size_t i = 0; i < take; i++) {
			struct feature_node *to = nodes + (from + i) * ((size_t)width + 2);
			x[from + i] = to;
			y[from + i] = task->y[task->rows[from + i]] > 0 ? 1 : -1;
			for (uint32_t k = 0; k < width; k++)
				to[k] = (struct feature_node){ (int)k + 1, cells[i * width + k] };
			to[width] = (struct feature_node){ (int)width + 1, 1 };
			to[width + 1] = (struct feature_node){ -1, 0 };
		}
	}
}

bool tg_fit_logistic(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err)
{
	uint32_t width = fit->recipe.width;
	size_t block = tg_view_block(width), n = task->n;
	struct feature_node *nodes = calloc(n * ((size_t)width + 2), sizeof *nodes), **x = calloc(n, sizeof *x);
	double *y = calloc(n, sizeof *y), *cells = malloc(block * width * sizeof *cells);
	struct model *m = NULL;
	if (n <= INT_MAX && nodes && x && y && cells) {
		fill(nodes, x, y, task, v, width, cells, block);
		struct problem problem = { .l = (int)n, .n = (int)width + 1, .y = y, .x = x, .bias = 1 };
		struct parameter how = { .solver_type = L2R_LR, .eps = 1e-4, .C = 1, .p = 0.1 };
		pthread_once(&silenced, silence);
		m = train(&problem, &how);
	}
	bool ok = m && m->nr_class == 2 && m->nr_feature == (int)width;
	if (ok) {
		double sign = m->label[0] == 1 ? 1 : -1;
		for (uint32_t k = 0; k < width; k++)
			fit->weight[k] = sign * m->w[k];
		fit->intercept = sign * m->w[width];
	} else {
		tg_err_set(err, m ? "The regression could not be computed." : "There is not enough memory.");
	}
	if (m)
		free_and_destroy_model(&m);
	free(nodes);
	free(x);
	free(y);
	free(cells);
	return ok;
}
