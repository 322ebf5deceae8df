/* Pages (see paging.h). One of the two alone is checked and then has no effect, as clients of the origin know it. */
#include "api/paging.h"
#include "api/fields.h"

#define PAGE_MAX 1000000000ull /* of both, so that their product is no overflow; how much an answer may hold is bounded in bytes */

static bool number(struct tg_exchange *x, const char *name, uint64_t max, const char *why, bool *given, uint64_t *out, enum tg_step *answered)
{
	char text[16];
	long n = tg_query_get(x->head->query, name, text, sizeof text);
	*given = n != -1;
	if (!*given || (n > 0 && tg_json_u64((struct tg_slice){ text, (size_t)n }, max, out) && *out))
		return true;
	*answered = tg_field_fault(x, name, why);
	return false;
}

bool tg_paging_of(struct tg_exchange *x, struct tg_paging *p, enum tg_step *answered)
{
	bool page, size;
	*p = (struct tg_paging){ 0 };
	if (!number(x, "page", PAGE_MAX, "must be a whole number from 1 to 1000000000", &page, &p->page, answered) ||
	    !number(x, "size", PAGE_MAX, "must be a whole number from 1 to 1000000000", &size, &p->size, answered))
		return false;
	p->asked = page && size;
	return true;
}

void tg_paging_begin(struct tg_buf *b, const struct tg_paging *p)
{
	if (p->asked)
		tg_buf_lit(b, "{\"items\":");
	tg_buf_char(b, '[');
}

void tg_paging_end(struct tg_buf *b, const struct tg_paging *p, uint64_t total)
{
	tg_buf_char(b, ']');
	if (!p->asked)
		return;
	tg_buf_lit(b, ",\"total\":");
	tg_buf_u64(b, total);
	tg_buf_lit(b, ",\"page\":");
	tg_buf_u64(b, p->page);
	tg_buf_lit(b, ",\"size\":");
	tg_buf_u64(b, p->size);
	tg_buf_lit(b, ",\"pages\":");
	tg_buf_u64(b, (total + p->size - 1) / p->size);
	tg_buf_char(b, '}');
}
