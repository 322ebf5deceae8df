/* CSV. The first byte says how it is cut: the outcome is one. What is taken and written again as JSON is the same table, hash for hash. */
#include "engine/frame.h"
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

static bool take(enum tg_intake_kind kind, const char *p, size_t n, size_t step, struct tg_frame **frame, char hash[65], struct tg_intake_fault *f)
{
	struct tg_slice members;
	struct tg_frame_reader *r = tg_frame_reader_new(kind, 1u << 24);
	bool ok = true;
	*frame = NULL;
	hash[0] = 0;
	*f = (struct tg_intake_fault){ 0 };
	for (size_t i = 0, k; ok && i < n; i += k) {
		k = n - i < step ? n - i : step;
		char *piece = malloc(k);
		memcpy(piece, p + i, k);
		ok = tg_frame_reader_feed(r, piece, k, f);
		free(piece);
	}
	ok = ok && tg_frame_reader_end(r, frame, &members, hash, f);
	tg_frame_reader_free(r);
	CHECK(ok == !f->why[0] && ok == (*frame != NULL));
	return ok;
}

static void put_json(struct tg_buf *b, const struct tg_frame *f)
{
	tg_buf_lit(b, "{\"data\":{\"columns\":[");
	for (unsigned i = 0; i < f->ncolumns; i++) {
		tg_buf_cstr(b, i ? "," : "");
		tg_buf_json(b, tg_slice_cstr(f->columns[i].name));
	}
	tg_buf_lit(b, "],\"data\":[");
	for (uint64_t r = 0; r < f->rows; r++) {
		tg_buf_cstr(b, r ? ",[" : "[");
		for (unsigned i = 0; i < f->ncolumns; i++) {
			const struct tg_column *c = &f->columns[i];
			tg_buf_cstr(b, i ? "," : "");
			if (c->type == TG_COLUMN_NUMBER && !isnan(c->number[r]))
				tg_buf_fmt(b, "%.17g", c->number[r]);
			else if (c->type == TG_COLUMN_TEXT && c->word[r] != TG_FRAME_NO_WORD)
				tg_buf_json(b, c->words[c->word[r]]);
			else
				tg_buf_lit(b, "null");
		}
		tg_buf_char(b, ']');
	}
	tg_buf_lit(b, "]}}");
	CHECK(!b->failed);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct tg_frame *whole, *cut, *again;
	struct tg_intake_fault f, g;
	char a[65], b[65];
	if (!n)
		return 0;
	bool ok = take(TG_INTAKE_CSV, (const char *)data + 1, n - 1, SIZE_MAX, &whole, a, &f);
	CHECK(take(TG_INTAKE_CSV, (const char *)data + 1, n - 1, 1 + data[0], &cut, b, &g) == ok);
	CHECK(strcmp(a, b) == 0 && strcmp(f.why, g.why) == 0 && strcmp(f.field, g.field) == 0);
	if (ok) {
		struct tg_buf json;
		tg_buf_init(&json, 1u << 24);
		put_json(&json, whole);
		CHECK(take(TG_INTAKE_TRAIN, json.p, json.len, SIZE_MAX, &again, b, &g));
		CHECK(strcmp(a, b) == 0);
		tg_frame_free(again);
		tg_buf_free(&json);
	}
	tg_frame_free(whole);
	tg_frame_free(cut);
	return 0;
}
