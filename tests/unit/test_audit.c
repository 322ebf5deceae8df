/* The audit trail's writer: whole lines, in order, none lost at a reopen, nothing lost in silence where the disk is full (seed ledger S4-68 to S4-72). */
#include "audit/event.h"
#include "base/clock.h"
#include "base/log.h"
#include <fcntl.h>
#include <jansson.h>
#include <math.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char dir[64], path[128], moved[128];
static const struct tg_slice rid = { "01J0000000000000000000000A", 26 };

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg-audit-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/deep/audit.jsonl", dir);
	snprintf(moved, sizeof moved, "%s/deep/moved", dir);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	tg_audit_close();
	char d[128];
	unlink(path);
	unlink(moved);
	snprintf(d, sizeof d, "%s/other.jsonl", dir);
	unlink(d);
	snprintf(d, sizeof d, "%s/deep", dir);
	rmdir(d);
	return rmdir(dir);
}

static void open_trail(const char *p)
{
	struct tg_err err;
	if (!tg_audit_open(p, &err))
		fail_msg("%s", err.text);
}

/* Every line must be one JSON object. *n: how many. */
static json_t *lines_of(const char *p)
{
	json_t *all = json_array();
	FILE *f = fopen(p, "r");
	char *line = NULL;
	size_t cap = 0;
	ssize_t k;
	while (f && (k = getline(&line, &cap, f)) > 0) {
		assert_int_equal(line[k - 1], '\n');
		json_t *j = json_loadb(line, (size_t)k, JSON_REJECT_DUPLICATES, NULL);
		if (!json_is_object(j))
			fail_msg("no object: %s", line);
		json_array_append_new(all, j);
	}
	free(line);
	if (f)
		fclose(f);
	return all;
}

static const char *text_of(json_t *o, const char *name)
{
	return json_string_value(json_object_get(o, name));
}

static void a_line_has_its_members(void **state)
{
	(void)state;
	open_trail(path);
	assert_true(tg_audit_on());
	struct tg_slice who = TG_S("password=hunter22 you@example.com");
	tg_audit_event(TG_AUDIT_training_completed, &rid, "t:model_id", "01J0000000000000000000000B", "j:metrics", "{\n \"auc\" : 0.9, \"a\":[1,\n2]}", "d:duration", 1.25, "d:duration_seconds", (double)NAN,
		       "u:n", (uint64_t)7, "i:i", (int64_t)-7, "b:yes", 1, "s:error", "line\nbreak \x01 \xff sk-abcdefghijklmnop1234567890", "l:who", &who, "s:none", NULL, "j:bad", "{", NULL);
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "m", NULL);
	assert_true(tg_audit_flush());
	json_t *all = lines_of(path), *o = json_array_get(all, 0);
	assert_int_equal(json_array_size(all), 2);
	assert_string_equal(text_of(o, "event"), "training_completed");
	assert_string_equal(text_of(o, "event_type"), "training_completed");
	assert_int_equal(strlen(text_of(o, "timestamp")), 24);
	assert_int_equal(text_of(o, "timestamp")[23], 'Z');
	assert_string_equal(text_of(o, "request_id"), "01J0000000000000000000000A");
	assert_string_equal(text_of(o, "model_id"), "01J0000000000000000000000B");
	assert_int_equal(json_integer_value(json_array_get(json_object_get(json_object_get(o, "metrics"), "a"), 1)), 2);
	assert_true(json_real_value(json_object_get(o, "duration")) == 1.25);
	assert_true(json_is_null(json_object_get(o, "duration_seconds")));
	assert_int_equal(json_integer_value(json_object_get(o, "i")), -7);
	assert_true(json_is_true(json_object_get(o, "yes")));
	assert_null(strstr(text_of(o, "error"), "sk-abc"));
	assert_null(strstr(text_of(o, "who"), "hunter22"));
	assert_null(strstr(text_of(o, "who"), "you@"));
	assert_true(json_is_null(json_object_get(o, "none")));
	assert_true(json_is_null(json_object_get(o, "bad")));
	assert_true(json_is_null(json_object_get(json_array_get(all, 1), "request_id")));
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0640);
	json_decref(all);
}

