/*
 * POST /intake and /dataset: a body, or a file of the folder of data sets, read once into columns and written to the spool. It is read as it comes, so that a slow reader here slows the sender down;
 * what is at fault is told as soon as it is met, and the rest of the body is not waited for.
 *
 * Memory: the columns of a body are in memory until they are written. What they hold is bounded (charge.h), and who needs more when that is used up is sent away rather than kept waiting for others,
 * which may be slow. The spool is bounded by room.c in the same way: how large a table is shows when its body has ended, so it is then that room is taken; a spool that is full already takes no body.
 */
#include "base/boundary.h"
#include "engine/folder.h"
#include "engine/frame.h"
#include "engine/service.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

#define ANSWER_MAX (8u << 20)
#define MAX_BYTES_DEFAULT (256ull << 20)
#define READER_BYTES (192u << 10) /* a reader, its tables of names and its thread, before the first byte */

enum trouble { FINE, FAULTY, TOO_LARGE };

struct intake {
	struct tg_service *service;
	struct tg_frame_reader *reader;
	struct tg_charge charge;
	struct tg_intake_fault fault;
	enum trouble trouble;
	uint64_t bytes, most;
};

static bool take(void *ctx, const char *p, size_t n)
{
	struct intake *in = ctx;
	if (n > in->most - in->bytes) {
		in->trouble = TOO_LARGE;
		return false;
	}
	in->bytes += n;
	if (!tg_frame_reader_feed(in->reader, p, n, &in->fault)) {
		in->trouble = FAULTY;
		return false;
	}
	return true;
}

static void say(struct tg_http *h, int status, const char *field, const char *why)
{
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	tg_buf_lit(&b, "{\"field\":");
	tg_buf_json(&b, tg_slice_cstr(field));
	tg_buf_lit(&b, ",\"why\":");
	tg_buf_json(&b, tg_slice_cstr(why));
	tg_buf_lit(&b, "}\n");
	tg_http_answer(h, status, tg_buf_view(&b));
	tg_buf_free(&b);
}

/* Whose bound of memory it met. */
static void say_full(struct tg_http *h, const struct tg_charge *c)
{
	char why[160];
	switch (c->full) {
	case TG_CHARGE_BODY:
		snprintf(why, sizeof why, "needs more memory, once it is read, than one may have here (%llu MiB)", (unsigned long long)(tg_charge_most_of_one(c->of) >> 20));
		say(h, 413, "", why);
		break;
	case TG_CHARGE_OWNER:
		say(h, 429, "owner", "has as much data being taken in as one key may; try again when some of it is done");
		break;
	case TG_CHARGE_ALL:
		say(h, 429, "", "so much data is being taken in at the moment that there is no room for this; try again later");
		break;
	case TG_CHARGE_FITS: tg_service_error(h, 503, "out of memory");
	}
}

static void say_trouble(struct tg_http *h, const struct intake *in)
{
	char why[80];
	if (in->trouble == TOO_LARGE) {
		snprintf(why, sizeof why, "is over the limit of %llu bytes", (unsigned long long)in->most);
		say(h, 413, "", why);
	} else if (in->fault.memory) {
		say_full(h, &in->charge);
	} else {
		say(h, 400, in->fault.field, in->fault.why);
	}
}

static void put_column(struct tg_buf *b, const struct tg_column *c)
{
	static const char *const types[] = { [TG_COLUMN_EMPTY] = "empty", [TG_COLUMN_NUMBER] = "number", [TG_COLUMN_TEXT] = "text" };
	tg_buf_lit(b, "{\"name\":");
	tg_buf_json(b, tg_slice_cstr(c->name));
	tg_buf_lit(b, ",\"type\":\"");
	tg_buf_cstr(b, types[c->type]);
	tg_buf_lit(b, "\"");
	if (c->type == TG_COLUMN_NUMBER)
		tg_buf_cstr(b, c->integers ? ",\"integers\":true" : ",\"integers\":false");
	if (c->type == TG_COLUMN_TEXT) {
		tg_buf_lit(b, ",\"words\":");
		tg_buf_u64(b, c->nwords);
	}
	tg_buf_lit(b, ",\"nulls\":");
	tg_buf_u64(b, c->nulls);
	tg_buf_lit(b, "}");
}

