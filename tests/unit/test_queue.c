/*
 * Waiting for a slot: served in the order of arrival, at most so many, each waiter ends exactly once (served, or left), and no slot lies idle while
 * somebody waits. First on one loop that the test turns by hand, then with four loops on threads of their own. Built with -fsanitize=thread too.
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

/* ---- one loop, by hand ---- */

struct guest {
	struct tg_waiter w;
	unsigned *order; /* counts the grants */
	unsigned at;     /* which of them was ours; 0: none yet */
	unsigned times;
};

static void seated(struct tg_loop *l, void *arg)
{
	struct guest *g = (struct guest *)((char *)arg - offsetof(struct guest, w));
	assert_ptr_equal(l, g->w.loop);
	assert_int_equal(g->w.state, TG_WAIT_GRANTED);
	assert_non_null(g->w.worker);
	g->w.state = TG_WAIT_NONE;
	g->at = ++*g->order;
	g->times++;
}

static void guest_make(struct guest *g, struct tg_loop *l, unsigned *order)
{
	*g = (struct guest){ .order = order, .w = { .loop = l, .granted = seated } };
}

static void turn(struct tg_loop *l)
{
	for (int i = 0; i < 3; i++)
		uv_run(&l->uv, UV_RUN_NOWAIT);
}

static void loop_end(struct tg_loop *l)
{
	tg_loop_stop(l);
	tg_loop_run(l);
	tg_loop_free(l);
}

static struct tg_worker *take(struct tg_model *m)
{
	struct tg_worker *w = NULL;
	bool trial;
	assert_int_equal(tg_model_pick(m, NULL, &w, &trial), TG_PICK_OK);
	return w;
}

static void test_order_and_bound(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest g[6];
	unsigned order = 0;
	fixture_make(&f, 1, 1, 5);
	assert_true(tg_loop_init(&l, 0));
	struct tg_worker *w = take(f.m);
	for (unsigned i = 0; i < 6; i++) {
		guest_make(&g[i], &l, &order);
		assert_int_equal(tg_queue_wait(f.m, &g[i].w), i < 5 ? TG_ENQUEUE_WAITING : TG_ENQUEUE_FULL);
		assert_int_equal(g[i].w.state, i < 5 ? TG_WAIT_QUEUED : TG_WAIT_NONE);
	}
	assert_int_equal(tg_queue_length(f.m->queue), 5);
	tg_queue_pump(f.m->queue); /* nothing is free: nothing happens */
	turn(&l);
	assert_int_equal(order, 0);
	for (unsigned i = 0; i < 5; i++) {
		tg_model_release(f.m, w);
		assert_int_equal(fixture_in_use(&f, 0), 1); /* handed over, not set free for a passer-by */
		assert_int_equal(g[i].w.state, TG_WAIT_GRANTED);
		assert_int_equal(g[i].times, 0); /* it learns of it in its own loop */
		turn(&l);
		assert_int_equal(g[i].at, i + 1);
		assert_ptr_equal(g[i].w.worker, w);
		assert_int_equal(tg_queue_length(f.m->queue), 4 - i);
	}
	tg_model_release(f.m, w);
	turn(&l);
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(g[i].times, 1);
	fixture_free(&f);
	loop_end(&l);
}

static void test_leave(void **state)
{
	(void)state;
	/* Who leaves, as a mask of five, the first being bit 0: the others are served in their order. */
	for (unsigned mask = 0; mask < 32; mask++) {
		struct fixture f;
		struct tg_loop l;
		struct guest g[5];
		unsigned order = 0, stay = 0;
		fixture_make(&f, 1, 1, 5);
		assert_true(tg_loop_init(&l, 0));
		struct tg_worker *w = take(f.m);
		for (unsigned i = 0; i < 5; i++) {
			guest_make(&g[i], &l, &order);
			assert_int_equal(tg_queue_wait(f.m, &g[i].w), TG_ENQUEUE_WAITING);
		}
		for (unsigned i = 0; i < 5; i++)
			if (mask >> i & 1) {
				assert_true(tg_queue_leave(&g[i].w));
				assert_int_equal(g[i].w.state, TG_WAIT_NONE);
				assert_false(tg_queue_leave(&g[i].w));
			} else {
				stay++;
			}
		assert_int_equal(tg_queue_length(f.m->queue), stay);
		for (unsigned i = 0; i <= stay; i++) {
			tg_model_release(f.m, w);
			turn(&l);
		}
		assert_int_equal(order, stay);
		for (unsigned i = 0, at = 0; i < 5; i++) {
			assert_int_equal(g[i].times, !(mask >> i & 1));
			assert_int_equal(g[i].at, mask >> i & 1 ? 0 : ++at);
		}
		/* The places are free again. */
		w = take(f.m);
		assert_int_equal(tg_queue_wait(f.m, &g[0].w), TG_ENQUEUE_WAITING);
		assert_true(tg_queue_leave(&g[0].w));
		tg_model_release(f.m, w);
		fixture_free(&f);
		loop_end(&l);
	}
}

