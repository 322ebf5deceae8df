/* Counting from several threads while somebody takes what was counted; days; what the database is owed. Built with -fsanitize=thread too. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "store/store.h"
#include "store/usage.h"
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define DAY0 20000u /* 2024-10-04 */

enum { THREADS = 4, EACH = 20000 };

static void *counter(void *arg)
{
	struct tg_use *u = arg;
	for (unsigned i = 0; i < EACH; i++) {
		struct tg_counts c = { .requests = 1, .prompt_tokens = 3, .cost = i & 1, .errors = i % 10 == 0 };
		tg_use_add(u, (DAY0 + i / (EACH / 2)) * TG_DAY_US + 5, &c);
	}
	return NULL;
}

static void test_nothing_is_lost_between_threads(void **state)
{
	(void)state;
	struct tg_use u = { 0 };
	struct tg_counts sum = { 0 }, c;
	pthread_t t[THREADS];
	uint32_t day;
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, counter, &u), 0);
	for (unsigned joined = 0; joined <= THREADS; joined++) {
		for (unsigned round = 0; round < 200; round++)
			for (unsigned cell = 0; cell < 2; cell++)
				if (tg_use_take(&u, cell, &day, &c)) {
					assert_true(day == DAY0 || day == DAY0 + 1);
					for (unsigned k = 0; k < TG_COUNTS_N; k++)
						*tg_counts_at(&sum, k) += *tg_counts_at(&c, k);
				}
		if (joined < THREADS)
			pthread_join(t[joined], NULL);
	}
	assert_int_equal(sum.requests, THREADS * EACH);
	assert_int_equal(sum.prompt_tokens, 3 * THREADS * EACH);
	assert_int_equal(sum.cost, THREADS * EACH / 2);
	assert_int_equal(sum.errors, THREADS * EACH / 10);
	assert_int_equal(sum.limited + sum.rows + sum.trainings + sum.predictions + sum.completion_tokens, 0);
	tg_use_free(&u);
}

static void test_days_are_apart(void **state)
{
	(void)state;
	struct tg_use u = { 0 };
	struct tg_counts one = { .requests = 1 }, c;
	uint32_t day;
	assert_false(tg_use_take(&u, 0, &day, &c)); /* nobody came: nothing was made */
	tg_use_add(&u, DAY0 * TG_DAY_US + TG_DAY_US - 1, &one);
	tg_use_add(&u, (DAY0 + 1) * TG_DAY_US, &one);
	tg_use_add(&u, (DAY0 + 1) * TG_DAY_US, &one);
	assert_true(tg_use_take(&u, DAY0 & 1, &day, &c) && day == DAY0 && c.requests == 1);
	assert_true(tg_use_take(&u, ~DAY0 & 1, &day, &c) && day == DAY0 + 1 && c.requests == 2);
	assert_false(tg_use_take(&u, 0, &day, &c) || tg_use_take(&u, 1, &day, &c));
	tg_use_free(&u);
}

static void test_days_as_text(void **state)
{
	(void)state;
	static const char *const none[] = { "", "2026", "2026-13-01", "2026-00-01", "2026-01-00", "2026-01-32", "2026-02-29", "2100-02-29", "2026-06-31", "1969-12-31", "2026-1-01", "2026-01-011", "20260101",
					    "2026/01/01", " 2026-01-01", "2026-01-01 ", "+026-01-01", "2026-01-1x" };
	char text[TG_DAY_TEXT], libc[32];
	uint32_t day;
	for (uint32_t d = 0; d <= TG_DAY_MAX; d += d < 40000 ? 1 : 997) {
		time_t t = (time_t)d * 86400;
		struct tm tm;
		gmtime_r(&t, &tm);
		snprintf(libc, sizeof libc, "%04d-%02d-%02d", tm.tm_year + 1900, tm.tm_mon + 1, tm.tm_mday);
		tg_day_text(d, text);
		assert_string_equal(text, libc);
		assert_true(tg_day_parse(text, &day) && day == d);
	}
	assert_true(tg_day_parse("9999-12-31", &day) && day == TG_DAY_MAX);
	assert_true(tg_day_parse("2024-02-29", &day) && tg_day_parse("2000-02-29", &day));
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		if (tg_day_parse(none[i], &day))
			fail_msg("\"%s\" is taken", none[i]);
}

