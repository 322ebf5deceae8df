#pragma once
/* The Cookie header of requests (RFC 6265 section 4.2.1). */
#include "base/slice.h"

/*
 * The value of the first cookie of that name, without the quotes around it; empty where there is none or it is empty. Names are compared as bytes. Borrowed from `cookies`. Pairs are split at ';' alone and
 * trimmed of blanks: what stands between is the client's, and a pair without '=' is none.
 */
struct tg_slice tg_cookie_get(struct tg_slice cookies, struct tg_slice name);
