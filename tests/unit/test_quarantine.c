/*
 * Requests that end workers: two deaths of workers that had a request in hand refuse it, in whatever order the death and the broken connection are noticed; one does not,
 * nor does the death of another worker, nor is another request refused. All of it is forgotten in time, the oldest when there are too many, and at once when the
 * request is answered. Last, four threads. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include "pool/quarantine.h"
#include <pthread.h>

#define NOW 1000000u
#define PRINT UINT64_C(0x1234567890abcdef)

static struct fixture f; /* its workers A, B, C, D; whose ids alone matter here */

static int make_workers(void **state)
{
	(void)state;
	fixture_make(&f, 8, 0, 0);
	return 0;
}

static int free_workers(void **state)
{
	(void)state;
	fixture_free(&f);
	return 0;
}

/* What happens, one after the other: "sA" the request is broken off by A, "dA" A is seen to have died, "rA" it is there again, "c" the request is answered, "+N" N ms go by.
 * Small s and c: our print. */
static bool refused_after(const char *story)
{
	struct tg_quarantine *q = tg_quarantine_new();
	uint64_t now = NOW;
	assert_non_null(q);
	for (const char *p = story; *p;) {
		char what = *p++;
		if (what == ' ')
			continue;
		if (what == '+') {
			char *end;
			now += strtoull(p, &end, 10);
			p = end;
			continue;
		}
		struct tg_worker *w = what == 'c' ? NULL : f.m->workers[*p++ - 'A'];
		switch (what) {
		case 's': tg_quarantine_suspect(q, PRINT, w, now); break;
		case 'S': tg_quarantine_suspect(q, PRINT + 1, w, now); break;
		case 'd': tg_quarantine_death(q, w, now); break;
		case 'r': atomic_fetch_add(&w->incarnation, 1); break;
		case 'c': tg_quarantine_clear(q, PRINT); break;
		default: fail_msg("%s: what is %c?", story, what);
		}
	}
	bool refused = tg_quarantine_left(q, PRINT, now) > 0;
	tg_quarantine_free(q);
	return refused;
}

struct story {
	const char *text;
	bool refused;
};

static void check(const struct story *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (refused_after(rows[i].text) != rows[i].refused)
			fail_msg("\"%s\": %s", rows[i].text, rows[i].refused ? "not refused" : "refused");
}

static void test_two_deaths(void **state)
{
	(void)state;
	static const struct story rows[] = {
		{ "", false },
		/* one */
		{ "sA", false }, { "sA dA", false }, { "dA sA", false }, { "sA sB", false }, { "dA dB", false },
		{ "sA dA sB", false }, { "dA sA sB", false },
		/* two, in both orders each */
		{ "sA dA sB dB", true }, { "dA sA sB dB", true }, { "sA dA dB sB", true }, { "dA sA dB sB", true }, { "dA dB sA sB", true }, { "dB dA sA sB", true },
		{ "sA +3 dA +900 sB +3 dB", true }, { "dA +3 sA +900 dB +3 sB", true },
		/* the same worker, started again in between */
		{ "sA dA rA +6000 sA dA", true }, { "dA sA rA +6000 dA sA", true }, { "sA dA rA +6000 sA", false }, { "sA dA rA +100 sA dA", true },
		{ "sA dA rA +100 sA", false },
		/* three */
		{ "sA dA sB dB sC dC", true },
		/* that death is no other's: it had not been given the request, or not it alone was seen to die */
		{ "sA dB", false }, { "sA dB dC dD", false }, { "sA dA dB dC", false }, { "sA dA sB dA", false }, { "sA dA sB dC", false }, { "dA sB", false },
		/* one death is one, however often it is noticed, and for however many requests of this print */
		{ "sA dA dA", false }, { "sA sA dA", false }, { "sA dA +100 sA", false }, { "dA sA +100 sA", false }, { "sA sA dA sA sA", false }, { "sA dA +6000 sA dA", false }, { "sA sA sA dA dA", false },
		/* another request */
		{ "SA dA SB dB", false }, { "SA dA sB dB", false }, { "sA SA dA SB dB", false }, { "sA SA dA sB SB dB", true },
		/* answered */
		{ "sA dA sB dB c", false }, { "sA dA c sB dB", false }, { "sA c dA sB dB", false }, { "c sA dA sB dB", true },
	};
	check(rows, sizeof rows / sizeof rows[0]);
}

