/*
 * The writer of the audit trail. Lines are appended to one buffer under a mutex; a thread takes the buffer whole, writes it, and gives its room back. It waits a few milliseconds for more before it writes, unless
 * somebody waits for it: so a busy gate pays for two hundred writes a second, not for one a request. fdatasync at most once a second, and when nothing more comes: a dead process loses nothing that was written, a
 * power cut a second.
 *
 * Invariants: the file holds whole lines only (a line that could be written in part only is cut off again, or ended by the next write; a tail that an earlier process left is ended first); lines are
 * written in the order in which they were taken; the buffer that is being written is let go only once all of it is in the file. Lock order: this mutex last, and no system call that may block is made under it.
 */
#include "audit/writer.h"
#include "audit/event.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#define GATHER_MS 5
#define GATHER_BYTES (64u << 10) /* enough to write at once */
#define RETRY_MS 250
#define SYNC_MS 1000
#define CLOSE_TRIES 4            /* of a write that fails, when the process ends */
#define IDLE_MS 20
#define KEEP_BYTES (256u << 10)  /* of an empty buffer */
#define SAY_MS 10000

static pthread_mutex_t lock = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t more, written; /* more: for the writer; written: for whoever waits for it */
static pthread_once_t made = PTHREAD_ONCE_INIT;

/* What the thread is to do behind the lines that were handed over before it. */
struct order {
	bool ending, reopen, change;
	int fd;              /* change: the file to be taken into use; -1: none, the trail ends */
	size_t at;           /* change: bytes that waited then, for the old file */
	char path[PATH_MAX];
};
static struct {
	bool running, on;    /* on: lines are taken */
	pthread_t thread;
	struct order order;
	struct tg_buf waiting;
	uint64_t taken, done; /* bytes, since the start */
	unsigned flushing;    /* threads that wait for `done` */
	uint64_t untold;      /* lost events that the trail does not mention yet */
	uint64_t said_ms;     /* when losses were last said */
} w = { .order.fd = -1 };
static _Atomic uint64_t lost, faults;
static _Atomic bool stuck; /* the last write failed: nobody waits for one that may not come */

uint64_t tg_audit_lost(void)
{
	return atomic_load_explicit(&lost, memory_order_relaxed);
}

uint64_t tg_audit_faults(void)
{
	return atomic_load_explicit(&faults, memory_order_relaxed);
}

uint64_t tg_audit_waiting(void)
{
	pthread_mutex_lock(&lock);
	uint64_t n = w.taken - w.done;
	pthread_mutex_unlock(&lock);
	return n;
}

bool tg_audit_writer_on(void)
{
	pthread_mutex_lock(&lock);
	bool on = w.on;
	pthread_mutex_unlock(&lock);
	return on;
}

static struct timespec in_ms(unsigned ms)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	t.tv_sec += ms / 1000;
	t.tv_nsec += (long)(ms % 1000) * 1000000;
	if (t.tv_nsec >= 1000000000) {
		t.tv_nsec -= 1000000000;
		t.tv_sec++;
	}
	return t;
}

/* ---- the file; the thread's alone ---- */

static int open_file(const char *path)
{
	char folder[PATH_MAX];
	size_t n = strlen(path);
	if (n >= sizeof folder) {
		errno = ENAMETOOLONG;
		return -1;
	}
	memcpy(folder, path, n + 1);
	for (char *p = folder + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(folder, 0750); /* one that cannot be made shows as the open that fails */
			*p = '/';
		}
	return open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY | O_NONBLOCK, 0640); /* a pipe that nobody reads is a fault and no wait */
}

/* Whether the file ends within a line: a process was killed in the middle of a write, or the power went. */
static bool torn_tail(int fd, const char *path)
{
	struct stat st, same;
	char c = '\n';
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || !st.st_size)
		return false;
	int in = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	if (in < 0)
		return false; /* ours to write, not to read */
	bool torn = fstat(in, &same) == 0 && same.st_ino == st.st_ino && same.st_dev == st.st_dev && pread(in, &c, 1, st.st_size - 1) == 1 && c != '\n';
	close(in);
	return torn;
}

/* All of it, or as many whole lines as went; those are dropped from the buffer. False: errno. */
static bool write_lines(int fd, struct tg_buf *b, bool *torn)
{
	if (*torn) {
		if (write(fd, "\n", 1) != 1)
			return false;
		*torn = false;
	}
	size_t done = 0;
	while (done < b->len) {
		ssize_t k = write(fd, b->p + done, b->len - done);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			int why = k < 0 ? errno : ENOSPC;
			const char *nl = done ? memrchr(b->p, '\n', done) : NULL;
			size_t whole = nl ? (size_t)(nl + 1 - b->p) : 0, rest = done - whole;
			struct stat st;
			if (rest && !(fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == lseek(fd, 0, SEEK_CUR) && ftruncate(fd, st.st_size - (off_t)rest) == 0))
				*torn = true;
			tg_buf_consume(b, whole);
			errno = why;
			return false;
		}
		done += (size_t)k;
	}
	b->len = 0;
	return true;
}

