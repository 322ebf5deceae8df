/*
 * Fingerprints: the same bytes give the same, other bytes, other lengths and other cuts give others, and each bit of the input moves about half of the result. Of long
 * bytes the beginning, the end and the length count.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/hash.h"
#include <pthread.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const uint64_t starts[] = { 0, 1, UINT64_MAX, 0x0123456789abcdef }; /* whatever the seed is */
#define STARTS (sizeof starts / sizeof starts[0])

static void fill(unsigned char *p, size_t n, uint32_t rng)
{
	for (size_t i = 0; i < n; i++) {
		rng = rng * 1664525u + 1013904223u;
		p[i] = (unsigned char)(rng >> 24);
	}
}

static void *ask_seed(void *arg)
{
	*(uint64_t *)arg = tg_hash_seed();
	return NULL;
}

static void test_stable(void **state)
{
	(void)state;
	/* Whoever asks first: all get the same. */
	pthread_t t[4];
	uint64_t seed[4];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, ask_seed, &seed[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < 4; i++)
		assert_true(seed[i] == tg_hash_seed());
	/* Where the bytes lie does not matter, nor what lies behind them. */
	unsigned char data[200], *moved = malloc(300);
	fill(data, sizeof data, 1);
	for (size_t n = 0; n <= sizeof data; n++)
		for (size_t at = 0; at < 9; at++) {
			memset(moved, (int)at, 300);
			memcpy(moved + at, data, n);
			for (unsigned i = 0; i < STARTS; i++)
				assert_true(tg_hash(starts[i], data, n) == tg_hash(starts[i], moved + at, n));
		}
	free(moved);
	/* Not a byte too many is read: of its exact size, so that the sanitizer sees it. */
	for (size_t n = 1; n < 40; n++) {
		unsigned char *exact = malloc(n);
		memcpy(exact, data, n);
		assert_true(tg_hash(7, exact, n) == tg_hash(7, data, n));
		free(exact);
	}
	assert_true(tg_hash(7, NULL, 0) == tg_hash(7, data, 0));
}

