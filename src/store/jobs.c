/*
 * The statements for the queue (migrations/0002_ml.sql). As configs.c.
 *
 * Invariant: a row is changed by whoever holds its lease, by a reap after the lease ended, or deleted by a caller; each statement says so in its WHERE, so that a holder who lost his row writes nothing.
 */
#include "store/jobs.h"
#include "store/row.h"

#define COLUMNS "id, kind, status, progress, message, result, error, spec, artifact_id, principal, key_prefix, attempts, created_at, started_at, finished_at, updated_at"

const char *const tg_job_status_names[TG_JOB_STATUS_COUNT] = {
	[TG_JOB_PENDING] = "pending", [TG_JOB_RUNNING] = "running", [TG_JOB_COMPLETED] = "completed", [TG_JOB_FAILED] = "failed", [TG_JOB_CANCELED] = "canceled",
};

struct rows {
	tg_job_row_fn row;
	void *ctx;
	bool found;
};

/* What only a newer program could have written is failed: nobody runs it. */
static enum tg_job_status status_of(const struct tg_db_value *v)
{
	for (unsigned i = 0; i < TG_JOB_STATUS_COUNT; i++)
		if (strcmp(tg_row_text_or_empty(v), tg_job_status_names[i]) == 0)
			return (enum tg_job_status)i;
	return TG_JOB_FAILED;
}

static bool one_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	if (n != 16)
		return false;
	struct tg_job_row j = {
		.id = tg_row_text_or_empty(&v[0]), .kind = tg_row_text_or_empty(&v[1]), .status = status_of(&v[2]), .progress = (unsigned)tg_row_int(&v[3]), .message = tg_row_text_or_empty(&v[4]),
		.result = tg_row_text(&v[5]), .error = tg_row_text(&v[6]), .spec = tg_row_text_or_empty(&v[7]), .artifact_id = tg_row_text(&v[8]), .principal = tg_row_text_or_empty(&v[9]),
		.key_prefix = tg_row_text_or_empty(&v[10]), .attempts = (unsigned)tg_row_int(&v[11]), .created_us = tg_row_int(&v[12]), .started_us = tg_row_int(&v[13]),
		.finished_us = tg_row_int(&v[14]), .updated_us = tg_row_int(&v[15]),
	};
	r->found = true;
	return r->row(r->ctx, &j);
}

#define LIVE "status IN ('pending', 'running')"

/* Those of one principal that have not ended. */
static enum tg_db_result count_of(struct tg_db *db, const char *principal, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(principal);
	int64_t count = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM jobs WHERE principal = $1 AND " LIVE, &arg, 1, tg_row_one_int, &count, NULL, err);
	*n = (uint64_t)count;
	return r;
}

enum tg_db_result tg_job_rows_insert(struct tg_db *db, const struct tg_job_row *j, uint64_t key_most, enum tg_job_room *room, struct tg_err *err)
{
	uint64_t waiting, its = 0;
	enum tg_db_result r = tg_job_rows_count(db, TG_JOB_PENDING, &waiting, err);
	if (r == TG_DB_OK && key_most)
		r = count_of(db, j->principal ? j->principal : "", &its, err);
	*room = r != TG_DB_OK ? TG_JOB_ROOM : key_most && its >= key_most ? TG_JOB_KEY_FULL : waiting >= TG_JOB_PENDING_MAX ? TG_JOB_FULL : TG_JOB_ROOM;
	if (r != TG_DB_OK || *room != TG_JOB_ROOM)
		return r;
	struct tg_db_value args[] = {
		TG_DB_T(j->id), TG_DB_T(j->kind), TG_DB_T(tg_job_status_names[j->status]), TG_DB_I(j->progress), TG_DB_T(j->message ? j->message : ""), tg_text_or_null(j->result),
		tg_text_or_null(j->error), TG_DB_T(j->spec), tg_text_or_null(j->artifact_id), TG_DB_T(j->principal ? j->principal : ""), TG_DB_T(j->key_prefix ? j->key_prefix : ""),
		TG_DB_I(j->attempts), TG_DB_I(j->created_us), tg_int_or_null(j->started_us), tg_int_or_null(j->finished_us), TG_DB_I(j->updated_us), tg_text_or_null(j->place),
	};
	return tg_db_run(db, "INSERT INTO jobs (" COLUMNS ", place) VALUES ($1, $2, $3, $4, $5, $6, $7, $8, $9, $10, $11, $12, $13, $14, $15, $16, $17)", args, 17, NULL, NULL, NULL, err);
}

