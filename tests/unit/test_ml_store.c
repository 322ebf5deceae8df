/* Configurations, artifacts and jobs in the database; the step from schema 1 to 2; ids of records. Times are stepped, nothing waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "store/artifacts.h"
#include "store/configs.h"
#include "store/identity.h"
#include "store/jobs.h"
#include "store/migrations.h"
#include "store/store.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID(n) "01K7CXYHJ7BR4E87VVTG8FNB" n

static char dir[64], url[160], path[128];
static const struct tg_secret given = { (char *)(uintptr_t)"0123456789abcdef0123456789abcdef", 32 };
static struct tg_db *db;
static struct tg_err err;

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tollgate-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/t.db", dir);
	snprintf(url, sizeof url, "sqlite:%s", path);
	return 0;
}

static int remove_dir(void **state)
{
	(void)state;
	char name[160];
	static const char *const names[] = { "t.db", "t.db-wal", "t.db-shm", "t.db.known", "t.db.before-0002", "secret.key", "" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, "%s/%s", dir, names[i]);
		remove(name);
	}
	return 0;
}

static int open_db(void **state)
{
	enum tg_db_result why;
	make_dir(state);
	db = tg_db_open(url, true, NULL, &why, &err);
	assert_non_null(db);
	return 0;
}

static int close_db(void **state)
{
	tg_db_close(db);
	db = NULL;
	return remove_dir(state);
}

#define OK(call)                                                   \
	do {                                                       \
		snprintf(err.text, sizeof err.text, "-");          \
		if ((call) != TG_DB_OK)                            \
			fail_msg("line %d: %s", __LINE__, err.text); \
	} while (0)

/* ---- configs ---- */

/* What rows were seen, as text: ids' last two characters and a word, each with a space behind it. */
static char seen[4096];

static bool see_config(void *ctx, const struct tg_config_row *c)
{
	(void)ctx;
	size_t n = strlen(seen);
	snprintf(seen + n, sizeof seen - n, "%s:%s:%s:%lld:%lld ", c->id + 24, c->name, c->data, (long long)c->created_us, (long long)c->updated_us);
	return true;
}

static const char *configs(uint64_t skip, uint64_t most)
{
	seen[0] = 0;
	OK(tg_configs_list(db, skip, most, see_config, NULL, &err));
	return seen;
}

static void test_configs(void **state)
{
	(void)state;
	struct tg_config_row a = { ID("MA"), "a", "{}", 10, 10 }, b = { ID("M0"), "b", "{\"x\":1.50}", 11, 11 }, again = { ID("MA"), "a2", "{\"y\":\"\xc3\xa4\"}", 99, 20 };
	bool created, found;
	uint64_t n;
	OK(tg_configs_put(db, &a, &created, &err));
	assert_true(created);
	OK(tg_configs_put(db, &b, &created, &err));
	assert_string_equal(configs(0, UINT64_MAX), "MA:a:{}:10:10 M0:b:{\"x\":1.50}:11:11 "); /* in the order of making, not of ids; data to the letter */
	OK(tg_configs_put(db, &again, &created, &err));
	assert_false(created);
	assert_int_equal(again.created_us, 10);
	assert_string_equal(configs(0, 1), "MA:a2:{\"y\":\"\xc3\xa4\"}:10:20 ");
	assert_string_equal(configs(1, 5), "M0:b:{\"x\":1.50}:11:11 ");
	assert_string_equal(configs(UINT64_MAX, 5), "");
	struct tg_config_row none = { ID("MZ"), "z", "{}", 1, 1 };
	OK(tg_configs_update(db, &none, &found, &err));
	assert_false(found);
	OK(tg_configs_count(db, &n, &err));
	assert_int_equal(n, 2);
	OK(tg_configs_get(db, ID("MZ"), see_config, NULL, &found, &err));
	assert_false(found);
	OK(tg_configs_delete(db, ID("MA"), &found, &err));
	assert_true(found);
	OK(tg_configs_delete(db, ID("MA"), &found, &err));
	assert_false(found);
	OK(tg_configs_get(db, ID("M0"), see_config, NULL, &found, &err));
	assert_true(found);
}

/* ---- artifacts ---- */

