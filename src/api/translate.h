#pragma once
/*
 * Between the shapes of documents 001 (/infer) and 002 (/api/v1/inference) and OpenAI's chat completions. Pure functions over text:
 * values are copied as the raw JSON the caller wrote (no tree, no re-encoding), so special characters survive byte for byte.
 * Each checks its input's grammar itself. False leaves `out` as it was. Running out of room is no fault of the caller: true, and out->failed.
 */
#include "base/buf.h"
#include "base/json_scan.h"

/* A fault to be told to the caller: 400, Validation error on {field}: {reason}. */
struct tg_field_fault {
	const char *field;  /* "request_body.max_new_tokens" */
	const char *reason; /* "must be a positive integer" */
};

/*
 * /infer: {"model_name": ..., "request_body": {"input": ..., "max_new_tokens": ..., ...}}. `request_body` is the raw object. Writes
 * {"model":<model>,"messages":[{"role":"user","content":<input>}],"max_tokens":<max_new_tokens>, every other member as it came}.
 * input: required, a string, or an array (passed on as `messages` content parts). max_new_tokens: absent or an integer 1..1,000,000; 0, negative, fraction or another
 * type is a fault (S1-33); where it is given, max_tokens and max_completion_tokens are not taken over, or it would bound nothing. Members named model, messages, stream, stream_options, n are not taken over.
 */
bool tg_infer_to_chat(struct tg_slice request_body, const char *model, struct tg_buf *out, struct tg_field_fault *fault);

struct tg_infer_meta { /* what the gate knows of the call (origins.md section 3) */
	const char *model;
	uint64_t duration_us;    /* worker time */
	uint64_t lb_latency_us;  /* time inside the gate before the worker had it */
	unsigned worker_id;      /* 0-based place of the worker in its model */
	unsigned worker_pid;     /* 0: not ours, not known */
	unsigned queue_at_dispatch;
};
/* An OpenAI chat answer to 001's reply: response (raw content string; "" for null or absent, as in a tool call), gpu_id_of_model_worker (null), model_name_processed, duration_seconds,
 * api_worker_pid (null where the worker is not ours), load_balancer_worker_id, lb_latency_ms, lb_queue_at_dispatch, usage (raw or null). False: not an OpenAI chat answer. */
bool tg_chat_to_infer(struct tg_slice answer, const struct tg_infer_meta *m, struct tg_buf *out);

/*
 * /api/v1/inference: {"prompt": "...", "model": ..., "stream"?: bool, any sampling members}. Writes a chat request with one user message; max_tokens, temperature,
 * top_p, stop, seed ... pass as they came. `stream`, where present, must be true or false. Members prompt, model, messages, stream, stream_options, n are not taken over; stream is written from `stream`, with
 * stream_options.include_usage.
 */
bool tg_inference_to_chat(struct tg_slice doc, const char *model, bool stream, struct tg_buf *out, struct tg_field_fault *fault);
/* An OpenAI chat answer to {"id","model","response","text","finish_reason","usage"} (C-52). False: not an OpenAI chat answer. */
bool tg_chat_to_inference(struct tg_slice answer, const char *model, struct tg_buf *out);
