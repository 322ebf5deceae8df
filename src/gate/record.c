/*
 * The access-log line. Hot path: one line a request, so that it is built by hand straight in the loop's batch: the room for the longest possible line
 * is reserved once, then bytes are put without a check. snprintf would cost more than all the rest of the line.
 *
 * Invariants: exactly one line a call (unless the log's level is above info); never longer than TG_LOG_LINE_MAX, because every string in it is bounded
 * (LINE_WORST adds them up); every string that may hold anything but our own letters is escaped, and what a caller chose (an unmatched path) is redacted.
 */
#include "gate/record.h"
#include "base/clock.h"

#define PATH_CUT 1024
#define NAME_CUT 256  /* model, worker */
#define TEXT_CUT 128  /* request id, reason, event */
#define LINE_WORST (6 * (PATH_CUT + 2 * NAME_CUT + 3 * TEXT_CUT + (int)sizeof(struct tg_principal)) + 1024)
_Static_assert(LINE_WORST <= TG_LOG_LINE_MAX, "a line may not fit");

/* Where the line is being written; the room was reserved. */
struct pen {
	char *p;
};

#define PUT(pen, lit) put((pen), "" lit, sizeof(lit) - 1)
static inline void put(struct pen *w, const char *s, size_t n)
{
	memcpy(w->p, s, n);
	w->p += n;
}

static const char pairs[] = "00010203040506070809101112131415161718192021222324252627282930313233343536373839404142434445464748495051525354555657585960616263646566676869"
			    "707172737475767778798081828384858687888990919293949596979899";

static inline void put_u64(struct pen *w, uint64_t v)
{
	char t[20];
	size_t i = sizeof t;
	while (v >= 100) {
		i -= 2;
		memcpy(t + i, pairs + v % 100 * 2, 2);
		v /= 100;
	}
	if (v >= 10) {
		i -= 2;
		memcpy(t + i, pairs + v * 2, 2);
	} else {
		t[--i] = (char)('0' + v);
	}
	put(w, t + i, sizeof t - i);
}

/* Microseconds as milliseconds. */
static inline void put_ms(struct pen *w, uint64_t us)
{
	put_u64(w, us / 1000);
	unsigned f = (unsigned)(us % 1000);
	char t[4] = { '.', (char)('0' + f / 100), pairs[f % 100 * 2], pairs[f % 100 * 2 + 1] };
	put(w, t, sizeof t);
}

static inline bool plain(struct tg_slice s)
{
	unsigned bad = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		bad |= c < 0x20 || c > 0x7e || c == '"' || c == '\\';
	}
	return !bad;
}

/* Escapes what needs it; a string of ordinary letters, nearly all of them, is one memcpy. */
static void put_text(struct pen *w, struct tg_slice s, size_t cut)
{
	if (s.n <= cut && plain(s)) {
		*w->p++ = '"';
		put(w, s.p, s.n);
		*w->p++ = '"';
		return;
	}
	struct tg_buf b;
	tg_buf_init(&b, cut * 6 + 64);
	if (tg_buf_reserve(&b, cut * 6 + 2))
		tg_log_string(&b, s, cut);
	if (b.failed || !b.len)
		PUT(w, "null");
	else
		put(w, b.p, b.len);
	tg_buf_free(&b);
}

