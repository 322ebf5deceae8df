/* The queue in the database: leases, ends, bounds, spools that nobody uses. Times are stepped, nothing waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "db_fixture.h"
#include "store/jobs.h"
#include "store/spools.h"
#include <sqlite3.h>
#include <stdio.h>
#include <unistd.h>

#define ID(n) "01K7CXYHJ7BR4E87VVTG8FNB" n

/* What rows were seen, as text: ids' last two characters and a word, each with a space behind it. */
static char seen[4096];

static bool see_job(void *ctx, const struct tg_job_row *j)
{
	(void)ctx;
	size_t n = strlen(seen);
	snprintf(seen + n, sizeof seen - n, "%s:%s:%u:%u:%s ", j->id + 24, tg_job_status_names[j->status], j->attempts, j->progress, j->error ? j->error : j->result ? j->result : j->message);
	return true;
}

static void add_job(const char *id, const char *kind, int64_t now)
{
	struct tg_job_row j = { .id = id, .kind = kind, .message = "", .spec = "{}", .artifact_id = ID("AA"), .principal = "key_x", .key_prefix = "sk_ml_tra", .created_us = now, .updated_us = now };
	enum tg_job_room room;
	OK(tg_job_rows_insert(db, &j, 0, &room, &err));
	assert_int_equal(room, TG_JOB_ROOM);
}

static const char *job(const char *id)
{
	bool found;
	seen[0] = 0;
	OK(tg_job_rows_get(db, id, see_job, NULL, &found, &err));
	return found ? seen : NULL;
}

static const char *claim(const char *kind, const char *owner, int64_t now)
{
	bool found;
	seen[0] = 0;
	OK(tg_job_rows_claim(db, kind, owner, NULL, now, see_job, NULL, &found, &err));
	return found ? seen : NULL;
}

static bool beat(const char *id, const char *owner, int64_t now, unsigned progress, const char *message)
{
	bool ours;
	OK(tg_job_rows_beat(db, id, owner, now, progress, message, &ours, &err));
	return ours;
}

static bool finish(const char *id, const char *owner, enum tg_job_status status, const char *text, int64_t now)
{
	bool ours;
	OK(tg_job_rows_finish(db, id, owner, status, text, now, &ours, &err));
	return ours;
}

static bool put_back(const char *id, const char *owner, int64_t now)
{
	bool ours;
	OK(tg_job_rows_put_back(db, id, owner, now, &ours, &err));
	return ours;
}

static bool making(const char *artifact)
{
	bool making;
	OK(tg_job_rows_making(db, artifact, &making, &err));
	return making;
}

static bool any(const char *kind, const char *owner)
{
	bool any;
	OK(tg_job_rows_any(db, kind, owner, NULL, &any, &err));
	return any;
}

static uint64_t reap(const char *owned_by, int64_t now)
{
	uint64_t n;
	seen[0] = 0;
	OK(tg_job_rows_reap(db, owned_by, now, see_job, NULL, &n, &err));
	return n;
}

static bool is_named(void *ctx, const char *id)
{
	return strstr(ctx, id) != NULL;
}

static void test_who_is_passed_over(void **state)
{
	(void)state;
	char both[] = ID("J1") ID("J2");
	struct tg_job_skip skip = { is_named, both, 2 };
	bool found, any;
	add_job(ID("J1"), "train", 10);
	add_job(ID("J2"), "train", 20);
	OK(tg_job_rows_any(db, "train", "a", &skip, &any, &err));
	assert_false(any);
	OK(tg_job_rows_claim(db, "train", "a", &skip, 100, see_job, NULL, &found, &err));
	assert_false(found);
	add_job(ID("J3"), "train", 30);
	OK(tg_job_rows_any(db, "train", "a", &skip, &any, &err));
	assert_true(any);
	OK(tg_job_rows_claim(db, "train", "a", &skip, 100, see_job, NULL, &found, &err));
	assert_true(found);
	assert_string_equal(seen, "J3:running:1:0: ");
	assert_string_equal(claim("train", "a", 100), "J1:running:1:0: ");
}

