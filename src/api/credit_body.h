#pragma once
/* What document 004's bodies have beside the data, by tables/credit.def, and what of it depends on the data's columns. Pure; jansson trees. */
#include "api/fields.h"

enum tg_credit_kind { TG_CREDIT_METHOD, TG_CREDIT_TASK, TG_CREDIT_TEXT, TG_CREDIT_FILE, TG_CREDIT_NUMBER, TG_CREDIT_WHOLE, TG_CREDIT_BOOL, TG_CREDIT_NAMES };
struct tg_credit_field {
	const char *name;
	enum tg_credit_kind kind;
	double min, max;
	const char *deflt; /* JSON; "": it is required */
	const char *doc;
};
struct tg_credit_table {
	const struct tg_credit_field *rows;
	unsigned n;
};
extern const struct tg_credit_table tg_credit_train_table, tg_credit_predict_table;

/* New reference: an object with a member for each row, the given value or the default. NULL: fault; field "": no memory. */
json_t *tg_credit_read(const struct tg_credit_table *t, const json_t *members, struct tg_fields_fault *fault);
/* For the description of the interface: the schema of that handler's JSON body, data and applications included; {name: {schema, description}} of its query string, where its body may be CSV; and
 * the schema of a form with such a file. New references; NULL: it is another handler, or takes no CSV. */
json_t *tg_credit_schema(const char *handler);
json_t *tg_credit_parameters(const char *handler);
json_t *tg_credit_form_schema(const char *handler);
/* The same members out of a query string, for tg_credit_read: "model_type=xgboost&cv_folds=3&selected_features=a,b" (or a JSON array of names). New reference; NULL: fault, as above. */
json_t *tg_credit_query(const struct tg_credit_table *t, struct tg_slice query, struct tg_fields_fault *fault);
/* The same, where a form stands beside the query string: fields {name: text}, each value read as one of the query string. A name in both is a fault. */
json_t *tg_credit_form(const struct tg_credit_table *t, struct tg_slice query, const json_t *fields, struct tg_fields_fault *fault);
/* The plan of a training (api/ml_plan.h), from what tg_credit_read made of its body and from the frame's columns. config's target becomes the column's name. New reference; NULL: fault, as above. */
json_t *tg_credit_plan(json_t *config, const json_t *frame, struct tg_fields_fault *fault);
