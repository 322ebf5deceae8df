/*
 * The runner's side of a job at the engine (see engine_client.h). A blocking socket and poll: a thread of the runner has nothing else to do meanwhile than to renew its lease, which `tick` does.
 */
#include "jobs/engine_client.h"
#include "http/h1_reader.h"
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

#define PIECE 65536u
#define HEAD_MAX 512u
#define CONNECTS 5

struct call {
	const struct tg_engine_call *how;
	struct tg_h1_reader reader;
	struct tg_buf line;
	bool stopped;
};

/* An engine that stands still takes nothing: the lease is renewed all the same, and who cancels is heard. */
static bool send_all(struct call *c, int fd, struct tg_slice s)
{
	while (s.n) {
		ssize_t k = send(fd, s.p, s.n, MSG_NOSIGNAL | MSG_DONTWAIT);
		if (k > 0) {
			s = (struct tg_slice){ s.p + k, s.n - (size_t)k };
			continue;
		}
		if (k == 0 || (errno != EINTR && errno != EAGAIN))
			return false;
		struct pollfd p = { .fd = fd, .events = POLLOUT };
		(void)poll(&p, 1, TG_ENGINE_TICK_MS);
		if (!c->how->tick(c->how->ctx)) {
			c->stopped = true;
			return false;
		}
	}
	return true;
}

static bool give_line(struct call *c)
{
	struct tg_slice line = tg_buf_view(&c->line);
	if (line.n && !c->how->line(c->how->ctx, line))
		c->stopped = true;
	c->line.len = 0;
	return !c->stopped;
}

static bool piece(void *ctx, const char *p, size_t n)
{
	struct call *c = ctx;
	while (n) {
		const char *lf = memchr(p, '\n', n);
		size_t k = lf ? (size_t)(lf - p) : n;
		tg_buf_put(&c->line, p, k);
		if (c->line.failed || (lf && !give_line(c)))
			return false;
		p += k + (lf != NULL);
		n -= k + (lf != NULL);
	}
	return true;
}

/* True: the answer is whole. */
static bool receive(struct call *c, int fd, char *buf, struct tg_err *err)
{
	tg_err_set(err, "the engine's answer is not valid");
	while (!c->reader.done) {
		struct pollfd p = { .fd = fd, .events = POLLIN };
		int ready = poll(&p, 1, TG_ENGINE_TICK_MS);
		if (ready < 0 && errno != EINTR)
			return false;
		if (!c->how->tick(c->how->ctx)) {
			c->stopped = true;
			return false;
		}
		if (ready <= 0)
			continue;
		ssize_t n = recv(fd, buf, PIECE, 0);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		if (n <= 0) {
			if (tg_h1_reader_eof(&c->reader))
				break;
			tg_err_set(err, "the engine ended");
			return false;
		}
		if (!tg_h1_reader_feed(&c->reader, buf, (size_t)n, piece, c))
			return false;
	}
	return give_line(c); /* a last one without its end */
}

enum tg_engine_end tg_engine_post(struct tg_engine *e, const char *path, struct tg_slice body, const struct tg_engine_call *how, uint16_t *status, struct tg_err *err)
{
	struct call c = { .how = how };
	struct tg_buf request;
	int fd = -1;
	*status = 0;
	for (unsigned i = 0; fd < 0; i++) { /* in pieces: leases end */
		bool there = tg_engine_connect(e, &fd, TG_ENGINE_READY_MS / CONNECTS, err);
		if (!how->tick(how->ctx)) {
			if (there)
				close(fd);
			return TG_ENGINE_STOPPED;
		}
		if (!there && (i + 1 == CONNECTS || tg_engine_state(e, NULL) != TG_ENGINE_STARTING))
			return TG_ENGINE_LOST;
	}
	bool key = how->key_prefix && how->key_prefix[0];
	tg_buf_init(&request, body.n + HEAD_MAX);
	tg_buf_fmt(&request, "POST %s HTTP/1.1\r\nHost: engine\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s%s%s\r\n", path, body.n,
		   key ? "X-Tollgate-Key-Prefix: " : "", key ? how->key_prefix : "", key ? "\r\n" : "");
	tg_buf_slice(&request, body);
	char *buf = malloc(PIECE);
	bool ok = false;
	if (how->inside)
		tg_engine_enter(e);
	tg_h1_reader_init(&c.reader);
	tg_buf_init(&c.line, TG_ENGINE_LINE_MAX);
	if (!buf || request.failed)
		tg_err_set(err, "out of memory");
	else if (send_all(&c, fd, tg_buf_view(&request)) || !c.stopped)
		ok = receive(&c, fd, buf, err); /* also if it takes nothing any more: it may have said why */
	close(fd);
	if (how->inside)
		tg_engine_leave(e, ok);
	*status = c.reader.status;
	tg_h1_reader_free(&c.reader);
	tg_buf_free(&c.line);
	tg_buf_free(&request);
	free(buf);
	return ok ? TG_ENGINE_ANSWERED : c.stopped ? TG_ENGINE_STOPPED : TG_ENGINE_LOST;
}
