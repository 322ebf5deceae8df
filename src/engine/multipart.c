/*
 * Forms as they come (see multipart.h). Data goes on as it lies in the caller's piece; only what may still become a delimiter is held, byte by byte, and given out as data where it becomes none. A new
 * one can begin only at the byte that did not fit, for a delimiter has no CR but its first and its last. The CRLF before a delimiter may be the one that ends a head (a part with nothing in it), and the body begins
 * as if behind one: then the first two bytes of what is held are not the caller's, and are never given out.
 */
#include "engine/multipart.h"
#include "base/param.h"
#include "base/utf8.h"
#include "engine/fault.h"

#define PADDING 64 /* blanks behind a boundary */
#define MARK_MAX (4 + TG_BOUNDARY_MAX)

enum place { PREAMBLE, HEAD, DATA, EPILOGUE };
enum held { MARK, BEHIND, PAD, PAD_CR, DASH, LAST_PAD, LAST_CR }; /* what is looked for next */
struct tg_multipart {
	const struct tg_multipart_events *events;
	void *ctx;
	struct tg_intake_fault *f;
	enum place place;
	unsigned parts;
	size_t nmark, nheld, lent;  /* lent: of what is held, bytes that did not come */
	enum held at;
	size_t nhead, line;         /* line: where the last one begins */
	char mark[MARK_MAX];        /* CRLF "--" boundary */
	char held[MARK_MAX + 2 + PADDING + 1];
	char head[TG_PART_HEAD_MAX];
	char name[TG_PART_NAME_MAX];
};

static bool at_part(struct tg_multipart *m, const char *why)
{
	char field[24];
	snprintf(field, sizeof field, "part %u", m->parts);
	return tg_fault(m->f, field, "%s", why);
}

static void hold(struct tg_multipart *m, size_t lent)
{
	m->nheld = lent;
	m->lent = lent;
	m->at = MARK;
	memcpy(m->held, m->mark, lent);
}

struct tg_multipart *tg_multipart_new(struct tg_slice boundary, const struct tg_multipart_events *events, void *ctx)
{
	struct tg_multipart *m = calloc(1, sizeof *m);
	if (!m)
		return NULL;
	m->events = events;
	m->ctx = ctx;
	memcpy(m->mark, "\r\n--", 4);
	memcpy(m->mark + 4, boundary.p, boundary.n);
	m->nmark = 4 + boundary.n;
	hold(m, 2);
	return m;
}

void tg_multipart_free(struct tg_multipart *m)
{
	free(m);
}

/* ---- a part's head ---- */

static bool take_name(struct tg_multipart *m, struct tg_part *part, struct tg_slice raw)
{
	size_t n = 0;
	for (size_t i = 0; i < raw.n; i++) {
		if (raw.p[i] == '\\' && i + 1 < raw.n && (raw.p[i + 1] == '"' || raw.p[i + 1] == '\\'))
			i++;
		if (n == sizeof m->name)
			return at_part(m, "has a name of more than 256 bytes");
		m->name[n++] = raw.p[i];
	}
	part->name = (struct tg_slice){ m->name, n };
	if (!n)
		return at_part(m, "has an empty name");
	return tg_utf8_valid(m->name, n) || at_part(m, "has a name that is no valid UTF-8");
}

static bool disposition(struct tg_multipart *m, struct tg_part *part, struct tg_slice value)
{
	struct tg_slice rest, name, raw;
	enum tg_param got;
	if (!tg_slice_eq_nocase(tg_param_main(value, &rest), TG_S("form-data")))
		return at_part(m, "has a Content-Disposition that is not form-data");
	while ((got = tg_param_next(&rest, &name, &raw)) == TG_PARAM_ONE) {
		if (tg_slice_eq_nocase(name, TG_S("filename")) || tg_slice_eq_nocase(name, TG_S("filename*")))
			part->file = true;
		if (!tg_slice_eq_nocase(name, TG_S("name")))
			continue;
		if (part->name.p)
			return at_part(m, "has two names");
		if (!take_name(m, part, raw))
			return false;
	}
	if (got == TG_PARAM_BAD)
		return at_part(m, "has a Content-Disposition that cannot be read");
	return part->name.p || at_part(m, "has no name in its Content-Disposition");
}

static bool header(struct tg_multipart *m, struct tg_part *part, struct tg_slice line, bool *disposed)
{
	const char *colon = memchr(line.p, ':', line.n);
	if (!colon || colon == line.p || colon[-1] == ' ' || colon[-1] == '\t')
		return at_part(m, "has a line among its headers that is none");
	struct tg_slice name = { line.p, (size_t)(colon - line.p) }, value = tg_slice_trim((struct tg_slice){ colon + 1, line.n - name.n - 1 }), rest;
	bool type = tg_slice_eq_nocase(name, TG_S("Content-Type"));
	if (tg_slice_eq_nocase(name, TG_S("Content-Disposition"))) {
		if (*disposed)
			return at_part(m, "has two Content-Disposition headers");
		*disposed = true;
		return disposition(m, part, value);
	}
	if (!type && !tg_slice_eq_nocase(name, TG_S("Content-Transfer-Encoding")))
		return true;
	struct tg_slice *to = type ? &part->type : &part->encoding;
	if (to->p)
		return at_part(m, type ? "has two Content-Type headers" : "has two Content-Transfer-Encoding headers");
	*to = type ? tg_param_main(value, &rest) : value;
	return true;
}

