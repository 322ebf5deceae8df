/*
 * Parameters of a query, decoded, and what Accept names: what a caller writes there is taken as it is meant or not at all, never in part, and never past the room there is.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "http/message.h"

static long get(const char *query, size_t n, const char *name, char *out, size_t cap)
{
	/* Of their exact sizes, so that the sanitizer sees every byte too many. */
	char *q = malloc(n ? n : 1), *room = malloc(cap);
	memcpy(q, query, n);
	memset(room, 'X', cap);
	long k = tg_query_get((struct tg_slice){ q, n }, name, room, cap);
	assert_true(k >= -2 && k < (long)cap);
	if (k >= 0) {
		assert_int_equal(room[k], 0);
		assert_int_equal(strlen(room), k); /* no NUL within */
		memcpy(out, room, (size_t)k + 1);
	}
	free(q);
	free(room);
	return k;
}

static const char BAD[] = "bad";

static void test_query(void **state)
{
	(void)state;
	static const struct {
		const char *query, *name, *value; /* value NULL: there is none; BAD: none that can be read */
	} rows[] = {
		/* there or not */
		{ "", "a", NULL },
		{ "a=1", "a", "1" },
		{ "a=1", "b", NULL },
		{ "a=1&b=2&c=3", "a", "1" },
		{ "a=1&b=2&c=3", "b", "2" },
		{ "a=1&b=2&c=3", "c", "3" },
		{ "b=2", "a", NULL },
		{ "=1", "a", NULL },
		{ "=", "a", NULL },
		{ "&", "a", NULL },
		{ "&&&a=1&&", "a", "1" },
		/* empty, or without a value at all */
		{ "a=", "a", "" },
		{ "a=&b=2", "a", "" },
		{ "b=2&a=", "a", "" },
		{ "a", "a", NULL },
		{ "a&b=2", "a", NULL },
		{ "a&a=1", "a", "1" },
		/* names that begin or end alike */
		{ "lines2=5", "lines", NULL },
		{ "lines2=5&lines=7", "lines", "7" },
		{ "xlines=5&lines=7", "lines", "7" },
		{ "xlines=5", "lines", NULL },
		{ "line=5", "lines", NULL },
		{ "LINES=5", "lines", NULL },
		{ "x=lines=5", "lines", NULL },
		{ "x=1;lines=5", "lines", NULL },
		/* a name is compared as it is written */
		{ "%6cines=5", "lines", NULL },
		/* repeated: the last */
		{ "a=1&a=2", "a", "2" },
		{ "a=1&b=3&a=", "a", "" },
		{ "a=2&a=%", "a", BAD },
		{ "a=%&a=2", "a", "2" },
		{ "a=2&a", "a", "2" },
		/* decoded */
		{ "a=x%20y", "a", "x y" },
		{ "a=x+y", "a", "x y" },
		{ "a=+", "a", " " },
		{ "a=%2b", "a", "+" },
		{ "a=%2B%2F%3d%26%25", "a", "+/=&%" },
		{ "a=%26b=2&b=3", "b", "3" },
		{ "a=%41%5a%61%7A", "a", "AZaz" },
		{ "a=%c3%a9", "a", "\xc3\xa9" },
		{ "a=\xc3\xa9", "a", "\xc3\xa9" },
		{ "a=%ff%01", "a", "\xff\x01" },
		{ "a=1=2", "a", "1=2" },
		{ "a==", "a", "=" },
		{ "a=b?c/d", "a", "b?c/d" },
		{ "a=%2541", "a", "%41" }, /* once */
		{ "model=qwen3%2F0", "model", "qwen3/0" },
		/* malformed */
		{ "a=%00", "a", BAD },
		{ "a=x%00y", "a", BAD },
		{ "a=%", "a", BAD },
		{ "a=%4", "a", BAD },
		{ "a=xy%", "a", BAD },
		{ "a=xy%4", "a", BAD },
		{ "a=%4&b=1", "a", BAD },
		{ "a=%&41", "a", BAD },
		{ "a=%g1", "a", BAD },
		{ "a=%1g", "a", BAD },
		{ "a=%zz", "a", BAD },
		{ "a=%%41", "a", BAD },
		{ "a=%+1", "a", BAD },
		{ "a=% 1", "a", BAD },
		{ "a=%-1", "a", BAD },
		{ "a=%0x", "a", BAD },
		{ "a=%@1", "a", BAD },
		{ "a=%1`", "a", BAD },
		{ "a=%\xc1\xc1", "a", BAD }, /* no digits, whatever the case bit says */
		{ "b=%zz&a=1", "a", "1" }, /* another's fault */
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char out[64];
		long n = get(rows[i].query, strlen(rows[i].query), rows[i].name, out, sizeof out);
		const char *v = rows[i].value;
		if (n != (!v ? -1 : v == BAD ? -2 : (long)strlen(v)) || (n >= 0 && strcmp(out, v) != 0))
			fail_msg("%s of %s: %ld %s", rows[i].name, rows[i].query, n, n >= 0 ? out : "");
	}
	/* A request without a query. */
	char out[8];
	assert_int_equal(tg_query_get((struct tg_slice){ 0 }, "a", out, sizeof out), -1);
	/* A NUL as it is, which a head does not let through, ends nothing. */
	assert_int_equal(get("b=\0&a=1", 7, "a", out, sizeof out), 1);
	assert_int_equal(get("b=1&a=\0", 7, "a", out, sizeof out), -2);
}

