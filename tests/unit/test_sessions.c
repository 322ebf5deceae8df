/*
 * Which worker a session lives at: found while that process lives and is one of the model's, forgotten with it. The table is bounded: past it the least recently used of
 * a set goes. It survives a reload by count. Last, four threads at it. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include "base/hash.h"
#include "pool/sessions.h"
#include <pthread.h>

/* As the gate makes them, but the same in every run. */
static uint64_t key_of(uint64_t n)
{
	uint64_t h = tg_hash(12345, &n, sizeof n);
	return h ? h : 1;
}

size_t __sanitizer_get_current_allocated_bytes(void) __attribute__((weak)); /* where the tests are built with one */

static size_t memory(void)
{
	return __sanitizer_get_current_allocated_bytes ? __sanitizer_get_current_allocated_bytes() : 0;
}

static void test_bind_and_find(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 0, 0);
	struct tg_sessions *s = f.m->sessions;
	struct tg_worker **w = f.m->workers;
	/* None yet: no memory for it either. */
	size_t before = memory();
	for (uint64_t n = 0; n < 100; n++)
		assert_null(tg_sessions_find(s, f.m, key_of(n)));
	assert_null(tg_sessions_find(s, f.m, 0));
	assert_int_equal(memory(), before);
	for (uint64_t n = 0; n < 30; n++)
		tg_sessions_bind(s, key_of(n), w[n % 3]);
	for (uint64_t n = 0; n < 30; n++)
		assert_ptr_equal(tg_sessions_find(s, f.m, key_of(n)), w[n % 3]);
	for (uint64_t n = 30; n < 1000; n++)
		assert_null(tg_sessions_find(s, f.m, key_of(n)));
	assert_null(tg_sessions_find(s, f.m, 0)); /* the mark of a free place is nobody's session */
	/* Its worker was busy for good, say: it moves, and those beside it do not. */
	for (int again = 0; again < 3; again++) {
		tg_sessions_bind(s, key_of(7), w[2]);
		assert_ptr_equal(tg_sessions_find(s, f.m, key_of(7)), w[2]);
	}
	for (uint64_t n = 0; n < 30; n++)
		assert_ptr_equal(tg_sessions_find(s, f.m, key_of(n)), w[n == 7 ? 2 : n % 3]);
	fixture_free(&f);
}

/* Keys that share every bit that chooses the set: they are told apart by the rest. */
static void test_keys_of_one_set(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 4, 0, 0);
	for (uint64_t n = 0; n < 4; n++)
		tg_sessions_bind(f.m->sessions, UINT64_C(0xabcdef0123400000) | n, f.m->workers[n]);
	for (uint64_t n = 0; n < 4; n++)
		assert_ptr_equal(tg_sessions_find(f.m->sessions, f.m, UINT64_C(0xabcdef0123400000) | n), f.m->workers[n]);
	assert_null(tg_sessions_find(f.m->sessions, f.m, UINT64_C(0xabcdef0123400004)));
	fixture_free(&f);
}

static void test_a_worker_that_forgot(void **state)
{
	(void)state;
	static const struct {
		int state;         /* the worker's, now */
		unsigned restarts; /* since it was bound */
		bool found;
	} rows[] = {
		{ TG_WORKER_UNKNOWN, 0, true }, { TG_WORKER_UP, 0, true },      { TG_WORKER_DOWN, 0, false },   { TG_WORKER_STARTING, 0, false },
		{ TG_WORKER_FAILED, 0, false }, { TG_WORKER_UNKNOWN, 1, false }, { TG_WORKER_UP, 1, false },     { TG_WORKER_UP, 2, false },
		{ TG_WORKER_DOWN, 1, false },
	};
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[1];
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		atomic_store(&w->state, TG_WORKER_UP);
		tg_sessions_bind(f.m->sessions, key_of(i), w);
		tg_sessions_bind(f.m->sessions, key_of(1000 + i), f.m->workers[0]);
		atomic_fetch_add(&w->incarnation, rows[i].restarts);
		atomic_store(&w->state, rows[i].state);
		if (tg_sessions_find(f.m->sessions, f.m, key_of(i)) != (rows[i].found ? w : NULL))
			fail_msg("row %u", i);
		assert_ptr_equal(tg_sessions_find(f.m->sessions, f.m, key_of(1000 + i)), f.m->workers[0]);
		/* Up again without having been gone (a started one that was doubted): the session is found again. */
		atomic_store(&w->state, TG_WORKER_UP);
		assert_ptr_equal(tg_sessions_find(f.m->sessions, f.m, key_of(i)), rows[i].restarts ? NULL : w);
		/* Bound to the new process, found there. */
		tg_sessions_bind(f.m->sessions, key_of(i), w);
		assert_ptr_equal(tg_sessions_find(f.m->sessions, f.m, key_of(i)), w);
	}
	/* By the ways a worker goes and comes back. */
	fixture_down(f.m, w);
	assert_null(tg_sessions_find(f.m->sessions, f.m, key_of(0)));
	fixture_up(w);
	assert_null(tg_sessions_find(f.m->sessions, f.m, key_of(0)));
	fixture_free(&f);
}

