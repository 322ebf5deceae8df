/*
 * JSON bodies with tables (ledger S3-57, S3-60, S3-67, S3-72, S3-82): what is taken, what is refused and in which words, the same however a body is cut. Tables drawn by chance are compared with
 * what jansson reads.
 */
#include "intake_fixture.h"

#include <jansson.h>

struct row {
	enum tg_intake_kind kind;
	const char *body, *field, *why;
};
#define T TG_INTAKE_TRAIN
#define P TG_INTAKE_PREDICT
#define CT TG_INTAKE_CREDIT_TRAIN
#define CP TG_INTAKE_CREDIT_PREDICT

static void refused(const struct row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		struct outcome o = read_all_ways(rows[i].kind, tg_slice_cstr(rows[i].body));
		if (o.ok || strcmp(o.fault.field, rows[i].field) != 0 || strcmp(o.fault.why, rows[i].why) != 0)
			fail_msg("%s\n: %s: %s", rows[i].body, o.ok ? "taken" : o.fault.field, o.fault.why);
		outcome_free(&o);
	}
}
#define REFUSED(rows) refused(rows, sizeof rows / sizeof *rows)

static void test_table_faults(void **state)
{
	(void)state;
	static const char cell[] = "must be a number, a string, true, false or null";
	static const struct row rows[] = {
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\",\"c\"],\"data\":[[1,2,3],[1,2,3],[1,2,3],[1,2]]}}", "data.data[3]", "has 2 cells, 3 columns were named" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1,2]]}}", "data.data[0]", "has 2 cells, 1 column was named" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\"],\"data\":[[ ]]}}", "data.data[0]", "has 0 cells, 2 columns were named" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\"],\"data\":[[1]]}}", "data.data[0]", "has 1 cell, 2 columns were named" },
		{ T, "{\"data\":{\"data\":[[1,2],[3]],\"columns\":[\"a\",\"b\"]}}", "data.data[1]", "has 1 cell, the first row has 2" },
		{ T, "{\"data\":{\"data\":[[1,2],[3,4]],\"columns\":[\"a\"]}}", "data.data[0]", "has 2 cells, 1 column was named" },
		{ T, "{\"data\":{\"data\":[[],[3]],\"columns\":[\"a\"]}}", "data.data[1]", "has 1 cell, the first row has 0" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\"],\"data\":[[1,2],[3,[4]]]}}", "data.data[1][1]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\"],\"data\":[[1,2],[3,{}]]}}", "data.data[1][1]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[NaN]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[Infinity]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[-Infinity]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[01]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1.]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[.5]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1e]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[-]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1x]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[nul]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[True]]}}", "data.data[0][0]", cell },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1e400]]}}", "data.data[0][0]", "must be a finite number" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1],[-1e400]]}}", "data.data[1][0]", "must be a finite number" },
		{ T, "{\"data\":{\"columns\":[\"rainfall\"],\"data\":[[1],[null],[\"x\"]]}}", "data.data[2][0]", "is text, the column rainfall holds numbers" },
		{ T, "{\"data\":{\"columns\":[\"town\"],\"data\":[[null],[\"x\"],[2.5]]}}", "data.data[2][0]", "is a number, the column town holds texts" },
		{ T, "{\"data\":{\"columns\":[\"town\"],\"data\":[[\"x\"],[true]]}}", "data.data[1][0]", "is true or false, the column town holds texts" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[true],[\"x\"]]}}", "data.data[1][0]", "is text, the column a holds numbers" },
		{ T, "{\"data\":{\"data\":[[1],[\"x\"]],\"columns\":[\"a\"]}}", "data.data[1][0]", "is text, its column holds numbers" },
		{ T, "{\"data\":{\"columns\":[\"a\\n\\u007f\"],\"data\":[[1],[\"\"]]}}", "data.data[1][0]", "is text, the column a?? holds numbers" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\",\"a\"],\"data\":[]}}", "data.columns[2]", "is the name of a column before it" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"\\u0061\"],\"data\":[]}}", "data.columns[1]", "is the name of a column before it" },
		{ T, "{\"data\":{\"columns\":[\"a\",\"\"],\"data\":[]}}", "data.columns[1]", "must not be empty" },
		{ T, "{\"data\":{\"columns\":[\"a\\u0000b\"],\"data\":[]}}", "data.columns[0]", "must not hold a NUL" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[\"b\"],[\"x\\u0000y\"]]}}", "data.data[1][0]", "must not hold a NUL" },
		{ P, "{\"historic\":{\"columns\":[\"a\"],\"data\":[[\"\\u0000\"]]},\"future\":{\"columns\":[\"a\"],\"data\":[]}}", "historic.data[0][0]", "must not hold a NUL" },
		{ T, "{\"data\":{\"columns\":[1],\"data\":[]}}", "data.columns[0]", "must be a string" },
		{ T, "{\"data\":{\"columns\":[\"a\",null],\"data\":[]}}", "data.columns[1]", "must be a string" },
		{ T, "{\"data\":{\"columns\":[[\"a\"]],\"data\":[]}}", "data.columns[0]", "must be a string" },
		{ T, "{\"data\":{\"columns\":[],\"data\":[]}}", "data.columns", "must name at least one column" },
		{ P, "{\"historic\":{\"columns\":[],\"data\":[]},\"future\":{\"columns\":[],\"data\":[]}}", "future.columns", "must name at least one column" },
		{ T, "{\"data\":{\"columns\":\"a\",\"data\":[]}}", "data.columns", "must be an array of names" },
		{ T, "{\"data\":{\"columns\":null,\"data\":[]}}", "data.columns", "must be an array of names" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":{}}}", "data.data", "must be an array of rows" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[1]}}", "data.data[0]", "must be an array of cells" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1],{\"a\":1}]}}", "data.data[1]", "must be an array of cells" },
		{ T, "{\"data\":{\"columns\":[\"a\"]}}", "data.data", "is required" },
		{ T, "{\"data\":{\"data\":[]}}", "data.columns", "is required" },
		{ T, "{\"data\":{}}", "data.columns", "is required" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"columns\":[\"a\"],\"data\":[]}}", "data.columns", "is given twice" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[],\"d\\u0061ta\":[]}}", "data.data", "is given twice" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[],\"index\":[]}}", "data.index", "is not known: a table has columns and data" },
		{ T, "{\"data\":[[1]]}", "data", "must be an object with columns and data" },
		{ T, "{\"data\":null}", "data", "must be an object with columns and data" },
		{ T, "{}", "data", "is required" },
		{ T, "{\"config_id\":\"x\"}", "data", "is required" },
		{ P, "{}", "historic", "is required" },
		{ P, "{\"historic\":{\"columns\":[\"a\"],\"data\":[]}}", "future", "is required" },
		{ P, "{\"historic\":{\"columns\":[\"a\"],\"data\":[[1],[1,2]]}}", "historic.data[1]", "has 2 cells, 1 column was named" },
		{ P, "{\"historic\":{\"columns\":[\"a\"],\"data\":[[1],[\"x\"]]}}", "historic.data[1][0]", "is text, the column a holds numbers" },
		{ P, "{\"historic\":null}", "historic", "must be an object with columns and data" },
		{ P, "{\"future\":{\"columns\":[\"a\"],\"data\":[[1],[[]]]}}", "future.data[1][0]", cell },
	};
	REFUSED(rows);
}

