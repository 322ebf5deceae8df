/*
 * The timer wheel against the clock: nothing fires early, nothing later than the tick after its due time, each exactly once, however it was moved and
 * whatever the firing itself does to the wheel.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "net/wheel.h"

enum { T = TG_TICK_MS, TURN = TG_TICK_MS * TG_WHEEL_SLOTS, MANY = 200 };

static struct tg_wheel wheel;
static uint64_t now;
static unsigned armed;

static void on_armed(struct tg_wheel *w)
{
	assert_ptr_equal(w, &wheel);
	assert_int_equal(w->linked, 0);
	armed++;
}

struct alarm {
	struct tg_timer t;
	uint64_t due, at; /* at: when it fired last */
	unsigned times;
	void (*then)(struct alarm *a);
	struct alarm *other;
};

static void fire(struct tg_timer *t)
{
	struct alarm *a = (struct alarm *)t;
	assert_true(a->due && now >= a->due);
	assert_null(t->pprev);
	a->at = now;
	a->times++;
	a->due = 0;
	if (a->then)
		a->then(a);
}

static void start(uint64_t at)
{
	now = at;
	armed = 0;
	tg_wheel_init(&wheel, now, on_armed);
}

static void set(struct alarm *a, uint64_t due)
{
	a->t.fire = fire;
	a->due = due;
	tg_timer_set(&wheel, &a->t, due);
}

static bool run_at(uint64_t at)
{
	now = at;
	return tg_wheel_run(&wheel, now);
}

/* As the loop's ticker does it: every tick, a little late. */
static void run_until(uint64_t end, uint64_t jitter)
{
	while (now + T <= end)
		run_at((now / T + 1) * T + jitter);
}

static void test_when(void **state)
{
	(void)state;
	static const uint64_t after[] = { 0, 1, 49, 50, 51, 99, 100, 101, 1000, 30000, TURN - T, TURN - 1, TURN, TURN + 1, TURN + T, 3 * TURN + 7, 1800000 };
	for (uint64_t phase = 0; phase < T; phase += 7)
		for (unsigned i = 0; i < sizeof after / sizeof after[0]; i++) {
			struct alarm a = { 0 };
			start(1000000 + phase);
			uint64_t due = now + after[i];
			set(&a, due);
			assert_int_equal(armed, 1);
			run_until(due + 3 * T, 0);
			assert_int_equal(a.times, 1);
			assert_in_range(a.at, due, due + T);
			assert_int_equal(wheel.linked, 0);
			assert_false(tg_wheel_run(&wheel, now)); /* nothing linked: the ticker may stop */
		}
}

static void test_past_and_backwards(void **state)
{
	(void)state;
	struct alarm a = { 0 };
	start(500000);
	set(&a, 1); /* long ago: with the next tick */
	assert_true(run_at(500000));
	assert_int_equal(a.times, 0);
	run_at(500050);
	assert_int_equal(a.times, 1);
	set(&a, 500200);
	assert_true(run_at(400000)); /* a clock reading that lags does nothing */
	assert_int_equal(wheel.tick, 500050 / T);
	run_at(500200);
	assert_int_equal(a.times, 2);
}

static void test_moves(void **state)
{
	(void)state;
	struct alarm a = { 0 };
	start(1000000);
	/* Later, again and again, as every read moves the idle clock: it stays where it is linked. */
	set(&a, now + 500);
	uint64_t tick = a.t.tick;
	for (int i = 0; i < 400; i++) {
		run_at(now + T);
		set(&a, now + 500);
		assert_int_equal(wheel.linked, 1);
		assert_int_equal(a.times, 0);
		if (i < 8)
			assert_int_equal(a.t.tick, tick);
	}
	uint64_t due = now + 500;
	run_until(due + 2 * T, 0);
	assert_int_equal(a.times, 1);
	assert_in_range(a.at, due, due + T);
	/* Earlier, down to the same tick, from near and from beyond a turn. */
	static const uint64_t from[] = { 101, 120, 149, 150, 151, 500, TURN, 5 * TURN }, to[] = { 1, 50, 51, 99, 100 };
	for (unsigned i = 0; i < sizeof from / sizeof from[0]; i++)
		for (unsigned k = 0; k < sizeof to / sizeof to[0]; k++) {
			struct alarm b = { 0 };
			start(2000000 + i * 3);
			uint64_t base = now;
			set(&b, base + from[i]);
			set(&b, base + to[k]);
			assert_int_equal(wheel.linked, 1);
			run_until(base + to[k] + 3 * T, 0);
			assert_int_equal(b.times, 1);
			assert_in_range(b.at, base + to[k], base + to[k] + T);
		}
	/* Stopped while linked, then started again. */
	start(3000000);
	set(&a, now + 100);
	tg_timer_stop(&a.t);
	a.due = 0;
	run_until(now + 1000, 0);
	assert_int_equal(a.times, 1);
	assert_int_equal(wheel.linked, 0);
	set(&a, now + 100);
	tg_timer_stop(&a.t);
	set(&a, now + 200);
	assert_int_equal(wheel.linked, 1);
	due = a.due;
	run_until(now + 1000, 0);
	assert_int_equal(a.times, 2);
	assert_in_range(a.at, due, due + T);
	assert_int_equal(armed, 2);
}

