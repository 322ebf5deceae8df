/*
 * What a started worker is given: its arguments and variables with the words in braces filled in, none of the gate's own secrets, and a place to listen at that is its own:
 * a port that can be bound, or a socket in a folder that nobody else can enter.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "config/options.h"
#include "pool/launch.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <netinet/in.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

extern char **environ;

static char dir[64];

static int in_a_folder(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg-launch-XXXXXX");
	unsetenv("RUNTIME_DIRECTORY");
	return mkdtemp(dir) && chdir(dir) == 0 ? 0 : -1;
}

static int remove_one(const char *path, const struct stat *st, int what, struct FTW *at)
{
	(void)st;
	(void)what;
	(void)at;
	return remove(path);
}

static int clean_up(void **state)
{
	(void)state;
	unsetenv("RUNTIME_DIRECTORY");
	return chdir("/") == 0 ? nftw(dir, remove_one, 8, FTW_DEPTH | FTW_PHYS) : -1;
}

/* A model with one command. The lists end with NULL. */
static struct tg_config *config(char *const *argv, const char *const *env, const char *file)
{
	struct tg_err err = { "" };
	struct tg_config *c = tg_config_defaults();
	assert_non_null(c);
	if (!tg_config_add_command(c, "qwen3:8b", argv, TG_PROTO_OPENAI, &err))
		fail_msg("%s", err.text);
	for (; env && *env; env++)
		assert_true(tg_strlist_add(&c->models[0].env, tg_slice_cstr(*env)));
	if (file)
		assert_non_null(c->models[0].file = tg_slice_dup(tg_slice_cstr(file)));
	return c;
}

static struct tg_worker *worker(const struct tg_config *c, unsigned place)
{
	struct tg_err err = { "" };
	struct tg_worker *w = tg_worker_new(&c->models[0], place, 1, &err);
	if (!w)
		fail_msg("%s", err.text);
	assert_non_null(w->started);
	return w;
}

static struct tg_launch launch(const struct tg_worker *w)
{
	struct tg_err err = { "" };
	struct tg_launch l;
	if (!tg_launch_make(&l, w, &err))
		fail_msg("%s", err.text);
	return l;
}

#define LIST(...) ((char *const[]){ __VA_ARGS__, NULL })
#define WORDS(...) ((const char *const[]){ __VA_ARGS__, NULL })

/* The variable's value among them, NULL: not there. Twice is a mistake. */
static const char *value_of(char *const *env, const char *name)
{
	const char *found = NULL;
	size_t n = strlen(name);
	for (; *env; env++)
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=') {
			if (found)
				fail_msg("%s is there twice", name);
			found = *env + n + 1;
		}
	return found;
}

/* ---- words in braces ---- */

static void test_words(void **state)
{
	(void)state;
	/* in what is written, PORT stands for the port that was chosen. */
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "plain", "plain" },
		{ "", "" },
		{ "{port}", "PORT" },
		{ "{index}", "3" },
		{ "{model}", "qwen3:8b" },
		{ "{file}", "models/q.gguf" },
		{ "--port={port}", "--port=PORT" },
		{ "{index}{index}", "33" },
		{ "http://127.0.0.1:{port}/{model}?i={index}&f={file}", "http://127.0.0.1:PORT/qwen3:8b?i=3&f=models/q.gguf" },
		{ "{{port}}", "{PORT}" },
		{ "{port", "{port" },
		{ "port}", "port}" },
		{ "{ port }", "{ port }" },
		{ "{PORT}", "{PORT}" },
		{ "{ports}", "{ports}" },
		{ "{}", "{}" },
		{ "{", "{" },
		{ "{unknown}", "{unknown}" },
		{ "${HOME} $(id) `id` ;|&", "${HOME} $(id) `id` ;|&" }, /* no shell */
		{ "{\"a\": {\"b\": [1, {}]}, \"port\": \"{port}\"}", "{\"a\": {\"b\": [1, {}]}, \"port\": \"PORT\"}" },
		{ "{\"model\": {model}}", "{\"model\": qwen3:8b}" },
		{ "caf\xc3\xa9 {index}", "caf\xc3\xa9 3" },
	};
	enum { N = sizeof rows / sizeof rows[0] };
	char *argv[N + 2] = { NULL };
	argv[0] = tg_slice_dup(TG_S("a {port}"));
	for (unsigned i = 0; i < N; i++)
		argv[i + 1] = tg_slice_dup(tg_slice_cstr(rows[i].in));
	struct tg_config *c = config(argv, NULL, "models/q.gguf");
	struct tg_worker *w = worker(c, 3);
	struct tg_launch l = launch(w);
	assert_true(l.port > 0);
	assert_string_equal(l.socket, "");
	for (unsigned i = 0; i < N; i++) {
		char want[256], port[8];
		const char *at = strstr(rows[i].out, "PORT");
		if (strcmp(rows[i].in, "{PORT}") == 0)
			at = NULL;
		snprintf(port, sizeof port, "%u", l.port);
		snprintf(want, sizeof want, "%.*s%s%s", at ? (int)(at - rows[i].out) : 200, rows[i].out, at ? port : "", at ? at + 4 : "");
		if (strcmp(l.argv[i + 1], want) != 0)
			fail_msg("%s became %s, not %s", rows[i].in, l.argv[i + 1], want);
	}
	assert_null(l.argv[N + 1]);
	tg_launch_free(&l);
	assert_null(l.argv);
	assert_null(l.env);
	tg_launch_free(&l); /* nothing any more */
	for (unsigned i = 0; argv[i]; i++)
		free(argv[i]);
	tg_worker_put(w);
	tg_config_free(c);

	/* Without a file its word means nothing. */
	c = config(LIST((char[]){ "x" }, (char[]){ "{file}{port}" }), NULL, NULL);
	w = worker(c, 0);
	l = launch(w);
	assert_true(strncmp(l.argv[1], "{file}", 6) == 0);
	tg_launch_free(&l);
	tg_worker_put(w);
	tg_config_free(c);
}

