/*
 * Heads of HTTP/1.1 messages (RFC 9112). Two readers must agree before a head counts: llhttp in strict mode, which knows the grammar
 * of header lines, and the rules here, which decide what llhttp lets through: the start line is read by us alone, and framing headers
 * are judged again from their values. Whatever two HTTP programs could read differently is refused, since a worker behind us may be the other one.
 *
 * Invariants: llhttp sees a head once, whole, so that each header arrives as one contiguous span; it is paused at the blank line, so that its
 * own idea of bodies and upgrades never acts. No byte outside [head, head + len) is read. Nothing is allocated, nothing is kept.
 */
#include "http/h1.h"
#include "base/utf8.h"
#include <arpa/inet.h>

struct walk {
	struct tg_head *out;
	unsigned max_headers;
	const char *first_line, *end; /* the line after the start line; the end of the head */
	enum tg_refusal why;
};

static bool refuse(enum tg_refusal *why, enum tg_refusal r)
{
	*why = r;
	return false;
}

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static bool digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool letter(char c)
{
	return ((unsigned char)c | 0x20u) - 'a' < 26u;
}

long tg_h1_head_end(const char *buf, size_t len, size_t *scanned, size_t *start, bool request, const struct tg_h1_limits *lim, enum tg_refusal *why)
{
	/* Only the bytes a head may have are looked at, however many there are: else the answer would depend on how they arrived. */
	size_t n = len < lim->max_head ? len : lim->max_head, s = 0;
	while (request && n - s >= 2 && buf[s] == '\r' && buf[s + 1] == '\n')
		s += 2;
	*start = s;
	if (s < n && blank(buf[s])) {
		*why = request ? TG_REFUSE_bad_request_line : TG_REFUSE_bad_status_line;
		return -1;
	}
	size_t at = *scanned > s ? *scanned : s;
	const char *lf;
	while (at < n && (lf = memchr(buf + at, '\n', n - at))) {
		size_t i = (size_t)(lf - buf);
		if (i == s || buf[i - 1] != '\r') {
			*why = TG_REFUSE_bare_lf;
			return -1;
		}
		if (i - 1 == s) {
			*why = TG_REFUSE_bad_status_line;
			return -1;
		}
		if (buf[i - 2] == '\n')
			return (long)(i + 1 - s);
		at = i;
		if (i + 1 == n)
			break; /* this LF again when the byte after it is here */
		if (blank(buf[i + 1])) {
			*why = TG_REFUSE_obs_fold;
			return -1;
		}
		at = i + 1;
	}
	if (len >= lim->max_head) {
		*why = request && n > s && !memchr(buf + s, '\n', n - s) ? TG_REFUSE_long_target : TG_REFUSE_head_too_large;
		return -1;
	}
	/* After the loop everything up to n is known, save an LF whose next byte is still to come. */
	*scanned = n > s && buf[n - 1] == '\n' ? n - 1 : n;
	return 0;
}

/* RFC 9110 section 5.6.2. */
static const bool token_char[256] = {
	['!'] = true, ['#'] = true, ['$'] = true, ['%'] = true, ['&'] = true, ['\''] = true, ['*'] = true, ['+'] = true, ['-'] = true, ['.'] = true,
	['0' ... '9'] = true, ['A' ... 'Z'] = true, ['^'] = true, ['_'] = true, ['`'] = true, ['a' ... 'z'] = true, ['|'] = true, ['~'] = true,
};
/* What may stand in a target: RFC 3986 characters; so not " # < > \ ^ ` { | }, no control, nothing from 0x7f up. */
static const bool target_char[256] = {
	['!'] = true, ['$' ... ';'] = true, ['='] = true, ['?' ... '['] = true, [']'] = true, ['_'] = true, ['a' ... 'z'] = true, ['~'] = true,
};

static bool all(const bool table[256], struct tg_slice s)
{
	for (size_t i = 0; i < s.n; i++)
		if (!table[(unsigned char)s.p[i]])
			return false;
	return s.n > 0;
}

static enum tg_method method_of(struct tg_slice s)
{
	for (int m = 0; m < TG_METHOD_OTHER; m++)
		if (tg_slice_eq(s, tg_slice_cstr(tg_method_names[m])))
			return (enum tg_method)m;
	return TG_METHOD_OTHER;
}

static bool version_of(struct tg_slice s, uint8_t *minor)
{
	if (s.n != 8 || memcmp(s.p, "HTTP/1.", 7) != 0 || (s.p[7] != '0' && s.p[7] != '1'))
		return false;
	*minor = (uint8_t)(s.p[7] - '0');
	return true;
}

