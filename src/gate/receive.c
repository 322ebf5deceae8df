/*
 * Stage 6: the body. It is read only now, after authentication and limits, whole (its `model` decides where it goes), within bounds, and scanned as it
 * arrives: no byte is looked at twice and no tree is built. A body that came with its head is used where it lies; a longer one is received straight
 * into its own buffer. Bodies of UPLOAD routes are not read here but passed on by their handlers (upload.c).
 */
#include "gate/revoked.h"
#include "gate/upload.h"
#include <stdlib.h>

#define FIRST_ROOM (64u * 1024u) /* of a body's buffer */

static enum tg_step invalid(struct tg_exchange *x, enum tg_error e, const char *field, const char *why)
{
	char text[256];
	snprintf(text, sizeof text, "Validation error on %s: %s", field, why);
	return tg_answer_problem(x, e, "bad_body", text, field, NULL);
}

/* What of a body's members is looked for; how many. */
static unsigned want_names(const struct tg_exchange *x, const char *names[TG_WANT_ALL])
{
	names[TG_WANT_MODEL] = x->forward->model_member;
	names[TG_WANT_STREAM] = "stream";
	names[TG_WANT_STREAM_OPTIONS] = "stream_options";
	names[TG_WANT_PROMPT] = x->forward->prompt_member;
	if (!x->tokens.limit)
		return TG_WANT_COUNT;
	names[TG_WANT_MAX_TOKENS] = "max_tokens";
	names[TG_WANT_MAX_COMPLETION] = "max_completion_tokens";
	names[TG_WANT_N] = "n";
	names[TG_WANT_BEST_OF] = "best_of";
	return TG_WANT_ALL;
}

static enum tg_step unknown_model(struct tg_exchange *x, struct tg_slice name)
{
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	tg_buf_fmt(&b, "The model `%.*s` does not exist or you do not have access to it.", (int)(name.n < 100 ? name.n : 100), name.p);
	/* 001's callers, who may have no key at all, are told what there is (C-27); elsewhere only those who may list the models. */
	if (x->family == TG_FAM_INFER || (x->perms & TG_PERM_read_models)) {
		tg_buf_lit(&b, " Known models: ");
		tg_models_list(&x->snap->models, &b);
		tg_buf_char(&b, '.');
	}
	tg_buf_char(&b, 0);
	enum tg_step r = tg_answer_problem(x, TG_E_model_not_found, "model_not_found", b.failed ? "The model does not exist." : b.p,
					   x->family == TG_FAM_OPENAI ? NULL : x->forward->model_member, NULL);
	tg_buf_free(&b);
	return r;
}

static size_t code_points(struct tg_slice s)
{
	size_t n = 0;
	for (size_t i = 0; i < s.n; i++)
		n += ((unsigned char)s.p[i] & 0xc0) != 0x80;
	return n;
}

static enum tg_step find_model(struct tg_exchange *x)
{
	const struct tg_json_want *w = &x->want[TG_WANT_MODEL];
	const char *member = x->forward->model_member;
	if (w->type == TG_JSON_NONE)
		return invalid(x, TG_E_bad_field, member, "is required");
	if (w->type != TG_JSON_STRING)
		return invalid(x, TG_E_bad_field, member, "must be a string");
	if (!x->snap->models.n)
		return tg_answer_problem(x, TG_E_unavailable, "no_model",
					 "No model is configured. Add one: tollgate run -- llama-server -m X.gguf --port {port}, or a [[model]] with urls in tollgate.toml.",
					 NULL, "Retry-After: 30\r\n");
	struct tg_slice quoted = tg_json_value(x->body, w), name = { quoted.p + 1, quoted.n - 2 };
	char plain[512];
	if (w->escaped) {
		long n = tg_json_unescape(quoted, plain, sizeof plain);
		name = (struct tg_slice){ plain, n < 0 ? 0 : (size_t)n };
	}
	x->model = tg_models_find(&x->snap->models, name);
	if (!x->model)
		return unknown_model(x, name);
	if (x->model->conf->protocol == TG_PROTO_INFER && x->family != TG_FAM_INFER)
		return invalid(x, TG_E_bad_field, member, "this model speaks /infer only");
	return TG_NEXT;
}

