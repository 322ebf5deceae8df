/*
 * The hot path's JSON scanner. Every row is scanned whole, cut in two at every byte, and byte by byte, each piece on a heap copy of its exact size;
 * verdict, fault and everything found must come out the same each time. The rows follow the grammar of RFC 8259 production by production.
 */
#include "base/json_scan.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static const char *const names[] = { "model", "stream", "messages", "" };
#define NNAMES 4

static void feed_copy(struct tg_json_scan *s, const char *p, size_t n)
{
	char *copy = malloc(n ? n : 1);
	if (n)
		memcpy(copy, p, n);
	tg_json_scan_feed(s, copy, n);
	free(copy);
}

static void same(const struct tg_json_scan *a, const struct tg_json_scan *b, const char *doc)
{
	if (a->at != b->at || a->why != b->why || a->member != b->member || a->first_member != b->first_member || a->empty != b->empty)
		fail_msg("%s: at %zu %zu, why %s %s", doc, a->at, b->at, a->why ? a->why : "-", b->why ? b->why : "-");
	for (unsigned i = 0; i < a->nwant; i++) {
		const struct tg_json_want *x = &a->want[i], *y = &b->want[i];
		if (x->type != y->type || x->escaped != y->escaped || x->from != y->from || x->to != y->to || x->chars != y->chars)
			fail_msg("%s: member %s differs", doc, names[i]);
	}
}

/* Scans in every cut; the result of the whole one. */
static enum tg_json_state scan(struct tg_json_scan *whole, struct tg_slice doc)
{
	struct tg_json_scan s;
	char *copy = malloc(doc.n ? doc.n : 1);
	memcpy(copy, doc.p, doc.n);
	enum tg_json_state st = tg_json_scan_all(whole, (struct tg_slice){ copy, doc.n }, names, NNAMES);
	free(copy);
	for (size_t cut = 0; cut <= doc.n; cut++) {
		tg_json_scan_init(&s, names, NNAMES);
		feed_copy(&s, doc.p, cut);
		feed_copy(&s, doc.p + cut, doc.n - cut);
		assert_int_equal(tg_json_scan_end(&s), st);
		same(whole, &s, doc.p);
	}
	tg_json_scan_init(&s, names, NNAMES);
	for (size_t i = 0; i < doc.n; i++)
		feed_copy(&s, doc.p + i, 1);
	assert_int_equal(tg_json_scan_end(&s), st);
	same(whole, &s, doc.p);
	return st;
}

static void test_valid(void **state)
{
	(void)state;
	static const char *const rows[] = {
		"{}", " \t\r\n{ \t\r\n} \t\r\n", "{\"a\":1}", "{\"\":0}", "{\"a\":[]}", "{\"a\":{}}", "{\"a\":[[],{},[{}]]}",
		"{\"a\":[ 1 , 2 ]}", "{ \"a\" : 1 , \"b\" : 2 }", "{\"a\":1,\"a\":2}", "{\"a\":{\"model\":1,\"model\":2}}",
		"{\"a\":0}", "{\"a\":-0}", "{\"a\":10}", "{\"a\":-10}", "{\"a\":0.0}", "{\"a\":-0.10}", "{\"a\":1e5}", "{\"a\":1E+5}",
		"{\"a\":1e-5}", "{\"a\":0e0}", "{\"a\":0.5e+00}", "{\"a\":123456789012345678901234567890}", "{\"a\":1e999}", "{\"a\":[0]}", "{\"a\":[-1,2.5,3e1]}",
		"{\"a\":true}", "{\"a\":false}", "{\"a\":null}", "{\"a\":[true,false,null]}", "{\"a\":true }",
		"{\"a\":\"\"}", "{\"a\":\"\\\"\\\\\\/\\b\\f\\n\\r\\t\"}", "{\"a\":\"\\u0000\\u001f\\u00e9\\uFFFF\\uABCD\\uabcd\"}",
		"{\"a\":\"\\ud83d\\ude00\"}", "{\"a\":\"\\uD834\\uDD1E x\"}", "{\"a\":\"\x7f\"}", "{\"a\":\"\xc2\x80 \xdf\xbf\"}",
		"{\"a\":\"\xe0\xa0\x80 \xed\x9f\xbf \xee\x80\x80 \xef\xbf\xbf\"}", "{\"a\":\"\xf0\x90\x80\x80 \xf4\x8f\xbf\xbf \xf1\x80\x80\x80\"}",
		"{\"\xe2\x82\xac\":\"\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\xe2\x82\xac\"}", "{\"a\":\"//\"}", "{\"a\":\"[{\"}",
		"{\"a\":\"0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef\\n0123456789\"}",
		"{\"nnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\":1,\"\\u006e\\u006ennnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnnn\":2}",
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_json_scan s;
		if (scan(&s, tg_slice_cstr(rows[i])) != TG_JSON_DONE)
			fail_msg("%s: %s at %zu", rows[i], s.why, s.at);
		assert_int_equal(s.at, strlen(rows[i]));
	}
}

