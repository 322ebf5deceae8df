/* The shapes of /infer and /api/v1/inference to OpenAI's and back: byte for byte what is written, and each fault with its field. All that comes out parses. */
#include "api/translate.h"
#include <jansson.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define HEAD(content) "{\"model\":\"qwen3\",\"messages\":[{\"role\":\"user\",\"content\":" content "}]"

static void check_out(const struct tg_buf *out, const char *want, const char *in)
{
	json_error_t e;
	if (!tg_slice_eq(tg_buf_view(out), tg_slice_cstr(want)))
		fail_msg("%s: " TG_SLICE_FMT ", not %s", in, TG_SLICE_ARG(tg_buf_view(out)), want);
	json_t *j = json_loadb(out->p, out->len, JSON_ALLOW_NUL | JSON_REJECT_DUPLICATES, &e);
	if (!j)
		fail_msg("%s: %s", want, e.text);
	json_decref(j);
}

static void test_infer_to_chat(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "{\"input\":\"Your input text here\",\"max_new_tokens\":1000}", HEAD("\"Your input text here\"") ",\"max_tokens\":1000}" },
		{ "{\"input\":\"\"}", HEAD("\"\"") "}" },
		/* S1-25: what the caller wrote comes out as he wrote it */
		{ "{ \"input\" : \"a\\n\\t\\\"\\\\\\/\\u00e9\\ud83d\\ude00\xf0\x9f\x98\x80\xe2\x82\xac\x7f\" }", HEAD("\"a\\n\\t\\\"\\\\\\/\\u00e9\\ud83d\\ude00\xf0\x9f\x98\x80\xe2\x82\xac\x7f\"") "}" },
		{ "{\"input\":[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}}]}",
		  HEAD("[{\"type\":\"text\",\"text\":\"x\"},{\"type\":\"image_url\",\"image_url\":{\"url\":\"data:,\"}}]") "}" },
		/* S1-24: the rest goes through, as written, in order */
		{ "{\"session_id\" : \"s 1\",\"input\":\"x\",\"images\":[ \"a\" , 1.50e+2 ],\"pdf_page\":null,\"temperature\":0.20}",
		  HEAD("\"x\"") ",\"session_id\":\"s 1\",\"images\":[ \"a\" , 1.50e+2 ],\"pdf_page\":null,\"temperature\":0.20}" },
		/* what the gate writes itself is never taken over, however it is spelled */
		{ "{\"input\":\"x\",\"model\":\"other\",\"mod\\u0065l\":\"other\",\"messages\":[],\"stream\":true,\"stre\\u0061m\":true,\"stream_options\":{},\"n\":4,\"\\u006e\":4,\"N\":1}",
		  HEAD("\"x\"") ",\"N\":1}" },
		{ "{\"\\u0069nput\":\"x\",\"max_new_\\u0074okens\":5}", HEAD("\"x\"") ",\"max_tokens\":5}" },
		{ "{\"max_tokens\":900,\"input\":\"x\",\"max_completion_tokens\":900}", HEAD("\"x\"") ",\"max_tokens\":900,\"max_completion_tokens\":900}" },
		{ "{\"max_tokens\":900,\"input\":\"x\",\"max_new_tokens\":1,\"max_completion_tokens\":900}", HEAD("\"x\"") ",\"max_tokens\":1}" },
		{ "{\"input\":\"x\",\"max_new_tokens\":1000000}", HEAD("\"x\"") ",\"max_tokens\":1000000}" },
		{ "{\"input\":\"x\",\"model_name_that_is_longer_than_any_member_the_gate_asks_for_or_writes\":1}",
		  HEAD("\"x\"") ",\"model_name_that_is_longer_than_any_member_the_gate_asks_for_or_writes\":1}" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_buf out;
		struct tg_field_fault f = { 0 };
		tg_buf_init(&out, 4096);
		if (!tg_infer_to_chat(tg_slice_cstr(rows[i].in), "qwen3", &out, &f))
			fail_msg("%s: %s %s", rows[i].in, f.field, f.reason);
		check_out(&out, rows[i].out, rows[i].in);
		tg_buf_free(&out);
	}
}