/* The words of one are not looked for in what another stands for. */
static void test_words_once(void **state)
{
	(void)state;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{port} {file}" }), NULL, "{index}/{port}/{model}");
	struct tg_worker *w = worker(c, 0);
	struct tg_launch l = launch(w);
	const char *space = strchr(l.argv[1], ' ');
	assert_non_null(space);
	assert_string_equal(space, " {index}/{port}/{model}");
	tg_launch_free(&l);
	tg_worker_put(w);
	tg_config_free(c);
}

static void test_too_long(void **state)
{
	(void)state;
	struct tg_err err = { "" };
	struct tg_launch l;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{port}" }), NULL, NULL);
	char *huge = malloc((2 << 20) + 1);
	memset(huge, 'x', 2 << 20);
	huge[2 << 20] = 0;
	assert_true(tg_strlist_add(&c->models[0].env, TG_S("A=1")));
	free(c->models[0].command.v[1]);
	c->models[0].command.v[1] = huge;
	struct tg_worker *w = worker(c, 0);
	assert_false(tg_launch_make(&l, w, &err));
	assert_true(err.text[0] != 0);
	assert_null(l.argv); /* nothing is left to free */
	assert_null(l.env);
	tg_worker_put(w);
	tg_config_free(c);
}

/* ---- the environment ---- */

