/*
 * Which worker gets the next request: the least busy, ties in turn, never more than its slots (also with eight threads at it), a down one only where none
 * is up and then one caller at a time. One that has come back is spared for a while, one that is half open gets one request, one that is being started is worth waiting
 * for. All of it among few workers, which are all looked at, and among many, of which two are. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include "base/clock.h"
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

/* ---- states that requests do not make ---- */

static void set_state(struct fixture *f, unsigned k, enum tg_worker_state state)
{
	atomic_store(&f->m->workers[k]->state, state);
}

static void test_started_states(void **state)
{
	(void)state;
	enum { U = TG_WORKER_UP, D = TG_WORKER_DOWN, S = TG_WORKER_STARTING, F = TG_WORKER_FAILED, N = TG_WORKER_UNKNOWN };
	static const struct {
		int states[3];
		int in_use[3];     /* of one slot each */
		int except;        /* -1: none */
		enum tg_pick want;
		int got;           /* which; -1: none */
		bool trial;
		bool usable, failed, hopeless; /* what is said of the model */
	} rows[] = {
		{ { S, S, S }, { 0, 0, 0 }, -1, TG_PICK_BUSY, -1, false, false, false, false },
		{ { S, F, F }, { 0, 0, 0 }, -1, TG_PICK_BUSY, -1, false, false, false, false },
		{ { S, F, F }, { 0, 0, 0 }, 0, TG_PICK_BUSY, -1, false, false, false, false }, /* it will be another process */
		{ { F, F, F }, { 0, 0, 0 }, -1, TG_PICK_DOWN, -1, false, false, true, true },
		{ { S, U, F }, { 0, 0, 0 }, -1, TG_PICK_OK, 1, false, true, false, false },
		{ { S, U, F }, { 0, 1, 0 }, -1, TG_PICK_BUSY, -1, false, true, false, false },
		{ { S, U, F }, { 0, 0, 0 }, 1, TG_PICK_BUSY, -1, false, true, false, false },
		{ { F, U, F }, { 0, 0, 0 }, -1, TG_PICK_OK, 1, false, true, false, false },
		{ { F, U, F }, { 0, 1, 0 }, -1, TG_PICK_BUSY, -1, false, true, false, false },
		{ { F, U, F }, { 0, 0, 0 }, 1, TG_PICK_DOWN, -1, false, true, false, false },
		{ { F, N, F }, { 0, 0, 0 }, -1, TG_PICK_OK, 1, false, true, false, false },
		/* a down one is tried where none is up, though another is on its way: it may be back already */
		{ { S, D, S }, { 0, 0, 0 }, -1, TG_PICK_OK, 1, true, false, false, false },
		{ { S, D, S }, { 0, 1, 0 }, -1, TG_PICK_BUSY, -1, false, false, false, false },
		{ { F, D, F }, { 0, 0, 0 }, -1, TG_PICK_OK, 1, true, false, false, true },
		{ { F, D, F }, { 0, 1, 0 }, -1, TG_PICK_DOWN, -1, false, false, false, true },
		{ { F, D, F }, { 0, 0, 0 }, 1, TG_PICK_DOWN, -1, false, false, false, true },
		{ { U, D, F }, { 1, 0, 0 }, -1, TG_PICK_BUSY, -1, false, true, false, false },
		{ { U, D, S }, { 0, 0, 0 }, -1, TG_PICK_OK, 0, false, true, false, false },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct fixture f;
		fixture_make_started(&f, 3, 1, 0);
		for (int again = 0; again < 4; again++) { /* wherever the look around begins */
			for (unsigned k = 0; k < 3; k++) {
				set_state(&f, k, (enum tg_worker_state)rows[i].states[k]);
				atomic_store(&f.m->workers[k]->in_use, rows[i].in_use[k]);
			}
			if (tg_model_usable(f.m) != rows[i].usable || tg_model_failed(f.m) != rows[i].failed || tg_model_hopeless(f.m) != rows[i].hopeless)
				fail_msg("row %u: usable %d, failed %d, hopeless %d", i, tg_model_usable(f.m), tg_model_failed(f.m), tg_model_hopeless(f.m));
			struct tg_worker *w = NULL;
			bool trial = true;
			enum tg_pick p = tg_model_pick(f.m, rows[i].except < 0 ? NULL : f.m->workers[rows[i].except], &w, &trial);
			if (p != rows[i].want || w != (rows[i].got < 0 ? NULL : f.m->workers[rows[i].got]) || trial != rows[i].trial)
				fail_msg("row %u: %u, %s, trial %d", i, p, w ? w->name : "none", trial);
			if (trial) {
				assert_false(tg_model_hopeless(f.m)); /* somebody finds out */
				fixture_done(f.m, w, true);
			}
			for (unsigned k = 0; k < 3; k++)
				atomic_store(&f.m->workers[k]->in_use, 0);
		}
		fixture_free(&f);
	}
}

