#pragma once
/* What the runner and the kinds of jobs know of each other. One row a kind; what a kind does is one file (train.c, predict.c). */
#include "base/buf.h"
#include "base/log.h"
#include "jobs/engine_client.h"
#include "jobs/runner.h"
#include "store/jobs.h"
#include <jansson.h>
#include <stdatomic.h>

/* A job under way, on its thread. */
struct tg_run {
	struct tg_runner *runner;
	const struct tg_job_kind *kind;
	char id[TG_ULID_LEN + 1], artifact_id[TG_ULID_LEN + 1];
	char *principal, *key_prefix; /* owned */
	json_t *spec;                 /* owned; an object */
	unsigned attempts;
	int64_t created_us, started_us;
	/* what a kind's `run` leaves where it is DONE */
	struct tg_buf data;           /* the artifact's data: JSON */
	const char *parent;           /* its parent's id; NULL: none; lives as long as the run */
	const char *result;           /* one sentence */
	json_t *note;                 /* owned; the kind's own, for `told`; NULL: none */
	/* the runner's */
	_Atomic bool *canceled;
	bool lost;                    /* the row is not ours any more */
	bool unrecorded;              /* its end could not be recorded */
	bool uncounted;               /* this try is none: it is pending again as if it had not been begun */
	bool rests;                   /* it is pending again and others go first, for what it needs is away */
	bool again;                   /* it is pending again, after a fault that may pass */
	unsigned progress;
	char message[128];
	bool changed;                 /* progress or message, since the last beat */
	int64_t beat_us;
	int64_t begun_us;             /* of this try, on the monotonic clock */
	json_t *answer;               /* the engine's last line that was no progress */
};

enum tg_run_end {
	TG_RUN_DONE,
	TG_RUN_FAILED,  /* err: one sentence for the caller */
	TG_RUN_AGAIN,   /* the engine was lost: another try, if there is one left */
	TG_RUN_LATER,   /* the engine has no room: this was no try */
	TG_RUN_REST,    /* what it needs is away: this was no try, and another one is made later, until that took as long as a job may take ([ml] job_seconds); then err */
	TG_RUN_STOPPED, /* the gate ends, or the row is not ours any more */
};
struct tg_job_kind {
	const char *name;
	bool predicts;                /* counts as a prediction in [ml] predict_jobs; else as a training */
	enum tg_run_end (*run)(struct tg_run *run, struct tg_err *err);
	void (*undo)(struct tg_run *run); /* it was DONE, and that could not be recorded; or it may have been, in an earlier try that left its mark (tg_run_mark). NULL: nothing to do */
	/* The row has ended for good, COMPLETED or FAILED (error): what else is to be told. */
	void (*told)(struct tg_run *run, const char *error);
};
extern const struct tg_job_kind tg_job_train, tg_job_credit_train, tg_job_predict;
#define TG_JOB_KINDS 3
extern const struct tg_job_kind *const tg_job_kinds[TG_JOB_KINDS];

/* A request to the engine; progress goes into the row. DONE: *result is the member `result` of the answer's last line, the caller's. `error` and `refused` are FAILED. */
enum tg_run_end tg_run_engine(struct tg_run *run, const char *path, const json_t *request, json_t **result, struct tg_err *err);
/* Before a model is stored: whatever happens then, a model whose artifact was not recorded goes with the job's files. False: err. */
bool tg_run_mark(struct tg_run *run, struct tg_err *err);
/* Holds the job as it is, for that time, and says why in its message. False: it is to be left (STOPPED). */
bool tg_run_hold(struct tg_run *run, int64_t us, const char *message);
/* "2026-11-23T21:50:13Z" */
json_t *tg_run_time(int64_t us);

/* ---- run.c, for the runner ---- */
void tg_run_fill(struct tg_run *run, const struct tg_job_row *j); /* what the row says */
void tg_run_free(struct tg_run *run);                 /* what it owns */
void tg_run_it(struct tg_run *run);
void tg_run_told(struct tg_run *run, const char *error); /* that it has failed */
void tg_run_clean(struct tg_run *run);                /* tg_run_forget, unless its end could not be recorded */
void tg_run_forget(struct tg_runner *r, const char *id); /* removes a job's files, and the model that it left without an artifact, unless tg_run_keeps. Blocks */
bool tg_run_keeps(void *runner, const char *id);      /* its row waits or runs, or its model cannot be removed now; in doubt it does: a database that does not answer takes no file away */
/* ---- runner.c, for run.c ---- */
struct tg_gate *tg_runner_gate(const struct tg_runner *r);
bool tg_runner_stopping(struct tg_runner *r);
unsigned tg_runner_job_seconds(const struct tg_runner *r); /* [ml] job_seconds */
/* The job of that id is passed over for a while, longer each time. False: it has been so for as long as a job may take. */
bool tg_runner_rest(struct tg_runner *r, const char *id);
void tg_runner_pause(struct tg_runner *r, int64_t us); /* cut short by the gate's end */
