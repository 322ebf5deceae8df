/*
 * Waiters that want something: one worker and no other (its session lives there), any but one (it has just failed there), the head of the line (it has waited before).
 * None of them holds up the others or is forgotten, whatever becomes of the worker it wants; and whoever waits learns when there is nobody to wait for any more. First on
 * one loop that the test turns by hand, then with three loops on threads of their own. Built with -fsanitize=thread too.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "models_fixture.h"
#include <pthread.h>
#include <stdlib.h>
#include <unistd.h>

struct guest {
	struct tg_waiter w;
	unsigned at;    /* the how manieth to be told; 0: not yet */
	unsigned times;
};

/* A model, a loop, and whoever waits. */
struct inn {
	struct fixture f;
	struct tg_loop l;
	struct tg_model *m;
	struct tg_worker **w;
	unsigned order;
	struct guest g[12];
	unsigned n;
};

static void told(struct tg_loop *l, void *arg)
{
	struct guest *g = (struct guest *)((char *)arg - offsetof(struct guest, w));
	struct inn *inn = l->user;
	assert_ptr_equal(l, g->w.loop);
	assert_int_equal(g->w.state, TG_WAIT_GRANTED);
	g->w.state = TG_WAIT_NONE;
	g->at = ++inn->order;
	g->times++;
}

static void turn(struct inn *inn)
{
	for (int i = 0; i < 3; i++)
		uv_run(&inn->l.uv, UV_RUN_NOWAIT);
}

static void open_loop(struct inn *inn)
{
	assert_true(tg_loop_init(&inn->l, 0));
	inn->l.user = inn;
	inn->m = inn->f.m;
	inn->w = inn->f.m->workers;
	inn->order = inn->n = 0;
}

static void open_inn(struct inn *inn, unsigned workers, unsigned slots, unsigned queue)
{
	fixture_make(&inn->f, workers, slots, queue);
	open_loop(inn);
}

/* Started workers, all STARTING. */
static void open_started(struct inn *inn, unsigned workers, unsigned slots, unsigned queue)
{
	fixture_make_started(&inn->f, workers, slots, queue);
	open_loop(inn);
}

static void close_inn(struct inn *inn)
{
	turn(inn);
	fixture_free(&inn->f);
	tg_loop_stop(&inn->l);
	tg_loop_run(&inn->l);
	tg_loop_free(&inn->l);
}

enum { FIRST = 1 };

static struct guest *come(struct inn *inn, struct tg_worker *pin, const struct tg_worker *except, int first, enum tg_enqueue want)
{
	struct guest *g = &inn->g[inn->n++];
	assert_true(inn->n <= sizeof inn->g / sizeof inn->g[0]);
	*g = (struct guest){ .w = { .loop = &inn->l, .granted = told, .pin = pin, .except = except, .first = first == FIRST } };
	assert_int_equal(tg_queue_wait(inn->m, &g->w), want);
	assert_int_equal(g->w.state, want == TG_ENQUEUE_WAITING ? TG_WAIT_QUEUED : TG_WAIT_NONE);
	return g;
}

/* Told just now, as the order'th, and given that worker. */
static void served(struct inn *inn, const struct guest *g, unsigned order, const struct tg_worker *by)
{
	turn(inn);
	assert_int_equal(g->times, 1);
	assert_int_equal(g->at, order);
	assert_ptr_equal(g->w.worker, by);
}

static void still_waits(struct inn *inn, const struct guest *g)
{
	turn(inn);
	assert_int_equal(g->times, 0);
	assert_int_equal(g->w.state, TG_WAIT_QUEUED);
}

/* All slots of all workers. */
static void fill(struct inn *inn)
{
	for (unsigned k = 0; k < inn->m->nworkers; k++)
		while (tg_worker_take(inn->w[k], inn->m->conf->slots))
			continue;
}

static void release(struct inn *inn, struct tg_worker *w)
{
	tg_model_release(inn->m, w);
}

/* ---- pinned ---- */