static enum tg_step check_prompt(struct tg_exchange *x)
{
	const struct tg_json_want *w = &x->want[TG_WANT_PROMPT];
	const char *member = x->forward->prompt_member;
	if (w->type == TG_JSON_NONE)
		return invalid(x, TG_E_bad_field, member, "is required");
	if (x->family == TG_FAM_INFER && w->type != TG_JSON_OBJECT)
		return invalid(x, TG_E_bad_field, member, "must be an object");
	if (x->family == TG_FAM_API && w->type != TG_JSON_STRING)
		return invalid(x, TG_E_bad_field, member, "must be a string");
	if (w->type != TG_JSON_STRING && w->type != TG_JSON_ARRAY && w->type != TG_JSON_OBJECT)
		return invalid(x, TG_E_bad_field, member, "has the wrong type");
	uint32_t max = x->model->conf->max_prompt_chars;
	if (x->family == TG_FAM_API && (!max || x->snap->config->max_prompt_chars < max))
		max = x->snap->config->max_prompt_chars;
	size_t chars = !max ? 0 : w->type == TG_JSON_STRING ? w->chars : code_points(tg_json_value(x->body, w));
	if (max && chars > max) {
		char why[96];
		snprintf(why, sizeof why, "has %zu characters, at most %u are allowed", chars, max);
		return invalid(x, TG_E_bad_field, member, why);
	}
	return TG_NEXT;
}

/* The body is whole: is it what the route takes? */
static enum tg_step judge(struct tg_exchange *x, const struct tg_json_scan *s, enum tg_json_state state)
{
	if (state != TG_JSON_DONE) {
		char text[160];
		if (s->member)
			return invalid(x, TG_E_bad_field, s->member, "is given twice");
		snprintf(text, sizeof text, "The body is not a valid JSON object: %s at byte %zu.", s->why ? s->why : "unexpected end", s->at);
		return tg_answer_problem(x, TG_E_bad_json, "bad_body", text, NULL, NULL);
	}
	memcpy(x->want, s->want, sizeof x->want);
	x->first_member = s->first_member;
	enum tg_step r = find_model(x);
	if (r != TG_NEXT)
		return r;
	enum tg_json_type stream = x->want[TG_WANT_STREAM].type, options = x->want[TG_WANT_STREAM_OPTIONS].type;
	if (stream != TG_JSON_NONE && stream != TG_JSON_TRUE && stream != TG_JSON_FALSE && stream != TG_JSON_NULL)
		return invalid(x, TG_E_bad_field, "stream", "must be true or false");
	if (options != TG_JSON_NONE && options != TG_JSON_OBJECT && options != TG_JSON_NULL)
		return invalid(x, TG_E_bad_field, "stream_options", "must be an object");
	x->stream = stream == TG_JSON_TRUE && x->family != TG_FAM_INFER;
	if (x->stream && !(x->perms & TG_PERM_use_streaming))
		return tg_answer_problem(x, TG_E_forbidden, "forbidden", "This key lacks the permission use_streaming.", "stream", NULL);
	r = check_prompt(x);
	x->tokens.prompt = tg_limit_prompt(x);
	return r == TG_NEXT && x->tokens.limit ? tg_limit_tokens(x, s) : r;
}

static uint64_t body_max(const struct tg_exchange *x)
{
	return x->forward ? x->snap->config->max_body_bytes : tg_route_body_max(x->route);
}

static enum tg_step too_large(struct tg_exchange *x)
{
	char text[96];
	snprintf(text, sizeof text, "The body is over the limit of %llu bytes.", (unsigned long long)body_max(x));
	return tg_answer_problem(x, TG_E_too_large, "body_too_large", text, NULL, NULL);
}