/* Texts within JSON are redacted and escaped as those beside it; what we made is not. A line splits nowhere, whoever reads it. */
static void json_of_callers_is_no_way_around(void **state)
{
	(void)state;
	open_trail(path);
	tg_audit_event(TG_AUDIT_training_started, &rid, "j:config",
		       "{\"target\":\"sk-abcdefghijklmnopqrstuvwxyz0123456789\",\"features\":[\"a\\u2028b\",\"\\u0085\",\"\\u007f\",{\"deep\":\"you@example.com\"},[],{}],\"config_id\":\"01K72PWT05GEXK1S24AVKAZ9VF\","
		       "\"hash\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\",\"seed\":-5,\"test_size\":0.25,\"none\":null,\"yes\":true}", NULL);
	assert_true(tg_audit_flush());
	json_t *all = lines_of(path), *config = json_object_get(json_array_get(all, 0), "config"), *features = json_object_get(config, "features");
	assert_string_equal(text_of(config, "target"), "***");
	assert_string_equal(text_of(json_array_get(features, 3), "deep"), "***");
	assert_string_equal(json_string_value(json_array_get(features, 0)), "a\xe2\x80\xa8"
									   "b"); /* the same text, written otherwise */
	assert_int_equal(json_array_size(features), 6);
	assert_string_equal(text_of(config, "config_id"), "01K72PWT05GEXK1S24AVKAZ9VF");
	assert_int_equal(strlen(text_of(config, "hash")), 64);
	assert_int_equal(json_integer_value(json_object_get(config, "seed")), -5);
	assert_true(json_real_value(json_object_get(config, "test_size")) == 0.25 && json_is_null(json_object_get(config, "none")) && json_is_true(json_object_get(config, "yes")));
	json_decref(all);
	char text[2048] = "";
	int fd = open(path, O_RDONLY);
	assert_true(read(fd, text, sizeof text - 1) > 0);
	close(fd);
	assert_null(strstr(text, "\xe2\x80\xa8"));
	assert_null(strstr(text, "\xc2\x85"));
	assert_null(strchr(text, 0x7f));
}

/* A member that would make a line of a megabyte is left out; the event is not. */
static void a_line_has_a_bound(void **state)
{
	(void)state;
	open_trail(path);
	char *big = malloc(1 << 20);
	memset(big, 'x', (1 << 20) - 1);
	for (size_t i = 1024; i < (1 << 20) - 1; i += 1024)
		memcpy(big + i, "\",\"", 3);
	memcpy(big, "[\"", 2);
	memcpy(big + (1 << 20) - 3, "\"]", 3);
	tg_audit_event(TG_AUDIT_training_failed, NULL, "s:error", "no", "j:config", big, NULL);
	assert_true(tg_audit_flush());
	json_t *all = lines_of(path);
	assert_int_equal(json_array_size(all), 1);
	assert_true(json_is_null(json_object_get(json_array_get(all, 0), "config")));
	assert_int_equal(tg_audit_lost(), 0);
	json_decref(all);
	free(big);
}

#define THREADS 4
#define EACH 3000
static atomic_bool moving;

static void *many(void *arg)
{
	for (uint64_t i = 0; i < EACH; i++) {
		if (i % 2)
			tg_audit_event(TG_AUDIT_prediction_made, NULL, "u:thread", (uint64_t)(uintptr_t)arg, "u:i", i, NULL);
		else
			while (!tg_audit_offer(TG_AUDIT_prediction_made, NULL, "u:thread", (uint64_t)(uintptr_t)arg, "u:i", i, NULL))
				;
	}
	return NULL;
}

static void *mover(void *arg)
{
	(void)arg;
	char n[160];
	unsigned k = 0;
	while (atomic_load(&moving)) {
		snprintf(n, sizeof n, "%s/moved.%u", dir, k++);
		if (rename(path, n) == 0)
			tg_audit_reopen();
		usleep(2000);
	}
	return (void *)(uintptr_t)k;
}

/* Four threads write while the file is moved away again and again: every event is in one of the files, each thread's in order. */
static void no_line_is_lost_at_a_reopen(void **state)
{
	(void)state;
	open_trail(path);
	pthread_t t[THREADS], m;
	void *files;
	atomic_store(&moving, true);
	assert_int_equal(pthread_create(&m, NULL, mover, NULL), 0);
	for (uintptr_t i = 0; i < THREADS; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many, (void *)i), 0);
	for (unsigned i = 0; i < THREADS; i++)
		pthread_join(t[i], NULL);
	atomic_store(&moving, false);
	pthread_join(m, &files);
	tg_audit_close();
	int64_t next[THREADS] = { 0 };
	for (unsigned k = 0; k <= (uintptr_t)files; k++) {
		char n[160];
		snprintf(n, sizeof n, "%s/moved.%u", dir, k);
		json_t *all = lines_of(k == (uintptr_t)files ? path : n);
		for (size_t i = 0; i < json_array_size(all); i++) {
			json_t *o = json_array_get(all, i);
			int64_t thread = json_integer_value(json_object_get(o, "thread"));
			assert_int_equal(json_integer_value(json_object_get(o, "i")), next[thread]);
			next[thread]++;
		}
		json_decref(all);
		unlink(n);
	}
	for (unsigned i = 0; i < THREADS; i++)
		assert_int_equal(next[i], EACH);
	assert_int_equal(tg_audit_lost(), 0);
}

static void a_torn_tail_is_ended(void **state)
{
	(void)state;
	open_trail(path);
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "a", NULL);
	tg_audit_close();
	int fd = open(path, O_WRONLY | O_APPEND);
	assert_int_equal(write(fd, "{\"event\":\"model_lo", 18), 18); /* somebody was killed here */
	close(fd);
	open_trail(path);
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "b", NULL);
	tg_audit_close();
	char text[1024] = "";
	fd = open(path, O_RDONLY);
	assert_true(read(fd, text, sizeof text - 1) > 0);
	close(fd);
	assert_non_null(strstr(text, "\"a\"}\n{\"event\":\"model_lo\n{\"event\":\"model_loaded\""));
}

