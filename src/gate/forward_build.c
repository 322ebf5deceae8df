/*
 * The request as the worker gets it: rebuilt from the parsed form, never passed through. Headers are an allow-list, so that no credential, cookie, hop-by-hop or
 * identity header of the caller can reach a worker by a name that we forgot. The body stays as the caller wrote it, save for two edits in place: the model's
 * name where the worker knows it by another, and stream_options.include_usage, which we need to count tokens.
 *
 * Layout of up_req: room for the lines that depend on the worker (written when one is chosen, and again on a retry), the common lines, and a small body. A large
 * body stays where it was received and is sent from there.
 */
#include "api/translate.h"
#include "gate/exchange.h"
#include <stdlib.h>

#define ROOM 1024        /* request line, Host, Authorization: more than that and the worker's lines are allocated for */
#define COPY_BELOW 8192  /* a body up to this is copied behind the head: one send, one piece */

#define EDIT_MAX 4096    /* a model's name, escaped */

struct edit {
	size_t from, to;    /* replaced bytes of the body */
	struct tg_buf text; /* owned */
};

static bool may_pass(const struct tg_header *h)
{
	static const char *const names[] = { "traceparent", "tracestate", "accept-language", "openai-organization", "openai-project", "openai-beta",
					     "anthropic-version", "anthropic-beta" };
	switch ((enum tg_header_id)h->id) {
	case TG_H_ACCEPT:
	case TG_H_USER_AGENT:
	case TG_H_X_SESSION_ID:
		return true;
	case TG_H_OTHER:
		break;
	default:
		return false;
	}
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (tg_slice_eq_nocase(h->name, tg_slice_cstr(names[i])))
			return true;
	return false;
}

/* Connection may name headers that belong to this hop only (RFC 9110 section 7.6.1). */
static bool named_by_connection(const struct tg_head *head, struct tg_slice name)
{
	for (unsigned i = 0; i < head->nheaders; i++) {
		if (head->headers[i].id != TG_H_CONNECTION)
			continue;
		struct tg_slice v = head->headers[i].value;
		while (v.n) {
			const char *comma = memchr(v.p, ',', v.n);
			struct tg_slice one = tg_slice_trim((struct tg_slice){ v.p, comma ? (size_t)(comma - v.p) : v.n });
			if (tg_slice_eq_nocase(one, name))
				return true;
			if (!comma)
				break;
			v.n -= (size_t)(comma + 1 - v.p);
			v.p = comma + 1;
		}
	}
	return false;
}

static void common_lines(struct tg_exchange *x, struct tg_buf *b, size_t body)
{
	const struct tg_head *h = x->head;
	tg_buf_lit(b, "Content-Type: application/json\r\nContent-Length: ");
	tg_buf_u64(b, body);
	tg_buf_lit(b, "\r\nX-Request-ID: ");
	tg_buf_slice(b, tg_exchange_rid(x));
	tg_buf_lit(b, "\r\n");
	if (x->model->conf->pass_key_prefix && x->principal->prefix[0]) { /* printable ASCII by its making */
		tg_buf_lit(b, "X-Tollgate-Key-Prefix: ");
		tg_buf_cstr(b, x->principal->prefix);
		tg_buf_lit(b, "\r\n");
	}
	bool connection = h->first[TG_H_CONNECTION] >= 0;
	for (unsigned i = 0; i < h->nheaders; i++) {
		const struct tg_header *f = &h->headers[i];
		if (!may_pass(f) || (connection && named_by_connection(h, f->name)))
			continue;
		tg_buf_slice(b, f->name);
		tg_buf_lit(b, ": ");
		tg_buf_slice(b, f->value);
		tg_buf_lit(b, "\r\n");
	}
	tg_buf_lit(b, "\r\n");
}

static const char *worker_model_name(const struct tg_exchange *x)
{
	const struct tg_model_conf *c = x->model->conf;
	return c->upstream_name ? c->upstream_name : c->name;
}

static bool edit_model(struct tg_exchange *x, struct edit *e)
{
	const struct tg_json_want *w = &x->want[TG_WANT_MODEL];
	struct tg_slice quoted = tg_json_value(x->body, w), name = { quoted.p + 1, quoted.n - 2 }, want = tg_slice_cstr(worker_model_name(x));
	if (!w->escaped && tg_slice_eq(name, want))
		return false;
	e->from = w->from;
	e->to = w->to;
	tg_buf_json(&e->text, want);
	return true;
}

/* Ask the worker for usage; remember whether the caller did, so that the extra event can be cut. */
static bool edit_usage(struct tg_exchange *x, struct edit *e)
{
	const struct tg_json_want *w = &x->want[TG_WANT_STREAM_OPTIONS];
	x->cut_usage = true;
	if (w->type == TG_JSON_NONE) {
		e->from = e->to = x->first_member;
		tg_buf_lit(&e->text, "\"stream_options\":{\"include_usage\":true},");
		return true;
	}
	if (w->type == TG_JSON_NULL) {
		e->from = w->from;
		e->to = w->to;
		tg_buf_lit(&e->text, "{\"include_usage\":true}");
		return true;
	}
	static const char *const names[] = { "include_usage" };
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, tg_json_value(x->body, w), names, 1) != TG_JSON_DONE)
		return false;
	if (s.want[0].type == TG_JSON_TRUE) {
		x->cut_usage = false;
		return false;
	}
	if (s.want[0].type == TG_JSON_NONE) {
		e->from = e->to = w->from + s.first_member;
		tg_buf_cstr(&e->text, s.empty ? "\"include_usage\":true" : "\"include_usage\":true,");
	} else {
		e->from = w->from + s.want[0].from;
		e->to = w->from + s.want[0].to;
		tg_buf_lit(&e->text, "true");
	}
	return true;
}

