/* Modes of secret files: which modes others can use, for a file of ours and of somebody else's, and where nobody asks. */
#include "base/secret_mode.h"
#include <fcntl.h>
#include <sys/stat.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdlib.h>
#include <unistd.h>
#include <cmocka.h>

static void test_modes(void **state)
{
	(void)state;
	static const struct {
		mode_t mode;
		bool ours, foreign; /* open to others */
	} rows[] = {
		{ 0400, false, false }, { 0600, false, false }, { 0640, true, false }, { 0440, true, false }, { 0620, true, true }, { 0660, true, true }, { 0604, true, true },
		{ 0644, true, true }, { 0602, true, true }, { 0601, false, false }, { 0777, true, true },
	};
	char dir[] = "/tmp/tg-secret-XXXXXX";
	assert_non_null(mkdtemp(dir));
	assert_int_equal(chdir(dir), 0);
	int fd = open("key", O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
	assert_true(fd >= 0);
	close(fd);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(chmod("key", rows[i].mode), 0);
		if (tg_secret_file_exposed("key") != (rows[i].ours ? rows[i].mode : 0))
			fail_msg("%04o of ours", (unsigned)rows[i].mode);
		if (geteuid() != 0 || chown("key", 12345, (gid_t)-1) != 0)
			continue; /* only root can make it somebody else's */
		if (tg_secret_file_exposed("key") != (rows[i].foreign ? rows[i].mode : 0))
			fail_msg("%04o of another", (unsigned)rows[i].mode);
		assert_int_equal(chown("key", 0, (gid_t)-1), 0);
	}
	/* A link's own mode says nothing. */
	assert_int_equal(chmod("key", 0600), 0);
	assert_int_equal(symlink("key", "link"), 0);
	assert_int_equal(tg_secret_file_exposed("link"), 0);
	assert_int_equal(tg_secret_file_exposed("absent"), 0);
	unlink("link");
	unlink("key");
	assert_int_equal(chdir("/"), 0);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_modes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
