#pragma once
/* The JSON bodies of frame.h, one machine for all of them. Not for TG_INTAKE_CSV (csv.h) and TG_INTAKE_FORM (form.h). max_bytes: the caller counts; here it bounds what is kept. */
#include "engine/frame.h"

struct tg_rows;
struct tg_rows *tg_rows_new(enum tg_intake_kind kind, uint64_t max_bytes); /* NULL: no memory */
void tg_rows_free(struct tg_rows *r);
void tg_rows_charge(struct tg_rows *r, struct tg_charge *c); /* before the first byte */
uint64_t tg_rows_holds(const struct tg_rows *r); /* bytes, besides what it asked for as it grew */
/* After false nothing is fed any more. */
bool tg_rows_feed(struct tg_rows *r, const char *p, size_t n, struct tg_intake_fault *f);
const char *tg_rows_table(const struct tg_rows *r); /* tg_frame_reader_table */
bool tg_rows_end(struct tg_rows *r, struct tg_frame **frame, struct tg_slice *members, struct tg_intake_fault *f);
