/*
 * The shape translations. The first byte of the input picks one; the rest is the document. What comes out always parses, has the members it must have, and none of those that
 * the caller must not choose.
 */
#include "api/translate.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

static void check_chat(const json_t *j)
{
	const json_t *messages = json_object_get(j, "messages"), *m = json_array_get(messages, 0), *content = json_object_get(m, "content");
	CHECK(strcmp(json_string_value(json_object_get(j, "model")), "m") == 0);
	CHECK(json_array_size(messages) == 1 && (json_is_string(content) || json_is_array(content)));
	CHECK(!json_object_get(j, "n"));
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	static const struct tg_infer_meta meta = { .model = "m", .duration_us = 1, .lb_latency_us = 2, .worker_id = 3, .worker_pid = 4, .queue_at_dispatch = 5 };
	if (!n)
		return 0;
	char *copy = malloc(n);
	memcpy(copy, data + 1, n - 1);
	struct tg_slice doc = { copy, n - 1 };
	struct tg_field_fault fault = { 0 };
	struct tg_buf out;
	json_error_t e;
	tg_buf_init(&out, n * 4 + 1024);
	int kind = data[0] % 5;
	bool ok = kind == 0 ? tg_infer_to_chat(doc, "m", &out, &fault) : kind == 1 ? tg_chat_to_infer(doc, &meta, &out) : kind == 4 ? tg_chat_to_inference(doc, "m", &out) :
		tg_inference_to_chat(doc, "m", kind == 3, &out, &fault);
	CHECK(!out.failed);
	if (!ok) {
		CHECK(out.len == 0);
		CHECK(kind == 1 || kind == 4 || (fault.field && fault.reason));
	} else {
		json_t *j = json_loadb(out.p, out.len, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
		if (!j) {
			CHECK(json_error_code(&e) == json_error_numeric_overflow || json_error_code(&e) == json_error_null_byte_in_key);
		} else {
			switch (kind) {
			case 0:
				check_chat(j);
				CHECK(!json_object_get(j, "input") && !json_object_get(j, "stream") && !json_object_get(j, "stream_options") && !json_object_get(j, "max_new_tokens"));
				break;
			case 1:
				CHECK(json_is_string(json_object_get(j, "response")) && json_object_size(j) == 9);
				break;
			case 4:
				CHECK(json_is_string(json_object_get(j, "response")) && json_equal(json_object_get(j, "text"), json_object_get(j, "response")) && json_object_size(j) == 6);
				break;
			default:
				check_chat(j);
				CHECK(!json_object_get(j, "prompt"));
				CHECK(json_is_true(json_object_get(j, "stream")) == (kind == 3));
			}
			json_decref(j);
		}
	}
	tg_buf_free(&out);
	free(copy);
	return 0;
}
