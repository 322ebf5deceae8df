/* Replacing a file (see replace.h): a temporary one beside it, fsync, rename, fsync of the folder. */
#include "base/replace.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static bool write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t k = write(fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0)
			return false;
		p += k;
		n -= (size_t)k;
	}
	return true;
}

/* rename(2) is only durable once the directory is. */
static bool sync_dir(const char *file)
{
	const char *slash = strrchr(file, '/');
	char *dir = slash ? strndup(file, slash == file ? 1 : (size_t)(slash - file)) : strdup(".");
	int fd = dir ? open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	free(dir);
	/* Some file systems cannot sync a directory (EINVAL) and are durable without. */
	bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
	if (fd >= 0)
		close(fd);
	return ok;
}

/* Whoever owned the file (the service's user, where root edits it) must be able to read the new one. */
static bool keep_owner(int fd, const char *target)
{
	struct stat was, is;
	if (stat(target, &was) != 0)
		return errno == ENOENT;
	if (fstat(fd, &is) != 0)
		return false;
	return (was.st_uid == is.st_uid && was.st_gid == is.st_gid) || fchown(fd, was.st_uid, was.st_gid) == 0;
}

bool tg_replace_file(const char *path, struct tg_slice text)
{
	char *temp;
	if (asprintf(&temp, "%s.XXXXXX", path) < 0) {
		errno = ENOMEM;
		return false;
	}
	int fd = mkostemp(temp, O_CLOEXEC); /* O_EXCL, 0600 */
	bool ok = fd >= 0 && fchmod(fd, 0600) == 0 && keep_owner(fd, path) && write_all(fd, text.p, text.n) && fsync(fd) == 0;
	int e = errno;
	if (fd >= 0 && close(fd) != 0 && ok) {
		e = errno;
		ok = false;
	}
	if (ok && rename(temp, path) != 0) {
		e = errno;
		ok = false;
	}
	if (fd >= 0 && !ok)
		unlink(temp);
	free(temp);
	errno = e;
	return ok && sync_dir(path);
}
