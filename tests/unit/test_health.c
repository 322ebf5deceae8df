/*
 * Whom to trust with the next request: every arrow of the diagram in pool/health.h. A worker that cannot be reached is out at once; one that fails what it is asked is
 * out when it does worse than its peers, and comes back only by answering a request; nothing a caller sends takes a whole model away. Last, loops and the control thread
 * at once. Started workers: test_health_started.c. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include "health_fixture.h"
#include <pthread.h>

/* ---- reached or not ---- */

static void test_unreachable(void **state)
{
	(void)state;
	static const enum tg_worker_state from[] = { TG_WORKER_UNKNOWN, TG_WORKER_UP };
	for (unsigned i = 0; i < 2; i++)
		for (unsigned by_answer = 0; by_answer < 3; by_answer++) {
			struct fixture f;
			fresh_log(NULL);
			fixture_make(&f, 2, 0, 0);
			struct tg_worker *w = f.m->workers[0];
			atomic_store(&w->state, from[i]);
			count(&f, 0, 100, 0, NOW); /* whatever it did before */
			assert_true(fault(&f, 0, TG_FAULT_UNREACHABLE, NOW));
			expect(w, TG_WORKER_DOWN, false, false);
			assert_true(atomic_load(&w->want_probe));
			assert_int_equal(atomic_load(&w->ejections), 0);
			assert_int_equal(atomic_load(&w->incarnation), 0);
			for (int more = 0; more < 10; more++)
				assert_false(fault(&f, 0, TG_FAULT_UNREACHABLE, NOW)); /* the others that were sent there */
			assert_int_equal(told("worker.down", w, "a test"), 1);
			assert_int_equal(atomic_load(&f.m->workers[1]->state), TG_WORKER_UNKNOWN);
			for (unsigned k = 0; k < COUNT(bad_probes); k++)
				assert_false(tg_health_probed(w, bad_probes[k], NOW + 1));
			expect(w, TG_WORKER_DOWN, false, false);
			assert_int_equal(told("worker.down", w, ""), 1);
			/* A good probe, a request that got there after all, or one that was sent as a trial. */
			if (by_answer == 0)
				assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + 2));
			else
				assert_true(tg_health_good(w, by_answer == 2, NOW + 2));
			expect_back(w, 1, NOW + 2);
			assert_false(tg_health_probed(w, TG_PROBE_GOOD, NOW + 3));
			assert_false(good(w, NOW + 3));
			assert_int_equal(atomic_load(&w->incarnation), 1);
			assert_int_equal(atomic_load(&w->ramp_ms), NOW + 2);
			assert_int_equal(told("worker.up", w, ""), 1);
			fixture_free(&f);
		}
	/* The last one is no exception: there is nobody there. */
	struct fixture f;
	fixture_make(&f, 1, 0, 0);
	assert_true(fault(&f, 0, TG_FAULT_UNREACHABLE, NOW));
	assert_false(tg_model_usable(f.m));
	fixture_free(&f);
}

static void test_unknown(void **state)
{
	(void)state;
	for (int by_answer = 0; by_answer < 2; by_answer++) {
		struct fixture f;
		fixture_make(&f, 1, 0, 0);
		struct tg_worker *w = f.m->workers[0];
		/* The first sign of life is no return: nobody waits for it, it need not be spared, no session has died. */
		assert_false(by_answer ? good(w, NOW) : tg_health_probed(w, TG_PROBE_GOOD, NOW));
		expect(w, TG_WORKER_UP, false, false);
		assert_int_equal(atomic_load(&w->ramp_ms), 0);
		assert_int_equal(atomic_load(&w->incarnation), 0);
		assert_int_equal(told("worker.up", w, ""), 0);
		fixture_free(&f);
	}
}

/* A trial of one that could not be reached: its request fails, or its client leaves. */
static void test_trial_of_unreachable(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 1, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	fixture_down(f.m, w);
	for (unsigned i = 0; i < COUNT(weighed); i++) {
		atomic_store(&w->trying, true);
		assert_false(tg_health_fault(f.m, w, weighed[i], "a test", true, NOW));
		expect(w, TG_WORKER_DOWN, false, false);
		assert_false(atomic_load(&w->trying));
	}
	atomic_store(&w->trying, true);
	tg_health_untried(w);
	expect(w, TG_WORKER_DOWN, false, false);
	assert_false(atomic_load(&w->trying));
	fixture_free(&f);
}