static bool see_artifact(void *ctx, const struct tg_artifact_row *a)
{
	(void)ctx;
	size_t n = strlen(seen);
	assert_int_equal(strlen(a->data), a->data_len);
	snprintf(seen + n, sizeof seen - n, "%s<%s:%u ", a->id + 24, a->parent_id ? a->parent_id + 24 : "", a->level);
	return true;
}

static bool put(const char *id, const char *parent, const char *data, int64_t now, bool *created)
{
	bool ok;
	struct tg_artifact_row a = { .id = id, .parent_id = parent, .data = data, .data_len = strlen(data), .created_us = now, .updated_us = now };
	OK(tg_artifacts_put(db, &a, created, &ok, &err));
	return ok;
}

static const char *artifacts(void)
{
	seen[0] = 0;
	OK(tg_artifacts_list(db, 0, 1000, see_artifact, NULL, &err));
	return seen;
}

static void test_artifacts(void **state)
{
	(void)state;
	bool c, found;
	uint64_t n;
	assert_true(put(ID("MA"), NULL, "{\"config_id\":\"" ID("CC") "\"}", 1, &c));
	assert_true(c);
	assert_true(put(ID("MB"), ID("MA"), "[1]", 2, &c));
	assert_true(put(ID("MC"), ID("MB"), "{\"config_id\":\"" ID("CC") "\"}", 3, &c));
	assert_false(put(ID("MD"), ID("MX"), "1", 4, &c)); /* there is no such parent */
	assert_string_equal(artifacts(), "MA<:0 MB<MA:1 MC<MB:2 ");
	/* Not below itself, at any distance; and nothing was changed. */
	assert_false(put(ID("MA"), ID("MA"), "1", 5, &c));
	assert_false(put(ID("MA"), ID("MC"), "1", 5, &c));
	assert_false(put(ID("MB"), ID("MC"), "1", 5, &c));
	assert_string_equal(artifacts(), "MA<:0 MB<MA:1 MC<MB:2 ");
	/* What is below moves along. */
	assert_true(put(ID("MD"), NULL, "1", 6, &c));
	assert_true(put(ID("ME"), ID("MD"), "1", 7, &c));
	assert_true(put(ID("MB"), ID("ME"), "2", 8, &c));
	assert_false(c);
	assert_string_equal(artifacts(), "MA<:0 MB<ME:2 MC<MB:3 MD<:0 ME<MD:1 ");
	seen[0] = 0;
	OK(tg_artifacts_children(db, ID("MD"), see_artifact, NULL, &err));
	assert_string_equal(seen, "ME<MD:1 ");
	seen[0] = 0;
	OK(tg_artifacts_of_config(db, ID("CC"), 0, 10, see_artifact, NULL, &err));
	assert_string_equal(seen, "MA<:0 "); /* roots only */
	OK(tg_artifacts_delete(db, ID("ME"), &found, &err));
	assert_true(found);
	assert_string_equal(artifacts(), "MA<:0 MB<:2 MC<MB:3 MD<:0 "); /* its child is a root of its own, with its level */
	OK(tg_artifacts_delete(db, ID("ME"), &found, &err));
	assert_false(found);
	OK(tg_artifacts_count(db, &n, &err));
	assert_int_equal(n, 4);
	seen[0] = 0;
	OK(tg_artifacts_get(db, ID("MC"), see_artifact, NULL, &found, &err));
	assert_string_equal(seen, "MC<MB:3 ");
	OK(tg_artifacts_get(db, ID("MX"), see_artifact, NULL, &found, &err));
	assert_false(found);
}

static void test_a_tree_has_a_height(void **state)
{
	(void)state;
	char id[TG_ULID_LEN + 1], parent[TG_ULID_LEN + 1];
	bool c;
	for (int i = 0; i <= TG_ARTIFACT_LEVEL_MAX + 1; i++) {
		snprintf(id, sizeof id, "01K7CXYHJ7BR4E87VVTG8FN%03d", i);
		assert_int_equal(put(id, i ? parent : NULL, "1", i + 1, &c), i <= TG_ARTIFACT_LEVEL_MAX);
		memcpy(parent, id, sizeof id);
	}
	/* The whole tree one lower would be too deep for its last row. */
	assert_true(put(ID("ZZ"), NULL, "1", 500, &c));
	assert_false(put("01K7CXYHJ7BR4E87VVTG8FN000", ID("ZZ"), "1", 501, &c));
}