static void cancel_other(struct alarm *a)
{
	tg_timer_cancel(&wheel, &a->other->t);
	a->other->due = 0;
	a->other->t.fire = NULL; /* as if it were freed */
}

static void cancel_self(struct alarm *a)
{
	tg_timer_cancel(&wheel, &a->t);
}

static void other_to_later(struct alarm *a)
{
	if (a->other->due)
		set(a->other, now + 300);
}

static void other_to_past(struct alarm *a)
{
	if (a->other->due)
		set(a->other, now - 2 * T);
}

static void again_soon(struct alarm *a)
{
	if (a->times < 5)
		set(a, now + T);
}

static void again_at_once(struct alarm *a)
{
	if (a->times < 5)
		set(a, now);
}

static void again_in_a_turn(struct alarm *a)
{
	if (a->times < 3)
		set(a, now + TURN);
}

static void test_inside_fire(void **state)
{
	(void)state;
	/* Two in one slot, each in front of the other once: whichever fires first does it to the other. */
	for (int swap = 0; swap < 2; swap++) {
		struct alarm a[2] = { { .then = cancel_other, .other = &a[1] }, { .then = cancel_other, .other = &a[0] } };
		start(1000000);
		set(&a[swap], now + 100);
		set(&a[!swap], now + 100);
		run_until(now + 1000, 0);
		assert_int_equal(a[0].times + a[1].times, 1);
		assert_int_equal(wheel.linked, 0);

		a[0] = (struct alarm){ .then = other_to_later, .other = &a[1] };
		a[1] = (struct alarm){ .then = other_to_later, .other = &a[0] };
		uint64_t base = now;
		set(&a[swap], base + 100);
		set(&a[!swap], base + 100);
		run_until(base + 1000, 0);
		unsigned second = a[0].at > a[1].at ? 0 : 1;
		assert_int_equal(a[0].times, 1);
		assert_int_equal(a[1].times, 1);
		assert_in_range(a[second].at, a[!second].at + 300, a[!second].at + 300 + T);

		a[0] = (struct alarm){ .then = other_to_past, .other = &a[1] };
		a[1] = (struct alarm){ .then = other_to_past, .other = &a[0] };
		base = now;
		set(&a[swap], base + 100);
		set(&a[!swap], base + 100);
		run_until(base + 1000, 0);
		assert_int_equal(a[0].times, 1);
		assert_int_equal(a[1].times, 1);
		assert_in_range(a[0].at, base + 100, base + 100 + 2 * T);
		assert_in_range(a[1].at, base + 100, base + 100 + 2 * T);
	}
	struct alarm c = { .then = cancel_self }, soon = { .then = again_soon }, once = { .then = again_at_once }, turns = { .then = again_in_a_turn };
	start(1000000);
	uint64_t base = now;
	set(&c, base + 100);
	set(&soon, base + 100);
	set(&once, base + 100);
	set(&turns, base + 100);
	run_at(base + 100);
	assert_int_equal(c.times, 1);
	assert_int_equal(soon.times, 1); /* set again while its slot is walked: not met twice */
	assert_int_equal(once.times, 1);
	run_until(base + 100 + 4 * T, 0);
	assert_int_equal(soon.times, 5);
	assert_int_equal(once.times, 5);
	run_until(base + 100 + 2 * TURN + 2 * T, 0);
	assert_int_equal(turns.times, 3);
	assert_int_equal(wheel.linked, 0);
}

