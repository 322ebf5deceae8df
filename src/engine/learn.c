/*
 * A training from the plan to the report (see learn.h): the target, the rows that train and those that measure, one fit that is kept and one a fold that is not, and what they are worth.
 * The fits share nothing but what they read, so they run on as many threads as the plan allows, each fit on one; which thread makes which is all that differs, so the result does not depend on how
 * many there are. BLAS is held to one thread for the same reason.
 */
#include "engine/measure.h"
#include "engine/model.h"
#include "engine/sample.h"
#include <cblas.h>
#include <math.h>
#include <pthread.h>
#include <stdlib.h>

#define FOLDS_MAX 10
#define IMPORTANCES_MAX 256 /* features in the report: those that count most */
#define UNITS 100u          /* of progress, a fit */

const char *const tg_method_names[TG_METHOD_COUNT] = { "linear_regression", "logistic_regression", "xgboost", "random_forest" };
const char *const tg_task_names[TG_TASK_COUNT] = { "", "classification", "regression" };

struct part {
	uint32_t *train, *held; /* held: measured on; NULL: on what trained */
	size_t ntrain, nheld;
};
struct training {
	const struct tg_plan *plan;
	const struct tg_frame *frame;
	bool classes;
	unsigned *columns, ncolumns;
	uint32_t rows;
	struct tg_target target;
	struct part model;
	uint8_t *fold_of; /* [rows]; NULL: no folds. A fold's rows are listed when it is its turn */
	unsigned nparts;  /* the model's, then the folds' */

	struct tg_fit kept;
	double fold[FOLDS_MAX];
	pthread_mutex_t lock; /* what follows */
	unsigned next, units, percent;
	bool failed;
	struct tg_err *err;
	tg_progress progress;
	void *ctx;
};
struct job {
	struct training *t;
	unsigned units; /* how much of a fit has been told */
};

static bool no_memory(struct tg_err *err)
{
	tg_err_set(err, "There is not enough memory.");
	return false;
}

static bool place_of(const struct tg_frame *f, const char *name, unsigned *at, struct tg_err *err)
{
	const struct tg_column *c = tg_frame_column(f, name);
	if (!c) {
		tg_err_set(err, "The column %s is missing.", tg_shown(name).text);
		return false;
	}
	*at = (unsigned)(c - f->columns);
	return true;
}

/* The target's place and the features' places. */
static bool choose_columns(struct training *t, unsigned *target, struct tg_err *err)
{
	const struct tg_frame *f = t->frame;
	const struct tg_plan *p = t->plan;
	if (!f->ncolumns || !f->rows) {
		tg_err_set(err, f->ncolumns ? "There are no rows to learn from." : "There are no columns to learn from.");
		return false;
	}
	if (f->rows > TG_LEARN_CELLS_MAX) {
		tg_err_set(err, "There are more than %u rows.", TG_LEARN_CELLS_MAX);
		return false;
	}
	t->rows = (uint32_t)f->rows;
	*target = f->ncolumns - 1;
	if (p->target && !tg_frame_column(f, p->target)) {
		tg_err_set(err, "The target %s is not a column.", tg_shown(p->target).text);
		return false;
	}
	if (p->target && !place_of(f, p->target, target, err))
		return false;
	bool *used = calloc(f->ncolumns, sizeof *used);
	t->columns = calloc(f->ncolumns, sizeof *t->columns);
	bool ok = used && t->columns;
	if (!ok)
		no_memory(err);
	for (unsigned i = 0; ok && p->features && i < p->nfeatures; i++) {
		unsigned at = 0;
		ok = place_of(f, p->features[i], &at, err);
		if (ok && (at == *target || used[at])) {
			tg_err_set(err, at == *target ? "The target %s cannot be a feature too." : "The feature %s is named twice.", tg_shown(p->features[i]).text);
			ok = false;
		}
		if (ok) {
			used[at] = true;
			t->columns[t->ncolumns++] = at;
		}
	}
	for (unsigned i = 0; ok && !p->features && i < f->ncolumns; i++)
		if (i != *target)
			t->columns[t->ncolumns++] = i;
	free(used);
	if (ok && !t->ncolumns) {
		tg_err_set(err, "There is no column to learn from.");
		ok = false;
	}
	return ok;
}

