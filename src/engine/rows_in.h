#pragma once
/*
 * The machine that reads JSON bodies, inside: its state, and what the files of its three grammars share. rows.c: the body's own members; rows_table.c: columns and rows; rows_application.c:
 * applications. A step looks at one character or takes one token, and leaves with the place that comes next. False: a fault, which is in r->f.
 */
#include "base/json_scan.h"
#include "engine/application.h"
#include "engine/build.h"
#include "engine/fault.h"
#include "engine/rows.h"
#include "engine/text.h"
#include "engine/token.h"

#define TG_ROWS_NAME_RAW (TG_TEXT_ESCAPE * TG_FRAME_NAME_MAX)
#define TG_ROWS_TEXT_RAW (TG_TEXT_ESCAPE * TG_FRAME_TEXT_MAX)

enum tg_place {
	BODY, FIRST_KEY, KEY, COLON, VALUE, SKIP, AFTER, DONE,       /* the body's object */
	T_FIRST, T_KEY, T_COLON, T_VALUE, T_AFTER,                   /* a table's object */
	C_FIRST, C_NAME, C_AFTER,                                    /* its columns */
	R_FIRST, R_ROW, R_AFTER,                                     /* its rows */
	X_FIRST, X_CELL, X_AFTER,                                    /* the cells of one */
	A_FIRST, A_OBJECT, A_AFTER, O_FIRST, O_KEY, O_COLON, O_VALUE, O_AFTER, /* applications, and the members of one */
};
enum tg_rows_what { KEEP, DROP, TABLE, CHECKED, APPLICATIONS };

struct tg_table {
	const char *name;
	struct tg_build *b;
	bool named, filled;         /* its columns came, its rows came */
};
struct tg_rows {
	enum tg_intake_kind kind;
	enum tg_place place;
	const char *p, *c, *end;    /* the piece, during a call: c is what is looked at */
	struct tg_intake_fault *f;  /* the caller's, during a call */
	uint64_t base, max_bytes;   /* base: bytes before this piece */
	struct tg_charge *charge;   /* the tables'; NULL: none */
	struct tg_tokens tokens;
	struct tg_buf scratch;
	struct tg_buf names;        /* of the body's members: a length in two bytes, then the name */
	unsigned nnames;
	enum tg_rows_what what;     /* of the member that is read */
	char cut[TG_NAME_CUT];      /* and its name */
	struct tg_json_scan scan;
	size_t step;
	struct tg_buf members;
	struct tg_table main, checked, *t;
	bool rows_next;             /* of the table's member: data and not columns */
	uint64_t cell;              /* of the row */
	unsigned field;             /* of the application */
	uint32_t given;
	struct tg_buf written;      /* its values, in the order they came */
	struct {
		size_t at, n;
	} value[TG_APPLICATION_FIELDS];
};

static inline uint64_t tg_rows_here(const struct tg_rows *r)
{
	return r->base + (uint64_t)(r->c - r->p);
}
static inline bool tg_may_be_value(char c)
{
	return c == '"' || c == '{' || c == '[' || c == '-' || (c >= '0' && c <= '9') || c == 't' || c == 'f' || c == 'n';
}
static inline const char *tg_json_space(const char *c, const char *end)
{
	while (c < end && (*c == ' ' || *c == '\n' || *c == '\r' || *c == '\t'))
		c++;
	return c;
}
bool tg_no_json(struct tg_rows *r, uint64_t at, const char *why);
/* The next token. False: none yet (and no fault), one that is longer than max (*is_long, and no fault), or a fault. */
bool tg_rows_token(struct tg_rows *r, size_t max, struct tg_slice *raw, bool *is_long);
/* What is between the quotes of a token, valid until the next one is taken. */
bool tg_rows_decoded(struct tg_rows *r, struct tg_slice raw, struct tg_slice *text);
/* What a step answers for a token that is none yet. */
static inline bool tg_rows_more(const struct tg_rows *r)
{
	return !r->f->why[0];
}
/* One character that must stand here. */
bool tg_rows_expect(struct tg_rows *r, char mark, enum tg_place then, const char *why);
/* A comma, or the end of what is enumerated: end is called where it is set. */
bool tg_rows_comma_or(struct tg_rows *r, enum tg_place next, char closing, bool (*end)(struct tg_rows *), enum tg_place behind);
/* A member's name, handed to `take` with its quotes; say: a fault of the object that it is in. */
bool tg_rows_key(struct tg_rows *r, char ch, bool (*take)(struct tg_rows *, struct tg_slice raw), bool (*say)(struct tg_rows *, const char *why));

/* ch: the first character of the token that is open, or what is at r->c. */
bool tg_table_step(struct tg_rows *r, char ch);
bool tg_applications_begin(struct tg_rows *r);
bool tg_application_step(struct tg_rows *r, char ch);
