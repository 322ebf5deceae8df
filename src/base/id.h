#pragma once
/* Request ids and ids of records: ULIDs (48 bits of wall milliseconds, 80 random bits, Crockford base 32). They need uniqueness, not secrecy, so each loop
 * has a generator of its own, seeded once from the system. */
#include "base/slice.h"

struct tg_rng {
	uint64_t s[4];
};
void tg_rng_seed(struct tg_rng *r);
uint64_t tg_rng_next(struct tg_rng *r);
#define TG_ULID_LEN 26
void tg_ulid(struct tg_rng *r, uint64_t wall_us, char out[TG_ULID_LEN]);

/* Ids of records: each is greater than all that this process made before, also within a millisecond or when the clock was set back (then the random part counts up by one). Thread-safe. */
void tg_ulid_monotonic(uint64_t wall_us, char out[TG_ULID_LEN + 1]);
/* An id that somebody sent, in either case; out: in upper case, ended by a NUL. False: it is none (26 digits of Crockford's alphabet, the first at most 7). */
bool tg_ulid_read(struct tg_slice s, char out[TG_ULID_LEN + 1]);