static void say_fault(const char *what, const char *path, int why)
{
	fprintf(stderr, "tollgate: audit: cannot %s %s: %s; events wait and are tried again (said once)\n", what, path, strerror(why));
	tg_log(TG_LOG_F_ERROR, "audit.failed", "s:what", what, "s:path", path, "s:why", strerror(why), NULL);
}

static uint64_t count_lines(const struct tg_buf *b)
{
	uint64_t n = 0;
	for (size_t i = 0; i < b->len; i++)
		n += b->p[i] == '\n';
	return n;
}

/* ---- the thread ---- */

struct hand {
	int fd;
	bool torn, dirty, failing;
	uint64_t synced_ms;
	struct tg_buf lines; /* being written */
	struct tg_buf rest;  /* behind those, for the next file */
	char path[PATH_MAX];
};

static void sync_file(struct hand *h)
{
	if (h->dirty && h->fd >= 0 && fdatasync(h->fd) && errno != EINVAL) { /* a pipe knows no sync */
		atomic_fetch_add(&faults, 1);
		say_fault("sync", h->path, errno);
	}
	h->dirty = false;
	h->synced_ms = tg_mono_us() / 1000;
}

static void take_file(struct hand *h, int fd, const char *path)
{
	sync_file(h);
	if (h->fd >= 0)
		close(h->fd);
	h->fd = fd;
	h->failing = h->failing && fd >= 0 && strcmp(h->path, path) == 0; /* until it works again */
	snprintf(h->path, sizeof h->path, "%s", path);
	h->torn = fd >= 0 && torn_tail(fd, path);
	atomic_store(&stuck, false);
}

/* Somebody moved the file: the lines from here on go to a new one of its name. Where there can be none, the moved one goes on. */
static void reopen(struct hand *h)
{
	char path[PATH_MAX];
	memcpy(path, h->path, sizeof path);
	int fd = h->fd >= 0 ? open_file(path) : -1;
	if (fd >= 0)
		take_file(h, fd, path);
	else if (h->fd >= 0)
		say_fault("reopen", path, errno);
}

/* Under the lock: a line of our own in the place of those that were lost. */
static void tell_lost(struct tg_buf *b)
{
	char ts[24];
	if (!w.untold)
		return;
	tg_rfc3339_ms(tg_wall_us(), ts);
	tg_buf_fmt(b, "{\"event\":\"audit_lost\",\"event_type\":\"audit_lost\",\"timestamp\":\"%.24s\",\"request_id\":null,\"lost\":%llu}\n", ts, (unsigned long long)w.untold);
	if (!b->failed)
		w.untold = 0;
	b->failed = false;
}

static bool ordered(void)
{
	return w.order.ending || w.order.reopen || w.order.change;
}

/* Until there are lines, something else to do, or a sync is due; under the lock. */
static void await(struct hand *h)
{
	while (!w.waiting.len && !ordered()) {
		if (!h->dirty) {
			pthread_cond_wait(&more, &lock);
			continue;
		}
		uint64_t now = tg_mono_us() / 1000, due = h->synced_ms + SYNC_MS;
		struct timespec t = in_ms(due > now + IDLE_MS ? (unsigned)(due - now) : IDLE_MS);
		if (pthread_cond_timedwait(&more, &lock, &t) == ETIMEDOUT)
			return;
	}
	struct timespec t = in_ms(GATHER_MS);
	while (w.waiting.len < GATHER_BYTES && !w.flushing && !ordered() && pthread_cond_timedwait(&more, &lock, &t) != ETIMEDOUT)
		;
}

static void take_order(struct order *o)
{
	o->ending |= w.order.ending;
	o->reopen |= w.order.reopen;
	if (w.order.change) {
		if (o->change && o->fd >= 0)
			close(o->fd);
		o->change = true;
		o->fd = w.order.fd;
		o->at = w.order.at;
		memcpy(o->path, w.order.path, sizeof o->path);
	}
	w.order.reopen = w.order.change = false;
	w.order.fd = -1;
}

/* Those who wait in tg_audit_writer_flush. */
static void release_waiting(void)
{
	pthread_mutex_lock(&lock);
	pthread_cond_broadcast(&written);
	pthread_mutex_unlock(&lock);
}