static void test_a_job_from_start_to_end(void **state)
{
	(void)state;
	uint64_t n;
	int64_t oldest;
	bool found;
	add_job(ID("J2"), "train", 20);
	add_job(ID("J1"), "train", 30);
	add_job(ID("J3"), "predict", 10);
	OK(tg_job_rows_waiting(db, "train", &n, &oldest, &err));
	assert_int_equal(n, 2);
	assert_int_equal(oldest, 20);
	assert_null(claim("credit_train", "a", 100));
	assert_false(any("credit_train", "a"));
	assert_true(making(ID("AA")));
	assert_false(making(ID("AB")));
	assert_true(any("train", "a"));
	assert_string_equal(claim("train", "a", 100), "J2:running:1:0: "); /* the oldest of its kind */
	assert_true(beat(ID("J2"), "a", 200, 30, "fitting"));
	assert_string_equal(job(ID("J2")), "J2:running:1:30:fitting ");
	assert_false(beat(ID("J2"), "b", 200, 99, "mine"));
	assert_false(beat(ID("J1"), "a", 200, 99, "not begun"));
	assert_false(finish(ID("J2"), "b", TG_JOB_FAILED, "mine", 300));
	assert_string_equal(job(ID("J2")), "J2:running:1:30:fitting ");
	assert_true(finish(ID("J2"), "a", TG_JOB_COMPLETED, "Training completed successfully", 300));
	assert_string_equal(job(ID("J2")), "J2:completed:1:100:Training completed successfully ");
	assert_false(finish(ID("J2"), "a", TG_JOB_FAILED, "again", 400)); /* an end is an end */
	assert_false(beat(ID("J2"), "a", 400, 1, "again"));
	assert_string_equal(claim("train", "a", 500), "J1:running:1:0: ");
	assert_null(claim("train", "a", 500));
	assert_false(any("train", "a"));
	assert_true(finish(ID("J1"), "a", TG_JOB_FAILED, "The target has one value only.", 600));
	assert_string_equal(job(ID("J1")), "J1:failed:1:0:The target has one value only. ");
	seen[0] = 0;
	OK(tg_job_rows_list(db, TG_JOB_STATUS_COUNT, 1, 1, see_job, NULL, &err));
	assert_string_equal(seen, "J2:completed:1:100:Training completed successfully ");
	seen[0] = 0;
	OK(tg_job_rows_list(db, TG_JOB_PENDING, 0, 10, see_job, NULL, &err));
	assert_string_equal(seen, "J3:pending:0:0: ");
	OK(tg_job_rows_count(db, TG_JOB_STATUS_COUNT, &n, &err));
	assert_int_equal(n, 3);
	OK(tg_job_rows_count(db, TG_JOB_FAILED, &n, &err));
	assert_int_equal(n, 1);
	OK(tg_job_rows_waiting(db, "train", &n, &oldest, &err));
	assert_int_equal(n, 0);
	assert_int_equal(oldest, 0);
	OK(tg_job_rows_delete(db, ID("J3"), &found, &err));
	assert_true(found);
	assert_false(making(ID("AA"))); /* the others have ended */
	OK(tg_job_rows_delete(db, ID("J3"), &found, &err));
	assert_false(found);
}

