/* What the endpoints share (see service.h). Bodies are the gate's own: a fault in one is a fault of ours, said in full. */
#include "engine/service.h"
#include "engine/folder.h"
#include <poll.h>
#include <stdio.h>
#include <sys/socket.h>

void tg_service_log(const struct tg_http *h, const char *text, ...)
{
	char line[512];
	va_list ap;
	va_start(ap, text);
	vsnprintf(line, sizeof line, text, ap);
	va_end(ap);
	fprintf(stderr, "tollgate-engine: %s%s%s\n", line, h->key_prefix[0] ? ", key " : "", h->key_prefix);
}

void tg_service_error_line(struct tg_buf *b, const char *member, const char *why)
{
	tg_buf_lit(b, "{\"");
	tg_buf_cstr(b, member);
	tg_buf_lit(b, "\":");
	tg_buf_json(b, tg_slice_cstr(why));
	tg_buf_lit(b, "}\n");
}

void tg_service_error(struct tg_http *h, int status, const char *why)
{
	struct tg_buf b;
	tg_buf_init(&b, 4096);
	tg_service_error_line(&b, "error", why);
	tg_http_answer(h, status, tg_buf_view(&b));
	tg_buf_free(&b);
}

static bool collect(void *ctx, const char *p, size_t n)
{
	struct tg_buf *b = ctx;
	tg_buf_put(b, p, n);
	return !b->failed;
}

json_t *tg_service_json(struct tg_http *h)
{
	struct tg_buf b;
	json_error_t e;
	json_t *body = NULL;
	tg_buf_init(&b, TG_REQUEST_MAX);
	switch (tg_http_body(h, collect, &b)) {
	case TG_HTTP_BODY_GONE:
		h->close = true;
		break;
	case TG_HTTP_BODY_REFUSED:
		tg_service_error(h, 413, "the body is larger than 4 MiB");
		break;
	case TG_HTTP_BODY_OK:
		body = json_loadb(b.p ? b.p : "", b.len, JSON_REJECT_DUPLICATES, &e);
		if (!json_is_object(body)) {
			json_decref(body);
			body = NULL;
			tg_service_error(h, 400, "the body must be a JSON object");
		}
	}
	tg_buf_free(&b);
	return body;
}

static const char *member(struct tg_http *h, const json_t *body, const char *name, bool (*good)(struct tg_slice), const char *what)
{
	const json_t *v = json_object_get(body, name);
	if (json_is_string(v) && good((struct tg_slice){ json_string_value(v), json_string_length(v) }))
		return json_string_value(v);
	char why[160];
	snprintf(why, sizeof why, "%s: must be %s", name, what);
	tg_service_error(h, 400, why);
	return NULL;
}

const char *tg_service_id(struct tg_http *h, const json_t *body, const char *name)
{
	return member(h, body, name, tg_id_ok, "a ULID");
}

const char *tg_service_name(struct tg_http *h, const json_t *body, const char *name)
{
	return member(h, body, name, tg_name_ok, "the name of a file, without a folder");
}

bool tg_service_gone(const struct tg_http *h)
{
	struct pollfd p = { .fd = h->fd, .events = POLLRDHUP };
	return poll(&p, 1, 0) > 0 && p.revents & (POLLRDHUP | POLLHUP | POLLERR);
}

void tg_serve_forget(struct tg_service *s, struct tg_http *h)
{
	json_t *body = tg_service_json(h);
	const char *id = body ? tg_service_id(h, body, "job") : NULL;
	if (id) {
		char start[TG_ID_LEN + 2], text[40];
		snprintf(start, sizeof start, "%s.", id);
		int n = snprintf(text, sizeof text, "{\"removed\":%u}\n", tg_spool_remove(s->spool, start));
		tg_http_answer(h, 200, (struct tg_slice){ text, (size_t)n });
	}
	json_decref(body);
}
