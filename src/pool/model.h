#pragma once
/*
 * Models and their workers. A struct tg_models belongs to a snapshot and is immutable; what must outlive a reload (a worker's slots and connections, a
 * model's queue) hangs on it by count: struct tg_worker is kept while its url and key stay the same, struct tg_queue while the model's name stays.
 */
#include "config/config.h"
#include "net/loop.h"
#include <stdatomic.h>
#include <sys/socket.h>

enum tg_worker_state { TG_WORKER_UNKNOWN, TG_WORKER_UP, TG_WORKER_DOWN }; /* UNKNOWN: not probed yet, usable */

struct tg_sockaddr {
	struct sockaddr_storage ss;
	socklen_t len;
	struct tg_sockaddr *next; /* all that were ever seen, freed with the worker: a loop may still be reading one */
};

struct tg_upconn;
struct tg_pool { /* idle connections of one loop to one worker, most recently used first; touched by that loop only */
	struct tg_upconn *idle;
	unsigned nidle;
};

struct tg_worker {
	_Atomic unsigned refs;
	char *url;
	char *name;             /* "qwen3/0": for people, logs and metrics */
	unsigned index;         /* place in its model */
	_Atomic int in_use;     /* requests it has now, over all loops */
	_Atomic int state;      /* enum tg_worker_state */
	_Atomic bool want_probe; /* asked for by anybody, done by the control thread */
	bool probing, probed;   /* the control thread's */
	_Atomic bool trying;    /* a request or probe is trying whether a down worker is back */
	_Atomic uint64_t successes, failures;
	_Atomic(struct tg_sockaddr *) addr; /* NULL: the name is not resolved (yet) */
	struct tg_sockaddr *seen;           /* only by one resolver at a time */
	char *host, *port;      /* to resolve; NULL for Unix sockets */
	char *base;             /* path prefix: "" or "/base" */
	char *fixed;            /* "Host: ...\r\n" and "Authorization: Bearer ...\r\n": the lines that never change */
	size_t fixed_len;
	struct tg_pool *pools;  /* one a loop */
	unsigned nloops;
};

struct tg_queue;
struct tg_model {
	const struct tg_model_conf *conf; /* borrowed from the snapshot's configuration */
	unsigned index;                   /* place among the models: metrics */
	struct tg_worker **workers;
	unsigned nworkers;
	struct tg_queue *queue;
	_Atomic unsigned *turn;           /* where ties begin: spreads equal workers */
};

struct tg_models {
	struct tg_model *v;
	unsigned n;
	const char **names; /* by index */
};

/* Builds from the configuration, taking over what `old` (may be NULL) has. The url's name is resolved later by tg_worker_resolve. */
bool tg_models_build(struct tg_models *m, const struct tg_config *c, const struct tg_models *old, unsigned nloops, struct tg_err *err);
void tg_models_free(struct tg_models *m);
/* By name or alias; NULL: unknown. */
struct tg_model *tg_models_find(const struct tg_models *m, struct tg_slice name);
/* "a, b, c": for error texts. */
void tg_models_list(const struct tg_models *m, struct tg_buf *out);
bool tg_models_have_worker(const struct tg_models *m, const struct tg_worker *w);

struct tg_worker *tg_worker_get(struct tg_worker *w);
void tg_worker_put(struct tg_worker *w);
/* Blocking look-up (job pool only). The last good address stays when it fails. */
bool tg_worker_resolve(struct tg_worker *w);

/* One GET of the worker's /health, blocking (job pool only): true if it answers HTTP with anything but a server error (503 while a model loads). */
bool tg_worker_probe(struct tg_worker *w, int timeout_ms); /* pool/probe.c */

/* ---- choosing: pool/balance.c ---- */
enum tg_pick { TG_PICK_OK, TG_PICK_BUSY, TG_PICK_DOWN }; /* BUSY: usable ones exist, no slot free; DOWN: none usable */
/* Least outstanding among the usable workers with a free slot, `except` left out (may be NULL); takes the slot. A down worker is given to one caller at
 * a time when none is up (*trial = true): its request is the probe. */
enum tg_pick tg_model_pick(struct tg_model *m, const struct tg_worker *except, struct tg_worker **out, bool *trial);
bool tg_worker_take(struct tg_worker *w, unsigned slots); /* one slot by compare-and-swap; slots 0: no bound */
void tg_worker_up(struct tg_worker *w);   /* an answer came */
void tg_worker_down(struct tg_worker *w, const char *why); /* it could not be reached; logged once per change */

/* ---- waiting for a slot: pool/queue.c ---- */
enum tg_waiter_state { TG_WAIT_NONE, TG_WAIT_QUEUED, TG_WAIT_GRANTED };
struct tg_waiter { /* embedded in the exchange */
	struct tg_waiter *next, *prev;
	_Atomic(enum tg_waiter_state) state; /* changed under the queue's lock; its own loop also looks without */
	struct tg_model *model;
	struct tg_loop *loop;
	struct tg_msg msg;
	struct tg_worker *worker; /* once granted: its slot is ours */
	bool trial;
	tg_msg_fn granted;        /* runs in `loop` with the waiter */
};
enum tg_enqueue { TG_ENQUEUE_WAITING, TG_ENQUEUE_GOT, TG_ENQUEUE_FULL, TG_ENQUEUE_DOWN };
struct tg_queue *tg_queue_new(void);
struct tg_queue *tg_queue_get(struct tg_queue *q);
void tg_queue_put(struct tg_queue *q);
unsigned tg_queue_length(struct tg_queue *q);
/* First in, first served. GOT: a slot was free after all (w->worker). */
enum tg_enqueue tg_queue_wait(struct tg_model *m, struct tg_waiter *w);
/* Leaves the queue. False: a grant is already on its way (the waiter must live until `granted` ran, which then gives the slot back). */
bool tg_queue_leave(struct tg_waiter *w);
/* Gives a slot back and serves the queue. */
void tg_model_release(struct tg_model *m, struct tg_worker *w);
void tg_model_pump(struct tg_model *m); /* serves the queue: a worker came up */
