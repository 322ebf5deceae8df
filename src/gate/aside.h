#pragma once
/*
 * Work for one exchange that may take seconds (the engine predicts, reads a data set; a bucket is asked), on threads of its own, while the exchange is parked. What gate/job.h does in a line that every
 * change of a key stands in too would be held up by it. Threads are made when they are first needed, `most` at the most; past TG_ASIDES_MAX in line requests get 503.
 */
#include "gate/exchange.h"

#define TG_ASIDES_MAX 256

struct tg_asides; /* one pool of threads; opaque */
struct tg_aside {
	struct tg_parking parking; /* first: left() casts */
	struct tg_msg msg;
	struct tg_aside *next;     /* in line */
	struct tg_asides *of;
	struct tg_exchange *x;     /* under the pool's lock; NULL: it has left */
	bool queued;
	void (*run)(struct tg_aside *a);                                   /* on a thread of the pool; touches neither x nor its snapshot; asks tg_aside_over now and then */
	enum tg_step (*answer)(struct tg_aside *a, struct tg_exchange *x); /* on x's loop: ANSWERED, or WAIT: something else waits now (gate/job.h, jobs/wait.h, a large answer) */
	void (*free)(struct tg_aside *a);
};
struct tg_asides *tg_asides_new(unsigned most); /* NULL: no memory */
/* From a handler, or from what it left behind: what that returns. Owner: the pool, from here on. */
enum tg_step tg_aside_start(struct tg_exchange *x, struct tg_asides *all, struct tg_aside *a);
/* From run: nobody waits for it any more. */
bool tg_aside_over(struct tg_aside *a);
/* The gate ends: nothing new is taken; what was taken is still done, as long as somebody waits for it. Returns at once. NULL is fine. */
void tg_asides_stop(struct tg_asides *all);
/* After the loops have ended. Waits for the threads, at most that long. False: some are still there, and everything they use must stay. True: freed. NULL is fine. */
bool tg_asides_free(struct tg_asides *all, unsigned wait_ms);