static void test_no_json(void **state)
{
	(void)state;
	static const struct row rows[] = {
		{ T, "", "", "is no valid JSON: unexpected end at byte 0" },
		{ T, "  ", "", "is no valid JSON: unexpected end at byte 2" },
		{ T, "[]", "", "is no valid JSON: the document is not an object at byte 0" },
		{ T, "\xef\xbb\xbf{}", "", "is no valid JSON: the document is not an object at byte 0" },
		{ T, "{\"a\":1,}", "", "is no valid JSON: member name expected at byte 7" },
		{ T, "{a:1}", "", "is no valid JSON: member name expected at byte 1" },
		{ T, "{\"a\" 1}", "", "is no valid JSON: colon expected at byte 5" },
		{ T, "{\"a\":1 \"b\":2}", "", "is no valid JSON: comma or } expected at byte 7" },
		{ T, "{\"a\":}", "", "is no valid JSON: value expected at byte 5" },
		{ T, "{\"a\":[1,]}", "", "is no valid JSON: value expected at byte 8" },
		{ T, "{\"a\":NaN}", "", "is no valid JSON: value expected at byte 5" },
		{ T, "{\"a\":\"\x80\"}", "", "is no valid JSON: invalid UTF-8 at byte 6" },
		{ T, "{\"\xc0\xaf\":1}", "", "is no valid JSON: invalid UTF-8 at byte 1" },
		{ T, "{\"a\":\"x", "", "is no valid JSON: unexpected end at byte 7" },
		{ T, "{\"data\":}", "", "is no valid JSON: value expected at byte 8" },
		{ T, "{\"data\":{]", "", "is no valid JSON: member name expected at byte 9" },
		{ T, "{\"data\":{\"columns\":[\"a\",]", "", "is no valid JSON: value expected at byte 24" },
		{ T, "{\"data\":{\"columns\":[\"a\" \"b\"]", "", "is no valid JSON: comma or ] expected at byte 24" },
		{ T, "{\"data\":{\"columns\":[\"a\\x\"]", "", "is no valid JSON: invalid escape at byte 20" },
		{ T, "{\"data\":{\"columns\":[\"\\ud800\"]", "", "is no valid JSON: lone surrogate at byte 20" },
		{ T, "{\"data\":{\"columns\":[\"\\udc00\"]", "", "is no valid JSON: lone surrogate at byte 20" },
		{ T, "{\"data\":{\"columns\":[\"\t\"]", "", "is no valid JSON: control character in string at byte 20" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[\"\xed\xa0\x80\"]]}}", "", "is no valid JSON: invalid UTF-8 at byte 34" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1,]]}}", "", "is no valid JSON: value expected at byte 36" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[,1]]}}", "", "is no valid JSON: value expected at byte 34" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1 2]]}}", "", "is no valid JSON: comma or ] expected at byte 36" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1\"x\"]]}}", "", "is no valid JSON: comma or ] expected at byte 35" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]", "", "is no valid JSON: unexpected end at byte 36" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1][2]]}}", "", "is no valid JSON: comma or ] expected at byte 36" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1],]}}", "", "is no valid JSON: value expected at byte 37" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}", "", "is no valid JSON: unexpected end at byte 38" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}}x", "", "is no valid JSON: data after the document at byte 39" },
		{ T, "{\"a\":1,\"\\u0061\":2}", "a", "is given twice" },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[]},\"data\":1}", "data", "is given twice" },
		{ P, "{\"geo\":1,\"geo\":2}", "geo", "is given twice" },
		{ T, "{\"geo\":1,\"geo\":2}", "geo", "is given twice" },
		{ P, "{\"geo\":[}", "", "is no valid JSON: value expected at byte 8" },
		{ CT, "{\"data\":nul}", "", "is no valid JSON: value expected at byte 8" },
		{ CT, "{\"data\":nullx}", "", "is no valid JSON: value expected at byte 8" },
	};
	REFUSED(rows);
}

