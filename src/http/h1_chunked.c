/*
 * Chunked bodies, decoded in place. llhttp judges the grammar; it is handed the framing one line at a time and the data by its known
 * length, so that this file always knows which bytes are framing: that is how they are counted, and how the things that llhttp does not
 * mind (long size lines, endless extensions and trailers, a last blank line of a bare LF) are refused.
 *
 * Invariants: out + outlen never passes the read position (framing only shrinks the body), so that decoding in place is safe. Whether a body is
 * accepted, and its bytes, do not depend on where the input is cut: every rule looks at one byte and at what came before it.
 */
#include "http/h1.h"
#include <pthread.h>
#include <stdlib.h>

enum { LINE_SIZE, LINE_DATA_END, LINE_TRAILER };
#define SIZE_DIGITS 16

static int on_chunk_header(llhttp_t *p)
{
	struct tg_chunked *c = p->data;
	c->left = p->content_length;
	c->line = c->left ? LINE_DATA_END : LINE_TRAILER;
	c->chunks++;
	return 0;
}

static int on_body(llhttp_t *p, const char *at, size_t n)
{
	struct tg_chunked *c = p->data;
	char *to = c->out + c->outlen;
	if (to != at)
		memmove(to, at, n);
	c->outlen += n;
	return 0;
}

static int on_message_complete(llhttp_t *p)
{
	struct tg_chunked *c = p->data;
	c->done = true;
	return HPE_PAUSED;
}

static const llhttp_settings_t body_settings = { .on_chunk_header = on_chunk_header, .on_body = on_body, .on_message_complete = on_message_complete };
static llhttp_t template;
static pthread_once_t template_once = PTHREAD_ONCE_INIT;

static void make_template(void)
{
	static const char head[] = "POST / HTTP/1.1\r\nTransfer-Encoding: chunked\r\n\r\n";
	llhttp_init(&template, HTTP_REQUEST, &body_settings);
	if (llhttp_execute(&template, head, sizeof head - 1) != HPE_OK)
		abort(); /* an llhttp that cannot read this cannot be trusted with anything */
}

void tg_chunked_init(struct tg_chunked *c)
{
	pthread_once(&template_once, make_template);
	*c = (struct tg_chunked){ .parser = template, .line = LINE_SIZE, .bol = true };
}

static bool refuse(struct tg_chunked *c, enum tg_refusal why)
{
	c->why = why;
	return false;
}

/* True: all n bytes are llhttp's, and it wants more or is done. */
static bool execute(struct tg_chunked *c, const char *p, size_t n)
{
	llhttp_errno_t e = llhttp_execute(&c->parser, p, n);
	return e == HPE_OK || (c->done && e == HPE_PAUSED);
}

/* Our rules for a framing byte, before llhttp sees it; what passes is counted. */
static bool framing_byte(struct tg_chunked *c, char b)
{
	if (c->framing >= TG_CHUNKED_FRAMING + (uint64_t)c->chunks * TG_CHUNKED_PER_CHUNK)
		return refuse(c, TG_REFUSE_chunk_overhead);
	if (b == '\n' && !c->cr)
		return refuse(c, TG_REFUSE_bare_lf);
	if (c->bol && (b == ' ' || b == '\t'))
		return refuse(c, c->line == LINE_TRAILER ? TG_REFUSE_obs_fold : TG_REFUSE_bad_chunk);
	if (c->line == LINE_SIZE && c->digits <= SIZE_DIGITS) {
		bool hex = (b >= '0' && b <= '9') || (((unsigned char)b | 0x20u) - 'a' < 6u);
		if (hex && ++c->digits > SIZE_DIGITS)
			return refuse(c, TG_REFUSE_bad_chunk);
		if (!hex)
			c->digits = SIZE_DIGITS + 1; /* no more digits of the size on this line */
	}
	c->framing++;
	c->cr = b == '\r';
	c->bol = b == '\n';
	return true;
}

/* One framing line, or what is here of it. The number of bytes taken; 0: refused. */
static size_t framing_line(struct tg_chunked *c, const char *p, size_t n)
{
	size_t i = 0;
	bool ok = true;
	while (i < n && (ok = framing_byte(c, p[i])) && p[i++] != '\n')
		;
	/* What precedes a byte we refuse may hold a fault that llhttp finds: that one came first. */
	enum tg_refusal ours = c->why;
	uint8_t kind = c->line;
	if (i && !execute(c, p, i))
		ours = TG_REFUSE_bad_chunk, ok = false;
	if (!ok) {
		c->why = ours;
		return 0;
	}
	if (c->bol && kind == LINE_DATA_END) {
		c->line = LINE_SIZE;
		c->digits = 0;
	}
	return i;
}

bool tg_chunked_feed(struct tg_chunked *c, char *buf, size_t n, size_t *body_len, size_t *used)
{
	size_t at = 0;
	*body_len = *used = 0;
	if (c->why != TG_REFUSE_NONE)
		return false;
	c->parser.data = c;
	c->out = buf;
	c->outlen = 0;
	while (at < n && !c->done) {
		if (c->left) {
			size_t data = n - at < c->left ? n - at : (size_t)c->left;
			if (!execute(c, buf + at, data))
				return refuse(c, TG_REFUSE_bad_chunk);
			c->left -= data;
			at += data;
			continue;
		}
		size_t line = framing_line(c, buf + at, n - at);
		if (!line)
			return false;
		at += line;
	}
	c->body += c->outlen;
	c->out = NULL;
	*body_len = c->outlen;
	*used = at;
	return true;
}
