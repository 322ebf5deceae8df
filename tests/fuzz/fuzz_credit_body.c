/*
 * Document 004's options, out of a query string, a form and JSON. Beyond not crashing: what is refused says where and why; what is taken has all members and is taken again as it is.
 */
#include "api/credit_body.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void check(const struct tg_credit_table *t, const json_t *members)
{
	struct tg_fields_fault f = { "", "" };
	json_t *got = tg_credit_read(t, members, &f);
	if (!got) {
		must(f.why[0]);
		return;
	}
	must(json_object_size(got) == t->n);
	json_t *again = tg_credit_read(t, got, &f);
	must(again && json_equal(got, again));
	json_decref(again);
	json_t *frame = json_pack("{s:[{s:s,s:s},{s:s,s:s}]}", "columns", "name", "a", "type", "text", "name", "b", "type", "number");
	json_t *plan = frame && t == &tg_credit_train_table ? tg_credit_plan(got, frame, &f) : NULL;
	must(plan || t != &tg_credit_train_table || f.why[0]);
	json_decref(plan);
	json_decref(frame);
	json_decref(got);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const struct tg_credit_table *tables[] = { &tg_credit_train_table, &tg_credit_predict_table };
	json_t *members = json_loadb((const char *)data, size, JSON_REJECT_DUPLICATES, NULL);
	for (unsigned i = 0; i < 2; i++) {
		struct tg_fields_fault f = { "", "" };
		json_t *asked = tg_credit_query(tables[i], (struct tg_slice){ (const char *)data, size }, &f);
		must(asked || f.why[0]);
		if (asked)
			check(tables[i], asked);
		json_decref(asked);
		if (json_is_object(members))
			check(tables[i], members);
		asked = json_is_object(members) ? tg_credit_form(tables[i], TG_S("cv_folds=3"), members, &f) : NULL;
		must(asked || !json_is_object(members) || f.why[0]);
		if (asked)
			check(tables[i], asked);
		json_decref(asked);
	}
	json_decref(members);
	return 0;
}
