#pragma once
/*
 * Guessing is slowed. Credentials that were presented and are unknown are counted per source; from a number a minute on, the source's refusals are delayed, ever longer, within bounds on how many
 * may wait; past those they are refused at once by 429. What is valid is never delayed, and never asks here: nobody can be locked out by what others guess from the same address.
 *
 * Shared by all loops: counts are cells changed by compare-and-swap (policy/limit.h, a table of its own, so that a flood of sources cannot crowd out the limits of callers).
 */
#include "config/config.h"
#include "net/addr.h"

#define TG_GUESS_DELAY_MIN_MS 250u
#define TG_GUESS_DELAY_MAX_MS 2000u
#define TG_GUESS_WAITERS 1024u       /* of the process */
#define TG_GUESS_WAITERS_SOURCE 16u  /* of one source: with 2 s each, 8 refusals a second */

struct tg_guess; /* opaque; for the life of the process */
struct tg_guess *tg_guess_new(void);
void tg_guess_free(struct tg_guess *g);

/* Who is counted: an address, of IPv6 the first 64 bits (whoever has one address of a /64 mostly has all), all Unix sockets together; never 0. The kinds count apart. */
enum tg_guess_kind { TG_GUESS_CREDENTIAL, TG_GUESS_PASSWORD };
uint64_t tg_guess_source(enum tg_guess_kind kind, const struct tg_addr *client);
uint64_t tg_guess_name(struct tg_slice user_name); /* of a login, whether there is such a user or not; compared as bytes */

struct tg_guess_verdict {
	uint64_t who;           /* whose place is held while it is delayed; 0: none is */
	uint32_t delay_ms;      /* 0: refuse now */
	uint32_t retry_after_s; /* not 0: too many wait, 429; seconds, at least 1, until the source's window ends */
};
/*
 * One more failure of `who`. rate: [auth] guesses or password_guesses; the rate's n-th failure in its period is the first that is delayed: 0.25 s, doubled after each further quarter of n, up to
 * 2 s. mono_ms: CLOCK_MONOTONIC. A verdict with a delay holds a place until tg_guess_leave. Rate off: nothing is counted or delayed.
 */
struct tg_guess_verdict tg_guess_failed(struct tg_guess *g, struct tg_rate rate, uint64_t who, uint64_t mono_ms);
/* A failed password counts for its source and for its name; the worse of the two is the verdict. Only the source's bound on waiters can refuse: a name under attack stays open to its owner, who is right. */
struct tg_guess_verdict tg_guess_password_failed(struct tg_guess *g, struct tg_rate rate, const struct tg_addr *client, struct tg_slice user_name, uint64_t mono_ms);
void tg_guess_leave(struct tg_guess *g, uint64_t who); /* the wait is over, however; who: of the verdict */
unsigned tg_guess_waiting(const struct tg_guess *g);