static void test_how_far_apart(void **state)
{
	(void)state;
	static const struct story rows[] = {
		/* TG_DEATH_MS between the connection and the death */
		{ "sA +4999 dA sB dB", true }, { "sA +5000 dA sB dB", false }, { "dA +4999 sA sB dB", true }, { "dA +5000 sA sB dB", false },
		/* TG_QUARANTINE_MS between the first and the second */
		{ "sA dA +599999 sB dB", true }, { "sA dA +600000 sB dB", false }, { "dA sA +599999 dB sB", true }, { "dA sA +600000 dB sB", false },
		/* each is counted from the last time it was broken off */
		{ "sA dA +400000 sA +400000 sB dB", true },
		/* and so is the refusal */
		{ "sA dA sB dB +599999", true }, { "sA dA sB dB +600000", false }, { "sA dA sB dB +300000 sC +599999", true },
	};
	assert_int_equal(TG_DEATH_MS, 5000);
	assert_int_equal(TG_QUARANTINE_MS, 600000);
	assert_int_equal(TG_QUARANTINE_KILLS, 2);
	check(rows, sizeof rows / sizeof rows[0]);
}

/* A loop has lost the first worker and sent the request to the second, which ends as quickly, before the control thread has looked at either. */
static void test_both_before_any_death(void **state)
{
	(void)state;
	static const struct story rows[] = { { "sA sB dA", false }, { "sA sB dB", false }, { "sA sB dA dB", true }, { "sA sB dB dA", true } };
	check(rows, sizeof rows / sizeof rows[0]);
}

/* The loop's clock is read once a turn, the control thread's is another: the later of two events may have the earlier time. */
static void test_clocks_apart(void **state)
{
	(void)state;
	for (int death_first = 0; death_first < 2; death_first++) {
		struct tg_quarantine *q = tg_quarantine_new();
		for (unsigned k = 0; k < 2; k++) {
			const struct tg_worker *w = f.m->workers[k];
			if (death_first)
				tg_quarantine_death(q, w, NOW + 3);
			tg_quarantine_suspect(q, PRINT, w, death_first ? NOW : NOW + 3);
			if (!death_first)
				tg_quarantine_death(q, w, NOW);
		}
		unsigned left = tg_quarantine_left(q, PRINT, NOW + 10);
		tg_quarantine_free(q);
		/* Unsigned, a millisecond the other way round would be five hundred million years. */
		assert_true(left > 0);
	}
}

static void kill_two(struct tg_quarantine *q, uint64_t print, uint64_t now)
{
	for (unsigned k = 0; k < 2; k++) {
		tg_quarantine_suspect(q, print, f.m->workers[k], now);
		tg_quarantine_death(q, f.m->workers[k], now);
	}
}

static void test_how_long(void **state)
{
	(void)state;
	struct tg_quarantine *q = tg_quarantine_new();
	kill_two(q, PRINT, NOW);
	for (uint64_t gone = 0; gone <= TG_QUARANTINE_MS + 3000; gone += 499) {
		unsigned left = tg_quarantine_left(q, PRINT, NOW + gone);
		uint64_t ms = gone < TG_QUARANTINE_MS ? TG_QUARANTINE_MS - gone : 0;
		assert_true(left * 1000ull >= ms); /* who waits so long is let in */
		assert_true(!ms ? !left : (left - 1) * 1000ull <= ms);
		assert_int_equal(tg_quarantine_left(q, PRINT + 1, NOW + gone), 0);
		assert_int_equal(tg_quarantine_left(q, 0, NOW + gone), 0);
	}
	tg_quarantine_free(q);
}

static void test_empty(void **state)
{
	(void)state;
	struct tg_quarantine *q = tg_quarantine_new();
	assert_true(tg_quarantine_empty(q));
	assert_int_equal(tg_quarantine_left(q, PRINT, NOW), 0);
	tg_quarantine_clear(q, PRINT);
	tg_quarantine_death(q, f.m->workers[0], NOW); /* nobody is suspected for it */
	assert_true(tg_quarantine_empty(q));
	tg_quarantine_suspect(q, PRINT, f.m->workers[1], NOW);
	assert_false(tg_quarantine_empty(q));
	tg_quarantine_clear(q, PRINT + 1);
	assert_false(tg_quarantine_empty(q));
	tg_quarantine_clear(q, PRINT);
	assert_true(tg_quarantine_empty(q));
	/* In any order, with kills and without. */
	for (uint64_t i = 0; i < 20; i++) {
		kill_two(q, PRINT + i, NOW);
		tg_quarantine_suspect(q, PRINT + 100 + i, f.m->workers[2], NOW);
	}
	for (uint64_t i = 0; i < 20; i++) {
		assert_true(tg_quarantine_left(q, PRINT + i * 7 % 20, NOW) > 0);
		tg_quarantine_clear(q, PRINT + i * 7 % 20);
		assert_int_equal(tg_quarantine_left(q, PRINT + i * 7 % 20, NOW), 0);
		assert_false(tg_quarantine_empty(q));
		tg_quarantine_clear(q, PRINT + 100 + i);
	}
	assert_true(tg_quarantine_empty(q));
	tg_quarantine_free(q);
	tg_quarantine_free(NULL);
}

