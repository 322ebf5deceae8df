/*
 * Addresses, networks and their text. Invariant: an IPv4 address exists only in its IPv4-mapped form, so ::ffff:127.0.0.1 can
 * never be a second, unlisted spelling of 127.0.0.1. Text is read by inet_pton alone, which knows none of inet_aton's short,
 * octal and hexadecimal forms; a name is never resolved, so nothing here can block or change its answer later.
 */
#include "net/addr.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdlib.h>

static const uint8_t mapped[16] = { [10] = 0xff, [11] = 0xff }; /* 0.0.0.0; the first 12 bytes are of every IPv4 address */

static bool is_v4(const uint8_t ip[16])
{
	return memcmp(ip, mapped, 12) == 0;
}

void tg_addr_from_sockaddr(struct tg_addr *a, const struct sockaddr *sa)
{
	*a = (struct tg_addr){ 0 };
	if (sa->sa_family == AF_INET) {
		struct sockaddr_in in;
		memcpy(&in, sa, sizeof in);
		memcpy(a->ip, mapped, 12);
		memcpy(a->ip + 12, &in.sin_addr, 4);
		a->port = ntohs(in.sin_port);
	} else if (sa->sa_family == AF_INET6) {
		struct sockaddr_in6 in6;
		memcpy(&in6, sa, sizeof in6);
		memcpy(a->ip, &in6.sin6_addr, 16);
		a->port = ntohs(in6.sin6_port);
	} else {
		/* Also for a family we do not know: the form that is never local and never in a network. */
		a->unix_peer = true;
	}
}

bool tg_addr_parse(struct tg_slice s, struct tg_addr *out)
{
	char text[INET6_ADDRSTRLEN];
	bool bracketed = s.n >= 2 && s.p[0] == '[' && s.p[s.n - 1] == ']';
	if (bracketed)
		s = (struct tg_slice){ s.p + 1, s.n - 2 };
	if (s.n == 0 || s.n >= sizeof text || memchr(s.p, '\0', s.n))
		return false;
	memcpy(text, s.p, s.n);
	text[s.n] = '\0';
	struct tg_addr a = { 0 };
	if (!bracketed && inet_pton(AF_INET, text, a.ip + 12) == 1)
		memcpy(a.ip, mapped, 12);
	else if (inet_pton(AF_INET6, text, a.ip) != 1)
		return false;
	*out = a;
	return true;
}

static void mask(uint8_t ip[16], unsigned bits)
{
	for (unsigned i = 0; i < 16; i++) {
		unsigned keep = bits > i * 8 ? bits - i * 8 : 0;
		if (keep < 8)
			ip[i] &= (uint8_t)(0xff00u >> keep);
	}
}

static bool add(struct tg_cidr_list *l, const uint8_t ip[16], unsigned bits)
{
	if (l->n >= TG_CIDR_MAX)
		return false;
	/* No capacity is kept: full exactly when n is a power of two (or none). */
	if ((l->n & (l->n - 1)) == 0) {
		struct tg_cidr *v = realloc(l->v, (l->n ? l->n * 2 : 1) * sizeof *v);
		if (!v)
			return false;
		l->v = v;
	}
	struct tg_cidr *c = &l->v[l->n++];
	memcpy(c->ip, ip, 16);
	c->bits = (uint8_t)bits;
	mask(c->ip, bits);
	return true;
}

static bool prefix_bits(struct tg_slice s, unsigned max, unsigned *bits)
{
	unsigned v = 0;
	if (s.n == 0 || s.n > 3 || (s.n > 1 && s.p[0] == '0'))
		return false;
	for (size_t i = 0; i < s.n; i++) {
		if (s.p[i] < '0' || s.p[i] > '9')
			return false;
		v = v * 10 + (unsigned)(s.p[i] - '0');
	}
	*bits = v;
	return v <= max;
}

