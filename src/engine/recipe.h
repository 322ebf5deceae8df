#pragma once
/*
 * From columns to the numbers a method computes with. A recipe is learnt from the training part alone and is a part of the model: which columns there are, which texts become columns of their
 * own (one-hot, in the order of their bytes), what stands in the place of a null, and how numbers are centred and scaled. A view is a recipe bound to a frame.
 */
#include "engine/learn.h"

#define TG_LEARN_WIDTH_MAX 10000          /* columns after one-hot */
#define TG_LEARN_CELLS_MAX (64u << 20)    /* rows times columns: half a gigabyte of numbers */
#define TG_LEARN_VALUE_BYTES_MAX (4u << 20) /* the texts of a recipe, bytes */

struct tg_feature {
	char *name;
	enum tg_column_type type;      /* EMPTY: it had no value in the training part; nothing is computed with it */
	uint32_t first, width;         /* its columns: NUMBER one, TEXT one a value, EMPTY none */
	struct tg_slice *values;       /* TEXT: [width], sorted by bytes, each its own memory */
	bool binary;                   /* NUMBER: there was 0 or 1 in every row of the training part that had a value; false in a model that was read back */
};
struct tg_recipe {
	unsigned nfeatures;
	struct tg_feature *features;
	uint32_t width;
	double *fill;                  /* [width] in the place of a null: linear 0, logistic the mean, trees NaN (they know what to do with it) */
	double *shift, *scale;         /* [width] a cell is (x - shift) / scale; scale > 0 */
	double *spread;                /* [width] standard deviation in the training part; NULL in a model that was read back */
};

/* A name as it may stand in a sentence: at most 80 bytes of it, cut between characters. */
struct tg_shown {
	char text[88];
};
struct tg_shown tg_shown(const char *name);

/* columns: places in f of the features; rows: places of the training part, ascending. False: err is a sentence, *r is empty. */
bool tg_recipe_learn(struct tg_recipe *r, enum tg_method method, const struct tg_frame *f, const unsigned *columns, unsigned ncolumns, const uint32_t *rows, size_t n, struct tg_err *err);
void tg_recipe_free(struct tg_recipe *r);

struct tg_view; /* opaque; borrows both */
/* NULL: err names the column that is missing or the row and column at fault. */
struct tg_view *tg_view_open(const struct tg_recipe *r, const struct tg_frame *f, struct tg_err *err);
void tg_view_close(struct tg_view *v);
/* out[n * width], row by row: the rows rows[0..n), or, where rows is NULL, from, from + 1, ... */
void tg_view_rows(const struct tg_view *v, const uint32_t *rows, size_t from, size_t n, double *out);
/* Rows that make a block of about half a megabyte: at least one. */
size_t tg_view_block(uint32_t width);
