/*
 * Forms. The first byte says how one is cut, the second how long its boundary is, which follows: the outcome is one. Any bytes that are put into a form of
 * our own, behind a boundary that they do not hold, come out of it as they were.
 */
#include "engine/multipart.h"
#include <stdio.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

/* ---- the parser alone: what came of the parts, written down ---- */

static bool on_part(void *ctx, const struct tg_part *p, struct tg_intake_fault *f)
{
	(void)f;
	CHECK(p->name.n && p->name.n <= TG_PART_NAME_MAX);
	tg_buf_char(ctx, p->file ? 'F' : 'T');
	tg_buf_slice(ctx, p->name);
	tg_buf_slice(ctx, p->type);
	tg_buf_slice(ctx, p->encoding);
	return true;
}

static bool on_data(void *ctx, const char *p, size_t n, struct tg_intake_fault *f)
{
	(void)f;
	CHECK(n);
	tg_buf_put(ctx, p, n);
	return true;
}

static bool on_end(void *ctx, struct tg_intake_fault *f)
{
	(void)f;
	tg_buf_char(ctx, '.');
	return true;
}

static void tell(struct tg_slice boundary, const char *p, size_t n, size_t step, struct tg_buf *out, struct tg_intake_fault *f)
{
	static const struct tg_multipart_events events = { on_part, on_data, on_end };
	struct tg_multipart *m = tg_multipart_new(boundary, &events, out);
	bool ok = true;
	*f = (struct tg_intake_fault){ 0 };
	for (size_t i = 0, k; ok && i < n; i += k) {
		k = n - i < step ? n - i : step;
		char *piece = malloc(k);
		memcpy(piece, p + i, k);
		ok = tg_multipart_feed(m, piece, k, f);
		free(piece);
	}
	ok = ok && tg_multipart_end(m, f);
	CHECK(ok == !f->why[0] && !out->failed);
	tg_multipart_free(m);
}

/* ---- with a table ---- */

static bool take(struct tg_slice boundary, const char *p, size_t n, size_t step, char hash[65], struct tg_buf *kept, struct tg_intake_fault *f)
{
	struct tg_slice members;
	struct tg_frame *frame = NULL;
	struct tg_frame_reader *r = tg_frame_reader_form(boundary, 1u << 24);
	bool ok = true;
	hash[0] = 0;
	*f = (struct tg_intake_fault){ 0 };
	for (size_t i = 0, k; ok && i < n; i += k) {
		k = n - i < step ? n - i : step;
		ok = tg_frame_reader_feed(r, p + i, k, f);
	}
	ok = ok && tg_frame_reader_end(r, &frame, &members, hash, f);
	CHECK(ok == !f->why[0] && ok == (frame != NULL));
	if (ok)
		tg_buf_slice(kept, members);
	tg_frame_free(frame);
	tg_frame_reader_free(r);
	return ok;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	const char *p = (const char *)data;
	struct tg_buf whole, cut;
	struct tg_intake_fault f, g;
	char a[65], b[65];
	if (n < 2)
		return 0;
	struct tg_slice boundary = { p + 2, data[1] % TG_BOUNDARY_MAX + 1u }, named;
	const char *why = NULL;
	CHECK(tg_boundary_of((struct tg_slice){ p + 2, n - 2 }, &named, &why) || why);
	if (boundary.n > n - 2 || !tg_boundary_ok(boundary))
		return 0;
	p += 2 + boundary.n;
	n -= 2 + boundary.n;
	tg_buf_init(&whole, (1u << 24) + 64);
	tg_buf_init(&cut, (1u << 24) + 64);
	tell(boundary, p, n, SIZE_MAX, &whole, &f);
	tell(boundary, p, n, 1u + data[0], &cut, &g);
	CHECK(strcmp(f.why, g.why) == 0 && strcmp(f.field, g.field) == 0 && tg_slice_eq(tg_buf_view(&whole), tg_buf_view(&cut)));
	whole.len = cut.len = 0;
	bool ok = take(boundary, p, n, SIZE_MAX, a, &whole, &f);
	CHECK(take(boundary, p, n, 1u + data[0], b, &cut, &g) == ok);
	CHECK(strcmp(a, b) == 0 && strcmp(f.why, g.why) == 0 && strcmp(f.field, g.field) == 0 && tg_slice_eq(tg_buf_view(&whole), tg_buf_view(&cut)));
	/* The same bytes as a file, between lines that they cannot hold: what comes out is what went in. */
	struct tg_slice mark = TG_S("-=-=-=-this-is-not-in-it-=-=-=-"), line = { p, n };
	if (!memmem(p, n, mark.p, mark.n)) {
		whole.len = cut.len = 0;
		tg_buf_fmt(&whole, "--%s\r\nContent-Disposition: form-data; name=x\r\n\r\n", mark.p);
		tg_buf_slice(&whole, line);
		tg_buf_fmt(&whole, "\r\n--%s--\r\n", mark.p);
		tell(mark, whole.p, whole.len, 1u + data[0], &cut, &f);
		CHECK(!f.why[0] && cut.len == n + 3 && memcmp(cut.p, "Tx", 2) == 0 && (!n || memcmp(cut.p + 2, p, n) == 0));
	}
	tg_buf_free(&whole);
	tg_buf_free(&cut);
	return 0;
}
