/*
 * The control thread (see control.h). Everything that changes what requests are judged by happens here, one change at a time, and reaches the loops as a whole
 * snapshot.
 *
 * The key file is watched by looking at it four times a second: inotify misses files that are mounted or replaced from outside. A file that cannot be parsed may
 * be one that is just being written, so it has half a second to become valid; after that its keys are void and authentication is required.
 */
#include "gate/control.h"
#include "audit/event.h"
#include "base/clock.h"
#include "config/settings.h"
#include "gate/descriptors.h"
#include "gate/job.h"
#include "gate/learning.h"
#include "gate/match_table.h"
#include "gate/reread.h"
#include "gate/store_watch.h"
#include "gate/warnings.h"
#include "jobs/tend.h"
#include "gate/watch.h"
#include "policy/token.h"
#include "pool/resolve.h"
#include "store/first_user.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYFILE_LOOK_MS 250
#define KEYFILE_GRACE_MS 500
#define NAMES_MS 3000 /* how long a start waits for the first look-up of workers' names */
#define CUT_GRACE_MS 5000

struct control {
	struct tg_gate gate;
	const struct tg_control_conf *conf;
	struct tg_shared_config *shared;
	struct tg_tickets *tickets; /* NULL: until a certificate is loaded */
	uv_signal_t term, intr, hup;
	uv_timer_t look, deadline, reread; /* reread: started by SIGHUP: after whatever else has come by then */
	uv_work_t first_work;
	struct tg_store_watch store;
	struct tg_learning learning;
	struct tg_watch watch;
	bool all_ready;          /* said that all started workers are */
	uv_thread_t *threads;
	unsigned nthreads;
	int exit_code;
	bool stopping, hurry, cut, open, ending, over, looking_up; /* hurry: it was asked for twice; open: the loops run; ending: they have ended; over: the workers too; looking_up: with names being looked up */
	/* the key file as last seen */
	struct tg_keyfile keyfile;
	bool keyfile_usable;
	struct stat seen;
	bool seen_any;
	bool look_anew;          /* its path may have changed: whatever was seen is another file's */
	uint64_t bad_since_ms; /* 0: not bad */
};

static struct control *control_of(struct tg_gate *g)
{
	return (struct control *)((char *)g - offsetof(struct control, gate));
}

static void say(const char *what, const char *detail)
{
	fprintf(stderr, "tollgate: %s%s\n", what, detail);
}

/* ---- snapshots ---- */

static struct tg_snapshot *snapshot_of(struct control *c, struct tg_shared_config *shared, struct tg_err *err)
{
	uint64_t generation = 0;
	struct tg_identity *who = c->gate.store ? tg_store_identity(c->gate.store, &generation) : NULL;
	struct tg_snapshot *s = tg_snapshot_new(shared, c->keyfile_usable ? &c->keyfile : NULL, who, generation, c->gate.snapshot, c->gate.nloops, err);
	tg_identity_put(who);
	if (s && c->gate.store && shared->config->usage_days)
		tg_store_places(c->gate.store, &s->policy);
	return s;
}

static void put_in_force(struct control *c, struct tg_snapshot *s)
{
	/* A key that was made in the database is no news about the rest. */
	if (s->generation == c->gate.snapshot->generation || s->held != c->gate.snapshot->held)
		tg_warn_about(s);
	tg_gate_publish(&c->gate, s);
	tg_watch_models(&c->watch);
	tg_watch_look(&c->watch); /* names of new workers */
}

static bool publish(struct control *c, struct tg_shared_config *shared, struct tg_err *err)
{
	struct tg_snapshot *s = snapshot_of(c, shared, err);
	if (s)
		put_in_force(c, s);
	return s != NULL;
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec && a->st_size == b->st_size && a->st_ino == b->st_ino &&
	       a->st_dev == b->st_dev;
}

