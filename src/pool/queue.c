/*
 * The queue of a model whose slots are all taken: first in, first served, over all loops. One mutex guards the list; the hot path never meets it, since
 * it is touched only when no slot is free or somebody already waits (`length`, read without the lock).
 *
 * No wake-up is lost: a waiter enters the list and only then looks for a slot once more; a releaser gives its slot back and only then looks at the length. Whichever
 * comes second sees the other (length and in_use are sequentially consistent on both sides). A slot is handed over by taking it in the waiter's name and
 * posting to the waiter's loop.
 *
 * A waiter may be pinned to one worker (its session lives there). While that one is busy it waits, and those behind it are served from the others: a free slot always
 * beats the order.
 *
 * After a reload requests of two configurations wait in one queue. Order holds among those that have a worker in common (else the later, with more slots
 * perhaps, could starve the earlier); those with no worker in common do not hold up each other. `seams` says whether there is more than one to look at.
 */
#include "pool/model.h"
#include <stdlib.h>

struct tg_queue {
	_Atomic unsigned refs;
	_Atomic unsigned length;
	uv_mutex_t lock;
	struct tg_waiter *first, *last;
	unsigned seams; /* neighbours of different configurations */
};

struct tg_queue *tg_queue_new(void)
{
	struct tg_queue *q = calloc(1, sizeof *q);
	if (q && uv_mutex_init(&q->lock)) {
		free(q);
		return NULL;
	}
	if (q)
		q->refs = 1;
	return q;
}

struct tg_queue *tg_queue_get(struct tg_queue *q)
{
	atomic_fetch_add(&q->refs, 1);
	return q;
}

void tg_queue_put(struct tg_queue *q)
{
	if (q && atomic_fetch_sub(&q->refs, 1) == 1) {
		uv_mutex_destroy(&q->lock);
		free(q);
	}
}

unsigned tg_queue_length(struct tg_queue *q)
{
	return atomic_load(&q->length);
}

static bool in_the_way(const struct tg_model *a, const struct tg_model *b)
{
	if (a == b)
		return true;
	for (unsigned i = 0; i < a->nworkers; i++)
		for (unsigned k = 0; k < b->nworkers; k++)
			if (a->workers[i] == b->workers[k])
				return true;
	return false;
}

static unsigned seam(const struct tg_waiter *a, const struct tg_waiter *b)
{
	return a && b && a->model != b->model;
}

static void link_waiter(struct tg_queue *q, struct tg_waiter *w)
{
	w->prev = w->first ? NULL : q->last;
	w->next = w->first ? q->first : NULL;
	q->seams -= seam(w->prev, w->next);
	q->seams += seam(w->prev, w) + seam(w, w->next);
	*(w->prev ? &w->prev->next : &q->first) = w;
	*(w->next ? &w->next->prev : &q->last) = w;
	atomic_fetch_add(&q->length, 1);
}

static void unlink_waiter(struct tg_queue *q, struct tg_waiter *w)
{
	q->seams += seam(w->prev, w->next);
	q->seams -= seam(w->prev, w) + seam(w, w->next);
	*(w->prev ? &w->prev->next : &q->first) = w->next;
	*(w->next ? &w->next->prev : &q->last) = w->prev;
	w->next = w->prev = NULL;
	atomic_fetch_sub(&q->length, 1);
}

static void deliver(struct tg_loop *l, void *arg)
{
	struct tg_waiter *w = arg;
	w->granted(l, w);
}

enum tg_pick tg_waiter_pick(struct tg_model *m, struct tg_waiter *w)
{
	enum tg_pick p = tg_model_pick(m, w->except, &w->worker, &w->trial);
	if (p == TG_PICK_DOWN && w->except) { /* better that one than nobody */
		w->except = NULL;
		p = tg_model_pick(m, NULL, &w->worker, &w->trial);
	}
	return p;
}

