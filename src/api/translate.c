/*
 * The old request shapes to OpenAI's, and OpenAI's answers back.
 *
 * Invariants: what is written is one well-formed JSON object whenever true is returned and the buffer did not fail; a value is either
 * checked and copied as it stands, or written by us. A member that we write ourselves is never also copied: names are compared as what they
 * stand for, so that "mod\u0065l" brings in no second model.
 *
 * Why raw copies: decoding and encoding again would cost a tree and could change a text (escapes, number forms) on its way.
 */
#include "api/translate.h"

#define NEW_TOKENS_MAX 1000000

static bool one_of(struct tg_slice name, const char *const *set)
{
	char text[TG_JSON_NAME_MAX];
	long n = tg_json_unescape(name, text, sizeof text);
	if (n < 0) /* longer than any of ours */
		return false;
	for (; *set; set++)
		if (tg_slice_eq((struct tg_slice){ text, (size_t)n }, tg_slice_cstr(*set)))
			return true;
	return false;
}

/* {"model":M,"messages":[{"role":"user","content":C}] : the object is left open. */
static void put_chat_head(struct tg_buf *out, const char *model, struct tg_slice content)
{
	tg_buf_lit(out, "{\"model\":");
	tg_buf_json(out, tg_slice_cstr(model));
	tg_buf_lit(out, ",\"messages\":[{\"role\":\"user\",\"content\":");
	tg_buf_slice(out, content);
	tg_buf_lit(out, "}]");
}

static void put_others(struct tg_buf *out, struct tg_slice object, const char *const *ours, const char *const *also_ours)
{
	struct tg_slice name, value;
	for (size_t at = 0; tg_json_next_member(object, &at, &name, &value);) {
		if (one_of(name, ours) || (also_ours && one_of(name, also_ours)))
			continue;
		tg_buf_char(out, ',');
		tg_buf_slice(out, name);
		tg_buf_char(out, ':');
		tg_buf_slice(out, value);
	}
}

static bool fail(struct tg_field_fault *fault, const char *field, const char *reason)
{
	*fault = (struct tg_field_fault){ field, reason };
	return false;
}

/* Why the document was refused; a fault of one member is told by that member's path. */
static bool fail_scan(struct tg_field_fault *fault, const struct tg_json_scan *s, const char *whole, const char *const *names, const char *const *paths)
{
	const char *field = whole;
	for (unsigned i = 0; s->member && i < s->nwant; i++)
		if (strcmp(names[i], s->member) == 0)
			field = paths[i];
	return fail(fault, field, s->why);
}

/* Which of two sentences is true of a number that is not taken: 0.5 and -1 are no positive integers, 2000000 is too many. */
static bool whole_positive(struct tg_slice number)
{
	return number.p[0] != '-' && number.p[0] != '0' && !memchr(number.p, '.', number.n) && !memchr(number.p, 'e', number.n) &&
	       !memchr(number.p, 'E', number.n);
}

bool tg_infer_to_chat(struct tg_slice request_body, const char *model, struct tg_buf *out, struct tg_field_fault *fault)
{
	static const char *const names[] = { "input", "max_new_tokens" };
	static const char *const paths[] = { "request_body.input", "request_body.max_new_tokens" };
	static const char *const ours[] = { "input", "max_new_tokens", "model", "messages", "stream", "stream_options", "n", NULL };
	static const char *const bounds[] = { "max_tokens", "max_completion_tokens", NULL };
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, request_body, names, 2) != TG_JSON_DONE)
		return fail_scan(fault, &s, "request_body", names, paths);

	const struct tg_json_want *input = &s.want[0], *max = &s.want[1];
	uint64_t tokens = 0;
	if (input->type == TG_JSON_NONE)
		return fail(fault, paths[0], "is required");
	if (input->type != TG_JSON_STRING && input->type != TG_JSON_ARRAY)
		return fail(fault, paths[0], "must be a string or an array of content parts");
	if (max->type != TG_JSON_NONE) {
		struct tg_slice v = tg_json_value(request_body, max);
		if (max->type != TG_JSON_NUMBER || !whole_positive(v))
			return fail(fault, paths[1], "must be a positive integer");
		if (!tg_json_u64(v, NEW_TOKENS_MAX, &tokens))
			return fail(fault, paths[1], "must be at most 1000000");
	}

	put_chat_head(out, model, tg_json_value(request_body, input));
	if (tokens) {
		tg_buf_lit(out, ",\"max_tokens\":");
		tg_buf_u64(out, tokens);
	}
	put_others(out, request_body, ours, tokens ? bounds : NULL);
	tg_buf_char(out, '}');
	return true;
}

