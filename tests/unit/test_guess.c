/*
 * Guessing is slowed (threats T-BRUTE): who a source is, when delays begin and how they grow, the bounds on those that wait, passwords by address and by name. Built with -fsanitize=thread too.
 */
#include "policy/guess.h"
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const struct tg_rate hundred = { 100, 60 }, ten = { 10, 60 };
enum { T0 = 5000000 };

static struct tg_addr addr(const char *text)
{
	struct tg_addr a = { 0 };
	assert_true(tg_addr_parse(tg_slice_cstr(text), &a));
	return a;
}

static uint64_t source(const char *text)
{
	struct tg_addr a = addr(text);
	return tg_guess_source(TG_GUESS_CREDENTIAL, &a);
}

static void who_is_one_source(void **state)
{
	(void)state;
	assert_true(source("10.0.0.1") == source("10.0.0.1"));
	assert_true(source("10.0.0.1") != source("10.0.0.2"));
	assert_true(source("10.0.0.1") == source("::ffff:10.0.0.1"));
	assert_true(source("2001:db8:1:2::1") == source("2001:db8:1:2:ffff:ffff:ffff:ffff"));
	assert_true(source("2001:db8:1:2::1") != source("2001:db8:1:3::1"));
	assert_true(source("::1") != source("127.0.0.1"));
	struct tg_addr a = { .unix_peer = true }, b = a, c = addr("10.0.0.1"), d = addr("::");
	b.port = 7;
	assert_true(tg_guess_source(TG_GUESS_CREDENTIAL, &a) == tg_guess_source(TG_GUESS_CREDENTIAL, &b));
	assert_true(tg_guess_source(TG_GUESS_CREDENTIAL, &a) != tg_guess_source(TG_GUESS_CREDENTIAL, &d));
	assert_true(tg_guess_source(TG_GUESS_CREDENTIAL, &c) != tg_guess_source(TG_GUESS_PASSWORD, &c));
	assert_true(tg_guess_name(TG_S("admin")) == tg_guess_name(TG_S("admin")));
	assert_true(tg_guess_name(TG_S("admin")) != tg_guess_name(TG_S("Admin")));
	assert_true(tg_guess_name((struct tg_slice){ 0 }) != 0);
}

/* The delay of the n-th failure, its place given back. */
static uint32_t delay(struct tg_guess *g, struct tg_rate rate, uint64_t who, uint64_t ms)
{
	struct tg_guess_verdict v = tg_guess_failed(g, rate, who, ms);
	assert_int_equal(v.retry_after_s, 0);
	assert_int_equal(v.who != 0, v.delay_ms != 0);
	tg_guess_leave(g, v.who);
	return v.delay_ms;
}

static void delays_begin_and_grow(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	uint64_t a = source("10.0.0.1"), b = source("10.0.0.2");
	for (int i = 1; i <= 400; i++) {
		uint32_t expected = i < 100 ? 0 : i < 125 ? 250 : i < 150 ? 500 : i < 175 ? 1000 : 2000;
		assert_int_equal(delay(g, hundred, a, T0 + (uint64_t)i), expected);
	}
	assert_int_equal(delay(g, hundred, b, T0 + 500), 0); /* somebody else */
	assert_int_equal(delay(g, hundred, a, T0 + 59999), 2000);
	assert_int_equal(delay(g, hundred, a, T0 + 60001), 0); /* the next window */
	for (int i = 1; i <= 20; i++)
		assert_int_equal(delay(g, ten, source("10.0.0.3"), T0), i < 10 ? 0 : i < 12 ? 250 : i < 14 ? 500 : i < 16 ? 1000 : 2000);
	assert_int_equal(tg_guess_waiting(g), 0);
	tg_guess_free(g);
	tg_guess_free(NULL);
}

static void off_and_extremes(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	struct tg_addr a = addr("10.0.0.1");
	for (int i = 0; i < 1000; i++) {
		assert_int_equal(delay(g, (struct tg_rate){ 0, 60 }, 7, T0), 0);
		assert_int_equal(tg_guess_password_failed(g, (struct tg_rate){ 0, 60 }, &a, TG_S("x"), T0).delay_ms, 0);
	}
	assert_int_equal(delay(g, (struct tg_rate){ 1, 1 }, 7, T0), 250); /* the first already */
	assert_int_equal(delay(g, (struct tg_rate){ 1, 1 }, 7, T0), 500);
	assert_int_equal(delay(g, (struct tg_rate){ TG_RATE_MAX, 86400 }, 8, T0), 0);
	tg_guess_leave(g, 0); /* nobody's place */
	assert_int_equal(tg_guess_waiting(g), 0);
	tg_guess_free(g);
}

static void waiters_of_a_source_are_bounded(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	struct tg_rate one = { 1, 60 };
	uint64_t a = source("10.0.0.1"), b = source("10.0.0.2");
	struct tg_guess_verdict v[TG_GUESS_WAITERS_SOURCE];
	for (unsigned i = 0; i < TG_GUESS_WAITERS_SOURCE; i++) {
		v[i] = tg_guess_failed(g, one, a, T0);
		assert_true(v[i].delay_ms >= 250 && v[i].delay_ms <= 2000);
	}
	struct tg_guess_verdict full = tg_guess_failed(g, one, a, T0 + 20000);
	assert_int_equal(full.delay_ms, 0);
	assert_int_equal(full.who, 0);
	assert_int_equal(full.retry_after_s, 40); /* when its window ends */
	assert_true(tg_guess_failed(g, one, b, T0).delay_ms > 0);
	tg_guess_leave(g, v[0].who);
	assert_true(tg_guess_failed(g, one, a, T0 + 20000).delay_ms > 0); /* a place that was left is free */
	assert_true(tg_guess_failed(g, one, a, T0 + 20000).retry_after_s > 0);
	tg_guess_free(g);
}