/* What a health check says, beside what requests have met. */
static void test_probes_and_answers(void **state)
{
	(void)state;
	static const struct {
		enum tg_probe_result probe;
		unsigned goods, bads;
		int in_use;
		bool stays;
	} rows[] = {
		{ TG_PROBE_SICK, 0, 0, 0, false }, /* nobody says otherwise */
		{ TG_PROBE_SICK, 1, 0, 0, true },  /* it complains, and answers all the same */
		{ TG_PROBE_SICK, 1, 0, 3, true },
		{ TG_PROBE_SICK, 0, 0, 3, false },
		{ TG_PROBE_SICK, 9, 1, 0, false },
		{ TG_PROBE_SICK, 0, 1, 0, false },
		{ TG_PROBE_SILENT, 0, 0, 0, false },
		{ TG_PROBE_SILENT, 9, 0, 0, false }, /* it has nothing to do, and does not answer */
		{ TG_PROBE_SILENT, 0, 0, 1, true },  /* one thread, which is at work */
		{ TG_PROBE_SILENT, 9, 0, 1, true },
		{ TG_PROBE_SILENT, 9, 1, 1, false },
		{ TG_PROBE_SILENT, 0, 1, 1, false },
		{ TG_PROBE_REFUSED, 0, 0, 0, false }, /* nobody is there, whatever was */
		{ TG_PROBE_REFUSED, 9, 0, 0, false },
		{ TG_PROBE_REFUSED, 9, 0, 1, false },
		{ TG_PROBE_REFUSED, 0, 0, 1, false },
	};
	static const enum tg_worker_state from[] = { TG_WORKER_UNKNOWN, TG_WORKER_UP };
	for (unsigned i = 0; i < COUNT(rows); i++)
		for (unsigned k = 0; k < 2; k++) {
			struct fixture f;
			fresh_log(NULL);
			fixture_make(&f, 2, 0, 0);
			struct tg_worker *w = f.m->workers[0];
			count(&f, 0, rows[i].goods, rows[i].bads, NOW);
			atomic_store(&w->state, from[k]);
			atomic_store(&w->in_use, rows[i].in_use);
			assert_false(tg_health_probed(w, rows[i].probe, NOW));
			expect(w, rows[i].stays ? from[k] : TG_WORKER_DOWN, false, false);
			assert_int_equal(told("worker.down", w, "\"why\":\""), !rows[i].stays);
			atomic_store(&w->in_use, 0);
			fixture_free(&f);
		}
	/* Answers of long ago say nothing of now. */
	struct fixture f;
	fixture_make(&f, 1, 0, 0);
	count(&f, 0, 9, 0, NOW);
	assert_false(tg_health_probed(f.m->workers[0], TG_PROBE_SICK, NOW + EPOCH));
	assert_true(tg_worker_usable(f.m->workers[0]));
	assert_false(tg_health_probed(f.m->workers[0], TG_PROBE_SICK, NOW + 2 * EPOCH));
	assert_false(tg_worker_usable(f.m->workers[0]));
	fixture_free(&f);
}

/* ---- weighing ---- */

static void test_weighed(void **state)
{
	(void)state;
	static const struct {
		unsigned goods;            /* of ours; then bad ones come */
		unsigned peer_good, peer_bad; /* of two peers, each */
		unsigned out;              /* with which bad one it is out; 0: not within forty */
	} rows[] = {
		{ 0, 0, 0, 3 }, { 1, 0, 0, 3 }, { 3, 0, 0, 3 }, /* three at the least */
		{ 4, 0, 0, 4 }, { 10, 0, 0, 10 }, { 39, 0, 0, 39 }, { 41, 0, 0, 0 }, /* half of what it was asked */
		{ 0, 100, 0, 3 }, { 5, 100, 0, 5 },
		{ 0, 10, 10, 3 }, { 0, 9, 11, 0 }, { 1, 10, 10, 0 }, /* twice their share: one half, more, and not all of ours */
		{ 10, 30, 10, 10 }, { 10, 20, 10, 20 }, { 20, 20, 10, 40 }, { 21, 20, 10, 0 },
		{ 0, 0, 1, 0 }, { 0, 0, 100, 0 }, /* all fail alike */
		{ 0, 1, 1, 3 },
	};
	for (unsigned i = 0; i < COUNT(rows); i++)
		for (unsigned k = 0; k < COUNT(weighed); k++) {
			struct fixture f;
			fresh_log(NULL);
			fixture_make(&f, 3, 0, 0);
			struct tg_worker *w = f.m->workers[0];
			count(&f, 0, rows[i].goods, 0, NOW);
			count(&f, 1, rows[i].peer_good, rows[i].peer_bad, NOW);
			count(&f, 2, rows[i].peer_good, rows[i].peer_bad, NOW);
			unsigned out = 0;
			for (unsigned n = 1; n <= 40 && !out; n++)
				if (fault(&f, 0, weighed[k], NOW))
					out = n;
			if (out != rows[i].out)
				fail_msg("row %u, fault %u: out with bad one %u, not %u", i, weighed[k], out, rows[i].out);
			expect(w, out ? TG_WORKER_DOWN : TG_WORKER_UNKNOWN, out != 0, false);
			assert_int_equal(atomic_load(&w->ejections), out != 0);
			assert_int_equal(told("worker.down", w, "a test"), out != 0);
			assert_true(atomic_load(&w->want_probe));
			assert_true(tg_worker_usable(f.m->workers[1]) && tg_worker_usable(f.m->workers[2]));
			fixture_free(&f);
		}
}

