/* One table says what the engine takes; the check and the schema are both read from it, so that they cannot differ. */
#include "api/ml_config.h"

enum kind { METHOD, COLUMN, COLUMNS, INT, SHARE, COUNT, BOOL };

static const struct field {
	const char *name;
	enum kind kind;
	double min, max;
	const char *standard, *doc;
} fields[] = {
#define ML_METHOD(name)
#define ML_FIELD(name, kind, min, max, standard, doc) { #name, kind, min, max, standard, doc },
#include "tables/ml_config.def"
#undef ML_METHOD
#undef ML_FIELD
};
static const char *const methods[] = {
#define ML_METHOD(name) #name,
#define ML_FIELD(name, kind, min, max, standard, doc)
#include "tables/ml_config.def"
#undef ML_METHOD
#undef ML_FIELD
};
#define NFIELDS (sizeof fields / sizeof *fields)
#define NMETHODS (sizeof methods / sizeof *methods)

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
		if (json_is_string(v) && strcmp(json_string_value(v), methods[i]) == 0)
			return true;
	return false;
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
			n += (size_t)snprintf(why + n, cap - n, "%s %s", i ? "," : "", methods[i]);
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

bool tg_ml_config_check(const json_t *data, struct tg_fields_fault *f)
{
	for (size_t i = 0; i < NFIELDS; i++) {
		const json_t *v = json_object_get(data, fields[i].name);
		if (!v || field_ok(&fields[i], v))
			continue;
		snprintf(f->field, sizeof f->field, "data.%s", fields[i].name);
		say(&fields[i], f->why, sizeof f->why);
		return false;
	}
	return true;
}

static void put_type(struct tg_buf *b, const struct field *t)
{
	switch (t->kind) {
	case METHOD:
		tg_buf_lit(b, "\"type\":\"string\",\"enum\":[");
		for (size_t i = 0; i < NMETHODS; i++)
			tg_buf_fmt(b, "%s\"%s\"", i ? "," : "", methods[i]);
		tg_buf_char(b, ']');
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
