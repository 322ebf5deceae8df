/*
 * Addresses, networks, and the walk through X-Forwarded-For and Forwarded. Rows of threats T-EXEMPT (spellings of loopback, mapped
 * forms) and T-XFF (a caller's own forwarding headers must never choose its address).
 */
#include "net/addr.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/un.h>
#include <cmocka.h>

static const char *text_of(const struct tg_addr *a)
{
	static char t[TG_ADDR_TEXT + 1];
	t[tg_addr_text(a, t)] = '\0';
	return t;
}

static struct tg_addr addr(const char *s)
{
	struct tg_addr a;
	if (!tg_addr_parse(tg_slice_cstr(s), &a))
		fail_msg("%s is not an address", s);
	return a;
}

static void test_parse(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out; /* NULL: refused */
	} rows[] = {
		{ "127.0.0.1", "127.0.0.1" }, { "::ffff:127.0.0.1", "127.0.0.1" }, { "::FFFF:7f00:1", "127.0.0.1" }, { "0.0.0.0", "0.0.0.0" },
		{ "255.255.255.255", "255.255.255.255" }, { "10.20.3.100", "10.20.3.100" }, { "::1", "::1" }, { "[::1]", "::1" }, { "::", "::" },
		{ "2001:DB8:0:0:0:0:0:1", "2001:db8::1" }, { "[2001:db8::17]", "2001:db8::17" },
		{ "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff" },
		{ "127.1", NULL }, { "127.0.1", NULL }, { "2130706433", NULL }, { "0x7f000001", NULL }, { "0x7f.0.0.1", NULL }, { "0177.0.0.1", NULL },
		{ "127.0.0.01", NULL }, { "127.0.0.1 ", NULL }, { " 127.0.0.1", NULL }, { "127.0.0.256", NULL }, { "127.0.0.1.1", NULL }, { "", NULL },
		{ "[]", NULL }, { "[", NULL }, { "[127.0.0.1]", NULL }, { "[::1", NULL }, { "::1]", NULL }, { "fe80::1%lo", NULL }, { "fe80::1%1", NULL },
		{ "localhost", NULL }, { "1.2.3.4:80", NULL }, { "1.2.3.4/8", NULL }, { ":::", NULL }, { "1::2::3", NULL }, { "12345::", NULL },
		{ "::ffff:127.1", NULL }, { "ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.2555", NULL },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_addr a;
		bool ok = tg_addr_parse(tg_slice_cstr(rows[i].in), &a);
		if (ok != (rows[i].out != NULL))
			fail_msg("%s: %s", rows[i].in, ok ? "accepted" : "refused");
		if (ok)
			assert_string_equal(text_of(&a), rows[i].out);
	}
	struct tg_addr a;
	assert_false(tg_addr_parse(TG_S("127.0.0.1\0x"), &a));
}

static void test_sockaddr(void **state)
{
	(void)state;
	struct tg_addr a;
	struct sockaddr_in in = { .sin_family = AF_INET, .sin_port = htons(8080), .sin_addr.s_addr = htonl(0x7f000001) };
	tg_addr_from_sockaddr(&a, (struct sockaddr *)&in);
	assert_string_equal(text_of(&a), "127.0.0.1");
	assert_int_equal(a.port, 8080);
	assert_true(tg_addr_is_loopback(&a));
	struct sockaddr_in6 in6 = { .sin6_family = AF_INET6, .sin6_port = htons(443) };
	inet_pton(AF_INET6, "::ffff:127.0.0.1", &in6.sin6_addr);
	struct tg_addr b;
	tg_addr_from_sockaddr(&b, (struct sockaddr *)&in6);
	assert_true(tg_addr_equal(&a, &b));
	assert_int_equal(b.port, 443);
	struct sockaddr_un un = { .sun_family = AF_UNIX };
	struct tg_addr u, any = addr("::");
	tg_addr_from_sockaddr(&u, (struct sockaddr *)&un);
	assert_string_equal(text_of(&u), "unix");
	assert_false(tg_addr_is_loopback(&u));
	assert_false(tg_addr_equal(&u, &any));
	struct tg_cidr_list l = { 0 };
	assert_true(tg_cidr_list_add(&l, TG_S("::/0")) && tg_cidr_list_add(&l, TG_S("0.0.0.0/0")) && tg_cidr_list_add(&l, TG_S("localhost")));
	assert_false(tg_cidr_list_has(&l, &u));
	tg_cidr_list_free(&l);
}

