/*
 * Tables in JSON: {"columns": [...], "data": [[...], ...]}, either member first. Where the rows come first their number of cells is the first row's, and the names are counted at the end. The cells of
 * a row have a loop of their own (cells()): a number costs a call and a store, and whatever is none goes the slow way, which alone knows what is wrong with it.
 */
#include "engine/number.h"
#include "engine/rows_in.h"
#include <math.h>

static bool in_table(struct tg_rows *r, const char *member, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "%s.%s", r->t->name, member);
	return tg_fault(r->f, field, "%s", why);
}

static bool of_table(struct tg_rows *r, const char *why)
{
	return tg_fault(r->f, r->t->name, "%s", why);
}

static bool at_name(struct tg_rows *r, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "%s.columns[%u]", r->t->name, r->t->b->nnames);
	return tg_fault(r->f, field, "%s", why);
}

static bool at_row(struct tg_rows *r, uint64_t row, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "%s.data[%llu]", r->t->name, (unsigned long long)row);
	return tg_fault(r->f, field, "%s", why);
}

static bool at_cell(struct tg_rows *r, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "%s.data[%llu][%llu]", r->t->name, (unsigned long long)r->t->b->rows, (unsigned long long)r->cell);
	return tg_fault(r->f, field, "%s", why);
}

static bool table_member(struct tg_rows *r, struct tg_slice raw)
{
	struct tg_slice name;
	char cut[TG_NAME_CUT];
	if (!tg_rows_decoded(r, raw, &name))
		return false;
	bool columns = tg_slice_eq(name, TG_S("columns"));
	if (!columns && !tg_slice_eq(name, TG_S("data")))
		return in_table(r, tg_name_cut(name, cut), "is not known: a table has columns and data");
	if (columns ? r->t->named : r->t->filled)
		return in_table(r, columns ? "columns" : "data", "is given twice");
	*(columns ? &r->t->named : &r->t->filled) = true;
	r->rows_next = !columns;
	r->place = T_COLON;
	return true;
}

static bool name(struct tg_rows *r)
{
	struct tg_slice raw, text;
	bool is_long;
	if (!tg_rows_token(r, TG_ROWS_NAME_RAW, &raw, &is_long))
		return is_long ? at_name(r, "is longer than 256 bytes") : tg_rows_more(r);
	if (!tg_rows_decoded(r, raw, &text))
		return false;
	const char *why = tg_build_name(r->t->b, text);
	if (why)
		return at_name(r, why);
	r->place = C_AFTER;
	return true;
}

/* All names are there. Where rows came before them, the count is compared at the table's end. */
static bool names_end(struct tg_rows *r)
{
	struct tg_build *b = r->t->b;
	while (!b->rows && b->ncolumns < b->nnames)
		if (!tg_build_column(b))
			return tg_fault_memory(r->f);
	if (!b->nnames && r->t != &r->checked)
		return in_table(r, "columns", "must name at least one column");
	return true;
}

static bool ragged(struct tg_rows *r, uint64_t row, uint64_t cells, unsigned columns, bool named)
{
	char why[128], most[64];
	snprintf(most, sizeof most, named ? "%u column%s named" : "the first row has %u%.0s", columns, columns == 1 ? " was" : "s were");
	snprintf(why, sizeof why, "has %llu cell%s, %s", (unsigned long long)cells, cells == 1 ? "" : "s", most);
	return at_row(r, row, why);
}

static bool table_end(struct tg_rows *r)
{
	struct tg_build *b = r->t->b;
	if (!r->t->named)
		return in_table(r, "columns", "is required");
	if (!r->t->filled)
		return in_table(r, "data", "is required");
	if (b->ncolumns != b->nnames)
		return ragged(r, 0, b->ncolumns, b->nnames, true);
	return true;
}

static bool fixed(const struct tg_rows *r)
{
	return r->t->named || r->t->b->rows;
}