/* The string, or null where it is NULL or empty. */
static inline void put_or_null(struct pen *w, const char *s, size_t cut)
{
	if (s && *s)
		put_text(w, tg_slice_cstr(s), cut);
	else
		PUT(w, "null");
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* Decoded into out; where it does not fit, the segment that would be cut is "***" and the last. */
static size_t decode(struct tg_slice s, char *out, size_t cap)
{
	size_t n = 0, segment = 0;
	for (size_t i = 0; i < s.n; i++) {
		int c = (unsigned char)s.p[i];
		if (c == '%' && s.n - i > 2 && hex(s.p[i + 1]) >= 0 && hex(s.p[i + 2]) >= 0) {
			c = hex(s.p[i + 1]) << 4 | hex(s.p[i + 2]);
			i += 2;
		}
		if (n + 4 > cap) {
			memcpy(out + segment, "***", 3);
			return segment + 3;
		}
		out[n++] = (char)c;
		if (c == '/')
			segment = n;
	}
	return n;
}

/* A path segment is a word of a route more often than a key; one with a digit in it, and long enough to be a key, is the other way round. */
static bool segment_like_key(const char *p, size_t n)
{
	bool digit = false;
	for (size_t i = 0; i < n; i++)
		digit |= p[i] >= '0' && p[i] <= '9';
	return digit && n >= 8;
}

size_t tg_record_endpoint(struct tg_slice path, char *out, size_t cap)
{
	char text[PATH_CUT], masked[PATH_CUT];
	size_t n = decode(path, text, sizeof text), m = 0;
	for (size_t i = 0; i < n;) {
		const char *slash = memchr(text + i, '/', n - i);
		size_t len = slash ? (size_t)(slash - (text + i)) : n - i;
		bool hide = segment_like_key(text + i, len);
		memcpy(masked + m, hide ? "***" : text + i, hide ? 3 : len);
		m += hide ? 3 : len;
		if (slash)
			masked[m++] = '/';
		i += len + (slash != NULL);
	}
	return tg_log_redact((struct tg_slice){ masked, m }, out, cap);
}

static void put_endpoint(struct pen *w, const struct tg_record *r)
{
	char t[PATH_CUT];
	if (r->route)
		put_text(w, r->route->path, PATH_CUT);
	else if (r->path.n)
		put_text(w, (struct tg_slice){ t, tg_record_endpoint(r->path, t, sizeof t) }, PATH_CUT);
	else
		PUT(w, "null");
}

static void put_who(struct pen *w, const struct tg_record *r)
{
	const struct tg_principal *p = r->principal;
	PUT(w, ",\"user\":");
	put_or_null(w, p ? p->id : NULL, sizeof p->id);
	PUT(w, ",\"key_name\":");
	put_or_null(w, p ? p->name : NULL, sizeof p->name);
	PUT(w, ",\"key_prefix\":");
	put_or_null(w, r->key_prefix ? r->key_prefix : p ? p->prefix : NULL, TG_KEY_PREFIX_MAX);
	PUT(w, ",\"key_label\":");
	put_or_null(w, p ? p->label : NULL, TG_KEY_LABEL_MAX);
}

static void put_tokens(struct pen *w, const struct tg_record *r)
{
	if (!r->usage.seen) {
		PUT(w, ",\"prompt_tokens\":null,\"completion_tokens\":null");
		return;
	}
	PUT(w, ",\"prompt_tokens\":");
	put_u64(w, r->usage.prompt);
	PUT(w, ",\"completion_tokens\":");
	put_u64(w, r->usage.completion);
}

static void put_bool(struct pen *w, bool v)
{
	if (v)
		PUT(w, "true");
	else
		PUT(w, "false");
}

static void put_line(struct pen *w, const struct tg_record *r)
{
	PUT(w, "{\"ts\":\"");
	tg_rfc3339_ms(r->wall_us, w->p);
	w->p += 24;
	PUT(w, "\",\"level\":\"info\",\"event\":");
	put_or_null(w, r->event ? r->event : "request", TEXT_CUT);
	PUT(w, ",\"request_id\":");
	if (r->request_id.n)
		put_text(w, r->request_id, TEXT_CUT);
	else
		PUT(w, "null");
	PUT(w, ",\"client\":");
	if (r->client) {
		*w->p++ = '"';
		w->p += tg_addr_text(r->client, w->p);
		*w->p++ = '"';
	} else {
		PUT(w, "null");
	}
	PUT(w, ",\"tls\":");
	put_or_null(w, r->tls, 16);
	put_who(w, r);
	PUT(w, ",\"method\":");
	put_or_null(w, tg_method_names[r->method], TEXT_CUT);
	PUT(w, ",\"endpoint\":");
	put_endpoint(w, r);
	PUT(w, ",\"model\":");
	put_or_null(w, r->model, NAME_CUT);
	PUT(w, ",\"stream\":");
	put_bool(w, r->stream);
	PUT(w, ",\"status\":");
	if (r->status)
		put_u64(w, r->status);
	else
		PUT(w, "null"); /* the client left before there was one */
	PUT(w, ",\"ms\":");
	put_ms(w, r->total_us);
	PUT(w, ",\"first_byte_ms\":");
	if (r->first_byte_us)
		put_ms(w, r->first_byte_us);
	else
		PUT(w, "null");
	PUT(w, ",\"overhead_us\":");
	put_u64(w, r->overhead_us);
	PUT(w, ",\"bytes_in\":");
	put_u64(w, r->bytes_in);
	PUT(w, ",\"bytes_out\":");
	put_u64(w, r->bytes_out);
	put_tokens(w, r);
	PUT(w, ",\"partial\":");
	put_bool(w, r->partial);
	PUT(w, ",\"worker\":");
	put_or_null(w, r->worker, NAME_CUT);
	PUT(w, ",\"retries\":");
	put_u64(w, r->retries);
	PUT(w, ",\"reason\":");
	put_or_null(w, r->reason, TEXT_CUT);
	PUT(w, "}\n");
}

void tg_record_line(struct tg_log_batch *b, const struct tg_record *r)
{
	if (!tg_log_on(TG_LOG_F_INFO))
		return;
	if (b->buf.len + TG_LOG_LINE_MAX > TG_LOG_BATCH)
		tg_log_batch_flush(b);
	if (!tg_buf_reserve(&b->buf, TG_LOG_LINE_MAX)) {
		/* No memory for a whole line: what is there goes out, and its room may do. */
		tg_log_batch_flush(b);
		if (!tg_buf_reserve(&b->buf, TG_LOG_LINE_MAX)) {
			b->buf.failed = false;
			tg_log_count_lost();
			return;
		}
	}
	struct pen w = { b->buf.p + b->buf.len };
	put_line(&w, r);
	b->buf.len = (size_t)(w.p - b->buf.p);
	b->lines++;
}
