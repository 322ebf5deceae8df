/*
 * Which limits a request meets (S3-15, S4-35 to S4-37, C-08): train and predict per address and per key, login and callers without a key per address, /64 for IPv6; a key's own values before
 * the defaults; what one refuses takes nothing of the others. Whole requests are tested from outside; here are those whose routes come later.
 */
#include "gate/exchange.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct tg_gate gate;
static struct tg_gate_loop loop = { .gate = &gate };
static struct tg_snapshot snap;
static uint64_t clock_us;

static int setup(void **state)
{
	(void)state;
	gate.limiter = tg_limiter_new(1024);
	gate.strangers = tg_limiter_new(1024);
	snap = (struct tg_snapshot){ 0 };
	clock_us = 5000000;
	return gate.limiter && gate.strangers ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	tg_limiter_free(gate.limiter);
	tg_limiter_free(gate.strangers);
	return 0;
}

static struct tg_exchange x;

/* One request; whether it passes. What it held of requests in flight it keeps (x.held). */
static bool ask(enum tg_limit_class class, const struct tg_principal *p, const char *address)
{
	static struct tg_route route;
	route = (struct tg_route){ .limit = (uint8_t)class };
	x = (struct tg_exchange){ .gl = &loop, .snap = &snap, .route = &route, .principal = p, .start_us = clock_us };
	assert_true(tg_addr_parse(tg_slice_cstr(address), &x.client));
	return tg_limit_take(&x);
}

static const struct tg_principal one = { .source = TG_SRC_KEYS_FILE, .hash = 1 }, two = { .source = TG_SRC_KEYS_FILE, .hash = 2 };

static void check_bucket(unsigned i, enum tg_bucket_kind kind, uint32_t limit, uint32_t remaining)
{
	assert_true(i < x.nbuckets);
	assert_int_equal(x.bucket[i].kind, kind);
	assert_int_equal(x.bucket[i].limit, limit);
	assert_int_equal(x.bucket[i].remaining, remaining);
}

/* S4-35, S4-37: ten an hour of one address, whatever its keys. S3-15: of one key, whatever its addresses. */
static void test_train(void **state)
{
	(void)state;
	snap.rates[TG_LIMIT_TRAIN] = (struct tg_rate){ 10, 3600 };
	snap.rates[TG_LIMIT_PREDICT] = (struct tg_rate){ 100, 60 };
	for (unsigned i = 0; i < 10; i++) {
		assert_true(ask(TG_LIMIT_TRAIN, i % 2 ? &one : &two, "10.0.0.1"));
		assert_int_equal(x.nbuckets, 2);
		check_bucket(0, TG_BUCKET_ADDRESS, 10, 9 - i);
		check_bucket(1, TG_BUCKET_CLASS, 10, 9 - i / 2);
	}
	for (int i = 0; i < 3; i++) {
		assert_false(ask(TG_LIMIT_TRAIN, &one, "10.0.0.1"));
		assert_true(x.nbuckets == 1 && x.bucket[0].refused);
	}
	/* The keys have five left, from elsewhere: what the address refused was not taken from them. */
	for (unsigned i = 0; i < 5; i++)
		assert_true(ask(TG_LIMIT_TRAIN, &one, "10.0.0.2"));
	assert_false(ask(TG_LIMIT_TRAIN, &one, "10.0.0.2"));
	assert_int_equal(x.nbuckets, 2);
	check_bucket(0, TG_BUCKET_ADDRESS, 10, 5); /* as if it had not asked */
	check_bucket(1, TG_BUCKET_CLASS, 10, 0);
	assert_true(ask(TG_LIMIT_TRAIN, &two, "10.0.0.2"));
	check_bucket(0, TG_BUCKET_ADDRESS, 10, 4);
	/* S4-36, S3-15: predict is another quota. */
	for (unsigned i = 0; i < 100; i++)
		assert_true(ask(TG_LIMIT_PREDICT, &one, "10.0.0.1"));
	assert_false(ask(TG_LIMIT_PREDICT, &one, "10.0.0.1"));
	assert_false(ask(TG_LIMIT_PREDICT, &two, "10.0.0.1"));
	assert_true(ask(TG_LIMIT_PREDICT, &two, "10.0.0.3"));
	assert_false(ask(TG_LIMIT_PREDICT, &one, "10.0.0.3"));
	/* An hour later. */
	clock_us += 3600000000u;
	assert_true(ask(TG_LIMIT_TRAIN, &one, "10.0.0.1"));
}

/* Login has no principal yet: per address. So has whoever needs no key. */
static void test_by_address(void **state)
{
	(void)state;
	static const struct tg_principal local = { .source = TG_SRC_LOCAL }, outsider = { .source = TG_SRC_OUTSIDER };
	snap.rates[TG_LIMIT_API] = snap.rates[TG_LIMIT_INFER] = (struct tg_rate){ 2, 60 };
	snap.policy.key_limits = (struct tg_key_limits){ .requests = { 1, 60 }, .in_flight = 1 };
	for (int i = 0; i < 2; i++)
		assert_true(ask(TG_LIMIT_API, NULL, "10.0.0.1"));
	assert_int_equal(x.nbuckets, 1); /* nobody's key */
	assert_false(ask(TG_LIMIT_API, NULL, "10.0.0.1"));
	assert_true(ask(TG_LIMIT_API, NULL, "10.0.0.2"));
	snap.policy.key_limits = (struct tg_key_limits){ 0 };
	assert_true(ask(TG_LIMIT_API, &one, "10.0.0.1"));
	assert_true(ask(TG_LIMIT_INFER, &local, "10.0.0.1"));
	assert_true(ask(TG_LIMIT_INFER, &outsider, "10.0.0.1"));
	assert_false(ask(TG_LIMIT_INFER, &outsider, "10.0.0.1"));
	/* An IPv6 network is one caller; IPv4 addresses are not. */
	assert_true(ask(TG_LIMIT_API, NULL, "2001:db8:0:1::1"));
	assert_true(ask(TG_LIMIT_API, NULL, "2001:db8:0:1:ffff::2"));
	assert_false(ask(TG_LIMIT_API, NULL, "2001:db8:0:1::3"));
	assert_true(ask(TG_LIMIT_API, NULL, "2001:db8:0:2::1"));
}

