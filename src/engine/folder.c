/* Folders and names (see folder.h). */
#include "engine/folder.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/openat2.h>
#include <sodium.h>
#include <sys/syscall.h>
#include <unistd.h>

bool tg_id_ok(struct tg_slice id)
{
	if (id.n != TG_ID_LEN || id.p[0] > '7')
		return false;
	for (size_t i = 0; i < id.n; i++)
		if (!memchr("0123456789ABCDEFGHJKMNPQRSTVWXYZ", id.p[i], 32))
			return false;
	return true;
}

bool tg_name_ok(struct tg_slice name)
{
	if (!name.n || name.n > TG_NAME_MAX || name.p[0] == '.')
		return false;
	for (size_t i = 0; i < name.n; i++)
		if (name.p[i] == '/' || (unsigned char)name.p[i] < 0x20 || name.p[i] == 0x7f)
			return false;
	return true;
}

static bool make_parents(char *path)
{
	for (char *slash = path + 1; (slash = strchr(slash, '/')); slash++) {
		*slash = 0;
		bool ok = mkdir(path, 0750) == 0 || errno == EEXIST || errno == EROFS || errno == EACCES; /* the open below tells */
		*slash = '/';
		if (!ok)
			return false;
	}
	return true;
}

int tg_folder_make(const char *path, bool own, struct tg_err *err)
{
	char copy[PATH_MAX];
	struct stat st;
	size_t n = strlen(path);
	if (!n || n >= sizeof copy) {
		tg_err_set(err, "the name of a folder has %zu bytes; 1 to %d are possible", n, PATH_MAX - 1);
		return -1;
	}
	memcpy(copy, path, n + 1);
	int fd = make_parents(copy) && (mkdir(path, own ? 0700 : 0750) == 0 || errno == EEXIST) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (fd < 0) {
		tg_err_set(err, "the folder %.300s: %s", path, strerror(errno));
		return -1;
	}
	if (own && (fstat(fd, &st) != 0 || st.st_uid != geteuid() || ((st.st_mode & 077) && fchmod(fd, 0700) != 0))) {
		tg_err_set(err, "the folder %.300s must belong to the user that runs this, and to nobody else", path);
		close(fd);
		return -1;
	}
	return fd;
}

int tg_open_beneath(int folder, const char *name, struct stat *st)
{
	struct open_how how = { .flags = O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	struct stat here;
	if (!tg_name_ok(tg_slice_cstr(name))) {
		errno = EINVAL;
		return -1;
	}
	long fd;
	do /* EAGAIN: something was renamed meanwhile; a few more times are enough or it fails */
		fd = syscall(SYS_openat2, folder, name, &how, sizeof how);
	while (fd < 0 && errno == EINTR);
	if (fd < 0)
		return -1;
	if (fstat((int)fd, st ? st : &here) != 0 || !S_ISREG((st ? st : &here)->st_mode)) {
		close((int)fd);
		errno = EINVAL;
		return -1;
	}
	return (int)fd;
}

bool tg_sha256_fd(int fd, char hex[TG_SHA256_TEXT])
{
	crypto_hash_sha256_state s;
	unsigned char piece[65536], digest[crypto_hash_sha256_BYTES];
	crypto_hash_sha256_init(&s);
	for (off_t at = 0;;) {
		ssize_t n = pread(fd, piece, sizeof piece, at);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return false;
		if (!n)
			break;
		crypto_hash_sha256_update(&s, piece, (unsigned long long)n);
		at += n;
	}
	crypto_hash_sha256_final(&s, digest);
	sodium_bin2hex(hex, TG_SHA256_TEXT, digest, sizeof digest);
	return true;
}

static void temporary(const char *name, char out[80])
{
	snprintf(out, 80, "%.64s.part", name);
}

int tg_spool_begin(int spool, const char *name)
{
	char temp[80];
	temporary(name, temp);
	if (unlinkat(spool, temp, 0) != 0 && errno != ENOENT) /* of an engine that was killed: a job has one writer */
		return -1;
	return openat(spool, temp, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
}

bool tg_spool_finish(int spool, int fd, const char *name, bool keep)
{
	char temp[80];
	temporary(name, temp);
	bool ok = close(fd) == 0 && keep && renameat(spool, temp, spool, name) == 0;
	if (!ok) {
		int e = errno;
		unlinkat(spool, temp, 0);
		errno = e;
	}
	return ok;
}

bool tg_spool_sync(int spool, const char *name)
{
	int fd = openat(spool, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
	if (fd < 0)
		return errno == ENOENT;
	bool ok = fsync(fd) == 0;
	int e = errno;
	close(fd);
	errno = e;
	return ok && (fsync(spool) == 0 || errno == EINVAL); /* some file systems cannot sync a folder and are durable without */
}

unsigned tg_spool_remove(int spool, const char *start)
{
	unsigned n = 0;
	int fd = openat(spool, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC); /* one of our own: a directory's place is shared by duplicates */
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d) {
		if (fd >= 0)
			close(fd);
		return 0;
	}
	size_t len = strlen(start);
	for (struct dirent *e; (e = readdir(d));)
		if (strncmp(e->d_name, start, len) == 0)
			n += unlinkat(spool, e->d_name, 0) == 0;
	closedir(d);
	return n;
}
