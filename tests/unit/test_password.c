/*
 * Passwords (seed ledger S2-10) and the hasher: what may be set, what verifies, that nobody costs as much as somebody; a bounded queue, bounded hashes at once, results in the
 * right loop, cancelling in every state. Built with -fsanitize=thread too.
 */
#include "policy/password.h"
#include "base/clock.h"
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <unistd.h>
#include <cmocka.h>

/* Cheap ones, so that many can be tried: 64 KiB, one pass. */
static char cheap[TG_PASSWORD_HASH], slow_one[TG_PASSWORD_HASH];

static int setup(void **state)
{
	(void)state;
	if (sodium_init() < 0 || crypto_pwhash_str_alg(cheap, "correct horse", 13, 1, 64u << 10, crypto_pwhash_ALG_ARGON2ID13) != 0)
		return 1;
	return crypto_pwhash_str_alg(slow_one, "correct horse", 13, 4, 16u << 20, crypto_pwhash_ALG_ARGON2ID13);
}

static void what_may_be_set(void **state)
{
	(void)state;
	char long_one[TG_PASSWORD_MAX + 2];
	memset(long_one, 'x', sizeof long_one);
	assert_null(tg_password_fault(TG_S("correct horse")));
	assert_null(tg_password_fault(TG_S("123456789012")));
	assert_non_null(tg_password_fault(TG_S("12345678901")));
	assert_non_null(tg_password_fault(TG_S("")));
	assert_null(tg_password_fault(TG_S("\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9\xc3\xa9"))); /* six characters, twelve bytes */
	assert_null(tg_password_fault((struct tg_slice){ long_one, TG_PASSWORD_MAX }));
	assert_non_null(tg_password_fault((struct tg_slice){ long_one, TG_PASSWORD_MAX + 1 }));
	assert_non_null(tg_password_fault(TG_S("correct horse\xff")));
	assert_non_null(tg_password_fault(TG_S("correct\nhorse")));
	assert_non_null(tg_password_fault(TG_S("correct\0horse")));
	assert_non_null(tg_password_fault(TG_S("correct horse\x7f")));
}

static void a_hash_verifies_and_nothing_else(void **state)
{
	(void)state;
	char hash[TG_PASSWORD_HASH], again[TG_PASSWORD_HASH];
	assert_true(tg_password_hash(TG_S("correct horse"), hash));
	assert_true(tg_password_hash(TG_S("correct horse"), again));
	assert_string_not_equal(hash, again); /* salted */
	assert_true(strncmp(hash, "$argon2id$v=19$m=65536,t=3,p=1$", 31) == 0);
	assert_int_equal(tg_password_verify(hash, TG_S("correct horse")), TG_PASSWORD_OK);
	assert_int_equal(tg_password_verify(hash, TG_S("correct horsf")), TG_PASSWORD_WRONG);
	assert_int_equal(tg_password_verify(hash, TG_S("")), TG_PASSWORD_WRONG);
	assert_int_equal(tg_password_verify(hash, (struct tg_slice){ 0 }), TG_PASSWORD_WRONG);
	assert_int_equal(tg_password_verify(hash, TG_S("correct horse\0")), TG_PASSWORD_WRONG);
	assert_int_equal(tg_password_verify(NULL, TG_S("correct horse")), TG_PASSWORD_WRONG);
	char *long_one = malloc(TG_PASSWORD_MAX + 1);
	memset(long_one, 'x', TG_PASSWORD_MAX + 1);
	assert_false(tg_password_hash((struct tg_slice){ long_one, TG_PASSWORD_MAX + 1 }, again));
	assert_true(tg_password_hash((struct tg_slice){ long_one, TG_PASSWORD_MAX }, again));
	assert_int_equal(tg_password_verify(again, (struct tg_slice){ long_one, TG_PASSWORD_MAX }), TG_PASSWORD_OK);
	assert_int_equal(tg_password_verify(again, (struct tg_slice){ long_one, TG_PASSWORD_MAX + 1 }), TG_PASSWORD_WRONG); /* not its beginning either */
	free(long_one);
}