static enum tg_step out_of_memory(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_unavailable, "memory", "Too many bodies are in memory; try again.", NULL, "Retry-After: 1\r\n");
}

static bool grow(struct tg_exchange *x, size_t need)
{
	struct tg_intake *in = x->intake;
	if (need <= in->cap)
		return true;
	size_t cap = in->cap ? in->cap * 2 : 16384;
	while (cap < need)
		cap *= 2;
	if (!x->head->chunked && cap > (size_t)x->head->content_length)
		cap = (size_t)x->head->content_length;
	if (!tg_exchange_charge(x, cap - in->cap))
		return false;
	char *p = realloc(in->body, cap);
	if (!p)
		return false;
	in->body = p;
	in->cap = cap;
	return true;
}

static enum tg_step whole(struct tg_exchange *x)
{
	struct tg_intake *in = x->intake;
	tg_timer_stop(&x->timer);
	x->intake = NULL;
	x->received = true;
	x->body_left = false;
	x->body_owned = in->body;
	x->body = (struct tg_slice){ in->body, in->len };
	enum tg_step r = tg_judge_again(x); /* it may have taken minutes; a body that came with its head took none */
	if (r == TG_NEXT && in->scanning)
		r = judge(x, &in->scan, tg_json_scan_end(&in->scan));
	free(in);
	return r;
}

static enum tg_step begin_intake(struct tg_exchange *x)
{
	const struct tg_head *h = x->head;
	struct tg_intake *in = x->intake = calloc(1, sizeof *in);
	if (!in)
		return out_of_memory(x);
	/* A length that is only announced costs nothing yet: the buffer grows with what arrives. */
	if (h->chunked)
		tg_chunked_init(&in->chunked);
	else if (!grow(x, h->content_length < FIRST_ROOM ? (size_t)h->content_length : FIRST_ROOM))
		return out_of_memory(x);
	in->scanning = x->forward != NULL;
	if (in->scanning) {
		const char *names[TG_WANT_ALL];
		unsigned n = want_names(x, names);
		tg_json_scan_init(&in->scan, names, n);
	}
	return TG_NEXT;
}

static void took(struct tg_exchange *x, size_t n)
{
	struct tg_intake *in = x->intake;
	if (in->scanning)
		tg_json_scan_feed(&in->scan, in->body + in->len, n);
	in->len += n;
	x->bytes_in += n;
}

static enum tg_step feed(struct tg_exchange *x, char *p, size_t n, size_t *used)
{
	struct tg_intake *in = x->intake;
	size_t body = n;
	*used = n;
	if (x->head->chunked) {
		if (!tg_chunked_feed(&in->chunked, p, n, &body, used))
			return tg_answer_refusal(x, in->chunked.why);
		if (in->len + body > body_max(x))
			return too_large(x);
		if (!grow(x, in->len + body))
			return out_of_memory(x);
	} else {
		if (body > (size_t)x->head->content_length - in->len)
			body = *used = (size_t)x->head->content_length - in->len;
		if (!grow(x, in->len + body))
			return out_of_memory(x);
	}
	if (body) {
		memcpy(in->body + in->len, p, body);
		took(x, body);
	}
	if (x->head->chunked ? in->chunked.done : in->len == (size_t)x->head->content_length)
		return whole(x);
	return TG_WAIT;
}

bool tg_receive_feed(struct tg_exchange *x, char *p, size_t n, size_t *used)
{
	return (x->intake->upload ? tg_upload_feed(x, p, n, used) : feed(x, p, n, used)) != TG_ANSWERED;
}

size_t tg_receive_room(struct tg_exchange *x, char **p)
{
	struct tg_intake *in = x->intake;
	if (x->head->chunked || in->upload)
		return 0;
	/* The next piece of the buffer, twice what has come so far; without memory the shared buffer's way says so. */
	if (in->cap - in->len < FIRST_ROOM / 2 && in->cap < (size_t)x->head->content_length)
		(void)grow(x, in->cap + 1);
	if (in->cap - in->len < 4096)
		return 0;
	*p = in->body + in->len;
	return in->cap - in->len;
}