static void waiters_of_the_process_are_bounded(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	struct tg_rate one = { 1, 60 };
	unsigned waiting = 0, refused = 0;
	for (uint32_t i = 0; i < 4000; i++) {
		char text[32];
		snprintf(text, sizeof text, "10.%u.%u.1", i >> 8, i & 255);
		struct tg_guess_verdict v = tg_guess_failed(g, one, source(text), T0);
		waiting += v.delay_ms > 0;
		refused += v.retry_after_s > 0;
	}
	assert_int_equal(waiting, TG_GUESS_WAITERS);
	assert_int_equal(refused, 4000 - TG_GUESS_WAITERS);
	assert_int_equal(tg_guess_waiting(g), TG_GUESS_WAITERS);
	tg_guess_free(g);
}

/* More sources than there are cells: nobody new is refused for it, the shortest delay is all. */
static void a_flood_of_sources(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	unsigned delayed = 0;
	for (uint32_t i = 0; i < 40000; i++) {
		uint8_t ip[4] = { 10, (uint8_t)(i >> 16), (uint8_t)(i >> 8), (uint8_t)i };
		char text[32];
		snprintf(text, sizeof text, "%u.%u.%u.%u", ip[0], ip[1], ip[2], ip[3]);
		uint32_t d = delay(g, hundred, source(text), T0);
		assert_true(d == 0 || d == 250);
		delayed += d > 0;
	}
	assert_true(delayed > 0 && delayed < 40000);
	tg_guess_free(g);
}

static void passwords_count_by_address_and_by_name(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	struct tg_addr a = addr("10.0.0.1");
	/* One address, many names. */
	for (int i = 1; i <= 16; i++) {
		char name[16];
		snprintf(name, sizeof name, "user%d", i);
		struct tg_guess_verdict v = tg_guess_password_failed(g, ten, &a, tg_slice_cstr(name), T0);
		assert_int_equal(v.delay_ms, i < 10 ? 0 : i < 12 ? 250 : i < 14 ? 500 : i < 16 ? 1000 : 2000);
		tg_guess_leave(g, v.who);
	}
	/* One name, many addresses. */
	for (int i = 1; i <= 16; i++) {
		char text[32];
		snprintf(text, sizeof text, "10.1.0.%d", i);
		struct tg_addr from = addr(text);
		struct tg_guess_verdict v = tg_guess_password_failed(g, ten, &from, TG_S("admin"), T0);
		assert_int_equal(v.delay_ms, i < 10 ? 0 : i < 12 ? 250 : i < 14 ? 500 : i < 16 ? 1000 : 2000);
		assert_int_equal(v.retry_after_s, 0);
		tg_guess_leave(g, v.who);
	}
	/* And keys of that address are another matter. */
	assert_int_equal(delay(g, hundred, tg_guess_source(TG_GUESS_CREDENTIAL, &a), T0), 0);
	assert_int_equal(tg_guess_waiting(g), 0);
	tg_guess_free(g);
}

struct flood {
	struct tg_guess *g;
	unsigned undelayed, delayed, refused;
};

static void *guess_many(void *arg)
{
	struct flood *f = arg;
	for (int i = 0; i < 500; i++) {
		struct tg_guess_verdict v = tg_guess_failed(f->g, hundred, 4711, T0);
		f->undelayed += !v.delay_ms && !v.retry_after_s;
		f->delayed += v.delay_ms > 0;
		f->refused += v.retry_after_s > 0;
		tg_guess_leave(f->g, v.who);
	}
	return NULL;
}

/* However many loops meet: exactly 99 are answered at once, and every place comes back. */
static void threads_count_exactly(void **state)
{
	(void)state;
	struct tg_guess *g = tg_guess_new();
	struct flood f[4];
	pthread_t t[4];
	for (int i = 0; i < 4; i++) {
		f[i] = (struct flood){ .g = g };
		assert_int_equal(pthread_create(&t[i], NULL, guess_many, &f[i]), 0);
	}
	unsigned undelayed = 0, delayed = 0;
	for (int i = 0; i < 4; i++) {
		pthread_join(t[i], NULL);
		undelayed += f[i].undelayed;
		delayed += f[i].delayed;
	}
	assert_int_equal(undelayed, 99);
	assert_int_equal(delayed, 1901);
	assert_int_equal(tg_guess_waiting(g), 0);
	tg_guess_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_is_one_source), cmocka_unit_test(delays_begin_and_grow), cmocka_unit_test(off_and_extremes), cmocka_unit_test(waiters_of_a_source_are_bounded),
		cmocka_unit_test(waiters_of_the_process_are_bounded), cmocka_unit_test(a_flood_of_sources), cmocka_unit_test(passwords_count_by_address_and_by_name),
		cmocka_unit_test(threads_count_exactly),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
