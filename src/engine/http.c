/*
 * HTTP of the engine (see http.h). The parser is set up anew for each request and paused behind its head, so that who answers decides what becomes of the body before a byte of it is read.
 */
#include "engine/http.h"
#include "base/clock.h"
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#define LINGER_MS 2000
#define LINGER_MAX (16u << 20)
#define PARTS_MAX 4 /* of what is sent at once */

static int on_url(llhttp_t *p, const char *at, size_t n)
{
	struct tg_http *h = p->data;
	if (n > TG_HTTP_TARGET_MAX - h->target_len)
		return -1;
	memcpy(h->target + h->target_len, at, n);
	h->target_len += n;
	return 0;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
	struct tg_http *h = p->data;
	if (h->in_value)
		h->field_len = 0;
	h->in_value = false;
	for (size_t i = 0; i < n && h->field_len < sizeof h->field; i++) /* a longer name fills it, and is another */
		h->field[h->field_len++] = at[i];
	return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
	struct tg_http *h = p->data;
	h->in_value = true;
	if (!tg_slice_eq_nocase((struct tg_slice){ h->field, h->field_len }, TG_S("X-Tollgate-Key-Prefix")))
		return 0;
	size_t len = strlen(h->key_prefix);
	for (size_t i = 0; i < n; i++)
		if (at[i] < 0x20 || at[i] == 0x7f) /* above 0x7f as well: it is signed */
			return -1;
	if (n > TG_KEY_PREFIX_MAX - len)
		return -1;
	memcpy(h->key_prefix + len, at, n);
	h->key_prefix[len + n] = 0;
	return 0;
}

static int on_headers_complete(llhttp_t *p)
{
	struct tg_http *h = p->data;
	h->head_done = true;
	h->target[h->target_len] = 0;
	return HPE_PAUSED;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	struct tg_http *h = p->data;
	return h->sink && h->sink(h->ctx, at, n) ? 0 : HPE_USER;
}

static int on_message_complete(llhttp_t *p)
{
	struct tg_http *h = p->data;
	h->done = true;
	return HPE_PAUSED;
}

static llhttp_settings_t settings = { .on_url = on_url, .on_header_field = on_field, .on_header_value = on_value, .on_headers_complete = on_headers_complete, .on_body = on_body, .on_message_complete = on_message_complete };

void tg_http_init(struct tg_http *h, int fd)
{
	struct timeval stall = { .tv_sec = TG_HTTP_STALL_S };
	memset(h, 0, offsetof(struct tg_http, in));
	h->fd = fd;
	h->done = true;
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &stall, sizeof stall);
}

/* Parses what there is, up to a pause. */
static llhttp_errno_t parse(struct tg_http *h)
{
	llhttp_errno_t e = llhttp_execute(&h->parser, h->in + h->at, h->len - h->at);
	if (e == HPE_PAUSED) {
		h->at = (size_t)(llhttp_get_error_pos(&h->parser) - h->in);
		llhttp_resume(&h->parser);
		return HPE_OK;
	}
	if (e == HPE_OK)
		h->at = h->len;
	return e;
}

/* More bytes. False: the end, a fault, or nothing in time. */
static bool receive(struct tg_http *h, uint64_t wait_ms)
{
	uint64_t until = tg_mono_us() / 1000 + wait_ms;
	h->at = h->len = 0;
	for (;;) {
		uint64_t now = tg_mono_us() / 1000;
		struct pollfd p = { .fd = h->fd, .events = POLLIN };
		int r = poll(&p, 1, now < until ? (int)(until - now) : 0);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		ssize_t n = recv(h->fd, h->in, sizeof h->in, MSG_DONTWAIT);
		if (n < 0 && (errno == EINTR || errno == EAGAIN))
			continue;
		h->len = n > 0 ? (size_t)n : 0;
		return n > 0;
	}
}

enum tg_http_next tg_http_next(struct tg_http *h)
{
	llhttp_init(&h->parser, HTTP_REQUEST, &settings);
	h->parser.data = h;
	h->target_len = h->head_bytes = h->field_len = 0;
	h->key_prefix[0] = 0;
	h->head_done = h->done = h->streaming = h->close = h->in_value = false;
	if (h->at == h->len && !receive(h, TG_HTTP_IDLE_MS))
		return TG_HTTP_GONE;
	uint64_t until = tg_mono_us() / 1000 + TG_HTTP_HEAD_MS;
	for (;;) {
		size_t before = h->at;
		if (parse(h) != HPE_OK)
			break;
		h->head_bytes += h->at - before;
		if (h->head_bytes > TG_HTTP_HEAD_MAX)
			break;
		if (h->head_done)
			return h->parser.upgrade || h->parser.http_major != 1 ? TG_HTTP_BAD : TG_HTTP_REQUEST;
		uint64_t now = tg_mono_us() / 1000;
		if (now >= until || !receive(h, until - now))
			return TG_HTTP_GONE;
	}
	h->close = true;
	return TG_HTTP_BAD;
}

static struct tg_slice path_of(const struct tg_http *h)
{
	return (struct tg_slice){ h->target, strcspn(h->target, "?") };
}

