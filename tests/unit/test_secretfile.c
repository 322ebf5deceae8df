/* Secrets in files: given, read, made once; what is refused and what is warned about; two makers at once (threats CVE-2026-41432: no empty or blank secret). */
#include "base/secretfile.h"
#include "base/newfile.h"
#include <errno.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64], path[128];
static struct tg_secret out;
static struct tg_err warning, err;

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tollgate-secret-XXXXXX");
	if (!mkdtemp(dir))
		return 1;
	snprintf(path, sizeof path, "%s/data/the.secret", dir);
	warning.text[0] = err.text[0] = 0;
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char folder[80];
	unlink(path);
	rmdir(path);
	snprintf(folder, sizeof folder, "%s/data", dir);
	chmod(folder, 0700);
	rmdir(folder);
	tg_secret_wipe(&out);
	return rmdir(dir); /* fails where anything else was left, temporary files above all */
}

static bool get(const char *given)
{
	return tg_secret_file(path, "NAME_OF_IT", tg_slice_cstr(given), 32, &out, &warning, &err);
}

static void put(const char *text, size_t n, mode_t mode)
{
	char folder[80];
	snprintf(folder, sizeof folder, "%s/data", dir);
	mkdir(folder, 0700);
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(text, 1, n, f), n);
	fclose(f);
	assert_int_equal(chmod(path, mode), 0);
}

