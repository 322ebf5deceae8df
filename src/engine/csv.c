/*
 * CSV as it comes (see csv.h). What a column holds is only known at its end: as long as all cells were numbers, they are kept as they were written as well, and become texts with the first one
 * that is none. So 12.50 stays 12.50 in a column that has a name further down.
 */
#include "engine/csv.h"
#include "base/utf8.h"
#include "engine/build.h"
#include "engine/fault.h"
#include "engine/number.h"
#include <math.h>

enum state { MARK, START, PLAIN, QUOTED, QUOTE, CR };
struct tg_csv {
	enum state state;
	unsigned mark;        /* bytes of the byte order mark seen */
	bool begun;           /* something of this row was there */
	bool header;          /* it was read */
	uint64_t row, column; /* row: from 1, as a spreadsheet has it */
	struct tg_buf cell;   /* what came of the open one */
	struct tg_build *b;
	struct tg_buf *written; /* [ncolumns]: of a column of numbers, each cell: its length in two bytes, its text; nulls before its first number are not there */
	uint64_t max_bytes;
	struct tg_intake_fault *f;
};

struct tg_csv *tg_csv_new(uint64_t max_bytes)
{
	struct tg_csv *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->row = 1;
	r->max_bytes = max_bytes;
	tg_buf_init(&r->cell, TG_FRAME_TEXT_MAX);
	r->b = tg_build_new(true, false, max_bytes);
	if (r->b)
		return r;
	tg_csv_free(r);
	return NULL;
}

void tg_csv_free(struct tg_csv *r)
{
	if (!r)
		return;
	for (unsigned i = 0; r->written && r->b && i < r->b->ncolumns; i++)
		tg_buf_free(&r->written[i]);
	free(r->written);
	tg_buf_free(&r->cell);
	tg_build_free(r->b);
	free(r);
}

static bool at_row(struct tg_csv *r, const char *why)
{
	char field[160];
	snprintf(field, sizeof field, "row %llu", (unsigned long long)r->row);
	return tg_fault(r->f, field, "%s", why);
}

static bool at_cell(struct tg_csv *r, const char *why)
{
	char field[160], cut[TG_NAME_CUT], number[24];
	const char *name = r->header && r->column < r->b->nnames ? tg_name_cut(tg_slice_cstr(tg_build_name_of(r->b, (unsigned)r->column)), cut) : number;
	snprintf(number, sizeof number, "%llu", (unsigned long long)r->column + 1);
	snprintf(field, sizeof field, "row %llu, column %s", (unsigned long long)r->row, name);
	return tg_fault(r->f, field, "%s", why);
}

/* ---- cells ---- */

static bool put_failed(struct tg_csv *r, enum tg_put put)
{
	if (put == TG_PUT_WORDS)
		return at_cell(r, "is one more than the 1000000 different texts that a column may hold");
	return tg_fault_memory(r->f);
}

static bool keep_written(struct tg_csv *r, unsigned column, struct tg_slice cell)
{
	uint16_t n = (uint16_t)cell.n; /* of a number, or nothing */
	tg_buf_put(&r->written[column], (const char *)&n, sizeof n);
	tg_buf_slice(&r->written[column], cell);
	return !r->written[column].failed || tg_fault_memory(r->f);
}

static bool number(struct tg_csv *r, unsigned column, struct tg_slice cell, double v, bool whole)
{
	enum tg_put put = tg_build_number(r->b, column, v, whole);
	return put == TG_PUT_OK ? keep_written(r, column, cell) : put_failed(r, put);
}

/* The numbers of this column were texts all along. The kept ones are the last of its rows. */
static bool to_texts(struct tg_csv *r, unsigned column)
{
	struct tg_buf *w = &r->written[column];
	struct tg_build *b = r->b;
	uint64_t count = 0, row;
	uint16_t n;
	for (size_t at = 0; at < w->len; at += 2u + n, count++)
		memcpy(&n, w->p + at, sizeof n);
	if (!tg_build_to_texts(b, column))
		return tg_fault_memory(r->f);
	row = b->rows - count;
	for (size_t at = 0; at < w->len; at += 2u + n, row++) {
		memcpy(&n, w->p + at, sizeof n);
		enum tg_put put = n ? tg_build_text_at(b, column, row, (struct tg_slice){ w->p + at + 2, n }) : TG_PUT_OK;
		if (put != TG_PUT_OK)
			return put_failed(r, put);
	}
	tg_buf_free(w);
	return true;
}

