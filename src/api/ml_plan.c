/* Plans of trainings, and whether frames fit models (see ml_plan.h). What only the data can tell (no rows, a constant target, one class) is not decided here: that is the job's to find. */
#include "api/ml_plan.h"
#include "api/ml_config.h"

#define SEED 42 /* where the config has none */
#define LINEAR "linear_regression"
#define REGRESSION "regression"
#define NAME_CUT 100 /* bytes of a column's name in a sentence */


__attribute__((format(printf, 3, 4))) static bool bad(struct tg_fields_fault *f, const char *field, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	snprintf(f->field, sizeof f->field, "%s", field);
	vsnprintf(f->why, sizeof f->why, fmt, ap);
	va_end(ap);
	return false;
}

int tg_ml_column(const json_t *columns, const char *name)
{
	size_t i;
	json_t *c;
	json_array_foreach(columns, i, c) {
		const char *n = json_string_value(json_object_get(c, "name"));
		if (n && strcmp(n, name) == 0)
			return (int)i;
	}
	return -1;
}

static bool is_text(const json_t *columns, int place)
{
	const char *type = json_string_value(json_object_get(json_array_get(columns, (size_t)place), "type"));
	return type && strcmp(type, "text") == 0;
}

/* ---- the configuration's own members, which tables/ml_config.def has checked ---- */

static bool take_whole(const json_t *config, json_t *plan, const char *name, json_int_t deflt)
{
	const json_t *v = json_object_get(config, name);
	return json_object_set_new(plan, name, json_integer(v ? json_integer_value(v) : deflt)) == 0;
}

static bool take_members(const json_t *config, json_t *plan, struct tg_fields_fault *f)
{
	struct tg_fields_fault in;
	const char *method = json_string_value(json_object_get(config, "method")), *task = json_string_value(json_object_get(config, "task"));
	if (!tg_ml_config_check(config, &in)) { /* written by a program that knew other methods */
		char field[sizeof in.field];
		snprintf(field, sizeof field, "config.%.*s", (int)sizeof in.field - 8, in.field);
		return bad(f, field, "%s", in.why);
	}
	return json_object_set_new(plan, "method", json_string(method ? method : LINEAR)) == 0 && json_object_set_new(plan, "task", task ? json_string(task) : json_null()) == 0 &&
	       json_object_set_new(plan, "test_size", json_real(json_number_value(json_object_get(config, "test_size")))) == 0 &&
	       json_object_set_new(plan, "undersample", json_boolean(json_is_true(json_object_get(config, "undersample")))) == 0 && take_whole(config, plan, "seed", SEED) &&
	       take_whole(config, plan, "cv_folds", 0);
}

/* ---- the columns ---- */

static bool take_target(const json_t *config, const json_t *columns, json_t *plan, int *place, struct tg_fields_fault *f)
{
	const json_t *v = json_object_get(config, "target");
	const char *name = json_string_value(v);
	char field[40];
	*place = name ? tg_ml_column(columns, name) : (int)json_array_size(columns) - 1;
	if (*place < 0)
		return bad(f, "data.columns", "lack \"%.*s\", the target of the config", NAME_CUT, name ? name : "");
	name = json_string_value(json_object_get(json_array_get(columns, (size_t)*place), "name"));
	snprintf(field, sizeof field, "data.columns[%d]", *place);
	const char *task = json_string_value(json_object_get(plan, "task"));
	if (is_text(columns, *place) && (strcmp(json_string_value(json_object_get(plan, "method")), LINEAR) == 0 || (task && strcmp(task, REGRESSION) == 0)))
		return bad(f, field, "\"%.*s\", the target, holds text; %s needs numbers", NAME_CUT, name ? name : "", task ? "a " REGRESSION : LINEAR);
	return name && json_object_set_new(plan, "target", json_string(name)) == 0;
}

static bool take_features(const json_t *config, const json_t *columns, json_t *plan, int target, struct tg_fields_fault *f)
{
	const json_t *v = json_object_get(config, "features");
	size_t i;
	json_t *one;
	if (!v || json_is_null(v)) {
		if (json_array_size(columns) < 2)
			return bad(f, "data.columns", "need at least one column besides the target");
		return json_object_set_new(plan, "features", json_null()) == 0;
	}
	json_array_foreach(v, i, one) {
		char field[48];
		const char *name = json_string_value(one);
		int place = name ? tg_ml_column(columns, name) : -1;
		snprintf(field, sizeof field, "config.data.features[%zu]", i);
		if (place < 0)
			return bad(f, "data.columns", "lack \"%.*s\", a feature of the config", NAME_CUT, name ? name : "");
		if (place == target)
			return bad(f, field, "is the target");
		for (size_t k = 0; k < i; k++)
			if (json_equal(json_array_get(v, k), one))
				return bad(f, field, "is named twice");
	}
	return json_object_set(plan, "features", (json_t *)(uintptr_t)v) == 0;
}

json_t *tg_ml_plan(const json_t *config, const json_t *frame, struct tg_fields_fault *fault)
{
	const json_t *columns = json_object_get(frame, "columns");
	json_t *plan = json_object();
	int target = -1;
	*fault = (struct tg_fields_fault){ .why = "out of memory" };
	if (plan && take_members(config, plan, fault) && take_target(config, columns, plan, &target, fault) &&
	    take_features(config, columns, plan, target, fault))
		return plan;
	json_decref(plan);
	return NULL;
}

/* As engine/prepare.c has it: of loan_grade_A, which was 0 or 1, the column loan_grade, if it holds texts. Not in document 003's tables, where a column that is missing is missing. */
static bool is_coded(const json_t *columns, const json_t *feature, const char *where)
{
	const char *name = json_string_value(json_object_get(feature, "name"));
	if (!name || !json_is_true(json_object_get(feature, "binary")) || strcmp(where, "future") == 0)
		return false;
	size_t i, len = strlen(name);
	json_t *c;
	json_array_foreach(columns, i, c) {
		const char *column = json_string_value(json_object_get(c, "name"));
		size_t k = column ? strlen(column) : 0;
		if (k && k < len && name[k] == '_' && memcmp(column, name, k) == 0 && is_text(columns, (int)i))
			return true;
	}
	return false;
}

bool tg_ml_fits(const json_t *about, const json_t *frame, const char *where, struct tg_fields_fault *fault)
{
	const json_t *columns = json_object_get(frame, "columns");
	size_t i;
	json_t *feature;
	json_array_foreach(json_object_get(about, "features"), i, feature) {
		char field[64];
		const char *name = json_string_value(json_object_get(feature, "name")), *type = json_string_value(json_object_get(feature, "type"));
		int place = name ? tg_ml_column(columns, name) : -1;
		if (place < 0 && is_coded(columns, feature, where))
			continue;
		snprintf(field, sizeof field, "%s.columns", where);
		if (place < 0)
			return bad(fault, strcmp(where, "applications") == 0 ? where : field, "lack \"%.*s\", which the model needs", NAME_CUT, name ? name : "");
		snprintf(field, sizeof field, "%s.columns[%d]", where, place);
		if (type && strcmp(type, "number") == 0 && is_text(columns, place))
			return bad(fault, strcmp(where, "applications") == 0 ? where : field, "\"%.*s\" holds text; the model was trained with numbers", NAME_CUT, name);
	}
	return true;
}
