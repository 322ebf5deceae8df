/* The log file: every line is one JSON object whatever is put into it; rotation, reopening, a full disk, a reader that sleeps, many threads. */
#include "base/log.h"
#include "base/clock.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64], path[96];

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg-log-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/deep/er/app.log", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tg_log_close();
	char names[][16] = { "app.log", "app.log.1", "app.log.2", "app.log.3", "moved" };
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		char p[256];
		snprintf(p, sizeof p, "%s/deep/er/%s", dir, names[i]);
		unlink(p);
	}
	char d[256];
	snprintf(d, sizeof d, "%s/deep/er", dir);
	rmdir(d);
	snprintf(d, sizeof d, "%s/deep", dir);
	rmdir(d);
	return rmdir(dir);
}

static void open_log(const char *p, uint64_t rotate, unsigned keep, int level)
{
	struct tg_err err;
	if (!tg_log_open(&(struct tg_log_conf){ .path = p, .level = level, .rotate_bytes = rotate, .rotate_keep = keep }, &err))
		fail_msg("%s", err.text);
}

static char *slurp(const char *p, size_t *n)
{
	FILE *f = fopen(p, "r");
	if (!f)
		return *n = 0, NULL;
	char *b = malloc(16 << 20);
	*n = fread(b, 1, 16 << 20, f);
	fclose(f);
	return b;
}

/* Counts the lines, each of which must be one JSON object with the three members that come first. */
static unsigned lines_of(const char *p)
{
	size_t n;
	unsigned lines = 0;
	char *b = slurp(p, &n);
	for (char *s = b, *e; s && s < b + n; s = e + 1, lines++) {
		e = memchr(s, '\n', (size_t)(b + n - s));
		assert_non_null(e);
		json_t *o = json_loadb(s, (size_t)(e - s), JSON_REJECT_DUPLICATES, NULL);
		if (!o)
			fail_msg("not JSON: %.*s", (int)(e - s), s);
		assert_int_equal(json_string_length(json_object_get(o, "ts")), 24);
		assert_non_null(json_object_get(o, "level"));
		assert_non_null(json_object_get(o, "event"));
		json_decref(o);
	}
	free(b);
	return lines;
}

static void members_and_escapes(void **state)
{
	(void)state;
	static const char nasty[] = "a\"b\\c\r\nd\x01\x1b[31m\x7f \xc2\x9b \xff \xe2\x80\xae \xc3\xa9";
	struct tg_slice none = { 0 }, some = TG_S("view\nx");
	open_log(path, 0, 0, TG_LOG_F_INFO);
	tg_log(TG_LOG_F_WARN, "test.event", "s:nasty", nasty, "s:none", NULL, "l:view", &some, "l:nil", &none, "u:big", (uint64_t)INT64_MAX, "i:low", INT64_MIN,
	       "b:yes", 1, "b:no", 0, "t:id", "01HXYZABCDEFGHJKMNPQRSTVWX", "s:key", "a1b2c3d4e5f6a7b8c9d0", NULL);
	tg_log(TG_LOG_F_DEBUG, "too.low", NULL);
	assert_int_equal(lines_of(path), 1);
	size_t n;
	char *b = slurp(path, &n);
	for (size_t i = 0; i + 1 < n; i++)
		assert_true((unsigned char)b[i] >= 0x20 && b[i] != 0x7f);
	assert_null(memmem(b, n, "\xc2\x9b", 2));
	assert_null(memmem(b, n, "\xe2\x80\xae", 3));
	json_t *o = json_loadb(b, n, JSON_DISABLE_EOF_CHECK, NULL);
	assert_string_equal(json_string_value(json_object_get(o, "level")), "warn");
	assert_string_equal(json_string_value(json_object_get(o, "nasty")), "a\"b\\c\r\nd\x01\x1b[31m\x7f \xc2\x9b \xef\xbf\xbd \xe2\x80\xae \xc3\xa9");
	assert_string_equal(json_string_value(json_object_get(o, "view")), "view\nx");
	assert_true(json_is_null(json_object_get(o, "none")) && json_is_null(json_object_get(o, "nil")));
	assert_true(json_is_true(json_object_get(o, "yes")) && json_is_false(json_object_get(o, "no")));
	assert_non_null(memmem(b, n, "9223372036854775807", 19));
	assert_non_null(memmem(b, n, "-9223372036854775808", 20));
	assert_string_equal(json_string_value(json_object_get(o, "id")), "01HXYZABCDEFGHJKMNPQRSTVWX");
	assert_string_equal(json_string_value(json_object_get(o, "key")), "***");
	json_decref(o);
	free(b);
	struct stat st;
	stat(path, &st);
	assert_int_equal(st.st_mode & 07137, 0); /* 0640 at most */
}