static void test_loopback(void **state)
{
	(void)state;
	static const char *const yes[] = { "127.0.0.1", "127.255.255.254", "::1", "::ffff:127.0.0.1" };
	static const char *const no[] = { "0.0.0.0", "::", "128.0.0.1", "126.255.255.255", "::2", "::127.0.0.1", "64:ff9b::7f00:1", "fe80::1", "169.254.0.1" };
	for (size_t i = 0; i < sizeof yes / sizeof *yes; i++) {
		struct tg_addr a = addr(yes[i]);
		assert_true(tg_addr_is_loopback(&a));
	}
	for (size_t i = 0; i < sizeof no / sizeof *no; i++) {
		struct tg_addr a = addr(no[i]);
		assert_false(tg_addr_is_loopback(&a));
	}
}

static void test_cidr(void **state)
{
	(void)state;
	static const struct {
		const char *net, *in, *out; /* an address inside, one outside; NULL: none */
	} rows[] = {
		{ "1.2.3.4", "1.2.3.4", "1.2.3.5" },
		{ "1.2.3.4", "::ffff:1.2.3.4", "::1.2.3.4" },
		{ "1.2.3.0/24", "1.2.3.255", "1.2.4.0" },
		{ "1.2.3.77/24", "1.2.3.0", "1.2.2.255" }, /* not strict */
		{ "192.168.0.0/16", "192.168.255.255", "192.169.0.0" },
		{ "10.0.0.0/9", "10.127.255.255", "10.128.0.0" },
		{ "10.0.0.8/31", "10.0.0.9", "10.0.0.10" },
		{ "127.0.0.0/8", "127.9.9.9", "::1" },
		{ "0.0.0.0/0", "8.8.8.8", "2001:db8::1" },
		{ "0.0.0.0/1", "127.0.0.1", "128.0.0.1" },
		{ "::1", "::1", "127.0.0.1" },
		{ "[::1]", "::1", "::2" },
		{ "::/0", "2001:db8::1", "8.8.8.8" }, /* IPv6 only */
		{ "::/64", "::1", "127.0.0.1" },
		{ "fe80::/10", "febf::1", "fec0::1" },
		{ "2001:db8::/33", "2001:db8:7fff::1", "2001:db8:8000::1" },
		{ "2001:db8::1/128", "2001:db8::1", "2001:db8::2" },
		{ "::ffff:10.0.0.0/104", "10.255.0.1", "11.0.0.1" },
		{ "::ffff:10.0.0.1", "10.0.0.1", "10.0.0.2" },
		{ "localhost", "127.0.0.1", "127.0.0.2" },
		{ "LOCALHOST", "::1", "::2" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_cidr_list l = { 0 };
		struct tg_addr in = addr(rows[i].in), out = addr(rows[i].out);
		if (!tg_cidr_list_add(&l, tg_slice_cstr(rows[i].net)))
			fail_msg("%s refused", rows[i].net);
		if (!tg_cidr_list_has(&l, &in) || tg_cidr_list_has(&l, &out))
			fail_msg("%s: %s must be inside, %s outside", rows[i].net, rows[i].in, rows[i].out);
		tg_cidr_list_free(&l);
	}
	static const char *const bad[] = { "", "/", "/8", "127.1", "127.1/8", "10.0.0.0/", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/08", "10.0.0.0/8 ", "10.0.0.0/8/8",
					   "10.0.0.0/255.0.0.0", "10.0.0.0/+8", "::/129", "::/1000", "::1%lo", "localhost/8", "local", "example.com", "*", "10.0.0.*", "10.0.0.0/8x" };
	struct tg_cidr_list l = { 0 };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++)
		if (tg_cidr_list_add(&l, tg_slice_cstr(bad[i])))
			fail_msg("\"%s\" accepted", bad[i]);
	assert_int_equal(l.n, 0);
	struct tg_addr a = addr("127.0.0.1");
	assert_false(tg_cidr_list_has(&l, &a));
	/* Full: and localhost adds both or none. */
	for (unsigned i = 0; i < TG_CIDR_MAX - 1; i++)
		assert_true(tg_cidr_list_add(&l, TG_S("10.0.0.0/8")));
	assert_false(tg_cidr_list_add(&l, TG_S("localhost")));
	assert_int_equal(l.n, TG_CIDR_MAX - 1);
	assert_true(tg_cidr_list_add(&l, TG_S("127.0.0.1")));
	assert_false(tg_cidr_list_add(&l, TG_S("::1")));
	assert_true(tg_cidr_list_has(&l, &a));
	tg_cidr_list_free(&l);
}