/* ---- places, and what is owed ---- */

static struct tg_principal principal(const char *id, enum tg_source source)
{
	struct tg_principal p = { .source = source, .name = "CHAPKIT_API_KEYS", .prefix = "sk_ml_ser", .label = "sk_ml_service_a" };
	snprintf(p.id, sizeof p.id, "%s", id);
	return p;
}

struct seen {
	unsigned n, days;
	uint64_t requests, last;
	uint32_t first, last_day;
	bool about;
};

static bool see(void *ctx, const struct tg_owed *o)
{
	struct seen *s = ctx;
	s->n++;
	s->last = o->last_s;
	s->days = o->ndays;
	s->about = o->about != NULL;
	s->requests = 0;
	for (unsigned i = 0; i < o->ndays; i++) {
		s->requests += o->days[i].counts.requests;
		assert_true(!i || o->days[i].day > o->days[i - 1].day);
	}
	s->first = o->ndays ? o->days[0].day : 0;
	s->last_day = o->ndays ? o->days[o->ndays - 1].day : 0;
	return true;
}

static struct seen owed(struct tg_uses *u)
{
	struct seen s = { 0 };
	bool any = tg_uses_gather(u);
	assert_true(tg_uses_each_owed(u, see, &s));
	assert_int_equal(any, s.n > 0);
	return s;
}

/* Places stay where they are however many come. */
static void test_places(void **state)
{
	(void)state;
	enum { N = 5000 };
	static struct tg_use *at[N];
	struct tg_uses *u = tg_uses_new();
	char id[24];
	for (int round = 0; round < 2; round++)
		for (int i = 0; i < N; i++) {
			snprintf(id, sizeof id, "key_%016d", i);
			struct tg_principal p = principal(id, i & 1 ? TG_SRC_STORED_KEY : TG_SRC_CHAPKIT_KEYS);
			struct tg_use *use = tg_uses_of(u, &p);
			assert_non_null(use);
			if (round)
				assert_ptr_equal(use, at[i]);
			at[i] = use;
			assert_int_equal(tg_uses_last(u, id), 0);
		}
	assert_int_equal(tg_uses_last(u, "key_of_nobody"), 0);
	assert_null(tg_uses_of_id(u, "key_that_is_longer_than_any"));
	assert_false(tg_uses_gather(u));
	for (int i = 0; i < 10; i++)
		atomic_store(&at[i]->last_s, 100 + (uint64_t)i);
	struct seen s = owed(u);
	assert_int_equal(s.n, 5); /* the database keeps this of its own keys only */
	tg_uses_paid(u);
	assert_false(tg_uses_gather(u));
	tg_uses_free(u);
}

/* Told once; what could not be told is still owed, with what came since; a long absence keeps all counts and the newest days apart. */
static void test_what_is_owed(void **state)
{
	(void)state;
	struct tg_uses *u = tg_uses_new();
	struct tg_principal p = principal("key_0123456789abcdef", TG_SRC_CHAPKIT_KEYS);
	struct tg_use *use = tg_uses_of_id(u, p.id); /* work that outlived a restart counts before its key is known again */
	assert_ptr_equal(tg_uses_of(u, &p), use);
	struct tg_counts one = { .requests = 1 };
	tg_use_add(use, DAY0 * TG_DAY_US, &one);
	struct seen s = owed(u);
	assert_true(s.n == 1 && s.requests == 1 && s.days == 1 && s.about);
	tg_use_add(use, DAY0 * TG_DAY_US, &one);
	s = owed(u); /* it was not paid */
	assert_true(s.n == 1 && s.requests == 2 && s.days == 1);
	tg_uses_paid(u);
	assert_true(owed(u).n == 0);
	for (unsigned d = 0; d < 20; d++) {
		tg_use_add(use, (DAY0 + d) * TG_DAY_US, &one);
		s = owed(u);
		assert_int_equal(s.requests, d + 1);
		assert_int_equal(s.days, d < TG_OWED_DAYS ? d + 1 : TG_OWED_DAYS);
	}
	assert_int_equal(s.last_day, DAY0 + 19);
	assert_int_equal(s.first, DAY0 + 20 - TG_OWED_DAYS);
	tg_use_add(use, DAY0 * TG_DAY_US, &one); /* a clock that went back */
	s = owed(u);
	assert_true(s.requests == 21 && s.days == TG_OWED_DAYS && s.first == DAY0 + 20 - TG_OWED_DAYS);
	tg_uses_paid(u);
	assert_true(owed(u).n == 0);
	tg_uses_free(u);
}

