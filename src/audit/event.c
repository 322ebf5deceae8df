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

/* Parsed and written anew: what a caller or an engine wrote may hold line ends, and a line of the trail must be one. */
static void put_json(struct tg_buf *b, const char *text)
{
	json_t *j = text ? json_loads(text, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, NULL) : NULL;
	char *compact = j ? json_dumps(j, JSON_COMPACT | JSON_ENCODE_ANY) : NULL;
	size_t n = compact ? strlen(compact) : 0;
	if (compact && b->len + n < TG_AUDIT_LINE_MAX - STRING_CUT)
		tg_buf_put(b, compact, n);
	else
		tg_buf_lit(b, "null");
	free(compact);
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
