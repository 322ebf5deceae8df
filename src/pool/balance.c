/*
 * Which worker: the one with the fewest requests now. Up to SCAN_MAX workers all are looked at; beyond that two at random are, and the less busy of the two is taken
 * (Mitzenmacher's power of two choices: nearly as even as a full scan, at a cost that does not grow), and all only if neither can take it. The slot is taken by
 * compare-and-swap in the same step, so that two loops can never put slots + 1 requests on a worker; whoever loses the race looks again.
 */
#include "base/clock.h"
#include "pool/health.h"

#define SCAN_MAX 16u
#define RAMP_STEEPEST 16u /* a worker that has just come back counts as that many times as busy, and less and less until TG_RAMP_MS */

bool tg_worker_take(struct tg_worker *w, unsigned slots)
{
	int now = atomic_load_explicit(&w->in_use, memory_order_relaxed);
	do {
		if (slots && (unsigned)now >= slots)
			return false;
	} while (!atomic_compare_exchange_weak(&w->in_use, &now, now + 1));
	return true;
}

/* How busy it is, as far as choosing goes. */
static uint64_t load_of(struct tg_worker *w, int in_use)
{
	uint64_t load = (uint64_t)(in_use + 1) * RAMP_STEEPEST, since = atomic_load_explicit(&w->ramp_ms, memory_order_relaxed);
	if (!since)
		return load;
	uint64_t gone = tg_mono_us() / 1000 - since;
	if (gone >= TG_RAMP_MS) {
		atomic_store_explicit(&w->ramp_ms, 0, memory_order_relaxed);
		return load;
	}
	return gone < TG_RAMP_MS / RAMP_STEEPEST ? load * RAMP_STEEPEST : (load * TG_RAMP_MS + gone - 1) / gone;
}

struct choice {
	struct tg_worker *best;
	uint64_t load;
	struct tg_worker *due; /* half open: it is to have one request as its trial */
	bool usable, coming;   /* there is one, if perhaps without a slot; one is being started */
};

static void consider(struct choice *c, struct tg_worker *w, const struct tg_worker *except, unsigned slots)
{
	int state = atomic_load_explicit(&w->state, memory_order_relaxed);
	if (state == TG_WORKER_STARTING) {
		c->coming = true;
		return;
	}
	if (w == except || state == TG_WORKER_FAILED)
		return;
	if (state == TG_WORKER_DOWN) {
		if (atomic_load_explicit(&w->half_open, memory_order_relaxed))
			c->due = w;
		return;
	}
	c->usable = true;
	int use = atomic_load(&w->in_use); /* in order after the waiter's entry in the queue: see queue.c */
	if (slots && (unsigned)use >= slots)
		return;
	uint64_t load = load_of(w, use);
	if (!c->best || load < c->load) {
		c->best = w;
		c->load = load;
	}
}

static bool take_trial(struct tg_worker *w, unsigned slots)
{
	bool no = false;
	if (!atomic_compare_exchange_strong(&w->trying, &no, true))
		return false;
	if (tg_worker_take(w, slots))
		return true;
	atomic_store(&w->trying, false);
	return false;
}

static uint32_t mix(uint32_t x) /* Wellons' lowbias32 */
{
	x ^= x >> 16;
	x *= 0x7feb352du;
	x ^= x >> 15;
	x *= 0x846ca68bu;
	return x ^ x >> 16;
}

static struct choice look(struct tg_model *m, const struct tg_worker *except)
{
	unsigned slots = m->conf->slots, n = m->nworkers;
	unsigned turn = n > 1 ? atomic_fetch_add_explicit(m->turn, 1, memory_order_relaxed) : 0;
	struct choice c = { 0 };
	if (n > SCAN_MAX) {
		uint32_t r = mix(turn);
		unsigned a = r % n, b = (a + 1 + (r >> 16) % (n - 1)) % n;
		consider(&c, m->workers[a], except, slots);
		consider(&c, m->workers[b], except, slots);
		if (c.best)
			return c;
	}
	for (unsigned i = 0, k = n ? turn % n : 0; i < n; i++, k = k + 1 < n ? k + 1 : 0)
		consider(&c, m->workers[k], except, slots);
	return c;
}

enum tg_pick tg_model_pick(struct tg_model *m, const struct tg_worker *except, struct tg_worker **out, bool *trial)
{
	unsigned slots = m->conf->slots;
	*trial = false;
	struct choice c = { 0 };
	/* Each lost race means that another loop took a slot: n * slots turns bound it; a plain number is enough in practice. */
	for (int attempt = 0; attempt < 64; attempt++) {
		c = look(m, except);
		if (c.due && take_trial(c.due, slots)) {
			*out = c.due;
			*trial = true;
			return TG_PICK_OK;
		}
		if (c.best && tg_worker_take(c.best, slots)) {
			*out = c.best;
			return TG_PICK_OK;
		}
		if (!c.best)
			break;
	}
	if (c.usable)
		return TG_PICK_BUSY; /* every race lost: whoever won has the slots; an up worker is never given as a trial */
	for (unsigned i = 0; i < m->nworkers; i++) {
		struct tg_worker *w = m->workers[i];
		if (w != except && atomic_load(&w->state) == TG_WORKER_DOWN && take_trial(w, slots)) {
			*out = w;
			*trial = true;
			return TG_PICK_OK;
		}
	}
	return c.coming ? TG_PICK_BUSY : TG_PICK_DOWN;
}

enum tg_pick tg_model_pick_this(struct tg_model *m, struct tg_worker *w)
{
	if (!tg_worker_usable(w))
		return TG_PICK_DOWN;
	return tg_worker_take(w, m->conf->slots) ? TG_PICK_OK : TG_PICK_BUSY;
}

bool tg_model_hopeless(const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++) {
		int s = atomic_load(&m->workers[i]->state);
		if (s != TG_WORKER_FAILED && (s != TG_WORKER_DOWN || atomic_load(&m->workers[i]->trying)))
			return false;
	}
	return true;
}