/* Reads the key file. True: it is usable, or is simply not there (which is usable too: no keys of it). */
static bool read_keyfile(struct control *c, struct tg_keyfile *into, bool *usable, struct tg_err *err)
{
	if (!c->shared->config->api_keys_file[0]) {
		*usable = false;
		return true;
	}
	switch (tg_keyfile_load(into, c->shared->config->api_keys_file, err)) {
	case TG_KEYFILE_OK:
		*usable = c->shared->config->profile != TG_PROFILE_PRODUCTION || !tg_keyfile_has_demo(into, c->shared->config->api_keys_file, err);
		if (!*usable)
			tg_keyfile_free(into);
		return *usable;
	case TG_KEYFILE_MISSING:
		*usable = false;
		return true;
	default:
		*usable = false;
		return false;
	}
}

static void take_keyfile(struct control *c, struct tg_keyfile *f, bool usable)
{
	if (c->keyfile_usable)
		tg_keyfile_free(&c->keyfile);
	c->keyfile_usable = usable;
	if (usable)
		c->keyfile = *f;
	struct tg_err err;
	if (!publish(c, c->shared, &err))
		tg_log(TG_LOG_F_ERROR, "keys.not_loaded", "s:why", err.text, NULL);
}

/* ---- the database ---- */

static void take_identity(struct control *c)
{
	struct tg_err err;
	if (!c->gate.store || c->stopping || tg_store_generation(c->gate.store) == c->gate.snapshot->generation)
		return;
	if (!publish(c, c->shared, &err))
		tg_log(TG_LOG_F_ERROR, "store.not_published", "s:why", err.text, NULL); /* the next look tries again */
}

static void store_looked(struct tg_gate *g)
{
	take_identity(control_of(g));
}

static void on_look(uv_timer_t *t)
{
	struct control *c = t->data;
	struct stat st;
	if (c->gate.store && !c->stopping)
		tg_store_watch_look(&c->store);
	tg_learning_look(&c->learning);
	if (c->tickets)
		tg_tickets_turn(c->tickets, tg_mono_us() / 1000000);
	if (!c->shared->config->api_keys_file[0])
		return;
	bool there = stat(c->shared->config->api_keys_file, &st) == 0;
	if (!c->look_anew && !c->bad_since_ms && there == c->seen_any && (!there || same_file(&st, &c->seen)))
		return;
	c->look_anew = false;
	c->seen_any = there;
	c->seen = st;
	struct tg_keyfile f;
	struct tg_err err;
	bool usable;
	uint64_t now = uv_now(&c->gate.control);
	bool good = read_keyfile(c, &f, &usable, &err);
	if (good && (usable || !c->keyfile_usable)) {
		bool changed = usable || c->keyfile_usable;
		c->bad_since_ms = 0;
		if (changed) {
			take_keyfile(c, &f, usable);
			tg_log(TG_LOG_F_INFO, "keys.loaded", "s:file", c->shared->config->api_keys_file, "u:keys", (uint64_t)(usable ? c->keyfile.keys.n : 0), NULL);
		}
		return;
	}
	/* Bad, or gone: editors and copies replace files in steps. */
	if (!c->bad_since_ms) {
		c->bad_since_ms = now;
		return;
	}
	if (now - c->bad_since_ms < KEYFILE_GRACE_MS || c->bad_since_ms == UINT64_MAX)
		return;
	c->bad_since_ms = good ? 0 : UINT64_MAX; /* said once; looked at until it is good */
	tg_log(TG_LOG_F_ERROR, "keys.void", "s:file", c->shared->config->api_keys_file, "s:why", good ? "the file is gone" : err.text, NULL);
	say("the key file is not usable, its keys are void: ", good ? "it is gone" : err.text);
	take_keyfile(c, NULL, false);
}

/* Only where there are workers of ours: else nothing is written there. */
static void set_workers_log(const struct tg_config *cfg, bool any)
{
	struct tg_err err;
	for (size_t i = 0; i < cfg->nmodels; i++)
		any |= cfg->models[i].command.n > 0;
	if (any && cfg->workers_log_path && !tg_output_open(cfg->workers_log_path, cfg->log_rotate_bytes, cfg->log_rotate_keep, &err))
		say("the workers' output goes to stderr: ", err.text);
}

