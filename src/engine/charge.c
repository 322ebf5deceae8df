/* Memory of bodies (see charge.h). Sums are added to before they are looked at, so that two who ask at once cannot both have the last of it; what was too much is taken off again. */
#include "engine/charge.h"
#include <string.h>

void tg_charges_init(struct tg_charges *of, uint64_t most)
{
	of->most = most;
	pthread_mutex_init(&of->lock, NULL);
}

uint64_t tg_charge_most_of_one(const struct tg_charges *of)
{
	return of->most / 2;
}

bool tg_charge_begin(struct tg_charge *c, struct tg_charges *of, struct tg_slice owner)
{
	struct tg_charge_owner *found = NULL, *vacant = NULL;
	if (owner.n > TG_CHARGE_OWNER_MAX)
		owner.n = TG_CHARGE_OWNER_MAX;
	pthread_mutex_lock(&of->lock);
	for (struct tg_charge_owner *o = of->owner; !found && o < of->owner + TG_CHARGE_OWNERS; o++) {
		if (o->bodies && tg_slice_eq(owner, tg_slice_cstr(o->name)))
			found = o;
		else if (!o->bodies && !vacant)
			vacant = o;
	}
	if (!found && vacant) {
		found = vacant;
		memcpy(found->name, owner.n ? owner.p : "", owner.n);
		found->name[owner.n] = 0;
	}
	if (found)
		found->bodies++;
	pthread_mutex_unlock(&of->lock);
	*c = (struct tg_charge){ .of = of, .owner = found };
	return found != NULL;
}

void tg_charge_back(struct tg_charge *c, uint64_t bytes)
{
	if (!c)
		return;
	c->held -= bytes;
	atomic_fetch_sub(&c->owner->sum, bytes);
	atomic_fetch_sub(&c->of->sum, bytes);
}

void tg_charge_end(struct tg_charge *c)
{
	tg_charge_back(c, c->held);
	pthread_mutex_lock(&c->of->lock);
	c->owner->bodies--;
	pthread_mutex_unlock(&c->of->lock);
}

bool tg_charge(struct tg_charge *c, uint64_t bytes)
{
	if (!c || !bytes)
		return true;
	if (c->full)
		return false;
	uint64_t one = tg_charge_most_of_one(c->of);
	c->held += bytes;
	uint64_t owner = atomic_fetch_add(&c->owner->sum, bytes) + bytes, all = atomic_fetch_add(&c->of->sum, bytes) + bytes;
	c->full = c->held > one ? TG_CHARGE_BODY : owner > one ? TG_CHARGE_OWNER : all > c->of->most ? TG_CHARGE_ALL : TG_CHARGE_FITS;
	if (c->full)
		tg_charge_back(c, bytes);
	return !c->full;
}