static void put_answer(struct tg_buf *b, const struct tg_frame *f, const char *table, struct tg_slice members, const char *hash, uint64_t bytes)
{
	tg_buf_lit(b, "{\"members\":");
	tg_buf_slice(b, members.n ? members : TG_S("{}"));
	tg_buf_lit(b, ",\"frame\":");
	if (f) {
		tg_buf_lit(b, "{\"rows\":");
		tg_buf_u64(b, f->rows);
		tg_buf_lit(b, ",\"columns\":[");
		for (unsigned i = 0; i < f->ncolumns; i++) {
			tg_buf_cstr(b, i ? "," : "");
			put_column(b, &f->columns[i]);
		}
		tg_buf_lit(b, "]}");
	} else {
		tg_buf_lit(b, "null");
	}
	tg_buf_lit(b, ",\"table\":");
	tg_buf_json(b, tg_slice_cstr(table));
	tg_buf_lit(b, ",\"hash\":");
	tg_buf_json(b, tg_slice_cstr(hash));
	tg_buf_lit(b, ",\"bytes\":");
	tg_buf_u64(b, bytes);
	tg_buf_lit(b, "}\n");
}

static bool write_frame(struct tg_service *s, const struct tg_frame *f, const char *name, bool *full, struct tg_err *err)
{
	uint64_t bytes = tg_frame_bytes(f);
	const char *why = tg_room_take(&s->room, bytes);
	*full = why != NULL;
	if (why) {
		tg_err_set(err, "%s", why);
		return false;
	}
	bool ok = tg_frame_write(f, s->spool, name, err);
	*full = !ok && (errno == ENOSPC || errno == EDQUOT);
	tg_room_done(&s->room, bytes, ok);
	return ok;
}

/* The body's end has come. */
static void finish(struct tg_service *s, struct tg_http *h, struct intake *in, struct tg_slice id)
{
	struct tg_frame *f = NULL;
	struct tg_slice members = { 0 };
	char hash[65] = "", name[TG_ID_LEN + 8];
	struct tg_err err;
	bool full;
	if (!tg_frame_reader_end(in->reader, &f, &members, hash, &in->fault)) {
		in->trouble = FAULTY;
		say_trouble(h, in);
		return;
	}
	snprintf(name, sizeof name, TG_SLICE_FMT ".frame", TG_SLICE_ARG(id));
	if (f && !write_frame(s, f, name, &full, &err)) {
		tg_service_log(h, "the spool: %s", err.text);
		if (full)
			tg_service_error(h, 507, err.text);
		else
			say(h, 500, "spool", err.text);
	} else {
		struct tg_buf b;
		tg_service_log(h, "%.*s: data of %llu rows", (int)id.n, id.p, f ? (unsigned long long)f->rows : 0);
		tg_buf_init(&b, ANSWER_MAX);
		put_answer(&b, f, tg_frame_reader_table(in->reader), members, hash, in->bytes);
		bool heard = !b.failed && tg_http_answer(h, 200, tg_buf_view(&b));
		if (b.failed)
			tg_service_error(h, 500, "the answer is too large");
		tg_buf_free(&b);
		if (!heard && f) { /* who asked has gone, and nobody knows of it */
			unlinkat(s->spool, name, 0);
			tg_frame_free(f);
			return;
		}
		/* After the answer: on a busy disk this takes as long as all the rest of a small job. A frame that a power cut takes away in between is seen by its digest, and its job fails. */
		if (f && !tg_spool_sync(s->spool, name))
			tg_service_log(h, "%s cannot be synced: %s", name, strerror(errno));
	}
	tg_frame_free(f);
}

/* The charge of a body whose reader is made. False: it has been answered, and nothing is held. */
static bool admit(struct tg_service *s, struct tg_http *h, struct intake *in, struct tg_slice owner)
{
	const char *why = tg_room_take(&s->room, 1); /* a spool that is full takes no body to find that out */
	if (why) {
		tg_service_error(h, 507, why);
		return false;
	}
	tg_room_done(&s->room, 1, false);
	if (!in->reader || !tg_charge_begin(&in->charge, &s->charges, owner)) {
		tg_service_error(h, 503, "out of memory");
		return false;
	}
	if (tg_charge(&in->charge, READER_BYTES)) {
		tg_frame_reader_charge(in->reader, &in->charge);
		return true;
	}
	say_full(h, &in->charge);
	tg_charge_end(&in->charge);
	return false;
}

static bool begin(struct tg_service *s, struct tg_http *h, struct intake *in, struct tg_frame_reader *reader, uint64_t most, struct tg_slice owner)
{
	*in = (struct intake){ .service = s, .most = most, .reader = reader };
	if (admit(s, h, in, owner))
		return true;
	tg_frame_reader_free(reader);
	return false;
}

/* The frame, which belongs to the charge as well, is gone. */
static void end(struct intake *in)
{
	tg_frame_reader_free(in->reader);
	tg_charge_end(&in->charge);
}