static void test_pinned_hold_up_nobody(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 2, 1, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	fill(&inn);
	struct guest *a1 = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING), *a2 = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING);
	struct guest *any1 = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), *b1 = come(&inn, b, NULL, 0, TG_ENQUEUE_WAITING);
	struct guest *any2 = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), *a3 = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING);
	release(&inn, b); /* past the two that wait for the other one */
	served(&inn, any1, 1, b);
	release(&inn, b);
	served(&inn, b1, 2, b);
	release(&inn, a);
	served(&inn, a1, 3, a);
	release(&inn, b);
	served(&inn, any2, 4, b);
	release(&inn, b); /* nobody is left who would take that one */
	turn(&inn);
	assert_int_equal(inn.order, 4);
	assert_int_equal(fixture_in_use(&inn.f, 1), 0);
	still_waits(&inn, a2);
	release(&inn, a);
	served(&inn, a2, 5, a);
	release(&inn, a);
	served(&inn, a3, 6, a);
	release(&inn, a);
	close_inn(&inn);
}

/* Among those who can have a slot the order of arrival holds, pinned or not. */
static void test_pinned_keep_their_place(void **state)
{
	(void)state;
	for (unsigned mask = 0; mask < 32; mask++) { /* who of five is pinned to the one that becomes free */
		struct inn inn;
		struct guest *g[5];
		open_inn(&inn, 2, 1, 8);
		fill(&inn);
		for (unsigned i = 0; i < 5; i++)
			g[i] = come(&inn, mask >> i & 1 ? inn.w[0] : NULL, NULL, 0, TG_ENQUEUE_WAITING);
		for (unsigned i = 0; i < 5; i++) {
			release(&inn, inn.w[0]);
			served(&inn, g[i], i + 1, inn.w[0]);
		}
		release(&inn, inn.w[0]);
		release(&inn, inn.w[1]);
		close_inn(&inn);
	}
}

static void test_pinned_while_others_are_free(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 2, 2, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	struct guest *g = come(&inn, a, NULL, 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(g->w.worker, a);
	assert_false(g->w.trial);
	g = come(&inn, a, NULL, 0, TG_ENQUEUE_GOT);
	g = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING); /* its prompt is there, it is worth the wait */
	tg_queue_pump(inn.m->queue);
	still_waits(&inn, g);
	struct guest *any = come(&inn, NULL, NULL, 0, TG_ENQUEUE_GOT); /* and nobody else waits with it */
	assert_ptr_equal(any->w.worker, b);
	release(&inn, b);
	still_waits(&inn, g);
	release(&inn, a);
	served(&inn, g, 1, a);
	release(&inn, a);
	release(&inn, a);
	close_inn(&inn);
}

static void test_pin_goes_down(void **state)
{
	(void)state;
	static const enum tg_worker_state gone[] = { TG_WORKER_DOWN, TG_WORKER_STARTING, TG_WORKER_FAILED };
	for (unsigned i = 0; i < 3; i++) {
		struct inn inn;
		open_inn(&inn, 2, 1, 8);
		struct tg_worker *a = inn.w[0], *b = inn.w[1];
		/* Another one is free: at once. */
		assert_true(tg_worker_take(a, 1));
		struct guest *g = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING);
		atomic_store(&a->state, gone[i]);
		still_waits(&inn, g);
		tg_queue_pump(inn.m->queue);
		served(&inn, g, 1, b);
		assert_false(g->w.trial);
		/* Busy: it waits for that one, in its place. */
		atomic_store(&a->state, TG_WORKER_UP);
		struct guest *pinned = come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING), *any = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING);
		atomic_store(&a->state, gone[i]);
		tg_queue_pump(inn.m->queue);
		still_waits(&inn, pinned);
		release(&inn, b);
		served(&inn, pinned, 2, b);
		still_waits(&inn, any);
		release(&inn, b);
		served(&inn, any, 3, b);
		release(&inn, b);
		/* Gone when it comes. */
		g = come(&inn, a, NULL, 0, TG_ENQUEUE_GOT);
		assert_ptr_equal(g->w.worker, b);
		release(&inn, b);
		release(&inn, a);
		close_inn(&inn);
	}
}

/* ---- to the head of the line ---- */

