/*
 * One job from its claim to its end (see kinds.h): its lease while the engine works, and the one way in which it ends. The artifact and the row's end are one transaction; whatever a kind has made besides
 * is undone where that transaction was not ours to make.
 */
#include "audit/event.h"
#include "base/clock.h"
#include "gate/gate.h"
#include "jobs/kinds.h"
#include "jobs/wait.h"
#include "store/artifacts.h"
#include "store/model_store.h"

#define AGAIN_US 1000000 /* between tries to record an end; the least between beats that tell of progress */
#define COMMIT_TRIES 60  /* while the database is away */

static int64_t wall_us(void)
{
	return (int64_t)tg_wall_us();
}

static int64_t mono_us(void)
{
	return (int64_t)tg_mono_us();
}

const struct tg_job_kind *const tg_job_kinds[TG_JOB_KINDS] = { &tg_job_train, &tg_job_credit_train, &tg_job_predict };

void tg_run_fill(struct tg_run *run, const struct tg_job_row *j)
{
	snprintf(run->id, sizeof run->id, "%s", j->id);
	snprintf(run->artifact_id, sizeof run->artifact_id, "%s", j->artifact_id ? j->artifact_id : "");
	run->principal = strdup(j->principal);
	run->key_prefix = strdup(j->key_prefix);
	run->spec = json_loads(j->spec, JSON_REJECT_DUPLICATES, NULL);
	run->attempts = j->attempts;
	run->created_us = j->created_us;
	run->started_us = j->started_us;
}

void tg_run_free(struct tg_run *run)
{
	free(run->principal);
	free(run->key_prefix);
	json_decref(run->spec);
	json_decref(run->note);
	json_decref(run->answer);
	tg_buf_free(&run->data);
}

json_t *tg_run_time(int64_t us)
{
	char text[20];
	tg_rfc3339_s((uint64_t)us, text);
	return json_stringn(text, sizeof text);
}

/* ---- while the engine works ---- */

struct beat {
	struct tg_run *run;
	bool ours;
};

static enum tg_db_result beat(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct beat *b = ctx;
	return tg_job_rows_beat(db, b->run->id, tg_runner_spool(b->run->runner)->place, wall_us(), b->run->progress, b->run->message, &b->ours, err);
}

/* It is ours and wanted: go on. */
static bool goes_on(struct tg_run *run)
{
	struct tg_runner *r = run->runner;
	if (tg_runner_stopping(r) || atomic_load(run->canceled))
		return false;
	int64_t since = mono_us() - run->beat_us;
	if (since < TG_JOB_BEAT_US && !(run->changed && since >= AGAIN_US))
		return true;
	struct beat b = { run, true };
	struct tg_err err;
	run->beat_us = mono_us();
	run->changed = false;
	if (tg_store_record(tg_runner_gate(r)->store, beat, &b, &err) == TG_DB_OK && !b.ours)
		run->lost = true; /* a database that is away takes nothing from us */
	return !run->lost;
}

/* True: go on. */
static bool tick(void *ctx)
{
	struct tg_run *run = ctx;
	return mono_us() - run->begun_us <= (int64_t)tg_runner_job_seconds(run->runner) * 1000000 && goes_on(run);
}

bool tg_run_hold(struct tg_run *run, int64_t us, const char *message)
{
	if (strcmp(run->message, message) != 0) {
		snprintf(run->message, sizeof run->message, "%s", message);
		run->changed = true;
	}
	for (int64_t until = mono_us() + us, left; goes_on(run) && (left = until - mono_us()) > 0;)
		tg_runner_pause(run->runner, left < TG_ENGINE_TICK_MS * 1000 ? left : TG_ENGINE_TICK_MS * 1000);
	return goes_on(run);
}

static bool line(void *ctx, struct tg_slice text)
{
	struct tg_run *run = ctx;
	json_t *o = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL), *progress = json_object_get(o, "progress");
	if (json_is_integer(progress)) {
		json_int_t p = json_integer_value(progress);
		const char *message = json_string_value(json_object_get(o, "message"));
		run->progress = p < 0 ? 0 : p > 99 ? 99 : (unsigned)p;
		snprintf(run->message, sizeof run->message, "%s", message ? message : "");
		run->changed = true;
		json_decref(o);
	} else {
		json_decref(run->answer);
		run->answer = o;
	}
	return true;
}