/* The start line without its CR LF. */
static bool start_line(const char *head, size_t len, struct tg_slice *line)
{
	const char *lf = memchr(head, '\n', len);
	if (!lf || lf == head || lf[-1] != '\r')
		return false;
	*line = (struct tg_slice){ head, (size_t)(lf - head) - 1 };
	return true;
}

static bool request_line(struct tg_slice line, struct tg_head *out, enum tg_refusal *why)
{
	const char *end = line.p + line.n, *a = memchr(line.p, ' ', line.n);
	if (!a)
		return refuse(why, TG_REFUSE_bad_request_line);
	const char *b = memchr(a + 1, ' ', (size_t)(end - a) - 1);
	struct tg_slice method = { line.p, (size_t)(a - line.p) };
	if (!all(token_char, method))
		return refuse(why, TG_REFUSE_bad_request_line);
	/* A line of two words is HTTP/0.9. */
	if (!b)
		return refuse(why, a + 1 < end ? TG_REFUSE_bad_version : TG_REFUSE_bad_request_line);
	if (b == a + 1 || memchr(b + 1, ' ', (size_t)(end - b) - 1))
		return refuse(why, TG_REFUSE_bad_request_line);
	if (!version_of((struct tg_slice){ b + 1, (size_t)(end - b) - 1 }, &out->minor))
		return refuse(why, TG_REFUSE_bad_version);
	out->method = method_of(method);
	if (out->method == TG_METHOD_OTHER)
		return refuse(why, tg_slice_eq(method, TG_S("CONNECT")) ? TG_REFUSE_connect_method : TG_REFUSE_bad_method);
	out->target = (struct tg_slice){ a + 1, (size_t)(b - a) - 1 };
	if (out->target.n > TG_H1_TARGET_MAX)
		return refuse(why, TG_REFUSE_long_target);
	return all(target_char, out->target) || refuse(why, TG_REFUSE_bad_target);
}

/* Once the Host is known: cuts an absolute-form target (RFC 9112 section 3.2.2) and splits off the query. */
static bool target_form(struct tg_head *out, enum tg_refusal *why)
{
	struct tg_slice t = out->target;
	if (t.n > 7 && strncasecmp(t.p, "http://", 7) == 0) {
		struct tg_slice authority = { t.p + 7, 0 };
		while (authority.n < t.n - 7 && authority.p[authority.n] != '/' && authority.p[authority.n] != '?')
			authority.n++;
		if (!authority.n || !tg_slice_eq_nocase(authority, out->host))
			return refuse(why, TG_REFUSE_host_mismatch);
		if (authority.n < t.n - 7)
			t = (struct tg_slice){ authority.p + authority.n, t.n - 7 - authority.n };
		else if (out->method != TG_OPTIONS)
			/* No path stands for "/": the one before the authority will do, so that every slice lies within the head. */
			t = (struct tg_slice){ authority.p - 1, 1 };
	}
	if (t.p[0] != '/' && !(out->method == TG_OPTIONS && tg_slice_eq(t, TG_S("*"))))
		return refuse(why, TG_REFUSE_bad_target);
	const char *q = memchr(t.p, '?', t.n);
	out->target = out->path = t;
	out->query = (struct tg_slice){ t.p + t.n, 0 };
	if (q) {
		out->path.n = (size_t)(q - t.p);
		out->query = (struct tg_slice){ q + 1, t.n - out->path.n - 1 };
	}
	return true;
}

/* HTTP-version SP 3DIGIT [SP reason]; the SP before an empty reason is often left out, and no framing hangs on it. */
static bool status_line(struct tg_slice line, struct tg_head *out, enum tg_refusal *why)
{
	if (line.n < 8 || !version_of((struct tg_slice){ line.p, 8 }, &out->minor))
		return refuse(why, line.n >= 5 && memcmp(line.p, "HTTP/", 5) == 0 ? TG_REFUSE_bad_version : TG_REFUSE_bad_status_line);
	const char *p = line.p + 8, *end = line.p + line.n;
	if (p == end || *p++ != ' ')
		return refuse(why, TG_REFUSE_bad_status_line);
	unsigned status = 0, digits = 0;
	for (; p < end && digit(*p) && digits < 4; p++, digits++)
		status = status * 10 + (unsigned)(*p - '0');
	if (digits != 3 || status < 100 || status > 599)
		return refuse(why, TG_REFUSE_bad_status);
	if (p < end && *p != ' ')
		return refuse(why, TG_REFUSE_bad_status_line);
	for (; p < end; p++)
		if (((unsigned char)*p < 0x20 && *p != '\t') || *p == 0x7f)
			return refuse(why, TG_REFUSE_bad_status_line);
	out->status = (uint16_t)status;
	return status != 101 || refuse(why, TG_REFUSE_switching_protocols);
}

