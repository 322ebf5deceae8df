/*
 * The statements of usage (see usage.h). Rows are added to where they are, so that several gates on one database count into the same rows. Who a principal is goes in once a day: often enough for a
 * key that changed its file, and no more work than that.
 */
#include "store/usage.h"
#include "policy/price.h"

#define DAYS_DEFAULT 30
#define COUNTS "requests, prompt_tokens, completion_tokens, cost, errors, limited, rows_seen, trainings, predictions" /* as TG_COUNTS */
#define SUM(column) "CAST(COALESCE(SUM(" column "), 0) AS BIGINT)"
#define SUMS \
	SUM("requests") ", " SUM("prompt_tokens") ", " SUM("completion_tokens") ", " SUM("cost") ", " SUM("errors") ", " SUM("limited") ", " SUM("rows_seen") ", " SUM("trainings") ", " SUM("predictions")
/* A principal's day costs at most ten million units: so no sum of days leaves the column's range. */
#define COST_MAX "10000000000000000"

static enum tg_db_result name_it(struct tg_db *db, const struct tg_owed *o, struct tg_err *err)
{
	const struct tg_use_about *a = o->about;
	if (a) {
		struct tg_db_value args[] = { TG_DB_T(o->id), TG_DB_T(a->source), TG_DB_T(a->label[0] ? a->label : a->source), TG_DB_T(a->prefix), TG_DB_T(a->label) };
		return tg_db_run(db,
				 "INSERT INTO usage_principals (principal, source, name, key_prefix, label) VALUES ($1, $2, $3, $4, $5) "
				 "ON CONFLICT (principal) DO UPDATE SET source = excluded.source, name = excluded.name",
				 args, 5, NULL, NULL, NULL, err);
	}
	struct tg_db_value arg = TG_DB_T(o->id);
	return tg_db_run(db,
			 "INSERT INTO usage_principals (principal, source, name, key_prefix, label) "
			 "SELECT k.id, 'database', k.name, COALESCE((SELECT s.prefix FROM api_key_secrets s WHERE s.key_id = k.id ORDER BY s.created_at DESC LIMIT 1), ''), '' "
			 "FROM api_keys k WHERE k.id = $1 UNION ALL SELECT u.id, 'user', u.name, '', '' FROM users u WHERE u.id = $1 "
			 "ON CONFLICT (principal) DO UPDATE SET name = excluded.name, key_prefix = excluded.key_prefix",
			 &arg, 1, NULL, NULL, NULL, err);
}

enum tg_db_result tg_usage_add(struct tg_db *db, const struct tg_owed *o, struct tg_err *err)
{
	enum tg_db_result r = TG_DB_OK;
	if (o->ndays && o->named != o->days[o->ndays - 1].day)
		r = name_it(db, o, err);
	for (unsigned d = 0; r == TG_DB_OK && d < o->ndays; d++) {
		struct tg_db_value args[2 + TG_COUNTS_N] = { TG_DB_I(o->days[d].day), TG_DB_T(o->id) };
		struct tg_counts c = o->days[d].counts;
		for (unsigned i = 0; i < TG_COUNTS_N; i++)
			args[2 + i] = TG_DB_I(tg_count_sum(*tg_counts_at(&c, i), 0));
		r = tg_db_run(db,
			      "INSERT INTO usage (day, principal, " COUNTS ") VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11) ON CONFLICT (principal, day) DO UPDATE SET "
			      "requests = usage.requests + excluded.requests, prompt_tokens = usage.prompt_tokens + excluded.prompt_tokens, "
			      "completion_tokens = usage.completion_tokens + excluded.completion_tokens, errors = usage.errors + excluded.errors, "
			      "cost = CASE WHEN excluded.cost > " COST_MAX " - usage.cost THEN " COST_MAX " ELSE usage.cost + excluded.cost END, "
			      "limited = usage.limited + excluded.limited, rows_seen = usage.rows_seen + excluded.rows_seen, "
			      "trainings = usage.trainings + excluded.trainings, predictions = usage.predictions + excluded.predictions",
			      args, 2 + TG_COUNTS_N, NULL, NULL, NULL, err);
	}
	return r;
}

enum tg_db_result tg_usage_forget(struct tg_db *db, uint32_t first, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_I(first);
	int64_t gone = 0;
	enum tg_db_result r = tg_db_run(db, "DELETE FROM usage WHERE day < $1", &arg, 1, NULL, NULL, &gone, err);
	if (r == TG_DB_OK && gone)
		r = tg_db_run(db, "DELETE FROM usage_principals WHERE NOT EXISTS (SELECT 1 FROM usage u WHERE u.principal = usage_principals.principal)", NULL, 0, NULL, NULL, NULL, err);
	return r;
}

/* ---- lists ---- */

struct rows {
	tg_usage_row_fn row;
	void *ctx;
};

static void counts_of(const struct tg_db_value *v, struct tg_counts *out)
{
	for (unsigned i = 0; i < TG_COUNTS_N; i++)
		*tg_counts_at(out, i) = v[i].kind == TG_DB_INT && v[i].i > 0 ? (uint64_t)v[i].i : 0;
}