static bool data_cell(struct tg_csv *r, struct tg_slice cell)
{
	struct tg_build *b = r->b;
	unsigned column = (unsigned)r->column;
	double v;
	bool whole;
	if (!r->column && !tg_build_row(b))
		return tg_fault_memory(r->f);
	if (r->column >= b->ncolumns)
		return true; /* counted; the row's end says so */
	enum tg_column_type type = b->columns[column].type;
	if (!cell.n) {
		tg_build_null(b, column);
		return type != TG_COLUMN_NUMBER || keep_written(r, column, cell);
	}
	if (type != TG_COLUMN_TEXT && tg_number(cell.p, cell.p + cell.n, &v, &whole) == cell.p + cell.n && isfinite(v))
		return number(r, column, cell, v, whole);
	if (!tg_utf8_valid(cell.p, cell.n))
		return at_cell(r, "is no valid UTF-8");
	if (memchr(cell.p, 0, cell.n))
		return at_cell(r, "must not hold a NUL");
	if (type == TG_COLUMN_NUMBER && !to_texts(r, column))
		return false;
	enum tg_put put = tg_build_text(b, column, cell);
	return put == TG_PUT_OK || put_failed(r, put);
}

static bool name_cell(struct tg_csv *r, struct tg_slice cell)
{
	const char *why = tg_utf8_valid(cell.p, cell.n) ? tg_build_name(r->b, cell) : "is no valid UTF-8";
	return why ? at_cell(r, why) : true;
}

/* A cell is whole: what was carried of it, and this. */
static bool cell_end(struct tg_csv *r, const char *p, size_t n)
{
	struct tg_slice cell = { p, n };
	if (r->cell.len) {
		tg_buf_put(&r->cell, p, n);
		if (r->cell.failed)
			return tg_fault_memory(r->f);
		cell = tg_buf_view(&r->cell);
	}
	if (!(r->header ? data_cell(r, cell) : name_cell(r, cell)))
		return false;
	r->cell.len = 0;
	r->column++;
	return true;
}

static bool header_end(struct tg_csv *r)
{
	struct tg_build *b = r->b;
	r->header = true;
	r->written = calloc(b->nnames, sizeof *r->written);
	if (!r->written)
		return tg_fault_memory(r->f);
	while (b->ncolumns < b->nnames) {
		tg_buf_init(&r->written[b->ncolumns], 2 * r->max_bytes + 16);
		if (!tg_build_column(b))
			return tg_fault_memory(r->f);
	}
	return true;
}

static bool row_end(struct tg_csv *r)
{
	struct tg_build *b = r->b;
	bool header = r->begun && !r->header;
	if (header && !header_end(r))
		return false;
	if (r->begun && r->column != b->ncolumns) {
		char why[128];
		snprintf(why, sizeof why, "has %llu cell%s, %u column%s named", (unsigned long long)r->column, r->column == 1 ? "" : "s", b->ncolumns, b->ncolumns == 1 ? " was" : "s were");
		return at_row(r, why);
	}
	if (r->begun && !header && !tg_build_row_end(b))
		return tg_fault_memory(r->f);
	r->begun = false;
	r->column = 0;
	r->row++;
	r->state = START;
	return true;
}

/* ---- bytes ---- */

/* What ends a cell: the comma or the line's end at *c. */
static bool delimiter(struct tg_csv *r, const char **c)
{
	char ch = *(*c)++;
	r->state = ch == '\r' ? CR : START;
	return ch == '\n' ? row_end(r) : true;
}

static bool fits(struct tg_csv *r, size_t n)
{
	return n <= TG_FRAME_TEXT_MAX - r->cell.len || at_cell(r, "is longer than 65536 bytes");
}