static void test_environment(void **state)
{
	(void)state;
	static const char *const kept[] = { "PATH", "HOME", "LANG", "CUDA_VISIBLE_DEVICES", "TOLLGATE", "XTOLLGATE_X", "INFERENCE_ADMIN_KEY_FILE", "INFERENCE_ADMIN", "API_KEYS_FILE",
		"NOTIFY_SOCKET_X", "LISTEN", "EMPTY", "OPENAI_API_KEY" };
	static const char *const dropped[] = { "TOLLGATE_", "TOLLGATE_AUTH_ADMIN_KEY", "TOLLGATE_SERVER_LISTEN", "TOLLGATE_ANYTHING", "INFERENCE_ADMIN_KEY", "INFERENCE_READ_KEY",
		"TOLLGATE_API_KEYS", "CHAPKIT_API_KEYS", "NOTIFY_SOCKET", "LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "WATCHDOG_USEC", "WATCHDOG_PID" };
	enum { KEPT = sizeof kept / sizeof kept[0], DROPPED = sizeof dropped / sizeof dropped[0] };
	char *before[KEPT + DROPPED + 2], **was = environ;
	unsigned n = 0;
	for (unsigned i = 0; i < KEPT; i++) {
		before[n] = malloc(80);
		snprintf(before[n++], 80, "%s=%s", kept[i], strcmp(kept[i], "EMPTY") == 0 ? "" : "of=before");
		if (i < DROPPED) {
			before[n] = malloc(80);
			snprintf(before[n++], 80, "%s=s3cret", dropped[i]);
		}
	}
	for (unsigned i = KEPT; i < DROPPED; i++) {
		before[n] = malloc(80);
		snprintf(before[n++], 80, "%s=s3cret", dropped[i]);
	}
	before[n++] = tg_slice_dup(TG_S("NO_EQUALS_SIGN"));
	before[n] = NULL;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{port}" }), WORDS("LANG=C.UTF-8", "ROLE=w{index} of {model}", "URL=http://127.0.0.1:{port}/", "NOTHING=",
		"INFERENCE_READ_KEY=its own", "JSON={\"a\":{}}"), NULL);
	struct tg_worker *w = worker(c, 2);
	environ = before;
	struct tg_launch l = launch(w);
	environ = was;
	for (unsigned i = 0; i < KEPT; i++) {
		const char *want = strcmp(kept[i], "LANG") == 0 ? "C.UTF-8" : strcmp(kept[i], "EMPTY") == 0 ? "" : "of=before", *got = value_of(l.env, kept[i]);
		if (!got || strcmp(got, want) != 0)
			fail_msg("%s is %s, not %s", kept[i], got ? got : "not there", want);
	}
	for (unsigned i = 0; i < DROPPED; i++) {
		const char *got = value_of(l.env, dropped[i]);
		if (strcmp(dropped[i], "INFERENCE_READ_KEY") == 0)
			assert_string_equal(got, "its own"); /* whoever writes it there means it */
		else if (got)
			fail_msg("%s is there", dropped[i]);
	}
	char url[64];
	snprintf(url, sizeof url, "http://127.0.0.1:%u/", l.port);
	assert_string_equal(value_of(l.env, "URL"), url);
	assert_string_equal(value_of(l.env, "ROLE"), "w2 of qwen3:8b");
	assert_string_equal(value_of(l.env, "NOTHING"), "");
	assert_string_equal(value_of(l.env, "JSON"), "{\"a\":{}}");
	unsigned count = 0;
	for (char **e = l.env; *e; e++, count++)
		assert_null(strstr(*e, "s3cret"));
	assert_int_equal(count, KEPT + 1 /* without an equals sign */ + 5 /* new ones */);
	tg_launch_free(&l);
	tg_worker_put(w);
	tg_config_free(c);
	for (unsigned i = 0; i < n; i++)
		free(before[i]);
}

/* Whatever secret the options table will have one day: its names of old are left out by the table. */
static void test_secrets_of_the_table(void **state)
{
	(void)state;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{port}" }), NULL, NULL);
	struct tg_worker *w = worker(c, 0);
	unsigned secrets = 0, others = 0;
	for (unsigned i = 0; i < tg_noptions; i++) {
		bool secret = tg_opt_secret(tg_options[i].type) || tg_options[i].type == TG_OPT_KEYS;
		char names[256], *save = NULL;
		snprintf(names, sizeof names, "%s", tg_options[i].aliases);
		for (char *name = strtok_r(names, " ", &save); name; name = strtok_r(NULL, " ", &save)) {
			char one[300], *env[] = { one, NULL }, **was = environ;
			snprintf(one, sizeof one, "%s=s3cret", name);
			environ = env;
			struct tg_launch l = launch(w);
			environ = was;
			bool ours = secret || strncmp(name, "TOLLGATE_", 9) == 0;
			if ((l.env[0] == NULL) != ours)
				fail_msg("%s is %s", name, l.env[0] ? "handed over" : "left out");
			tg_launch_free(&l);
			secrets += secret;
			others += !ours;
		}
	}
	assert_true(secrets >= 4 && others >= 1);
	tg_worker_put(w);
	tg_config_free(c);
}

/* ---- ports ---- */

static int listen_at(uint16_t port)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_true(fd >= 0);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (bind(fd, (struct sockaddr *)&a, sizeof a) == 0 && listen(fd, 8) == 0)
		return fd;
	close(fd);
	return -1;
}

