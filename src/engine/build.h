#pragma once
/*
 * A frame that grows row by row, whatever it is read from. Nothing is allocated a cell: columns grow together by half, so that a table of numbers needs at most 12 bytes a cell while it is read; a
 * text is kept once a column. A column's type is that of its first cell that is no null.
 */
#include "engine/charge.h"
#include "engine/frame.h"

enum tg_put {
	TG_PUT_OK,
	TG_PUT_MIXED,  /* the column holds the other type */
	TG_PUT_WORDS,  /* more than TG_FRAME_WORDS_MAX different texts, or 4 GiB of them */
	TG_PUT_MEMORY,
};
union tg_build_word {
	struct {
		uint64_t at; /* in the column's text */
		uint32_t n, hash;
	} is;
	struct tg_slice slice; /* once the column is done: in the same place */
};
struct tg_build_column {
	enum tg_column_type type;
	bool fractions;
	uint64_t nulls;
	double *number;
	uint32_t *word;
	union tg_build_word *words;
	uint32_t nwords, words_cap, nslots;
	uint32_t *slots; /* open addressing: place in words + 1; 0: free */
	struct tg_buf text;
};
struct tg_build {
	struct tg_frame_owner owner; /* first: the frame made of it is freed through it */
	struct tg_frame frame;
	struct tg_charge *charge;    /* what grows is asked for; NULL: it is not. The caller's, and set before the first name */
	bool keep;                   /* false: cells are checked and counted, nothing is kept of them */
	unsigned ncolumns;           /* as named, or as many as the first row has cells */
	unsigned nnames;
	struct tg_build_column *columns; /* [columns_cap] */
	unsigned columns_cap;
	uint64_t rows, cap;          /* whole rows; rows there is room for */
	struct tg_buf names;         /* each with its NUL */
	uint32_t *name_at;           /* [TG_FRAME_COLUMNS_MAX] */
	uint16_t *name_slots;
	bool lines;
	struct tg_buf text;
	uint64_t *ends;
};
/* What is not asked for as it grows, because it grows with every cell or once: the reader adds it to its own (tg_frame_reader_feed). */
static inline uint64_t tg_build_buffers(const struct tg_build *b)
{
	return b ? b->names.cap + b->text.cap : 0;
}

/* max_bytes: of the body, a ceiling for what is kept as it was written. lines: rows are kept so, too. NULL: no memory. */
struct tg_build *tg_build_new(bool keep, bool lines, uint64_t max_bytes);
void tg_build_free(struct tg_build *b);
/* The next column's name. NULL, or what is wrong with it. */
const char *tg_build_name(struct tg_build *b, struct tg_slice name);
const char *tg_build_name_of(const struct tg_build *b, unsigned column); /* NULL: it has none yet */
/* A column more than there are. False: no memory. At most TG_FRAME_COLUMNS_MAX: the caller counts. */
bool tg_build_column(struct tg_build *b);
/* Room for a row; its cells come next, each once, and then tg_build_row_end. False: no memory. */
bool tg_build_row(struct tg_build *b);
bool tg_build_row_end(struct tg_build *b);
enum tg_put tg_build_first(struct tg_build *b, struct tg_build_column *c, enum tg_column_type type);
enum tg_put tg_build_text(struct tg_build *b, unsigned column, struct tg_slice text);
static inline enum tg_put tg_build_number(struct tg_build *b, unsigned column, double v, bool whole)
{
	struct tg_build_column *c = &b->columns[column];
	if (c->type != TG_COLUMN_NUMBER) {
		enum tg_put put = tg_build_first(b, c, TG_COLUMN_NUMBER);
		if (put != TG_PUT_OK)
			return put;
	}
	c->fractions |= !whole;
	if (b->keep)
		c->number[b->rows] = v;
	return TG_PUT_OK;
}
void tg_build_null(struct tg_build *b, unsigned column);
/* What was written of this row so far, where lines are kept. */
static inline void tg_build_written(struct tg_build *b, struct tg_slice cell, bool first)
{
	if (!first)
		tg_buf_char(&b->text, ',');
	tg_buf_slice(&b->text, cell);
}
/* The builder becomes the frame: names and columns are as many. NULL: no memory (the builder is freed). */
struct tg_frame *tg_build_finish(struct tg_build *b);