static void test_grant_in_flight(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest g;
	unsigned order = 0;
	fixture_make(&f, 1, 1, 5);
	assert_true(tg_loop_init(&l, 0));
	struct tg_worker *w = take(f.m);
	guest_make(&g, &l, &order);
	assert_int_equal(tg_queue_wait(f.m, &g.w), TG_ENQUEUE_WAITING);
	tg_model_release(f.m, w);
	assert_false(tg_queue_leave(&g.w)); /* too late: the slot is ours, and we shall be told */
	assert_int_equal(fixture_in_use(&f, 0), 1);
	tg_queue_pump(f.m->queue);
	turn(&l);
	assert_int_equal(g.times, 1);
	tg_model_release(f.m, w);
	turn(&l);
	assert_int_equal(g.times, 1);
	fixture_free(&f);
	loop_end(&l);
}

static void test_got_and_down(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest g, h;
	unsigned order = 0;
	fixture_make(&f, 2, 1, 5);
	assert_true(tg_loop_init(&l, 0));
	guest_make(&g, &l, &order);
	guest_make(&h, &l, &order);
	/* A slot came back between the look and the queue. */
	assert_int_equal(tg_queue_wait(f.m, &g.w), TG_ENQUEUE_GOT);
	assert_int_equal(g.w.state, TG_WAIT_NONE);
	assert_false(g.w.trial);
	assert_int_equal(tg_queue_length(f.m->queue), 0);
	tg_model_release(f.m, g.w.worker);
	/* All down: the first gets the trial of one, the second of the other, the third is told. */
	fixture_down(f.m, f.m->workers[0]);
	fixture_down(f.m, f.m->workers[1]);
	assert_int_equal(tg_queue_wait(f.m, &g.w), TG_ENQUEUE_GOT);
	assert_true(g.w.trial);
	assert_int_equal(tg_queue_wait(f.m, &h.w), TG_ENQUEUE_GOT);
	assert_true(h.w.trial);
	struct guest third;
	guest_make(&third, &l, &order);
	assert_int_equal(tg_queue_wait(f.m, &third.w), TG_ENQUEUE_DOWN);
	assert_int_equal(third.w.state, TG_WAIT_NONE);
	assert_int_equal(tg_queue_length(f.m->queue), 0);
	fixture_done(f.m, g.w.worker, true);
	fixture_done(f.m, h.w.worker, true);
	fixture_free(&f);
	loop_end(&l);
}

