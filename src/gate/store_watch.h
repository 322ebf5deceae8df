#pragma once
/*
 * The control thread's eye on the database: on the job pool it looks for what others changed (tollgate keys on the command line, another gate) and for one that was away, tends the queue of jobs, and puts in order what changes left behind
 * (tg_store_tidy). Each is under way once at most, and neither waits for the other.
 */
#include "gate/gate.h"

struct tg_store_watch {
	struct tg_gate *gate;
	void (*looked)(struct tg_gate *g); /* control thread: there may be a new generation */
	uv_work_t poll, tidy;
	bool polling, tidying;
};
void tg_store_watch_look(struct tg_store_watch *w); /* control thread, some times a second; the gate has a store */
