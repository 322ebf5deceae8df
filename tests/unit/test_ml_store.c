/* Configurations and artifacts in the database; the step from schema 1 to 2; ids of records. Times are stepped, nothing waits. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/clock.h"
#include "db_fixture.h"
#include "store/artifacts.h"
#include "store/configs.h"
#include "store/identity.h"
#include "store/migrations.h"
#include "store/store.h"
#include <pthread.h>
#include <sqlite3.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

#define ID(n) "01K7CXYHJ7BR4E87VVTG8FNB" n

static const struct tg_secret given = { (char *)(uintptr_t)"0123456789abcdef0123456789abcdef", 32 };

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
		T(test_configs), T(test_artifacts), T(test_a_tree_has_a_height), T(test_the_largest_artifact), S(test_records_reload_nothing), S(test_notes), S(test_from_schema_1),
		cmocka_unit_test(test_ids_go_up), cmocka_unit_test(test_ids_are_read),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
