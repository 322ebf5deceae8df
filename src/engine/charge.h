#pragma once
/*
 * Memory of the bodies that are being taken in. What counts is what their columns and their readers hold, not the bytes that came: a table of small numbers is six times as large in memory as in its body.
 * Whatever of a body grows asks here first, for what it will hold. All together have a bound, and of that half is the most for one body and for one owner (the key or user that the gate names), so that
 * nobody keeps all others out alone. Owner: the engine's service; a charge is its body's thread's alone.
 */
#include "base/slice.h"
#include <pthread.h>
#include <stdatomic.h>

#define TG_CHARGE_OWNER_MAX 64  /* bytes of an owner's name */
#define TG_CHARGE_OWNERS 256    /* at the same time: as many as there can be connections */

struct tg_charges {
	uint64_t most;                  /* bytes, of all; set before the first charge */
	_Atomic uint64_t sum;           /* and what they hold */
	pthread_mutex_t lock;           /* of the names below */
	struct tg_charge_owner {
		char name[TG_CHARGE_OWNER_MAX + 1];
		unsigned bodies;        /* 0: a free place */
		_Atomic uint64_t sum;
	} owner[TG_CHARGE_OWNERS];
};
enum tg_charge_full { TG_CHARGE_FITS, TG_CHARGE_BODY, TG_CHARGE_OWNER, TG_CHARGE_ALL };
struct tg_charge {
	struct tg_charges *of;
	struct tg_charge_owner *owner;
	uint64_t held;
	enum tg_charge_full full;       /* whose bound was met: then nothing more is given */
};

void tg_charges_init(struct tg_charges *of, uint64_t most);
/* owner: "" where nobody is named, which is one too. False: there is no place for another owner, and nothing to end. */
bool tg_charge_begin(struct tg_charge *c, struct tg_charges *of, struct tg_slice owner);
void tg_charge_end(struct tg_charge *c); /* all of it goes back */
/* c NULL: nothing is counted, and all is given. */
bool tg_charge(struct tg_charge *c, uint64_t bytes);
void tg_charge_back(struct tg_charge *c, uint64_t bytes);
uint64_t tg_charge_most_of_one(const struct tg_charges *of);
