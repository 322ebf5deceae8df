/*
 * Windows of N per period in a shared table. A cell's window word is start (40 bits of milliseconds: 34 years of uptime) and count (24 bits);
 * a live word has count >= 1, so 0 means "nobody's yet" or "changing hands".
 *
 * Invariants, which together give "exactly N pass" with any number of threads:
 *  - A count changes only by compare-and-swap on the window word, after `who` was read and found to be ours *after* the word was.
 *  - `who` and `period_s` change only under the mutex, and a cell with another owner changes hands only once its expired word was
 *    swapped to 0: whoever still holds the old word fails its swap and starts over.
 *  - The start of a cell's words only ever grows (a period is at least a second), so an old word never comes back and a stale swap cannot succeed (no ABA).
 *  - `who` never returns to 0 and a newcomer never goes past the first free cell of its neighbourhood, so a search may stop there and
 *    nobody owns two cells.
 *  - A cell given away was at its end by the clock of whoever took it, and its former owner opens its next window no earlier (`latest`).
 * The limit is not stored: each take judges the running window by the rate it brings, so a shrunken limit applies at once.
 */
#include "policy/limit.h"
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { COUNT_BITS = 24, NEIGHBOURS = 64 };
#define COUNT_MAX ((1u << COUNT_BITS) - 1)
#define START_MASK ((1ull << (64 - COUNT_BITS)) - 1)

struct cell {
	_Atomic uint64_t who;    /* 0: never used */
	_Atomic uint64_t window;
	_Atomic uint32_t period_s; /* of the owner's rate: says when others may have the cell */
};

struct tg_limiter {
	size_t mask;
	unsigned reach;
	pthread_mutex_t lock;
	uint64_t latest; /* under the mutex: the latest clock reading that moved somebody in */
	struct cell *cells;
};

struct tg_limiter *tg_limiter_new(size_t cells)
{
	size_t n = 1;
	while (n < cells && n < (size_t)1 << 28)
		n *= 2;
	struct tg_limiter *l = calloc(1, sizeof *l);
	if (!l)
		return NULL;
	l->cells = calloc(n, sizeof *l->cells); /* large: fresh pages, zero until touched */
	if (!l->cells || pthread_mutex_init(&l->lock, NULL) != 0) {
		free(l->cells);
		free(l);
		return NULL;
	}
	l->mask = n - 1;
	l->reach = n < NEIGHBOURS ? (unsigned)n : NEIGHBOURS;
	return l;
}

void tg_limiter_free(struct tg_limiter *l)
{
	if (!l)
		return;
	pthread_mutex_destroy(&l->lock);
	free(l->cells);
	free(l);
}

struct ask {
	uint64_t who, now, wall_ms;
	uint32_t n, period_s;
};

static uint64_t left_ms(uint64_t window, uint32_t period_s, uint64_t now)
{
	uint64_t end = (window >> COUNT_BITS) + (uint64_t)period_s * 1000;
	return end > now ? end - now : 0;
}

/* `now` before the start (another loop's clock reading was later) is the window's first moment. */
static bool running(uint64_t window, uint32_t period_s, uint64_t now)
{
	return left_ms(window, period_s, now) > 0;
}

static struct tg_verdict verdict(const struct ask *a, bool passed, uint64_t used, uint64_t left)
{
	uint64_t s = (left + 999) / 1000;
	return (struct tg_verdict){
		.passed = passed,
		.limit = a->n,
		.remaining = passed && a->n > used ? (uint32_t)(a->n - used) : 0,
		.retry_after_s = s ? (uint32_t)s : 1,
		.reset_s = (a->wall_ms + left + 999) / 1000,
	};
}

static struct cell *at(struct tg_limiter *l, uint64_t who, unsigned i)
{
	return &l->cells[(who + i) & l->mask];
}

static struct cell *find(struct tg_limiter *l, uint64_t who)
{
	for (unsigned i = 0; i < l->reach; i++) {
		struct cell *c = at(l, who, i);
		uint64_t w = atomic_load_explicit(&c->who, memory_order_acquire);
		if (w == who)
			return c;
		if (w == 0)
			break;
	}
	return NULL;
}

/* False: the cell is not (or no longer) ours, or has another period. A failed swap means another take succeeded, and at most n of those
 * can precede the answer "no": the loop ends. */
static bool take(struct cell *c, const struct ask *a, struct tg_verdict *v)
{
	uint64_t w = atomic_load_explicit(&c->window, memory_order_acquire);
	for (;;) {
		if (w == 0 || atomic_load_explicit(&c->who, memory_order_acquire) != a->who ||
		    atomic_load_explicit(&c->period_s, memory_order_relaxed) != a->period_s)
			return false;
		uint64_t next = w + 1;
		if (!running(w, a->period_s, a->now)) {
			next = a->now << COUNT_BITS | 1;
		} else if ((w & COUNT_MAX) >= a->n) {
			*v = verdict(a, false, w & COUNT_MAX, left_ms(w, a->period_s, a->now));
			return true;
		}
		if (atomic_compare_exchange_weak_explicit(&c->window, &w, next, memory_order_acq_rel, memory_order_acquire)) {
			*v = verdict(a, true, next & COUNT_MAX, left_ms(next, a->period_s, a->now));
			return true;
		}
	}
}

