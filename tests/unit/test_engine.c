/*
 * The engine's worker as the gate sees it (pool/engine.c), under a real supervisor on a thread of its own. The engine is this very program, run again as `engine tabular`, and so is its keeper: it answers
 * /health and nothing else, or does not start where FAKE_ENGINE says so.
 */
#include "base/clock.h"
#include "pool/engine.h"
#include "pool/keeper.h"
#include "pool/supervise.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>

/* ---- the program as an engine ---- */

static int fake_engine(int argc, char **argv)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	const char *how = getenv("FAKE_ENGINE");
	if (how && strcmp(how, "fails") == 0) {
		fputs("no room\n", stderr);
		return 3;
	}
	for (int i = 1; i + 1 < argc; i++)
		if (strcmp(argv[i], "--socket") == 0)
			snprintf(un.sun_path, sizeof un.sun_path, "%s", argv[i + 1]);
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (bind(fd, (struct sockaddr *)&un, sizeof un) != 0 || listen(fd, 16) != 0)
		return 1;
	for (;;) {
		static const char answer[] = "HTTP/1.1 200 OK\r\nContent-Length: 0\r\nConnection: close\r\n\r\n";
		char in[4096];
		int c = accept(fd, NULL, NULL);
		if (c >= 0 && recv(c, in, sizeof in, 0) > 0)
			(void)!send(c, answer, sizeof answer - 1, MSG_NOSIGNAL);
		close(c);
	}
}

/* ---- the control thread ---- */

struct control {
	uv_thread_t thread;
	uv_loop_t loop;
	uv_async_t wake;
	uv_timer_t look;
	uv_sem_t begun;
	struct tg_supervisor *supervisor;
	struct tg_quarantine *quarantine;
	struct tg_engine *engine;
	struct tg_models none;
	_Atomic bool end, update;
	_Atomic unsigned counted, starts;
};

static void say(void *ctx, const char *text)
{
	(void)ctx;
	(void)text;
}

static void changed(void *ctx, const struct tg_worker *w, const struct tg_child_end *end)
{
	struct control *c = ctx;
	(void)w;
	atomic_fetch_add(&c->starts, end == NULL);
	tg_engine_changed(c->engine);
}

static void ended(void *ctx)
{
	struct control *c = ctx;
	uv_close((uv_handle_t *)&c->wake, NULL);
	uv_close((uv_handle_t *)&c->look, NULL);
}

static void on_look(uv_timer_t *t)
{
	struct control *c = t->data;
	tg_supervisor_look(c->supervisor, tg_mono_us() / 1000);
}

static void on_wake(uv_async_t *a)
{
	struct control *c = a->data;
	struct tg_err err;
	bool retry;
	if (atomic_exchange(&c->end, false)) {
		tg_engine_close(c->engine);
		uv_timer_stop(&c->look);
		tg_supervisor_stop(c->supervisor, ended, c);
		return;
	}
	if (atomic_exchange(&c->update, false)) {
		tg_supervisor_update(c->supervisor, &c->none, 0);
		atomic_store(&c->counted, tg_supervisor_count(c->supervisor).all + 1);
	}
	const struct tg_models *m = tg_engine_turn(c->engine, &retry, &err);
	if (m && retry)
		tg_supervisor_retry(c->supervisor, &m->v[0]);
	else if (m)
		tg_supervisor_add(c->supervisor, m);
	tg_supervisor_look(c->supervisor, tg_mono_us() / 1000);
}

static void wake(void *ctx)
{
	struct control *c = ctx;
	uv_async_send(&c->wake);
}

static void run(void *arg)
{
	struct control *c = arg;
	uv_sem_post(&c->begun);
	uv_run(&c->loop, UV_RUN_DEFAULT);
}

