#pragma once
/* A job's call of the engine (docs/engine.md), blocking, for the runner's threads: one connection, one request, lines of JSON as they come. Closing the connection is what cancels it there. */
#include "base/err.h"
#include "base/slice.h"
#include "pool/engine.h"

#define TG_ENGINE_READY_MS 20000      /* an engine that is on its way is waited for */
#define TG_ENGINE_TICK_MS 250
#define TG_ENGINE_LINE_MAX (8u << 20) /* bytes */

enum tg_engine_end {
	TG_ENGINE_ANSWERED, /* status and all lines were had */
	TG_ENGINE_LOST,     /* it could not be reached, ended, or answered what is none: err */
	TG_ENGINE_STOPPED,  /* `tick` or `line` said so */
};
struct tg_engine_call {
	bool (*tick)(void *ctx);                        /* each TG_ENGINE_TICK_MS at the most; false: break it off */
	bool (*line)(void *ctx, struct tg_slice line);  /* without its LF; false: break it off */
	void *ctx;
	bool inside;                                    /* the engine does it in its own process: all but a training (tg_engine_enter) */
	const char *key_prefix;                         /* what may be shown of the key that it is done for; NULL, "": there is none */
};
/* POSTs `body` (JSON) to `path`. *status: of the answer. */
enum tg_engine_end tg_engine_post(struct tg_engine *e, const char *path, struct tg_slice body, const struct tg_engine_call *call, uint16_t *status, struct tg_err *err);
