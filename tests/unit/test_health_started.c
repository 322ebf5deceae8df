/*
 * Started workers' health (pool/health.h): their process is the supervisor's word. One that a request has lost is doubted, not down; what is being started, or has been
 * given up, is moved by no probe and no answer; and one whose process lives is weighed by what it is asked like any other.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include "health_fixture.h"

static void make_started(struct fixture *f, unsigned workers)
{
	fixture_make_started(f, workers, 0, 0);
	for (unsigned k = 0; k < workers; k++)
		tg_health_ready(f->m->workers[k], false, NOW);
}

static void test_doubted(void **state)
{
	(void)state;
	static const enum tg_fault lost[] = { TG_FAULT_UNREACHABLE, TG_FAULT_DROPPED };
	for (unsigned i = 0; i < COUNT(lost); i++) {
		struct fixture f;
		fresh_log(NULL);
		make_started(&f, 2);
		struct tg_worker *w = f.m->workers[0];
		unsigned incarnation = atomic_load(&w->incarnation);
		count(&f, 0, 9, 0, NOW);
		assert_true(fault(&f, 0, lost[i], NOW));
		expect(w, TG_WORKER_STARTING, false, false);
		assert_true(atomic_load(&w->want_probe));
		assert_false(fault(&f, 0, lost[i], NOW)); /* the others that it had in hand */
		/* The supervisor looks, and it is there: the same process, with its sessions, at full speed. */
		assert_true(tg_health_cleared(w));
		expect(w, TG_WORKER_UP, false, false);
		assert_int_equal(atomic_load(&w->incarnation), incarnation);
		assert_int_equal(atomic_load(&w->ramp_ms), 0);
		assert_false(tg_health_cleared(w));
		assert_int_equal(told("worker.down", w, "") + told("worker.up", w, ""), 0);
		fixture_free(&f);
	}
	/* What else requests meet is weighed as anybody's. */
	for (unsigned i = 0; i < COUNT(weighed); i++) {
		if (weighed[i] == TG_FAULT_DROPPED)
			continue;
		struct fixture f;
		make_started(&f, 2);
		assert_false(fault(&f, 0, weighed[i], NOW));
		assert_false(fault(&f, 0, weighed[i], NOW));
		assert_true(fault(&f, 0, weighed[i], NOW));
		expect(f.m->workers[0], TG_WORKER_DOWN, true, false);
		assert_false(tg_health_cleared(f.m->workers[0])); /* that it is there is no answer to that */
		expect(f.m->workers[0], TG_WORKER_DOWN, true, false);
		fixture_free(&f);
	}
}

/* While there is no process, and when it has been given up, the supervisor's word stands. */
static void test_not_there(void **state)
{
	(void)state;
	for (int for_good = 0; for_good < 2; for_good++) {
		struct fixture f;
		fresh_log(NULL);
		make_started(&f, 2);
		struct tg_worker *w = f.m->workers[0];
		enum tg_worker_state is = for_good ? TG_WORKER_FAILED : TG_WORKER_STARTING;
		eject(&f, 0, NOW);
		assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS));
		expect(w, TG_WORKER_DOWN, true, true);
		tg_health_gone(w, for_good);
		expect(w, is, false, false);
		static const enum tg_probe_result probes[] = { TG_PROBE_GOOD, TG_PROBE_SICK, TG_PROBE_REFUSED, TG_PROBE_SILENT };
		for (unsigned i = 0; i < COUNT(probes); i++) {
			assert_false(tg_health_probed(w, probes[i], NOW + 60000));
			expect(w, is, false, false);
		}
		for (int trial = 0; trial < 2; trial++) {
			atomic_store(&w->trying, trial);
			assert_false(tg_health_good(w, trial, NOW));
			expect(w, is, false, false);
			assert_false(atomic_load(&w->trying));
			for (enum tg_fault what = TG_FAULT_UNREACHABLE; what <= TG_FAULT_RUBBISH; what++)
				for (int n = 0; n < 5; n++) {
					atomic_store(&w->trying, trial);
					assert_false(tg_health_fault(f.m, w, what, "a test", trial, NOW));
					expect(w, is, false, false);
					assert_false(atomic_load(&w->trying));
				}
		}
		assert_int_equal(told("worker.down", w, ""), 1); /* the ejection */
		assert_int_equal(told("worker.up", w, ""), 0);
		if (for_good)
			assert_false(tg_health_cleared(w)); /* what has failed is no doubt to be cleared */
		expect(w, is, false, false);
		fixture_free(&f);
	}
}

static void test_ready(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make_started(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	expect(w, TG_WORKER_STARTING, false, false);
	tg_health_ready(w, false, NOW); /* the first process has no peer to be spared behind */
	expect_back(w, 1, 0);
	tg_health_ready(f.m->workers[1], false, NOW);
	eject(&f, 0, NOW);
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS));
	tg_health_gone(w, false);
	tg_health_ready(w, true, NOW + 5000); /* a new process: what the old one did is not held against it */
	expect_back(w, 2, NOW + 5000);
	eject(&f, 0, NOW + 6000);
	assert_int_equal(atomic_load(&w->cool_ms), TG_COOL_MS);
	tg_health_gone(w, true);
	tg_health_ready(w, true, NOW + 7000); /* tried again, a minute later */
	expect_back(w, 3, NOW + 7000);
	/* A probe that fails is about a process that is there; so is one that succeeds. */
	assert_false(tg_health_probed(w, TG_PROBE_SILENT, NOW + 8000));
	expect(w, TG_WORKER_DOWN, false, false);
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + 9000));
	expect_back(w, 4, NOW + 9000);
	/* One that lets nobody in has most likely ended: the supervisor is to look. */
	assert_false(tg_health_probed(w, TG_PROBE_REFUSED, NOW + 9500));
	expect(w, TG_WORKER_STARTING, false, false);
	assert_true(tg_health_cleared(w));
	expect_back(w, 4, NOW + 9000);
	fixture_free(&f);
}

/* "half open --it fails--> DOWN, failing, longer" holds for those, too: the process is there, and drops what it is given. */
static void test_trial_is_dropped(void **state)
{
	(void)state;
	struct fixture f;
	make_started(&f, 2);
	struct tg_worker *w = f.m->workers[0];
	eject(&f, 0, NOW);
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS));
	atomic_store(&w->trying, true);
	assert_false(tg_health_fault(f.m, w, TG_FAULT_DROPPED, "a test", true, NOW + TG_COOL_MS));
	atomic_store(&w->trying, false);
	/* Left half open, it would be given the next request as a trial at once, and so on. */
	expect(w, TG_WORKER_DOWN, true, false);
	assert_int_equal(atomic_load(&w->cool_ms), 2 * TG_COOL_MS);
	fixture_free(&f);
}

/* A process that lives, whose health check is fine, and that drops every request it is given. */
static void test_that_drops_all(void **state)
{
	(void)state;
	struct fixture f;
	make_started(&f, 2);
	struct tg_worker *w = f.m->workers[0];
	for (unsigned i = 0; i < 20; i++) {
		count(&f, 1, 1, 0, NOW + i * 100);
		(void)fault(&f, 0, TG_FAULT_DROPPED, NOW + i * 100);
		(void)tg_health_cleared(w); /* the supervisor has looked: it accepts connections */
	}
	expect(w, TG_WORKER_DOWN, true, false);
	fixture_free(&f);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, fresh_log)
	const struct CMUnitTest tests[] = {
		T(test_doubted), T(test_not_there), T(test_ready), T(test_trial_is_dropped),
		T(test_that_drops_all),
	};
	return cmocka_run_group_tests(tests, open_log, close_log);
}
