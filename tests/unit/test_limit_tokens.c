/*
 * What is taken in many at once and given back (tokens), and what is counted while it lasts (requests in flight): exact under threads, nothing lost and nothing doubled, also while
 * windows reopen and cells change owners. Built with -fsanitize=thread too.
 */
#include "policy/limit.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tg_rate thousand = { 1000, 60 };

static void test_reserve_and_settle(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(64);
	struct tg_verdict v = tg_limiter_reserve(l, 7, thousand, 600, 5000, 1000000);
	assert_true(v.passed);
	assert_int_equal(v.remaining, 400);
	assert_int_equal(v.window, 5000);
	assert_int_equal(v.end_ms, 65000);
	/* All or none, and what is left is told. */
	struct tg_verdict no = tg_limiter_reserve(l, 7, thousand, 401, 6000, 1001000);
	assert_false(no.passed);
	assert_int_equal(no.remaining, 400);
	assert_int_equal(no.retry_after_s, 59);
	assert_true(tg_limiter_reserve(l, 7, thousand, 400, 6000, 1001000).passed);
	assert_false(tg_limiter_reserve(l, 7, thousand, 1, 6000, 1001000).passed);
	/* 250 of the 600 were used. */
	tg_limiter_settle(l, 7, thousand, v.window, 600, 250, 7000);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 0, 7000, 0).remaining, 350);
	/* As reserved: nothing changes. More than reserved: the rest counts, and may go over. */
	tg_limiter_settle(l, 7, thousand, v.window, 100, 100, 7000);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 0, 7000, 0).remaining, 350);
	tg_limiter_settle(l, 7, thousand, v.window, 400, 900, 7000);
	v = tg_limiter_reserve(l, 7, thousand, 0, 7000, 0);
	assert_int_equal(v.remaining, 0);
	assert_false(tg_limiter_reserve(l, 7, thousand, 1, 64999, 0).passed);
	v = tg_limiter_reserve(l, 7, thousand, 1, 65000, 0);
	assert_true(v.passed);
	assert_int_equal(v.remaining, 999);
	assert_int_equal(v.window, 65000);
	/* Never fits: refused whatever there is, and nothing is taken. */
	assert_false(tg_limiter_reserve(l, 7, thousand, 1001, 65000, 0).passed);
	assert_false(tg_limiter_reserve(l, 7, thousand, UINT32_MAX, 65000, 0).passed);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 0, 65000, 0).remaining, 999);
	/* Off takes nothing. */
	assert_true(tg_limiter_reserve(l, 7, (struct tg_rate){ 0, 0 }, 5, 65000, 0).passed);
	tg_limiter_free(l);
}

/* What was reserved in a window that is over comes back nowhere; what was used beyond it counts now, and opens a window where none runs. */
static void test_settle_late(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(64);
	struct tg_verdict old = tg_limiter_reserve(l, 7, thousand, 600, 5000, 0);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 300, 70000, 0).remaining, 700);
	tg_limiter_settle(l, 7, thousand, old.window, 600, 0, 70000);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 0, 70000, 0).remaining, 700);
	tg_limiter_settle(l, 7, thousand, old.window, 600, 650, 70000);
	assert_int_equal(tg_limiter_reserve(l, 7, thousand, 0, 70000, 0).remaining, 650);
	tg_limiter_settle(l, 7, thousand, old.window, 100, 300, 200000);
	struct tg_verdict v = tg_limiter_reserve(l, 7, thousand, 0, 200000, 0);
	assert_int_equal(v.remaining, 800);
	assert_int_equal(v.window, 200000);
	/* Of somebody who has no cell (any more). */
	tg_limiter_settle(l, 8, thousand, 5000, 10, 5, 200000);
	tg_limiter_settle(l, 9, thousand, 5000, 5, 15, 200000);
	assert_int_equal(tg_limiter_reserve(l, 9, thousand, 0, 200000, 0).remaining, 990);
	/* A worker that claims a monstrous usage fills the window, not its neighbour bits. */
	tg_limiter_settle(l, 9, thousand, 200000, 0, UINT32_MAX, 200000);
	tg_limiter_settle(l, 9, thousand, 200000, 0, UINT32_MAX, 200001);
	v = tg_limiter_reserve(l, 9, thousand, 0, 259999, 0);
	assert_int_equal(v.remaining, 0);
	assert_false(v.passed); /* 0 more does not fit either */
	assert_int_equal(tg_limiter_reserve(l, 9, thousand, 1, 260000, 0).remaining, 999);
	tg_limiter_free(l);
}

