/*
 * Least squares as scikit-learn's LinearRegression has it: columns and target are centred, and where the columns do not settle the weights (one of them follows from others, or there are more
 * of them than rows) the smallest weights win. The rows go through a QR factorisation a block at a time: what is kept of all rows so far is one triangle, R, with the target as its last column;
 * the next block is put below it and the two are made one triangle again. That is as sound as a QR of the whole (normal equations would square the condition number), needs no memory for the
 * whole, and stays in the processor's cache: 100,000 rows of 20 columns are some 40 ms.
 * The rank is found in columns of one length, so that an income in cents beside a share between 0 and 1 is not taken for dependence. Full rank: there is one solution. Else the smallest one is
 * sought in the columns as they are.
 */
#include "engine/fit.h"
#include <cblas.h>
#include <float.h>
#include <lapacke.h>
#include <math.h>
#include <stdlib.h>

#define WIDTH_MAX 4096 /* a triangle of 128 MiB, and the time grows with its third power */
#define RANK_LIMIT 1e-12

struct triangle {
	lapack_int n, rows, room; /* columns with the target, rows that are there, rows that have room */
	double *a, *tau;          /* a: column by column */
};

static bool reduce(struct triangle *t)
{
	if (LAPACKE_dgeqrf_work(LAPACK_COL_MAJOR, t->rows, t->n, t->a, t->room, t->tau, t->a + (size_t)t->room * (size_t)t->n, 64 * t->n) != 0)
		return false;
	t->rows = t->rows < t->n ? t->rows : t->n;
	for (lapack_int j = 0; j < t->n; j++)
		for (lapack_int i = j + 1; i < t->rows; i++)
			t->a[(size_t)j * (size_t)t->room + (size_t)i] = 0;
	return true;
}

static bool gather(struct triangle *t, const struct tg_task *task, const struct tg_view *v, uint32_t width, double mean, double *cells, size_t block)
{
	for (size_t from = 0; from < task->n; from += block) {
		size_t take = task->n - from < block ? task->n - from : block;
		tg_view_rows(v, task->rows + from, from, take, cells);
		for (size_t i = 0; i < take; i++) {
			if (t->rows == t->room && !reduce(t))
				return false;
			double *to = t->a + t->rows++;
			for (uint32_t k = 0; k < width; k++)
				to[(size_t)k * (size_t)t->room] = cells[i * width + k];
			to[(size_t)width * (size_t)t->room] = task->y[task->rows[from + i]] - mean;
		}
	}
	return t->rows <= t->n || reduce(t);
}

/* Solves a copy of the triangle, its columns divided by `by` (NULL: as they are); out[n - 1]. -1: LAPACK failed, else the rank. */
static lapack_int solve(const struct triangle *t, const double *by, double limit, double *out)
{
	lapack_int n = t->n - 1, m = t->rows, longer = m > n ? m : n, rank = 0;
	double *a = malloc((size_t)m * (size_t)n * sizeof *a), *b = calloc((size_t)longer, sizeof *b);
	lapack_int *pivot = calloc((size_t)n, sizeof *pivot);
	bool ok = a && b && pivot;
	for (lapack_int j = 0; ok && j < n; j++)
		for (lapack_int i = 0; i < m; i++)
			a[(size_t)j * (size_t)m + (size_t)i] = t->a[(size_t)j * (size_t)t->room + (size_t)i] / (by ? by[j] : 1);
	if (ok) {
		memcpy(b, t->a + (size_t)n * (size_t)t->room, (size_t)m * sizeof *b);
		ok = LAPACKE_dgelsy(LAPACK_COL_MAJOR, m, n, 1, a, m, b, longer, pivot, limit, &rank) == 0;
	}
	if (ok)
		for (lapack_int j = 0; j < n; j++)
			out[j] = b[j] / (by ? by[j] : 1);
	free(a);
	free(b);
	free(pivot);
	return ok ? rank : -1;
}

/* The lengths of the centred columns; what is only the rounding of a mean is no length: such a column becomes nothing, and its length 1. The number of those that are something. */
static lapack_int lengths(struct triangle *t, const struct tg_recipe *r, double *out)
{
	lapack_int count = 0;
	for (lapack_int j = 0; j < t->n - 1; j++) {
		double *column = t->a + (size_t)j * (size_t)t->room;
		out[j] = cblas_dnrm2(t->rows, column, 1);
		if (r->spread[j] > 0 && out[j] > 0) {
			count++;
			continue;
		}
		memset(column, 0, (size_t)t->rows * sizeof *column);
		out[j] = 1;
	}
	return count;
}

static double target_mean(const struct tg_task *task)
{
	long double sum = 0;
	for (size_t i = 0; i < task->n; i++)
		sum += task->y[task->rows[i]];
	return (double)(sum / (long double)task->n);
}

bool tg_fit_linear(struct tg_fit *fit, const struct tg_task *task, const struct tg_view *v, struct tg_err *err)
{
	uint32_t width = fit->recipe.width;
	if (width > WIDTH_MAX) {
		tg_err_set(err, "There are %u columns to learn from, each text of a column of texts being one; linear regression takes %d.", width, WIDTH_MAX);
		return false;
	}
	lapack_int n = (lapack_int)width + 1;
	struct triangle t = { .n = n, .room = n + (n < 512 ? 512 : n) };
	size_t block = tg_view_block(width), cells = (size_t)t.room * (size_t)n;
	double *row = malloc(block * width * sizeof *row), *length = calloc(width, sizeof *length);
	t.a = aligned_alloc(64, (((cells + 64 * (size_t)n) * sizeof *t.a) + 63) / 64 * 64); /* behind it: the factorisation's room to work */
	t.tau = calloc((size_t)n, sizeof *t.tau);
	bool ok = row && length && t.a && t.tau;
	if (!ok) {
		tg_err_set(err, "There is not enough memory.");
	} else {
		memset(t.a, 0, cells * sizeof *t.a);
		fit->intercept = target_mean(task);
		ok = gather(&t, task, v, width, fit->intercept, row, block);
		lapack_int independent = ok ? lengths(&t, &fit->recipe, length) : 0, rank = ok && independent ? solve(&t, length, RANK_LIMIT, fit->weight) : 0;
		if (ok && rank < independent && rank >= 0)
			rank = solve(&t, NULL, fmax(RANK_LIMIT / 10, (double)task->n * DBL_EPSILON), fit->weight);
		ok = ok && rank >= 0;
		if (!ok)
			tg_err_set(err, "The regression could not be computed.");
	}
	free(row);
	free(length);
	free(t.a);
	free(t.tau);
	return ok;
}
