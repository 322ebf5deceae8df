/*
 * What processes use, by the kernel's own word (proc(5)): the figures of a root are those of all that descends from it, children that have ended included, and not its own;
 * of nobody they are zero. Each test's root is a child of ours, so that nothing else on this machine is in its figures.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "pool/procfs.h"
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#define MIB (1u << 20)

/* Pipes by which the processes of a test say what they have used so far, and are told to go on. */
static int said[2], told[2];

static int setup(void **state)
{
	(void)state;
	return pipe(said) | pipe(told);
}

static int teardown(void **state)
{
	(void)state;
	close(said[0]);
	close(told[0]);
	if (said[1] >= 0)
		close(said[1]);
	if (told[1] >= 0)
		close(told[1]);
	return 0;
}

static uint64_t used_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static void burn(unsigned ms)
{
	while (used_us() < ms * 1000ull)
		continue;
}

static void hold(size_t bytes)
{
	char *p = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	if (p == MAP_FAILED)
		_exit(9);
	for (size_t i = 0; i < bytes; i += 4096)
		p[i] = 1;
}

static void say(uint64_t us)
{
	if (write(said[1], &us, sizeof us) != sizeof us)
		_exit(9);
}

/* And waits until the test closes its end (or has died). */
static void say_and_wait(uint64_t us)
{
	char c;
	close(told[1]);
	say(us);
	(void)!read(told[0], &c, 1);
}

/* Until so many have said it: what they have used together. */
static uint64_t wait_for(unsigned n)
{
	uint64_t us, sum = 0;
	for (unsigned i = 0; i < n; i++) {
		assert_int_equal(read(said[0], &us, sizeof us), sizeof us);
		sum += us;
	}
	return sum;
}

/* All go. */
static void release(void)
{
	close(told[1]);
	told[1] = -1;
}

static void expect_end(pid_t pid)
{
	int status;
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
}

static struct tg_procfs_use look(pid_t root)
{
	struct tg_procfs_use u = { .root = root, .cpu_us = 1, .rss_bytes = 1 };
	tg_procfs_look(&u, 1);
	assert_int_equal(u.root, root);
	return u;
}

/* A root (what the keeper is) with a child, which has a grandchild, and had another. */
static void test_descendants(void **state)
{
	(void)state;
	pid_t root = fork();
	if (root == 0) {
		/* It uses more of everything than its descendants do, and says nothing of it. */
		burn(180);
		pid_t child = fork();
		if (child == 0) {
			pid_t ended = fork();
			if (ended == 0) {
				burn(100);
				say(used_us());
				_exit(0);
			}
			waitpid(ended, NULL, 0);
			pid_t grandchild = fork();
			if (grandchild == 0) {
				burn(60);
				hold(48 * MIB);
				say_and_wait(used_us());
				_exit(0);
			}
			burn(60);
			hold(32 * MIB);
			say_and_wait(used_us());
			waitpid(grandchild, NULL, 0);
			_exit(0);
		}
		hold(160 * MIB);
		say_and_wait(0);
		waitpid(child, NULL, 0);
		_exit(0);
	}
	uint64_t used = wait_for(4);
	struct tg_procfs_use u = look(root);
	/* The kernel tells hundredths of a second, cut off, in six figures; and ending costs a little, too. */
	assert_in_range(u.cpu_us, used - 65000, used + 100000);
	assert_in_range(u.rss_bytes, 80 * MIB, 158 * MIB);
	struct tg_procfs_use all[4] = { { .root = root }, { .root = 0 }, { .root = getpid() }, { .root = root } };
	tg_procfs_look(all, 4);
	assert_in_range(all[0].cpu_us, u.cpu_us, used + 100000);
	assert_in_range(all[0].rss_bytes, 80 * MIB, 158 * MIB);
	assert_int_equal(all[1].cpu_us | all[1].rss_bytes, 0); /* nothing is looked for */
	/* Each process is counted for the nearest of the roots: what is left for us is the root itself. */
	assert_true(all[2].rss_bytes >= 160 * MIB);
	assert_in_range(all[2].cpu_us, 150 * 1000, 10 * 1000 * 1000);
	assert_int_equal(all[3].cpu_us | all[3].rss_bytes, 0); /* asked for twice, told once */
	release();
	expect_end(root);
	struct tg_procfs_use gone = look(root);
	assert_int_equal(gone.cpu_us | gone.rss_bytes, 0);
}

static void test_nobody(void **state)
{
	(void)state;
	pid_t gone = fork();
	if (gone == 0)
		_exit(0);
	assert_int_equal(waitpid(gone, NULL, 0), gone);
	pid_t alone = fork();
	if (alone == 0) { /* it is there, and has no children */
		hold(8 * MIB);
		say_and_wait(used_us());
		_exit(0);
	}
	wait_for(1);
	const pid_t roots[] = { gone, 0, -1, INT32_MAX, alone };
	for (unsigned i = 0; i < sizeof roots / sizeof roots[0]; i++) {
		struct tg_procfs_use u = look(roots[i]);
		assert_int_equal(u.cpu_us, 0);
		assert_int_equal(u.rss_bytes, 0);
	}
	tg_procfs_look(NULL, 0);
	release();
	expect_end(alone);
}

/* The name stands in the midst of the figures, as it is. */
static void test_names(void **state)
{
	(void)state;
	static const char *const names[] = { "a b c", "x) S 1 2 3", ") R 1 1 1 1", "((((", "))))", ") ", "", "line\nbreak", "caf\xc3\xa9 \xff", "99999 (evil) Z" };
	enum { N = sizeof names / sizeof names[0] };
	pid_t roots[N];
	for (unsigned i = 0; i < N; i++) {
		roots[i] = fork();
		if (roots[i] == 0) {
			pid_t child = fork();
			prctl(PR_SET_NAME, names[i]);
			if (child == 0) {
				burn(40);
				hold(16 * MIB);
				say_and_wait(used_us());
				_exit(0);
			}
			close(told[1]);
			waitpid(child, NULL, 0);
			_exit(0);
		}
	}
	wait_for(N);
	struct tg_procfs_use all[N];
	for (unsigned i = 0; i < N; i++)
		all[i] = (struct tg_procfs_use){ .root = roots[i] };
	tg_procfs_look(all, N);
	for (unsigned i = 0; i < N; i++)
		if (all[i].cpu_us < 20 * 1000 || all[i].cpu_us > 2000 * 1000 || all[i].rss_bytes < 16 * MIB || all[i].rss_bytes > 200 * MIB)
			fail_msg("\"%s\": %llu us, %llu bytes", names[i], (unsigned long long)all[i].cpu_us, (unsigned long long)all[i].rss_bytes);
	release();
	for (unsigned i = 0; i < N; i++)
		expect_end(roots[i]);
}

/* A deep family: a script that starts a script that starts ... */
static void test_deep(void **state)
{
	(void)state;
	enum { DEPTH = 12 };
	pid_t root = fork();
	if (root == 0) {
		for (int depth = 0; depth < DEPTH; depth++) {
			pid_t next = fork();
			if (next != 0) {
				close(told[1]);
				waitpid(next, NULL, 0);
				_exit(0);
			}
		}
		hold(64 * MIB);
		say_and_wait(used_us());
		_exit(0);
	}
	wait_for(1);
	assert_true(look(root).rss_bytes >= 64 * MIB);
	release();
	expect_end(root);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = { T(test_descendants), T(test_nobody), T(test_names), T(test_deep) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
