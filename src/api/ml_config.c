/* One table says what the engine takes; the check and the schema are both read from it, so that they cannot differ. */
#include "api/ml_config.h"

enum kind { METHOD, TASK, COLUMN, COLUMNS, INT, SHARE, COUNT, BOOL };

static const struct field {
	const char *name;
	enum kind kind;
	double min, max;
	const char *standard, *doc;
} fields[] = {
#define ML_FIELD(name, kind, min, max, standard, doc) { #name, kind, min, max, standard, doc },
#include "tables/ml_config.def"
};
static const struct method {
	const char *name, *task;
} methods[] = {
#define ML_METHOD(name, task) { #name, task },
#include "tables/ml_config.def"
};
static const char *const tasks[] = {
#define ML_TASK(name) #name,
#include "tables/ml_config.def"
};
#define NFIELDS (sizeof fields / sizeof *fields)
#define NMETHODS (sizeof methods / sizeof *methods)
#define NTASKS (sizeof tasks / sizeof *tasks)

static bool column_ok(const struct field *t, const json_t *v)
{
	size_t n = json_string_length(v);
	return json_is_string(v) && (double)n >= t->min && (double)n <= t->max;
}

static bool number_ok(const struct field *t, double v)
{
	return v >= t->min && v <= t->max;
}

static bool method_ok(const json_t *v)
{
	for (size_t i = 0; i < NMETHODS; i++)
		if (json_is_string(v) && strcmp(json_string_value(v), methods[i].name) == 0)
			return true;
	return false;
}

static bool task_ok(const json_t *v)
{
	for (size_t i = 0; i < NTASKS; i++)
		if (json_is_string(v) && strcmp(json_string_value(v), tasks[i]) == 0)
			return true;
	return json_is_null(v);
}

static const struct field *column_field(void)
{
	for (size_t i = 0; i < NFIELDS; i++)
		if (fields[i].kind == COLUMN)
			return &fields[i];
	return NULL;
}

static bool columns_ok(const struct field *t, const json_t *v)
{
	size_t i;
	json_t *one;
	bool ok = json_is_array(v) && number_ok(t, (double)json_array_size(v));
	json_array_foreach(v, i, one)
		ok = ok && column_ok(column_field(), one);
	return ok;
}

static bool field_ok(const struct field *t, const json_t *v)
{
	switch (t->kind) {
	case METHOD: return method_ok(v);
	case TASK: return task_ok(v);
	case COLUMN: return json_is_null(v) || column_ok(t, v);
	case COLUMNS: return json_is_null(v) || columns_ok(t, v);
	case INT: return json_is_integer(v) && number_ok(t, (double)json_integer_value(v));
	case SHARE: return json_is_number(v) && (json_number_value(v) == 0 || number_ok(t, json_number_value(v)));
	case COUNT: return json_is_integer(v) && (json_integer_value(v) == 0 || number_ok(t, (double)json_integer_value(v)));
	default: return json_is_boolean(v);
	}
}

static void say(const struct field *t, char *why, size_t cap)
{
	switch (t->kind) {
	case METHOD: {
		size_t n = (size_t)snprintf(why, cap, "must be one of");
		for (size_t i = 0; i < NMETHODS && n < cap; i++)
			n += (size_t)snprintf(why + n, cap - n, "%s %s", i ? "," : "", methods[i].name);
		break;
	}
	case TASK: {
		size_t n = (size_t)snprintf(why, cap, "must be one of");
		for (size_t i = 0; i < NTASKS && n < cap; i++)
			n += (size_t)snprintf(why + n, cap - n, "%s %s", i ? "," : "", tasks[i]);
		if (n < cap)
			snprintf(why + n, cap - n, ", or null");
		break;
	}
	case COLUMN: snprintf(why, cap, "must be the name of a column, of at most %.0f bytes, or null", t->max); break;
	case COLUMNS: snprintf(why, cap, "must be an array of from %.0f to %.0f names of columns, or null", t->min, t->max); break;
	case INT: snprintf(why, cap, "must be a whole number from %.0f to %.0f", t->min, t->max); break;
	case SHARE: snprintf(why, cap, "must be 0 or a number from %g to %g", t->min, t->max); break;
	case COUNT: snprintf(why, cap, "must be 0 or a whole number from %.0f to %.0f", t->min, t->max); break;
	default: snprintf(why, cap, "must be true or false");
	}
}

