/*
 * The runner (see runner.h): threads, and what they claim. What becomes of a job they have is in run.c.
 *
 * Invariants: `lock` guards what threads share and is never held over the database, the engine or the spool. A row that this process claimed is in a slot until its end is recorded. Whatever goes wrong
 * between claim and end leaves a row that is running: it is pending again as soon as that can be recorded, or at the next start.
 */
#include "jobs/runner.h"
#include "base/clock.h"
#include "gate/gate.h"
#include "jobs/kinds.h"
#include "jobs/reap.h"
#include "jobs/wait.h"
#include "store/artifacts.h"
#include <pthread.h>
#include <signal.h>
#include <unistd.h>

#define THREADS_MAX 64
#define AGAIN_US 1000000           /* between looks while something hinders */
#define IDLE_US 10000000           /* between looks that nobody asked for: rows of another gate that has this spool too, files that were left */
#define SAY_US (60 * 1000000ll)
#define SWEEP_US (600 * 1000000ll)
#define SWEEP_AGE_US (1200 * 1000000ll) /* a file without a row, that old: its upload was left. Longer than server.body_ms by default */
#define STACK (1u << 20)
#define RESTING_MAX 256
#define REST_US 1000000            /* the first time; twice as long each time, up to */
#define REST_MOST_US (30 * 1000000ll)
#define NOTED_MAX 1000             /* what is over that is found at the next start, or swept later */

struct slot {
	uv_thread_t thread;
	struct pool *pool;
	char id[TG_ULID_LEN + 1]; /* of the job that runs; "": none */
	_Atomic bool canceled;
	unsigned turn;            /* the thread's own */
};

/* A job that needs what is away: others go first until then. */
struct resting {
	char id[TG_ULID_LEN + 1];   /* "": a free place */
	int64_t since_us, until_us; /* monotonic */
	int64_t rest_us;
};

struct noted {
	struct noted *next;
	char id[TG_ULID_LEN + 1];
};

struct pool {
	struct tg_runner *runner;
	bool predicts;
	unsigned most, n, idle;
	uint64_t kicks;           /* counts what was inserted */
	int64_t look_us;          /* monotonic; look without a kick; 0: not */
	struct slot slots[THREADS_MAX];
};

struct tg_runner {
	struct tg_gate *gate;
	uv_mutex_t lock;
	uv_cond_t wake, ended;
	struct pool pools[2];
	unsigned threads;         /* alive */
	bool stop;
	unsigned job_seconds;
	int64_t start_us;         /* wall clock */
	uv_mutex_t spool_lock;    /* held over the spool's first use and its sweeps */
	struct tg_spool spool;
	int64_t said_us;          /* monotonic; when it was last said why jobs wait; 0: never */
	int64_t swept_us;         /* monotonic; 0: never */
	_Atomic bool held;        /* the spool is ours, from then on */
	struct tg_waits waits;
	struct resting resting[RESTING_MAX];
	struct noted *left;       /* rows whose end could not be recorded: pending again, when that can be */
	unsigned nnoted;
};

static int64_t wall_us(void)
{
	return (int64_t)tg_wall_us();
}

static int64_t mono_us(void)
{
	return (int64_t)tg_mono_us();
}

/* Under the lock. */
static void note(struct tg_runner *r, const char *id)
{
	struct noted *n = r->nnoted < NOTED_MAX ? calloc(1, sizeof *n) : NULL;
	if (!n)
		return;
	snprintf(n->id, sizeof n->id, "%s", id);
	n->next = r->left;
	r->left = n;
	r->nnoted++;
}

unsigned tg_runner_job_seconds(const struct tg_runner *r)
{
	return r->job_seconds;
}

bool tg_runner_stopping(struct tg_runner *r)
{
	uv_mutex_lock(&r->lock);
	bool stop = r->stop;
	uv_mutex_unlock(&r->lock);
	return stop;
}

/* A pause that the gate's end cuts short. */
void tg_runner_pause(struct tg_runner *r, int64_t us)
{
	int64_t until = mono_us() + us;
	uv_mutex_lock(&r->lock);
	for (int64_t left; !r->stop && (left = until - mono_us()) > 0;)
		(void)uv_cond_timedwait(&r->wake, &r->lock, (uint64_t)left * 1000u);
	uv_mutex_unlock(&r->lock);
}