bool tg_cidr_list_add(struct tg_cidr_list *l, struct tg_slice s)
{
	if (tg_slice_eq_nocase(s, TG_S("localhost"))) {
		size_t n = l->n;
		if (tg_cidr_list_add(l, TG_S("127.0.0.1")) && tg_cidr_list_add(l, TG_S("::1")))
			return true;
		l->n = n;
		return false;
	}
	struct tg_slice host = s;
	const char *slash = s.n ? memchr(s.p, '/', s.n) : NULL;
	if (slash)
		host.n = (size_t)(slash - s.p);
	struct tg_addr a;
	if (!tg_addr_parse(host, &a))
		return false;
	/* The written form decides what the number means: ::ffff:1.2.3.0/120 counts all 128 bits, 1.2.3.0/24 only the last 32. */
	unsigned shift = memchr(host.p, ':', host.n) ? 0 : 96, bits = 128 - shift;
	if (slash && !prefix_bits((struct tg_slice){ slash + 1, s.n - host.n - 1 }, bits, &bits))
		return false;
	return add(l, a.ip, bits + shift);
}

void tg_cidr_list_free(struct tg_cidr_list *l)
{
	free(l->v);
	*l = (struct tg_cidr_list){ 0 };
}

static bool in_network(const struct tg_cidr *c, const uint8_t ip[16])
{
	unsigned whole = c->bits / 8, rest = c->bits % 8;
	if (memcmp(c->ip, ip, whole) != 0)
		return false;
	return !rest || ((c->ip[whole] ^ ip[whole]) & (0xff00u >> rest) & 0xffu) == 0;
}

bool tg_cidr_list_has(const struct tg_cidr_list *l, const struct tg_addr *a)
{
	if (a->unix_peer)
		return false;
	bool v4 = is_v4(a->ip);
	for (size_t i = 0; i < l->n; i++)
		if ((!v4 || l->v[i].bits >= 96) && in_network(&l->v[i], a->ip))
			return true;
	return false;
}

bool tg_cidr_is_vast(const struct tg_cidr *c)
{
	if ((c->bits >= 7 && (c->ip[0] & 0xfe) == 0xfc) || (c->bits >= 10 && c->ip[0] == 0xfe && (c->ip[1] & 0xc0) == 0x80))
		return false; /* unique local (RFC 4193) and link-local addresses (RFC 4291, 2.5.6): of one's own, however many */
	if (c->bits >= 96 && is_v4(c->ip))
		return c->bits < 96 + 8;
	return c->bits < 16 || (c->bits <= 96 && in_network(c, mapped));
}

bool tg_addr_is_loopback(const struct tg_addr *a)
{
	static const uint8_t one[16] = { [15] = 1 };
	if (a->unix_peer)
		return false;
	return is_v4(a->ip) ? a->ip[12] == 127 : memcmp(a->ip, one, 16) == 0;
}

bool tg_addr_equal(const struct tg_addr *a, const struct tg_addr *b)
{
	return a->unix_peer == b->unix_peer && memcmp(a->ip, b->ip, 16) == 0;
}

size_t tg_addr_text(const struct tg_addr *a, char out[TG_ADDR_TEXT])
{
	if (a->unix_peer) {
		memcpy(out, "unix", 4);
		return 4;
	}
	if (!is_v4(a->ip))
		return inet_ntop(AF_INET6, a->ip, out, TG_ADDR_TEXT) ? strlen(out) : 0;
	/* By hand: every request logs one, and inet_ntop goes through sprintf. */
	size_t n = 0;
	for (unsigned i = 12; i < 16; i++) {
		unsigned v = a->ip[i];
		if (v >= 100)
			out[n++] = (char)('0' + v / 100);
		if (v >= 10)
			out[n++] = (char)('0' + v / 10 % 10);
		out[n++] = (char)('0' + v % 10);
		if (i < 15)
			out[n++] = '.';
	}
	return n;
}
