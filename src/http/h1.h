#pragma once
/*
 * HTTP/1.1 heads and body framing (RFC 9112), no sockets: llhttp in strict mode, and on top of it our own policy, which decides
 * every case that llhttp lets through (tests/unit/test_h1.c has a row for each). Any refusal here ends the connection.
 */
#include "http/message.h"
#include <llhttp.h>

/* Why a head or a body was refused: tables/refusals.def, one row a rule; each is a label of tollgate_refusals_total and a status. */
#define REFUSAL(id, status, text) TG_REFUSE_##id,
enum tg_refusal {
	TG_REFUSE_NONE,
#include "tables/refusals.def"
	TG_REFUSE_COUNT
};
#undef REFUSAL
struct tg_refusal_info {
	const char *name;   /* "bare_lf" */
	uint16_t status;    /* the answer to a request; a worker's answer with the same fault is a 502 */
	const char *text;   /* one sentence for people */
};
extern const struct tg_refusal_info tg_refusals[];

struct tg_h1_limits {
	uint32_t max_head;    /* bytes of the whole head */
	uint32_t max_headers; /* <= TG_HEADERS_MAX */
};

/* Longest request target as sent, bytes: past it 414 (RFC 9112 section 3). */
#define TG_H1_TARGET_MAX 8192

/*
 * Looks for the end of the head in buf[0, len). *scanned (0 at first) is where the last call stopped: nothing is looked at twice.
 * Does the line rules on the way: each LF follows a CR, no line begins with SP or HTAB (obs-fold); CRLF before a request line are
 * skipped (count against max_head): *start is where the head begins (set by every call). Returns the head's length from *start (with its
 * blank line), 0: not yet there, -1: refused (*why). A head that does not end within the first max_head bytes: refused 431, or 414 if not
 * even its request line does. The answer is the same however the bytes arrive.
 */
long tg_h1_head_end(const char *buf, size_t len, size_t *scanned, size_t *start, bool request, const struct tg_h1_limits *lim, enum tg_refusal *why);
/*
 * Parses a whole head, as found by tg_h1_head_end; refuses what that lets through or never saw. False: refused, *out is not to be used.
 * Requests: a Content-Length above INT64_MAX reads as INT64_MAX (past every body limit: 413). Upgrade is not refused here: out->upgrade.
 * Answers: framing is as the headers say; that 1xx, 204, 304 and answers to HEAD have no body, and that without a length the body runs to
 * the end of the connection (keep_alive does not know), is the caller's business. 101 is refused; other 1xx are for the caller to drop.
 */
bool tg_h1_parse_request(const char *head, size_t len, const struct tg_h1_limits *lim, struct tg_head *out, enum tg_refusal *why);
bool tg_h1_parse_response(const char *head, size_t len, const struct tg_h1_limits *lim, struct tg_head *out, enum tg_refusal *why);

/*
 * Chunked bodies. The decoder is llhttp again, started from a template that has already passed a synthetic head; so that both
 * directions share one implementation. Bounded: framing bytes (size lines, extensions, trailers) against a budget of
 * TG_CHUNKED_FRAMING + TG_CHUNKED_PER_CHUNK for each chunk begun. Trailers are checked and dropped.
 */
#define TG_CHUNKED_FRAMING 4096
#define TG_CHUNKED_PER_CHUNK 32
struct tg_chunked {
	llhttp_t parser;
	uint64_t body, framing; /* bytes so far */
	uint32_t chunks;
	bool done;
	enum tg_refusal why;
	/* private */
	char *out;     /* where decoded bytes go, for the length of one feed */
	size_t outlen;
	uint64_t left; /* data bytes still to come in this chunk */
	uint8_t line;  /* which kind of framing line, where left == 0 */
	uint8_t digits;
	bool bol, cr;  /* at the beginning of a line; the last framing byte was a CR */
};
void tg_chunked_init(struct tg_chunked *c);
/*
 * Decodes buf[0, n) in place: the body bytes are moved to the front, *body_len of them; *used is how many input bytes belong to this
 * body (less than n only when c->done). False: refused (c->why).
 */
bool tg_chunked_feed(struct tg_chunked *c, char *buf, size_t n, size_t *body_len, size_t *used);