static void test_nul_bytes(void **state)
{
	(void)state;
	static const char body[] = "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}}";
	for (size_t i = 0; i < sizeof body - 1; i++) {
		char b[sizeof body];
		memcpy(b, body, sizeof body);
		b[i] = 0;
		struct outcome o = read_all_ways(T, (struct tg_slice){ b, sizeof body - 1 });
		assert_false(o.ok);
	}
}

/* The documents' own bodies, and all there is to a table. */
static void test_taken(void **state)
{
	(void)state;
	struct outcome o = read_all_ways(T, TG_S("{\"config_id\":\"01K72PWT05GEXK1S24AVKAZ9VF\",\"data\":{\"columns\":[\"rainfall\",\"mean_temperature\",\"disease_cases\"],"
		"\"data\":[[10,25.5,5],[15,28.0,8],[8,22.1,3],[20,30.2,12],[12,26.8,6],[18,29.1,10],[5,20.5,2],[22,31.0,15]]}}"));
	assert_true(o.ok);
	assert_string_equal(o.members, "{\"config_id\":\"01K72PWT05GEXK1S24AVKAZ9VF\"}");
	assert_int_equal(o.frame->rows, 8);
	assert_int_equal(o.frame->ncolumns, 3);
	assert_null(o.frame->ends);
	const struct tg_column *c = tg_frame_column(o.frame, "mean_temperature");
	assert_true(c && c->type == TG_COLUMN_NUMBER && !c->integers && c->number[6] == 20.5 && c->nulls == 0);
	assert_true(o.frame->columns[0].integers);
	outcome_free(&o);

	o = read_all_ways(P, TG_S(" { \"geo\" : {\"type\":\"FeatureCollection\",\"features\":[1,[2]]}, \"model_artifact_id\" : \"x\", \"historic\":{\"columns\":[\"a\",\"b\"],\"data\":[]},\n"
		"\"future\":{\"data\":[[11.0 , \"Z\\u00fcrich\"],[ 12,null ],[1.50e+2,\"\"]],\"columns\":[\"rain\",\"town\"]},\"n\":[1, {\"x\":null}]} "));
	assert_true(o.ok);
	assert_string_equal(o.members, "{\"model_artifact_id\":\"x\",\"n\":[1, {\"x\":null}]}");
	static const char *const lines[] = { "11.0,\"Z\\u00fcrich\"", "12,null", "1.50e+2,\"\"" };
	for (unsigned i = 0; i < 3; i++)
		assert_true(tg_slice_eq(tg_frame_line(o.frame, i), tg_slice_cstr(lines[i])));
	c = tg_frame_column(o.frame, "town");
	assert_true(c && c->type == TG_COLUMN_TEXT && c->nwords == 2 && c->nulls == 1 && c->word[1] == TG_FRAME_NO_WORD);
	assert_true(tg_slice_eq(c->words[0], TG_S("Z\xc3\xbcrich")) && c->words[1].n == 0);
	c = tg_frame_column(o.frame, "rain");
	assert_true(c && !c->integers && c->number[2] == 150);
	outcome_free(&o);

	static const struct {
		enum tg_intake_kind kind;
		const char *body;
		unsigned rows, columns; /* columns 0: no frame */
		enum tg_column_type first;
	} rows[] = {
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[]}}", 0, 1, TG_COLUMN_EMPTY },
		{ T, "{\"data\":{\"data\":[],\"columns\":[\"a\",\"b\"]}}", 0, 2, TG_COLUMN_EMPTY },
		{ T, "{\"data\":{\"columns\":[\"a\",\"b\",\"c\",\"d\"],\"data\":[[null,1,2,3]]}}", 1, 4, TG_COLUMN_EMPTY },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[null],[true],[false],[3]]}}", 4, 1, TG_COLUMN_NUMBER },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[\"NaN\"],[\"1\"]]}}", 2, 1, TG_COLUMN_TEXT },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[5],[5],[5]]}}", 3, 1, TG_COLUMN_NUMBER },
		{ P, "{\"historic\":{\"columns\":[],\"data\":[]},\"future\":{\"columns\":[\"a\"],\"data\":[]}}", 0, 1, TG_COLUMN_EMPTY },
		{ P, "{\"future\":{\"columns\":[\"a\"],\"data\":[[1]]},\"historic\":{\"columns\":[\"a\"],\"data\":[[\"x\"],[null]]},\"geo\":null}", 1, 1, TG_COLUMN_NUMBER },
		{ T, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]},\"geo\":null}", 1, 1, TG_COLUMN_NUMBER },
		{ T, "{\"geo\":{\"type\":\"FeatureCollection\",\"features\":[]},\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}}", 1, 1, TG_COLUMN_NUMBER },
		{ CT, "{}", 0, 0, 0 }, { CT, "{\"data\":null}", 0, 0, 0 }, { CT, " {\"data\" : null , \"x\":1 } ", 0, 0, 0 },
		{ CT, "{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}}", 1, 1, TG_COLUMN_NUMBER },
		{ CP, "{\"data\":{\"columns\":[\"a\"],\"data\":[[\"x\"]]},\"applications\":null}", 1, 1, TG_COLUMN_TEXT },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		o = read_all_ways(rows[i].kind, tg_slice_cstr(rows[i].body));
		if (!o.ok)
			fail_msg("%s: %s %s", rows[i].body, o.fault.field, o.fault.why);
		assert_int_equal(o.frame != NULL, rows[i].columns != 0);
		assert_int_equal(strlen(o.hash), rows[i].columns ? 64 : 0);
		if (o.frame) {
			assert_int_equal(o.frame->rows, rows[i].rows);
			assert_int_equal(o.frame->ncolumns, rows[i].columns);
			assert_int_equal(o.frame->columns[0].type, rows[i].first);
			assert_int_equal(o.frame->ends != NULL, rows[i].kind == P || rows[i].kind == CP);
		}
		outcome_free(&o);
	}
}

