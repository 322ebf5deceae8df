/*
 * Secrets that live in a file (see secretfile.h). Invariants: an existing file is read or refused, never written; what was made is on disk before it is used, so that nothing is ever
 * signed or digested under a key that the next start does not know; every copy in memory but the caller's is wiped.
 */
#include "base/secretfile.h"
#include "base/newfile.h"
#include "base/secret_mode.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <sodium.h>
#include <sys/stat.h>
#include <unistd.h>

/* NULL: it will do. */
static const char *fault_of(struct tg_slice s)
{
	size_t blank = 0;
	if (memchr(s.n ? s.p : "", 0, s.n))
		return "has a NUL byte";
	for (size_t i = 0; i < s.n; i++)
		blank += s.p[i] == ' ' || (s.p[i] >= '\t' && s.p[i] <= '\r');
	return blank == s.n ? "is nothing but blanks" : NULL;
}

static bool take(const char *what, struct tg_slice s, size_t min, struct tg_secret *out, struct tg_err *err)
{
	const char *fault = s.n ? fault_of(s) : NULL;
	if (fault)
		tg_err_set(err, "%.300s: the secret %s", what, fault);
	else if (s.n < min)
		tg_err_set(err, "%.300s: the secret has %zu bytes; at least %zu are needed", what, s.n, min);
	else if (!tg_secret_set(out, s))
		tg_err_set(err, "%.300s: out of memory", what);
	else
		return true;
	return false;
}

enum got { READ, MISSING, BAD };

static enum got read_file(const char *path, size_t min, struct tg_secret *out, struct tg_err *warning, struct tg_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* O_NONBLOCK: a FIFO must not hold us */
	if (fd < 0) {
		tg_err_set(err, "%.300s: cannot be read: %s", path, strerror(errno));
		return errno == ENOENT ? MISSING : BAD;
	}
	struct stat st;
	char text[TG_SECRET_FILE_MAX + 1];
	size_t n = 0;
	enum got r = BAD;
	ssize_t k = 1;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		tg_err_set(err, "%.300s: cannot be read: not a regular file", path);
		close(fd);
		return BAD;
	}
	while (n < sizeof text && ((k = read(fd, text + n, sizeof text - n)) > 0 || (k < 0 && errno == EINTR)))
		n += k > 0 ? (size_t)k : 0;
	if (k < 0)
		tg_err_set(err, "%.300s: cannot be read: %s", path, strerror(errno));
	else if (n > TG_SECRET_FILE_MAX)
		tg_err_set(err, "%.300s: is over %d bytes", path, TG_SECRET_FILE_MAX);
	else {
		mode_t open_to_others = tg_secret_file_exposed(path);
		if (open_to_others)
			tg_secret_file_text(path, NULL, open_to_others, warning);
		size_t end = n;
		while (end && (text[end - 1] == '\n' || text[end - 1] == '\r'))
			end--;
		r = take(path, (struct tg_slice){ text, end }, min, out, err) ? READ : BAD;
	}
	sodium_memzero(text, sizeof text);
	close(fd);
	return r;
}

/* The file's own folder; what lies above it must be there. */
static bool make_folder_of(const char *path)
{
	char folder[PATH_MAX];
	const char *slash = strrchr(path, '/');
	size_t n = slash ? (size_t)(slash - path) : 0;
	if (n == 0 || n >= sizeof folder)
		return true;
	memcpy(folder, path, n);
	folder[n] = '\0';
	return tg_new_folder(folder, 0700) == 0 || errno == EEXIST;
}

static enum tg_made make_file(const char *path)
{
	unsigned char random[TG_SECRET_MADE / 2];
	char text[TG_SECRET_MADE + 1];
	randombytes_buf(random, sizeof random); /* ends the process where the kernel gives no randomness */
	sodium_bin2hex(text, sizeof text, random, sizeof random);
	text[TG_SECRET_MADE] = '\n';
	enum tg_made made = make_folder_of(path) ? tg_newfile(path, 0600, (struct tg_slice){ text, sizeof text }) : TG_NOT_MADE;
	int e = errno;
	sodium_memzero(random, sizeof random);
	sodium_memzero(text, sizeof text);
	errno = e;
	return made;
}

bool tg_secret_file(const char *path, const char *name, struct tg_slice given, size_t min, struct tg_secret *out, struct tg_err *warning, struct tg_err *err)
{
	warning->text[0] = '\0';
	if (given.n)
		return take(name, given, min, out, err);
	enum got g = read_file(path, min, out, warning, err);
	if (g != MISSING)
		return g == READ;
	if (make_file(path) == TG_NOT_MADE) {
		tg_err_set(err, "%.300s: cannot be made: %s", path, strerror(errno));
		return false;
	}
	/* Read back, whoever made it. */
	return read_file(path, min, out, warning, err) == READ;
}
