#pragma once
/*
 * The folder where the data of jobs that are not done lies ([ml] spool): files ID.frame, ID.tgm, ID.out of a job's ULID, written by the engine. One gate at a time holds its lock and runs the jobs whose data
 * lie there; whoever else has the folder waits for that gate's end. Blocking.
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/id.h"

#define TG_SPOOL_PLACE 100
struct tg_spool {
	char *path;
	int folder, lock; /* -1: not (yet) */
	char place[TG_SPOOL_PLACE]; /* whose data it is; set by tg_spool_hold */
};
bool tg_spool_init(struct tg_spool *s, const char *path);
void tg_spool_free(struct tg_spool *s);
/* A name for this folder, which stays with it whatever it or its host is called later: it lies there in a file. The first is "host:" and a digest of its real path, so that one that was emptied has the same again.
 * Makes the folder; false: it cannot be made. */
bool tg_spool_place(const struct tg_spool *s, char out[TG_SPOOL_PLACE]);
/* Takes the lock, if nobody has it. Makes the folder (0700). False: err; another gate has it, or it cannot be made. */
bool tg_spool_hold(struct tg_spool *s, struct tg_err *err);
bool tg_spool_there(const struct tg_spool *s); /* whether there is such a folder; makes nothing */
/* Removes a job's files; what is not there is no failure. Any thread, also without the lock. */
void tg_spool_forget(const struct tg_spool *s, const char *id);
/* Removes the data that was taken in for a job that never came to be: one call, for who must not wait. */
void tg_spool_drop(const struct tg_spool *s, const char *id);
/* Notes that a job is about to make this model: a file of the job's, so that it goes with them. False: err. */
bool tg_spool_mark(const struct tg_spool *s, const char *id, const char *model, struct tg_err *err);
bool tg_spool_marked(const struct tg_spool *s, const char *id, char model[TG_ULID_LEN + 1]); /* what was noted so; false: nothing */
/* Removes the files that were last written before `before_us` (wall clock) and whose job `keep` does not want. */
void tg_spool_sweep(const struct tg_spool *s, int64_t before_us, bool (*keep)(void *ctx, const char *id), void *ctx);
/* Appends the file's bytes. Any thread, also without the lock. False: err; or over b's ceiling. */
bool tg_spool_read(const struct tg_spool *s, const char *name, struct tg_buf *b, struct tg_err *err);
/* The path of a file that the engine named: false unless it is one of that job's. */
bool tg_spool_file(const struct tg_spool *s, const char *id, const char *name, char *out, size_t cap);
