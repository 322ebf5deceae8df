/* Room in the spool: what is there, what is under way, what was removed behind its back. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/room.h"
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static char dir[64];
static int folder;
static struct tg_room room;

static int make_dir(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tg-room-XXXXXX");
	folder = mkdtemp(dir) ? open(dir, O_RDONLY | O_DIRECTORY) : -1;
	return folder < 0;
}

static int remove_dir(void **state)
{
	(void)state;
	char command[96];
	close(folder);
	for (int i = 0; i < 100; i++) {
		snprintf(command, sizeof command, "%s/f%d", dir, i);
		unlink(command);
	}
	snprintf(command, sizeof command, "%s/folder", dir);
	rmdir(command);
	return rmdir(dir);
}

static void put(int n, long bytes)
{
	char path[96];
	snprintf(path, sizeof path, "%s/f%d", dir, n);
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0 && ftruncate(fd, bytes) == 0);
	close(fd);
}

static void drop(int n)
{
	char path[96];
	snprintf(path, sizeof path, "%s/f%d", dir, n);
	assert_int_equal(unlink(path), 0);
}

static bool write_one(int n, long bytes)
{
	if (tg_room_take(&room, (uint64_t)bytes))
		return false;
	put(n, bytes);
	tg_room_done(&room, (uint64_t)bytes, true);
	return true;
}

/* Until a look is as old; on a machine that is loaded one may have taken long, and would be good for longer. */
static void wait_ms(long ms)
{
	room.took_ms = 0;
	nanosleep(&(struct timespec){ .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 }, NULL);
}

static void test_what_was_there_counts(void **state)
{
	(void)state;
	char path[96];
	put(0, 600);
	snprintf(path, sizeof path, "%s/folder", dir);
	assert_int_equal(mkdir(path, 0700), 0); /* has a size, which is nobody's */
	tg_room_init(&room, folder, 1000);
	assert_false(write_one(1, 401));
	assert_true(write_one(1, 400));
	assert_non_null(tg_room_take(&room, 1));
	assert_null(tg_room_take(&room, 0));
}

static void test_what_is_removed_is_seen(void **state)
{
	(void)state;
	tg_room_init(&room, folder, 1000);
	assert_true(write_one(0, 1000));
	drop(0);
	wait_ms(150); /* who is refused is refused for what was seen a moment ago at the latest */
	assert_true(write_one(1, 1000));
	drop(1);
	put(2, 900); /* somebody else's */
	wait_ms(1100);
	assert_false(write_one(3, 101));
	assert_true(write_one(3, 100));
}

static void test_what_is_under_way_counts(void **state)
{
	(void)state;
	tg_room_init(&room, folder, 1000);
	assert_null(tg_room_take(&room, 700));
	assert_non_null(tg_room_take(&room, 301));
	wait_ms(150);
	assert_non_null(tg_room_take(&room, 301)); /* a look does not forget it */
	tg_room_done(&room, 700, false);
	assert_null(tg_room_take(&room, 1000));
	tg_room_done(&room, 1000, false);
	assert_non_null(tg_room_take(&room, UINT64_MAX));
}

static void test_no_bound(void **state)
{
	(void)state;
	tg_room_init(&room, folder, 0);
	put(0, 1 << 30);
	assert_null(tg_room_take(&room, 1 << 20));
	tg_room_done(&room, 1 << 20, true);
	assert_null(tg_room_take(&room, 1 << 20));
}

static void test_the_disk_has_a_margin(void **state)
{
	(void)state;
	assert_int_equal(tg_room_margin(4 << 20), 0);
	assert_int_equal(tg_room_margin(1ull << 40), 64 << 20);
	tg_room_init(&room, folder, 0);
	assert_non_null(tg_room_take(&room, 1ull << 62)); /* no disk has that, unless it is a small one that is not asked */
}

static atomic_int next, taken;

static void *many(void *arg)
{
	(void)arg;
	for (int n; (n = atomic_fetch_add(&next, 1)) < 90;)
		if (write_one(n, 100))
			atomic_fetch_add(&taken, 1);
	return NULL;
}

static void test_several_at_once(void **state)
{
	(void)state;
	pthread_t t[8];
	tg_room_init(&room, folder, 5050);
	atomic_store(&next, 0);
	atomic_store(&taken, 0);
	for (int i = 0; i < 8; i++)
		assert_int_equal(pthread_create(&t[i], NULL, many, NULL), 0);
	for (int i = 0; i < 8; i++)
		pthread_join(t[i], NULL);
	assert_in_range(atomic_load(&taken), 40, 50); /* fewer where a look came in the middle of writes, never more */
}

int main(void)
{
#define D(f) cmocka_unit_test_setup_teardown(f, make_dir, remove_dir)
	const struct CMUnitTest tests[] = {
		D(test_what_was_there_counts), D(test_what_is_removed_is_seen), D(test_what_is_under_way_counts), D(test_no_bound), D(test_the_disk_has_a_margin), D(test_several_at_once),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
