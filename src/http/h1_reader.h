#pragma once
/*
 * Reads one answer of a server that is ours (the engine) as its bytes come: the head by http/h1.h's rules, the body decoded and handed on piece by piece. No sockets. Workers' answers go
 * another way (gate/relay.c), which passes them on. Owner: whoever calls init; free gives the memory back.
 */
#include "base/buf.h"
#include "http/h1.h"

#define TG_H1_READER_HEAD_MAX 16384

struct tg_h1_reader {
	uint16_t status;            /* 0: the head is not whole yet */
	bool done;                  /* the answer is whole */
	/* private */
	struct tg_buf head;
	size_t scanned;
	uint64_t left;              /* of a known length */
	bool until_close;
	struct tg_chunked *chunked; /* owned; NULL: not chunked */
};

/* A piece of the body, valid until it returns. False: enough, or too much. */
typedef bool (*tg_h1_piece)(void *ctx, const char *p, size_t n);

void tg_h1_reader_init(struct tg_h1_reader *r);
void tg_h1_reader_free(struct tg_h1_reader *r);
/* p[0, n) as received; it is changed (chunks are moved). Bytes behind the answer's end are a fault. False: not valid HTTP, no memory, or `piece` said so. */
bool tg_h1_reader_feed(struct tg_h1_reader *r, char *p, size_t n, tg_h1_piece piece, void *ctx);
bool tg_h1_reader_eof(struct tg_h1_reader *r); /* the connection has ended; false: in the middle of the answer */