static bool write_once(struct hand *h)
{
	if (h->fd < 0 || !h->lines.len) {
		h->lines.len = 0;
		return true;
	}
	bool ok = write_lines(h->fd, &h->lines, &h->torn);
	int why = errno;
	h->dirty = true;
	atomic_store(&stuck, !ok);
	if (!ok) {
		release_waiting();
		atomic_fetch_add(&faults, 1);
		if (!h->failing)
			say_fault("write to", h->path, why);
	} else if (h->failing) {
		tg_log(TG_LOG_F_WARN, "audit.works_again", "s:path", h->path, NULL);
	}
	h->failing = !ok;
	return ok;
}

/* Until what is in hand is in the file, or there is no more time or place for it. */
static void write_out(struct hand *h, struct order *o)
{
	for (unsigned tries = 1; !write_once(h); tries++) {
		if (o->reopen) { /* it may have been moved because of that */
			reopen(h);
			o->reopen = false;
			continue;
		}
		if (o->change && o->fd >= 0) {
			take_file(h, o->fd, o->path);
			o->change = false;
			continue;
		}
		if (o->change || (o->ending && tries >= CLOSE_TRIES)) {
			uint64_t n = count_lines(&h->lines);
			atomic_fetch_add(&lost, n);
			fprintf(stderr, "tollgate: audit: %llu events could not be written to %s\n", (unsigned long long)n, h->path);
			h->lines.len = 0;
			return;
		}
		struct timespec t = in_ms(RETRY_MS);
		pthread_mutex_lock(&lock);
		while (!ordered() && pthread_cond_timedwait(&more, &lock, &t) != ETIMEDOUT)
			;
		bool was = o->ending;
		take_order(o);
		pthread_mutex_unlock(&lock);
		if (was) /* `ending` stays set: the condition is no pause any more */
			nanosleep(&(struct timespec){ .tv_nsec = RETRY_MS * 1000000L / CLOSE_TRIES }, NULL);
	}
}

/* What was handed over after another file was named is for that one. Without memory for that it is with the others, which is better than nowhere. */
static void split(struct hand *h, const struct order *o)
{
	if (!o->change || o->at >= h->lines.len)
		return;
	tg_buf_put(&h->rest, h->lines.p + o->at, h->lines.len - o->at);
	if (!h->rest.failed)
		h->lines.len = o->at;
	h->rest.failed = false;
}

static void *writer(void *arg)
{
	(void)arg;
	struct hand h = { .fd = -1 };
	tg_buf_init(&h.lines, TG_AUDIT_QUEUE + 4096);
	tg_buf_init(&h.rest, TG_AUDIT_QUEUE + 4096);
	for (bool over = false; !over;) {
		struct order o = { .fd = -1 };
		pthread_mutex_lock(&lock);
		await(&h);
		take_order(&o);
		struct tg_buf empty = h.lines;
		h.lines = w.waiting;
		w.waiting = empty;
		uint64_t mark = w.taken;
		tell_lost(&h.lines);
		pthread_mutex_unlock(&lock);

		if (o.change && h.fd < 0) { /* the first file: lines may have come since it was named */
			take_file(&h, o.fd, o.path);
			o.change = false;
		}
		split(&h, &o);
		write_out(&h, &o);
		if (o.reopen)
			reopen(&h);
		if (o.change)
			take_file(&h, o.fd, o.path);
		o.change = o.reopen = false;
		if (h.rest.len) {
			struct tg_buf written_out = h.lines;
			h.lines = h.rest;
			h.rest = written_out;
			write_out(&h, &o);
			if (o.change)
				take_file(&h, o.fd, o.path);
			tg_buf_free(&h.rest);
		}
		if (h.lines.cap > KEEP_BYTES)
			tg_buf_free(&h.lines);

		pthread_mutex_lock(&lock);
		w.done = mark;
		over = o.ending && !w.waiting.len && !w.order.change;
		pthread_cond_broadcast(&written);
		pthread_mutex_unlock(&lock);
		if (tg_mono_us() / 1000 - h.synced_ms >= SYNC_MS)
			sync_file(&h);
	}
	take_file(&h, -1, "");
	tg_buf_free(&h.lines);
	tg_buf_free(&h.rest);
	return NULL;
}

/* ---- everybody else ---- */

static void make(void)
{
	pthread_condattr_t a;
	pthread_condattr_init(&a);
	pthread_condattr_setclock(&a, CLOCK_MONOTONIC);
	pthread_cond_init(&more, &a);
	pthread_cond_init(&written, &a);
	pthread_condattr_destroy(&a);
	tg_buf_init(&w.waiting, TG_AUDIT_QUEUE + 4096); /* and a line of our own */
}

/* Signals are the control thread's. */
static bool start_thread(void)
{
	sigset_t all, was;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &was);
	w.order.ending = false;
	bool ok = pthread_create(&w.thread, NULL, writer, NULL) == 0;
	pthread_sigmask(SIG_SETMASK, &was, NULL);
	return ok;
}

