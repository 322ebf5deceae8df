/*
 * Token usage, read from answers on their way through.
 *
 * Invariants. Nothing here delays a byte unless an event may have to be cut, and then no longer than that event takes. What comes out
 * of a stream does not depend on how it was cut into reads: an event is judged whole, once, at its end, and whether it is too long is
 * judged by its own length alone. Each byte is looked at a fixed number of times, so a worker that sends its stream byte by byte costs
 * no more than its reads do.
 *
 * Why a tail and not a resumable event parser: workers flush after each event, so reads nearly always end where events do; then the
 * tail is empty, owns no memory, and a waiting stream costs these few words instead of a scanner of its own.
 */
#include "http/usage.h"
#include <string.h>

#define VALUE_MAX 4096
#define EXACT_MAX ((uint64_t)1 << 53) /* beyond it JSON numbers are not exact everywhere */

bool tg_usage_parse(struct tg_slice object, struct tg_usage *out)
{
	static const char *const names[] = { "prompt_tokens", "completion_tokens" };
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, object, names, 2) != TG_JSON_DONE)
		return false;
	uint64_t v[2] = { 0, 0 };
	bool any = false;
	for (int i = 0; i < 2; i++)
		if (s.want[i].type == TG_JSON_NUMBER && tg_json_u64(tg_json_value(object, &s.want[i]), EXACT_MAX, &v[i]))
			any = true;
	if (any)
		*out = (struct tg_usage){ .seen = true, .prompt = v[0], .completion = v[1] };
	return any;
}

void tg_usage_scan_init(struct tg_usage_scan *u)
{
	static const char *const names[] = { "usage" };
	tg_json_scan_init(&u->scan, names, 1);
	tg_buf_init(&u->value, VALUE_MAX);
	u->off = false;
	u->usage = (struct tg_usage){ 0 };
}

void tg_usage_scan_feed(struct tg_usage_scan *u, const char *p, size_t n)
{
	if (u->off || !n)
		return;
	size_t base = u->scan.at, from;
	enum tg_json_state st = tg_json_scan_feed(&u->scan, p, n);
	const struct tg_json_want *w = &u->scan.want[0];
	if (w->type == TG_JSON_OBJECT) {
		if (w->to - w->from > VALUE_MAX) {
			/* A bound that held only for values in several pieces would make the pieces show. */
		} else if (w->from >= base) {
			tg_usage_parse((struct tg_slice){ p + (w->from - base), w->to - w->from }, &u->usage);
		} else {
			tg_buf_put(&u->value, p, w->to - base);
			if (!u->value.failed)
				tg_usage_parse(tg_buf_view(&u->value), &u->usage);
		}
		u->off = true;
	} else if (st == TG_JSON_BAD || w->type != TG_JSON_NONE) {
		u->off = true;
	} else if (tg_json_scan_open(&u->scan, &from)) {
		size_t skip = from > base ? from - base : 0;
		tg_buf_put(&u->value, p + skip, n - skip);
		u->off = u->value.failed;
	}
	if (u->off)
		tg_buf_free(&u->value);
}

void tg_usage_scan_free(struct tg_usage_scan *u)
{
	tg_buf_free(&u->value);
}

/* The data of one event. True: it is the usage chunk. */
static bool read_data(struct tg_sse *s, struct tg_slice data)
{
	static const char *const names[] = { "choices", "usage", "error" };
	struct tg_json_scan j;
	if (tg_slice_eq(tg_slice_trim(data), TG_S("[DONE]"))) {
		s->done = true;
		return false;
	}
	s->events++;
	if (tg_json_scan_all(&j, data, names, 3) != TG_JSON_DONE)
		return false;
	if (j.want[2].type != TG_JSON_NONE && j.want[2].type != TG_JSON_NULL)
		s->error = true;
	if (j.want[1].type != TG_JSON_OBJECT)
		return false;
	tg_usage_parse(tg_json_value(data, &j.want[1]), &s->usage);
	return j.want[0].type == TG_JSON_ARRAY && !tg_json_first(tg_json_value(data, &j.want[0])).n;
}

/* Where lines end: both searches go over each byte once, however many lines of either kind there are. */
struct ends {
	const char *lf, *cr, *end;
};

static const char *line_end(struct ends *e, const char *p)
{
	if (e->lf < p && !(e->lf = memchr(p, '\n', (size_t)(e->end - p))))
		e->lf = e->end;
	if (e->cr < p && !(e->cr = memchr(p, '\r', (size_t)(e->end - p))))
		e->cr = e->end;
	return e->lf < e->cr ? e->lf : e->cr;
}

/* The value of a line's field if that is data, as section 9.2.6 has it. */
static bool data_line(struct tg_slice line, struct tg_slice *value)
{
	if (!tg_slice_starts(line, TG_S("data")))
		return false;
	*value = (struct tg_slice){ line.p + 4, line.n - 4 };
	if (!value->n)
		return true;
	if (*value->p != ':')
		return false;
	value->p++, value->n--;
	if (value->n && *value->p == ' ')
		value->p++, value->n--;
	return true;
}

