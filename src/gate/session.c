/*
 * A client's connection: heads out of bytes, one exchange at a time, answers in the order of the requests, and an end that the client can see.
 *
 * Bytes are parsed where they were received. Only what cannot be used yet is kept: an incomplete head, or the next requests of a pipelining client while
 * one is being answered (at most TG_RBUF bytes, then reading pauses). After an answer given before the body's end the connection lingers: our side is shut, what
 * the client still sends is read and dropped within bounds, so that no reset overtakes the answer (RFC 9112 section 9.6).
 */
#include "gate/exchange.h"
#include <linux/sockios.h>
#include <poll.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <unistd.h>

#define DRAIN_IDLE_MS 1000 /* how long a request that is on its way to an idle connection is waited for */
#define LINGER_MS 2000
#define LINGER_BYTES (16u << 20)

enum state { IDLE, HEAD, BUSY, FLUSH, LINGER };

struct tg_session {
	struct tg_conn conn; /* first: callbacks cast */
	struct tg_gate_loop *gl;
	struct tg_session *next, **pprev;
	struct tg_addr peer;
	bool on_loopback;    /* the listener's address, not the connection's: 0.0.0.0 is none */
	struct tg_exchange *x;
	char *in;            /* kept bytes, owned */
	uint32_t in_len;
	uint8_t state;       /* enum state */
	bool parsing, gone;
	bool securing;       /* a TLS handshake is under way */
	bool redirect;       /* of a redirect: listener */
	const char *tls;     /* version; NULL: plain, or not yet */
	size_t scanned;      /* of the kept head */
	char *avail;         /* bytes behind the head being worked on, within one callback */
	size_t avail_n, took;
	uint64_t lingered, unsent; /* unsent: at the last look of the write clock */
};

struct tg_conn *tg_session_conn(struct tg_session *s)
{
	return &s->conn;
}

const struct tg_addr *tg_session_peer(const struct tg_session *s)
{
	return &s->peer;
}

bool tg_session_on_loopback(const struct tg_session *s)
{
	return s->on_loopback;
}

const char *tg_session_tls(const struct tg_session *s)
{
	return s->tls;
}

struct tg_session *tg_session_next(struct tg_session *s)
{
	return s->next;
}

struct tg_exchange *tg_session_exchange(struct tg_session *s)
{
	return s->x;
}

bool tg_session_self(struct tg_session *s, struct tg_addr *self)
{
	struct sockaddr_storage ss;
	socklen_t len = sizeof ss;
	if (s->peer.unix_peer || getsockname(s->conn.fd, (struct sockaddr *)&ss, &len))
		return false;
	tg_addr_from_sockaddr(self, (struct sockaddr *)&ss);
	return true;
}

struct tg_slice tg_session_avail(struct tg_session *s, char **p)
{
	*p = s->avail;
	return (struct tg_slice){ s->avail, s->avail_n };
}

void tg_session_took(struct tg_session *s, size_t n)
{
	s->took = n;
}

struct tg_slice tg_session_kept(struct tg_session *s, char **p)
{
	*p = s->in;
	return (struct tg_slice){ s->in, s->in_len };
}

void tg_session_kept_took(struct tg_session *s, size_t n)
{
	s->in_len -= (uint32_t)n;
	if (s->in_len) {
		memmove(s->in, s->in + n, s->in_len);
	} else {
		free(s->in);
		s->in = NULL;
	}
}

void tg_session_body_clock(struct tg_session *s)
{
	tg_conn_deadline(&s->conn, s->gl->snap->config->body_idle_ms);
}

/* What the client has not taken yet, the kernel's part included. */
static uint64_t unsent(const struct tg_session *s)
{
	int queued = 0;
	(void)ioctl(s->conn.fd, SIOCOUTQ, &queued);
	return tg_conn_pending(&s->conn) + (queued > 0 ? (uint64_t)queued : 0);
}

void tg_session_write_clock(struct tg_session *s)
{
	s->unsent = unsent(s);
	tg_conn_deadline(&s->conn, s->gl->snap->config->write_stall_ms);
}

