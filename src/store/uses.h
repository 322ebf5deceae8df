#pragma once
/*
 * The places in which requests count (policy/use.h), by principal, and what of it the database has not heard yet. A place, once given, stays where it is until the end: principals of old
 * snapshots point to it too.
 *
 * Two threads find places: whoever loads the database's identities and whoever builds a snapshot; a lock of its own sees to that. Gathering and paying are the store's alone, under its lock.
 */
#include "policy/principal.h"
#include "policy/use.h"

struct tg_uses; /* opaque */
struct tg_uses *tg_uses_new(void);
void tg_uses_free(struct tg_uses *u); /* after the last snapshot */
struct tg_use *tg_uses_of(struct tg_uses *u, const struct tg_principal *who); /* made where it is missing; NULL: no memory */
struct tg_use *tg_uses_of_id(struct tg_uses *u, const char *id);              /* the same, of somebody known by id only */
uint64_t tg_uses_last(struct tg_uses *u, const char *id);                     /* 0: not known */

/* Of a key of files or variables, or of nobody in particular: what the database cannot know. */
struct tg_use_about {
	char source[32]; /* tg_principal.name */
	char prefix[TG_KEY_PREFIX_MAX + 1], label[TG_KEY_LABEL_MAX + 1];
};
/* A database that is away for more than so many days of use is told of the first days together. */
#define TG_OWED_DAYS 8
struct tg_owed_day {
	uint32_t day;
	struct tg_counts counts;
};
struct tg_owed {
	const char *id;
	const struct tg_use_about *about; /* NULL: the database knows */
	uint64_t last_s;                  /* 0: no news */
	uint32_t named;                   /* the last day on which the database was told who it is; 0: never */
	unsigned ndays;
	struct tg_owed_day *days;         /* oldest first */
};
bool tg_uses_gather(struct tg_uses *u); /* takes what was counted; true: the database is owed something */
/* Each that it is owed; false ends the walk. */
bool tg_uses_each_owed(struct tg_uses *u, bool (*one)(void *ctx, const struct tg_owed *o), void *ctx);
void tg_uses_paid(struct tg_uses *u); /* all of the last walk is committed */