static void test_invalid(void **state)
{
	(void)state;
	static const struct {
		const char *doc;
		size_t at;
		const char *why;
	} rows[] = {
		{ "", 0, "unexpected end" }, { " ", 1, "unexpected end" }, { "{", 1, "unexpected end" }, { "{\"a\":1", 6, "unexpected end" },
		{ "{\"a\":\"x", 7, "unexpected end" }, { "{\"a\":[1,2]", 10, "unexpected end" }, { "{\"a\":tru", 8, "unexpected end" },
		{ "{\"a\":\"\\u12", 10, "unexpected end" }, { "{\"a\":\"\xe2\x82", 8, "unexpected end" }, { "{\"a\"", 4, "unexpected end" },
		{ "[]", 0, "the document is not an object" }, { "1", 0, "the document is not an object" }, { "\"a\"", 0, "the document is not an object" },
		{ "null", 0, "the document is not an object" }, { "\xef\xbb\xbf{}", 0, "the document is not an object" }, { "\f{}", 0, "the document is not an object" },
		{ "{}{}", 2, "data after the document" }, { "{} x", 3, "data after the document" }, { "{}}", 2, "data after the document" },
		{ "{} // c", 3, "data after the document" },
		{ "{a:1}", 1, "member name or } expected" }, { "{'a':1}", 1, "member name or } expected" }, { "{,}", 1, "member name or } expected" },
		{ "{1:1}", 1, "member name or } expected" }, { "{/**/}", 1, "member name or } expected" }, { "{]", 1, "member name or } expected" },
		{ "{\"a\":1,}", 7, "member name expected" }, { "{\"a\":1,,\"b\":2}", 7, "member name expected" },
		{ "{\"a\" 1}", 5, "colon expected" }, { "{\"a\"}", 4, "colon expected" }, { "{\"a\",1}", 4, "colon expected" },
		{ "{\"a\":}", 5, "value expected" }, { "{\"a\":,}", 5, "value expected" }, { "{\"a\"::1}", 5, "value expected" }, { "{\"a\":]}", 5, "value expected" },
		{ "{\"a\":[1,]}", 8, "value expected" }, { "{\"a\":[,1]}", 6, "value expected" }, { "{\"a\":[,]}", 6, "value expected" },
		{ "{\"a\":NaN}", 5, "value expected" }, { "{\"a\":Infinity}", 5, "value expected" }, { "{\"a\":nul}", 8, "value expected" },
		{ "{\"a\":True}", 5, "value expected" }, { "{\"a\":trUe}", 7, "value expected" }, { "{\"a\":truee}", 9, "comma or } expected" },
		{ "{\"a\":'x'}", 5, "value expected" }, { "{\"a\":\v1}", 5, "value expected" }, { "{\"a\":\xc2\xa0""1}", 5, "value expected" },
		{ "{\"a\":01}", 6, "leading zero in number" }, { "{\"a\":-01}", 7, "leading zero in number" }, { "{\"a\":00}", 6, "leading zero in number" },
		{ "{\"a\":+1}", 5, "value expected" }, { "{\"a\":-}", 6, "digit expected" }, { "{\"a\":--1}", 6, "digit expected" }, { "{\"a\":.5}", 5, "value expected" },
		{ "{\"a\":-.5}", 6, "digit expected" }, { "{\"a\":1.}", 7, "digit expected" }, { "{\"a\":1.e1}", 7, "digit expected" }, { "{\"a\":1e}", 7, "digit expected" },
		{ "{\"a\":1e+}", 8, "digit expected" }, { "{\"a\":1e+-1}", 8, "digit expected" }, { "{\"a\":1e1.5}", 8, "comma or } expected" },
		{ "{\"a\":0x1}", 6, "comma or } expected" }, { "{\"a\":1_0}", 6, "comma or } expected" }, { "{\"a\":1 2}", 7, "comma or } expected" },
		{ "{\"a\":-Infinity}", 6, "digit expected" }, { "{\"a\":1.2.3}", 8, "comma or } expected" },
		{ "{\"a\":1]", 6, "comma or } expected" }, { "{\"a\":[1}", 7, "comma or ] expected" }, { "{\"a\":[1 2]}", 8, "comma or ] expected" },
		{ "{\"a\":[\"x\":1]}", 9, "comma or ] expected" }, { "{\"a\":\"x\"\"b\":1}", 8, "comma or } expected" }, { "{\"a\":{}]", 7, "comma or } expected" },
		{ "{\"a\":\"\n\"}", 6, "control character in string" }, { "{\"a\":\"\x1f\"}", 6, "control character in string" },
		{ "{\"a\t\":1}", 3, "control character in string" }, { "{\"a\":\"0123456789abcdef01\x01\"}", 24, "control character in string" },
		{ "{\"a\":\"\\x41\"}", 7, "invalid escape" }, { "{\"a\":\"\\'\"}", 7, "invalid escape" }, { "{\"a\":\"\\\n\"}", 7, "invalid escape" },
		{ "{\"a\":\"\\u12g4\"}", 10, "invalid escape" }, { "{\"a\":\"\\u\"}", 8, "invalid escape" }, { "{\"a\":\"\\U0041\"}", 7, "invalid escape" },
		{ "{\"a\":\"\\u 041\"}", 8, "invalid escape" },
		{ "{\"a\":\"\\ud800\"}", 12, "lone surrogate" }, { "{\"a\":\"\\udc00\"}", 11, "lone surrogate" }, { "{\"a\":\"\\ud800x\"}", 12, "lone surrogate" },
		{ "{\"a\":\"\\ud800\\n\"}", 13, "lone surrogate" }, { "{\"a\":\"\\ud800\\u0041\"}", 17, "lone surrogate" },
		{ "{\"a\":\"\\ud800\\ud800\\udc00\"}", 17, "lone surrogate" }, { "{\"\\udfff\":1}", 7, "lone surrogate" },
		{ "{\"a\":\"\x80\"}", 6, "invalid UTF-8" }, { "{\"a\":\"\xff\"}", 6, "invalid UTF-8" }, { "{\"a\":\"\xc0\xaf\"}", 6, "invalid UTF-8" },
		{ "{\"a\":\"\xc1\xbf\"}", 6, "invalid UTF-8" }, { "{\"a\":\"\xc2\"}", 7, "invalid UTF-8" }, { "{\"a\":\"\xe0\x80\xaf\"}", 7, "invalid UTF-8" },
		{ "{\"a\":\"\xe2\x82\"}", 8, "invalid UTF-8" }, { "{\"a\":\"\xed\xa0\x80\"}", 7, "invalid UTF-8" }, { "{\"a\":\"\xed\xbf\xbf\"}", 7, "invalid UTF-8" },
		{ "{\"a\":\"\xf0\x80\x80\x80\"}", 7, "invalid UTF-8" }, { "{\"a\":\"\xf0\x8f\xbf\xbf\"}", 7, "invalid UTF-8" },
		{ "{\"a\":\"\xf4\x90\x80\x80\"}", 7, "invalid UTF-8" }, { "{\"a\":\"\xf5\x80\x80\x80\"}", 6, "invalid UTF-8" },
		{ "{\"a\":\"\xf1\x80\x80\"}", 9, "invalid UTF-8" }, { "{\"a\":\"\xe2\x28\xa1 abcdefgh\"}", 7, "invalid UTF-8" }, { "{\"\xff\":1}", 2, "invalid UTF-8" },
		{ "{\"a\":\"\xf0\x9f\x98 abcdefgh\"}", 9, "invalid UTF-8" },
		{ "{\"model\":1,\"model\":2}", 17, "duplicate member" }, { "{\"model\":\"a\",\"mod\\u0065l\":\"b\"}", 24, "duplicate member" },
		{ "{\"\\u006dodel\":1,\"x\":2,\"model\":3}", 28, "duplicate member" }, { "{\"\":1,\"\":2}", 7, "duplicate member" },
		{ "{\"model\":null,\"model\":null}", 20, "duplicate member" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_json_scan s;
		if (scan(&s, tg_slice_cstr(rows[i].doc)) != TG_JSON_BAD)
			fail_msg("%s is taken", rows[i].doc);
		if (s.at != rows[i].at || strcmp(s.why, rows[i].why) != 0)
			fail_msg("%s: %s at %zu, not %s at %zu", rows[i].doc, s.why, s.at, rows[i].why, rows[i].at);
		assert_true((s.member != NULL) == (strcmp(s.why, "duplicate member") == 0));
		/* A refused scan stays refused. */
		assert_int_equal(tg_json_scan_feed(&s, "{}", 2), TG_JSON_BAD);
		assert_int_equal(s.at, rows[i].at);
	}
	struct tg_json_scan s;
	assert_int_equal(scan(&s, (struct tg_slice){ "{\"a\0b\":1}", 9 }), TG_JSON_BAD);
	assert_int_equal(scan(&s, (struct tg_slice){ "{\"a\":1}\0", 8 }), TG_JSON_BAD);
}

static void test_found(void **state)
{
	(void)state;
	static const struct {
		const char *doc;
		unsigned want;
		enum tg_json_type type;
		const char *value;
		bool escaped;
		size_t chars;
	} rows[] = {
		{ "{\"model\":\"m1\"}", 0, TG_JSON_STRING, "\"m1\"", false, 2 },
		{ "{\"a\":[{\"model\":\"inner\"}],\"model\" : \"outer\" }", 0, TG_JSON_STRING, "\"outer\"", false, 5 },
		{ "{\"a\":{\"model\":\"inner\"}}", 0, TG_JSON_NONE, NULL, false, 0 },
		{ "{\"mod\\u0065l\":\"x\"}", 0, TG_JSON_STRING, "\"x\"", false, 1 },
		{ "{\"\\u006d\\u006F\\u0064\\u0065\\u006c\":\"x\"}", 0, TG_JSON_STRING, "\"x\"", false, 1 },
		{ "{\"modeL\":\"x\",\"model \":1,\"mode\":2,\"models\":3,\"model\\u0000\":4}", 0, TG_JSON_NONE, NULL, false, 0 },
		{ "{\"model\":\"\"}", 0, TG_JSON_STRING, "\"\"", false, 0 },
		{ "{\"model\":\"\\n\\u0041\\ud83d\\ude00\"}", 0, TG_JSON_STRING, "\"\\n\\u0041\\ud83d\\ude00\"", true, 3 },
		{ "{\"model\":\"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\"}", 0, TG_JSON_STRING, "\"a\xc3\xa9\xe2\x82\xac\xf0\x9f\x98\x80z\"", false, 5 },
		{ "{\"\xc3\xa9\":\"\\n\",\"model\":\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"}", 0, TG_JSON_STRING,
		  "\"\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\xf0\x9f\x98\x80\"", false, 5 },
		{ "{\"stream\":true}", 1, TG_JSON_TRUE, "true", false, 0 }, { "{\"stream\": false }", 1, TG_JSON_FALSE, "false", false, 0 },
		{ "{\"stream\":null,\"a\":1}", 1, TG_JSON_NULL, "null", false, 0 }, { "{\"stream\":-1.5e3}", 1, TG_JSON_NUMBER, "-1.5e3", false, 0 },
		{ "{\"stream\":0}", 1, TG_JSON_NUMBER, "0", false, 0 }, { "{\"stream\":7 ,\"b\":1}", 1, TG_JSON_NUMBER, "7", false, 0 },
		{ "{\"messages\":[{\"content\":\"a\\nb]\"}, 2 ] }", 2, TG_JSON_ARRAY, "[{\"content\":\"a\\nb]\"}, 2 ]", false, 0 },
		{ "{\"messages\":{\"messages\":[]},\"z\":[]}", 2, TG_JSON_OBJECT, "{\"messages\":[]}", false, 0 },
		{ "{\"x\":\"model\",\"\":3}", 3, TG_JSON_NUMBER, "3", false, 0 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_json_scan s;
		struct tg_slice doc = tg_slice_cstr(rows[i].doc);
		assert_int_equal(scan(&s, doc), TG_JSON_DONE);
		const struct tg_json_want *w = &s.want[rows[i].want];
		assert_int_equal(w->type, rows[i].type);
		if (!rows[i].value)
			continue;
		if (!tg_slice_eq(tg_json_value(doc, w), tg_slice_cstr(rows[i].value)))
			fail_msg("%s: found " TG_SLICE_FMT, rows[i].doc, TG_SLICE_ARG(tg_json_value(doc, w)));
		assert_int_equal(w->escaped, rows[i].escaped);
		assert_int_equal(w->chars, rows[i].chars);
	}
}

static void test_first_member_and_end(void **state)
{
	(void)state;
	static const struct {
		const char *doc;
		size_t first;
		bool empty;
	} rows[] = { { "{}", 1, true }, { "  { }", 3, true }, { "{\"a\":{}}", 1, false }, { "\n{\"a\":1}", 2, false } };
	struct tg_json_scan s;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		assert_int_equal(scan(&s, tg_slice_cstr(rows[i].doc)), TG_JSON_DONE);
		assert_int_equal(s.first_member, rows[i].first);
		assert_int_equal(s.empty, rows[i].empty);
	}
	tg_json_scan_init(&s, names, NNAMES);
	assert_int_equal(tg_json_scan_feed(&s, "  ", 2), TG_JSON_MORE);
	assert_int_equal(s.first_member, 0);
	assert_int_equal(tg_json_scan_feed(&s, "{\"a\":1", 6), TG_JSON_MORE);
	assert_int_equal(tg_json_scan_feed(&s, NULL, 0), TG_JSON_MORE);
	assert_int_equal(tg_json_scan_feed(&s, "}", 1), TG_JSON_DONE);
	assert_int_equal(tg_json_scan_feed(&s, NULL, 0), TG_JSON_DONE);
	assert_int_equal(tg_json_scan_feed(&s, " \n", 2), TG_JSON_DONE);
	assert_int_equal(tg_json_scan_end(&s), TG_JSON_DONE);
	assert_int_equal(tg_json_scan_feed(&s, "}", 1), TG_JSON_BAD);
	assert_int_equal(s.at, 11);
}

