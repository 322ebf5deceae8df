/*
 * The list of suspects (see quarantine.h), under a mutex that nobody meets while the list is empty: a linear list of a few hundred entries, since it is looked at only
 * in bad times.
 *
 * A death and the broken-off requests come in any order: the loop sees the connection close, the control thread the process end. So a suspect remembers its worker for a
 * while, and a worker's death remembers its time.
 */
#include "pool/quarantine.h"
#include <stdlib.h>

/* A process: a worker's, between two of its starts. */
struct life {
	unsigned worker, incarnation; /* worker 0: none */
};

struct broken_off {
	struct life by;
	bool counts;     /* already: a started worker */
	uint64_t at_ms;
};

struct suspect {
	uint64_t print;
	unsigned kills;
	struct life died[TG_QUARANTINE_KILLS]; /* the first ones: each counts once, however many requests of this print it had in hand */
	/* By whom, as far as those are not known to have died: a request may have met both before the first death is told. */
	struct broken_off by[TG_QUARANTINE_KILLS];
	uint64_t until_ms;   /* forgotten then */
};

struct death {
	struct life of;
	uint64_t at_ms;
};

struct tg_quarantine {
	uv_mutex_t lock;
	_Atomic unsigned n;
	struct suspect list[TG_QUARANTINE_MAX];
	struct death deaths[TG_WORKERS_MAX];
	unsigned next_death;
};

struct tg_quarantine *tg_quarantine_new(void)
{
	struct tg_quarantine *q = calloc(1, sizeof *q);
	if (!q)
		return NULL;
	if (uv_mutex_init(&q->lock) != 0) {
		free(q);
		return NULL;
	}
	return q;
}

void tg_quarantine_free(struct tg_quarantine *q)
{
	if (!q)
		return;
	uv_mutex_destroy(&q->lock);
	free(q);
}

bool tg_quarantine_empty(const struct tg_quarantine *q)
{
	return atomic_load_explicit(&q->n, memory_order_relaxed) == 0;
}

static void drop(struct tg_quarantine *q, unsigned i)
{
	q->list[i] = q->list[q->n - 1];
	q->n--;
}

/* The entry, a fresh one where there is none; under the lock. */
static struct suspect *entry(struct tg_quarantine *q, uint64_t print, uint64_t now_ms)
{
	unsigned oldest = 0;
	for (unsigned i = 0; i < q->n;) {
		if (q->list[i].until_ms <= now_ms) {
			drop(q, i);
			continue;
		}
		if (q->list[i].print == print)
			return &q->list[i];
		i++;
	}
	for (unsigned i = 1; i < q->n; i++)
		if (q->list[i].until_ms < q->list[oldest].until_ms)
			oldest = i;
	if (q->n == TG_QUARANTINE_MAX)
		drop(q, oldest);
	struct suspect *s = &q->list[q->n++];
	*s = (struct suspect){ .print = print };
	return s;
}

/* Two threads' clocks: either may be a little behind. */
static bool near(uint64_t a, uint64_t b)
{
	return (a > b ? a - b : b - a) < TG_DEATH_MS;
}

static struct life life_of(const struct tg_worker *w)
{
	return (struct life){ w->id, atomic_load(&w->incarnation) };
}

static bool same(struct life a, struct life b)
{
	return a.worker == b.worker && a.incarnation == b.incarnation;
}

static void blame(struct suspect *s, struct life l)
{
	for (unsigned i = 0; i < TG_QUARANTINE_KILLS && i < s->kills; i++)
		if (same(s->died[i], l))
			return;
	if (s->kills < TG_QUARANTINE_KILLS)
		s->died[s->kills++] = l;
}

void tg_quarantine_suspect(struct tg_quarantine *q, uint64_t print, const struct tg_worker *w, uint64_t now_ms)
{
	uv_mutex_lock(&q->lock);
	struct suspect *s = entry(q, print, now_ms);
	struct life l = life_of(w);
	bool dead = false;
	for (unsigned i = 0; i < TG_WORKERS_MAX; i++)
		dead |= same(q->deaths[i].of, l) && near(now_ms, q->deaths[i].at_ms);
	s->until_ms = now_ms + TG_QUARANTINE_MS;
	unsigned at = 0;
	for (unsigned i = 1; i < TG_QUARANTINE_KILLS; i++)
		if (!same(s->by[at].by, l) && (same(s->by[i].by, l) || s->by[i].at_ms < s->by[at].at_ms))
			at = i;
	if (dead)
		blame(s, l);
	else
		s->by[at] = (struct broken_off){ l, w->started != NULL, now_ms };
	uv_mutex_unlock(&q->lock);
}

void tg_quarantine_death(struct tg_quarantine *q, const struct tg_worker *w, uint64_t now_ms)
{
	uv_mutex_lock(&q->lock);
	struct life l = life_of(w);
	q->deaths[q->next_death++ % TG_WORKERS_MAX] = (struct death){ l, now_ms };
	for (unsigned i = 0; i < q->n; i++)
		for (unsigned k = 0; k < TG_QUARANTINE_KILLS; k++) {
			struct broken_off *b = &q->list[i].by[k];
			if (same(b->by, l) && near(now_ms, b->at_ms)) {
				*b = (struct broken_off){ 0 };
				blame(&q->list[i], l);
			}
		}
	uv_mutex_unlock(&q->lock);
}

void tg_quarantine_absolve(struct tg_quarantine *q, const struct tg_worker *w)
{
	uv_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->n; i++)
		for (unsigned k = 0; k < TG_QUARANTINE_KILLS; k++)
			if (q->list[i].by[k].by.worker == w->id)
				q->list[i].by[k] = (struct broken_off){ 0 };
	uv_mutex_unlock(&q->lock);
}

static unsigned kills_of(const struct suspect *s, uint64_t now_ms)
{
	unsigned n = s->kills;
	for (unsigned k = 0; k < TG_QUARANTINE_KILLS; k++)
		n += s->by[k].counts && near(now_ms, s->by[k].at_ms);
	return n;
}

unsigned tg_quarantine_left(struct tg_quarantine *q, uint64_t print, uint64_t now_ms)
{
	unsigned left = 0;
	uv_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->n; i++)
		if (q->list[i].print == print && q->list[i].until_ms > now_ms && kills_of(&q->list[i], now_ms) >= TG_QUARANTINE_KILLS)
			left = (unsigned)((q->list[i].until_ms - now_ms) / 1000 + 1);
	uv_mutex_unlock(&q->lock);
	return left;
}

void tg_quarantine_clear(struct tg_quarantine *q, uint64_t print)
{
	uv_mutex_lock(&q->lock);
	for (unsigned i = 0; i < q->n; i++)
		if (q->list[i].print == print) {
			drop(q, i);
			break;
		}
	uv_mutex_unlock(&q->lock);
}
