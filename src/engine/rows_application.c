/* Applications for a loan: objects that become rows. Their members may come in any order; the row has the table's order. */
#include "engine/number.h"
#include "engine/rows_in.h"

_Static_assert(TG_APPLICATION_FIELDS <= 32, "given has a bit for each");

static bool at_application(struct tg_rows *r, const char *member, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "applications[%llu]%s%s", (unsigned long long)r->main.b->rows, *member ? "." : "", member);
	return tg_fault(r->f, field, "%s", why);
}

static bool of_application(struct tg_rows *r, const char *why)
{
	return at_application(r, "", why);
}

bool tg_applications_begin(struct tg_rows *r)
{
	for (unsigned i = 0; i < TG_APPLICATION_FIELDS; i++)
		if (tg_build_name(r->main.b, tg_slice_cstr(tg_application_name(i))) || !tg_build_column(r->main.b))
			return tg_fault_memory(r->f);
	r->place = A_FIRST;
	return true;
}

static bool field_name(struct tg_rows *r, struct tg_slice raw)
{
	struct tg_slice text;
	char cut[TG_NAME_CUT];
	if (!tg_rows_decoded(r, raw, &text))
		return false;
	r->field = tg_application_find(text);
	if (r->field == TG_APPLICATION_FIELDS)
		return at_application(r, tg_name_cut(text, cut), "is not known");
	if (r->given & 1u << r->field)
		return at_application(r, tg_application_name(r->field), "is given twice");
	r->given |= 1u << r->field;
	r->place = O_COLON;
	return true;
}

static bool field_fault(struct tg_rows *r)
{
	char rule[256];
	return at_application(r, tg_application_name(r->field), tg_application_rule(r->field, rule));
}

static bool field_value(struct tg_rows *r, char ch)
{
	struct tg_slice raw, text;
	bool is_long, whole;
	double v;
	struct tg_build *b = r->main.b;
	enum tg_put put;
	if (ch == '{' || ch == '[')
		return field_fault(r);
	if (tg_token_ends(ch) && ch != '"')
		return tg_no_json(r, tg_rows_here(r), "value expected");
	if (!tg_rows_token(r, TG_NUMBER_MAX, &raw, &is_long))
		return is_long ? field_fault(r) : tg_rows_more(r);
	if (ch == '"') {
		if (!tg_rows_decoded(r, raw, &text))
			return false;
		if (!tg_application_is_text(r->field) || !tg_application_text_ok(r->field, text))
			return field_fault(r);
		put = tg_build_text(b, r->field, text);
	} else {
		if (tg_application_is_text(r->field) || tg_number(raw.p, raw.p + raw.n, &v, &whole) != raw.p + raw.n || !tg_application_number_ok(r->field, v))
			return field_fault(r);
		put = tg_build_number(b, r->field, v, whole);
	}
	r->value[r->field].at = r->written.len;
	r->value[r->field].n = raw.n;
	tg_buf_slice(&r->written, raw);
	if (put != TG_PUT_OK || r->written.failed)
		return tg_fault_memory(r->f);
	r->place = O_AFTER;
	return true;
}

static bool application_end(struct tg_rows *r)
{
	struct tg_build *b = r->main.b;
	for (unsigned i = 0; i < TG_APPLICATION_FIELDS; i++) {
		if (!(r->given & 1u << i))
			return at_application(r, tg_application_name(i), "is required");
		tg_build_written(b, (struct tg_slice){ r->written.p + r->value[i].at, r->value[i].n }, !i);
	}
	return tg_build_row_end(b) || tg_fault_memory(r->f);
}

static bool application_begin(struct tg_rows *r)
{
	r->given = 0;
	r->written.len = 0;
	r->place = O_FIRST;
	return tg_build_row(r->main.b) || tg_fault_memory(r->f);
}

bool tg_application_step(struct tg_rows *r, char ch)
{
	switch (r->place) {
	case A_FIRST:
		if (ch == ']')
			return tg_fault(r->f, "applications", "must hold at least one application");
		r->place = A_OBJECT;
		return true;
	case A_OBJECT:
		if (ch != '{')
			return tg_may_be_value(ch) ? at_application(r, "", "must be an object") : tg_no_json(r, tg_rows_here(r), "value expected");
		r->c++;
		return application_begin(r);
	case A_AFTER: return tg_rows_comma_or(r, A_OBJECT, ']', NULL, AFTER);
	case O_FIRST: return ch == '}' ? tg_rows_expect(r, '}', A_AFTER, "") && application_end(r) : tg_rows_key(r, ch, field_name, of_application);
	case O_KEY: return tg_rows_key(r, ch, field_name, of_application);
	case O_COLON: return tg_rows_expect(r, ':', O_VALUE, "colon expected");
	case O_VALUE: return field_value(r, ch);
	default: return tg_rows_comma_or(r, O_KEY, '}', application_end, A_AFTER); /* O_AFTER */
	}
}
