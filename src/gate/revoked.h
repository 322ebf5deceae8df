#pragma once
/* What becomes of requests that are under way when the key or user they came with is taken away, or may less. */
#include "gate/exchange.h"

bool tg_still_allowed(const struct tg_exchange *x); /* by the snapshot in force on its loop, which may be newer than its own */
enum tg_step tg_answer_taken_away(struct tg_exchange *x); /* 401 */
void tg_revoked_end(struct tg_gate_loop *gl);       /* after a swap: ends those that are with a worker or still being received ([auth] end_revoked) */
/*
 * For a request that waited (for its body, a slot, a password's hash, its turn with the database), before what it asks for begins: NEXT where its key or token still opens the route, by the snapshot in force on its
 * loop. x->perms is then no more than it may now. Else ANSWERED (401, 403). It costs a comparison where nothing changed.
 */
enum tg_step tg_judge_by_now(struct tg_exchange *x);
static inline enum tg_step tg_judge_again(struct tg_exchange *x)
{
	return x->snap == x->gl->snap ? TG_NEXT : tg_judge_by_now(x);
}
