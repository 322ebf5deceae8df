/*
 * The probe: is a worker there and willing? One GET of /health on a connection of its own, with blocking calls under poll: it runs on the job pool, never
 * on a loop. Any HTTP answer counts as alive but a server error; 404 says that somebody listens who has no /health.
 */
#include "pool/model.h"
#include <errno.h>
#include <poll.h>
#include <unistd.h>

static bool ready(int fd, short what, uint64_t until_ms)
{
	for (;;) {
		uint64_t now = uv_hrtime() / 1000000u;
		if (now >= until_ms)
			return false;
		struct pollfd p = { .fd = fd, .events = what };
		int r = poll(&p, 1, (int)(until_ms - now));
		if (r > 0)
			return true;
		if (r == 0 || errno != EINTR)
			return false;
	}
}

static bool connected(int fd, const struct tg_sockaddr *a, uint64_t until_ms)
{
	if (connect(fd, (const struct sockaddr *)&a->ss, a->len) == 0)
		return true;
	int e = 0;
	socklen_t n = sizeof e;
	return errno == EINPROGRESS && ready(fd, POLLOUT, until_ms) && getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0;
}

/* The status of the answer, 0: none. */
static int exchange(int fd, const struct tg_worker *w, uint64_t until_ms)
{
	struct tg_buf b;
	tg_buf_init(&b, 128u << 10);
	tg_buf_lit(&b, "GET ");
	tg_buf_cstr(&b, w->base);
	tg_buf_lit(&b, "/health HTTP/1.1\r\n");
	tg_buf_put(&b, w->fixed, w->fixed_len);
	tg_buf_lit(&b, "Accept: */*\r\nConnection: close\r\n\r\n");
	size_t off = 0;
	while (!b.failed && off < b.len && ready(fd, POLLOUT, until_ms)) {
		ssize_t k = send(fd, b.p + off, b.len - off, MSG_NOSIGNAL);
		if (k <= 0 && errno != EAGAIN && errno != EINTR)
			break;
		off += k > 0 ? (size_t)k : 0;
	}
	bool sent = !b.failed && off == b.len;
	explicit_bzero(b.p, b.len);
	tg_buf_free(&b);
	char line[16];
	size_t have = 0;
	while (sent && have < 12 && ready(fd, POLLIN, until_ms)) {
		ssize_t k = recv(fd, line + have, 12 - have, 0);
		if (k == 0 || (k < 0 && errno != EAGAIN && errno != EINTR))
			break;
		have += k > 0 ? (size_t)k : 0;
	}
	if (have < 12 || memcmp(line, "HTTP/1.", 7) != 0 || line[8] != ' ')
		return 0;
	/* What comes at once is read too: closing over unread bytes would reset the connection under a worker that is still writing. */
	char rest[4096];
	uint64_t soon = uv_hrtime() / 1000000u + 50;
	for (int i = 0; i < 16 && ready(fd, POLLIN, soon < until_ms ? soon : until_ms); i++)
		if (recv(fd, rest, sizeof rest, 0) <= 0)
			break;
	int status = 0;
	for (int i = 9; i < 12; i++) {
		if (line[i] < '0' || line[i] > '9')
			return 0;
		status = status * 10 + (line[i] - '0');
	}
	return status;
}

bool tg_worker_probe(struct tg_worker *w, int timeout_ms)
{
	if (!tg_worker_resolve(w) && !atomic_load(&w->addr))
		return false;
	const struct tg_sockaddr *a = atomic_load(&w->addr);
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	uint64_t until = uv_hrtime() / 1000000u + (uint64_t)timeout_ms;
	int status = connected(fd, a, until) ? exchange(fd, w, until) : 0;
	close(fd);
	return status >= 200 && (status < 500 || status == 501);
}
