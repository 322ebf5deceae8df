#pragma once
/* Exchanges that wait until a job has ended, for handlers whose answer is the job's result. */
#include "gate/exchange.h"

#define TG_WAITS_ENDED 256 /* jobs that ended of late: one that had ended before its handler began to wait is found among them */

struct tg_job_wait;
struct tg_waits {
	uv_mutex_t lock;
	struct tg_job_wait *first;
	char ended[TG_WAITS_ENDED][TG_ULID_LEN + 1];
	unsigned next;
	bool stopped;
	bool (*elsewhere)(void *ctx); /* any thread: jobs may end in another process, which tells nobody here. NULL: they do not */
	void *ctx;
};
void tg_waits_init(struct tg_waits *w);
void tg_waits_free(struct tg_waits *w);
/* Any thread: that job has ended, or is gone. */
void tg_waits_ended(struct tg_waits *w, const char *id);
void tg_waits_stop(struct tg_waits *w); /* the gate ends: nobody waits any longer, for whatever job */

#define TG_WAITS_LOOK_MS 2000
/* On the exchange's loop, once: gives its answer, or starts a job for it (gate/job.h). left_ms 0: the job has ended, or the time is over. Else it may have ended elsewhere: who finds that it has not waits again, that long. */
typedef enum tg_step (*tg_wait_answer)(struct tg_exchange *x, const char *id, unsigned left_ms);
/* Parks the exchange until that job has ended, `ms` at most: what a handler, or an aside's `answer` (gate/aside.h), returns. */
enum tg_step tg_job_wait(struct tg_exchange *x, struct tg_waits *w, const char *id, unsigned ms, tg_wait_answer answer);
