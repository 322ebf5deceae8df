/*
 * JSON bodies with tables in them, read as they come. A machine whose state is a place in the grammar: what may stand there next is the case of that name, so any cut between two bytes is as
 * good as none, and a body of any size needs no more than its columns. Here are the body's own members, and what all three grammars use (rows_in.h).
 *
 * Members that are no tables pass through base/json_scan.h, which checks their grammar; they are kept as they were written, or dropped.
 * Strict: RFC 8259, UTF-8, no member twice, nothing that is not known inside of a table. The first fault ends it.
 */
#include "engine/number.h"
#include "engine/rows_in.h"

#define MEMBERS 64     /* of the body's object */

struct tg_rows *tg_rows_new(enum tg_intake_kind kind, uint64_t max_bytes)
{
	struct tg_rows *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->kind = kind;
	r->max_bytes = max_bytes;
	tg_tokens_init(&r->tokens, TG_ROWS_TEXT_RAW);
	tg_buf_init(&r->scratch, TG_ROWS_TEXT_RAW);
	tg_buf_init(&r->names, MEMBERS * (TG_FRAME_NAME_MAX + 2));
	tg_buf_init(&r->members, TG_INTAKE_MEMBERS_MAX);
	tg_buf_init(&r->written, TG_APPLICATION_FIELDS * TG_ROWS_TEXT_RAW);
	tg_buf_char(&r->members, '{');
	if (!r->members.failed)
		return r;
	tg_rows_free(r);
	return NULL;
}

void tg_rows_free(struct tg_rows *r)
{
	if (!r)
		return;
	tg_tokens_free(&r->tokens);
	tg_buf_free(&r->scratch);
	tg_buf_free(&r->names);
	tg_buf_free(&r->members);
	tg_buf_free(&r->written);
	tg_build_free(r->main.b);
	tg_build_free(r->checked.b);
	free(r);
}

void tg_rows_charge(struct tg_rows *r, struct tg_charge *c)
{
	r->charge = c;
}

uint64_t tg_rows_holds(const struct tg_rows *r)
{
	return r->tokens.carry.cap + r->scratch.cap + r->names.cap + r->members.cap + r->written.cap + tg_build_buffers(r->main.b) + tg_build_buffers(r->checked.b);
}

/* ---- what all use ---- */

static const char long_name[] = "has a member with a name longer than 256 bytes";

bool tg_no_json(struct tg_rows *r, uint64_t at, const char *why)
{
	return tg_fault(r->f, "", "is no valid JSON: %s at byte %llu", why, (unsigned long long)at);
}

bool tg_rows_token(struct tg_rows *r, size_t max, struct tg_slice *raw, bool *is_long)
{
	enum tg_token k = tg_token(&r->tokens, &r->c, r->end, tg_rows_here(r), max, raw);
	*is_long = k == TG_TOKEN_LONG;
	if (k == TG_TOKEN_MEMORY)
		tg_fault_memory(r->f);
	return k == TG_TOKEN_WHOLE;
}

bool tg_rows_decoded(struct tg_rows *r, struct tg_slice raw, struct tg_slice *text)
{
	const char *why = tg_text((struct tg_slice){ raw.p + 1, raw.n - 2 }, &r->scratch, text);
	if (why)
		return tg_no_json(r, r->tokens.at, why);
	return !r->scratch.failed || tg_fault_memory(r->f);
}

bool tg_rows_expect(struct tg_rows *r, char mark, enum tg_place then, const char *why)
{
	if (*r->c != mark)
		return tg_no_json(r, tg_rows_here(r), why);
	r->c++;
	r->place = then;
	return true;
}

bool tg_rows_comma_or(struct tg_rows *r, enum tg_place next, char closing, bool (*end)(struct tg_rows *), enum tg_place behind)
{
	if (*r->c == ',') {
		r->c++;
		r->place = next;
		return true;
	}
	return tg_rows_expect(r, closing, behind, closing == '}' ? "comma or } expected" : "comma or ] expected") && (!end || end(r));
}

bool tg_rows_key(struct tg_rows *r, char ch, bool (*take)(struct tg_rows *, struct tg_slice raw), bool (*say)(struct tg_rows *, const char *why))
{
	struct tg_slice raw;
	bool is_long;
	if (ch != '"')
		return tg_no_json(r, tg_rows_here(r), "member name expected");
	if (!tg_rows_token(r, TG_ROWS_NAME_RAW, &raw, &is_long))
		return is_long ? say(r, long_name) : tg_rows_more(r);
	return take(r, raw);
}

