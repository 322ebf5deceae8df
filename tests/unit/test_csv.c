/* CSV (ledger S3-60): RFC 4180 as spreadsheets and programs write it, what a cell is, what is refused and where, and the same tables as JSON has them: hash for hash. */
#include "intake_fixture.h"

#include "engine/csv_cell.h"

#define CSV TG_INTAKE_CSV

static void test_faults(void **state)
{
	(void)state;
	static const struct {
		const char *body, *field, *why;
	} rows[] = {
		{ "", "", "has no header row" },
		{ "\n\r\n\n", "", "has no header row" },
		{ "\xef\xbb\xbf", "", "has no header row" },
		{ "a,b,c\n1,2,3\n1,2,3\n1,2\n", "row 4", "has 2 cells, 3 columns were named" },
		{ "a,b,c\n1,2,3\n1,2,3\n1,2", "row 4", "has 2 cells, 3 columns were named" },
		{ "a\n1,2\n", "row 2", "has 2 cells, 1 column was named" },
		{ "a,b\n\n1,2\n\r\n1\n", "row 5", "has 1 cell, 2 columns were named" },
		{ "a,b\n1,2,\n", "row 2", "has 3 cells, 2 columns were named" },
		{ "a,a\n", "row 1, column 2", "is the name of a column before it" },
		{ "a,,b\n", "row 1, column 2", "must not be empty" },
		{ "a,\"\"\n", "row 1, column 2", "must not be empty" },
		{ ",\n", "row 1, column 1", "must not be empty" },
		{ "a\n\"x", "row 2, column a", "begins with a quote and is not closed by one" },
		{ "rainfall,b\n1,2\n\"x\"y,2\n", "row 3, column rainfall", "goes on behind its closing quote" },
		{ "a,rainfall\n1,2\n1,x\"y\n", "row 3, column rainfall", "has a quote in it and does not begin with one" },
		{ "a\n1\r2\n", "row 2", "has a carriage return that no line feed follows" },
		{ "a\r\r\n", "row 1", "has a carriage return that no line feed follows" },
		{ "a\n\xff\n", "row 2, column a", "is no valid UTF-8" },
		{ "a\n1\n\xc3\n", "row 3, column a", "is no valid UTF-8" },
		{ "\xff,a\n", "row 1, column 1", "is no valid UTF-8" },
		{ "\xef\xbb,a\n", "row 1, column 1", "is no valid UTF-8" },
		{ "\xef\xbb", "row 1, column 1", "is no valid UTF-8" },
		{ "\xef\xbb\xbf\xef\xbb\xbf\xff", "row 1, column 1", "is no valid UTF-8" },
		{ "a,b\n1,\"x\ny\n", "row 2, column b", "begins with a quote and is not closed by one" },
		{ "a\n1\n2\n\nx\n", "row 5, column a", "is text, but row 2 of this column is a number: a column holds one of the two" },
		{ "a,b\n,y\nNA,y\nx,y\n1,y\n", "row 5, column a", "is a number, but row 4 of this column is text: a column holds one of the two" },
		{ "a\n1\n\"1,000\"\n", "row 3, column a", "is text, but row 2 of this column is a number: a column holds one of the two" },
		{ "a\n0\ninf\n", "row 3, column a", "is text, but row 2 of this column is a number: a column holds one of the two" },
		{ "a\n1\n1e400\n", "row 3, column a", "must be a finite number" },
		{ "a\n-1e999\n", "row 2, column a", "must be a finite number" },
		{ "a,b\n1,2,\xff\"\n", "row 2, column 3", "has a quote in it and does not begin with one" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct outcome o = read_all_ways(CSV, tg_slice_cstr(rows[i].body));
		if (o.ok || strcmp(o.fault.field, rows[i].field) != 0 || strcmp(o.fault.why, rows[i].why) != 0)
			fail_msg("%s\n: %s: %s", rows[i].body, o.ok ? "taken" : o.fault.field, o.fault.why);
		outcome_free(&o);
	}
	struct outcome o = read_all_ways(CSV, TG_S("a,b\n1,x\n2,\"y\0z\"\n"));
	assert_false(o.ok);
	assert_string_equal(o.fault.field, "row 3, column b");
	assert_string_equal(o.fault.why, "must not hold a NUL");
	outcome_free(&o);
}

/* Each beside the JSON of the same table. */
static void test_same_as_json(void **state)
{
	(void)state;
	static const struct {
		const char *csv, *columns, *data;
	} rows[] = {
		{ "a,b\n1,2\n3,4\n", "[\"a\",\"b\"]", "[[1,2],[3,4]]" },
		{ "a,b\r\n1,2\r\n3,4", "[\"a\",\"b\"]", "[[1.0,2e0],[3,0.4e1]]" },
		{ "\xef\xbb\xbf" "a,b\r\n1,2\r", "[\"a\",\"b\"]", "[[1,2]]" },
		{ "\xef\xbb\xbf\"a\",b\n", "[\"a\",\"b\"]", "[]" },
		{ "a", "[\"a\"]", "[]" },
		{ "a,b\n,\n,\n", "[\"a\",\"b\"]", "[[null,null],[null,null]]" },
		{ "a,b\n\n,2\n\r\n\"\",3\n\n", "[\"a\",\"b\"]", "[[null,2],[null,3]]" },
		{ "a\n\"\"\n1\n", "[\"a\"]", "[[null],[1]]" },
		{ "a,b\nx,1\n,\n\"\",2\nx,3\n", "[\"a\",\"b\"]", "[[\"x\",1],[null,null],[null,2],[\"x\",3]]" },
		{ "a\n\"x,y\"\n\"x\"\"y\"\n\"\"\"\"\n\"x\ny\"\n\"x\r\ny\"\n", "[\"a\"]", "[[\"x,y\"],[\"x\\\"y\"],[\"\\\"\"],[\"x\\ny\"],[\"x\\r\\ny\"]]" },
		{ "\"a,\"\"\n\",b\n1,\"2\"\n", "[\"a,\\\"\\n\",\"b\"]", "[[1,2]]" },
		{ "a\n12.50\n\"\"\n-0\n1e5\n", "[\"a\"]", "[[12.50],[null],[-0],[1e5]]" },
		{ "a\n007\n1\n", "[\"a\"]", "[[7],[1]]" },
		{ "a,b\n1, 2\n\t3 ,\" 4\"\n", "[\"a\",\"b\"]", "[[1,2],[3,4]]" },
		{ "a,b\n x,y \n", "[\"a\",\"b\"]", "[[\" x\",\"y \"]]" },
		{ "a\ntrue\nNaN\n", "[\"a\"]", "[[\"true\"],[null]]" },
		{ "a\n1\nNA\n \n\"null\"\n", "[\"a\"]", "[[1],[null],[null],[null]]" },
		{ "a\nNA\nx\nNAN\n", "[\"a\"]", "[[null],[\"x\"],[\"NAN\"]]" },
		{ "a,b\n+1,1.\n.5,-.5e1\n", "[\"a\",\"b\"]", "[[1,1],[0.5,-5]]" },
		{ "\xe5\x9f\x8e,b\n\xc3\xbc,-1.5E-7\n", "[\"\\u57ce\",\"b\"]", "[[\"\\u00fc\",-1.5e-7]]" },
	};
	char json[1024];
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		snprintf(json, sizeof json, "{\"data\":{\"columns\":%s,\"data\":%s}}", rows[i].columns, rows[i].data);
		struct outcome a = read_all_ways(CSV, tg_slice_cstr(rows[i].csv)), b = read_all_ways(TG_INTAKE_TRAIN, tg_slice_cstr(json));
		if (!a.ok || !b.ok)
			fail_msg("%s: %s %s %s %s", rows[i].csv, a.fault.field, a.fault.why, b.fault.field, b.fault.why);
		assert_string_equal(a.members, "{}");
		if (strcmp(a.hash, b.hash) != 0)
			fail_msg("%s\nis not\n%s", rows[i].csv, json);
		for (unsigned c = 0; c < a.frame->ncolumns; c++)
			((struct tg_column *)a.frame->columns)[c].integers = b.frame->columns[c].integers; /* 1 and 1.0 are one value: the only difference there may be */
		same_frame(a.frame, b.frame);
		outcome_free(&a);
		outcome_free(&b);
	}
}

