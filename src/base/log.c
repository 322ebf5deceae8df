/*
 * The log: events and the access log, one file (base/logfile.c). The hot path takes no lock: it fills its loop's batch, which is written once a flush.
 */
#include "base/log.h"
#include "base/clock.h"
#include "base/logfile.h"
#include "base/utf8.h"
#include <stdatomic.h>
#include <stdlib.h>

#define STRING_CUT 1024
#define EVENT_MAX 32768

static struct tg_logfile file = TG_LOGFILE_INIT("log.path");
static atomic_int least = TG_LOG_F_INFO;

static const char *const level_names[] = { "debug", "info", "warn", "error" };

bool tg_log_on(int level)
{
	return level >= atomic_load_explicit(&least, memory_order_relaxed);
}

void tg_log_quiet(void)
{
	atomic_store(&least, TG_LOG_F_ERROR + 1);
}

uint64_t tg_log_lost(void)
{
	return atomic_load_explicit(&file.lost, memory_order_relaxed);
}

void tg_log_count_lost(void)
{
	atomic_fetch_add_explicit(&file.lost, 1, memory_order_relaxed);
}

bool tg_log_open(const struct tg_log_conf *c, struct tg_err *err)
{
	if (!tg_logfile_open(&file, c->path, c->rotate_bytes, c->rotate_keep, err))
		return false;
	atomic_store(&least, c->level);
	return true;
}

void tg_log_reopen(void)
{
	tg_logfile_reopen(&file);
}

void tg_log_close(void)
{
	tg_logfile_close(&file);
}

static void escape(struct tg_buf *b, uint32_t cp)
{
	static const char hex[] = "0123456789abcdef";
	char t[6] = { '\\', 'u', hex[cp >> 12 & 15], hex[cp >> 8 & 15], hex[cp >> 4 & 15], hex[cp & 15] };
	tg_buf_put(b, t, sizeof t);
}

/* Code points of two and three bytes that act on a terminal or turn the reading direction (UAX 9): 0 for all others. */
static uint32_t acting(const unsigned char *p, size_t k)
{
	if (k == 2 && p[0] == 0xc2 && p[1] < 0xa0)
		return p[1];
	if (k != 3)
		return 0;
	uint32_t cp = (uint32_t)(p[0] & 15) << 12 | (uint32_t)(p[1] & 63) << 6 | (p[2] & 63);
	bool hit = (cp >= 0x200b && cp <= 0x200f) || (cp >= 0x2028 && cp <= 0x202e) || (cp >= 0x2060 && cp <= 0x2069) || cp == 0xfeff;
	return hit ? cp : 0;
}

void tg_log_string(struct tg_buf *b, struct tg_slice s, size_t cut)
{
	if (s.n > cut) {
		s.n = cut;
		while (s.n && ((unsigned char)s.p[s.n] & 0xc0) == 0x80)
			s.n--;
	}
	tg_buf_char(b, '"');
	for (size_t i = 0; i < s.n;) {
		unsigned char c = (unsigned char)s.p[i];
		size_t k = tg_utf8_len(s.p + i, s.n - i);
		uint32_t bad = k ? acting((const unsigned char *)s.p + i, k) : 0xfffd;
		if (bad) {
			escape(b, bad);
		} else if (k > 1) {
			tg_buf_put(b, s.p + i, k);
		} else if (c == '"' || c == '\\') {
			char t[2] = { '\\', (char)c };
			tg_buf_put(b, t, 2);
		} else if (c == '\n') {
			tg_buf_lit(b, "\\n");
		} else if (c < 0x20 || c == 0x7f) {
			escape(b, c);
		} else {
			tg_buf_char(b, (char)c);
		}
		i += k ? k : 1;
	}
	tg_buf_char(b, '"');
}

static void outside(struct tg_buf *b, struct tg_slice s, size_t cut)
{
	char t[TG_LOG_CUT_MAX];
	tg_log_string(b, (struct tg_slice){ t, tg_log_redact(s, t, cut < sizeof t ? cut : sizeof t) }, cut);
}

void tg_log_member(struct tg_buf *b, char type, size_t cut, va_list *ap)
{
	switch (type) {
	case 's':
	case 't': {
		const char *s = va_arg(*ap, const char *);
		if (!s)
			tg_buf_lit(b, "null");
		else if (type == 's')
			outside(b, tg_slice_cstr(s), cut);
		else
			tg_log_string(b, tg_slice_cstr(s), cut);
		break;
	}
	case 'l': {
		const struct tg_slice *s = va_arg(*ap, const struct tg_slice *);
		if (s && s->p)
			outside(b, *s, cut);
		else
			tg_buf_lit(b, "null");
		break;
	}
	case 'n': {
		const char *s = va_arg(*ap, const char *);
		tg_buf_cstr(b, s ? s : "null");
		break;
	}
	case 'u': tg_buf_u64(b, va_arg(*ap, uint64_t)); break;
	case 'i': tg_buf_i64(b, va_arg(*ap, int64_t)); break;
	default: tg_buf_cstr(b, va_arg(*ap, int) ? "true" : "false");
	}
}

void tg_log(int level, const char *event, ...)
{
	if (!tg_log_on(level))
		return;
	struct tg_buf b;
	tg_buf_init(&b, EVENT_MAX);
	char ts[24];
	tg_rfc3339_ms(tg_wall_us(), ts);
	tg_buf_lit(&b, "{\"ts\":\"");
	tg_buf_put(&b, ts, sizeof ts);
	tg_buf_lit(&b, "\",\"level\":\"");
	tg_buf_cstr(&b, level_names[level & 3]);
	tg_buf_lit(&b, "\",\"event\":");
	tg_log_string(&b, tg_slice_cstr(event), STRING_CUT);
	va_list ap;
	va_start(ap, event);
	for (const char *key; (key = va_arg(ap, const char *));) {
		tg_buf_char(&b, ',');
		tg_log_string(&b, tg_slice_cstr(key + 2), STRING_CUT);
		tg_buf_char(&b, ':');
		tg_log_member(&b, key[0], STRING_CUT, &ap);
	}
	va_end(ap);
	tg_buf_lit(&b, "}\n");
	if (b.failed)
		tg_log_count_lost();
	else if (!tg_logfile_put(&file, b.p, b.len))
		fwrite(b.p, 1, b.len, stderr);
	tg_buf_free(&b);
}

void tg_log_batch_init(struct tg_log_batch *b)
{
	tg_buf_init(&b->buf, TG_LOG_BATCH + TG_LOG_LINE_MAX);
	b->lines = 0;
}

void tg_log_batch_flush(struct tg_log_batch *b)
{
	if (b->buf.len && !tg_logfile_put(&file, b->buf.p, b->buf.len))
		atomic_fetch_add(&file.lost, b->lines);
	b->buf.len = 0;
	b->buf.failed = false;
	b->lines = 0;
}

void tg_log_batch_free(struct tg_log_batch *b)
{
	tg_log_batch_flush(b);
	tg_buf_free(&b->buf);
}
