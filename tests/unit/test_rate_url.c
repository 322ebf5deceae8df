/* Rates, worker URLs and listen entries: one row a form, right and wrong. */
#include "config/config.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <cmocka.h>

static void test_rate(void **state)
{
	static const struct {
		const char *text;
		bool ok;
		uint32_t n, period;
	} rows[] = {
		{ "60/minute", true, 60, 60 }, { "1/second", true, 1, 1 }, { "10/hour", true, 10, 3600 }, { "5/day", true, 5, 86400 },
		{ "off", true, 0, 0 }, { "16000000/day", true, 16000000, 86400 }, { "16000001/day", false, 0, 0 }, { "99999999999999999999/day", false, 0, 0 },
		{ "0/minute", false, 0, 0 }, { "060/minute", false, 0, 0 }, { "-1/minute", false, 0, 0 }, { "60/minutes", false, 0, 0 }, { "60/Minute", false, 0, 0 },
		{ "60", false, 0, 0 }, { "60/", false, 0, 0 }, { "/minute", false, 0, 0 }, { "", false, 0, 0 }, { " 60/minute", false, 0, 0 }, { "60 /minute", false, 0, 0 },
		{ "60/minute ", false, 0, 0 }, { "6.5/minute", false, 0, 0 }, { "OFF", false, 0, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_rate r = { 7, 7 };
		char text[TG_RATE_TEXT];
		if (tg_rate_parse(tg_slice_cstr(rows[i].text), &r) != rows[i].ok)
			fail_msg("rate \"%s\"", rows[i].text);
		if (!rows[i].ok)
			continue;
		assert_int_equal(r.n, rows[i].n);
		assert_int_equal(r.period_s, rows[i].period);
		tg_rate_text(r, text);
		assert_string_equal(text, rows[i].text);
	}
}

static void check(struct tg_slice got, const char *want, const char *text)
{
	if (!tg_slice_eq(got, tg_slice_cstr(want)))
		fail_msg("%s: got \"%.*s\", not \"%s\"", text, (int)got.n, got.p ? got.p : "", want);
}

static void test_url(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
		const char *base, *error; /* error: part of the reason, NULL: right */
	} rows[] = {
		{ "http://127.0.0.1:8000", "127.0.0.1", 8000, "", NULL },
		{ "http://worker", "worker", 80, "", NULL },
		{ "HTTP://worker/", "worker", 80, "", NULL },
		{ "http://gpu_1.cluster.local.:8000/llm/a//", "gpu_1.cluster.local.", 8000, "/llm/a", NULL },
		{ "http://[::1]:9/x", "::1", 9, "/x", NULL },
		{ "http://[2001:db8::1]", "2001:db8::1", 80, "", NULL },
		{ "unix:/run/w.sock", "/run/w.sock", 0, "", NULL },
		{ "", NULL, 0, NULL, "must be http://" },
		{ "127.0.0.1:8000", NULL, 0, NULL, "must be http://" },
		{ "https://x", NULL, 0, NULL, "https" },
		{ "ftp://x", NULL, 0, NULL, "must be http://" },
		{ "http://", NULL, 0, NULL, "host is missing" },
		{ "http:///x", NULL, 0, NULL, "host is missing" },
		{ "http://:80", NULL, 0, NULL, "host is missing" },
		{ "http://a:0", NULL, 0, NULL, "port" },
		{ "http://a:", NULL, 0, NULL, "port" },
		{ "http://a:65536", NULL, 0, NULL, "port" },
		{ "http://a:080", NULL, 0, NULL, "port" },
		{ "http://a:+80", NULL, 0, NULL, "port" },
		{ "http://a:8o", NULL, 0, NULL, "port" },
		{ "http://u:p@a", NULL, 0, NULL, "user name" },
		{ "http://a?x", NULL, 0, NULL, "query" },
		{ "http://a/b#c", NULL, 0, NULL, "query" },
		{ "http://a/../b", NULL, 0, NULL, "base path" },
		{ "http://a/./b", NULL, 0, NULL, "base path" },
		{ "http://a/b//c", NULL, 0, NULL, "base path" },
		{ "http://a/b c", NULL, 0, NULL, "base path" },
		{ "http://a/%2e", NULL, 0, NULL, "base path" },
		{ "http://a\r\nX: y", NULL, 0, NULL, "neither a name" },
		{ "http://a b", NULL, 0, NULL, "neither a name" },
		{ "http://127.1", NULL, 0, NULL, "neither a name" },
		{ "http://0x7f000001", NULL, 0, NULL, "neither a name" },
		{ "http://2130706433", NULL, 0, NULL, "neither a name" },
		{ "http://-a", NULL, 0, NULL, "neither a name" },
		{ "http://a..b", NULL, 0, NULL, "neither a name" },
		{ "http://::1", NULL, 0, NULL, "must stand in [ ]" },
		{ "http://[::1", NULL, 0, NULL, "does not end" },
		{ "http://[::g]", NULL, 0, NULL, "no IPv6" },
		{ "http://[fe80::1%25eth0]", NULL, 0, NULL, "no IPv6" },
		{ "http://[::1]x", NULL, 0, NULL, "port" },
		{ "unix:run/w", NULL, 0, NULL, "absolute" },
		{ "unix:", NULL, 0, NULL, "absolute" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_url u;
		struct tg_err err = { "" };
		bool ok = tg_url_parse(tg_slice_cstr(rows[i].text), &u, &err);
		if (ok != !rows[i].error || (!ok && !strstr(err.text, rows[i].error)))
			fail_msg("\"%s\": %s", rows[i].text, ok ? "taken" : err.text);
		if (!ok)
			continue;
		check(u.host, rows[i].host, rows[i].text);
		check(u.base, rows[i].base, rows[i].text);
		assert_int_equal(u.port, rows[i].port);
		assert_int_equal(u.unix_socket, rows[i].host[0] == '/');
	}
	char longest[256] = "unix:/";
	memset(longest + 6, 'a', 106);
	struct tg_url u;
	struct tg_err err;
	assert_true(tg_url_parse(tg_slice_cstr(longest), &u, &err)); /* 107 bytes of path */
	longest[112] = 'a';
	assert_false(tg_url_parse(tg_slice_cstr(longest), &u, &err));
}

static void test_listen(void **state)
{
	static const struct {
		const char *text, *host;
		uint16_t port;
	} rows[] = {
		{ "127.0.0.1:9001", "127.0.0.1", 9001 }, { "0.0.0.0:0", "0.0.0.0", 0 }, { "[::1]:80", "::1", 80 }, { "[::]:80", "::", 80 },
		{ "localhost:1", "127.0.0.1", 1 }, { "unix:/x", "/x", 0 }, { "tls:0.0.0.0:443", "0.0.0.0", 443 },
		{ "tls:[::1]:0", "::1", 0 }, { "redirect:localhost:80", "127.0.0.1", 80 },
		{ "9001", NULL, 0 }, { ":9001", NULL, 0 }, { "127.0.0.1", NULL, 0 }, { "example.org:80", NULL, 0 }, { "::1:80", NULL, 0 }, { "[::1]", NULL, 0 },
		{ "127.0.0.1:", NULL, 0 }, { "127.0.0.1:70000", NULL, 0 }, { "tls:unix:/x", NULL, 0 }, { "tls:redirect:0.0.0.0:80", NULL, 0 },
		{ "tls:", NULL, 0 }, { "tls:[::1]", NULL, 0 }, { "TLS:127.0.0.1:443", NULL, 0 }, { "redirect:tls:127.0.0.1:1", NULL, 0 },
		{ "http://127.0.0.1:80", NULL, 0 }, { "", NULL, 0 }, { "*:80", NULL, 0 },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_listen l;
		struct tg_err err = { "" };
		if (tg_listen_parse(tg_slice_cstr(rows[i].text), &l, &err) != (rows[i].host != NULL))
			fail_msg("\"%s\": %s", rows[i].text, err.text);
		if (!rows[i].host) {
			assert_true(err.text[0]);
			continue;
		}
		check(l.host, rows[i].host, rows[i].text);
		assert_int_equal(l.port, rows[i].port);
		assert_int_equal(l.kind, rows[i].text[0] == 't' ? TG_LISTEN_TLS : rows[i].text[0] == 'r' ? TG_LISTEN_REDIRECT : TG_LISTEN_PLAIN);
		char normal[200];
		struct tg_listen again;
		if (l.unix_socket)
			continue;
		assert_true(tg_listen_text(&l, normal, sizeof normal));
		assert_true(tg_listen_parse(tg_slice_cstr(normal), &again, &err));
		assert_int_equal(again.kind, l.kind);
		assert_false(tg_listen_text(&l, normal, strlen(normal)));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rate), cmocka_unit_test(test_url), cmocka_unit_test(test_listen) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
