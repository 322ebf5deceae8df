/*
 * An answer out of bytes (see h1_reader.h). The head is gathered, which is small; of the body nothing is kept.
 */
#include "http/h1_reader.h"
#include <stdlib.h>

static const struct tg_h1_limits limits = { .max_head = TG_H1_READER_HEAD_MAX, .max_headers = TG_HEADERS_MAX };

void tg_h1_reader_init(struct tg_h1_reader *r)
{
	*r = (struct tg_h1_reader){ 0 };
	tg_buf_init(&r->head, TG_H1_READER_HEAD_MAX + (128u << 10));
}

void tg_h1_reader_free(struct tg_h1_reader *r)
{
	tg_buf_free(&r->head);
	free(r->chunked);
	r->chunked = NULL;
}

static bool body(struct tg_h1_reader *r, char *p, size_t n, tg_h1_piece piece, void *ctx)
{
	size_t used = n, len = n;
	if (r->done)
		return n == 0;
	if (r->chunked) {
		if (!tg_chunked_feed(r->chunked, p, n, &len, &used))
			return false;
		r->done = r->chunked->done;
	} else if (!r->until_close) {
		if (len > r->left)
			len = used = (size_t)r->left;
		r->left -= len;
		r->done = !r->left;
	}
	return used == n && (!len || piece(ctx, p, len));
}

/* The whole head is there: what follows it is the body. */
static bool begin(struct tg_h1_reader *r, const struct tg_head *h)
{
	if (h->status < 200)
		return false; /* nobody asked for an interim answer */
	r->status = h->status;
	if (h->chunked) {
		r->chunked = malloc(sizeof *r->chunked);
		if (!r->chunked)
			return false;
		tg_chunked_init(r->chunked);
	} else if (h->status == 204 || h->status == 304) {
		r->done = true;
	} else if (h->content_length < 0) {
		r->until_close = true;
	} else {
		r->left = (uint64_t)h->content_length;
		r->done = !r->left;
	}
	return true;
}

bool tg_h1_reader_feed(struct tg_h1_reader *r, char *p, size_t n, tg_h1_piece piece, void *ctx)
{
	if (r->status)
		return body(r, p, n, piece, ctx);
	struct tg_head h;
	enum tg_refusal why;
	size_t start = 0;
	tg_buf_put(&r->head, p, n);
	if (r->head.failed)
		return false;
	long len = tg_h1_head_end(r->head.p, r->head.len, &r->scanned, &start, false, &limits, &why);
	if (len <= 0)
		return len == 0;
	if (!tg_h1_parse_response(r->head.p + start, (size_t)len, &limits, &h, &why) || !begin(r, &h))
		return false;
	size_t from = start + (size_t)len;
	bool ok = body(r, r->head.p + from, r->head.len - from, piece, ctx);
	tg_buf_free(&r->head);
	return ok;
}

bool tg_h1_reader_eof(struct tg_h1_reader *r)
{
	if (r->status && r->until_close)
		r->done = true;
	return r->done;
}