/* Requests that no worker can stand, going round. */
static void test_a_caller_ejects_nobody(void **state)
{
	(void)state;
	for (unsigned goods = 0; goods < 20; goods += 5)
		for (unsigned workers = 1; workers <= 4; workers++) {
			struct fixture f;
			fixture_make(&f, workers, 0, 0);
			for (unsigned i = 0; i < goods; i++)
				for (unsigned k = 0; k < workers; k++)
					(void)good(f.m->workers[k], NOW);
			for (unsigned i = 0; i < 100; i++)
				for (unsigned k = 0; k < workers; k++)
					assert_false(fault(&f, k, weighed[i % COUNT(weighed)], NOW + i * 100)); /* across epochs, too */
			for (unsigned k = 0; k < workers; k++)
				assert_true(tg_worker_usable(f.m->workers[k]));
			fixture_free(&f);
		}
}

static void test_last_usable(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 3, 0, 0);
	fixture_down(f.m, f.m->workers[0]);
	eject(&f, 1, NOW);
	for (unsigned i = 0; i < 100; i++)
		assert_false(fault(&f, 2, weighed[i % COUNT(weighed)], NOW));
	assert_true(tg_worker_usable(f.m->workers[2]));
	assert_int_equal(atomic_load(&f.m->workers[2]->ejections), 0);
	/* One of the others is back: what it does is weighed from now on. */
	assert_true(tg_health_probed(f.m->workers[0], TG_PROBE_GOOD, NOW));
	assert_true(fault(&f, 2, TG_FAULT_STATUS, NOW));
	expect(f.m->workers[2], TG_WORKER_DOWN, true, false);
	fixture_free(&f);
}

static void test_epochs(void **state)
{
	(void)state;
	/* The first of three epochs; the last rows are those where the 24 bits of it begin anew. */
	static const uint64_t first[] = { 0, 1, 77, 0xfffffd, 0xfffffe, 0xffffff, 0x1fffffe };
	for (unsigned i = 0; i < COUNT(first); i++) {
		uint64_t t = first[i] * EPOCH;
		struct fixture f;
		fixture_make(&f, 2, 0, 0);
		/* Two bad ones count in their epoch and the next, to its last millisecond ... */
		count(&f, 0, 0, 2, t + EPOCH - 1);
		assert_true(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH - 1));
		fixture_free(&f);
		/* ... and not in the one after. */
		fixture_make(&f, 2, 0, 0);
		count(&f, 0, 0, 2, t + EPOCH - 1);
		assert_false(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH));
		assert_false(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH));
		assert_true(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH));
		fixture_free(&f);
		/* Two, then one in the next: when that one's neighbour is over, so are the two. */
		fixture_make(&f, 2, 0, 0);
		count(&f, 0, 0, 2, t);
		count(&f, 0, 0, 1, t + EPOCH);
		assert_false(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH));
		assert_true(fault(&f, 0, TG_FAULT_STATUS, t + 2 * EPOCH));
		fixture_free(&f);
		/* Good ones protect it as long. */
		for (unsigned later = 0; later < 4; later++) {
			fixture_make(&f, 2, 0, 0);
			count(&f, 0, 50, 0, t);
			bool out = false;
			for (unsigned n = 0; n < 10; n++)
				out |= fault(&f, 0, TG_FAULT_STATUS, t + later * EPOCH);
			assert_int_equal(out, later > 1);
			fixture_free(&f);
		}
		/* And those of a peer make it a good one as long. */
		for (unsigned later = 0; later < 3; later++) {
			fixture_make(&f, 2, 0, 0);
			count(&f, 1, 0, 50, t);
			bool out = false;
			for (unsigned n = 0; n < 10; n++)
				out |= fault(&f, 0, TG_FAULT_STATUS, t + later * EPOCH);
			assert_int_equal(out, later > 1); /* a peer that fails all the same excuses it */
			fixture_free(&f);
		}
	}
}