/* ---- through the store ---- */

struct lines {
	unsigned n;
	struct tg_counts last, total;
	char name[40], source[40];
	struct tg_usage_range range;
};

static bool line(void *ctx, const struct tg_usage_row *r)
{
	struct lines *l = ctx;
	l->n++;
	l->last = r->counts;
	snprintf(l->name, sizeof l->name, "%s", r->name);
	snprintf(l->source, sizeof l->source, "%s", r->source);
	return true;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct lines *l = ctx;
	enum tg_db_result r = tg_usage_by_principal(db, &l->range, "", 10, line, l, err);
	return r == TG_DB_OK ? tg_usage_total(db, &l->range, &l->total, err) : r;
}

static void test_into_the_database_and_out(void **state)
{
	(void)state;
	char dir[] = "/tmp/tollgate-unit-XXXXXX", url[64], name[80];
	static const struct tg_secret given = { (char *)(uintptr_t)"0123456789abcdef0123456789abcdef", 32 };
	struct tg_err err = { "" };
	uint32_t today = (uint32_t)(tg_wall_us() / TG_DAY_US);
	assert_non_null(mkdtemp(dir));
	snprintf(url, sizeof url, "sqlite:%s/t.db", dir);
	struct tg_counts c = { .requests = 2, .cost = 10000000000000000ull - 5, .trainings = 1, .rows = 1000 };
	for (int round = 0; round < 2; round++) { /* the second begins where the first ended */
		struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
		assert_non_null(s);
		tg_store_count(s, "key_0123456789abcdef", tg_wall_us(), &c); /* nobody wants it yet */
		tg_store_keep_usage(s, 400, 60);
		tg_store_count(s, "key_0123456789abcdef", tg_wall_us(), &c);
		tg_store_count(s, "key_0123456789abcdef", (today - 501) * TG_DAY_US, &c); /* too old to be kept */
		if (round)
			assert_int_equal(tg_store_flush(s, &err), TG_DB_OK);
		tg_store_close(s);
	}
	struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
	struct lines l = { .range = { 0, TG_DAY_MAX, "" } };
	assert_int_equal(tg_store_read(s, look, &l, &err), TG_DB_OK);
	assert_int_equal(l.n, 1);
	assert_int_equal(l.last.requests, 4);
	assert_int_equal(l.last.rows, 2000);
	assert_int_equal(l.total.trainings, 2);
	assert_true(l.last.cost == 10000000000000000ull); /* and no further */
	tg_store_close(s);
	static const char *const names[] = { "t.db", "t.db-wal", "t.db-shm", "t.db.known", "secret.key" };
	for (unsigned i = 0; i < 5; i++) {
		snprintf(name, sizeof name, "%s/%s", dir, names[i]);
		remove(name);
	}
	assert_int_equal(rmdir(dir), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_nothing_is_lost_between_threads), cmocka_unit_test(test_days_are_apart), cmocka_unit_test(test_days_as_text), cmocka_unit_test(test_places),
					    cmocka_unit_test(test_what_is_owed), cmocka_unit_test(test_into_the_database_and_out) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
