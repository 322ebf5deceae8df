/* Parameters of headers (see param.h). A semicolon with nothing behind it is passed over, as everybody does. */
#include "base/param.h"

static bool blank(char c)
{
	return c == ' ' || c == '\t';
}

static struct tg_slice from(struct tg_slice s, size_t n)
{
	return (struct tg_slice){ s.p + n, s.n - n };
}

struct tg_slice tg_param_main(struct tg_slice value, struct tg_slice *rest)
{
	const char *semicolon = value.n ? memchr(value.p, ';', value.n) : NULL;
	size_t n = semicolon ? (size_t)(semicolon - value.p) : value.n;
	*rest = from(value, n);
	return tg_slice_trim((struct tg_slice){ value.p, n });
}

/* s begins behind the opening quote. */
static bool quoted(struct tg_slice s, struct tg_slice *raw, struct tg_slice *rest)
{
	size_t n = 0;
	while (n < s.n && s.p[n] != '"')
		n += s.p[n] == '\\' ? 2 : 1;
	if (n >= s.n)
		return false;
	*raw = (struct tg_slice){ s.p, n };
	*rest = from(s, n + 1);
	return true;
}

static void bare(struct tg_slice s, struct tg_slice *raw, struct tg_slice *rest)
{
	size_t n = 0;
	while (n < s.n && s.p[n] != ';' && !blank(s.p[n]))
		n++;
	*raw = (struct tg_slice){ s.p, n };
	*rest = from(s, n);
}

enum tg_param tg_param_next(struct tg_slice *rest, struct tg_slice *name, struct tg_slice *raw)
{
	struct tg_slice s = tg_slice_trim(*rest);
	bool begun = false;
	while (s.n && (s.p[0] == ';' || blank(s.p[0]))) {
		begun = begun || s.p[0] == ';';
		s = from(s, 1);
	}
	if (!s.n)
		return TG_PARAM_END;
	size_t n = 0;
	while (n < s.n && s.p[n] != '=' && s.p[n] != ';' && s.p[n] != '"')
		n++;
	*name = tg_slice_trim((struct tg_slice){ s.p, n });
	if (!begun || !name->n || n == s.n || s.p[n] != '=')
		return TG_PARAM_BAD;
	s = tg_slice_trim(from(s, n + 1));
	if (!s.n || s.p[0] != '"')
		bare(s, raw, rest);
	else if (!quoted(from(s, 1), raw, rest))
		return TG_PARAM_BAD;
	return raw->p ? TG_PARAM_ONE : TG_PARAM_BAD;
}
