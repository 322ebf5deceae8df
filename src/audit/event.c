/*
 * The lines of the audit trail. All of them are made here: what is done to a line before it counts (a hash over it and its predecessor, say) has this one place.
 */
#include "audit/event.h"
#include "audit/writer.h"
#include "base/clock.h"
#include "base/log.h"
#include <jansson.h>
#include <math.h>

#define STRING_CUT 4096

#define EVENT(name, fields, doc) #name,
const char *const tg_audit_event_names[TG_AUDIT_EVENT_COUNT] = {
#include "tables/audit_events.def"
};
#undef EVENT

bool tg_audit_open(const char *path, struct tg_err *err)
{
	return tg_audit_writer_open(path, err);
}

void tg_audit_reopen(void)
{
	tg_audit_writer_reopen();
}

void tg_audit_close(void)
{
	tg_audit_writer_close();
}

bool tg_audit_on(void)
{
	return tg_audit_writer_on();
}

bool tg_audit_flush(void)
{
	return tg_audit_writer_flush();
}

/* A number that JSON knows. */
static void put_double(struct tg_buf *b, double v)
{
	if (isfinite(v))
		tg_buf_fmt(b, "%.9g", v);
	else
		tg_buf_lit(b, "null");
}

/* Texts as the log has them: redacted, and escaped by more than JSON's own rules. */
static void put_text(struct tg_buf *b, struct tg_slice s)
{
	char t[STRING_CUT];
	tg_log_string(b, (struct tg_slice){ t, tg_log_redact(s, t, sizeof t) }, STRING_CUT);
}

/* Ids and digests that we made, which redaction would take for keys; what callers name is nowhere a member of these names. */
static bool is_ours(const char *name)
{
	return strcmp(name, "config_id") == 0 || strcmp(name, "hash") == 0 || strcmp(name, "request_id") == 0;
}

static void put_scalar(struct tg_buf *b, const json_t *v)
{
	char *text = json_dumps(v, JSON_ENCODE_ANY);
	tg_buf_cstr(b, text ? text : "null");
	free(text);
}

static void put_value(struct tg_buf *b, const json_t *v, bool ours)
{
	struct tg_slice text = { json_string_value(v), json_string_length(v) };
	const char *name;
	json_t *one;
	size_t i, n = 0;
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		json_object_foreach((json_t *)(uintptr_t)v, name, one) {
			tg_buf_char(b, n++ ? ',' : '{');
			tg_log_string(b, tg_slice_cstr(name), STRING_CUT);
			tg_buf_char(b, ':');
			put_value(b, one, is_ours(name));
		}
		tg_buf_cstr(b, n ? "}" : "{}");
		break;
	case JSON_ARRAY:
		json_array_foreach(v, i, one) {
			tg_buf_char(b, i ? ',' : '[');
			put_value(b, one, false);
		}
		tg_buf_cstr(b, json_array_size(v) ? "]" : "[]");
		break;
	case JSON_STRING:
		if (ours)
			tg_log_string(b, text, STRING_CUT);
		else
			put_text(b, text);
		break;
	default: put_scalar(b, v);
	}
}

/* Parsed and written anew: what a caller or an engine wrote may hold line ends, and a line of the trail must be one. jansson bounds the depth. */
static void put_json(struct tg_buf *b, const char *text)
{
	json_t *j = text ? json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL) : NULL;
	struct tg_buf out;
	tg_buf_init(&out, b->len + STRING_CUT < TG_AUDIT_LINE_MAX ? TG_AUDIT_LINE_MAX - STRING_CUT - b->len : 1);
	if (j)
		put_value(&out, j, false);
	if (out.len && !out.failed)
		tg_buf_slice(b, tg_buf_view(&out));
	else
		tg_buf_lit(b, "null");
	tg_buf_free(&out);
	json_decref(j);
}

static void put_member(struct tg_buf *b, char type, va_list *ap)
{
	switch (type) {
	case 'd': put_double(b, va_arg(*ap, double)); break;
	case 'j': put_json(b, va_arg(*ap, const char *)); break;
	default: tg_log_member(b, type, STRING_CUT, ap);
	}
}

static bool hand_over(enum tg_audit_event e, const struct tg_slice *request_id, va_list *ap, bool wait)
{
	struct tg_buf b;
	char ts[24];
	const char *name = tg_audit_event_names[e];
	if (!tg_audit_writer_on())
		return true;
	tg_buf_init(&b, TG_AUDIT_LINE_MAX);
	tg_buf_reserve(&b, 512);
	tg_rfc3339_ms(tg_wall_us(), ts);
	tg_buf_fmt(&b, "{\"event\":\"%s\",\"event_type\":\"%s\",\"timestamp\":\"%.24s\",\"request_id\":", name, name, ts);
	if (request_id && request_id->p)
		tg_log_string(&b, *request_id, 256);
	else
		tg_buf_lit(&b, "null");
	for (const char *key; (key = va_arg(*ap, const char *));) {
		tg_buf_lit(&b, ",\"");
		tg_buf_cstr(&b, key + 2);
		tg_buf_lit(&b, "\":");
		put_member(&b, key[0], ap);
	}
	tg_buf_lit(&b, "}\n");
	bool ok = !b.failed && tg_audit_writer_put(tg_buf_view(&b), wait);
	if (b.failed)
		tg_audit_writer_lose("no memory for an event");
	tg_buf_free(&b);
	return ok;
}

void tg_audit_event(enum tg_audit_event e, const struct tg_slice *request_id, ...)
{
	va_list ap;
	va_start(ap, request_id);
	hand_over(e, request_id, &ap, true);
	va_end(ap);
}

bool tg_audit_offer(enum tg_audit_event e, const struct tg_slice *request_id, ...)
{
	va_list ap;
	va_start(ap, request_id);
	bool ok = hand_over(e, request_id, &ap, false);
	va_end(ap);
	return ok;
}
