/* Exchanges that wait for a job: told from another thread, told before they came, out of time, and gone meanwhile. Each is answered once, or not at all, and nothing is left. */
#include "jobs/wait.h"
#include <setjmp.h>
#include <stdarg.h>
#include <cmocka.h>

static struct tg_loop loop;
static struct tg_gate_loop gl = { .loop = &loop };
static struct tg_waits waits;
static unsigned answered, ended, left;
static uv_timer_t limit;

static enum tg_step answer(struct tg_exchange *x, const char *id, unsigned left_ms)
{
	assert_null(x->parked);
	assert_int_equal(strlen(id), TG_ULID_LEN);
	answered++;
	ended += !left_ms;
	left = left_ms;
	return TG_WAIT; /* a job of its own would follow: the corridor is not gone through here */
}

static void id_of(unsigned n, char id[TG_ULID_LEN + 1])
{
	snprintf(id, TG_ULID_LEN + 1, "01K7CXYHJ7BR4E87VVTG8%05u", n);
}

static void begin(struct tg_exchange *x, unsigned job, unsigned ms)
{
	char id[TG_ULID_LEN + 1];
	id_of(job, id);
	*x = (struct tg_exchange){ .gl = &gl };
	assert_int_equal(tg_job_wait(x, &waits, id, ms, answer), TG_WAIT);
	assert_non_null(x->parked);
}

static void leave(struct tg_exchange *x)
{
	tg_timer_cancel(&loop.wheel, &x->timer);
	if (x->parked)
		x->parked->left(x->parked);
	x->parked = NULL;
}

static void tell(void *arg)
{
	char id[TG_ULID_LEN + 1];
	id_of(*(unsigned *)arg, id);
	tg_waits_ended(&waits, id);
}

static void over(uv_timer_t *t)
{
	uv_stop(t->loop);
}

static void run_ms(unsigned ms)
{
	uv_timer_start(&limit, over, ms, 0);
	uv_run(&loop.uv, UV_RUN_DEFAULT);
}

static void told(void **state)
{
	(void)state;
	struct tg_exchange x, other;
	unsigned job = 1;
	uv_thread_t t;
	answered = ended = 0;
	begin(&x, 1, 60000);
	begin(&other, 2, 60000);
	assert_int_equal(uv_thread_create(&t, tell, &job), 0);
	uv_thread_join(&t);
	run_ms(50);
	assert_int_equal(answered, 1);
	assert_int_equal(ended, 1);
	assert_non_null(other.parked);
	leave(&x);
	leave(&other);
	/* It had ended before anybody asked. */
	begin(&x, 1, 60000);
	run_ms(50);
	assert_int_equal(ended, 2);
	leave(&x);
}

static void out_of_time(void **state)
{
	(void)state;
	struct tg_exchange x;
	unsigned job = 3;
	answered = ended = 0;
	begin(&x, 3, 60);
	run_ms(400);
	assert_int_equal(answered, 1);
	assert_int_equal(left, 0);
	tell(&job); /* finds nobody */
	run_ms(50);
	assert_int_equal(answered, 1);
	leave(&x);
}

static void gone(void **state)
{
	(void)state;
	struct tg_exchange x;
	unsigned job = 4;
	answered = 0;
	begin(&x, 4, 60000);
	leave(&x); /* while it waits */
	begin(&x, 4, 60000);
	tell(&job);
	leave(&x); /* while its message is on the way */
	run_ms(50);
	assert_int_equal(answered, 0);
}

static bool may_end_there(void *ctx)
{
	return *(bool *)ctx;
}

/* Who may not be told is let look, with the rest of his time; who is told waits on, also where that changes meanwhile. */
static void elsewhere(void **state)
{
	(void)state;
	struct tg_exchange x;
	bool there = false;
	waits.elsewhere = may_end_there;
	waits.ctx = &there;
	answered = 0;
	begin(&x, 5, 60000);
	run_ms(TG_WAITS_LOOK_MS + 500);
	assert_int_equal(answered, 0);
	there = true;
	run_ms(TG_WAITS_LOOK_MS + 500);
	assert_int_equal(answered, 1);
	assert_in_range(left, 60000 - 3 * TG_WAITS_LOOK_MS, 60000 - TG_WAITS_LOOK_MS);
	leave(&x);
	waits.elsewhere = NULL;
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(told), cmocka_unit_test(out_of_time), cmocka_unit_test(gone), cmocka_unit_test(elsewhere) };
	assert_true(tg_loop_init(&loop, 0));
	uv_timer_init(&loop.uv, &limit);
	tg_waits_init(&waits);
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	tg_waits_free(&waits);
	uv_close((uv_handle_t *)&limit, NULL);
	tg_loop_stop(&loop);
	tg_loop_run(&loop);
	tg_loop_free(&loop);
	return rc;
}
