#pragma once
/*
 * The durable queue: work that goes on after its request was answered. A row is pending until somebody claims it under a lease, and running while that lease is renewed; when it ends without
 * being renewed (the gate died) the row is pending again, or failed when it was tried often enough. As store/configs.h for times, ids, transactions.
 */
#include "base/id.h"
#include "store/db.h"

enum tg_job_status { TG_JOB_PENDING, TG_JOB_RUNNING, TG_JOB_COMPLETED, TG_JOB_FAILED, TG_JOB_CANCELED, TG_JOB_STATUS_COUNT };
extern const char *const tg_job_status_names[TG_JOB_STATUS_COUNT]; /* "pending" ... "canceled" */

#define TG_JOB_LEASE_US (15 * 1000000ll)
#define TG_JOB_BEAT_US (5 * 1000000ll) /* how often a lease is renewed */
#define TG_JOB_TRIES 3                 /* starts; then it is failed */
#define TG_JOB_PENDING_MAX 10000       /* rows; past it nothing is accepted (503) */

struct tg_job_row {
	const char *id;
	const char *kind;         /* "train", "predict", "credit_train": jobs/ has one file each */
	enum tg_job_status status;
	unsigned progress;        /* 0 to 100 */
	const char *message;      /* what it is at; "" */
	const char *result, *error; /* one sentence each; NULL: none (yet) */
	const char *spec;         /* JSON: what is to be done; the kind's own */
	const char *artifact_id;  /* what it makes: the id was given at the start */
	const char *principal;    /* who asked: the key's or user's id, "anonymous" */
	const char *key_prefix;   /* what a log may show of the key; "" */
	const char *place;        /* insert only: the one owner who may claim it, since its data lies with him (jobs/runner.h); NULL: anybody */
	unsigned attempts;        /* starts so far */
	int64_t created_us, started_us, finished_us, updated_us; /* 0: not yet */
};
typedef bool (*tg_job_row_fn)(void *ctx, const struct tg_job_row *j);

enum tg_job_room {
	TG_JOB_ROOM,
	TG_JOB_FULL,     /* TG_JOB_PENDING_MAX wait already */
	TG_JOB_KEY_FULL, /* key_most of this principal's wait or run already */
};
/* The row as it is given: pending, as a rule. key_most 0: no bound. *room: where it is not TG_JOB_ROOM nothing was inserted. To be counted right by several at once, within a transaction. */
enum tg_db_result tg_job_rows_insert(struct tg_db *db, const struct tg_job_row *j, uint64_t key_most, enum tg_job_room *room, struct tg_err *err);
/* Rows that are passed over for now, `most` at the most; NULL: none. */
struct tg_job_skip {
	bool (*skip)(void *ctx, const char *id);
	void *ctx;
	unsigned most;
};
/* The oldest pending row of that kind whose place is that owner's or nobody's becomes running, attempts + 1, leased to `owner` (a name no other process has) until now + TG_JOB_LEASE_US, its start now; row is called for it. *found false: none waits. */
enum tg_db_result tg_job_rows_claim(struct tg_db *db, const char *kind, const char *owner, const struct tg_job_skip *skip, int64_t now_us, tg_job_row_fn row, void *ctx, bool *found, struct tg_err *err);
/* Renews the lease and notes progress. *ours false: the row was canceled, deleted, or claimed by somebody else: stop. */
enum tg_db_result tg_job_rows_beat(struct tg_db *db, const char *id, const char *owner, int64_t now_us, unsigned progress, const char *message, bool *ours, struct tg_err *err);
/* COMPLETED (result), FAILED (error), or PENDING again, after a try that failed (attempts stays as it is). *ours as above, nothing is written then. */
enum tg_db_result tg_job_rows_finish(struct tg_db *db, const char *id, const char *owner, enum tg_job_status status, const char *text, int64_t now_us, bool *ours, struct tg_err *err);
/* Pending again, as if this try had not been begun: attempts - 1. *ours as above. */
enum tg_db_result tg_job_rows_put_back(struct tg_db *db, const char *id, const char *owner, int64_t now_us, bool *ours, struct tg_err *err);
/* Whether one that waits or runs is to make that artifact. */
enum tg_db_result tg_job_rows_making(struct tg_db *db, const char *artifact_id, bool *making, struct tg_err *err);
/* Whether there is anything for that owner to claim. */
enum tg_db_result tg_job_rows_any(struct tg_db *db, const char *kind, const char *owner, const struct tg_job_skip *skip, bool *any, struct tg_err *err);
/* Running rows whose lease has ended: pending, or failed ("The job's worker ended N times.") after TG_JOB_TRIES. `owned_by` not NULL: those leased to that owner too, whatever the time
 * (a start after a crash knows that its predecessor is gone). failed (may be NULL) is called for each that fails, as it was. *n: rows changed. */
enum tg_db_result tg_job_rows_reap(struct tg_db *db, const char *owned_by, int64_t now_us, tg_job_row_fn failed, void *ctx, uint64_t *n, struct tg_err *err);
/* Renews all that are leased to that owner, whatever they are at: for while nobody beats for one. */
enum tg_db_result tg_job_rows_keep(struct tg_db *db, const char *owner, int64_t now_us, struct tg_err *err);
/* Pending and running rows of a place that has not been used for unused_us (store/spools.h; it is looked at again here) fail with that error, the oldest first, `most` at once. row as in tg_job_rows_reap. */
enum tg_db_result tg_job_rows_abandon(struct tg_db *db, const char *place, int64_t unused_us, uint64_t most, const char *error, int64_t now_us, tg_job_row_fn row, void *ctx, uint64_t *n, struct tg_err *err);
/* Rows that ended before that time, `most` at once, those that ended first. *n: removed. */
enum tg_db_result tg_job_rows_prune(struct tg_db *db, int64_t before_us, uint64_t most, uint64_t *n, struct tg_err *err);
enum tg_db_result tg_job_rows_get(struct tg_db *db, const char *id, tg_job_row_fn row, void *ctx, bool *found, struct tg_err *err);
/* status TG_JOB_STATUS_COUNT: all. Oldest first. */
enum tg_db_result tg_job_rows_list(struct tg_db *db, enum tg_job_status status, uint64_t skip, uint64_t most, tg_job_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_job_rows_count(struct tg_db *db, enum tg_job_status status, uint64_t *n, struct tg_err *err);
enum tg_db_result tg_job_rows_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err);
/* For the metrics: how many of that kind wait, and since when the oldest does (0: none). */
enum tg_db_result tg_job_rows_waiting(struct tg_db *db, const char *kind, uint64_t *n, int64_t *oldest_us, struct tg_err *err);
