/*
 * What a worker prints goes to people's terminals (tollgate's own messages, run_api.sh, /logs as text). A terminal obeys what it is sent: it can be made to hide lines, to
 * set its title, in bad cases to type. So whatever is not text goes. Colours are common in logs and are left out whole, so that no litter stays.
 */
#include "base/terminal.h"
#include "base/utf8.h"

/* The length of the escape sequence that begins at p[0] == ESC; an unfinished one ends with the text. */
static size_t escape_length(const char *p, size_t n)
{
	size_t i = 1;
	if (n < 2)
		return n;
	switch (p[1]) {
	case '[': /* CSI: parameters and intermediates 0x20 to 0x3f, one final byte 0x40 to 0x7e */
		for (i = 2; i < n && (unsigned char)p[i] >= 0x20 && (unsigned char)p[i] < 0x40; i++)
			;
		return i < n && (unsigned char)p[i] >= 0x40 && (unsigned char)p[i] < 0x7f ? i + 1 : i;
	case ']': case 'P': case 'X': case '^': case '_': /* OSC, DCS, SOS, PM, APC: up to BEL or ESC \ */
		for (i = 2; i < n; i++) {
			if (p[i] == '\a')
				return i + 1;
			if (p[i] == 0x1b)
				return i + 1 < n && p[i + 1] == '\\' ? i + 2 : i;
		}
		return n;
	default: /* intermediates 0x20 to 0x2f, one final byte 0x30 to 0x7e */
		for (; i < n && (unsigned char)p[i] >= 0x20 && (unsigned char)p[i] < 0x30; i++)
			;
		return i < n && (unsigned char)p[i] >= 0x30 && (unsigned char)p[i] < 0x7f ? i + 1 : i;
	}
}

/* A whole character of two or three bytes. */
static bool is_control(const unsigned char *c, size_t len)
{
	if (len == 2)
		return c[0] == 0xc2 && c[1] < 0xa0; /* C1 */
	if (len != 3 || c[0] != 0xe2)
		return false;
	return (c[1] == 0x80 && (c[2] == 0x8e || c[2] == 0x8f || (c[2] >= 0xa8 && c[2] <= 0xae))) || (c[1] == 0x81 && c[2] >= 0xa6 && c[2] <= 0xa9);
}

size_t tg_terminal_safe(char *p, size_t n)
{
	size_t out = 0;
	for (size_t i = 0; i < n;) {
		unsigned char c = (unsigned char)p[i];
		if (c == 0x1b) {
			i += escape_length(p + i, n - i);
		} else if (c < 0x80) {
			p[out++] = (c < 0x20 && c != '\t') || c == 0x7f ? '?' : (char)c;
			i++;
		} else {
			size_t len = tg_utf8_len(p + i, n - i);
			if (!len || is_control((const unsigned char *)p + i, len)) {
				p[out++] = '?';
				i += len ? len : 1;
			} else {
				memmove(p + out, p + i, len);
				out += len;
				i += len;
			}
		}
	}
	return out;
}

bool tg_terminal_fit(struct tg_slice s)
{
	for (size_t i = 0; i < s.n;) {
		size_t len = tg_utf8_len(s.p + i, s.n - i);
		unsigned char c = (unsigned char)s.p[i];
		if (!len || c < 0x20 || c == 0x7f || is_control((const unsigned char *)s.p + i, len))
			return false;
		i += len;
	}
	return true;
}