static void test_port(void **state)
{
	(void)state;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{port}" }), NULL, NULL);
	struct tg_worker *w = worker(c, 0);
	struct tg_launch l = launch(w);
	uint16_t port = l.port;
	tg_launch_free(&l);
	int fd = listen_at(port); /* it can be had */
	assert_true(fd >= 0);
	/* Its last one, while somebody listens there: another. */
	atomic_store(&w->started->port, port);
	for (int i = 0; i < 5; i++) {
		l = launch(w);
		assert_int_not_equal(l.port, port);
		assert_true(l.port > 0);
		tg_launch_free(&l);
	}
	/* And again once it is free, as often as it is asked for: also with a connection of its last process half closed. */
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int client = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	assert_int_equal(connect(client, (struct sockaddr *)&a, sizeof a), 0);
	int served = accept4(fd, NULL, NULL, SOCK_CLOEXEC);
	assert_true(served >= 0);
	close(served);
	close(fd);
	for (int i = 0; i < 5; i++) {
		l = launch(w);
		assert_int_equal(l.port, port);
		assert_string_equal(l.socket, "");
		tg_launch_free(&l);
	}
	close(client);
	tg_worker_put(w);
	tg_config_free(c);
}

/* ---- sockets ---- */

static void expect_mode(const char *path, mode_t mode)
{
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_true(S_ISDIR(st.st_mode));
	assert_int_equal(st.st_mode & 07777, mode);
}

static void test_socket(void **state)
{
	(void)state;
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "--unix={socket}" }), WORDS("SOCK={socket}", "PORT={port}"), NULL);
	struct tg_worker *w = worker(c, 0), *v = worker(c, 1);
	assert_true(w->started->by_socket);
	mode_t mask = umask(0);
	struct tg_launch l = launch(w), k = launch(v);
	umask(mask);
	char want[160];
	snprintf(want, sizeof want, "%s/data/run/", dir);
	assert_true(strncmp(l.socket, want, strlen(want)) == 0);
	assert_int_equal(l.port, 0);
	expect_mode("data", 0700);
	expect_mode("data/run", 0700); /* whatever the umask is */
	snprintf(want, sizeof want, "--unix=%s", l.socket);
	assert_string_equal(l.argv[1], want);
	assert_string_equal(value_of(l.env, "SOCK"), l.socket);
	assert_string_not_equal(l.socket, k.socket); /* each its own */
	/* It can be bound, and what the last process left there is in nobody's way. */
	for (int i = 0; i < 2; i++) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		assert_true(strlen(l.socket) < sizeof un.sun_path);
		memcpy(un.sun_path, l.socket, strlen(l.socket) + 1);
		int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_int_equal(bind(fd, (struct sockaddr *)&un, sizeof un), 0);
		close(fd);
		assert_int_equal(access(l.socket, F_OK), 0);
		struct tg_launch again = launch(w);
		assert_string_equal(again.socket, l.socket);
		assert_int_equal(access(l.socket, F_OK), -1);
		tg_launch_free(&again);
	}
	/* By the environment alone, too. */
	tg_launch_free(&l);
	tg_launch_free(&k);
	tg_worker_put(w);
	tg_worker_put(v);
	tg_config_free(c);
	c = config(LIST((char[]){ "x" }), WORDS("SOCK={socket}"), NULL);
	w = worker(c, 0);
	l = launch(w);
	assert_string_equal(value_of(l.env, "SOCK"), l.socket);
	assert_true(l.socket[0] == '/');
	tg_launch_free(&l);
	tg_worker_put(w);
	tg_config_free(c);
}

