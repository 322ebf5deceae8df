/*
 * Health (see health.h).
 *
 * Failures are weighed against what the model's other workers meet at the same time. A worker is taken out when it fails at least half of what it is asked (three
 * requests at the least) and twice as often as its peers. A caller with requests that no worker can stand raises everybody's share alike, so it cannot take the
 * model from others; for the same reason the last usable worker is never taken out for its failures: there is nothing better to turn to.
 *
 * The window: two cells of ten seconds each, [epoch:24][good:20][bad:20] in 64 bits, moved on by whoever comes first in a new epoch. Two loops that race
 * for that may lose a count, which an estimate can stand.
 */
#include "pool/health.h"
#include "base/log.h"

#define EPOCH_MS 10000u
#define LEAST_BAD 3u
#define COUNT_MAX 0xfffffu
#define BAD 1u
#define GOOD (1u << 20)

struct tally {
	uint64_t good, bad;
};

static uint64_t epoch_of(uint64_t now_ms)
{
	return now_ms / EPOCH_MS & 0xffffff;
}

static void count(struct tg_worker *w, uint64_t now_ms, uint32_t what)
{
	uint64_t e = epoch_of(now_ms), cell = atomic_load_explicit(&w->window[0], memory_order_relaxed);
	bool ahead = cell >> 40 == ((e + 1) & 0xffffff) && cell << 24; /* a loop whose clock is a little behind counts into what has begun */
	if (cell >> 40 != e && !ahead) {
		bool next = (((cell >> 40) + 1) & 0xffffff) == e;
		if (atomic_compare_exchange_strong(&w->window[0], &cell, e << 40))
			atomic_store_explicit(&w->window[1], next ? cell : 0, memory_order_relaxed);
		cell = atomic_load_explicit(&w->window[0], memory_order_relaxed);
	}
	uint64_t have = what == BAD ? cell & COUNT_MAX : cell >> 20 & COUNT_MAX;
	if (have < COUNT_MAX - 64) /* as many threads may add at once */
		atomic_fetch_add_explicit(&w->window[0], what, memory_order_relaxed);
}

static void tally_of(const struct tg_worker *w, uint64_t now_ms, struct tally *t)
{
	uint64_t e = epoch_of(now_ms);
	for (int i = 0; i < 2; i++) {
		uint64_t cell = atomic_load_explicit(&w->window[i], memory_order_relaxed), age = (e - (cell >> 40)) & 0xffffff;
		if (age <= 1 || age == 0xffffff) {
			t->bad += cell & COUNT_MAX;
			t->good += cell >> 20 & COUNT_MAX;
		}
	}
}

static bool worse_than_peers(const struct tg_model *m, const struct tg_worker *w, uint64_t now_ms)
{
	struct tally mine = { 0 }, theirs = { 0 };
	unsigned peers = 0;
	tally_of(w, now_ms, &mine);
	if (mine.bad < LEAST_BAD || mine.bad < mine.good)
		return false;
	for (unsigned i = 0; i < m->nworkers; i++)
		if (m->workers[i] != w && tg_worker_usable(m->workers[i])) {
			peers++;
			tally_of(m->workers[i], now_ms, &theirs);
		}
	/* bad/total of mine at least twice theirs; where nobody asked them anything they are innocent. */
	uint64_t my_total = mine.good + mine.bad, their_total = theirs.good + theirs.bad;
	return peers && mine.bad * their_total >= 2 * theirs.bad * my_total;
}

/* Only from states that requests and probes may judge, each by name: the supervisor's STARTING and FAILED, which may come in this very moment, stand. */
static bool change(struct tg_worker *w, int from, int to)
{
	return atomic_compare_exchange_strong(&w->state, &from, to);
}

/* True: it was usable until now. */
static bool take_out(struct tg_worker *w)
{
	return change(w, TG_WORKER_UP, TG_WORKER_DOWN) || change(w, TG_WORKER_UNKNOWN, TG_WORKER_DOWN);
}

static bool go_down(struct tg_worker *w, const char *why)
{
	if (!take_out(w))
		return false;
	tg_log(TG_LOG_F_WARN, "worker.down", "t:worker", w->name, "s:why", why, NULL);
	return true;
}

static bool come_up(struct tg_worker *w, uint64_t now_ms)
{
	atomic_store(&w->half_open, false);
	atomic_store(&w->failing, false);
	atomic_store(&w->cool_ms, 0);
	if (atomic_load_explicit(&w->state, memory_order_relaxed) == TG_WORKER_UP)
		return false;
	if (change(w, TG_WORKER_UNKNOWN, TG_WORKER_UP) || !change(w, TG_WORKER_DOWN, TG_WORKER_UP))
		return false;
	atomic_store(&w->window[0], 0); /* it begins anew */
	atomic_store(&w->window[1], 0);
	atomic_store(&w->ramp_ms, now_ms);
	atomic_fetch_add(&w->incarnation, 1);
	tg_log(TG_LOG_F_INFO, "worker.up", "t:worker", w->name, NULL);
	return true;
}

static bool has_usable(const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++)
		if (tg_worker_usable(m->workers[i]))
			return true;
	return false;
}

/* A started worker that is not reached has most likely ended: the supervisor is to look. True: it was up. */
static bool doubt(struct tg_worker *w)
{
	return change(w, TG_WORKER_UP, TG_WORKER_STARTING);
}