static bool see_len(void *ctx, const struct tg_artifact_row *a)
{
	*(size_t *)ctx = a->data_len;
	return true;
}

static void test_the_largest_artifact(void **state)
{
	(void)state;
	size_t n = TG_ARTIFACT_DATA_MAX, got = 0;
	char *text = malloc(n + 1);
	bool c, found;
	assert_non_null(text);
	memset(text, 'x', n);
	text[0] = text[n - 1] = '"';
	text[n] = 0;
	assert_true(put(ID("MA"), NULL, text, 1, &c));
	OK(tg_artifacts_get(db, ID("MA"), see_len, &got, &found, &err));
	assert_int_equal(got, n);
	free(text);
}

/* ---- jobs ---- */

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
	bool full;
	OK(tg_job_rows_insert(db, &j, &full, &err));
	assert_false(full);
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
	OK(tg_job_rows_claim(db, kind, owner, now, see_job, NULL, &found, &err));
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
	OK(tg_job_rows_any(db, kind, owner, &any, &err));
	return any;
}

static uint64_t reap(const char *owned_by, int64_t now)
{
	uint64_t n;
	seen[0] = 0;
	OK(tg_job_rows_reap(db, owned_by, now, see_job, NULL, &n, &err));
	return n;
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
	bool full;
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h,
				      "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 10000) INSERT INTO jobs (id, kind, status, progress, message, spec, principal, key_prefix, attempts, "
				      "created_at, updated_at) SELECT 'x' || i, 'train', 'pending', 0, '', '{}', '', '', 0, i, i FROM n",
				      NULL, NULL, NULL),
			 SQLITE_OK);
	OK(tg_job_rows_insert(db, &j, &full, &err));
	assert_true(full);
	assert_null(job(ID("J1")));
	assert_int_equal(sqlite3_exec(h, "UPDATE jobs SET status = 'completed' WHERE id = 'x7'", NULL, NULL, NULL), SQLITE_OK);
	OK(tg_job_rows_insert(db, &j, &full, &err));
	assert_false(full);
	sqlite3_close(h);
}

/* ---- the store ---- */

static enum tg_db_result put_config(struct tg_db *d, void *ctx, struct tg_err *e)
{
	bool created;
	struct tg_config_row c = { ctx, "n", "{}", 1, 1 };
	return tg_configs_put(d, &c, &created, e);
}

static enum tg_db_result put_and_fail(struct tg_db *d, void *ctx, struct tg_err *e)
{
	enum tg_db_result r = put_config(d, ctx, e);
	return r == TG_DB_OK ? TG_DB_CONFLICT : r;
}

static enum tg_db_result count_configs(struct tg_db *d, void *ctx, struct tg_err *e)
{
	return tg_configs_count(d, ctx, e);
}

static enum tg_db_result insert_key(struct tg_db *d, void *ctx, struct tg_err *e)
{
	uint8_t digest[32];
	memset(digest, *(const char *)ctx, sizeof digest);
	struct tg_key_row k = { .id = ctx, .name = "n", .made_by = "me", .perms = TG_PERM_read_models, .limits = "{}", .created_s = 100, .prefix = "tg_abcdef" };
	return tg_keys_insert(d, &k, digest, e);
}

/* Records move nothing that requests are judged by, at once or at the next look; a change of another's is still seen. */
static void test_records_reload_nothing(void **state)
{
	(void)state;
	struct tg_store *a = tg_store_open(url, &given, NULL, NULL, &err);
	char key[] = "key_aaaaaaaaaaaaaaaa", other[] = "bey_bbbbbbbbbbbbbbbb", one[] = ID("MA"), two[] = ID("MB");
	uint64_t generation, quiet, n;
	struct tg_identity *before, *after;
	OK(tg_store_write(a, insert_key, key, &generation, &err));
	before = tg_store_identity(a, &quiet);
	OK(tg_store_record(a, put_config, one, &err));
	assert_int_equal(tg_store_record(a, put_and_fail, two, &err), TG_DB_CONFLICT);
	assert_int_equal(tg_store_generation(a), quiet);
	tg_store_poll(a);
	tg_store_poll(a);
	after = tg_store_identity(a, &generation);
	assert_int_equal(generation, quiet);
	assert_ptr_equal(before, after);
	tg_identity_put(after);
	tg_identity_put(before);
	OK(tg_store_read(a, count_configs, &n, &err));
	assert_int_equal(n, 1); /* the one that failed left nothing */
	/* What another wrote between two records is not taken for ours. */
	struct tg_store *b = tg_store_open(url, &given, NULL, NULL, &err);
	OK(tg_store_write(b, insert_key, other, &generation, &err));
	OK(tg_store_record(a, put_config, two, &err));
	tg_store_poll(a);
	assert_true(tg_store_generation(a) > quiet);
	tg_store_close(b);
	tg_store_close(a);
}