static void test_pump(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest g[4];
	unsigned order = 0;
	fixture_make(&f, 2, 2, 8);
	assert_true(tg_loop_init(&l, 0));
	struct tg_worker **w = f.m->workers;
	fixture_down(f.m, w[1]);
	assert_ptr_equal(take(f.m), w[0]);
	assert_ptr_equal(take(f.m), w[0]);
	for (unsigned i = 0; i < 4; i++) {
		guest_make(&g[i], &l, &order);
		assert_int_equal(tg_queue_wait(f.m, &g[i].w), TG_ENQUEUE_WAITING);
	}
	fixture_up(w[1]); /* a worker comes up with two slots: two are served at once */
	tg_queue_pump(f.m->queue);
	turn(&l);
	assert_int_equal(order, 2);
	assert_ptr_equal(g[0].w.worker, w[1]);
	assert_ptr_equal(g[1].w.worker, w[1]);
	/* The worker dies with its last request: who waits is given the trial, one at a time. */
	fixture_down(f.m, w[1]);
	fixture_down(f.m, w[0]);
	tg_model_release(f.m, w[0]);
	turn(&l);
	assert_int_equal(g[2].times, 1);
	assert_true(g[2].w.trial);
	assert_int_equal(g[3].times, 0);
	tg_model_release(f.m, w[0]); /* a free slot, but a trial is on its way there: the other one has no slot */
	turn(&l);
	assert_int_equal(g[3].times, 0);
	fixture_done(f.m, g[2].w.worker, true);
	turn(&l);
	assert_int_equal(g[3].times, 1);
	assert_true(g[3].w.trial);
	fixture_done(f.m, g[3].w.worker, true);
	tg_model_release(f.m, w[1]);
	tg_model_release(f.m, w[1]);
	fixture_free(&f);
	loop_end(&l);
}

/* A reload: the queue stays, requests of the old configuration wait beside those of the new. Neither holds up the other. */
static void test_two_configurations(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest old[2], young[3];
	unsigned order = 0;
	struct tg_err err;
	fixture_make(&f, 1, 1, 8);
	assert_true(tg_loop_init(&l, 0));
	struct tg_worker *w = take(f.m);
	for (unsigned i = 0; i < 2; i++) {
		guest_make(&old[i], &l, &order);
		assert_int_equal(tg_queue_wait(f.m, &old[i].w), TG_ENQUEUE_WAITING);
	}
	struct tg_config *c = tg_config_defaults();
	struct tg_models ms;
	assert_true(tg_config_add_model(c, "m", "http://127.0.0.1:7100", TG_PROTO_OPENAI, &err));
	c->models[0].slots = 1;
	c->models[0].queue = 8;
	assert_true(tg_models_build(&ms, c, &f.models, 1, &err));
	struct tg_model *m = &ms.v[0];
	assert_ptr_equal(m->queue, f.m->queue);
	assert_ptr_not_equal(m->workers[0], w);

	for (unsigned i = 0; i < 3; i++)
		guest_make(&young[i], &l, &order);
	struct tg_worker *new_w = take(m);
	assert_int_equal(tg_queue_wait(m, &young[0].w), TG_ENQUEUE_WAITING);
	assert_int_equal(tg_queue_wait(m, &young[1].w), TG_ENQUEUE_WAITING);
	tg_model_release(m, new_w);
	turn(&l);
	assert_int_equal(young[0].times, 1); /* past those whose worker is busy */
	assert_int_equal(young[1].times, 0);
	assert_int_equal(old[0].times, 0);
	tg_model_release(f.m, w);
	turn(&l);
	assert_int_equal(old[0].times, 1);
	assert_int_equal(old[1].times, 0);
	assert_int_equal(young[1].times, 0);
	tg_model_release(m, new_w);
	turn(&l);
	assert_int_equal(young[1].times, 1);
	tg_model_release(m, new_w);
	assert_int_equal(tg_queue_length(m->queue), 1); /* of the old */
	assert_int_equal(tg_queue_wait(m, &young[2].w), TG_ENQUEUE_GOT); /* the new worker is free: it does not wait behind him */
	assert_ptr_equal(young[2].w.worker, new_w);
	tg_model_release(m, new_w);
	assert_true(tg_queue_leave(&old[1].w));
	tg_model_release(f.m, w);
	assert_int_equal(fixture_in_use(&f, 0), 0);
	assert_int_equal(atomic_load(&m->workers[0]->in_use), 0);
	tg_models_free(&ms);
	tg_config_free(c);
	fixture_free(&f);
	loop_end(&l);
}