enum tg_run_end tg_run_engine(struct tg_run *run, const char *path, const json_t *request, json_t **result, struct tg_err *err)
{
	struct tg_engine_call call = { .tick = tick, .line = line, .ctx = run, .inside = run->kind->predicts, .key_prefix = run->key_prefix };
	char *body = json_dumps(request, JSON_COMPACT);
	uint16_t status = 0;
	*result = NULL;
	json_decref(run->answer);
	run->answer = NULL;
	tg_err_set(err, "out of memory");
	enum tg_engine_end end = body ? tg_engine_post(tg_runner_gate(run->runner)->engine, path, tg_slice_cstr(body), &call, &status, err) : TG_ENGINE_LOST;
	free(body);
	if (end == TG_ENGINE_STOPPED) {
		unsigned most = tg_runner_job_seconds(run->runner);
		if (run->lost || tg_runner_stopping(run->runner) || atomic_load(run->canceled) || mono_us() - run->begun_us <= (int64_t)most * 1000000)
			return TG_RUN_STOPPED;
		tg_err_set(err, "It took longer than a job may take here (%u s).", most);
		return TG_RUN_FAILED;
	}
	json_t *found = json_object_get(run->answer, "result");
	const char *error = json_string_value(json_object_get(run->answer, "error")), *refused = json_string_value(json_object_get(run->answer, "refused"));
	if (end == TG_ENGINE_ANSWERED && status == 200 && json_is_object(found)) {
		*result = json_incref(found);
		return TG_RUN_DONE;
	}
	if (end == TG_ENGINE_ANSWERED && status < 429 && (error || refused)) {
		tg_err_set(err, "%s", error ? error : refused);
		return TG_RUN_FAILED;
	}
	/* An answer that came whole and says nothing that is understood would be the same another time: the engine has not ended. */
	bool garbled = end == TG_ENGINE_ANSWERED && status == 200;
	if (garbled)
		tg_err_set(err, "The engine's answer was not valid.");
	else if (end == TG_ENGINE_ANSWERED)
		tg_err_set(err, "the engine answered %u", status);
	tg_log(TG_LOG_F_WARN, "job.engine", "t:job", run->id, "s:why", err->text, NULL);
	if (garbled)
		return TG_RUN_FAILED;
	return status == 429 ? TG_RUN_LATER : TG_RUN_AGAIN;
}

/* ---- the end of a job ---- */

struct commit {
	struct tg_run *run;
	enum tg_job_status status;
	const char *text;
	int64_t now_us;
	bool ours, orphan; /* orphan: its parent is gone */
	bool there;        /* looked at again: it is there, */
	enum tg_job_status is; /* and that is what it is */
};

static enum tg_db_result commit(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct commit *c = ctx;
	struct tg_run *run = c->run;
	bool created, parent = true;
	if (c->status == TG_JOB_PENDING && run->uncounted)
		return tg_job_rows_put_back(db, run->id, tg_runner_spool(run->runner)->place, c->now_us, &c->ours, err);
	enum tg_db_result r = tg_job_rows_finish(db, run->id, tg_runner_spool(run->runner)->place, c->status, c->text, c->now_us, &c->ours, err);
	if (r != TG_DB_OK || !c->ours || c->status != TG_JOB_COMPLETED)
		return r;
	struct tg_artifact_row a = { .id = run->artifact_id, .parent_id = run->parent, .data = run->data.p, .data_len = run->data.len, .created_us = run->created_us, .updated_us = c->now_us };
	r = tg_artifacts_put(db, &a, &created, &parent, err);
	c->orphan = r == TG_DB_OK && !parent;
	return c->orphan ? TG_DB_CONFLICT : r;
}

static bool status_row(void *ctx, const struct tg_job_row *j)
{
	struct commit *c = ctx;
	c->there = true;
	c->is = j->status;
	return false;
}

