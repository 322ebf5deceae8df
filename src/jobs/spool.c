/*
 * The spool (see spool.h). The lock is a file that is never removed: flock on it ends with the process, however that ends.
 */
#include "jobs/spool.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#define LOCK_NAME ".lock"
#define PLACE_NAME ".place"

bool tg_spool_init(struct tg_spool *s, const char *path)
{
	*s = (struct tg_spool){ .path = strdup(path), .folder = -1, .lock = -1 };
	return s->path != NULL;
}

void tg_spool_free(struct tg_spool *s)
{
	if (s->lock >= 0)
		close(s->lock);
	if (s->folder >= 0)
		close(s->folder);
	free(s->path);
	*s = (struct tg_spool){ .folder = -1, .lock = -1 };
}

/* With its parents. */
static bool make_folder(const char *path)
{
	char part[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof part)
		return false;
	memcpy(part, path, n + 1);
	for (char *p = part + 1; (p = strchr(p, '/')); p++) {
		*p = 0;
		(void)mkdir(part, 0750);
		*p = '/';
	}
	return mkdir(part, 0700) == 0 || errno == EEXIST;
}

/* "": none that can be read. */
static void read_place(int folder, char out[TG_SPOOL_PLACE])
{
	int fd = openat(folder, PLACE_NAME, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	ssize_t n = fd >= 0 ? read(fd, out, TG_SPOOL_PLACE - 1) : -1;
	if (fd >= 0)
		close(fd);
	out[n > 0 ? n : 0] = 0;
	for (const char *p = out; *p; p++)
		if (*p <= ' ' || *p > '~')
			out[0] = 0;
}

/* Whole or not there: who comes second finds the first one's. */
static void write_place(int folder, const char *place)
{
	char temp[40];
	snprintf(temp, sizeof temp, PLACE_NAME "-%08x%08x", randombytes_random(), randombytes_random());
	int fd = openat(folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	bool ok = fd >= 0 && write(fd, place, strlen(place)) == (ssize_t)strlen(place) && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	if (ok && linkat(folder, temp, folder, PLACE_NAME, 0) != 0 && errno != EEXIST) /* a file system without links: the later one wins */
		(void)renameat(folder, temp, folder, PLACE_NAME);
	if (fd >= 0)
		(void)unlinkat(folder, temp, 0);
}

bool tg_spool_place(const struct tg_spool *s, char out[TG_SPOOL_PLACE])
{
	char host[64] = "", real[PATH_MAX], hex[33], kept[TG_SPOOL_PLACE];
	unsigned char digest[16];
	int folder = make_folder(s->path) && realpath(s->path, real) ? open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (folder < 0)
		return false;
	read_place(folder, out);
	if (!out[0]) {
		(void)gethostname(host, sizeof host - 1);
		(void)crypto_generichash(digest, sizeof digest, (const unsigned char *)real, strlen(real), NULL, 0);
		snprintf(out, TG_SPOOL_PLACE, "%s:%s", host, sodium_bin2hex(hex, sizeof hex, digest, sizeof digest));
		write_place(folder, out);
		read_place(folder, kept);
		if (kept[0]) /* else there is no room for it: the same is made again next time */
			memcpy(out, kept, sizeof kept);
	}
	close(folder);
	return true;
}

bool tg_spool_hold(struct tg_spool *s, struct tg_err *err)
{
	if (s->lock >= 0)
		return true;
	if (!tg_spool_place(s, s->place)) {
		tg_err_set(err, "%s: %s", s->path, strerror(errno));
		return false;
	}
	if (s->folder < 0)
		s->folder = open(s->path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd = s->folder < 0 ? -1 : openat(s->folder, LOCK_NAME, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		tg_err_set(err, "%s: %s", s->path, strerror(errno));
		return false;
	}
	if (flock(fd, LOCK_EX | LOCK_NB)) {
		tg_err_set(err, "%s is in use by another gate", s->path);
		close(fd);
		return false;
	}
	s->lock = fd;
	return true;
}

bool tg_spool_there(const struct tg_spool *s)
{
	struct stat st;
	return stat(s->path, &st) == 0 && S_ISDIR(st.st_mode);
}

/* The files of one job have the job's id up to the first dot; so do those that the engine was still writing, behind a dot in front. */
static bool is_of(const char *name, const char *id)
{
	name += name[0] == '.';
	return strncmp(name, id, TG_ULID_LEN) == 0 && name[TG_ULID_LEN] == '.';
}

void tg_spool_forget(const struct tg_spool *s, const char *id)
{
	DIR *d = opendir(s->path);
	for (struct dirent *e; d && (e = readdir(d));)
		if (is_of(e->d_name, id))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	if (d)
		closedir(d);
}

void tg_spool_drop(const struct tg_spool *s, const char *id)
{
	char path[PATH_MAX];
	int n = snprintf(path, sizeof path, "%s/%s.frame", s->path, id);
	if (n > 0 && (size_t)n < sizeof path)
		(void)unlink(path);
}

bool tg_spool_mark(const struct tg_spool *s, const char *id, const char *model, struct tg_err *err)
{
	char name[2 * TG_ULID_LEN + 2];
	snprintf(name, sizeof name, "%s.%s", id, model);
	int fd = openat(s->folder, name, O_WRONLY | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		tg_err_set(err, "%s: %s", s->path, strerror(errno));
	else
		close(fd);
	return fd >= 0;
}

bool tg_spool_marked(const struct tg_spool *s, const char *id, char model[TG_ULID_LEN + 1])
{
	bool found = false;
	DIR *d = opendir(s->path);
	for (struct dirent *e; d && !found && (e = readdir(d));)
		found = e->d_name[0] != '.' && is_of(e->d_name, id) && strlen(e->d_name) == 2 * TG_ULID_LEN + 1 &&
			tg_ulid_read(tg_slice_cstr(e->d_name + TG_ULID_LEN + 1), model);
	if (d)
		closedir(d);
	return found;
}

void tg_spool_sweep(const struct tg_spool *s, int64_t before_us, bool (*keep)(void *ctx, const char *id), void *ctx)
{
	DIR *d = opendir(s->path);
	for (struct dirent *e; d && (e = readdir(d));) {
		const char *name = e->d_name + (e->d_name[0] == '.');
		char id[TG_ULID_LEN + 1];
		struct stat st;
		if (strlen(name) <= TG_ULID_LEN || name[TG_ULID_LEN] != '.' || !tg_ulid_read((struct tg_slice){ name, TG_ULID_LEN }, id))
			continue;
		if (fstatat(dirfd(d), e->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISREG(st.st_mode))
			continue;
		int64_t written_us = (int64_t)st.st_mtim.tv_sec * 1000000 + st.st_mtim.tv_nsec / 1000;
		if (written_us < before_us && !keep(ctx, id))
			(void)unlinkat(dirfd(d), e->d_name, 0);
	}
	if (d)
		closedir(d);
}

bool tg_spool_file(const struct tg_spool *s, const char *id, const char *name, char *out, size_t cap)
{
	if (!is_of(name, id) || name[0] == '.' || strchr(name, '/'))
		return false;
	int n = snprintf(out, cap, "%s/%s", s->path, name);
	return n > 0 && (size_t)n < cap;
}

bool tg_spool_read(const struct tg_spool *s, const char *name, struct tg_buf *b, struct tg_err *err)
{
	char piece[65536];
	ssize_t n = -1;
	int folder = open(s->path, O_PATH | O_DIRECTORY | O_CLOEXEC), fd = folder >= 0 ? openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW) : -1;
	while (fd >= 0 && !b->failed && (n = read(fd, piece, sizeof piece)) > 0)
		tg_buf_put(b, piece, (size_t)n);
	if (fd < 0 || n < 0)
		tg_err_set(err, "%s: %s", name, strerror(errno));
	else if (b->failed)
		tg_err_set(err, "%s is too large", name);
	if (fd >= 0)
		close(fd);
	if (folder >= 0)
		close(folder);
	return fd >= 0 && n == 0 && !b->failed;
}
