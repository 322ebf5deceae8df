/*
 * Housekeeping of the queue (see tend.h). It is done on the job pool together with the store's own look: it needs no thread, and a gate that only has the database, without an engine, does its part.
 *
 * Whether a spool's gate lives cannot be asked of a row: a job may wait for weeks behind others. So gates say that they live, and whoever looks on adds up for how long one did not. All of that is measured on the
 * monotonic clock: a time of day that jumps ends no job. What is removed by age is removed by the time of day, and has ended.
 */
#include "jobs/tend.h"
#include "base/clock.h"
#include "base/log.h"
#include "jobs/reap.h"
#include "jobs/runner.h"
#include "store/jobs.h"
#include "store/spools.h"
#include <stdlib.h>
#include <string.h>

#ifndef TURN_US /* tests have a shorter one */
#define TURN_US (600 * 1000000ll)  /* between looks at spools and at ended rows */
#endif
#define BATCH 200                  /* rows that one transaction removes: some milliseconds */
#define BATCH_US 1000000           /* between such transactions, while there are more: a million rows in an hour and a half */
#define SEEN_MAX 64                /* spools of others; the rest has its turn when these have ended */

struct seen {
	char place[TG_SPOOL_PLACE];
	int64_t turn;
};
struct tg_tend {
	struct tg_store *store;
	unsigned job_days;
	/* monotonic */
	int64_t kept_us, turned_us, prune_us; /* leases were renewed; spools looked at, 0: never; ended rows are to be */
	struct seen seen[SEEN_MAX];           /* at the last look, as it left them */
	unsigned nseen;
};

struct tg_tend *tg_tend_new(struct tg_store *s, const struct tg_config *c)
{
	struct tg_tend *t = calloc(1, sizeof *t);
	if (t)
		*t = (struct tg_tend){ .store = s, .job_days = c->ml_job_days };
	return t;
}

void tg_tend_free(struct tg_tend *t)
{
	free(t);
}

/* ---- leases ---- */

static enum tg_db_result keep(struct tg_db *db, void *place, struct tg_err *err)
{
	return tg_job_rows_keep(db, place, (int64_t)tg_wall_us(), err);
}

static void keep_leases(struct tg_tend *t, struct tg_runner *runner, int64_t now)
{
	char place[TG_SPOOL_PLACE];
	struct tg_err err;
	if (!runner || now - t->kept_us < TG_JOB_BEAT_US || !tg_runner_runs(runner, place))
		return;
	t->kept_us = now;
	(void)tg_store_note(t->store, keep, place, &err); /* a database that is away says so itself, and the next beat is soon */
}

/* ---- spools ---- */

struct turn {
	struct tg_tend *tend;
	char mine[TG_SPOOL_PLACE];         /* "": this gate has none */
	int64_t now_us;                    /* of the look, within its transaction: what others add is before or after it */
	struct seen now[SEEN_MAX];
	bool gone[SEEN_MAX], again[SEEN_MAX]; /* again: nobody has touched the row since the last look */
	unsigned n;
};

static bool one_spool(void *ctx, const char *place, int64_t turn, int64_t unused_us)
{
	struct turn *w = ctx;
	const struct tg_tend *t = w->tend;
	unsigned i = w->n++;
	snprintf(w->now[i].place, sizeof w->now[i].place, "%s", place);
	w->now[i].turn = turn;
	w->gone[i] = unused_us >= TG_TEND_UNUSED_US;
	w->again[i] = false;
	for (unsigned k = 0; k < t->nseen; k++)
		w->again[i] |= t->seen[k].turn == turn && strcmp(t->seen[k].place, place) == 0;
	return true;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct turn *w = ctx;
	const struct tg_tend *t = w->tend;
	w->n = 0;
	w->now_us = (int64_t)tg_mono_us();
	/* What a gate did not see because it stood still, or had no database, is no time that it looked on. */
	int64_t since_us = w->now_us - t->turned_us < 2 * TURN_US ? w->now_us - t->turned_us : 2 * TURN_US;
	enum tg_db_result r = w->mine[0] ? tg_spool_rows_used(db, w->mine, err) : TG_DB_OK;
	if (r == TG_DB_OK)
		r = tg_spool_rows_learn(db, err);
	if (r == TG_DB_OK)
		r = tg_spool_rows_list(db, w->mine, SEEN_MAX, one_spool, w, err);
	for (unsigned i = 0; r == TG_DB_OK && i < w->n; i++) {
		if (!w->again[i])
			continue;
		r = tg_spool_rows_unused(db, w->now[i].place, w->now[i].turn, since_us, err);
		w->now[i].turn++;
	}
	return r == TG_DB_OK ? tg_spool_rows_forget(db, TG_TEND_UNUSED_US, err) : r;
}

/* A gate that waits for another one's end on the same folder says that it is used, too: so it will be. */
static void my_place(struct tg_runner *runner, char out[TG_SPOOL_PLACE])
{
	struct tg_err err;
	if (!runner || !tg_spool_there(tg_runner_spool(runner)) || !tg_runner_place(runner, out, &err))
		out[0] = 0;
}

static void look_at_spools(struct tg_tend *t, struct tg_runner *runner, int64_t now)
{
	struct turn *w = calloc(1, sizeof *w);
	struct tg_err err;
	if (!w)
		return;
	w->tend = t;
	my_place(runner, w->mine);
	bool ok = tg_store_note(t->store, look, w, &err) == TG_DB_OK;
	t->nseen = ok ? w->n : 0;
	t->turned_us = ok ? w->now_us : now;
	if (ok) {
		memcpy(t->seen, w->now, sizeof t->seen);
		for (unsigned i = 0; i < w->n; i++)
			if (w->gone[i] && !tg_reap_unused(t->store, w->now[i].place, TG_TEND_UNUSED_US, &err))
				tg_log(TG_LOG_F_WARN, "jobs.not_abandoned", "s:spool", w->now[i].place, "s:why", err.text, NULL);
	}
	free(w);
}

/* ---- ended rows ---- */

struct pruning {
	int64_t before_us;
	uint64_t n;
};

static enum tg_db_result prune(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct pruning *p = ctx;
	return tg_job_rows_prune(db, p->before_us, BATCH, &p->n, err);
}

static void prune_ended(struct tg_tend *t, int64_t now)
{
	struct pruning p = { .before_us = (int64_t)tg_wall_us() - (int64_t)t->job_days * 86400000000 };
	struct tg_err err;
	if (tg_store_note(t->store, prune, &p, &err) != TG_DB_OK)
		p.n = 0;
	t->prune_us = now + (p.n == BATCH ? BATCH_US : TURN_US);
}

void tg_tend_look(struct tg_tend *t, struct tg_runner *runner)
{
	int64_t now = (int64_t)tg_mono_us();
	if (!tg_store_there(t->store))
		return;
	keep_leases(t, runner, now);
	if (!t->turned_us || now - t->turned_us >= TURN_US)
		look_at_spools(t, runner, now);
	if (t->job_days && now >= t->prune_us)
		prune_ended(t, now);
}