static bool choose_task(struct training *t, const struct tg_column *target, struct tg_err *err)
{
	const struct tg_plan *p = t->plan;
	bool linear = p->method == TG_METHOD_LINEAR, logistic = p->method == TG_METHOD_LOGISTIC;
	if ((unsigned)p->method >= TG_METHOD_COUNT || (unsigned)p->task >= TG_TASK_COUNT) {
		tg_err_set(err, (unsigned)p->method >= TG_METHOD_COUNT ? "There is no such method." : "There is no such task.");
		return false;
	}
	if (p->task == (linear ? TG_TASK_CLASSIFICATION : TG_TASK_REGRESSION) && (linear || logistic)) {
		tg_err_set(err, linear ? "A linear regression predicts numbers; it is no classification." : "A logistic regression is a classification; it predicts no numbers.");
		return false;
	}
	t->classes = logistic || p->task == TG_TASK_CLASSIFICATION || (!linear && p->task == TG_TASK_BY_TARGET && tg_target_is_classes(target, t->rows));
	return true;
}

/* Enough rows, of each class, for what the plan wants. */
static bool enough(const struct training *t, struct tg_err *err)
{
	const struct tg_plan *p = t->plan;
	if (!(p->test_size == 0 || (p->test_size >= 0.1 && p->test_size <= 0.5)) || p->cv_folds == 1 || p->cv_folds > FOLDS_MAX) {
		tg_err_set(err, p->cv_folds == 1 || p->cv_folds > FOLDS_MAX ? "cv_folds must be 0 or 2 to 10." : "test_size must be 0 or 0.1 to 0.5.");
		return false;
	}
	if (p->undersample && !t->classes) {
		tg_err_set(err, "undersample is about classes; a regression has none.");
		return false;
	}
	unsigned least = p->cv_folds > 2 ? p->cv_folds : 2;
	bool needed = p->cv_folds || p->test_size > 0;
	for (unsigned k = 0; needed && k < (t->classes ? 2u : 1u); k++) {
		uint64_t have = t->classes ? t->target.count[k] : t->rows;
		if (have >= least)
			continue;
		const char *what = p->cv_folds ? "folds" : "parts";
		if (t->classes)
			tg_err_set(err, "The smaller class of the target %s has %llu row%s, fewer than the %u %s.", tg_shown(t->target.name).text, (unsigned long long)have,
				have == 1 ? "" : "s", least, what);
		else
			tg_err_set(err, "There are %llu rows, fewer than the %u %s.", (unsigned long long)have, least, what); /* of one row the target has one value only */
		return false;
	}
	return true;
}

static void free_part(struct part *p)
{
	free(p->train);
	free(p->held);
	*p = (struct part){ 0 };
}

/* Row i is held back where group[i] is `held`; group NULL: none is. */
static bool make_part(const struct training *t, struct part *p, const uint8_t *group, uint8_t held, uint32_t stream)
{
	*p = (struct part){ .train = calloc(t->rows, sizeof *p->train), .held = group ? calloc(t->rows, sizeof *p->held) : NULL };
	if (!p->train || (group && !p->held))
		return false;
	for (uint32_t i = 0; i < t->rows; i++)
		if (group && group[i] == held)
			p->held[p->nheld++] = i;
		else
			p->train[p->ntrain++] = i;
	if (t->plan->undersample) {
		struct tg_rng rng = tg_seeded(t->plan->seed, stream);
		p->ntrain = tg_sample_even(t->target.class, p->train, p->ntrain, &rng);
	}
	return p->ntrain > 0;
}

