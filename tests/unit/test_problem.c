/* The error body: every error in every family is parsed as JSON and held against the tables and the literal texts of the five documents. */
#include "http/problem.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static const struct {
	enum tg_error e;
	int status;
	const char *name, *code, *title, *otype, *ocode;
} rows[] = {
#define ERROR(name, status, code, title, otype, ocode) { TG_E_##name, status, #name, code, title, otype, ocode },
#include "tables/errors.def"
#undef ERROR
};
enum { ROWS = sizeof rows / sizeof *rows };

static const char *text(json_t *o, const char *k)
{
	json_t *v = json_object_get(o, k);
	assert_non_null(v);
	assert_true(json_is_string(v));
	return json_string_value(v);
}

static json_t *body(const struct tg_problem *p)
{
	struct tg_buf b;
	json_error_t err;
	tg_buf_init(&b, 65536);
	tg_problem_write(&b, p);
	assert_false(b.failed);
	json_t *o = json_loadb(b.p, b.len, JSON_REJECT_DUPLICATES, &err);
	if (!o)
		fail_msg("%s: %.*s", err.text, (int)b.len, b.p);
	tg_buf_free(&b);
	return o;
}

/* Its document's origin has titles of its own for these: chapkit_types. */
static bool chapkit_has_words_for(enum tg_error e)
{
	return e == TG_E_not_found || e == TG_E_bad_field || e == TG_E_bad_json || e == TG_E_invalid_ulid || e == TG_E_conflict;
}

static void every_error_in_every_family(void **state)
{
	(void)state;
	for (int i = 0; i < ROWS; i++)
		for (int f = 0; f < TG_FAM_COUNT; f++) {
			struct tg_problem p = { .error = rows[i].e, .family = (enum tg_family)f, .instance = TG_S("/a/b"), .request_id = TG_S("r-1"),
						.detail = TG_S("what \"was\" wrong"), .param = TG_S("messages"), .details = TG_S("{\"known\":[1]}") };
			json_t *o = body(&p);
			assert_int_equal(json_integer_value(json_object_get(o, "status")), rows[i].status);
			assert_string_equal(text(o, "code"), rows[i].code);
			if (f != TG_FAM_CHAPKIT || !chapkit_has_words_for(rows[i].e))
				assert_string_equal(text(o, "title"), rows[i].title);
			assert_string_equal(text(o, "detail"), "what \"was\" wrong");
			assert_string_equal(text(o, "message"), text(o, "detail"));
			assert_string_equal(text(o, "instance"), "/a/b");
			assert_string_equal(text(o, "request_id"), "r-1");
			assert_int_equal(strlen(text(o, "timestamp")), 24);
			assert_int_equal(text(o, "timestamp")[23], 'Z');
			assert_int_equal(json_object_get(o, "event") != NULL, rows[i].status == 401);
			const char *type = text(o, "type");
			if (f == TG_FAM_CHAPKIT)
				assert_int_equal(strncmp(type, "urn:chapkit:error:", 18), 0);
			else
				assert_string_equal(type, "about:blank");
			assert_string_equal(tg_problem_type((enum tg_family)f), f == TG_FAM_CHAPKIT ? "application/problem+json" : "application/json");
			json_t *e = json_object_get(o, "error");
			if (f == TG_FAM_CREDIT) {
				assert_string_equal(text(o, "error"), rows[i].code);
				assert_non_null(json_object_get(json_object_get(o, "details"), "known"));
			} else {
				assert_int_equal(json_object_size(e), 5);
				assert_string_equal(text(e, "message"), text(o, "detail"));
				assert_string_equal(text(e, "param"), "messages");
				assert_non_null(json_object_get(json_object_get(e, "details"), "known"));
				assert_string_equal(text(e, "code"), f == TG_FAM_OPENAI ? rows[i].ocode : rows[i].code);
				assert_string_equal(text(e, "type"), f == TG_FAM_OPENAI ? rows[i].otype : rows[i].name);
			}
			json_decref(o);
		}
}

static void literal_texts(void **state)
{
	(void)state;
	static const char admin[] = "Invalid or missing admin API key", key[] = "Invalid or missing API key";
	static const char infer[] = "Invalid or missing API key. Please provide a valid X-API-Key header.";
	static const struct {
		enum tg_family f;
		const char *missing, *invalid, *not_configured; /* the last: NULL = the title */
	} t[] = {
		{ TG_FAM_ADMIN0, admin, admin, "INFERENCE_ADMIN_KEY not configured" },           /* S0-04 to S0-07 */
		{ TG_FAM_READ0, key, key, "No API keys configured" },                            /* S0-08, S0-09 */
		{ TG_FAM_OPENAI, key, key, "No API keys configured" },                           /* S0-17 */
		{ TG_FAM_INFER, infer, infer, NULL },                                            /* S1-28, S1-29 */
		{ TG_FAM_API, "Missing API key", "Invalid API key", NULL },                      /* S2-45 */
		{ TG_FAM_CHAPKIT, "Missing authentication header: X-API-Key", "Invalid API key", NULL }, /* S3-20, S3-23 */
		{ TG_FAM_CREDIT, "Missing API key", "Invalid API key", NULL },                   /* S4-13, S4-14 */
		{ TG_FAM_PLAIN, "Missing API key", "Invalid API key", NULL },
	};
	assert_int_equal(sizeof t / sizeof *t, TG_FAM_COUNT);
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		const struct tg_problem q[] = {
			{ .error = TG_E_unauthenticated, .family = t[i].f, .event = "auth.missing_key" },
			{ .error = TG_E_unauthenticated, .family = t[i].f, .event = "auth.invalid_key" },
			{ .error = TG_E_not_configured, .family = t[i].f },
			{ .error = TG_E_forbidden, .family = t[i].f },
		};
		const char *want[] = { t[i].missing, t[i].invalid, t[i].not_configured ? t[i].not_configured : "Internal Server Error", "Forbidden" };
		for (int k = 0; k < 4; k++) {
			json_t *o = body(&q[k]);
			assert_string_equal(text(o, "detail"), want[k]);
			assert_string_equal(text(o, "message"), want[k]);
			if (k < 2)
				assert_string_equal(text(o, "event"), q[k].event); /* C-53 */
			assert_true(json_is_null(json_object_get(o, "request_id")));
			if (t[i].f != TG_FAM_CREDIT) {
				json_t *e = json_object_get(o, "error");
				assert_true(json_is_null(json_object_get(e, "details"))); /* S2-44: present even when null */
				assert_true(json_is_null(json_object_get(e, "param")));
			}
			json_decref(o);
		}
		assert_int_equal(tg_family_text(t[i].f)->not_configured == NULL, t[i].not_configured == NULL);
	}
}