/* A model of none: `workers = 0`. */
static void test_no_worker(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make_started(&f, 0, 1, 0);
	expect(&f, NULL, TG_PICK_DOWN);
	assert_true(tg_model_hopeless(f.m));
	assert_true(tg_model_failed(f.m));
	assert_false(tg_model_usable(f.m));
	fixture_free(&f);
}

static void test_pick_this(void **state)
{
	(void)state;
	static const struct {
		enum tg_worker_state state;
		int in_use;
		enum tg_pick want;
	} rows[] = {
		{ TG_WORKER_UNKNOWN, 0, TG_PICK_OK }, { TG_WORKER_UP, 0, TG_PICK_OK },         { TG_WORKER_UP, 1, TG_PICK_OK },       { TG_WORKER_UP, 2, TG_PICK_BUSY },
		{ TG_WORKER_UNKNOWN, 3, TG_PICK_BUSY }, { TG_WORKER_DOWN, 0, TG_PICK_DOWN }, { TG_WORKER_STARTING, 0, TG_PICK_DOWN }, { TG_WORKER_FAILED, 0, TG_PICK_DOWN },
		{ TG_WORKER_DOWN, 2, TG_PICK_DOWN },
	};
	struct fixture f;
	fixture_make(&f, 2, 2, 0);
	struct tg_worker *w = f.m->workers[1];
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		set_state(&f, 1, rows[i].state);
		atomic_store(&w->in_use, rows[i].in_use);
		atomic_store(&w->half_open, true); /* a trial is nothing for a session */
		assert_int_equal(tg_model_pick_this(f.m, w), rows[i].want);
		assert_int_equal(fixture_in_use(&f, 1), rows[i].in_use + (rows[i].want == TG_PICK_OK));
		assert_int_equal(fixture_in_use(&f, 0), 0); /* that one and no other */
		assert_false(atomic_load(&w->trying));
	}
	f.config->models[0].slots = 0; /* no bound */
	set_state(&f, 1, TG_WORKER_UP);
	atomic_store(&w->in_use, 1000000);
	assert_int_equal(tg_model_pick_this(f.m, w), TG_PICK_OK);
	atomic_store(&w->in_use, 0);
	fixture_free(&f);
}

/* ---- slow start ---- */

static uint64_t mono_ms(void)
{
	return tg_mono_us() / 1000;
}

static void test_slow_start(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 4, 0);
	struct tg_worker *w = f.m->workers[1];
	atomic_store(&w->ramp_ms, mono_ms());
	/* While its peers are idle, or nearly: not that one. */
	for (int i = 0; i < 30; i++) {
		struct tg_worker *got = pick(&f, NULL);
		assert_ptr_not_equal(got, w);
		tg_model_release(f.m, got);
	}
	for (int i = 0; i < 8; i++)
		assert_ptr_not_equal(pick(&f, NULL), w);
	/* They are full: at once, and up to its slots. */
	for (int i = 0; i < 4; i++)
		assert_ptr_equal(pick(&f, NULL), w);
	expect(&f, NULL, TG_PICK_BUSY);
	for (unsigned k = 0; k < 3; k++)
		for (int i = 0; i < 4; i++)
			tg_model_release(f.m, f.m->workers[k]);
	/* The only one that is up is taken whenever it has a slot. */
	set_state(&f, 0, TG_WORKER_DOWN);
	set_state(&f, 2, TG_WORKER_DOWN);
	assert_ptr_equal(pick(&f, NULL), w);
	tg_model_release(f.m, w);
	set_state(&f, 0, TG_WORKER_UP);
	set_state(&f, 2, TG_WORKER_UP);
	assert_true(atomic_load(&w->ramp_ms) != 0);
	/* After that time it is one of them, for good. */
	atomic_store(&w->ramp_ms, mono_ms() - TG_RAMP_MS);
	unsigned got[3] = { 0 };
	for (int i = 0; i < 300; i++) {
		struct tg_worker *one = pick(&f, NULL);
		got[one->index]++;
		tg_model_release(f.m, one);
	}
	for (unsigned k = 0; k < 3; k++)
		assert_int_equal(got[k], 100);
	assert_int_equal(atomic_load(&w->ramp_ms), 0);
	fixture_free(&f);
}

