#pragma once
/* How many jobs wait and since when, for /metrics: looked up on the job pool together with the store's own look, so that a scrape waits for nobody. */
#include "store/store.h"
#include <stdatomic.h>

enum { TG_WAITING_KINDS = 3 };
extern const char *const tg_waiting_kinds[TG_WAITING_KINDS]; /* of jobs, as store/jobs.h has them */

struct tg_waiting {
	struct {
		_Atomic uint64_t n;
		_Atomic int64_t oldest_us; /* 0: none waits */
	} kind[TG_WAITING_KINDS];
};
/* On the job pool. A database that is not there (yet) or does not answer leaves what was known. */
void tg_waiting_look(struct tg_waiting *w, struct tg_store *s);