static bool head_over(struct tg_multipart *m)
{
	struct tg_part part = { 0 };
	bool disposed = false;
	for (size_t at = 0; at < m->line;) {
		const char *end = memchr(m->head + at, '\r', m->nhead - at);
		struct tg_slice line = { m->head + at, (size_t)(end - m->head) - at };
		if (!header(m, &part, line, &disposed))
			return false;
		at += line.n + 2;
	}
	if (!disposed)
		return at_part(m, "has no Content-Disposition");
	m->place = DATA;
	hold(m, 2);
	return m->events->part(m->ctx, &part, m->f);
}

static bool head(struct tg_multipart *m, char c)
{
	bool cr = m->nhead > m->line && m->head[m->nhead - 1] == '\r';
	if (m->nhead == sizeof m->head)
		return at_part(m, "has headers of more than 4096 bytes");
	if (!c || cr != (c == '\n'))
		return at_part(m, c ? "has a header whose line does not end with CRLF" : "has a NUL among its headers");
	if (m->nhead == m->line && (c == ' ' || c == '\t'))
		return at_part(m, "has a header of several lines, which is not taken here");
	m->head[m->nhead++] = c;
	if (!cr)
		return true;
	if (m->nhead - m->line == 2)
		return head_over(m);
	m->line = m->nhead;
	return true;
}

/* ---- delimiters ---- */

static bool part_over(struct tg_multipart *m)
{
	return m->place != DATA || m->events->end(m->ctx, m->f);
}

static bool next_part(struct tg_multipart *m)
{
	if (!part_over(m))
		return false;
	if (m->parts++ == TG_PARTS_MAX)
		return tg_fault(m->f, "", "has more than %d parts", TG_PARTS_MAX);
	m->place = HEAD;
	m->nhead = m->line = m->nheld = 0;
	return true;
}

static bool last_part(struct tg_multipart *m)
{
	bool ok = part_over(m);
	m->place = EPILOGUE;
	m->nheld = 0;
	return ok;
}

static bool data(struct tg_multipart *m, const char *p, size_t n)
{
	return m->place != DATA || !n || m->events->data(m->ctx, p, n, m->f);
}

enum verdict { MORE, NONE, NEXT, LAST, BARE };

static enum verdict padding(struct tg_multipart *m, char c, enum held more, enum held cr)
{
	m->at = c == '\r' ? cr : more;
	return c == '\r' || c == ' ' || c == '\t' ? MORE : NONE;
}

static enum verdict look(struct tg_multipart *m, char c)
{
	switch (m->at) {
	case MARK:
		if (c != m->mark[m->nheld])
			return NONE;
		m->at = m->nheld + 1 == m->nmark ? BEHIND : MARK;
		return MORE;
	case BEHIND:
		if (c != '-')
			break;
		m->at = DASH;
		return MORE;
	case PAD: break;
	case PAD_CR: return c == '\n' ? NEXT : NONE;
	case DASH: m->at = LAST_PAD; return c == '-' ? MORE : NONE;
	case LAST_PAD: return c == '\n' ? LAST : padding(m, c, LAST_PAD, LAST_CR);
	case LAST_CR: return c == '\n' ? LAST : NONE;
	}
	return c == '\n' ? BARE : padding(m, c, PAD, PAD_CR);
}

/* The byte at *p, behind what is held. Where that is no delimiter, it is looked at once more. */
static bool held(struct tg_multipart *m, const char **p)
{
	size_t n = m->nheld;
	switch (n == sizeof m->held ? NONE : look(m, **p)) {
	case MORE: m->held[m->nheld++] = *(*p)++; return true;
	case NEXT: ++*p; return next_part(m);
	case LAST: ++*p; return last_part(m);
	case BARE: return tg_fault(m->f, "", "has a boundary whose line ends with LF alone; the lines of a form end with CRLF");
	case NONE: break;
	}
	m->nheld = 0;
	return data(m, m->held + m->lent, n - m->lent);
}

/* Data up to what may be a delimiter. */
static bool run(struct tg_multipart *m, const char **p, const char *end)
{
	const char *cr = *p, *start = *p;
	while ((cr = memchr(cr, '\r', (size_t)(end - cr))) && (size_t)(end - cr) >= m->nmark && memcmp(cr, m->mark, m->nmark) != 0)
		cr++;
	*p = cr ? cr + 1 : end;
	if (cr) {
		hold(m, 1);
		m->lent = 0;
	}
	return data(m, start, (size_t)((cr ? cr : end) - start));
}

bool tg_multipart_feed(struct tg_multipart *m, const char *p, size_t n, struct tg_intake_fault *f)
{
	const char *end = p + n;
	m->f = f;
	*f = (struct tg_intake_fault){ 0 };
	while (p < end && m->place != EPILOGUE)
		if (!(m->place == HEAD ? head(m, *p++) : m->nheld ? held(m, &p) : run(m, &p, end)))
			return false;
	return true;
}

bool tg_multipart_end(struct tg_multipart *m, struct tg_intake_fault *f)
{
	m->f = f;
	*f = (struct tg_intake_fault){ 0 };
	if (m->place != HEAD && m->nheld && (m->at == LAST_PAD || m->at == LAST_CR))
		return last_part(m);
	if (m->place == EPILOGUE)
		return true;
	return tg_fault(f, "", "%s", m->place == PREAMBLE ? "has no part: no line in it is the boundary that Content-Type names" : "breaks off: the boundary with two dashes behind it, which ends a form, is missing");
}
