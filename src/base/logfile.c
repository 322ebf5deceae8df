/*
 * The file side of logging. Every write happens under one mutex: the file system serialises appends to one file anyway, and under the lock a write that
 * came to a stop halfway (disk full) can be cut back to the last whole line, the file can be rotated, and no line is lost between two files.
 *
 * Invariants: the file holds whole lines only (where it cannot be cut back, as a pipe, the next write begins with a line end); a failure costs lines,
 * which are counted, never time or the program. The lock order is: this mutex last, nothing is called under it but system calls.
 */
#include "base/logfile.h"
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define PIPE_WAIT_MS 5 /* how long one write waits for a reader of our pipe to catch up */

/* Makes the parent folders of path. A folder that cannot be made shows as the open that fails. */
static void make_parents(const char *path)
{
	char t[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof t)
		return;
	memcpy(t, path, n + 1);
	for (char *p = t + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(t, 0750);
			*p = '/';
		}
}

static int open_path(const char *path)
{
	/* O_NONBLOCK: a FIFO without a reader must not hold the start, nor a full one a loop. */
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640);
}

/* A description of our own for stdout, so that O_NONBLOCK does not leak into whoever shares it. */
static int open_stdout(void)
{
	struct stat st;
	if (fstat(1, &st) == 0 && S_ISFIFO(st.st_mode)) {
		int fd = open("/proc/self/fd/1", O_WRONLY | O_CLOEXEC | O_NONBLOCK);
		if (fd >= 0) {
			fcntl(fd, F_SETPIPE_SZ, 1 << 20);
			return fd;
		}
	}
	return fcntl(1, F_DUPFD_CLOEXEC, 3);
}

static void adopt(struct tg_logfile *f, int fd)
{
	struct stat st = { 0 };
	if (f->fd >= 0)
		close(f->fd);
	f->fd = fd;
	fstat(fd, &st);
	f->regular = S_ISREG(st.st_mode) && strcmp(f->path, "-") != 0;
	f->sock = S_ISSOCK(st.st_mode);
	f->size = f->regular ? (uint64_t)st.st_size : 0;
	f->torn = false;
}

bool tg_logfile_open(struct tg_logfile *f, const char *path, uint64_t rotate_bytes, unsigned rotate_keep, struct tg_err *err)
{
	if (strlen(path) >= sizeof f->path) {
		tg_err_set(err, "%s: longer than %zu bytes", f->option, sizeof f->path - 1);
		return false;
	}
	bool to_stdout = strcmp(path, "-") == 0;
	if (to_stdout)
		signal(SIGPIPE, SIG_IGN); /* a reader that left costs lines, not the program */
	else
		make_parents(path);
	int fd = to_stdout ? open_stdout() : open_path(path);
	if (fd < 0) {
		tg_err_set(err, "%s: cannot open %s: %s", f->option, path, strerror(errno));
		return false;
	}
	pthread_mutex_lock(&f->lock);
	f->said = f->said && f->failing && strcmp(f->path, path) == 0; /* a reload in the middle of it is no news */
	memcpy(f->path, path, strlen(path) + 1);
	f->rotate_bytes = rotate_bytes;
	f->rotate_keep = rotate_keep;
	adopt(f, fd);
	pthread_mutex_unlock(&f->lock);
	return true;
}

static void say(struct tg_logfile *f, const char *what, int why)
{
	if (f->said)
		return;
	f->said = true;
	fprintf(stderr, "tollgate: log: %s %s: %s; lines are being lost (said once)\n", what, f->path, strerror(why));
}

void tg_logfile_reopen(struct tg_logfile *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->fd >= 0 && strcmp(f->path, "-") != 0) {
		make_parents(f->path);
		int fd = open_path(f->path);
		if (fd >= 0)
			adopt(f, fd);
		else
			fprintf(stderr, "tollgate: log: cannot reopen %s: %s; the old file stays in use\n", f->path, strerror(errno));
	}
	pthread_mutex_unlock(&f->lock);
}

void tg_logfile_close(struct tg_logfile *f)
{
	pthread_mutex_lock(&f->lock);
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
	pthread_mutex_unlock(&f->lock);
}

/* app.log.N-1 -> app.log.N ... app.log -> app.log.1, then a fresh app.log. Where a step fails the old file stays in use, and the next try
 * comes after another rotate_bytes, not at every line. */
static void rotate(struct tg_logfile *f)
{
	char from[PATH_MAX + 16], to[PATH_MAX + 16];
	bool ok = true;
	for (unsigned i = f->rotate_keep; i > 1 && ok; i--) {
		snprintf(from, sizeof from, "%s.%u", f->path, i - 1);
		snprintf(to, sizeof to, "%s.%u", f->path, i);
		ok = rename(from, to) == 0 || errno == ENOENT;
	}
	snprintf(to, sizeof to, "%s.1", f->path);
	if (ok)
		ok = (f->rotate_keep ? rename(f->path, to) : unlink(f->path)) == 0 || errno == ENOENT;
	int fd = ok ? open_path(f->path) : -1;
	if (fd >= 0)
		adopt(f, fd);
	else
		f->size = 0;
}

static ssize_t write_some(struct tg_logfile *f, const char *p, size_t n)
{
	for (int tries = 0;;) {
		ssize_t k = f->sock ? send(f->fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(f->fd, p, n);
		if (k >= 0)
			return k;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || tries++)
			return -1;
		struct pollfd w = { .fd = f->fd, .events = POLLOUT };
		poll(&w, 1, PIPE_WAIT_MS);
	}
}

static uint64_t count_lines(const char *p, size_t n)
{
	uint64_t k = 0;
	for (const char *q = p, *end = p + n; (q = memchr(q, '\n', (size_t)(end - q))); q++)
		k++;
	return k;
}

/* A line that was written in part is taken back, or ended by the next write. */
static void undo_torn(struct tg_logfile *f, const char *p, size_t done)
{
	const char *nl = done ? memrchr(p, '\n', done) : NULL;
	size_t torn = done - (nl ? (size_t)(nl + 1 - p) : 0);
	if (!torn)
		return;
	struct stat st;
	if (f->regular && fstat(f->fd, &st) == 0 && st.st_size == lseek(f->fd, 0, SEEK_CUR) && ftruncate(f->fd, st.st_size - (off_t)torn) == 0) {
		f->size -= torn;
		return;
	}
	f->torn = true;
}

/* Whole lines, under the lock. */
static void put_lines(struct tg_logfile *f, const char *p, size_t n)
{
	if (f->regular && f->rotate_bytes && f->size && f->size + n > f->rotate_bytes)
		rotate(f);
	if (f->torn && write_some(f, "\n", 1) == 1)
		f->torn = false;
	size_t done = 0;
	int why = 0;
	while (done < n && !f->torn) {
		ssize_t k = write_some(f, p + done, n - done);
		if (k <= 0) {
			why = k < 0 ? errno : ENOSPC;
			break;
		}
		done += (size_t)k;
		f->size += (size_t)k;
	}
	f->failing = done < n;
	if (!f->failing)
		return;
	uint64_t whole = count_lines(p, done);
	undo_torn(f, p, done);
	atomic_fetch_add(&f->lost, count_lines(p, n) - whole);
	say(f, "cannot write to", why ? why : EAGAIN);
}

bool tg_logfile_put(struct tg_logfile *f, const char *p, size_t n)
{
	pthread_mutex_lock(&f->lock);
	bool open = f->fd >= 0;
	if (open)
		put_lines(f, p, n);
	pthread_mutex_unlock(&f->lock);
	return open;
}
