/*
 * Recipes and views (see recipe.h). Means and deviations are taken in two passes and in long double, so that a column of one value is known as one. A frame is never turned into a matrix
 * as a whole here: whoever fits asks for blocks of rows and lays them down as its library wants them.
 */
#include "engine/recipe.h"
#include "base/utf8.h"
#include <float.h>
#include <math.h>
#include <stdlib.h>

#define NO_PLACE UINT32_MAX
#define NOT_CODED UINT32_MAX        /* in `word`: the column is what its name says */
#define NO_SUCH_WORD (UINT32_MAX - 1) /* a text that the frame does not have */
_Static_assert(TG_FRAME_WORDS_MAX < NO_SUCH_WORD, "no word may have that place");

struct tg_view {
	const struct tg_recipe *recipe;
	const struct tg_column **columns; /* [nfeatures]; a column of nulls only is NULL */
	uint32_t **places;                /* [nfeatures] TEXT: from the frame's words to the feature's values */
	uint32_t *word;                   /* [nfeatures] a NUMBER that was told apart from a column of texts before training: the word that is its 1 */
};

struct tg_shown tg_shown(const char *name)
{
	struct tg_shown s = { "" };
	size_t n = strlen(name), at = 0, step;
	while (at < n && (step = tg_utf8_len(name + at, n - at)) > 0 && at + step <= 80)
		at += step;
	memcpy(s.text, name, at);
	if (at < n)
		memcpy(s.text + at, "...", 4);
	return s;
}

void tg_recipe_free(struct tg_recipe *r)
{
	for (unsigned i = 0; r->features && i < r->nfeatures; i++) {
		struct tg_feature *f = &r->features[i];
		for (uint32_t k = 0; f->values && k < f->width; k++)
			free((char *)f->values[k].p);
		free(f->values);
		free(f->name);
	}
	free(r->features);
	free(r->fill);
	free(r->shift);
	free(r->scale);
	free(r->spread);
	*r = (struct tg_recipe){ 0 };
}

static int by_bytes(const void *a, const void *b)
{
	const struct tg_slice *x = a, *y = b;
	size_t n = x->n < y->n ? x->n : y->n;
	int d = n ? memcmp(x->p, y->p, n) : 0;
	return d ? d : x->n < y->n ? -1 : x->n > y->n;
}

/* The texts that occur in the rows, sorted, as copies. */
static bool learn_values(struct tg_feature *f, const struct tg_column *c, const uint32_t *rows, size_t n, size_t *bytes, struct tg_err *err)
{
	bool *used = calloc(c->nwords ? c->nwords : 1, sizeof *used);
	uint32_t count = 0;
	for (size_t i = 0; used && i < n; i++) {
		uint32_t w = c->word[rows[i]];
		if (w != TG_FRAME_NO_WORD && !used[w]) {
			used[w] = true;
			if (++count > TG_LEARN_WIDTH_MAX)
				break;
		}
	}
	if (count > TG_LEARN_WIDTH_MAX) {
		tg_err_set(err, "The column %s has more than %d different texts.", tg_shown(c->name).text, TG_LEARN_WIDTH_MAX);
		free(used);
		return false;
	}
	if (used)
		f->values = calloc(count ? count : 1, sizeof *f->values);
	if (!f->values) {
		free(used);
		tg_err_set(err, "There is not enough memory.");
		return false;
	}
	for (uint32_t w = 0; w < c->nwords && f->width < count; w++) {
		if (!used[w])
			continue;
		struct tg_slice s = c->words[w];
		*bytes += s.n;
		char *copy = *bytes <= TG_LEARN_VALUE_BYTES_MAX ? malloc(s.n + 1) : NULL;
		if (!copy) {
			if (*bytes > TG_LEARN_VALUE_BYTES_MAX)
				tg_err_set(err, "The texts of the column %s are too long to be categories: all texts together may have %u bytes.", tg_shown(c->name).text,
					TG_LEARN_VALUE_BYTES_MAX);
			else
				tg_err_set(err, "There is not enough memory.");
			free(used);
			return false;
		}
		if (s.n)
			memcpy(copy, s.p, s.n);
		copy[s.n] = 0;
		f->values[f->width++] = (struct tg_slice){ copy, s.n };
	}
	free(used);
	qsort(f->values, f->width, sizeof *f->values, by_bytes);
	f->type = f->width ? TG_COLUMN_TEXT : TG_COLUMN_EMPTY;
	return true;
}