/* ---- who rests ---- */

/* Under the lock. */
static struct resting *resting_of(struct tg_runner *r, const char *id)
{
	for (unsigned i = 0; i < RESTING_MAX; i++)
		if (strcmp(r->resting[i].id, id) == 0)
			return &r->resting[i];
	return NULL;
}

/* A place for one more: a free one, or his who could have gone on the longest ago. */
static struct resting *resting_place(struct tg_runner *r)
{
	struct resting *oldest = &r->resting[0];
	for (unsigned i = 0; i < RESTING_MAX && oldest->id[0]; i++)
		if (!r->resting[i].id[0] || r->resting[i].until_us < oldest->until_us)
			oldest = &r->resting[i];
	return oldest;
}

bool tg_runner_rest(struct tg_runner *r, const char *id)
{
	int64_t now = mono_us();
	uv_mutex_lock(&r->lock);
	struct resting *w = resting_of(r, id);
	bool over = w && now - w->since_us >= (int64_t)r->job_seconds * 1000000;
	if (!w) {
		w = resting_place(r);
		*w = (struct resting){ .since_us = now };
		snprintf(w->id, sizeof w->id, "%s", id);
	}
	w->rest_us = !w->rest_us ? REST_US : w->rest_us * 2 < REST_MOST_US ? w->rest_us * 2 : REST_MOST_US;
	w->until_us = now + w->rest_us;
	if (over)
		w->id[0] = 0;
	uv_mutex_unlock(&r->lock);
	return !over;
}

static bool rests(void *ctx, const char *id)
{
	struct tg_runner *r = ctx;
	uv_mutex_lock(&r->lock);
	const struct resting *w = id[0] ? resting_of(r, id) : NULL;
	bool yes = w && w->until_us > mono_us();
	uv_mutex_unlock(&r->lock);
	return yes;
}

static struct tg_job_skip who_rests(struct tg_runner *r)
{
	return (struct tg_job_skip){ rests, r, RESTING_MAX };
}

/* Under the lock: when the first of them goes on; INT64_MAX: none rests. */
static int64_t first_rested(const struct tg_runner *r, int64_t now)
{
	int64_t first = INT64_MAX;
	for (unsigned i = 0; i < RESTING_MAX; i++)
		if (r->resting[i].id[0] && r->resting[i].until_us > now && r->resting[i].until_us < first)
			first = r->resting[i].until_us;
	return first;
}

/* ---- what is there to do ---- */

struct claim {
	struct slot *slot;
	struct tg_runner *runner;
	const struct tg_job_kind *kind;
	struct tg_run *run;
	bool found, more;
};

static bool claimed(void *ctx, const struct tg_job_row *j)
{
	struct claim *c = ctx;
	struct tg_run *run = c->run;
	/* Before the row is seen to run: who cancels it then finds it here. */
	uv_mutex_lock(&c->runner->lock);
	memcpy(c->slot->id, j->id, sizeof c->slot->id);
	atomic_store(&c->slot->canceled, false);
	uv_mutex_unlock(&c->runner->lock);
	tg_run_fill(run, j);
	return false;
}

static enum tg_db_result claim(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct claim *c = ctx;
	struct tg_job_skip skip = who_rests(c->runner);
	enum tg_db_result r = tg_job_rows_claim(db, c->kind->name, c->runner->spool.place, &skip, wall_us(), claimed, c, &c->found, err);
	for (size_t i = 0; i < TG_JOB_KINDS && r == TG_DB_OK && c->found && !c->more; i++)
		if (tg_job_kinds[i]->predicts == c->kind->predicts)
			r = tg_job_rows_any(db, tg_job_kinds[i]->name, c->runner->spool.place, &skip, &c->more, err);
	return r;
}

