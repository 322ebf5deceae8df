#pragma once
/*
 * The handlers of the route table, declared from it: a row whose handler nobody wrote does not link, and a handler that no row names has no
 * prototype and does not compile. Each answers an enum tg_step.
 */
#include "gate/route.h"

#define ROUTE(method, path, guard, limit, family, handler, state, description) int tg_api_##handler(struct tg_exchange *x);
#include "tables/routes.def"
#undef ROUTE
