#pragma once
/*
 * Who asks for a change of keys or users, looked at again inside the transaction that makes it: since his request was judged he may have been revoked, disabled or lowered, and what the database says there is what the
 * change is ordered with. Whoever is not of the database (keys of files and variables) is who he was.
 *
 * Made on the loop, asked on the job pool, its refusal answered on the loop.
 */
#include "gate/job.h"
#include "store/identity.h"

struct tg_maker {
	struct tg_bearer who;
	uint32_t perms, needs;   /* perms: the request's; after tg_maker_look what is left of them. needs: one of these opens the route */
	/* why the change is not made; all empty: it may be */
	bool gone, lacks;
	uint32_t missing;        /* what he would give without having it */
	const char *field;       /* what would be more than his own */
	char why[160];
	/* of the database's: what he has himself, from tg_maker_look on; of others: no end, no limits, all permissions */
	int64_t ends;            /* 0: never */
	struct tg_key_limits limits, defaults; /* defaults: what applies where he has none of his own */
};

void tg_maker_of(const struct tg_exchange *x, struct tg_maker *m);
/* First in the transaction. False: nothing is to be changed: *r is not OK, or he is refused. */
bool tg_maker_look(struct tg_maker *m, struct tg_db *db, enum tg_db_result *r, struct tg_err *err);
/* Nobody gives what he does not hold, nor changes who holds more. False: refused. */
bool tg_maker_gives(struct tg_maker *m, uint32_t perms);
/*
 * Nobody gives for longer, or more of it, than he has (threats T-PERM). *expires (0: not asked for) and *limits become what is given: what was not asked for is the maker's. False: refused.
 */
bool tg_maker_bounds_key(struct tg_maker *m, int64_t *expires, struct tg_key_limits *limits);
/* Whether a key or user that is there already may come into his hands, by a new secret or password. False: refused. */
bool tg_maker_takes(struct tg_maker *m, const char *id, int64_t expires, const struct tg_key_limits *limits);
/* Limits that he sets for the user `id`: his own he does not raise, unless he may do everything. *limits becomes what is set. False: refused. */
bool tg_maker_bounds_user(struct tg_maker *m, const char *id, struct tg_key_limits *limits);
/* A user has no end: who has one makes none, and gives none more. False: refused. */
bool tg_maker_lasts(struct tg_maker *m);
/* True: he was refused, *answered says why. */
bool tg_maker_refused(const struct tg_maker *m, struct tg_exchange *x, enum tg_step *answered);
