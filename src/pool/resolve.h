#pragma once
/*
 * Names of workers to addresses: looked up on libuv's pool, so that a slow resolver holds up nobody. Of several addresses the first that accepts a connection is taken
 * ("localhost" often has one of each family and a worker behind one of them). While a look-up runs, and when it fails, the last good address stays in use.
 */
#include "pool/worker.h"

/* Control thread; once at a time per worker (w->resolving says). False: not begun. */
bool tg_resolve_start(uv_loop_t *loop, struct tg_worker *w);
unsigned tg_resolve_pending(void); /* look-ups on the way: they cannot be called back */