/* One whole event. True: it is the usage chunk. */
static bool read_event(struct tg_sse *s, const char *p, size_t n)
{
	if (!s->begun && n >= 3 && memcmp(p, "\xef\xbb\xbf", 3) == 0)
		p += 3, n -= 3;
	s->begun = true;
	struct ends e = { p - 1, p - 1, p + n };
	struct tg_slice data = { 0 }, value;
	struct tg_buf joined;
	unsigned lines = 0;
	bool usage = false;
	tg_buf_init(&joined, TG_SSE_HOLD);
	while (p < e.end) {
		const char *to = line_end(&e, p);
		if (data_line((struct tg_slice){ p, (size_t)(to - p) }, &value)) {
			if (lines == 1)
				tg_buf_slice(&joined, data);
			if (lines) {
				tg_buf_char(&joined, '\n');
				tg_buf_slice(&joined, value);
			}
			data = value;
			lines++;
		}
		p = to + 1;
	}
	if (lines > 1)
		data = tg_buf_view(&joined);
	if (lines && !joined.failed)
		usage = read_data(s, data);
	tg_buf_free(&joined);
	return usage;
}

void tg_sse_init(struct tg_sse *s, bool cut)
{
	memset(s, 0, sizeof *s);
	s->cut = cut;
	/* An event that was held, lent out until the next call, and the one held after it. */
	tg_buf_init(&s->tail, 2 * TG_SSE_HOLD + 2);
}

void tg_sse_free(struct tg_sse *s)
{
	tg_buf_free(&s->tail);
	s->sent = 0;
}

static void take_back(struct tg_sse *s)
{
	tg_buf_consume(&s->tail, s->sent);
	s->sent = 0;
	if (!s->tail.len && s->tail.p)
		tg_buf_free(&s->tail);
}

/* The event is too long, or there is no memory to hold it: what is held goes out, and so will the rest of it. */
static void give_up(struct tg_sse *s)
{
	s->overlong = true;
	s->events++;
	s->begun = true;
	s->tail.failed = false;
	if (s->cut)
		s->sent = (uint32_t)s->tail.len;
	else
		s->tail.len = 0;
}

/*
 * The event ends in this read, before `to` (and before `measured`, its length without a LF that comes after its last CR). True: it is to be cut.
 * Where its beginning is held, its end joins it there: *from moves to `to`.
 */
static bool event_over(struct tg_sse *s, const char **from, const char *to, size_t measured)
{
	bool usage = false;
	if (!s->overlong && s->tail.len - s->sent + measured > TG_SSE_HOLD)
		give_up(s);
	if (!s->overlong && s->tail.len > s->sent) {
		tg_buf_put(&s->tail, *from, (size_t)(to - *from));
		if (s->tail.failed) {
			give_up(s);
		} else {
			usage = read_event(s, s->tail.p, s->tail.len) && s->cut;
			*from = to;
			if (s->cut && !usage)
				s->sent = (uint32_t)s->tail.len;
			else
				s->tail.len = 0;
		}
	} else if (!s->overlong) {
		usage = read_event(s, *from, (size_t)(to - *from)) && s->cut;
	}
	s->overlong = false;
	return usage;
}

void tg_sse_feed(struct tg_sse *s, char *buf, size_t n, struct tg_slice out[2])
{
	const char *const end = buf + n;
	char *w = buf;               /* end of what goes out of buf */
	const char *kept = buf;      /* start of what is not yet moved to w */
	const char *event = buf, *p = buf;
	take_back(s);
	out[0] = out[1] = (struct tg_slice){ 0 };
	if (!n)
		return;

#define KEEP(to) \
	do { \
		size_t keep_ = (size_t)((to) - kept); \
		if (w != kept && keep_) \
			memmove(w, kept, keep_); \
		w += keep_; \
	} while (0)

	if (s->cr && *p == '\n') {
		p++;
		if (!s->tail.len && !s->overlong) { /* the LF of the event before */
			event = p;
			if (s->drop_lf)
				kept = p;
		}
	}
	s->cr = s->drop_lf = false;

	struct ends e = { p - 1, p - 1, end };
	while (p < end) {
		const char *at = line_end(&e, p), *next = at + 1;
		if (at > p)
			s->in_line = true;
		if (at == end)
			break;
		s->cr = *at == '\r' && next == end;
		if (*at == '\r' && next < end && *next == '\n')
			next++;
		p = next;
		if (s->in_line) {
			s->in_line = false;
			continue;
		}
		const char *from = event;
		if (event_over(s, &from, next, (size_t)(at + 1 - event))) {
			KEEP(event);
			kept = next;
			s->drop_lf = s->cr;
		} else if (s->cut && from == next) { /* went into the tail, and goes out with it */
			kept = next;
		}
		event = next;
	}

	size_t rest = (size_t)(end - event);
	if (s->cut && !s->overlong)
		KEEP(event);
	else
		KEEP(end);
	if (rest && !s->overlong) {
		if (s->tail.len - s->sent + rest <= TG_SSE_HOLD)
			tg_buf_put(&s->tail, event, rest);
		else
			s->tail.failed = true;
		if (s->tail.failed) {
			give_up(s);
			if (s->cut) {
				kept = event;
				KEEP(end);
			}
		}
	}
#undef KEEP
	if (!s->tail.len && s->tail.p)
		tg_buf_free(&s->tail);
	out[0] = (struct tg_slice){ s->tail.p, s->sent };
	out[1] = (struct tg_slice){ buf, (size_t)(w - buf) };
}

struct tg_slice tg_sse_end(struct tg_sse *s)
{
	take_back(s);
	if (s->tail.len && read_event(s, s->tail.p, s->tail.len) && s->cut)
		s->tail.len = 0;
	return s->cut ? tg_buf_view(&s->tail) : (struct tg_slice){ 0 };
}
