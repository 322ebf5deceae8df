/*
 * /api/v1/jobs (document 003; seed ledger S3-61 to S3-65, C-09, C-10, C-43): what was asked of the queue. The body has the members of the document and those of its origin. What a job is to do and who asked for it
 * are not told: any key may look at any job.
 */
#include "api/jobs.h"
#include "api/entity.h"
#include "audit/event.h"
#include "gate/handlers.h"
#include "jobs/runner.h"

#define PATH "/api/v1/jobs/"

struct job_record {
	struct tg_entity r; /* first: callbacks cast */
	enum tg_job_status only;
	bool lived;        /* it was pending or running */
	char *kind, *spec; /* owned: what it was to do */
};

static void put_text(struct tg_buf *b, const char *name, const char *text)
{
	tg_buf_fmt(b, ",\"%s\":", name);
	tg_buf_json_or_null(b, tg_slice_cstr(text));
}

static void put_time(struct tg_buf *b, const char *name, int64_t us)
{
	tg_buf_fmt(b, ",\"%s\":", name);
	tg_put_time(b, us / 1000000);
}

void tg_put_job(struct tg_buf *b, const struct tg_job_row *j)
{
	tg_buf_fmt(b, "{\"id\":\"%s\"", j->id);
	put_text(b, "kind", j->kind);
	put_text(b, "status", tg_job_status_names[j->status]);
	put_text(b, "result", j->result);
	put_text(b, "error", j->error);
	put_text(b, "error_traceback", NULL); /* the origin's member; what a trace shows is the machine's business */
	tg_put_times_us(b, j->created_us, j->updated_us);
	put_time(b, "submitted_at", j->created_us);
	put_time(b, "started_at", j->started_us);
	put_time(b, "finished_at", j->finished_us);
	put_text(b, "artifact_id", j->artifact_id);
	tg_buf_fmt(b, ",\"progress\":%u", j->progress);
	put_text(b, "message", j->message);
	tg_buf_char(b, '}');
}

/* ---- on the job pool ---- */

static bool item(void *ctx, const struct tg_job_row *row)
{
	struct tg_entity *r = ctx;
	tg_entity_comma(r);
	tg_put_job(&r->out, row);
	return !r->out.failed;
}

static enum tg_db_result list(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct job_record *j = ctx;
	struct tg_entity *r = &j->r;
	enum tg_db_result rc = r->page.asked ? tg_job_rows_count(db, j->only, &r->total, err) : TG_DB_OK;
	tg_paging_begin(&r->out, &r->page);
	if (rc == TG_DB_OK)
		rc = tg_job_rows_list(db, j->only, tg_paging_skip(&r->page), tg_paging_most(&r->page), item, r, err);
	tg_paging_end(&r->out, &r->page, r->total);
	return rc;
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	return tg_job_rows_get(db, r->id, item, r, &r->found, err);
}

static void drop(struct tg_entity *r)
{
	struct job_record *j = (struct job_record *)r;
	free(j->kind);
	free(j->spec);
	j->kind = j->spec = NULL;
}

static bool look_whether_it_lives(void *ctx, const struct tg_job_row *row)
{
	struct job_record *j = ctx;
	drop(&j->r); /* a transaction may be tried again */
	j->lived = row->status == TG_JOB_RUNNING || row->status == TG_JOB_PENDING;
	j->kind = strdup(row->kind);
	j->spec = strdup(row->spec);
	return true;
}

static enum tg_db_result delete(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct job_record *j = ctx;
	enum tg_db_result rc = tg_job_rows_get(db, j->r.id, look_whether_it_lives, j, &j->r.found, err);
	return rc == TG_DB_OK && j->r.found ? tg_job_rows_delete(db, j->r.id, &j->r.found, err) : rc;
}

/* ---- on the loop ---- */

static enum tg_step none(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_not_found, "not_found", "Job not found", NULL, NULL);
}

static enum tg_step listed(struct tg_entity *r, struct tg_exchange *x)
{
	return tg_entity_answer(r, x, 200, "Cache-Control: no-store\r\n");
}

static enum tg_step shown(struct tg_entity *r, struct tg_exchange *x)
{
	return r->found ? tg_entity_answer(r, x, 200, "Cache-Control: no-store\r\n") : none(x);
}

/* The row is gone, so that whoever runs it will stop at his next beat; he is told at once where he is of this process, and what data it had is removed: also if the client has left meanwhile.
 * What the trail has of its beginning gets its end here, for whoever stops says nothing. */