static void test_infer_faults(void **state)
{
	(void)state;
	static const char positive[] = "must be a positive integer", parts[] = "must be a string or an array of content parts";
	static const struct {
		const char *in, *field, *reason;
	} rows[] = {
		{ "{}", "request_body.input", "is required" }, { "{\"Input\":\"x\"}", "request_body.input", "is required" }, { "{\"input\":null}", "request_body.input", parts },
		{ "{\"input\":5}", "request_body.input", parts }, { "{\"input\":{}}", "request_body.input", parts }, { "{\"input\":true}", "request_body.input", parts },
		{ "{\"input\":\"x\",\"max_new_tokens\":0}", "request_body.max_new_tokens", positive }, { "{\"input\":\"x\",\"max_new_tokens\":-1}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":-0}", "request_body.max_new_tokens", positive }, { "{\"input\":\"x\",\"max_new_tokens\":1.0}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":0.5}", "request_body.max_new_tokens", positive }, { "{\"input\":\"x\",\"max_new_tokens\":1e3}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":2E5}", "request_body.max_new_tokens", positive }, { "{\"input\":\"x\",\"max_new_tokens\":\"5\"}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":null}", "request_body.max_new_tokens", positive }, { "{\"input\":\"x\",\"max_new_tokens\":[1]}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":true}", "request_body.max_new_tokens", positive },
		{ "{\"input\":\"x\",\"max_new_tokens\":1000001}", "request_body.max_new_tokens", "must be at most 1000000" },
		{ "{\"input\":\"x\",\"max_new_tokens\":99999999999999999999999}", "request_body.max_new_tokens", "must be at most 1000000" },
		{ "{\"input\":\"x\",\"inp\\u0075t\":\"y\"}", "request_body.input", "duplicate member" },
		{ "{\"max_new_tokens\":1,\"max_new_tokens\":2,\"input\":\"x\"}", "request_body.max_new_tokens", "duplicate member" },
		{ "[]", "request_body", "the document is not an object" }, { "\"x\"", "request_body", "the document is not an object" }, { "", "request_body", "unexpected end" },
		{ "{\"input\":\"x\"", "request_body", "unexpected end" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_buf out;
		struct tg_field_fault f = { 0 };
		tg_buf_init(&out, 4096);
		tg_buf_lit(&out, "kept");
		if (tg_infer_to_chat(tg_slice_cstr(rows[i].in), "m", &out, &f) || strcmp(f.field, rows[i].field) != 0 || strcmp(f.reason, rows[i].reason) != 0)
			fail_msg("%s: %s %s", rows[i].in, f.field, f.reason);
		assert_true(tg_slice_eq(tg_buf_view(&out), TG_S("kept")));
		tg_buf_free(&out);
	}
}

static void test_inference_to_chat(void **state)
{
	(void)state;
	static const struct {
		const char *in;
		bool stream;
		const char *out, *field, *reason;
	} rows[] = {
		{ "{\"prompt\":\"Hello, world!\",\"model\":\"llama-7b\"}", false, HEAD("\"Hello, world!\"") ",\"stream\":false}", NULL, NULL },
		{ "{\"prompt\":\"x\",\"stream\":true,\"model\":\"a\",\"stream_options\":{\"include_usage\":false},\"n\":9,\"messages\":[1]}", true,
		  HEAD("\"x\"") ",\"stream\":true,\"stream_options\":{\"include_usage\":true}}", NULL, NULL },
		{ "{\"max_tokens\":5,\"temperature\":0.7,\"top_p\":1,\"stop\":[\"\\n\"],\"seed\":7,\"prompt\":\"\\ud83d\\ude00\"}", false,
		  HEAD("\"\\ud83d\\ude00\"") ",\"stream\":false,\"max_tokens\":5,\"temperature\":0.7,\"top_p\":1,\"stop\":[\"\\n\"],\"seed\":7}", NULL, NULL },
		{ "{\"model\":\"a\"}", false, NULL, "prompt", "is required" }, { "{\"prompt\":[\"a\"]}", false, NULL, "prompt", "must be a string" },
		{ "{\"prompt\":null}", false, NULL, "prompt", "must be a string" }, { "{\"prompt\":\"x\",\"stream\":1}", false, NULL, "stream", "must be true or false" },
		{ "{\"prompt\":\"x\",\"stream\":\"true\"}", false, NULL, "stream", "must be true or false" }, { "{\"prompt\":\"x\",\"stream\":null}", false, NULL, "stream", "must be true or false" },
		{ "{\"prompt\":\"x\",\"pr\\u006fmpt\":\"y\"}", false, NULL, "prompt", "duplicate member" }, { "{\"prompt\":\"x\",\"stream\":true,\"stream\":false}", true, NULL, "stream", "duplicate member" },
		{ "{\"prompt\":\"x\",}", false, NULL, "body", "member name expected" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_buf out;
		struct tg_field_fault f = { 0 };
		tg_buf_init(&out, 4096);
		bool ok = tg_inference_to_chat(tg_slice_cstr(rows[i].in), "qwen3", rows[i].stream, &out, &f);
		if (ok != (rows[i].out != NULL))
			fail_msg("%s: %s %s", rows[i].in, f.field, f.reason);
		if (ok) {
			check_out(&out, rows[i].out, rows[i].in);
		} else {
			assert_string_equal(f.field, rows[i].field);
			assert_string_equal(f.reason, rows[i].reason);
			assert_int_equal(out.len, 0);
		}
		tg_buf_free(&out);
	}
}

static void test_answers(void **state)
{
	(void)state;
	static const struct tg_infer_meta meta = { .model = "qwen \"3\"", .duration_us = 1234567, .lb_latency_us = 87, .worker_id = 3, .queue_at_dispatch = 2 };
#define INFER(response, usage) \
	"{\"response\":" response ",\"gpu_id_of_model_worker\":null,\"model_name_processed\":\"qwen \\\"3\\\"\",\"duration_seconds\":1.235," \
	"\"api_worker_pid\":null,\"load_balancer_worker_id\":3,\"lb_latency_ms\":0.087,\"lb_queue_at_dispatch\":2,\"usage\":" usage "}"
#define PLAIN(id, text, finish, usage) \
	"{\"id\":" id ",\"model\":\"qwen \\\"3\\\"\",\"response\":" text ",\"text\":" text ",\"finish_reason\":" finish ",\"usage\":" usage "}"
	static const struct {
		const char *in, *infer, *plain; /* NULL: no chat answer */
	} rows[] = {
		{ "{\"id\":\"c-1\",\"object\":\"chat.completion\",\"model\":\"w\",\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"4 \\u00e9\xf0\x9f\x98\x80\\n\"},"
		  "\"finish_reason\":\"stop\"},{\"message\":{\"content\":\"second\"}}],\"usage\":{ \"prompt_tokens\":1, \"completion_tokens\":2 }}",
		  INFER("\"4 \\u00e9\xf0\x9f\x98\x80\\n\"", "{ \"prompt_tokens\":1, \"completion_tokens\":2 }"),
		  PLAIN("\"c-1\"", "\"4 \\u00e9\xf0\x9f\x98\x80\\n\"", "\"stop\"", "{ \"prompt_tokens\":1, \"completion_tokens\":2 }") },
		{ "{\"choices\":[{\"message\":{\"content\":null,\"tool_calls\":[]},\"finish_reason\":\"tool_calls\"}],\"usage\":null}", INFER("\"\"", "null"),
		  PLAIN("null", "\"\"", "\"tool_calls\"", "null") },
		{ "{\"id\":7,\"choices\":[{\"message\":{},\"finish_reason\":null}],\"usage\":[1]}", INFER("\"\"", "null"), PLAIN("null", "\"\"", "null", "null") },
		{ "{\"choices\":[]}", NULL, NULL }, { "{\"choices\":null}", NULL, NULL }, { "{}", NULL, NULL }, { "{\"choices\":[7]}", NULL, NULL }, { "{\"choices\":[{\"text\":\"x\"}]}", NULL, NULL },
		{ "{\"choices\":[{\"message\":\"x\"}]}", NULL, NULL }, { "{\"choices\":[{\"message\":{\"content\":7}}]}", NULL, NULL },
		{ "{\"choices\":[{\"message\":{\"content\":\"x\",\"content\":\"y\"}}]}", NULL, NULL }, { "{\"error\":{\"message\":\"x\"}}", NULL, NULL }, { "[]", NULL, NULL },
		{ "{\"choices\":[{\"message\":{\"content\":\"x\"}}]", NULL, NULL }, { "not json", NULL, NULL }, { "", NULL, NULL },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_buf out;
		tg_buf_init(&out, 4096);
		assert_int_equal(tg_chat_to_infer(tg_slice_cstr(rows[i].in), &meta, &out), rows[i].infer != NULL);
		if (rows[i].infer)
			check_out(&out, rows[i].infer, rows[i].in);
		else
			assert_int_equal(out.len, 0);
		tg_buf_free(&out);
		assert_int_equal(tg_chat_to_inference(tg_slice_cstr(rows[i].in), meta.model, &out), rows[i].plain != NULL);
		if (rows[i].plain)
			check_out(&out, rows[i].plain, rows[i].in);
		else
			assert_int_equal(out.len, 0);
		tg_buf_free(&out);
	}
}

/* A buffer that is too small is told by the buffer, and is no fault of the caller. */
static void test_no_room(void **state)
{
	(void)state;
	char doc[600] = "{\"input\":\"";
	struct tg_buf out;
	struct tg_field_fault f = { 0 };
	memset(doc + 10, 'x', 500);
	memcpy(doc + 510, "\"}", 3);
	tg_buf_init(&out, 400);
	assert_true(tg_infer_to_chat(tg_slice_cstr(doc), "m", &out, &f));
	assert_true(out.failed);
	tg_buf_free(&out);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_infer_to_chat), cmocka_unit_test(test_infer_faults), cmocka_unit_test(test_inference_to_chat), cmocka_unit_test(test_answers),
		cmocka_unit_test(test_no_room),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
