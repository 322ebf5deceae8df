#pragma once
/*
 * What a principal has used: counted where a request ends, by any loop, without a lock; taken by the store once a minute (store/uses.h). A place stays where it is for as long as the process
 * lives, so that principals of old snapshots may point to it.
 *
 * A place of somebody who never came costs two words: the counters are made at the first count. They are relaxed atomics: nothing but the sum matters, and none is lost.
 */
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* In the order in which they lie beside each other: a request touches the first five of one cache line at most. */
#define TG_COUNTS(X) X(requests) X(prompt_tokens) X(completion_tokens) X(cost) X(errors) X(limited) X(rows) X(trainings) X(predictions)
struct tg_counts {
#define X(name) uint64_t name;
	TG_COUNTS(X) /* cost: nanos (policy/price.h) */
#undef X
};
enum {
#define X(name) TG_COUNT_OF_##name,
	TG_COUNTS(X)
#undef X
	TG_COUNTS_N
};
static inline uint64_t *tg_counts_at(struct tg_counts *c, unsigned i)
{
	return (uint64_t *)((char *)c + i * sizeof(uint64_t));
}

/* Days since 1970-01-01, UTC. Of the two cells one is today's and the other yesterday's, until the store has taken it. */
struct tg_tally {
	_Alignas(64) struct tg_tally_cell {
		_Alignas(64) _Atomic uint64_t day;
		_Atomic uint64_t count[TG_COUNTS_N];
	} cell[2];
};

struct tg_use {
	_Atomic uint64_t last_s; /* when a key of the database was last used, in seconds since the epoch; 0: not since the start */
	_Atomic(struct tg_tally *) tally; /* NULL: nothing was counted yet */
};

/* Adds to the day in which wall_us (microseconds since the epoch) lies. Without memory nothing is counted. */
void tg_use_add(struct tg_use *u, uint64_t wall_us, const struct tg_counts *c);
/* Takes what is counted in one of the two cells; *day: whose. False: nothing. */
bool tg_use_take(struct tg_use *u, unsigned cell, uint32_t *day, struct tg_counts *out);
void tg_use_free(struct tg_use *u); /* the tally; not u */

/* a + b, and no further than INT64_MAX: what a database's column holds. */
static inline uint64_t tg_count_sum(uint64_t a, uint64_t b)
{
	uint64_t max = INT64_MAX;
	return a > max || b > max - a ? max : a + b;
}

#define TG_DAY_US 86400000000ull
#define TG_DAY_TEXT 11 /* "2026-11-26" and a NUL */
void tg_day_text(uint32_t day, char out[TG_DAY_TEXT]);      /* day at most TG_DAY_MAX */
bool tg_day_parse(const char *text, uint32_t *day);          /* exactly YYYY-MM-DD, a day that there is, from 1970-01-01 on */
#define TG_DAY_MAX 2932896u /* 9999-12-31 */
