/*
 * TLS of one connection: see the header and net/conn.h.
 *
 * Invariants: OpenSSL is never called again after it has failed. OpenSSL's error queue is of the thread, and others use it too: it is emptied before each call whose error
 * is asked for, and after each failure. A send that could not be finished is repeated with at least the same bytes (SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER), which holds
 * because conn.c keeps what was not taken, in order. Without AUTO_RETRY each read handles one record, so that a flood of records without data cannot hold the loop.
 */
#include "net/tls.h"
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <stdlib.h>
#include <sys/socket.h>

#define RECORD 16384u     /* plaintext bytes of a record at most (RFC 8446 section 5.1) */
#define HANDSHAKE_MAX 65536 /* bytes from the client until it is done: more than any needs */
#define LOOK_FOR_MORE 1024 /* a record of at least this size is often followed by another */

struct tg_tls_conn {
	SSL *ssl;              /* NULL: nothing has come yet */
	SSL_CTX *ctx;          /* a count, until ssl has its own */
	struct tg_conn *conn;
	struct tg_turn turn;
	void (*on_secured)(struct tg_conn *c, enum tg_secured how);
	uint8_t wants;         /* of a handshake */
	bool handshaking;
	bool read_blocked;     /* a read waits until the socket is writable */
	bool write_blocked;    /* a write waits until it is readable */
	bool ended;            /* the peer has said so, or broken it; the owner is told after what came before */
	bool shut, failed;
};

static void on_turn(struct tg_turn *turn)
{
	struct tg_tls_conn *t = (struct tg_tls_conn *)((char *)turn - offsetof(struct tg_tls_conn, turn));
	struct tg_conn *c = t->conn;
	if (!c->closing && c->want_read)
		c->on_event(c, TG_READABLE);
}

bool tg_conn_secure(struct tg_conn *c, SSL_CTX *ctx, void (*on_secured)(struct tg_conn *c, enum tg_secured how))
{
	struct tg_tls_conn *t = calloc(1, sizeof *t);
	if (!t)
		return false;
	SSL_CTX_up_ref(ctx);
	*t = (struct tg_tls_conn){ .ctx = ctx, .conn = c, .turn = { .run = on_turn }, .on_secured = on_secured, .wants = TG_READABLE, .handshaking = true };
	c->tls = t;
	return true;
}

const char *tg_conn_tls_version(const struct tg_conn *c, bool *resumed)
{
	if (!c->tls || !c->tls->ssl)
		return NULL;
	*resumed = SSL_session_reused(c->tls->ssl);
	return SSL_get_version(c->tls->ssl);
}

void tg_tls_free(struct tg_conn *c)
{
	struct tg_tls_conn *t = c->tls;
	c->tls = NULL;
	tg_loop_no_turn(&t->turn);
	SSL_free(t->ssl);
	SSL_CTX_free(t->ctx);
	free(t);
}

uint8_t tg_tls_interest(const struct tg_tls_conn *t, uint8_t want)
{
	if (t->handshaking)
		return t->wants; /* and nothing else: what is ready and not wanted would wake us without end */
	if (t->write_blocked)
		want = (uint8_t)((want | TG_READABLE) & ~TG_WRITABLE);
	if (t->read_blocked && (want & TG_READABLE))
		want = (uint8_t)((want | TG_WRITABLE) & ~TG_READABLE);
	return want;
}

/* ---- the handshake ---- */

static void secured(struct tg_conn *c, enum tg_secured how)
{
	void (*tell)(struct tg_conn *, enum tg_secured) = c->tls->on_secured;
	if (how == TG_SECURED)
		c->tls->handshaking = false;
	else
		tg_tls_free(c);
	tg_conn_interest(c);
	tell(c, how);
}

/* The first byte of a TLS connection is that of a handshake record; a letter is somebody who speaks HTTP. */
static bool begin(struct tg_conn *c, enum tg_secured *why)
{
	struct tg_tls_conn *t = c->tls;
	char first;
	ssize_t n = recv(c->fd, &first, 1, MSG_PEEK);
	*why = TG_SECURED_FAILED;
	if (n < 0 && (errno == EAGAIN || errno == EINTR) && !c->broken)
		return true;
	if (n <= 0)
		return false;
	if (first >= 'A' && first <= 'Z') {
		*why = TG_SECURED_PLAIN_HTTP;
		return false;
	}
	t->ssl = SSL_new(t->ctx);
	if (!t->ssl || SSL_set_fd(t->ssl, c->fd) != 1)
		return false;
	SSL_set_accept_state(t->ssl);
	SSL_CTX_free(t->ctx);
	t->ctx = NULL;
	return true;
}

static void shake(struct tg_conn *c)
{
	struct tg_tls_conn *t = c->tls;
	enum tg_secured why;
	if (!t->ssl && !begin(c, &why)) {
		ERR_clear_error();
		secured(c, why);
		return;
	}
	if (!t->ssl)
		return;
	ERR_clear_error();
	int r = SSL_do_handshake(t->ssl), e = r == 1 ? SSL_ERROR_NONE : SSL_get_error(t->ssl, r);
	if (e == SSL_ERROR_NONE) {
		secured(c, TG_SECURED);
		return;
	}
	if ((e == SSL_ERROR_WANT_READ || e == SSL_ERROR_WANT_WRITE) && !c->broken && BIO_number_read(SSL_get_rbio(t->ssl)) < HANDSHAKE_MAX) {
		t->wants = e == SSL_ERROR_WANT_READ ? TG_READABLE : TG_WRITABLE;
		tg_conn_interest(c);
		return;
	}
	ERR_clear_error();
	secured(c, TG_SECURED_FAILED);
}

