#pragma once
/* What becomes of requests that run when the key or user they came with is taken away. */
#include "gate/exchange.h"

bool tg_still_allowed(const struct tg_exchange *x); /* by the snapshot in force on its loop, which may be newer than its own */
void tg_revoked_end(struct tg_gate_loop *gl);       /* after a swap: ends those that are with a worker ([auth] end_revoked) */