static void test_own(void **state)
{
	(void)state;
	struct tg_principal rich = one, vip = two;
	rich.limits = (struct tg_key_limits){ .requests = { 3, 60 }, .in_flight = 2 };
	vip.limits.requests = (struct tg_rate){ 0, 1 }; /* "off" */
	snap.policy.key_limits = (struct tg_key_limits){ .requests = { 1, 60 } };
	snap.rates[TG_LIMIT_API] = (struct tg_rate){ 60, 60 };
	assert_true(ask(TG_LIMIT_NONE, &rich, "10.0.0.1"));
	assert_int_equal(x.nbuckets, 0);
	/* One window for all classes together. */
	assert_true(ask(TG_LIMIT_API, &rich, "10.0.0.1"));
	assert_int_equal(x.nbuckets, 3);
	check_bucket(0, TG_BUCKET_IN_FLIGHT, 2, 1);
	check_bucket(1, TG_BUCKET_CLASS, 60, 59);
	check_bucket(2, TG_BUCKET_KEY, 3, 2);
	assert_true(ask(TG_LIMIT_INFER, &rich, "10.0.0.1"));
	check_bucket(1, TG_BUCKET_KEY, 3, 1);
	/* Two are in flight. A third is refused for that alone. */
	struct tg_limit_cell *held = x.held;
	assert_false(ask(TG_LIMIT_API, &rich, "10.0.0.1"));
	assert_true(x.nbuckets == 3 && !x.held && x.bucket[0].refused && !x.bucket[1].refused && !x.bucket[2].refused);
	check_bucket(0, TG_BUCKET_IN_FLIGHT, 2, 0);
	check_bucket(1, TG_BUCKET_CLASS, 60, 59); /* told, not taken */
	check_bucket(2, TG_BUCKET_KEY, 3, 1);
	tg_limiter_leave(held, 6000);
	assert_true(ask(TG_LIMIT_API, &rich, "10.0.0.1"));
	check_bucket(1, TG_BUCKET_CLASS, 60, 58);
	check_bucket(2, TG_BUCKET_KEY, 3, 0);
	tg_limit_end(&x, 0);
	assert_null(x.held);
	tg_limit_end(&x, 0); /* once */
	assert_false(ask(TG_LIMIT_API, &rich, "10.0.0.1"));
	check_bucket(1, TG_BUCKET_CLASS, 60, 58); /* given back */
	assert_true(x.bucket[2].refused);
	tg_limit_end(&x, 0);
	/* Others have the default, or none. */
	assert_true(ask(TG_LIMIT_INFER, &one, "10.0.0.1") == false); /* the same hash, another limit: the window has three */
	for (int i = 0; i < 20; i++)
		assert_true(ask(TG_LIMIT_INFER, &vip, "10.0.0.1"));
	assert_int_equal(x.nbuckets, 0);
	static const struct tg_principal third = { .source = TG_SRC_TOLLGATE_KEYS, .hash = 3 };
	assert_true(ask(TG_LIMIT_INFER, &third, "10.0.0.1"));
	assert_false(ask(TG_LIMIT_INFER, &third, "10.0.0.1"));
}

/* A flood of addresses fills their table, and refuses addresses; a key's windows lie elsewhere. */
static void test_flood(void **state)
{
	(void)state;
	static const struct tg_principal outsider = { .source = TG_SRC_OUTSIDER };
	snap.rates[TG_LIMIT_INFER] = (struct tg_rate){ 5, 3600 };
	unsigned refused = 0;
	for (unsigned i = 0; i < 4096; i++) {
		char address[32];
		snprintf(address, sizeof address, "10.1.%u.%u", i / 256, i % 256);
		if (!ask(TG_LIMIT_INFER, &outsider, address)) {
			refused++;
			assert_int_equal(x.bucket[0].remaining, 0);
		}
	}
	assert_in_range(refused, 4096 - 1024, 4096);
	for (unsigned i = 0; i < 500; i++) {
		struct tg_principal p = { .source = TG_SRC_KEYS_FILE, .hash = i };
		assert_true(ask(TG_LIMIT_INFER, &p, "10.1.0.1"));
	}
	/* An hour later their cells are free again. */
	clock_us += 3600000000u;
	assert_true(ask(TG_LIMIT_INFER, &outsider, "10.99.0.1"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(test_train, setup, teardown), cmocka_unit_test_setup_teardown(test_by_address, setup, teardown),
		cmocka_unit_test_setup_teardown(test_own, setup, teardown), cmocka_unit_test_setup_teardown(test_flood, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