static void test_first(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 1, 1, 2);
	struct tg_worker *a = inn.w[0];
	fill(&inn);
	struct guest *g1 = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), *g2 = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING);
	come(&inn, NULL, NULL, 0, TG_ENQUEUE_FULL);
	struct guest *f1 = come(&inn, NULL, NULL, FIRST, TG_ENQUEUE_WAITING), *f2 = come(&inn, NULL, NULL, FIRST, TG_ENQUEUE_WAITING);
	assert_int_equal(tg_queue_length(inn.m->queue), 4);
	come(&inn, NULL, NULL, 0, TG_ENQUEUE_FULL);
	release(&inn, a);
	served(&inn, f2, 1, a);
	release(&inn, a);
	served(&inn, f1, 2, a);
	come(&inn, NULL, NULL, 0, TG_ENQUEUE_FULL); /* two wait: as many as may */
	release(&inn, a);
	served(&inn, g1, 3, a);
	struct guest *g3 = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING);
	release(&inn, a);
	served(&inn, g2, 4, a);
	release(&inn, a);
	served(&inn, g3, 5, a);
	release(&inn, a);
	close_inn(&inn);
	/* Where nobody may wait. */
	open_inn(&inn, 1, 1, 0);
	fill(&inn);
	come(&inn, NULL, NULL, 0, TG_ENQUEUE_FULL);
	f1 = come(&inn, NULL, NULL, FIRST, TG_ENQUEUE_WAITING);
	release(&inn, inn.w[0]);
	served(&inn, f1, 1, inn.w[0]);
	release(&inn, inn.w[0]);
	close_inn(&inn);
}

/* Some come to the head, some leave: the list holds together. */
static void test_first_and_leave(void **state)
{
	(void)state;
	for (unsigned firsts = 0; firsts < 16; firsts++)
		for (unsigned leaves = 0; leaves < 16; leaves++) {
			struct inn inn;
			struct guest *line[4];
			open_inn(&inn, 1, 1, 8);
			fill(&inn);
			for (unsigned i = 0; i < 4; i++) {
				bool first = firsts >> i & 1;
				struct guest *g = come(&inn, NULL, NULL, first ? FIRST : 0, TG_ENQUEUE_WAITING);
				memmove(line + first, line, i * sizeof *line);
				line[first ? 0 : i] = g;
			}
			for (unsigned i = 0; i < 4; i++)
				if (leaves >> i & 1)
					assert_true(tg_queue_leave(&inn.g[i].w));
			unsigned at = 0;
			for (unsigned i = 0; i < 4; i++) {
				if (leaves >> (line[i] - inn.g) & 1)
					continue;
				release(&inn, inn.w[0]);
				served(&inn, line[i], ++at, inn.w[0]);
			}
			release(&inn, inn.w[0]);
			turn(&inn);
			assert_int_equal(inn.order, at);
			close_inn(&inn);
		}
}

/* At the head, and pinned: it holds up nobody either. */
static void test_first_and_pinned(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 2, 1, 8);
	fill(&inn);
	struct guest *any = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), *f = come(&inn, inn.w[0], NULL, FIRST, TG_ENQUEUE_WAITING);
	release(&inn, inn.w[1]);
	served(&inn, any, 1, inn.w[1]);
	still_waits(&inn, f);
	release(&inn, inn.w[0]);
	served(&inn, f, 2, inn.w[0]);
	release(&inn, inn.w[0]);
	release(&inn, inn.w[1]);
	close_inn(&inn);
}

/* ---- any but one ---- */