/* Under the lock. */
static void change_to(int fd, const char *path)
{
	if (w.order.change && w.order.fd >= 0)
		close(w.order.fd);
	if (!w.order.change)
		w.order.at = w.waiting.len;
	w.order.change = true;
	w.order.fd = fd;
	snprintf(w.order.path, sizeof w.order.path, "%s", path);
	w.on = fd >= 0;
	pthread_cond_signal(&more);
}

bool tg_audit_writer_open(const char *path, struct tg_err *err)
{
	pthread_once(&made, make);
	int fd = path[0] ? open_file(path) : -1;
	if (path[0] && fd < 0) {
		tg_err_set(err, "audit.path: cannot open %s: %s", path, strerror(errno));
		return false;
	}
	struct timespec t = in_ms(TG_AUDIT_WAIT_MS);
	pthread_mutex_lock(&lock);
	while (w.running && w.order.change && pthread_cond_timedwait(&written, &lock, &t) != ETIMEDOUT)
		; /* one change after the other: each file gets what is its */
	bool ok = w.running || !path[0] || start_thread();
	if (ok && (path[0] || w.running)) {
		w.running = true;
		change_to(fd, path);
	}
	pthread_mutex_unlock(&lock);
	if (!ok) {
		close(fd);
		tg_err_set(err, "audit.path: no thread could be made");
	}
	return ok;
}

void tg_audit_writer_reopen(void)
{
	pthread_mutex_lock(&lock);
	if (w.running) {
		w.order.reopen = true;
		pthread_cond_signal(&more);
	}
	pthread_mutex_unlock(&lock);
}

void tg_audit_writer_close(void)
{
	pthread_mutex_lock(&lock);
	bool was = w.running;
	w.on = w.running = false;
	w.order.ending = true;
	if (was)
		pthread_cond_signal(&more);
	pthread_mutex_unlock(&lock);
	if (was)
		pthread_join(w.thread, NULL);
	tg_buf_free(&w.waiting);
	w.order = (struct order){ .fd = -1 };
}

/* At most once in ten seconds; without the lock. */
static void say_lost(bool now, const char *why)
{
	if (!now)
		return;
	unsigned long long n = (unsigned long long)tg_audit_lost();
	fprintf(stderr, "tollgate: audit: %s: %llu events are lost so far\n", why, n);
	tg_log(TG_LOG_F_ERROR, "audit.lost", "s:why", why, "u:events", (uint64_t)n, NULL);
}

/* Under the lock. True: it is to be said. */
static bool count_lost(void)
{
	uint64_t now = tg_mono_us() / 1000;
	bool say = !w.said_ms || now - w.said_ms >= SAY_MS;
	if (say)
		w.said_ms = now;
	w.untold++;
	atomic_fetch_add(&lost, 1);
	return say;
}

void tg_audit_writer_lose(const char *why)
{
	pthread_mutex_lock(&lock);
	bool say = w.on && count_lost();
	pthread_mutex_unlock(&lock);
	say_lost(say, why);
}

static bool room_for(size_t n)
{
	return w.taken - w.done + n <= TG_AUDIT_QUEUE;
}

bool tg_audit_writer_put(struct tg_slice line, bool wait)
{
	struct timespec t = in_ms(TG_AUDIT_WAIT_MS);
	pthread_mutex_lock(&lock);
	while (wait && w.on && !room_for(line.n) && pthread_cond_timedwait(&written, &lock, &t) != ETIMEDOUT)
		;
	bool was_on = w.on, ok = was_on && room_for(line.n), say = false;
	if (ok) {
		size_t before = w.waiting.len;
		tg_buf_slice(&w.waiting, line);
		ok = !w.waiting.failed; /* no memory */
		w.waiting.failed = false;
		if (ok)
			w.taken += line.n;
		if (!before || (before < GATHER_BYTES && w.waiting.len >= GATHER_BYTES))
			pthread_cond_signal(&more);
	}
	if (was_on && !ok)
		say = count_lost();
	pthread_mutex_unlock(&lock);
	say_lost(say, "the queue is full");
	return ok || !was_on;
}

bool tg_audit_writer_flush(void)
{
	struct timespec t = in_ms(TG_AUDIT_WAIT_MS);
	pthread_mutex_lock(&lock);
	uint64_t mark = w.taken;
	w.flushing++;
	if (w.running && w.done < mark)
		pthread_cond_signal(&more);
	while (w.running && w.done < mark && !atomic_load(&stuck) && pthread_cond_timedwait(&written, &lock, &t) != ETIMEDOUT)
		;
	w.flushing--;
	bool ok = w.done >= mark;
	pthread_mutex_unlock(&lock);
	return ok;
}