static bool one_number(void *ctx, const struct tg_db_value *v, unsigned n)
{
	assert_int_equal(n, 1);
	*(int64_t *)ctx = v[0].i;
	return false;
}

static enum tg_db_result how_synced(struct tg_db *d, void *ctx, struct tg_err *e)
{
	return tg_db_run(d, "SELECT synchronous FROM pragma_synchronous", NULL, 0, one_number, ctx, NULL, e);
}

static enum tg_db_result put_and_look(struct tg_db *d, void *ctx, struct tg_err *e)
{
	enum tg_db_result r = put_config(d, (char[]){ ID("MC") }, e);
	return r == TG_DB_OK ? how_synced(d, ctx, e) : r;
}

/* Only the note itself is not waited for: what is recorded after it is, whether or not the note was kept. */
static void test_notes(void **state)
{
	(void)state;
	struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
	int64_t how = -1;
	uint64_t n;
	OK(tg_store_note(s, put_and_look, &how, &err));
	assert_int_equal(how, 1);
	OK(tg_store_record(s, how_synced, &how, &err));
	assert_int_equal(how, 2);
	assert_int_equal(tg_store_note(s, put_and_fail, (char[]){ ID("MD") }, &err), TG_DB_CONFLICT);
	OK(tg_store_record(s, how_synced, &how, &err));
	assert_int_equal(how, 2);
	OK(tg_store_read(s, count_configs, &n, &err));
	assert_int_equal(n, 1);
	tg_store_close(s);
}

static void exec_sql(const char *file, const char *text)
{
	sqlite3 *h;
	char *why = NULL;
	assert_int_equal(sqlite3_open(file, &h), SQLITE_OK);
	if (sqlite3_exec(h, text, NULL, NULL, &why) != SQLITE_OK)
		fail_msg("%s", why);
	sqlite3_close(h);
}

static bool has_table(const char *file, const char *name)
{
	sqlite3 *h;
	sqlite3_stmt *st;
	assert_int_equal(sqlite3_open(file, &h), SQLITE_OK);
	assert_int_equal(sqlite3_prepare_v2(h, "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = ?", -1, &st, NULL), SQLITE_OK);
	sqlite3_bind_text(st, 1, name, -1, SQLITE_STATIC);
	bool there = sqlite3_step(st) == SQLITE_ROW;
	sqlite3_finalize(st);
	sqlite3_close(h);
	return there;
}