/* Before a cell is put into its column. *column: false where the row has more cells than there are columns; it is read on for the count. */
static bool room(struct tg_rows *r, bool *column)
{
	struct tg_build *b = r->t->b;
	*column = r->cell < b->ncolumns;
	if (*column || fixed(r))
		return true;
	if (b->ncolumns == TG_FRAME_COLUMNS_MAX)
		return at_cell(r, "is one more than the 4096 columns that a table may have");
	*column = true;
	return tg_build_column(b) || tg_fault_memory(r->f);
}

static bool not_put(struct tg_rows *r, enum tg_put put, const char *is)
{
	const struct tg_build *b = r->t->b;
	char cut[TG_NAME_CUT], why[200];
	const char *named = tg_build_name_of(b, (unsigned)r->cell), *holds = b->columns[r->cell].type == TG_COLUMN_TEXT ? "texts" : "numbers";
	if (put == TG_PUT_MEMORY)
		return tg_fault_memory(r->f);
	if (put == TG_PUT_WORDS)
		return at_cell(r, "is one more than the 1000000 different texts that a column may hold");
	if (named)
		snprintf(why, sizeof why, "%s, the column %s holds %s", is, tg_name_cut(tg_slice_cstr(named), cut), holds);
	else
		snprintf(why, sizeof why, "%s, its column holds %s", is, holds);
	return at_cell(r, why);
}

static const char cell_rule[] = "must be a number, a string, true, false or null";

/* A cell that is no plain number, or one that a piece's end cuts through. */
static bool slow_cell(struct tg_rows *r)
{
	struct tg_slice raw, text;
	bool is_long, column, whole;
	bool text_cell = (r->tokens.open ? r->tokens.first : *r->c) == '"';
	if (!tg_rows_token(r, text_cell ? TG_ROWS_TEXT_RAW : TG_NUMBER_MAX, &raw, &is_long)) {
		if (is_long)
			return at_cell(r, text_cell ? "is longer than 65536 bytes" : "is longer than 1024 characters");
		return tg_rows_more(r);
	}
	if (!room(r, &column))
		return false;
	struct tg_build *b = r->t->b;
	enum tg_put put = TG_PUT_OK;
	const char *is = "is text";
	if (text_cell) {
		if (!tg_rows_decoded(r, raw, &text))
			return false;
		if (text.n > TG_FRAME_TEXT_MAX)
			return at_cell(r, "is longer than 65536 bytes");
		if (memchr(text.p, 0, text.n))
			return at_cell(r, "must not hold a NUL");
		if (column)
			put = tg_build_text(b, (unsigned)r->cell, text);
	} else if (tg_slice_eq(raw, TG_S("null"))) {
		if (column)
			tg_build_null(b, (unsigned)r->cell);
	} else {
		double v = raw.p[0] == 't';
		bool truth = tg_slice_eq(raw, TG_S("true")) || tg_slice_eq(raw, TG_S("false"));
		is = truth ? "is true or false" : "is a number";
		if (truth)
			whole = true;
		else if (tg_number(raw.p, raw.p + raw.n, &v, &whole) != raw.p + raw.n)
			return at_cell(r, cell_rule);
		if (!isfinite(v))
			return at_cell(r, "must be a finite number");
		if (column)
			put = tg_build_number(b, (unsigned)r->cell, v, whole);
	}
	if (put != TG_PUT_OK)
		return not_put(r, put, is);
	if (b->lines && column)
		tg_build_written(b, raw, !r->cell);
	r->cell++;
	r->place = X_AFTER;
	return true;
}

static bool row_end(struct tg_rows *r)
{
	struct tg_build *b = r->t->b;
	if (r->cell != b->ncolumns)
		return ragged(r, b->rows, r->cell, b->ncolumns, r->t->named);
	return tg_build_row_end(b) || tg_fault_memory(r->f);
}