/* Each loop has a clock of its own, read once a turn, so that one may still be in the epoch that another has left. */
static void test_a_loop_that_is_late(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	uint64_t t = 100 * EPOCH;
	count(&f, 0, 100, 0, t - 1000);
	(void)good(w, t + 1);
	(void)good(w, t - 1);
	for (unsigned i = 0; i < 3; i++)
		/* If the late loop turned the window back, the hundred good answers of ten seconds would be gone. */
		assert_false(fault(&f, 0, TG_FAULT_STATUS, t + 2));
	fixture_free(&f);
}

/* [epoch:24][good:20][bad:20]: a full counter stands still; a carry would turn bad ones into good ones, good ones into another epoch. */
static void test_counters_saturate(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 1, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	uint64_t epoch = NOW / EPOCH;
	unsigned many = (1u << 20) + 1000;
	for (unsigned i = 0; i < many; i++)
		(void)good(w, NOW);
	uint64_t goods = atomic_load(&w->window[0]);
	assert_int_equal(goods >> 40, epoch);
	assert_int_equal(goods & 0xfffff, 0);
	assert_true((goods >> 20 & 0xfffff) > 0xfff00);
	for (unsigned i = 0; i < many; i++)
		(void)fault(&f, 0, TG_FAULT_STATUS, NOW);
	uint64_t both = atomic_load(&w->window[0]);
	assert_int_equal(both >> 20, goods >> 20);
	assert_true((both & 0xfffff) > 0xfff00);
	fixture_free(&f);
}

/* ---- away for its failures ---- */

static void test_away_and_back(void **state)
{
	(void)state;
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	count(&f, 0, 2, 0, NOW);
	eject(&f, 0, NOW);
	assert_int_equal(atomic_load(&w->cool_ms), TG_COOL_MS);
	assert_int_equal(atomic_load(&w->trial_at_ms), NOW + TG_COOL_MS);
	/* What was sent before: its answers prove nothing, its failures are no news. */
	for (unsigned i = 0; i < 50; i++) {
		assert_false(good(w, NOW + i));
		assert_false(fault(&f, 0, weighed[i % COUNT(weighed)], NOW + i));
	}
	expect(w, TG_WORKER_DOWN, true, false);
	assert_int_equal(atomic_load(&w->trial_at_ms), NOW + TG_COOL_MS);
	/* Its health check is fine all the time. */
	assert_false(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS - 1));
	expect(w, TG_WORKER_DOWN, true, false);
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS));
	expect(w, TG_WORKER_DOWN, true, true);
	assert_int_equal(told("worker.up", w, ""), 0);
	assert_false(good(w, NOW + TG_COOL_MS)); /* of before, still */
	expect(w, TG_WORKER_DOWN, true, true);
	/* A check that fails takes the trial back; the next good one gives it again. */
	for (unsigned i = 0; i < COUNT(bad_probes); i++) {
		assert_false(tg_health_probed(w, bad_probes[i], NOW + TG_COOL_MS));
		expect(w, TG_WORKER_DOWN, true, false);
		assert_true(tg_health_probed(w, TG_PROBE_GOOD, NOW + TG_COOL_MS));
		expect(w, TG_WORKER_DOWN, true, true);
	}
	/* Its client left: the next request is the trial. */
	atomic_store(&w->trying, true);
	tg_health_untried(w);
	expect(w, TG_WORKER_DOWN, true, true);
	assert_false(atomic_load(&w->trying));
	atomic_store(&w->trying, true);
	assert_true(tg_health_good(w, true, NOW + TG_COOL_MS + 5));
	expect_back(w, 1, NOW + TG_COOL_MS + 5);
	assert_int_equal(told("worker.down", w, ""), 1);
	assert_int_equal(told("worker.up", w, ""), 1);
	assert_int_equal(atomic_load(&w->ejections), 1);
	/* It began anew: two bad ones are nothing. */
	assert_false(fault(&f, 0, TG_FAULT_STATUS, NOW + TG_COOL_MS + 6));
	assert_false(fault(&f, 0, TG_FAULT_STATUS, NOW + TG_COOL_MS + 6));
	assert_true(fault(&f, 0, TG_FAULT_STATUS, NOW + TG_COOL_MS + 6));
	assert_int_equal(atomic_load(&w->cool_ms), TG_COOL_MS); /* the first time away, again */
	assert_int_equal(atomic_load(&w->ejections), 2);
	fixture_free(&f);
}