static void cancel(struct tg_entity *r)
{
	struct job_record *j = (struct job_record *)r;
	struct tg_gate *g = r->job.gate;
	if (!r->found)
		return;
	tg_entity_log(r, j->lived ? "job.canceled" : "job.deleted");
	if (j->lived && j->kind && j->spec) {
		tg_train_canceled(r->id, j->kind, j->spec, r->principal);
		tg_audit_flush();
	}
	if (j->lived && g->runner)
		tg_runner_cancel(g->runner, r->id);
}

static enum tg_step deleted(struct tg_entity *r, struct tg_exchange *x)
{
	return !r->found ? none(x) : tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL);
}

#define SIZE .size = sizeof(struct job_record)
static const struct tg_entity_do lists = { SIZE, .work = list, .done = listed };
static const struct tg_entity_do gets = { SIZE, .kept = true, .work = get, .done = shown };
static const struct tg_entity_do deletes = { SIZE, .writes = true, .work = delete, .after = cancel, .done = deleted, .drop = drop };

static bool status_filter(struct tg_exchange *x, enum tg_job_status *only, enum tg_step *answered)
{
	char text[16];
	long n = tg_query_get(x->head->query, "status_filter", text, sizeof text);
	*only = TG_JOB_STATUS_COUNT;
	for (unsigned i = 0; n > 0 && i < TG_JOB_STATUS_COUNT; i++)
		if (strcmp(text, tg_job_status_names[i]) == 0)
			*only = (enum tg_job_status)i;
	if (n == -1 || *only != TG_JOB_STATUS_COUNT)
		return true;
	*answered = tg_field_fault(x, "status_filter", "must be one of pending, running, completed, failed, canceled");
	return false;
}

enum tg_step tg_api_jobs_list(struct tg_exchange *x)
{
	struct tg_paging page;
	enum tg_job_status only;
	enum tg_step answered;
	if (!tg_paging_of(x, &page, &answered) || !status_filter(x, &only, &answered))
		return answered;
	struct tg_entity *r = tg_entity_new(x, &lists, &answered);
	if (!r)
		return answered;
	r->page = page;
	((struct job_record *)r)->only = only;
	return tg_entity_start(x, r);
}

/* An id that is none is as unknown as any other here, as the origin has it; of records, and of a job's stream, it is a 400. */
static enum tg_step of_one(struct tg_exchange *x, const struct tg_entity_do *d)
{
	char id[TG_ULID_LEN + 1];
	return tg_ulid_read(tg_path_segment(x, sizeof PATH - 1), id) ? tg_entity_run(x, d, sizeof PATH - 1, false) : none(x);
}

enum tg_step tg_api_jobs_get(struct tg_exchange *x)
{
	return of_one(x, &gets);
}

enum tg_step tg_api_jobs_delete(struct tg_exchange *x)
{
	return of_one(x, &deletes);
}

enum tg_step tg_api_jobs_schema(struct tg_exchange *x)
{
	static const char schema[] = "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Job\",\"type\":\"object\",\"properties\":{"
				     "\"id\":{\"type\":\"string\",\"pattern\":\"^[0-7][0-9A-HJKMNP-TV-Z]{25}$\"},\"kind\":{\"type\":\"string\"},"
				     "\"status\":{\"type\":\"string\",\"enum\":[\"pending\",\"running\",\"completed\",\"failed\",\"canceled\"]},\"result\":{\"type\":[\"string\",\"null\"]},"
				     "\"error\":{\"type\":[\"string\",\"null\"]},\"error_traceback\":{\"type\":\"null\"},\"created_at\":{\"type\":\"string\",\"format\":\"date-time\"},"
				     "\"updated_at\":{\"type\":\"string\",\"format\":\"date-time\"},\"submitted_at\":{\"type\":\"string\",\"format\":\"date-time\"},"
				     "\"started_at\":{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"},\"finished_at\":{\"type\":[\"string\",\"null\"],\"format\":\"date-time\"},"
				     "\"artifact_id\":{\"type\":[\"string\",\"null\"]},\"progress\":{\"type\":\"integer\",\"minimum\":0,\"maximum\":100},\"message\":{\"type\":\"string\"}},"
				     "\"required\":[\"id\",\"status\",\"created_at\",\"updated_at\"]}";
	return tg_answer(x, 200, "application/json", (struct tg_slice){ schema, sizeof schema - 1 }, NULL);
}