static void on_closed(struct tg_conn *c)
{
	struct tg_session *s = (struct tg_session *)c;
	struct tg_gate_loop *gl = s->gl;
	*s->pprev = s->next;
	if (s->next)
		s->next->pprev = s->pprev;
	gl->nsessions--;
	if (s->securing)
		tg_metrics_count(gl->metrics, TG_COUNT_TLS_FAILED);
	atomic_fetch_sub(&gl->gate->connections, 1);
	tg_metrics_gauge(gl->metrics, TG_GAUGE_CONNECTIONS, -1);
	free(s->in);
	free(s);
	if (gl->draining)
		tg_gate_session_ended(gl);
}

/* The connection must not be closed under an exchange: its end comes first. */
static void close_now(struct tg_session *s)
{
	if (!s->x)
		tg_conn_close(&s->conn);
}

static void linger(struct tg_session *s)
{
	s->state = LINGER;
	s->in_len = 0;
	tg_conn_shutdown(&s->conn);
	tg_conn_read(&s->conn, true);
	tg_conn_deadline(&s->conn, LINGER_MS);
}

/* The last answer is written: out with it, then the end. */
static void end_session(struct tg_session *s)
{
	if (s->gone || s->conn.broken) {
		close_now(s);
	} else if (tg_conn_pending(&s->conn)) {
		s->state = FLUSH;
		tg_conn_read(&s->conn, false);
		if (s->gl->cutting)
			tg_conn_deadline(&s->conn, LINGER_MS);
		else
			tg_session_write_clock(s);
	} else {
		linger(s);
	}
}

static bool keep(struct tg_session *s, const char *p, size_t n)
{
	if (!n)
		return true;
	char *grown = realloc(s->in, s->in_len + n);
	if (!grown)
		return false;
	memcpy(grown + s->in_len, p, n);
	s->in = grown;
	s->in_len += (uint32_t)n;
	return true;
}

static struct tg_exchange *begin(struct tg_session *s)
{
	struct tg_exchange *x = tg_exchange_new(s->gl, s);
	if (!x) {
		tg_conn_close(&s->conn);
		return NULL;
	}
	s->x = x;
	s->state = BUSY;
	tg_timer_stop(&s->conn.timer);
	tg_metrics_gauge(s->gl->metrics, TG_GAUGE_IN_FLIGHT, 1);
	return x;
}

