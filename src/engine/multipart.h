#pragma once
/*
 * multipart/form-data (RFC 7578; RFC 2046 section 5.1) as it comes: bytes in, events out, nothing kept but a part's head and what may be a boundary. The same events and faults however the bytes are cut.
 *
 * A delimiter is CRLF, two dashes and the boundary, then blanks and CRLF, or two dashes for the last one; what only looks like it is data. Preamble and epilogue are passed over. Lines end with CRLF: a
 * boundary or a header that ends with a bare LF is a fault, since readers differ in what they make of it. Of a part's headers Content-Disposition, Content-Type and Content-Transfer-Encoding count, each once.
 */
#include "base/boundary.h"
#include "engine/frame.h"

#define TG_PARTS_MAX 64
#define TG_PART_HEAD_MAX 4096   /* bytes of a part's headers */
#define TG_PART_NAME_MAX 256    /* bytes of its name */

struct tg_part {
	struct tg_slice name;     /* UTF-8, not empty, no longer than TG_PART_NAME_MAX */
	bool file;                /* it has a filename, which is not looked at */
	struct tg_slice type;     /* without its parameters; p NULL: not given */
	struct tg_slice encoding; /* the same */
};
/* Each may end it: false with *f set. What they are given lives during the call. */
struct tg_multipart_events {
	bool (*part)(void *ctx, const struct tg_part *part, struct tg_intake_fault *f);
	bool (*data)(void *ctx, const char *p, size_t n, struct tg_intake_fault *f); /* n > 0 */
	bool (*end)(void *ctx, struct tg_intake_fault *f);
};
struct tg_multipart;
/* boundary: one that tg_boundary_ok takes. events lives as long. NULL: no memory. */
struct tg_multipart *tg_multipart_new(struct tg_slice boundary, const struct tg_multipart_events *events, void *ctx);
void tg_multipart_free(struct tg_multipart *m);
/* After false nothing is fed any more. */
bool tg_multipart_feed(struct tg_multipart *m, const char *p, size_t n, struct tg_intake_fault *f);
/* False: the last boundary has not come. */
bool tg_multipart_end(struct tg_multipart *m, struct tg_intake_fault *f);