static void long_strings_are_cut(void **state)
{
	(void)state;
	char *s = malloc(100001);
	for (int i = 0; i < 100000; i += 4)
		memcpy(s + i, "\xc3\xa9 .", 4);
	s[100000] = 0;
	open_log(path, 0, 0, TG_LOG_F_INFO);
	tg_log(TG_LOG_F_INFO, "long", "s:a", s, "t:b", s + 1, NULL);
	free(s);
	assert_int_equal(lines_of(path), 1);
	struct stat st;
	stat(path, &st);
	assert_true(st.st_size > 2000 && st.st_size < 2400);
}

static void rotation_keeps_every_line(void **state)
{
	(void)state;
	open_log(path, 2000, 3, TG_LOG_F_INFO);
	for (unsigned i = 0; i < 60; i++)
		tg_log(TG_LOG_F_INFO, "rotation", "u:n", (uint64_t)i, NULL);
	unsigned total = lines_of(path);
	uint64_t last = 60;
	for (int k = 0; k <= 3; k++) {
		char p[256];
		snprintf(p, sizeof p, k ? "%s.%d" : "%s", path, k);
		struct stat st;
		if (stat(p, &st) != 0)
			break;
		assert_true(st.st_size <= 2000);
		total += k ? lines_of(p) : 0;
		size_t n;
		char *b = slurp(p, &n), *at = memrchr(b, ':', n); /* the newest line of an older file comes right before the oldest of the newer */
		assert_true(strtoull(at + 1, NULL, 10) < last);
		last = strtoull((char *)memmem(b, n, "\"n\":", 4) + 4, NULL, 10);
		free(b);
	}
	assert_int_equal(total, 60);
	assert_int_equal(last, 0);
	/* Files past rotate_keep go. */
	for (unsigned i = 0; i < 300; i++)
		tg_log(TG_LOG_F_INFO, "rotation", "u:n", (uint64_t)i, NULL);
	char p[256];
	snprintf(p, sizeof p, "%s.4", path);
	assert_int_equal(access(p, F_OK), -1);
	assert_int_equal(tg_log_lost(), 0);
	open_log(path, 500, 0, TG_LOG_F_INFO);
	for (unsigned i = 0; i < 20; i++)
		tg_log(TG_LOG_F_INFO, "rotation", "u:n", (uint64_t)i, NULL);
	struct stat st;
	stat(path, &st);
	assert_true(st.st_size <= 500);
}

static void reopening(void **state)
{
	(void)state;
	char moved[256];
	snprintf(moved, sizeof moved, "%s/deep/er/moved", dir);
	open_log(path, 0, 0, TG_LOG_F_INFO);
	tg_log(TG_LOG_F_INFO, "one", NULL);
	assert_int_equal(rename(path, moved), 0);
	tg_log(TG_LOG_F_INFO, "two", NULL);
	tg_log_reopen();
	tg_log(TG_LOG_F_INFO, "three", NULL);
	assert_int_equal(lines_of(moved), 2);
	assert_int_equal(lines_of(path), 1);
	/* A configuration that cannot be opened leaves the old file in use, level included. */
	struct tg_err err;
	assert_false(tg_log_open(&(struct tg_log_conf){ .path = dir, .level = TG_LOG_F_ERROR }, &err));
	assert_non_null(strstr(err.text, dir));
	tg_log(TG_LOG_F_INFO, "four", NULL);
	assert_int_equal(lines_of(path), 2);
}

/* Runs f with descriptor fd turned into a file; what was written to it comes back. */
static char *captured(int fd, void (*f)(void), size_t *n)
{
	char name[256];
	snprintf(name, sizeof name, "%s/captured", dir);
	fflush(NULL);
	int keep = dup(fd), to = open(name, O_RDWR | O_CREAT | O_TRUNC, 0600);
	dup2(to, fd);
	f();
	fflush(NULL);
	dup2(keep, fd);
	close(keep);
	close(to);
	char *b = slurp(name, n);
	unlink(name);
	return b;
}

static void write_to_full(void)
{
	for (int i = 0; i < 10; i++)
		tg_log(TG_LOG_F_ERROR, "lost", NULL);
	struct tg_log_batch b;
	tg_log_batch_init(&b);
	tg_buf_lit(&b.buf, "{}\n{}\n");
	tg_log_batch_flush(&b);
	assert_int_equal(b.buf.len, 0);
	tg_log_batch_free(&b);
}

static void full_disk_costs_lines_only(void **state)
{
	(void)state;
	uint64_t before = tg_log_lost();
	open_log("/dev/full", 1, 3, TG_LOG_F_INFO);
	size_t n;
	char *said = captured(2, write_to_full, &n);
	assert_int_equal(tg_log_lost() - before, 12);
	assert_non_null(memmem(said, n, "No space left", 13));
	assert_ptr_equal(memchr(said, '\n', n), said + n - 1); /* said once */
	free(said);
}

static void torn(void)
{
	struct tg_log_batch b;
	tg_log_batch_init(&b);
	for (int i = 0; i < 100; i++)
		tg_buf_fmt(&b.buf, "{\"ts\":\"2026-11-23T21:50:13.123Z\",\"level\":\"info\",\"event\":\"x%d\"}\n", i);
	tg_log_batch_flush(&b);
	tg_log_batch_free(&b);
}

