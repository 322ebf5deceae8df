/*
 * CSV as it comes (see csv.h). Every cell is text in CSV, so a column with one mistake in it could be called one of texts; but then a model learns nothing of its numbers and nobody is told. So a column
 * that has both is refused, as JSON's is, and what the file holds is never decided by its last row.
 */
#include "engine/csv.h"
#include "base/utf8.h"
#include "engine/build.h"
#include "engine/csv_cell.h"
#include "engine/fault.h"

enum state { MARK, START, PLAIN, QUOTED, QUOTE, CR };
struct tg_csv {
	enum state state;
	unsigned mark;        /* bytes of the byte order mark seen */
	bool begun;           /* something of this row was there */
	bool header;          /* it was read */
	uint64_t row, column; /* row: from 1, as a spreadsheet has it */
	struct tg_buf cell;   /* what came of the open one */
	struct tg_build *b;
	uint64_t *first;      /* [ncolumns]: the row of its first value; 0: none yet */
	struct tg_intake_fault *f;
};

struct tg_csv *tg_csv_new(uint64_t max_bytes)
{
	struct tg_csv *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->row = 1;
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
	free(r->first);
	tg_buf_free(&r->cell);
	tg_build_free(r->b);
	free(r);
}

void tg_csv_charge(struct tg_csv *r, struct tg_charge *c)
{
	r->b->charge = c;
}

uint64_t tg_csv_holds(const struct tg_csv *r)
{
	return r->cell.cap + tg_build_buffers(r->b);
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

/* Of a column the first cell with a value says what it holds, as in JSON. Both rows are named, since either may be the one with the mistake. */
static bool mixed(struct tg_csv *r, unsigned column)
{
	bool texts = r->b->columns[column].type == TG_COLUMN_TEXT;
	char why[128];
	snprintf(why, sizeof why, "is %s, but row %llu of this column is %s: a column holds one of the two", texts ? "a number" : "text", (unsigned long long)r->first[column], texts ? "text" : "a number");
	return at_cell(r, why);
}

static bool put_failed(struct tg_csv *r, unsigned column, enum tg_put put)
{
	if (put == TG_PUT_MIXED)
		return mixed(r, column);
	if (put == TG_PUT_WORDS)
		return at_cell(r, "is one more than the 1000000 different texts that a column may hold");
	return tg_fault_memory(r->f);
}

static bool data_cell(struct tg_csv *r, struct tg_slice cell)
{
	struct tg_build *b = r->b;
	unsigned column = (unsigned)r->column;
	enum tg_put put = TG_PUT_OK;
	double v;
	bool whole;
	if (!r->column && !tg_build_row(b))
		return tg_fault_memory(r->f);
	if (r->column >= b->ncolumns)
		return true; /* counted; the row's end says so */
	switch (tg_csv_cell(cell, &v, &whole)) {
	case TG_CSV_MISSING:
		tg_build_null(b, column);
		return true;
	case TG_CSV_INFINITE: return at_cell(r, "must be a finite number");
	case TG_CSV_NUMBER:
		put = tg_build_number(b, column, v, whole);
		break;
	case TG_CSV_TEXT:
		if (!tg_utf8_valid(cell.p, cell.n))
			return at_cell(r, "is no valid UTF-8");
		if (memchr(cell.p, 0, cell.n))
			return at_cell(r, "must not hold a NUL");
		put = tg_build_text(b, column, cell);
	}
	if (!r->first[column])
		r->first[column] = r->row;
	return put == TG_PUT_OK || put_failed(r, column, put);
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
	r->first = tg_charge(b->charge, b->nnames * sizeof *r->first) ? calloc(b->nnames, sizeof *r->first) : NULL;
	if (!r->first)
		return tg_fault_memory(r->f);
	while (b->ncolumns < b->nnames)
		if (!tg_build_column(b))
			return tg_fault_memory(r->f);
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
	*frame = tg_build_finish(r->b);
	r->b = NULL;
	return *frame || tg_fault_memory(f);
}
