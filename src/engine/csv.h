#pragma once
/*
 * CSV by RFC 4180: commas, quotes, a header row; line ends CRLF or LF; a byte order mark is passed over; a line with nothing on it is none. What a cell is, csv_cell.h says; quotes say nothing about
 * that. What is missing is null. A column holds numbers or texts; one with both is at fault. Rows are counted as a spreadsheet shows them: the header is row 1.
 */
#include "engine/frame.h"

struct tg_csv;
struct tg_csv *tg_csv_new(uint64_t max_bytes); /* NULL: no memory */
void tg_csv_free(struct tg_csv *r);
void tg_csv_charge(struct tg_csv *r, struct tg_charge *c); /* before the first byte */
uint64_t tg_csv_holds(const struct tg_csv *r); /* bytes, besides what it asked for as it grew */
/* After false nothing is fed any more. */
bool tg_csv_feed(struct tg_csv *r, const char *p, size_t n, struct tg_intake_fault *f);
bool tg_csv_end(struct tg_csv *r, struct tg_frame **frame, struct tg_intake_fault *f);
