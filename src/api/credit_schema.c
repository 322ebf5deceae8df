/* Document 004's bodies as JSON Schema, out of the tables that they are checked by (see credit_body.h). What is beside the tables is the frame's own shape, which the engine reads. */
#include "api/credit_body.h"
#include <math.h>

static const char *const method_names[] = {
#define ML_METHOD(name, task) #name,
#include "tables/ml_config.def"
};
static const char *const task_names[] = {
#define ML_TASK(name) #name,
#include "tables/ml_config.def"
};

/* With null beside it, unless it is required. */
static json_t *type_of(const char *type, bool required)
{
	return required ? json_pack("{s:s}", "type", type) : json_pack("{s:[s,s]}", "type", type, "null");
}

static void bound(json_t *s, const char *name, double v, bool whole)
{
	json_object_set_new(s, name, whole ? json_integer((json_int_t)v) : json_real(v));
}

static json_t *one_of(const char *const *names, size_t n)
{
	json_t *list = json_array();
	for (size_t i = 0; i < n; i++)
		json_array_append_new(list, json_string(names[i]));
	json_array_append_new(list, json_null());
	return json_pack("{s:o}", "enum", list);
}

static json_t *schema_of(const struct tg_credit_field *r)
{
	bool required = !r->deflt[0], whole = r->kind == TG_CREDIT_WHOLE;
	json_t *s = NULL;
	switch (r->kind) {
	case TG_CREDIT_METHOD: s = one_of(method_names, sizeof method_names / sizeof method_names[0]); break;
	case TG_CREDIT_TASK: s = one_of(task_names, sizeof task_names / sizeof task_names[0]); break;
	case TG_CREDIT_TEXT:
	case TG_CREDIT_FILE:
		s = type_of("string", required);
		bound(s, "minLength", r->min, true);
		bound(s, "maxLength", r->max, true);
		break;
	case TG_CREDIT_NUMBER:
	case TG_CREDIT_WHOLE:
		s = type_of(whole ? "integer" : "number", required);
		bound(s, "minimum", r->min, whole);
		bound(s, "maximum", r->max, whole);
		break;
	case TG_CREDIT_BOOL: s = type_of("boolean", required); break;
	case TG_CREDIT_NAMES:
		s = type_of("array", required);
		json_object_set_new(s, "items", json_pack("{s:s}", "type", "string"));
		bound(s, "minItems", r->min, true);
		bound(s, "maxItems", r->max, true);
		json_object_set_new(s, "uniqueItems", json_true());
		break;
	}
	if (!required)
		json_object_set_new(s, "default", json_loads(r->deflt, JSON_DECODE_ANY, NULL));
	return s;
}

static json_t *data_schema(const char *doc)
{
	return json_pack("{s:s, s:s, s:[s,s], s:{s:{s:s, s:{s:s}}, s:{s:s, s:{s:s}}}}", "type", "object", "description", doc, "required", "columns", "data", "properties", "columns", "type", "array", "items",
			 "type", "string", "data", "type", "array", "items", "type", "array");
}

enum type { WHOLE, NUMBER, ABOVE, CHOICE };

static json_t *field_schema(enum type type, double min, double max, const char *values, const char *doc)
{
	json_t *s = json_pack("{s:s, s:s}", "type", type == CHOICE ? "string" : type == WHOLE ? "integer" : "number", "description", doc), *choice = type == CHOICE ? json_array() : NULL;
	for (size_t n; choice && *values; values += n + (values[n] == ' ')) {
		n = strcspn(values, " ");
		json_array_append_new(choice, json_stringn(values, n));
	}
	if (choice) {
		json_object_set_new(s, "enum", choice);
		return s;
	}
	bound(s, type == ABOVE ? "exclusiveMinimum" : "minimum", min, type == WHOLE);
	if (!isinf(max))
		bound(s, "maximum", max, type == WHOLE);
	return s;
}

