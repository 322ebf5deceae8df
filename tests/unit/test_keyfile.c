/*
 * api_keys.json: what is accepted, what each fault is called, what a rewrite keeps, and that no message quotes a key (S1-08 to S1-13, S1-22).
 */
#include "policy/keyfile.h"
#include <errno.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>
#include <cmocka.h>

#define SAMPLE \
	"{\n  \"valid_keys\": [\n    \"demo-key-12345\",\n    \"prod-key-67890\",\n    \"iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc\"\n  ],\n" \
	"  \"require_auth_for_external\": true,\n  \"local_networks\": [\n    \"127.0.0.1\",\n    \"localhost\",\n    \"::1\"\n  ]\n}\n"

static enum tg_keyfile_result parse(struct tg_keyfile *f, struct tg_slice text, struct tg_err *err)
{
	err->text[0] = '\0';
	return tg_keyfile_parse(f, "api_keys.json", text, err);
}

static void test_sample(void **state)
{
	(void)state;
	struct tg_keyfile f;
	struct tg_err err;
	assert_int_equal(parse(&f, TG_S(SAMPLE), &err), TG_KEYFILE_OK);
	assert_int_equal(f.keys.n, 3);
	assert_string_equal(f.keys.v[0], "demo-key-12345");
	assert_string_equal(f.keys.v[2], "iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc");
	assert_true(f.require_auth_for_external);
	assert_int_equal(f.local_networks.n, 3);
	assert_string_equal(f.local_networks.v[1], "localhost");
	/* What is written of it is what stood there. */
	size_t n = 0;
	char *text = tg_keyfile_text(&f, &n);
	assert_non_null(text);
	assert_string_equal(text, SAMPLE);
	assert_int_equal(n, sizeof SAMPLE - 1);
	free(text);
	tg_keyfile_free(&f);
	assert_int_equal(f.keys.n, 0);
	assert_true(f.require_auth_for_external);
}

static void test_absent_members(void **state)
{
	(void)state;
	struct tg_keyfile f, g;
	struct tg_err err;
	assert_int_equal(parse(&f, TG_S("{}"), &err), TG_KEYFILE_OK);
	assert_int_equal(f.keys.n, 0);
	assert_true(f.require_auth_for_external);
	tg_keyfile_defaults(&g);
	assert_int_equal(g.local_networks.n, 3);
	assert_int_equal(f.local_networks.n, 3);
	for (int i = 0; i < 3; i++)
		assert_string_equal(f.local_networks.v[i], g.local_networks.v[i]);
	tg_keyfile_free(&f);
	tg_keyfile_free(&g);
	/* Empty is not absent. */
	assert_int_equal(parse(&f, TG_S("{\"local_networks\":[],\"require_auth_for_external\":false}"), &err), TG_KEYFILE_OK);
	assert_int_equal(f.local_networks.n, 0);
	assert_false(f.require_auth_for_external);
	tg_keyfile_free(&f);
}

