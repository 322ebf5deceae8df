/*
 * Which worker gets the next request: the least busy, ties in turn, never more than its slots (also with eight threads at it), a down one only where none
 * is up and then one caller at a time. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include <pthread.h>
#include <sched.h>

static struct tg_worker *pick(struct fixture *f, const struct tg_worker *except)
{
	struct tg_worker *w = NULL;
	bool trial = true;
	assert_int_equal(tg_model_pick(f->m, except, &w, &trial), TG_PICK_OK);
	assert_false(trial);
	return w;
}

static void expect(struct fixture *f, const struct tg_worker *except, enum tg_pick what)
{
	struct tg_worker *w = NULL;
	bool trial = true;
	assert_int_equal(tg_model_pick(f->m, except, &w, &trial), what);
	assert_null(w);
	assert_false(trial);
}

static void test_least_outstanding(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 0, 0);
	static const int busy[][3] = { { 2, 1, 3 }, { 0, 5, 5 }, { 7, 7, 6 }, { 1000000, 1000000, 999999 } };
	static const unsigned want[] = { 1, 0, 2, 2 };
	for (unsigned i = 0; i < 4; i++)
		for (int again = 0; again < 4; again++) { /* wherever the look around begins */
			for (unsigned k = 0; k < 3; k++)
				atomic_store(&f.m->workers[k]->in_use, busy[i][k]);
			assert_ptr_equal(pick(&f, NULL), f.m->workers[want[i]]);
			assert_int_equal(fixture_in_use(&f, want[i]), busy[i][want[i]] + 1);
		}
	for (unsigned k = 0; k < 3; k++)
		atomic_store(&f.m->workers[k]->in_use, 0);
	fixture_free(&f);
}

static void test_ties_spread(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 0, 0);
	unsigned got[3] = { 0 };
	for (int i = 0; i < 300; i++) { /* one request at a time: all are always equal */
		struct tg_worker *w = pick(&f, NULL);
		got[w->index]++;
		tg_model_release(f.m, w);
	}
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(got[k], 100);
	fixture_free(&f);
}

static void test_slots(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 2, 0);
	for (int i = 0; i < 6; i++)
		pick(&f, NULL);
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(fixture_in_use(&f, k), 2);
	expect(&f, NULL, TG_PICK_BUSY);
	assert_false(tg_worker_take(f.m->workers[0], 2));
	assert_true(tg_worker_take(f.m->workers[0], 3)); /* a reload gave it more */
	assert_true(tg_worker_take(f.m->workers[0], 0));
	assert_false(tg_worker_take(f.m->workers[0], 1)); /* and fewer: what runs goes on, nothing new comes */
	tg_model_release(f.m, f.m->workers[0]);
	tg_model_release(f.m, f.m->workers[0]);
	tg_model_release(f.m, f.m->workers[2]);
	assert_ptr_equal(pick(&f, NULL), f.m->workers[2]);
	for (unsigned k = 0; k < 3; k++)
		for (int i = 0; i < 2; i++)
			tg_model_release(f.m, f.m->workers[k]);
	fixture_free(&f);
}

static void test_except_and_down(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 0, 0);
	struct tg_worker **w = f.m->workers;
	fixture_down(f.m, w[1]);
	for (int i = 0; i < 10; i++) {
		assert_ptr_equal(pick(&f, w[0]), w[2]); /* though it is busier than the one left out and the one that is down */
		assert_ptr_not_equal(pick(&f, NULL), w[1]);
	}
	assert_int_equal(fixture_in_use(&f, 1), 0);
	fixture_up(w[1]);
	assert_ptr_equal(pick(&f, NULL), w[1]);
	for (unsigned k = 0; k < 3; k++)
		atomic_store(&w[k]->in_use, 0);
	fixture_free(&f);

	/* The only worker, left out: there is no other. */
	fixture_make(&f, 1, 1, 0);
	expect(&f, f.m->workers[0], TG_PICK_DOWN);
	/* Busy, not down, while an up one has no slot: the down one beside it is not tried. */
	fixture_free(&f);
	fixture_make(&f, 2, 1, 0);
	fixture_down(f.m, f.m->workers[0]);
	struct tg_worker *held = pick(&f, NULL);
	expect(&f, NULL, TG_PICK_BUSY);
	assert_int_equal(fixture_in_use(&f, 0), 0);
	tg_model_release(f.m, held);
	fixture_free(&f);
}

