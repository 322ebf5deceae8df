/* The folder of models: a pair is whole or not there, what is there is what was saved, and no name leads out of the folder (seed ledger S4-46 to S4-53, C-35, C-07). */
#include "store/model_store.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char root[64], folder[128], spool[128];
static struct tg_model_store *ms;
static struct tg_err err;

static struct tg_model_store *open_store(void)
{
	char url[160];
	snprintf(url, sizeof url, "file:%s", folder);
	struct tg_model_store *s = tg_model_store_open(url, &err);
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

static int setup(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/tg-models-XXXXXX");
	if (!mkdtemp(root))
		return -1;
	snprintf(folder, sizeof folder, "%s/deep/er/models", root);
	snprintf(spool, sizeof spool, "%s/spooled", root);
	ms = open_store();
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char command[128];
	tg_model_store_close(ms);
	snprintf(command, sizeof command, "%s", root);
	char *argv[] = { (char *)"rm", (char *)"-rf", command, NULL };
	pid_t p = fork();
	if (p == 0) {
		execvp("rm", argv);
		_exit(1);
	}
	return 0;
}

static char *in_folder(const char *name)
{
	static char path[256];
	snprintf(path, sizeof path, "%s/%s", folder, name);
	return path;
}

static void put(const char *path, const void *p, size_t n)
{
	FILE *f = fopen(path, "wb");
	assert_non_null(f);
	assert_int_equal(fwrite(p, 1, n, f), n);
	fclose(f);
}

static char *slurp(const char *path, size_t *n)
{
	FILE *f = fopen(path, "rb");
	if (!f)
		return NULL;
	char *b = calloc(1, 1 << 20);
	*n = fread(b, 1, (1 << 20) - 1, f);
	fclose(f);
	return b;
}

static bool save(const char *id, const char *content, const char *metadata)
{
	char uri[PATH_MAX];
	put(spool, content, strlen(content));
	return tg_model_store_save(ms, id, spool, tg_slice_cstr(metadata), uri, &err);
}

static enum tg_model_found load(const char *id)
{
	char path[PATH_MAX];
	return tg_model_store_load(ms, id, path, NULL, &err);
}

static bool count_row(void *ctx, const char *id)
{
	char *all = ctx;
	size_t n = strlen(all);
	snprintf(all + n, 4096 - n, "%s ", id);
	return true;
}

static const char *listed(void)
{
	static char all[4096];
	all[0] = 0;
	assert_int_equal(tg_model_store_list(ms, count_row, all, &err), TG_MODEL_FOUND);
	return all;
}

static void a_pair_is_saved_and_loaded(void **state)
{
	(void)state;
	char uri[PATH_MAX], path[PATH_MAX];
	struct tg_buf meta;
	struct stat st;
	size_t n;
	put(spool, "weights", 7);
	assert_true(tg_model_store_save(ms, "m-1_A", spool, TG_S("{\"id\":\"liar\",\"report\":{\"x\":1}}"), uri, &err));
	assert_string_equal(uri, in_folder("m-1_A.tgm"));
	assert_int_equal(access(spool, F_OK), -1);
	assert_int_equal(stat(in_folder("m-1_A.tgm"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	tg_buf_init(&meta, 4096);
	assert_int_equal(tg_model_store_load(ms, "m-1_A", path, &meta, &err), TG_MODEL_FOUND);
	assert_string_equal(path, in_folder("m-1_A.tgm"));
	char *content = slurp(path, &n);
	assert_int_equal(n, 7);
	assert_memory_equal(content, "weights", 7);
	free(content);
	json_t *j = json_loadb(meta.p, meta.len, 0, NULL);
	assert_string_equal(json_string_value(json_object_get(j, "id")), "m-1_A");
	assert_string_equal(json_string_value(json_object_get(j, "format")), "tgm");
	assert_int_equal(json_integer_value(json_object_get(j, "bytes")), 7);
	assert_string_equal(json_string_value(json_object_get(j, "sha256")), "9a129038d9a00aed0cf6a7ea059ca50a813449061ab87848cf1a13eafdf33b2c");
	assert_int_equal(strlen(json_string_value(json_object_get(j, "saved_at"))), 20);
	assert_int_equal(json_integer_value(json_object_get(json_object_get(j, "report"), "x")), 1);
	json_decref(j);
	tg_buf_free(&meta);
	/* A restart. */
	tg_model_store_close(ms);
	ms = open_store();
	assert_int_equal(load("m-1_A"), TG_MODEL_FOUND);
	assert_string_equal(listed(), "m-1_A ");
}

static void an_id_is_saved_once(void **state)
{
	(void)state;
	assert_true(save("a", "one", "{}"));
	assert_false(save("a", "two", "{}"));
	assert_non_null(strstr(err.text, "already"));
	assert_int_equal(access(spool, F_OK), 0);
	/* The very same file once more: a job that was killed behind its save does it again. */
	assert_true(save("a", "one", "{\"second\":true}"));
	assert_int_equal(access(spool, F_OK), -1);
	assert_int_equal(load("a"), TG_MODEL_FOUND);
	assert_string_equal(listed(), "a ");
	put(in_folder("a.tgm"), "onx", 3);
	assert_false(save("a", "one", "{}")); /* what lies there is neither */
	put(in_folder("a.tgm"), "one", 3);
	assert_int_equal(tg_model_store_delete(ms, "a", &err), TG_MODEL_FOUND);
	assert_int_equal(tg_model_store_delete(ms, "a", &err), TG_MODEL_NONE);
	assert_int_equal(load("a"), TG_MODEL_NONE);
	assert_true(save("a", "three", "{}"));
	assert_int_equal(load("a"), TG_MODEL_FOUND);
}

static void metadata_is_an_object(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "[]", "{", "null", "{\"a\":1,\"a\":2}", "{} x" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_false(save("a", "x", bad[i]));
		assert_string_equal(listed(), "");
	}
	assert_false(save("a", "x", "{\"sha256\":\"00\"}"));
	assert_non_null(strstr(err.text, "SHA-256"));
	assert_true(save("a", "x", "{\"sha256\":\"2d711642b726b04401627ca9fbac32f5c8530fb1903cc4db02258717921a4881\"}"));
}

static void ids_stay_in_the_folder(void **state)
{
	(void)state;
	char long_id[TG_MODEL_ID_MAX + 2];
	memset(long_id, 'a', sizeof long_id - 1);
	long_id[sizeof long_id - 1] = 0;
	const char *const bad[] = { "", ".", "..", "../a", "a/b", "/etc/passwd", "a.json", "a b", "a%2fb", "a\n", "\xc3\xa9", long_id, "info", "register", "set_active", "reload", "active", "pool" };
	put(in_folder("../stolen.tgm"), "x", 1);
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		assert_false(tg_model_id_ok(tg_slice_cstr(bad[i])));
		assert_false(save(bad[i], "x", "{}"));
		assert_int_equal(load(bad[i]), TG_MODEL_NONE);
		assert_int_equal(tg_model_store_delete(ms, bad[i], &err), TG_MODEL_NONE);
	}
	assert_false(tg_model_id_ok((struct tg_slice){ "a\0b", 3 }));
	long_id[TG_MODEL_ID_MAX] = 0;
	assert_true(save(long_id, "x", "{}"));
	assert_int_equal(load(long_id), TG_MODEL_FOUND);
	assert_int_equal(access(in_folder("../stolen.tgm"), F_OK), 0);
}

/* Links and other things that bear a name of ours are not followed, neither when read nor when written. */
static void links_are_refused(void **state)
{
	(void)state;
	char secret[256];
	assert_true(save("good", "content", "{}"));
	size_t n;
	char *meta = slurp(in_folder("good.json"), &n);
	snprintf(secret, sizeof secret, "%s/secret", root);
	put(secret, "content", 7);
	char *swapped = strstr(meta, "\"good\"");
	assert_non_null(swapped);
	memcpy(swapped, "\"link\"", 6);
	put(in_folder("link.json"), meta, n);
	assert_int_equal(symlink(secret, in_folder("link.tgm")), 0);
	assert_int_equal(load("link"), TG_MODEL_REFUSED);
	assert_string_equal(listed(), "good ");
	unlink(in_folder("link.tgm"));
	unlink(in_folder("link.json"));
	put(in_folder("link.tgm"), "content", 7);
	char other[256];
	snprintf(other, sizeof other, "%s/other.json", root);
	put(other, meta, n);
	assert_int_equal(symlink(other, in_folder("link.json")), 0);
	assert_int_equal(load("link"), TG_MODEL_REFUSED);
	assert_string_equal(listed(), "good ");
	unlink(in_folder("link.json"));
	assert_int_equal(mkfifo(in_folder("link.json"), 0600), 0);
	assert_int_equal(load("link"), TG_MODEL_REFUSED); /* and does not wait for a writer */
	free(meta);
	/* A source that is a link is none. */
	char uri[PATH_MAX];
	unlink(spool);
	assert_int_equal(symlink(secret, spool), 0);
	assert_false(tg_model_store_save(ms, "b", spool, TG_S("{}"), uri, &err));
}

static void what_was_changed_is_refused(void **state)
{
	(void)state;
	char content[3000];
	for (size_t i = 0; i < sizeof content - 1; i++)
		content[i] = (char)('a' + i % 26);
	content[sizeof content - 1] = 0;
	assert_true(save("a", content, "{\"method\":\"linear_regression\"}"));
	assert_int_equal(load("a"), TG_MODEL_FOUND);
	size_t n, m;
	char *model = slurp(in_folder("a.tgm"), &n), *meta = slurp(in_folder("a.json"), &m);
	assert_int_equal(n, sizeof content - 1);
	/* One byte changed, the size the same: also right after it was found to be good. */
	for (size_t i = 0; i < n; i += 97) {
		model[i] ^= 1;
		put(in_folder("a.tgm"), model, n);
		assert_int_equal(load("a"), TG_MODEL_REFUSED);
		assert_non_null(strstr(err.text, "SHA-256"));
		model[i] ^= 1;
	}
	for (size_t cut = 0; cut < n; cut += 128) {
		put(in_folder("a.tgm"), model, cut);
		assert_int_equal(load("a"), TG_MODEL_REFUSED);
	}
	put(in_folder("a.tgm"), model, n);
	assert_int_equal(load("a"), TG_MODEL_FOUND);
	/* Every cut of the metadata. */
	struct tg_buf out;
	tg_buf_init(&out, 1 << 20);
	for (size_t cut = 0; cut < m; cut++) {
		put(in_folder("a.json"), meta, cut);
		assert_int_equal(load("a"), TG_MODEL_REFUSED);
		assert_int_equal(tg_model_store_metadata(ms, "a", &out, &err), TG_MODEL_REFUSED);
		assert_int_equal(out.len, 0);
	}
	/* Another model's metadata, another format's, an impossible size. */
	static const char *const wrong[][2] = { { "\"id\":\"a\"", "\"id\":\"b\"" }, { "\"format\":\"tgm\"", "\"format\":\"pkl\"" }, { "\"bytes\":2999", "\"bytes\":2998" }, { "\"bytes\":2999", "\"bytes\":-299" } };
	for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++) {
		char *copy = strdup(meta), *at = strstr(copy, wrong[i][0]);
		assert_non_null(at);
		memcpy(at, wrong[i][1], strlen(wrong[i][1]));
		put(in_folder("a.json"), copy, m);
		free(copy);
		assert_int_equal(load("a"), TG_MODEL_REFUSED);
	}
	put(in_folder("a.json"), meta, m);
	assert_int_equal(load("a"), TG_MODEL_FOUND);
	tg_buf_free(&out);
	free(model);
	free(meta);
}

static void pickles_are_refused_by_name(void **state)
{
	(void)state;
	static const char *const exts[] = { ".joblib", ".pkl", ".pickle" };
	for (size_t i = 0; i < 3; i++) {
		char name[32];
		snprintf(name, sizeof name, "old%s", exts[i]);
		put(in_folder(name), "x", 1);
		put(in_folder("old.json"), "{}", 2);
		unlink(in_folder("old.json"));
		put(in_folder(name), "x", 1);
		assert_int_equal(load("old"), TG_MODEL_REFUSED);
		assert_non_null(strstr(err.text, name));
		assert_non_null(strstr(err.text, "runs whatever code it holds"));
		assert_string_equal(listed(), "");
		unlink(in_folder(name));
	}
	assert_int_equal(load("old"), TG_MODEL_NONE);
}

static void age(const char *name)
{
	struct timespec t[2] = { { .tv_sec = time(NULL) - 120 }, { .tv_sec = time(NULL) - 120 } };
	assert_int_equal(utimensat(AT_FDCWD, in_folder(name), t, 0), 0);
}

static void half_pairs_are_no_pairs(void **state)
{
	(void)state;
	assert_true(save("whole", "x", "{}"));
	put(in_folder("half.tgm"), "x", 1);
	put(in_folder("other.json"), "{}", 2);
	put(in_folder(".tmp-0123"), "x", 1);
	put(in_folder("README"), "x", 1);
	put(in_folder("gone.upload"), "", 0);
	assert_string_equal(listed(), "whole ");
	assert_int_equal(load("half"), TG_MODEL_NONE);
	assert_int_equal(load("other"), TG_MODEL_REFUSED); /* its metadata is none of ours, whatever else there is */
	/* Young ones may be somebody's who is at it. */
	tg_model_store_close(ms);
	ms = open_store();
	assert_int_equal(access(in_folder("half.tgm"), F_OK), 0);
	assert_int_equal(access(in_folder(".tmp-0123"), F_OK), 0);
	static const char *const old[] = { "half.tgm", "other.json", ".tmp-0123", "README", "whole.tgm", "whole.json", "gone.upload" };
	for (size_t i = 0; i < sizeof old / sizeof *old; i++)
		age(old[i]);
	tg_model_store_close(ms);
	ms = open_store();
	for (size_t i = 0; i < sizeof old / sizeof *old; i++) {
		bool kept = strcmp(old[i], "README") == 0 || strncmp(old[i], "whole", 5) == 0;
		assert_int_equal(access(in_folder(old[i]), F_OK) == 0, kept);
	}
	/* And a save that follows a crash takes the half's place. */
	put(in_folder("half.tgm"), "torn", 4);
	assert_true(save("half", "new", "{}"));
	assert_int_equal(load("half"), TG_MODEL_FOUND);
}

static void ids_are_listed_in_order(void **state)
{
	(void)state;
	assert_true(save("c", "x", "{}"));
	assert_true(save("a", "x", "{}"));
	assert_true(save("b", "x", "{}"));
	assert_true(save("B", "x", "{}"));
	assert_string_equal(listed(), "B a b c ");
}

struct race {
	char from[160];
	bool ok;
};

static void *racer(void *arg)
{
	struct race *r = arg;
	char uri[PATH_MAX];
	struct tg_err e;
	r->ok = tg_model_store_save(ms, "same", r->from, TG_S("{}"), uri, &e);
	return NULL;
}

static void of_two_savers_one_wins(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		struct race r[4];
		pthread_t t[4];
		unsigned won = 0;
		for (unsigned i = 0; i < 4; i++) {
			snprintf(r[i].from, sizeof r[i].from, "%s/from%u", root, i);
			put(r[i].from, &"0123456789"[i], 5);
			assert_int_equal(pthread_create(&t[i], NULL, racer, &r[i]), 0);
		}
		char content[8] = "";
		for (unsigned i = 0; i < 4; i++) {
			pthread_join(t[i], NULL);
			won += r[i].ok;
			if (r[i].ok)
				memcpy(content, &"0123456789"[i], 5);
		}
		assert_int_equal(won, 1);
		assert_int_equal(load("same"), TG_MODEL_FOUND); /* the winner's file and the winner's digest */
		size_t n;
		char *is = slurp(in_folder("same.tgm"), &n);
		assert_string_equal(is, content);
		free(is);
		assert_int_equal(tg_model_store_delete(ms, "same", &err), TG_MODEL_FOUND);
	}
	struct stat st;
	assert_int_equal(stat(in_folder(".lock"), &st), 0);
	assert_string_equal(listed(), "");
}