static void test_socket_folders(void **state)
{
	(void)state;
	enum { FITS = 90 }; /* bytes of the folder: the rest is for the file's name */
	static const struct {
		const char *runtime; /* in RUNTIME_DIRECTORY: '%' is our folder; NULL: not set */
		bool used;
	} rows[] = {
		{ NULL, false }, { "%", true }, { "", false }, { "relative", false }, { "%:%", false }, /* systemd's list of several: none of them is meant for us alone */
	};
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{socket}" }), NULL, NULL);
	struct tg_worker *w = worker(c, 0);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char given[256] = "", want[160];
		for (const char *p = rows[i].runtime; p && *p; p++)
			snprintf(given + strlen(given), sizeof given - strlen(given), *p == '%' ? "%s" : "%.1s", *p == '%' ? dir : p);
		if (rows[i].runtime)
			setenv("RUNTIME_DIRECTORY", given, 1);
		else
			unsetenv("RUNTIME_DIRECTORY");
		struct tg_launch l = launch(w);
		snprintf(want, sizeof want, "%s%s/%d-%u.sock", dir, rows[i].used ? "" : "/data/run", (int)getpid(), w->id);
		assert_string_equal(l.socket, want);
		tg_launch_free(&l);
	}
	/* Whole or not at all: a path is never cut. */
	char folder[256];
	size_t n = strlen(dir);
	for (size_t len = n + 2; len < 200; len++) {
		struct tg_err err = { "" };
		struct tg_launch l;
		snprintf(folder, sizeof folder, "%s/", dir);
		memset(folder + n + 1, 'x', len - n - 1);
		folder[len] = 0;
		setenv("RUNTIME_DIRECTORY", folder, 1);
		if (tg_launch_make(&l, w, &err)) {
			assert_true(len <= FITS);
			assert_true(strncmp(l.socket, folder, len) == 0 && l.socket[len] == '/');
			tg_launch_free(&l);
		} else {
			assert_true(len > FITS);
			assert_non_null(strstr(err.text, folder));
			assert_non_null(strstr(err.text, "107 bytes"));
			assert_null(l.argv);
			assert_null(l.env);
		}
	}
	/* One that was there already is ours alone afterwards, or is not used. */
	unsetenv("RUNTIME_DIRECTORY");
	struct tg_err err = { "" };
	struct tg_launch l;
	struct stat st;
	assert_int_equal(chmod("data/run", 0777), 0);
	l = launch(w);
	tg_launch_free(&l);
	assert_int_equal(stat("data/run", &st), 0);
	assert_int_equal(st.st_mode & 0777, 0700);
	assert_int_equal(rename("data/run", "data/elsewhere"), 0);
	assert_int_equal(symlink("elsewhere", "data/run"), 0);
	assert_false(tg_launch_make(&l, w, &err));
	assert_non_null(strstr(err.text, "data/run"));
	assert_int_equal(unlink("data/run"), 0);
	assert_int_equal(rename("data/elsewhere", "data/run"), 0);
	/* No folder can be made. */
	assert_int_equal(rmdir("data/run"), 0);
	assert_int_equal(rmdir("data"), 0);
	int fd = open("data", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	assert_false(tg_launch_make(&l, w, &err));
	assert_non_null(strstr(err.text, "data/run"));
	tg_worker_put(w);
	tg_config_free(c);
}

/* What gates that were killed have left is swept once a process: in a child, where nothing has been swept yet. */
static void test_sweep(void **state)
{
	(void)state;
	pid_t gone = fork();
	if (gone == 0)
		_exit(0);
	assert_int_equal(waitpid(gone, NULL, 0), gone); /* nobody has that number now */
	char dead[32], file[32], live[32];
	snprintf(dead, sizeof dead, "%d-1.sock", (int)gone);
	snprintf(file, sizeof file, "%d-2.sock", (int)gone); /* no socket: somebody else's, whatever its name */
	snprintf(live, sizeof live, "%d-999999.sock", (int)getpid());
	const char *const names[] = { dead, file, live, "-1.sock", "x.sock", "notes", "0-1.sock" };
	assert_int_equal(mkdir("data", 0700) | mkdir("data/run", 0700), 0);
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		char path[64];
		snprintf(path, sizeof path, "data/run/%s", names[i]);
		struct sockaddr_un a = { .sun_family = AF_UNIX };
		snprintf(a.sun_path, sizeof a.sun_path, "%s", path);
		int fd = i == 1 ? open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600) : socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		assert_true(fd >= 0);
		if (i != 1)
			assert_int_equal(bind(fd, (struct sockaddr *)&a, sizeof a), 0);
		close(fd);
	}
	struct tg_config *c = config(LIST((char[]){ "x" }, (char[]){ "{socket}" }), NULL, NULL);
	struct tg_worker *w = worker(c, 0);
	struct tg_launch l = launch(w);
	tg_launch_free(&l);
	tg_worker_put(w);
	tg_config_free(c);
	for (unsigned i = 0; i < sizeof names / sizeof names[0]; i++) {
		char path[64];
		snprintf(path, sizeof path, "data/run/%s", names[i]);
		if ((access(path, F_OK) == 0) != (i > 0))
			fail_msg("%s is %s", names[i], i ? "gone" : "still there");
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, in_a_folder, clean_up)
	const struct CMUnitTest tests[] = {
		T(test_sweep), /* first: it is done once a process */
		T(test_words), T(test_words_once), T(test_too_long), T(test_environment), T(test_secrets_of_the_table), T(test_port), T(test_socket), T(test_socket_folders),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