static int setup(void **state)
{
	struct control *c = calloc(1, sizeof *c);
	struct tg_config *conf = tg_config_defaults();
	assert_non_null(c);
	assert_non_null(conf);
	assert_int_equal(uv_loop_init(&c->loop), 0);
	uv_async_init(&c->loop, &c->wake, on_wake);
	uv_timer_init(&c->loop, &c->look);
	uv_sem_init(&c->begun, 0);
	c->wake.data = c->look.data = c;
	c->quarantine = tg_quarantine_new();
	c->engine = tg_engine_new(conf, 1, wake, c);
	tg_config_free(conf);
	struct tg_supervisor_conf sc = { .loop = &c->loop, .quarantine = c->quarantine, .say = say, .changed = changed, .ctx = c };
	c->supervisor = tg_supervisor_new(&sc);
	assert_non_null(c->engine);
	assert_non_null(c->supervisor);
	uv_timer_start(&c->look, on_look, 50, 50);
	assert_int_equal(uv_thread_create(&c->thread, run, c), 0);
	uv_sem_wait(&c->begun);
	*state = c;
	return 0;
}

static int teardown(void **state)
{
	struct control *c = *state;
	atomic_store(&c->end, true);
	wake(c);
	uv_thread_join(&c->thread);
	tg_supervisor_free(c->supervisor);
	tg_engine_free(c->engine);
	tg_quarantine_free(c->quarantine);
	uv_sem_destroy(&c->begun);
	assert_int_equal(uv_loop_close(&c->loop), 0);
	free(c);
	unsetenv("FAKE_ENGINE");
	return 0;
}

/* ---- the tests ---- */

static void assert_answers(int fd)
{
	char in[64] = "";
	assert_true(send(fd, "GET /health HTTP/1.1\r\n\r\n", 24, MSG_NOSIGNAL) == 24);
	assert_true(recv(fd, in, sizeof in - 1, 0) > 0);
	assert_memory_equal(in, "HTTP/1.1 200", 12);
	close(fd);
}

static void connected(struct control *c)
{
	struct tg_err err = { "" };
	int fd = -1;
	if (!tg_engine_connect(c->engine, &fd, 20000, &err))
		fail_msg("%s", err.text);
	assert_answers(fd);
}

static void test_none(void **state)
{
	struct tg_err err = { "" };
	int fd;
	(void)state;
	tg_engine_want(NULL);
	assert_null(tg_engine_worker(NULL));
	assert_null(tg_engine_models(NULL));
	assert_int_equal(tg_engine_state(NULL, &err), TG_ENGINE_NONE);
	assert_non_null(strstr(err.text, "switched off"));
	assert_false(tg_engine_connect(NULL, &fd, 1000, &err));
}

static void test_idle_until_wanted(void **state)
{
	struct control *c = *state;
	wake(c); /* for something else */
	nanosleep(&(struct timespec){ .tv_nsec = 100000000 }, NULL);
	assert_int_equal(tg_engine_state(c->engine, NULL), TG_ENGINE_IDLE);
	assert_null(tg_engine_models(c->engine));
	assert_int_equal(atomic_load(&c->starts), 0);
}

static void test_wanted_is_started_once(void **state)
{
	struct control *c = *state;
	struct tg_err err;
	for (int i = 0; i < 100; i++)
		tg_engine_want(c->engine);
	assert_int_not_equal(tg_engine_state(c->engine, &err), TG_ENGINE_IDLE);
	connected(c);
	connected(c);
	assert_int_equal(tg_engine_state(c->engine, &err), TG_ENGINE_READY);
	assert_string_equal(err.text, "");
	struct tg_worker *w = tg_engine_worker(c->engine);
	assert_non_null(w);
	assert_int_equal(atomic_load(&c->starts), 1);
	/* A reload does not know it, does not count it and leaves it alone. */
	atomic_store(&c->update, true);
	wake(c);
	while (!atomic_load(&c->counted))
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	assert_int_equal(atomic_load(&c->counted), 1);
	connected(c);
	assert_ptr_equal(tg_engine_worker(c->engine), w);
	assert_int_equal(atomic_load(&c->starts), 1);
}

