/*
 * GET /api/v1/usage: what each principal used in a range of days, or all of them each day. What loops have counted goes to the database first, so that the answer lacks nothing but the request that
 * asks; it comes from there alone, and a restart changes nothing in it.
 */
#include "api/fields.h"
#include "api/stored.h"
#include "gate/handlers.h"
#include "store/usage.h"

enum { ID_ROOM = 24, DAY_ROOM = 16 };

struct usage_job {
	struct tg_job job; /* first: callbacks cast */
	enum tg_db_result r;
	struct tg_err err;
	struct tg_usage_range range;
	char principal[ID_ROOM], after[32], last[32], currency[16];
	bool by_day;
	uint32_t start;
	unsigned most, n;
	struct tg_counts total;
	struct tg_buf out;
};

static void usage_free(struct tg_job *j)
{
	struct usage_job *u = (struct usage_job *)j;
	tg_buf_free(&u->out);
	free(u);
}

static bool put_row(void *ctx, const struct tg_usage_row *r)
{
	struct usage_job *u = ctx;
	tg_buf_lit(&u->out, "{");
	tg_usage_who_json(&u->out, r);
	tg_buf_char(&u->out, ',');
	tg_usage_counts_json(&u->out, &r->counts);
	tg_buf_lit(&u->out, "},");
	if (r->principal)
		snprintf(u->last, sizeof u->last, "%s", r->principal);
	else
		tg_day_text(r->day, u->last);
	u->n++;
	return !u->out.failed;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct usage_job *u = ctx;
	enum tg_db_result r = u->by_day ? tg_usage_by_day(db, &u->range, u->start, u->most, put_row, u, err)
					: tg_usage_by_principal(db, &u->range, u->after, u->most, put_row, u, err);
	return r == TG_DB_OK ? tg_usage_total(db, &u->range, &u->total, err) : r;
}

static void run(struct tg_job *j)
{
	struct usage_job *u = (struct usage_job *)j;
	u->r = tg_store_flush(j->gate->store, &u->err);
	if (u->r == TG_DB_OK)
		u->r = tg_store_read(j->gate->store, look, u, &u->err);
}

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct usage_job *u = (struct usage_job *)j;
	struct tg_buf *b = &u->out;
	char from[TG_DAY_TEXT], to[TG_DAY_TEXT];
	if (u->r != TG_DB_OK)
		return tg_stored_fault(x, u->r, &u->err);
	if (u->n && !b->failed)
		b->len--; /* the last comma */
	tg_buf_lit(b, "],\"total\":{");
	tg_usage_counts_json(b, &u->total);
	tg_buf_lit(b, "},\"currency\":");
	tg_buf_json(b, tg_slice_cstr(u->currency));
	tg_day_text(u->range.from, from);
	tg_day_text(u->range.to, to);
	tg_buf_fmt(b, ",\"from\":\"%s\",\"to\":\"%s\",\"next\":", from, to);
	tg_buf_json_or_null(b, u->n == u->most ? tg_slice_cstr(u->last) : (struct tg_slice){ 0 });
	tg_buf_char(b, '}');
	if (b->failed)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	return tg_answer(x, 200, "application/json", tg_buf_view(b), "Cache-Control: no-store\r\n");
}

/* What is asked for, or *answered. */
static bool read_query(struct tg_exchange *x, struct usage_job *u, enum tg_step *answered)
{
	char from[DAY_ROOM], to[DAY_ROOM], group[DAY_ROOM] = "";
	const char *field, *why;
	struct tg_slice q = x->head->query;
	/* A longer one than fits is no day either. */
	long f = tg_query_get(q, "from", from, sizeof from - 1), t = tg_query_get(q, "to", to, sizeof to - 1), g = tg_query_get(q, "group", group, sizeof group - 1);
	long p = tg_query_get(q, "principal", u->principal, sizeof u->principal - 1);
	from[f > 0 ? f : 0] = to[t > 0 ? t : 0] = group[g > 0 ? g : 0] = u->principal[p > 0 ? p : 0] = 0;
	if (p == -2 || p == 0)
		*answered = tg_field_fault(x, "principal", "must be the id of a key or user");
	else if (g != -1 && strcmp(group, "day") != 0 && strcmp(group, "principal") != 0)
		*answered = tg_field_fault(x, "group", "must be day or principal");
	else if (!tg_usage_range_parse(f == -1 ? NULL : from, t == -1 ? NULL : to, (uint32_t)(tg_exchange_s(x) / 86400), &u->range, &field, &why))
		*answered = tg_field_fault(x, field, why);
	else if ((u->by_day = strcmp(group, "day") == 0) && u->after[0] && !tg_day_parse(u->after, &u->start))
		*answered = tg_field_fault(x, "after", "must be a day of this list");
	else
		return true;
	return false;
}

enum tg_step tg_api_usage(struct tg_exchange *x)
{
	enum tg_step answered;
	unsigned most;
	char after[32];
	if (!x->snap->config->usage_days || !x->gl->gate->store)
		return tg_answer_problem(x, TG_E_unavailable, "no_usage", "No usage is counted here: [store] usage_days is 0, or there is no database.", NULL, NULL);
	if (!tg_page_of(x, &most, after, &answered))
		return answered;
	struct usage_job *u = calloc(1, sizeof *u);
	if (!u)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	memcpy(u->after, after, sizeof after);
	u->range.principal = u->principal;
	u->most = most;
	snprintf(u->currency, sizeof u->currency, "%s", x->snap->config->currency);
	if (!read_query(x, u, &answered)) {
		free(u);
		return answered;
	}
	u->start += u->after[0] && u->by_day;
	u->job.run = run;
	u->job.answer = answer;
	u->job.free = usage_free;
	tg_buf_init(&u->out, 4u << 20);
	tg_buf_lit(&u->out, "{\"usage\":[");
	return tg_job_start(x, &u->job);
}
