#pragma once
/* Numbers as JSON writes them (RFC 8259 section 6), read exactly: the double nearest to what is written, ties to even. */
#include "base/slice.h"

#define TG_NUMBER_MAX 1024 /* characters */

/*
 * The number at p, and where it ends; *whole: written without a fraction and an exponent. Infinite where no double holds it. NULL: none begins there, it breaks off at end, or it is longer
 * than TG_NUMBER_MAX. A number that reaches end may go on after it: the caller knows.
 */
const char *tg_number(const char *p, const char *end, double *v, bool *whole);
