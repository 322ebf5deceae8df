/*
 * The route table as data. This file adds nothing to tables/routes.def but the meaning of its words; the handlers are put in only where the program
 * holds them (TG_WITH_HANDLERS), so that the command line and the tests read the same table without the gate behind it.
 *
 * Invariant: every row has a guard. A guard is PUBLIC, ANY or a non-empty mask of permissions; a row with none of them stops the build.
 */
#include "gate/route.h"
#include "policy/principal.h"

#ifdef TG_WITH_HANDLERS
#include "gate/handlers.h"
#define HANDLE(handler) tg_api_##handler
#else
#define HANDLE(handler) NULL
#endif

/* The words of the table. PUBLIC and ANY lie above all permission bits. */
#define PUBLIC 0x40000000u
#define ANY 0x80000000u
#define P(name) TG_PERM_##name
#define KIND(guard) ((guard) == PUBLIC ? TG_GUARD_PUBLIC : (guard) == ANY ? TG_GUARD_ANY : TG_GUARD_PERMS)
#define TG_ANYMETHOD TG_METHOD_ANY
#define LIVE TG_ROUTE_LIVE
#define LATER TG_ROUTE_LATER
#define NOWHERE TG_ROUTE_NOWHERE
#define UPLOAD TG_ROUTE_UPLOAD

#define ROUTE(method, path, guard, limit, family, handler, state, description) \
	_Static_assert((guard) == PUBLIC || (guard) == ANY || (((guard) & TG_PERM_ALL) != 0 && ((guard) & ~TG_PERM_ALL) == 0), "no guard: " path);
#include "tables/routes.def"
#undef ROUTE

const struct tg_route tg_routes[] = {
#define ROUTE(m, pth, g, l, fam, h, st, desc)                                                                                                            \
	{ .method = TG_##m, .guard = KIND(g), .limit = TG_LIMIT_##l, .family = TG_FAM_##fam, .state = st, .perms = (g) & TG_PERM_ALL,                  \
	  .path = { pth, sizeof(pth) - 1 }, .handler = #h, .handle = HANDLE(h), .description = desc },
#include "tables/routes.def"
#undef ROUTE
};
const unsigned tg_nroutes = sizeof tg_routes / sizeof *tg_routes;

const char *const tg_limit_class_names[] = {
	[TG_LIMIT_NONE] = "none", [TG_LIMIT_API] = "api", [TG_LIMIT_TRAIN] = "train", [TG_LIMIT_PREDICT] = "predict",
	[TG_LIMIT_POLL] = "poll", [TG_LIMIT_INFER] = "infer", [TG_LIMIT_ML] = "ml",
};

uint64_t tg_route_body_max(const struct tg_route *r)
{
	static const struct {
		const char *handler;
		uint64_t bytes;
	} larger[] = {
#define BODY(handler, bytes) { #handler, bytes },
#include "tables/bodies.def"
#undef BODY
	};
	for (size_t i = 0; i < sizeof larger / sizeof *larger; i++)
		if (strcmp(larger[i].handler, r->handler) == 0)
			return larger[i].bytes;
	return TG_LOCAL_BODY_MAX;
}
