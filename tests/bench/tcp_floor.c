/*
 * tcp_floor.c - the do-nothing TCP proxy: the least CPU that a user-space proxy can spend on this machine.
 *
 *   tcp_floor LISTEN_PORT UPSTREAM_PORT     127.0.0.1 only, one thread, level-triggered epoll, one upstream connection per client
 *
 * It parses nothing, checks nothing, logs nothing and keeps no output that a peer does not take (it waits for room: fine where both ends are
 * fast). A gateway's CPU per request is read against this. SIGTERM ends it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct side {
	int fd;
	struct side *peer;
	bool dead;
};

static volatile sig_atomic_t quit;
static char buf[65536];

static void on_signal(int s)
{
	(void)s;
	quit = 1;
}

static bool send_all(int fd, size_t n)
{
	for (size_t off = 0; off < n;) {
		ssize_t w = send(fd, buf + off, n - off, MSG_NOSIGNAL);
		if (w > 0) {
			off += (size_t)w;
		} else if (w < 0 && errno == EAGAIN) {
			struct pollfd p = { .fd = fd, .events = POLLOUT };
			poll(&p, 1, 1000);
		} else {
			return false;
		}
	}
	return true;
}

static void pump(struct side *s)
{
	for (;;) {
		ssize_t k = recv(s->fd, buf, sizeof buf, 0);
		if (k < 0 && (errno == EAGAIN || errno == EINTR))
			return;
		if (k <= 0 || !send_all(s->peer->fd, (size_t)k)) {
			s->dead = true;
			return;
		}
		if (k < (ssize_t)sizeof buf)
			return;
	}
}

static void open_pair(int ep, int client, const struct sockaddr_in *upstream)
{
	int one = 1, up = socket(AF_INET, SOCK_STREAM, 0);
	struct side *pair = calloc(2, sizeof *pair);
	if (up < 0 || !pair || connect(up, (const void *)upstream, sizeof *upstream)) {
		close(client);
		if (up >= 0)
			close(up);
		free(pair);
		return;
	}
	fcntl(up, F_SETFL, O_NONBLOCK);
	setsockopt(client, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	setsockopt(up, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	pair[0] = (struct side){ .fd = client, .peer = &pair[1] };
	pair[1] = (struct side){ .fd = up, .peer = &pair[0] };
	for (int i = 0; i < 2; i++) {
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = &pair[i] };
		epoll_ctl(ep, EPOLL_CTL_ADD, pair[i].fd, &e);
	}
}

int main(int argc, char **argv)
{
	if (argc != 3) {
		fprintf(stderr, "usage: tcp_floor LISTEN_PORT UPSTREAM_PORT\n");
		return 2;
	}
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	int listener = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
	setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)strtol(argv[1], NULL, 10)), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	struct sockaddr_in upstream = a;
	upstream.sin_port = htons((uint16_t)strtol(argv[2], NULL, 10));
	if (bind(listener, (void *)&a, sizeof a) || listen(listener, 4096)) {
		perror("tcp_floor");
		return 1;
	}
	int ep = epoll_create1(0);
	struct epoll_event first = { .events = EPOLLIN }, events[512];
	epoll_ctl(ep, EPOLL_CTL_ADD, listener, &first);
	while (!quit) {
		int n = epoll_wait(ep, events, 512, 1000);
		for (int i = 0; i < n; i++) {
			struct side *s = events[i].data.ptr;
			if (!s) {
				int fd;
				while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0)
					open_pair(ep, fd, &upstream);
				continue;
			}
			if (s->fd < 0)
				continue;
			pump(s);
			if (s->dead) {
				/* the pair itself stays allocated: the other side may still be in this batch of events */
				close(s->fd);
				close(s->peer->fd);
				s->fd = s->peer->fd = -1;
			}
		}
	}
	return 0;
}
