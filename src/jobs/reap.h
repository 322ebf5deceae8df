#pragma once
/* Rows whose end comes from nobody who runs them: they fail, and what else is to be told of a job's end is told. Blocking. */
#include "store/store.h"

/* A gate starts with this spool: what its predecessor was running is pending again, or failed when that was the last try. Of other spools what lost its lease. False: err, and nothing has changed. */
bool tg_reap_place(struct tg_store *s, const char *place, struct tg_err *err);
/* Jobs of a spool that has not been used for that time (store/spools.h), which is looked at again. False: err; some may have failed. */
bool tg_reap_unused(struct tg_store *s, const char *place, int64_t unused_us, struct tg_err *err);