static void test_leases(void **state)
{
	(void)state;
	int64_t t = 1000000000;
	add_job(ID("J1"), "train", t);
	assert_non_null(claim("train", "a", t));
	assert_int_equal(reap(NULL, t + TG_JOB_LEASE_US - 1), 0);
	assert_true(beat(ID("J1"), "a", t += TG_JOB_BEAT_US, 10, ""));
	assert_int_equal(reap(NULL, t + TG_JOB_LEASE_US - 1), 0);
	assert_int_equal(reap(NULL, t += TG_JOB_LEASE_US), 1);
	assert_string_equal(job(ID("J1")), "J1:pending:1:0: ");
	/* The first owner lives after all, but the row is not his any more. */
	assert_false(beat(ID("J1"), "a", t, 90, ""));
	assert_non_null(claim("train", "b", t));
	assert_false(beat(ID("J1"), "a", t, 90, ""));
	assert_false(finish(ID("J1"), "a", TG_JOB_COMPLETED, "late", t));
	assert_true(beat(ID("J1"), "b", t, 20, ""));
	/* A start that knows its predecessor gone does not wait for its lease; others' rows stay. */
	add_job(ID("J2"), "predict", t);
	assert_non_null(claim("predict", "c", t));
	assert_int_equal(reap("b", t), 1);
	assert_string_equal(job(ID("J1")), "J1:pending:2:0: ");
	assert_string_equal(job(ID("J2")), "J2:running:1:0: ");
	assert_non_null(claim("train", "b", t));
	assert_int_equal(reap("b", t), 1);
	assert_string_equal(seen, "J1:running:3:0: "); /* what failed, as it was */
	assert_string_equal(job(ID("J1")), "J1:failed:3:0:The job's worker ended 3 times. ");
	assert_null(claim("train", "b", t));
	/* A try that failed counts; a gate that ends in peace gives its row back as if it had not begun it. */
	assert_true(finish(ID("J2"), "c", TG_JOB_PENDING, NULL, t));
	assert_string_equal(job(ID("J2")), "J2:pending:1:0: ");
	assert_non_null(claim("predict", "c", t));
	assert_true(beat(ID("J2"), "c", t, 70, "predicting"));
	assert_false(put_back(ID("J2"), "b", t));
	assert_string_equal(job(ID("J2")), "J2:running:2:70:predicting ");
	assert_true(put_back(ID("J2"), "c", t));
	assert_string_equal(job(ID("J2")), "J2:pending:1:0: ");
	assert_false(put_back(ID("J2"), "c", t));
	/* Canceled meanwhile. */
	bool found;
	assert_non_null(claim("predict", "c", t));
	OK(tg_job_rows_delete(db, ID("J2"), &found, &err));
	assert_false(beat(ID("J2"), "c", t, 50, ""));
	assert_false(finish(ID("J2"), "c", TG_JOB_COMPLETED, "x", t));
	assert_null(job(ID("J2")));
}

static void test_two_connections_claim(void **state)
{
	(void)state;
	enum tg_db_result why;
	struct tg_db *first = db, *second = tg_db_open(url, false, NULL, &why, &err);
	assert_non_null(second);
	char id[TG_ULID_LEN + 1];
	for (int i = 0; i < 20; i++) {
		snprintf(id, sizeof id, "01K7CXYHJ7BR4E87VVTG8FN%03d", i);
		add_job(id, "train", 100 + i);
	}
	for (int i = 0; i < 20; i++) {
		char want[40];
		db = i % 2 ? second : first;
		OK(tg_db_begin(db, &err));
		snprintf(want, sizeof want, "%02d:running:1:0: ", i);
		assert_string_equal(claim("train", i % 2 ? "b" : "a", 1000), want);
		OK(tg_db_commit(db, &err));
	}
	assert_null(claim("train", "a", 1000));
	assert_int_equal(reap("a", 1000), 10);
	db = first;
	tg_db_close(second);
}