static void test_open(void **state)
{
	(void)state;
	struct tg_json_scan s;
	size_t from = 0;
	tg_json_scan_init(&s, names, NNAMES);
	tg_json_scan_feed(&s, "{\"a\":1,\"messages\" : ", 20);
	assert_null(tg_json_scan_open(&s, &from));
	tg_json_scan_feed(&s, "[1,", 3);
	assert_ptr_equal(tg_json_scan_open(&s, &from), &s.want[2]);
	assert_int_equal(from, 20);
	tg_json_scan_feed(&s, "2],", 3);
	assert_null(tg_json_scan_open(&s, &from));
	tg_json_scan_feed(&s, "\"b\":[", 5);
	assert_null(tg_json_scan_open(&s, &from));
}

static void test_depth(void **state)
{
	(void)state;
	struct tg_json_scan s;
	for (size_t deep = TG_JSON_DEPTH - 1; deep <= TG_JSON_DEPTH + 1; deep++)
		for (int kind = 0; kind < 2; kind++) {
			char doc[8 * (TG_JSON_DEPTH + 2)] = "{\"a\":";
			size_t n = 5;
			/* The object itself is a level. Objects and arrays take turns from the inside, so that each level's kind counts. */
			for (size_t i = 1; i < deep; i++) {
				if ((i + (size_t)kind) % 2) {
					doc[n++] = '[';
				} else {
					memcpy(doc + n, "{\"b\":", 5);
					n += 5;
				}
			}
			doc[n++] = '1';
			for (size_t i = deep - 1; i; i--)
				doc[n++] = (i + (size_t)kind) % 2 ? ']' : '}';
			doc[n++] = '}';
			enum tg_json_state st = scan(&s, (struct tg_slice){ doc, n });
			if (deep <= TG_JSON_DEPTH) {
				assert_int_equal(st, TG_JSON_DONE);
			} else {
				assert_int_equal(st, TG_JSON_BAD);
				assert_string_equal(s.why, "nested too deeply");
			}
		}
}

