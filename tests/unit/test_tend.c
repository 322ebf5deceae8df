/* The queue's housekeeping over many of its turns, which are made short; two gates look on. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#define TURN_US 20000
#include "jobs/tend.c"
#include "config/config.h"
#include "store/migrations.h"
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define OK(x) assert_int_equal((x), TG_DB_OK)
static char dir[64], url[128];
static struct tg_store *store;
static struct tg_err err;

static void no_warning(void *ctx, const char *text)
{
	(void)ctx;
	fail_msg("%s", text);
}

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg-tend-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(url, sizeof url, "sqlite:%s/db", dir);
	store = tg_store_open(url, &(struct tg_secret){ 0 }, no_warning, NULL, &err);
	return store ? 0 : -1;
}

static int remove_dir(void **state)
{
	(void)state;
	static const char *const names[] = { "db", "db-wal", "db-shm", "db.known", "secret.key" };
	char path[128];
	tg_store_close(store);
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(path, sizeof path, "%s/%s", dir, names[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static enum tg_db_result add(struct tg_db *db, void *place, struct tg_err *e)
{
	struct tg_job_row j = { .id = "01K7CXYHJ7BR4E87VVTG8FNB01", .kind = "predict", .spec = "{}", .place = place, .created_us = 1, .updated_us = 1 };
	enum tg_job_room room;
	return tg_job_rows_insert(db, &j, 0, &room, e);
}

static enum tg_db_result used(struct tg_db *db, void *place, struct tg_err *e)
{
	return tg_spool_rows_used(db, place, e);
}

static bool sum(void *ctx, const char *place, int64_t turn, int64_t unused_us)
{
	(void)place, (void)turn;
	*(int64_t *)ctx = unused_us;
	return true;
}

static enum tg_db_result read_unused(struct tg_db *db, void *ctx, struct tg_err *e)
{
	*(int64_t *)ctx = -1;
	return tg_spool_rows_list(db, "", 10, sum, ctx, e);
}

static int64_t unused(void)
{
	int64_t us;
	OK(tg_store_read(store, read_unused, &us, &err));
	return us;
}

static void wait_turn(void)
{
	usleep(TURN_US + 2000);
}

static struct tg_tend *tend(unsigned days)
{
	struct tg_config c = { .ml_job_days = days };
	struct tg_tend *t = tg_tend_new(store, &c);
	assert_non_null(t);
	return t;
}

static void test_no_database_is_made(void **state)
{
	(void)state;
	char path[128];
	struct tg_tend *t = tend(30);
	tg_tend_look(t, NULL);
	snprintf(path, sizeof path, "%s/db", dir);
	assert_int_not_equal(access(path, F_OK), 0);
	tg_tend_free(t);
}

static void test_time_adds_up_once(void **state)
{
	(void)state;
	struct tg_tend *a = tend(0), *b = tend(0);
	OK(tg_store_record(store, add, "elsewhere", &err));
	int64_t begun = (int64_t)tg_mono_us();
	tg_tend_look(a, NULL);
	assert_int_equal(unused(), 0); /* learned; a start has seen nothing yet */
	for (int i = 0; i < 10; i++) {
		wait_turn();
		tg_tend_look(a, NULL);
		usleep(1000);
		tg_tend_look(b, NULL);
	}
	int64_t passed = (int64_t)tg_mono_us() - begun, counted = unused();
	assert_in_range(counted, 5 * TURN_US, passed); /* two that look on make no double time */
	OK(tg_store_record(store, used, "elsewhere", &err));
	assert_int_equal(unused(), 0);
	wait_turn();
	tg_tend_look(a, NULL); /* it was used since the last look */
	assert_int_equal(unused(), 0);
	wait_turn();
	tg_tend_look(a, NULL);
	assert_in_range(unused(), TURN_US, 2 * TURN_US);
	usleep(5 * TURN_US); /* it stood still itself */
	int64_t before = unused();
	tg_tend_look(a, NULL);
	assert_int_equal(unused(), before + 2 * TURN_US);
	tg_tend_free(a);
	tg_tend_free(b);
}

static enum tg_db_result old(struct tg_db *db, void *ctx, struct tg_err *e)
{
	(void)ctx;
	return tg_spool_rows_unused(db, "elsewhere", 0, TG_TEND_UNUSED_US - TURN_US / 2, e);
}

static bool see(void *ctx, const struct tg_job_row *j)
{
	snprintf(ctx, 128, "%s %s", tg_job_status_names[j->status], j->error ? j->error : "");
	return false;
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *e)
{
	bool found;
	return tg_job_rows_get(db, "01K7CXYHJ7BR4E87VVTG8FNB01", see, ctx, &found, e);
}

static const char *job(void)
{
	static char text[128];
	text[0] = 0;
	OK(tg_store_read(store, get, text, &err));
	return text;
}

static void test_after_seven_days(void **state)
{
	(void)state;
	struct tg_tend *t = tend(0);
	OK(tg_store_record(store, add, "elsewhere", &err));
	tg_tend_look(t, NULL);
	OK(tg_store_record(store, old, NULL, &err));
	wait_turn();
	tg_tend_look(t, NULL); /* somebody else counted: this one begins anew */
	wait_turn();
	tg_tend_look(t, NULL); /* past seven days; it ends at the next look */
	assert_string_equal(job(), "pending ");
	wait_turn();
	tg_tend_look(t, NULL);
	assert_string_equal(job(), "failed The spool that has its data was not used for 7 days.");
	wait_turn();
	tg_tend_look(t, NULL);
	assert_int_equal(unused(), -1); /* forgotten */
	tg_tend_free(t);
}

static enum tg_db_result end_it(struct tg_db *db, void *finished, struct tg_err *e)
{
	bool ours, found;
	char text[128];
	enum tg_db_result r = tg_job_rows_claim(db, "predict", "elsewhere", NULL, 1, see, text, &found, e);
	return r == TG_DB_OK ? tg_job_rows_finish(db, "01K7CXYHJ7BR4E87VVTG8FNB01", "elsewhere", TG_JOB_FAILED, "x.", *(int64_t *)finished, &ours, e) : r;
}

static void test_ended_rows(void **state)
{
	(void)state;
	int64_t day = 86400000000, when = (int64_t)tg_wall_us() - 2 * day + 60000000;
	struct tg_tend *one = tend(1), *two = tend(2), *ever = tend(0);
	OK(tg_store_record(store, add, "elsewhere", &err));
	OK(tg_store_record(store, end_it, &when, &err));
	tg_tend_look(two, NULL);
	tg_tend_look(ever, NULL);
	assert_string_equal(job(), "failed x.");
	tg_tend_look(one, NULL);
	assert_string_equal(job(), "");
	tg_tend_free(one);
	tg_tend_free(two);
	tg_tend_free(ever);
}

int main(void)
{
#define S(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
	const struct CMUnitTest tests[] = { S(test_no_database_is_made), S(test_time_adds_up_once), S(test_after_seven_days), S(test_ended_rows) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
