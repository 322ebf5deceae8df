/*
 * Addresses of workers and listeners. Only what the gate can speak is taken (plain HTTP over TCP, Unix sockets), and everything that
 * could mean two things to two readers is refused: user names, queries, fragments, escapes of the host, odd ports, dot segments.
 * Slices in the results point into the caller's text.
 */
#include "config/config.h"
#include <arpa/inet.h>
#include <sys/un.h>

static bool fail(struct tg_err *err, const char *why)
{
	tg_err_set(err, "%s", why);
	return false;
}

static bool alnum(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
}

/* Decimal, no sign, no leading zero, at most 65535. */
static bool parse_port(struct tg_slice s, uint16_t *out)
{
	uint32_t v = 0;
	if (!s.n || s.n > 5 || (s.n > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (uint32_t)(s.p[i] - '0');
	}
	*out = (uint16_t)v;
	return v <= 65535;
}

static bool is_ip(int family, struct tg_slice s)
{
	char text[INET6_ADDRSTRLEN];
	struct in6_addr addr;
	if (!s.n || s.n >= sizeof text || memchr(s.p, 0, s.n))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = 0;
	return inet_pton(family, text, &addr) == 1;
}

/* A name of RFC 1123 labels ('_' allowed: container names have it), or an IPv4 literal. Digits and dots only must be an address: else 127.1 would be
 * left to the resolver's fancy. */
static bool host_ok(struct tg_slice h)
{
	if (!h.n || h.n > 253)
		return false;
	bool numeric = true;
	size_t label = 0;
	for (size_t i = 0; i <= h.n; i++) {
		char c = i < h.n ? h.p[i] : '.';
		if (c == '.') {
			bool root = i == h.n && i && h.p[i - 1] == '.'; /* "name." is absolute */
			if ((!label && !root) || label > 63 || (label && (h.p[i - 1] == '-' || h.p[i - label] == '-')))
				return false;
			label = 0;
			continue;
		}
		if (!alnum(c) && c != '-' && c != '_')
			return false;
		if (c < '0' || c > '9')
			numeric = false;
		label++;
	}
	return numeric ? is_ip(AF_INET, h) : !(h.n > 1 && h.p[0] == '0' && (h.p[1] | 32) == 'x');
}

/* host[:port] or [v6][:port]; *has_port tells. */
static bool authority(struct tg_slice s, struct tg_slice *host, uint16_t *port, bool *has_port, struct tg_err *err)
{
	struct tg_slice rest;
	if (s.n && s.p[0] == '[') {
		const char *close = memchr(s.p, ']', s.n);
		if (!close)
			return fail(err, "the [ of the IPv6 address does not end");
		*host = (struct tg_slice){ s.p + 1, (size_t)(close - s.p) - 1 };
		if (!is_ip(AF_INET6, *host))
			return fail(err, "what stands in [ ] is no IPv6 address");
		rest = (struct tg_slice){ close + 1, s.n - host->n - 2 };
	} else {
		const char *colon = s.n ? memchr(s.p, ':', s.n) : NULL;
		*host = (struct tg_slice){ s.p, colon ? (size_t)(colon - s.p) : s.n };
		if (colon && memchr(colon + 1, ':', s.n - host->n - 1))
			return fail(err, "an IPv6 address must stand in [ ]");
		if (!host_ok(*host))
			return fail(err, host->n ? "the host is neither a name nor an address" : "the host is missing");
		rest = (struct tg_slice){ s.p + host->n, s.n - host->n };
	}
	*has_port = rest.n > 0;
	if (!rest.n)
		return true;
	if (rest.p[0] != ':' || !parse_port((struct tg_slice){ rest.p + 1, rest.n - 1 }, port))
		return fail(err, "the port is not a number up to 65535");
	return true;
}

static bool socket_path(struct tg_slice s, struct tg_slice *path, struct tg_err *err)
{
	struct sockaddr_un un;
	if (!s.n || s.p[0] != '/')
		return fail(err, "unix: needs an absolute path");
	if (s.n >= sizeof un.sun_path)
		return fail(err, "the path of the Unix socket is over 107 bytes");
	for (size_t i = 0; i < s.n; i++)
		if ((unsigned char)s.p[i] < 0x20 || s.p[i] == 0x7f)
			return fail(err, "the path of the Unix socket holds a control character");
	*path = s;
	return true;
}

/* Path characters of RFC 3986 without ';' and escapes: a base is typed by people, and is put in front of fixed routes. */
static bool base_ok(struct tg_slice b)
{
	for (size_t i = 0; i < b.n; i++) {
		if (!alnum(b.p[i]) && !memchr("/-._~@:+,=$", b.p[i], 11))
			return false;
		if (b.p[i] == '/') {
			size_t k = i + 1;
			while (k < b.n && b.p[k] == '.')
				k++;
			bool dots = k > i + 1 && k <= i + 3 && (k == b.n || b.p[k] == '/');
			if (dots || (i + 1 < b.n && b.p[i + 1] == '/'))
				return false;
		}
	}
	return true;
}

bool tg_url_parse(struct tg_slice s, struct tg_url *out, struct tg_err *err)
{
	*out = (struct tg_url){ .base = TG_S("") };
	if (tg_slice_starts(s, TG_S("unix:"))) {
		out->unix_socket = true;
		return socket_path((struct tg_slice){ s.p + 5, s.n - 5 }, &out->host, err);
	}
	if (s.n >= 8 && strncasecmp(s.p, "https://", 8) == 0)
		return fail(err, "https to workers is not built yet: use http:// or unix:");
	if (s.n < 7 || strncasecmp(s.p, "http://", 7) != 0)
		return fail(err, "must be http://HOST[:PORT][/BASE] or unix:/PATH");
	s = (struct tg_slice){ s.p + 7, s.n - 7 };
	size_t n = 0;
	while (n < s.n && s.p[n] != '/' && s.p[n] != '?' && s.p[n] != '#')
		n++;
	struct tg_slice auth = { s.p, n };
	if (n && memchr(s.p, '@', n))
		return fail(err, "a user name in the URL is not taken: set api_key");
	bool has_port;
	out->port = 80;
	if (!authority(auth, &out->host, &out->port, &has_port, err))
		return false;
	if (!out->port)
		return fail(err, "the port is not a number from 1 to 65535");
	struct tg_slice base = { s.p + n, s.n - n };
	if (base.n && (memchr(base.p, '?', base.n) || memchr(base.p, '#', base.n)))
		return fail(err, "a query or fragment is not taken");
	while (base.n && base.p[base.n - 1] == '/')
		base.n--;
	if (base.n > 512 || !base_ok(base))
		return fail(err, "the base path has a character, an empty or a dot segment that is not taken");
	if (base.n)
		out->base = base;
	return true;
}

bool tg_listen_parse(struct tg_slice s, struct tg_listen *out, struct tg_err *err)
{
	*out = (struct tg_listen){ .kind = tg_listen_kind_of(&s) };
	if (tg_slice_starts(s, TG_S("unix:"))) {
		if (out->kind != TG_LISTEN_PLAIN)
			return fail(err, "tls: and redirect: need an ADDRESS:PORT, not a Unix socket");
		out->unix_socket = true;
		return socket_path((struct tg_slice){ s.p + 5, s.n - 5 }, &out->host, err);
	}
	bool has_port;
	if (!authority(s, &out->host, &out->port, &has_port, err))
		return false;
	if (!has_port)
		return fail(err, "must be ADDRESS:PORT, [IPV6]:PORT or unix:/PATH, with tls: or redirect: in front if wanted");
	if (tg_slice_eq_nocase(out->host, TG_S("localhost")))
		out->host = TG_S("127.0.0.1");
	else if (!is_ip(AF_INET, out->host) && !is_ip(AF_INET6, out->host))
		return fail(err, "the address must be a number (127.0.0.1, 0.0.0.0, [::1], [::]) or localhost");
	return true;
}