#define APP "\"person_age\":22,\"person_income\":59000,\"person_emp_length\":123.0,\"loan_amnt\":35000,\"loan_int_rate\":16.02,\"loan_percent_income\":0.59," \
	"\"cb_person_cred_hist_length\":3,\"person_home_ownership\":\"RENT\",\"loan_intent\":\"PERSONAL\",\"loan_grade\":\"D\""

static void test_applications(void **state)
{
	(void)state;
	struct outcome o = read_all_ways(CP, TG_S("{\"model_id\":\"x\",\"applications\":[{" APP ",\"cb_person_default_on_file\":\"Y\"}, {\"cb_person_default_on_file\":\"\\u004e\",\n" APP " }]}"));
	if (!o.ok)
		fail_msg("%s %s", o.fault.field, o.fault.why);
	assert_int_equal(o.frame->rows, 2);
	assert_int_equal(o.frame->ncolumns, 11);
	assert_string_equal(o.frame->columns[0].name, "person_age");
	assert_string_equal(o.frame->columns[10].name, "cb_person_default_on_file");
	assert_true(tg_slice_eq(tg_frame_line(o.frame, 1), TG_S("22,59000,123.0,35000,16.02,0.59,3,\"RENT\",\"PERSONAL\",\"D\",\"\\u004e\"")));
	assert_string_equal(o.members, "{\"model_id\":\"x\"}");
	outcome_free(&o);

	static const struct row rows[] = {
		{ CP, "{}", "applications", "is required, or data" },
		{ CP, "{\"data\":null}", "applications", "is required, or data" },
		{ CP, "{\"applications\":[]}", "applications", "must hold at least one application" },
		{ CP, "{\"applications\":{}}", "applications", "must be an array of applications" },
		{ CP, "{\"applications\":[1]}", "applications[0]", "must be an object" },
		{ CP, "{\"applications\":[{}]}", "applications[0].person_age", "is required" },
		{ CP, "{\"applications\":[{" APP "}]}", "applications[0].cb_person_default_on_file", "is required" },
		{ CP, "{\"applications\":[{" APP ",\"cb_person_default_on_file\":\"Y\"},{\"person_age\":17}]}", "applications[1].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":121}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":30.5}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":\"30\"}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":true}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":null}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_age\":[30]}]}", "applications[0].person_age", "must be a whole number from 18 to 120" },
		{ CP, "{\"applications\":[{\"person_income\":0}]}", "applications[0].person_income", "must be a number above 0" },
		{ CP, "{\"applications\":[{\"person_income\":1e400}]}", "applications[0].person_income", "must be a number above 0" },
		{ CP, "{\"applications\":[{\"person_emp_length\":-1}]}", "applications[0].person_emp_length", "must be a number from 0 up" },
		{ CP, "{\"applications\":[{\"loan_int_rate\":100.1}]}", "applications[0].loan_int_rate", "must be a number from 0 to 100" },
		{ CP, "{\"applications\":[{\"loan_percent_income\":1.01}]}", "applications[0].loan_percent_income", "must be a number from 0 to 1" },
		{ CP, "{\"applications\":[{\"loan_grade\":\"H\"}]}", "applications[0].loan_grade", "must be one of A, B, C, D, E, F, G" },
		{ CP, "{\"applications\":[{\"loan_grade\":\"\"}]}", "applications[0].loan_grade", "must be one of A, B, C, D, E, F, G" },
		{ CP, "{\"applications\":[{\"loan_grade\":\"A B\"}]}", "applications[0].loan_grade", "must be one of A, B, C, D, E, F, G" },
		{ CP, "{\"applications\":[{\"person_home_ownership\":\"rent\"}]}", "applications[0].person_home_ownership", "must be one of RENT, OWN, MORTGAGE, OTHER" },
		{ CP, "{\"applications\":[{\"cb_person_default_on_file\":false}]}", "applications[0].cb_person_default_on_file", "must be one of Y, N" },
		{ CP, "{\"applications\":[{\"loan_intent\":{}}]}", "applications[0].loan_intent",
			"must be one of DEBTCONSOLIDATION, EDUCATION, HOMEIMPROVEMENT, MEDICAL, PERSONAL, VENTURE" },
		{ CP, "{\"applications\":[{\"shoe_size\":43}]}", "applications[0].shoe_size", "is not known" },
		{ CP, "{\"applications\":[{\"person_age\":30,\"person_age\":30}]}", "applications[0].person_age", "is given twice" },
		{ CP, "{\"applications\":[{" APP ",\"cb_person_default_on_file\":\"Y\"}],\"data\":{}}", "data", "cannot be given together with applications" },
		{ CP, "{\"data\":{\"columns\":[\"a\"],\"data\":[]},\"applications\":[]}", "applications", "cannot be given together with data" },
		{ CP, "{\"applications\":[{\"person_age\":}]}", "", "is no valid JSON: value expected at byte 31" },
		{ CP, "{\"applications\":[{\"person_age\":30,}]}", "", "is no valid JSON: member name expected at byte 34" },
		{ CP, "{\"applications\":[,]}", "", "is no valid JSON: value expected at byte 17" },
	};
	REFUSED(rows);
}

