#pragma once
/*
 * Addresses and networks. Every IPv4 address is kept in its IPv4-mapped IPv6 form (RFC 4291 section 2.5.5.2), so that
 * ::ffff:127.0.0.1 and 127.0.0.1 are one address and one comparison serves both.
 */
#include "base/slice.h"
#include <sys/socket.h>

struct tg_addr {
	uint8_t ip[16];
	uint16_t port;   /* host order */
	bool unix_peer;  /* a Unix socket peer: ip is all zero, never local, never in a network */
};

struct tg_cidr {
	uint8_t ip[16];
	uint8_t bits; /* of 128 */
};

struct tg_cidr_list {
	struct tg_cidr *v; /* owned */
	size_t n;
};

void tg_addr_from_sockaddr(struct tg_addr *a, const struct sockaddr *sa);
/* An address literal without port: 1.2.3.4, ::1, [::1]; no 127.1, no 0x7f, no zone. */
bool tg_addr_parse(struct tg_slice s, struct tg_addr *out);
/* "1.2.3.4", "1.2.3.0/24", "::1", "fe80::/10", "localhost" (127.0.0.0/8 is NOT meant: it stands for 127.0.0.1 and ::1 and adds two
 * entries). Bits set past the prefix are ignored (non-strict). An IPv4 address is never in an IPv6 network such as ::/0, which would
 * otherwise swallow all of ::ffff:0:0/96: write 0.0.0.0/0 too. False, and nothing added: not understood, or the list is full (TG_CIDR_MAX). */
#define TG_CIDR_MAX 4096
bool tg_cidr_list_add(struct tg_cidr_list *l, struct tg_slice s);
void tg_cidr_list_free(struct tg_cidr_list *l);
bool tg_cidr_list_has(const struct tg_cidr_list *l, const struct tg_addr *a);
/* Everybody, or a large part: of IPv4 (mapped too) more than a /8, of IPv6 more than a /16 (that is not local: fc00::/7, fe80::/10), or all of IPv4 within. */
bool tg_cidr_is_vast(const struct tg_cidr *c);
bool tg_addr_is_loopback(const struct tg_addr *a);
bool tg_addr_equal(const struct tg_addr *a, const struct tg_addr *b); /* ip only */
/* "1.2.3.4", "2001:db8::1", "unix"; bytes written, no terminator. */
#define TG_ADDR_TEXT 46
size_t tg_addr_text(const struct tg_addr *a, char out[TG_ADDR_TEXT]);
/*
 * The real client behind trusted proxies: the right-most hop of X-Forwarded-For (all its headers joined with ',') that is not
 * itself trusted; the peer where the peer is not trusted, the list is empty, or a hop is no address. `forwarded` (RFC 7239) is used when
 * xff is empty: its right-most for= parameters, quoted and bracketed forms, "_hidden" and "unknown" stop the walk at the last known address.
 * A hop may carry a port. Where every hop is trusted it is the left-most one. More than TG_HOPS_MAX hops: the peer.
 */
#define TG_HOPS_MAX 128
struct tg_addr tg_addr_client(const struct tg_addr *peer, const struct tg_cidr_list *trusted, struct tg_slice xff, struct tg_slice forwarded);
