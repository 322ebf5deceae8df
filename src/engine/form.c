/*
 * Forms with a table in them (see form.h). The file is ended with its part, so that what is wrong with its last row is told there and not behind whatever follows. Types are looked at because a spreadsheet of
 * another kind (xlsx, zip) should be called by its name, and not by the first byte in it that is no UTF-8.
 */
#include "engine/form.h"
#include "base/utf8.h"
#include "engine/csv.h"
#include "engine/fault.h"
#include "engine/multipart.h"

#define FILE_NAME "file"

struct tg_form {
	struct tg_multipart *parts;
	struct tg_csv *csv;
	struct tg_frame *frame;     /* of the file, once it has ended */
	bool in_file, had_file;
	char cut[TG_NAME_CUT];      /* the name of the part that is read */
	struct tg_buf names;        /* of the parts so far: a length in two bytes, then the name */
	struct tg_buf members, text; /* text: of the part that is read */
};

/* ---- parts ---- */

static bool one_of(struct tg_slice v, const char *const *list)
{
	for (; *list; list++)
		if (tg_slice_eq_nocase(v, tg_slice_cstr(*list)))
			return true;
	return !v.p;
}

static bool new_name(struct tg_form *r, struct tg_slice name, struct tg_intake_fault *f)
{
	uint16_t n;
	for (size_t at = 0; at < r->names.len; at += 2u + n) {
		memcpy(&n, r->names.p + at, sizeof n);
		if (tg_slice_eq(name, (struct tg_slice){ r->names.p + at + 2, n }))
			return tg_fault(f, r->cut, "is given twice");
	}
	n = (uint16_t)name.n;
	tg_buf_put(&r->names, (const char *)&n, sizeof n);
	tg_buf_slice(&r->names, name);
	return !r->names.failed || tg_fault_memory(f);
}

static bool begin_text(struct tg_form *r, struct tg_slice name, struct tg_intake_fault *f)
{
	r->text.len = 0;
	tg_buf_cstr(&r->members, r->members.len > 1 ? "," : "");
	tg_buf_json(&r->members, name);
	tg_buf_char(&r->members, ':');
	return !r->members.failed || tg_fault_memory(f);
}

static bool part(void *ctx, const struct tg_part *p, struct tg_intake_fault *f)
{
	static const char *const encodings[] = { "7bit", "8bit", "binary", NULL }, *const tables[] = { "text/csv", "application/vnd.ms-excel", "application/octet-stream", "text/plain", NULL },
				 *const texts[] = { "text/plain", "application/json", NULL };
	struct tg_form *r = ctx;
	bool called = tg_slice_eq(p->name, TG_S(FILE_NAME));
	tg_name_cut(p->name, r->cut);
	if (!new_name(r, p->name, f))
		return false;
	if (p->file && !called)
		return tg_fault(f, r->cut, "is a file of another name; the part with the table must be called " FILE_NAME);
	if (!one_of(p->encoding, encodings))
		return tg_fault(f, r->cut, "has a Content-Transfer-Encoding other than 7bit, 8bit and binary, which is not taken");
	if (!one_of(p->type, called ? tables : texts))
		return tg_fault(f, r->cut, "%s", called ? "must be CSV: its Content-Type text/csv, application/vnd.ms-excel, application/octet-stream, text/plain or none" : "must be a text: its Content-Type text/plain, application/json or none");
	r->in_file = called;
	r->had_file = r->had_file || called;
	return called || begin_text(r, p->name, f);
}

/* A fault of the table as a whole is the file's, for there is more to this body. */
static bool of_file(bool ok, struct tg_intake_fault *f)
{
	if (!ok && !f->field[0] && !f->memory)
		snprintf(f->field, sizeof f->field, FILE_NAME);
	return ok;
}

static bool data(void *ctx, const char *p, size_t n, struct tg_intake_fault *f)
{
	struct tg_form *r = ctx;
	if (r->in_file)
		return of_file(tg_csv_feed(r->csv, p, n, f), f);
	if (n > TG_FORM_TEXT_MAX - r->text.len)
		return tg_fault(f, r->cut, "is longer than %d bytes", TG_FORM_TEXT_MAX);
	tg_buf_put(&r->text, p, n);
	return !r->text.failed || tg_fault_memory(f);
}

static bool part_end(void *ctx, struct tg_intake_fault *f)
{
	struct tg_form *r = ctx;
	struct tg_slice text = tg_buf_view(&r->text);
	if (r->in_file)
		return of_file(tg_csv_end(r->csv, &r->frame, f), f);
	if (text.n && (memchr(text.p, 0, text.n) || !tg_utf8_valid(text.p, text.n)))
		return tg_fault(f, r->cut, "must be UTF-8, without NUL");
	tg_buf_json(&r->members, text);
	if (r->members.failed)
		return tg_fault_memory(f);
	return r->members.len <= TG_INTAKE_MEMBERS_MAX || tg_fault(f, r->cut, "makes what is beside the file longer than %d bytes", TG_INTAKE_MEMBERS_MAX);
}

static const struct tg_multipart_events events = { part, data, part_end };

/* ---- the form ---- */

struct tg_form *tg_form_new(struct tg_slice boundary, uint64_t max_bytes)
{
	struct tg_form *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	tg_buf_init(&r->names, TG_PARTS_MAX * (TG_PART_NAME_MAX + 2u));
	tg_buf_init(&r->text, TG_FORM_TEXT_MAX);
	tg_buf_init(&r->members, TG_INTAKE_MEMBERS_MAX + 6u * (TG_FORM_TEXT_MAX + TG_PART_NAME_MAX) + 16); /* the last one, escaped, before it is found to be too much */
	tg_buf_char(&r->members, '{');
	r->csv = tg_csv_new(max_bytes);
	r->parts = tg_multipart_new(boundary, &events, r);
	if (r->csv && r->parts && !r->members.failed)
		return r;
	tg_form_free(r);
	return NULL;
}

void tg_form_free(struct tg_form *r)
{
	if (!r)
		return;
	tg_multipart_free(r->parts);
	tg_csv_free(r->csv);
	tg_frame_free(r->frame);
	tg_buf_free(&r->names);
	tg_buf_free(&r->text);
	tg_buf_free(&r->members);
	free(r);
}

void tg_form_charge(struct tg_form *r, struct tg_charge *c)
{
	tg_csv_charge(r->csv, c);
}

uint64_t tg_form_holds(const struct tg_form *r)
{
	return r->names.cap + r->text.cap + r->members.cap + tg_csv_holds(r->csv);
}

bool tg_form_feed(struct tg_form *r, const char *p, size_t n, struct tg_intake_fault *f)
{
	return tg_multipart_feed(r->parts, p, n, f);
}

bool tg_form_end(struct tg_form *r, struct tg_frame **frame, struct tg_slice *members, struct tg_intake_fault *f)
{
	*frame = NULL;
	if (!tg_multipart_end(r->parts, f))
		return false;
	if (!r->had_file)
		return tg_fault(f, FILE_NAME, "is required: a part of that name which holds the table as CSV");
	tg_buf_char(&r->members, '}');
	if (r->members.failed)
		return tg_fault_memory(f);
	*members = tg_buf_view(&r->members);
	*frame = r->frame;
	r->frame = NULL;
	return true;
}