/* A body with something long in it. */
static struct outcome with(enum tg_intake_kind kind, const char *before, char fill, size_t n, const char *after)
{
	char *b = malloc(strlen(before) + n + strlen(after) + 1);
	size_t k = strlen(before);
	memcpy(b, before, k);
	memset(b + k, fill, n);
	memcpy(b + k + n, after, strlen(after) + 1);
	struct outcome o = read_all_ways(kind, tg_slice_cstr(b));
	free(b);
	return o;
}

static void test_bounds(void **state)
{
	(void)state;
	static const struct {
		const char *before, *after;
		char fill;
		size_t n; /* the most that is taken */
		const char *field, *why;
	} rows[] = {
		{ "{\"data\":{\"columns\":[\"", "\"],\"data\":[]}}", 'n', 256, "data.columns[0]", "is longer than 256 bytes" },
		{ "{\"data\":{\"columns\":[\"a\"],\"data\":[[\"", "\"]]}}", 't', 65536, "data.data[0][0]", "is longer than 65536 bytes" },
		{ "{\"data\":{\"columns\":[\"a\"],\"data\":[[0.", "]]}}", '3', 1022, "data.data[0][0]", "is longer than 1024 characters" },
		{ "{\"x\":\"", "\",\"data\":{\"columns\":[\"a\"],\"data\":[]}}", 'm', 65528, "x", "makes what is beside the tables longer than 65536 bytes" },
		{ "{\"", "\":1,\"data\":{\"columns\":[\"a\"],\"data\":[]}}", 'm', 256, "", "has a member with a name longer than 256 bytes" },
		{ "{\"data\":{\"columns\":[\"a\"],\"data\":[]},\"x\":1", "}", ' ', 100000, NULL, NULL },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct outcome o = with(T, rows[i].before, rows[i].fill, rows[i].n, rows[i].after);
		if (!o.ok)
			fail_msg("%zu: %s %s", i, o.fault.field, o.fault.why);
		outcome_free(&o);
		for (size_t more = 1; rows[i].why && more <= 10000; more *= 100) {
			o = with(T, rows[i].before, rows[i].fill, rows[i].n + more, rows[i].after);
			if (o.ok || strcmp(o.fault.why, rows[i].why) != 0 || strcmp(o.fault.field, rows[i].field) != 0)
				fail_msg("%zu + %zu: %s %s", i, more, o.fault.field, o.fault.why);
			outcome_free(&o);
		}
	}
	/* What is dropped is not bounded but by the body. */
	struct outcome o = with(P, "{\"geo\":\"", 'g', 300000, "\",\"historic\":{\"columns\":[\"a\"],\"data\":[]},\"future\":{\"columns\":[\"a\"],\"data\":[]}}");
	assert_true(o.ok);
	outcome_free(&o);
}