static void made_once(void **state)
{
	(void)state;
	struct stat st;
	char first[TG_SECRET_MADE + 1], folder[80];
	assert_true(get(NULL));
	assert_int_equal(out.n, TG_SECRET_MADE);
	assert_int_equal(strspn(out.p, "0123456789abcdef"), TG_SECRET_MADE);
	memcpy(first, out.p, sizeof first);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(st.st_size, TG_SECRET_MADE + 1);
	snprintf(folder, sizeof folder, "%s/data", dir);
	assert_int_equal(stat(folder, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0700);
	assert_true(get(NULL));
	assert_string_equal(out.p, first);
	assert_string_equal(warning.text, "");
	unlink(path);
	assert_true(get(NULL));
	assert_string_not_equal(out.p, first);
}

static void given_wins(void **state)
{
	(void)state;
	assert_true(get("0123456789abcdef0123456789abcdef"));
	assert_string_equal(out.p, "0123456789abcdef0123456789abcdef");
	assert_int_equal(access(path, F_OK), -1); /* nothing was made */
	assert_false(get("0123456789abcdef0123456789abcde"));
	assert_non_null(strstr(err.text, "NAME_OF_IT"));
	assert_non_null(strstr(err.text, "31 bytes"));
	assert_null(strstr(err.text, "0123"));
	assert_false(get("                                                 "));
	assert_non_null(strstr(err.text, "blanks"));
	assert_false(tg_secret_file(path, "NAME_OF_IT", TG_S("0123456789abcdef\0" "0123456789abcdef"), 32, &out, &warning, &err));
	assert_non_null(strstr(err.text, "NUL"));
}

static void what_is_refused(void **state)
{
	(void)state;
	static char large[TG_SECRET_FILE_MAX + 2];
	memset(large, 'x', sizeof large);
	static const struct {
		const char *text;
		size_t n;
		const char *says;
	} t[] = {
		{ "", 0, "0 bytes" }, { "\n", 1, "0 bytes" }, { "short\n", 6, "5 bytes" }, { "0123456789abcdef0123456789abcde\r\n\n", 34, "31 bytes" },
		{ "                                  \n", 35, "blanks" }, { "0123456789abcdef\0" "0123456789abcdef", 33, "NUL" }, { large, sizeof large, "over 4096" },
		{ large, TG_SECRET_FILE_MAX + 1, "over 4096" },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		put(t[i].text, t[i].n, 0600);
		assert_false(get(NULL));
		assert_non_null(strstr(err.text, path));
		assert_non_null(strstr(err.text, t[i].says));
		struct stat st;
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal((size_t)st.st_size, t[i].n); /* and left as it was */
	}
	put(large, TG_SECRET_FILE_MAX, 0600);
	assert_true(get(NULL));
	unlink(path);
	assert_int_equal(mkdir(path, 0700), 0);
	assert_false(get(NULL));
	assert_non_null(strstr(err.text, "regular file"));
	rmdir(path);
	assert_int_equal(mkfifo(path, 0600), 0); /* nobody writes: not waited for */
	assert_false(get(NULL));
	unlink(path);
	assert_int_equal(symlink("nowhere", path), 0); /* a dangling link is not replaced */
	assert_false(get(NULL));
	unlink(path);
	if (geteuid() != 0) {
		put("0123456789abcdef0123456789abcdef", 32, 0);
		assert_false(get(NULL));
		assert_non_null(strstr(err.text, "cannot be read"));
	}
}

static void line_ends_and_modes(void **state)
{
	(void)state;
	put("0123456789abcdef0123456789abcdef\r\n", 34, 0600);
	assert_true(get(NULL));
	assert_string_equal(out.p, "0123456789abcdef0123456789abcdef");
	assert_string_equal(warning.text, "");
	static const mode_t modes[] = { 0640, 0604, 0620, 0602, 0644 };
	for (size_t i = 0; i < sizeof modes / sizeof *modes; i++) {
		char mode[8];
		assert_int_equal(chmod(path, modes[i]), 0);
		assert_true(get(NULL));
		snprintf(mode, sizeof mode, "%04o", (unsigned)modes[i]);
		assert_non_null(strstr(warning.text, path));
		assert_non_null(strstr(warning.text, mode));
		assert_null(strstr(warning.text, "0123456789"));
	}
	assert_int_equal(chmod(path, 0400), 0);
	assert_true(get(NULL));
	assert_string_equal(warning.text, ""); /* the old one is gone */
}

static void where_nothing_can_be_made(void **state)
{
	(void)state;
	char deep[160];
	snprintf(deep, sizeof deep, "%s/no/such/folder/the.secret", dir);
	assert_false(tg_secret_file(deep, "N", (struct tg_slice){ 0 }, 32, &out, &warning, &err));
	assert_non_null(strstr(err.text, "cannot be made"));
	snprintf(deep, sizeof deep, "/proc/the.secret");
	assert_false(tg_secret_file(deep, "N", (struct tg_slice){ 0 }, 32, &out, &warning, &err));
}

static pthread_barrier_t gate;

static void *make_it(void *arg)
{
	struct tg_secret *mine = arg;
	struct tg_err w, e;
	pthread_barrier_wait(&gate);
	return (void *)(intptr_t)tg_secret_file(path, "N", (struct tg_slice){ 0 }, 32, mine, &w, &e);
}

/* All that start at once get one secret, and only one file is left (teardown looks). */
static void a_race_has_one_winner(void **state)
{
	(void)state;
	enum { N = 8 };
	for (int round = 0; round < 10; round++) {
		struct tg_secret got[N] = { 0 };
		pthread_t t[N];
		unlink(path);
		pthread_barrier_init(&gate, NULL, N);
		for (size_t i = 0; i < N; i++)
			assert_int_equal(pthread_create(&t[i], NULL, make_it, &got[i]), 0);
		for (size_t i = 0; i < N; i++) {
			void *ok;
			pthread_join(t[i], &ok);
			assert_non_null(ok);
		}
		pthread_barrier_destroy(&gate);
		for (size_t i = 0; i < N; i++) {
			assert_string_equal(got[i].p, got[0].p);
			if (i)
				tg_secret_wipe(&got[i]);
		}
		tg_secret_wipe(&got[0]);
	}
}

static void a_new_file_replaces_nothing(void **state)
{
	(void)state;
	put("theirs", 6, 0644);
	assert_int_equal(tg_newfile(path, 0600, TG_S("ours")), TG_THERE);
	unlink(path);
	assert_int_equal(tg_newfile(path, 0640, TG_S("ours")), TG_MADE);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0640);
	assert_int_equal(st.st_size, 4);
	char missing[160];
	snprintf(missing, sizeof missing, "%s/missing/x", dir);
	assert_int_equal(tg_newfile(missing, 0600, TG_S("ours")), TG_NOT_MADE);
	assert_int_equal(errno, ENOENT);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(made_once, setup, teardown), cmocka_unit_test_setup_teardown(given_wins, setup, teardown),
		cmocka_unit_test_setup_teardown(what_is_refused, setup, teardown), cmocka_unit_test_setup_teardown(line_ends_and_modes, setup, teardown),
		cmocka_unit_test_setup_teardown(where_nothing_can_be_made, setup, teardown), cmocka_unit_test_setup_teardown(a_race_has_one_winner, setup, teardown),
		cmocka_unit_test_setup_teardown(a_new_file_replaces_nothing, setup, teardown),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
