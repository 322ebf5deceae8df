#pragma once
/*
 * For tests of health: short forms of what requests meet, what a worker is expected to be, and the log, where a change of state is told once. After models_fixture.h.
 */
#include "base/log.h"
#include <stdlib.h>
#include <unistd.h>

#define EPOCH 10000u            /* ms: what a cell of the window spans */
#define NOW (100u * EPOCH + 17) /* ms */

static const enum tg_fault weighed[] = { TG_FAULT_DROPPED, TG_FAULT_TIMEOUT, TG_FAULT_STATUS, TG_FAULT_RUBBISH };
static const enum tg_probe_result bad_probes[] = { TG_PROBE_SICK, TG_PROBE_REFUSED, TG_PROBE_SILENT };
#define COUNT(list) (sizeof(list) / sizeof(list)[0])

/* ---- the log, where a change of state is told once ---- */

static char dir[64], path[96];

static inline int open_log(void **state)
{
	(void)state;
	struct tg_err err;
	snprintf(dir, sizeof dir, "/tmp/tg-health-XXXXXX");
	if (!mkdtemp(dir))
		return -1;
	snprintf(path, sizeof path, "%s/app.log", dir);
	return tg_log_open(&(struct tg_log_conf){ .path = path, .level = TG_LOG_F_INFO }, &err) ? 0 : -1;
}

static inline int close_log(void **state)
{
	(void)state;
	tg_log_close();
	unlink(path);
	return rmdir(dir);
}

static inline int fresh_log(void **state)
{
	(void)state;
	unlink(path);
	tg_log_reopen();
	return 0;
}

/* Lines of that event and worker that hold `text`. */
static inline unsigned told(const char *event, const struct tg_worker *w, const char *text)
{
	char line[2048], e[64], n[64];
	unsigned count = 0;
	snprintf(e, sizeof e, "\"event\":\"%s\"", event);
	snprintf(n, sizeof n, "\"worker\":\"%s\"", w->name);
	FILE *f = fopen(path, "r");
	while (f && fgets(line, sizeof line, f))
		count += strstr(line, e) && strstr(line, n) && strstr(line, text);
	if (f)
		fclose(f);
	return count;
}

/* ---- short forms ---- */

static inline bool good(struct tg_worker *w, uint64_t now)
{
	return tg_health_good(w, false, now);
}

static inline bool fault(struct fixture *f, unsigned k, enum tg_fault what, uint64_t now)
{
	return tg_health_fault(f->m, f->m->workers[k], what, "a test", false, now);
}

/* Counts on one worker alone: with no other usable none is sent away for them. */
static inline void count(struct fixture *f, unsigned k, unsigned goods, unsigned bads, uint64_t now)
{
	int was[8];
	assert_true(f->m->nworkers <= COUNT(was));
	for (unsigned i = 0; i < f->m->nworkers; i++) {
		was[i] = atomic_load(&f->m->workers[i]->state);
		atomic_store(&f->m->workers[i]->state, i == k ? TG_WORKER_UP : TG_WORKER_DOWN);
	}
	for (unsigned i = 0; i < goods; i++)
		assert_false(good(f->m->workers[k], now));
	for (unsigned i = 0; i < bads; i++)
		assert_false(fault(f, k, TG_FAULT_STATUS, now));
	for (unsigned i = 0; i < f->m->nworkers; i++)
		atomic_store(&f->m->workers[i]->state, was[i]);
}

static inline void expect(const struct tg_worker *w, enum tg_worker_state state, bool failing, bool half_open)
{
	assert_int_equal(atomic_load(&w->state), state);
	assert_int_equal(atomic_load(&w->failing), failing);
	assert_int_equal(atomic_load(&w->half_open), half_open);
}

/* Back after having been down: gently, with nothing held against it, and its sessions forgotten. */
static inline void expect_back(const struct tg_worker *w, unsigned incarnation, uint64_t now)
{
	expect(w, TG_WORKER_UP, false, false);
	assert_int_equal(atomic_load(&w->incarnation), incarnation);
	assert_int_equal(atomic_load(&w->ramp_ms), now);
	assert_int_equal(atomic_load(&w->cool_ms), 0);
	assert_int_equal(atomic_load(&w->window[0]) | atomic_load(&w->window[1]), 0);
	assert_false(atomic_load(&w->trying));
}

/* Three bad ones and nothing else, with a peer that has met nothing: out. */
static inline void eject(struct fixture *f, unsigned k, uint64_t now)
{
	assert_false(fault(f, k, TG_FAULT_STATUS, now));
	assert_false(fault(f, k, TG_FAULT_STATUS, now));
	assert_true(fault(f, k, TG_FAULT_STATUS, now));
	expect(f->m->workers[k], TG_WORKER_DOWN, true, false);
}
