/*
 * Bodies of document 004 (see credit_body.h). A query string is turned into the members a JSON body would have, so that there is one check of each.
 */
#include "api/credit_body.h"
#include "api/ml_config.h"
#include "api/ml_plan.h"
#include <math.h>

#define LINEAR "linear_regression"
#define REGRESSION "regression"
#define USUAL_TARGET "loan_status"
#define SHOWN 100 /* bytes of a name in a sentence */
#define QUERY_VALUE 16384

#define ROW(name, kind, min, max, deflt, doc) { #name, TG_CREDIT_##kind, min, max, deflt, doc },
static const struct tg_credit_field train_rows[] = {
#define CREDIT_TRAIN ROW
#include "tables/credit.def"
};
static const struct tg_credit_field predict_rows[] = {
#define CREDIT_PREDICT ROW
#include "tables/credit.def"
};
#undef ROW
const struct tg_credit_table tg_credit_train_table = { train_rows, sizeof train_rows / sizeof train_rows[0] };
const struct tg_credit_table tg_credit_predict_table = { predict_rows, sizeof predict_rows / sizeof predict_rows[0] };

static const char *const methods[] = {
#define ML_METHOD(name, task) #name,
#include "tables/ml_config.def"
};
static const char *const tasks[] = {
#define ML_TASK(name) #name,
#include "tables/ml_config.def"
};
#define NMETHODS (sizeof methods / sizeof methods[0])
#define NTASKS (sizeof tasks / sizeof tasks[0])

__attribute__((format(printf, 3, 4))) static bool bad(struct tg_fields_fault *f, const char *field, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	snprintf(f->field, sizeof f->field, "%s", field);
	vsnprintf(f->why, sizeof f->why, fmt, ap);
	va_end(ap);
	return false;
}

/* ---- one value ---- */

static bool is_one_of(const char *field, const json_t *v, const char *const *names, size_t n, struct tg_fields_fault *f)
{
	char known[256] = "";
	size_t at = 0;
	for (size_t i = 0; i < n && at < sizeof known; i++) {
		if (json_is_string(v) && strcmp(json_string_value(v), names[i]) == 0)
			return true;
		at += (size_t)snprintf(known + at, sizeof known - at, "%s%s", i ? ", " : "", names[i]);
	}
	return bad(f, field, "must be one of %s", known);
}

static bool is_text(const char *field, const json_t *v, const struct tg_credit_field *r, struct tg_fields_fault *f)
{
	size_t n = json_string_length(v);
	const char *s = json_string_value(v);
	if (!json_is_string(v))
		return bad(f, field, "must be a string");
	if ((double)n < r->min || (double)n > r->max)
		return bad(f, field, "must have from %.0f to %.0f bytes, not %zu", r->min, r->max, n);
	for (size_t i = 0; r->kind == TG_CREDIT_FILE && i < n; i++)
		if (s[i] == '/' || (unsigned char)s[i] < 0x20 || s[i] == 0x7f || s[0] == '.')
			return bad(f, field, "must be the name of a file among the data sets, without a folder");
	return true;
}

static bool is_number(const char *field, const json_t *v, const struct tg_credit_field *r, struct tg_fields_fault *f)
{
	bool whole = r->kind == TG_CREDIT_WHOLE, type = whole ? json_is_integer(v) : json_is_number(v);
	double x = type ? json_number_value(v) : 0;
	if (type && x >= r->min && x <= r->max)
		return true;
	return bad(f, field, "must be a %snumber from %.10g to %.10g", whole ? "whole " : "", r->min, r->max);
}

static bool is_names(const json_t *v, const struct tg_credit_field *r, struct tg_fields_fault *f)
{
	static const struct tg_credit_field name = { "", TG_CREDIT_TEXT, 1, 256, "", "" };
	size_t n = json_array_size(v);
	char field[80];
	if (!json_is_array(v) || (double)n < r->min || (double)n > r->max)
		return bad(f, r->name, "must be null or an array of %.0f to %.0f names of columns, 64 KiB in all", r->min, r->max);
	json_t *seen = json_object();
	bool ok = seen || bad(f, "", "out of memory");
	for (size_t i = 0; ok && i < n; i++) {
		const json_t *one = json_array_get(v, i);
		snprintf(field, sizeof field, "%s[%zu]", r->name, i);
		ok = is_text(field, one, &name, f);
		if (ok && json_object_get(seen, json_string_value(one)))
			ok = bad(f, field, "is named twice");
		if (ok && json_object_set_new(seen, json_string_value(one), json_true()) != 0)
			ok = bad(f, "", "out of memory");
	}
	json_decref(seen);
	return ok;
}