bool tg_tls_ready(struct tg_conn *c, int *events)
{
	struct tg_tls_conn *t = c->tls;
	if (t->handshaking) {
		/* Who has half-closed and takes nothing would wake us again and again. */
		if ((*events & UV_DISCONNECT) && t->wants == TG_WRITABLE)
			c->broken = true;
		shake(c);
		/* A request often follows the handshake's end closely. */
		*events = UV_READABLE;
		return !c->closing && c->tls && !c->tls->handshaking;
	}
	if (t->write_blocked && (*events & UV_READABLE)) {
		t->write_blocked = false;
		*events |= UV_WRITABLE;
		tg_conn_interest(c);
	}
	if (t->read_blocked) {
		if (*events & UV_DISCONNECT)
			c->broken = true;
		if (*events & UV_WRITABLE) {
			t->read_blocked = false;
			*events |= UV_READABLE;
			if (!tg_conn_pending(c))
				*events &= ~UV_WRITABLE;
			tg_conn_interest(c);
		}
	}
	return true;
}

/* ---- data ---- */

/* What a read or write that did not succeed means: 0 later, -1 broken, -2 the peer has ended it in due form. */
static int verdict(struct tg_conn *c, bool writing)
{
	struct tg_tls_conn *t = c->tls;
	switch (SSL_get_error(t->ssl, 0)) {
	case SSL_ERROR_WANT_READ:
		t->write_blocked = writing;
		tg_conn_interest(c);
		return 0;
	case SSL_ERROR_WANT_WRITE:
		t->read_blocked = !writing;
		tg_conn_interest(c);
		return 0;
	case SSL_ERROR_ZERO_RETURN:
		return -2;
	default:
		t->failed = true;
		ERR_clear_error();
		return -1;
	}
}

/* Both its ends are shut or it is beyond help: what still comes is dropped as it is. */
static long recv_raw(struct tg_conn *c, char *p, size_t n)
{
	for (;;) {
		ssize_t k = recv(c->fd, p, n, 0);
		if (k >= 0)
			return k;
		if (errno != EINTR)
			return errno == EAGAIN && !c->broken ? -1 : -2;
	}
}

long tg_tls_recv(struct tg_conn *c, char *p, size_t n)
{
	struct tg_tls_conn *t = c->tls;
	size_t have = 0;
	if (t->shut)
		return recv_raw(c, p, n);
	if (t->failed)
		return -2;
	while (have < n && !t->ended) {
		size_t got = 0;
		ERR_clear_error();
		if (SSL_read_ex(t->ssl, p + have, n - have, &got) == 1) {
			have += got;
			if (got < LOOK_FOR_MORE && !SSL_pending(t->ssl))
				break;
			continue;
		}
		int v = verdict(c, false);
		if (!v && c->broken) { /* nothing more will come of this socket */
			t->ended = t->failed = true;
			break;
		}
		t->ended = v != 0;
		break;
	}
	if (have) {
		if (SSL_pending(t->ssl) || t->ended)
			tg_loop_next_turn(c->loop, &t->turn);
		return (long)have;
	}
	return !t->ended ? -1 : t->failed ? -2 : 0;
}

void tg_tls_resume(struct tg_conn *c)
{
	struct tg_tls_conn *t = c->tls;
	if (!t->handshaking && !t->shut && (t->ended || (!t->failed && SSL_pending(t->ssl))))
		tg_loop_next_turn(c->loop, &t->turn);
}

/* The next bytes to be sent as one record: where they lie, or put together if pieces are small. */
static const char *next_record(const struct iovec *v, int n, size_t off, char scratch[RECORD], size_t *len)
{
	if (n == 1 || v[0].iov_len - off >= RECORD) {
		*len = v[0].iov_len - off < RECORD ? v[0].iov_len - off : RECORD;
		return (const char *)v[0].iov_base + off;
	}
	*len = 0;
	for (int i = 0; i < n && *len < RECORD; i++) {
		size_t k = v[i].iov_len - off < RECORD - *len ? v[i].iov_len - off : RECORD - *len;
		if (k)
			memcpy(scratch + *len, (const char *)v[i].iov_base + off, k);
		*len += k;
		off = 0;
	}
	return scratch;
}

long tg_tls_send(struct tg_conn *c, const struct iovec *v, int n)
{
	struct tg_tls_conn *t = c->tls;
	char scratch[RECORD];
	size_t sent = 0, off = 0;
	if (t->handshaking || t->failed || t->shut)
		return -1;
	for (;;) {
		while (n && off == v->iov_len)
			v++, n--, off = 0;
		if (!n)
			return (long)sent;
		size_t len, taken = 0;
		const char *p = next_record(v, n, off, scratch, &len);
		ERR_clear_error();
		if (SSL_write_ex(t->ssl, p, len, &taken) != 1)
			return verdict(c, true) == 0 && !c->broken ? (long)sent : -1;
		sent += taken;
		for (off += taken; n && off >= v->iov_len; v++, n--)
			off -= v->iov_len;
	}
}

void tg_tls_farewell(struct tg_conn *c)
{
	struct tg_tls_conn *t = c->tls;
	if (!t->ssl || t->handshaking || t->failed || t->shut)
		return;
	t->shut = true;
	t->read_blocked = t->write_blocked = false;
	tg_loop_no_turn(&t->turn);
	ERR_clear_error();
	(void)SSL_shutdown(t->ssl);
	ERR_clear_error();
}