/*
 * host [":" port] (RFC 9110 section 7.2), narrower than RFC 3986: a name has letters, digits and - . _ ~ (what resolvers and
 * containers use; sub-delims and % are where parsers differ), a literal is IPv6 without a zone, a port is not empty.
 */
static bool host_valid(struct tg_slice h)
{
	size_t i = 0;
	if (h.n && h.p[0] == '[') {
		char text[INET6_ADDRSTRLEN];
		struct in6_addr a;
		const char *close = memchr(h.p, ']', h.n);
		size_t n = close ? (size_t)(close - h.p) - 1 : 0;
		if (!n || n >= sizeof text)
			return false;
		memcpy(text, h.p + 1, n);
		text[n] = '\0';
		if (strlen(text) != n || inet_pton(AF_INET6, text, &a) != 1)
			return false;
		i = n + 2;
	} else {
		while (i < h.n && (letter(h.p[i]) || digit(h.p[i]) || h.p[i] == '-' || h.p[i] == '.' || h.p[i] == '_' || h.p[i] == '~'))
			i++;
		if (i == 0 || i > 255)
			return false;
	}
	if (i == h.n)
		return true;
	if (h.p[i++] != ':' || i == h.n || h.n - i > 5)
		return false;
	unsigned port = 0;
	for (; i < h.n; i++) {
		if (!digit(h.p[i]))
			return false;
		port = port * 10 + (unsigned)(h.p[i] - '0');
	}
	return port <= 65535;
}

/*
 * Where the line after the last header (or the start line) begins; NULL if the last header does not end there and then. Every name that
 * llhttp reports must begin at this very place: nothing between two headers was skipped, folded or read differently.
 */
static const char *next_line(const struct walk *w)
{
	if (!w->out->nheaders)
		return w->first_line;
	const struct tg_slice v = w->out->headers[w->out->nheaders - 1].value;
	const char *c = v.p + v.n;
	while (c < w->end && blank(*c))
		c++;
	return w->end - c >= 2 && c[0] == '\r' && c[1] == '\n' ? c + 2 : NULL;
}

static enum tg_refusal odd_line(const char *line)
{
	if (!line)
		return TG_REFUSE_bare_lf;
	return blank(*line) ? TG_REFUSE_obs_fold : *line == ':' ? TG_REFUSE_bad_header_name : TG_REFUSE_malformed;
}

static int on_field(llhttp_t *p, const char *at, size_t n)
{
	struct walk *w = p->data;
	struct tg_head *out = w->out;
	const char *line = next_line(w);
	if (n == 0 || at != line) {
		w->why = n == 0 ? TG_REFUSE_bad_header_name : odd_line(line);
		return HPE_USER;
	}
	if (out->nheaders >= w->max_headers) {
		w->why = TG_REFUSE_too_many_headers;
		return HPE_USER;
	}
	struct tg_header *h = &out->headers[out->nheaders];
	h->name = (struct tg_slice){ at, n };
	h->value = (struct tg_slice){ at + n + 1, 0 };
	h->id = (uint8_t)tg_header_lookup(h->name);
	if (h->id != TG_H_OTHER && out->first[h->id] < 0)
		out->first[h->id] = (int16_t)out->nheaders;
	out->nheaders++;
	return 0;
}

static int on_value(llhttp_t *p, const char *at, size_t n)
{
	struct walk *w = p->data;
	struct tg_header *h = w->out->nheaders ? &w->out->headers[w->out->nheaders - 1] : NULL;
	const char *line = next_line(w);
	if (n == 0) /* reported from somewhere past its line; next_line finds that there is nothing in it */
		return 0;
	/* A value that lies past the line of its name is the value of an empty name, or a folded piece. */
	if (!h || (line && at >= line)) {
		w->why = odd_line(line);
		return HPE_USER;
	}
	h->value = tg_slice_trim((struct tg_slice){ at, n });
	return 0;
}

static int on_headers_complete(llhttp_t *p)
{
	(void)p;
	return HPE_PAUSED;
}

