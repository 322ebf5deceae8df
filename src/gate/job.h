#pragma once
/*
 * Work that blocks (SQL, a password's hash), done for one exchange on the job pool while the exchange is parked. Owner: whoever starts it, until tg_job_start has taken it; then it frees itself by `free`.
 * A client that leaves meanwhile is let go: what is still in line is not done, what has begun ends all the same and its result is dropped. What stood in line is judged again before it begins (gate/revoked.h).
 */
#include "gate/exchange.h"

#define TG_JOBS_MAX 256   /* of all loops, those in line included, in each of the two lines: past it requests get 503 */
#define TG_JOBS_RUNNING 1 /* the database takes one at a time, and libuv's four threads have passwords and names to see to besides */

struct tg_job {
	struct tg_parking parking; /* first: left() casts */
	uv_work_t work;
	struct tg_msg msg;
	struct tg_job *next;    /* in line */
	struct tg_loop *loop;
	uv_timer_t timer;
	struct tg_exchange *x;  /* NULL: it has left */
	struct tg_gate *gate;
	bool away;              /* it may wait for a slow disk or another machine: in a line of its own, so that the database's work does not wait for that */
	uint32_t needs;         /* permissions that the caller must hold, all of them, when its turn comes */
	uint64_t generation;    /* set by run: what every loop must have adopted before the answer (tg_store_write); 0: nothing */
	uint64_t number;        /* set by run: the snapshot that every loop must judge by before the answer; 0: any */
	unsigned waited_ms;
	void (*run)(struct tg_job *j);                                   /* on the job pool; touches neither x nor its snapshot */
	enum tg_step (*answer)(struct tg_job *j, struct tg_exchange *x); /* on x's loop: ANSWERED, or WAIT: something else waits now */
	void (*free)(struct tg_job *j);
};
void tg_jobs_init(struct tg_jobs *l);
void tg_jobs_free(struct tg_jobs *l); /* after all loops have ended */
/* From a handler: what it returns. Whatever of the request `run` needs was copied before. */
enum tg_step tg_job_start(struct tg_exchange *x, struct tg_job *j);