static void test_query_room(void **state)
{
	(void)state;
	static const struct {
		const char *query;
		size_t cap;
		long n;
	} rows[] = {
		{ "a=", 1, 0 }, { "a=1", 1, -2 }, { "a=1", 2, 1 }, { "a=1234567", 8, 7 }, { "a=12345678", 8, -2 }, { "a=12345678&b=1", 8, -2 },
		{ "a=%31%32%33%34%35%36%37", 8, 7 }, { "a=%31%32%33%34%35%36%37%38", 8, -2 }, { "a=+++++++", 8, 7 }, { "a=++++++++", 8, -2 },
		{ "b=123456789&a=1", 8, 1 }, { "a=12345678&a=1", 8, 1 }, { "a=1&a=12345678", 8, -2 }, /* the last is the one, too long as it is */
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char out[64];
		long n = get(rows[i].query, strlen(rows[i].query), "a", out, rows[i].cap);
		if (n != rows[i].n)
			fail_msg("%s into %zu: %ld", rows[i].query, rows[i].cap, n);
	}
}

static bool accepts(const char *value, const char *type)
{
	static struct tg_head h;
	h = (struct tg_head){ .nheaders = 2 };
	for (int i = 0; i < TG_H_COUNT; i++)
		h.first[i] = -1;
	h.headers[0] = (struct tg_header){ TG_S("Host"), TG_S("text/plain"), TG_H_HOST };
	h.first[TG_H_HOST] = 0;
	char *exact = NULL;
	if (value) {
		size_t n = strlen(value);
		exact = malloc(n ? n : 1);
		memcpy(exact, value, n);
		h.headers[1] = (struct tg_header){ TG_S("Accept"), { exact, n }, TG_H_ACCEPT };
		h.first[TG_H_ACCEPT] = 1;
	}
	bool yes = tg_head_accepts(&h, type);
	free(exact);
	return yes;
}

static void test_tags(void **state)
{
	(void)state;
	static const struct {
		const char *name, *value;
		bool has;
	} rows[] = {
		{ "If-None-Match", "\"ab\"", true }, { "if-none-match", "\"x\", W/\"ab\"", true }, { "IF-NONE-MATCH", " * ", true }, { "If-None-Match", "\"abc\"", false },
		{ "If-None-Match", "ab", false }, { "If-None-Match", "", false }, { "If-Match", "\"ab\"", false }, { "If-None-Match", "\"x\" *", false },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_head h = { .nheaders = 1 };
		h.headers[0] = (struct tg_header){ tg_slice_cstr(rows[i].name), tg_slice_cstr(rows[i].value), TG_H_OTHER };
		if (tg_head_has_tag(&h, "\"ab\"") != rows[i].has)
			fail_msg("%s: %s", rows[i].name, rows[i].value);
	}
}

static void test_accepts(void **state)
{
	(void)state;
	static const struct {
		const char *accept; /* NULL: no such header */
		bool plain;
	} rows[] = {
		{ NULL, false },
		{ "", false },
		{ "text/plain", true },
		{ "text/plain;charset=utf-8", true },
		{ "text/plain; q=0.5", true }, /* not weighed */
		{ "application/json, text/plain", true },
		{ "text/plain, application/json", true },
		{ "application/json,text/plain;q=0.9,*/*;q=0.1", true },
		{ "application/json", false },
		{ "*/*", false }, /* names nothing: the default */
		{ "text/*", false },
		{ "text/html", false },
		{ "text/plai", false },
		{ "ext/plain", false },
		{ "text /plain", false },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (accepts(rows[i].accept, "text/plain") != rows[i].plain)
			fail_msg("%s", rows[i].accept ? rows[i].accept : "no Accept");
}

/* RFC 9110 section 8.3.1: types are compared without regard to case, and a type is the whole of its name. */
static void test_accepts_names(void **state)
{
	(void)state;
	static const struct {
		const char *accept;
		bool plain;
	} rows[] = {
		{ "Text/Plain", true }, { "application/json, TEXT/PLAIN", true }, { "text/plain-but-not-quite", false }, { "context/plain", false },
	};
	unsigned wrong = 0;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (accepts(rows[i].accept, "text/plain") != rows[i].plain) {
			print_message("%s: %s\n", rows[i].accept, rows[i].plain ? "not accepted" : "accepted");
			wrong++;
		}
	assert_int_equal(wrong, 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_query), cmocka_unit_test(test_query_room), cmocka_unit_test(test_accepts), cmocka_unit_test(test_tags), cmocka_unit_test(test_accepts_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
