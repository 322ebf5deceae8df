/*
 * A hash table of pointers (see uses.h): it may grow, what it points to never moves. What is owed hangs on a place only once somebody has come, so that the many keys that nobody uses stay small, and
 * those who are owed something are a list, so that telling the database does not hold the lock.
 */
#include "store/uses.h"
#include "base/hash.h"
#include <pthread.h>
#include <stdlib.h>

struct due {
	struct tg_owed owed;
	unsigned room;         /* of owed.days */
	struct place *next;    /* of those that are owed something */
	uint64_t told_s;       /* the last_s that the database knows */
	bool listed;
};

struct place {
	struct tg_use use; /* first: requests know this much */
	struct tg_use_about *about; /* once it is there it does not change: it is read without the lock */
	struct due *due;
	char id[24];
};

struct tg_uses {
	pthread_mutex_t lock; /* of the table */
	struct place **v;
	size_t mask, n;
	struct place *due;    /* the store's */
};

struct tg_uses *tg_uses_new(void)
{
	struct tg_uses *u = calloc(1, sizeof *u);
	if (u && !(u->v = calloc(64, sizeof *u->v))) {
		free(u);
		return NULL;
	}
	if (u) {
		u->mask = 63;
		pthread_mutex_init(&u->lock, NULL);
	}
	return u;
}

void tg_uses_free(struct tg_uses *u)
{
	if (!u)
		return;
	for (size_t i = 0; i <= u->mask; i++) {
		struct place *p = u->v[i];
		if (!p)
			continue;
		tg_use_free(&p->use);
		free(p->about);
		if (p->due)
			free(p->due->owed.days);
		free(p->due);
		free(p);
	}
	free(u->v);
	pthread_mutex_destroy(&u->lock);
	free(u);
}

/* Where the id is, or where it would be. */
static struct place **slot(struct place **v, size_t mask, const char *id)
{
	size_t at = (size_t)tg_hash(tg_hash_seed(), id, strlen(id)) & mask;
	while (v[at] && strcmp(v[at]->id, id) != 0)
		at = (at + 1) & mask;
	return &v[at];
}

static bool grow(struct tg_uses *u)
{
	size_t mask = u->mask * 2 + 1;
	struct place **v = calloc(mask + 1, sizeof *v);
	if (!v)
		return false;
	for (size_t i = 0; i <= u->mask; i++)
		if (u->v[i])
			*slot(v, mask, u->v[i]->id) = u->v[i];
	free(u->v);
	u->v = v;
	u->mask = mask;
	return true;
}

static struct tg_use_about *about_of(const struct tg_principal *who)
{
	struct tg_use_about *a = calloc(1, sizeof *a);
	if (!a)
		return NULL;
	memcpy(a->source, who->name, sizeof a->source);
	memcpy(a->prefix, who->prefix, sizeof a->prefix);
	memcpy(a->label, who->label, sizeof a->label);
	return a;
}

/* Whose name is not in the database. */
static bool is_named_here(const struct tg_principal *who)
{
	return who && who->source != TG_SRC_STORED_KEY && who->source != TG_SRC_USER;
}

static struct place *make(struct tg_uses *u, const char *id)
{
	if (strlen(id) >= sizeof u->v[0]->id || (u->n * 2 > u->mask && !grow(u)))
		return NULL;
	struct place *p = calloc(1, sizeof *p);
	if (!p)
		return NULL;
	memcpy(p->id, id, strlen(id) + 1);
	*slot(u->v, u->mask, id) = p;
	u->n++;
	return p;
}

static struct tg_use *find(struct tg_uses *u, const char *id, const struct tg_principal *who)
{
	pthread_mutex_lock(&u->lock);
	struct place *p = *slot(u->v, u->mask, id);
	if (!p)
		p = make(u, id);
	if (p && !p->about && is_named_here(who) && !(p->about = about_of(who)))
		p = NULL; /* no memory: as if there were no place */
	pthread_mutex_unlock(&u->lock);
	return p ? &p->use : NULL;
}

struct tg_use *tg_uses_of(struct tg_uses *u, const struct tg_principal *who)
{
	return find(u, who->id, who);
}

struct tg_use *tg_uses_of_id(struct tg_uses *u, const char *id)
{
	return find(u, id, NULL);
}