static void test_the_queue_is_bounded(void **state)
{
	(void)state;
	struct tg_job_row j = { .id = ID("J1"), .kind = "train", .spec = "{}", .created_us = 1, .updated_us = 1 };
	sqlite3 *h;
	enum tg_job_room room;
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h,
				      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO jobs (id, kind, status, progress, message, spec, principal, key_prefix, attempts, "
				      "created_at, updated_at) SELECT 'x' || i, 'train', 'pending', 0, '', '{}', '', '', 0, i, i FROM n",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	OK(tg_job_rows_insert(db, &j, 0, &room, &err));
	assert_int_equal(room, TG_JOB_FULL);
	assert_null(job(ID("J1")));
	assert_int_equal(sqlite3_exec(h, "UPDATE jobs SET status = 'completed' WHERE id = 'x7'", NULL, NULL, NULL), SQLITE_OK);
	OK(tg_job_rows_insert(db, &j, 0, &room, &err));
	assert_int_equal(room, TG_JOB_ROOM);
	sqlite3_close(h);
}

static enum tg_job_room ask(const char *id, const char *principal, uint64_t most)
{
	struct tg_job_row j = { .id = id, .kind = "train", .spec = "{}", .principal = principal, .created_us = 1, .updated_us = 1 };
	enum tg_job_room room;
	OK(tg_job_rows_insert(db, &j, most, &room, &err));
	return room;
}

static void test_a_share_of_the_queue(void **state)
{
	(void)state;
	bool found;
	assert_int_equal(ask(ID("J1"), "key_a", 2), TG_JOB_ROOM);
	assert_int_equal(ask(ID("J2"), "key_a", 2), TG_JOB_ROOM);
	assert_int_equal(ask(ID("J3"), "key_a", 2), TG_JOB_KEY_FULL);
	assert_null(job(ID("J3")));
	assert_int_equal(ask(ID("J4"), "key_b", 2), TG_JOB_ROOM); /* another's is his own */
	assert_int_equal(ask(ID("J5"), NULL, 1), TG_JOB_ROOM);
	assert_int_equal(ask(ID("J6"), "", 1), TG_JOB_KEY_FULL);
	assert_non_null(claim("train", "a", 100)); /* what runs counts too */
	assert_int_equal(ask(ID("J3"), "key_a", 2), TG_JOB_KEY_FULL);
	assert_true(finish(ID("J1"), "a", TG_JOB_FAILED, "x.", 200));
	assert_int_equal(ask(ID("J3"), "key_a", 2), TG_JOB_ROOM);
	OK(tg_job_rows_delete(db, ID("J2"), &found, &err));
	assert_int_equal(ask(ID("J2"), "key_a", 2), TG_JOB_ROOM);
	assert_int_equal(ask(ID("J7"), "key_a", 2), TG_JOB_KEY_FULL);
	assert_int_equal(ask(ID("J7"), "key_a", 0), TG_JOB_ROOM);
}

static uint64_t prune(int64_t before, uint64_t most)
{
	uint64_t n;
	OK(tg_job_rows_prune(db, before, most, &n, &err));
	return n;
}

static void test_ended_rows_go(void **state)
{
	(void)state;
	static const char *const ids[] = { ID("J1"), ID("J2"), ID("J3"), ID("J4"), ID("J5") };
	for (unsigned i = 0; i < 5; i++)
		add_job(ids[i], "train", 10 + i);
	for (unsigned i = 0; i < 4; i++)
		assert_non_null(claim("train", "a", 100));
	for (unsigned i = 0; i < 3; i++)
		assert_true(finish(ids[2 - i], "a", i ? TG_JOB_COMPLETED : TG_JOB_FAILED, "x.", 1000 + i)); /* J3 ended first */
	assert_int_equal(prune(1000, 10), 0);
	assert_int_equal(prune(1002, 1), 1);
	assert_null(job(ID("J3")));
	assert_non_null(job(ID("J2")));
	assert_int_equal(prune(1002, 10), 1);
	assert_null(job(ID("J2")));
	assert_non_null(job(ID("J1")));
	assert_int_equal(prune(INT64_MAX, 10), 1); /* what waits or runs has not ended, however old it is */
	assert_non_null(job(ID("J4")));
	assert_non_null(job(ID("J5")));
	assert_true(finish(ID("J4"), "a", TG_JOB_PENDING, NULL, 1100)); /* a try's end is none */
	assert_int_equal(prune(INT64_MAX, 10), 0);
}

static void add_at(const char *id, const char *place)
{
	struct tg_job_row j = { .id = id, .kind = "train", .spec = "{}", .place = place, .created_us = 1, .updated_us = 1 };
	enum tg_job_room room;
	OK(tg_job_rows_insert(db, &j, 0, &room, &err));
}

static bool see_spool(void *ctx, const char *place, int64_t turn, int64_t unused_us)
{
	(void)ctx;
	size_t n = strlen(seen);
	snprintf(seen + n, sizeof seen - n, "%s:%d:%d ", place, (int)turn, (int)unused_us);
	return true;
}

static const char *spools(const char *mine)
{
	seen[0] = 0;
	OK(tg_spool_rows_list(db, mine, 10, see_spool, NULL, &err));
	return seen;
}

static uint64_t abandon(const char *place, int64_t unused_us, uint64_t most)
{
	uint64_t n;
	seen[0] = 0;
	OK(tg_job_rows_abandon(db, place, unused_us, most, "It waited.", 500, see_job, NULL, &n, &err));
	return n;
}

static void test_a_spool_that_nobody_uses(void **state)
{
	(void)state;
	add_at(ID("J1"), "here");
	add_at(ID("J2"), "there");
	add_at(ID("J3"), "there");
	add_at(ID("J4"), NULL);
	add_at(ID("J5"), "there");
	assert_non_null(claim("train", "there", 100)); /* J2 runs */
	OK(tg_spool_rows_used(db, "here", &err));
	OK(tg_spool_rows_learn(db, &err));
	OK(tg_spool_rows_learn(db, &err));
	assert_string_equal(spools(""), "here:0:0 there:0:0 ");
	assert_string_equal(spools("here"), "there:0:0 ");
	/* Of two that look on, the one who finds what he left counts, and the other begins anew. */
	OK(tg_spool_rows_unused(db, "there", 0, 60, &err));
	OK(tg_spool_rows_unused(db, "there", 0, 55, &err));
	assert_string_equal(spools("here"), "there:1:60 ");
	OK(tg_spool_rows_used(db, "there", &err));
	OK(tg_spool_rows_unused(db, "there", 1, 60, &err));
	assert_string_equal(spools("here"), "there:2:0 ");
	OK(tg_spool_rows_unused(db, "there", 2, 99, &err));
	assert_int_equal(abandon("there", 100, 10), 0);
	OK(tg_spool_rows_forget(db, 100, &err));
	OK(tg_spool_rows_unused(db, "there", 3, 1, &err));
	assert_int_equal(abandon("here", 100, 10), 0);
	assert_int_equal(abandon("there", 100, 2), 2);
	assert_string_equal(seen, "J2:running:1:0: J3:pending:0:0: "); /* as they were */
	assert_string_equal(job(ID("J2")), "J2:failed:1:0:It waited. ");
	OK(tg_spool_rows_forget(db, 100, &err));
	assert_string_equal(spools("here"), "there:4:100 "); /* a job waits there yet */
	assert_false(beat(ID("J2"), "there", 600, 1, ""));   /* should he live after all */
	assert_int_equal(abandon("there", 100, 2), 1);
	assert_string_equal(job(ID("J5")), "J5:failed:0:0:It waited. ");
	OK(tg_spool_rows_forget(db, 100, &err));
	assert_string_equal(spools(""), "here:0:0 ");
	assert_string_equal(job(ID("J1")), "J1:pending:0:0: ");
	assert_string_equal(job(ID("J4")), "J4:pending:0:0: ");
}

static void test_leases_are_kept(void **state)
{
	(void)state;
	int64_t t = 1000000000;
	add_job(ID("J1"), "train", t);
	add_job(ID("J2"), "predict", t);
	assert_non_null(claim("train", "a", t));
	assert_non_null(claim("predict", "b", t));
	OK(tg_job_rows_keep(db, "a", t += TG_JOB_BEAT_US, &err));
	assert_int_equal(reap(NULL, t + TG_JOB_LEASE_US - 1), 1);
	assert_string_equal(job(ID("J1")), "J1:running:1:0: ");
	assert_string_equal(job(ID("J2")), "J2:pending:1:0: ");
	OK(tg_job_rows_keep(db, "b", t, &err)); /* what waits has none */
	assert_int_equal(reap(NULL, t + TG_JOB_LEASE_US), 1);
	assert_string_equal(job(ID("J1")), "J1:pending:1:0: ");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_db, close_db)
	const struct CMUnitTest tests[] = {
		T(test_who_is_passed_over), T(test_a_job_from_start_to_end), T(test_leases), T(test_two_connections_claim), T(test_the_queue_is_bounded), T(test_a_share_of_the_queue), T(test_ended_rows_go),
		T(test_a_spool_that_nobody_uses), T(test_leases_are_kept),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
