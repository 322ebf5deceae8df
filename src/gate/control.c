/*
 * The control thread (see control.h). Everything that changes what requests are judged by happens here, one change at a time, and reaches the loops as a whole
 * snapshot.
 *
 * The key file is watched by looking at it four times a second: inotify misses files that are mounted or replaced from outside. A file that cannot be parsed may
 * be one that is just being written, so it has half a second to become valid; after that its keys are void and authentication is required.
 */
#include "gate/control.h"
#include "base/clock.h"
#include "gate/match_table.h"
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <unistd.h>

#define KEYFILE_LOOK_MS 250
#define KEYFILE_GRACE_MS 500
#define PROBE_EVERY_MS 1000
#define PROBE_TIMEOUT_MS 2000
#define CUT_GRACE_MS 5000

struct control {
	struct tg_gate gate;
	const struct tg_control_conf *conf;
	struct tg_shared_config *shared;
	uv_signal_t term, intr, hup;
	uv_timer_t look, probe, deadline;
	uv_work_t first_work;
	uv_thread_t *threads;
	unsigned nthreads;
	int exit_code;
	bool stopping, cut;
	/* the key file as last seen */
	struct tg_keyfile keyfile;
	bool keyfile_usable;
	struct stat seen;
	bool seen_any;
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

/* What leaves the gate more open or more useless than it seems. */
static void warn_about(const struct tg_snapshot *s)
{
	if (!s->config->api_keys_file[0])
		return; /* tollgate run: one key, which it has just printed */
	static const struct {
		uint32_t perm;
		const char *text;
	} rows[] = {
		{ TG_PERM_write_models, "no admin key: INFERENCE_ADMIN_KEY is not set; admin routes answer 500 (tollgate init makes one)" },
		{ TG_PERM_read_models, "no key at all: inference routes answer 500, /infer serves local callers only (tollgate init makes keys)" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (!(s->held & rows[i].perm)) {
			say("warning: ", rows[i].text);
			tg_log(TG_LOG_F_WARN, "keys.none", "s:what", rows[i].text, NULL);
		}
	if (!s->policy.require_auth_for_external) {
		say("warning: ", "require_auth_for_external is false: /infer is open to everybody who can reach it");
		tg_log(TG_LOG_F_WARN, "auth.open", "s:what", "require_auth_for_external is false: /infer is open to everybody", NULL);
	}
}

/* Workers given by name: looked up before the first request can ask for them. It may take the resolver's time, on this thread only. */
static void resolve_names(const struct tg_snapshot *s)
{
	for (unsigned i = 0; i < s->models.n; i++)
		for (unsigned k = 0; k < s->models.v[i].nworkers; k++) {
			struct tg_worker *w = s->models.v[i].workers[k];
			if (!atomic_load(&w->addr) && !w->probing && !tg_worker_resolve(w))
				tg_log(TG_LOG_F_WARN, "worker.unresolved", "t:worker", w->name, "s:host", w->host, NULL);
		}
}

static bool publish(struct control *c, struct tg_shared_config *shared, struct tg_err *err)
{
	struct tg_snapshot *s = tg_snapshot_new(shared, c->keyfile_usable ? &c->keyfile : NULL, c->gate.snapshot, c->gate.nloops, err);
	if (!s)
		return false;
	warn_about(s);
	resolve_names(s);
	tg_gate_publish(&c->gate, s);
	return true;
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
		*usable = true;
		return true;
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

static void on_look(uv_timer_t *t)
{
	struct control *c = t->data;
	struct stat st;
	if (!c->shared->config->api_keys_file[0])
		return;
	bool there = stat(c->shared->config->api_keys_file, &st) == 0;
	if (!c->bad_since_ms && there == c->seen_any && (!there || same_file(&st, &c->seen)))
		return;
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

static void set_log(const struct tg_config *cfg)
{
	struct tg_log_conf lc = { .path = cfg->log_path, .level = (int)cfg->log_level, .rotate_bytes = cfg->log_rotate_bytes, .rotate_keep = cfg->log_rotate_keep };
	struct tg_err err;
	if (!tg_log_open(&lc, &err))
		say("the log stays where it is: ", err.text);
}

static void warn_line(void *ctx, const char *line)
{
	(void)ctx;
	say("warning: ", line);
}

static void on_hup(uv_signal_t *s, int signum)
{
	(void)signum;
	struct control *c = s->data;
	if (c->stopping)
		return;
	char text[96];
	snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%llu", (unsigned long long)tg_mono_us());
	tg_notify(text);
	tg_log_reopen();
	struct tg_err err = { "out of memory" };
	struct tg_config *fresh = c->conf->source ? tg_config_load(c->conf->source, &err, warn_line, NULL) : NULL;
	struct tg_shared_config *shared = fresh ? tg_shared_config_new(fresh) : NULL;
	char names[512];
	if (shared && publish(c, shared, &err)) {
		if (tg_config_needs_restart(c->shared->config, shared->config, names, sizeof names))
			tg_log(TG_LOG_F_WARN, "config.needs_restart", "s:options", names, NULL);
		set_log(shared->config);
		tg_shared_config_put(c->shared);
		c->shared = shared;
		c->seen_any = !c->seen_any; /* the key file's path may have changed: it is looked at anew */
		on_look(&c->look);
		tg_log(TG_LOG_F_INFO, "config.reloaded", "s:file", shared->config->path, NULL);
		tg_metrics_count(c->gate.shards[c->gate.nloops], TG_COUNT_RELOADS);
	} else if (c->conf->source) {
		tg_shared_config_put(shared);
		tg_log(TG_LOG_F_ERROR, "config.reload_failed", "s:why", err.text, NULL);
		say("the configuration stays as it was: ", err.text);
		tg_metrics_count(c->gate.shards[c->gate.nloops], TG_COUNT_RELOADS_FAILED);
	}
	tg_notify("READY=1");
}

/* ---- health of the workers ---- */

struct probe {
	uv_work_t work;
	struct control *c;
	struct tg_worker *worker;
	bool up;
};

static void do_probe(uv_work_t *w)
{
	struct probe *p = w->data;
	p->up = tg_worker_probe(p->worker, PROBE_TIMEOUT_MS);
}

static void probed(uv_work_t *w, int status)
{
	struct probe *p = w->data;
	struct tg_gate *g = &p->c->gate;
	(void)status;
	p->worker->probing = false;
	p->worker->probed = true;
	if (p->up)
		tg_worker_up(p->worker);
	else
		tg_worker_down(p->worker, "its probe failed");
	for (unsigned i = 0; p->up && i < g->snapshot->models.n; i++)
		tg_model_pump(&g->snapshot->models.v[i]);
	tg_worker_put(p->worker);
	free(p);
}

static void on_probe(uv_timer_t *t)
{
	struct control *c = t->data;
	const struct tg_models *ms = &c->gate.snapshot->models;
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			struct tg_worker *w = ms->v[i].workers[k];
			bool asked = atomic_exchange(&w->want_probe, false);
			if (w->probing || c->stopping || (w->probed && !asked && atomic_load(&w->state) != TG_WORKER_DOWN))
				continue;
			struct probe *p = calloc(1, sizeof *p);
			if (!p)
				continue;
			*p = (struct probe){ .c = c, .worker = tg_worker_get(w) };
			p->work.data = p;
			w->probing = true;
			uv_queue_work(&c->gate.control, &p->work, do_probe, probed);
		}
}

void tg_gate_reprobe(struct tg_gate *g, struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++)
		atomic_store(&m->workers[i]->want_probe, true);
	uv_async_send(&g->wake);
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

static void all_ended(struct control *c)
{
	if (c->conf->stopping)
		c->conf->stopping(c->conf->ctx);
	block_signals(true);
	uv_walk(&c->gate.control, close_handle, NULL);
}

static void on_deadline(uv_timer_t *t)
{
	struct control *c = t->data;
	if (c->cut) {
		tg_log(TG_LOG_F_ERROR, "gate.forced_end", NULL);
		tg_log_close();
		_exit(1);
	}
	c->cut = true;
	tg_log(TG_LOG_F_WARN, "gate.drain_deadline", "i:connections", (int64_t)atomic_load(&c->gate.connections), NULL);
	tg_gate_cut(&c->gate);
	uv_timer_start(t, on_deadline, CUT_GRACE_MS, 0);
}

void tg_control_end(struct tg_gate *g, int code)
{
	struct control *c = control_of(g);
	if (code)
		c->exit_code = code;
	if (c->stopping) { /* asked twice: at once */
		uv_timer_start(&c->deadline, on_deadline, 0, 0);
		return;
	}
	c->stopping = true;
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
	on_probe(&c->probe);
	if (atomic_load(&c->gate.loops_ended) == c->gate.nloops)
		all_ended(c);
}

/* ---- the start ---- */

static void raise_file_limit(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

/* Half of the descriptors, less a few for files and listeners. */
static unsigned connections_allowed(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY || r.rlim_cur > 2000000)
		return 1000000;
	return r.rlim_cur > 128 ? (unsigned)(r.rlim_cur - 64) / 2 : 32;
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
			g->naddrs++;
		else if (optional && r == TG_BIND_TAKEN)
			fprintf(stderr, "tollgate: skipping %s: it is taken\n", spec);
		else
			return false;
	}
	if (!g->naddrs)
		tg_err_set(err, "[server] listen is empty: nothing to listen on");
	return g->naddrs > 0;
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
	uv_timer_init(l, &c->probe);
	uv_timer_init(l, &c->deadline);
	c->look.data = c->probe.data = c->deadline.data = c;
	uv_async_init(l, &c->gate.wake, on_wake);
	c->gate.wake.data = c;
	uv_signal_start(&c->term, on_term, SIGTERM);
	uv_signal_start(&c->intr, on_term, SIGINT);
	uv_signal_start(&c->hup, on_hup, SIGHUP);
}

static bool start(struct control *c, struct tg_err *err)
{
	struct tg_gate *g = &c->gate;
	const struct tg_config *cfg = c->shared->config;
	g->nloops = cfg->threads;
	if (!g->nloops) {
		long n = sysconf(_SC_NPROCESSORS_ONLN);
		g->nloops = n < 1 ? 1 : n > 64 ? 64 : (unsigned)n;
	}
	g->start_wall_us = tg_wall_us();
	g->max_connections = connections_allowed();
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
	g->limiter = tg_limiter_new(65536);
	g->loops = calloc(g->nloops, sizeof *g->loops);
	g->states = calloc(g->nloops, sizeof *g->states);
	g->shards = calloc(g->nloops + 1, sizeof *g->shards);
	c->threads = calloc(g->nloops, sizeof *c->threads);
	if (g->shards)
		g->shards[g->nloops] = tg_metrics_shard_new();
	tg_err_set(err, "out of memory");
	if (!g->limiter || !g->shards || !g->shards[g->nloops] || !g->loops || !g->states || !c->threads || !bind_all(c, err))
		return false;
	g->snapshot = tg_snapshot_new(c->shared, c->keyfile_usable ? &c->keyfile : NULL, NULL, g->nloops, err);
	if (!g->snapshot)
		return false;
	resolve_names(g->snapshot);
	tg_route_init();
	for (unsigned i = 0; i < g->nloops; i++)
		if (!tg_gate_loop_init(g, i, err))
			return false;
	open_control(c);
	block_signals(true);
	uv_queue_work(&g->control, &c->first_work, no_work, NULL); /* makes the job pool's threads now */
	for (; c->nthreads < g->nloops; c->nthreads++)
		if (uv_thread_create(&c->threads[c->nthreads], tg_gate_loop_thread, &g->states[c->nthreads])) {
			tg_err_set(err, "a thread could not be made");
			return false;
		}
	block_signals(false);
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
	tg_snapshot_put(g->snapshot);
	for (unsigned i = 0; g->shards && i <= g->nloops; i++)
		if (g->shards[i])
			tg_metrics_shard_free(g->shards[i]);
	tg_limiter_free(g->limiter);
	if (c->keyfile_usable)
		tg_keyfile_free(&c->keyfile);
	tg_shared_config_put(c->shared);
	free(g->addrs);
	free(g->shards);
	free(g->states);
	free(g->loops);
	free(c->threads);
	uv_loop_close(&g->control);
}

int tg_control_main(const struct tg_control_conf *conf)
{
	struct control c = { .conf = conf, .shared = tg_shared_config_new(conf->config) };
	struct tg_err err;
	signal(SIGPIPE, SIG_IGN);
	raise_file_limit();
	if (!c.shared || uv_loop_init(&c.gate.control)) {
		say("", "out of memory");
		return 1;
	}
	struct tg_log_conf lc = { .path = c.shared->config->log_path, .level = (int)c.shared->config->log_level,
				  .rotate_bytes = c.shared->config->log_rotate_bytes, .rotate_keep = c.shared->config->log_rotate_keep };
	if (!tg_log_open(&lc, &err) || !start(&c, &err)) {
		say("", err.text);
		cleanup(&c);
		tg_log_close();
		return 1;
	}
	for (unsigned i = 0; i < c.gate.naddrs; i++) {
		fprintf(stderr, "tollgate: listening on %s\n", c.gate.addrs[i].text);
		tg_log(TG_LOG_F_INFO, "gate.listening", "s:address", c.gate.addrs[i].text, NULL);
	}
	warn_about(c.gate.snapshot);
	uv_timer_start(&c.look, on_look, KEYFILE_LOOK_MS, KEYFILE_LOOK_MS);
	uv_timer_start(&c.probe, on_probe, 0, PROBE_EVERY_MS);
	atomic_store(&c.gate.ready, true);
	fprintf(stderr, "tollgate: ready\n");
	tg_log(TG_LOG_F_INFO, "gate.ready", "u:loops", (uint64_t)c.gate.nloops, "u:models", (uint64_t)c.gate.snapshot->models.n, NULL);
	tg_notify("READY=1");
	if (conf->started)
		conf->started(&c.gate, conf->ctx);
	uv_run(&c.gate.control, UV_RUN_DEFAULT);
	cleanup(&c);
	tg_log(TG_LOG_F_INFO, "gate.ended", "i:code", (int64_t)c.exit_code, NULL);
	tg_log_close();
	return c.exit_code;
}
