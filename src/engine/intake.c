/* The reader of frame.h: counts the bytes, hands them to the machine of their kind, keeps the first fault, and signs what came of them. */
#include "engine/charge.h"
#include "engine/csv.h"
#include "engine/fault.h"
#include "engine/form.h"
#include "engine/rows.h"

#define BYTES_MAX ((uint64_t)1 << 40) /* so that no sum of sizes overflows */

struct tg_frame_reader {
	uint64_t bytes, max_bytes;
	struct tg_rows *rows; /* one of the three */
	struct tg_csv *csv;
	struct tg_form *form;
	struct tg_charge *charge;
	uint64_t holds;       /* asked for, besides what its machine did */
	bool ended;
	struct tg_intake_fault fault; /* why[0]: it has one */
};

static struct tg_frame_reader *new_reader(uint64_t max_bytes)
{
	struct tg_frame_reader *r = calloc(1, sizeof *r);
	if (r)
		r->max_bytes = max_bytes < BYTES_MAX ? max_bytes : BYTES_MAX;
	return r;
}

static struct tg_frame_reader *with_machine(struct tg_frame_reader *r)
{
	if (r && (r->csv || r->rows || r->form))
		return r;
	free(r);
	return NULL;
}

struct tg_frame_reader *tg_frame_reader_new(enum tg_intake_kind kind, uint64_t max_bytes)
{
	struct tg_frame_reader *r = new_reader(max_bytes);
	if (r && kind == TG_INTAKE_CSV)
		r->csv = tg_csv_new(r->max_bytes);
	else if (r)
		r->rows = tg_rows_new(kind, r->max_bytes);
	return with_machine(r);
}

struct tg_frame_reader *tg_frame_reader_form(struct tg_slice boundary, uint64_t max_bytes)
{
	struct tg_frame_reader *r = new_reader(max_bytes);
	if (r)
		r->form = tg_form_new(boundary, r->max_bytes);
	return with_machine(r);
}

void tg_frame_reader_charge(struct tg_frame_reader *r, struct tg_charge *c)
{
	r->charge = c;
	if (r->csv)
		tg_csv_charge(r->csv, c);
	else if (r->form)
		tg_form_charge(r->form, c);
	else
		tg_rows_charge(r->rows, c);
}

/* Buffers have doubled, but what was added holds no more than this piece put there. They never shrink. */
static bool charged(struct tg_frame_reader *r)
{
	uint64_t holds = r->csv ? tg_csv_holds(r->csv) : r->form ? tg_form_holds(r->form) : tg_rows_holds(r->rows);
	if (holds <= r->holds)
		return true;
	bool ok = tg_charge(r->charge, holds - r->holds);
	r->holds = holds;
	return ok || tg_fault_memory(&r->fault);
}

void tg_frame_reader_free(struct tg_frame_reader *r)
{
	if (!r)
		return;
	tg_rows_free(r->rows);
	tg_csv_free(r->csv);
	tg_form_free(r->form);
	free(r);
}

static bool feed(struct tg_frame_reader *r, const char *p, size_t n)
{
	return r->csv ? tg_csv_feed(r->csv, p, n, &r->fault) : r->form ? tg_form_feed(r->form, p, n, &r->fault) : tg_rows_feed(r->rows, p, n, &r->fault);
}

static bool at_end(struct tg_frame_reader *r, struct tg_frame **frame, struct tg_slice *members)
{
	return r->csv ? tg_csv_end(r->csv, frame, &r->fault) : r->form ? tg_form_end(r->form, frame, members, &r->fault) : tg_rows_end(r->rows, frame, members, &r->fault);
}

bool tg_frame_reader_feed(struct tg_frame_reader *r, const char *p, size_t n, struct tg_intake_fault *f)
{
	/* What is within the bound is looked at first: which fault it is must not depend on the pieces. */
	size_t within = n < r->max_bytes - r->bytes ? n : (size_t)(r->max_bytes - r->bytes);
	if (!r->fault.why[0]) {
		bool ok = !within || (feed(r, p, within) && (!r->charge || charged(r)));
		r->bytes += within;
		if (ok && within < n) {
			tg_fault(&r->fault, "", "is longer than %llu bytes", (unsigned long long)r->max_bytes);
			r->fault.too_large = true;
		}
	}
	*f = r->fault;
	return !r->fault.why[0];
}

const char *tg_frame_reader_table(const struct tg_frame_reader *r)
{
	return r->rows ? tg_rows_table(r->rows) : "";
}

bool tg_frame_reader_end(struct tg_frame_reader *r, struct tg_frame **frame, struct tg_slice *members, char hash[65], struct tg_intake_fault *f)
{
	*frame = NULL;
	*members = TG_S("{}");
	hash[0] = 0;
	if (!r->fault.why[0] && r->ended)
		tg_fault(&r->fault, "", "was ended before");
	r->ended = true;
	if (!r->fault.why[0] && at_end(r, frame, members) && *frame && !tg_frame_hash(*frame, hash)) {
		tg_frame_free(*frame);
		*frame = NULL;
		tg_fault_memory(&r->fault);
	}
	*f = r->fault;
	return !r->fault.why[0];
}