static void test_cells(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		enum tg_csv_cell is;
		double v;
		bool whole;
	} rows[] = {
		{ "12", TG_CSV_NUMBER, 12, true }, { "-3.5", TG_CSV_NUMBER, -3.5, false }, { "1E3", TG_CSV_NUMBER, 1000, false }, { "+2", TG_CSV_NUMBER, 2, true }, { "+2e+1", TG_CSV_NUMBER, 20, false },
		{ ".5", TG_CSV_NUMBER, 0.5, false }, { "-.5", TG_CSV_NUMBER, -0.5, false }, { "5.", TG_CSV_NUMBER, 5, false }, { "5.e2", TG_CSV_NUMBER, 500, false }, { "+00.50", TG_CSV_NUMBER, 0.5, false },
		{ "007", TG_CSV_NUMBER, 7, true }, { "-007", TG_CSV_NUMBER, -7, true }, { "000", TG_CSV_NUMBER, 0, true }, { "00.", TG_CSV_NUMBER, 0, false }, { " 2", TG_CSV_NUMBER, 2, true },
		{ "\t 2.5 ", TG_CSV_NUMBER, 2.5, false }, { "0.30000000000000004", TG_CSV_NUMBER, 0.30000000000000004, false },
		{ "1e999", TG_CSV_INFINITE, 0, false }, { "+1e999", TG_CSV_INFINITE, 0, false },
		{ "", TG_CSV_MISSING, 0, false }, { " \t", TG_CSV_MISSING, 0, false }, { "NA", TG_CSV_MISSING, 0, false }, { " NA ", TG_CSV_MISSING, 0, false }, { "NaN", TG_CSV_MISSING, 0, false },
		{ "nan", TG_CSV_MISSING, 0, false }, { "null", TG_CSV_MISSING, 0, false }, { "NULL", TG_CSV_MISSING, 0, false }, { "None", TG_CSV_MISSING, 0, false }, { "N/A", TG_CSV_MISSING, 0, false },
		{ "n/a", TG_CSV_MISSING, 0, false }, { "<NA>", TG_CSV_MISSING, 0, false }, { "#N/A", TG_CSV_MISSING, 0, false }, { "#N/A N/A", TG_CSV_MISSING, 0, false }, { "-1.#QNAN", TG_CSV_MISSING, 0, false },
		{ "na", TG_CSV_TEXT, 0, false }, { "Null", TG_CSV_TEXT, 0, false }, { "none", TG_CSV_TEXT, 0, false }, { "typo", TG_CSV_TEXT, 0, false }, { "true", TG_CSV_TEXT, 0, false }, { ".", TG_CSV_TEXT, 0, false },
		{ "-", TG_CSV_TEXT, 0, false }, { "+", TG_CSV_TEXT, 0, false }, { "+-2", TG_CSV_TEXT, 0, false }, { "--2", TG_CSV_TEXT, 0, false }, { "- 2", TG_CSV_TEXT, 0, false }, { "1e", TG_CSV_TEXT, 0, false },
		{ ".e5", TG_CSV_TEXT, 0, false }, { "1.2.3", TG_CSV_TEXT, 0, false }, { "1 2", TG_CSV_TEXT, 0, false }, { "1,000", TG_CSV_TEXT, 0, false }, { "0x1", TG_CSV_TEXT, 0, false }, { "1_000", TG_CSV_TEXT, 0, false },
		{ "12%", TG_CSV_TEXT, 0, false }, { "2020-01-01", TG_CSV_TEXT, 0, false }, { "inf", TG_CSV_TEXT, 0, false }, { "-Infinity", TG_CSV_TEXT, 0, false },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		size_t n = strlen(rows[i].text);
		char *copy = malloc(n + 1); /* without a NUL behind */
		double v = 77;
		bool whole = false;
		memcpy(copy, rows[i].text, n);
		copy = realloc(copy, n ? n : 1);
		if (tg_csv_cell((struct tg_slice){ copy, n }, &v, &whole) != rows[i].is || (rows[i].is == TG_CSV_NUMBER && (v != rows[i].v || whole != rows[i].whole)))
			fail_msg("\"%s\": %g %d", rows[i].text, v, whole);
		free(copy);
	}
	char digits[1200];
	memset(digits, '1', sizeof digits);
	for (size_t n = 1000; n < sizeof digits; n++) { /* whichever side of any bound */
		double v;
		bool whole;
		digits[0] = n % 2 ? '+' : '0';
		enum tg_csv_cell is = tg_csv_cell((struct tg_slice){ digits, n }, &v, &whole);
		assert_true(is == TG_CSV_INFINITE || (n > 1000 && is == TG_CSV_TEXT));
	}
}