static void text_of(const struct tg_db_value *v, char *out, size_t cap)
{
	size_t n = v->kind == TG_DB_TEXT ? v->s.n < cap - 1 ? v->s.n : cap - 1 : 0;
	if (n)
		memcpy(out, v->s.p, n);
	out[n] = 0;
}

static bool principal_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	char text[5][408]; /* a key's name has 100 characters of at most four bytes */
	if (n != 5 + TG_COUNTS_N)
		return true;
	for (unsigned i = 0; i < 5; i++)
		text_of(&v[i], text[i], sizeof text[i]);
	struct tg_usage_row row = { .principal = text[0], .name = text[1], .source = text[2], .prefix = text[3], .label = text[4] };
	counts_of(v + 5, &row.counts);
	return r->row(r->ctx, &row);
}

enum tg_db_result tg_usage_by_principal(struct tg_db *db, const struct tg_usage_range *range, const char *after, unsigned most, tg_usage_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(range->from), TG_DB_I(range->to), TG_DB_T(after), TG_DB_T(range->principal), TG_DB_I(most) };
	struct rows r = { row, ctx };
	return tg_db_run(db,
			 "SELECT u.principal, p.name, p.source, p.key_prefix, p.label, " SUMS " FROM usage u LEFT JOIN usage_principals p ON p.principal = u.principal "
			 "WHERE u.day >= $1 AND u.day <= $2 AND u.principal > $3 AND ($4 = '' OR u.principal = $4) "
			 "GROUP BY u.principal, p.name, p.source, p.key_prefix, p.label ORDER BY u.principal LIMIT $5",
			 args, 5, principal_row, &r, NULL, err);
}

static bool day_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	if (n != 1 + TG_COUNTS_N || v[0].kind != TG_DB_INT || v[0].i < 0 || v[0].i > TG_DAY_MAX)
		return true;
	struct tg_usage_row row = { .day = (uint32_t)v[0].i, .principal = NULL };
	counts_of(v + 1, &row.counts);
	return r->row(r->ctx, &row);
}

enum tg_db_result tg_usage_by_day(struct tg_db *db, const struct tg_usage_range *range, uint32_t start, unsigned most, tg_usage_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(start > range->from ? start : range->from), TG_DB_I(range->to), TG_DB_T(range->principal), TG_DB_I(most) };
	struct rows r = { row, ctx };
	return tg_db_run(db, "SELECT day, " SUMS " FROM usage WHERE day >= $1 AND day <= $2 AND ($3 = '' OR principal = $3) GROUP BY day ORDER BY day LIMIT $4", args, 4, day_row, &r, NULL, err);
}

static bool total_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	if (n == TG_COUNTS_N)
		counts_of(v, ctx);
	return true;
}

enum tg_db_result tg_usage_total(struct tg_db *db, const struct tg_usage_range *range, struct tg_counts *out, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(range->from), TG_DB_I(range->to), TG_DB_T(range->principal) };
	*out = (struct tg_counts){ 0 };
	return tg_db_run(db, "SELECT " SUMS " FROM usage WHERE day >= $1 AND day <= $2 AND ($3 = '' OR principal = $3)", args, 3, total_row, out, NULL, err);
}

/* ---- in words ---- */

bool tg_usage_range_parse(const char *from, const char *to, uint32_t today, struct tg_usage_range *out, const char **field, const char **why)
{
	out->to = today;
	*why = "must be a day, as 2026-11-26";
	*field = "to";
	if (to && !tg_day_parse(to, &out->to))
		return false;
	out->from = out->to >= DAYS_DEFAULT - 1 ? out->to - (DAYS_DEFAULT - 1) : 0;
	*field = "from";
	if (from && !tg_day_parse(from, &out->from))
		return false;
	*why = "must not be after `to`";
	return out->from <= out->to;
}

void tg_usage_counts_json(struct tg_buf *b, const struct tg_counts *c)
{
	char cost[TG_COST_TEXT];
	tg_cost_text(c->cost, cost);
	tg_buf_fmt(b, "\"requests\":%llu,\"errors\":%llu,\"limited\":%llu,\"prompt_tokens\":%llu,\"completion_tokens\":%llu,\"trainings\":%llu,\"predictions\":%llu,\"rows\":%llu,\"cost\":%s",
		   (unsigned long long)c->requests, (unsigned long long)c->errors, (unsigned long long)c->limited, (unsigned long long)c->prompt_tokens,
		   (unsigned long long)c->completion_tokens, (unsigned long long)c->trainings, (unsigned long long)c->predictions, (unsigned long long)c->rows, cost);
}

static void member(struct tg_buf *b, const char *name, const char *text)
{
	tg_buf_fmt(b, ",\"%s\":", name);
	tg_buf_json_or_null(b, text[0] ? tg_slice_cstr(text) : (struct tg_slice){ 0 });
}

void tg_usage_who_json(struct tg_buf *b, const struct tg_usage_row *r)
{
	char day[TG_DAY_TEXT];
	if (!r->principal) {
		tg_day_text(r->day, day);
		tg_buf_fmt(b, "\"day\":\"%s\"", day);
		return;
	}
	tg_buf_lit(b, "\"principal\":");
	tg_buf_json(b, tg_slice_cstr(r->principal));
	member(b, "name", r->name);
	member(b, "source", r->source);
	member(b, "key_prefix", r->prefix);
	member(b, "label", r->label);
}