static enum tg_db_result look_status(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct commit *c = ctx;
	bool found;
	return tg_job_rows_get(db, c->run->id, status_row, c, &found, err);
}

/* True: the row has ended so. False: it is not ours any more, or that could not be recorded (run->unrecorded). */
static bool record(struct tg_run *run, enum tg_job_status status, const char *text, bool *orphan)
{
	struct tg_runner *r = run->runner;
	struct commit c = { .run = run, .status = status, .text = text, .now_us = wall_us() };
	struct tg_err err;
	enum tg_db_result rc = TG_DB_AWAY;
	int tries = 0;
	for (; tries < COMMIT_TRIES && rc == TG_DB_AWAY; tries++) {
		if (tries && tg_runner_stopping(r))
			break;
		if (tries)
			tg_runner_pause(r, AGAIN_US);
		c.ours = c.orphan = false;
		rc = tg_store_record(tg_runner_gate(r)->store, commit, &c, &err);
	}
	/* What a database said nothing of may have been done all the same: then the row is not ours any more for the best of reasons. */
	if (tries > 1 && rc == TG_DB_OK && !c.ours)
		rc = tg_store_read(tg_runner_gate(r)->store, look_status, &c, &err);
	*orphan = c.orphan;
	run->unrecorded = rc != TG_DB_OK && !c.orphan;
	if (run->unrecorded)
		tg_log(TG_LOG_F_ERROR, "job.not_recorded", "t:job", run->id, "s:why", err.text, NULL);
	return rc == TG_DB_OK && (c.ours || (c.there && c.is == status));
}

static bool exists(void *ctx, const struct tg_job_row *j)
{
	*(bool *)ctx = j->status == TG_JOB_PENDING || j->status == TG_JOB_RUNNING;
	return false;
}

struct wanted {
	const char *id;
	bool wanted;
};

static enum tg_db_result look_row(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct wanted *w = ctx;
	bool found;
	return tg_job_rows_get(db, w->id, exists, &w->wanted, &found, err);
}

/* In doubt it is. */
static bool wanted(struct tg_runner *r, const char *id)
{
	struct wanted w = { id, false };
	struct tg_err err;
	return tg_store_read(tg_runner_gate(r)->store, look_row, &w, &err) != TG_DB_OK || w.wanted;
}

bool tg_run_mark(struct tg_run *run, struct tg_err *err)
{
	return tg_spool_mark(tg_runner_spool(run->runner), run->id, run->artifact_id, err);
}

static bool is_there(void *ctx, const struct tg_artifact_row *a)
{
	(void)ctx;
	(void)a;
	return false;
}

static enum tg_db_result look_artifact(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct wanted *w = ctx;
	return tg_artifacts_get(db, w->id, is_there, NULL, &w->wanted, err);
}

/* A try that was cut short between its model and its record has left one that nobody will ever find. False: it cannot be removed now. */
static bool rid_of_model(struct tg_runner *r, const char *id)
{
	char model[TG_ULID_LEN + 1];
	struct wanted w = { model, false };
	struct tg_err err;
	if (!tg_spool_marked(tg_runner_spool(r), id, model))
		return true;
	if (tg_store_read(tg_runner_gate(r)->store, look_artifact, &w, &err) != TG_DB_OK)
		return false;
	return w.wanted || tg_model_store_delete(tg_runner_models(r), model, &err) != TG_MODEL_AWAY;
}

bool tg_run_keeps(void *runner, const char *id)
{
	return wanted(runner, id) || !rid_of_model(runner, id);
}

void tg_run_forget(struct tg_runner *r, const char *id)
{
	if (!tg_run_keeps(r, id))
		tg_spool_forget(tg_runner_spool(r), id);
}

/* Whatever became of a row that is not ours any more: its data is needed by nobody, unless it waits or runs again. */
void tg_run_clean(struct tg_run *run)
{
	if (!run->unrecorded)
		tg_run_forget(run->runner, run->id);
}

void tg_run_told(struct tg_run *run, const char *error)
{
	tg_log(TG_LOG_F_INFO, "job.failed", "t:job", run->id, "t:kind", run->kind->name, "s:why", error, NULL);
	run->kind->told(run, error);
}