static void set_log(const struct tg_config *cfg, struct tg_engine *engine)
{
	struct tg_log_conf lc = { .path = cfg->log_path, .level = (int)cfg->log_level, .rotate_bytes = cfg->log_rotate_bytes, .rotate_keep = cfg->log_rotate_keep };
	struct tg_err err;
	if (!tg_log_open(&lc, &err))
		say("the log stays where it is: ", err.text);
	if (!tg_audit_open(cfg->audit_path ? cfg->audit_path : "", &err)) {
		say("the audit trail stays where it is: ", err.text);
		tg_log(TG_LOG_F_ERROR, "audit.not_opened", "s:why", err.text, NULL);
	}
	set_workers_log(cfg, tg_engine_models(engine) != NULL);
}

/* The whole of what `source` says, not yet in force. A change of settings is kept when nothing can go wrong any more. */
static struct tg_snapshot *read_again(struct control *c, const struct tg_config_source *source, const struct tg_proposal *change, const char **why, struct tg_err *err)
{
	struct tg_reread r = { c->gate.nloops, &c->tickets, c->shared };
	struct tg_shared_config *shared = tg_reread(&r, source, why, err);
	if (!shared)
		return NULL;
	struct tg_snapshot *s = snapshot_of(c, shared, err);
	tg_shared_config_put(shared);
	*why = "the keys and models of the configuration cannot be taken";
	if (s && change && !tg_settings_write(change->path, change->settings, err)) {
		*why = "data/settings.json cannot be written";
		tg_snapshot_drop(s);
		s = NULL;
	}
	return s;
}

static void take_config(struct control *c, struct tg_snapshot *s)
{
	char names[512];
	struct tg_shared_config *shared = tg_shared_config_get(s->shared);
	put_in_force(c, s);
	if (tg_config_needs_restart(c->shared->config, shared->config, names, sizeof names))
		tg_log(TG_LOG_F_WARN, "config.needs_restart", "s:options", names, NULL);
	set_log(shared->config, c->gate.engine);
	tg_shared_config_put(c->shared);
	c->shared = shared;
	c->look_anew = true;
	on_look(&c->look);
	tg_log(TG_LOG_F_INFO, "config.reloaded", "s:file", shared->config->path, NULL);
}

/* With a change of settings, or with what lies there. NULL, or why all stays as it was (gate/proposal.h). */
static const char *reload(struct control *c, const struct tg_proposal *change)
{
	char text[96];
	const char *why = NULL;
	struct tg_err err;
	snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)tg_mono_us());
	tg_notify(text);
	tg_log_reopen();
	tg_audit_reopen();
	tg_output_reopen();
	if (c->conf->source) {
		struct tg_config_source source = *c->conf->source;
		source.reload = true;
		source.settings = change ? change->settings : NULL;
		struct tg_snapshot *s = read_again(c, &source, change, &why, &err);
		if (s) {
			why = NULL;
			uv_timer_stop(&c->reread); /* it was asked for before this one began */
			take_config(c, s);
		} else {
			tg_log(TG_LOG_F_ERROR, "config.reload_failed", "s:why", err.text, NULL);
			say("the configuration stays as it was: ", err.text);
		}
		tg_metrics_count(c->gate.shards[c->gate.nloops], s ? TG_COUNT_RELOADS : TG_COUNT_RELOADS_FAILED);
	}
	tg_notify("READY=1");
	return why;
}

static void on_reread(uv_timer_t *t)
{
	struct control *c = t->data;
	if (!c->stopping && c->open)
		reload(c, NULL);
}

/* It only asks: one reload does for all that came meanwhile, and SIGTERM is seen between two. */
static void on_hup(uv_signal_t *s, int signum)
{
	(void)signum;
	struct control *c = s->data;
	uv_timer_start(&c->reread, on_reread, 0, 0);
}