/* One who may be served now: OK: its worker (NULL: there is none to wait for any more). BUSY: it must wait. *alone: and nobody behind it for that reason. */
static enum tg_pick serve_one(struct tg_waiter *w, bool arriving, bool *alone)
{
	w->worker = NULL;
	w->trial = *alone = false;
	if (w->pin) {
		enum tg_pick p = tg_model_pick_this(w->model, w->pin);
		*alone = p == TG_PICK_BUSY;
		if (p == TG_PICK_OK)
			w->worker = w->pin;
		if (p != TG_PICK_DOWN)
			return p;
		w->pin = NULL; /* it died: any other will do */
	}
	enum tg_pick p = tg_waiter_pick(w->model, w);
	*alone = p == TG_PICK_BUSY && w->except;
	if (p != TG_PICK_DOWN)
		return p;
	return arriving || tg_model_hopeless(w->model) ? TG_PICK_OK : TG_PICK_BUSY; /* who waits already may see how a trial ends */
}

/* Serves whoever can be served, in order; under the lock. `self` is not told by message: it is the caller's own waiter, who looks at its state. */
static void serve(struct tg_queue *q, const struct tg_waiter *self)
{
	/* Configurations that must wait, and whatever stands behind them. More than a few at once are not worth the memory: then all wait in line. */
	const struct tg_model *stuck[4], *last = NULL;
	unsigned n = 0;
	bool blocked = false;
	for (struct tg_waiter *w = q->first, *next; w; w = next) {
		next = w->next;
		bool fresh = w->model != last, alone = false;
		if (fresh) {
			last = w->model;
			blocked = false;
			for (unsigned i = 0; i < n; i++)
				blocked |= in_the_way(stuck[i], last);
		}
		if (blocked ? fresh : serve_one(w, w == self, &alone) != TG_PICK_OK) {
			if (alone)
				continue;
			if (!q->seams || n == sizeof stuck / sizeof stuck[0])
				break;
			stuck[n++] = last;
			blocked = true;
		}
		if (blocked)
			continue;
		unlink_waiter(q, w);
		w->state = TG_WAIT_GRANTED;
		if (w != self)
			tg_loop_post(w->loop, &w->msg, deliver, w);
	}
}

enum tg_enqueue tg_queue_wait(struct tg_model *m, struct tg_waiter *w)
{
	struct tg_queue *q = m->queue;
	uv_mutex_lock(&q->lock);
	/* Who has been let in before does not count against the bound: there are no more of them than slots. */
	bool full = !w->first && atomic_load(&q->length) >= m->conf->queue;
	w->model = m;
	w->state = TG_WAIT_QUEUED;
	link_waiter(q, w);
	serve(q, w);
	enum tg_enqueue r = TG_ENQUEUE_WAITING;
	if (w->state == TG_WAIT_GRANTED) {
		w->state = TG_WAIT_NONE;
		r = w->worker ? TG_ENQUEUE_GOT : TG_ENQUEUE_DOWN;
	} else if (full) { /* and there is nothing free that those before it would not have */
		unlink_waiter(q, w);
		w->state = TG_WAIT_NONE;
		r = TG_ENQUEUE_FULL;
	}
	uv_mutex_unlock(&q->lock);
	return r;
}

bool tg_queue_leave(struct tg_waiter *w)
{
	struct tg_queue *q = w->model->queue;
	uv_mutex_lock(&q->lock);
	bool queued = w->state == TG_WAIT_QUEUED;
	if (queued) {
		unlink_waiter(q, w);
		w->state = TG_WAIT_NONE;
	}
	uv_mutex_unlock(&q->lock);
	return queued;
}

void tg_queue_pump(struct tg_queue *q)
{
	if (!atomic_load(&q->length))
		return;
	uv_mutex_lock(&q->lock);
	serve(q, NULL);
	uv_mutex_unlock(&q->lock);
}

void tg_model_release(struct tg_model *m, struct tg_worker *w)
{
	atomic_fetch_sub(&w->in_use, 1);
	tg_queue_pump(m->queue);
}
