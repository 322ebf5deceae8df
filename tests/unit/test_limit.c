/*
 * The limiter: exactly N pass, whatever the number of threads, also while windows reopen and cells change owners; a full neighbourhood
 * refuses; a changed limit judges the running window. Built with -fsanitize=thread too.
 */
#include "policy/limit.h"
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tg_rate sixty = { 60, 60 };

static void test_one_window(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(1024);
	uint64_t t = 5000000, wall = 1700000000;
	for (uint32_t i = 0; i < 60; i++) {
		struct tg_verdict v = tg_limiter_take(l, 42, sixty, t + i * 100, wall * 1000 + i * 100);
		assert_true(v.passed);
		assert_int_equal(v.limit, 60);
		assert_int_equal(v.remaining, 59 - i);
		assert_int_equal(v.reset_s, wall + 60); /* the same all through the window */
	}
	struct tg_verdict v = tg_limiter_take(l, 42, sixty, t + 59001, wall * 1000 + 59001);
	assert_false(v.passed);
	assert_int_equal(v.remaining, 0);
	assert_int_equal(v.retry_after_s, 1); /* 999 ms, rounded up */
	assert_int_equal(v.reset_s, wall + 60);
	v = tg_limiter_take(l, 42, sixty, t + 30000, wall * 1000 + 30000);
	assert_int_equal(v.retry_after_s, 30);
	assert_false(tg_limiter_take(l, 42, sixty, t + 59999, wall * 1000 + 59999).passed);
	/* Somebody else is not concerned. */
	assert_true(tg_limiter_take(l, 43, sixty, t + 59999, wall * 1000 + 59999).passed);
	/* The next window opens with the first request after the end, not at a multiple of the first. */
	v = tg_limiter_take(l, 42, sixty, t + 75000, wall * 1000 + 75000);
	assert_true(v.passed);
	assert_int_equal(v.remaining, 59);
	assert_int_equal(v.reset_s, wall + 135);
	for (int i = 0; i < 59; i++)
		assert_true(tg_limiter_take(l, 42, sixty, t + 134999, wall * 1000 + 134999).passed);
	assert_false(tg_limiter_take(l, 42, sixty, t + 134999, wall * 1000 + 134999).passed);
	assert_true(tg_limiter_take(l, 42, sixty, t + 135000, wall * 1000 + 135000).passed);
	/* A loop whose clock reading is older than the start counts in the window. */
	assert_int_equal(tg_limiter_take(l, 42, sixty, t + 134990, wall * 1000 + 134990).remaining, 58);
	tg_limiter_free(l);
	tg_limiter_free(NULL);
}

static void test_off_and_extremes(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(1);
	for (int i = 0; i < 100; i++)
		assert_true(tg_limiter_take(l, (uint64_t)i, (struct tg_rate){ 0, 60 }, 1, 1).passed);
	/* `off` took no cell; who 0 is a caller like any other. */
	assert_true(tg_limiter_take(l, 0, (struct tg_rate){ 1, 1 }, 0, 0).passed);
	assert_false(tg_limiter_take(l, 0, (struct tg_rate){ 1, 1 }, 0, 0).passed);
	assert_true(tg_limiter_take(l, 0, (struct tg_rate){ 1, 1 }, 1000, 1).passed);
	struct tg_verdict v = tg_limiter_take(l, 0, (struct tg_rate){ UINT32_MAX, 86400 }, 1500, 1);
	assert_true(v.passed);
	assert_int_equal(v.limit, (1 << 24) - 1);
	assert_int_equal(v.retry_after_s, 86400);
	tg_limiter_free(l);
}

static void test_reload(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(64);
	for (int i = 0; i < 40; i++)
		assert_true(tg_limiter_take(l, 7, sixty, 1000, 1).passed);
	/* Shrunk: the 40 taken count. */
	struct tg_verdict v = tg_limiter_take(l, 7, (struct tg_rate){ 30, 60 }, 2000, 2);
	assert_false(v.passed);
	assert_int_equal(v.limit, 30);
	assert_int_equal(v.remaining, 0);
	v = tg_limiter_take(l, 7, (struct tg_rate){ 41, 60 }, 2000, 2);
	assert_true(v.passed);
	assert_int_equal(v.remaining, 0);
	assert_false(tg_limiter_take(l, 7, (struct tg_rate){ 41, 60 }, 2000, 2).passed);
	/* Another period: the window goes on from its start, with its count. */
	v = tg_limiter_take(l, 7, (struct tg_rate){ 10, 3600 }, 3000, 3);
	assert_false(v.passed);
	assert_int_equal(v.retry_after_s, 3598);
	assert_false(tg_limiter_take(l, 7, (struct tg_rate){ 10, 3600 }, 120000, 120).passed);
	v = tg_limiter_take(l, 7, (struct tg_rate){ 10, 60 }, 120000, 120);
	assert_true(v.passed);
	assert_int_equal(v.remaining, 9);
	tg_limiter_free(l);
}

