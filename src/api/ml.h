#pragma once
/* How every training and prediction begins: with its body on the way to the engine. */
#include "api/fields.h"
#include "gate/upload.h"

/* From a handler: what it returns. kind: of docs/engine.md's intake. Answers where there is no database or no engine. */
enum tg_step tg_ml_start(struct tg_exchange *x, const char *kind, enum tg_upload_type type, tg_upload_done done);
/* Of an answer of the engine's intake that jansson does not take: whether that is the sender's, whose members the engine passes on as they were written. */
bool tg_ml_members_fault(struct tg_slice answer, struct tg_fields_fault *fault);
/* 429: as many jobs of this key wait or run as may ([ml] key_jobs). */
enum tg_step tg_key_jobs_full(struct tg_exchange *x, unsigned most);
