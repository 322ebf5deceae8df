#pragma once
/*
 * When keys were last used. Requests write a number in memory (struct tg_use); the store puts what has changed into the database once a minute. A place, once given, stays where it is until the end: principals of
 * old snapshots point to it too.
 *
 * Owner: the store, under its lock; only the numbers are touched by others.
 */
#include "policy/principal.h"

struct tg_uses; /* opaque */
struct tg_uses *tg_uses_new(void);
void tg_uses_free(struct tg_uses *u); /* after the last snapshot */
struct tg_use *tg_uses_of(struct tg_uses *u, const char *id); /* made where it is missing; NULL: no memory */
uint64_t tg_uses_last(const struct tg_uses *u, const char *id); /* 0: not known */
/* Each key used since it was last given to `one`; false ends the walk, and that key is given again next time. */
void tg_uses_changed(struct tg_uses *u, bool (*one)(void *ctx, const char *id, uint64_t last_s), void *ctx);
