/*
 * Counting failures and handing out waits (see guess.h).
 *
 * A source's count is a window of the limiter with a bound it never reaches; how far it has come says how long to wait. A table that is full of live sources (a flood from a botnet or of IPv6) gives the shortest
 * delay to newcomers: nothing is open, and nobody valid is touched.
 *
 * Places: one counter for the process and one for each source, both taken before and given back if over. The second are cells by hash: two sources that share one share its bound.
 */
#include "policy/guess.h"
#include "policy/limit.h"
#include <stdatomic.h>
#include <stdlib.h>

enum { CELLS = 16384, PLACES = 4096, COUNT_MAX = (1 << 24) - 1 };
enum { WHO_CREDENTIAL = 0x100, WHO_PASSWORD, WHO_NAME }; /* apart from the classes of limits */

struct tg_guess {
	struct tg_limiter *cells;
	_Atomic unsigned waiting;
	_Atomic uint16_t places[PLACES];
};

struct tg_guess *tg_guess_new(void)
{
	struct tg_guess *g = calloc(1, sizeof *g);
	if (!g || !(g->cells = tg_limiter_new(CELLS))) {
		free(g);
		return NULL;
	}
	return g;
}

void tg_guess_free(struct tg_guess *g)
{
	if (!g)
		return;
	tg_limiter_free(g->cells);
	free(g);
}

uint64_t tg_guess_source(enum tg_guess_kind kind, const struct tg_addr *a)
{
	static const uint8_t mapped[12] = { [10] = 0xff, [11] = 0xff };
	unsigned class = kind == TG_GUESS_PASSWORD ? WHO_PASSWORD : WHO_CREDENTIAL;
	bool v4 = memcmp(a->ip, mapped, sizeof mapped) == 0;
	uint64_t who = a->unix_peer ? tg_limit_who(class, "unix", 4) : tg_limit_who(class, a->ip, v4 ? sizeof a->ip : 8);
	return who ? who : 1;
}

uint64_t tg_guess_name(struct tg_slice name)
{
	uint64_t who = tg_limit_who(WHO_NAME, name.n ? name.p : "", name.n);
	return who ? who : 1;
}

static uint32_t delay_of(uint32_t failures, uint32_t n)
{
	if (failures < n)
		return 0;
	uint32_t step = n / 4 ? n / 4 : 1, doubled = (failures - n) / step;
	return doubled < 3 ? TG_GUESS_DELAY_MIN_MS << doubled : TG_GUESS_DELAY_MAX_MS;
}

/* Counts one; *left_s: until the window ends. */
static uint32_t count(struct tg_guess *g, struct tg_rate rate, uint64_t who, uint64_t mono_ms, uint32_t *left_s)
{
	struct tg_verdict v = tg_limiter_take(g->cells, who, (struct tg_rate){ COUNT_MAX, rate.period_s }, mono_ms, 0);
	*left_s = v.retry_after_s;
	return delay_of(v.passed ? v.limit - v.remaining : rate.n, rate.n);
}

static bool take_place(struct tg_guess *g, uint64_t who)
{
	_Atomic uint16_t *place = &g->places[who % PLACES];
	if (atomic_fetch_add(&g->waiting, 1) < TG_GUESS_WAITERS) {
		if (atomic_fetch_add(place, 1) < TG_GUESS_WAITERS_SOURCE)
			return true;
		atomic_fetch_sub(place, 1);
	}
	atomic_fetch_sub(&g->waiting, 1);
	return false;
}

static struct tg_guess_verdict judge(struct tg_guess *g, uint64_t who, uint32_t delay_ms, uint32_t left_s)
{
	if (!delay_ms)
		return (struct tg_guess_verdict){ 0 };
	if (take_place(g, who))
		return (struct tg_guess_verdict){ .who = who, .delay_ms = delay_ms };
	return (struct tg_guess_verdict){ .retry_after_s = left_s ? left_s : 1 };
}

struct tg_guess_verdict tg_guess_failed(struct tg_guess *g, struct tg_rate rate, uint64_t who, uint64_t mono_ms)
{
	if (!rate.n)
		return (struct tg_guess_verdict){ 0 };
	uint32_t left_s, delay_ms = count(g, rate, who, mono_ms, &left_s);
	return judge(g, who, delay_ms, left_s);
}

struct tg_guess_verdict tg_guess_password_failed(struct tg_guess *g, struct tg_rate rate, const struct tg_addr *client, struct tg_slice name, uint64_t mono_ms)
{
	if (!rate.n)
		return (struct tg_guess_verdict){ 0 };
	uint32_t left_s, name_left_s;
	uint64_t who = tg_guess_source(TG_GUESS_PASSWORD, client);
	uint32_t mine = count(g, rate, who, mono_ms, &left_s), named = count(g, rate, tg_guess_name(name), mono_ms, &name_left_s);
	return judge(g, who, named > mine ? named : mine, left_s);
}

void tg_guess_leave(struct tg_guess *g, uint64_t who)
{
	if (!who)
		return;
	atomic_fetch_sub(&g->places[who % PLACES], 1);
	atomic_fetch_sub(&g->waiting, 1);
}

unsigned tg_guess_waiting(const struct tg_guess *g)
{
	return atomic_load(&g->waiting);
}