/* A write that stops halfway, as on a disk that fills up: the file is left with whole lines. */
static void half_a_write_is_cut_back(void **state)
{
	(void)state;
	struct rlimit old, small;
	getrlimit(RLIMIT_FSIZE, &old);
	small = old;
	small.rlim_cur = 1000;
	signal(SIGXFSZ, SIG_IGN);
	uint64_t before = tg_log_lost();
	open_log(path, 0, 0, TG_LOG_F_INFO);
	setrlimit(RLIMIT_FSIZE, &small);
	size_t n;
	char *said = captured(2, torn, &n);
	setrlimit(RLIMIT_FSIZE, &old);
	free(said);
	unsigned kept = lines_of(path);
	assert_true(kept >= 10 && kept < 20);
	assert_int_equal(kept + tg_log_lost() - before, 100);
	tg_log(TG_LOG_F_INFO, "again", NULL);
	assert_int_equal(lines_of(path), kept + 1);
}

static int sleepy[2];
static uint64_t took_us;

static void log_to_stdout(void)
{
	dup2(sleepy[1], 1);
	open_log("-", 0, 0, TG_LOG_F_INFO);
	uint64_t t = tg_mono_us();
	for (int i = 0; i < 300; i++)
		torn();
	took_us = tg_mono_us() - t;
}

static void reader_that_sleeps_does_not_block(void **state)
{
	(void)state;
	assert_int_equal(pipe(sleepy), 0);
	uint64_t before = tg_log_lost();
	size_t n;
	free(captured(1, log_to_stdout, &n));
	uint64_t lost = tg_log_lost() - before;
	assert_true(lost > 1000);
	assert_true(took_us < 30u * 1000000u);
	/* Once it reads again it gets whole lines, save the one that was cut, which is ended. */
	char *b = malloc(4 << 20);
	size_t got = 0;
	fcntl(sleepy[0], F_SETFL, O_NONBLOCK);
	for (ssize_t k; (k = read(sleepy[0], b + got, (4 << 20) - got)) > 0;)
		got += (size_t)k;
	tg_log(TG_LOG_F_INFO, "awake", NULL);
	for (ssize_t k; (k = read(sleepy[0], b + got, (4 << 20) - got)) > 0;)
		got += (size_t)k;
	unsigned good = 0, bad = 0;
	for (char *s = b, *e; s < b + got; s = e + 1) {
		e = memchr(s, '\n', (size_t)(b + got - s));
		assert_non_null(e);
		json_t *o = json_loadb(s, (size_t)(e - s), 0, NULL);
		o ? good++ : bad++;
		json_decref(o);
	}
	assert_true(bad <= 1);
	assert_int_equal(good + lost, 30001);
	free(b);
	tg_log_close();
	close(sleepy[0]);
	close(sleepy[1]);
}

enum { THREADS = 4, EACH = 2000 };

static void *writer(void *arg)
{
	struct tg_log_batch b;
	tg_log_batch_init(&b);
	for (int i = 0; i < EACH; i++) {
		tg_log(TG_LOG_F_INFO, "thread", "i:n", (int64_t)i, "s:who", arg, NULL);
		tg_buf_lit(&b.buf, "{\"ts\":\"2026-11-23T21:50:13.123Z\",\"level\":\"info\",\"event\":\"request\"}\n");
		b.lines++;
		if (b.lines == 50)
			tg_log_batch_flush(&b);
		if (i % 500 == 7)
			tg_log_reopen();
	}
	tg_log_batch_free(&b);
	return NULL;
}

static void many_threads(void **state)
{
	(void)state;
	uint64_t before = tg_log_lost();
	open_log(path, 400000, 3, TG_LOG_F_INFO);
	pthread_t t[THREADS];
	char who[] = "w";
	for (int i = 0; i < THREADS; i++)
		pthread_create(&t[i], NULL, writer, who);
	for (int i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	tg_log_close();
	unsigned total = lines_of(path);
	for (int k = 1; k <= 3; k++) {
		char p[256];
		snprintf(p, sizeof p, "%s.%d", path, k);
		total += lines_of(p);
	}
	assert_int_equal(total, 2 * THREADS * EACH);
	assert_int_equal(tg_log_lost() - before, 0);
}

static void events_before_open(void)
{
	tg_log(TG_LOG_F_WARN, "early", NULL);
}

static void before_open_events_go_to_stderr(void **state)
{
	(void)state;
	size_t n;
	tg_log_close();
	char *b = captured(2, events_before_open, &n);
	assert_non_null(memmem(b, n, "\"early\"", 7));
	free(b);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(members_and_escapes), T(long_strings_are_cut), T(rotation_keeps_every_line), T(reopening), T(full_disk_costs_lines_only),
		T(half_a_write_is_cut_back), T(reader_that_sleeps_does_not_block), T(many_threads), T(before_open_events_go_to_stderr),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