/* Given back in full, in the first millisecond of all: the cell is still its owner's. */
static void test_nothing_left(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(2);
	struct tg_verdict v = tg_limiter_reserve(l, 4, thousand, 500, 0, 0);
	tg_limiter_settle(l, 4, thousand, v.window, 500, 0, 0);
	assert_true(tg_limiter_reserve(l, 4, thousand, 999, 1, 0).passed);
	tg_limiter_free(l);
	/* A cell that holds nothing is its owner's until the window ends, then anybody's. */
	l = tg_limiter_new(1);
	v = tg_limiter_reserve(l, 4, thousand, 500, 1000, 0);
	tg_limiter_settle(l, 4, thousand, v.window, 500, 0, 1000);
	assert_false(tg_limiter_reserve(l, 5, thousand, 1, 2000, 0).passed);
	assert_true(tg_limiter_reserve(l, 5, thousand, 1, 61000, 0).passed);
	/* Its former owner gives back too late: the new one's count is its own. */
	tg_limiter_settle(l, 4, thousand, v.window, 500, 0, 61000);
	assert_int_equal(tg_limiter_reserve(l, 5, thousand, 0, 61000, 0).remaining, 999);
	tg_limiter_free(l);
}

static void test_enter_and_leave(void **state)
{
	(void)state;
	struct tg_limiter *l = tg_limiter_new(2);
	uint32_t n;
	struct tg_limit_cell *a = tg_limiter_enter(l, 2, 2, 1000, &n);
	assert_non_null(a);
	assert_int_equal(n, 1);
	struct tg_limit_cell *b = tg_limiter_enter(l, 2, 2, 900, &n);
	assert_ptr_equal(a, b);
	assert_int_equal(n, 2);
	assert_null(tg_limiter_enter(l, 2, 2, 999999999, &n)); /* however long they take */
	assert_int_equal(n, 2);
	/* A smaller bound holds at once; those inside stay. */
	tg_limiter_leave(a, 1100);
	assert_null(tg_limiter_enter(l, 2, 1, 1100, &n));
	tg_limiter_leave(b, 1200);
	assert_non_null(tg_limiter_enter(l, 2, 1, 1300, &n));
	/* With one inside the cell is not given away, whoever asks and when. The other cell is. */
	struct tg_limit_cell *c = tg_limiter_enter(l, 4, 1, 2000, &n);
	assert_true(c && c != a);
	assert_null(tg_limiter_enter(l, 6, 1, 10000000, &n));
	assert_int_equal(n, 1); /* as if it were full */
	assert_false(tg_limiter_take(l, 6, thousand, 10000000, 0).passed);
	assert_int_equal(tg_limiter_take(l, 6, thousand, 10000000, 0).retry_after_s, 1);
	tg_limiter_leave(c, 10000000);
	assert_null(tg_limiter_enter(l, 6, 1, 10059999, &n)); /* its owner may come again soon */
	assert_ptr_equal(tg_limiter_enter(l, 6, 1, 10060000, &n), c);
	assert_null(tg_limiter_enter(l, 4, 1, 10060000, &n));
	tg_limiter_free(l);
}

enum { THREADS = 8, ROUNDS = 20000 };
struct race {
	struct tg_limiter *l;
	pthread_barrier_t barrier;
	_Atomic uint64_t used, clock;
	_Atomic int inside[4], most[4];
	_Atomic unsigned entered, refused, over;
};

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

/* Reservations of 1 to 97, settled to less, within one window: at the end exactly what was used is missing. */
static void *reserve_many(void *arg)
{
	struct race *r = arg;
	uint64_t mine = 0;
	pthread_barrier_wait(&r->barrier);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t n = 1 + i % 97, used = n * (i % 3) / 2 < n ? n * (i % 3) / 2 : n;
		struct tg_verdict v = tg_limiter_reserve(r->l, 3, (struct tg_rate){ 15000000, 60 }, n, 77000, 0);
		if (!v.passed)
			continue;
		tg_limiter_settle(r->l, 3, (struct tg_rate){ 15000000, 60 }, v.window, n, used, 77000);
		mine += used;
	}
	atomic_fetch_add(&r->used, mine);
	return NULL;
}

