/*
 * xoshiro256** (Blackman and Vigna) seeded from getrandom: a system call per request id would cost half a microsecond.
 * Never used for keys: those come from libsodium.
 */
#include "base/id.h"
#include <pthread.h>
#include <stdlib.h>
#include <sys/random.h>

static const char digits[] = "0123456789ABCDEFGHJKMNPQRSTVWXYZ";

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
	uint64_t ms = wall_us / 1000u, a = tg_rng_next(r), b = tg_rng_next(r);
	for (int i = 9; i >= 0; i--, ms >>= 5)
		out[i] = digits[ms & 31];
	for (int i = 10; i < 18; i++, a >>= 5)
		out[i] = digits[a & 31];
	for (int i = 18; i < 26; i++, b >>= 5)
		out[i] = digits[b & 31];
}

#define MS_MAX ((1ull << 48) - 1)
#define HALF_BITS 40 /* the random part as two numbers: eight digits each */
#define HALF_MASK ((1ull << HALF_BITS) - 1)

static pthread_mutex_t last_lock = PTHREAD_MUTEX_INITIALIZER;
static struct {
	struct tg_rng rng;
	bool seeded;
	uint64_t ms, high, low;
} last;

void tg_ulid_monotonic(uint64_t wall_us, char out[TG_ULID_LEN + 1])
{
	uint64_t now = wall_us / 1000u < MS_MAX ? wall_us / 1000u : MS_MAX;
	pthread_mutex_lock(&last_lock);
	if (!last.seeded) {
		tg_rng_seed(&last.rng);
		last.seeded = true;
	}
	if (now > last.ms) {
		last.ms = now;
		last.high = tg_rng_next(&last.rng) & HALF_MASK;
		last.low = tg_rng_next(&last.rng) & HALF_MASK;
	} else if (!(last.low = (last.low + 1) & HALF_MASK) && !(last.high = (last.high + 1) & HALF_MASK)) {
		last.ms++;
	}
	uint64_t ms = last.ms, high = last.high, low = last.low;
	pthread_mutex_unlock(&last_lock);
	for (int i = 9; i >= 0; i--, ms >>= 5)
		out[i] = digits[ms & 31];
	for (int i = 17; i >= 10; i--, high >>= 5)
		out[i] = digits[high & 31];
	for (int i = 25; i >= 18; i--, low >>= 5)
		out[i] = digits[low & 31];
	out[TG_ULID_LEN] = 0;
}

bool tg_ulid_read(struct tg_slice s, char out[TG_ULID_LEN + 1])
{
	if (s.n != TG_ULID_LEN || s.p[0] < '0' || s.p[0] > '7')
		return false;
	for (size_t i = 0; i < TG_ULID_LEN; i++) {
		char c = (char)(s.p[i] >= 'a' && s.p[i] <= 'z' ? s.p[i] - 32 : s.p[i]);
		if (!c || !memchr(digits, c, 32))
			return false;
		out[i] = c;
	}
	out[TG_ULID_LEN] = 0;
	return true;
}
