/*
 * Workers' output (see output.h). A worker that writes without end must neither fill the disk, nor keep the control thread busy, nor be held up while it is
 * within reason: past LOG_MAX bytes a second lines are dropped and counted, past READ_MAX it has to wait for the next second like anybody who writes into a full pipe.
 */
#include "pool/output.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/logfile.h"
#include "base/terminal.h"

#define LOG_MAX (256u << 10) /* bytes a second that are written and kept */
#define RAW_MAX (TG_OUTPUT_LINE_MAX + 512) /* what is cut is cut after redaction: a key that lies across the cut is seen whole */
#define READ_MAX (16u << 20) /* bytes a second that are read at all */

static struct tg_logfile file = TG_LOGFILE_INIT("log.workers_path");

bool tg_output_open(const char *path, uint64_t rotate_bytes, unsigned rotate_keep, struct tg_err *err)
{
	return tg_logfile_open(&file, path, rotate_bytes, rotate_keep, err);
}

void tg_output_reopen(void)
{
	tg_logfile_reopen(&file);
}

void tg_output_close(void)
{
	tg_logfile_close(&file);
}

bool tg_output_init(struct tg_output *o, const char *model, const char *worker)
{
	*o = (struct tg_output){ .model = model, .worker = worker };
	tg_buf_init(&o->tail, TG_OUTPUT_TAIL_MAX);
	return uv_mutex_init(&o->lock) == 0;
}

void tg_output_free(struct tg_output *o)
{
	uv_mutex_destroy(&o->lock);
	tg_buf_free(&o->tail);
	free(o->line);
	o->line = NULL;
}

static void keep(struct tg_output *o, struct tg_slice line)
{
	uv_mutex_lock(&o->lock);
	struct tg_buf *t = &o->tail;
	while (t->len && t->len + line.n + 1 > TG_OUTPUT_TAIL_MAX) {
		/* At least an eighth at once, so that not every line moves all the others. */
		size_t from = t->len > TG_OUTPUT_TAIL_MAX / 8 ? TG_OUTPUT_TAIL_MAX / 8 : 0;
		const char *nl = memchr(t->p + from, '\n', t->len - from);
		tg_buf_consume(t, nl ? (size_t)(nl + 1 - t->p) : t->len);
	}
	tg_buf_slice(t, line);
	tg_buf_char(t, '\n');
	t->failed = false; /* without memory a line is lost, no more */
	uv_mutex_unlock(&o->lock);
}

static void write_line(struct tg_output *o, int pid, struct tg_slice line)
{
	struct tg_buf b;
	char ts[24];
	tg_buf_init(&b, 8 * TG_OUTPUT_LINE_MAX);
	tg_rfc3339_ms(tg_wall_us(), ts);
	tg_buf_lit(&b, "{\"ts\":\"");
	tg_buf_put(&b, ts, sizeof ts);
	tg_buf_lit(&b, "\",\"level\":\"info\",\"event\":\"worker.output\",\"model\":");
	tg_log_string(&b, tg_slice_cstr(o->model), 256);
	tg_buf_lit(&b, ",\"worker\":");
	tg_log_string(&b, tg_slice_cstr(o->worker), 256);
	tg_buf_lit(&b, ",\"pid\":");
	tg_buf_i64(&b, pid);
	tg_buf_lit(&b, ",\"line\":");
	tg_log_string(&b, line, TG_OUTPUT_LINE_MAX + 3);
	tg_buf_lit(&b, "}\n");
	if (!b.failed && !tg_logfile_put(&file, b.p, b.len))
		fprintf(stderr, "%.*s\n", (int)line.n, line.p);
	tg_buf_free(&b);
}

static void hide(struct tg_slice secret, char *p, size_t n)
{
	for (char *at; secret.n && n && (at = memmem(p, n, secret.p, secret.n)); ) {
		memset(at, '*', secret.n);
		n -= (size_t)(at + secret.n - p);
		p = at + secret.n;
	}
}

/* A whole line, without its end. */
static void take(struct tg_output *o, int pid)
{
	struct tg_slice raw = { o->line, o->line_len };
	bool cut = o->overlong || raw.n > TG_OUTPUT_LINE_MAX;
	o->line_len = 0;
	o->overlong = false;
	raw.n = raw.n ? tg_terminal_safe(o->line, raw.n) : 0; /* first: an escape sequence inside would hide a key from what follows */
	if (!raw.n)
		return;
	hide(o->secret, o->line, raw.n);
	o->logged += raw.n;
	if (o->logged > LOG_MAX) {
		o->dropped++;
		return;
	}
	char text[TG_OUTPUT_LINE_MAX + 3];
	struct tg_slice line = { text, tg_log_redact(raw, text, TG_OUTPUT_LINE_MAX) };
	if (cut) {
		memcpy(text + line.n, "...", 3);
		line.n += 3;
	}
	keep(o, line);
	write_line(o, pid, line);
}

static void say_dropped(struct tg_output *o, int pid)
{
	if (!o->dropped)
		return;
	char text[96];
	int n = snprintf(text, sizeof text, "[tollgate: %llu lines left out: more than %u KiB in one second]", (unsigned long long)o->dropped, LOG_MAX >> 10);
	o->dropped = 0;
	keep(o, (struct tg_slice){ text, (size_t)n });
	write_line(o, pid, (struct tg_slice){ text, (size_t)n });
}

void tg_output_tick(struct tg_output *o, int pid, uint64_t now_ms)
{
	if (now_ms / 1000 != o->second) {
		o->second = now_ms / 1000;
		o->logged = o->read = 0;
		say_dropped(o, pid);
	}
}

bool tg_output_feed(struct tg_output *o, int pid, const char *p, size_t n, uint64_t now_ms)
{
	tg_output_tick(o, pid, now_ms);
	o->read += n;
	if (!o->line && !(o->line = malloc(RAW_MAX)))
		return true;
	for (size_t i = 0; i < n; i++) {
		/* A progress bar ends its lines with a carriage return. */
		if (p[i] == '\n' || p[i] == '\r')
			take(o, pid);
		else if (o->line_len < RAW_MAX)
			o->line[o->line_len++] = p[i];
		else
			o->overlong = true;
	}
	return o->read < READ_MAX;
}

void tg_output_end(struct tg_output *o, int pid)
{
	take(o, pid);
	say_dropped(o, pid);
}

void tg_output_tail(struct tg_output *o, unsigned lines, struct tg_buf *out)
{
	uv_mutex_lock(&o->lock);
	size_t at = o->tail.len;
	for (unsigned i = 0; at && i < lines; i++) {
		const char *nl = at > 1 ? memrchr(o->tail.p, '\n', at - 1) : NULL;
		at = nl ? (size_t)(nl + 1 - o->tail.p) : 0;
	}
	if (at < o->tail.len)
		tg_buf_put(out, o->tail.p + at, o->tail.len - at);
	uv_mutex_unlock(&o->lock);
}