/* How many it has when its peers have thirty-two each: with the time gone, more. */
static void test_slow_start_grows(void **state)
{
	(void)state;
	static const unsigned gone_ms[] = { 0, 1000, 2000, 4000 };
	int before = 0;
	for (unsigned i = 0; i < sizeof gone_ms / sizeof gone_ms[0]; i++) {
		struct fixture f;
		fixture_make(&f, 3, 0, 0);
		struct tg_worker *w = f.m->workers[2];
		atomic_store(&w->ramp_ms, mono_ms() - gone_ms[i]);
		while (fixture_in_use(&f, 0) + fixture_in_use(&f, 1) < 64)
			pick(&f, NULL);
		int has = fixture_in_use(&f, 2);
		if (has <= before || has >= 32)
			fail_msg("%u ms: %d, after %d", gone_ms[i], has, before);
		before = has;
		for (unsigned k = 0; k < 3; k++)
			atomic_store(&f.m->workers[k]->in_use, 0);
		fixture_free(&f);
	}
}

/* "For TG_RAMP_MS it is taken after workers that are as busy" (pool/health.h). */
static void test_slow_start_to_its_end(void **state)
{
	(void)state;
	static const unsigned gone_ms[] = { 0, 2500, 4900, 5100, 7500, TG_RAMP_MS - 1000 };
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	for (unsigned i = 0; i < sizeof gone_ms / sizeof gone_ms[0]; i++)
		for (int k = 0; k < 10; k++) {
			atomic_store(&w->ramp_ms, mono_ms() - gone_ms[i]);
			struct tg_worker *got = pick(&f, NULL);
			tg_model_release(f.m, got);
			if (got == w) /* a quotient rounded down would end it after half of that time */
				fail_msg("it is one of them after %u ms", gone_ms[i]);
		}
	fixture_free(&f);
}

/* ---- half open ---- */

static void test_half_open(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 2, 0);
	struct tg_worker *w = f.m->workers[1], *got = NULL, *held[4];
	bool trial = false;
	set_state(&f, 1, TG_WORKER_DOWN);
	atomic_store(&w->failing, true);
	for (int i = 0; i < 4; i++) /* not due yet: as any other that is down */
		tg_model_release(f.m, pick(&f, NULL));
	atomic_store(&w->half_open, true);
	for (int round = 0; round < 3; round++) {
		assert_int_equal(tg_model_pick(f.m, w, &got, &trial), TG_PICK_OK); /* who has just failed there is no trial */
		assert_ptr_not_equal(got, w);
		assert_false(trial);
		tg_model_release(f.m, got);
		assert_int_equal(tg_model_pick(f.m, NULL, &got, &trial), TG_PICK_OK);
		assert_ptr_equal(got, w);
		assert_true(trial);
		assert_true(atomic_load(&w->trying));
		for (int i = 0; i < 4; i++)
			assert_ptr_not_equal(held[i] = pick(&f, NULL), w); /* one, while the others are up */
		expect(&f, NULL, TG_PICK_BUSY);
		assert_int_equal(fixture_in_use(&f, 1), 1);
		for (int i = 0; i < 4; i++)
			tg_model_release(f.m, held[i]);
		fixture_done(f.m, w, true); /* no verdict: the next one */
	}
	/* Its slots are taken by requests of before: the others are there, and its mark is not left behind. */
	atomic_store(&w->in_use, 2);
	for (int i = 0; i < 6; i++) {
		got = pick(&f, NULL);
		assert_ptr_not_equal(got, w);
		tg_model_release(f.m, got);
	}
	assert_false(atomic_load(&w->trying));
	atomic_store(&w->in_use, 0);
	/* The mark alone, on one that is up, makes no trial. */
	set_state(&f, 1, TG_WORKER_UP);
	for (int i = 0; i < 6; i++)
		tg_model_release(f.m, pick(&f, NULL));
	fixture_free(&f);
}

