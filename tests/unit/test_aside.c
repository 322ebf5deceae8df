/* Work beside the loops: done and answered once, left in line and left under way, refused when the line is full, and all of it at the end. */
#include "gate/aside.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

#define MOST 2
#define MANY 40

struct work {
	struct tg_aside aside; /* first: callbacks cast */
	bool waits;            /* runs until it is over, or `go` */
};
static struct tg_loop loop;
static struct tg_gate_loop gl = { .loop = &loop };
static _Atomic unsigned ran, freed, running, most, saw_over;
static _Atomic bool go;
static unsigned answered;
static uv_timer_t limit;

static void run(struct tg_aside *a)
{
	unsigned now = atomic_fetch_add(&running, 1) + 1;
	for (unsigned m = atomic_load(&most); now > m && !atomic_compare_exchange_weak(&most, &m, now);)
		;
	while (((struct work *)a)->waits && !atomic_load(&go)) {
		if (tg_aside_over(a)) {
			atomic_fetch_add(&saw_over, 1);
			break;
		}
		uv_sleep(1);
	}
	atomic_fetch_sub(&running, 1);
	atomic_fetch_add(&ran, 1);
}

static enum tg_step answer(struct tg_aside *a, struct tg_exchange *x)
{
	(void)a;
	assert_null(x->parked);
	answered++;
	return TG_WAIT; /* something else would wait now: the corridor is not gone through here */
}

static void drop(struct tg_aside *a)
{
	atomic_fetch_add(&freed, 1);
	free(a);
}

static enum tg_step begin(struct tg_asides *all, struct tg_exchange *x, bool waits)
{
	struct work *w = calloc(1, sizeof *w);
	assert_non_null(w);
	*w = (struct work){ .aside = { .run = run, .answer = answer, .free = drop }, .waits = waits };
	*x = (struct tg_exchange){ .gl = &gl };
	return tg_aside_start(x, all, &w->aside);
}

static void leave(struct tg_exchange *x)
{
	if (x->parked)
		x->parked->left(x->parked);
	x->parked = NULL;
}

static void over(uv_timer_t *t)
{
	uv_stop(t->loop);
}

static void run_until(const _Atomic unsigned *what, unsigned n)
{
	for (unsigned i = 0; i < 2000 && atomic_load(what) < n; i++) {
		uv_timer_start(&limit, over, 1, 0);
		uv_run(&loop.uv, UV_RUN_DEFAULT);
	}
	assert_int_equal(atomic_load(what), n);
}

static struct tg_asides *fresh(void)
{
	struct tg_asides *all = tg_asides_new(MOST);
	assert_non_null(all);
	ran = freed = running = most = saw_over = 0;
	go = false;
	answered = 0;
	return all;
}

static void all_are_answered(void **state)
{
	(void)state;
	struct tg_asides *all = fresh();
	struct tg_exchange x[MANY];
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(begin(all, &x[i], true), TG_WAIT);
	go = true;
	run_until(&freed, MANY);
	assert_int_equal(answered, MANY);
	assert_true(atomic_load(&most) <= MOST);
	assert_true(tg_asides_free(all, 5000));
}

static void who_leaves(void **state)
{
	(void)state;
	struct tg_asides *all = fresh();
	struct tg_exchange x[6];
	for (unsigned i = 0; i < 6; i++)
		assert_int_equal(begin(all, &x[i], true), TG_WAIT);
	run_until(&running, MOST);
	leave(&x[5]); /* in line: the last, and one in the middle */
	leave(&x[3]);
	assert_int_equal(freed, 2);
	leave(&x[0]); /* under way: it hears of it, and the next begins */
	run_until(&saw_over, 1);
	struct tg_exchange one_more;
	assert_int_equal(begin(all, &one_more, true), TG_WAIT);
	go = true;
	run_until(&freed, 7);
	assert_int_equal(answered, 4);
	assert_int_equal(ran, 5);
	/* its answer is on the way already */
	assert_int_equal(begin(all, &x[0], false), TG_WAIT);
	for (unsigned i = 0; i < 2000 && atomic_load(&ran) < 6; i++)
		uv_sleep(1);
	leave(&x[0]);
	run_until(&freed, 8);
	assert_int_equal(answered, 4);
	assert_true(tg_asides_free(all, 5000));
}

static void the_end(void **state)
{
	(void)state;
	struct tg_asides *all = fresh();
	struct tg_exchange x[5];
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(begin(all, &x[i], true), TG_WAIT);
	run_until(&running, MOST);
	tg_asides_stop(all);
	leave(&x[4]);
	assert_false(tg_asides_free(all, 20)); /* not while somebody waits for what is under way */
	go = true;
	run_until(&freed, 5); /* who was in line is answered too */
	assert_int_equal(answered, 4);
	assert_int_equal(saw_over, 0);
	assert_true(tg_asides_free(all, 5000));
	tg_asides_stop(NULL);
	assert_true(tg_asides_free(NULL, 0));
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(all_are_answered), cmocka_unit_test(who_leaves), cmocka_unit_test(the_end) };
	assert_true(tg_loop_init(&loop, 0));
	uv_timer_init(&loop.uv, &limit);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	uv_close((uv_handle_t *)&limit, NULL);
	tg_loop_stop(&loop);
	tg_loop_run(&loop);
	tg_loop_free(&loop);
	return rc;
}
