/*
 * Measures of predictions (see measure.h). Everything about classes comes from one pass over the scores from the largest down: at each different score the counts of the two classes that are not
 * below it. Counts are whole numbers until the last division, so the area is exact however many rows there are.
 */
#include "engine/measure.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct scored {
	double p;
	uint8_t y;
};
struct point {
	double threshold;
	uint64_t tp, fp; /* rows of class 1 and of class 0 whose score is not below it */
};
struct curve {
	struct point *v;
	size_t n;
	uint64_t positives, negatives;
};

static int from_the_largest(const void *a, const void *b)
{
	double x = ((const struct scored *)a)->p, y = ((const struct scored *)b)->p;
	return x < y ? 1 : x > y ? -1 : 0;
}

/* All points, the first one with a threshold that nothing reaches. */
static bool trace(struct curve *c, const uint8_t *y, const double *p, size_t n)
{
	*c = (struct curve){ .v = calloc(n + 1, sizeof *c->v) };
	struct scored *s = calloc(n ? n : 1, sizeof *s);
	if (c->v && s) {
		for (size_t i = 0; i < n; i++)
			s[i] = (struct scored){ p[i], y[i] };
		qsort(s, n, sizeof *s, from_the_largest);
		c->v[c->n++] = (struct point){ n ? s[0].p + 1 : 1, 0, 0 };
		for (size_t i = 0; i < n; i++) {
			c->positives += s[i].y;
			c->negatives += !s[i].y;
			if (i + 1 == n || s[i + 1].p < s[i].p)
				c->v[c->n++] = (struct point){ s[i].p, c->positives, c->negatives };
		}
	}
	free(s);
	if (!c->positives || !c->negatives) {
		free(c->v);
		c->v = NULL;
	}
	return c->v != NULL;
}

static double area(const struct curve *c)
{
	double twice = 0;
	for (size_t i = 1; i < c->n; i++)
		twice += (double)(c->v[i].fp - c->v[i - 1].fp) * (double)(c->v[i].tp + c->v[i - 1].tp);
	return twice / 2 / ((double)c->positives * (double)c->negatives);
}

double tg_auc(const uint8_t *y, const double *p, size_t n)
{
	struct curve c;
	double a = trace(&c, y, p, n) ? area(&c) : NAN;
	free(c.v);
	return a;
}

/* Leaves out what the neighbours say as well: as many of each class before it as behind it. */
static void straighten(struct curve *c)
{
	size_t kept = 1;
	for (size_t i = 1; i < c->n; i++) {
		const struct point *a = &c->v[i - 1], *b = &c->v[i], *d = &c->v[i + 1];
		if (i > 1 && i + 1 < c->n && d->tp - b->tp == b->tp - a->tp && d->fp - b->fp == b->fp - a->fp)
			continue;
		c->v[kept++] = *b;
	}
	c->n = kept;
}

/* Youden's J times both classes' sizes: whole, so that equals are equal and the first of them is taken (rows are below 2^31). */
static int64_t youden(const struct curve *c, const struct point *p)
{
	return (int64_t)(p->tp * c->negatives) - (int64_t)(p->fp * c->positives);
}

static double ratio(double a, double b)
{
	return b > 0 ? a / b : 0;
}

static bool add(json_t *list, double v)
{
	return json_array_append_new(list, json_real(v)) == 0;
}

/* best: the point that has to be among them. */
static json_t *roc(const struct curve *c, size_t best)
{
	json_t *fpr = json_array(), *tpr = json_array(), *thresholds = json_array();
	size_t n = c->n < TG_ROC_POINTS_MAX ? c->n : TG_ROC_POINTS_MAX;
	bool ok = fpr && tpr && thresholds, had = false;
	for (size_t i = 0; ok && i < n; i++) {
		size_t at = n == c->n ? i : i * (c->n - 1) / (n - 1), next = n == c->n ? i + 1 : (i + 1) * (c->n - 1) / (n - 1);
		/* In the place of the one before it, but never of the first. */
		if (!had && i && best && best < next) {
			at = best;
			had = true;
		}
		const struct point *p = &c->v[at];
		ok = add(fpr, (double)p->fp / (double)c->negatives) && add(tpr, (double)p->tp / (double)c->positives) && add(thresholds, p->threshold);
	}
	json_t *o = ok ? json_pack("{sOsOsO}", "fpr", fpr, "tpr", tpr, "thresholds", thresholds) : NULL;
	json_decref(fpr);
	json_decref(tpr);
	json_decref(thresholds);
	return o;
}