/* ---- many workers ---- */

enum { MANY = 40 };

static void all_free(struct fixture *f)
{
	for (unsigned k = 0; k < f->m->nworkers; k++)
		atomic_store(&f->m->workers[k]->in_use, 0);
	fixture_free(f);
}

static void test_many_are_even(void **state)
{
	(void)state;
	static const unsigned workers[] = { 17, 20, MANY, 64 };
	for (unsigned i = 0; i < sizeof workers / sizeof workers[0]; i++) {
		struct fixture f;
		unsigned n = workers[i];
		fixture_make(&f, n, 0, 0);
		for (unsigned k = 0; k < 100 * n; k++) /* none ends */
			pick(&f, NULL);
		int least = INT32_MAX, most = 0;
		for (unsigned k = 0; k < n; k++) {
			int use = fixture_in_use(&f, k);
			least = use < least ? use : least;
			most = use > most ? use : most;
		}
		if (most - least > 8)
			fail_msg("%u workers: from %d to %d", n, least, most);
		all_free(&f);
	}
}

/* One free slot among many is found, wherever it is, and the other workers get nothing more than they may have. */
static void test_many_find_the_last_slot(void **state)
{
	(void)state;
	enum { FULL, DOWN, STARTING, FAILED, KINDS };
	for (unsigned kind = 0; kind < KINDS; kind++)
		for (unsigned free_one = 0; free_one < MANY; free_one++) {
			struct fixture f;
			fixture_make(&f, MANY, 2, 0);
			for (unsigned k = 0; k < MANY; k++) {
				atomic_store(&f.m->workers[k]->in_use, kind == FULL && k != free_one ? 2 : 0);
				if (kind != FULL && k != free_one)
					set_state(&f, k, kind == DOWN ? TG_WORKER_DOWN : kind == STARTING ? TG_WORKER_STARTING : TG_WORKER_FAILED);
			}
			struct tg_worker *w = f.m->workers[free_one];
			assert_ptr_equal(pick(&f, NULL), w);
			assert_ptr_equal(pick(&f, NULL), w);
			expect(&f, NULL, TG_PICK_BUSY);
			tg_model_release(f.m, w);
			if (kind != DOWN) /* else it is a trial of one of those */
				expect(&f, w, kind == FAILED ? TG_PICK_DOWN : TG_PICK_BUSY);
			all_free(&f);
		}
}

static void test_many_with_slots(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, MANY, 3, 0);
	for (int i = 0; i < 3 * MANY; i++) {
		pick(&f, NULL);
		for (unsigned k = 0; k < MANY; k++)
			assert_true(fixture_in_use(&f, k) <= 3);
	}
	expect(&f, NULL, TG_PICK_BUSY);
	all_free(&f);
}

/* One that has come back is spared among many, too, and not when the others are full. */
static void test_many_slow_start(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, MANY, 4, 0);
	struct tg_worker *w = f.m->workers[7];
	atomic_store(&w->ramp_ms, mono_ms());
	for (int i = 0; i < 4 * (MANY - 1) / 2; i++)
		assert_ptr_not_equal(pick(&f, NULL), w);
	for (int i = 4 * (MANY - 1) / 2; i < 4 * MANY; i++)
		pick(&f, NULL);
	assert_int_equal(fixture_in_use(&f, 7), 4);
	all_free(&f);
}

static void test_many_half_open(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, MANY, 0, 0);
	struct tg_worker *w = f.m->workers[3], *got;
	set_state(&f, 3, TG_WORKER_DOWN);
	atomic_store(&w->failing, true);
	atomic_store(&w->half_open, true);
	unsigned trials = 0;
	for (int i = 0; i < 40 * MANY; i++) {
		bool trial;
		assert_int_equal(tg_model_pick(f.m, NULL, &got, &trial), TG_PICK_OK);
		assert_int_equal(trial, got == w);
		trials += trial;
	}
	assert_int_equal(trials, 1); /* soon, and one: it is still out */
	assert_int_equal(fixture_in_use(&f, 3), 1);
	atomic_store(&w->trying, false);
	all_free(&f);
}

