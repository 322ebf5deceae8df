#pragma once
/* Token usage read in passing from a worker's answer: a JSON body, or the events of a stream. Nothing is parsed into a tree. */
#include "base/json_scan.h"
#include "base/buf.h"

struct tg_usage {
	bool seen;
	uint64_t prompt, completion; /* prompt_tokens, completion_tokens (embeddings have no completion) */
	bool counted; /* by us, since the answer was left before it told: the prompt is reckoned, the answer what passed of it */
};
/* From a usage object as the scanner found it. False: no usable number in it; a number above 2^53 is none. */
bool tg_usage_parse(struct tg_slice object, struct tg_usage *out);

/* A JSON answer, in pieces as it arrives. Never fails: an answer that is no JSON simply has no usage. */
struct tg_usage_scan {
	struct tg_json_scan scan;
	struct tg_buf value;  /* bytes of the usage object that lie in earlier pieces; ceiling 4 KiB; empty in the common case */
	bool off;             /* nothing more is looked at: found, or no JSON */
	struct tg_usage usage;
};
void tg_usage_scan_init(struct tg_usage_scan *u);
void tg_usage_scan_feed(struct tg_usage_scan *u, const char *p, size_t n);
void tg_usage_scan_free(struct tg_usage_scan *u);

/*
 * A stream of server-sent events (WHATWG HTML section 9.2), in pieces. Split-invariant: how the bytes are cut into reads
 * changes nothing in what comes out, put together, nor in what is counted. Lines end with LF, CRLF or CR; an event is ended by an empty line.
 * `cut`: we asked the worker for usage and the client did not: the event whose data has "choices":[] and a usage object is removed, and only
 * then is the tail of an incomplete event held back. Without `cut` every byte is passed on at once.
 * An event longer than TG_SSE_HOLD bytes is no usage event: it is passed on unread, and counted as one with data.
 */
#define TG_SSE_HOLD 16384
struct tg_sse {
	struct tg_usage usage; /* of the last event that had any: some workers send running totals */
	bool cut;
	bool done;          /* "data: [DONE]" was seen */
	bool error;         /* an event with a top-level "error" member (not null) was seen */
	uint32_t events;    /* events with data, [DONE] not counted, a cut one counted */
	/* private */
	struct tg_buf tail; /* the incomplete event; memory is given back when it is empty */
	uint32_t sent;      /* bytes at the front of tail that the last out[0] lent */
	bool overlong;      /* the event being read is */
	bool in_line;       /* its current line has bytes */
	bool cr;            /* the last byte was a CR: a LF right after it belongs to the same line end */
	bool drop_lf;       /* ... and to an event that was cut */
	bool begun;         /* the first event, where a byte order mark may stand, is over */
};
void tg_sse_init(struct tg_sse *s, bool cut);
/* Takes n bytes (may move them within buf). What is to be sent on, in order: out[0], then out[1] (either may be empty); valid until the next call. */
void tg_sse_feed(struct tg_sse *s, char *buf, size_t n, struct tg_slice out[2]);
/*
 * The end of the stream: what was still held back. An event that no empty line ended is read, and cut, like any other: workers that
 * leave the last one out exist. Valid until tg_sse_free.
 */
struct tg_slice tg_sse_end(struct tg_sse *s);
void tg_sse_free(struct tg_sse *s);