static void take_change(struct control *c)
{
	struct tg_proposal *change = tg_proposal_take(&c->gate.proposals);
	if (!change)
		return;
	const char *why = c->stopping ? "the gate is shutting down" : reload(c, change);
	tg_proposal_done(&c->gate.proposals, change, why, c->gate.snapshot->number);
}

/* ---- the end ---- */

/* Signals are for the control thread alone. Threads inherit the mask of their maker: it is closed while they are made, and again for the last moments, when libuv
 * has given the signals' default actions back. */
static void block_signals(bool block)
{
	sigset_t set;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	pthread_sigmask(block ? SIG_BLOCK : SIG_UNBLOCK, &set, NULL);
}

static void close_handle(uv_handle_t *h, void *arg)
{
	(void)arg;
	if (!uv_is_closing(h))
		uv_close(h, NULL);
}

/* Nothing of ours is left but the control loop itself. */
static void workers_ended(void *ctx)
{
	struct control *c = ctx;
	if (c->over)
		return;
	c->over = true;
	block_signals(true);
	c->looking_up = tg_resolve_pending() > 0;
	if (c->looking_up)
		uv_stop(&c->gate.control); /* a resolver that does not answer is not waited for, and cannot be called back: the process ends under it */
	else
		uv_walk(&c->gate.control, close_handle, NULL);
}

static void on_workers_deadline(uv_timer_t *t)
{
	struct control *c = t->data;
	tg_log(TG_LOG_F_ERROR, "gate.workers_left", NULL); /* their keepers see to them */
	workers_ended(c);
}

/* The loops have ended: no request can reach a worker any more, and those that are ours may go. */
static void all_ended(struct control *c)
{
	if (c->ending)
		return;
	c->ending = true;
	tg_learning_stop(&c->learning);
	uv_timer_start(&c->deadline, on_workers_deadline, tg_supervisor_stop_ms(c->watch.supervisor) + CUT_GRACE_MS, 0);
	tg_watch_stop(&c->watch, workers_ended, c);
	if (c->hurry)
		tg_watch_stop(&c->watch, workers_ended, c);
}

static void on_deadline(uv_timer_t *t)
{
	struct control *c = t->data;
	if (c->cut) {
		tg_log(TG_LOG_F_ERROR, "gate.forced_end", NULL);
		tg_audit_flush();
		tg_log_close();
		_exit(1);
	}
	c->cut = true;
	tg_learning_stop(&c->learning);
	tg_log(TG_LOG_F_WARN, "gate.drain_deadline", "i:connections", (int64_t)atomic_load(&c->gate.connections), NULL);
	tg_gate_cut(&c->gate);
	uv_timer_start(t, on_deadline, CUT_GRACE_MS, 0);
}

void tg_control_end(struct tg_gate *g, int code)
{
	struct control *c = control_of(g);
	if (code)
		c->exit_code = code;
	if (c->ending) {
		tg_watch_stop(&c->watch, workers_ended, c); /* asked again: by SIGKILL */
		return;
	}
	if (c->stopping) { /* asked twice: at once */
		c->hurry = true;
		uv_timer_start(&c->deadline, on_deadline, 0, 0);
		return;
	}
	c->stopping = true;
	tg_learning_stop(&c->learning);
	tg_engine_close(g->engine);
	if (!c->open) {
		all_ended(c);
		return;
	}
	tg_notify("STOPPING=1");
	tg_log(TG_LOG_F_INFO, "gate.draining", "i:connections", (int64_t)atomic_load(&g->connections), NULL);
	tg_gate_drain(g);
	uv_timer_start(&c->deadline, on_deadline, g->snapshot->config->drain_ms, 0);
}

static void on_term(uv_signal_t *s, int signum)
{
	(void)signum;
	struct control *c = s->data;
	tg_control_end(&c->gate, 0);
}

static void on_wake(uv_async_t *a)
{
	struct control *c = a->data;
	take_change(c);
	take_identity(c);
	tg_watch_look(&c->watch);
	tg_watch_retry(&c->watch);
	if (tg_watch_engine(&c->watch))
		set_workers_log(c->shared->config, true);
	if (c->open && atomic_load(&c->gate.loops_ended) == c->gate.nloops)
		all_ended(c);
}

