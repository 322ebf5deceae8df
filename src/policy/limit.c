/*
 * Windows of N per period in a shared table. A cell's window word is start (40 bits of milliseconds: 34 years of uptime) and count (24 bits);
 * a live word is never 0, so 0 means "nobody's yet" or "changing hands".
 *
 * Invariants, which together give "exactly N pass" with any number of threads:
 *  - A count changes only by compare-and-swap on the window word, after `who` was read and found to be ours *after* the word was.
 *  - `who` and `period_s` change only under the mutex, and a cell with another owner changes hands only once its expired word was
 *    swapped to 0: whoever still holds the old word fails its swap and starts over.
 *  - The start of a cell's words never goes back, and a new owner's is later than every one of its former owner (a period is at least a second). Within one window of one
 *    owner a word may come back, when what was taken is given back: then it says the same as before, and a swap from it is as good as the first time.
 *  - `who` never returns to 0 and a newcomer never goes past the first free cell of its neighbourhood, so a search may stop there and
 *    nobody owns two cells.
 *  - A cell given away was at its end by the clock of whoever took it, and its former owner opens its next window no earlier (`latest`).
 * The limit is not stored: each take judges the running window by the rate it brings, so a shrunken limit applies at once.
 *
 * A cell whose period is HELD counts what is under way: its start is the time of the last change, its count how many are inside. It is at its end when nobody has been inside for
 * IDLE_MS, so that the start's invariant holds for it too, and a cell that somebody is in cannot be lost.
 */
#include "policy/limit.h"
#include <pthread.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { COUNT_BITS = 24, NEIGHBOURS = 64, IDLE_MS = 60000 };
#define COUNT_MAX ((1u << COUNT_BITS) - 1)
#define START_MASK ((1ull << (64 - COUNT_BITS)) - 1)
#define HELD UINT32_MAX
#define NEVER UINT32_MAX /* milliseconds */

struct tg_limit_cell {
	_Atomic uint64_t who;    /* 0: never used */
	_Atomic uint64_t window;
	_Atomic uint32_t period_s; /* of the owner's rate, or HELD: says when others may have the cell */
};

struct tg_limiter {
	size_t mask;
	unsigned reach;
	pthread_mutex_t lock;
	uint64_t latest; /* under the mutex: the latest clock reading that moved somebody in */
	struct tg_limit_cell *cells;
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
	uint32_t amount;
	bool forced;                /* counts even where it does not fit */
	struct tg_limit_cell *cell; /* where it was counted */
};

static uint64_t left_ms(uint64_t window, uint32_t period_s, uint64_t now)
{
	if (period_s == HELD && (window & COUNT_MAX))
		return NEVER;
	uint64_t end = (window >> COUNT_BITS) + (period_s == HELD ? IDLE_MS : (uint64_t)period_s * 1000);
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
		.remaining = a->n > used ? (uint32_t)(a->n - used) : 0,
		.retry_after_s = s ? (uint32_t)s : 1,
		.reset_s = (a->wall_ms + left + 999) / 1000,
		.end_ms = a->now + left,
	};
}

static struct tg_verdict verdict_of(const struct ask *a, bool passed, uint64_t window)
{
	struct tg_verdict v = verdict(a, passed, window & COUNT_MAX, left_ms(window, a->period_s, a->now));
	v.window = window >> COUNT_BITS;
	return v;
}

/* The word of a window that has begun, with `count` in it. 0 is nobody's: in the first millisecond of all it is one too many instead. */
static uint64_t word(uint64_t start, uint64_t count)
{
	uint64_t w = start << COUNT_BITS | (count < COUNT_MAX ? count : COUNT_MAX);
	return w ? w : 1;
}

static struct tg_limit_cell *at(struct tg_limiter *l, uint64_t who, unsigned i)
{
	return &l->cells[(who + i) & l->mask];
}

static struct tg_limit_cell *find(struct tg_limiter *l, uint64_t who)
{
	for (unsigned i = 0; i < l->reach; i++) {
		struct tg_limit_cell *c = at(l, who, i);
		uint64_t w = atomic_load_explicit(&c->who, memory_order_acquire);
		if (w == who)
			return c;
		if (w == 0)
			break;
	}
	return NULL;
}

static bool ours(struct tg_limit_cell *c, const struct ask *a, uint64_t w)
{
	return w != 0 && atomic_load_explicit(&c->who, memory_order_acquire) == a->who && atomic_load_explicit(&c->period_s, memory_order_relaxed) == a->period_s;
}

/* False: the cell is not (or no longer) ours, or has another period. A failed swap means that another take or give-back succeeded. */
static bool take(struct tg_limit_cell *c, struct ask *a, struct tg_verdict *v)
{
	uint64_t w = atomic_load_explicit(&c->window, memory_order_acquire);
	for (;;) {
		if (!ours(c, a, w))
			return false;
		uint64_t start = w >> COUNT_BITS, count = w & COUNT_MAX;
		if (a->period_s == HELD) {
			start = a->now > start ? a->now : start;
		} else if (!running(w, a->period_s, a->now)) {
			start = a->now;
			count = 0;
		}
		if (!a->forced && count + a->amount > a->n) {
			*v = verdict_of(a, false, w);
			return true;
		}
		uint64_t next = word(start, count + a->amount);
		if (atomic_compare_exchange_weak_explicit(&c->window, &w, next, memory_order_acq_rel, memory_order_acquire)) {
			a->cell = c;
			*v = verdict_of(a, true, next);
			return true;
		}
	}
}