/* What a stored string asks for is bounded, whoever wrote it. */
static void strings_that_are_not_tried(void **state)
{
	(void)state;
	char cut[TG_PASSWORD_HASH], padded[300];
	snprintf(cut, sizeof cut, "%s", cheap);
	cut[60] = 0;
	memset(padded, 'A', sizeof padded - 1);
	padded[sizeof padded - 1] = 0;
	memcpy(padded, "$argon2id$v=19$m=64,t=1,p=1$", 28);
	static const char *const failed[] = {
		"", "x", "correct horse", "$argon2id$v=19$m=999999999,t=3,p=1$c2FsdHNhbHRzYWx0c2FsdA$aGFzaGhhc2g", "$argon2id$v=19$m=87382,t=3,p=1$c2FsdA$aGFzaA",
		"$argon2id$v=19$m=64,t=17,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=64,t=1,p=5$c2FsdA$aGFzaA", "$argon2i$v=19$m=64,t=1,p=1$c2FsdA$aGFzaA",
		"$argon2id$v=16$m=64,t=1,p=1$c2FsdA$aGFzaA", "$argon2id$v=19$m=-1,t=1,p=1$c2FsdA$aGFzaA", "$2b$12$abcdefghijklmnopqrstuv", "$argon2id$v=19$m=64,t=1",
	};
	for (size_t i = 0; i < sizeof failed / sizeof *failed; i++)
		assert_int_not_equal(tg_password_verify(failed[i], TG_S("correct horse")), TG_PASSWORD_OK);
	for (size_t i = 3; i < 7; i++)
		assert_int_equal(tg_password_verify(failed[i], TG_S("correct horse")), TG_PASSWORD_FAILED);
	assert_int_not_equal(tg_password_verify(cut, TG_S("correct horse")), TG_PASSWORD_OK);
	assert_int_equal(tg_password_verify(padded, TG_S("correct horse")), TG_PASSWORD_FAILED);
	assert_int_equal(tg_password_verify("$argon2id$v=19$m=64,t=1,p=1$!!$??", TG_S("correct horse")), TG_PASSWORD_WRONG);
}