static bool make_parts(struct training *t)
{
	const struct tg_plan *p = t->plan;
	uint8_t *held = p->test_size > 0 ? calloc(t->rows, sizeof *held) : NULL;
	bool ok = (held || !(p->test_size > 0)) && (!held || tg_sample_split(t->target.class, t->rows, p->test_size, p->seed, held));
	ok = ok && make_part(t, &t->model, held, 1, TG_STREAM_UNDERSAMPLE);
	free(held);
	t->nparts = 1 + p->cv_folds;
	if (ok && p->cv_folds)
		ok = (t->fold_of = calloc(t->rows, sizeof *t->fold_of)) && tg_sample_folds(t->target.class, t->rows, p->cv_folds, p->seed, t->fold_of);
	return ok;
}

/* 5 to 89 percent are the fits. Told under the lock, each percent once. */
static void told(struct job *j, unsigned units)
{
	struct training *t = j->t;
	pthread_mutex_lock(&t->lock);
	t->units += units - j->units;
	j->units = units;
	unsigned percent = 5 + 84 * t->units / (UNITS * t->nparts);
	if (t->progress && percent > t->percent) {
		t->percent = percent;
		t->progress(t->ctx, percent, "fitting");
	}
	pthread_mutex_unlock(&t->lock);
}

static void on_round(void *ctx, unsigned done, unsigned of)
{
	told(ctx, UNITS * done / of);
}

/* JSON has no infinity, and a report with one is none. Scores are finite (fit.c), but of numbers so are not their residuals, nor the ratios of these. */
static bool too_large(struct tg_err *err)
{
	tg_err_set(err, "The numbers are too large to measure the model with.");
	return false;
}

static double root_mean_square(const struct training *t, const struct part *p, const double *out)
{
	long double sum = 0;
	for (size_t i = 0; i < p->nheld; i++) {
		long double d = (long double)out[i] - t->target.y[p->held[i]];
		sum += d * d;
	}
	return (double)sqrtl(sum / (long double)p->nheld);
}

static uint8_t *classes_of(const struct training *t, const uint32_t *rows, size_t n)
{
	uint8_t *y = calloc(n, sizeof *y);
	for (size_t i = 0; y && i < n; i++)
		y[i] = t->target.class[rows[i]];
	return y;
}

static bool measure_fold(struct training *t, unsigned fold, const struct part *p, const struct tg_fit *fit, struct tg_err *err)
{
	double *out = calloc(p->nheld, sizeof *out);
	uint8_t *y = t->classes ? classes_of(t, p->held, p->nheld) : NULL;
	bool ok = out && (y || !t->classes);
	if (!ok)
		no_memory(err);
	ok = ok && tg_fit_score(fit, t->frame, p->held, p->nheld, out, err);
	if (ok) {
		t->fold[fold] = t->classes ? tg_auc(y, out, p->nheld) : root_mean_square(t, p, out);
		ok = isfinite(t->fold[fold]) || too_large(err);
	}
	free(out);
	free(y);
	return ok;
}

static bool fit_part(struct training *t, const struct part *p, struct tg_fit *fit, struct tg_err *err)
{
	struct job j = { t, 0 };
	struct tg_task task = { .method = t->plan->method, .classes = t->classes, .frame = t->frame, .columns = t->columns, .ncolumns = t->ncolumns, .y = t->target.y, .rows = p->train, .n = p->ntrain,
		.seed = t->plan->seed, .round = on_round, .ctx = &j };
	if (!tg_fit(fit, &task, err))
		return false;
	told(&j, UNITS);
	return true;
}

static bool try_fold(struct training *t, unsigned fold, struct tg_err *err)
{
	struct part p;
	struct tg_fit fit = { 0 };
	bool ok = make_part(t, &p, t->fold_of, (uint8_t)fold, TG_STREAM_FOLD_UNDERSAMPLE + fold) || no_memory(err);
	ok = ok && fit_part(t, &p, &fit, err) && measure_fold(t, fold, &p, &fit, err);
	tg_fit_free(&fit);
	free_part(&p);
	return ok;
}