/* ---- the start ---- */

static void take_kind(struct tg_gate *g, const struct tg_listen_addr *a)
{
	if (a->kind == TG_LISTEN_TLS && !g->tls_port)
		g->tls_port = a->port;
}

/* Those of the configuration have been checked; --also and --listen may have brought others. */
static bool kinds_agree(const struct control *c, struct tg_err *err)
{
	const struct tg_gate *g = &c->gate;
	for (unsigned i = 0; i < g->naddrs; i++) {
		if (g->addrs[i].kind == TG_LISTEN_TLS && !c->shared->tls) {
			tg_err_set(err, "cannot listen on %s: [server] tls_cert and tls_key are not set", g->addrs[i].text);
			return false;
		}
		if (g->addrs[i].kind == TG_LISTEN_REDIRECT && !g->tls_port) {
			tg_err_set(err, "cannot listen on %s: there is no tls: address to send callers to", g->addrs[i].text);
			return false;
		}
	}
	return true;
}

static bool bind_all(struct control *c, struct tg_err *err)
{
	struct tg_gate *g = &c->gate;
	const struct tg_strlist *l = &c->shared->config->listen;
	g->addrs = calloc(l->n + c->conf->nalso + 1, sizeof *g->addrs);
	if (!g->addrs) {
		tg_err_set(err, "out of memory");
		return false;
	}
	for (size_t i = 0; i < l->n + c->conf->nalso; i++) {
		bool optional = i >= l->n;
		const char *spec = optional ? c->conf->also[i - l->n] : l->v[i];
		enum tg_bind_result r = tg_listen_bind(&g->addrs[g->naddrs], spec, g->nloops, err);
		if (r == TG_BIND_OK)
			take_kind(g, &g->addrs[g->naddrs++]);
		else if (optional && r == TG_BIND_TAKEN)
			fprintf(stderr, "tollgate: skipping %s: it is taken\n", spec);
		else
			return false;
	}
	if (!g->naddrs)
		tg_err_set(err, "[server] listen is empty: nothing to listen on");
	return g->naddrs > 0 && kinds_agree(c, err);
}

static void no_work(uv_work_t *w)
{
	(void)w;
}

static void open_control(struct control *c)
{
	uv_loop_t *l = &c->gate.control;
	uv_signal_init(l, &c->term);
	uv_signal_init(l, &c->intr);
	uv_signal_init(l, &c->hup);
	c->term.data = c->intr.data = c->hup.data = c;
	uv_timer_init(l, &c->look);
	uv_timer_init(l, &c->deadline);
	uv_timer_init(l, &c->reread);
	c->look.data = c->deadline.data = c->reread.data = c;
	uv_async_init(l, &c->gate.wake, on_wake);
	c->gate.wake.data = c;
	uv_signal_start(&c->term, on_term, SIGTERM);
	uv_signal_start(&c->intr, on_term, SIGINT);
	uv_signal_start(&c->hup, on_hup, SIGHUP);
}

/* What the started workers do, for people. */
static void worker_said(void *ctx, const char *text)
{
	(void)ctx;
	fprintf(stderr, "tollgate: %s\n", text);
}

static void worker_changed(void *ctx, const struct tg_worker *w, const struct tg_child_end *end)
{
	struct control *c = ctx;
	if (tg_engine_models(c->gate.engine) && tg_models_have_worker(tg_engine_models(c->gate.engine), w)) {
		tg_engine_changed(c->gate.engine);
		return;
	}
	struct tg_supervised_count n = tg_supervisor_count(c->watch.supervisor);
	if (n.ready == n.all && !c->all_ready)
		fprintf(stderr, "tollgate: all %u workers are ready\n", n.all);
	c->all_ready = n.ready == n.all;
	if (c->conf->worker_changed)
		c->conf->worker_changed(&c->gate, c->conf->ctx, w, end);
}

