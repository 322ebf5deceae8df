/* Forms (RFC 7578, RFC 2046 section 5.1): what their parts are, what only looks like a boundary, what is refused and where, and that none of it depends on how the bytes are cut; then the same with a table in them. */
#include "engine/multipart.h"
#include "intake_fixture.h"

#define B "xYz"
#define OPEN "--" B "\r\n"
#define NEXT "\r\n--" B "\r\n"
#define CLOSE "\r\n--" B "--"
#define NAMED(name) "Content-Disposition: form-data; name=\"" name "\"\r\n"
#define FILED(name) "Content-Disposition: form-data; name=\"" name "\"; filename=\"a.csv\"\r\n"

/* ---- events, written down ---- */

static bool on_part(void *ctx, const struct tg_part *p, struct tg_intake_fault *f)
{
	struct tg_buf *b = ctx;
	(void)f;
	tg_buf_fmt(b, "[%.*s%s|%.*s|%.*s]", (int)p->name.n, p->name.p, p->file ? "*" : "", (int)p->type.n, p->type.p ? p->type.p : "", (int)p->encoding.n, p->encoding.p ? p->encoding.p : "");
	return true;
}

static bool on_data(void *ctx, const char *p, size_t n, struct tg_intake_fault *f)
{
	(void)f;
	assert_true(n > 0);
	tg_buf_put(ctx, p, n);
	return true;
}

static bool on_end(void *ctx, struct tg_intake_fault *f)
{
	(void)f;
	tg_buf_lit((struct tg_buf *)ctx, ".");
	return true;
}

static const struct tg_multipart_events events = { on_part, on_data, on_end };

/* A piece in memory of its own size, so that a look past it is seen. */
static bool feed(struct tg_multipart *m, struct tg_slice s, struct tg_intake_fault *f)
{
	char *piece = malloc(s.n ? s.n : 1);
	memcpy(piece, s.p, s.n);
	bool ok = tg_multipart_feed(m, piece, s.n, f);
	free(piece);
	return ok;
}

/* Cut at `a` and at `b`; step: in pieces of so many bytes instead. The events, and behind them what is at fault; the caller's. */
static char *told(struct tg_slice body, size_t a, size_t b, size_t step)
{
	struct tg_buf out;
	struct tg_intake_fault f = { 0 };
	struct tg_multipart *m = tg_multipart_new(TG_S(B), &events, &out);
	tg_buf_init(&out, 1u << 20);
	assert_non_null(m);
	bool ok = true;
	if (step)
		for (size_t i = 0; ok && i < body.n; i += step)
			ok = feed(m, (struct tg_slice){ body.p + i, body.n - i < step ? body.n - i : step }, &f);
	else
		ok = feed(m, (struct tg_slice){ body.p, a }, &f) && feed(m, (struct tg_slice){ body.p + a, b - a }, &f) && feed(m, (struct tg_slice){ body.p + b, body.n - b }, &f);
	if (!ok || !tg_multipart_end(m, &f))
		tg_buf_fmt(&out, "!%s: %s", f.field, f.why);
	assert_false(out.failed);
	tg_buf_char(&out, 0);
	tg_multipart_free(m);
	return out.p;
}

/* All pairs of cuts where that is quick, else all single ones. */
static void check(struct tg_slice body, const char *want)
{
	char *got = told(body, 0, body.n, 0);
	if (strcmp(got, want) != 0)
		fail_msg("%.*s\n: %s\n: %s", (int)body.n, body.p, got, want);
	free(got);
	for (size_t a = 0; a <= body.n; a++)
		for (size_t b = body.n <= 160 ? a : body.n; b <= body.n; b++) {
			got = told(body, a, b, 0);
			if (strcmp(got, want) != 0)
				fail_msg("cut at %zu and %zu: %.*s\n: %s\n: %s", a, b, (int)body.n, body.p, got, want);
			free(got);
		}
	for (size_t step = 1; step < 8; step++) {
		got = told(body, 0, 0, step);
		assert_string_equal(got, want);
		free(got);
	}
}

