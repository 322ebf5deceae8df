/*
 * Addresses, networks and forwarding headers. Beyond not crashing: an address survives a trip through its text; an untrusted peer is
 * believed whatever it sends; and a hop appended by a trusted proxy decides, whatever stands left of it.
 */
#include "net/addr.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct tg_addr parsed(const char *s)
{
	struct tg_addr a;
	must(tg_addr_parse(tg_slice_cstr(s), &a));
	return a;
}

static void check_network(struct tg_slice in)
{
	struct tg_addr a, b;
	if (tg_addr_parse(in, &a)) {
		char text[TG_ADDR_TEXT];
		size_t n = tg_addr_text(&a, text);
		must(n && n <= TG_ADDR_TEXT && tg_addr_parse((struct tg_slice){ text, n }, &b) && tg_addr_equal(&a, &b));
	}
	struct tg_cidr_list l = { 0 };
	if (tg_cidr_list_add(&l, in)) {
		must(l.n == 1 || l.n == 2);
		for (size_t i = 0; i < l.n; i++) {
			/* The first address of a network is in it, unless it is IPv4 seen from a wide IPv6 network. */
			struct tg_addr first = { 0 };
			memcpy(first.ip, l.v[i].ip, 16);
			must(l.v[i].bits <= 128);
			must(tg_cidr_list_has(&l, &first) || l.v[i].bits < 96);
			first.unix_peer = true;
			must(!tg_cidr_list_has(&l, &first));
		}
	} else {
		must(l.n == 0);
	}
	tg_cidr_list_free(&l);
}

static void check_walk(struct tg_slice in)
{
	static const struct tg_slice none;
	struct tg_cidr_list trusted = { 0 };
	must(tg_cidr_list_add(&trusted, TG_S("10.0.0.0/8")) && tg_cidr_list_add(&trusted, TG_S("fc00::/7")));
	struct tg_addr proxy = parsed("10.0.0.1"), stranger = parsed("8.8.8.8"), caller = parsed("9.9.9.9"), got;

	got = tg_addr_client(&stranger, &trusted, in, in);
	must(tg_addr_equal(&got, &stranger));
	got = tg_addr_client(&proxy, &trusted, in, none);
	must(!got.unix_peer);
	got = tg_addr_client(&proxy, &trusted, none, in);
	must(!got.unix_peer);

	const struct tg_slice xff = TG_S(", 9.9.9.9, 10.1.2.3"), fwd = TG_S(",for=9.9.9.9;proto=https, for=\"[fc00::1]:80\"");
	char *p = malloc(in.n + 64);
	must(p != NULL);
	if (in.n)
		memcpy(p, in.p, in.n);
	memcpy(p + in.n, xff.p, xff.n);
	got = tg_addr_client(&proxy, &trusted, (struct tg_slice){ p, in.n + xff.n }, none);
	must(tg_addr_equal(&got, &caller));
	memcpy(p + in.n, fwd.p, fwd.n);
	got = tg_addr_client(&proxy, &trusted, none, (struct tg_slice){ p, in.n + fwd.n });
	must(tg_addr_equal(&got, &caller));
	free(p);
	tg_cidr_list_free(&trusted);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tg_slice in = { (const char *)data, size };
	check_network(in);
	check_walk(in);
	return 0;
}
