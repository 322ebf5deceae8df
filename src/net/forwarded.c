/*
 * The real client behind trusted proxies, from X-Forwarded-For or Forwarded (RFC 7239). Both lists are read from the right and no
 * further than the first hop that is not trusted: what stands left of it was written by that hop or by whoever stands
 * behind it, and is never even parsed. That is also why quotes are counted from the right: an opening quote sent by a caller must
 * not swallow the element a trusted proxy appended after it.
 */
#include "net/addr.h"

enum hop { HOP_KNOWN, HOP_HIDDEN, HOP_BAD };

static bool is_port(struct tg_slice s)
{
	unsigned v = 0;
	if (s.n && s.p[0] == '_') /* an obfuscated port, RFC 7239 section 6.3 */
		return s.n > 1;
	if (s.n == 0 || s.n > 5)
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	return v <= 65535;
}

/* An address with or without a port. The port is checked and dropped: it is the proxy's peer's, of no use here. */
static enum hop xff_hop(struct tg_slice s, struct tg_addr *a)
{
	const char *colon = memrchr(s.p, ':', s.n), *close = memrchr(s.p, ']', s.n);
	bool port = colon && (close ? colon > close : memchr(s.p, ':', s.n) == colon);
	if (port) {
		size_t n = (size_t)(colon - s.p);
		if (!is_port((struct tg_slice){ colon + 1, s.n - n - 1 }))
			return HOP_BAD;
		s.n = n;
	}
	return tg_addr_parse(s, a) ? HOP_KNOWN : HOP_BAD;
}

static bool token_char(char c)
{
	return c > 0x20 && c < 0x7f && !strchr("\"(),/;<=>?@[\\]{}", c);
}

/* One value: a quoted string, or anything up to ';' or white space (a bare [::1]:80 breaks the grammar but is seen). The
 * text goes to out, cut off at cap with *n = cap. Returns the bytes read, 0: malformed. */
static size_t value(struct tg_slice s, char *out, size_t cap, size_t *n)
{
	size_t i = 0;
	*n = 0;
	bool quoted = s.n && s.p[0] == '"';
	if (quoted)
		i++;
	for (; i < s.n; i++) {
		char c = s.p[i];
		if (quoted && c == '"')
			return i + 1;
		if (!quoted && (c == ';' || c == ' ' || c == '\t' || c == '"'))
			break;
		if (quoted && c == '\\' && ++i < s.n)
			c = s.p[i];
		if (*n < cap)
			out[(*n)++] = c;
	}
	return quoted ? 0 : i;
}

/* The for= parameter of one forwarded-element. */
static enum hop forwarded_hop(struct tg_slice s, struct tg_addr *a)
{
	char node[80]; /* longest: "[" + 45 + "]:" + an obfuscated port */
	size_t node_n = 0;
	bool seen = false;
	for (;;) {
		s = tg_slice_trim(s);
		size_t k = 0;
		while (k < s.n && token_char(s.p[k]))
			k++;
		if (k == 0 && s.n && s.p[0] == ';') { /* an empty pair is allowed */
			s.p++, s.n--;
			continue;
		}
		if (s.n == 0)
			break;
		if (k == 0 || k == s.n || s.p[k] != '=')
			return HOP_BAD;
		bool is_for = tg_slice_eq_nocase((struct tg_slice){ s.p, k }, TG_S("for"));
		if (is_for && seen)
			return HOP_BAD;
		char text[sizeof node];
		size_t n, used = value((struct tg_slice){ s.p + k + 1, s.n - k - 1 }, text, sizeof text, &n);
		if (used == 0)
			return HOP_BAD;
		if (is_for) {
			if (n == sizeof text)
				return HOP_BAD;
			seen = true;
			node_n = n;
			memcpy(node, text, n);
		}
		s = tg_slice_trim((struct tg_slice){ s.p + k + 1 + used, s.n - k - 1 - used });
		if (s.n && s.p[0] != ';')
			return HOP_BAD;
	}
	struct tg_slice v = { node, node_n };
	if (!seen || (node_n && node[0] == '_') || (node_n >= 7 && strncasecmp(node, "unknown", 7) == 0))
		return HOP_HIDDEN;
	return node_n ? xff_hop(v, a) : HOP_BAD;
}

static bool escaped(const char *p, size_t at)
{
	size_t k = at;
	while (k && p[k - 1] == '\\')
		k--;
	return (at - k) & 1;
}

/* Cuts the last list element off *list. */
static struct tg_slice last_element(struct tg_slice *list, bool quotes)
{
	size_t i = list->n;
	bool inside = false;
	for (; i; i--) {
		char c = list->p[i - 1];
		if (quotes && c == '"' && !escaped(list->p, i - 1))
			inside = !inside;
		else if (c == ',' && !inside)
			break;
	}
	struct tg_slice e = { list->p + i, list->n - i };
	list->n = i ? i - 1 : 0;
	return tg_slice_trim(e);
}

struct tg_addr tg_addr_client(const struct tg_addr *peer, const struct tg_cidr_list *trusted, struct tg_slice xff, struct tg_slice forwarded)
{
	if (trusted->n == 0 || !tg_cidr_list_has(trusted, peer))
		return *peer;
	bool rfc7239 = tg_slice_trim(xff).n == 0;
	struct tg_slice list = rfc7239 ? forwarded : xff;
	struct tg_addr known = *peer;
	unsigned hops = 0;
	while (list.n) {
		struct tg_slice e = last_element(&list, rfc7239);
		if (e.n == 0) /* empty elements are skipped, RFC 9110 section 5.6.1.2 */
			continue;
		if (++hops > TG_HOPS_MAX)
			return *peer;
		struct tg_addr a;
		switch (rfc7239 ? forwarded_hop(e, &a) : xff_hop(e, &a)) {
		case HOP_BAD:
			return *peer;
		case HOP_HIDDEN:
			return known;
		case HOP_KNOWN:
			break;
		}
		known = a;
		if (!tg_cidr_list_has(trusted, &a))
			break;
	}
	return known;
}