/* The hot loop: a row's numbers and what is between them. It leaves with the place set wherever it is not at home. */
static bool cells(struct tg_rows *r)
{
	struct tg_build *b = r->t->b;
	const char *c = r->c, *end = r->end;
	for (;;) {
		double v;
		bool whole;
		c = tg_json_space(c, end);
		const char *e = c < end && (*c == '-' || (*c >= '0' && *c <= '9')) && r->cell < b->ncolumns ? tg_number(c, end, &v, &whole) : NULL;
		if (!e || e == end || !tg_token_ends(*e) || !isfinite(v))
			break;
		enum tg_put put = tg_build_number(b, (unsigned)r->cell, v, whole);
		if (put != TG_PUT_OK)
			return not_put(r, put, "is a number");
		if (b->lines)
			tg_build_written(b, (struct tg_slice){ c, (size_t)(e - c) }, !r->cell);
		r->cell++;
		c = tg_json_space(e, end);
		r->place = X_AFTER;
		if (c == end || *c != ',') {
			r->c = c;
			return true;
		}
		c++;
		r->place = X_CELL;
	}
	r->c = c;
	if (c == end)
		return true;
	if (*c == '{' || *c == '[') {
		bool column;
		return room(r, &column) && at_cell(r, cell_rule);
	}
	if (tg_token_ends(*c) && *c != '"')
		return tg_no_json(r, tg_rows_here(r), "value expected");
	return slow_cell(r);
}

static bool row_begin(struct tg_rows *r)
{
	r->cell = 0;
	r->place = X_FIRST;
	return tg_build_row(r->t->b) || tg_fault_memory(r->f);
}

bool tg_table_step(struct tg_rows *r, char ch)
{
	switch (r->place) {
	case T_FIRST: return ch == '}' ? tg_rows_expect(r, '}', AFTER, "") && table_end(r) : tg_rows_key(r, ch, table_member, of_table);
	case T_KEY: return tg_rows_key(r, ch, table_member, of_table);
	case T_COLON: return tg_rows_expect(r, ':', T_VALUE, "colon expected");
	case T_VALUE:
		if (ch != '[' && !tg_may_be_value(ch))
			return tg_no_json(r, tg_rows_here(r), "value expected");
		if (ch != '[')
			return in_table(r, r->rows_next ? "data" : "columns", r->rows_next ? "must be an array of rows" : "must be an array of names");
		r->c++;
		r->place = r->rows_next ? R_FIRST : C_FIRST;
		return true;
	case T_AFTER: return tg_rows_comma_or(r, T_KEY, '}', table_end, AFTER);
	case C_FIRST:
		if (ch == ']')
			return tg_rows_expect(r, ']', T_AFTER, "") && names_end(r);
		r->place = C_NAME;
		return true;
	case C_NAME:
		if (ch != '"')
			return tg_may_be_value(ch) ? at_name(r, "must be a string") : tg_no_json(r, tg_rows_here(r), "value expected");
		return name(r);
	case C_AFTER: return tg_rows_comma_or(r, C_NAME, ']', names_end, T_AFTER);
	case R_FIRST:
		if (ch == ']')
			return tg_rows_expect(r, ']', T_AFTER, "");
		r->place = R_ROW;
		return true;
	case R_ROW:
		if (ch != '[')
			return tg_may_be_value(ch) ? at_row(r, r->t->b->rows, "must be an array of cells") : tg_no_json(r, tg_rows_here(r), "value expected");
		r->c++;
		return row_begin(r);
	case R_AFTER: return tg_rows_comma_or(r, R_ROW, ']', NULL, T_AFTER);
	case X_FIRST:
		if (ch == ']')
			return tg_rows_expect(r, ']', R_AFTER, "") && row_end(r);
		r->place = X_CELL;
		return true;
	case X_CELL: return r->tokens.open ? slow_cell(r) : cells(r);
	default: return tg_rows_comma_or(r, X_CELL, ']', row_end, R_AFTER); /* X_AFTER */
	}
}