static void test_whole_numbers(void **state)
{
	(void)state;
	struct outcome o = read_all_ways(CSV, TG_S("a,b,c,d\n1,1,x,\n2,2.0,y,\n,3,x,\n"));
	static const bool integers[] = { true, false, false, false };
	static const uint64_t nulls[] = { 1, 0, 0, 3 };
	static const enum tg_column_type types[] = { TG_COLUMN_NUMBER, TG_COLUMN_NUMBER, TG_COLUMN_TEXT, TG_COLUMN_EMPTY };
	assert_true(o.ok);
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(o.frame->columns[i].integers, integers[i]);
		assert_int_equal(o.frame->columns[i].nulls, nulls[i]);
		assert_int_equal(o.frame->columns[i].type, types[i]);
	}
	assert_null(o.frame->ends);
	outcome_free(&o);
}

static void test_bounds(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 20);
	for (int quoted = 0; quoted < 2; quoted++)
		for (size_t more = 0; more < 200; more += 99) {
			b.len = 0;
			tg_buf_cstr(&b, quoted ? "a\n\"\"\"" : "a\n");
			for (size_t i = (size_t)quoted; i < 65536 + more; i++)
				tg_buf_char(&b, 'x');
			tg_buf_cstr(&b, quoted ? "\"\n" : "\n");
			struct outcome o = read_all_ways(CSV, tg_buf_view(&b));
			assert_int_equal(o.ok, !more);
			assert_string_equal(o.fault.field, more ? "row 2, column a" : "");
			assert_string_equal(o.fault.why, more ? "is longer than 65536 bytes" : "");
			outcome_free(&o);
		}
	for (int more = 0; more < 2; more++) {
		b.len = 0;
		for (int i = 0; i < 4096 + more; i++)
			tg_buf_fmt(&b, "%sc%d", i ? "," : "", i);
		struct outcome o = read_all_ways(CSV, tg_buf_view(&b));
		assert_int_equal(o.ok, !more);
		assert_string_equal(o.fault.field, more ? "row 1, column 4097" : "");
		outcome_free(&o);
	}
	struct outcome o = read_body(CSV, TG_S("a\n1\n2\n"), 1, 5);
	assert_true(!o.ok && o.fault.too_large);
	tg_buf_free(&b);
}

