/*
 * xoshiro256** (Blackman and Vigna) seeded from getrandom: a system call per request id would cost half a microsecond.
 * Never used for keys: those come from libsodium.
 */
#include "base/id.h"
#include <stdlib.h>
#include <sys/random.h>

void tg_rng_seed(struct tg_rng *r)
{
	if (getrandom(r->s, sizeof r->s, 0) != (long)sizeof r->s)
		abort();
}

static uint64_t rotl(uint64_t x, int k)
{
	return (x << k) | (x >> (64 - k));
}

uint64_t tg_rng_next(struct tg_rng *r)
{
	uint64_t out = rotl(r->s[1] * 5, 7) * 9, t = r->s[1] << 17;
	r->s[2] ^= r->s[0];
	r->s[3] ^= r->s[1];
	r->s[1] ^= r->s[2];
	r->s[0] ^= r->s[3];
	r->s[2] ^= t;
	r->s[3] = rotl(r->s[3], 45);
	return out;
}

void tg_ulid(struct tg_rng *r, uint64_t wall_us, char out[TG_ULID_LEN])
{
	static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";
	uint64_t ms = wall_us / 1000u, a = tg_rng_next(r), b = tg_rng_next(r);
	for (int i = 9; i >= 0; i--, ms >>= 5)
		out[i] = digits[ms & 31];
	for (int i = 10; i < 18; i++, a >>= 5)
		out[i] = digits[a & 31];
	for (int i = 18; i < 26; i++, b >>= 5)
		out[i] = digits[b & 31];
}
