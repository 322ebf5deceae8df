/*
 * Binding and accepting. SO_REUSEPORT would let a second gate of the same user share our port without a word, so each TCP address is first bound
 * once without it: a taken port is found there.
 */
#include "net/listener.h"
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 64

/* "host:port" or "[v6]:port" into a socket address; numbers only: names would make the start wait for DNS. */
static bool parse_tcp(const char *spec, struct sockaddr_storage *ss, socklen_t *len)
{
	const char *colon = strrchr(spec, ':');
	if (!colon || colon == spec)
		return false;
	char host[64];
	size_t n = (size_t)(colon - spec);
	if (n >= sizeof host)
		return false;
	memcpy(host, spec, n);
	host[n] = 0;
	char *end;
	errno = 0;
	unsigned long port = strtoul(colon + 1, &end, 10);
	if (!colon[1] || *end || port > 65535 || colon[1] == '-' || colon[1] == '+')
		return false;
	memset(ss, 0, sizeof *ss);
	if (host[0] == '[' && host[n - 1] == ']') {
		struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)ss;
		host[n - 1] = 0;
		s6->sin6_family = AF_INET6;
		s6->sin6_port = htons((uint16_t)port);
		*len = sizeof *s6;
		return inet_pton(AF_INET6, host + 1, &s6->sin6_addr) == 1;
	}
	struct sockaddr_in *s4 = (struct sockaddr_in *)ss;
	s4->sin_family = AF_INET;
	s4->sin_port = htons((uint16_t)port);
	*len = sizeof *s4;
	return inet_pton(AF_INET, strcmp(host, "localhost") == 0 ? "127.0.0.1" : host, &s4->sin_addr) == 1;
}

static int tcp_socket(const struct sockaddr_storage *ss, socklen_t len, bool reuseport, bool do_listen)
{
	int one = 1, fd = socket(ss->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	if (reuseport)
		setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, &one, sizeof one);
	if (ss->ss_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof one);
	if (bind(fd, (const struct sockaddr *)ss, len) || (do_listen && listen(fd, BACKLOG))) {
		int e = errno;
		close(fd);
		errno = e;
		return -1;
	}
	return fd;
}

static enum tg_bind_result fault(const char *spec, struct tg_err *err)
{
	tg_err_set(err, "cannot listen on %s: %s", spec, strerror(errno));
	return errno == EADDRINUSE ? TG_BIND_TAKEN : TG_BIND_FAILED;
}

/* address: spec without its prefix. */
static enum tg_bind_result bind_tcp(struct tg_listen_addr *a, const char *address, const char *spec, struct tg_err *err)
{
	struct sockaddr_storage ss;
	socklen_t len;
	if (!parse_tcp(address, &ss, &len)) {
		tg_err_set(err, "cannot listen on %s: not an address of the form 127.0.0.1:9001, [::1]:9001 or unix:/path (before the first two perhaps tls: or redirect:)", spec);
		return TG_BIND_FAILED;
	}
	int probe = tcp_socket(&ss, len, false, false);
	if (probe < 0)
		return fault(spec, err);
	getsockname(probe, (struct sockaddr *)&ss, &len); /* the port that 0 became */
	close(probe);
	for (unsigned i = 0; i < a->nfds; i++)
		if ((a->fds[i] = tcp_socket(&ss, len, a->nfds > 1, true)) < 0)
			return fault(spec, err);
	struct tg_addr self;
	tg_addr_from_sockaddr(&self, (struct sockaddr *)&ss);
	a->loopback = tg_addr_is_loopback(&self);
	char ip[INET6_ADDRSTRLEN];
	const char *kind = tg_listen_prefixes[a->kind];
	if (ss.ss_family == AF_INET6) {
		struct sockaddr_in6 *s6 = (struct sockaddr_in6 *)&ss;
		a->port = ntohs(s6->sin6_port);
		snprintf(a->text, sizeof a->text, "%s[%s]:%u", kind, inet_ntop(AF_INET6, &s6->sin6_addr, ip, sizeof ip), a->port);
	} else {
		struct sockaddr_in *s4 = (struct sockaddr_in *)&ss;
		a->port = ntohs(s4->sin_port);
		snprintf(a->text, sizeof a->text, "%s%s:%u", kind, inet_ntop(AF_INET, &s4->sin_addr, ip, sizeof ip), a->port);
	}
	return TG_BIND_OK;
}

