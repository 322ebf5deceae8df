/*
 * The log file. Every write to it happens under one mutex: the file system serialises appends to one file anyway, and under the lock a write that
 * came to a stop halfway (disk full) can be cut back to the last whole line, the file can be rotated, and no line is lost between two files. The hot path
 * pays none of this: it fills its loop's batch and takes the lock once a flush.
 *
 * Invariants: the file holds whole lines only (where it cannot be cut back, as a pipe, the next write begins with a line end); a failure costs lines,
 * which are counted, never time or the program. The lock order is: this mutex last, nothing is called under it but system calls.
 */
#include "base/log.h"
#include "base/clock.h"
#include "base/utf8.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#define STRING_CUT 1024
#define EVENT_MAX 32768
#define PIPE_WAIT_MS 5 /* how long one flush waits for a reader of our pipe to catch up */

static struct {
	pthread_mutex_t lock;
	int fd; /* -1: not open */
	char path[PATH_MAX];
	bool regular, sock, torn, said;
	uint64_t size; /* of the regular file: bytes since it was opened fresh, or since a rotation that failed */
	uint64_t rotate_bytes;
	unsigned rotate_keep;
} lg = { .lock = PTHREAD_MUTEX_INITIALIZER, .fd = -1 };
static atomic_int least = TG_LOG_F_INFO;
static atomic_uint_fast64_t lost;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

bool tg_log_on(int level)
{
	return level >= atomic_load_explicit(&least, memory_order_relaxed);
}

uint64_t tg_log_lost(void)
{
	return atomic_load_explicit(&lost, memory_order_relaxed);
}

void tg_log_count_lost(void)
{
	atomic_fetch_add_explicit(&lost, 1, memory_order_relaxed);
}

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

static void adopt(int fd)
{
	struct stat st = { 0 };
	if (lg.fd >= 0)
		close(lg.fd);
	lg.fd = fd;
	fstat(fd, &st);
	lg.regular = S_ISREG(st.st_mode) && strcmp(lg.path, "-") != 0;
	lg.sock = S_ISSOCK(st.st_mode);
	lg.size = lg.regular ? (uint64_t)st.st_size : 0;
	lg.torn = false;
}

bool tg_log_open(const struct tg_log_conf *c, struct tg_err *err)
{
	if (strlen(c->path) >= sizeof lg.path) {
		tg_err_set(err, "log.path: longer than %zu bytes", sizeof lg.path - 1);
		return false;
	}
	bool to_stdout = strcmp(c->path, "-") == 0;
	if (to_stdout)
		signal(SIGPIPE, SIG_IGN); /* a reader that left costs lines, not the program */
	else
		make_parents(c->path);
	int fd = to_stdout ? open_stdout() : open_path(c->path);
	if (fd < 0) {
		tg_err_set(err, "log.path: cannot open %s: %s", c->path, strerror(errno));
		return false;
	}
	pthread_mutex_lock(&lg.lock);
	memcpy(lg.path, c->path, strlen(c->path) + 1);
	lg.rotate_bytes = c->rotate_bytes;
	lg.rotate_keep = c->rotate_keep;
	lg.said = false;
	adopt(fd);
	pthread_mutex_unlock(&lg.lock);
	atomic_store(&least, c->level);
	return true;
}

static void say(const char *what, int why)
{
	if (lg.said)
		return;
	lg.said = true;
	fprintf(stderr, "tollgate: log: %s %s: %s; lines are being lost (said once)\n", what, lg.path, strerror(why));
}

void tg_log_reopen(void)
{
	pthread_mutex_lock(&lg.lock);
	if (lg.fd >= 0 && strcmp(lg.path, "-") != 0) {
		make_parents(lg.path);
		int fd = open_path(lg.path);
		if (fd >= 0)
			adopt(fd);
		else
			fprintf(stderr, "tollgate: log: cannot reopen %s: %s; the old file stays in use\n", lg.path, strerror(errno));
	}
	pthread_mutex_unlock(&lg.lock);
}