/* Who logs in: the database, the secret of tokens, and the first user where INFERNO_ADMIN_PASSWORD asks for one. */
static bool open_store(struct control *c, struct tg_err *err)
{
	struct tg_gate *g = &c->gate;
	const struct tg_config *cfg = c->shared->config;
	struct tg_err note; /* others can get at its file: the configuration's load has said so, or refused */
	g->store = tg_store_open(cfg->store_url, &cfg->store_secret, tg_warn_line, NULL, err);
	if (!g->store)
		return false;
	tg_store_keep_usage(g->store, cfg->usage_days, cfg->usage_flush_s);
	if (!tg_store_generation(g->store))
		return true; /* no folder to write to: nobody logs in here */
	g->token_key = calloc(1, sizeof *g->token_key);
	if (!g->token_key || !tg_token_key_load(g->token_key, cfg, &note, err))
		return false;
	return !cfg->admin_password.n || tg_first_user(g->store, (struct tg_slice){ cfg->admin_password.p, cfg->admin_password.n }, tg_warn_line, NULL, err);
}

/* Any thread. */
static void wake(void *ctx)
{
	tg_gate_look(ctx);
}

/* Everything but the loops: nothing is listened on yet. */
static bool prepare(struct control *c, struct tg_err *err)
{
	struct tg_gate *g = &c->gate;
	const struct tg_config *cfg = c->shared->config;
	g->nloops = cfg->threads;
	if (!g->nloops) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);
		g->nloops = n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
	}
	g->start_wall_us = tg_wall_us();
	g->source = c->conf->source;
	c->store = (struct tg_store_watch){ .gate = g, .looked = store_looked };
	tg_proposals_init(&g->proposals);
	tg_jobs_init(&g->jobs);
	tg_jobs_init(&g->away_jobs);
	tg_shares_init(&g->shares);
	if (cfg->store_url[0] && !open_store(c, err))
		return false;
	if (g->store && (!(g->tend = tg_tend_new(g->store, cfg)) || !(g->kept = tg_kept_new()))) {
		tg_err_set(err, "out of memory");
		return false;
	}
	g->max_connections = tg_descriptors_connections();
	bool usable;
	if (!read_keyfile(c, &c->keyfile, &usable, err)) {
		say("the key file is not usable, its keys are void: ", err->text);
		tg_log(TG_LOG_F_ERROR, "keys.void", "s:file", cfg->api_keys_file, "s:why", err->text, NULL);
		c->bad_since_ms = UINT64_MAX;
	}
	c->keyfile_usable = usable;
	c->seen_any = stat(cfg->api_keys_file, &c->seen) == 0;
	if (!c->seen_any && cfg->api_keys_file[0])
		tg_log(TG_LOG_F_WARN, "keys.no_file", "s:file", cfg->api_keys_file, "s:what", "authentication is required, local callers are those of loopback", NULL);
	if (!tg_supervise_check(cfg, err) || !tg_reread_tls(&(struct tg_reread){ g->nloops, &c->tickets, NULL }, c->shared, err))
		return false;
	g->limiter = tg_limiter_new(TG_LIMIT_CELLS);
	g->strangers = tg_limiter_new(TG_LIMIT_CELLS);
	g->guess = tg_guess_new();
	g->hasher = tg_hasher_new();
	g->quarantine = tg_quarantine_new();
	g->loops = calloc(g->nloops, sizeof *g->loops);
	g->states = calloc(g->nloops, sizeof *g->states);
	g->shards = calloc(g->nloops + 1, sizeof *g->shards);
	c->threads = calloc(g->nloops, sizeof *c->threads);
	if (g->shards)
		g->shards[g->nloops] = tg_metrics_shard_new();
	if (!c->conf->hold && !bind_all(c, err))
		return false; /* a taken port is no reason to start workers first */
	tg_err_set(err, "out of memory");
	struct tg_supervisor_conf sc = { .once = c->conf->hold, .say = worker_said, .changed = worker_changed, .ctx = c };
	if (cfg->ml_engine && !c->conf->hold && !(g->engine = tg_engine_new(cfg, g->nloops, wake, g)))
		return false;
	if (!tg_learning_open(&c->learning, g, cfg, tg_warn_line, NULL))
		return false;
	if (!g->limiter || !g->strangers || !g->guess || !g->hasher || !g->quarantine || !g->shards || !g->shards[g->nloops] || !g->loops || !g->states || !c->threads)
		return false;
	g->snapshot = snapshot_of(c, c->shared, err);
	if (g->snapshot)
		atomic_store(&g->adopted, g->snapshot->generation);
	return g->snapshot && tg_watch_init(&c->watch, g, &sc);
}

