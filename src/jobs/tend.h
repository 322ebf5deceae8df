#pragma once
/*
 * What the queue needs now and then, of every gate that has the database and whether or not it trains: ended rows are removed after [ml] job_days; jobs of a spool that no gate has used for TG_TEND_UNUSED_US fail;
 * the leases of what runs here are renewed also while its thread cannot (a model on its way to a bucket).
 */
#include <stdint.h>

#define TG_TEND_UNUSED_US (7 * 86400000000ll) /* seen by gates that look on, by clocks that nobody sets (store/spools.h) */

struct tg_config;
struct tg_runner;
struct tg_store;
struct tg_tend; /* opaque */

struct tg_tend *tg_tend_new(struct tg_store *s, const struct tg_config *c); /* NULL: no memory */
void tg_tend_free(struct tg_tend *t);
/* The job pool, some times a second, once at a time. runner: NULL where there is none. A database that is not there (yet) is not made. */
void tg_tend_look(struct tg_tend *t, struct tg_runner *runner);
