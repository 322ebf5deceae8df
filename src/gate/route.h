#pragma once
/* The route table (tables/routes.def) as data: matching, permissions and `tollgate routes` read it. */
#include "http/message.h"
#include "http/problem.h"

enum tg_guard_kind { TG_GUARD_PUBLIC, TG_GUARD_ANY, TG_GUARD_PERMS };
enum tg_limit_class { TG_LIMIT_NONE, TG_LIMIT_API, TG_LIMIT_TRAIN, TG_LIMIT_PREDICT, TG_LIMIT_POLL, TG_LIMIT_INFER, TG_LIMIT_ML, TG_LIMIT_COUNT };
enum tg_route_state { TG_ROUTE_LIVE, TG_ROUTE_LATER, TG_ROUTE_NOWHERE, TG_ROUTE_UPLOAD };
#define TG_METHOD_ANY 0xff

/* A stage's and a handler's verdict. WAIT: parked; whoever wakes it calls tg_corridor_run, which enters the same stage again. ANSWERED: go on at settle. ADMIT: back to
 * that stage: its worker was lost before an answer began, and others are busy. */
enum tg_step { TG_NEXT, TG_WAIT, TG_ANSWERED, TG_ADMIT };

struct tg_exchange;
struct tg_route {
	uint8_t method;              /* enum tg_method or TG_METHOD_ANY */
	uint8_t guard;               /* enum tg_guard_kind */
	uint8_t limit;               /* enum tg_limit_class */
	uint8_t family;              /* enum tg_family */
	uint8_t state;               /* enum tg_route_state */
	uint32_t perms;              /* PERMS: one of these suffices */
	struct tg_slice path;
	const char *handler;         /* name, for `tollgate routes` */
	enum tg_step (*handle)(struct tg_exchange *x); /* NULL in programs without the gate */
	const char *description;
};
extern const struct tg_route tg_routes[];
extern const unsigned tg_nroutes;
extern const char *const tg_limit_class_names[]; /* "none", "api", ... */
#define TG_LOCAL_BODY_MAX (64u * 1024u)                  /* bytes, of the gate's own handlers' bodies */
uint64_t tg_route_body_max(const struct tg_route *r);    /* that, or what tables/bodies.def says; not for forwarding routes */
