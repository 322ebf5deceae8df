/* Drawing rows (see sample.h): always a shuffle of the rows of one class by Fisher and Yates, and then as many of its front as are wanted. False, 0: no memory. */
#include "engine/sample.h"
#include <math.h>
#include <stdlib.h>
#include <string.h>

struct tg_rng tg_seeded(uint32_t seed, uint32_t stream)
{
	struct tg_rng r;
	uint64_t x = (uint64_t)stream << 32 | seed;
	for (int i = 0; i < 4; i++) {
		x += 0x9e3779b97f4a7c15u;
		uint64_t z = x;
		z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
		z = (z ^ z >> 27) * 0x94d049bb133111ebu;
		r.s[i] = z ^ z >> 31;
	}
	return r;
}

uint32_t tg_below(struct tg_rng *r, uint32_t n)
{
	/* What is left of 2^32 after whole runs of n is drawn again, so that none is likelier. */
	uint32_t spare = (uint32_t)(-n % n), x;
	do
		x = (uint32_t)(tg_rng_next(r) >> 32);
	while (x < spare);
	return x % n;
}

static void shuffle(struct tg_rng *r, uint32_t *v, size_t n)
{
	for (size_t i = n; i > 1; i--) {
		size_t j = tg_below(r, (uint32_t)i);
		uint32_t t = v[i - 1];
		v[i - 1] = v[j];
		v[j] = t;
	}
}

/* The rows of a class, or all of them. */
static size_t of_class(const uint8_t *y, uint32_t rows, uint8_t class, uint32_t *v)
{
	size_t n = 0;
	for (uint32_t i = 0; i < rows; i++)
		if (!y || y[i] == class)
			v[n++] = i;
	return n;
}

bool tg_sample_split(const uint8_t *y, uint32_t rows, double share, uint32_t seed, uint8_t *part)
{
	struct tg_rng r = tg_seeded(seed, TG_STREAM_SPLIT);
	uint32_t *v = malloc(rows * sizeof *v);
	if (!v)
		return false;
	memset(part, 0, rows * sizeof *part);
	for (uint8_t class = 0; class < (y ? 2 : 1); class++) {
		size_t n = of_class(y, rows, class, v), back = (size_t)lround(share * (double)n);
		shuffle(&r, v, n);
		if (back < 1)
			back = 1;
		if (back >= n)
			back = n ? n - 1 : 0;
		for (size_t i = 0; i < back; i++)
			part[v[i]] = 1;
	}
	free(v);
	return true;
}

bool tg_sample_folds(const uint8_t *y, uint32_t rows, unsigned folds, uint32_t seed, uint8_t *part)
{
	struct tg_rng r = tg_seeded(seed, TG_STREAM_FOLDS);
	uint32_t *v = malloc(rows * sizeof *v);
	if (!v)
		return false;
	size_t dealt = 0;
	for (uint8_t class = 0; class < (y ? 2 : 1); class++) {
		size_t n = of_class(y, rows, class, v);
		shuffle(&r, v, n);
		for (size_t i = 0; i < n; i++)
			part[v[i]] = (uint8_t)(dealt++ % folds);
	}
	free(v);
	return true;
}

size_t tg_sample_even(const uint8_t *y, uint32_t *rows, size_t n, struct tg_rng *r)
{
	size_t count[2] = { 0 };
	for (size_t i = 0; i < n; i++)
		count[y[rows[i]]]++;
	uint8_t larger = count[1] > count[0];
	size_t keep = count[!larger], have = 0, kept = 0;
	uint32_t *v = malloc(count[larger] * sizeof *v);
	bool *gone = calloc(n ? n : 1, sizeof *gone);
	if (!v || !gone) {
		free(v);
		free(gone);
		return 0;
	}
	for (size_t i = 0; i < n; i++)
		if (y[rows[i]] == larger)
			v[have++] = (uint32_t)i;
	shuffle(r, v, have);
	for (size_t i = keep; i < have; i++)
		gone[v[i]] = true;
	for (size_t i = 0; i < n; i++)
		if (!gone[i])
			rows[kept++] = rows[i];
	free(v);
	free(gone);
	return kept;
}