/* A thread: parts, until there is none left or one has failed. */
static void *work(void *arg)
{
	struct training *t = arg;
	for (;;) {
		struct tg_err err = { "" };
		pthread_mutex_lock(&t->lock);
		unsigned index = t->next;
		bool go = !t->failed && index < t->nparts;
		t->next += go;
		pthread_mutex_unlock(&t->lock);
		if (!go)
			return NULL;
		if (index ? try_fold(t, index - 1, &err) : fit_part(t, &t->model, &t->kept, &err))
			continue;
		pthread_mutex_lock(&t->lock);
		if (!t->failed)
			*t->err = err;
		t->failed = true;
		pthread_mutex_unlock(&t->lock);
	}
}

/* As many at a time as the plan allows and memory for whole matrices lasts. */
static unsigned threads_for(const struct training *t)
{
	unsigned n = t->plan->threads ? t->plan->threads : 1;
	uint64_t width = 0;
	for (unsigned i = 0; i < t->ncolumns; i++) {
		const struct tg_column *c = &t->frame->columns[t->columns[i]];
		width += c->type == TG_COLUMN_TEXT ? c->nwords : 1;
	}
	uint64_t together = TG_LEARN_CELLS_MAX / (width * t->rows + 1);
	if (n > together)
		n = together ? (unsigned)together : 1;
	return n < t->nparts ? n : t->nparts;
}

static bool fit_all(struct training *t, struct tg_err *err)
{
	pthread_t thread[FOLDS_MAX];
	unsigned started = 0, want = threads_for(t);
	t->err = err;
	openblas_set_num_threads(1);
	while (started + 1 < want && pthread_create(&thread[started], NULL, work, t) == 0)
		started++;
	work(t);
	for (unsigned i = 0; i < started; i++)
		pthread_join(thread[i], NULL);
	return !t->failed;
}

struct rank {
	double value;
	unsigned feature;
};

static int by_value(const void *a, const void *b)
{
	const struct rank *x = a, *y = b;
	return x->value < y->value ? 1 : x->value > y->value ? -1 : x->feature < y->feature ? -1 : x->feature > y->feature;
}

static json_t *importance(const struct tg_fit *fit)
{
	unsigned n = fit->recipe.nfeatures;
	double *v = calloc(n, sizeof *v);
	struct rank *r = calloc(n, sizeof *r);
	json_t *o = json_object();
	bool ok = v && r && o;
	if (ok) {
		tg_fit_importance(fit, v);
		for (unsigned i = 0; i < n; i++)
			r[i] = (struct rank){ v[i], i };
		qsort(r, n, sizeof *r, by_value);
	}
	for (unsigned i = 0; ok && i < n && i < IMPORTANCES_MAX; i++)
		ok = json_object_set_new(o, fit->recipe.features[r[i].feature].name, json_real(r[i].value)) == 0;
	free(v);
	free(r);
	if (!ok) {
		json_decref(o);
		return NULL;
	}
	return o;
}

/* Of a linear regression, in the columns' own units. Features of texts have no single one and are left out, as is everything where there are too many. */
static bool add_coefficients(json_t *report, const struct tg_fit *fit)
{
	const struct tg_recipe *r = &fit->recipe;
	json_t *o = json_object();
	double at_zero = fit->intercept;
	for (uint32_t k = 0; k < r->width; k++)
		at_zero -= fit->weight[k] * r->shift[k];
	bool ok = o != NULL;
	for (unsigned f = 0; ok && f < r->nfeatures && r->nfeatures <= IMPORTANCES_MAX; f++)
		if (r->features[f].type == TG_COLUMN_NUMBER)
			ok = json_object_set_new(o, r->features[f].name, json_real(fit->weight[r->features[f].first])) == 0;
	ok = ok && json_object_set(report, "coefficients", o) == 0 && json_object_set_new(report, "intercept", json_real(at_zero)) == 0;
	json_decref(o);
	return ok;
}