/* The spool is ours, and what a predecessor left there is in order. */
static bool hold_spool(struct tg_runner *r, struct tg_err *err)
{
	uv_mutex_lock(&r->spool_lock);
	bool first = !r->held, ok = tg_spool_hold(&r->spool, err);
	if (ok && first)
		ok = tg_reap_place(r->gate->store, r->spool.place, err);
	if (ok && (first || mono_us() - r->swept_us >= SWEEP_US)) {
		tg_spool_sweep(&r->spool, first ? r->start_us : wall_us() - SWEEP_AGE_US, tg_run_keeps, r);
		r->swept_us = mono_us();
	}
	if (ok)
		r->held = true;
	uv_mutex_unlock(&r->spool_lock);
	return ok;
}

struct left {
	struct tg_runner *runner;
	const char *id;
};

static enum tg_db_result put_back(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct left *l = ctx;
	bool ours;
	return tg_job_rows_put_back(db, l->id, l->runner->spool.place, wall_us(), &ours, err);
}

/* Under the lock. */
static struct slot *runs_here(struct tg_runner *r, const char *id)
{
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < r->pools[i].n; k++)
			if (strcmp(r->pools[i].slots[k].id, id) == 0)
				return &r->pools[i].slots[k];
	return NULL;
}

/* The database may be back. */
static bool put_left_back(struct tg_runner *r, struct tg_err *err)
{
	bool ok = true;
	uv_mutex_lock(&r->lock);
	while (ok && r->left) {
		struct noted *n = r->left;
		r->left = n->next;
		r->nnoted--;
		if (runs_here(r, n->id)) { /* the claim had failed after all, and was made again */
			free(n);
			continue;
		}
		uv_mutex_unlock(&r->lock);
		struct left l = { r, n->id };
		ok = tg_store_record(r->gate->store, put_back, &l, err) == TG_DB_OK;
		uv_mutex_lock(&r->lock);
		if (!ok)
			note(r, n->id);
		free(n);
	}
	uv_mutex_unlock(&r->lock);
	return ok;
}

struct any {
	struct tg_runner *runner;
	const char *kind;
	bool any;
};

static enum tg_db_result look_any(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct any *a = ctx;
	struct tg_job_skip skip = who_rests(a->runner);
	return tg_job_rows_any(db, a->kind, a->runner->spool.place, &skip, &a->any, err);
}

/* A try is one at the engine: while that cannot be reached, nothing is claimed. */
static bool engine_is_there(struct tg_runner *r, struct tg_err *err)
{
	int fd;
	if (!tg_engine_connect(r->gate->engine, &fd, TG_ENGINE_READY_MS / 5, err))
		return false;
	close(fd);
	return true;
}

enum look { NOTHING, RAN, HINDERED };

/* Once a minute: it is looked each second. */
static void say_why(struct tg_runner *r, const struct tg_err *err)
{
	uv_mutex_lock(&r->lock);
	bool say = !r->stop && (!r->said_us || mono_us() - r->said_us >= SAY_US);
	if (say)
		r->said_us = mono_us();
	uv_mutex_unlock(&r->lock);
	if (say)
		tg_log(TG_LOG_F_WARN, "job.waits", "s:why", err->text, NULL);
}

/* The slot is free again. What a claim is whose transaction failed the database alone knows; and it may have been canceled when there was nothing left to stop. */
static void leave_slot(struct slot *s, struct tg_run *run)
{
	struct tg_runner *r = run->runner;
	uv_mutex_lock(&r->lock);
	s->id[0] = 0;
	bool canceled = atomic_load(&s->canceled);
	if (run->unrecorded)
		note(r, run->id);
	struct resting *w = run->rests || run->unrecorded ? NULL : resting_of(r, run->id);
	if (w)
		w->id[0] = 0;
	uv_mutex_unlock(&r->lock);
	if (canceled)
		tg_run_clean(run);
}

