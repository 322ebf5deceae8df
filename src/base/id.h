#pragma once
/* Request ids: ULIDs (48 bits of wall milliseconds, 80 random bits, Crockford base 32). They need uniqueness, not secrecy, so each loop
 * has a generator of its own, seeded once from the system. */
#include <stdint.h>

struct tg_rng {
	uint64_t s[4];
};
void tg_rng_seed(struct tg_rng *r);
uint64_t tg_rng_next(struct tg_rng *r);
#define TG_ULID_LEN 26
void tg_ulid(struct tg_rng *r, uint64_t wall_us, char out[TG_ULID_LEN]);