struct moments {
	double mean, deviation;
	size_t values; /* that are no nulls */
};

/* null_is_zero: a null counts as 0; else it counts as the mean of the others, which adds nothing to the deviation. */
static struct moments measure(const double *x, const uint32_t *rows, size_t n, bool null_is_zero)
{
	struct moments m = { 0 };
	long double sum = 0, squares = 0;
	for (size_t i = 0; i < n; i++)
		if (!isnan(x[rows[i]])) {
			sum += x[rows[i]];
			m.values++;
		}
	size_t of = null_is_zero ? n : m.values;
	m.mean = of ? (double)(sum / (long double)of) : 0;
	for (size_t i = 0; i < n; i++) {
		double v = x[rows[i]];
		long double d = isnan(v) ? null_is_zero ? -(long double)m.mean : 0 : (long double)v - m.mean;
		squares += d * d;
	}
	m.deviation = n ? (double)sqrtl(squares / (long double)n) : 0;
	return m;
}

/* A deviation that is nothing but rounding: the mean of n equal numbers is not always one of them. */
static bool constant(double mean, double deviation, size_t n)
{
	return !(deviation > fabs(mean) * (DBL_EPSILON + (double)n * (double)LDBL_EPSILON));
}

static bool learn_number(struct tg_recipe *r, struct tg_feature *f, enum tg_method method, const struct tg_column *c, const uint32_t *rows, size_t n, struct tg_err *err)
{
	bool trees = method == TG_METHOD_XGBOOST || method == TG_METHOD_FOREST;
	uint32_t k = f->first;
	for (size_t i = 0; trees && i < n; i++)
		if (fabs(c->number[rows[i]]) > FLT_MAX) {
			tg_err_set(err, "Row %u: the number in the column %s is too large.", rows[i] + 1, tg_shown(c->name).text);
			return false;
		}
	bool binary = true;
	for (size_t i = 0; binary && i < n; i++) {
		double x = c->number[rows[i]];
		binary = isnan(x) || x == 0 || x == 1;
	}
	f->binary = binary;
	struct moments m = measure(c->number, rows, n, method == TG_METHOD_LINEAR);
	r->spread[k] = constant(m.mean, m.deviation, n) ? 0 : m.deviation;
	if (!trees && !(isfinite(m.mean) && isfinite(m.deviation) && m.deviation < 1e150)) {
		tg_err_set(err, "The numbers in the column %s are too large.", tg_shown(c->name).text);
		return false;
	}
	r->fill[k] = trees ? NAN : method == TG_METHOD_LOGISTIC ? m.mean : 0;
	r->shift[k] = trees ? 0 : m.mean;
	r->scale[k] = method == TG_METHOD_LOGISTIC && r->spread[k] > 0 ? r->spread[k] : 1;
	return true;
}

static bool learn_text(struct tg_recipe *r, const struct tg_feature *f, enum tg_method method, const struct tg_column *c, const uint32_t *rows, size_t n)
{
	uint32_t *count = calloc(c->nwords ? c->nwords : 1, sizeof *count);
	if (!count)
		return false;
	for (size_t i = 0; i < n; i++)
		if (c->word[rows[i]] != TG_FRAME_NO_WORD)
			count[c->word[rows[i]]]++;
	for (uint32_t w = 0; w < c->nwords; w++) {
		if (!count[w])
			continue;
		const struct tg_slice *at = bsearch(&c->words[w], f->values, f->width, sizeof *f->values, by_bytes);
		uint32_t k = f->first + (uint32_t)(at - f->values);
		double share = (double)count[w] / (double)n;
		bool centred = method == TG_METHOD_LINEAR || method == TG_METHOD_LOGISTIC;
		r->spread[k] = sqrt(share * (1 - share));
		r->fill[k] = 0;
		r->shift[k] = centred ? share : 0;
		r->scale[k] = method == TG_METHOD_LOGISTIC && r->spread[k] > 0 ? r->spread[k] : 1;
	}
	free(count);
	return true;
}