static void test_full(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(16);
	for (uint64_t who = 1; who <= 16; who++)
		assert_true(tg_limiter_take(l, who, sixty, 1000 * who, who).passed);
	struct tg_verdict v = tg_limiter_take(l, 99, sixty, 20000, 20);
	assert_false(v.passed);
	assert_int_equal(v.remaining, 0);
	assert_int_equal(v.retry_after_s, 41); /* who 1 ends at 61 s */
	/* Those inside are served. */
	assert_int_equal(tg_limiter_take(l, 16, sixty, 20000, 20).remaining, 58);
	/* At 61 s the first cell is free, for one newcomer. */
	assert_true(tg_limiter_take(l, 99, sixty, 61000, 61).passed);
	assert_false(tg_limiter_take(l, 98, sixty, 61000, 61).passed);
	assert_int_equal(tg_limiter_take(l, 99, sixty, 61000, 61).remaining, 58);
	/* An hour's window is not given away after a minute. */
	struct tg_limiter *h = tg_limiter_new(1);
	struct tg_rate hour = { 2, 3600 };
	assert_true(tg_limiter_take(h, 5, hour, 1000, 1).passed);
	assert_false(tg_limiter_take(h, 6, sixty, 3600000, 3600).passed);
	assert_true(tg_limiter_take(h, 6, sixty, 3601000, 3601).passed);
	tg_limiter_free(h);
	tg_limiter_free(l);
}

enum { THREADS = 8, TAKES = 1000 };

struct race {
	struct tg_limiter *l;
	pthread_barrier_t barrier;
	_Atomic unsigned passed[8];
	unsigned callers;
	_Atomic uint64_t clock;
};

static void *take_many(void *arg)
{
	struct race *r = arg;
	pthread_barrier_wait(&r->barrier);
	for (unsigned i = 0; i < TAKES; i++) {
		unsigned c = i % r->callers;
		if (tg_limiter_take(r->l, 1000 + c, sixty, 77000, 77).passed)
			atomic_fetch_add(&r->passed[c], 1);
	}
	return NULL;
}

static void run_threads(struct race *r, void *(*f)(void *))
{
	pthread_t t[THREADS];
	pthread_barrier_init(&r->barrier, NULL, THREADS);
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, f, r), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	pthread_barrier_destroy(&r->barrier);
}

static void test_exactly_n(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		struct race r = { .l = tg_limiter_new(64), .callers = 1 };
		run_threads(&r, take_many);
		assert_int_equal(r.passed[0], 60);
		tg_limiter_free(r.l);
	}
}

static void test_exactly_n_of_each(void **state)
{
	(void)state;
	for (int round = 0; round < 20; round++) {
		/* As many cells as callers: all inserted at once into one neighbourhood. */
		struct race r = { .l = tg_limiter_new(8), .callers = 8 };
		run_threads(&r, take_many);
		for (unsigned c = 0; c < 8; c++)
			assert_int_equal(r.passed[c], 60);
		tg_limiter_free(r.l);
	}
}

/* Contention that lasts: a count that is lost or doubled once in 400,000 takes shows. */
static void *take_long(void *arg)
{
	struct race *r = arg;
	unsigned mine = 0;
	pthread_barrier_wait(&r->barrier);
	for (unsigned i = 0; i < 50000; i++)
		mine += tg_limiter_take(r->l, 5, (struct tg_rate){ 300000, 60 }, 77000, 77).passed;
	atomic_fetch_add(&r->passed[0], mine);
	return NULL;
}

static void test_exactly_n_of_many(void **state)
{
	(void)state;
	struct race r = { .l = tg_limiter_new(64) };
	run_threads(&r, take_long);
	assert_int_equal(r.passed[0], 300000);
	tg_limiter_free(r.l);
}

/*
 * Cells change owners under load. In each epoch, a period after the one before, every cell's window has ended, and twice as many callers as there are cells ask at
 * the same moment: former owners reopen while newcomers take their cells. Whoever got a cell holds it for the epoch, so exactly as many callers as there are cells get
 * exactly N and the others nothing. Threads meet by spinning: a sleeping barrier would wake them too far apart to race.
 */
enum { RACERS = 2, EPOCHS = 20000, CELLS = 2, CALLERS = 4 };
static const struct tg_rate ten = { 10, 1 };
static _Atomic unsigned char epoch_passed[EPOCHS][CALLERS];
static _Atomic unsigned arrived;

