/*
 * The engine's worker (see engine.h). It is made, with a model and a configuration of its own, when it is first wanted: until then it costs a few hundred bytes. `made` is the only way from other
 * threads to it: set once, by the control thread, and then good until the gate is gone.
 *
 * Who waits looks again five times a second besides being woken: a worker's state is changed by requests and probes too, and they tell nobody.
 */
#include "pool/engine.h"
#include "base/clock.h"
#include "base/landlock.h"
#include "base/log.h"
#include "pool/health.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

#define NAME "tabular-engine"
#define START_MS 30000
#define STOP_MS 5000
#define LOOK_MS 200
#define RETRY_MS 5000 /* between two tries that requests may cause, once it has failed */
#define CUT_MS 1000   /* in which the end of the engine is noticed by all who were in it */
#define MODELS_HERE "artifacts/models" /* where models lie that have a bucket (store/model_store.h) */

struct tg_engine {
	char *spool, *folder, *datasets; /* folder: of the models */
	uint32_t threads;
	uint64_t spool_bytes;
	unsigned nloops;
	void (*wake)(void *ctx);
	void *ctx;
	_Atomic bool wanted, retry, closed;
	_Atomic uint64_t retried_ms;
	_Atomic unsigned inside;
	_Atomic uint64_t cut_ms;        /* when the last one was cut off; 0: nobody was */
	struct tg_config *config;
	struct tg_models models;
	_Atomic(struct tg_models *) made;
	uv_mutex_t lock;                 /* of the rest */
	uv_cond_t changed;
	char why[256];                   /* why it could not be made; "": it could, or was not tried */
};

static char *models_folder(const char *url)
{
	return strdup(strncmp(url, "file:", 5) == 0 ? url + 5 : MODELS_HERE);
}

struct tg_engine *tg_engine_new(const struct tg_config *c, unsigned nloops, void (*wake)(void *ctx), void *ctx)
{
	struct tg_engine *e = calloc(1, sizeof *e);
	if (!e || uv_mutex_init(&e->lock) != 0) {
		free(e);
		return NULL;
	}
	if (uv_cond_init(&e->changed) != 0) {
		uv_mutex_destroy(&e->lock);
		free(e);
		return NULL;
	}
	e->spool = strdup(c->ml_spool);
	e->folder = models_folder(c->artifacts_url);
	e->datasets = strdup(c->ml_datasets);
	e->threads = c->ml_threads;
	e->spool_bytes = c->ml_spool_bytes;
	e->nloops = nloops;
	e->wake = wake;
	e->ctx = ctx;
	if (e->spool && e->folder && e->datasets)
		return e;
	tg_engine_free(e);
	return NULL;
}

void tg_engine_free(struct tg_engine *e)
{
	if (!e)
		return;
	tg_models_free(&e->models);
	if (e->config)
		tg_config_free(e->config);
	uv_cond_destroy(&e->changed);
	uv_mutex_destroy(&e->lock);
	free(e->spool);
	free(e->folder);
	free(e->datasets);
	free(e);
}

/* ---- any thread ---- */

const struct tg_models *tg_engine_models(struct tg_engine *e)
{
	return e ? atomic_load(&e->made) : NULL;
}

static struct tg_worker *worker_of(struct tg_engine *e)
{
	struct tg_models *m = atomic_load(&e->made);
	return m ? m->v[0].workers[0] : NULL;
}

void tg_engine_want(struct tg_engine *e)
{
	if (!e || atomic_load(&e->closed))
		return;
	struct tg_worker *w = worker_of(e);
	if (!w) {
		if (!atomic_exchange(&e->wanted, true))
			e->wake(e->ctx);
	} else if (atomic_load(&w->state) == TG_WORKER_FAILED) {
		uint64_t now = tg_mono_us() / 1000, last = atomic_load(&e->retried_ms);
		if (now - last >= RETRY_MS && atomic_compare_exchange_strong(&e->retried_ms, &last, now)) {
			atomic_store(&e->retry, true);
			e->wake(e->ctx);
		}
	}
}