static void test_faults(void **state)
{
	(void)state;
#define ROW(text, want) { TG_S(text), want }
	static const struct {
		struct tg_slice text;
		const char *want; /* the message begins with it */
	} rows[] = {
		ROW("", "api_keys.json:1:1: not valid JSON: "),
		ROW("{\n\"valid_keys\": [\n  \"secret-key-1\"\n  \"secret-key-2\"\n]}", "api_keys.json:4:16: not valid JSON: ']' expected"),
		ROW("{\"valid_keys\":[\"secret-key-1\",]}", "api_keys.json:1:31: not valid JSON: "),
		ROW("{\"valid_keys\":[\"secret-key", "api_keys.json:1:26: not valid JSON: "),
		ROW("{} secret-key-1", "api_keys.json:1:9: not valid JSON: end of file expected"),
		ROW("{\"valid_keys\":[],\"valid_keys\":[\"secret-key-1\"]}", "api_keys.json:1:29: not valid JSON: duplicate object key"),
		ROW("{\"valid_keys\":[\"secret-\xff\"]}", "api_keys.json:1:"),
		ROW("{\"valid_keys\":[\"secret-\\u0000\"]}", "api_keys.json:1:"),
		ROW("\"secret-key-1\"", "api_keys.json:1:"),
		ROW("[]", "api_keys.json: must hold an object, not an array"),
		ROW("{\"valid_keys\":\"secret-key-1\"}", "api_keys.json: valid_keys must be an array of strings, not a string"),
		ROW("{\"valid_keys\":null}", "api_keys.json: valid_keys must be an array of strings, not null"),
		ROW("{\"valid_keys\":[\"secret-key-1\",7]}", "api_keys.json: valid_keys[1] must be a string, not a number"),
		ROW("{\"valid_keys\":[\"secret-key-1\",\"\"]}", "api_keys.json: valid_keys[1] is empty"),
		ROW("{\"valid_keys\":[\"secret-\\n\"]}", "api_keys.json: valid_keys[0] has a control character"),
		ROW("{\"valid_keys\":[\"secret-\x7f\"]}", "api_keys.json: valid_keys[0] has a control character"),
		ROW("{\"require_auth_for_external\":\"false\"}", "api_keys.json: require_auth_for_external must be true or false, not a string"),
		ROW("{\"require_auth_for_external\":0}", "api_keys.json: require_auth_for_external must be true or false, not a number"),
		ROW("{\"require_auth_for_external\":null}", "api_keys.json: require_auth_for_external must be true or false, not null"),
		ROW("{\"local_networks\":{}}", "api_keys.json: local_networks must be an array of strings, not an object"),
		ROW("{\"local_networks\":[\"::1\",true]}", "api_keys.json: local_networks[1] must be a string, not a boolean"),
		ROW("{\"local_networks\":[\"::1\",\"127.1\"]}", "api_keys.json: local_networks[1] is not an address, a network (CIDR) or localhost"),
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_keyfile f;
		struct tg_err err;
		if (parse(&f, rows[i].text, &err) != TG_KEYFILE_INVALID)
			fail_msg("accepted: %s", rows[i].text.p);
		if (strncmp(err.text, rows[i].want, strlen(rows[i].want)) != 0)
			fail_msg("%s: \"%s\", not \"%s\"", rows[i].text.p, err.text, rows[i].want);
		if (strstr(err.text, "secret"))
			fail_msg("quotes the file: %s", err.text);
		assert_int_equal(f.keys.n, 0);
		assert_int_equal(f.local_networks.n, 0);
		assert_null(f.tree);
		assert_true(f.require_auth_for_external);
	}
}

static void test_bounds(void **state)
{
	(void)state;
	struct tg_keyfile f;
	struct tg_err err;
	size_t max = 1 << 20;
	char *text = malloc(max + 2);
	assert_non_null(text);
	memset(text, ' ', max + 1);
	memcpy(text, "{}", 2);
	assert_int_equal(parse(&f, (struct tg_slice){ text, max }, &err), TG_KEYFILE_OK);
	tg_keyfile_free(&f);
	assert_int_equal(parse(&f, (struct tg_slice){ text, max + 1 }, &err), TG_KEYFILE_INVALID);
	assert_string_equal(err.text, "api_keys.json: larger than 1048576 bytes");
	/* 100,000 keys pass, one more does not. */
	for (unsigned keys = 100000; keys <= 100001; keys++) {
		size_t n = (size_t)snprintf(text, max, "{\"valid_keys\":[");
		for (unsigned i = 0; i < keys; i++)
			n += (size_t)snprintf(text + n, max - n, "%s\"k%05x\"", i ? "," : "", i);
		n += (size_t)snprintf(text + n, max - n, "]}");
		if (keys == 100000) {
			assert_int_equal(parse(&f, (struct tg_slice){ text, n }, &err), TG_KEYFILE_OK);
			assert_int_equal(f.keys.n, 100000);
			tg_keyfile_free(&f);
		} else {
			assert_int_equal(parse(&f, (struct tg_slice){ text, n }, &err), TG_KEYFILE_INVALID);
			assert_string_equal(err.text, "api_keys.json: valid_keys has more than 100000 keys");
		}
	}
	/* A key of 1024 bytes, and one of 1025. */
	for (size_t len = 1024; len <= 1025; len++) {
		memcpy(text, "{\"valid_keys\":[\"", 16);
		memset(text + 16, 'k', len);
		memcpy(text + 16 + len, "\"]}", 3);
		enum tg_keyfile_result r = parse(&f, (struct tg_slice){ text, len + 19 }, &err);
		assert_int_equal(r, len == 1024 ? TG_KEYFILE_OK : TG_KEYFILE_INVALID);
		tg_keyfile_free(&f);
	}
	free(text);
}

static char dir[64];
static char path[80];

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg_keyfile_XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/keys.json", dir);
	return 0;
}

static void in_dir(char *out, size_t cap, const char *name)
{
	snprintf(out, cap, "%s/%s", dir, name);
}

static int remove_dir(void **state)
{
	(void)state;
	static const char *const names[] = { "keys.json", "keys.json.lock", "link.json", "link.json.lock", "fifo" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char p[128];
		in_dir(p, sizeof p, names[i]);
		unlink(p);
	}
	/* Fails where a temporary file was left behind. */
	return rmdir(dir);
}