static int by_value(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void all_distinct(uint64_t *v, size_t n)
{
	qsort(v, n, sizeof *v, by_value);
	for (size_t i = 1; i < n; i++)
		if (v[i] == v[i - 1])
			fail_msg("two of %zu are the same", n);
}

static void test_length_and_order(void **state)
{
	(void)state;
	for (unsigned i = 0; i < STARTS; i++) {
		uint64_t h = starts[i];
		uint64_t a_b = tg_hash(tg_hash(h, "a", 1), "b", 1);
		assert_true(a_b != tg_hash(h, "ab", 2));
		assert_true(a_b != tg_hash(tg_hash(h, "b", 1), "a", 1));
		assert_true(tg_hash(tg_hash(h, "ab", 2), "c", 1) != tg_hash(tg_hash(h, "a", 1), "bc", 2));
		assert_true(tg_hash(tg_hash(h, "ab", 2), "", 0) != tg_hash(tg_hash(h, "", 0), "ab", 2)); /* an empty part has its place, too */
		assert_true(tg_hash(h, "", 0) != h);
		/* Runs of zeros differ by their length only. */
		unsigned char zeros[300] = { 0 };
		uint64_t seen[301];
		for (size_t n = 0; n <= 300; n++)
			seen[n] = tg_hash(h, zeros, n);
		all_distinct(seen, 301);
		/* And so do empty parts by their number. */
		uint64_t empty[100];
		empty[0] = h;
		for (int n = 1; n < 100; n++)
			empty[n] = tg_hash(empty[n - 1], zeros, 0);
		all_distinct(empty, 100);
	}
	/* Another seed is another hash. */
	uint64_t of[1000];
	for (uint64_t s = 0; s < 1000; s++)
		of[s] = tg_hash(s, "the same", 8);
	all_distinct(of, 1000);
}

static void test_many_differ(void **state)
{
	(void)state;
	enum { MANY = 200000 };
	uint64_t *v = malloc(MANY * sizeof *v);
	for (uint64_t i = 0; i < MANY; i++)
		v[i] = tg_hash(12345, &i, sizeof i);
	all_distinct(v, MANY); /* of 64 bits: a chance of one in a thousand million for honest ones */
	for (unsigned i = 0; i < MANY; i++) {
		char text[32];
		int n = snprintf(text, sizeof text, "session-%u", i);
		v[i] = tg_hash(12345, text, (size_t)n);
	}
	all_distinct(v, MANY);
	free(v);
}

/* Every bit of the input, and of the start, moves about half of the bits of the result, and every bit of the result is moved. */
static void test_avalanche(void **state)
{
	(void)state;
	static const size_t lengths[] = { 1, 3, 7, 8, 9, 15, 16, 17, 24, 33, 64 };
	enum { TIMES = 200 };
	for (unsigned l = 0; l < sizeof lengths / sizeof lengths[0]; l++) {
		size_t n = lengths[l];
		unsigned long long all = 0, samples = 0;
		unsigned moved[64] = { 0 };
		for (size_t bit = 0; bit < (n + 8) * 8; bit++) {
			unsigned of_this = 0;
			for (uint32_t i = 0; i < TIMES; i++) {
				unsigned char data[64];
				uint64_t start;
				fill((unsigned char *)&start, sizeof start, i + 1000);
				fill(data, n, i);
				uint64_t h = tg_hash(start, data, n);
				if (bit < n * 8)
					data[bit / 8] ^= (unsigned char)(1u << bit % 8);
				else
					start ^= UINT64_C(1) << (bit - n * 8);
				uint64_t change = h ^ tg_hash(start, data, n);
				of_this += (unsigned)__builtin_popcountll(change);
				for (int k = 0; k < 64; k++)
					moved[k] += (unsigned)(change >> k & 1);
			}
			double mean = (double)of_this / TIMES;
			if (mean < 26 || mean > 38)
				fail_msg("%zu bytes: bit %zu moves %.1f bits of 64", n, bit, mean);
			all += of_this;
			samples += TIMES;
		}
		double mean = (double)all / (double)samples;
		assert_true(mean > 31 && mean < 33);
		for (int k = 0; k < 64; k++) {
			double share = (double)moved[k] / (double)samples;
			if (share < 0.45 || share > 0.55)
				fail_msg("%zu bytes: bit %d of the result moves with %.3f of the changes", n, k, share);
		}
	}
}

static void test_sample(void **state)
{
	(void)state;
	enum { LONG = 100000, PART = 4096, STEP = (LONG - 2 * PART - 64) / 32 };
	unsigned char *p = malloc(LONG);
	fill(p, LONG, 5);
	static const size_t whole[] = { 0, 1, 7, 8, 4095, 4096, 4097, 8191, 8192, 10240 };
	for (unsigned i = 0; i < sizeof whole / sizeof whole[0]; i++)
		for (unsigned s = 0; s < STARTS; s++)
			assert_true(tg_hash_sample(starts[s], p, whole[i]) == tg_hash(starts[s], p, whole[i]));
	/* Up to there every byte counts. */
	uint64_t h = tg_hash_sample(9, p, 10240);
	for (size_t at = 0; at < 10240; at += 97) {
		p[at] ^= 1;
		assert_true(tg_hash_sample(9, p, 10240) != h);
		p[at] ^= 1;
	}
	/* Past it the first and the last 4 KiB do, and 64 bytes in 32 places between them. */
	h = tg_hash_sample(9, p, LONG);
	assert_true(h != tg_hash_sample(10, p, LONG));
	static const struct {
		size_t at;
		bool counts;
	} rows[] = {
		{ 0, true }, { 1, true }, { 2000, true }, { PART - 1, true }, { PART, true }, { PART + 63, true }, { PART + 64, false }, { PART + STEP - 1, false }, { PART + STEP, true },
		{ PART + 31 * STEP + 63, true }, { PART + 31 * STEP + 64, false }, { LONG - PART - 1, false },
		{ LONG - PART, true }, { LONG - 2000, true }, { LONG - 1, true },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (int bit = 0; bit < 8; bit++) {
			p[rows[i].at] ^= (unsigned char)(1u << bit);
			if ((tg_hash_sample(9, p, LONG) != h) != rows[i].counts)
				fail_msg("byte %zu", rows[i].at);
			p[rows[i].at] ^= (unsigned char)(1u << bit);
		}
	/* And the length, also where the ends are the same. */
	memset(p, 'x', LONG);
	enum { MANY = 1000 };
	uint64_t of[MANY];
	for (size_t i = 0; i < MANY; i++)
		of[i] = tg_hash_sample(9, p, 10241 + i);
	all_distinct(of, MANY);
	free(p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_stable), cmocka_unit_test(test_length_and_order), cmocka_unit_test(test_many_differ), cmocka_unit_test(test_avalanche),
		cmocka_unit_test(test_sample),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
