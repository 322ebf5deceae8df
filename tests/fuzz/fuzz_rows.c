/*
 * Bodies with tables. The first byte says of which kind, the second how they are cut. However that is, the outcome is one; what is taken is JSON, and its table has the values that jansson sees; a
 * line that was kept is the row it came from. What is refused is said in a sentence that has room.
 */
#include "engine/frame.h"
#include <jansson.h>
#include <math.h>
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

struct outcome {
	bool ok;
	struct tg_frame *frame;
	char *members, hash[65];
	struct tg_intake_fault fault;
};

static struct outcome take(enum tg_intake_kind kind, const char *p, size_t n, size_t step)
{
	struct outcome o = { .ok = true };
	struct tg_slice members;
	struct tg_frame_reader *r = tg_frame_reader_new(kind, 1u << 20);
	for (size_t i = 0, k; o.ok && i < n; i += k) {
		k = n - i < step ? n - i : step;
		char *piece = malloc(k);
		memcpy(piece, p + i, k);
		o.ok = tg_frame_reader_feed(r, piece, k, &o.fault);
		free(piece);
	}
	if (o.ok)
		o.ok = tg_frame_reader_end(r, &o.frame, &members, o.hash, &o.fault);
	if (o.ok)
		o.members = tg_slice_dup(members);
	tg_frame_reader_free(r);
	CHECK(o.ok == !o.fault.why[0] && (o.ok || !o.frame) && memchr(o.fault.why, 0, sizeof o.fault.why) && memchr(o.fault.field, 0, sizeof o.fault.field));
	return o;
}

static void same_cell(const struct tg_column *c, uint64_t row, const json_t *cell)
{
	if (json_is_string(cell))
		CHECK(c->type == TG_COLUMN_TEXT && tg_slice_eq(c->words[c->word[row]], (struct tg_slice){ json_string_value(cell), json_string_length(cell) }));
	else if (json_is_null(cell))
		CHECK(c->type == TG_COLUMN_EMPTY || (c->type == TG_COLUMN_TEXT ? c->word[row] == TG_FRAME_NO_WORD : isnan(c->number[row])));
	else
		CHECK(c->type == TG_COLUMN_NUMBER && c->number[row] == (json_is_number(cell) ? json_number_value(cell) : json_is_true(cell)));
}

static void same_table(const struct tg_frame *f, const json_t *table)
{
	const json_t *rows = json_object_get(table, "data");
	CHECK(json_array_size(rows) == f->rows && json_array_size(json_object_get(table, "columns")) == f->ncolumns);
	for (unsigned i = 0; i < f->ncolumns; i++) {
		CHECK(strcmp(f->columns[i].name, json_string_value(json_array_get(json_object_get(table, "columns"), i))) == 0);
		CHECK(tg_frame_column(f, f->columns[i].name) == &f->columns[i]);
		for (uint64_t r = 0; r < f->rows; r++)
			same_cell(&f->columns[i], r, json_array_get(json_array_get(rows, r), i));
	}
}

static void same_lines(const struct tg_frame *f)
{
	for (uint64_t r = 0; f->ends && r < f->rows; r++) {
		struct tg_slice line = tg_frame_line(f, r), cell;
		size_t at = 0;
		unsigned i = 0;
		for (; tg_frame_next_cell(line, &at, &cell); i++) {
			json_t *v = json_loadb(cell.p, cell.n, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
			CHECK(v && i < f->ncolumns);
			same_cell(&f->columns[i], r, v);
			json_decref(v);
		}
		CHECK(i == f->ncolumns);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	if (n < 2)
		return 0;
	enum tg_intake_kind kind = data[0] % 4;
	size_t step = 1 + data[1];
	const char *p = (const char *)data + 2;
	n -= 2;
	struct outcome whole = take(kind, p, n, SIZE_MAX), cut = take(kind, p, n, step);
	CHECK(whole.ok == cut.ok && strcmp(whole.hash, cut.hash) == 0 && strcmp(whole.fault.why, cut.fault.why) == 0 && strcmp(whole.fault.field, cut.fault.field) == 0);
	CHECK(!whole.ok || strcmp(whole.members, cut.members) == 0);
	if (whole.ok) {
		json_error_t e;
		json_t *root = json_loadb(p, n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
		CHECK(root || json_error_code(&e) == json_error_numeric_overflow || json_error_code(&e) == json_error_null_byte_in_key);
		json_t *kept = json_loads(whole.members, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
		CHECK(kept || json_error_code(&e) == json_error_numeric_overflow || json_error_code(&e) == json_error_null_byte_in_key);
		const json_t *table = json_object_get(root, kind == TG_INTAKE_PREDICT ? "future" : "data");
		if (whole.frame && json_is_object(table))
			same_table(whole.frame, table);
		if (whole.frame)
			same_lines(whole.frame);
		json_decref(root);
		json_decref(kept);
	}
	tg_frame_free(whole.frame);
	tg_frame_free(cut.frame);
	free(whole.members);
	free(cut.members);
	return 0;
}