static void test_parts(void **state)
{
	(void)state;
	static const struct {
		const char *body, *want;
	} rows[] = {
		{ OPEN NAMED("a") "\r\nx" CLOSE "\r\n", "[a||]x." },
		{ OPEN NAMED("a") "\r\nx" CLOSE, "[a||]x." },
		{ OPEN NAMED("a") "\r\n" CLOSE, "[a||]." },                                          /* nothing in it */
		{ OPEN NAMED("a") "\r\n--" B "--", "[a||]." },                                       /* not even the line that would end it */
		{ OPEN NAMED("a") "\r\n\r\n" CLOSE, "[a||]\r\n." },
		{ OPEN NAMED("a") "\r\nx" NEXT FILED("file") "Content-Type: text/csv; charset=utf-8\r\n\r\na,b\r\n1,2\r\n" CLOSE "\r\n", "[a||]x.[file*|text/csv|]a,b\r\n1,2\r\n." },
		/* before the first and behind the last */
		{ "\r\n" OPEN NAMED("a") "\r\nx" CLOSE, "[a||]x." },
		{ "This is a form.\r\n--" B "x\r\n --" B "\r\n" OPEN NAMED("a") "\r\nx" CLOSE "\r\nbye" NEXT "x", "[a||]x." },
		{ OPEN NAMED("a") "\r\nx" CLOSE " \t \r\n", "[a||]x." },
		{ OPEN NAMED("a") "\r\nx" CLOSE "\n", "[a||]x." },
		{ OPEN NAMED("a") "\r\nx" CLOSE " ", "[a||]x." },
		{ OPEN NAMED("a") "\r\nx" CLOSE "\r", "[a||]x." },
		{ "--" B " \t\r\n" NAMED("a") "\r\nx\r\n--" B " \r\n" NAMED("b") "\r\ny" CLOSE, "[a||]x.[b||]y." }, /* blanks behind a boundary */
		{ "--" B "--", "" },                                                                 /* no part at all */
		/* what only looks like one */
		{ OPEN NAMED("a") "\r\n--" B "\r\r\n--" B "x\r\n--xY\r\n--xYzz\r\n-\r\n--\r\r\n" CLOSE, "[a||]--" B "\r\r\n--" B "x\r\n--xY\r\n--xYzz\r\n-\r\n--\r\r\n." },
		{ OPEN NAMED("a") "\r\n\n--" B "\n--" B "--\r--" B "--" CLOSE, "[a||]\n--" B "\n--" B "--\r--" B "--." }, /* no CRLF before them */
		{ OPEN NAMED("a") "\r\nx\r\n--" B "-\r\ny\r\n--" B "--z\r\n--" B "-- \rz" CLOSE, "[a||]x\r\n--" B "-\r\ny\r\n--" B "--z\r\n--" B "-- \rz." },
		{ OPEN NAMED("a") "\r\nx\r\n--" B " y\r\n--" B "\r\r\n--" B "\rz" CLOSE, "[a||]x\r\n--" B " y\r\n--" B "\r\r\n--" B "\rz." },
		{ OPEN NAMED("a") "\r\nx\r\r\n--" B "--", "[a||]x\r." },
		{ OPEN NAMED("a") "\r\n\r\n\r\n--" B "--", "[a||]\r\n." },
		/* heads */
		{ OPEN "content-type:\ttext/csv\r\nX-Other: 1\r\ncontent-disposition:form-data;NAME=a;filename*=UTF-8''x\r\nContent-Transfer-Encoding: 8bit \r\n\r\nx" CLOSE, "[a*|text/csv|8bit]x." },
		{ OPEN "Content-Disposition: Form-Data; filename=\"a;name=\\\"b\\\".csv\"; name=\"q\\\"u\\\\o\\te\";\r\n\r\nx" CLOSE, "[q\"u\\o\\te*||]x." },
		{ OPEN "Content-Disposition: form-data ; name = \"a\" ;\r\nContent-Type:\r\n\r\nx" CLOSE, "[a||]x." },
		{ OPEN NAMED("\xc3\xbc") "\r\nx" CLOSE, "[\xc3\xbc||]x." },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check(tg_slice_cstr(rows[i].body), rows[i].want);
	check((struct tg_slice){ OPEN NAMED("a") "\r\n\0x" CLOSE, sizeof OPEN NAMED("a") "\r\n\0x" CLOSE - 1 }, "[a||]"); /* the NUL ends what is compared */
}

#define MISSING "!: breaks off: the boundary with two dashes behind it, which ends a form, is missing"
#define NO_PART "!: has no part: no line in it is the boundary that Content-Type names"
#define BARE "!: has a boundary whose line ends with LF alone; the lines of a form end with CRLF"

static void test_faults(void **state)
{
	(void)state;
	static const struct {
		const char *body, *want;
	} rows[] = {
		{ "", NO_PART },
		{ "a,b\n1,2\n", NO_PART },
		{ "--" B, NO_PART },
		{ "--" B "-", NO_PART },
		{ "--other\r\n" NAMED("a") "\r\nx\r\n--other--", NO_PART },
		{ " " OPEN NAMED("a") "\r\nx" CLOSE, "" },                                          /* the last boundary alone is one: no part */
		{ OPEN, MISSING },
		{ OPEN NAMED("a"), MISSING },
		{ OPEN NAMED("a") "\r\n", "[a||]" MISSING },
		{ OPEN NAMED("a") "\r\nx", "[a||]x" MISSING },
		{ OPEN NAMED("a") "\r\nx\r\n--" B, "[a||]x" MISSING },
		{ OPEN NAMED("a") "\r\nx\r\n--" B "-", "[a||]x" MISSING },
		{ OPEN NAMED("a") "\r\nx" NEXT, "[a||]x." MISSING },
		{ OPEN NAMED("a") "\r\nx\n--" B "--", "[a||]x\n--" B "--" MISSING },
		/* LF alone */
		{ "--" B "\nContent-Disposition: form-data; name=\"a\"\n\nx\n--" B "--\n", BARE },
		{ "--" B " \n", BARE },
		{ OPEN NAMED("a") "\r\nx\r\n--" B "\n" NAMED("b") "\r\ny" CLOSE, "[a||]x" BARE },
		{ OPEN "Content-Disposition: form-data; name=\"a\"\n\nx" CLOSE, "!part 1: has a header whose line does not end with CRLF" },
		{ OPEN "\n", "!part 1: has a header whose line does not end with CRLF" },
		{ OPEN "Content-Type: a\rb\r\n\r\n", "!part 1: has a header whose line does not end with CRLF" },
		/* heads */
		{ OPEN "\r\nx" CLOSE, "!part 1: has no Content-Disposition" },
		{ OPEN NAMED("a") "\r\nx" NEXT "Content-Type: text/plain\r\n\r\n", "[a||]x.!part 2: has no Content-Disposition" },
		{ OPEN "Content-Disposition: attachment; name=\"a\"\r\n\r\n", "!part 1: has a Content-Disposition that is not form-data" },
		{ OPEN "Content-Disposition: form-data\r\n\r\n", "!part 1: has no name in its Content-Disposition" },
		{ OPEN "Content-Disposition: form-data; filename=x\r\n\r\n", "!part 1: has no name in its Content-Disposition" },
		{ OPEN NAMED("") "\r\n", "!part 1: has an empty name" },
		{ OPEN "Content-Disposition: form-data; name=\r\n\r\n", "!part 1: has an empty name" },
		{ OPEN NAMED("\xff") "\r\n", "!part 1: has a name that is no valid UTF-8" },
		{ OPEN "Content-Disposition: form-data; name=a; name=b\r\n\r\n", "!part 1: has two names" },
		{ OPEN "Content-Disposition: form-data; name=\"a\r\n\r\n", "!part 1: has a Content-Disposition that cannot be read" },
		{ OPEN "Content-Disposition: form-data; name=\"a\\\"\r\n\r\n", "!part 1: has a Content-Disposition that cannot be read" },
		{ OPEN "Content-Disposition: form-data; name=\"a\" filename=\"b\"\r\n\r\n", "!part 1: has a Content-Disposition that cannot be read" },
		{ OPEN "Content-Disposition: form-data; name\r\n\r\n", "!part 1: has a Content-Disposition that cannot be read" },
		{ OPEN "Content-Disposition: form-data; =a\r\n\r\n", "!part 1: has a Content-Disposition that cannot be read" },
		{ OPEN NAMED("a") NAMED("a") "\r\n", "!part 1: has two Content-Disposition headers" },
		{ OPEN NAMED("a") "Content-Type: a\r\nContent-type: a\r\n\r\n", "!part 1: has two Content-Type headers" },
		{ OPEN NAMED("a") "Content-Transfer-Encoding: 8bit\r\nContent-Transfer-Encoding: 8bit\r\n\r\n", "!part 1: has two Content-Transfer-Encoding headers" },
		{ OPEN "Content-Disposition: form-data;\r\n name=a\r\n\r\n", "!part 1: has a header of several lines, which is not taken here" },
		{ OPEN "nonsense\r\n\r\n", "!part 1: has a line among its headers that is none" },
		{ OPEN ": x\r\n\r\n", "!part 1: has a line among its headers that is none" },
		{ OPEN "Content-Type : x\r\n\r\n", "!part 1: has a line among its headers that is none" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		check(tg_slice_cstr(rows[i].body), rows[i].want);
	check((struct tg_slice){ OPEN "X: \0\r\n\r\n", sizeof OPEN "X: \0\r\n\r\n" - 1 }, "!part 1: has a NUL among its headers");
}

static char *last(struct tg_buf *b)
{
	tg_buf_lit(b, CLOSE);
	char *got = told(tg_buf_view(b), 0, b->len, 0);
	assert_false(b->failed);
	tg_buf_free(b);
	return got;
}

static void test_bounds(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 20);
	char *got;
	for (unsigned over = 0; over < 2; over++) { /* parts */
		tg_buf_lit(&b, "--" B);
		for (unsigned i = 0; i < TG_PARTS_MAX + over; i++)
			tg_buf_cstr(&b, i ? "\r\n\r\n--" B "\r\n" NAMED("a") : "\r\n" NAMED("a"));
		tg_buf_lit(&b, "\r\n");
		got = last(&b);
		assert_int_equal(strstr(got, "!: has more than 64 parts") != NULL, over);
		free(got);
	}
	for (unsigned over = 0; over < 2; over++) { /* headers */
		size_t fixed = sizeof NAMED("a") - 1 + 6 + 2;
		tg_buf_lit(&b, OPEN NAMED("a") "X: ");
		for (size_t i = 0; i < TG_PART_HEAD_MAX - fixed + 1 + over; i++)
			tg_buf_char(&b, 'x');
		tg_buf_lit(&b, "\r\n\r\n");
		got = last(&b);
		assert_string_equal(got, over ? "!part 1: has headers of more than 4096 bytes" : "[a||].");
		free(got);
	}
	for (unsigned over = 0; over < 2; over++) { /* a name */
		tg_buf_lit(&b, OPEN "Content-Disposition: form-data; name=");
		for (size_t i = 0; i < TG_PART_NAME_MAX + over; i++)
			tg_buf_char(&b, 'n');
		tg_buf_lit(&b, "\r\n\r\n");
		got = last(&b);
		assert_int_equal(strcmp(got, "!part 1: has a name of more than 256 bytes") == 0, over);
		assert_int_equal(got[0] == '[', !over);
		free(got);
	}
	for (unsigned over = 0; over < 2; over++) { /* blanks behind a boundary: more of them and it is data */
		tg_buf_lit(&b, OPEN NAMED("a") "\r\nx\r\n--" B);
		for (unsigned i = 0; i < (over ? 200 : 60); i++)
			tg_buf_char(&b, ' ');
		tg_buf_lit(&b, "\r\n" NAMED("b") "\r\n");
		got = last(&b);
		assert_int_equal(strstr(got, ".[b||].") != NULL, !over);
		free(got);
	}
}

/* ---- boundaries ---- */

static void test_boundaries(void **state)
{
	(void)state;
	static const struct {
		const char *type, *boundary; /* NULL: refused */
	} rows[] = {
		{ "multipart/form-data; boundary=xYz", "xYz" },
		{ "multipart/form-data;boundary=\"xYz\"", "xYz" },
		{ "Multipart/Form-Data; charset=utf-8; BOUNDARY=----=_Part_0/1.2?(a),:+'_ ;x=y", "----=_Part_0/1.2?(a),:+'_" },
		{ "multipart/form-data; boundary=\"a b\"", "a b" },
		{ "multipart/form-data; boundary=0123456789012345678901234567890123456789012345678901234567890123456789", "0123456789012345678901234567890123456789012345678901234567890123456789" },
		{ "multipart/form-data; boundary=01234567890123456789012345678901234567890123456789012345678901234567890", NULL },
		{ "multipart/form-data", NULL },
		{ "multipart/form-data; x=y", NULL },
		{ "multipart/form-data; boundary=", NULL },
		{ "multipart/form-data; boundary=\"\"", NULL },
		{ "multipart/form-data; boundary=\"a \"", NULL },
		{ "multipart/form-data; boundary=\"a", NULL },
		{ "multipart/form-data; boundary=a; boundary=a", NULL },
		{ "multipart/form-data; boundary=\"a\\\"b\"", NULL },
		{ "multipart/form-data; boundary=a{b}", NULL },
		{ "multipart/form-data; boundary=a\xc3\xbc", NULL },
		{ "multipart/form-data; boundary", NULL },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_slice got;
		const char *why = NULL;
		bool ok = tg_boundary_of(tg_slice_cstr(rows[i].type), &got, &why);
		if (ok != (rows[i].boundary != NULL) || (ok && !tg_slice_eq(got, tg_slice_cstr(rows[i].boundary))))
			fail_msg("%s: %s", rows[i].type, ok ? "taken" : why);
		assert_true(ok || why);
	}
	assert_false(tg_boundary_ok((struct tg_slice){ "a\0b", 3 }));
	assert_false(tg_boundary_ok((struct tg_slice){ "a\r\nb", 4 }));
}

/* ---- with a table ---- */

static struct outcome read_form(struct tg_slice body, size_t step, uint64_t max_bytes)
{
	struct outcome o = { .ok = true };
	struct tg_frame_reader *r = tg_frame_reader_form(TG_S(B), max_bytes);
	struct tg_slice members;
	assert_non_null(r);
	for (size_t i = 0, k; o.ok && i < body.n; i += k) {
		k = body.n - i < step ? body.n - i : step;
		char *piece = malloc(k);
		memcpy(piece, body.p + i, k);
		o.ok = tg_frame_reader_feed(r, piece, k, &o.fault);
		free(piece);
	}
	if (o.ok) {
		o.ok = tg_frame_reader_end(r, &o.frame, &members, o.hash, &o.fault);
		o.members = o.ok ? tg_slice_dup(members) : NULL;
	}
	assert_true(o.ok || o.fault.why[0]);
	tg_frame_reader_free(r);
	return o;
}

static struct outcome read_in_steps(const char *body)
{
	static const size_t steps[] = { 1, 2, 3, 5, 11 };
	struct outcome whole = read_form(tg_slice_cstr(body), SIZE_MAX, 1u << 24);
	for (size_t i = 0; i < sizeof steps / sizeof *steps; i++) {
		struct outcome o = read_form(tg_slice_cstr(body), steps[i], 1u << 24);
		same_outcome(&whole, &o);
		outcome_free(&o);
	}
	return whole;
}

static void test_tables(void **state)
{
	(void)state;
	static const struct {
		const char *body, *csv, *members;
	} rows[] = {
		{ OPEN FILED("file") "\r\na,b\n1,2\n" CLOSE, "a,b\n1,2\n", "{}" },
		{ OPEN NAMED("file") "\r\na,b\n1,2" CLOSE, "a,b\n1,2\n", "{}" },
		{ OPEN FILED("file") "Content-Type: text/csv\r\nContent-Transfer-Encoding: BINARY\r\n\r\na\r\n\"--" B "\r\n--" B "x\"\r\n" CLOSE, "a\r\n\"--" B "\r\n--" B "x\"\r\n", "{}" },
		{ OPEN NAMED("target") "\r\nb" NEXT FILED("file") "Content-Type: application/vnd.ms-excel\r\n\r\na,b\r\n1,2\r\n" NEXT NAMED("model_type") "Content-Type: text/plain; charset=utf-8\r\n\r\nxgb \"\\\xc3\xbc\r\n" CLOSE, "a,b\n1,2\n",
		  "{\"target\":\"b\",\"model_type\":\"xgb \\\"\\\\\xc3\xbc\\r\\n\"}" },
		{ OPEN NAMED("x\\\"") "\r\n" NEXT FILED("file") "Content-Type: application/octet-stream\r\n\r\na" CLOSE, "a\n", "{\"x\\\"\":\"\"}" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct outcome a = read_in_steps(rows[i].body), b = read_all_ways(TG_INTAKE_CSV, tg_slice_cstr(rows[i].csv));
		if (!a.ok || !b.ok)
			fail_msg("%s: %s %s", rows[i].body, a.fault.field, a.fault.why);
		assert_string_equal(a.members, rows[i].members);
		assert_string_equal(a.hash, b.hash);
		same_frame(a.frame, b.frame);
		outcome_free(&a);
		outcome_free(&b);
	}
}

#define FILE_IS(text) OPEN FILED("file") "\r\n" text

static void test_table_faults(void **state)
{
	(void)state;
	static const struct {
		const char *body, *field, *why;
	} rows[] = {
		{ OPEN NAMED("target") "\r\nb" CLOSE, "file", "is required: a part of that name which holds the table as CSV" },
		{ "--" B "--", "file", "is required: a part of that name which holds the table as CSV" },
		{ FILE_IS("") CLOSE, "file", "has no header row" },
		{ FILE_IS("a,b\n1\n") CLOSE, "row 2", "has 1 cell, 2 columns were named" },
		{ FILE_IS("a\n\"x") CLOSE, "row 2, column a", "begins with a quote and is not closed by one" },
		{ FILE_IS("a\nPK\x03\x04\xff") CLOSE, "row 2, column a", "is no valid UTF-8" },
		{ FILE_IS("a\n1\n"), "", "breaks off: the boundary with two dashes behind it, which ends a form, is missing" },
		{ FILE_IS("a\n1\n") NEXT FILED("file") "\r\n", "file", "is given twice" },
		{ FILE_IS("a\n1\n") NEXT FILED("other") "\r\n", "other", "is a file of another name; the part with the table must be called file" },
		{ OPEN NAMED("target") "\r\na" NEXT NAMED("target") "\r\na" CLOSE, "target", "is given twice" },
		{ OPEN FILED("target") "\r\na" CLOSE, "target", "is a file of another name; the part with the table must be called file" },
		{ OPEN NAMED("target") "\r\n\xff" CLOSE, "target", "must be UTF-8, without NUL" },
		{ OPEN NAMED("target") "Content-Type: text/csv\r\n\r\n" CLOSE, "target", "must be a text: its Content-Type text/plain, application/json or none" },
		{ OPEN FILED("file") "Content-Type: application/zip\r\n\r\n", "file", "must be CSV: its Content-Type text/csv, application/vnd.ms-excel, application/octet-stream, text/plain or none" },
		{ OPEN FILED("file") "Content-Type: multipart/mixed; boundary=y\r\n\r\n", "file", "must be CSV: its Content-Type text/csv, application/vnd.ms-excel, application/octet-stream, text/plain or none" },
		{ OPEN FILED("file") "Content-Transfer-Encoding: base64\r\n\r\n", "file", "has a Content-Transfer-Encoding other than 7bit, 8bit and binary, which is not taken" },
		{ OPEN NAMED("target") "Content-Transfer-Encoding: quoted-printable\r\n\r\n", "target", "has a Content-Transfer-Encoding other than 7bit, 8bit and binary, which is not taken" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct outcome o = read_in_steps(rows[i].body);
		if (o.ok || strcmp(o.fault.field, rows[i].field) != 0 || strcmp(o.fault.why, rows[i].why) != 0)
			fail_msg("%s\n: %s: %s", rows[i].body, o.ok ? "taken" : o.fault.field, o.fault.why);
		assert_null(o.frame);
		outcome_free(&o);
	}
	struct outcome o = read_form((struct tg_slice){ OPEN NAMED("target") "\r\na\0" CLOSE, sizeof OPEN NAMED("target") "\r\na\0" CLOSE - 1 }, 1, 1u << 20);
	assert_string_equal(o.fault.why, "must be UTF-8, without NUL");
	outcome_free(&o);
}

/* Texts: one, and all together; and of the body. */
static void test_table_bounds(void **state)
{
	(void)state;
	struct tg_buf b;
	struct outcome o;
	tg_buf_init(&b, 1u << 20);
	for (unsigned over = 0; over < 2; over++) {
		tg_buf_lit(&b, OPEN NAMED("a") "\r\n");
		for (unsigned i = 0; i < 16383 + over; i++)
			tg_buf_char(&b, 'x');
		tg_buf_lit(&b, "\r\n--" B "\r\n" FILED("file") "\r\na\n" CLOSE);
		o = read_form(tg_buf_view(&b), 1000, 1u << 20);
		assert_int_equal(o.ok, !over);
		assert_string_equal(o.fault.why, over ? "is longer than 16383 bytes" : "");
		outcome_free(&o);
		b.len = 0;
	}
	for (unsigned i = 0; i < 5; i++) {
		tg_buf_fmt(&b, "--" B "\r\n" "Content-Disposition: form-data; name=f%u\r\n\r\n", i);
		for (unsigned k = 0; k < 16000; k++)
			tg_buf_char(&b, '\\');
		tg_buf_lit(&b, "\r\n");
	}
	o = read_form(tg_buf_view(&b), 1000, 1u << 20);
	assert_string_equal(o.fault.field, "f2");
	assert_string_equal(o.fault.why, "makes what is beside the file longer than 65536 bytes");
	outcome_free(&o);
	o = read_form(tg_buf_view(&b), 7, 100);
	assert_true(!o.ok && o.fault.too_large);
	outcome_free(&o);
	tg_buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_parts),  cmocka_unit_test(test_faults),       cmocka_unit_test(test_bounds),       cmocka_unit_test(test_boundaries),
		cmocka_unit_test(test_tables), cmocka_unit_test(test_table_faults), cmocka_unit_test(test_table_bounds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
