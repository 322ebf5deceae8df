#pragma once
/*
 * Windows of N per period, exact across every loop of the process. A window opens at the caller's first request; its start and its
 * count share one 64-bit cell that is changed by compare-and-swap only, so exactly N pass however many threads ask.
 * Times are CLOCK_MONOTONIC milliseconds; Reset is given as wall-clock seconds.
 */
#include "config/config.h"

struct tg_limiter; /* a table of cells, shared by all loops for the life of the process */
struct tg_limiter *tg_limiter_new(size_t cells); /* rounded up to a power of two; memory is touched as used */
void tg_limiter_free(struct tg_limiter *l);

struct tg_verdict {
	bool passed;
	uint32_t limit, remaining;
	uint32_t retry_after_s; /* >= 1; until the window ends, rounded up */
	uint64_t reset_s;       /* epoch seconds: the end of the window, rounded up */
};
/* rate.n 0 (off) passes and touches nothing; above 2^24 - 1 it counts as that. wall_ms: the wall clock at mono_ms, milliseconds since the epoch: the same moment, so that Reset stays the same through a window. A rate that changed (a reload)
 * judges the window that is running.
 * `who`: a 64-bit hash of class and principal or address (tg_limit_who). A full neighbourhood of live cells refuses (fails closed). */
struct tg_verdict tg_limiter_take(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t mono_ms, uint64_t wall_ms);
uint64_t tg_limit_who(unsigned limit_class, const void *key, size_t n); /* SipHash-like, keyed per process: no flooding by chosen keys */
