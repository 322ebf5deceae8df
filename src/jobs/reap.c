/*
 * Rows that end without a run (see reap.h). What is to be told of each (the audit trail, the log) is told after the transaction that ended it: a process that dies in between has ended jobs that the trail does not
 * have, as it is with every job's end.
 */
#include "jobs/reap.h"
#include "audit/event.h"
#include "base/clock.h"
#include "jobs/kinds.h"
#include <stdlib.h>

#define REAPED_MAX 128 /* at once: as many as one gate can run. Specs of thousands of features are some 100 KB each */
#define BATCHES_MAX ((TG_JOB_PENDING_MAX + 1000) / REAPED_MAX + 1)

struct reaping {
	const char *place, *error; /* error: of those of a spool that nobody uses */
	int64_t unused_us;
	struct tg_run failed[REAPED_MAX];
	unsigned n;
	uint64_t changed;
};

static bool reaped(void *ctx, const struct tg_job_row *j)
{
	struct reaping *p = ctx;
	size_t i = 0;
	while (i < TG_JOB_KINDS && strcmp(tg_job_kinds[i]->name, j->kind) != 0)
		i++;
	if (i < TG_JOB_KINDS && p->n < REAPED_MAX) {
		struct tg_run *run = &p->failed[p->n++];
		*run = (struct tg_run){ .kind = tg_job_kinds[i] };
		tg_run_fill(run, j);
	}
	return true;
}

static enum tg_db_result reap_place(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct reaping *p = ctx;
	return tg_job_rows_reap(db, p->place, (int64_t)tg_wall_us(), reaped, p, &p->changed, err);
}

static enum tg_db_result abandon(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct reaping *p = ctx;
	return tg_job_rows_abandon(db, p->place, p->unused_us, REAPED_MAX, p->error, (int64_t)tg_wall_us(), reaped, p, &p->changed, err);
}

/* One transaction, and what it ended is told. */
static bool reap(struct tg_store *s, struct reaping *p, tg_store_change change, struct tg_err *err)
{
	bool ok = tg_store_record(s, change, p, err) == TG_DB_OK;
	for (unsigned i = 0; i < p->n; i++) {
		char why[64];
		snprintf(why, sizeof why, "The job's worker ended %u times.", p->failed[i].attempts);
		if (ok)
			tg_run_told(&p->failed[i], p->error ? p->error : why);
		tg_run_free(&p->failed[i]);
	}
	if (p->n)
		tg_audit_flush();
	p->n = 0;
	return ok;
}

static struct reaping *begin(const char *place, struct tg_err *err)
{
	struct reaping *p = calloc(1, sizeof *p);
	tg_err_set(err, "out of memory");
	if (p)
		p->place = place;
	return p;
}

bool tg_reap_place(struct tg_store *s, const char *place, struct tg_err *err)
{
	struct reaping *p = begin(place, err);
	bool ok = p && reap(s, p, reap_place, err);
	free(p);
	return ok;
}

bool tg_reap_unused(struct tg_store *s, const char *place, int64_t unused_us, struct tg_err *err)
{
	char error[96];
	struct reaping *p = begin(place, err);
	uint64_t all = 0;
	bool ok = p != NULL;
	snprintf(error, sizeof error, "The spool that has its data was not used for %lld days.", (long long)(unused_us / 86400000000));
	for (unsigned i = 0; ok && i < BATCHES_MAX && (i == 0 || p->changed == REAPED_MAX); i++) { /* others get at the database in between */
		p->error = error;
		p->unused_us = unused_us;
		ok = reap(s, p, abandon, err);
		all += ok ? p->changed : 0;
	}
	if (all)
		tg_log(TG_LOG_F_WARN, "jobs.abandoned", "s:spool", place, "u:jobs", all, NULL);
	free(p);
	return ok;
}
