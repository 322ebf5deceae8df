#pragma once
/*
 * Models and their workers. A struct tg_models belongs to a snapshot and is immutable; what must outlive a reload hangs on it by count: a worker
 * (pool/worker.h), a model's queue and its sessions while the model's name stays.
 */
#include "pool/worker.h"

struct tg_queue;
struct tg_sessions;
struct tg_model {
	const struct tg_model_conf *conf; /* borrowed from the snapshot's configuration */
	unsigned index;                   /* place among the models: metrics */
	struct tg_worker **workers;
	unsigned nworkers;
	struct tg_queue *queue;
	struct tg_sessions *sessions;
	_Atomic unsigned *turn;           /* where ties begin: spreads equal workers */
};

struct tg_models {
	struct tg_model *v;
	unsigned n;
	const char **names; /* by index */
};

/* Builds from the configuration, taking over what `old` (may be NULL) has. A url's name is looked up later, by its probe. */
bool tg_models_build(struct tg_models *m, const struct tg_config *c, const struct tg_models *old, unsigned nloops, struct tg_err *err);
void tg_models_free(struct tg_models *m);
/* By name or alias; NULL: unknown. */
struct tg_model *tg_models_find(const struct tg_models *m, struct tg_slice name);
/* "a, b, c": for error texts. */
void tg_models_list(const struct tg_models *m, struct tg_buf *out);
bool tg_models_have_worker(const struct tg_models *m, const struct tg_worker *w);
/* One of its workers can take requests (when it has a slot). */
bool tg_model_usable(const struct tg_model *m);
/* All its workers are ours and have been given up (or it has none). */
bool tg_model_failed(const struct tg_model *m);

/* ---- choosing: pool/balance.c ---- */
enum tg_pick { TG_PICK_OK, TG_PICK_BUSY, TG_PICK_DOWN }; /* BUSY: worth waiting for: no slot free, or one is being started; DOWN: none usable */
/* Least outstanding among the usable workers with a free slot, `except` left out (may be NULL); takes the slot. *trial: the request is to try whether that worker is
 * back: one that is half open, or any down one where none is up; each is given to one caller at a time. */
enum tg_pick tg_model_pick(struct tg_model *m, const struct tg_worker *except, struct tg_worker **out, bool *trial);
enum tg_pick tg_model_pick_this(struct tg_model *m, struct tg_worker *w); /* that one, if it is usable */
bool tg_worker_take(struct tg_worker *w, unsigned slots); /* one slot by compare-and-swap; slots 0: no bound */
bool tg_model_hopeless(const struct tg_model *m); /* nobody is up, on the way, or being tried */

/* ---- waiting for a slot: pool/queue.c ---- */
enum tg_waiter_state { TG_WAIT_NONE, TG_WAIT_QUEUED, TG_WAIT_GRANTED };
struct tg_waiter { /* embedded in the exchange */
	struct tg_waiter *next, *prev;
	_Atomic(enum tg_waiter_state) state; /* changed under the queue's lock; its own loop also looks without */
	struct tg_model *model;
	struct tg_loop *loop;
	struct tg_msg msg;
	struct tg_worker *pin;    /* in: this one and no other while it is usable; NULL: any */
	const struct tg_worker *except; /* in: rather not this one; NULL: any */
	bool first;               /* in: to the head of the line: it has waited before */
	struct tg_worker *worker; /* once granted: its slot is ours; NULL: there is no worker to wait for any more */
	bool trial;
	tg_msg_fn granted;        /* runs in `loop` with the waiter */
};
/* As tg_model_pick, `except` being a wish: where there is nobody else, that one after all. Into w->worker and w->trial. */
enum tg_pick tg_waiter_pick(struct tg_model *m, struct tg_waiter *w);
enum tg_enqueue { TG_ENQUEUE_WAITING, TG_ENQUEUE_GOT, TG_ENQUEUE_FULL, TG_ENQUEUE_DOWN };
struct tg_queue *tg_queue_new(void);
struct tg_queue *tg_queue_get(struct tg_queue *q);
void tg_queue_put(struct tg_queue *q);
unsigned tg_queue_length(struct tg_queue *q);
/* First in, first served, but who waits for one busy worker, or will not have the free one, holds up nobody. GOT: a slot was free after all (w->worker). */
enum tg_enqueue tg_queue_wait(struct tg_model *m, struct tg_waiter *w);
/* Leaves the queue. False: a grant is already on its way (the waiter must live until `granted` ran, which then gives the slot back). */
bool tg_queue_leave(struct tg_waiter *w);
void tg_queue_pump(struct tg_queue *q); /* serves it: a worker came up, or was given up */
/* Gives a slot back and serves the queue. */
void tg_model_release(struct tg_model *m, struct tg_worker *w);