struct next {
	char *id;
	const struct tg_job_skip *skip;
};

static bool next_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct next *next = ctx;
	const char *id = n ? tg_row_text_or_empty(&v[0]) : "";
	if (next->skip && next->skip->skip(next->skip->ctx, id))
		return true;
	snprintf(next->id, TG_ULID_LEN + 1, "%s", id);
	return false;
}

/* The oldest; "": none. */
static enum tg_db_result next(struct tg_db *db, const char *kind, const char *owner, const struct tg_job_skip *skip, char id[TG_ULID_LEN + 1], struct tg_err *err)
{
	struct tg_db_value which[] = { TG_DB_T(kind), TG_DB_T(owner), TG_DB_I(1 + (skip ? skip->most : 0)) };
	struct next n = { id, skip };
	id[0] = 0;
	return tg_db_run(db, "SELECT id FROM jobs WHERE kind = $1 AND status = 'pending' AND (place IS NULL OR place = $2) ORDER BY created_at, id LIMIT $3", which, 3, next_row, &n, NULL, err);
}

enum tg_db_result tg_job_rows_any(struct tg_db *db, const char *kind, const char *owner, const struct tg_job_skip *skip, bool *any, struct tg_err *err)
{
	char id[TG_ULID_LEN + 1];
	enum tg_db_result r = next(db, kind, owner, skip, id, err);
	*any = id[0];
	return r;
}

enum tg_db_result tg_job_rows_claim(struct tg_db *db, const char *kind, const char *owner, const struct tg_job_skip *skip, int64_t now_us, tg_job_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	char id[TG_ULID_LEN + 1];
	*found = false;
	enum tg_db_result r = next(db, kind, owner, skip, id, err);
	if (r != TG_DB_OK || !id[0])
		return r;
	struct tg_db_value args[] = { TG_DB_T(id), TG_DB_T(owner), TG_DB_I(now_us), TG_DB_I(now_us + TG_JOB_LEASE_US) };
	int64_t changed = 0;
	r = tg_db_run(db,
		      "UPDATE jobs SET status = 'running', owner = $2, lease_ends = $4, attempts = attempts + 1, progress = 0, message = '', started_at = $3, updated_at = $3 "
		      "WHERE id = $1 AND status = 'pending'",
		      args, 4, NULL, NULL, &changed, err);
	return r == TG_DB_OK && changed ? tg_job_rows_get(db, id, row, ctx, found, err) : r;
}

enum tg_db_result tg_job_rows_beat(struct tg_db *db, const char *id, const char *owner, int64_t now_us, unsigned progress, const char *message, bool *ours, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(id), TG_DB_T(owner), TG_DB_I(now_us + TG_JOB_LEASE_US), TG_DB_I(progress), TG_DB_T(message ? message : ""), TG_DB_I(now_us) };
	int64_t changed = 0;
	/* A beat that says nothing new is no update: who looks at updated_at, or waits for changes, is not woken by it. */
	enum tg_db_result r = tg_db_run(db,
					"UPDATE jobs SET lease_ends = $3, updated_at = CASE WHEN progress = $4 AND message = $5 THEN updated_at ELSE $6 END, progress = $4, message = $5 "
					"WHERE id = $1 AND owner = $2 AND status = 'running'",
					args, 6, NULL, NULL, &changed, err);
	*ours = changed > 0;
	return r;
}