static void failed(struct tg_run *run, const char *why)
{
	bool orphan;
	if (record(run, TG_JOB_FAILED, why, &orphan)) {
		tg_spool_forget(tg_runner_spool(run->runner), run->id);
		tg_run_told(run, why);
	} else {
		tg_run_clean(run);
	}
}

static void again(struct tg_run *run)
{
	char text[96];
	bool orphan;
	if (run->attempts < TG_JOB_TRIES) {
		run->again = record(run, TG_JOB_PENDING, NULL, &orphan);
		if (!run->again)
			tg_run_clean(run);
		return;
	}
	snprintf(text, sizeof text, "The engine ended %u times while it worked on this.", run->attempts);
	failed(run, text);
}

static void later(struct tg_run *run)
{
	bool orphan;
	run->uncounted = true;
	run->again = record(run, TG_JOB_PENDING, NULL, &orphan);
	if (!run->again)
		tg_run_clean(run);
}

static void rest(struct tg_run *run, const char *why)
{
	char text[sizeof((struct tg_err *)0)->text + 64];
	run->rests = tg_runner_rest(run->runner, run->id); /* before the row is there to be claimed */
	if (run->rests) {
		later(run);
		return;
	}
	snprintf(text, sizeof text, "%s for %u s.", why, tg_runner_job_seconds(run->runner));
	failed(run, text);
}

/* The engine was lost. Who was not alone in it and has a process of his own is not to blame: that was no try, and others go first, so that they come to their end without him. */
static void lost(struct tg_run *run)
{
	if (!run->kind->predicts && tg_engine_shared(tg_runner_gate(run->runner)->engine))
		rest(run, "The engine ended again and again, with other work in it,");
	else
		again(run);
}

static void completed(struct tg_run *run)
{
	bool orphan;
	if (record(run, TG_JOB_COMPLETED, run->result, &orphan)) {
		tg_spool_forget(tg_runner_spool(run->runner), run->id);
		tg_log(TG_LOG_F_INFO, "job.completed", "t:job", run->id, "t:kind", run->kind->name, "t:artifact", run->artifact_id, "u:ms", (uint64_t)(mono_us() - run->begun_us) / 1000u, NULL);
		run->kind->told(run, NULL);
		return;
	}
	if (run->kind->undo && !run->unrecorded) /* else it may have been recorded after all; a next try begins with that */
		run->kind->undo(run);
	if (orphan)
		failed(run, "The model was deleted meanwhile.");
	else
		tg_run_clean(run);
}

/* It was left in the middle: the gate ends (the row is pending again), or somebody took the row away (its files go). */
static void stopped(struct tg_run *run)
{
	bool orphan;
	run->uncounted = true;
	if (!run->lost && tg_runner_stopping(run->runner))
		(void)record(run, TG_JOB_PENDING, NULL, &orphan);
	tg_run_clean(run);
}

void tg_run_it(struct tg_run *run)
{
	struct tg_err err = { "The job failed." };
	enum tg_run_end end = TG_RUN_FAILED;
	char model[TG_ULID_LEN + 1];
	run->beat_us = run->begun_us = mono_us();
	tg_log(TG_LOG_F_INFO, "job.started", "t:job", run->id, "t:kind", run->kind->name, "u:attempt", (uint64_t)run->attempts, NULL);
	if (run->kind->undo && tg_spool_marked(tg_runner_spool(run->runner), run->id, model))
		run->kind->undo(run); /* of a try that ended between its result and its record */
	if (json_is_object(run->spec))
		end = run->kind->run(run, &err);
	switch (end) {
	case TG_RUN_DONE: completed(run); break;
	case TG_RUN_FAILED: failed(run, err.text); break;
	case TG_RUN_AGAIN: lost(run); break;
	case TG_RUN_LATER: later(run); break;
	case TG_RUN_REST: rest(run, err.text); break;
	case TG_RUN_STOPPED: stopped(run); break;
	}
	if (run->again)
		return;
	tg_audit_flush(); /* who waits is answered after what is on record; he looks at the row, whatever is in it */
	tg_waits_ended(tg_runner_waits(run->runner), run->id);
}