/* No room: nothing is left, and the source stays. */
static void a_save_that_fails_leaves_nothing(void **state)
{
	(void)state;
	assert_int_equal(mkdir(in_folder("a.json"), 0700), 0); /* the last rename cannot be done */
	assert_false(save("a", "x", "{}"));
	assert_int_equal(access(spool, F_OK), 0);
	assert_int_equal(access(in_folder("a.tgm"), F_OK), -1);
	rmdir(in_folder("a.json"));
	assert_true(save("a", "x", "{}"));
}

static void urls(void **state)
{
	(void)state;
	static const char *const bad[] = { "", "models", "s3:/x", "file:", "http://x/" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tg_model_store *s = tg_model_store_open(bad[i], &err);
		assert_null(s);
		assert_non_null(strstr(err.text, "[artifacts] url"));
	}
	char url[160];
	put(spool, "x", 1);
	snprintf(url, sizeof url, "file:%s", spool);
	assert_null(tg_model_store_open(url, &err));
	assert_non_null(strstr(err.text, "Not a directory"));
}

/* By this process, from the page cache too. */
static uint64_t bytes_read(void)
{
	FILE *f = fopen("/proc/self/io", "r");
	unsigned long long n = 0;
	if (f) {
		if (fscanf(f, "rchar: %llu", &n) != 1)
			n = 0;
		fclose(f);
	}
	return n;
}