static void test_counts(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 20);
	for (int more = 0; more < 2; more++) { /* columns */
		b.len = 0;
		tg_buf_lit(&b, "{\"data\":{\"columns\":[");
		for (int i = 0; i < 4096 + more; i++)
			tg_buf_fmt(&b, "%s\"c%d\"", i ? "," : "", i);
		tg_buf_lit(&b, "],\"data\":[]}}");
		struct outcome o = read_all_ways(T, tg_buf_view(&b));
		assert_int_equal(o.ok, !more);
		assert_string_equal(o.fault.field, more ? "data.columns[4096]" : "");
		assert_string_equal(o.fault.why, more ? "is one more than the 4096 columns that a table may have" : "");
		outcome_free(&o);
		b.len = 0;
		tg_buf_lit(&b, "{\"data\":{\"data\":[[");
		for (int i = 0; i < 4096 + more; i++)
			tg_buf_fmt(&b, "%s%d", i ? "," : "", i);
		tg_buf_lit(&b, "]]");
		o = read_all_ways(T, tg_buf_view(&b));
		assert_string_equal(o.fault.why, more ? "is one more than the 4096 columns that a table may have" : "is no valid JSON: unexpected end at byte 19389");
		outcome_free(&o);
		b.len = 0;
		for (int i = 0; i < 64 + more; i++)
			tg_buf_fmt(&b, "%s\"m%d\":%d", i ? "," : "{", i, i);
		tg_buf_char(&b, '}');
		o = read_all_ways(CT, tg_buf_view(&b));
		assert_int_equal(o.ok, !more);
		assert_string_equal(o.fault.why, more ? "has more than 64 members" : "");
		outcome_free(&o);
	}
	for (unsigned depth = 63; depth <= 64; depth++) { /* of what is no table */
		b.len = 0;
		tg_buf_lit(&b, "{\"x\":");
		for (unsigned i = 0; i < depth; i++)
			tg_buf_char(&b, '[');
		for (unsigned i = 0; i < depth; i++)
			tg_buf_char(&b, ']');
		tg_buf_char(&b, '}');
		struct outcome o = read_all_ways(CT, tg_buf_view(&b));
		assert_int_equal(o.ok, depth == 63);
		assert_string_equal(o.fault.why, depth == 63 ? "" : "is no valid JSON: nested too deeply at byte 68");
		outcome_free(&o);
	}
	tg_buf_free(&b);
}

static void test_max_bytes(void **state)
{
	(void)state;
	struct tg_slice body = TG_S("{\"data\":{\"columns\":[\"a\"],\"data\":[[1]]}}");
	for (size_t most = 0; most < 4; most++) {
		struct outcome o = read_body(T, body, most, body.n);
		assert_true(o.ok);
		outcome_free(&o);
		o = read_body(T, body, most, body.n - 1);
		assert_false(o.ok);
		assert_true(o.fault.too_large);
		assert_string_equal(o.fault.why, "is longer than 38 bytes");
		o = read_body(T, TG_S("{\"data\":{\"columns\":[]          "), most, 23); /* the fault before the bound */
		assert_false(o.ok || o.fault.too_large);
	}
	/* Ended twice: there is no second frame. */
	struct tg_frame_reader *r = tg_frame_reader_new(T, 1000);
	struct tg_intake_fault f;
	struct tg_frame *frame = NULL;
	struct tg_slice members;
	char hash[65];
	assert_true(tg_frame_reader_feed(r, body.p, body.n, &f) && tg_frame_reader_end(r, &frame, &members, hash, &f));
	tg_frame_free(frame);
	assert_false(tg_frame_reader_end(r, &frame, &members, hash, &f));
	assert_null(frame);
	tg_frame_reader_free(r);
	tg_frame_reader_free(NULL);
}

/* ---- tables drawn by chance, against jansson ---- */

static const char *const names[] = { "a", "b", "rainfall", "\\u00e4", "\xc3\xa4", "\xe5\x9f\x8e", "x\\n", "", "\\ud83d\\ude00", "a b", "\\\"", "n\\u0061me" };
static const char *const numbers[] = { "0", "-0", "12", "110.0", "-3.25", "1e5", "1E-7", "123456789012345678901234567890", "0.1", "2.2250738585072014e-308", "4.9e-324", "1e-400",
	"1.7976931348623157e308", "9007199254740993", "0.30000000000000004", "17976931348623157e292", "3.14159265358979323846264338327950288" };
static const char *const texts[] = { "\"x\"", "\"\"", "\"NaN\"", "\"12\"", "\"Z\\u00fcrich\"", "\"\xc3\xbc\"", "\"\\ud83d\\ude00\"", "\"a\\\\\\\"b\"", "\"null\"" };
static const char *const odd[] = { "[]", "{}", "1e400", "NaN", "[1,2]", "01", "\"\xff\"", "tru", "{\"a\":[]}" };
#define PICK(list) list[draw(sizeof list / sizeof *list)]

static void put_space(struct tg_buf *b)
{
	static const char *const spaces[] = { "", "", "", "", "", " ", "\n", "\t ", "\r\n" };
	tg_buf_cstr(b, PICK(spaces));
}

static void put_cell(struct tg_buf *b, unsigned type, unsigned faulty)
{
	put_space(b);
	if (faulty && !draw(faulty))
		tg_buf_cstr(b, PICK(odd));
	else if (type == 2 || !draw(6))
		tg_buf_lit(b, "null");
	else if ((type == 1) != (faulty && !draw(2 * faulty)))
		tg_buf_cstr(b, PICK(texts));
	else if (!draw(8))
		tg_buf_cstr(b, draw(2) ? "true" : "false");
	else if (draw(2))
		tg_buf_cstr(b, PICK(numbers));
	else
		tg_buf_fmt(b, "%.*g", (int)(1 + draw(18)), ldexp((double)draw(UINT64_MAX) - 9e18, (int)draw(160) - 120));
	put_space(b);
}

static void put_columns(struct tg_buf *b, unsigned n, unsigned faulty)
{
	tg_buf_lit(b, "\"columns\":[");
	for (unsigned i = 0; i < n; i++) {
		if (i)
			tg_buf_char(b, ',');
		put_space(b);
		if (faulty && !draw(faulty))
			tg_buf_cstr(b, draw(2) ? "1" : "null");
		else if (faulty && !draw(3))
			tg_buf_fmt(b, "\"%s\"", PICK(names));
		else
			tg_buf_fmt(b, "\"%s%u\"", PICK(names), i);
	}
	tg_buf_char(b, ']');
}