/* Which columns a matrix has. */
static bool lay_out(struct tg_recipe *r, const struct tg_frame *f, const unsigned *columns, const uint32_t *rows, size_t n, struct tg_err *err)
{
	size_t bytes = 0;
	for (unsigned i = 0; i < r->nfeatures; i++) {
		const struct tg_column *c = &f->columns[columns[i]];
		struct tg_feature *x = &r->features[i];
		x->type = c->type;
		x->first = r->width;
		if (!(x->name = strdup(c->name))) {
			tg_err_set(err, "There is not enough memory.");
			return false;
		}
		if (c->type == TG_COLUMN_TEXT && !learn_values(x, c, rows, n, &bytes, err))
			return false;
		if (c->type == TG_COLUMN_NUMBER)
			x->width = 1;
		r->width += x->width;
		if (r->width > TG_LEARN_WIDTH_MAX) {
			tg_err_set(err, "There are more than %d columns to learn from, each text of a column of texts being one.", TG_LEARN_WIDTH_MAX);
			return false;
		}
	}
	if (!r->width) {
		tg_err_set(err, r->nfeatures ? "No column to learn from has a value." : "There is no column to learn from.");
		return false;
	}
	/* Two more: what a method keeps beside a row. */
	if (n > TG_LEARN_CELLS_MAX / (r->width + 2)) {
		tg_err_set(err, "There are %zu rows of %u columns to learn from, each text of a column of texts being one; of so many columns at most %u rows.", n, r->width,
			TG_LEARN_CELLS_MAX / (r->width + 2));
		return false;
	}
	return true;
}

bool tg_recipe_learn(struct tg_recipe *r, enum tg_method method, const struct tg_frame *f, const unsigned *columns, unsigned ncolumns, const uint32_t *rows, size_t n, struct tg_err *err)
{
	*r = (struct tg_recipe){ .nfeatures = ncolumns, .features = calloc(ncolumns ? ncolumns : 1, sizeof *r->features) };
	bool ok = r->features != NULL;
	if (!ok)
		tg_err_set(err, "There is not enough memory.");
	ok = ok && lay_out(r, f, columns, rows, n, err);
	if (ok) {
		r->fill = calloc(r->width, sizeof *r->fill);
		r->shift = calloc(r->width, sizeof *r->shift);
		r->scale = calloc(r->width, sizeof *r->scale);
		r->spread = calloc(r->width, sizeof *r->spread);
		ok = r->fill && r->shift && r->scale && r->spread;
		if (!ok)
			tg_err_set(err, "There is not enough memory.");
	}
	for (unsigned i = 0; ok && i < ncolumns; i++) {
		const struct tg_column *c = &f->columns[columns[i]];
		struct tg_feature *x = &r->features[i];
		if (x->type == TG_COLUMN_NUMBER) {
			ok = learn_number(r, x, method, c, rows, n, err);
		} else if (x->type == TG_COLUMN_TEXT && !learn_text(r, x, method, c, rows, n)) {
			tg_err_set(err, "There is not enough memory.");
			ok = false;
		}
	}
	if (!ok)
		tg_recipe_free(r);
	return ok;
}

/* A column that is of the other type than in training: the first row that shows it. */
static void wrong_type(const struct tg_column *c, uint64_t rows, bool number, struct tg_err *err)
{
	uint64_t at = 0;
	for (uint64_t i = 0; i < rows; i++) {
		if (!number && !isnan(c->number[i])) {
			at = i;
			break;
		}
		if (!number || c->word[i] == TG_FRAME_NO_WORD)
			continue;
		/* In a column of mixed cells it is a text that is no number that made it one of texts. */
		struct tg_slice w = c->words[c->word[i]];
		char text[64] = "", *end = text;
		if (w.n && w.n < sizeof text) {
			memcpy(text, w.p, w.n);
			strtod(text, &end);
		}
		if (end == text || *end) {
			at = i;
			break;
		}
	}
	tg_err_set(err, "Row %llu: the column %s must hold %s, as it did in training.", (unsigned long long)at + 1, tg_shown(c->name).text, number ? "numbers" : "texts");
}

/*
 * Data is often coded by hand before a training: a column loan_grade of texts becomes loan_grade_A, loan_grade_B ... of 0 and 1. Who predicts has the column of texts. The longest column's name
 * that the feature's begins with, before a '_', is the one meant. Whether the feature was one of 0 and 1, and whether this is asked for at all, the gate has seen (api/ml_plan.c).
 */
static const struct tg_column *coded(const char *name, const struct tg_frame *f, uint32_t *word)
{
	const struct tg_column *best = NULL;
	size_t len = strlen(name), n = 0;
	for (unsigned i = 0; i < f->ncolumns; i++) {
		const struct tg_column *c = &f->columns[i];
		size_t k = strlen(c->name);
		if (c->type == TG_COLUMN_TEXT && k && k < len && name[k] == '_' && (!best || k > n) && memcmp(c->name, name, k) == 0) {
			best = c;
			n = k;
		}
	}
	if (!best)
		return NULL;
	struct tg_slice value = tg_slice_cstr(name + n + 1);
	uint32_t w = 0;
	while (w < best->nwords && !tg_slice_eq(best->words[w], value))
		w++;
	*word = w < best->nwords ? w : NO_SUCH_WORD;
	return best;
}