static void test_cancel(void **state)
{
	(void)state;
	struct alarm a[5] = { { .times = 0 } };
	/* Front, middle and end of one slot's list. */
	for (unsigned k = 0; k < 5; k++) {
		start(1000000);
		for (unsigned i = 0; i < 5; i++)
			set(&a[i], now + 100);
		tg_timer_cancel(&wheel, &a[k].t);
		tg_timer_cancel(&wheel, &a[k].t);
		a[k].due = 0;
		assert_int_equal(wheel.linked, 4);
		unsigned before = a[k].times;
		run_until(now + 300, 0);
		assert_int_equal(a[k].times, before);
		assert_int_equal(wheel.linked, 0);
	}
	for (unsigned i = 0; i < 5; i++)
		assert_int_equal(a[i].times, 4);
	/* The first after an empty wheel calls for the ticker, and only the first. */
	start(1000000);
	set(&a[0], now + 100);
	set(&a[1], now + 100);
	tg_timer_cancel(&wheel, &a[0].t);
	tg_timer_cancel(&wheel, &a[1].t);
	set(&a[0], now + 100);
	assert_int_equal(armed, 2);
	tg_timer_cancel(&wheel, &a[0].t);
}

/* The process was stopped, or the machine slept: one look after a jump finds all that is due, and leaves the rest alone. */
static void test_jump(void **state)
{
	(void)state;
	static const uint64_t jumps[] = { 60, 1000, TURN - T, TURN, TURN + T, TURN + 2 * T, 3 * TURN + 333, 20 * (uint64_t)TURN, 86400000 };
	static struct alarm a[MANY];
	for (unsigned j = 0; j < sizeof jumps / sizeof jumps[0]; j++) {
		start(1000000 + j);
		uint64_t base = now;
		for (unsigned i = 0; i < MANY; i++) {
			a[i] = (struct alarm){ 0 };
			set(&a[i], base + 1 + i * (4 * (uint64_t)TURN / MANY) + i % T);
		}
		run_at(base + jumps[j]);
		for (unsigned i = 0; i < MANY; i++) {
			uint64_t due = base + 1 + i * (4 * (uint64_t)TURN / MANY) + i % T;
			if (due + T <= now)
				assert_int_equal(a[i].times, 1);
			else if (due > now)
				assert_int_equal(a[i].times, 0);
		}
		run_until(now + 5 * TURN, 3);
		for (unsigned i = 0; i < MANY; i++) {
			uint64_t due = base + 1 + i * (4 * (uint64_t)TURN / MANY) + i % T;
			assert_int_equal(a[i].times, 1);
			if (due > base + jumps[j])
				assert_in_range(a[i].at, due, due + T + 3);
		}
		assert_int_equal(wheel.linked, 0);
	}
}

/* Whatever mix of moves, stops, cancels and pauses: against a plain list of due times. */
static void test_random(void **state)
{
	(void)state;
	static struct alarm a[MANY];
	uint64_t rng = 88172645463325252u;
	start(7777777);
	for (unsigned i = 0; i < MANY; i++)
		a[i] = (struct alarm){ 0 };
	for (unsigned round = 0; round < 40000; round++) {
		rng ^= rng << 13;
		rng ^= rng >> 7;
		rng ^= rng << 17;
		struct alarm *x = &a[rng % MANY];
		static const uint64_t range[] = { 100, 1000, 60000, 300000 };
		switch ((rng >> 20) % 8) {
		case 0:
			tg_timer_stop(&x->t);
			x->due = 0;
			break;
		case 1:
			tg_timer_cancel(&wheel, &x->t);
			x->due = 0;
			break;
		case 2:
			run_at(now + (rng >> 30) % ((rng >> 50) % 64 == 0 ? 200000 : 2 * T));
			for (unsigned i = 0; i < MANY; i++)
				if (a[i].due && a[i].due / T + 1 <= now / T)
					fail_msg("due at %llu, now %llu", (unsigned long long)a[i].due, (unsigned long long)now);
			break;
		default:
			set(x, now + 1 + (rng >> 30) % range[(rng >> 24) % 4]);
		}
		unsigned live = 0, linked = 0;
		for (unsigned i = 0; round % 64 == 0 && i < MANY; i++) {
			live += a[i].due != 0;
			linked += a[i].t.pprev != NULL;
			assert_true(!a[i].due || a[i].t.pprev); /* nothing that is set is forgotten */
		}
		if (round % 64 == 0) {
			assert_int_equal(linked, wheel.linked);
			assert_true(linked >= live);
		}
	}
	run_until(now + 400000, 0);
	for (unsigned i = 0; i < MANY; i++)
		assert_int_equal(a[i].due, 0);
	assert_int_equal(wheel.linked, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_when), cmocka_unit_test(test_past_and_backwards), cmocka_unit_test(test_moves), cmocka_unit_test(test_inside_fire),
		cmocka_unit_test(test_cancel), cmocka_unit_test(test_jump), cmocka_unit_test(test_random),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