static void test_nothing_is_lost(void **state)
{
	(void)state;
	struct race r = { .l = tg_limiter_new(16) };
	run_threads(&r, reserve_many);
	struct tg_verdict v = tg_limiter_reserve(r.l, 3, (struct tg_rate){ 15000000, 60 }, 0, 77000, 0);
	assert_int_equal(v.remaining, 15000000 - r.used);
	assert_true(r.used > 1000000);
	tg_limiter_free(r.l);
}

/* Never more than the limit is held at once: a reservation is added to a sum of our own after it passed and taken off before it is given back. */
static void *reserve_tight(void *arg)
{
	struct race *r = arg;
	pthread_barrier_wait(&r->barrier);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint32_t n = 1 + (i * 7919) % 400;
		struct tg_verdict v = tg_limiter_reserve(r->l, 3, thousand, n, 77000, 0);
		if (!v.passed) {
			atomic_fetch_add(&r->refused, 1);
			continue;
		}
		atomic_fetch_add(&r->entered, 1);
		if (atomic_fetch_add(&r->clock, n) + n > 1000)
			atomic_fetch_add(&r->over, 1);
		atomic_fetch_sub(&r->clock, n);
		tg_limiter_settle(r->l, 3, thousand, v.window, n, 0, 77000);
	}
	return NULL;
}

static void test_never_over(void **state)
{
	(void)state;
	struct race r = { .l = tg_limiter_new(16) };
	run_threads(&r, reserve_tight);
	assert_int_equal(r.over, 0);
	assert_true(r.entered > THREADS);
	assert_int_equal(tg_limiter_reserve(r.l, 3, thousand, 0, 77000, 0).remaining, 1000);
	tg_limiter_free(r.l);
}

/* Eight callers at once, three inside at most, of four owners in a table of two cells, with a clock that races past IDLE so that cells change owners all the time. */
static void *come_and_go(void *arg)
{
	struct race *r = arg;
	pthread_barrier_wait(&r->barrier);
	for (uint32_t i = 0; i < ROUNDS; i++) {
		uint64_t t = atomic_fetch_add(&r->clock, 1) * 7919; /* a minute each 8 steps */
		unsigned who = i / 16 % 4;
		uint32_t n;
		struct tg_limit_cell *c = tg_limiter_enter(r->l, 1 + who, 3, 1000 + t, &n);
		if (!c) {
			atomic_fetch_add(&r->refused, 1);
			continue;
		}
		int in = atomic_fetch_add(&r->inside[who], 1) + 1;
		if (in > 3 || n < 1 || n > 3)
			atomic_fetch_add(&r->over, 1);
		atomic_fetch_add(&r->entered, 1);
		atomic_fetch_sub(&r->inside[who], 1);
		tg_limiter_leave(c, 1000 + t + i % 3);
	}
	return NULL;
}

static void test_in_flight(void **state)
{
	(void)state;
	struct race r = { .l = tg_limiter_new(2) };
	run_threads(&r, come_and_go);
	assert_int_equal(r.over, 0);
	assert_true(r.entered > ROUNDS / 10);
	/* Everybody has left: each owner has all three places again. */
	uint64_t later = 1000 + r.clock * 7919 + 600000;
	uint32_t n;
	for (unsigned who = 0; who < 4; who++) {
		struct tg_limit_cell *c[4];
		for (int i = 0; i < 3; i++)
			assert_non_null(c[i] = tg_limiter_enter(r.l, 1 + who, 3, later, &n));
		assert_null(tg_limiter_enter(r.l, 1 + who, 3, later, &n));
		for (int i = 0; i < 3; i++)
			tg_limiter_leave(c[i], later);
		later += 600000;
	}
	tg_limiter_free(r.l);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_reserve_and_settle), cmocka_unit_test(test_settle_late), cmocka_unit_test(test_nothing_left), cmocka_unit_test(test_enter_and_leave),
		cmocka_unit_test(test_nothing_is_lost), cmocka_unit_test(test_never_over), cmocka_unit_test(test_in_flight),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