static void test_longer_each_time(void **state)
{
	(void)state;
	static const unsigned cool[] = { 1000, 2000, 4000, 8000, 16000, 30000, 30000, 30000 };
	struct fixture f;
	fixture_make(&f, 2, 0, 0);
	struct tg_worker *w = f.m->workers[0];
	uint64_t now = NOW;
	eject(&f, 0, now);
	for (unsigned i = 0; i < COUNT(cool); i++) {
		assert_int_equal(atomic_load(&w->cool_ms), cool[i]);
		assert_false(tg_health_probed(w, TG_PROBE_GOOD, now + cool[i] - 1));
		expect(w, TG_WORKER_DOWN, true, false);
		now += cool[i];
		assert_true(tg_health_probed(w, TG_PROBE_GOOD, now));
		expect(w, TG_WORKER_DOWN, true, true);
		now += 3; /* the trial takes its time */
		atomic_store(&w->trying, true);
		assert_false(tg_health_fault(f.m, w, weighed[i % COUNT(weighed)], "a test", true, now));
		expect(w, TG_WORKER_DOWN, true, false);
		assert_false(atomic_load(&w->trying));
	}
	assert_int_equal(atomic_load(&w->ejections), 1); /* it has been away all the time */
	assert_int_equal(told("worker.down", w, ""), 1);
	/* Nobody is there for the trial: no more trials until a probe reaches it, and it stays one that failed. */
	now += TG_COOL_MAX_MS;
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, now));
	atomic_store(&w->trying, true);
	assert_false(tg_health_fault(f.m, w, TG_FAULT_UNREACHABLE, "a test", true, now));
	expect(w, TG_WORKER_DOWN, true, false);
	assert_false(atomic_load(&w->trying));
	assert_true(tg_health_probed(w, TG_PROBE_GOOD, now + TG_COOL_MAX_MS));
	assert_true(tg_health_good(w, true, now + TG_COOL_MAX_MS));
	expect_back(w, 1, now + TG_COOL_MAX_MS);
	fixture_free(&f);
}

/* ---- three loops and the control thread ---- */

enum { THREADS = 4, ROUNDS = 6000, AT_A_TIME = 50, WORKERS = 3 };

struct storm {
	struct fixture f;
	pthread_barrier_t together; /* none is done before another has begun */
	_Atomic uint64_t now;
	_Atomic unsigned goods[WORKERS], bads[WORKERS];
};

struct thread {
	struct storm *s;
	pthread_t id;
	uint32_t rng;
	bool control;
};

static uint32_t roll(struct thread *t)
{
	t->rng = t->rng * 1664525u + 1013904223u;
	return t->rng >> 16;
}

/* Requests as the gate makes them: to whom tg_model_pick says, each with one verdict. Worker 0 fails often, 1 seldom, 2 never by itself. */
static void loop_round(struct thread *t, uint64_t now)
{
	static const unsigned bad_of_100[WORKERS] = { 70, 5, 0 };
	struct tg_model *m = t->s->f.m;
	struct tg_worker *w = NULL;
	bool trial = false;
	if (tg_model_pick(m, NULL, &w, &trial) != TG_PICK_OK)
		return;
	unsigned k = w->index, r = roll(t) % 100;
	if (r == 99) {
		atomic_fetch_add(&t->s->bads[k], 1);
		(void)tg_health_fault(m, w, TG_FAULT_UNREACHABLE, "a test", trial, now);
	} else if (r < bad_of_100[k]) {
		atomic_fetch_add(&t->s->bads[k], 1);
		(void)tg_health_fault(m, w, weighed[r % COUNT(weighed)], "a test", trial, now);
	} else if (r == 98 && trial) {
		tg_health_untried(w);
	} else {
		atomic_fetch_add(&t->s->goods[k], 1);
		(void)tg_health_good(w, trial, now);
	}
	tg_model_release(m, w);
}