/* A string of each length around the widths that are read at once, with the one byte that matters at each place. */
static void test_places(void **state)
{
	(void)state;
	static const struct {
		const char *put, *why;
		size_t less; /* bytes that are no characters */
	} rows[] = { { "\\n", NULL, 1 }, { "\xe2\x82\xac", NULL, 2 }, { "\xf0\x9f\x98\x80", NULL, 3 }, { "\x01", "control character in string", 0 },
		{ "\x80", "invalid UTF-8", 0 }, { "\x7f", NULL, 0 } };
	struct tg_json_scan s;
	for (size_t r = 0; r < sizeof rows / sizeof *rows; r++)
		for (size_t len = 0; len < 140; len++) {
			size_t where = (len * len / 7 + 3 * len) % (len + 1);
			char doc[200];
			size_t k = strlen(rows[r].put), n = 10;
			memcpy(doc, "{\"model\":\"", 10);
			memset(doc + n, 'x', len);
			memcpy(doc + n + where, rows[r].put, k);
			n += where + k;
			memset(doc + n, 'y', len - where);
			n += len - where;
			memcpy(doc + n, "\"}", 3);
			n += 2;
			enum tg_json_state st = scan(&s, (struct tg_slice){ doc, n });
			if (rows[r].why) {
				assert_int_equal(st, TG_JSON_BAD);
				assert_string_equal(s.why, rows[r].why);
				assert_int_equal(s.at, 10 + where);
			} else {
				assert_int_equal(st, TG_JSON_DONE);
				assert_int_equal(s.want[0].chars, len + k - rows[r].less);
			}
		}
}