static unsigned collect_edits(struct tg_exchange *x, struct edit edits[2])
{
	unsigned n = 0;
	for (unsigned i = 0; i < 2; i++)
		tg_buf_init(&edits[i].text, EDIT_MAX);
	if (edit_model(x, &edits[n]))
		n++;
	if (x->stream && x->family == TG_FAM_OPENAI && edit_usage(x, &edits[n]))
		n++;
	if (n == 2 && edits[0].from > edits[1].from) {
		struct edit t = edits[0];
		edits[0] = edits[1];
		edits[1] = t;
	}
	return n;
}

/* The head (with `copied` bytes of room behind it) in up_req. */
static bool build_head(struct tg_exchange *x, size_t body, size_t copied, struct tg_buf *b)
{
	size_t room = ROOM;
	for (unsigned i = 0; i < x->model->nworkers; i++) {
		const struct tg_worker *w = x->model->workers[i];
		size_t need = w->fixed_len + strlen(w->base) + 64;
		if (need > room)
			room = need;
	}
	tg_buf_init(b, room + (64u << 10) + copied);
	if (!tg_buf_reserve(b, room + 640 + copied))
		return false;
	b->len = room;
	x->up_room = room;
	common_lines(x, b, body);
	return !b->failed;
}

static bool fail(struct tg_exchange *x)
{
	tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	return false;
}

/* Takes the buffer over as the request, whole or not at all. */
static bool finish(struct tg_exchange *x, struct tg_buf *b)
{
	if (b->failed || (b->cap > COPY_BELOW * 2 && !tg_exchange_charge(x, b->cap))) {
		tg_buf_free(b);
		return fail(x);
	}
	x->up_req = b->p;
	x->up_len = b->len;
	return true;
}

/* The body in pieces, with the edits between them: copied behind the head, or to be sent from where they lie. */
static bool put_pieces(struct tg_exchange *x, struct edit *edits, unsigned n, bool copy, struct tg_buf *b)
{
	size_t at = 0, put = 0;
	for (unsigned i = 0; i <= n; i++) {
		size_t to = i < n ? edits[i].from : x->body.n;
		struct tg_slice part = { x->body.p + at, to - at }, text = i < n ? tg_buf_view(&edits[i].text) : (struct tg_slice){ 0 };
		if (i < n && edits[i].text.failed)
			return false;
		if (copy) {
			tg_buf_slice(b, part);
			tg_buf_slice(b, text);
		} else {
			if (part.n)
				x->up_body[x->up_nbody++] = (struct iovec){ (void *)(uintptr_t)part.p, part.n };
			if (text.n) {
				memcpy(x->edits + put, text.p, text.n);
				x->up_body[x->up_nbody++] = (struct iovec){ x->edits + put, text.n };
				put += text.n;
			}
		}
		if (i < n)
			at = edits[i].to;
	}
	return true;
}

static bool build_edited(struct tg_exchange *x)
{
	struct edit edits[2];
	unsigned n = collect_edits(x, edits);
	size_t total = x->body.n, inserted = 0;
	for (unsigned i = 0; i < n; i++) {
		total += edits[i].text.len - (edits[i].to - edits[i].from);
		inserted += edits[i].text.len;
	}
	bool copy = total <= COPY_BELOW || !x->body_owned;
	struct tg_buf b;
	bool ok = build_head(x, total, copy ? total : 0, &b) && (copy || !inserted || (x->edits = malloc(inserted))) && put_pieces(x, edits, n, copy, &b);
	for (unsigned i = 0; i < n; i++)
		tg_buf_free(&edits[i].text);
	if (ok)
		return finish(x, &b);
	tg_buf_free(&b);
	return fail(x);
}

static bool build_translated(struct tg_exchange *x)
{
	struct tg_buf body, b;
	struct tg_field_fault fault = { 0 };
	tg_buf_init(&body, x->body.n + 65536);
	bool ok = x->family == TG_FAM_INFER
			  ? tg_infer_to_chat(tg_json_value(x->body, &x->want[TG_WANT_PROMPT]), worker_model_name(x), &body, &fault)
			  : tg_inference_to_chat(x->body, worker_model_name(x), x->stream, &body, &fault);
	if (!ok) {
		char text[256];
		snprintf(text, sizeof text, "Validation error on %s: %s", fault.field ? fault.field : "body", fault.reason ? fault.reason : "is too large");
		tg_answer_problem(x, TG_E_bad_field, "bad_body", text, fault.field, NULL);
		tg_buf_free(&body);
		return false;
	}
	ok = build_head(x, body.len, body.len, &b);
	ok = ok && !body.failed;
	if (ok)
		tg_buf_slice(&b, tg_buf_view(&body));
	tg_buf_free(&body);
	if (ok)
		return finish(x, &b);
	tg_buf_free(&b);
	return fail(x);
}

bool tg_forward_build(struct tg_exchange *x)
{
	bool translate = x->forward->translates && x->model->conf->protocol == TG_PROTO_OPENAI;
	x->answer_mode = translate && !x->stream ? TG_ANSWER_COLLECT : TG_ANSWER_PASS;
	if (translate) {
		/* 002's clients see OpenAI's events; the usage event is ours. */
		x->cut_usage = false;
		return build_translated(x);
	}
	return build_edited(x);
}