static json_t *applications_schema(void)
{
	json_t *properties = json_object(), *names = json_array();
#define APPLICATION(name, type, min, max, values, doc) \
	json_object_set_new(properties, #name, field_schema(type, min, max, values, doc)); \
	json_array_append_new(names, json_string(#name));
#include "tables/application.def"
	json_t *one = json_pack("{s:s, s:b, s:o, s:o}", "type", "object", "additionalProperties", 0, "required", names, "properties", properties);
	return json_pack("{s:s, s:s, s:i, s:o}", "type", "array", "description", "Applications for a loan; this, or data", "minItems", 1, "items", one);
}

static const struct tg_credit_table *table_of(const char *handler)
{
	return strcmp(handler, "credit_train") == 0 ? &tg_credit_train_table : strcmp(handler, "credit_predict") == 0 ? &tg_credit_predict_table : NULL;
}

json_t *tg_credit_schema(const char *handler)
{
	const struct tg_credit_table *t = table_of(handler);
	if (!t)
		return NULL;
	json_t *properties = json_object(), *required = json_array();
	for (unsigned i = 0; i < t->n; i++) {
		json_t *s = schema_of(&t->rows[i]);
		json_object_set_new(s, "description", json_string(t->rows[i].doc));
		json_object_set_new(properties, t->rows[i].name, s);
		if (!t->rows[i].deflt[0])
			json_array_append_new(required, json_string(t->rows[i].name));
	}
	bool train = t == &tg_credit_train_table;
	json_object_set_new(properties, "data", data_schema(train ? "The table; this, or dataset" : "Rows with the model's columns; this, or applications"));
	if (!train)
		json_object_set_new(properties, "applications", applications_schema());
	json_t *schema = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
	if (json_array_size(required))
		json_object_set(schema, "required", required);
	json_decref(required);
	return schema;
}

#define LISTED "; separated by commas, or a JSON array"

/* As text has it: beside a file, in a query string or a form. NULL: it would be instead of the file. */
static json_t *schema_beside(const struct tg_credit_field *r)
{
	if (r->kind == TG_CREDIT_FILE)
		return NULL;
	return r->kind == TG_CREDIT_NAMES ? json_pack("{s:s}", "type", "string") : schema_of(r);
}

json_t *tg_credit_parameters(const char *handler)
{
	const struct tg_credit_table *t = table_of(handler);
	if (t != &tg_credit_train_table)
		return NULL;
	json_t *all = json_object();
	for (unsigned i = 0; i < t->n; i++) {
		char doc[256];
		const struct tg_credit_field *r = &t->rows[i];
		json_t *schema = schema_beside(r);
		snprintf(doc, sizeof doc, "With CSV and forms: %s%s", r->doc, r->kind == TG_CREDIT_NAMES ? LISTED : "");
		if (schema)
			json_object_set_new(all, r->name, json_pack("{s:o, s:s}", "schema", schema, "description", doc));
	}
	return all;
}

json_t *tg_credit_form_schema(const char *handler)
{
	const struct tg_credit_table *t = table_of(handler);
	if (t != &tg_credit_train_table)
		return NULL;
	json_t *properties = json_pack("{s:{s:s, s:s, s:s}}", "file", "type", "string", "contentMediaType", "text/csv", "description", "The table: CSV with a header row");
	for (unsigned i = 0; i < t->n; i++) {
		char doc[256];
		const struct tg_credit_field *r = &t->rows[i];
		json_t *schema = schema_beside(r);
		snprintf(doc, sizeof doc, "%s%s", r->doc, r->kind == TG_CREDIT_NAMES ? LISTED : "");
		if (schema) {
			json_object_set_new(schema, "description", json_string(doc));
			json_object_set_new(properties, r->name, schema);
		}
	}
	return json_pack("{s:s, s:b, s:[s], s:o}", "type", "object", "additionalProperties", 0, "required", "file", "properties", properties);
}