static bool carry(struct tg_csv *r, const char *p, size_t n)
{
	tg_buf_put(&r->cell, p, n);
	return !r->cell.failed || tg_fault_memory(r->f);
}

static bool start(struct tg_csv *r, const char **c)
{
	bool line_end = **c == '\n' || **c == '\r';
	if (line_end && !r->begun)
		return delimiter(r, c);
	r->begun = true;
	if (**c == '"') {
		r->state = QUOTED;
		++*c;
		return true;
	}
	if (line_end || **c == ',')
		return cell_end(r, "", 0) && delimiter(r, c);
	r->state = PLAIN;
	return true;
}

static bool plain(struct tg_csv *r, const char **c, const char *end)
{
	const char *e = *c;
	while (e < end && *e != ',' && *e != '\n' && *e != '\r' && *e != '"')
		e++;
	size_t n = (size_t)(e - *c);
	const char *from = *c;
	if (!fits(r, n))
		return false;
	*c = e;
	if (e == end)
		return carry(r, from, n);
	if (*e == '"')
		return at_cell(r, "has a quote in it and does not begin with one");
	return cell_end(r, from, n) && delimiter(r, c);
}

static bool quoted(struct tg_csv *r, const char **c, const char *end)
{
	const char *e = memchr(*c, '"', (size_t)(end - *c)), *from = *c;
	size_t n = (size_t)((e ? e : end) - from);
	if (!fits(r, n) || !carry(r, from, n))
		return false;
	*c = e ? e + 1 : end;
	r->state = e ? QUOTE : QUOTED;
	return true;
}

static bool quote(struct tg_csv *r, const char **c)
{
	if (**c == '"') {
		r->state = QUOTED;
		return fits(r, 1) && carry(r, (*c)++, 1);
	}
	if (**c != ',' && **c != '\n' && **c != '\r')
		return at_cell(r, "goes on behind its closing quote");
	return cell_end(r, "", 0) && delimiter(r, c);
}

static bool mark(struct tg_csv *r, const char **c)
{
	static const char bytes[] = "\xef\xbb\xbf";
	if (**c == bytes[r->mark]) {
		++*c;
		if (++r->mark == 3)
			r->state = START;
		return true;
	}
	r->begun = r->mark > 0; /* then it was part of a name */
	r->state = r->mark ? PLAIN : START;
	return carry(r, bytes, r->mark);
}

static bool step(struct tg_csv *r, const char **c, const char *end)
{
	switch (r->state) {
	case MARK: return mark(r, c);
	case START: return start(r, c);
	case PLAIN: return plain(r, c, end);
	case QUOTED: return quoted(r, c, end);
	case QUOTE: return quote(r, c);
	case CR: break;
	}
	if (**c != '\n')
		return at_row(r, "has a carriage return that no line feed follows");
	++*c;
	return row_end(r);
}

bool tg_csv_feed(struct tg_csv *r, const char *p, size_t n, struct tg_intake_fault *f)
{
	const char *c = p, *end = p + n;
	r->f = f;
	*f = (struct tg_intake_fault){ 0 };
	while (c < end)
		if (!step(r, &c, end))
			return false;
	return true;
}

bool tg_csv_end(struct tg_csv *r, struct tg_frame **frame, struct tg_intake_fault *f)
{
	r->f = f;
	*f = (struct tg_intake_fault){ 0 };
	*frame = NULL;
	if (r->state == MARK && r->mark) {
		r->begun = true;
		if (!carry(r, "\xef\xbb", r->mark))
			return false;
	}
	if (r->state == QUOTED)
		return at_cell(r, "begins with a quote and is not closed by one");
	if (r->begun && r->state != CR && !cell_end(r, "", 0))
		return false;
	if (r->begun && !row_end(r))
		return false;
	if (!r->header)
		return tg_fault(f, "", "has no header row");
	for (unsigned i = 0; i < r->b->ncolumns; i++)
		tg_buf_free(&r->written[i]);
	free(r->written);
	r->written = NULL;
	*frame = tg_build_finish(r->b);
	r->b = NULL;
	return *frame || tg_fault_memory(f);
}