void tg_log_close(void)
{
	pthread_mutex_lock(&lg.lock);
	if (lg.fd >= 0)
		close(lg.fd);
	lg.fd = -1;
	pthread_mutex_unlock(&lg.lock);
}

/* app.log.N-1 -> app.log.N ... app.log -> app.log.1, then a fresh app.log. Where a step fails the old file stays in use, and the next try
 * comes after another rotate_bytes, not at every line. */
static void rotate(void)
{
	char from[PATH_MAX + 16], to[PATH_MAX + 16];
	bool ok = true;
	for (unsigned i = lg.rotate_keep; i > 1 && ok; i--) {
		snprintf(from, sizeof from, "%s.%u", lg.path, i - 1);
		snprintf(to, sizeof to, "%s.%u", lg.path, i);
		ok = rename(from, to) == 0 || errno == ENOENT;
	}
	snprintf(to, sizeof to, "%s.1", lg.path);
	if (ok)
		ok = (lg.rotate_keep ? rename(lg.path, to) : unlink(lg.path)) == 0 || errno == ENOENT;
	int fd = ok ? open_path(lg.path) : -1;
	if (fd >= 0)
		adopt(fd);
	else
		lg.size = 0;
}

static ssize_t write_some(const char *p, size_t n)
{
	for (int tries = 0;;) {
		ssize_t k = lg.sock ? send(lg.fd, p, n, MSG_DONTWAIT | MSG_NOSIGNAL) : write(lg.fd, p, n);
		if (k >= 0)
			return k;
		if (errno == EINTR)
			continue;
		if (errno != EAGAIN || tries++)
			return -1;
		struct pollfd f = { .fd = lg.fd, .events = POLLOUT };
		poll(&f, 1, PIPE_WAIT_MS);
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
static void undo_torn(const char *p, size_t done)
{
	const char *nl = done ? memrchr(p, '\n', done) : NULL;
	size_t torn = done - (nl ? (size_t)(nl + 1 - p) : 0);
	if (!torn)
		return;
	struct stat st;
	if (lg.regular && fstat(lg.fd, &st) == 0 && st.st_size == lseek(lg.fd, 0, SEEK_CUR) && ftruncate(lg.fd, st.st_size - (off_t)torn) == 0) {
		lg.size -= torn;
		return;
	}
	lg.torn = true;
}

/* Whole lines, under the lock. */
static void put_lines(const char *p, size_t n)
{
	if (lg.fd < 0) {
		atomic_fetch_add(&lost, count_lines(p, n));
		return;
	}
	if (lg.regular && lg.rotate_bytes && lg.size && lg.size + n > lg.rotate_bytes)
		rotate();
	if (lg.torn && write_some("\n", 1) == 1)
		lg.torn = false;
	size_t done = 0;
	int why = 0;
	while (done < n && !lg.torn) {
		ssize_t k = write_some(p + done, n - done);
		if (k <= 0) {
			why = k < 0 ? errno : ENOSPC;
			break;
		}
		done += (size_t)k;
		lg.size += (size_t)k;
	}
	if (done == n)
		return;
	uint64_t whole = count_lines(p, done);
	undo_torn(p, done);
	atomic_fetch_add(&lost, count_lines(p, n) - whole);
	say("cannot write to", why ? why : EAGAIN);
}

static void escape(struct tg_buf *b, uint32_t cp)
{
	static const char hex[] = "0123456789abcdef";
	char t[6] = { '\\', 'u', hex[cp >> 12 & 15], hex[cp >> 8 & 15], hex[cp >> 4 & 15], hex[cp & 15] };
	tg_buf_put(b, t, sizeof t);
}

/* Code points of two and three bytes that act on a terminal or turn the reading direction (UAX 9): 0 for all others. */
static uint32_t acting(const unsigned char *p, size_t k)
{
	if (k == 2 && p[0] == 0xc2 && p[1] < 0xa0)
		return p[1];
	if (k != 3)
		return 0;
	uint32_t cp = (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63);
	bool hit = (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x2069) || cp == 0xfeff;
	return hit ? cp : 0;
}

void tg_log_string(struct tg_buf *b, struct tg_slice s, size_t cut)
{
	if (s.n > cut) {
		s.n = cut;
		while (s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
			s.n--;
	}
	tg_buf_char(b, '"');
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		size_t k = tg_utf8_len(s.p + i, s.n - i);
		uint32_t bad = k ? acting((const unsigned char *)s.p + i, k) : 0xfffd;
		if (bad) {
			escape(b, bad);
		} else if (k > 1) {
			tg_buf_put(b, s.p + i, k);
		} else if (c == '"' || c == '\\') {
			char t[2] = { '\\', (char)c };
			tg_buf_put(b, t, 2);
		} else if (c == '\n') {
			tg_buf_lit(b, "\\n");
		} else if (c < 0x20 || c == 0x7f) {
			escape(b, c);
		} else {
			tg_buf_char(b, (char)c);
		}
		i += k ? k : 1;
	}
	tg_buf_char(b, '"');
}

static void outside(struct tg_buf *b, struct tg_slice s)
{
	char t[STRING_CUT];
	tg_log_string(b, (struct tg_slice){ t, tg_log_redact(s, t, sizeof t) }, STRING_CUT);
}

static void member(struct tg_buf *b, char type, va_list *ap)
{
	switch (type) {
	case 's':
	case 't': {
		const char *s = va_arg(*ap, const char *);
		if (!s)
			tg_buf_lit(b, "null");
		else if (type == 's')
			outside(b, tg_slice_cstr(s));
		else
			tg_log_string(b, tg_slice_cstr(s), STRING_CUT);
		break;
	}
	case 'l': {
		const struct tg_slice *s = va_arg(*ap, const struct tg_slice *);
		if (s && s->p)
			outside(b, *s);
		else
			tg_buf_lit(b, "null");
		break;
	}
	case 'u': tg_buf_u64(b, va_arg(*ap, uint64_t)); break;
	case 'i': tg_buf_i64(b, va_arg(*ap, int64_t)); break;
	default: tg_buf_cstr(b, va_arg(*ap, int) ? "true" : "false");
	}
}

void tg_log(int level, const char *event, ...)
{
	if (!tg_log_on(level))
		return;
	struct tg_buf b;
	tg_buf_init(&b, EVENT_MAX);
	char ts[24];
	tg_rfc3339_ms(tg_wall_us(), ts);
	tg_buf_lit(&b, "{\"ts\":\"");
	tg_buf_put(&b, ts, sizeof ts);
	tg_buf_lit(&b, "\",\"level\":\"");
	tg_buf_cstr(&b, level_names[level & 3]);
	tg_buf_lit(&b, "\",\"event\":");
	tg_log_string(&b, tg_slice_cstr(event), STRING_CUT);
	va_list ap;
	va_start(ap, event);
	for (const char *key; (key = va_arg(ap, const char *));) {
		tg_buf_char(&b, ',');
		tg_log_string(&b, tg_slice_cstr(key + 2), STRING_CUT);
		tg_buf_char(&b, ':');
		member(&b, key[0], &ap);
	}
	va_end(ap);
	tg_buf_lit(&b, "}\n");
	pthread_mutex_lock(&lg.lock);
	if (b.failed)
		atomic_fetch_add(&lost, 1);
	else if (lg.fd < 0)
		fwrite(b.p, 1, b.len, stderr);
	else
		put_lines(b.p, b.len);
	pthread_mutex_unlock(&lg.lock);
	tg_buf_free(&b);
}

void tg_log_batch_init(struct tg_log_batch *b)
{
	tg_buf_init(&b->buf, TG_LOG_BATCH + TG_LOG_LINE_MAX);
	b->lines = 0;
}

void tg_log_batch_flush(struct tg_log_batch *b)
{
	if (b->buf.len) {
		pthread_mutex_lock(&lg.lock);
		put_lines(b->buf.p, b->buf.len);
		pthread_mutex_unlock(&lg.lock);
	}
	b->buf.len = 0;
	b->buf.failed = false;
	b->lines = 0;
}

void tg_log_batch_free(struct tg_log_batch *b)
{
	tg_log_batch_flush(b);
	tg_buf_free(&b->buf);
}
