#pragma once
/* What the handlers of keys, users and logins share: the answer when the database did not do it, and a path's id. */
#include "gate/job.h"
#include "store/db.h"

enum tg_step tg_stored_fault(struct tg_exchange *x, enum tg_db_result r, const struct tg_err *err); /* AWAY: 503; BROKEN: 500 and a line in the log */
enum tg_step tg_stored_none(struct tg_exchange *x, const char *what);                              /* 404 */
struct tg_slice tg_path_segment(const struct tg_exchange *x, size_t skip);                         /* of the path, without the first `skip` bytes, up to the next slash */
/* Nobody gives, or changes for somebody, what he lacks himself. True: all of `perms` are the caller's. False: *answered is the 403 that names what is missing. */
bool tg_may_give(struct tg_exchange *x, uint32_t perms, enum tg_step *answered);
enum tg_step tg_may_not_give(struct tg_exchange *x, uint32_t missing); /* that answer */
void tg_put_time(struct tg_buf *b, int64_t s);                         /* RFC 3339 in quotes; 0: null */
void tg_put_perms(struct tg_buf *b, uint32_t perms);                   /* a JSON array of names */
static inline int64_t tg_exchange_s(const struct tg_exchange *x)       /* seconds since the epoch, of the request */
{
	return (int64_t)(x->wall_us / 1000000u);
}
/* ?limit=1..1000 (100) and ?after=ID. False: *answered. */
#define TG_PAGE_MAX 1000
bool tg_page_of(struct tg_exchange *x, unsigned *most, char after[32], enum tg_step *answered);
