/* Kept answers (store/kept.h): that they are given while nobody has committed anything, by whatever process, and never after. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "db_fixture.h"
#include "store/kept.h"
#include <pthread.h>
#include <stdatomic.h>

static const struct tg_secret given = { (char *)(uintptr_t)"0123456789abcdef0123456789abcdef", 32 };
static const char what_a, what_b;
static struct tg_store *store;
static struct tg_kept *kept;

static enum tg_db_result write_row(struct tg_db *d, void *ctx, struct tg_err *e)
{
	struct tg_db_value v[] = { TG_DB_T((const char *)ctx) };
	return tg_db_run(d, "INSERT INTO configs (id, name, data, created_at, updated_at) VALUES ($1, 'n', '{}', 1, 1)", v, 1, NULL, NULL, NULL, e);
}

static enum tg_db_result read_mark(struct tg_db *d, void *ctx, struct tg_err *e)
{
	(void)e;
	assert_true(tg_db_mark(d, ctx));
	return TG_DB_OK;
}

static struct tg_db_mark mark_of(struct tg_store *s)
{
	struct tg_db_mark m;
	OK(tg_store_read(s, read_mark, &m, &err));
	return m;
}

static struct tg_store *open_it(void)
{
	struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

static int setup(void **state)
{
	open_db(state); /* somebody else's connection */
	store = open_it();
	kept = tg_kept_new();
	assert_non_null(kept);
	return 0;
}

static int teardown(void **state)
{
	tg_kept_free(kept);
	tg_store_close(store);
	return close_db(state);
}

static struct tg_kept_key key(const void *what, const char *id, uint64_t page, uint64_t size)
{
	struct tg_kept_key k = { .what = what, .page = page, .size = size };
	snprintf(k.id, sizeof k.id, "%s", id);
	return k;
}

/* What is kept under k; NULL: nothing. */
static const char *got(struct tg_kept_key k, bool found)
{
	static char text[TG_KEPT_BYTES + 1];
	struct tg_buf b;
	bool f = !found;
	tg_buf_init(&b, sizeof text);
	bool there = tg_kept_get(kept, store, &k, &f, &b);
	if (there) {
		assert_int_equal(f, found);
		memcpy(text, b.p ? b.p : "", b.len);
		text[b.len] = 0;
	}
	tg_buf_free(&b);
	return there ? text : NULL;
}

static void put(struct tg_kept_key k, bool found, const char *text)
{
	struct tg_db_mark m = mark_of(store);
	tg_kept_put(kept, &m, &k, found, tg_slice_cstr(text));
}

static void test_each_question_has_its_answer(void **state)
{
	(void)state;
	assert_null(got(key(&what_a, "", 0, 0), true));
	put(key(&what_a, "", 0, 0), true, "all");
	put(key(&what_a, "", 1, 5), true, "a page");
	put(key(&what_a, "", 5, 1), true, "another");
	put(key(&what_a, "X", 0, 0), false, "");
	put(key(&what_b, "", 0, 0), true, "of b");
	put(key(&what_b, "", 0, 0), true, "once more"); /* what is there stays: it is of the same moment */
	assert_string_equal(got(key(&what_a, "", 0, 0), true), "all");
	assert_string_equal(got(key(&what_a, "", 1, 5), true), "a page");
	assert_string_equal(got(key(&what_a, "", 5, 1), true), "another");
	assert_string_equal(got(key(&what_a, "X", 0, 0), false), "");
	assert_string_equal(got(key(&what_b, "", 0, 0), true), "of b");
	assert_null(got(key(&what_b, "X", 0, 0), true));
	assert_null(got(key(&what_a, "", 1, 6), true));
}

static void test_our_commits_end_them(void **state)
{
	(void)state;
	struct tg_db_mark before = mark_of(store);
	put(key(&what_a, "", 0, 0), true, "old");
	OK(tg_store_record(store, write_row, (void *)(uintptr_t)"second", &err));
	assert_null(got(key(&what_a, "", 0, 0), true));
	/* Read before that commit, and told after it. */
	struct tg_kept_key k = key(&what_a, "", 0, 0);
	tg_kept_put(kept, &before, &k, true, TG_S("late"));
	assert_null(got(k, true));
	put(k, true, "new");
	assert_string_equal(got(k, true), "new");
	OK(tg_store_note(store, write_row, (void *)(uintptr_t)"third", &err));
	assert_null(got(k, true));
}

static void test_commits_of_others_end_them(void **state)
{
	(void)state;
	enum tg_db_result why;
	struct tg_kept_key k = key(&what_a, "", 0, 0);
	char id[16];
	for (unsigned i = 0; i < 300; i++) {
		snprintf(id, sizeof id, "other-%u", i);
		put(k, true, id);
		OK(tg_db_begin(db, &err));
		OK(write_row(db, id, &err));
		assert_string_equal(got(k, true), id); /* what it writes is not yet true */
		OK(tg_db_commit(db, &err));
		assert_null(got(k, true));
	}
	put(k, true, "still");
	OK(tg_db_begin(db, &err));
	OK(write_row(db, (void *)(uintptr_t)"never", &err));
	tg_db_rollback(db);
	assert_string_equal(got(k, true), "still");
	tg_db_close(tg_db_open(url, false, NULL, &why, &err)); /* which commits nothing */
	assert_string_equal(got(k, true), "still");
}