static void test_bounded(void **state)
{
	(void)state;
	enum { KEYS = 10 * TG_SESSIONS_MAX, REGULARS = 64 };
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_sessions *s = f.m->sessions;
	struct tg_worker *home = f.m->workers[0], *other = f.m->workers[1];
	tg_sessions_bind(s, key_of(1), home);
	size_t before = memory();
	for (uint64_t n = 0; n < REGULARS; n++)
		tg_sessions_bind(s, key_of(n), home);
	/* Many passers-by; the regulars come again and again, so often that three others cannot have come to their set in between, or hardly. */
	for (uint64_t n = REGULARS; n < KEYS; n++) {
		tg_sessions_bind(s, key_of(n), other);
		if (n % 500 == 0)
			for (uint64_t k = 0; k < REGULARS; k++)
				(void)tg_sessions_find(s, f.m, key_of(k));
	}
	unsigned kept = 0, all = 0;
	for (uint64_t n = 0; n < KEYS; n++) {
		struct tg_worker *w = tg_sessions_find(s, f.m, key_of(n));
		assert_true(!w || w == (n < REGULARS ? home : other));
		all += w != NULL;
		kept += w && n < REGULARS;
	}
	assert_true(kept >= REGULARS - 2);
	assert_true(all <= TG_SESSIONS_MAX);
	assert_true(all > TG_SESSIONS_MAX * 9 / 10); /* and its places are used */
	assert_int_equal(memory(), before);
	fixture_free(&f);
}