/* What was verified is not digested again while device, inode, size and times are the same; and is as soon as one of them is not. */
static void what_is_known_is_not_read_again(void **state)
{
	(void)state;
	char *big = malloc(8 << 20);
	memset(big, 'x', (8 << 20) - 1);
	big[(8 << 20) - 1] = 0;
	assert_true(save("big", big, "{}"));
	sleep(2); /* its change must lie back */
	assert_int_equal(load("big"), TG_MODEL_FOUND);
	uint64_t before = bytes_read();
	for (unsigned i = 0; i < 50; i++)
		assert_int_equal(load("big"), TG_MODEL_FOUND); /* 400 MiB, if they were digested */
	assert_true(bytes_read() - before < 8 << 20);
	struct stat st;
	assert_int_equal(stat(in_folder("big.tgm"), &st), 0);
	FILE *f = fopen(in_folder("big.tgm"), "r+");
	fputc('y', f);
	fclose(f);
	struct timespec same[2] = { st.st_atim, st.st_mtim }; /* the time of its content can be forged, that of its change cannot */
	assert_int_equal(utimensat(AT_FDCWD, in_folder("big.tgm"), same, 0), 0);
	assert_int_equal(load("big"), TG_MODEL_REFUSED);
	free(big);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_pair_is_saved_and_loaded), T(an_id_is_saved_once), T(metadata_is_an_object), T(ids_stay_in_the_folder), T(links_are_refused), T(what_was_changed_is_refused),
		T(pickles_are_refused_by_name), T(half_pairs_are_no_pairs), T(ids_are_listed_in_order), T(of_two_savers_one_wins), T(a_save_that_fails_leaves_nothing), T(urls), T(what_is_known_is_not_read_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