static void test_an_opening_ends_them(void **state)
{
	(void)state;
	struct tg_kept_key k = key(&what_a, "", 0, 0);
	/* Opened by nobody else, and nothing committed: the header of a log that is empty is the same for any database. */
	tg_db_close(db);
	db = NULL;
	tg_store_close(store);
	store = open_it();
	put(k, true, "of this one");
	assert_string_equal(got(k, true), "of this one");
	tg_store_close(store);
	store = open_it();
	(void)mark_of(store);
	assert_null(got(k, true));
}

static void test_bounds(void **state)
{
	(void)state;
	static char most[TG_KEPT_BYTES + 2];
	char id[16];
	memset(most, 'x', TG_KEPT_BYTES + 1);
	put(key(&what_a, "", 0, 0), true, most);
	assert_null(got(key(&what_a, "", 0, 0), true));
	most[TG_KEPT_BYTES] = 0;
	put(key(&what_a, "", 0, 0), true, most);
	assert_string_equal(got(key(&what_a, "", 0, 0), true), most);
	for (unsigned i = 0; i < TG_KEPT_MOST; i++) {
		snprintf(id, sizeof id, "%u", i);
		put(key(&what_b, id, 0, 0), true, id);
	}
	assert_null(got(key(&what_a, "", 0, 0), true)); /* it gave its place */
	for (unsigned i = 0; i < TG_KEPT_MOST; i++) {
		snprintf(id, sizeof id, "%u", i);
		assert_string_equal(got(key(&what_b, id, 0, 0), true), id);
	}
}

static enum tg_db_result ask_meanwhile(struct tg_db *d, void *ctx, struct tg_err *e)
{
	struct tg_db_mark m;
	(void)d, (void)ctx, (void)e;
	assert_false(tg_store_mark(store, &m)); /* it does not wait for whoever uses the database */
	return TG_DB_OK;
}

static void test_nobody_waits(void **state)
{
	(void)state;
	struct tg_db_mark m;
	OK(tg_store_read(store, ask_meanwhile, NULL, &err));
	assert_true(tg_store_mark(store, &m));
}

static enum tg_db_result mark_of_none(struct tg_db *d, void *ctx, struct tg_err *e)
{
	struct tg_db_mark m;
	(void)e;
	*(bool *)ctx = tg_db_mark(d, &m);
	return TG_DB_OK;
}

static void test_without_a_database(void **state)
{
	struct tg_db_mark m;
	bool marked = true;
	(void)state;
	make_dir(state);
	struct tg_store *s = open_it();
	assert_false(tg_store_mark(s, &m));
	OK(tg_store_read(s, mark_of_none, &marked, &err)); /* what stands in for it is in memory */
	assert_false(marked);
	tg_store_close(s);
	remove_dir(state);
}

/* ---- threads ---- */

static _Atomic unsigned committed;
static _Atomic bool over;

static void *commit_on(void *arg)
{
	char id[24];
	struct tg_err e;
	(void)arg;
	for (unsigned i = 1; i <= 400; i++) {
		snprintf(id, sizeof id, "t-%u", i);
		assert_int_equal(tg_store_note(store, write_row, id, &e), TG_DB_OK);
		atomic_store(&committed, i);
	}
	atomic_store(&over, true);
	return NULL;
}

struct count {
	struct tg_db_mark mark;
	int64_t n;
};

static bool count_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	((struct count *)ctx)->n = n == 1 ? v[0].i : -1;
	return false;
}

static enum tg_db_result count_all(struct tg_db *d, void *ctx, struct tg_err *e)
{
	struct count *c = ctx;
	assert_true(tg_db_mark(d, &c->mark));
	return tg_db_run(d, "SELECT COUNT(*) FROM configs WHERE id LIKE 't-%'", NULL, 0, count_row, c, NULL, e);
}

static void *ask_on(void *arg)
{
	struct tg_kept_key k = key(&what_a, "", 0, 0);
	(void)arg;
	while (!atomic_load(&over)) {
		unsigned least = atomic_load(&committed);
		struct tg_buf b;
		bool found;
		int64_t n;
		tg_buf_init(&b, 64);
		if (tg_kept_get(kept, store, &k, &found, &b)) {
			assert_int_equal(b.len, sizeof n);
			memcpy(&n, b.p, sizeof n);
		} else {
			struct tg_err e;
			struct count c;
			assert_int_equal(tg_store_read(store, count_all, &c, &e), TG_DB_OK);
			n = c.n;
			tg_kept_put(kept, &c.mark, &k, true, (struct tg_slice){ (const char *)&n, sizeof n });
		}
		tg_buf_free(&b);
		if (n < (int64_t)least)
			fail_msg("%lld rows were said when there were %u", (long long)n, least);
	}
	return NULL;
}

static void test_nothing_old_is_said_while_others_commit(void **state)
{
	(void)state;
	pthread_t t[4];
	atomic_store(&committed, 0);
	atomic_store(&over, false);
	for (unsigned i = 0; i < 3; i++)
		assert_int_equal(pthread_create(&t[i], NULL, ask_on, NULL), 0);
	assert_int_equal(pthread_create(&t[3], NULL, commit_on, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_each_question_has_its_answer),
		T(test_our_commits_end_them),
		T(test_commits_of_others_end_them),
		T(test_an_opening_ends_them),
		T(test_bounds),
		T(test_nobody_waits),
		cmocka_unit_test(test_without_a_database),
		T(test_nothing_old_is_said_while_others_commit),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
