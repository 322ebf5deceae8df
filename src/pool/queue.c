/*
 * The queue of a model whose slots are all taken: first in, first served, over all loops. One mutex guards the list; the hot path never meets it, since
 * it is touched only when no slot is free or somebody already waits (`length`, read without the lock).
 *
 * No wake-up is lost: a waiter enters the list and only then looks for a slot once more; a releaser gives its slot back and only then looks at the length. Whichever
 * comes second sees the other. A slot is handed over by taking it in the waiter's name and posting to the waiter's loop.
 */
#include "pool/model.h"
#include <stdlib.h>

struct tg_queue {
	_Atomic unsigned refs;
	_Atomic unsigned length;
	uv_mutex_t lock;
	struct tg_waiter *first, *last;
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

static void unlink_waiter(struct tg_queue *q, struct tg_waiter *w)
{
	*(w->prev ? &w->prev->next : &q->first) = w->next;
	*(w->next ? &w->next->prev : &q->last) = w->prev;
	w->next = w->prev = NULL;
	atomic_fetch_sub(&q->length, 1);
}

enum tg_enqueue tg_queue_wait(struct tg_model *m, struct tg_waiter *w)
{
	struct tg_queue *q = m->queue;
	enum tg_enqueue r = TG_ENQUEUE_WAITING;
	uv_mutex_lock(&q->lock);
	if (atomic_load(&q->length) >= m->conf->queue) {
		uv_mutex_unlock(&q->lock);
		return TG_ENQUEUE_FULL;
	}
	w->model = m;
	w->state = TG_WAIT_QUEUED;
	w->next = NULL;
	w->prev = q->last;
	*(q->last ? &q->last->next : &q->first) = w;
	q->last = w;
	atomic_fetch_add(&q->length, 1);
	if (q->first == w) {
		enum tg_pick p = tg_model_pick(m, NULL, &w->worker, &w->trial);
		if (p != TG_PICK_BUSY) {
			unlink_waiter(q, w);
			w->state = TG_WAIT_NONE;
			r = p == TG_PICK_OK ? TG_ENQUEUE_GOT : TG_ENQUEUE_DOWN;
		}
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

static void deliver(struct tg_loop *l, void *arg)
{
	struct tg_waiter *w = arg;
	w->granted(l, w);
}

void tg_model_pump(struct tg_model *m)
{
	struct tg_queue *q = m->queue;
	if (!atomic_load(&q->length))
		return;
	uv_mutex_lock(&q->lock);
	while (q->first) {
		struct tg_waiter *w = q->first;
		if (tg_model_pick(w->model, NULL, &w->worker, &w->trial) != TG_PICK_OK)
			break;
		unlink_waiter(q, w);
		w->state = TG_WAIT_GRANTED;
		tg_loop_post(w->loop, &w->msg, deliver, w);
	}
	uv_mutex_unlock(&q->lock);
}

void tg_model_release(struct tg_model *m, struct tg_worker *w)
{
	atomic_fetch_sub(&w->in_use, 1);
	tg_model_pump(m);
}