/* ---- the body's members ---- */

static bool of_body(struct tg_rows *r, const char *why)
{
	return tg_fault(r->f, "", "%s", why);
}

static enum tg_rows_what what_is(const struct tg_rows *r, struct tg_slice name)
{
	bool data = tg_slice_eq(name, TG_S("data"));
	switch (r->kind) {
	case TG_INTAKE_TRAIN:
		return data ? TABLE : tg_slice_eq(name, TG_S("geo")) ? DROP : KEEP;
	case TG_INTAKE_CREDIT_TRAIN:
		return data ? TABLE : KEEP;
	case TG_INTAKE_PREDICT:
		return tg_slice_eq(name, TG_S("future")) ? TABLE : tg_slice_eq(name, TG_S("historic")) ? CHECKED : tg_slice_eq(name, TG_S("geo")) ? DROP : KEEP;
	case TG_INTAKE_CREDIT_PREDICT:
		return data ? TABLE : tg_slice_eq(name, TG_S("applications")) ? APPLICATIONS : KEEP;
	case TG_INTAKE_CSV:
	case TG_INTAKE_FORM:
		break;
	}
	return KEEP;
}

static bool keep(struct tg_rows *r, const char *p, size_t n)
{
	if (r->members.len + n + 1 > TG_INTAKE_MEMBERS_MAX)
		return tg_fault(r->f, r->cut, "makes what is beside the tables longer than %d bytes", TG_INTAKE_MEMBERS_MAX);
	tg_buf_put(&r->members, p, n);
	return !r->members.failed || tg_fault_memory(r->f);
}

static bool member(struct tg_rows *r, struct tg_slice raw)
{
	struct tg_slice name;
	if (!tg_rows_decoded(r, raw, &name))
		return false;
	tg_name_cut(name, r->cut);
	if (name.n > TG_FRAME_NAME_MAX)
		return of_body(r, long_name);
	for (size_t at = 0; at < r->names.len;) {
		uint16_t n;
		memcpy(&n, r->names.p + at, sizeof n);
		if (tg_slice_eq(name, (struct tg_slice){ r->names.p + at + 2, n }))
			return tg_fault(r->f, r->cut, "is given twice");
		at += 2u + n;
	}
	if (r->nnames++ == MEMBERS)
		return tg_fault(r->f, "", "has more than %d members", MEMBERS);
	uint16_t n = (uint16_t)name.n;
	tg_buf_put(&r->names, (const char *)&n, sizeof n);
	tg_buf_slice(&r->names, name);
	if (r->names.failed)
		return tg_fault_memory(r->f);
	r->what = what_is(r, name);
	r->place = COLON;
	return r->what != KEEP || ((r->members.len == 1 || keep(r, ",", 1)) && keep(r, raw.p, raw.n) && keep(r, ":", 1));
}

/* The scanner sees a value as a member of an object of its own; steps grow, since what it sees behind the value was for nothing. */
static void skip_begin(struct tg_rows *r)
{
	static const char *const any[] = { "" };
	tg_json_scan_init(&r->scan, any, 1);
	tg_json_scan_feed(&r->scan, "{\"\":", 4);
	r->step = 64;
	r->place = SKIP;
}

static bool skip(struct tg_rows *r)
{
	size_t n = (size_t)(r->end - r->c) < r->step ? (size_t)(r->end - r->c) : r->step, before = r->scan.at;
	enum tg_json_state st = tg_json_scan_feed(&r->scan, r->c, n);
	bool found = r->scan.want[0].type != TG_JSON_NONE;
	if (found)
		n = r->scan.want[0].to - before;
	else if (st == TG_JSON_BAD)
		n = r->scan.at - before;
	if (r->what == KEEP && !keep(r, r->c, n)) /* first: where both are wrong, the answer must not hang on where a piece ended */
		return false;
	if (!found && st == TG_JSON_BAD)
		return tg_no_json(r, tg_rows_here(r) + n, r->scan.why);
	r->c += n;
	r->step = r->step < 65536 ? 2 * r->step : r->step;
	if (found)
		r->place = AFTER;
	return true;
}

static bool table_begin(struct tg_rows *r)
{
	bool predict = r->kind == TG_INTAKE_PREDICT;
	r->t = r->what == CHECKED ? &r->checked : &r->main;
	if (r->t->b)
		return tg_fault(r->f, r->cut, "cannot be given together with %s", r->what == APPLICATIONS ? "data" : "applications");
	r->t->name = r->what == CHECKED ? "historic" : r->what == APPLICATIONS ? "applications" : predict ? "future" : "data";
	r->t->b = tg_build_new(r->what != CHECKED, r->what != CHECKED && (predict || r->kind == TG_INTAKE_CREDIT_PREDICT), r->max_bytes);
	if (!r->t->b)
		return tg_fault_memory(r->f);
	r->t->b->charge = r->charge;
	return true;
}

