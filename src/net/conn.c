/*
 * Sockets on a loop (see conn.h). libuv's poll handle is registered once per connection; it reports errors by stopping, which is turned into a
 * readable event here: the owner's next recv then tells what happened, after the bytes that still lie in the socket.
 */
#include "net/conn.h"
#include "net/tls.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

static void on_poll(uv_poll_t *p, int status, int events);

void tg_conn_interest(struct tg_conn *c)
{
	uint8_t want = (uint8_t)((c->want_read ? TG_READABLE : 0) | (tg_conn_pending(c) ? TG_WRITABLE : 0));
	if (c->tls)
		want = tg_tls_interest(c->tls, want);
	if (c->closing || want == c->events)
		return;
	c->events = want;
	if (!want) {
		/* A peer that leaves must be seen even while nothing is wanted from it. */
		uv_poll_start(&c->poll, UV_DISCONNECT, on_poll);
		return;
	}
	uv_poll_start(&c->poll, (want & TG_READABLE ? UV_READABLE : UV_DISCONNECT) | (want & TG_WRITABLE ? UV_WRITABLE : 0), on_poll);
}

static bool flush(struct tg_conn *c)
{
	while (tg_conn_pending(c)) {
		if (c->tls) {
			struct iovec v = { c->out + c->out_off, tg_conn_pending(c) };
			long taken = tg_tls_send(c, &v, 1);
			if (taken < 0)
				return false;
			c->out_off += (size_t)taken;
			if (tg_conn_pending(c))
				return true;
			break;
		}
		ssize_t k = send(c->fd, c->out + c->out_off, tg_conn_pending(c), MSG_NOSIGNAL);
		if (k < 0) {
			if (errno == EINTR)
				continue;
			return errno == EAGAIN;
		}
		c->out_off += (size_t)k;
	}
	free(c->out);
	c->out = NULL;
	c->out_len = c->out_off = 0;
	return true;
}

static void on_poll(uv_poll_t *p, int status, int events)
{
	struct tg_conn *c = p->data;
	if (status < 0) {
		/* libuv has stopped the handle. What still lies in the socket is read first; then recv says how it ended. The receive buffer bounds the turns. */
		c->events = 0;
		c->broken = true;
		if (c->tls && !tg_tls_ready(c, &events))
			return;
		for (int i = 0; i < 1024 && !c->closing; i++)
			c->on_event(c, TG_READABLE);
		return;
	}
	if (c->tls && !tg_tls_ready(c, &events))
		return;
	int tell = 0;
	if (events & UV_WRITABLE) {
		if (tg_conn_pending(c)) {
			if (!flush(c))
				c->broken = true;
			if (!tg_conn_pending(c)) {
				tg_conn_interest(c);
				tell |= TG_WRITABLE;
			}
			if (c->broken)
				tell |= TG_READABLE;
		} else {
			tell |= TG_WRITABLE;
		}
	}
	if (events & (UV_READABLE | UV_DISCONNECT))
		tell |= TG_READABLE;
	if (tell)
		c->on_event(c, tell);
}

static bool open_with(struct tg_conn *c, struct tg_loop *l, int fd, int events)
{
	c->loop = l;
	c->fd = fd;
	c->want_read = true;
	c->closing = c->broken = false;
	c->tls = NULL;
	c->out = NULL;
	c->out_len = c->out_off = 0;
	c->timer = (struct tg_timer){ .fire = c->timer.fire };
	if (uv_poll_init(&l->uv, &c->poll, fd)) {
		close(fd);
		return false;
	}
	c->poll.data = c;
	c->events = (uint8_t)(events == UV_READABLE ? TG_READABLE : TG_READABLE | TG_WRITABLE);
	uv_poll_start(&c->poll, events, on_poll);
	return true;
}

bool tg_conn_open(struct tg_conn *c, struct tg_loop *l, int fd)
{
	return open_with(c, l, fd, UV_READABLE);
}

bool tg_conn_open_connecting(struct tg_conn *c, struct tg_loop *l, int fd)
{
	return open_with(c, l, fd, UV_WRITABLE);
}

