#pragma once
/*
 * Windows of N per period, exact across every loop of the process, and counts of what is under way. A window opens at the caller's first request; its start and its
 * count share one 64-bit cell that is changed by compare-and-swap only, so exactly N pass however many threads ask. What is taken can be more than one (tokens), and what
 * was taken too much can be given back.
 * Times are CLOCK_MONOTONIC milliseconds; Reset is given as wall-clock seconds.
 */
#include "config/config.h"

struct tg_limiter; /* a table of cells, shared by all loops for the life of the process */
struct tg_limiter *tg_limiter_new(size_t cells); /* rounded up to a power of two; memory is touched as used */
void tg_limiter_free(struct tg_limiter *l);
#define TG_LIMIT_CELLS 262144 /* of the gate's tables; 24 bytes each where they are used */

struct tg_verdict {
	bool passed;
	uint32_t limit, remaining;
	uint32_t retry_after_s; /* >= 1; until the window ends, rounded up */
	uint64_t reset_s;       /* epoch seconds: the end of the window, rounded up */
	uint64_t window;        /* its start: what names it to tg_limiter_settle */
	uint64_t end_ms;        /* its end */
};
/* rate.n 0 (off) passes and touches nothing; above 2^24 - 1 it counts as that. wall_ms: the wall clock at mono_ms, milliseconds since the epoch: the same moment, so that Reset stays the same through a window. A rate that changed (a reload)
 * judges the window that is running.
 * `who`: a 64-bit hash of class and principal or address (tg_limit_who). A full neighbourhood of live cells refuses (fails closed). */
struct tg_verdict tg_limiter_take(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t mono_ms, uint64_t wall_ms);
/* The same with n at once: all or none. More than the rate's N is refused whatever the window holds; 0 looks, and opens the window where none runs. */
struct tg_verdict tg_limiter_reserve(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint32_t n, uint64_t mono_ms, uint64_t wall_ms);
/*
 * What became of `reserved`, which had passed in `window`. Less used: the rest goes back to that window, and nowhere if it is over. More used: the excess
 * counts in the window that runs now, which it opens if none does; it is never refused, so the count may pass N and nobody else passes before the window ends. Once a reservation.
 */
void tg_limiter_settle(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t window, uint32_t reserved, uint32_t used, uint64_t mono_ms);

/* One of at most `max` (>= 1) at the same time. NULL: refused; *inside is how many there are, the new one included (max where it was refused). Given back by tg_limiter_leave, once, from any
 * thread; until then the cell is kept. `who` must not be one that windows are taken for. */
struct tg_limit_cell *tg_limiter_enter(struct tg_limiter *l, uint64_t who, uint32_t max, uint64_t mono_ms, uint32_t *inside);
void tg_limiter_leave(struct tg_limit_cell *c, uint64_t mono_ms);

uint64_t tg_limit_who(unsigned limit_class, const void *key, size_t n); /* SipHash-like, keyed per process: no flooding by chosen keys */