static bool optional(const struct tg_rows *r)
{
	return r->kind == TG_INTAKE_CREDIT_TRAIN || r->kind == TG_INTAKE_CREDIT_PREDICT;
}

/* null where a table may be left out: it was. */
static bool no_table(struct tg_rows *r)
{
	struct tg_slice raw;
	bool is_long;
	if (!tg_rows_token(r, TG_NUMBER_MAX, &raw, &is_long) && !is_long)
		return tg_rows_more(r);
	if (is_long || !tg_slice_eq(raw, TG_S("null")))
		return tg_no_json(r, r->tokens.at, "value expected");
	r->place = AFTER;
	return true;
}

static bool value(struct tg_rows *r, char ch)
{
	if (r->what == KEEP || r->what == DROP) {
		skip_begin(r);
		return true;
	}
	if (ch == 'n' && optional(r))
		return no_table(r);
	if (!tg_may_be_value(ch))
		return tg_no_json(r, tg_rows_here(r), "value expected");
	if (r->what == APPLICATIONS) {
		if (ch != '[')
			return tg_fault(r->f, r->cut, "must be an array of applications");
		r->c++;
		return table_begin(r) && tg_applications_begin(r);
	}
	if (ch != '{')
		return tg_fault(r->f, r->cut, "must be an object with columns and data");
	r->c++;
	r->place = T_FIRST;
	return table_begin(r);
}

/* ---- the machine ---- */

static bool step(struct tg_rows *r, char ch)
{
	switch (r->place) {
	case BODY: return tg_rows_expect(r, '{', FIRST_KEY, "the document is not an object");
	case FIRST_KEY: return ch == '}' ? tg_rows_expect(r, '}', DONE, "") : tg_rows_key(r, ch, member, of_body);
	case KEY: return tg_rows_key(r, ch, member, of_body);
	case COLON: return tg_rows_expect(r, ':', VALUE, "colon expected");
	case VALUE: return value(r, ch);
	case SKIP: return skip(r);
	case AFTER: return tg_rows_comma_or(r, KEY, '}', NULL, DONE);
	case DONE: return tg_no_json(r, tg_rows_here(r), "data after the document");
	default: return r->place >= A_FIRST ? tg_application_step(r, ch) : tg_table_step(r, ch);
	}
}

bool tg_rows_feed(struct tg_rows *r, const char *p, size_t n, struct tg_intake_fault *f)
{
	*f = (struct tg_intake_fault){ 0 };
	r->f = f;
	r->p = r->c = p;
	r->end = p + n;
	for (;;) {
		if (!r->tokens.open && r->place != SKIP)
			r->c = tg_json_space(r->c, r->end);
		if (r->c == r->end)
			break;
		if (!step(r, r->tokens.open ? r->tokens.first : *r->c))
			return false;
	}
	r->base += n;
	return true;
}

const char *tg_rows_table(const struct tg_rows *r)
{
	return r->main.name ? r->main.name : "";
}

static bool required(struct tg_rows *r)
{
	if (r->kind == TG_INTAKE_PREDICT && !r->checked.b)
		return tg_fault(r->f, "historic", "is required");
	if (!r->main.b && r->kind == TG_INTAKE_CREDIT_PREDICT)
		return tg_fault(r->f, "applications", "is required, or data");
	return r->main.b || optional(r) || tg_fault(r->f, r->kind == TG_INTAKE_PREDICT ? "future" : "data", "is required");
}

bool tg_rows_end(struct tg_rows *r, struct tg_frame **frame, struct tg_slice *members, struct tg_intake_fault *f)
{
	r->f = f;
	*f = (struct tg_intake_fault){ 0 };
	*frame = NULL;
	if (r->place != DONE)
		return tg_no_json(r, r->base, "unexpected end");
	if (!required(r))
		return false;
	tg_buf_char(&r->members, '}');
	if (r->members.failed)
		return tg_fault_memory(f);
	if (r->main.b) {
		*frame = tg_build_finish(r->main.b);
		r->main.b = NULL;
		if (!*frame)
			return tg_fault_memory(f);
	}
	*members = tg_buf_view(&r->members);
	return true;
}