static void test_save_and_load(void **state)
{
	(void)state;
	struct tg_keyfile f, g;
	struct tg_err err;
	assert_int_equal(tg_keyfile_load(&f, path, &err), TG_KEYFILE_MISSING);
	assert_non_null(strstr(err.text, path));
	assert_int_equal(tg_keyfile_load(&f, dir, &err), TG_KEYFILE_UNREADABLE);
	char fifo[128];
	in_dir(fifo, sizeof fifo, "fifo");
	assert_int_equal(mkfifo(fifo, 0600), 0);
	assert_int_equal(tg_keyfile_load(&f, fifo, &err), TG_KEYFILE_UNREADABLE);
	/* Unknown members stay, in their place. */
	assert_int_equal(parse(&f, TG_S("{\"note\":{\"a\":[1,2.5]},\"valid_keys\":[\"k-one\"],\"z\":null}"), &err), TG_KEYFILE_OK);
	assert_true(tg_strlist_add(&f.keys, TG_S("k-tw\xc3\xb6 \"\\")));
	f.require_auth_for_external = false;
	mode_t old = umask(0);
	assert_true(tg_keyfile_save(&f, path, &err));
	umask(old);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(tg_keyfile_load(&g, path, &err), TG_KEYFILE_OK);
	assert_int_equal(g.keys.n, 2);
	assert_string_equal(g.keys.v[1], "k-tw\xc3\xb6 \"\\");
	assert_false(g.require_auth_for_external);
	size_t fn, gn;
	char *ft = tg_keyfile_text(&f, &fn), *gt = tg_keyfile_text(&g, &gn);
	assert_string_equal(ft, gt);
	assert_non_null(strstr(ft, "\"note\": {\n    \"a\": [\n      1,\n      2.5\n    ]\n  },\n  \"valid_keys\""));
	free(ft);
	free(gt);
	tg_keyfile_free(&g);
	/* A wide-open file becomes 0600; a link stays a link. */
	assert_int_equal(chmod(path, 0644), 0);
	char link[128];
	in_dir(link, sizeof link, "link.json");
	assert_int_equal(symlink("keys.json", link), 0);
	assert_true(tg_strlist_add(&f.keys, TG_S("k-three")));
	assert_true(tg_keyfile_save(&f, link, &err));
	assert_int_equal(lstat(link, &st), 0);
	assert_true(S_ISLNK(st.st_mode));
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	assert_int_equal(tg_keyfile_load(&g, path, &err), TG_KEYFILE_OK);
	assert_int_equal(g.keys.n, 3);
	tg_keyfile_free(&g);
	/* No folder to write in. */
	char nowhere[128];
	in_dir(nowhere, sizeof nowhere, "none/keys.json");
	assert_false(tg_keyfile_save(&f, nowhere, &err));
	assert_non_null(strstr(err.text, "none/keys.json: cannot be written: No such file"));
	tg_keyfile_free(&f);
}

static void test_save_refuses_what_could_not_be_read(void **state)
{
	(void)state;
	struct tg_keyfile f;
	struct tg_err err;
	tg_keyfile_defaults(&f);
	char key[1025];
	memset(key, 'k', sizeof key);
	for (int i = 0; i < 1100; i++)
		assert_true(tg_strlist_add(&f.keys, (struct tg_slice){ key, 1024 }));
	assert_false(tg_keyfile_save(&f, path, &err));
	assert_int_equal(access(path, F_OK), -1);
	tg_keyfile_free(&f);
}

static void test_lock(void **state)
{
	(void)state;
	struct tg_err err;
	int a = tg_keyfile_lock(path, &err);
	assert_true(a >= 0);
	pid_t child = fork();
	if (child == 0) {
		close(a); /* a fork shares the lock; another program would not */
		int b = tg_keyfile_lock(path, &err);
		_exit(b >= 0 && access(path, F_OK) == 0 ? 0 : 1);
	}
	usleep(100000);
	struct tg_keyfile f;
	tg_keyfile_defaults(&f);
	assert_true(tg_keyfile_save(&f, path, &err));
	tg_keyfile_free(&f);
	close(a);
	int status;
	assert_int_equal(waitpid(child, &status, 0), child);
	assert_int_equal(status, 0);
	char nowhere[128];
	in_dir(nowhere, sizeof nowhere, "none/keys.json");
	assert_int_equal(tg_keyfile_lock(nowhere, &err), -1);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sample),
		cmocka_unit_test(test_absent_members),
		cmocka_unit_test(test_faults),
		cmocka_unit_test(test_bounds),
		cmocka_unit_test_setup_teardown(test_save_and_load, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_save_refuses_what_could_not_be_read, make_dir, remove_dir),
		cmocka_unit_test_setup_teardown(test_lock, make_dir, remove_dir),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