static const llhttp_settings_t head_settings = { .on_header_field = on_field, .on_header_value = on_value, .on_headers_complete = on_headers_complete };

/* What llhttp found, as one of our rules. */
static enum tg_refusal translate(const llhttp_t *p, const char *head, size_t len)
{
	const char *pos = llhttp_get_error_pos(p), *line;
	if (!pos || pos <= head || pos > head + len)
		return TG_REFUSE_malformed;
	switch (llhttp_get_errno(p)) {
	case HPE_INVALID_METHOD:
		return TG_REFUSE_bad_method;
	case HPE_INVALID_URL:
		return TG_REFUSE_bad_target;
	case HPE_INVALID_VERSION:
	case HPE_INVALID_CONSTANT:
		return TG_REFUSE_bad_version;
	case HPE_INVALID_STATUS:
		return TG_REFUSE_bad_status;
	case HPE_INVALID_CONTENT_LENGTH:
		return TG_REFUSE_bad_content_length;
	case HPE_UNEXPECTED_CONTENT_LENGTH:
		return p->flags & F_TRANSFER_ENCODING ? TG_REFUSE_length_and_encoding : TG_REFUSE_bad_content_length;
	case HPE_INVALID_TRANSFER_ENCODING:
		return p->flags & F_CONTENT_LENGTH ? TG_REFUSE_length_and_encoding : TG_REFUSE_bad_transfer_encoding;
	case HPE_CR_EXPECTED:
	case HPE_LF_EXPECTED:
	case HPE_STRICT:
	case HPE_INVALID_HEADER_TOKEN:
		if (pos < head + len && *pos == '\n' && pos[-1] != '\r')
			return TG_REFUSE_bare_lf;
		line = memrchr(head, '\n', (size_t)(pos - head));
		line = line ? line + 1 : head;
		return memchr(line, ':', (size_t)(pos - line)) ? TG_REFUSE_bad_header_value : TG_REFUSE_bad_header_name;
	default:
		return TG_REFUSE_malformed;
	}
}

static bool header_lines(llhttp_type_t type, const char *head, size_t len, struct tg_slice start, const struct tg_h1_limits *lim, struct tg_head *out,
			 enum tg_refusal *why)
{
	struct walk w = { .out = out, .first_line = start.p + start.n + 2, .end = head + len, .max_headers = lim->max_headers < TG_HEADERS_MAX ? lim->max_headers : TG_HEADERS_MAX };
	llhttp_t p;
	llhttp_init(&p, type, &head_settings);
	p.data = &w;
	llhttp_errno_t e = llhttp_execute(&p, head, len);
	if (w.why != TG_REFUSE_NONE)
		return refuse(why, w.why);
	if (e != HPE_PAUSED)
		return refuse(why, e == HPE_OK ? TG_REFUSE_malformed : translate(&p, head, len));
	/* The blank line: CR LF, where the last header ends, and the end of what was handed in. */
	const char *line = next_line(&w);
	if (line && head + len - line == 2 && line[0] == '\r' && line[1] == '\n')
		return true;
	return refuse(why, !line || *line == '\n' ? TG_REFUSE_bare_lf : *line == '\r' ? TG_REFUSE_malformed : odd_line(line));
}

static bool high_bytes(const char *p, size_t n)
{
	uint64_t any = 0;
	size_t i = 0;
	for (; n - i >= 8; i += 8) {
		uint64_t v;
		memcpy(&v, p + i, 8);
		any |= v;
	}
	for (; i < n; i++)
		any |= (unsigned char)p[i];
	return any & UINT64_C(0x8080808080808080);
}

enum { TOKEN_CLOSE = 1, TOKEN_KEEP_ALIVE = 2, TOKEN_UPGRADE = 4 };

static unsigned connection_tokens(struct tg_slice v)
{
	unsigned seen = 0;
	while (v.n) {
		const char *comma = memchr(v.p, ',', v.n);
		size_t n = comma ? (size_t)(comma - v.p) : v.n;
		struct tg_slice t = tg_slice_trim((struct tg_slice){ v.p, n });
		if (tg_slice_eq_nocase(t, TG_S("close")))
			seen |= TOKEN_CLOSE;
		else if (tg_slice_eq_nocase(t, TG_S("keep-alive")))
			seen |= TOKEN_KEEP_ALIVE;
		else if (tg_slice_eq_nocase(t, TG_S("upgrade")))
			seen |= TOKEN_UPGRADE;
		n += comma != NULL;
		v.p += n;
		v.n -= n;
	}
	return seen;
}