/* Tables drawn by chance, written as CSV and as JSON. */
static void test_drawn(void **state)
{
	(void)state;
	static const char *const texts[][2] = { { "x", "x" }, { "\"x,y\"", "x,y" }, { "\"q\"\"q\"", "q\\\"q" }, { "\"l\r\nl\"", "l\\r\\nl" }, { "\xc3\xbc", "\\u00fc" }, { " na", " na" } };
	struct tg_buf csv, json;
	tg_buf_init(&csv, 1u << 20);
	tg_buf_init(&json, 1u << 20);
	for (int round = 0; round < 500; round++) {
		unsigned columns = 1 + (unsigned)draw(6), rows = (unsigned)draw(20), type[6];
		const char *end = draw(2) ? "\n" : "\r\n";
		csv.len = json.len = 0;
		tg_buf_lit(&json, "{\"data\":{\"columns\":[");
		for (unsigned c = 0; c < columns; c++) {
			type[c] = (unsigned)draw(2); /* 0: numbers, 1: texts */
			tg_buf_fmt(&csv, "%sc%u", c ? "," : "", c);
			tg_buf_fmt(&json, "%s\"c%u\"", c ? "," : "", c);
		}
		tg_buf_cstr(&csv, end);
		tg_buf_lit(&json, "],\"data\":[");
		for (unsigned r = 0; r < rows; r++) {
			tg_buf_cstr(&json, r ? ",[" : "[");
			for (unsigned c = 0; c < columns; c++) {
				static const char *const nothing[] = { "\"\"", "NA", "\" \"", "null" }, *const before[] = { "", "+", "  ", "+0", "\t00" };
				char number[64];
				snprintf(number, sizeof number, "%.*g", (int)(1 + draw(17)), (double)draw(1u << 30) / 1000);
				if (c)
					tg_buf_char(&csv, ','), tg_buf_char(&json, ',');
				if (!draw(5)) {
					tg_buf_cstr(&csv, nothing[draw(4)]);
					tg_buf_lit(&json, "null");
				} else if (type[c]) {
					size_t k = draw(sizeof texts / sizeof *texts);
					tg_buf_cstr(&csv, texts[k][0]);
					tg_buf_fmt(&json, "\"%s\"", texts[k][1]);
				} else {
					tg_buf_fmt(&csv, "%s%s", before[draw(5)], number);
					tg_buf_cstr(&json, number);
				}
			}
			tg_buf_cstr(&csv, r + 1 < rows || draw(2) ? end : "");
			tg_buf_char(&json, ']');
		}
		tg_buf_lit(&json, "]}}");
		struct outcome a = read_all_ways(CSV, tg_buf_view(&csv)), b = read_all_ways(TG_INTAKE_TRAIN, tg_buf_view(&json));
		if (!a.ok || !b.ok || strcmp(a.hash, b.hash) != 0)
			fail_msg(TG_SLICE_FMT "\n" TG_SLICE_FMT "\n%s %s %s %s", TG_SLICE_ARG(tg_buf_view(&csv)), TG_SLICE_ARG(tg_buf_view(&json)), a.fault.field, a.fault.why, b.fault.field, b.fault.why);
		outcome_free(&a);
		outcome_free(&b);
	}
	tg_buf_free(&csv);
	tg_buf_free(&json);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_faults), cmocka_unit_test(test_same_as_json), cmocka_unit_test(test_cells), cmocka_unit_test(test_whole_numbers), cmocka_unit_test(test_bounds), cmocka_unit_test(test_drawn),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
