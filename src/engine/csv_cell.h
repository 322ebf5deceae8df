#pragma once
/*
 * What a cell of CSV is, which says of everything only how it is written. Read as pandas reads it, since that is where most of these files are made: a number may have blanks around it, a plus sign, zeros
 * in front (007 is 7) and nothing on one side of its point (.5, 5.); blanks only, and the words that stand for a value that is not there, are missing: NA, N/A, n/a, NaN, nan, null, NULL, None, <NA> and
 * the rest of pandas' list, as they are written there. Any other is text, true and false among them.
 */
#include "base/slice.h"

enum tg_csv_cell {
	TG_CSV_MISSING,
	TG_CSV_NUMBER,   /* *v; *whole: without a point and an exponent */
	TG_CSV_INFINITE, /* a number that no double holds */
	TG_CSV_TEXT,     /* its blanks belong to it */
};
enum tg_csv_cell tg_csv_cell(struct tg_slice cell, double *v, bool *whole);
