#pragma once
/* Strings as JSON writes them (RFC 8259 section 7). */
#include "base/buf.h"

#define TG_TEXT_ESCAPE 6 /* a byte of text is at most so many bytes of JSON: \u0000 */

/* The closing quote of a string that c is inside of, or end. *escaped: the byte at c follows a backslash; kept for the next piece. */
const char *tg_text_end(const char *c, const char *end, bool *escaped);
/* What is between the quotes of a string, decoded: `in` itself where it says what it is, else scratch (emptied first). NULL, or why it is no JSON string; a failed scratch is for the caller to see. */
const char *tg_text(struct tg_slice in, struct tg_buf *scratch, struct tg_slice *out);
