#pragma once
/*
 * A stream socket on a loop: TCP, Unix, or TLS over TCP behind the same functions (net/tls.h). Driven by readiness (uv_poll) with plain recv and send, or SSL_read and
 * SSL_write: without TLS that costs one branch.
 * The owner embeds struct tg_conn. Read interest is set once and stays on; write interest exists only after a short send (each change costs two
 * epoll_ctl). What send could not take is kept here and flushed when the socket is writable again; the owner reads tg_conn_pending for back-pressure.
 * Closing is asynchronous: on_closed is called later, and only then may the owner free the memory.
 */
#include "net/loop.h"
#include <sys/uio.h>

#define TG_READABLE 1
#define TG_WRITABLE 2

struct tg_tls_conn; /* net/tls.h */
struct ssl_ctx_st;
enum tg_secured {
	TG_SECURED,            /* the handshake is done */
	TG_SECURED_FAILED,     /* it failed, an alert may be on its way: the connection is a plain one now, good only for a lingering end */
	TG_SECURED_PLAIN_HTTP, /* what came is a plain HTTP request: the same, and it can be answered in plain */
};

struct tg_conn {
	uv_poll_t poll;
	struct tg_loop *loop;
	int fd;
	uint8_t events;        /* interest as registered */
	bool want_read, closing, broken;
	struct tg_timer timer; /* the owner's clock for this connection */
	struct tg_tls_conn *tls; /* NULL: plain; owned */
	char *out;             /* unsent bytes (of TLS: before encryption), owned */
	size_t out_len, out_off;
	/* events: TG_READABLE and/or TG_WRITABLE (writable: only when asked by tg_conn_connecting, or when pending output has gone out) */
	void (*on_event)(struct tg_conn *c, int events);
	void (*on_closed)(struct tg_conn *c);
};

/* Takes fd over (it must be non-blocking). False: the fd is closed and on_closed will not be called. */
bool tg_conn_open(struct tg_conn *c, struct tg_loop *l, int fd);
/* For a socket whose connect is in progress: one TG_WRITABLE event when it is decided (ask tg_conn_error). */
bool tg_conn_open_connecting(struct tg_conn *c, struct tg_loop *l, int fd);
/* Right after tg_conn_open, of an accepted socket: a TLS handshake comes first, and on_secured says how it went; before that there is no event. The deadline is
 * the owner's. Takes a count of ctx. False: no memory (the caller closes). */
bool tg_conn_secure(struct tg_conn *c, struct ssl_ctx_st *ctx, void (*on_secured)(struct tg_conn *c, enum tg_secured how));
/* After TG_SECURED: "TLSv1.3" (static), and whether a session was resumed. NULL: plain. */
const char *tg_conn_tls_version(const struct tg_conn *c, bool *resumed);
void tg_conn_connected(struct tg_conn *c); /* after that event: from now on readable events */
int tg_conn_error(struct tg_conn *c);      /* SO_ERROR */
/* > 0: bytes; 0: the peer has closed; -1: nothing there now; -2: broken. */
long tg_conn_recv(struct tg_conn *c, char *p, size_t n);
/* All of it is sent or kept. False: broken (the caller closes), or no memory. `more`: MSG_MORE, further bytes follow at once. */
bool tg_conn_send(struct tg_conn *c, const struct iovec *v, int n);
static inline bool tg_conn_send1(struct tg_conn *c, const void *p, size_t n)
{
	struct iovec v = { (void *)(uintptr_t)p, n };
	return tg_conn_send(c, &v, 1);
}
static inline size_t tg_conn_pending(const struct tg_conn *c)
{
	return c->out_len - c->out_off;
}
void tg_conn_read(struct tg_conn *c, bool on); /* back-pressure */
void tg_conn_shutdown(struct tg_conn *c);      /* no more output (of TLS: close_notify), then FIN; what is pending is the caller's care. What still comes may be read to drop it */
void tg_conn_close(struct tg_conn *c);         /* idempotent; of TLS: says so, unless output is pending */
void tg_conn_cut(struct tg_conn *c);           /* closes without a word: what was sent is not the whole */
void tg_conn_interest(struct tg_conn *c);      /* net/tls.c: what is wanted of the socket has changed */
static inline void tg_conn_deadline(struct tg_conn *c, uint64_t in_ms)
{
	tg_timer_set(&c->loop->wheel, &c->timer, tg_loop_ms(c->loop) + in_ms);
}
