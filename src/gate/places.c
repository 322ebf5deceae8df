/* Places for uploads (see places.h). At most as many names as places, so looking through all of them is a microsecond, beside a connection that is made. */
#include "gate/places.h"
#include <stdio.h>
#include <string.h>

void tg_places_init(struct tg_places *p)
{
	*p = (struct tg_places){ 0 };
	uv_mutex_init(&p->lock);
}

void tg_places_free(struct tg_places *p)
{
	uv_mutex_destroy(&p->lock);
}

/* Under the lock: of that name, else a free one; -1: all are taken. */
static int find(const struct tg_places *p, const char *name)
{
	int vacant = -1;
	for (int i = 0; i < TG_UPLOADS_MAX; i++) {
		if (p->of[i].n && strcmp(p->of[i].name, name) == 0)
			return i;
		if (!p->of[i].n && vacant < 0)
			vacant = i;
	}
	return vacant;
}

enum tg_place_taken tg_places_take(struct tg_places *p, const char *name)
{
	uv_mutex_lock(&p->lock);
	int i = find(p, name);
	enum tg_place_taken r = i >= 0 && p->of[i].n >= TG_UPLOADS_OF_ONE ? TG_PLACE_OF_ONE : i < 0 || p->all >= TG_UPLOADS_MAX ? TG_PLACE_OF_ALL : TG_PLACE_TAKEN;
	if (r == TG_PLACE_TAKEN) {
		if (!p->of[i].n)
			snprintf(p->of[i].name, sizeof p->of[i].name, "%s", name);
		p->of[i].n++;
		p->all++;
	}
	uv_mutex_unlock(&p->lock);
	return r;
}

void tg_places_leave(struct tg_places *p, const char *name)
{
	uv_mutex_lock(&p->lock);
	int i = find(p, name);
	if (i >= 0 && p->of[i].n) {
		p->of[i].n--;
		p->all--;
	}
	uv_mutex_unlock(&p->lock);
}
