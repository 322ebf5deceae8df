#pragma once
/*
 * Requests that end workers. A request under which two workers have died is not sent to a third: not by us (a request is sent twice at most), and not when its
 * caller sends it again, as client libraries do by themselves. Which of several requests killed a worker nobody can tell, so all that it had in hand are suspects, and a
 * suspect that is answered is cleared. Known by a fingerprint (base/hash.h) that includes the caller, so that nobody can have another's request refused. Any thread; bounded.
 */
#include "pool/worker.h"

#define TG_QUARANTINE_KILLS 2
#define TG_QUARANTINE_MS 600000  /* how long it is refused, and how long a first death is remembered */
#define TG_QUARANTINE_MAX 256    /* fingerprints; past it the oldest is forgotten */

struct tg_quarantine;
struct tg_quarantine *tg_quarantine_new(void);
void tg_quarantine_free(struct tg_quarantine *q);
/* Nobody is suspected: the common case, one load. */
bool tg_quarantine_empty(const struct tg_quarantine *q);
/* A worker broke off this request. It counts once that worker turns out to have died, before (by up to TG_DEATH_MS) or after; with a started worker, whose end is a
 * matter of milliseconds, until it turns out not to have. */
#define TG_DEATH_MS 5000
void tg_quarantine_suspect(struct tg_quarantine *q, uint64_t print, const struct tg_worker *w, uint64_t now_ms);
void tg_quarantine_absolve(struct tg_quarantine *q, const struct tg_worker *w); /* it is alive */
void tg_quarantine_death(struct tg_quarantine *q, const struct tg_worker *w, uint64_t now_ms);
/* How much longer it is to be refused, in seconds; 0: not at all. */
unsigned tg_quarantine_left(struct tg_quarantine *q, uint64_t print, uint64_t now_ms);
void tg_quarantine_clear(struct tg_quarantine *q, uint64_t print); /* it was answered */