static void test_except(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 2, 1, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	struct guest *g = come(&inn, NULL, a, 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(g->w.worker, b);
	/* That one is busy: rather wait than go where it has just failed. */
	g = come(&inn, NULL, a, FIRST, TG_ENQUEUE_WAITING);
	tg_queue_pump(inn.m->queue);
	still_waits(&inn, g);
	assert_true(tg_worker_take(a, 1));
	release(&inn, a);
	still_waits(&inn, g);
	release(&inn, b);
	served(&inn, g, 1, b);
	/* It has been given up, while it waits: better that one than nobody. */
	g = come(&inn, NULL, a, 0, TG_ENQUEUE_WAITING);
	atomic_store(&b->state, TG_WORKER_FAILED);
	tg_queue_pump(inn.m->queue);
	served(&inn, g, 2, a);
	release(&inn, a);
	/* And when it comes. */
	g = come(&inn, NULL, a, 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(g->w.worker, a);
	release(&inn, a);
	/* It is on its way: it waits. */
	release(&inn, b);
	atomic_store(&b->state, TG_WORKER_STARTING);
	g = come(&inn, NULL, a, 0, TG_ENQUEUE_WAITING);
	atomic_store(&b->state, TG_WORKER_UP);
	tg_queue_pump(inn.m->queue);
	served(&inn, g, 3, b);
	release(&inn, b);
	/* It is down: a request may see whether it is back, but only one at a time; the next goes where there is somebody. */
	fixture_down(inn.m, b);
	struct guest *trial = come(&inn, NULL, a, 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(trial->w.worker, b);
	assert_true(trial->w.trial);
	g = come(&inn, NULL, a, 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(g->w.worker, a);
	assert_false(g->w.trial);
	release(&inn, a);
	fixture_done(inn.m, b, true);
	close_inn(&inn);
	/* There is no other. */
	open_inn(&inn, 1, 1, 8);
	g = come(&inn, NULL, inn.w[0], 0, TG_ENQUEUE_GOT);
	assert_ptr_equal(g->w.worker, inn.w[0]);
	g = come(&inn, NULL, inn.w[0], 0, TG_ENQUEUE_WAITING);
	release(&inn, inn.w[0]);
	served(&inn, g, 1, inn.w[0]);
	release(&inn, inn.w[0]);
	close_inn(&inn);
}

/* pool/model.h: "a free slot beats the order: who waits for one busy worker holds up nobody". */
static void test_except_holds_up_nobody(void **state)
{
	(void)state;
	struct inn inn;
	open_inn(&inn, 2, 1, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	fill(&inn);
	struct guest *g = come(&inn, NULL, a, FIRST, TG_ENQUEUE_WAITING), *any = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING);
	release(&inn, a);
	turn(&inn);
	unsigned in_time = any->times, idle = 1 - (unsigned)fixture_in_use(&inn.f, 0);
	still_waits(&inn, g);
	/* Tidy up, whatever came of it. */
	release(&inn, b);
	turn(&inn);
	if (!any->times) {
		tg_queue_pump(inn.m->queue);
		turn(&inn);
	}
	release(&inn, any->w.worker);
	release(&inn, g->w.worker);
	close_inn(&inn);
	/* A waiter that will not have the free one must not end the round for all behind it: a slot would lie idle while somebody waits. */
	assert_int_equal(in_time, 1);
	assert_int_equal(idle, 0);
}

/* ---- nobody left, and somebody on the way ---- */

static void test_all_have_failed(void **state)
{
	(void)state;
	struct inn inn;
	open_started(&inn, 2, 1, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	tg_health_ready(a, false, 1000);
	tg_health_ready(b, false, 1000);
	fill(&inn);
	struct guest *g[] = { come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), come(&inn, a, NULL, 0, TG_ENQUEUE_WAITING), come(&inn, NULL, b, 0, TG_ENQUEUE_WAITING),
		come(&inn, b, a, 0, TG_ENQUEUE_WAITING), come(&inn, NULL, NULL, FIRST, TG_ENQUEUE_WAITING) };
	enum { N = sizeof g / sizeof g[0] };
	tg_health_gone(a, true);
	tg_queue_pump(inn.m->queue); /* one is left, if busy */
	for (unsigned i = 0; i < N; i++)
		still_waits(&inn, g[i]);
	tg_health_gone(b, false); /* it is started again */
	tg_queue_pump(inn.m->queue);
	release(&inn, a);
	release(&inn, b);
	for (unsigned i = 0; i < N; i++)
		still_waits(&inn, g[i]);
	tg_health_gone(b, true);
	tg_queue_pump(inn.m->queue);
	for (unsigned i = 0; i < N; i++) {
		served(&inn, g[i], i == N - 1 ? 1 : i + 2, NULL); /* told in order, with nobody */
		assert_false(g[i]->w.trial);
	}
	assert_int_equal(tg_queue_length(inn.m->queue), 0);
	/* Who comes now need not wait. */
	come(&inn, NULL, NULL, 0, TG_ENQUEUE_DOWN);
	come(&inn, a, NULL, 0, TG_ENQUEUE_DOWN);
	come(&inn, NULL, a, FIRST, TG_ENQUEUE_DOWN);
	close_inn(&inn);
}

static void test_starting(void **state)
{
	(void)state;
	struct inn inn;
	open_started(&inn, 2, 2, 8);
	struct tg_worker *a = inn.w[0], *b = inn.w[1];
	struct guest *g[5];
	for (unsigned i = 0; i < 5; i++)
		g[i] = come(&inn, i == 1 ? b : NULL, i == 2 ? a : NULL, 0, TG_ENQUEUE_WAITING);
	tg_queue_pump(inn.m->queue);
	for (unsigned i = 0; i < 5; i++)
		still_waits(&inn, g[i]);
	/* One is ready, with two slots; the third rather waits for the other one, which is on its way. */
	tg_health_ready(a, false, 1000);
	tg_queue_pump(inn.m->queue);
	served(&inn, g[0], 1, a);
	served(&inn, g[1], 2, a); /* what it was pinned to has gone */
	tg_health_ready(b, false, 1000);
	tg_queue_pump(inn.m->queue);
	served(&inn, g[2], 3, b);
	served(&inn, g[3], 4, b);
	still_waits(&inn, g[4]);
	/* Doubted, and cleared: nothing happens in between, not even when a slot becomes free. */
	assert_true(tg_health_fault(inn.m, b, TG_FAULT_DROPPED, "a test", false, 1000));
	release(&inn, b);
	still_waits(&inn, g[4]);
	assert_true(tg_health_cleared(b));
	tg_queue_pump(inn.m->queue);
	served(&inn, g[4], 5, b);
	for (int i = 0; i < 2; i++) {
		release(&inn, a);
		release(&inn, b);
	}
	/* Given up instead of ready. */
	tg_health_gone(a, false);
	tg_health_gone(b, true);
	struct guest *last = come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING);
	tg_queue_pump(inn.m->queue);
	still_waits(&inn, last);
	tg_health_gone(a, true);
	tg_queue_pump(inn.m->queue);
	served(&inn, last, 6, NULL);
	close_inn(&inn);
}

/* Somebody tries whether the last one is back: who waits already may see how that ends. */
static void test_while_it_is_tried(void **state)
{
	(void)state;
	for (int ends_well = 0; ends_well < 2; ends_well++) {
		struct inn inn;
		open_inn(&inn, 1, 2, 8);
		struct tg_worker *a = inn.w[0];
		fill(&inn);
		struct guest *g[2] = { come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING), come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING) };
		fixture_down(inn.m, a);
		release(&inn, a); /* that slot goes to the first, as a trial */
		served(&inn, g[0], 1, a);
		assert_true(g[0]->w.trial);
		release(&inn, a); /* of before; free, and not for another */
		still_waits(&inn, g[1]);
		assert_true(tg_queue_leave(&come(&inn, NULL, NULL, 0, TG_ENQUEUE_WAITING)->w)); /* nor does one who comes now overtake it */
		if (ends_well) {
			assert_true(tg_health_good(a, true, 2000));
			tg_queue_pump(inn.m->queue); /* before its answer has ended */
			served(&inn, g[1], 2, a);
			assert_false(g[1]->w.trial);
		} else {
			assert_false(tg_health_fault(inn.m, a, TG_FAULT_UNREACHABLE, "a test", true, 2000));
		}
		release(&inn, a);
		served(&inn, g[1], 2, a);
		assert_int_equal(g[1]->w.trial, !ends_well);
		fixture_done(inn.m, a, !ends_well);
		close_inn(&inn);
	}
}

/* ---- three loops ---- */

enum { LOOPS = 3, CLIENTS = 8, ROUNDS = 800, WORKERS = 3, SLOTS = 2 };

struct hall;
struct client { /* touched by its loop only */
	struct tg_waiter w;
	struct tg_msg step;
	struct hall *hall;
	struct tg_loop *loop;
	unsigned rounds;
	uint32_t rng;
	unsigned pinned, excepted, waited;
	struct tg_worker *pin;
	const struct tg_worker *except;
	bool inside;
};
struct table {
	struct tg_loop loop;
	pthread_t thread;
	struct client c[CLIENTS];
	unsigned finished;
};
struct hall {
	struct fixture f;
	struct table t[LOOPS];
	_Atomic int inside[WORKERS];
	_Atomic unsigned wrong;
};

static void step(struct tg_loop *l, void *arg);

static void enter(struct client *c)
{
	struct tg_worker *w = c->w.worker;
	bool wrong = !w || c->w.trial || (c->pin && w != c->pin) || w == c->except || atomic_fetch_add(&c->hall->inside[w->index], 1) >= SLOTS;
	if (wrong)
		atomic_fetch_add(&c->hall->wrong, 1);
	c->inside = w != NULL;
	tg_loop_post(c->loop, &c->step, step, c);
}

static void granted(struct tg_loop *l, void *arg)
{
	struct client *c = (struct client *)((char *)arg - offsetof(struct client, w));
	(void)l;
	c->w.state = TG_WAIT_NONE;
	enter(c);
}

static void step(struct tg_loop *l, void *arg)
{
	struct client *c = arg;
	struct tg_model *m = c->hall->f.m;
	if (c->inside) {
		c->inside = false;
		atomic_fetch_sub(&c->hall->inside[c->w.worker->index], 1);
		tg_model_release(m, c->w.worker);
		struct table *t = l->user;
		if (++c->rounds == ROUNDS) {
			if (++t->finished == CLIENTS)
				tg_loop_stop(l);
			return;
		}
	}
	c->rng = c->rng * 1664525u + 1013904223u;
	unsigned r = c->rng >> 16;
	c->pin = r % 3 == 0 ? m->workers[r / 3 % WORKERS] : NULL;
	c->except = r % 3 == 1 ? m->workers[r / 3 % WORKERS] : NULL;
	c->w.pin = c->pin;
	c->w.except = c->except;
	c->w.first = r % 7 == 0;
	c->pinned += c->pin != NULL;
	c->excepted += c->except != NULL;
	switch (tg_queue_wait(m, &c->w)) {
	case TG_ENQUEUE_GOT: enter(c); break;
	case TG_ENQUEUE_WAITING: c->waited++; break;
	default: atomic_fetch_add(&c->hall->wrong, 1); tg_loop_post(l, &c->step, step, c);
	}
}

static void *run_table(void *arg)
{
	struct table *t = arg;
	for (unsigned k = 0; k < CLIENTS; k++)
		tg_loop_post(&t->loop, &t->c[k].step, step, &t->c[k]);
	tg_loop_run(&t->loop);
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	alarm(100); /* a lost wake-up leaves somebody waiting for ever */
	struct hall *h = calloc(1, sizeof *h);
	fixture_make(&h->f, WORKERS, SLOTS, 1000);
	for (unsigned i = 0; i < LOOPS; i++) {
		struct table *t = &h->t[i];
		assert_true(tg_loop_init(&t->loop, i));
		t->loop.user = t;
		for (unsigned k = 0; k < CLIENTS; k++)
			t->c[k] = (struct client){ .hall = h, .loop = &t->loop, .rng = i * 1000 + k, .w = { .loop = &t->loop, .granted = granted } };
	}
	for (unsigned i = 0; i < LOOPS; i++)
		assert_int_equal(pthread_create(&h->t[i].thread, NULL, run_table, &h->t[i]), 0);
	for (unsigned i = 0; i < LOOPS; i++)
		pthread_join(h->t[i].thread, NULL);
	alarm(0);
	unsigned pinned = 0, excepted = 0, waited = 0;
	for (unsigned i = 0; i < LOOPS; i++) {
		for (unsigned k = 0; k < CLIENTS; k++) {
			assert_int_equal(h->t[i].c[k].rounds, ROUNDS);
			pinned += h->t[i].c[k].pinned;
			excepted += h->t[i].c[k].excepted;
			waited += h->t[i].c[k].waited;
		}
		tg_loop_free(&h->t[i].loop);
	}
	print_message("pinned %u, with an exception %u, waited %u\n", pinned, excepted, waited);
	assert_int_equal(h->wrong, 0);
	assert_true(pinned > 0 && excepted > 0 && waited > 0); /* the test met what it is about */
	fixture_free(&h->f);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_pinned_hold_up_nobody), cmocka_unit_test(test_pinned_keep_their_place), cmocka_unit_test(test_pinned_while_others_are_free),
		cmocka_unit_test(test_pin_goes_down), cmocka_unit_test(test_first), cmocka_unit_test(test_first_and_leave), cmocka_unit_test(test_first_and_pinned),
		cmocka_unit_test(test_except), cmocka_unit_test(test_except_holds_up_nobody), cmocka_unit_test(test_all_have_failed), cmocka_unit_test(test_starting),
		cmocka_unit_test(test_while_it_is_tried), cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