static void chapkit_types(void **state)
{
	(void)state;
	static const struct {
		enum tg_error e;
		uint16_t status;
		const char *type, *title;
	} t[] = {
		{ TG_E_unauthenticated, 0, "urn:chapkit:error:unauthorized", "Unauthorized" },
		{ TG_E_not_found, 0, "urn:chapkit:error:not-found", "Resource Not Found" },
		{ TG_E_bad_field, 0, "urn:chapkit:error:validation-failed", "Validation Error" },
		{ TG_E_bad_request, 0, "urn:chapkit:error:bad-request", "Bad Request" },
		{ TG_E_invalid_ulid, 0, "urn:chapkit:error:invalid-ulid", "Invalid ULID Format" },
		{ TG_E_conflict, 0, "urn:chapkit:error:conflict", "Resource Conflict" },
		{ TG_E_bad_request, 431, "urn:chapkit:error:request-header-fields-too-large", "Request Header Fields Too Large" },
		{ TG_E_bad_request, 405, "urn:chapkit:error:method-not-allowed", "Method Not Allowed" },
		{ TG_E_bad_request, 505, "urn:chapkit:error:http-version-not-supported", "HTTP Version Not Supported" },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		json_t *o = body(&(struct tg_problem){ .error = t[i].e, .family = TG_FAM_CHAPKIT, .status = t[i].status });
		assert_string_equal(text(o, "type"), t[i].type);
		assert_string_equal(text(o, "title"), t[i].title);
		if (t[i].status)
			assert_int_equal(json_integer_value(json_object_get(o, "status")), t[i].status);
		json_decref(o);
	}
}

static void hostile_text_stays_json(void **state)
{
	(void)state;
	static const char bad[] = "/a\"b\\c\n\r\x01\x7f\xff\xc3\x28/\xed\xa0\x80";
	struct tg_slice s = { bad, sizeof bad - 1 };
	json_t *o = body(&(struct tg_problem){ .error = TG_E_bad_request, .family = TG_FAM_API, .instance = s, .detail = s, .param = s, .request_id = s });
	assert_int_equal(strncmp(text(o, "instance"), "/a\"b\\c\n\r\x01\x7f", 9), 0);
	json_decref(o);
}

static void stream_frame(void **state)
{
	(void)state;
	for (int f = 0; f < TG_FAM_COUNT; f++) {
		struct tg_buf b;
		tg_buf_init(&b, 4096);
		tg_problem_sse(&b, &(struct tg_problem){ .error = TG_E_bad_gateway, .family = (enum tg_family)f, .detail = TG_S("line\nbreak") });
		assert_int_equal(strncmp(b.p, "data: ", 6), 0);
		assert_memory_equal(b.p + b.len - 2, "\n\n", 2);
		assert_null(memchr(b.p, '\n', b.len - 2)); /* one frame: no line end inside */
		assert_null(memmem(b.p, b.len, "[DONE]", 6));
		json_t *o = json_loadb(b.p + 6, b.len - 8, JSON_REJECT_DUPLICATES, NULL);
		assert_int_equal(json_object_size(o), 1);
		assert_string_equal(text(json_object_get(o, "error"), "message"), "line\nbreak");
		json_decref(o);
		tg_buf_free(&b);
	}
}

static void ceiling_fails_whole(void **state)
{
	(void)state;
	struct tg_buf b;
	tg_buf_init(&b, 100);
	tg_problem_write(&b, &(struct tg_problem){ .error = TG_E_internal, .family = TG_FAM_PLAIN });
	assert_true(b.failed);
	tg_buf_free(&b);
}

static void challenge(void **state)
{
	(void)state;
	assert_string_equal(tg_problem_challenge(false), "Bearer realm=\"tollgate\"");
	assert_string_equal(tg_problem_challenge(true), "Bearer realm=\"tollgate\", error=\"invalid_token\"");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_error_in_every_family), cmocka_unit_test(literal_texts), cmocka_unit_test(chapkit_types),
		cmocka_unit_test(hostile_text_stays_json), cmocka_unit_test(stream_frame), cmocka_unit_test(ceiling_fails_whole), cmocka_unit_test(challenge),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