static void *churn(void *arg)
{
	struct tg_limiter *l = arg;
	static _Atomic unsigned order;
	unsigned me = atomic_fetch_add(&order, 1);
	for (unsigned e = 0; e < EPOCHS; e++) {
		atomic_fetch_add(&arrived, 1);
		while (atomic_load(&arrived) < (e + 1) * RACERS)
			sched_yield();
		for (unsigned i = 0; i < 12 * CALLERS; i++) {
			/* Each thread starts with another caller, another one each epoch. */
			unsigned c = (i + me * (1 + e % 3) + e / 3) % CALLERS;
			if (tg_limiter_take(l, 1 + c, ten, 1000 + e * 1000ull, e).passed)
				atomic_fetch_add(&epoch_passed[e][c], 1);
		}
	}
	return NULL;
}

static void test_cells_change_owners(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(CELLS);
	pthread_t t[RACERS];
	for (int i = 0; i < RACERS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, churn, l), 0);
	for (int i = 0; i < RACERS; i++)
		pthread_join(t[i], NULL);
	for (unsigned e = 0; e < EPOCHS; e++) {
		unsigned full = 0;
		for (unsigned c = 0; c < CALLERS; c++) {
			unsigned n = epoch_passed[e][c];
			if (n != 0 && n != 10)
				fail_msg("epoch %u caller %u: %u passed", e, c, n);
			full += n == 10;
		}
		assert_int_equal(full, CELLS);
	}
	tg_limiter_free(l);
}

/* A loop whose clock reading is older than the moment its caller's cell was given away opens the next window no earlier than that moment. */
static void test_late_reading(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(2);
	assert_true(tg_limiter_take(l, 3, ten, 900, 0).passed);  /* cell 1, to 1900 */
	assert_true(tg_limiter_take(l, 2, ten, 1000, 1).passed); /* cell 0, to 2000 */
	assert_true(tg_limiter_take(l, 4, ten, 2000, 2).passed); /* takes cell 0 */
	for (int i = 0; i < 10; i++)
		assert_true(tg_limiter_take(l, 2, ten, 1999, 1).passed); /* moves to cell 1 */
	assert_false(tg_limiter_take(l, 2, ten, 2999, 2).passed);
	assert_true(tg_limiter_take(l, 2, ten, 3000, 3).passed);
	tg_limiter_free(l);
}

/*
 * Windows reopen and cells change owners while threads race past their end, also with clock readings that are late (a thread is preempted between
 * reading and taking). Windows of one caller begin at least a period apart, so 20 s of common clock hold at most 20 of them.
 */
static _Atomic unsigned got[6];

static void *drift(void *arg)
{
	struct race *r = arg;
	pthread_barrier_wait(&r->barrier);
	for (unsigned i = 0; i < 20000; i++) {
		uint64_t t = atomic_fetch_add(&r->clock, 1) / 8; /* 160,000 steps of 1/8 ms: 20 s */
		unsigned c = i % 6;
		if (tg_limiter_take(r->l, 1 + c, ten, 1000 + t, t / 1000).passed)
			atomic_fetch_add(&got[c], 1);
	}
	return NULL;
}

static void test_reopening(void **state)
{
	(void)state;
	struct race r = { .l = tg_limiter_new(4) };
	run_threads(&r, drift);
	unsigned all = 0;
	for (unsigned c = 0; c < 6; c++) {
		if (got[c] > 200)
			fail_msg("caller %u: %u passed in 20 windows of 10", c, got[c]);
		all += got[c];
	}
	assert_true(all > 100); /* four cells were in use all the time */
	tg_limiter_free(r.l);
}

static void test_who(void **state)
{
	(void)state;
	char key[300] = "k";
	assert_int_equal(tg_limit_who(1, key, 16), tg_limit_who(1, key, 16));
	assert_true(tg_limit_who(1, key, 16) != tg_limit_who(2, key, 16));
	assert_true(tg_limit_who(1, key, 16) != tg_limit_who(1, key, 15));
	assert_true(tg_limit_who(1, key, 300) != tg_limit_who(1, key, 299));
	assert_true(tg_limit_who(1, key, 300) != tg_limit_who(2, key, 300));
	assert_true(tg_limit_who(1, NULL, 0) == tg_limit_who(1, "", 0));
	char other[300] = "l";
	assert_true(tg_limit_who(1, key, 300) != tg_limit_who(1, other, 300));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_one_window), cmocka_unit_test(test_off_and_extremes), cmocka_unit_test(test_reload),
		cmocka_unit_test(test_full), cmocka_unit_test(test_exactly_n), cmocka_unit_test(test_exactly_n_of_each),
		cmocka_unit_test(test_exactly_n_of_many), cmocka_unit_test(test_cells_change_owners), cmocka_unit_test(test_late_reading),
		cmocka_unit_test(test_reopening), cmocka_unit_test(test_who),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