static bool is_right(const struct tg_credit_field *r, const json_t *v, struct tg_fields_fault *f)
{
	switch (r->kind) {
	case TG_CREDIT_METHOD: return is_one_of(r->name, v, methods, NMETHODS, f);
	case TG_CREDIT_TASK: return is_one_of(r->name, v, tasks, NTASKS, f);
	case TG_CREDIT_TEXT:
	case TG_CREDIT_FILE: return is_text(r->name, v, r, f);
	case TG_CREDIT_NUMBER:
	case TG_CREDIT_WHOLE: return is_number(r->name, v, r, f);
	case TG_CREDIT_BOOL: return json_is_boolean(v) || bad(f, r->name, "must be true or false");
	case TG_CREDIT_NAMES: break;
	}
	return is_names(v, r, f);
}

/* ---- all of them ---- */

static const struct tg_credit_field *row_named(const struct tg_credit_table *t, const char *name)
{
	for (unsigned i = 0; i < t->n; i++)
		if (strcmp(t->rows[i].name, name) == 0)
			return &t->rows[i];
	return NULL;
}

static bool unknown(const struct tg_credit_table *t, const char *name, struct tg_fields_fault *f)
{
	size_t at = (size_t)snprintf(f->why, sizeof f->why, "is not known here; known are");
	snprintf(f->field, sizeof f->field, "%s", *name ? name : "\"\"");
	for (unsigned i = 0; i < t->n && at < sizeof f->why; i++)
		at += (size_t)snprintf(f->why + at, sizeof f->why - at, "%s %s", i ? "," : "", t->rows[i].name);
	return false;
}

json_t *tg_credit_read(const struct tg_credit_table *t, const json_t *members, struct tg_fields_fault *fault)
{
	const char *name;
	json_t *v, *out = json_object();
	bool ok = out || bad(fault, "", "out of memory");
	json_object_foreach((json_t *)(uintptr_t)members, name, v) {
		if (ok && !row_named(t, name))
			ok = unknown(t, name, fault);
	}
	for (unsigned i = 0; ok && i < t->n; i++) {
		const struct tg_credit_field *r = &t->rows[i];
		v = json_object_get(members, r->name);
		bool given = v && !json_is_null(v);
		if (!given && !r->deflt[0])
			ok = bad(fault, r->name, "is required");
		else if (given)
			ok = is_right(r, v, fault);
		if (ok && json_object_set_new(out, r->name, given ? json_incref(v) : json_loads(r->deflt, JSON_DECODE_ANY, NULL)) != 0)
			ok = bad(fault, "", "out of memory");
	}
	ok = ok && tg_ml_task_check(json_string_value(json_object_get(out, "model_type")), json_string_value(json_object_get(out, "task")), "task", fault);
	if (ok)
		return out;
	json_decref(out);
	return NULL;
}

/* ---- the query string ---- */

static json_t *split(const char *text)
{
	json_t *list = json_array();
	for (;;) {
		size_t n = strcspn(text, ",");
		if (json_array_append_new(list, json_stringn(text, n)) != 0) { /* no UTF-8 */
			json_decref(list);
			return NULL;
		}
		if (!text[n])
			return list;
		text += n + 1;
	}
}

/* The value as JSON would have it; what is none of its kind stays a string, so that the check finds it. */
static json_t *value_of(const struct tg_credit_field *r, const char *text)
{
	bool array = r->kind == TG_CREDIT_NAMES && text[0] == '[';
	if (r->kind == TG_CREDIT_NAMES && !array)
		return split(text);
	json_t *v = NULL;
	if (array || r->kind == TG_CREDIT_NUMBER || r->kind == TG_CREDIT_WHOLE || r->kind == TG_CREDIT_BOOL)
		v = json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL);
	return v ? v : json_string(text);
}

/* Each parameter is known and comes once. */
static bool check_names(const struct tg_credit_table *t, struct tg_slice q, struct tg_fields_fault *f)
{
	uint32_t given = 0;
	while (q.n) {
		const char *amp = memchr(q.p, '&', q.n);
		size_t one = amp ? (size_t)(amp - q.p) : q.n;
		const char *eq = memchr(q.p, '=', one);
		char name[64];
		snprintf(name, sizeof name, "%.*s", eq && eq - q.p < 60 ? (int)(eq - q.p) : one < 60 ? (int)one : 60, q.p);
		const struct tg_credit_field *r = row_named(t, name);
		if (one && !r)
			return unknown(t, name, f);
		if (one && !eq)
			return bad(f, name, "has no value");
		if (one && given & 1u << (r - t->rows))
			return bad(f, name, "is given twice");
		if (one)
			given |= 1u << (r - t->rows);
		q.p += amp ? one + 1 : one;
		q.n -= amp ? one + 1 : one;
	}
	return true;
}

