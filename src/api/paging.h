#pragma once
/* Pages of document 003's lists: a plain array, and {"items", "total", "page", "size", "pages"} where page and size are both given. */
#include "gate/exchange.h"

struct tg_paging {
	bool asked;          /* both were given */
	uint64_t page, size; /* from 1 */
};
/* ?page=1..&size=1.. False: *answered (400). */
bool tg_paging_of(struct tg_exchange *x, struct tg_paging *p, enum tg_step *answered);
static inline uint64_t tg_paging_skip(const struct tg_paging *p)
{
	return p->asked ? (p->page - 1) * p->size : 0;
}
static inline uint64_t tg_paging_most(const struct tg_paging *p)
{
	return p->asked ? p->size : UINT64_MAX;
}
/* Around the items, which the caller writes with commas between them. total: of all there are; only looked at where pages were asked for. */
void tg_paging_begin(struct tg_buf *b, const struct tg_paging *p);
void tg_paging_end(struct tg_buf *b, const struct tg_paging *p, uint64_t total);