/* A reload that gives the same worker more slots: who waited before goes first all the same. */
static void test_same_worker_more_slots(void **state)
{
	(void)state;
	struct fixture f;
	struct tg_loop l;
	struct guest old[2], young[3];
	unsigned order = 0;
	struct tg_err err;
	fixture_make(&f, 1, 1, 8);
	assert_true(tg_loop_init(&l, 0));
	struct tg_worker *w = take(f.m);
	for (unsigned i = 0; i < 2; i++) {
		guest_make(&old[i], &l, &order);
		assert_int_equal(tg_queue_wait(f.m, &old[i].w), TG_ENQUEUE_WAITING);
	}
	struct tg_config *c = tg_config_defaults();
	struct tg_models ms;
	assert_true(tg_config_add_model(c, "m", "http://127.0.0.1:7000", TG_PROTO_OPENAI, &err));
	c->models[0].slots = 3;
	c->models[0].queue = 8;
	assert_true(tg_models_build(&ms, c, &f.models, 1, &err));
	struct tg_model *m = &ms.v[0];
	assert_ptr_equal(m->workers[0], w);
	for (unsigned i = 0; i < 3; i++) {
		guest_make(&young[i], &l, &order);
		assert_int_equal(tg_queue_wait(m, &young[i].w), TG_ENQUEUE_WAITING);
	}
	tg_queue_pump(m->queue);
	turn(&l);
	assert_int_equal(order, 0);
	tg_model_release(f.m, w);
	turn(&l);
	assert_int_equal(old[0].at, 1);
	assert_int_equal(order, 1);
	tg_model_release(f.m, w); /* the last of the old, and nobody is in the way of the new any more */
	turn(&l);
	assert_int_equal(old[1].at, 2);
	assert_int_equal(young[0].at, 3);
	assert_int_equal(young[1].at, 4);
	assert_int_equal(order, 4);
	assert_int_equal(fixture_in_use(&f, 0), 3);
	for (int i = 0; i < 3; i++)
		tg_model_release(m, w);
	turn(&l);
	assert_int_equal(young[2].at, 5);
	tg_model_release(m, w);
	tg_models_free(&ms);
	tg_config_free(c);
	fixture_free(&f);
	loop_end(&l);
}

/* ---- four loops ---- */

enum { LOOPS = 4, CLIENTS = 12, ROUNDS = 1500, WORKERS = 2, SLOTS = 3, QUEUE = 30 };

struct hall;
enum where { AWAY, WAITING, LEAVING, INSIDE };
struct client { /* touched by its loop only */
	struct tg_waiter w;
	struct tg_msg step;
	bool stepping; /* the message is on its way */
	struct table *table;
	enum where where;
	struct tg_worker *worker;
	bool trial;
	unsigned rounds, served, left, late, refused;
	uint32_t rng;
};
struct table { /* one loop with its clients */
	struct tg_loop loop;
	struct hall *hall;
	struct client c[CLIENTS];
	unsigned finished;
	pthread_t thread;
};
struct hall {
	struct fixture f;
	struct table t[LOOPS];
	_Atomic int inside[WORKERS];
	_Atomic unsigned wrong;
};

static void step(struct tg_loop *l, void *arg);

static void step_later(struct client *c)
{
	if (!c->stepping) {
		c->stepping = true;
		tg_loop_post(&c->table->loop, &c->step, step, c);
	}
}

static void enter(struct client *c, struct tg_worker *w, bool trial)
{
	struct hall *h = c->table->hall;
	c->where = INSIDE;
	c->worker = w;
	c->trial = trial;
	if (atomic_fetch_add(&h->inside[w->index], 1) >= SLOTS || trial)
		atomic_fetch_add(&h->wrong, 1);
	step_later(c);
}

static void give_back(struct client *c)
{
	struct hall *h = c->table->hall;
	atomic_fetch_sub(&h->inside[c->worker->index], 1);
	tg_model_release(h->f.m, c->worker);
	c->worker = NULL;
}

static void round_over(struct client *c)
{
	c->where = AWAY;
	if (++c->rounds < ROUNDS)
		step_later(c);
	else if (++c->table->finished == CLIENTS)
		tg_loop_stop(&c->table->loop);
}

static void on_grant(struct tg_loop *l, void *arg)
{
	struct client *c = (struct client *)((char *)arg - offsetof(struct client, w));
	struct hall *h = c->table->hall;
	if (l != &c->table->loop || c->w.state != TG_WAIT_GRANTED || (c->where != WAITING && c->where != LEAVING))
		atomic_fetch_add(&h->wrong, 1);
	c->w.state = TG_WAIT_NONE;
	bool leaving = c->where == LEAVING;
	enter(c, c->w.worker, c->w.trial);
	if (leaving)
		c->late++;
}

