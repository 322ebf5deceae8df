#pragma once
/*
 * The threads that run durable jobs (store/jobs.h) at the engine. One gate has one runner; threads are made when there is first something to do, [ml] train_jobs for trainings and predict_jobs for
 * predictions. Each claims the oldest row of its kinds, renews its lease with progress and message while the engine works, and ends it: the artifact and the row's end are one transaction.
 *
 * Whose job is it: a row belongs to the spool its data lies in (its owner, store/jobs.h), and a spool to the one gate that holds its lock. So two gates on one database never take each other's jobs, and
 * a gate that starts knows that its predecessor on this spool is gone: what that was running is pending again at once, and files without a job are removed. What a gate that never comes back
 * left ends where another one has the database (jobs/tend.h).
 */
#include "base/err.h"
#include "jobs/spool.h"

#define TG_JOB_NOT_STORED "The model could not be stored" /* how the error of a training begins whose model was good, and could not be kept: no fault of its data */

struct tg_config;
struct tg_engine;
struct tg_gate;
struct tg_model_store;
struct tg_runner;
struct tg_waits;

/* Makes no thread, no folder and no database. g: its store, model store and engine are there and outlive the runner. NULL: no memory. */
struct tg_runner *tg_runner_new(struct tg_gate *g, const struct tg_config *c);
/* If there is a spool, an earlier process may have left jobs: look for them. Once, at the start. */
void tg_runner_start(struct tg_runner *r);
/* Any thread: a row of that kind was inserted. */
void tg_runner_kick(struct tg_runner *r, const char *kind);
/* The job pool, for it may block: the row of that id has been deleted. If it runs here the engine is told by closing its connection; its files go, and a model that an earlier try left. */
void tg_runner_cancel(struct tg_runner *r, const char *id);
/* The audit trail's training_failed of a job whose row was deleted while it waited or ran, by whoever `by` is; nothing of other kinds. May wait. */
void tg_train_canceled(const char *job, const char *kind, const char *spec, const char *by);
/* The gate ends: nothing is begun any more, what runs is left and its rows are pending again. Returns at once. */
void tg_runner_stop(struct tg_runner *r);
/* Waits for the threads, which may be in the middle of a write, at most that long. False: some are still there, and everything they use must stay. True: freed. */
bool tg_runner_free(struct tg_runner *r, unsigned wait_ms);

struct tg_model_store *tg_runner_models(const struct tg_runner *r); /* the gate's; its functions block */
const struct tg_spool *tg_runner_spool(const struct tg_runner *r);
struct tg_waits *tg_runner_waits(struct tg_runner *r); /* jobs/wait.h */
bool tg_runner_runs(struct tg_runner *r, char place[TG_SPOOL_PLACE]); /* whether a job runs here now; place: whose rows they are */
/* Whose a row is that this gate inserts: to be set as its owner. False: the spool cannot be used. */
bool tg_runner_place(struct tg_runner *r, char out[TG_SPOOL_PLACE], struct tg_err *err);