bool tg_inference_to_chat(struct tg_slice doc, const char *model, bool stream, struct tg_buf *out, struct tg_field_fault *fault)
{
	static const char *const names[] = { "prompt", "stream" };
	static const char *const ours[] = { "prompt", "model", "messages", "stream", "stream_options", "n", NULL };
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, doc, names, 2) != TG_JSON_DONE)
		return fail_scan(fault, &s, "body", names, names);
	if (s.want[0].type == TG_JSON_NONE)
		return fail(fault, "prompt", "is required");
	if (s.want[0].type != TG_JSON_STRING)
		return fail(fault, "prompt", "must be a string");
	if (s.want[1].type != TG_JSON_NONE && s.want[1].type != TG_JSON_TRUE && s.want[1].type != TG_JSON_FALSE)
		return fail(fault, "stream", "must be true or false");

	put_chat_head(out, model, tg_json_value(doc, &s.want[0]));
	if (stream)
		tg_buf_lit(out, ",\"stream\":true,\"stream_options\":{\"include_usage\":true}");
	else
		tg_buf_lit(out, ",\"stream\":false");
	put_others(out, doc, ours, NULL);
	tg_buf_char(out, '}');
	return true;
}

/* What both old shapes need of a chat answer, as raw JSON; "null" or "\"\"" where it is not there. */
struct chat {
	struct tg_slice id, content, finish, usage;
};

static struct tg_slice value_or(struct tg_slice doc, const struct tg_json_want *w, enum tg_json_type type, struct tg_slice other)
{
	return w->type == type ? tg_json_value(doc, w) : other;
}

static bool read_chat(struct tg_slice answer, struct chat *out)
{
	static const char *const top[] = { "id", "choices", "usage" };
	static const char *const of_choice[] = { "message", "finish_reason" };
	static const char *const of_message[] = { "content" };
	const struct tg_slice null = TG_S("null");
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, answer, top, 3) != TG_JSON_DONE || s.want[1].type != TG_JSON_ARRAY)
		return false;
	out->id = value_or(answer, &s.want[0], TG_JSON_STRING, null);
	out->usage = value_or(answer, &s.want[2], TG_JSON_OBJECT, null);

	struct tg_slice choice = tg_json_first(tg_json_value(answer, &s.want[1]));
	if (tg_json_scan_all(&s, choice, of_choice, 2) != TG_JSON_DONE || s.want[0].type != TG_JSON_OBJECT)
		return false;
	out->finish = value_or(choice, &s.want[1], TG_JSON_STRING, null);

	struct tg_slice message = tg_json_value(choice, &s.want[0]);
	if (tg_json_scan_all(&s, message, of_message, 1) != TG_JSON_DONE)
		return false;
	if (s.want[0].type != TG_JSON_STRING && s.want[0].type != TG_JSON_NULL && s.want[0].type != TG_JSON_NONE)
		return false;
	out->content = value_or(message, &s.want[0], TG_JSON_STRING, TG_S("\"\""));
	return true;
}

bool tg_chat_to_infer(struct tg_slice answer, const struct tg_infer_meta *m, struct tg_buf *out)
{
	struct chat chat;
	if (!read_chat(answer, &chat))
		return false;
	tg_buf_lit(out, "{\"response\":");
	tg_buf_slice(out, chat.content);
	tg_buf_lit(out, ",\"gpu_id_of_model_worker\":null,\"model_name_processed\":");
	tg_buf_json(out, tg_slice_cstr(m->model));
	tg_buf_lit(out, ",\"duration_seconds\":");
	tg_buf_milli(out, (m->duration_us + 500) / 1000);
	tg_buf_lit(out, ",\"api_worker_pid\":");
	if (m->worker_pid)
		tg_buf_u64(out, m->worker_pid);
	else
		tg_buf_lit(out, "null");
	tg_buf_lit(out, ",\"load_balancer_worker_id\":");
	tg_buf_u64(out, m->worker_id);
	tg_buf_lit(out, ",\"lb_latency_ms\":");
	tg_buf_milli(out, m->lb_latency_us);
	tg_buf_lit(out, ",\"lb_queue_at_dispatch\":");
	tg_buf_u64(out, m->queue_at_dispatch);
	tg_buf_lit(out, ",\"usage\":");
	tg_buf_slice(out, chat.usage);
	tg_buf_char(out, '}');
	return true;
}

bool tg_chat_to_inference(struct tg_slice answer, const char *model, struct tg_buf *out)
{
	struct chat chat;
	if (!read_chat(answer, &chat))
		return false;
	tg_buf_lit(out, "{\"id\":");
	tg_buf_slice(out, chat.id);
	tg_buf_lit(out, ",\"model\":");
	tg_buf_json(out, tg_slice_cstr(model));
	tg_buf_lit(out, ",\"response\":");
	tg_buf_slice(out, chat.content);
	tg_buf_lit(out, ",\"text\":");
	tg_buf_slice(out, chat.content);
	tg_buf_lit(out, ",\"finish_reason\":");
	tg_buf_slice(out, chat.finish);
	tg_buf_lit(out, ",\"usage\":");
	tg_buf_slice(out, chat.usage);
	tg_buf_char(out, '}');
	return true;
}