/* What the corridor does with a request: look, queue, leave at some moment or be served, give back. */
static void step(struct tg_loop *l, void *arg)
{
	struct client *c = arg;
	struct hall *h = c->table->hall;
	struct tg_model *m = h->f.m;
	(void)l;
	c->stepping = false;
	c->rng = c->rng * 1664525u + 1013904223u;
	switch (c->where) {
	case INSIDE:
		give_back(c);
		c->served++;
		round_over(c);
		return;
	case WAITING: /* the client leaves, or its time is up; the state is read as the gate reads it: without the lock */
		if (c->w.state == TG_WAIT_NONE)
			atomic_fetch_add(&h->wrong, 1);
		if (tg_queue_leave(&c->w)) {
			c->left++;
			round_over(c);
		} else {
			c->where = LEAVING;
		}
		return;
	case LEAVING:
		atomic_fetch_add(&h->wrong, 1);
		return;
	case AWAY:
		break;
	}
	struct tg_worker *w = NULL;
	bool trial = false;
	if (!tg_queue_length(m->queue) && tg_model_pick(m, NULL, &w, &trial) == TG_PICK_OK) {
		enter(c, w, trial);
		return;
	}
	switch (tg_queue_wait(m, &c->w)) {
	case TG_ENQUEUE_GOT:
		enter(c, c->w.worker, c->w.trial);
		break;
	case TG_ENQUEUE_WAITING:
		c->where = WAITING;
		if ((c->rng >> 16) % 4 == 0)
			step_later(c);
		break;
	case TG_ENQUEUE_FULL:
		c->refused++;
		round_over(c);
		break;
	case TG_ENQUEUE_DOWN:
		atomic_fetch_add(&h->wrong, 1);
		round_over(c);
	}
}

static void *run_table(void *arg)
{
	struct table *t = arg;
	for (int i = 0; i < CLIENTS; i++)
		step_later(&t->c[i]);
	tg_loop_run(&t->loop);
	return NULL;
}

static void test_threads(void **state)
{
	(void)state;
	alarm(200); /* a lost wake-up leaves somebody waiting for ever */
	struct hall *h = calloc(1, sizeof *h);
	fixture_make(&h->f, WORKERS, SLOTS, QUEUE);
	for (unsigned i = 0; i < LOOPS; i++) {
		struct table *t = &h->t[i];
		t->hall = h;
		assert_true(tg_loop_init(&t->loop, i));
		for (unsigned k = 0; k < CLIENTS; k++)
			t->c[k] = (struct client){ .table = t, .rng = i * 1000 + k, .w = { .loop = &t->loop, .granted = on_grant } };
	}
	for (unsigned i = 0; i < LOOPS; i++)
		assert_int_equal(pthread_create(&h->t[i].thread, NULL, run_table, &h->t[i]), 0);
	for (unsigned i = 0; i < LOOPS; i++)
		pthread_join(h->t[i].thread, NULL);
	alarm(0);
	unsigned served = 0, left = 0, late = 0, refused = 0;
	for (unsigned i = 0; i < LOOPS; i++) {
		for (unsigned k = 0; k < CLIENTS; k++) {
			struct client *c = &h->t[i].c[k];
			assert_int_equal(c->rounds, ROUNDS);
			assert_int_equal(c->served + c->left + c->refused, ROUNDS);
			served += c->served;
			left += c->left;
			late += c->late;
			refused += c->refused;
		}
		tg_loop_free(&h->t[i].loop);
	}
	print_message("served %u, left %u, granted while leaving %u, refused %u\n", served, left, late, refused);
	assert_int_equal(h->wrong, 0);
	assert_true(served > 0 && left > 0 && refused > 0); /* the test met what it is about */
	fixture_free(&h->f);
	free(h);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_order_and_bound), cmocka_unit_test(test_leave), cmocka_unit_test(test_grant_in_flight),
		cmocka_unit_test(test_got_and_down), cmocka_unit_test(test_pump), cmocka_unit_test(test_two_configurations),
		cmocka_unit_test(test_same_worker_more_slots), cmocka_unit_test(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
