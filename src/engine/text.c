/* Strings of JSON (see text.h). Nearly all are plain ASCII and are looked at twice, once for their end and once for what they hold, and never copied. */
#include "engine/text.h"
#include "base/utf8.h"

const char *tg_text_end(const char *c, const char *end, bool *escaped)
{
	if (*escaped && c < end) {
		*escaped = false;
		c++;
	}
	for (; c < end && *c != '"'; c++)
		if (*c == '\\' && ++c == end) {
			*escaped = true;
			break;
		}
	return c;
}

static int hex_digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static bool hex4(const char *c, const char *end, uint32_t *v)
{
	*v = 0;
	for (int i = 0; i < 4; i++) {
		int d = c + i < end ? hex_digit(c[i]) : -1;
		if (d < 0)
			return false;
		*v = *v << 4 | (uint32_t)d;
	}
	return true;
}

static void put_utf8(struct tg_buf *b, uint32_t cp)
{
	if (cp < 0x80) {
		tg_buf_char(b, (char)cp);
		return;
	}
	char t[4];
	size_t n = cp < 0x800 ? 2 : cp < 0x10000 ? 3 : 4;
	for (size_t i = n; i-- > 1; cp >>= 6)
		t[i] = (char)(0x80 | (cp & 0x3f));
	t[0] = (char)(cp | (n == 2 ? 0xc0 : n == 3 ? 0xe0 : 0xf0));
	tg_buf_put(b, t, n);
}

/* What the escape at c stands for (c is behind its backslash). */
static const char *escape(const char **at, const char *end, struct tg_buf *b)
{
	static const char from[] = "\"\\/bfnrt", to[] = "\"\\/\b\f\n\r\t";
	const char *c = *at;
	uint32_t cp, low;
	if (c == end || !*c)
		return "invalid escape";
	const char *simple = strchr(from, *c);
	if (simple) {
		tg_buf_char(b, to[simple - from]);
		*at = c + 1;
		return NULL;
	}
	if (*c != 'u' || !hex4(c + 1, end, &cp))
		return "invalid escape";
	c += 5;
	if (cp >= 0xdc00 && cp <= 0xdfff)
		return "lone surrogate";
	if (cp >= 0xd800 && cp <= 0xdbff) {
		if (end - c < 6 || c[0] != '\\' || c[1] != 'u' || !hex4(c + 2, end, &low) || low < 0xdc00 || low > 0xdfff)
			return "lone surrogate";
		cp = 0x10000 + ((cp - 0xd800) << 10) + (low - 0xdc00);
		c += 6;
	}
	put_utf8(b, cp);
	*at = c;
	return NULL;
}

const char *tg_text(struct tg_slice in, struct tg_buf *scratch, struct tg_slice *out)
{
	const char *c = in.p, *end = in.p + in.n, *from = c;
	bool copied = false;
	scratch->len = 0;
	while (c < end) {
		if ((unsigned char)*c < 0x20)
			return "control character in string";
		if ((unsigned char)*c >= 0x80) {
			size_t k = tg_utf8_len(c, (size_t)(end - c));
			if (!k)
				return "invalid UTF-8";
			c += k;
		} else if (*c != '\\') {
			c++;
		} else {
			copied = true;
			tg_buf_put(scratch, from, (size_t)(c - from));
			c++;
			const char *why = escape(&c, end, scratch);
			if (why)
				return why;
			from = c;
		}
	}
	if (copied)
		tg_buf_put(scratch, from, (size_t)(c - from));
	*out = copied ? tg_buf_view(scratch) : in;
	return NULL;
}