void tg_receive_took(struct tg_exchange *x, size_t n)
{
	took(x, n);
	if (x->intake->len == (size_t)x->head->content_length && whole(x) == TG_ANSWERED)
		x->stage = TG_STAGE_SETTLE;
}

enum tg_step tg_receive_timeout(struct tg_exchange *x)
{
	x->closes = true;
	return tg_answer_problem(x, TG_E_timeout, "body_timeout", "The body did not arrive in time.", NULL, NULL);
}

/* A byte now and then would keep the idle clock content for ever. */
static void on_body_total(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	tg_receive_timeout(x);
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

bool tg_receive_is_type(const struct tg_head *h, struct tg_slice want)
{
	struct tg_slice type = tg_head_get(h, TG_H_CONTENT_TYPE);
	const char *semi = type.p ? memchr(type.p, ';', type.n) : NULL;
	struct tg_slice t = tg_slice_trim((struct tg_slice){ type.p, semi ? (size_t)(semi - type.p) : type.n });
	return tg_slice_eq_nocase(t, want);
}

bool tg_receive_is_json(const struct tg_head *h)
{
	return tg_receive_is_type(h, TG_S("application/json"));
}

static enum tg_step check_head(struct tg_exchange *x)
{
	const struct tg_head *h = x->head;
	struct tg_slice coding = tg_head_get(h, TG_H_CONTENT_ENCODING);
	if (coding.n && !tg_slice_eq_nocase(coding, TG_S("identity")))
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Bodies must be sent without Content-Encoding.", NULL, NULL);
	if (x->forward && x->forward->strict_type && !tg_receive_is_json(h))
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json.", NULL, NULL);
	if (!h->chunked && h->content_length > 0 && (uint64_t)h->content_length > body_max(x))
		return too_large(x);
	return TG_NEXT;
}

enum tg_step tg_stage_receive(struct tg_exchange *x)
{
	if (x->received)
		return TG_NEXT;
	if (x->intake)
		return TG_WAIT;
	if (!x->forward && ((x->method != TG_POST && x->method != TG_PUT && x->method != TG_PATCH) || x->route->state == TG_ROUTE_UPLOAD))
		return TG_NEXT; /* what a GET sends along is dropped after the answer; an upload's body is its handler's */
	enum tg_step r = check_head(x);
	if (r != TG_NEXT)
		return r;
	const struct tg_head *h = x->head;
	if (!x->body_left)
		return x->forward ? tg_answer_problem(x, TG_E_bad_json, "bad_body", "The body is missing: a JSON object is needed.", NULL, NULL) : TG_NEXT;
	char *p;
	struct tg_slice avail = tg_session_avail(x->session, &p);
	if (!h->chunked && avail.n >= (size_t)h->content_length) {
		x->body = (struct tg_slice){ avail.p, (size_t)h->content_length };
		x->bytes_in = x->body.n;
		tg_session_took(x->session, x->body.n);
		x->body_left = false;
		x->received = true;
		if (!x->forward)
			return TG_NEXT;
		struct tg_json_scan scan;
		const char *names[TG_WANT_ALL];
		unsigned n = want_names(x, names);
		return judge(x, &scan, tg_json_scan_all(&scan, x->body, names, n));
	}
	r = begin_intake(x);
	if (r != TG_NEXT)
		return r;
	size_t used = 0;
	if (avail.n) {
		r = feed(x, p, avail.n, &used);
		tg_session_took(x->session, used);
		if (r != TG_WAIT)
			return r;
	}
	if (h->expect_continue && h->minor == 1 && !avail.n)
		tg_conn_send1(tg_session_conn(x->session), "HTTP/1.1 100 Continue\r\n\r\n", 25);
	tg_session_body_clock(x->session);
	x->timer.fire = on_body_total;
	tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + x->snap->config->body_ms);
	return TG_WAIT;
}