enum tg_db_result tg_job_rows_finish(struct tg_db *db, const char *id, const char *owner, enum tg_job_status status, const char *text, int64_t now_us, bool *ours, struct tg_err *err)
{
	bool done = status == TG_JOB_COMPLETED, again = status == TG_JOB_PENDING;
	struct tg_db_value args[] = { TG_DB_T(id), TG_DB_T(owner), TG_DB_T(tg_job_status_names[status]), done ? TG_DB_T(text ? text : "") : TG_DB_N,
				      done || again ? TG_DB_N : TG_DB_T(text ? text : ""), TG_DB_I(now_us), again ? TG_DB_N : TG_DB_I(now_us), TG_DB_I(done), TG_DB_I(again) };
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db,
					"UPDATE jobs SET status = $3, result = $4, error = $5, updated_at = $6, finished_at = $7, owner = NULL, lease_ends = NULL, "
					"progress = CASE WHEN $8 = 1 THEN 100 WHEN $9 = 1 THEN 0 ELSE progress END, message = CASE WHEN $9 = 1 THEN '' ELSE message END, "
					"started_at = CASE WHEN $9 = 1 THEN NULL ELSE started_at END WHERE id = $1 AND owner = $2 AND status = 'running'",
					args, 9, NULL, NULL, &changed, err);
	*ours = changed > 0;
	return r;
}

enum tg_db_result tg_job_rows_put_back(struct tg_db *db, const char *id, const char *owner, int64_t now_us, bool *ours, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(id), TG_DB_T(owner), TG_DB_I(now_us) };
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db,
					"UPDATE jobs SET status = 'pending', attempts = attempts - 1, progress = 0, message = '', started_at = NULL, updated_at = $3, owner = NULL, lease_ends = NULL "
					"WHERE id = $1 AND owner = $2 AND status = 'running'",
					args, 3, NULL, NULL, &changed, err);
	*ours = changed > 0;
	return r;
}

#define ENDED "status = 'running' AND (lease_ends IS NULL OR lease_ends <= $1 OR owner = $3)"

enum tg_db_result tg_job_rows_reap(struct tg_db *db, const char *owned_by, int64_t now_us, tg_job_row_fn failed, void *ctx, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(now_us), TG_DB_I(TG_JOB_TRIES), tg_text_or_null(owned_by) };
	struct rows rows = { failed, ctx, false };
	int64_t ended = 0, again = 0;
	enum tg_db_result r = failed ? tg_db_run(db, "SELECT " COLUMNS " FROM jobs WHERE attempts >= $2 AND " ENDED, args, 3, one_row, &rows, NULL, err) : TG_DB_OK;
	if (r == TG_DB_OK)
		r = tg_db_run(db,
			      "UPDATE jobs SET status = 'failed', error = 'The job''s worker ended ' || CAST(attempts AS TEXT) || ' times.', finished_at = $1, updated_at = $1, owner = NULL, "
			      "lease_ends = NULL WHERE attempts >= $2 AND " ENDED,
			      args, 3, NULL, NULL, &ended, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db,
			      "UPDATE jobs SET status = 'pending', progress = 0, message = '', started_at = NULL, updated_at = $1, owner = NULL, lease_ends = NULL WHERE attempts < $2 AND " ENDED, args,
			      3, NULL, NULL, &again, err);
	*n = (uint64_t)(ended + again);
	return r;
}

enum tg_db_result tg_job_rows_keep(struct tg_db *db, const char *owner, int64_t now_us, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(owner), TG_DB_I(now_us + TG_JOB_LEASE_US) };
	return tg_db_run(db, "UPDATE jobs SET lease_ends = $2 WHERE owner = $1 AND status = 'running'", args, 2, NULL, NULL, NULL, err);
}

/* The same rows for both statements: they are one transaction. */
#define ABANDONED "place = $1 AND " LIVE " AND EXISTS (SELECT 1 FROM spools WHERE spools.place = $1 AND unused_us >= $2) ORDER BY created_at, id LIMIT $3"

