/*
 * Which worker: the one with the fewest requests now, by one look over all of them. The slot is taken by compare-and-swap in the same step, so
 * that two loops can never put slots + 1 requests on a worker; whoever loses the race looks again.
 */
#include "base/log.h"
#include "pool/model.h"

bool tg_worker_take(struct tg_worker *w, unsigned slots)
{
	int now = atomic_load_explicit(&w->in_use, memory_order_relaxed);
	do {
		if (slots && (unsigned)now >= slots)
			return false;
	} while (!atomic_compare_exchange_weak(&w->in_use, &now, now + 1));
	return true;
}

enum tg_pick tg_model_pick(struct tg_model *m, const struct tg_worker *except, struct tg_worker **out, bool *trial)
{
	unsigned slots = m->conf->slots, n = m->nworkers;
	unsigned start = n > 1 ? atomic_fetch_add_explicit(m->turn, 1, memory_order_relaxed) % n : 0;
	*trial = false;
	/* Each lost race means that another loop took a slot: n * slots turns bound it; a plain number is enough in practice. */
	bool usable = true;
	for (int attempt = 0; usable && attempt < 64; attempt++) {
		struct tg_worker *best = NULL;
		int best_use = 0;
		usable = false;
		for (unsigned i = 0; i < n; i++) {
			struct tg_worker *w = m->workers[(start + i) % n];
			if (w == except || atomic_load_explicit(&w->state, memory_order_relaxed) == TG_WORKER_DOWN)
				continue;
			usable = true;
			int use = atomic_load(&w->in_use); /* in order after the waiter's entry in the queue: see queue.c */
			if (slots && (unsigned)use >= slots)
				continue;
			if (!best || use < best_use) {
				best = w;
				best_use = use;
			}
		}
		if (usable && !best)
			return TG_PICK_BUSY;
		if (best && tg_worker_take(best, slots)) {
			*out = best;
			return TG_PICK_OK;
		}
	}
	if (usable)
		return TG_PICK_BUSY; /* every race lost: whoever won has the slots; an up worker is never given as a trial */
	for (unsigned i = 0; i < n; i++) {
		struct tg_worker *w = m->workers[(start + i) % n];
		bool no = false;
		if (w != except && atomic_compare_exchange_strong(&w->trying, &no, true)) {
			if (tg_worker_take(w, slots)) {
				*out = w;
				*trial = true;
				return TG_PICK_OK;
			}
			atomic_store(&w->trying, false);
		}
	}
	return TG_PICK_DOWN;
}

void tg_worker_up(struct tg_worker *w)
{
	atomic_fetch_add_explicit(&w->successes, 1, memory_order_relaxed);
	if (atomic_load_explicit(&w->state, memory_order_relaxed) != TG_WORKER_UP && atomic_exchange(&w->state, TG_WORKER_UP) == TG_WORKER_DOWN)
		tg_log(TG_LOG_F_INFO, "worker.up", "t:worker", w->name, NULL);
}

void tg_worker_down(struct tg_worker *w, const char *why)
{
	atomic_fetch_add_explicit(&w->failures, 1, memory_order_relaxed);
	if (atomic_exchange(&w->state, TG_WORKER_DOWN) != TG_WORKER_DOWN)
		tg_log(TG_LOG_F_WARN, "worker.down", "t:worker", w->name, "s:why", why, NULL);
}