bool tg_http_is(const struct tg_http *h, llhttp_method_t method, const char *path)
{
	return h->parser.method == method && tg_slice_eq(path_of(h), tg_slice_cstr(path));
}

struct tg_slice tg_http_path_after(const struct tg_http *h, const char *start)
{
	struct tg_slice p = path_of(h), s = tg_slice_cstr(start);
	return tg_slice_starts(p, s) ? (struct tg_slice){ p.p + s.n, p.n - s.n } : (struct tg_slice){ 0 };
}

struct tg_slice tg_http_query(const struct tg_http *h, const char *name)
{
	size_t n = strlen(name);
	for (const char *at = strchr(h->target, '?'); at; at = strchr(at, '&')) {
		at++;
		if (strncmp(at, name, n) == 0 && at[n] == '=')
			return (struct tg_slice){ at + n + 1, strcspn(at + n + 1, "&") };
	}
	return (struct tg_slice){ 0 };
}

uint64_t tg_http_length(const struct tg_http *h)
{
	return h->parser.flags & F_CHUNKED ? 0 : h->parser.content_length;
}

enum tg_http_body tg_http_body(struct tg_http *h, bool (*sink)(void *ctx, const char *p, size_t n), void *ctx)
{
	h->sink = sink;
	h->ctx = ctx;
	for (;;) {
		llhttp_errno_t e = parse(h);
		if (e != HPE_OK)
			return e == HPE_USER ? TG_HTTP_BODY_REFUSED : TG_HTTP_BODY_GONE;
		if (h->done) {
			h->close = h->close || !llhttp_should_keep_alive(&h->parser);
			return TG_HTTP_BODY_OK;
		}
		if (h->at == h->len && !receive(h, TG_HTTP_BODY_IDLE_MS))
			return TG_HTTP_BODY_GONE;
	}
}

/* In one message where it can be: each wakes the reader. */
static bool send_all(struct tg_http *h, const struct tg_slice *parts, unsigned n)
{
	struct iovec v[PARTS_MAX], *at = v;
	for (unsigned i = 0; i < n; i++)
		v[i] = (struct iovec){ (void *)(uintptr_t)parts[i].p, parts[i].n };
	for (;;) {
		for (; n && !at->iov_len; n--)
			at++;
		if (!n)
			return true;
		struct msghdr m = { .msg_iov = at, .msg_iovlen = n };
		ssize_t sent = sendmsg(h->fd, &m, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent <= 0) {
			h->close = true;
			return false;
		}
		for (size_t k; sent; sent -= (ssize_t)k) {
			k = (size_t)sent < at->iov_len ? (size_t)sent : at->iov_len;
			at->iov_base = (char *)at->iov_base + k;
			at->iov_len -= k;
			for (; n && !at->iov_len; n--)
				at++;
		}
	}
}

static const char *reason(int status)
{
	static const struct {
		int status;
		const char *text;
	} rows[] = { { 200, "OK" }, { 400, "Bad Request" }, { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 413, "Content Too Large" }, { 429, "Too Many Requests" },
		     { 500, "Internal Server Error" }, { 503, "Service Unavailable" }, { 507, "Insufficient Storage" } };
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (rows[i].status == status)
			return rows[i].text;
	return "Unknown";
}

bool tg_http_answer(struct tg_http *h, int status, struct tg_slice json)
{
	char head[256];
	h->close = h->close || !h->done;
	int n = snprintf(head, sizeof head, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n%s\r\n", status, reason(status), json.n,
			 h->close ? "Connection: close\r\n" : "");
	return send_all(h, (const struct tg_slice[]){ { head, (size_t)n }, json }, 2);
}

bool tg_http_stream(struct tg_http *h)
{
	const struct tg_slice head[] = { TG_S("HTTP/1.1 200 OK\r\nContent-Type: application/x-ndjson\r\nTransfer-Encoding: chunked\r\n"), h->close ? TG_S("Connection: close\r\n\r\n") : TG_S("\r\n") };
	h->streaming = true;
	return send_all(h, head, 2);
}

static bool send_piece(struct tg_http *h, struct tg_slice text, struct tg_slice end)
{
	char size[24];
	int n = text.n ? snprintf(size, sizeof size, "%zx\r\n", text.n) : 0; /* an empty chunk is the last one */
	return send_all(h, (const struct tg_slice[PARTS_MAX]){ { size, (size_t)n }, text, text.n ? TG_S("\r\n") : TG_S(""), end }, PARTS_MAX);
}

bool tg_http_piece(struct tg_http *h, struct tg_slice text)
{
	return send_piece(h, text, TG_S(""));
}

bool tg_http_stream_end(struct tg_http *h, struct tg_slice text)
{
	h->streaming = false;
	return send_piece(h, text, TG_S("0\r\n\r\n"));
}

void tg_http_finish(struct tg_http *h)
{
	uint64_t until = tg_mono_us() / 1000 + LINGER_MS;
	size_t dropped = 0;
	if (!h->done && shutdown(h->fd, SHUT_WR) == 0)
		for (uint64_t now; (now = tg_mono_us() / 1000) < until && dropped < LINGER_MAX && receive(h, until - now);)
			dropped += h->len;
	close(h->fd);
}