uint64_t tg_uses_last(struct tg_uses *u, const char *id)
{
	pthread_mutex_lock(&u->lock);
	struct place *p = *slot(u->v, u->mask, id);
	pthread_mutex_unlock(&u->lock);
	return p ? atomic_load_explicit(&p->use.last_s, memory_order_relaxed) : 0;
}

/* ---- what the database is owed ---- */

static void add(struct tg_owed_day *to, const struct tg_counts *c)
{
	for (unsigned i = 0; i < TG_COUNTS_N; i++) {
		uint64_t *at = tg_counts_at(&to->counts, i);
		*at = tg_count_sum(*at, *tg_counts_at((struct tg_counts *)(uintptr_t)c, i));
	}
}

/* Room for one day more, or at least for one. */
static bool make_room(struct due *d)
{
	if (d->owed.ndays < d->room || d->room == TG_OWED_DAYS)
		return true;
	struct tg_owed_day *grown = realloc(d->owed.days, (d->room + 1) * sizeof *grown);
	if (grown) {
		d->owed.days = grown;
		d->room++;
	}
	return d->room > 0;
}

static void owe(struct due *d, uint32_t day, const struct tg_counts *c)
{
	struct tg_owed *o = &d->owed;
	unsigned at = o->ndays;
	while (at && o->days[at - 1].day > day)
		at--;
	if (at && o->days[at - 1].day == day) {
		add(&o->days[at - 1], c);
		return;
	}
	if (o->ndays == d->room) { /* the first two become one, the newer of them */
		if (at == 0 || o->ndays == 1) {
			o->days[0].day = at ? day : o->days[0].day;
			add(&o->days[0], c);
			return;
		}
		add(&o->days[1], &o->days[0].counts);
		memmove(&o->days[0], &o->days[1], (o->ndays - 1) * sizeof o->days[0]);
		o->ndays--;
		at--;
	}
	memmove(&o->days[at + 1], &o->days[at], (o->ndays - at) * sizeof o->days[0]);
	o->days[at] = (struct tg_owed_day){ day, *c };
	o->ndays++;
}

static bool has_news(const struct place *p)
{
	const struct tg_tally *t = atomic_load_explicit(&p->use.tally, memory_order_relaxed);
	return t || atomic_load_explicit(&p->use.last_s, memory_order_relaxed) != (p->due ? p->due->told_s : 0);
}

static void gather_one(struct tg_uses *u, struct place *p)
{
	uint32_t day;
	struct tg_counts c;
	if (!p->due && !(p->due = calloc(1, sizeof *p->due)))
		return;
	struct due *d = p->due;
	d->owed.id = p->id;
	d->owed.about = p->about;
	/* A key of files has no row of its own that would say when it was used. */
	uint64_t last = p->about ? 0 : atomic_load_explicit(&p->use.last_s, memory_order_relaxed);
	d->owed.last_s = last != d->told_s ? last : 0;
	for (unsigned i = 0; i < 2; i++)
		if (make_room(d) && tg_use_take(&p->use, i, &day, &c)) /* without memory it stays counted where it is */
			owe(d, day, &c);
	if (d->listed || (!d->owed.last_s && !d->owed.ndays))
		return;
	d->listed = true;
	d->next = u->due;
	u->due = p;
}

bool tg_uses_gather(struct tg_uses *u)
{
	pthread_mutex_lock(&u->lock);
	for (size_t i = 0; i <= u->mask; i++)
		if (u->v[i] && has_news(u->v[i]))
			gather_one(u, u->v[i]);
	pthread_mutex_unlock(&u->lock);
	return u->due != NULL;
}

bool tg_uses_each_owed(struct tg_uses *u, bool (*one)(void *ctx, const struct tg_owed *o), void *ctx)
{
	for (struct place *p = u->due; p; p = p->due->next)
		if (!one(ctx, &p->due->owed))
			return false;
	return true;
}

void tg_uses_paid(struct tg_uses *u)
{
	for (struct place *p = u->due; p; p = p->due->next) {
		struct due *d = p->due;
		if (d->owed.last_s)
			d->told_s = d->owed.last_s;
		if (d->owed.ndays)
			d->owed.named = d->owed.days[d->owed.ndays - 1].day;
		d->owed.last_s = d->owed.ndays = 0;
		d->listed = false;
	}
	u->due = NULL;
}