static enum look look_for(struct slot *s, const struct tg_job_kind *kind)
{
	struct tg_runner *r = s->pool->runner;
	struct tg_run run = { .runner = r, .kind = kind, .canceled = &s->canceled };
	struct claim c = { .slot = s, .runner = r, .kind = kind, .run = &run };
	struct any any = { .runner = r, .kind = kind->name };
	struct tg_err err;
	bool ok = hold_spool(r, &err) && put_left_back(r, &err) && tg_store_read(r->gate->store, look_any, &any, &err) == TG_DB_OK;
	if (ok && any.any)
		ok = engine_is_there(r, &err) && tg_store_note(r->gate->store, claim, &c, &err) == TG_DB_OK; /* a claim that is forgotten is a row that waits: as it will be anyway */
	if (!ok)
		say_why(r, &err);
	if (!run.id[0])
		return ok ? NOTHING : HINDERED;
	if (ok && c.more)
		tg_runner_kick(r, kind->name); /* several may have waited for one kick, as after a start */
	tg_buf_init(&run.data, TG_ARTIFACT_DATA_MAX);
	if (ok)
		tg_run_it(&run);
	else
		run.unrecorded = true;
	leave_slot(s, &run);
	enum look what = run.unrecorded || (run.again && !run.rests) ? HINDERED : RAN;
	tg_run_free(&run);
	return what;
}

static enum look look(struct slot *s)
{
	enum look what = NOTHING;
	unsigned first = s->turn++; /* each kind in its turn: a long queue of one keeps no other waiting */
	for (size_t i = 0; i < TG_JOB_KINDS && what == NOTHING; i++) {
		const struct tg_job_kind *kind = tg_job_kinds[(first + i) % TG_JOB_KINDS];
		if (kind->predicts == s->pool->predicts)
			what = look_for(s, kind);
	}
	return what;
}

static void thread(void *arg)
{
	struct slot *s = arg;
	struct pool *p = s->pool;
	struct tg_runner *r = p->runner;
	uint64_t seen = 0;
	bool more = false;
	uv_mutex_lock(&r->lock);
	while (!r->stop) {
		int64_t wait = p->look_us ? p->look_us - mono_us() : INT64_MAX;
		if (!more && seen == p->kicks && wait > 0) {
			p->idle++;
			if (p->look_us)
				(void)uv_cond_timedwait(&r->wake, &r->lock, (uint64_t)wait * 1000u);
			else
				uv_cond_wait(&r->wake, &r->lock);
			p->idle--;
			continue;
		}
		uint64_t kicks = p->kicks;
		if (wait <= 0)
			p->look_us = 0;
		uv_mutex_unlock(&r->lock);
		enum look what = look(s);
		uv_mutex_lock(&r->lock);
		more = what == RAN;
		if (!more)
			seen = kicks;
		int64_t now = mono_us(), next = now + (what == HINDERED ? AGAIN_US : IDLE_US), rested = first_rested(r, now);
		next = rested < next ? rested : next;
		if (!p->look_us || next < p->look_us)
			p->look_us = next;
	}
	r->threads--;
	uv_cond_broadcast(&r->ended);
	uv_mutex_unlock(&r->lock);
}

/* ---- from outside ---- */

static bool another_has_the_spool(void *runner)
{
	return !((struct tg_runner *)runner)->held;
}

struct tg_runner *tg_runner_new(struct tg_gate *g, const struct tg_config *c)
{
	struct tg_runner *r = calloc(1, sizeof *r);
	if (!r)
		return NULL;
	r->gate = g;
	if (!tg_spool_init(&r->spool, c->ml_spool)) {
		free(r);
		return NULL;
	}
	r->job_seconds = c->ml_job_seconds;
	r->start_us = wall_us();
	uv_mutex_init(&r->lock);
	uv_mutex_init(&r->spool_lock);
	uv_cond_init(&r->wake);
	uv_cond_init(&r->ended);
	tg_waits_init(&r->waits);
	r->waits.elsewhere = another_has_the_spool;
	r->waits.ctx = r;
	for (unsigned i = 0; i < 2; i++)
		r->pools[i] = (struct pool){ .runner = r, .predicts = i == 1, .most = i ? c->ml_predict_jobs : c->ml_train_jobs };
	return r;
}

/* Under the lock. Signals are the control thread's alone. */
static void make_thread(struct pool *p)
{
	struct slot *s = &p->slots[p->n];
	uv_thread_options_t options = { .flags = UV_THREAD_HAS_STACK_SIZE, .stack_size = STACK };
	sigset_t all, old;
	*s = (struct slot){ .pool = p };
	sigfillset(&all);
	pthread_sigmask(SIG_BLOCK, &all, &old);
	if (uv_thread_create_ex(&s->thread, &options, thread, s) == 0) {
		p->n++;
		p->runner->threads++;
	}
	pthread_sigmask(SIG_SETMASK, &old, NULL);
}