static bool length_of(struct tg_slice v, bool request, int64_t *out)
{
	uint64_t n = 0;
	if (!v.n || v.n > 19)
		return false;
	for (size_t i = 0; i < v.n; i++) {
		if (!digit(v.p[i]))
			return false;
		n = n * 10 + (uint64_t)(v.p[i] - '0');
	}
	if (n > INT64_MAX && !request)
		return false;
	*out = n > INT64_MAX ? INT64_MAX : (int64_t)n;
	return true;
}

/* The rules on header values that both directions share: RFC 9112 sections 6 and 9.3. */
static bool header_rules(bool request, bool high, struct tg_head *out, enum tg_refusal *why)
{
	unsigned lengths = 0, codings = 0, hosts = 0, tokens = 0;
	bool upgrade = false;
	for (unsigned i = 0; i < out->nheaders; i++) {
		const struct tg_header *h = &out->headers[i];
		if (high && !tg_utf8_valid(h->value.p, h->value.n))
			return refuse(why, TG_REFUSE_bad_header_value);
		switch (h->id) {
		case TG_H_CONTENT_LENGTH:
			if (lengths++ || !length_of(h->value, request, &out->content_length))
				return refuse(why, TG_REFUSE_bad_content_length);
			break;
		case TG_H_TRANSFER_ENCODING:
			if (codings++ || !tg_slice_eq_nocase(h->value, TG_S("chunked")))
				return refuse(why, TG_REFUSE_bad_transfer_encoding);
			break;
		case TG_H_CONNECTION:
			tokens |= connection_tokens(h->value);
			break;
		case TG_H_UPGRADE:
			upgrade = true;
			break;
		case TG_H_HOST:
			if (!request)
				break;
			if (hosts++ || !host_valid(h->value))
				return refuse(why, TG_REFUSE_bad_host);
			out->host = h->value;
			break;
		case TG_H_AUTHORIZATION:
			out->key_twice |= out->first[h->id] != (int)i;
			break;
		case TG_H_EXPECT:
			if (!request)
				break;
			if (!tg_slice_eq_nocase(h->value, TG_S("100-continue")))
				return refuse(why, TG_REFUSE_bad_expect);
			/* RFC 9110 section 10.1.1: from HTTP/1.0 it is ignored. */
			out->expect_continue = out->minor == 1;
			break;
		default:
			break;
		}
	}
	if (lengths && codings)
		return refuse(why, TG_REFUSE_length_and_encoding);
	if (codings && out->minor == 0)
		return refuse(why, TG_REFUSE_chunked_http10);
	if (request && !hosts && out->minor == 1)
		return refuse(why, TG_REFUSE_bad_host);
	out->chunked = codings > 0;
	out->keep_alive = !(tokens & TOKEN_CLOSE) && (out->minor == 1 || tokens & TOKEN_KEEP_ALIVE);
	out->upgrade = upgrade && tokens & TOKEN_UPGRADE;
	return true;
}

/* headers[] is 4 KiB that need no clearing. */
static void reset(struct tg_head *out)
{
	memset(out, 0, offsetof(struct tg_head, first));
	memset(out->first, 0xff, sizeof out->first);
	out->content_length = -1;
}

bool tg_h1_parse_request(const char *head, size_t len, const struct tg_h1_limits *lim, struct tg_head *out, enum tg_refusal *why)
{
	struct tg_slice line;
	reset(out);
	if (len > lim->max_head)
		return refuse(why, TG_REFUSE_head_too_large);
	if (!start_line(head, len, &line))
		return refuse(why, TG_REFUSE_bare_lf);
	return request_line(line, out, why) && header_lines(HTTP_REQUEST, head, len, line, lim, out, why) &&
	       header_rules(true, high_bytes(head, len), out, why) && target_form(out, why);
}

bool tg_h1_parse_response(const char *head, size_t len, const struct tg_h1_limits *lim, struct tg_head *out, enum tg_refusal *why)
{
	struct tg_slice line;
	reset(out);
	if (len > lim->max_head)
		return refuse(why, TG_REFUSE_head_too_large);
	if (!start_line(head, len, &line))
		return refuse(why, TG_REFUSE_bare_lf);
	return status_line(line, out, why) && header_lines(HTTP_RESPONSE, head, len, line, lim, out, why) &&
	       header_rules(false, high_bytes(head, len), out, why);
}
