/* What reaches a terminal from a worker: text and nothing else. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "base/terminal.h"
#include "base/utf8.h"
#include <stdlib.h>

static void check(const char *in, size_t n, const char *want)
{
	char *exact = malloc(n ? n : 1); /* so that the sanitizer sees every byte too many */
	memcpy(exact, in, n);
	bool fit = tg_terminal_fit((struct tg_slice){ exact, n });
	if (fit != (strlen(want) == n && memcmp(in, want, n) == 0 && !memchr(in, '\t', n)))
		fail_msg("%.*s: fit is %d", (int)n, in, fit);
	size_t k = tg_terminal_safe(exact, n);
	if (k != strlen(want) || memcmp(exact, want, k) != 0)
		fail_msg("%.*s, not %s", (int)k, exact, want);
	free(exact);
}

static void test_rows(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "", "" },
		{ "plain text, 100 %", "plain text, 100 %" },
		{ "tab\there", "tab\there" },
		{ "Gr\xc3\xbc\xc3\x9f Gott \xe2\x82\xac \xf0\x9f\x98\x80", "Gr\xc3\xbc\xc3\x9f Gott \xe2\x82\xac \xf0\x9f\x98\x80" },
		/* colours, cursors */
		{ "\x1b[32mINFO\x1b[0m ready", "INFO ready" },
		{ "\x1b[38;5;208mx\x1b[2K\x1b[1A", "x" },
		{ "a\x1b[?25lb", "ab" },
		{ "\x1b[", "" },
		{ "\x1b[12", "" },
		{ "\x1b[1\xc3\xa9", "\xc3\xa9" }, /* broken off: what follows stays */
		{ "\x1b[1\x1b[2mx", "x" },
		/* strings: a title, a link, whatever a terminal would take in */
		{ "\x1b]0;title\ax", "x" },
		{ "\x1b]8;;http://h\x1b\\link\x1b]8;;\x1b\\.", "link." },
		{ "\x1bPq...\x1b\\x", "x" },
		{ "\x1b]52;c;cGFzdGU=", "" },
		{ "\x1b]0;t\x1b[1mx", "x" },
		/* single ones */
		{ "\x1b", "" },
		{ "\x1b" "cx", "x" },
		{ "\x1b(Bx", "x" },
		{ "\x1b=x", "x" },
		/* controls */
		{ "a\bb\x01\x7f\x0b", "a?b???" },
		{ "\xc2\x9b" "31mred", "?31mred" },
		{ "\xc2\xa0x", "\xc2\xa0x" },
		{ "\xe2\x80\xae" "evil\xe2\x80\xac \xe2\x81\xa6\xe2\x81\xa9 \xe2\x80\x8e\xe2\x80\xa8", "?evil? ?? ??" },
		{ "\xe2\x80\x94 \xe2\x80\xaf \xe2\x81\xa5", "\xe2\x80\x94 \xe2\x80\xaf \xe2\x81\xa5" },
		/* no UTF-8 */
		{ "\xff\xfe x \xc3", "?? x ?" },
		{ "\x9b" "31m", "?31m" },
		{ "\xe2\x82", "??" },
		{ "\xed\xa0\x80", "???" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		check(rows[i].in, strlen(rows[i].in), rows[i].out);
	check("a\0b", 3, "a?b");
}

/* Whatever comes: it is not longer, it is valid UTF-8, and a second time changes nothing. */
static void test_any_bytes(void **state)
{
	(void)state;
	static const char some[] = "\x1b[]P\\;mK\a\xc2\x9b\xe2\x80\xae\xff x1(\t\x7f";
	uint32_t r = 1;
	for (int i = 0; i < 200000; i++) {
		char text[12], again[12];
		size_t n = (r = r * 1664525 + 1013904223) >> 16 & 7;
		for (size_t k = 0; k < n; k++)
			text[k] = some[((r = r * 1664525 + 1013904223) >> 16) % (sizeof some - 1)];
		size_t m = tg_terminal_safe(text, n);
		assert_true(m <= n);
		assert_true(tg_utf8_valid(text, m));
		for (size_t k = 0; k < m; k++)
			assert_true((unsigned char)text[k] >= 0x20 || text[k] == '\t');
		memcpy(again, text, m);
		assert_int_equal(tg_terminal_safe(again, m), m);
		assert_memory_equal(again, text, m);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_rows), cmocka_unit_test(test_any_bytes) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
