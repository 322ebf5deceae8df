#pragma once
/*
 * Tables of training and prediction data as columns: parsed once, from JSON rows ({"columns": [...], "data": [[...], ...]}) or CSV, as the bytes come; no tree of cells is ever built.
 * On disk (the spool) a frame is one file that is mapped and read back without being parsed again.
 */
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

#define TG_FRAME_COLUMNS_MAX 4096
#define TG_FRAME_NAME_MAX 256       /* bytes of a column's name, UTF-8 */
#define TG_FRAME_TEXT_MAX 65536     /* bytes of a text cell */
#define TG_FRAME_WORDS_MAX 1000000  /* different texts of a column */
#define TG_FRAME_NO_WORD UINT32_MAX /* a null in a column of texts */

enum tg_column_type {
	TG_COLUMN_EMPTY,  /* nulls only, or no row */
	TG_COLUMN_NUMBER, /* number[]: NaN is null. JSON true and false are 1 and 0. Infinities do not occur */
	TG_COLUMN_TEXT,   /* word[]: places in words[] */
};
struct tg_column {
	const char *name;          /* unique in its frame */
	enum tg_column_type type;
	bool integers;             /* NUMBER: every cell was written as a whole number */
	uint64_t nulls;
	double *number;            /* [rows]; NULL unless NUMBER */
	uint32_t *word;            /* [rows]; NULL unless TEXT */
	const struct tg_slice *words; /* in the order of their first use */
	uint32_t nwords;
};
struct tg_frame {
	uint64_t rows;
	unsigned ncolumns;
	struct tg_column *columns;
	/*
	 * Where they were kept (prediction only): the rows as they were written, one after the other, the cells of each with a comma between and no white space around; NULL: not kept.
	 * ends[row]: where the row ends in text. 8 bytes a row: an index of every cell would be larger than the body it came from.
	 */
	const char *text;
	const uint64_t *ends;      /* [rows] */
	struct tg_frame_owner *owner; /* what the memory belongs to; NULL: to whoever put the frame together, and tg_frame_free leaves it alone */
};
struct tg_frame_owner {
	void (*free)(struct tg_frame *f); /* the frame itself as well */
};
const struct tg_column *tg_frame_column(const struct tg_frame *f, const char *name); /* NULL: none */
void tg_frame_free(struct tg_frame *f); /* NULL is fine */
/* A row as it was written: `12,"x",null`. Only where f->ends is set. */
static inline struct tg_slice tg_frame_line(const struct tg_frame *f, uint64_t row)
{
	uint64_t from = row ? f->ends[row - 1] : 0;
	return (struct tg_slice){ f->text + from, (size_t)(f->ends[row] - from) };
}
/* The cells of a line, one after the other; *at begins at 0. False: there is none left. */
bool tg_frame_next_cell(struct tg_slice line, size_t *at, struct tg_slice *cell);
/* SHA-256 in hex over names and cells: the same for the same values, whether they came as JSON or as CSV, however they were spaced. False: no memory. */
bool tg_frame_hash(const struct tg_frame *f, char hex[65]);
uint64_t tg_frame_bytes(const struct tg_frame *f); /* of its file */
/* The spool's file, name.RANDOM.part while it is written, then renamed, not synced. name: no path. False: nothing of it is left; err: one sentence; errno. */
bool tg_frame_write(const struct tg_frame *f, int folder, const char *name, struct tg_err *err);
/* NULL: missing, truncated or damaged (it has a checksum); err: one sentence. */
struct tg_frame *tg_frame_read(int folder, const char *name, struct tg_err *err);

/*
 * Reading. A reader takes a whole request body piece by piece; members of the object that are no frames are kept as they are written (members, at most TG_INTAKE_MEMBERS_MAX bytes).
 * It needs at most six times the bytes it was fed (cells of one digit each), and 500 bytes a column; with numbers of six digits about twice as many as it was fed. A frame may have no rows: whether that will do
 * is for whoever uses it.
 */
#define TG_INTAKE_MEMBERS_MAX 65536
enum tg_intake_kind {
	TG_INTAKE_TRAIN,          /* 003 $train: frame `data` (required, at least one column), `geo` any JSON, dropped */
	TG_INTAKE_PREDICT,        /* 003 $predict: frame `future` (required; cells kept), `historic` (required, may have no rows: checked, counted, dropped), `geo` any JSON, dropped */
	TG_INTAKE_CREDIT_TRAIN,   /* 004 /train: frame `data`, optional */
	TG_INTAKE_CREDIT_PREDICT, /* 004 /predict: frame `data`, or `applications`: an array of objects validated by tables/application.def, which becomes a frame; one of the two */
	TG_INTAKE_CSV,            /* a CSV file (RFC 4180, a header row) */
	TG_INTAKE_FORM,           /* multipart/form-data with such a file (engine/form.h); its text fields are the members, as strings */
};
struct tg_intake_fault {
	char field[160]; /* "data.data[3][1]", "applications[0].person_age", "row 4, column rainfall" for CSV; "" : the body as a whole */
	char why[256];   /* "must be a number, a string, true, false or null"; no text of the caller's but names, cut */
	bool too_large;  /* past max_bytes: a 413 */
	bool memory;     /* none was left, or none was given (tg_frame_reader_charge): not the sender's fault */
};
struct tg_frame_reader; /* opaque */
struct tg_frame_reader *tg_frame_reader_new(enum tg_intake_kind kind, uint64_t max_bytes); /* NULL: no memory. Not for TG_INTAKE_FORM */
/* The same for a form, whose parts that boundary (base/boundary.h) separates: one that tg_boundary_ok takes. */
struct tg_frame_reader *tg_frame_reader_form(struct tg_slice boundary, uint64_t max_bytes);
void tg_frame_reader_free(struct tg_frame_reader *r);
/* From now on, before the first byte, what it and its frame hold is asked for at c (engine/charge.h), which outlives both. What is not given is a fault of `memory`. */
struct tg_charge;
void tg_frame_reader_charge(struct tg_frame_reader *r, struct tg_charge *c);
/* False: it cannot become one any more; f says why. */
bool tg_frame_reader_feed(struct tg_frame_reader *r, const char *p, size_t n, struct tg_intake_fault *f);
/* The member that the frame came in: "data", "applications", "future"; "" where there was none, or the body is no JSON. */
const char *tg_frame_reader_table(const struct tg_frame_reader *r);
/* The end of the body. *frame: NULL where the kind allows none and there was none; else the caller's. members: JSON object text, the reader's. hash: SHA-256 in hex over columns and cells, the same
 * for the same data however the JSON is spaced. */
bool tg_frame_reader_end(struct tg_frame_reader *r, struct tg_frame **frame, struct tg_slice *members, char hash[65], struct tg_intake_fault *f);
