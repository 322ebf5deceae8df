/*
 * The target of a training. Regression: numbers; to linear regression a null is 0 (document 003's example counts a week without a report as no cases), while trees, as XGBoost has it, learn from no
 * row without a value. Classification: two values, neither of them null. Class 1,
 * whose probability is predicted, is the larger of two numbers; of two texts the one that says yes (1, y, yes, t, true) if one alone does, else the later one in the order of their bytes.
 */
#include "engine/model.h"
#include <math.h>
#include <stdlib.h>

#define LINEAR_MAX 1e150
#define TREES_MAX 1e15

json_t *tg_label_json(const struct tg_label *l)
{
	if (l->kind == TG_LABEL_TEXT)
		return json_stringn(l->text.p, l->text.n);
	if (l->kind == TG_LABEL_WHOLE)
		return json_integer((json_int_t)l->number);
	return l->kind == TG_LABEL_NUMBER ? json_real(l->number) : json_null();
}

void tg_target_free(struct tg_target *t)
{
	free(t->y);
	free(t->class);
	for (int i = 0; i < 2; i++)
		free((char *)t->label[i].text.p);
	*t = (struct tg_target){ 0 };
}

static bool says_yes(struct tg_slice s)
{
	return tg_slice_eq_nocase(s, TG_S("1")) || tg_slice_eq_nocase(s, TG_S("y")) || tg_slice_eq_nocase(s, TG_S("yes")) || tg_slice_eq_nocase(s, TG_S("t")) || tg_slice_eq_nocase(s, TG_S("true"));
}

static bool later(struct tg_slice a, struct tg_slice b)
{
	size_t n = a.n < b.n ? a.n : b.n;
	int d = n ? memcmp(a.p, b.p, n) : 0;
	return d ? d > 0 : a.n > b.n;
}

static bool no_value(const char *name, uint64_t row, struct tg_err *err)
{
	tg_err_set(err, "Row %llu: there is no value in the target %s.", (unsigned long long)row + 1, tg_shown(name).text);
	return false;
}

static bool too_many(const char *name, struct tg_err *err)
{
	tg_err_set(err, "The target %s has more than two values; a classification is between two.", tg_shown(name).text);
	return false;
}

static bool number_classes(struct tg_target *t, const struct tg_column *c, uint64_t rows, struct tg_err *err)
{
	double low = c->number[0], high = low;
	for (uint64_t i = 0; i < rows; i++) {
		double v = c->number[i];
		if (isnan(v))
			return no_value(c->name, i, err);
		low = v < low ? v : low;
		high = v > high ? v : high;
	}
	for (uint64_t i = 0; i < rows; i++) {
		double v = c->number[i];
		if (v > low && v < high)
			return too_many(c->name, err);
		t->class[i] = v > low;
	}
	bool whole = c->integers && fabs(low) < 9e15 && fabs(high) < 9e15;
	t->label[0] = (struct tg_label){ .kind = whole ? TG_LABEL_WHOLE : TG_LABEL_NUMBER, .number = low };
	t->label[1] = (struct tg_label){ .kind = whole ? TG_LABEL_WHOLE : TG_LABEL_NUMBER, .number = high };
	return true;
}

static bool text_classes(struct tg_target *t, const struct tg_column *c, uint64_t rows, struct tg_err *err)
{
	uint32_t a = TG_FRAME_NO_WORD, b = TG_FRAME_NO_WORD;
	for (uint64_t i = 0; i < rows; i++) {
		uint32_t w = c->word[i];
		if (w == TG_FRAME_NO_WORD)
			return no_value(c->name, i, err);
		if (a == TG_FRAME_NO_WORD)
			a = w;
		else if (w != a && b == TG_FRAME_NO_WORD)
			b = w;
		else if (w != a && w != b)
			return too_many(c->name, err);
	}
	if (b == TG_FRAME_NO_WORD)
		return true; /* the caller says that it has one value only */
	bool yes_a = says_yes(c->words[a]), yes_b = says_yes(c->words[b]);
	uint32_t one = yes_a != yes_b ? (yes_a ? a : b) : later(c->words[a], c->words[b]) ? a : b;
	for (uint64_t i = 0; i < rows; i++)
		t->class[i] = c->word[i] == one;
	for (int i = 0; i < 2; i++) {
		struct tg_slice s = c->words[(one == a) == (i == 1) ? a : b];
		char *copy = malloc(s.n + 1);
		if (!copy) {
			tg_err_set(err, "There is not enough memory.");
			return false;
		}
		if (s.n)
			memcpy(copy, s.p, s.n);
		copy[s.n] = 0;
		t->label[i] = (struct tg_label){ .kind = TG_LABEL_TEXT, .text = { copy, s.n } };
	}
	return true;
}

bool tg_target_is_classes(const struct tg_column *c, uint64_t rows)
{
	double a = NAN, b = NAN;
	for (uint64_t i = 0; c->type == TG_COLUMN_NUMBER && i < rows; i++) {
		double v = c->number[i];
		if (isnan(v) || v == a || v == b)
			continue;
		if (!isnan(b))
			return false;
		*(isnan(a) ? &a : &b) = v;
	}
	return true;
}

/* What trees sum up is a float, and the gain of a split is one too: up to the number of rows times the square of it. */
static bool numbers(struct tg_target *t, enum tg_method method, const struct tg_column *c, uint64_t rows, struct tg_err *err)
{
	bool linear = method == TG_METHOD_LINEAR;
	for (uint64_t i = 0; i < rows; i++) {
		if (isnan(c->number[i]) && !linear)
			return no_value(c->name, i, err);
		t->y[i] = isnan(c->number[i]) ? 0 : c->number[i];
		if (fabs(t->y[i]) > (linear ? LINEAR_MAX : TREES_MAX)) {
			tg_err_set(err, "Row %llu: the number in the target %s is too large.", (unsigned long long)i + 1, tg_shown(c->name).text);
			return false;
		}
	}
	return true;
}

static bool constant(const struct tg_target *t, uint64_t rows)
{
	for (uint64_t i = 1; i < rows; i++)
		if (t->y[i] != t->y[0])
			return false;
	return true;
}

bool tg_target_learn(struct tg_target *t, enum tg_method method, bool classes, const struct tg_column *c, uint64_t rows, struct tg_err *err)
{
	*t = (struct tg_target){ .name = c->name, .y = calloc(rows, sizeof *t->y), .class = classes ? calloc(rows, sizeof *t->class) : NULL };
	if (!t->y || (classes && !t->class)) {
		tg_err_set(err, "There is not enough memory.");
		return false;
	}
	if (classes) {
		if (c->type == TG_COLUMN_EMPTY)
			return no_value(c->name, 0, err);
		if (!(c->type == TG_COLUMN_TEXT ? text_classes(t, c, rows, err) : number_classes(t, c, rows, err)))
			return false;
		for (uint64_t i = 0; i < rows; i++) {
			t->count[t->class[i]]++;
			t->y[i] = t->class[i];
		}
	} else if (c->type == TG_COLUMN_TEXT) {
		tg_err_set(err, "The target %s holds texts; a regression is about numbers.", tg_shown(c->name).text);
		return false;
	} else if (c->type == TG_COLUMN_NUMBER && !numbers(t, method, c, rows, err)) {
		return false;
	}
	if (constant(t, rows)) {
		tg_err_set(err, "The target %s has one value only.", tg_shown(c->name).text);
		return false;
	}
	return true;
}