static void put_rows(struct tg_buf *b, unsigned rows, unsigned n, unsigned faulty)
{
	unsigned type[16];
	for (unsigned i = 0; i < 16; i++)
		type[i] = (unsigned)draw(8) < 6 ? (unsigned)draw(2) : 2;
	tg_buf_lit(b, "\"data\" : [");
	for (unsigned r = 0; r < rows; r++) {
		unsigned cells = n;
		if (faulty && !draw(faulty))
			cells = (unsigned)draw(n + 3);
		if (r)
			tg_buf_char(b, ',');
		put_space(b);
		tg_buf_char(b, '[');
		for (unsigned i = 0; i < cells; i++) {
			if (i)
				tg_buf_char(b, ',');
			put_cell(b, type[i % 16], faulty ? 4 * faulty : 0);
		}
		if (!cells)
			put_space(b);
		tg_buf_char(b, ']');
		put_space(b);
	}
	tg_buf_char(b, ']');
}

/* What the body's table must be, by jansson's tree, in the order in which it was written. */
struct expected {
	char field[160], why[256];
};

__attribute__((format(printf, 3, 4))) static void expect(struct expected *e, const char *why, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->field, sizeof e->field, fmt, ap);
	va_end(ap);
	snprintf(e->why, sizeof e->why, "%s", why);
}

static void ragged(struct expected *e, size_t row, size_t cells, size_t columns, bool named)
{
	char why[200];
	if (named)
		snprintf(why, sizeof why, "has %zu cell%s, %zu column%s named", cells, cells == 1 ? "" : "s", columns, columns == 1 ? " was" : "s were");
	else
		snprintf(why, sizeof why, "has %zu cell%s, the first row has %zu", cells, cells == 1 ? "" : "s", columns);
	expect(e, why, "data.data[%zu]", row);
}

static bool names_wrong(const json_t *columns, struct expected *e)
{
	for (size_t i = 0; i < json_array_size(columns); i++) {
		const json_t *name = json_array_get(columns, i);
		if (!json_is_string(name)) {
			expect(e, "must be a string", "data.columns[%zu]", i);
			return true;
		}
		for (size_t k = 0; k < i; k++)
			if (strcmp(json_string_value(json_array_get(columns, k)), json_string_value(name)) == 0) {
				expect(e, "is the name of a column before it", "data.columns[%zu]", i);
				return true;
			}
		if (!json_string_length(name)) {
			expect(e, "must not be empty", "data.columns[%zu]", i);
			return true;
		}
	}
	if (!json_array_size(columns))
		expect(e, "must name at least one column", "data.columns");
	return !json_array_size(columns);
}

static bool rows_wrong(const json_t *data, const json_t *columns, struct expected *e)
{
	char kind[64] = "";
	size_t n = columns ? json_array_size(columns) : json_array_size(json_array_get(data, 0));
	for (size_t r = 0; r < json_array_size(data); r++) {
		const json_t *row = json_array_get(data, r);
		for (size_t i = 0; i < json_array_size(row); i++) {
			const json_t *cell = json_array_get(row, i);
			char is = json_is_string(cell) ? 't' : json_is_null(cell) ? 0 : 'n', why[256], cut[80];
			if (json_is_array(cell) || json_is_object(cell)) {
				expect(e, "must be a number, a string, true, false or null", "data.data[%zu][%zu]", r, i);
				return true;
			}
			if (i >= n || !is)
				continue;
			if (kind[i] && kind[i] != is) {
				const char *name = columns ? json_string_value(json_array_get(columns, i)) : NULL;
				snprintf(cut, sizeof cut, "%s", name ? name : "");
				for (char *c = cut; *c; c++)
					if ((unsigned char)*c < 0x20)
						*c = '?';
				snprintf(why, sizeof why, "%s, %s%s holds %s", is == 't' ? "is text" : json_is_boolean(cell) ? "is true or false" : "is a number",
					name ? "the column " : "its column", cut, kind[i] == 't' ? "texts" : "numbers");
				expect(e, why, "data.data[%zu][%zu]", r, i);
				return true;
			}
			kind[i] = is;
		}
		if (json_array_size(row) != n) {
			ragged(e, r, json_array_size(row), n, columns != NULL);
			return true;
		}
	}
	return false;
}

static void expect_table(const json_t *table, struct expected *e)
{
	const json_t *columns = json_object_get(table, "columns"), *data = json_object_get(table, "data");
	bool first = strcmp(json_object_iter_key(json_object_iter((json_t *)(uintptr_t)table)), "columns") == 0;
	*e = (struct expected){ "", "" };
	if (first ? names_wrong(columns, e) || rows_wrong(data, columns, e) : rows_wrong(data, NULL, e) || names_wrong(columns, e))
		return;
	if (!first && json_array_size(data) && json_array_size(json_array_get(data, 0)) != json_array_size(columns))
		ragged(e, 0, json_array_size(json_array_get(data, 0)), json_array_size(columns), true);
}