static bool names_pending(const struct control *c)
{
	const struct tg_models *ms = &c->gate.snapshot->models;
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			if (ms->v[i].workers[k]->resolving)
				return true;
	return false;
}

/* The watch begins before the first request can come: workers are on the way, names are looked up. A slow resolver holds the start up for a moment only. */
static void begin_watch(struct control *c)
{
	tg_watch_models(&c->watch);
	unsigned workers = tg_supervisor_count(c->watch.supervisor).all;
	if (workers)
		fprintf(stderr, "tollgate: starting %u worker%s\n", workers, workers == 1 ? "" : "s");
	tg_watch_start(&c->watch);
	tg_watch_look(&c->watch);
	uint64_t until = tg_mono_us() / 1000 + NAMES_MS;
	while (names_pending(c) && !c->stopping && tg_mono_us() / 1000 < until)
		uv_run(&c->gate.control, UV_RUN_ONCE); /* the watch's timer wakes it at the latest */
	while (c->conf->hold && !c->stopping && !tg_model_usable(&c->gate.snapshot->models.v[0]))
		uv_run(&c->gate.control, UV_RUN_ONCE);
}

static bool open_loops(struct control *c, struct tg_err *err)
{
	struct tg_gate *g = &c->gate;
	if (!g->naddrs && !bind_all(c, err))
		return false;
	tg_route_init();
	for (unsigned i = 0; i < g->nloops; i++)
		if (!tg_gate_loop_init(g, i, err))
			return false;
	block_signals(true);
	uv_queue_work(&g->control, &c->first_work, no_work, NULL); /* makes the job pool's threads now */
	for (; c->nthreads < g->nloops; c->nthreads++)
		if (uv_thread_create(&c->threads[c->nthreads], tg_gate_loop_thread, &g->states[c->nthreads])) {
			say("", "a thread could not be made");
			_exit(1); /* some may run already; keepers see to the workers */
		}
	tg_learning_start(&c->learning);
	block_signals(false);
	c->open = true;
	return true;
}

static void cleanup(struct control *c)
{
	struct tg_gate *g = &c->gate;
	for (unsigned i = 0; i < c->nthreads; i++)
		uv_thread_join(&c->threads[i]);
	for (unsigned i = 0; i < c->nthreads; i++)
		tg_gate_loop_free(&g->states[i]);
	for (unsigned i = 0; i < g->naddrs; i++)
		tg_listen_free(&g->addrs[i]);
	/* Loops that never ran hold a count each. */
	for (unsigned i = c->nthreads; g->snapshot && i < g->nloops; i++)
		tg_snapshot_put(g->snapshot);
	tg_snapshot_put(g->snapshot);
	tg_watch_free(&c->watch);
	for (unsigned i = 0; g->shards && i <= g->nloops; i++)
		if (g->shards[i])
			tg_metrics_shard_free(g->shards[i]);
	tg_limiter_free(g->limiter);
	tg_limiter_free(g->strangers);
	tg_guess_free(g->guess);
	tg_hasher_free(g->hasher);
	tg_quarantine_free(g->quarantine);
	tg_engine_free(g->engine);
	tg_proposals_free(&g->proposals);
	tg_jobs_free(&g->jobs);
	tg_jobs_free(&g->away_jobs);
	tg_shares_free(&g->shares);
	tg_tend_free(g->tend);
	tg_kept_free(g->kept);
	tg_store_close(g->store);
	if (g->token_key)
		tg_token_key_wipe(g->token_key);
	free(g->token_key);
	if (c->keyfile_usable)
		tg_keyfile_free(&c->keyfile);
	tg_shared_config_put(c->shared);
	tg_tickets_put(c->tickets);
	free(g->addrs);
	free(g->shards);
	free(g->states);
	free(g->loops);
	free(c->threads);
	uv_loop_close(&g->control);
}