/* Under the mutex: a cell for a newcomer. `soonest`: ms until one of the neighbours ends, where all of them are live. */
static struct cell *claim(struct tg_limiter *l, const struct ask *a, uint64_t *soonest)
{
	for (unsigned i = 0; i < l->reach; i++) {
		struct cell *c = at(l, a->who, i);
		if (atomic_load_explicit(&c->who, memory_order_relaxed) == 0)
			return c;
		uint64_t w = atomic_load_explicit(&c->window, memory_order_acquire);
		uint32_t period = atomic_load_explicit(&c->period_s, memory_order_relaxed);
		uint64_t left = left_ms(w, period, a->now);
		/* The swap fails where the owner has just reopened its window: then it is live, and the next one is tried. */
		if (left == 0 && atomic_compare_exchange_strong_explicit(&c->window, &w, 0, memory_order_acq_rel, memory_order_acquire))
			return c;
		left = left_ms(w, period, a->now);
		if (left < *soonest)
			*soonest = left;
	}
	return NULL;
}

/* True: answered. False: the cell was there after all (now with our period): take again. */
static bool settle_in(struct tg_limiter *l, struct ask *a, struct tg_verdict *v)
{
	pthread_mutex_lock(&l->lock);
	/* A loop with an older reading must not open a window inside the one that a faster loop has just seen end. */
	if (a->now < l->latest)
		a->now = l->latest;
	l->latest = a->now;
	struct cell *c = find(l, a->who);
	if (c) {
		/* After a reload. The count stays: the running window is judged by the new rate. */
		atomic_store_explicit(&c->period_s, a->period_s, memory_order_relaxed);
		pthread_mutex_unlock(&l->lock);
		return false;
	}
	uint64_t soonest = UINT32_MAX;
	c = claim(l, a, &soonest);
	if (c) {
		atomic_store_explicit(&c->period_s, a->period_s, memory_order_relaxed);
		atomic_store_explicit(&c->who, a->who, memory_order_release);
		atomic_store_explicit(&c->window, a->now << COUNT_BITS | 1, memory_order_release);
	}
	pthread_mutex_unlock(&l->lock);
	*v = c ? verdict(a, true, 1, (uint64_t)a->period_s * 1000) : verdict(a, false, a->n, soonest);
	return true;
}

struct tg_verdict tg_limiter_take(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t mono_ms, uint64_t wall_ms)
{
	if (rate.n == 0)
		return (struct tg_verdict){ .passed = true, .retry_after_s = 1, .reset_s = wall_ms / 1000 };
	struct ask a = {
		.who = who ? who : 1,
		.now = mono_ms & START_MASK,
		.wall_ms = wall_ms,
		.n = rate.n < COUNT_MAX ? rate.n : COUNT_MAX,
		.period_s = rate.period_s ? rate.period_s : 1,
	};
	struct tg_verdict v = { 0 };
	/* Each failed round means that the cell changed hands, or its period, in between. Both are rare (an expired window,
	 * a reload); a caller that loses 64 times in a row is refused rather than kept. */
	for (unsigned round = 0; round < 64; round++) {
		struct cell *c = find(l, a.who);
		if (c && take(c, &a, &v))
			return v;
		if (settle_in(l, &a, &v))
			return v;
	}
	return verdict(&a, false, a.n, 1000);
}

static unsigned char who_key[crypto_shorthash_KEYBYTES];
static pthread_once_t who_once = PTHREAD_ONCE_INIT;

static void make_who_key(void)
{
	randombytes_buf(who_key, sizeof who_key); /* ends the process where the kernel gives no randomness */
}

uint64_t tg_limit_who(unsigned limit_class, const void *key, size_t n)
{
	unsigned char text[sizeof(uint32_t) + 128], out[crypto_shorthash_BYTES];
	uint32_t c = limit_class;
	pthread_once(&who_once, make_who_key);
	if (n > sizeof text - sizeof c) {
		/* Longer than any address or digest: its hash stands for it. */
		crypto_shorthash(out, key, n, who_key);
		memcpy(text + sizeof c, out, sizeof out);
		n = sizeof out;
	} else if (n) {
		memcpy(text + sizeof c, key, n);
	}
	memcpy(text, &c, sizeof c);
	crypto_shorthash(out, text, sizeof c + n, who_key);
	uint64_t v;
	memcpy(&v, out, sizeof v);
	return v;
}
