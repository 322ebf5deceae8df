#pragma once
/*
 * HTTP/1.1 (RFC 9112) on one accepted connection, blocking: the engine has a thread a connection, and a thread that does not read is all the back-pressure a sender needs. The one client is the
 * gate, over a socket that only its user can open; what is wrong is refused all the same, by llhttp in strict mode and the bounds here. Of the head only method, target
 * and X-Tollgate-Key-Prefix matter.
 */
#include "base/buf.h"
#include "base/secret.h"
#include <llhttp.h>

#define TG_HTTP_TARGET_MAX 512
#define TG_HTTP_HEAD_MAX 16384
#define TG_HTTP_IDLE_MS 75000      /* between two requests: longer than the gate keeps an idle connection, so that it never writes into one that we have just closed */
#define TG_HTTP_HEAD_MS 5000       /* from the first byte of a head to its last */
#define TG_HTTP_BODY_IDLE_MS 130000 /* without a byte of the body; the gate's own clocks are shorter */
#define TG_HTTP_STALL_S 30         /* an answer that is not taken */

struct tg_http {
	int fd;
	llhttp_t parser;
	size_t at, len;                /* what of in[] is still to be parsed */
	char target[TG_HTTP_TARGET_MAX + 1];
	size_t target_len;
	size_t head_bytes;
	char field[sizeof "X-Tollgate-Key-Prefix"]; /* the header's name that is read, as far as it can be that one */
	size_t field_len;
	bool in_value;
	char key_prefix[TG_KEY_PREFIX_MAX + 1]; /* what may be shown of the caller's key; "": there is none */
	bool head_done, done;          /* of the request being read */
	bool streaming;                /* an answer in chunks has begun */
	bool close;                    /* in: the connection is to end with this answer; also set here */
	bool (*sink)(void *ctx, const char *p, size_t n);
	void *ctx;
	char in[65536];
};
void tg_http_init(struct tg_http *h, int fd);
enum tg_http_next { TG_HTTP_REQUEST, TG_HTTP_GONE, TG_HTTP_BAD };
/* The next request's head. GONE: nothing (more) is to be said on this connection; BAD: 400, and the end. */
enum tg_http_next tg_http_next(struct tg_http *h);
bool tg_http_is(const struct tg_http *h, llhttp_method_t method, const char *path); /* without its query */
/* What follows `start` in the path; p NULL: it begins otherwise. */
struct tg_slice tg_http_path_after(const struct tg_http *h, const char *start);
struct tg_slice tg_http_query(const struct tg_http *h, const char *name); /* p NULL: not given. As written: no escapes occur */
uint64_t tg_http_length(const struct tg_http *h); /* of the body as announced; 0: none, or in chunks */
/* The rest of the body. OK: whole. REFUSED: sink answered false, nothing more is read. GONE: it broke off or was too slow. */
enum tg_http_body { TG_HTTP_BODY_OK, TG_HTTP_BODY_REFUSED, TG_HTTP_BODY_GONE };
enum tg_http_body tg_http_body(struct tg_http *h, bool (*sink)(void *ctx, const char *p, size_t n), void *ctx);
/* One whole answer, JSON. An answer before the body's end is followed by the end of the connection. */
bool tg_http_answer(struct tg_http *h, int status, struct tg_slice json);
/* 200 and application/x-ndjson, in chunks: once, then pieces, then the end. False: the client is gone. */
bool tg_http_stream(struct tg_http *h);
bool tg_http_piece(struct tg_http *h, struct tg_slice text);
bool tg_http_stream_end(struct tg_http *h, struct tg_slice text); /* with the last piece; empty: there is none */
/* Closes it: first reads what is still coming, for a moment, so that the answer is seen. */
void tg_http_finish(struct tg_http *h);
