/* Making a file once (see newfile.h). The name is given last and refuses to replace, so nobody ever reads half of it and a race has one winner. */
#include "base/newfile.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

/* rename(2) that fails with EEXIST instead of replacing; by link(2) where the file system lacks it. */
static int rename_new(const char *from, const char *to)
{
	if (renameat2(AT_FDCWD, from, AT_FDCWD, to, RENAME_NOREPLACE) == 0)
		return 0;
	if (errno != EINVAL && errno != ENOSYS)
		return -1;
	if (link(from, to) != 0)
		return -1;
	unlink(from);
	return 0;
}

static void sync_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	free(folder);
	if (fd >= 0) {
		fsync(fd);
		close(fd);
	}
}

static bool write_all(int fd, struct tg_slice text)
{
	while (text.n) {
		ssize_t w = write(fd, text.p, text.n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		text = (struct tg_slice){ text.p + w, text.n - (size_t)w };
	}
	return true;
}

enum tg_made tg_newfile(const char *path, mode_t mode, struct tg_slice text)
{
	char temp[PATH_MAX];
	int n = snprintf(temp, sizeof temp, "%s.XXXXXX", path);
	if (n <= 0 || (size_t)n >= sizeof temp) {
		errno = ENAMETOOLONG;
		return TG_NOT_MADE;
	}
	int fd = mkostemp(temp, O_CLOEXEC);
	if (fd < 0)
		return TG_NOT_MADE;
	bool ok = write_all(fd, text) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
	int e = errno;
	close(fd);
	errno = e;
	if (ok && rename_new(temp, path) == 0) {
		sync_folder_of(path);
		return TG_MADE;
	}
	e = errno;
	unlink(temp);
	errno = e;
	return ok && e == EEXIST ? TG_THERE : TG_NOT_MADE;
}