static enum tg_engine_state state_of_worker(struct tg_worker *w, struct tg_err *why)
{
	int s = atomic_load(&w->state);
	if (s == TG_WORKER_UP || s == TG_WORKER_UNKNOWN)
		return TG_ENGINE_READY;
	if (why) {
		uv_mutex_lock(&w->started->lock);
		if (w->started->reason[0])
			tg_err_set(why, "the tabular engine %s", w->started->reason);
		uv_mutex_unlock(&w->started->lock);
	}
	return s == TG_WORKER_FAILED ? TG_ENGINE_FAILED : TG_ENGINE_STARTING;
}

enum tg_engine_state tg_engine_state(struct tg_engine *e, struct tg_err *why)
{
	if (why)
		why->text[0] = 0;
	if (!e) {
		if (why)
			tg_err_set(why, "training and prediction are switched off ([ml] engine)");
		return TG_ENGINE_NONE;
	}
	struct tg_worker *w = worker_of(e);
	if (w)
		return state_of_worker(w, why);
	uv_mutex_lock(&e->lock);
	bool failed = e->why[0];
	if (failed && why)
		tg_err_set(why, "%s", e->why);
	uv_mutex_unlock(&e->lock);
	return failed ? TG_ENGINE_FAILED : atomic_load(&e->wanted) ? TG_ENGINE_STARTING : TG_ENGINE_IDLE;
}

struct tg_worker *tg_engine_worker(struct tg_engine *e)
{
	struct tg_worker *w = e ? worker_of(e) : NULL;
	return w && tg_worker_usable(w) ? w : NULL;
}

static void set_send_wait(int fd, uint64_t ms)
{
	struct timeval t = { .tv_sec = (time_t)(ms / 1000), .tv_usec = (suseconds_t)(ms % 1000 * 1000) };
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof t); /* connect(2) to a Unix socket waits as long as a send would */
}

/* -1: it was ready, and does not take connections: errno. */
static int connect_now(const struct tg_worker *w, uint64_t wait_ms)
{
	const struct tg_sockaddr *a = atomic_load(&w->addr);
	int fd = a ? socket(a->ss.ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0) : -1;
	if (fd < 0)
		return -1;
	set_send_wait(fd, wait_ms ? wait_ms : 1);
	if (connect(fd, (const struct sockaddr *)&a->ss, a->len) == 0) {
		set_send_wait(fd, 0);
		return fd;
	}
	int why = errno;
	close(fd);
	errno = why;
	return -1;
}

bool tg_engine_connect(struct tg_engine *e, int *fd, unsigned wait_ms, struct tg_err *err)
{
	uint64_t now = tg_mono_us() / 1000, until = now + wait_ms;
	for (;; now = tg_mono_us() / 1000) {
		tg_engine_want(e);
		enum tg_engine_state s = tg_engine_state(e, err);
		if (s == TG_ENGINE_NONE || s == TG_ENGINE_FAILED)
			return false;
		if (atomic_load(&e->closed)) {
			tg_err_set(err, "the gate ends");
			return false;
		}
		struct tg_worker *w = s == TG_ENGINE_READY ? worker_of(e) : NULL;
		if (w && (*fd = connect_now(w, now < until ? until - now : 0)) >= 0)
			return true;
		if (w && errno != EAGAIN) { /* most likely it has ended a moment ago: the supervisor is to look */
			(void)tg_health_fault(&atomic_load(&e->made)->v[0], w, TG_FAULT_UNREACHABLE, strerror(errno), false, now);
			e->wake(e->ctx);
		}
		if (now >= until) {
			if (!err->text[0])
				tg_err_set(err, w ? "the tabular engine takes no connections" : "the tabular engine is being started");
			return false;
		}
		uv_mutex_lock(&e->lock);
		(void)uv_cond_timedwait(&e->changed, &e->lock, (until - now < LOOK_MS ? until - now : LOOK_MS) * 1000000);
		uv_mutex_unlock(&e->lock);
	}
}

