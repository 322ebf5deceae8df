#pragma once
/*
 * The control thread: starts the loops, then watches signals, the key file and the workers' health, builds snapshots and publishes them, and ends the
 * gate. `tollgate serve` and `tollgate run` are both this with different configurations.
 */
#include "gate/gate.h"
#include "pool/child.h"

struct tg_control_conf {
	struct tg_config *config;             /* taken over */
	const struct tg_config_source *source; /* what SIGHUP reads again; NULL: nothing to read */
	const char *const *also;              /* addresses that may be taken */
	unsigned nalso;
	bool hold;                            /* nothing is listened on before the first model has a worker, and none is started a second time (`tollgate run`) */
	/* A started worker became ready (end NULL) or ended; control thread; may be NULL. */
	void (*worker_changed)(struct tg_gate *g, void *ctx, const struct tg_worker *w, const struct tg_child_end *end);
	void (*started)(struct tg_gate *g, void *ctx); /* it serves; runs in the control thread, may use g->control; may be NULL */
	void *ctx;
};
/* Runs until it is told to end. Exit code: 0 a clean end, 1 it could not start or was ended by tg_control_end with another code. */
int tg_control_main(const struct tg_control_conf *conf);
/* Control thread: begin draining; `code` becomes the exit code. */
void tg_control_end(struct tg_gate *g, int code);
/* sd_notify(3): one datagram to $NOTIFY_SOCKET, nothing where there is none. */
void tg_notify(const char *state);
