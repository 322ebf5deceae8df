/*
 * The table (see sessions.h): sets of WAYS entries, replaced within the set. Not a hash of the session over the workers (rendezvous hashing), which needs no memory but
 * moves sessions whenever a worker comes back, although theirs is alive. A mutex is enough: only requests that name a session come here.
 */
#include "pool/sessions.h"
#include "pool/health.h"
#include <stdlib.h>

#define WAYS 4u
#define SETS (TG_SESSIONS_MAX / WAYS)

struct entry {
	uint64_t key;     /* 0: free */
	uint32_t worker;  /* id */
	uint32_t incarnation;
	uint64_t used;    /* count of uses of the table: the least is the oldest */
};

struct tg_sessions {
	_Atomic unsigned refs;
	uv_mutex_t lock;
	struct entry *sets; /* SETS * WAYS; NULL: no session yet */
	uint64_t uses;
};

struct tg_sessions *tg_sessions_new(void)
{
	struct tg_sessions *s = calloc(1, sizeof *s);
	if (s && uv_mutex_init(&s->lock) != 0) {
		free(s);
		return NULL;
	}
	if (s)
		s->refs = 1;
	return s;
}

struct tg_sessions *tg_sessions_get(struct tg_sessions *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void tg_sessions_put(struct tg_sessions *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
		uv_mutex_destroy(&s->lock);
		free(s->sets);
		free(s);
	}
}

static struct entry *set_of(const struct tg_sessions *s, uint64_t key)
{
	return s->sets + (key >> 20) % SETS * WAYS;
}

struct tg_worker *tg_sessions_find(struct tg_sessions *s, const struct tg_model *m, uint64_t key)
{
	uint32_t id = 0, incarnation = 0;
	uv_mutex_lock(&s->lock);
	for (unsigned i = 0; s->sets && i < WAYS; i++) {
		struct entry *e = set_of(s, key) + i;
		if (e->key == key) {
			e->used = ++s->uses;
			id = e->worker;
			incarnation = e->incarnation;
		}
	}
	uv_mutex_unlock(&s->lock);
	for (unsigned i = 0; id && i < m->nworkers; i++) {
		struct tg_worker *w = m->workers[i];
		if (w->id == id)
			return atomic_load(&w->incarnation) == incarnation && tg_worker_usable(w) ? w : NULL;
	}
	return NULL;
}

void tg_sessions_bind(struct tg_sessions *s, uint64_t key, const struct tg_worker *w)
{
	uv_mutex_lock(&s->lock);
	if (!s->sets)
		s->sets = calloc(SETS * WAYS, sizeof *s->sets);
	if (s->sets) {
		struct entry *set = set_of(s, key), *e = set;
		for (unsigned i = 0; i < WAYS; i++) {
			if (set[i].key == key) {
				e = &set[i];
				break;
			}
			if (set[i].used < e->used)
				e = &set[i];
		}
		*e = (struct entry){ key, w->id, atomic_load(&w->incarnation), ++s->uses };
	}
	uv_mutex_unlock(&s->lock);
}