/* "ready" comes last: whoever waits for that line has read everything else that is said at a start. */
static void tell_open(struct control *c)
{
	for (unsigned i = 0; i < c->gate.naddrs; i++) {
		fprintf(stderr, "tollgate: listening on %s\n", c->gate.addrs[i].text);
		tg_log(TG_LOG_F_INFO, "gate.listening", "s:address", c->gate.addrs[i].text, NULL);
	}
	tg_warn_about(c->gate.snapshot);
	if (c->conf->started)
		c->conf->started(&c->gate, c->conf->ctx);
	atomic_store(&c->gate.ready, true);
	fprintf(stderr, "tollgate: ready\n");
	tg_log(TG_LOG_F_INFO, "gate.ready", "u:loops", (uint64_t)c->gate.nloops, "u:models", (uint64_t)c->gate.snapshot->models.n, NULL);
	tg_notify("READY=1");
}

/* What libuv could not make for want of a descriptor comes to us as nothing made. */
static void say_why_not(const struct tg_err *err)
{
	bool descriptors = (errno == EMFILE || errno == ENFILE) && strcmp(err->text, "out of memory") == 0;
	say("", descriptors ? strerror(errno) : err->text);
}

int tg_control_main(const struct tg_control_conf *conf)
{
	struct control c = { .conf = conf, .shared = tg_shared_config_new(conf->config) };
	struct tg_err err;
	signal(SIGPIPE, SIG_IGN);
	tg_descriptors_raise();
	prctl(PR_SET_CHILD_SUBREAPER, 1); /* what a killed keeper leaves behind comes to us: pool/child.c */
	int r = c.shared ? uv_loop_init(&c.gate.control) : UV_ENOMEM;
	if (r) {
		say("", strerror(-r));
		return 1;
	}
	struct tg_log_conf lc = { .path = c.shared->config->log_path, .level = (int)c.shared->config->log_level,
				  .rotate_bytes = c.shared->config->log_rotate_bytes, .rotate_keep = c.shared->config->log_rotate_keep };
	const char *audit = c.shared->config->audit_path;
	if (!tg_log_open(&lc, &err) || !tg_audit_open(audit ? audit : "", &err) || !prepare(&c, &err)) {
		say_why_not(&err);
		(void)tg_learning_close(&c.learning); /* no thread of it was made yet */
		cleanup(&c);
		tg_audit_close();
		tg_log_close();
		return 1;
	}
	if (!conf->hold)
		set_workers_log(c.shared->config, false);
	open_control(&c);
	begin_watch(&c);
	if (!c.stopping && !open_loops(&c, &err)) {
		say_why_not(&err);
		tg_control_end(&c.gate, 1);
	}
	if (!c.stopping) {
		uv_timer_start(&c.look, on_look, KEYFILE_LOOK_MS, KEYFILE_LOOK_MS);
		tell_open(&c);
	}
	uv_run(&c.gate.control, UV_RUN_DEFAULT);
	bool left = !tg_learning_close(&c.learning);
	if (!c.looking_up && !left)
		cleanup(&c);
	else if (c.gate.store && !left)
		(void)tg_store_flush(c.gate.store, &err);
	tg_audit_close();
	tg_log(TG_LOG_F_INFO, "gate.ended", "i:code", (int64_t)c.exit_code, NULL);
	tg_log_close();
	tg_output_close();
	if (c.looking_up || left)
		_exit(c.exit_code);
	return c.exit_code;
}