bool tg_ml_task_check(const char *method, const char *task, const char *field, struct tg_fields_fault *f)
{
	const struct method *m = methods;
	for (size_t i = 0; method && i < NMETHODS; i++)
		if (strcmp(methods[i].name, method) == 0)
			m = &methods[i];
	if (!task || !m->task[0] || strcmp(m->task, task) == 0)
		return true;
	snprintf(f->field, sizeof f->field, "%s", field);
	snprintf(f->why, sizeof f->why, "cannot be %s with %s, which does %s only", task, m->name, m->task);
	return false;
}

/* A name that stands twice would be learned from twice: said where it is written, and not only when it is trained with. */
static bool once_each(const struct field *t, const json_t *names, struct tg_fields_fault *f)
{
	json_t *one, *seen = json_object();
	size_t i;
	bool ok = true;
	json_array_foreach(names, i, one) {
		if (ok && json_object_get(seen, json_string_value(one))) {
			snprintf(f->field, sizeof f->field, "data.%s[%zu]", t->name, i);
			snprintf(f->why, sizeof f->why, "is named twice");
			ok = false;
		}
		json_object_set_new(seen, json_string_value(one), json_true());
	}
	json_decref(seen);
	return ok;
}

bool tg_ml_config_check(const json_t *data, struct tg_fields_fault *f)
{
	for (size_t i = 0; i < NFIELDS; i++) {
		const json_t *v = json_object_get(data, fields[i].name);
		if (v && fields[i].kind == COLUMNS && field_ok(&fields[i], v) && !once_each(&fields[i], v, f))
			return false;
		if (!v || field_ok(&fields[i], v))
			continue;
		snprintf(f->field, sizeof f->field, "data.%s", fields[i].name);
		say(&fields[i], f->why, sizeof f->why);
		return false;
	}
	return tg_ml_task_check(json_string_value(json_object_get(data, "method")), json_string_value(json_object_get(data, "task")), "data.task", f);
}

static void put_type(struct tg_buf *b, const struct field *t)
{
	switch (t->kind) {
	case METHOD:
		tg_buf_lit(b, "\"type\":\"string\",\"enum\":[");
		for (size_t i = 0; i < NMETHODS; i++)
			tg_buf_fmt(b, "%s\"%s\"", i ? "," : "", methods[i].name);
		tg_buf_char(b, ']');
		break;
	case TASK:
		tg_buf_lit(b, "\"type\":[\"string\",\"null\"],\"enum\":[");
		for (size_t i = 0; i < NTASKS; i++)
			tg_buf_fmt(b, "\"%s\",", tasks[i]);
		tg_buf_lit(b, "null]");
		break;
	case COLUMN: tg_buf_fmt(b, "\"type\":[\"string\",\"null\"],\"minLength\":%.0f,\"maxLength\":%.0f", t->min, t->max); break;
	case COLUMNS: tg_buf_fmt(b, "\"type\":[\"array\",\"null\"],\"items\":{\"type\":\"string\"},\"minItems\":%.0f,\"maxItems\":%.0f", t->min, t->max); break;
	case INT: tg_buf_fmt(b, "\"type\":\"integer\",\"minimum\":%.0f,\"maximum\":%.0f", t->min, t->max); break;
	case SHARE:
	case COUNT:
		tg_buf_fmt(b, "\"type\":\"%s\",\"anyOf\":[{\"const\":0},{\"minimum\":%g,\"maximum\":%g}]", t->kind == COUNT ? "integer" : "number", t->min, t->max);
		break;
	default: tg_buf_lit(b, "\"type\":\"boolean\"");
	}
}

void tg_ml_config_schema(struct tg_buf *b)
{
	tg_buf_lit(b, "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Config\",\"type\":\"object\",\"properties\":{");
	for (size_t i = 0; i < NFIELDS; i++) {
		const struct field *t = &fields[i];
		tg_buf_fmt(b, "%s\"%s\":{", i ? "," : "", t->name);
		put_type(b, t);
		tg_buf_fmt(b, ",\"default\":%s,\"description\":\"%s\"}", t->standard, t->doc);
	}
	tg_buf_lit(b, "},\"additionalProperties\":true}");
}
