#pragma once
/*
 * The handlers of the route table, declared from it: a row whose handler nobody wrote does not link, and a handler that no row names has no
 * prototype and does not compile.
 */
#include "gate/route.h"

#define ROUTE(method, path, guard, limit, family, handler, state, description) enum tg_step tg_api_##handler(struct tg_exchange *x);
#include "tables/routes.def"
#undef ROUTE
