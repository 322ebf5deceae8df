#pragma once
/* Which routes are forwarded to workers, and how: the table is in api/inference.c. */
#include "gate/exchange.h"

const struct tg_forward *tg_forward_of(const struct tg_route *r); /* NULL: a local handler */