static json_t *calibration(const uint8_t *y, const double *p, size_t n)
{
	double sum[TG_CALIBRATION_BINS] = { 0 };
	uint64_t count[TG_CALIBRATION_BINS] = { 0 }, positive[TG_CALIBRATION_BINS] = { 0 };
	for (size_t i = 0; i < n; i++) {
		/* A score on an edge belongs to the bin below it; the edges are those of k / 10 and not of a division of the score. */
		size_t b = 0;
		while (b + 1 < TG_CALIBRATION_BINS && p[i] > (double)(b + 1) / TG_CALIBRATION_BINS)
			b++;
		sum[b] += p[i];
		count[b]++;
		positive[b] += y[i];
	}
	json_t *t = json_array(), *q = json_array();
	bool ok = t && q;
	for (size_t b = 0; ok && b < TG_CALIBRATION_BINS; b++)
		ok = !count[b] || (add(t, (double)positive[b] / (double)count[b]) && add(q, sum[b] / (double)count[b]));
	json_t *o = ok ? json_pack("{sOsOsi}", "prob_true", t, "prob_pred", q, "n_bins", TG_CALIBRATION_BINS) : NULL;
	json_decref(t);
	json_decref(q);
	return o;
}

json_t *tg_measure_classes(const uint8_t *y, const double *p, size_t n, double *threshold)
{
	struct curve c;
	if (!trace(&c, y, p, n))
		return NULL;
	double auc = area(&c);
	int64_t above = 0;
	straighten(&c);
	size_t best = 0;
	for (size_t i = 1; i < c.n; i++)
		if (youden(&c, &c.v[i]) > above) {
			above = youden(&c, &c.v[i]);
			best = i;
		}
	*threshold = best ? c.v[best].threshold : 0.5;
	uint64_t tp = 0, fp = 0;
	for (size_t i = 0; i < n; i++)
		if (p[i] >= *threshold)
			*(y[i] ? &tp : &fp) += 1;
	uint64_t fn = c.positives - tp, tn = c.negatives - fp;
	double precision = ratio((double)tp, (double)(tp + fp)), recall = ratio((double)tp, (double)c.positives), f1 = ratio(2 * (double)tp, (double)(2 * tp + fp + fn));
	double specificity = ratio((double)tn, (double)c.negatives);
	json_int_t m[4] = { (json_int_t)tn, (json_int_t)fp, (json_int_t)fn, (json_int_t)tp };
	json_t *o = json_pack("{sf sf sf sf sf s{sf sf sf sf sf sf} so s{s[[II][II]] sI sI sI sI} so}", "accuracy", (double)(tp + tn) / (double)n, "precision", precision, "recall", recall, "f1_score",
		f1, "roc_auc", auc, "threshold_analysis", "threshold", *threshold, "sensitivity", recall, "specificity", specificity, "youden_j", recall - (1 - specificity), "precision", precision,
		"f1_score", f1, "roc_curve", roc(&c, best), "confusion_matrix", "matrix", m[0], m[1], m[2], m[3], "true_negatives", m[0], "false_positives", m[1], "false_negatives", m[2], "true_positives",
		m[3], "calibration_curve", calibration(y, p, n));
	free(c.v);
	return o;
}

json_t *tg_measure_numbers(const double *y, const double *p, size_t n)
{
	long double sum = 0, squares = 0, absolute = 0, around = 0;
	for (size_t i = 0; i < n; i++) {
		long double d = (long double)p[i] - y[i];
		squares += d * d;
		absolute += d < 0 ? -d : d;
		sum += y[i];
	}
	long double mean = n ? sum / (long double)n : 0;
	for (size_t i = 0; i < n; i++)
		around += ((long double)y[i] - mean) * ((long double)y[i] - mean);
	return json_pack("{sf sf so}", "rmse", n ? (double)sqrtl(squares / (long double)n) : 0, "mae", n ? (double)(absolute / (long double)n) : 0, "r2",
		around > 0 ? json_real((double)(1 - squares / around)) : json_null());
}

json_t *tg_measure_folds(const char *name, const double *v, unsigned n)
{
	double mean = 0, squares = 0;
	json_t *list = json_array();
	bool ok = list != NULL;
	for (unsigned i = 0; i < n; i++) {
		mean += v[i] / n;
		ok = ok && add(list, v[i]);
	}
	for (unsigned i = 0; i < n; i++)
		squares += (v[i] - mean) * (v[i] - mean);
	if (!ok) {
		json_decref(list);
		return NULL;
	}
	return json_pack("{si so sf sf}", "folds", (int)n, name, list, "mean", mean, "std", sqrt(squares / n));
}