static json_t *make_report(struct training *t, double *threshold, struct tg_err *err)
{
	const struct part *p = &t->model;
	const uint32_t *rows = p->held ? p->held : p->train;
	size_t n = p->held ? p->nheld : p->ntrain;
	double *out = calloc(n, sizeof *out), *y = calloc(n, sizeof *y);
	uint8_t *class = t->classes ? classes_of(t, rows, n) : NULL;
	json_t *report = json_object(), *metrics = NULL;
	bool ok = out && y && report && (class || !t->classes);
	if (!ok)
		no_memory(err);
	ok = ok && tg_fit_score(&t->kept, t->frame, rows, n, out, err);
	if (ok) {
		for (size_t i = 0; i < n; i++)
			y[i] = t->target.y[rows[i]];
		metrics = t->classes ? tg_measure_classes(class, out, n, threshold) : tg_measure_numbers(y, out, n);
		ok = json_object_set_new(report, "metrics", metrics) == 0 && json_object_set_new(report, "feature_importance", importance(&t->kept)) == 0 &&
			json_object_set_new(report, "measured_on", json_string(p->held ? "held_back" : "training")) == 0 &&
			json_object_set_new(report, "task", json_string(tg_task_names[t->classes ? TG_TASK_CLASSIFICATION : TG_TASK_REGRESSION])) == 0 &&
			json_object_set_new(report, "training_rows", json_integer((json_int_t)p->ntrain)) == 0 && json_object_set_new(report, "measured_rows", json_integer((json_int_t)n)) == 0;
		if (ok && t->classes)
			ok = json_object_set_new(report, "optimal_threshold", json_real(*threshold)) == 0;
		else if (ok && t->kept.weight)
			ok = add_coefficients(report, &t->kept);
		if (ok && t->plan->cv_folds)
			ok = json_object_set_new(report, "cv", tg_measure_folds(t->classes ? "roc_auc" : "rmse", t->fold, t->plan->cv_folds)) == 0;
		ok = ok || (t->classes ? no_memory(err) : too_large(err));
	}
	free(out);
	free(y);
	free(class);
	if (!ok) {
		json_decref(report);
		return NULL;
	}
	return report;
}

static struct tg_trained *keep(struct training *t, double threshold)
{
	struct tg_trained *m = calloc(1, sizeof *m);
	if (!m || !(m->target = strdup(t->target.name))) {
		free(m);
		return NULL;
	}
	m->fit = t->kept;
	t->kept = (struct tg_fit){ 0 };
	for (int i = 0; i < 2; i++) {
		m->label[i] = t->target.label[i];
		t->target.label[i] = (struct tg_label){ 0 };
	}
	m->threshold = threshold;
	m->rows = t->model.ntrain;
	m->seed = t->plan->seed;
	return m;
}

struct tg_trained *tg_train(const struct tg_frame *f, const struct tg_plan *plan, tg_progress progress, void *ctx, json_t **report, struct tg_err *err)
{
	struct training t = { .plan = plan, .frame = f, .lock = PTHREAD_MUTEX_INITIALIZER, .progress = progress, .ctx = ctx };
	struct tg_trained *m = NULL;
	unsigned target = 0;
	double threshold = 0;
	*report = NULL;
	err->text[0] = 0;
	bool ok = choose_columns(&t, &target, err) && choose_task(&t, &f->columns[target], err) &&
		  tg_target_learn(&t.target, plan->method, t.classes, &f->columns[target], f->rows, err) && enough(&t, err);
	if (ok && progress)
		progress(ctx, 1, "preparing");
	ok = ok && (make_parts(&t) || no_memory(err)) && fit_all(&t, err);
	if (ok && progress)
		progress(ctx, 90, "measuring");
	if (ok && (*report = make_report(&t, &threshold, err)) && !(m = keep(&t, threshold))) {
		json_decref(*report);
		*report = NULL;
		no_memory(err);
	}
	tg_fit_free(&t.kept);
	tg_target_free(&t.target);
	free_part(&t.model);
	free(t.fold_of);
	free(t.columns);
	return m;
}

bool tg_predict(const struct tg_trained *m, const struct tg_frame *f, double *out, struct tg_err *err)
{
	err->text[0] = 0;
	return tg_fit_score(&m->fit, f, NULL, f->rows, out, err);
}
