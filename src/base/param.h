#pragma once
/* Parameters of a header's value (RFC 9110 section 5.6.6; RFC 2045 section 5.1): ; name=value or ; name="value", as Content-Type and Content-Disposition have them. */
#include "base/slice.h"

/* What stands before the first semicolon, trimmed: the media type, the disposition. *rest: what follows, for tg_param_next. */
struct tg_slice tg_param_main(struct tg_slice value, struct tg_slice *rest);
/*
 * The next one; *rest goes on behind it. *raw: what is between the quotes as it was written, with its backslashes, or a value without quotes, up to a blank or semicolon: not only what RFC 9110 calls
 * a token, for clients write boundaries with / and = in them bare.
 */
enum tg_param { TG_PARAM_ONE, TG_PARAM_END, TG_PARAM_BAD };
enum tg_param tg_param_next(struct tg_slice *rest, struct tg_slice *name, struct tg_slice *raw);