static void control_round(struct thread *t, uint64_t now)
{
	static const enum tg_probe_result of[20] = { [17] = TG_PROBE_SICK, TG_PROBE_SILENT, TG_PROBE_REFUSED }; /* the others are good */
	struct tg_worker *w = t->s->f.m->workers[roll(t) % WORKERS];
	(void)tg_health_probed(w, of[roll(t) % COUNT(of)], now);
}

static void *run_thread(void *arg)
{
	struct thread *t = arg;
	for (unsigned i = 0; i < ROUNDS; i++) {
		if (i % AT_A_TIME == 0)
			pthread_barrier_wait(&t->s->together);
		if (!t->control)
			loop_round(t, atomic_load(&t->s->now));
		else if (i % 10 == 0)
			control_round(t, atomic_fetch_add(&t->s->now, 200));
	}
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	struct storm *s = calloc(1, sizeof *s);
	struct thread t[THREADS];
	fixture_make(&s->f, WORKERS, 2, 0);
	s->now = NOW;
	assert_int_equal(pthread_barrier_init(&s->together, NULL, THREADS), 0);
	for (unsigned i = 0; i < THREADS; i++) {
		t[i] = (struct thread){ .s = s, .rng = i + 1, .control = i == 0 };
		assert_int_equal(pthread_create(&t[i].id, NULL, run_thread, &t[i]), 0);
	}
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i].id, NULL);
	pthread_barrier_destroy(&s->together);
	uint64_t now = s->now;
	for (unsigned k = 0; k < WORKERS; k++) {
		struct tg_worker *w = s->f.m->workers[k];
		int is = atomic_load(&w->state);
		unsigned ups = told("worker.up", w, ""), downs = told("worker.down", w, "");
		assert_true(is == TG_WORKER_UP || is == TG_WORKER_DOWN);
		/* Every way out and back was told once, and by turns. */
		assert_int_equal(downs - ups, is == TG_WORKER_DOWN);
		assert_int_equal(atomic_load(&w->incarnation), ups);
		assert_true(atomic_load(&w->ejections) <= downs);
		assert_true(downs > 0 && ups > 0); /* the test met what it is about */
		/* Nothing was counted that was not. */
		uint64_t goods = 0, bads = 0;
		for (int i = 0; i < 2; i++) {
			goods += atomic_load(&w->window[i]) >> 20 & 0xfffff;
			bads += atomic_load(&w->window[i]) & 0xfffff;
		}
		assert_true(goods <= s->goods[k] && bads <= s->bads[k]);
		print_message("%s: %s, %u good, %u bad, %u times down, %u of them ejected\n", w->name, tg_worker_state_names[is], s->goods[k], s->bads[k], downs,
			      atomic_load(&w->ejections));
	}
	assert_true(atomic_load(&s->f.m->workers[0]->ejections) > 0);
	/* Whatever it came to, each worker can be brought back in the ordinary way, and then stands as any other. */
	now += 2 * EPOCH + TG_COOL_MAX_MS;
	for (unsigned k = 0; k < WORKERS; k++) {
		struct tg_worker *w = s->f.m->workers[k];
		bool down = atomic_load(&w->state) == TG_WORKER_DOWN;
		assert_int_equal(tg_health_probed(w, TG_PROBE_GOOD, now), down);
		if (atomic_load(&w->failing))
			assert_true(tg_health_good(w, true, now));
		expect(w, TG_WORKER_UP, false, false);
	}
	eject(&s->f, 0, now);
	assert_true(tg_worker_usable(s->f.m->workers[1]) && tg_worker_usable(s->f.m->workers[2]));
	fixture_free(&s->f);
	free(s);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup(f, fresh_log)
	const struct CMUnitTest tests[] = {
		T(test_unreachable), T(test_unknown), T(test_trial_of_unreachable), T(test_probes_and_answers), T(test_weighed), T(test_a_caller_ejects_nobody),
		T(test_last_usable), T(test_epochs), T(test_a_loop_that_is_late), T(test_counters_saturate), T(test_away_and_back), T(test_longer_each_time),
		T(test_threads),
	};
	return cmocka_run_group_tests(tests, open_log, close_log);
}