static void test_trial(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 2, 1, 0);
	struct tg_worker **w = f.m->workers, *got[2] = { NULL }, *none = NULL;
	bool trial = false;
	fixture_down(f.m, w[0]);
	fixture_down(f.m, w[1]);
	for (int round = 0; round < 4; round++) {
		for (int i = 0; i < 2; i++) {
			assert_int_equal(tg_model_pick(f.m, NULL, &got[i], &trial), TG_PICK_OK);
			assert_true(trial);
			assert_true(atomic_load(&got[i]->trying));
		}
		assert_ptr_not_equal(got[0], got[1]); /* one caller each */
		assert_int_equal(tg_model_pick(f.m, NULL, &none, &trial), TG_PICK_DOWN);
		assert_false(trial);
		fixture_done(f.m, got[0], true);
		/* Its trial is over: the next caller gets that one, unless he has just failed there. */
		assert_int_equal(tg_model_pick(f.m, got[0], &none, &trial), TG_PICK_DOWN);
		assert_int_equal(tg_model_pick(f.m, NULL, &none, &trial), TG_PICK_OK);
		assert_true(trial);
		assert_ptr_equal(none, got[0]);
		fixture_done(f.m, got[0], true);
		fixture_done(f.m, got[1], true);
	}
	/* Down with all slots taken by requests that hang there: no trial, and its mark is not left behind. */
	atomic_store(&w[0]->in_use, 1);
	atomic_store(&w[1]->in_use, 1);
	assert_int_equal(tg_model_pick(f.m, NULL, &none, &trial), TG_PICK_DOWN);
	assert_false(trial);
	assert_false(atomic_load(&w[0]->trying) || atomic_load(&w[1]->trying));
	atomic_store(&w[0]->in_use, 0);
	atomic_store(&w[1]->in_use, 0);
	fixture_free(&f);
}

/* ---- eight threads ---- */

enum { THREADS = 8, ROUNDS = 30000, WORKERS = 3, SLOTS = 2 };

struct race {
	struct fixture *f;
	_Atomic int inside[WORKERS], trials[WORKERS];
	_Atomic unsigned ok, busy, down, wrong;
	bool all_down;
};

static void *compete(void *arg)
{
	struct race *r = arg;
	struct tg_model *m = r->f->m;
	for (int i = 0; i < ROUNDS; i++) {
		struct tg_worker *w = NULL;
		bool trial = true;
		enum tg_pick p = tg_model_pick(m, NULL, &w, &trial);
		if (p != TG_PICK_OK) {
			atomic_fetch_add(p == TG_PICK_BUSY ? &r->busy : &r->down, 1);
			if (trial || w)
				atomic_fetch_add(&r->wrong, 1);
			sched_yield();
			continue;
		}
		atomic_fetch_add(&r->ok, 1);
		if (atomic_fetch_add(&r->inside[w->index], 1) >= SLOTS || atomic_load(&w->in_use) > SLOTS || trial != r->all_down)
			atomic_fetch_add(&r->wrong, 1);
		if (trial && atomic_fetch_add(&r->trials[w->index], 1) != 0)
			atomic_fetch_add(&r->wrong, 1);
		if (i % 16 == 0)
			sched_yield(); /* with the slot in hand */
		if (trial)
			atomic_fetch_sub(&r->trials[w->index], 1);
		atomic_fetch_sub(&r->inside[w->index], 1);
		fixture_done(m, w, trial);
	}
	return NULL;
}

static void run_race(bool all_down)
{
	struct fixture f;
	fixture_make(&f, WORKERS, SLOTS, 0);
	for (unsigned k = 0; all_down && k < WORKERS; k++)
		fixture_down(f.m, f.m->workers[k]);
	struct race r = { .f = &f, .all_down = all_down };
	pthread_t t[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, compete, &r), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.wrong, 0);
	assert_int_equal(r.ok + r.busy + r.down, THREADS * ROUNDS);
	assert_true(r.ok > ROUNDS);
	assert_int_equal(all_down ? r.busy : r.down, 0);
	fixture_free(&f); /* every slot came back */
}

static void test_threads(void **state)
{
	(void)state;
	run_race(false);
}

static void test_threads_trial(void **state)
{
	(void)state;
	run_race(true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_least_outstanding), cmocka_unit_test(test_ties_spread), cmocka_unit_test(test_slots),
		cmocka_unit_test(test_except_and_down), cmocka_unit_test(test_trial), cmocka_unit_test(test_threads), cmocka_unit_test(test_threads_trial),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
