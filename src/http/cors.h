#pragma once
/*
 * What pages of other origins may do (the Fetch standard's CORS protocol; seed ledger S2-53 to S2-57, S4-30 to S4-34, C-11). Pure functions over the
 * configuration and a head.
 *
 * An origin is allowed where it stands in server.cors_origins, byte by byte in the form that browsers write; "null" where it is listed. With "*" every
 * answer says "*", never credentials. With a list the answer to a listed origin names it, and every answer to a head that could be read has Vary: Origin, since the same URL is
 * answered differently.
 */
#include "base/buf.h"
#include "config/config.h"
#include "http/message.h"

enum tg_cors {
	TG_CORS_NONE,   /* nothing is said */
	TG_CORS_VARY,   /* not an origin of the list, or none: Vary: Origin */
	TG_CORS_ANY,    /* "*" */
	TG_CORS_LISTED, /* an origin of the list */
};

/* Not to be called where cors_origins is empty. *origin: for LISTED, of c. */
enum tg_cors tg_cors_judge(const struct tg_config *c, const struct tg_head *h, const char **origin);
/* The lines that an answer has by this, with CRLF. */
void tg_cors_lines(struct tg_buf *b, const struct tg_config *c, enum tg_cors v, const char *origin);
/* Whether a preflight asks for nothing but what is allowed: method (GET's is HEAD's too) and headers. */
bool tg_cors_allows(const struct tg_config *c, const struct tg_head *preflight);
/* The further lines of the answer to such a preflight. */
void tg_cors_preflight_lines(struct tg_buf *b, const struct tg_config *c);
/* Whether every name of a comma separated list, in any case, is one of `allowed`. Empty members count for nothing (RFC 9110 section 5.6.1). */
bool tg_cors_all_listed(struct tg_slice list, const struct tg_strlist *allowed);