/* A database as the first release left it: its keys go on, a copy of it as it was lies beside it. */
static void test_from_schema_1(void **state)
{
	(void)state;
	char copy[160];
	uint8_t digest[32];
	uint64_t generation, n;
	struct stat st;
	assert_int_equal(tg_migrations[0].version, 1);
	assert_int_equal(tg_migrations[1].version, 2);
	assert_true(tg_db_schema() >= 2);
	exec_sql(path, tg_migrations[0].sql);
	exec_sql(path, "CREATE TABLE schema_version (version BIGINT NOT NULL); INSERT INTO schema_version VALUES (1);"
		       "INSERT INTO api_keys VALUES ('key_aaaaaaaaaaaaaaaa', 'n', 'read_models', '{}', 'me', 1, NULL, NULL, NULL);"
		       "INSERT INTO api_key_secrets VALUES ('6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b6b', 'key_aaaaaaaaaaaaaaaa', 'tg_abcdef', 1, NULL)");
	char secret[160];
	snprintf(secret, sizeof secret, "%s/secret.key", dir);
	FILE *f = fopen(secret, "w"); /* TOLLGATE_SECRET is given: the file may be anything */
	fclose(f);
	struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
	if (!s)
		fail_msg("%s", err.text);
	memset(digest, 'k', sizeof digest);
	struct tg_identity *d = tg_store_identity(s, &generation);
	assert_non_null(tg_identity_key(d, digest));
	tg_identity_put(d);
	OK(tg_store_record(s, put_config, (char[]){ ID("MA") }, &err));
	OK(tg_store_read(s, count_configs, &n, &err));
	assert_int_equal(n, 1);
	tg_store_close(s);
	snprintf(copy, sizeof copy, "%s.before-0002", path);
	assert_int_equal(stat(copy, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_true(has_table(copy, "api_keys"));
	assert_false(has_table(copy, "configs"));
	assert_true(has_table(path, "configs"));
	/* It is done once. */
	assert_int_equal(unlink(copy), 0);
	tg_store_close(tg_store_open(url, &given, NULL, NULL, &err));
	assert_int_not_equal(stat(copy, &st), 0);
}

/* ---- ids ---- */

enum { THREADS = 4, EACH = 5000 };
static char made[THREADS][EACH][TG_ULID_LEN + 1];

static void *make_ids(void *arg)
{
	char(*out)[TG_ULID_LEN + 1] = arg;
	for (int i = 0; i < EACH; i++)
		tg_ulid_monotonic(1760000000000000u, out[i]);
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

static void test_ids_go_up(void **state)
{
	(void)state;
	char a[TG_ULID_LEN + 1], b[TG_ULID_LEN + 1], read[TG_ULID_LEN + 1];
	pthread_t t[THREADS];
	for (int i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, make_ids, made[i]), 0);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	for (int i = 0; i < THREADS; i++)
		for (int k = 1; k < EACH; k++)
			assert_true(strcmp(made[i][k - 1], made[i][k]) < 0);
	qsort(made, THREADS * EACH, sizeof made[0][0], by_text);
	for (size_t i = 1; i < THREADS * EACH; i++)
		assert_string_not_equal(made[0][0] + (i - 1) * sizeof made[0][0], made[0][0] + i * sizeof made[0][0]);
	tg_ulid_monotonic(1900000000000000u, a);
	tg_ulid_monotonic(1800000000000000u, b); /* the clock was set back */
	assert_true(strcmp(a, b) < 0);
	assert_memory_equal(a, b, 10);
	assert_true(tg_ulid_read(tg_slice_cstr(a), read));
	assert_string_equal(a, read);
}

static void test_ids_are_read(void **state)
{
	(void)state;
	char out[TG_ULID_LEN + 1];
	static const char *const bad[] = { "", "01K7CXYHJ7BR4E87VVTG8FNBM", "01K7CXYHJ7BR4E87VVTG8FNBMAA", "81K7CXYHJ7BR4E87VVTG8FNBMA", "01K7CXYHJ7BR4E87VVTG8FNBMI", "01K7CXYHJ7BR4E87VVTG8FNBML",
					   "01K7CXYHJ7BR4E87VVTG8FNBMO", "01K7CXYHJ7BR4E87VVTG8FNBMU", "01K7CXYHJ7BR4E87VVTG8FNBM-", "A1K7CXYHJ7BR4E87VVTG8FNBMA", "$schema", " 1K7CXYHJ7BR4E87VVTG8FNBMA" };
	for (unsigned i = 0; i < sizeof bad / sizeof *bad; i++)
		assert_false(tg_ulid_read(tg_slice_cstr(bad[i]), out));
	assert_false(tg_ulid_read((struct tg_slice){ "01K7CXYHJ7BR4E87VVTG8FNBM\0", 26 }, out));
	assert_true(tg_ulid_read(TG_S("01k7cxyhj7br4e87vvtg8fnbma"), out));
	assert_string_equal(out, "01K7CXYHJ7BR4E87VVTG8FNBMA");
	assert_true(tg_ulid_read(TG_S("7ZZZZZZZZZZZZZZZZZZZZZZZZZ"), out));
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, open_db, close_db)
#define S(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		T(test_configs), T(test_artifacts), T(test_a_tree_has_a_height), T(test_the_largest_artifact), T(test_a_job_from_start_to_end), T(test_leases), T(test_two_connections_claim),
		T(test_the_queue_is_bounded), S(test_records_reload_nothing), S(test_notes), S(test_from_schema_1), cmocka_unit_test(test_ids_go_up), cmocka_unit_test(test_ids_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