enum tg_db_result tg_job_rows_abandon(struct tg_db *db, const char *place, int64_t unused_us, uint64_t most, const char *error, int64_t now_us, tg_job_row_fn row, void *ctx, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(place), TG_DB_I(unused_us), tg_row_count(most), TG_DB_T(error), TG_DB_I(now_us) };
	struct rows rows = { row, ctx, false };
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT " COLUMNS " FROM jobs WHERE " ABANDONED, args, 3, one_row, &rows, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db,
			      "UPDATE jobs SET status = 'failed', error = $4, finished_at = $5, updated_at = $5, owner = NULL, lease_ends = NULL WHERE id IN (SELECT id FROM jobs WHERE " ABANDONED ")",
			      args, 5, NULL, NULL, &changed, err);
	*n = (uint64_t)changed;
	return r;
}

enum tg_db_result tg_job_rows_prune(struct tg_db *db, int64_t before_us, uint64_t most, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_I(before_us), tg_row_count(most) };
	int64_t changed = 0;
	enum tg_db_result r =
		tg_db_run(db, "DELETE FROM jobs WHERE id IN (SELECT id FROM jobs WHERE finished_at < $1 ORDER BY finished_at LIMIT $2)", args, 2, NULL, NULL, &changed, err);
	*n = (uint64_t)changed;
	return r;
}

enum tg_db_result tg_job_rows_get(struct tg_db *db, const char *id, tg_job_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	struct rows rows = { row, ctx, false };
	enum tg_db_result r = tg_db_run(db, "SELECT " COLUMNS " FROM jobs WHERE id = $1", &arg, 1, one_row, &rows, NULL, err);
	*found = rows.found;
	return r;
}

enum tg_db_result tg_job_rows_list(struct tg_db *db, enum tg_job_status status, uint64_t skip, uint64_t most, tg_job_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { tg_row_count(most), tg_row_count(skip), status < TG_JOB_STATUS_COUNT ? TG_DB_T(tg_job_status_names[status]) : TG_DB_N };
	struct rows rows = { row, ctx, false };
	if (status >= TG_JOB_STATUS_COUNT)
		return tg_db_run(db, "SELECT " COLUMNS " FROM jobs ORDER BY created_at, id LIMIT $1 OFFSET $2", args, 2, one_row, &rows, NULL, err);
	return tg_db_run(db, "SELECT " COLUMNS " FROM jobs WHERE status = $3 ORDER BY created_at, id LIMIT $1 OFFSET $2", args, 3, one_row, &rows, NULL, err);
}

enum tg_db_result tg_job_rows_making(struct tg_db *db, const char *artifact_id, bool *making, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(artifact_id);
	int64_t n = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM jobs WHERE artifact_id = $1 AND " LIVE, &arg, 1, tg_row_one_int, &n, NULL, err);
	*making = n > 0;
	return r;
}

enum tg_db_result tg_job_rows_count(struct tg_db *db, enum tg_job_status status, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value arg = status < TG_JOB_STATUS_COUNT ? TG_DB_T(tg_job_status_names[status]) : TG_DB_N;
	int64_t count = 0;
	enum tg_db_result r = status < TG_JOB_STATUS_COUNT ? tg_db_run(db, "SELECT COUNT(*) FROM jobs WHERE status = $1", &arg, 1, tg_row_one_int, &count, NULL, err)
							   : tg_db_run(db, "SELECT COUNT(*) FROM jobs", NULL, 0, tg_row_one_int, &count, NULL, err);
	*n = (uint64_t)count;
	return r;
}

enum tg_db_result tg_job_rows_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db, "DELETE FROM jobs WHERE id = $1", &arg, 1, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}

struct waiting {
	int64_t n, oldest;
};

static bool waiting_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	if (n == 2)
		*(struct waiting *)ctx = (struct waiting){ tg_row_int(&v[0]), tg_row_int(&v[1]) };
	return false;
}

enum tg_db_result tg_job_rows_waiting(struct tg_db *db, const char *kind, uint64_t *n, int64_t *oldest_us, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(kind);
	struct waiting w = { 0, 0 };
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*), MIN(created_at) FROM jobs WHERE kind = $1 AND status = 'pending'", &arg, 1, waiting_row, &w, NULL, err);
	*n = (uint64_t)w.n;
	*oldest_us = w.oldest;
	return r;
}