/* In one set, where everything is known: the fifth takes the place of the one not used for longest; finding is a use, and so is binding. */
static void test_least_recently_used(void **state)
{
	(void)state;
	static const uint64_t set = UINT64_C(0x77700000000);
	static const struct {
		const char *uses; /* "a".."h" find that key, "A".."H" bind it */
		const char *there, *gone;
	} rows[] = {
		{ "ABCD", "abcd", "efgh" },
		{ "ABCDE", "bcde", "a" },
		{ "ABCDaE", "acde", "b" },
		{ "ABCDAE", "acde", "b" },
		{ "ABCDabcE", "abce", "d" },
		{ "ABCDdcbaEF", "abef", "cd" },
		{ "ABCDEFGH", "efgh", "abcd" },
		{ "ABCDhE", "bcde", "ah" }, /* looking for what is not there is no use of anything */
		{ "ABaCbDEF", "bdef", "ac" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct fixture f;
		fixture_make(&f, 1, 0, 0);
		for (const char *u = rows[i].uses; *u; u++) {
			if (*u >= 'a')
				(void)tg_sessions_find(f.m->sessions, f.m, set | (uint64_t)*u);
			else
				tg_sessions_bind(f.m->sessions, set | (uint64_t)(*u + 32), f.m->workers[0]);
		}
		for (const char *u = rows[i].there; *u; u++)
			if (!tg_sessions_find(f.m->sessions, f.m, set | (uint64_t)*u))
				fail_msg("%s: %c is gone", rows[i].uses, *u);
		for (const char *u = rows[i].gone; *u; u++)
			if (tg_sessions_find(f.m->sessions, f.m, set | (uint64_t)*u))
				fail_msg("%s: %c is there", rows[i].uses, *u);
		fixture_free(&f);
	}
}

/* A reload: the table stays with the model's name, and with it the sessions of the workers that stay. */
static void test_reload(void **state)
{
	(void)state;
	struct tg_err err = { "" };
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *stays = f.m->workers[0], *goes = f.m->workers[1];
	struct tg_sessions *s = tg_sessions_get(f.m->sessions);
	tg_sessions_bind(s, key_of(0), stays);
	tg_sessions_bind(s, key_of(1), goes);
	struct tg_config *c = tg_config_defaults();
	struct tg_models ms;
	assert_true(tg_config_add_model(c, "m", "http://127.0.0.1:7000", TG_PROTO_OPENAI, &err));
	assert_true(tg_config_add_model(c, "other", "http://127.0.0.1:7001", TG_PROTO_OPENAI, &err));
	assert_true(tg_models_build(&ms, c, &f.models, 1, &err));
	struct tg_model *m = &ms.v[0];
	assert_ptr_equal(m->sessions, s);
	assert_ptr_not_equal(ms.v[1].sessions, s);
	assert_ptr_equal(tg_sessions_find(s, m, key_of(0)), stays);
	assert_null(tg_sessions_find(s, m, key_of(1)));                   /* none of this model's any more */
	assert_ptr_equal(tg_sessions_find(s, f.m, key_of(1)), goes);      /* a request of before goes where it was to go */
	assert_null(tg_sessions_find(ms.v[1].sessions, &ms.v[1], key_of(0))); /* nor is a session of one model one of another */
	tg_sessions_bind(s, key_of(1), stays);
	assert_ptr_equal(tg_sessions_find(s, m, key_of(1)), stays);
	fixture_free(&f);
	assert_ptr_equal(tg_sessions_find(s, m, key_of(0)), stays);
	tg_models_free(&ms);
	tg_config_free(c);
	tg_sessions_put(s); /* the last one: the sanitizer would tell of a leak */
	tg_sessions_put(NULL);
}

/* ---- four threads ---- */

enum { THREADS = 4, ROUNDS = 20000, OWN = 40, SHARED = 16 };

struct thread {
	struct fixture *f;
	pthread_t id;
	unsigned n, wrong;
};

static void *use(void *arg)
{
	struct thread *t = arg;
	struct tg_model *m = t->f->m;
	struct tg_sessions *s = tg_sessions_get(m->sessions);
	for (unsigned i = 0; i < ROUNDS; i++) {
		/* A session of our own is found where it was last bound; those of all, somewhere. */
		uint64_t own = key_of(t->n * 1000 + i % OWN), shared = key_of(100000 + i % SHARED);
		struct tg_worker *w = m->workers[(i / OWN + t->n) % m->nworkers];
		tg_sessions_bind(s, own, w);
		t->wrong += tg_sessions_find(s, m, own) != w;
		tg_sessions_bind(s, shared, w);
		struct tg_worker *any = tg_sessions_find(s, m, shared);
		t->wrong += !any || !tg_models_have_worker(&t->f->models, any);
		if (i % 64 == 0) {
			tg_sessions_put(s);
			s = tg_sessions_get(m->sessions);
		}
	}
	tg_sessions_put(s);
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct fixture f;
	struct thread t[THREADS];
	fixture_make(&f, 3, 0, 0);
	for (unsigned i = 0; i < THREADS; i++) {
		t[i] = (struct thread){ .f = &f, .n = i };
		assert_int_equal(pthread_create(&t[i].id, NULL, use, &t[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++) {
		pthread_join(t[i].id, NULL);
		assert_int_equal(t[i].wrong, 0);
	}
	fixture_free(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_bind_and_find), cmocka_unit_test(test_keys_of_one_set), cmocka_unit_test(test_a_worker_that_forgot),
		cmocka_unit_test(test_bounded), cmocka_unit_test(test_least_recently_used), cmocka_unit_test(test_reload), cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
