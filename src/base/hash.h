#pragma once
/*
 * Fingerprints: 64 bits of anything, seeded once a process, so that nobody outside can choose what meets in a table. Cheap, not cryptographic: what may cost more than a
 * mix-up if it is forged needs HMAC (policy/key.h).
 */
#include <stddef.h>
#include <stdint.h>

uint64_t tg_hash_seed(void); /* begin with it */
uint64_t tg_hash(uint64_t h, const void *p, size_t n);
/* Of long bytes only the first and last 4 KiB, 64 bytes in 32 places between, and the length. */
uint64_t tg_hash_sample(uint64_t h, const void *p, size_t n);
