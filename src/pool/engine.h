#pragma once
/*
 * The gate's side of the tabular engine (docs/engine.md): one started worker that belongs to no model, is found by no name and is started by the first request that needs it. From then on
 * the supervisor treats it like any other: health, back-off, its end with the gate's. One a gate (struct tg_gate, member `engine`); [ml] engine = false: there is none, and all of this says so.
 *
 * How to use it. On a loop: tg_engine_want; where tg_engine_worker is NULL answer 503 with Retry-After: 1 (STARTING), or why it cannot (tg_engine_state); else tg_upstream_get with it. On a
 * thread that may wait: tg_engine_connect. The engine takes its connections one request at a time, keeps them open, and answers 429 where it has too much to do: try again later.
 */
#include "pool/worker.h"

struct tg_models;
struct tg_engine;
enum tg_engine_state {
	TG_ENGINE_NONE,     /* [ml] engine = false, or the gate has none (tollgate run) */
	TG_ENGINE_IDLE,     /* nobody has wanted it yet */
	TG_ENGINE_STARTING, /* on the way, or just ended and about to be started again */
	TG_ENGINE_READY,
	TG_ENGINE_FAILED,   /* it does not start: tried again each minute, and by who wants it */
};

/* wake: any thread; is to make the control thread call tg_engine_turn. It costs next to nothing until it is wanted. NULL: no memory. */
struct tg_engine *tg_engine_new(const struct tg_config *c, unsigned nloops, void (*wake)(void *ctx), void *ctx);
void tg_engine_free(struct tg_engine *e); /* after the supervisor has stopped and the loops have ended */

/* Any thread. `e` may be NULL everywhere below: none. */
void tg_engine_want(struct tg_engine *e); /* have it started, if it is not yet; returns at once */
/* why (may be NULL): NONE and FAILED, and STARTING after an end: one sentence for an administrator's log; else "". */
enum tg_engine_state tg_engine_state(struct tg_engine *e, struct tg_err *why);
/* For tg_upstream_get. NULL: not READY. The engine's, valid as long as the gate. */
struct tg_worker *tg_engine_worker(struct tg_engine *e);
/* Blocking, for the job pool and the runner: wants it, waits at most wait_ms until it is ready, connects. The descriptor is blocking and the caller's. False: err, one sentence; it has failed, is
 * none, is not ready in time, or the gate ends (tg_engine_close). */
bool tg_engine_connect(struct tg_engine *e, int *fd, unsigned wait_ms, struct tg_err *err);
/*
 * Around what the engine's own process does: a prediction, data that is taken in. A training has a process of its own, so where the engine ended with others in it, it was not the training. Shared: somebody is
 * in it, or was cut off (without an answer) within the last second, in which all who were in it notice its end.
 */
void tg_engine_enter(struct tg_engine *e);
void tg_engine_leave(struct tg_engine *e, bool answered);
bool tg_engine_shared(const struct tg_engine *e);

/* Control thread. Non-NULL once after it was first wanted, or again after it failed and was wanted: the models (one, with its one worker) that the supervisor is to start or to retry. */
const struct tg_models *tg_engine_turn(struct tg_engine *e, bool *retry, struct tg_err *err);
const struct tg_models *tg_engine_models(struct tg_engine *e); /* NULL: never wanted */
void tg_engine_changed(struct tg_engine *e); /* its worker's state has: wakes who waits */
void tg_engine_close(struct tg_engine *e);   /* the gate ends: nobody waits any longer, nothing is started */