static void test_too_many(void **state)
{
	(void)state;
	enum { MORE = 40 };
	struct tg_quarantine *q = tg_quarantine_new();
	for (uint64_t i = 0; i < TG_QUARANTINE_MAX; i++)
		kill_two(q, PRINT + i, NOW + i * 10);
	for (uint64_t i = 0; i < TG_QUARANTINE_MAX; i++)
		assert_true(tg_quarantine_left(q, PRINT + i, NOW + 5000) > 0);
	kill_two(q, PRINT + 5, NOW + 5000); /* sent again: no longer one of the oldest */
	for (uint64_t i = 0; i < MORE; i++)
		kill_two(q, PRINT + 1000 + i, NOW + 6000 + i);
	for (uint64_t i = 0; i < TG_QUARANTINE_MAX; i++) {
		bool kept = i == 5 || i > MORE; /* the forty oldest but that one */
		if ((tg_quarantine_left(q, PRINT + i, NOW + 7000) > 0) != kept)
			fail_msg("the %uth is %s", (unsigned)i, kept ? "forgotten" : "remembered");
	}
	for (uint64_t i = 0; i < MORE; i++)
		assert_true(tg_quarantine_left(q, PRINT + 1000 + i, NOW + 7000) > 0);
	/* They have all had their time when the next comes: their places are given back. */
	uint64_t later = NOW + 7000 + TG_QUARANTINE_MS;
	tg_quarantine_suspect(q, PRINT + 5000, f.m->workers[0], later);
	tg_quarantine_clear(q, PRINT + 5000);
	assert_true(tg_quarantine_empty(q));
	tg_quarantine_free(q);
}

/* More deaths than are remembered: the oldest ones are not, the newest are. */
static void test_many_deaths(void **state)
{
	(void)state;
	struct tg_quarantine *q = tg_quarantine_new();
	for (unsigned i = 0; i < 10 * TG_WORKERS_MAX; i++)
		tg_quarantine_death(q, f.m->workers[2 + i % 6], NOW + i);
	for (unsigned k = 2; k < 4; k++)
		tg_quarantine_suspect(q, PRINT, f.m->workers[k], NOW + 1000);
	assert_true(tg_quarantine_left(q, PRINT, NOW + 1000) > 0);
	tg_quarantine_free(q);
}

/* ---- four threads ---- */

enum { THREADS = 4, ROUNDS = 3000, OWN = 16 };

struct thread {
	struct tg_quarantine *q;
	pthread_t id;
	unsigned n, wrong;
};

static void *crash(void *arg)
{
	struct thread *t = arg;
	const struct tg_worker *a = f.m->workers[t->n * 2], *b = f.m->workers[t->n * 2 + 1];
	for (unsigned i = 0; i < ROUNDS; i++) {
		uint64_t own = PRINT + t->n * 1000 + i % OWN, of_all = PRINT + 50000 + i % 8;
		t->wrong += tg_quarantine_left(t->q, own, NOW) != 0;
		/* Dead of late or dying now: it is one death to this request either way. */
		tg_quarantine_suspect(t->q, own, a, NOW);
		tg_quarantine_death(t->q, a, NOW);
		t->wrong += tg_quarantine_left(t->q, own, NOW) != 0;
		t->wrong += tg_quarantine_empty(t->q);
		tg_quarantine_suspect(t->q, of_all, b, NOW);
		tg_quarantine_suspect(t->q, own, b, NOW);
		tg_quarantine_death(t->q, b, NOW);
		t->wrong += tg_quarantine_left(t->q, own, NOW) == 0;
		tg_quarantine_clear(t->q, own);
		if (i % 3 == 0)
			tg_quarantine_clear(t->q, of_all);
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct thread t[THREADS];
	struct tg_quarantine *q = tg_quarantine_new();
	for (unsigned i = 0; i < THREADS; i++) {
		t[i] = (struct thread){ .q = q, .n = i };
		assert_int_equal(pthread_create(&t[i].id, NULL, crash, &t[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i].id, NULL);
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(t[i].wrong, 0);
	for (uint64_t i = 0; i < 8; i++)
		tg_quarantine_clear(q, PRINT + 50000 + i);
	assert_true(tg_quarantine_empty(q));
	tg_quarantine_free(q);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_two_deaths), cmocka_unit_test(test_how_far_apart), cmocka_unit_test(test_both_before_any_death),
		cmocka_unit_test(test_clocks_apart), cmocka_unit_test(test_how_long), cmocka_unit_test(test_empty), cmocka_unit_test(test_too_many),
		cmocka_unit_test(test_many_deaths), cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, make_workers, free_workers);
}
