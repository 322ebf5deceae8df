#pragma once
/*
 * The control thread's watch over the workers: probes, look-ups of names, and the supervisor of those that are ours. Nothing of it blocks. Owner: the control thread.
 */
#include "gate/gate.h"
#include "pool/supervise.h"

struct tg_watch {
	struct tg_gate *gate;
	struct tg_supervisor *supervisor;
	uv_timer_t timer;
	unsigned turns;
	bool stopping;
};

bool tg_watch_init(struct tg_watch *w, struct tg_gate *g, const struct tg_supervisor_conf *conf); /* conf's loop and quarantine are the gate's */
void tg_watch_start(struct tg_watch *w);
void tg_watch_look(struct tg_watch *w);                     /* now: something may have changed */
void tg_watch_models(struct tg_watch *w);                   /* the gate has another snapshot: start and end what changed */
void tg_watch_retry(struct tg_watch *w);                    /* what was asked for by tg_gate_reprobe */
bool tg_watch_engine(struct tg_watch *w);                   /* the engine, where somebody wants it; true: it has just been started for the first time */
void tg_watch_stop(struct tg_watch *w, void (*done)(void *ctx), void *ctx); /* ends the workers that are ours. Asked again: at once */
void tg_watch_free(struct tg_watch *w);