#define PEER "10.0.0.1"
struct walk {
	const char *peer, *xff, *forwarded, *want;
};

static const struct walk walks[] = {
	/* A peer nobody trusts: whatever it sends. */
	{ "8.8.8.8", "127.0.0.1", "", "8.8.8.8" },
	{ "8.8.8.8", "", "for=127.0.0.1", "8.8.8.8" },
	{ PEER, "", "", PEER },
	{ PEER, "   ", "", PEER },
	{ PEER, " , ,", "for=9.9.9.9", PEER }, /* there is an X-Forwarded-For, of nobody */
	/* X-Forwarded-For */
	{ PEER, "9.9.9.9", "", "9.9.9.9" },
	{ PEER, "127.0.0.1, 9.9.9.9", "", "9.9.9.9" },
	{ PEER, "127.0.0.1,9.9.9.9,10.0.0.2 ,\t10.0.0.3", "", "9.9.9.9" },
	{ PEER, "garbage, 9.9.9.9", "", "9.9.9.9" },
	{ PEER, "9.9.9.9, garbage", "", PEER },
	{ PEER, "9.9.9.9, garbage, 10.0.0.2", "", PEER },
	{ PEER, "9.9.9.9, unknown", "", PEER },
	{ PEER, "9.9.9.9, 127.1", "", PEER },
	{ PEER, "9.9.9.9,,", "", "9.9.9.9" },
	{ PEER, "10.0.0.3, 10.0.0.2", "", "10.0.0.3" }, /* all trusted: the left-most */
	{ PEER, "2001:db8::7", "", "2001:db8::7" },
	{ PEER, "[2001:db8::7]:4711", "", "2001:db8::7" },
	{ PEER, "[2001:db8::7]", "", "2001:db8::7" },
	{ PEER, "9.9.9.9:4711", "", "9.9.9.9" },
	{ PEER, "9.9.9.9:", "", PEER },
	{ PEER, "9.9.9.9:99999", "", PEER },
	{ PEER, "9.9.9.9:8x", "", PEER },
	{ PEER, "::ffff:10.0.0.2", "", "10.0.0.2" },
	{ PEER, "9.9.9.9, ::ffff:10.0.0.2", "", "9.9.9.9" },
	{ "::ffff:10.0.0.1", "9.9.9.9", "", "9.9.9.9" },
	{ PEER, "\"9.9.9.9\"", "", PEER },
	{ PEER, "9.9.9.9", "for=1.1.1.1", "9.9.9.9" }, /* X-Forwarded-For goes first */
	/* Forwarded */
	{ PEER, "", "for=192.0.2.60;proto=http;by=203.0.113.43", "192.0.2.60" },
	{ PEER, "", "For=\"[2001:db8:cafe::17]:4711\"", "2001:db8:cafe::17" },
	{ PEER, "", "for=\"192.0.2.60:80\"", "192.0.2.60" },
	{ PEER, "", "for=192.0.2.60:80", "192.0.2.60" },
	{ PEER, "", "for=\"192.0.2.60:_obf\"", "192.0.2.60" },
	{ PEER, "", "proto=https;FOR=192.0.2.60;host=\"a,b;for=1.2.3.4\"", "192.0.2.60" },
	{ PEER, "", "for=127.0.0.1, for=192.0.2.60, for=10.0.0.2", "192.0.2.60" },
	{ PEER, "", "for=192.0.2.60, for=_hidden, for=10.0.0.2", "10.0.0.2" },
	{ PEER, "", "for=192.0.2.60, for=unknown", PEER },
	{ PEER, "", "for=192.0.2.60, for=\"Unknown:80\"", PEER },
	{ PEER, "", "for=192.0.2.60, proto=https", PEER },
	{ PEER, "", "for=1.1.1.1;for=192.0.2.60", PEER },
	{ PEER, "", "for=\"\"", PEER },
	{ PEER, "", "for=", PEER },
	{ PEER, "", "for", PEER },
	{ PEER, "", "for = 192.0.2.60", PEER },
	{ PEER, "", "for=\"192.0.2.60", PEER },
	{ PEER, "", "for=\"192.0.2.60\"x", PEER },
	{ PEER, "", "for=localhost", PEER },
	{ PEER, "", "for=\"1\\92.0.2.60\"", "192.0.2.60" }, /* quoted-pair */
	{ PEER, "", ";;for=192.0.2.60;", "192.0.2.60" },
	/* What a caller sends left of a trusted hop's element can neither swallow nor replace it. */
	{ PEER, "", "for=\", for=192.0.2.60", "192.0.2.60" },
	{ PEER, "", "for=\"127.0.0.1, for=\\\", for=192.0.2.60", "192.0.2.60" },
	{ PEER, "", "x=\\, for=192.0.2.60", "192.0.2.60" },
	{ PEER, "", "\"\"\", for=\"192.0.2.60\"", "192.0.2.60" },
};

