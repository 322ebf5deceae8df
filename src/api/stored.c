/* Shared by the handlers whose answers come out of the database (see stored.h). */
#include "api/stored.h"
#include "api/fields.h"

enum tg_step tg_stored_fault(struct tg_exchange *x, enum tg_db_result r, const struct tg_err *err)
{
	tg_log(TG_LOG_F_ERROR, "store.refused", "s:why", err->text, NULL);
	if (r == TG_DB_AWAY)
		return tg_answer_problem(x, TG_E_unavailable, "store_away", "The database cannot be reached now; nothing was changed. Keys work on; try again.", NULL, "Retry-After: 2\r\n");
	return tg_answer_problem(x, TG_E_internal, "store_broken", "The database does not work.", NULL, NULL);
}

enum tg_step tg_stored_none(struct tg_exchange *x, const char *what)
{
	char text[64];
	snprintf(text, sizeof text, "There is no such %s.", what);
	return tg_answer_problem(x, TG_E_not_found, "not_found", text, NULL, NULL);
}

struct tg_slice tg_path_segment(const struct tg_exchange *x, size_t skip)
{
	struct tg_slice p = { x->head->path.p + skip, x->head->path.n - skip };
	const char *slash = memchr(p.p, '/', p.n);
	return (struct tg_slice){ p.p, slash ? (size_t)(slash - p.p) : p.n };
}

enum tg_step tg_may_not_give(struct tg_exchange *x, uint32_t missing)
{
	char names[TG_PERMS_TEXT], text[TG_PERMS_TEXT + 80];
	tg_perms_text(missing, ", ", names);
	snprintf(text, sizeof text, "Nobody can give what he does not hold: %s.", names);
	return tg_answer_problem(x, TG_E_forbidden, "forbidden", text, "permissions", NULL);
}

bool tg_may_give(struct tg_exchange *x, uint32_t perms, enum tg_step *answered)
{
	uint32_t missing = perms & ~x->perms;
	if (missing)
		*answered = tg_may_not_give(x, missing);
	return !missing;
}

void tg_put_time(struct tg_buf *b, int64_t s)
{
	char text[20];
	if (s <= 0) {
		tg_buf_lit(b, "null");
		return;
	}
	tg_rfc3339_s((uint64_t)s * 1000000u, text);
	tg_buf_char(b, '"');
	tg_buf_put(b, text, sizeof text);
	tg_buf_char(b, '"');
}

void tg_put_perms(struct tg_buf *b, uint32_t perms)
{
	char names[TG_PERMS_TEXT];
	tg_perms_text(perms, "\",\"", names);
	tg_buf_fmt(b, names[0] ? "[\"%s\"]" : "[%s]", names);
}

bool tg_page_of(struct tg_exchange *x, unsigned *most, char after[32], enum tg_step *answered)
{
	char number[8];
	*most = 100;
	after[0] = 0;
	long n = tg_query_get(x->head->query, "limit", number, sizeof number);
	uint64_t v;
	if (n != -1 && (n <= 0 || !tg_json_u64((struct tg_slice){ number, (size_t)n }, TG_PAGE_MAX, &v) || !v)) {
		*answered = tg_field_fault(x, "limit", "must be a whole number from 1 to 1000");
		return false;
	}
	if (n > 0)
		*most = (unsigned)v;
	if (tg_query_get(x->head->query, "after", after, 32) == -2) {
		*answered = tg_field_fault(x, "after", "must be an id of this list");
		return false;
	}
	return true;
}