static enum tg_bind_result bind_unix(struct tg_listen_addr *a, const char *spec, struct tg_err *err)
{
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	const char *path = spec + 5;
	size_t n = strlen(path);
	if (!n || n >= sizeof un.sun_path) {
		tg_err_set(err, "cannot listen on %s: the path must have 1 to %zu characters", spec, sizeof un.sun_path - 1);
		return TG_BIND_FAILED;
	}
	memcpy(un.sun_path, path, n + 1);
	/* A socket file left by a dead gate is removed; one that answers is somebody's. */
	struct stat st;
	if (lstat(path, &st) == 0) {
		int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
		bool alive = probe >= 0 && connect(probe, (struct sockaddr *)&un, sizeof un) == 0;
		int why = errno;
		if (probe >= 0)
			close(probe);
		if (alive || !S_ISSOCK(st.st_mode) || why != ECONNREFUSED) {
			errno = EADDRINUSE;
			return fault(spec, err);
		}
		unlink(path);
	}
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	mode_t old = umask(0117);
	int bad = fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof un) || listen(fd, BACKLOG);
	int why = errno;
	umask(old);
	errno = why;
	if (bad) {
		if (fd >= 0)
			close(fd);
		errno = why;
		return fault(spec, err);
	}
	a->fds[0] = fd;
	for (unsigned i = 1; i < a->nfds; i++)
		if ((a->fds[i] = fcntl(fd, F_DUPFD_CLOEXEC, 0)) < 0)
			return fault(spec, err);
	a->unlink_path = strdup(path);
	snprintf(a->text, sizeof a->text, "%s", spec);
	return TG_BIND_OK;
}

enum tg_bind_result tg_listen_bind(struct tg_listen_addr *a, const char *spec, unsigned nloops, struct tg_err *err)
{
	struct tg_slice address = tg_slice_cstr(spec);
	enum tg_listen_kind kind = tg_listen_kind_of(&address);
	*a = (struct tg_listen_addr){ .kind = kind, .unix_socket = strncmp(spec, "unix:", 5) == 0, .nfds = nloops };
	a->fds = malloc(nloops * sizeof *a->fds);
	if (!a->fds) {
		tg_err_set(err, "out of memory");
		return TG_BIND_FAILED;
	}
	for (unsigned i = 0; i < nloops; i++)
		a->fds[i] = -1;
	enum tg_bind_result r = a->unix_socket ? bind_unix(a, spec, err) : bind_tcp(a, address.p, spec, err);
	if (r != TG_BIND_OK)
		tg_listen_free(a);
	return r;
}

void tg_listen_free(struct tg_listen_addr *a)
{
	for (unsigned i = 0; a->fds && i < a->nfds; i++)
		if (a->fds[i] >= 0)
			close(a->fds[i]);
	free(a->fds);
	a->fds = NULL;
	if (a->unlink_path)
		unlink(a->unlink_path);
	free(a->unlink_path);
	a->unlink_path = NULL;
}

static void on_readable(uv_poll_t *p, int status, int events);

static void on_resume(uv_timer_t *t)
{
	struct tg_listener *l = t->data;
	if (!l->closing)
		uv_poll_start(&l->poll, UV_READABLE, on_readable);
}

/* False: nothing more to accept now. */
static bool accept_one(struct tg_listener *l)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	int fd = accept4(l->fd, (struct sockaddr *)&ss, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (fd < 0) {
		if (errno == EINTR || errno == ECONNABORTED)
			return true;
		if (errno != EAGAIN && !l->closing) {
			uv_poll_stop(&l->poll);
			uv_timer_start(&l->pause, on_resume, 100, 0);
		}
		return false;
	}
	struct tg_addr peer;
	if (l->addr->unix_socket) {
		peer = (struct tg_addr){ .unix_peer = true };
	} else {
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		tg_addr_from_sockaddr(&peer, (struct sockaddr *)&ss);
	}
	l->on_accept(l, fd, &peer);
	return true;
}

static void on_readable(uv_poll_t *p, int status, int events)
{
	struct tg_listener *l = p->data;
	(void)status, (void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(l); i++)
		;
}

bool tg_listener_start(struct tg_listener *l, struct tg_loop *loop, const struct tg_listen_addr *a)
{
	l->loop = loop;
	l->addr = a;
	l->fd = a->fds[loop->index];
	l->closing = false;
	if (uv_poll_init(&loop->uv, &l->poll, l->fd))
		return false;
	uv_timer_init(&loop->uv, &l->pause);
	l->poll.data = l->pause.data = l;
	return uv_poll_start(&l->poll, UV_READABLE, on_readable) == 0;
}

void tg_listener_stop(struct tg_listener *l)
{
	if (l->closing)
		return;
	l->closing = true;
	uv_close((uv_handle_t *)&l->pause, NULL);
	uv_poll_stop(&l->poll);
	uv_close((uv_handle_t *)&l->poll, NULL);
	/* A client whose handshake is done believes that it is connected: closing would reset it. Between the last look and close lie microseconds; libuv allows the
	 * descriptor to be closed once its poll is stopped. */
	for (int i = 0; i < BACKLOG && accept_one(l); i++)
		;
	close(l->fd);
	l->addr->fds[l->loop->index] = -1;
}