/* The file may not grow: events wait, are all there once it may again, and those for which there was no room are counted, and told in the trail itself. */
static void a_full_disk(void **state)
{
	(void)state;
	signal(SIGXFSZ, SIG_IGN);
	open_trail(path);
	struct rlimit was, small = { .rlim_cur = 1000 };
	getrlimit(RLIMIT_FSIZE, &was);
	small.rlim_max = was.rlim_max;
	setrlimit(RLIMIT_FSIZE, &small);
	uint64_t faults = tg_audit_faults(), lost = tg_audit_lost();
	for (uint64_t i = 0; i < 20; i++)
		tg_audit_event(TG_AUDIT_prediction_made, NULL, "u:i", i, NULL);
	uint64_t until = tg_mono_us() + 3000000;
	while (tg_audit_faults() == faults && tg_mono_us() < until)
		usleep(1000);
	assert_true(tg_audit_faults() > faults);
	assert_int_equal(tg_audit_lost(), lost);
	assert_true(tg_audit_waiting() > 0);
	json_t *all = lines_of(path); /* whole lines only */
	assert_true(json_array_size(all) > 3 && json_array_size(all) < 20);
	json_decref(all);
	/* Until the queue is full: a loop does not wait, and is told. */
	uint64_t handed = 20;
	char filler[3000];
	memset(filler, ' ', sizeof filler);
	filler[sizeof filler - 1] = 0;
	while (tg_audit_offer(TG_AUDIT_prediction_made, NULL, "u:i", handed, "t:filler", filler, NULL)) {
		handed++;
		assert_true(handed < 10000);
	}
	assert_int_equal(tg_audit_lost(), lost + 1);
	assert_true(tg_audit_waiting() <= TG_AUDIT_QUEUE);
	/* Who asks that all be written is told at once that it is not: a request must not pay for the disk. */
	until = tg_mono_us();
	for (unsigned i = 0; i < 10; i++)
		assert_false(tg_audit_flush());
	assert_true(tg_mono_us() - until < TG_AUDIT_WAIT_MS * 1000);
	setrlimit(RLIMIT_FSIZE, &was);
	until = tg_mono_us() + 5000000;
	while (!tg_audit_flush() && tg_mono_us() < until)
		usleep(1000);
	assert_true(tg_audit_flush());
	tg_audit_close();
	all = lines_of(path);
	json_t *last = json_array_get(all, json_array_size(all) - 1);
	assert_string_equal(text_of(last, "event"), "audit_lost");
	assert_int_equal(json_integer_value(json_object_get(last, "lost")), 1);
	assert_int_equal(json_array_size(all), handed + 1);
	for (size_t i = 0; i + 1 < json_array_size(all); i++)
		assert_int_equal(json_integer_value(json_object_get(json_array_get(all, i), "i")), i);
	json_decref(all);
}

static void another_path_takes_over(void **state)
{
	(void)state;
	char other[128];
	struct tg_err err;
	snprintf(other, sizeof other, "%s/other.jsonl", dir);
	open_trail(path);
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "a", NULL);
	assert_false(tg_audit_open("/proc/none/audit.jsonl", &err));
	assert_non_null(strstr(err.text, "audit.path"));
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "b", NULL);
	open_trail(other);
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "c", NULL);
	assert_true(tg_audit_flush());
	open_trail("");
	assert_false(tg_audit_on());
	tg_audit_event(TG_AUDIT_model_loaded, NULL, "t:model_id", "d", NULL);
	assert_true(tg_audit_flush());
	tg_audit_close();
	json_t *first = lines_of(path), *second = lines_of(other);
	assert_int_equal(json_array_size(first), 2); /* what was handed over before, and no more */
	assert_int_equal(json_array_size(second), 1);
	assert_string_equal(text_of(json_array_get(first, 1), "model_id"), "b");
	assert_string_equal(text_of(json_array_get(second, 0), "model_id"), "c");
	json_decref(first);
	json_decref(second);
}

static void names(void **state)
{
	(void)state;
	static const char *const eight[] = { "auth_success", "auth_failure", "training_started", "training_completed", "training_failed", "prediction_made", "model_persisted", "model_loaded" };
	assert_int_equal(TG_AUDIT_EVENT_COUNT, 8);
	for (unsigned i = 0; i < 8; i++)
		assert_string_equal(tg_audit_event_names[i], eight[i]);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(a_line_has_its_members), T(json_of_callers_is_no_way_around), T(a_line_has_a_bound), T(no_line_is_lost_at_a_reopen), T(a_torn_tail_is_ended), T(a_full_disk), T(another_path_takes_over), cmocka_unit_test(names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