static bool bind(struct tg_view *v, unsigned i, const struct tg_frame *f, struct tg_err *err)
{
	const struct tg_feature *x = &v->recipe->features[i];
	if (x->type == TG_COLUMN_EMPTY)
		return true;
	const struct tg_column *c = tg_frame_column(f, x->name);
	if (!c && x->type == TG_COLUMN_NUMBER && (v->columns[i] = coded(x->name, f, &v->word[i])))
		return true;
	if (!c) {
		tg_err_set(err, "The column %s is missing.", tg_shown(x->name).text);
		return false;
	}
	if (c->type == TG_COLUMN_EMPTY)
		return true;
	if (c->type != x->type) {
		wrong_type(c, f->rows, x->type == TG_COLUMN_NUMBER, err);
		return false;
	}
	v->columns[i] = c;
	if (x->type == TG_COLUMN_NUMBER)
		return true;
	if (!(v->places[i] = calloc(c->nwords ? c->nwords : 1, sizeof *v->places[i]))) {
		tg_err_set(err, "There is not enough memory.");
		return false;
	}
	for (uint32_t w = 0; w < c->nwords; w++) {
		const struct tg_slice *at = bsearch(&c->words[w], x->values, x->width, sizeof *x->values, by_bytes);
		v->places[i][w] = at ? (uint32_t)(at - x->values) : NO_PLACE;
	}
	return true;
}

struct tg_view *tg_view_open(const struct tg_recipe *r, const struct tg_frame *f, struct tg_err *err)
{
	struct tg_view *v = calloc(1, sizeof *v);
	if (v) {
		v->recipe = r;
		v->columns = calloc(r->nfeatures ? r->nfeatures : 1, sizeof(const struct tg_column *));
		v->places = calloc(r->nfeatures ? r->nfeatures : 1, sizeof *v->places);
		v->word = malloc((r->nfeatures ? r->nfeatures : 1) * sizeof *v->word);
	}
	if (!v || !v->columns || !v->places || !v->word) {
		tg_err_set(err, "There is not enough memory.");
		tg_view_close(v);
		return NULL;
	}
	memset(v->word, 0xff, (r->nfeatures ? r->nfeatures : 1) * sizeof *v->word); /* NOT_CODED */
	for (unsigned i = 0; i < r->nfeatures; i++)
		if (!bind(v, i, f, err)) {
			tg_view_close(v);
			return NULL;
		}
	return v;
}

void tg_view_close(struct tg_view *v)
{
	if (!v)
		return;
	for (unsigned i = 0; v->places && i < v->recipe->nfeatures; i++)
		free(v->places[i]);
	free(v->places);
	free(v->columns);
	free(v->word);
	free(v);
}

static double cell(const struct tg_recipe *r, uint32_t k, double x)
{
	return ((isnan(x) ? r->fill[k] : x) - r->shift[k]) / r->scale[k];
}

void tg_view_rows(const struct tg_view *v, const uint32_t *rows, size_t from, size_t n, double *out)
{
	const struct tg_recipe *r = v->recipe;
	for (unsigned f = 0; f < r->nfeatures; f++) {
		const struct tg_feature *x = &r->features[f];
		const struct tg_column *c = v->columns[f];
		for (size_t i = 0; i < n; i++) {
			size_t row = rows ? rows[i] : from + i;
			double *o = out + i * r->width + x->first;
			if (v->word[f] != NOT_CODED) {
				*o = cell(r, x->first, c->word[row] == v->word[f]);
				continue;
			}
			if (x->type == TG_COLUMN_NUMBER) {
				*o = cell(r, x->first, c ? c->number[row] : NAN);
				continue;
			}
			uint32_t hot = c && c->word[row] != TG_FRAME_NO_WORD ? v->places[f][c->word[row]] : NO_PLACE;
			for (uint32_t k = 0; k < x->width; k++)
				o[k] = cell(r, x->first + k, k == hot);
		}
	}
}

size_t tg_view_block(uint32_t width)
{
	return width < 65536 ? 65536 / width : 1;
}