static void refuse(struct tg_session *s, enum tg_refusal why)
{
	struct tg_exchange *x = begin(s);
	if (!x)
		return;
	tg_answer_refusal(x, why);
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static void next_request(struct tg_session *s);
static void client_gone(struct tg_session *s);

/* Works through p[0, n): as many requests as can be answered at once. Returns how many bytes are done with. */
static size_t parse(struct tg_session *s, char *p, size_t n)
{
	size_t off = 0;
	s->parsing = true;
	while (off < n && !s->x && (s->state == IDLE || s->state == HEAD) && !s->conn.closing && !tg_conn_pending(&s->conn)) {
		const struct tg_config *c = s->gl->snap->config;
		struct tg_h1_limits lim = { .max_head = c->max_header_bytes, .max_headers = c->max_headers };
		enum tg_refusal why = TG_REFUSE_NONE;
		size_t start = 0;
		long len = tg_h1_head_end(p + off, n - off, &s->scanned, &start, true, &lim, &why);
		if (len < 0) {
			s->scanned = 0;
			refuse(s, why);
			off = n;
			break;
		}
		if (!len) {
			if (s->state == IDLE) {
				s->state = HEAD;
				tg_conn_deadline(&s->conn, c->head_ms);
			}
			break;
		}
		s->scanned = 0;
		if (!tg_h1_parse_request(p + off + start, (size_t)len, &lim, &s->gl->head, &why)) {
			refuse(s, why);
			off = n;
			break;
		}
		off += start + (size_t)len;
		struct tg_exchange *x = begin(s);
		if (!x)
			break;
		x->head = &s->gl->head;
		s->avail = p + off;
		s->avail_n = n - off;
		s->took = 0;
		if (s->redirect) {
			tg_redirect_answer(x);
			x->stage = TG_STAGE_SETTLE;
		}
		tg_corridor_run(x);
		off += s->took;
		s->avail = NULL;
		s->avail_n = s->took = 0;
		/* Still there: what it needs of the head must outlive these bytes. */
		if (s->x && s->x->head && !tg_exchange_keep_head(s->x))
			tg_exchange_abort(s->x, "memory");
	}
	s->parsing = false;
	return off;
}

/* Fresh bytes in the loop's buffer. */
static void fresh(struct tg_session *s, char *p, size_t n)
{
	if (s->in_len) {
		if (s->in_len + n > TG_RBUF * 4u || !keep(s, p, n)) {
			client_gone(s);
			return;
		}
		next_request(s);
		return;
	}
	size_t done = parse(s, p, n);
	if (done < n && s->state != LINGER && s->state != FLUSH && !s->conn.closing && !keep(s, p + done, n - done))
		client_gone(s);
}

/* Goes on with what was kept. */
static void next_request(struct tg_session *s)
{
	if (!s->in_len || s->conn.closing)
		return;
	/* parse may run a handler that reads these bytes; they are freed or moved only afterwards. */
	char *bytes = s->in;
	size_t n = s->in_len;
	s->in = NULL;
	s->in_len = 0;
	size_t done = parse(s, bytes, n);
	if (done < n && s->state != LINGER && s->state != FLUSH && !s->conn.closing) {
		memmove(bytes, bytes + done, n - done);
		s->in = bytes;
		s->in_len = (uint32_t)(n - done);
	} else {
		free(bytes);
	}
}

/* Where draining has begun behind the head of the last answer, which promised to go on, the next request may be on its way, and is told. */
static void idle_clock(struct tg_session *s)
{
	tg_conn_deadline(&s->conn, s->gl->draining ? DRAIN_IDLE_MS : s->gl->snap->config->keepalive_ms);
}

void tg_session_answered(struct tg_session *s)
{
	struct tg_exchange *x = s->x;
	bool closes = x->closes || !x->keep_alive || x->body_left, cut = x->aborted;
	s->x = NULL;
	tg_metrics_gauge(s->gl->metrics, TG_GAUGE_IN_FLIGHT, -1);
	tg_exchange_free(x);
	if (cut) {
		s->gone = true;
		tg_conn_cut(&s->conn);
		return;
	}
	if (closes) {
		end_session(s);
		return;
	}
	s->state = IDLE;
	if (tg_conn_pending(&s->conn)) { /* it does not take its answers: nothing more is read or begun until it does */
		tg_conn_read(&s->conn, false);
		tg_session_write_clock(s);
		return;
	}
	tg_conn_read(&s->conn, true);
	idle_clock(s);
	if (!s->parsing)
		next_request(s);
}

/* ---- events ---- */

static void client_gone(struct tg_session *s)
{
	s->gone = true;
	if (s->x)
		tg_exchange_abort(s->x, "client_gone");
	if (s->x) {
		tg_conn_read(&s->conn, false); /* its slot is still on the way; settled when that arrives */
		return;
	}
	close_now(s);
}

/* What is not read may be waited for all the same: a client that has left is told by the socket, whatever still lies in it. */
static bool has_left(struct tg_session *s)
{
	struct pollfd p = { .fd = s->conn.fd, .events = POLLRDHUP };
	return s->conn.broken || (poll(&p, 1, 0) == 1 && (p.revents & (POLLRDHUP | POLLHUP | POLLERR)));
}

static void read_body(struct tg_session *s)
{
	struct tg_exchange *x = s->x;
	char *p;
	if (!s->conn.want_read) { /* an upload that is held back */
		if (has_left(s))
			client_gone(s);
		return;
	}
	size_t room = tg_receive_room(x, &p);
	bool direct = room > 0;
	if (!direct) {
		p = s->gl->loop->rbuf;
		room = TG_RBUF;
	}
	long n = tg_conn_recv(&s->conn, p, room);
	if (n == -1)
		return;
	if (n <= 0) {
		client_gone(s);
		return;
	}
	size_t used = (size_t)n;
	tg_session_body_clock(s);
	if (direct)
		tg_receive_took(x, (size_t)n);
	else if (!tg_receive_feed(x, p, (size_t)n, &used))
		x->stage = TG_STAGE_SETTLE;
	if (x->intake && x->stage != TG_STAGE_SETTLE)
		return;
	tg_timer_stop(&s->conn.timer);
	/* Pipelined bytes behind the body are kept before anything else uses the buffer. */
	if (used < (size_t)n && !x->body_left && !keep(s, p + used, (size_t)n - used)) {
		tg_exchange_abort(x, "memory");
		return;
	}
	tg_corridor_run(x);
	if (s->x && s->x->head)
		tg_exchange_keep_head(s->x);
}

static void on_readable(struct tg_session *s)
{
	if (s->state == BUSY && s->x && s->x->intake) {
		read_body(s);
		return;
	}
	char *p = s->gl->loop->rbuf;
	long n = tg_conn_recv(&s->conn, p, TG_RBUF);
	if (n == -1)
		return;
	if (n <= 0) {
		client_gone(s);
		return;
	}
	switch (s->state) {
	case LINGER:
		s->lingered += (uint64_t)n;
		if (s->lingered > LINGER_BYTES)
			close_now(s);
		break;
	case FLUSH:
		break;
	case BUSY:
		if (s->x && s->x->delayed && s->x->body_left) { /* a refusal that waits: nobody will read this body, and the connection ends with it */
			s->lingered += (uint64_t)n;
			if (s->lingered > LINGER_BYTES)
				client_gone(s);
		} else if (s->in_len + (size_t)n > TG_RBUF * 2u || !keep(s, p, (size_t)n))
			client_gone(s);
		else if (s->in_len >= TG_RBUF)
			tg_conn_read(&s->conn, false);
		break;
	default:
		fresh(s, p, (size_t)n);
	}
}

static void on_event(struct tg_conn *c, int events)
{
	struct tg_session *s = (struct tg_session *)c;
	if (events & TG_WRITABLE) {
		if (s->state == FLUSH) {
			linger(s);
		} else if (s->x) {
			if (!s->x->intake) { /* else it is the body's clock that runs */
				tg_timer_stop(&c->timer);
				tg_relay_client_writable(s->x);
			}
		} else if (s->state == IDLE) {
			tg_conn_read(c, true);
			idle_clock(s);
			next_request(s);
		}
	}
	if ((events & TG_READABLE) && !c->closing)
		on_readable(s);
}

/* A client that takes little by little has not stalled: we are told only when much has gone. But a large answer is held in memory for it: of that it must take enough. */
static bool takes(const struct tg_session *s)
{
	uint64_t left = unsent(s), least = s->x && s->x->shared ? (uint64_t)TG_ANSWER_RATE * s->gl->snap->config->write_stall_ms / 1000 : 0;
	return left < s->unsent && s->unsent - left >= least;
}

static void on_timer(struct tg_timer *t)
{
	struct tg_session *s = (struct tg_session *)((char *)t - offsetof(struct tg_session, conn.timer));
	bool writing = tg_conn_pending(&s->conn) && s->state != HEAD && s->state != LINGER && !(s->x && s->x->intake);
	if (writing && !s->gl->cutting && takes(s)) {
		tg_session_write_clock(s);
		return;
	}
	switch (s->state) {
	case HEAD: {
		struct tg_exchange *x = begin(s);
		if (!x)
			break;
		x->closes = true;
		tg_answer_problem(x, TG_E_timeout, "head_timeout", "The request head did not arrive in time.", NULL, NULL);
		x->stage = TG_STAGE_SETTLE;
		tg_corridor_run(x);
		break;
	}
	case BUSY:
		if (s->x && s->x->intake) {
			tg_receive_timeout(s->x);
			s->x->stage = TG_STAGE_SETTLE;
			tg_corridor_run(s->x);
		} else if (s->x) {
			s->gone = true;
			tg_exchange_abort(s->x, "write_timeout");
		}
		break;
	default:
		close_now(s);
	}
}

/* ---- life ---- */

/* The TLS handshake has ended, one way or the other. */
static void on_secured(struct tg_conn *c, enum tg_secured how)
{
	struct tg_session *s = (struct tg_session *)c;
	bool resumed = false;
	s->securing = false;
	if (how == TG_SECURED) {
		s->tls = tg_conn_tls_version(c, &resumed);
		tg_metrics_count(s->gl->metrics, TG_COUNT_TLS_HANDSHAKES);
		if (resumed)
			tg_metrics_count(s->gl->metrics, TG_COUNT_TLS_RESUMED);
		tg_conn_deadline(c, s->gl->draining ? DRAIN_IDLE_MS : s->gl->snap->config->head_ms);
		return;
	}
	tg_metrics_count(s->gl->metrics, TG_COUNT_TLS_FAILED);
	if (how == TG_SECURED_PLAIN_HTTP)
		refuse(s, TG_REFUSE_plain_http);
	else if (c->broken)
		tg_conn_close(c);
	else
		linger(s); /* the alert says why; a reset must not overtake it */
}

/* Over the bound. A TLS client could not read an answer before a handshake, which is what is to be saved. */
static void turn_away(struct tg_gate_loop *gl, const struct tg_listener *l, int fd)
{
	static const char full[] = "HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nRetry-After: 1\r\nConnection: close\r\n\r\n";
	tg_metrics_refusal(gl->metrics, "too_many_connections");
	if (l->addr->kind != TG_LISTEN_TLS)
		(void)!write(fd, full, sizeof full - 1);
	close(fd);
	atomic_fetch_sub(&gl->gate->connections, 1);
}

void tg_session_accept(struct tg_listener *l, int fd, const struct tg_addr *peer)
{
	struct tg_gate_loop *gl = l->loop->user;
	int now = atomic_fetch_add(&gl->gate->connections, 1);
	struct tg_session *s = (unsigned)now < gl->snap->config->max_connections && (unsigned)now < gl->gate->max_connections ? calloc(1, sizeof *s) : NULL;
	if (!s) {
		turn_away(gl, l, fd);
		return;
	}
	s->gl = gl;
	s->peer = *peer;
	s->on_loopback = l->addr->loopback;
	s->conn.on_event = on_event;
	s->conn.on_closed = on_closed;
	s->conn.timer.fire = on_timer;
	if (!tg_conn_open(&s->conn, l->loop, fd)) {
		atomic_fetch_sub(&gl->gate->connections, 1);
		free(s);
		return;
	}
	s->next = gl->sessions;
	s->pprev = &gl->sessions;
	if (s->next)
		s->next->pprev = &s->next;
	gl->sessions = s;
	gl->nsessions++;
	tg_metrics_gauge(gl->metrics, TG_GAUGE_CONNECTIONS, 1);
	tg_conn_deadline(&s->conn, gl->snap->config->head_ms);
	s->redirect = l->addr->kind == TG_LISTEN_REDIRECT;
	if (l->addr->kind == TG_LISTEN_TLS) {
		s->securing = true;
		if (!tg_conn_secure(&s->conn, tg_tls_of_loop(gl->snap->shared->tls, gl->loop->index), on_secured))
			tg_conn_close(&s->conn);
	}
}

/* A request may already be on its way to an idle connection: it is closed only after a moment, so that it is answered and not reset. */
void tg_session_drain(struct tg_session *s)
{
	if (s->x)
		tg_guess_release(s->x);
	if (s->state != IDLE || s->conn.closing)
		return;
	if (tg_conn_pending(&s->conn))
		end_session(s);
	else
		tg_conn_deadline(&s->conn, DRAIN_IDLE_MS);
}

void tg_session_cut(struct tg_session *s)
{
	if (s->x && s->x->sent_upstream && !s->x->aborted) {
		tg_relay_fail(s->x, TG_E_unavailable, "draining", "The gate is shutting down.");
		return;
	}
	s->gone = true;
	if (s->x)
		tg_exchange_abort(s->x, "draining");
	close_now(s);
}