void tg_conn_connected(struct tg_conn *c)
{
	c->events = TG_WRITABLE;
	tg_conn_interest(c);
}

int tg_conn_error(struct tg_conn *c)
{
	int e = 0;
	socklen_t n = sizeof e;
	if (getsockopt(c->fd, SOL_SOCKET, SO_ERROR, &e, &n))
		return errno;
	return e;
}

long tg_conn_recv(struct tg_conn *c, char *p, size_t n)
{
	if (c->closing)
		return -2;
	if (c->tls)
		return tg_tls_recv(c, p, n);
	for (;;) {
		ssize_t k = recv(c->fd, p, n, 0);
		if (k >= 0)
			return k;
		if (errno == EINTR)
			continue;
		return errno == EAGAIN && !c->broken ? -1 : -2;
	}
}

bool tg_conn_send(struct tg_conn *c, const struct iovec *v, int n)
{
	if (c->closing || c->broken)
		return false;
	size_t sent = 0, total = 0;
	for (int i = 0; i < n; i++)
		total += v[i].iov_len;
	if (!total)
		return true;
	if (c->tls && !tg_conn_pending(c)) {
		long k = tg_tls_send(c, v, n);
		if (k < 0) {
			c->broken = true;
			return false;
		}
		sent = (size_t)k;
		if (sent == total)
			return true;
	} else if (!tg_conn_pending(c)) {
		ssize_t k;
		do {
			if (n == 1) {
				k = send(c->fd, v[0].iov_base, v[0].iov_len, MSG_NOSIGNAL);
			} else {
				struct msghdr m = { .msg_iov = (struct iovec *)(uintptr_t)v, .msg_iovlen = (size_t)n };
				k = sendmsg(c->fd, &m, MSG_NOSIGNAL);
			}
		} while (k < 0 && errno == EINTR);
		if (k < 0 && errno != EAGAIN) {
			c->broken = true;
			return false;
		}
		sent = k < 0 ? 0 : (size_t)k;
		if (sent == total)
			return true;
	}
	size_t left = total - sent, have = tg_conn_pending(c);
	char *grown = malloc(have + left);
	if (!grown)
		return false;
	if (have)
		memcpy(grown, c->out + c->out_off, have);
	for (int i = 0; i < n; i++) {
		if (sent >= v[i].iov_len) {
			sent -= v[i].iov_len;
			continue;
		}
		memcpy(grown + have, (char *)v[i].iov_base + sent, v[i].iov_len - sent);
		have += v[i].iov_len - sent;
		sent = 0;
	}
	free(c->out);
	c->out = grown;
	c->out_off = 0;
	c->out_len = have;
	tg_conn_interest(c);
	return true;
}

void tg_conn_read(struct tg_conn *c, bool on)
{
	if (c->want_read != on) {
		c->want_read = on;
		tg_conn_interest(c);
		if (on && c->tls)
			tg_tls_resume(c);
	}
}

void tg_conn_shutdown(struct tg_conn *c)
{
	if (c->tls)
		tg_tls_farewell(c);
	shutdown(c->fd, SHUT_WR);
}

static void closed(uv_handle_t *h)
{
	struct tg_conn *c = h->data;
	close(c->fd);
	c->fd = -1;
	c->on_closed(c);
}

void tg_conn_close(struct tg_conn *c)
{
	if (c->closing)
		return;
	c->closing = true;
	if (c->tls) {
		if (!c->broken && !tg_conn_pending(c))
			tg_tls_farewell(c);
		tg_tls_free(c);
	}
	tg_timer_cancel(&c->loop->wheel, &c->timer);
	free(c->out);
	c->out = NULL;
	c->out_len = c->out_off = 0;
	uv_poll_stop(&c->poll);
	/* The peer learns it in this turn of the loop; the descriptor is given back when libuv has let go of it. */
	shutdown(c->fd, SHUT_RDWR);
	uv_close((uv_handle_t *)&c->poll, closed);
}

void tg_conn_cut(struct tg_conn *c)
{
	c->broken = true;
	tg_conn_close(c);
}