/* One is half open and has its trial, one has a free slot, the others are full. */
static void test_many_beside_a_trial(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, MANY, 1, 0);
	for (unsigned k = 0; k < MANY; k++)
		atomic_store(&f.m->workers[k]->in_use, k != 39);
	set_state(&f, 3, TG_WORKER_DOWN);
	atomic_store(&f.m->workers[3]->failing, true);
	atomic_store(&f.m->workers[3]->half_open, true);
	atomic_store(&f.m->workers[3]->trying, true);
	set_state(&f, 4, TG_WORKER_DOWN);
	atomic_store(&f.m->workers[4]->in_use, 0);
	unsigned wrong = 0;
	for (int i = 0; i < 2000; i++) {
		struct tg_worker *w = NULL;
		bool trial = false;
		enum tg_pick p = tg_model_pick(f.m, NULL, &w, &trial);
		wrong += p != TG_PICK_OK || w != f.m->workers[39] || trial;
		if (p == TG_PICK_OK)
			fixture_done(f.m, w, trial);
	}
	if (wrong)
		print_message("%u of 2000 did not get the free slot\n", wrong);
	atomic_store(&f.m->workers[3]->trying, false);
	all_free(&f);
	/* One of the two that are looked at may be half open and have its trial already: then the others are looked at. */
	assert_int_equal(wrong, 0);
}

/* ---- eight threads ---- */

enum { THREADS = 8, ROUNDS = 30000 };

struct race {
	struct fixture *f;
	_Atomic int inside[MANY], trials[MANY];
	_Atomic unsigned ok, busy, down, wrong;
	int slots;
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
		if (atomic_fetch_add(&r->inside[w->index], 1) >= r->slots || atomic_load(&w->in_use) > r->slots || trial != r->all_down)
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

static void run_race(unsigned workers, unsigned slots, bool all_down)
{
	struct fixture f;
	fixture_make(&f, workers, slots, 0);
	for (unsigned k = 0; all_down && k < workers; k++)
		fixture_down(f.m, f.m->workers[k]);
	struct race r = { .f = &f, .slots = (int)slots, .all_down = all_down };
	pthread_t t[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, compete, &r), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	assert_int_equal(r.wrong, 0);
	assert_int_equal(r.ok + r.busy + r.down, THREADS * ROUNDS);
	assert_true(r.ok > ROUNDS);
	assert_int_equal(all_down ? r.busy : r.down, 0);
	if (workers * slots >= THREADS)
		assert_int_equal(r.busy, 0); /* there was a free slot all the time */
	fixture_free(&f); /* every slot came back */
}

static void test_threads(void **state)
{
	(void)state;
	run_race(3, 2, false);
}

static void test_threads_many(void **state)
{
	(void)state;
	run_race(MANY, 1, false);
}

static void test_threads_trial(void **state)
{
	(void)state;
	run_race(3, 2, true);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_least_outstanding), cmocka_unit_test(test_ties_spread), cmocka_unit_test(test_slots),
		cmocka_unit_test(test_except_and_down), cmocka_unit_test(test_trial), cmocka_unit_test(test_started_states), cmocka_unit_test(test_no_worker),
		cmocka_unit_test(test_pick_this), cmocka_unit_test(test_slow_start), cmocka_unit_test(test_slow_start_grows), cmocka_unit_test(test_slow_start_to_its_end),
		cmocka_unit_test(test_half_open), cmocka_unit_test(test_many_are_even), cmocka_unit_test(test_many_find_the_last_slot),
		cmocka_unit_test(test_many_with_slots), cmocka_unit_test(test_many_slow_start), cmocka_unit_test(test_many_half_open),
		cmocka_unit_test(test_many_beside_a_trial), cmocka_unit_test(test_threads), cmocka_unit_test(test_threads_many), cmocka_unit_test(test_threads_trial),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