static void test_killed_comes_back(void **state)
{
	struct control *c = *state;
	connected(c);
	struct tg_worker *w = tg_engine_worker(c->engine);
	assert_non_null(w);
	int pid = atomic_load(&w->started->pid);
	assert_int_equal(kill(pid, SIGKILL), 0);
	/* At once: whoever meets the gap waits it out. */
	while (kill(pid, 0) == 0)
		nanosleep(&(struct timespec){ .tv_nsec = 1000000 }, NULL);
	connected(c);
	assert_int_not_equal(atomic_load(&w->started->pid), pid);
	assert_int_equal(atomic_load(&w->started->restarts), 1);
}

static void test_one_that_does_not_start(void **state)
{
	struct control *c = *state;
	struct tg_err err = { "" };
	int fd = -1;
	setenv("FAKE_ENGINE", "fails", 1); /* nothing runs yet that reads the environment */
	assert_false(tg_engine_connect(c->engine, &fd, 20000, &err));
	assert_int_equal(tg_engine_state(c->engine, &err), TG_ENGINE_FAILED);
	assert_string_equal(err.text, "the tabular engine exited with status 3");
	assert_null(tg_engine_worker(c->engine));
}

static void wait_in_vain(void *arg)
{
	struct control *c = arg;
	struct tg_err err = { "" };
	int fd = -1;
	uint64_t begun = tg_mono_us();
	assert_false(tg_engine_connect(c->engine, &fd, 60000, &err));
	assert_string_equal(err.text, "the gate ends");
	assert_true(tg_mono_us() - begun < 30000000);
}

static void test_nobody_waits_for_a_gate_that_ends(void **state)
{
	struct control *c = *state;
	uv_thread_t t;
	struct tg_err err;
	int fd;
	setenv("FAKE_ENGINE", "fails", 1);
	assert_int_equal(uv_thread_create(&t, wait_in_vain, c), 0);
	nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	tg_engine_close(c->engine);
	uv_thread_join(&t);
	assert_false(tg_engine_connect(c->engine, &fd, 0, &err));
	tg_engine_want(c->engine);
}

static void test_a_wait_has_an_end(void **state)
{
	struct control *c = *state;
	struct tg_err err = { "" };
	int fd;
	assert_false(tg_engine_connect(c->engine, &fd, 0, &err));
	assert_string_equal(err.text, "the tabular engine is being started");
	connected(c);
}

int main(int argc, char **argv)
{
	if (argc > 1 && strcmp(argv[1], "keep") == 0)
		return tg_keeper_main(argc - 1, argv + 1);
	if (argc > 1 && strcmp(argv[1], "engine") == 0)
		return fake_engine(argc, argv);
	char folder[] = "/tmp/tollgate-test-XXXXXX", command[64];
	if (!mkdtemp(folder) || chdir(folder) != 0)
		return 1;
	prctl(PR_SET_CHILD_SUBREAPER, 1);
	signal(SIGPIPE, SIG_IGN); /* as the gate does: a keeper can be gone when it is told to stop */
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_none),
		cmocka_unit_test_setup_teardown(test_idle_until_wanted, setup, teardown),
		cmocka_unit_test_setup_teardown(test_wanted_is_started_once, setup, teardown),
		cmocka_unit_test_setup_teardown(test_killed_comes_back, setup, teardown),
		cmocka_unit_test_setup_teardown(test_a_wait_has_an_end, setup, teardown),
		cmocka_unit_test_setup_teardown(test_nobody_waits_for_a_gate_that_ends, setup, teardown),
		cmocka_unit_test_setup_teardown(test_one_that_does_not_start, setup, teardown),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);
	for (unsigned i = 0; i < 3; i++) {
		static const char *const made[] = { "data/run", "data", "." };
		snprintf(command, sizeof command, "%s/%s", folder, made[i]);
		rmdir(command);
	}
	return r;
}