void tg_runner_kick(struct tg_runner *r, const char *kind)
{
	bool wanted[2] = { false, false };
	for (size_t i = 0; i < TG_JOB_KINDS; i++)
		if (!kind || strcmp(kind, tg_job_kinds[i]->name) == 0)
			wanted[tg_job_kinds[i]->predicts] = true;
	uv_mutex_lock(&r->lock);
	for (unsigned i = 0; i < 2; i++) {
		struct pool *p = &r->pools[i];
		if (!wanted[i] || r->stop)
			continue;
		p->kicks++;
		if (!p->idle && p->n < p->most && p->n < THREADS_MAX)
			make_thread(p);
	}
	uv_cond_broadcast(&r->wake);
	uv_mutex_unlock(&r->lock);
}

void tg_runner_start(struct tg_runner *r)
{
	if (tg_spool_there(&r->spool))
		tg_runner_kick(r, NULL);
}

void tg_runner_cancel(struct tg_runner *r, const char *id)
{
	uv_mutex_lock(&r->lock);
	struct slot *s = runs_here(r, id);
	if (s)
		atomic_store(&s->canceled, true);
	uv_mutex_unlock(&r->lock);
	if (s)
		return;
	tg_run_forget(r, id);
	tg_waits_ended(&r->waits, id);
}

void tg_runner_stop(struct tg_runner *r)
{
	uv_mutex_lock(&r->lock);
	r->stop = true;
	uv_cond_broadcast(&r->wake);
	uv_mutex_unlock(&r->lock);
	tg_waits_stop(&r->waits);
}

bool tg_runner_free(struct tg_runner *r, unsigned wait_ms)
{
	if (!r)
		return true;
	tg_runner_stop(r);
	int64_t until = mono_us() + (int64_t)wait_ms * 1000;
	uv_mutex_lock(&r->lock);
	for (int64_t left; r->threads && (left = until - mono_us()) > 0;)
		(void)uv_cond_timedwait(&r->ended, &r->lock, (uint64_t)left * 1000u);
	bool all = !r->threads;
	uv_mutex_unlock(&r->lock);
	if (!all)
		return false;
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < r->pools[i].n; k++)
			uv_thread_join(&r->pools[i].slots[k].thread);
	tg_spool_free(&r->spool);
	uv_mutex_destroy(&r->lock);
	uv_mutex_destroy(&r->spool_lock);
	uv_cond_destroy(&r->wake);
	uv_cond_destroy(&r->ended);
	tg_waits_free(&r->waits);
	for (struct noted *n; (n = r->left);) {
		r->left = n->next;
		free(n);
	}
	free(r);
	return true;
}

struct tg_model_store *tg_runner_models(const struct tg_runner *r)
{
	return r->gate->model_store;
}

const struct tg_spool *tg_runner_spool(const struct tg_runner *r)
{
	return &r->spool;
}

struct tg_gate *tg_runner_gate(const struct tg_runner *r)
{
	return r->gate;
}

struct tg_waits *tg_runner_waits(struct tg_runner *r)
{
	return &r->waits;
}

bool tg_runner_runs(struct tg_runner *r, char place[TG_SPOOL_PLACE])
{
	bool runs = false;
	uv_mutex_lock(&r->lock);
	for (unsigned i = 0; i < 2; i++)
		for (unsigned k = 0; k < r->pools[i].n; k++)
			runs |= r->pools[i].slots[k].id[0] != 0;
	if (runs) /* who claims has the spool: its name stays */
		memcpy(place, r->spool.place, TG_SPOOL_PLACE);
	uv_mutex_unlock(&r->lock);
	return runs;
}

bool tg_runner_place(struct tg_runner *r, char out[TG_SPOOL_PLACE], struct tg_err *err)
{
	tg_err_set(err, "%s cannot be used", r->spool.path);
	return tg_spool_place(&r->spool, out);
}
