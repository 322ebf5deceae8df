/* A hash table of pointers (see uses.h): it may grow, what it points to never moves. */
#include "store/uses.h"
#include "policy/identity.h"
#include <stdatomic.h>
#include <stdlib.h>

struct place {
	struct tg_use use; /* first: requests know this much */
	uint64_t told_s;
	char id[24];
};

struct tg_uses {
	struct place **v;
	size_t mask, n;
};

struct tg_uses *tg_uses_new(void)
{
	struct tg_uses *u = calloc(1, sizeof *u);
	if (u && !(u->v = calloc(64, sizeof *u->v))) {
		free(u);
		return NULL;
	}
	if (u)
		u->mask = 63;
	return u;
}

void tg_uses_free(struct tg_uses *u)
{
	for (size_t i = 0; u && i <= u->mask; i++)
		free(u->v[i]);
	if (u)
		free(u->v);
	free(u);
}

/* Where the id is, or where it would be. */
static struct place **slot(struct place **v, size_t mask, const char *id)
{
	size_t at = (size_t)tg_stored_account(id) & mask;
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

struct tg_use *tg_uses_of(struct tg_uses *u, const char *id)
{
	struct place **p = slot(u->v, u->mask, id);
	if (*p)
		return &(*p)->use;
	if (strlen(id) >= sizeof (*p)->id || (u->n * 2 > u->mask && !grow(u)))
		return NULL;
	struct place *made = calloc(1, sizeof *made);
	if (!made)
		return NULL;
	memcpy(made->id, id, strlen(id) + 1);
	*slot(u->v, u->mask, id) = made;
	u->n++;
	return &made->use;
}

uint64_t tg_uses_last(const struct tg_uses *u, const char *id)
{
	struct place *p = *slot(u->v, u->mask, id);
	return p ? atomic_load_explicit(&p->use.last_s, memory_order_relaxed) : 0;
}

void tg_uses_changed(struct tg_uses *u, bool (*one)(void *ctx, const char *id, uint64_t last_s), void *ctx)
{
	for (size_t i = 0; i <= u->mask; i++) {
		struct place *p = u->v[i];
		uint64_t last = p ? atomic_load_explicit(&p->use.last_s, memory_order_relaxed) : 0;
		if (!p || last == p->told_s)
			continue;
		if (!one(ctx, p->id, last))
			return;
		p->told_s = last;
	}
}