static int by_value(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static double median_ms(const char *encoded, struct tg_slice password)
{
	double ms[7];
	for (size_t i = 0; i < 7; i++) {
		uint64_t from = tg_mono_us();
		assert_int_not_equal(tg_password_verify(encoded, password), TG_PASSWORD_FAILED);
		ms[i] = (double)(tg_mono_us() - from) / 1000;
	}
	qsort(ms, 7, sizeof ms[0], by_value);
	return ms[3];
}

/* S2-10: wrong, unknown and too long cost the same. Medians of seven, within a third: the machine is shared; three tries. */
static void nobody_costs_as_much_as_somebody(void **state)
{
	(void)state;
	char hash[TG_PASSWORD_HASH], *long_one = malloc(2000);
	memset(long_one, 'x', 2000);
	assert_true(tg_password_hash(TG_S("correct horse"), hash));
	bool same = false;
	for (int i = 0; i < 3 && !same; i++) {
		double wrong = median_ms(hash, TG_S("wrong horse!!")), unknown = median_ms(NULL, TG_S("wrong horse!!")), too_long = median_ms(hash, (struct tg_slice){ long_one, 2000 });
		same = unknown > wrong * 2 / 3 && unknown < wrong * 3 / 2 && too_long > wrong * 2 / 3 && too_long < wrong * 3 / 2;
	}
	assert_true(same);
	free(long_one);
}

/* ---- the hasher: loops in threads of their own ---- */

struct seat { /* one job and what came of it; belongs to its loop */
	struct bench *bench;
	struct tg_password_job *job;
	enum tg_password_answer answer, expected;
	bool called, cancelled, had_hash;
	struct tg_msg msg;
};

struct bench {
	struct tg_loop loop;
	struct tg_hasher *hasher;
	uv_thread_t thread;
	struct seat seats[80];
	unsigned started, busy, open;
	uint64_t called_in_wrong_thread;
};

static void finish(struct bench *b)
{
	if (!--b->open)
		tg_loop_stop(&b->loop);
}

static void done(void *ctx, enum tg_password_answer answer, const char *hash)
{
	struct seat *s = ctx;
	uv_thread_t self = uv_thread_self();
	s->bench->called_in_wrong_thread += !uv_thread_equal(&self, &s->bench->thread);
	s->called = true;
	s->answer = answer;
	s->had_hash = hash && strncmp(hash, "$argon2id$", 10) == 0;
	s->job = NULL;
	finish(s->bench);
}

static bool start_one(struct bench *b, const char *encoded, struct tg_slice password, enum tg_password_answer expected)
{
	struct seat *s = &b->seats[b->started];
	*s = (struct seat){ .bench = b, .expected = expected };
	s->job = tg_password_verify_start(b->hasher, &b->loop, encoded, password, done, s);
	if (!s->job) {
		b->busy++;
		return false;
	}
	b->started++;
	b->open++;
	return true;
}

static void cancel_one(struct bench *b, struct seat *s)
{
	if (!s->job)
		return;
	tg_password_cancel(s->job);
	s->job = NULL;
	s->cancelled = true;
	finish(b);
}

static void run_bench(void *arg)
{
	struct bench *b = arg;
	tg_loop_run(&b->loop);
}

static void ask_many(struct tg_loop *l, void *arg)
{
	struct bench *b = arg;
	(void)l;
	b->open++; /* until all are asked */
	for (int i = 0; i < 15; i++) {
		start_one(b, cheap, TG_S("correct horse"), TG_PASSWORD_OK);
		start_one(b, cheap, TG_S("wrong horse!!"), TG_PASSWORD_WRONG);
		start_one(b, "rubbish", TG_S("correct horse"), TG_PASSWORD_FAILED);
	}
	/* Every third leaves: some wait, some run, some are in the mailbox. */
	for (unsigned i = 0; i < b->started; i += 3)
		cancel_one(b, &b->seats[i]);
	finish(b);
}

static void check(const struct bench *b)
{
	assert_int_equal(b->called_in_wrong_thread, 0);
	for (unsigned i = 0; i < b->started; i++) {
		assert_int_equal(b->seats[i].called, !b->seats[i].cancelled);
		if (b->seats[i].called)
			assert_int_equal(b->seats[i].answer, b->seats[i].expected);
	}
}

static void loops_share_one_hasher(void **state)
{
	(void)state;
	struct tg_hasher *h = tg_hasher_new();
	assert_non_null(h);
	enum { LOOPS = 4 };
	static struct bench b[LOOPS];
	static struct tg_msg begin[LOOPS];
	for (unsigned i = 0; i < LOOPS; i++) {
		b[i] = (struct bench){ .hasher = h };
		assert_true(tg_loop_init(&b[i].loop, i));
		assert_true(tg_loop_post(&b[i].loop, &begin[i], ask_many, &b[i]));
	}
	for (unsigned i = 0; i < LOOPS; i++)
		assert_int_equal(uv_thread_create(&b[i].thread, run_bench, &b[i]), 0);
	unsigned started = 0;
	for (unsigned i = 0; i < LOOPS; i++) {
		uv_thread_join(&b[i].thread);
		check(&b[i]);
		started += b[i].started;
		tg_loop_free(&b[i].loop);
	}
	assert_true(started > 0);
	assert_int_equal(tg_hasher_waiting(h), 0);
	tg_hasher_free(h);
}

static void ask_too_many(struct tg_loop *l, void *arg)
{
	struct bench *b = arg;
	(void)l;
	b->open++;
	/* These take a while: what follows waits. */
	while (b->started < 78 && start_one(b, slow_one, TG_S("correct horse"), TG_PASSWORD_OK))
		;
	assert_true(b->started >= TG_HASHING_WAITING);
	assert_true(b->started < 78);
	assert_true(tg_hasher_waiting(b->hasher) <= TG_HASHING_WAITING);
	/* A place that somebody leaves is free at once. */
	cancel_one(b, &b->seats[b->started - 1]);
	assert_true(start_one(b, cheap, TG_S("correct horse"), TG_PASSWORD_OK));
	for (unsigned i = 0; i < b->started; i++)
		if (i % 8)
			cancel_one(b, &b->seats[i]);
	finish(b);
}

static void the_queue_is_bounded(void **state)
{
	(void)state;
	static struct bench b;
	static struct tg_msg begin;
	b = (struct bench){ .hasher = tg_hasher_new() };
	assert_true(tg_loop_init(&b.loop, 0));
	assert_true(tg_loop_post(&b.loop, &begin, ask_too_many, &b));
	b.thread = uv_thread_self();
	run_bench(&b);
	check(&b);
	assert_int_equal(b.busy, 1);
	tg_loop_free(&b.loop);
	tg_hasher_free(b.hasher);
}

/* All leave, and the loop ends under what runs. */
static void leave_all(struct tg_loop *l, void *arg)
{
	struct bench *b = arg;
	(void)l;
	b->open++;
	for (int i = 0; i < 10; i++)
		start_one(b, slow_one, TG_S("correct horse"), TG_PASSWORD_OK);
	usleep(5000);
	for (unsigned i = 0; i < b->started; i++)
		cancel_one(b, &b->seats[i]);
	finish(b);
}

static void a_loop_may_end_under_its_jobs(void **state)
{
	(void)state;
	struct tg_hasher *h = tg_hasher_new();
	static struct bench b[2];
	static struct tg_msg begin[2];
	for (unsigned i = 0; i < 2; i++) {
		b[i] = (struct bench){ .hasher = h };
		assert_true(tg_loop_init(&b[i].loop, i));
		assert_true(tg_loop_post(&b[i].loop, &begin[i], i ? leave_all : ask_many, &b[i]));
		assert_int_equal(uv_thread_create(&b[i].thread, run_bench, &b[i]), 0);
	}
	for (int i = 1; i >= 0; i--) { /* the one that left ends, is gone, and the other goes on */
		uv_thread_join(&b[i].thread);
		check(&b[i]);
		tg_loop_free(&b[i].loop);
	}
	tg_hasher_free(h);
}

static void ask_for_hashes(struct tg_loop *l, void *arg)
{
	struct bench *b = arg;
	static char too_long[TG_PASSWORD_MAX + 1];
	(void)l;
	memset(too_long, 'x', sizeof too_long);
	b->seats[0] = (struct seat){ .bench = b, .expected = TG_PASSWORD_OK };
	b->seats[1] = (struct seat){ .bench = b, .expected = TG_PASSWORD_FAILED };
	b->seats[0].job = tg_password_hash_start(b->hasher, &b->loop, TG_S("correct horse"), done, &b->seats[0]);
	b->seats[1].job = tg_password_hash_start(b->hasher, &b->loop, (struct tg_slice){ too_long, sizeof too_long }, done, &b->seats[1]);
	b->started = b->open = 2;
	start_one(b, NULL, TG_S("correct horse"), TG_PASSWORD_WRONG); /* nobody */
}

static void hashes_are_made_there_too(void **state)
{
	(void)state;
	static struct bench b;
	static struct tg_msg begin;
	b = (struct bench){ .hasher = tg_hasher_new() };
	assert_true(tg_loop_init(&b.loop, 0));
	assert_true(tg_loop_post(&b.loop, &begin, ask_for_hashes, &b));
	b.thread = uv_thread_self();
	run_bench(&b);
	check(&b);
	assert_true(b.seats[0].had_hash);
	assert_false(b.seats[1].had_hash || b.seats[2].had_hash);
	tg_loop_free(&b.loop);
	tg_hasher_free(b.hasher);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_may_be_set), cmocka_unit_test(a_hash_verifies_and_nothing_else), cmocka_unit_test(strings_that_are_not_tried),
		cmocka_unit_test(nobody_costs_as_much_as_somebody), cmocka_unit_test(loops_share_one_hasher), cmocka_unit_test(the_queue_is_bounded),
		cmocka_unit_test(a_loop_may_end_under_its_jobs), cmocka_unit_test(hashes_are_made_there_too),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