static void test_client(void **state)
{
	(void)state;
	struct tg_cidr_list trusted = { 0 }, none = { 0 };
	assert_true(tg_cidr_list_add(&trusted, TG_S("10.0.0.0/8")));
	for (size_t i = 0; i < sizeof walks / sizeof *walks; i++) {
		const struct walk *w = &walks[i];
		struct tg_addr peer = addr(w->peer);
		struct tg_addr got = tg_addr_client(&peer, &trusted, tg_slice_cstr(w->xff), tg_slice_cstr(w->forwarded));
		if (strcmp(text_of(&got), w->want) != 0)
			fail_msg("xff %s, forwarded %s: %s, not %s", w->xff, w->forwarded, text_of(&got), w->want);
		/* Without trusted proxies nothing is read. */
		got = tg_addr_client(&peer, &none, tg_slice_cstr(w->xff), tg_slice_cstr(w->forwarded));
		assert_true(tg_addr_equal(&got, &peer));
	}
	struct tg_addr u = { .unix_peer = true };
	struct tg_addr got = tg_addr_client(&u, &trusted, TG_S("9.9.9.9"), (struct tg_slice){ 0 });
	assert_true(got.unix_peer);
	tg_cidr_list_free(&trusted);
}

static void test_many_hops(void **state)
{
	(void)state;
	struct tg_cidr_list trusted = { 0 };
	assert_true(tg_cidr_list_add(&trusted, TG_S("10.0.0.0/8")));
	static char list[16 * (TG_HOPS_MAX + 2)];
	for (unsigned hops = TG_HOPS_MAX - 1; hops <= TG_HOPS_MAX + 1; hops++) {
		size_t n = (size_t)snprintf(list, sizeof list, "9.9.9.9");
		for (unsigned i = 1; i < hops; i++)
			n += (size_t)snprintf(list + n, sizeof list - n, ",10.0.0.7");
		struct tg_addr peer = addr(PEER);
		struct tg_addr got = tg_addr_client(&peer, &trusted, (struct tg_slice){ list, n }, (struct tg_slice){ 0 });
		assert_string_equal(text_of(&got), hops <= TG_HOPS_MAX ? "9.9.9.9" : PEER);
	}
	tg_cidr_list_free(&trusted);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parse), cmocka_unit_test(test_sockaddr), cmocka_unit_test(test_loopback),
		cmocka_unit_test(test_cidr),  cmocka_unit_test(test_client),   cmocka_unit_test(test_many_hops),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
