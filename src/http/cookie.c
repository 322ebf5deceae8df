/* Finding one cookie in a Cookie header (see cookie.h): one pass, nothing is copied. */
#include "http/cookie.h"

static struct tg_slice unquoted(struct tg_slice v)
{
	if (v.n >= 2 && v.p[0] == '"' && v.p[v.n - 1] == '"')
		return (struct tg_slice){ v.p + 1, v.n - 2 };
	return v;
}

struct tg_slice tg_cookie_get(struct tg_slice cookies, struct tg_slice name)
{
	while (cookies.n) {
		const char *semi = memchr(cookies.p, ';', cookies.n);
		struct tg_slice one = tg_slice_trim((struct tg_slice){ cookies.p, semi ? (size_t)(semi - cookies.p) : cookies.n });
		if (one.n > name.n && one.p[name.n] == '=' && tg_slice_starts(one, name))
			return unquoted((struct tg_slice){ one.p + name.n + 1, one.n - name.n - 1 });
		if (!semi)
			break;
		cookies.n -= (size_t)(semi + 1 - cookies.p);
		cookies.p = semi + 1;
	}
	return (struct tg_slice){ 0 };
}