static bool max_bytes(const struct tg_http *h, uint64_t *most)
{
	struct tg_slice q = tg_http_query(h, "max_bytes");
	*most = q.p ? 0 : MAX_BYTES_DEFAULT;
	for (size_t i = 0; i < q.n; i++) {
		if (q.p[i] < '0' || q.p[i] > '9' || *most > (UINT64_MAX >> 4))
			return false;
		*most = *most * 10 + (uint64_t)(q.p[i] - '0');
	}
	return *most > 0;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* In hexadecimal, for it may hold what means something in a target. */
static bool boundary_of(const struct tg_http *h, char room[TG_BOUNDARY_MAX], struct tg_slice *out)
{
	struct tg_slice q = tg_http_query(h, "boundary");
	size_t n = q.n / 2;
	if (q.n % 2 || n > TG_BOUNDARY_MAX)
		return false;
	for (size_t i = 0; i < n; i++) {
		int high = digit(q.p[2 * i]), low = digit(q.p[2 * i + 1]);
		if (high < 0 || low < 0)
			return false;
		room[i] = (char)(high << 4 | low);
	}
	*out = (struct tg_slice){ room, n };
	return tg_boundary_ok(*out);
}

void tg_serve_intake(struct tg_service *s, struct tg_http *h, struct tg_slice kind, struct tg_slice id)
{
	static const char *const kinds[] = { [TG_INTAKE_TRAIN] = "train", [TG_INTAKE_PREDICT] = "predict", [TG_INTAKE_CREDIT_TRAIN] = "credit-train",
					     [TG_INTAKE_CREDIT_PREDICT] = "credit-predict", [TG_INTAKE_CSV] = "csv", [TG_INTAKE_FORM] = "form" };
	enum { KINDS = sizeof kinds / sizeof kinds[0] };
	unsigned k = 0;
	uint64_t most;
	struct intake in;
	char room[TG_BOUNDARY_MAX];
	struct tg_slice boundary;
	while (k < KINDS && !tg_slice_eq(kind, tg_slice_cstr(kinds[k])))
		k++;
	if (k == KINDS || !tg_id_ok(id)) {
		tg_service_error(h, 404, k == KINDS ? "there is no such kind of data" : "the id must be a ULID");
		return;
	}
	if (!max_bytes(h, &most)) {
		tg_service_error(h, 400, "max_bytes: must be a number of at least 1");
		return;
	}
	if (k == TG_INTAKE_FORM && !boundary_of(h, room, &boundary)) {
		tg_service_error(h, 400, "boundary: must be one of RFC 2046, in hexadecimal");
		return;
	}
	if (!begin(s, h, &in, k == TG_INTAKE_FORM ? tg_frame_reader_form(boundary, most) : tg_frame_reader_new((enum tg_intake_kind)k, most), most, tg_http_query(h, "owner")))
		return;
	if (tg_http_length(h) > most)
		in.trouble = TOO_LARGE;
	switch (in.trouble ? TG_HTTP_BODY_REFUSED : tg_http_body(h, take, &in)) {
	case TG_HTTP_BODY_OK:
		finish(s, h, &in, id);
		break;
	case TG_HTTP_BODY_REFUSED:
		say_trouble(h, &in);
		break;
	case TG_HTTP_BODY_GONE:
		h->close = true;
	}
	end(&in);
}

/* The file's bytes through the reader. False: said in `in`, or *e is set. */
static bool read_file(int fd, struct intake *in, int *e)
{
	char piece[65536];
	for (;;) {
		ssize_t n = read(fd, piece, sizeof piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			*e = errno;
		if (n <= 0)
			return n == 0;
		if (!take(in, piece, (size_t)n))
			return false;
	}
}

void tg_serve_dataset(struct tg_service *s, struct tg_http *h, struct tg_slice id)
{
	if (!tg_id_ok(id)) {
		tg_service_error(h, 404, "the id must be a ULID");
		return;
	}
	json_t *body = tg_service_json(h);
	const char *name = body ? tg_service_name(h, body, "name") : NULL;
	if (name) {
		struct intake in;
		int fd = s->datasets >= 0 ? tg_open_beneath(s->datasets, name, NULL) : -1, e = 0;
		if (fd < 0) {
			say(h, 404, "dataset", s->datasets < 0 ? "there is no folder of data sets, or it was not there when the engine started" : "there is no such file among the data sets");
		} else if (begin(s, h, &in, tg_frame_reader_new(TG_INTAKE_CSV, TG_DATASET_MAX), TG_DATASET_MAX, TG_S(""))) {
			if (read_file(fd, &in, &e))
				finish(s, h, &in, id);
			else if (e)
				tg_service_error(h, 500, "the data set cannot be read");
			else
				say_trouble(h, &in);
			end(&in);
		}
		if (fd >= 0)
			close(fd);
	}
	json_decref(body);
}
