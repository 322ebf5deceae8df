/* How much memory the engine takes for its own (engine/memory.h): the machine's, or its control groups'. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/memory.h"
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define GB (1ull << 30)
static char root[64];

static int make_root(void **state)
{
	(void)state;
	snprintf(root, sizeof root, "/tmp/tollgate-unit-XXXXXX");
	return mkdtemp(root) ? 0 : -1;
}

static int take(const char *path, const struct stat *st, int what, struct FTW *at)
{
	(void)st, (void)what, (void)at;
	return remove(path);
}

static int drop_root(void **state)
{
	(void)state;
	return nftw(root, take, 8, FTW_DEPTH | FTW_PHYS);
}

/* A file below root, with its folders. */
static void file(const char *name, const char *text)
{
	char path[256];
	snprintf(path, sizeof path, "%s%s", root, name);
	for (char *p = path + strlen(root) + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(path, 0700);
			*p = '/';
		}
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	fputs(text, f);
	fclose(f);
}

static uint64_t machine(void)
{
	return (uint64_t)sysconf(_SC_PHYS_PAGES) * (uint64_t)sysconf(_SC_PAGESIZE);
}

static void test_the_machine(void **state)
{
	(void)state;
	assert_int_equal(tg_memory_there(root), machine()); /* no /proc at all */
	file("/proc/self/cgroup", "0::/a/b\n");
	assert_int_equal(tg_memory_there(root), machine());
	file("/sys/fs/cgroup/a/b/memory.max", "max\n");
	file("/sys/fs/cgroup/a/memory.max", "9223372036854771712\n");
	assert_int_equal(tg_memory_there(root), machine());
}

static void test_version_2(void **state)
{
	(void)state;
	file("/proc/self/cgroup", "0::/system.slice/tollgate.service\n");
	file("/sys/fs/cgroup/system.slice/tollgate.service/memory.max", "max\n");
	file("/sys/fs/cgroup/system.slice/tollgate.service/memory.high", "max\n");
	file("/sys/fs/cgroup/system.slice/memory.max", "805306368\n");
	assert_int_equal(tg_memory_there(root), 805306368); /* of a group above */
	file("/sys/fs/cgroup/system.slice/tollgate.service/memory.max", "536870912\n");
	assert_int_equal(tg_memory_there(root), 536870912);
	file("/sys/fs/cgroup/system.slice/tollgate.service/memory.high", "402653184\n");
	assert_int_equal(tg_memory_there(root), 402653184);
}

static void test_a_container(void **state)
{
	(void)state;
	file("/proc/self/cgroup", "0::/\n");
	file("/sys/fs/cgroup/memory.max", "268435456\n");
	assert_int_equal(tg_memory_there(root), 268435456);
	file("/proc/self/cgroup", "0::/../../not/in/this/tree\n");
	assert_int_equal(tg_memory_there(root), 268435456);
}

static void test_version_1(void **state)
{
	(void)state;
	file("/proc/self/cgroup", "5:cpuacct,cpu:/x\n4:memory:/docker/0123\n0::/\n");
	file("/sys/fs/cgroup/memory/memory.limit_in_bytes", "9223372036854771712\n");
	assert_int_equal(tg_memory_there(root), machine());
	file("/sys/fs/cgroup/memory/docker/0123/memory.limit_in_bytes", "134217728\n");
	assert_int_equal(tg_memory_there(root), 134217728);
	/* Both at once: the lesser. */
	file("/sys/fs/cgroup/unified/memory.max", "67108864\n");
	assert_int_equal(tg_memory_there(root), 67108864);
	file("/proc/self/cgroup", "4:hugetlb,memory:/docker/0123\n");
	assert_int_equal(tg_memory_there(root), 134217728);
	file("/proc/self/cgroup", "4:memorylike:/docker/0123\n");
	assert_int_equal(tg_memory_there(root), machine());
}

static void test_what_is_no_figure(void **state)
{
	(void)state;
	file("/proc/self/cgroup", "0::/a\nrubbish\n:\n::\n0:\n\n0::relative\n");
	file("/sys/fs/cgroup/a/memory.max", "");
	file("/sys/fs/cgroup/memory.max", "much\n");
	assert_int_equal(tg_memory_there(root), machine());
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, make_root, drop_root)
	const struct CMUnitTest tests[] = { T(test_the_machine), T(test_version_2), T(test_a_container), T(test_version_1), T(test_what_is_no_figure) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