static void same_as_tree(const struct tg_frame *f, const json_t *table)
{
	const json_t *columns = json_object_get(table, "columns"), *data = json_object_get(table, "data");
	assert_int_equal(f->rows, json_array_size(data));
	assert_int_equal(f->ncolumns, json_array_size(columns));
	for (unsigned i = 0; i < f->ncolumns; i++) {
		const struct tg_column *c = &f->columns[i];
		uint64_t nulls = 0;
		assert_string_equal(c->name, json_string_value(json_array_get(columns, i)));
		for (uint64_t r = 0; r < f->rows; r++) {
			const json_t *cell = json_array_get(json_array_get(data, r), i);
			nulls += json_is_null(cell) ? 1 : 0;
			if (json_is_string(cell)) {
				assert_int_equal(c->type, TG_COLUMN_TEXT);
				assert_true(tg_slice_eq(c->words[c->word[r]], (struct tg_slice){ json_string_value(cell), json_string_length(cell) }));
			} else if (json_is_null(cell)) {
				assert_true(c->type == TG_COLUMN_EMPTY || (c->type == TG_COLUMN_NUMBER ? isnan(c->number[r]) : c->word[r] == TG_FRAME_NO_WORD));
			} else {
				double v = json_is_number(cell) ? json_number_value(cell) : json_is_true(cell);
				assert_int_equal(c->type, TG_COLUMN_NUMBER);
				assert_memory_equal(&v, &c->number[r], sizeof v);
			}
		}
		assert_int_equal(c->nulls, nulls);
		assert_int_equal(c->type == TG_COLUMN_EMPTY, nulls == f->rows);
	}
}

static void test_against_jansson(void **state)
{
	(void)state;
	unsigned taken = 0, faults = 0, no_json = 0;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 20);
	for (int round = 0; round < 1500; round++) {
		unsigned n = (unsigned)draw(7), rows = (unsigned)draw(draw(4) ? 6 : 40), faulty = draw(2) ? (unsigned)(4 + draw(30)) : 0;
		bool first = draw(2);
		b.len = 0;
		tg_buf_lit(&b, "{\"x\":[1,{\"data\":[]}],\"data\":{");
		if (first) {
			put_columns(&b, n, faulty);
			tg_buf_char(&b, ',');
		}
		put_rows(&b, rows, n, faulty);
		if (!first) {
			tg_buf_char(&b, ',');
			put_columns(&b, n, faulty);
		}
		tg_buf_lit(&b, "}}");
		json_t *root = json_loadb(b.p, b.len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES | JSON_DECODE_INT_AS_REAL, NULL);
		struct outcome o = read_all_ways(T, tg_buf_view(&b));
		struct expected e;
		if (!root) {
			no_json++;
			if (o.ok)
				fail_msg("taken, and no JSON: " TG_SLICE_FMT, TG_SLICE_ARG(tg_buf_view(&b)));
		} else {
			expect_table(json_object_get(root, "data"), &e);
			if (o.ok != !e.why[0] || strcmp(o.fault.why, e.why) != 0 || strcmp(o.fault.field, e.field) != 0)
				fail_msg(TG_SLICE_FMT "\nis: %s: %s\nexpected: %s: %s", TG_SLICE_ARG(tg_buf_view(&b)), o.fault.field, o.fault.why, e.field, e.why);
			if (o.ok) {
				same_as_tree(o.frame, json_object_get(root, "data"));
				assert_string_equal(o.members, "{\"x\":[1,{\"data\":[]}]}");
			}
			*(o.ok ? &taken : &faults) += 1;
		}
		outcome_free(&o);
		json_decref(root);
	}
	tg_buf_free(&b);
	if (taken < 450 || faults < 150 || no_json < 50)
		fail_msg("%u taken, %u faults, %u no JSON: the draw has changed", taken, faults, no_json);
}

/* More texts than a column may hold; and enough to make the table of words grow. */
static void test_words(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 1u << 25);
	tg_buf_lit(&b, "{\"data\":{\"columns\":[\"w\"],\"data\":[");
	for (unsigned i = 0; i < 50000; i++)
		tg_buf_fmt(&b, "%s[\"w%u\"]", i ? "," : "", i % 20000);
	size_t at = b.len;
	tg_buf_lit(&b, "]}}");
	struct outcome o = read_body(T, tg_buf_view(&b), 0, 1u << 25);
	assert_true(o.ok && o.frame->columns[0].nwords == 20000);
	for (unsigned i = 0; i < 50000; i++)
		assert_int_equal(o.frame->columns[0].word[i], i % 20000);
	outcome_free(&o);
	b.len = at;
	for (unsigned i = 0; i <= 1000000 - 20000; i++)
		tg_buf_fmt(&b, ",[\"v%u\"]", i);
	tg_buf_lit(&b, "]}}");
	o = read_body(T, tg_buf_view(&b), 0, 1u << 25);
	assert_false(o.ok);
	assert_string_equal(o.fault.field, "data.data[1030000][0]");
	assert_string_equal(o.fault.why, "is one more than the 1000000 different texts that a column may hold");
	tg_buf_free(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_table_faults), cmocka_unit_test(test_no_json), cmocka_unit_test(test_nul_bytes), cmocka_unit_test(test_taken), cmocka_unit_test(test_applications),
		cmocka_unit_test(test_bounds), cmocka_unit_test(test_counts), cmocka_unit_test(test_max_bytes), cmocka_unit_test(test_against_jansson), cmocka_unit_test(test_words),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
