#pragma once
/*
 * A form that uploads a table: multipart/form-data whose part `file` is CSV (csv.h) and goes to its reader as it comes, and whose other parts are texts, before or behind it: members with the values as
 * strings, for the gate to make what they are of (api/credit_body.h). Exactly one file, each name once. What the names mean is the gate's to say; that a file has another name than `file` is said here.
 */
#include "engine/frame.h"

#define TG_FORM_TEXT_MAX 16383 /* bytes of a text: as many as a parameter of a query string has */

struct tg_form;
/* boundary: one that tg_boundary_ok takes. NULL: no memory. */
struct tg_form *tg_form_new(struct tg_slice boundary, uint64_t max_bytes);
void tg_form_free(struct tg_form *r);
void tg_form_charge(struct tg_form *r, struct tg_charge *c); /* before the first byte */
uint64_t tg_form_holds(const struct tg_form *r); /* bytes, besides what it asked for as it grew */
/* After false nothing is fed any more. */
bool tg_form_feed(struct tg_form *r, const char *p, size_t n, struct tg_intake_fault *f);
/* *frame: the caller's. members: {"name":"text",...}, the form's. */
bool tg_form_end(struct tg_form *r, struct tg_frame **frame, struct tg_slice *members, struct tg_intake_fault *f);