json_t *tg_credit_query(const struct tg_credit_table *t, struct tg_slice query, struct tg_fields_fault *fault)
{
	json_t *out = json_object();
	char *value = malloc(QUERY_VALUE);
	bool ok = (out && value) || bad(fault, "", "out of memory");
	ok = ok && check_names(t, query, fault);
	for (unsigned i = 0; ok && i < t->n; i++) {
		const char *name = t->rows[i].name;
		long n = tg_query_get(query, name, value, QUERY_VALUE);
		if (n == -2)
			ok = bad(fault, name, "is malformed, or longer than %d bytes", QUERY_VALUE - 1);
		else if (n >= 0 && json_object_set_new(out, name, value_of(&t->rows[i], value)) != 0)
			ok = bad(fault, name, "must be UTF-8");
	}
	free(value);
	if (ok)
		return out;
	json_decref(out);
	return NULL;
}

json_t *tg_credit_form(const struct tg_credit_table *t, struct tg_slice query, const json_t *fields, struct tg_fields_fault *fault)
{
	json_t *v, *out = tg_credit_query(t, query, fault);
	const char *name;
	bool ok = out != NULL;
	json_object_foreach((json_t *)(uintptr_t)fields, name, v) {
		const struct tg_credit_field *r = row_named(t, name);
		if (!ok)
			break;
		if (!r)
			ok = unknown(t, name, fault);
		else if (!json_is_string(v))
			ok = bad(fault, name, "must be a string");
		else if (json_object_get(out, name))
			ok = bad(fault, name, "is given in the query string and in the form");
		else if (json_object_set_new(out, name, value_of(r, json_string_value(v))) != 0)
			ok = bad(fault, "", "out of memory");
	}
	if (ok)
		return out;
	json_decref(out);
	return NULL;
}

/* ---- the columns ---- */

static bool take_target(json_t *config, const json_t *columns, struct tg_fields_fault *f)
{
	const char *asked = json_string_value(json_object_get(config, "target"));
	int place = tg_ml_column(columns, asked ? asked : USUAL_TARGET);
	if (place < 0 && asked)
		return bad(f, "target", "\"%.*s\" is no column of the data", SHOWN, asked);
	if (place < 0)
		place = (int)json_array_size(columns) - 1;
	if (json_array_size(columns) < 2)
		return bad(f, "data", "needs at least one column besides the target");
	const json_t *column = json_array_get(columns, (size_t)place);
	const char *type = json_string_value(json_object_get(column, "type")), *name = json_string_value(json_object_get(column, "name"));
	const char *method = json_string_value(json_object_get(config, "model_type")), *task = json_string_value(json_object_get(config, "task"));
	if (type && strcmp(type, "text") == 0 && (strcmp(method, LINEAR) == 0 || (task && strcmp(task, REGRESSION) == 0)))
		return bad(f, "target", "\"%.*s\" holds text; %s needs numbers", SHOWN, name, task ? "a " REGRESSION : LINEAR);
	return json_object_set_new(config, "target", json_string(name)) == 0 || bad(f, "", "out of memory");
}

static bool check_features(const json_t *config, const json_t *columns, struct tg_fields_fault *f)
{
	const char *target = json_string_value(json_object_get(config, "target"));
	size_t i;
	json_t *one;
	json_array_foreach(json_object_get(config, "selected_features"), i, one) {
		char field[48];
		const char *name = json_string_value(one);
		snprintf(field, sizeof field, "selected_features[%zu]", i);
		if (strcmp(name, target) == 0)
			return bad(f, field, "is the target");
		if (tg_ml_column(columns, name) < 0)
			return bad(f, field, "\"%.*s\" is no column of the data", SHOWN, name);
	}
	return true;
}

json_t *tg_credit_plan(json_t *config, const json_t *frame, struct tg_fields_fault *fault)
{
	const json_t *columns = json_object_get(frame, "columns");
	if (!take_target(config, columns, fault) || !check_features(config, columns, fault))
		return NULL;
	json_t *plan = json_pack("{s:O, s:O, s:O, s:O, s:O, s:O, s:O, s:O}", "method", json_object_get(config, "model_type"), "task", json_object_get(config, "task"), "target", json_object_get(config, "target"), "features",
				 json_object_get(config, "selected_features"), "seed", json_object_get(config, "random_state"), "test_size", json_object_get(config, "test_size"), "cv_folds",
				 json_object_get(config, "cv_folds"), "undersample", json_object_get(config, "undersample"));
	if (!plan)
		bad(fault, "", "out of memory");
	return plan;
}