static void test_first(void **state)
{
	(void)state;
	static const char *const rows[][2] = {
		{ "[]", "" }, { "[ ]", "" }, { "[1]", "1" }, { "[ -1.5e3 , 2]", "-1.5e3" }, { "[\"a,]\\\"b\",2]", "\"a,]\\\"b\"" }, { "[{\"a\":[1,2],\"b\":\"}\"},{}]", "{\"a\":[1,2],\"b\":\"}\"}" },
		{ "[[],1]", "[]" }, { "[null]", "null" }, { "{}", "" }, { "", "" }, { "[\n{ }\n]", "{ }" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_slice v = tg_json_first(tg_slice_cstr(rows[i][0]));
		if (!tg_slice_eq(v, tg_slice_cstr(rows[i][1])))
			fail_msg("%s: " TG_SLICE_FMT, rows[i][0], TG_SLICE_ARG(v));
	}
}

static void test_members(void **state)
{
	(void)state;
	static const struct {
		const char *object, *names[4], *values[4];
	} rows[] = {
		{ "{}", { NULL }, { NULL } }, { "{ }", { NULL }, { NULL } }, { "{\"a\":1}", { "\"a\"" }, { "1" } },
		{ "{ \"a\" : 1 , \"b\\\"\" : \"x,y}\" ,\"c\":{\"d\":[1,{}]} }", { "\"a\"", "\"b\\\"\"", "\"c\"" }, { "1", "\"x,y}\"", "{\"d\":[1,{}]}" } },
		{ "{\"\":[],\"\":{} \n}", { "\"\"", "\"\"" }, { "[]", "{}" } },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_slice name, value;
		size_t at = 0, k = 0;
		while (tg_json_next_member(tg_slice_cstr(rows[i].object), &at, &name, &value)) {
			assert_non_null(rows[i].names[k]);
			assert_true(tg_slice_eq(name, tg_slice_cstr(rows[i].names[k])));
			assert_true(tg_slice_eq(value, tg_slice_cstr(rows[i].values[k])));
			k++;
		}
		assert_null(rows[i].names[k]);
		assert_false(tg_json_next_member(tg_slice_cstr(rows[i].object), &at, &name, &value));
	}
}

static void test_unescape(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
		long n;
	} rows[] = {
		{ "\"\"", "", 0 }, { "\"abc\"", "abc", 3 }, { "\"a\\nb\\\"\\\\\\/\\b\\f\\r\\t\"", "a\nb\"\\/\b\f\r\t", 10 }, { "\"\\u0041\\u00e9\\u20ac\"", "A\xc3\xa9\xe2\x82\xac", 6 },
		{ "\"\\ud83d\\ude00!\"", "\xf0\x9f\x98\x80!", 5 }, { "\"\\u0000x\"", "\0x", 2 }, { "\"\xe2\x82\xac\"", "\xe2\x82\xac", 3 }, { "\"\\uDBFF\\uDFFF\"", "\xf4\x8f\xbf\xbf", 4 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		for (long cap = 0; cap <= rows[i].n + 1; cap++) {
			char *out = malloc(cap ? (size_t)cap : 1);
			long n = tg_json_unescape(tg_slice_cstr(rows[i].in), out, (size_t)cap);
			if (cap < rows[i].n) {
				assert_int_equal(n, -1);
			} else {
				assert_int_equal(n, rows[i].n);
				assert_memory_equal(out, rows[i].out, (size_t)n);
			}
			free(out);
		}
	}
}

static void test_u64(void **state)
{
	(void)state;
	static const struct {
		const char *in;
		uint64_t max;
		bool ok;
		uint64_t v;
	} rows[] = {
		{ "0", 10, true, 0 }, { "10", 10, true, 10 }, { "11", 10, false, 0 }, { "100", 10, false, 0 }, { "5", 4, false, 0 }, { "18446744073709551615", UINT64_MAX, true, UINT64_MAX },
		{ "18446744073709551616", UINT64_MAX, false, 0 }, { "99999999999999999999999", UINT64_MAX, false, 0 }, { "-1", 10, false, 0 }, { "-0", 10, false, 0 },
		{ "1.0", 10, false, 0 }, { "1e0", 10, false, 0 }, { "", 10, false, 0 }, { "9007199254740993", (uint64_t)1 << 53, false, 0 },
		{ "9007199254740992", (uint64_t)1 << 53, true, (uint64_t)1 << 53 },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		uint64_t v = 77;
		if (tg_json_u64(tg_slice_cstr(rows[i].in), rows[i].max, &v) != rows[i].ok)
			fail_msg("%s", rows[i].in);
		assert_int_equal(v, rows[i].ok ? rows[i].v : 77);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_valid), cmocka_unit_test(test_invalid), cmocka_unit_test(test_found), cmocka_unit_test(test_first_member_and_end),
		cmocka_unit_test(test_open), cmocka_unit_test(test_depth), cmocka_unit_test(test_places), cmocka_unit_test(test_first), cmocka_unit_test(test_members),
		cmocka_unit_test(test_unescape), cmocka_unit_test(test_u64),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