void tg_engine_changed(struct tg_engine *e)
{
	if (!e)
		return;
	uv_mutex_lock(&e->lock);
	uv_cond_broadcast(&e->changed);
	uv_mutex_unlock(&e->lock);
}

void tg_engine_close(struct tg_engine *e)
{
	if (!e)
		return;
	atomic_store(&e->closed, true);
	tg_engine_changed(e);
}

/* ---- control thread ---- */

/* Our own program, which knows where the engine is (cli/engine.c): by its path, which may have got another file meanwhile, as after an update. */
static bool own_path(char out[PATH_MAX])
{
	static const char deleted[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", out, PATH_MAX - 1);
	if (n <= 0)
		return false;
	out[n] = 0;
	size_t k = sizeof deleted - 1;
	if ((size_t)n > k && strcmp(out + n - k, deleted) == 0)
		out[(size_t)n - k] = 0;
	return true;
}

static bool make(struct tg_engine *e, struct tg_err *err)
{
	char self[PATH_MAX], threads[16], bytes[24];
	tg_err_set(err, "out of memory");
	snprintf(threads, sizeof threads, "%u", e->threads);
	snprintf(bytes, sizeof bytes, "%llu", (unsigned long long)e->spool_bytes);
	if (!own_path(self)) {
		tg_err_set(err, "/proc/self/exe: %s", strerror(errno));
		return false;
	}
	char words[][16] = { "engine", "tabular", "--socket", "{socket}", "--spool", "--models", "--datasets", "--threads", "--spool-bytes" };
	char *argv[] = { self, words[0], words[1], words[2], words[3], words[4], e->spool, words[5], e->folder, words[6], e->datasets, words[7], threads, words[8], bytes, NULL };
	if (!e->config && !(e->config = tg_config_defaults()))
		return false;
	if (!e->config->nmodels && !tg_config_add_command(e->config, NAME, argv, TG_PROTO_INFER, err))
		return false;
	e->config->models[0].start_ms = START_MS;
	e->config->models[0].stop_ms = STOP_MS;
	return tg_models_build(&e->models, e->config, NULL, e->nloops, err);
}

/* The engine says so too, but among the lines of all workers. */
static void say_unbounded(void)
{
	int version = tg_landlock_version();
	if (version < 0)
		tg_log(TG_LOG_F_WARN, "engine.files_not_bounded", "t:why", tg_landlock_lack(version), NULL);
}

const struct tg_models *tg_engine_turn(struct tg_engine *e, bool *retry, struct tg_err *err)
{
	*retry = false;
	err->text[0] = 0;
	if (!e || atomic_load(&e->closed))
		return NULL;
	struct tg_models *m = atomic_load(&e->made);
	if (m) {
		*retry = atomic_exchange(&e->retry, false);
		return *retry ? m : NULL;
	}
	if (!atomic_load(&e->wanted))
		return NULL;
	bool ok = make(e, err);
	uv_mutex_lock(&e->lock);
	snprintf(e->why, sizeof e->why, "%.250s", ok ? "" : err->text);
	uv_mutex_unlock(&e->lock);
	if (ok) {
		say_unbounded();
		atomic_store(&e->made, &e->models);
	}
	if (!ok)
		atomic_store(&e->wanted, false); /* the next who wants it tries again */
	tg_engine_changed(e);
	return ok ? &e->models : NULL;
}

void tg_engine_enter(struct tg_engine *e)
{
	if (e)
		atomic_fetch_add(&e->inside, 1);
}

void tg_engine_leave(struct tg_engine *e, bool answered)
{
	if (!e)
		return;
	if (!answered)
		atomic_store(&e->cut_ms, tg_mono_us() / 1000); /* first: nobody is seen to be neither inside nor cut off */
	atomic_fetch_sub(&e->inside, 1);
}

bool tg_engine_shared(const struct tg_engine *e)
{
	if (!e)
		return false;
	bool inside = atomic_load(&e->inside) > 0;
	uint64_t cut = atomic_load(&e->cut_ms);
	return inside || (cut && tg_mono_us() / 1000 - cut < CUT_MS);
}