/* Under the mutex: a cell for a newcomer. `soonest`: ms until one of the neighbours ends, where all of them are live. */
static struct tg_limit_cell *claim(struct tg_limiter *l, const struct ask *a, uint64_t *soonest)
{
	for (unsigned i = 0; i < l->reach; i++) {
		struct tg_limit_cell *c = at(l, a->who, i);
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
	struct tg_limit_cell *c = find(l, a->who);
	if (c) {
		/* After a reload. The count stays: the running window is judged by the new rate. */
		atomic_store_explicit(&c->period_s, a->period_s, memory_order_relaxed);
		pthread_mutex_unlock(&l->lock);
		return false;
	}
	uint64_t soonest = NEVER, w = word(a->now, a->amount);
	c = claim(l, a, &soonest);
	if (c) {
		atomic_store_explicit(&c->period_s, a->period_s, memory_order_relaxed);
		atomic_store_explicit(&c->who, a->who, memory_order_release);
		atomic_store_explicit(&c->window, w, memory_order_release);
	}
	pthread_mutex_unlock(&l->lock);
	a->cell = c;
	*v = c ? verdict_of(a, true, w) : verdict(a, false, a->n, soonest == NEVER ? 1000 : soonest);
	return true;
}

static struct ask ask_of(uint64_t who, uint32_t n, uint32_t period_s, uint32_t amount, uint64_t mono_ms, uint64_t wall_ms)
{
	return (struct ask){
		.who = who ? who : 1,
		.now = mono_ms & START_MASK,
		.wall_ms = wall_ms,
		.n = n < COUNT_MAX ? n : COUNT_MAX,
		.period_s = period_s ? period_s : 1,
		.amount = amount < COUNT_MAX ? amount : COUNT_MAX,
	};
}

static struct tg_verdict answer(struct tg_limiter *l, struct ask *a)
{
	struct tg_verdict v = { 0 };
	/* Each failed round means that the cell changed hands, or its period, in between. Both are rare (an expired window,
	 * a reload); a caller that loses 64 times in a row is refused rather than kept. */
	for (unsigned round = 0; round < 64; round++) {
		struct tg_limit_cell *c = find(l, a->who);
		if (c && take(c, a, &v))
			return v;
		if (settle_in(l, a, &v))
			return v;
	}
	return verdict(a, false, a->n, 1000);
}

struct tg_verdict tg_limiter_reserve(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint32_t n, uint64_t mono_ms, uint64_t wall_ms)
{
	if (rate.n == 0)
		return (struct tg_verdict){ .passed = true, .retry_after_s = 1, .reset_s = wall_ms / 1000 };
	struct ask a = ask_of(who, rate.n, rate.period_s, n, mono_ms, wall_ms);
	return a.amount > a.n ? verdict(&a, false, 0, (uint64_t)a.period_s * 1000) : answer(l, &a);
}

struct tg_verdict tg_limiter_take(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t mono_ms, uint64_t wall_ms)
{
	return tg_limiter_reserve(l, who, rate, 1, mono_ms, wall_ms);
}

static void give_back(struct tg_limiter *l, const struct ask *a, uint64_t window)
{
	struct tg_limit_cell *c = find(l, a->who);
	if (!c)
		return;
	uint64_t w = atomic_load_explicit(&c->window, memory_order_acquire), next;
	do {
		/* By its start alone: another period (a reload) does not make it another window. */
		if (w == 0 || w >> COUNT_BITS != window || atomic_load_explicit(&c->who, memory_order_acquire) != a->who)
			return;
		uint64_t count = w & COUNT_MAX;
		next = word(window, count > a->amount ? count - a->amount : 0);
	} while (!atomic_compare_exchange_weak_explicit(&c->window, &w, next, memory_order_acq_rel, memory_order_acquire));
}

void tg_limiter_settle(struct tg_limiter *l, uint64_t who, struct tg_rate rate, uint64_t window, uint32_t reserved, uint32_t used, uint64_t mono_ms)
{
	if (used == reserved || rate.n == 0)
		return;
	struct ask a = ask_of(who, rate.n, rate.period_s, used > reserved ? used - reserved : reserved - used, mono_ms, 0);
	a.forced = used > reserved;
	if (a.forced)
		answer(l, &a);
	else
		give_back(l, &a, window);
}

struct tg_limit_cell *tg_limiter_enter(struct tg_limiter *l, uint64_t who, uint32_t max, uint64_t mono_ms, uint32_t *inside)
{
	struct ask a = ask_of(who, max, HELD, 1, mono_ms ? mono_ms : 1, 0);
	struct tg_verdict v = answer(l, &a);
	*inside = v.limit - v.remaining;
	return v.passed ? a.cell : NULL;
}

void tg_limiter_leave(struct tg_limit_cell *c, uint64_t mono_ms)
{
	uint64_t now = mono_ms & START_MASK, w = atomic_load_explicit(&c->window, memory_order_acquire), next;
	do {
		uint64_t start = w >> COUNT_BITS;
		next = (now > start ? now : start) << COUNT_BITS | ((w & COUNT_MAX) - 1);
	} while (!atomic_compare_exchange_weak_explicit(&c->window, &w, next, memory_order_acq_rel, memory_order_acquire));
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
