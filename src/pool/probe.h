#pragma once
/*
 * The probe: is a worker there and willing? One GET on a connection of its own, on the control thread's loop, nothing of it blocking: /health; where that is not known
 * (404), /v1/models, or for an /infer worker any answer.
 */
#include "pool/health.h"

#define TG_PROBE_MS 2000 /* to the status line */

/* done: once, on the loop's thread, never before this returns. False: no memory, nothing comes. */
bool tg_probe_start(uv_loop_t *loop, struct tg_worker *w, void (*done)(struct tg_worker *w, enum tg_probe_result r, void *arg), void *arg);
/* The end of the gate: all that are on the way end now, as silent. The loop's thread. */
void tg_probe_cancel_all(void);
