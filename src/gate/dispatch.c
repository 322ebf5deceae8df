/* Stage 8: to the route's handler. Handlers of forwarding routes begin the way to the worker (forward.c); the others answer here. */
#include "gate/exchange.h"

enum tg_step tg_stage_dispatch(struct tg_exchange *x)
{
	if (x->sent_upstream)
		return TG_NEXT;
	if (x->up)
		return TG_WAIT; /* the connection is being made */
	if (x->head_sent)
		return tg_answer_taken(x);
	return x->route->handle(x);
}