/* Only a process that is there can be down or up: what the supervisor says of it stands. */
static bool is_there(const struct tg_worker *w)
{
	int s = atomic_load(&w->state);
	return s != TG_WORKER_STARTING && s != TG_WORKER_FAILED;
}

bool tg_health_good(struct tg_worker *w, bool trial, uint64_t now_ms)
{
	count(w, now_ms, GOOD);
	if (!trial && atomic_load_explicit(&w->state, memory_order_relaxed) == TG_WORKER_UP)
		return false;
	/* An answer to a request from before it was taken out is no proof of anything. */
	bool back = is_there(w) && (trial || !atomic_load(&w->failing)) && come_up(w, now_ms);
	if (trial)
		atomic_store(&w->trying, false);
	return back;
}

static void send_away(struct tg_worker *w, uint64_t now_ms)
{
	unsigned cool = atomic_load(&w->cool_ms);
	cool = !cool ? TG_COOL_MS : cool * 2 > TG_COOL_MAX_MS ? TG_COOL_MAX_MS : cool * 2;
	atomic_store(&w->cool_ms, cool);
	atomic_store(&w->trial_at_ms, now_ms + cool);
	atomic_store(&w->half_open, false);
	atomic_store(&w->failing, true);
}

/* For its failures. */
static bool eject(const struct tg_model *m, struct tg_worker *w, const char *why, uint64_t now_ms)
{
	send_away(w, now_ms);
	if (!take_out(w))
		return false;
	if (!has_usable(m) && change(w, TG_WORKER_DOWN, TG_WORKER_UP)) { /* the only other one was taken out in the same moment */
		atomic_store(&w->failing, false);
		return false;
	}
	tg_log(TG_LOG_F_WARN, "worker.down", "t:worker", w->name, "s:why", why, NULL);
	atomic_fetch_add_explicit(&w->ejections, 1, memory_order_relaxed);
	return true;
}

bool tg_health_fault(struct tg_model *m, struct tg_worker *w, enum tg_fault f, const char *why, bool trial, uint64_t now_ms)
{
	bool out = false;
	count(w, now_ms, BAD);
	if (!is_there(w)) {
		/* being started, or given up */
	} else if (f == TG_FAULT_UNREACHABLE && !w->started) {
		atomic_store(&w->half_open, false);
		out = go_down(w, why);
	} else if (trial && atomic_load(&w->failing)) {
		send_away(w, now_ms);
	} else if (f != TG_FAULT_UNREACHABLE && tg_worker_usable(w) && worse_than_peers(m, w, now_ms)) {
		out = eject(m, w, why, now_ms);
	} else if (w->started && (f == TG_FAULT_UNREACHABLE || f == TG_FAULT_DROPPED)) {
		out = doubt(w);
	}
	/* A probe tells whether it is the worker or the request. */
	atomic_store(&w->want_probe, true);
	if (trial)
		atomic_store(&w->trying, false);
	return out;
}

void tg_health_untried(struct tg_worker *w)
{
	atomic_store(&w->trying, false);
}

bool tg_health_probed(struct tg_worker *w, enum tg_probe_result r, uint64_t now_ms)
{
	static const char *const why[] = { "", "its health check answers with a server error", "it could not be reached", "its health check is not answered" };
	if (!is_there(w))
		return false;
	if (r == TG_PROBE_GOOD) {
		if (!atomic_load(&w->failing))
			return come_up(w, now_ms);
		if (now_ms >= atomic_load(&w->trial_at_ms))
			atomic_store(&w->half_open, true);
		return atomic_load(&w->half_open);
	}
	atomic_store(&w->half_open, false);
	if (w->started && r == TG_PROBE_REFUSED && doubt(w))
		return false;
	/* Real requests know better. A worker of one thread cannot answer while it works, so its silence then counts only where requests have failed too; and a
	 * health check may complain (of full slots, say) while all that is asked is answered. */
	struct tally t = { 0 };
	tally_of(w, now_ms, &t);
	bool busy = r == TG_PROBE_SILENT && atomic_load(&w->in_use) > 0, fine = r == TG_PROBE_SICK && t.good;
	if (t.bad || (!busy && !fine))
		(void)go_down(w, why[r]);
	return false;
}

void tg_health_ready(struct tg_worker *w, bool restarted, uint64_t now_ms)
{
	atomic_store(&w->half_open, false);
	atomic_store(&w->failing, false);
	atomic_store(&w->cool_ms, 0);
	atomic_store(&w->window[0], 0);
	atomic_store(&w->window[1], 0);
	atomic_store(&w->ramp_ms, restarted ? now_ms : 0);
	atomic_fetch_add(&w->incarnation, 1);
	atomic_store(&w->state, TG_WORKER_UP);
}

bool tg_health_cleared(struct tg_worker *w)
{
	return change(w, TG_WORKER_STARTING, TG_WORKER_UP);
}

void tg_health_gone(struct tg_worker *w, bool for_good)
{
	atomic_store(&w->half_open, false);
	atomic_store(&w->failing, false);
	atomic_store(&w->state, for_good ? TG_WORKER_FAILED : TG_WORKER_STARTING);
}

void tg_health_left(struct tg_worker *w)
{
	atomic_store(&w->half_open, false);
	atomic_store(&w->failing, true); /* no probe brings it back */
	atomic_store(&w->trial_at_ms, UINT64_MAX);
	atomic_store(&w->state, TG_WORKER_DOWN);
}
