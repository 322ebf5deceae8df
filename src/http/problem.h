#pragma once
/*
 * The one error body (DESIGN "One error body", seed ledger C-01): written here and nowhere else.
 */
#include "base/buf.h"

/* Route families: which literal texts and which shape of `error` a path speaks. */
enum tg_family {
	TG_FAM_ADMIN0,  /* document 000, admin routes: /models writes, /gpu, /system, /settings, /jobs, /eval, /data_gen */
	TG_FAM_READ0,   /* document 000, read routes: /models/info ... */
	TG_FAM_OPENAI,  /* /v1: 000's read texts in `detail`, OpenAI's `error` (wire.md 4a) */
	TG_FAM_INFER,   /* document 001: /infer */
	TG_FAM_API,     /* document 002: /api/v1/auth, models, inference, users, audit, usage, config, queue, events */
	TG_FAM_CHAPKIT, /* document 003: /api/v1/configs, artifacts, jobs, ml, system, info: application/problem+json */
	TG_FAM_CREDIT,  /* document 004: /train, /predict, /auth/verify: `error` is the string code */
	TG_FAM_PLAIN,   /* everything else */
	TG_FAM_COUNT
};

/* Error kinds: tables/errors.def: name, status, our code, RFC 9457 title, OpenAI type, OpenAI code. */
#define ERROR(name, status, code, title, otype, ocode) TG_E_##name,
enum tg_error {
	TG_E_NONE,
#include "tables/errors.def"
	TG_E_COUNT
};
#undef ERROR
struct tg_error_info {
	uint16_t status;
	const char *code, *title, *openai_type, *openai_code;
};
const struct tg_error_info *tg_error_info(enum tg_error e);

struct tg_problem {
	enum tg_error error;
	enum tg_family family;
	uint16_t status;          /* 0: the table's (a refusal may bring its own) */
	struct tg_slice detail;   /* one sentence; never internal text; empty: the family's literal text, else the title */
	struct tg_slice param;    /* the field at fault; p == NULL: null */
	struct tg_slice details;  /* raw JSON for `details`; p == NULL: null */
	const char *event;        /* 401: "auth.missing_key" or "auth.invalid_key"; else NULL */
	struct tg_slice instance; /* the path without query; percent-encoded as it came */
	struct tg_slice request_id;
};
/* The body. The media type for the family: tg_problem_type. */
void tg_problem_write(struct tg_buf *out, const struct tg_problem *p);
const char *tg_problem_type(enum tg_family f); /* "application/problem+json" or "application/json" */
/* One `data: {"error":...}\n\n` frame for a stream that has begun (wire.md 4d). */
void tg_problem_sse(struct tg_buf *out, const struct tg_problem *p);
/* The value of WWW-Authenticate for a 401 (RFC 6750 section 3): error="invalid_token" only where a credential was presented. */
const char *tg_problem_challenge(bool presented);
/* The 401 and 500 texts a family's document gives: missing, invalid; and 000's "not configured" (NULL where the family has none). */
struct tg_family_text {
	const char *missing, *invalid, *not_configured;
};
const struct tg_family_text *tg_family_text(enum tg_family f);
