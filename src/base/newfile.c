/* Files written whole (see newfile.h). The name is given last, so nobody ever reads half of one; making one refuses to replace, so a race has one winner. */
#include "base/newfile.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ASIDE_MAX = 99 };

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

static int open_folder_of(const char *path)
{
	const char *slash = strrchr(path, '/');
	char *folder = slash ? strndup(path, slash == path ? 1 : (size_t)(slash - path)) : strdup(".");
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	free(folder);
	return fd;
}

/* Only for what was made a moment ago, with O_EXCL: a link that he has put there must not get him what it leads to. errno stays. */
static void new_owner(int fd, const char *path)
{
	int e = errno, folder = geteuid() == 0 ? open_folder_of(path) : -1;
	struct stat of;
	if (folder >= 0 && fstat(folder, &of) == 0 && of.st_uid != 0)
		(void)!fchown(fd, of.st_uid, of.st_gid);
	if (folder >= 0)
		close(folder);
	errno = e;
}

int tg_open_made(const char *path, int flags, mode_t mode)
{
	int fd = open(path, flags | O_CREAT | O_EXCL, mode);
	if (fd >= 0)
		new_owner(fd, path);
	else if (errno == EEXIST) /* or a link to where there is none yet */
		fd = open(path, flags | O_CREAT, mode);
	return fd;
}

int tg_new_folder(const char *path, mode_t mode)
{
	if (mkdir(path, mode) != 0)
		return -1;
	int fd = open(path, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	if (fd >= 0) {
		new_owner(fd, path);
		close(fd);
	}
	return 0;
}

/* rename(2) is only durable once the folder is. Some file systems cannot sync one (EINVAL) and are durable without. */
static bool sync_folder_of(const char *path)
{
	int fd = open_folder_of(path);
	bool ok = fd >= 0 && (fsync(fd) == 0 || errno == EINVAL);
	if (fd >= 0)
		close(fd);
	return ok;
}

bool tg_write_all(int fd, struct tg_slice text)
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
	new_owner(fd, path);
	bool ok = tg_write_all(fd, text) && fchmod(fd, mode) == 0 && fsync(fd) == 0;
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

/* Whoever owned the file (the service's user, where root edits it) must be able to read the new one. */
static bool keep_owner(int fd, const char *target)
{
	struct stat was, is;
	if (stat(target, &was) != 0) {
		new_owner(fd, target);
		return errno == ENOENT;
	}
	if (fstat(fd, &is) != 0)
		return false;
	return (was.st_uid == is.st_uid && was.st_gid == is.st_gid) || fchown(fd, was.st_uid, was.st_gid) == 0;
}

int tg_replace_begin(const char *path, char **temp)
{
	if (asprintf(temp, "%s.XXXXXX", path) < 0) {
		*temp = NULL;
		errno = ENOMEM;
		return -1;
	}
	int fd = mkostemp(*temp, O_CLOEXEC); /* O_EXCL, 0600 */
	if (fd >= 0 && fchmod(fd, 0600) == 0 && keep_owner(fd, path))
		return fd;
	int e = errno;
	if (fd >= 0) {
		unlink(*temp);
		close(fd);
	}
	free(*temp);
	*temp = NULL;
	errno = e;
	return -1;
}

bool tg_replace_end(int fd, char *temp, const char *path, bool keep)
{
	int e = errno;
	bool ok = keep;
	if (close(fd) != 0 && ok) {
		e = errno;
		ok = false;
	}
	if (ok && rename(temp, path) != 0) {
		e = errno;
		ok = false;
	}
	if (!ok)
		unlink(temp);
	free(temp);
	errno = e;
	return ok && sync_folder_of(path);
}

bool tg_move_aside(const char *path, const char *tail, char out[PATH_MAX])
{
	struct stat st;
	if (lstat(path, &st) != 0 || (S_ISREG(st.st_mode) && chmod(path, 0600) != 0))
		return false;
	for (unsigned i = 1; i <= ASIDE_MAX; i++) {
		char number[16] = "";
		if (i > 1)
			snprintf(number, sizeof number, "-%u", i);
		int n = snprintf(out, PATH_MAX, "%s%s%s", path, tail, number);
		if (n <= 0 || n >= PATH_MAX) {
			errno = ENAMETOOLONG;
			return false;
		}
		if (rename_new(path, out) == 0)
			return sync_folder_of(path);
		if (errno != EEXIST)
			return false;
	}
	return false;
}

bool tg_replace_file(const char *path, struct tg_slice text)
{
	char *temp;
	int fd = tg_replace_begin(path, &temp);
	return fd >= 0 && tg_replace_end(fd, temp, path, tg_write_all(fd, text) && fsync(fd) == 0);
}
