/*
 * The supervisor (see supervise.h). One ward a started worker; a ward's life is the enum below, moved on by four events only: its timer, a probe's result, its child's end,
 * and the gate's wish that it end.
 *
 * Invariants: a worker's process is there only while its ward is STARTING, RUNNING or ENDING; its state lets requests through only while the ward is RUNNING. A ward
 * holds its worker and its queue by count, so that a reload can forget both while the process is still ending.
 */
#include "pool/supervise.h"
#include "base/clock.h"
#include "base/log.h"
#include "pool/launch.h"
#include "pool/probe.h"
#include "pool/procfs.h"
#include <arpa/inet.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/un.h>
#include <unistd.h>

#define FIRST_LOOK_MS 20      /* from the start of a process to the first question whether it is ready; then half as long again, up to */
#define LAST_LOOK_MS 500
#define START_WAIT_MS 500u    /* after the first start that failed; then twice as long */
#define RESTART_WAIT_MS 100u  /* after a worker that was ready ended; then twice as long, up to */
#define RESTART_WAIT_MAX_MS 30000u
#define STEADY_MS 60000       /* having run so long it begins with RESTART_WAIT_MS again */
#define DOUBT_MS 5000         /* a process that is there and accepts no connection for so long is ended */
#define UNANSWERED_MS 60000   /* so is one that does not answer its probes for so long */
#define GOING_MS 50           /* between two looks whether one that leaves is still needed */
#define KEEPERS_MAX 4096
#define LAST_SWEEPS 100       /* of 10 ms, before the gate ends */
#define TAIL_LINES 20         /* of its output, told with a start that failed */

enum phase { WAITING, STARTING, RUNNING, ENDING };

struct ward {
	struct ward *next;
	struct tg_supervisor *s;
	struct tg_worker *worker; /* a count of it */
	struct tg_queue *queue;   /* a count of it */
	struct tg_child child;
	uv_timer_t timer;         /* its next start, or look */
	uv_timer_t pause;         /* its output is not read until then */
	uv_timer_t going;         /* while it leaves */
	unsigned timers;          /* not yet closed */
	enum phase phase;
	unsigned wait_ms, look_ms;
	uint64_t started_ms, ready_ms, doubt_ms, down_ms; /* since; 0: not */
	bool asked;               /* a probe of ours is on the way */
	bool leaving;             /* it is not to be started again */
	bool hidden;              /* no model's: the engine */
	uint64_t leave_ms;        /* who still knows it may use it until then */
	char why[200];            /* why we ended it; "": we did not */
	bool closing;
};

struct tg_supervisor {
	struct tg_supervisor_conf conf;
	struct ward *wards;
	void (*done)(void *ctx);
	void *done_ctx;
	bool stopping;
	uv_work_t sample;
	struct sample *sampling;  /* on the job pool */
	bool strays;              /* a keeper was killed: what it had is to be looked for */
};

static void start(struct ward *v);
static void stop_child(struct ward *v);
static void on_timer(uv_timer_t *t);

static uint64_t now_ms(void)
{
	return tg_mono_us() / 1000;
}

struct tg_supervised_count tg_supervisor_count(const struct tg_supervisor *s)
{
	struct tg_supervised_count c = { 0 };
	for (const struct ward *v = s->wards; v; v = v->next) {
		if (v->leaving || v->hidden)
			continue;
		c.all++;
		c.ready += v->phase == RUNNING;
	}
	return c;
}

uint64_t tg_supervisor_stop_ms(const struct tg_supervisor *s)
{
	uint64_t longest = 0;
	for (const struct ward *v = s->wards; v; v = v->next) {
		unsigned ms = atomic_load(&v->worker->started->stop_ms);
		longest = ms > longest ? ms : longest;
	}
	return longest;
}

/* ---- telling ---- */

__attribute__((format(printf, 2, 3))) static void say(const struct ward *v, const char *fmt, ...)
{
	char text[512];
	va_list ap;
	int n = snprintf(text, sizeof text, "%s: ", v->worker->name);
	va_start(ap, fmt);
	vsnprintf(text + n, sizeof text - (size_t)n, fmt, ap);
	va_end(ap);
	v->s->conf.say(v->s->conf.ctx, text);
}

static void set_reason(struct tg_started *st, const char *text)
{
	uv_mutex_lock(&st->lock);
	snprintf(st->reason, sizeof st->reason, "%s", text);
	uv_mutex_unlock(&st->lock);
}

static void changed(const struct ward *v, const struct tg_child_end *end)
{
	if (v->s->conf.changed)
		v->s->conf.changed(v->s->conf.ctx, v->worker, end);
}

static void place_text(const struct tg_worker *w, char *out, size_t cap)
{
	unsigned port = atomic_load(&w->started->port);
	const struct tg_sockaddr *a = atomic_load(&w->addr);
	if (port)
		snprintf(out, cap, "127.0.0.1:%u", port);
	else
		snprintf(out, cap, "unix:%s", a ? ((const struct sockaddr_un *)(const void *)&a->ss)->sun_path : "");
}

/* ---- the end of a ward ---- */

/* What is left of workers whose keepers were killed. */
static void end_strays(struct tg_supervisor *s)
{
	pid_t keepers[KEEPERS_MAX];
	unsigned n = 0;
	for (const struct ward *v = s->wards; v; v = v->next) {
		if (n == KEEPERS_MAX)
			return; /* who is whose cannot be told: not at the price of a good one */
		if (v->child.running && v->child.has_process)
			keepers[n++] = uv_process_get_pid(&v->child.keeper);
	}
	s->strays = tg_child_end_adopted(keepers, n);
}

static void maybe_done(struct tg_supervisor *s)
{
	if (s->done && !s->wards && !s->sampling) {
		for (int i = 0; s->strays && i < LAST_SWEEPS; i++) {
			end_strays(s);
			nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
		}
		void (*done)(void *) = s->done;
		s->done = NULL;
		done(s->done_ctx);
	}
}

static void ward_closed(uv_handle_t *h)
{
	struct ward *v = h->data;
	struct tg_supervisor *s = v->s;
	struct ward **at = &s->wards;
	if (--v->timers)
		return;
	while (*at != v)
		at = &(*at)->next;
	*at = v->next;
	tg_worker_put(v->worker);
	tg_queue_put(v->queue);
	free(v);
	maybe_done(s);
}

/* No process, no probe, no timer: it can go. */
static void drop(struct ward *v)
{
	if (v->closing || v->child.running || v->asked)
		return;
	v->closing = true;
	tg_health_left(v->worker);
	tg_queue_pump(v->queue);
	tg_launch_forget(v->worker);
	uv_close((uv_handle_t *)&v->timer, ward_closed);
	uv_close((uv_handle_t *)&v->pause, ward_closed);
	uv_close((uv_handle_t *)&v->going, ward_closed);
}

/* ---- readiness ---- */

static void look_again(struct ward *v)
{
	uv_timer_start(&v->timer, on_timer, v->look_ms, 0);
	v->look_ms = v->look_ms * 3 / 2 < LAST_LOOK_MS ? v->look_ms * 3 / 2 : LAST_LOOK_MS;
}

static void became_ready(struct ward *v, uint64_t now)
{
	struct tg_worker *w = v->worker;
	char place[160];
	v->phase = RUNNING;
	v->ready_ms = now;
	v->doubt_ms = v->down_ms = 0;
	uv_timer_stop(&v->timer);
	atomic_store(&w->started->tries, 0);
	set_reason(w->started, "");
	tg_health_ready(w, atomic_load(&w->started->restarts) > 0, now);
	tg_queue_pump(v->queue);
	struct tg_supervised_count c = tg_supervisor_count(v->s);
	place_text(w, place, sizeof place);
	if (v->hidden)
		say(v, "ready after %.1f s on %s", (double)(now - v->started_ms) / 1000, place);
	else
		say(v, "ready after %.1f s on %s (%u of %u workers)", (double)(now - v->started_ms) / 1000, place, c.ready, c.all);
	tg_log(TG_LOG_F_INFO, "worker.ready", "t:worker", w->name, "i:pid", (int64_t)v->child.pid, "t:address", place, "u:ms", now - v->started_ms, NULL);
	changed(v, NULL);
}

static void probed(struct tg_worker *w, enum tg_probe_result r, void *arg)
{
	struct ward *v = arg;
	uint64_t now = now_ms();
	v->asked = false;
	w->probing = false;
	w->probed_ms = now;
	if (v->phase == WAITING && v->leaving && !uv_is_active((uv_handle_t *)&v->going)) {
		drop(v);
	} else if (v->phase == STARTING) {
		if (r == TG_PROBE_GOOD)
			became_ready(v, now);
		else
			look_again(v);
	} else if (v->phase == RUNNING && v->doubt_ms) {
		if (r != TG_PROBE_REFUSED) { /* it is there. Whether it is well is for its health to tell, as ever */
			v->doubt_ms = 0;
			tg_quarantine_absolve(v->s->conf.quarantine, w);
			if (tg_health_cleared(w) && r != TG_PROBE_GOOD)
				(void)tg_health_probed(w, r, now);
			tg_queue_pump(v->queue);
		} else if (now - v->doubt_ms > DOUBT_MS) {
			snprintf(v->why, sizeof v->why, "did not accept a connection for %u seconds", DOUBT_MS / 1000);
			stop_child(v);
		} else {
			v->look_ms = FIRST_LOOK_MS;
			look_again(v);
		}
	}
}

static void ask(struct ward *v)
{
	if (v->asked || v->worker->probing) {
		uv_timer_start(&v->timer, on_timer, FIRST_LOOK_MS, 0);
		return;
	}
	v->asked = v->worker->probing = true;
	if (!tg_probe_start(v->s->conf.loop, v->worker, probed, v)) {
		v->asked = v->worker->probing = false;
		look_again(v);
	}
}

/* ---- the process ---- */

static void stop_child(struct ward *v)
{
	v->phase = ENDING;
	uv_timer_stop(&v->timer);
	if (!v->leaving)
		tg_health_gone(v->worker, false);
	tg_child_pause(&v->child, false); /* who hangs in a write cannot end well */
	tg_child_stop(&v->child);
}

static void on_pid(struct tg_child *c)
{
	struct ward *v = c->owner;
	char place[160];
	atomic_store(&v->worker->started->pid, (int)c->pid);
	place_text(v->worker, place, sizeof place);
	say(v, "started (process %d on %s)", (int)c->pid, place);
	tg_log(TG_LOG_F_INFO, "worker.started", "t:worker", v->worker->name, "i:pid", (int64_t)c->pid, "t:address", place, NULL);
}

static void resume(uv_timer_t *t)
{
	struct ward *v = t->data;
	tg_child_pause(&v->child, false);
}

static void on_output(struct tg_child *c, const char *p, size_t n)
{
	struct ward *v = c->owner;
	uint64_t now = now_ms();
	if (!tg_output_feed(&v->worker->started->output, (int)c->pid, p, n, now) && v->phase != ENDING) {
		tg_child_pause(c, true);
		uv_timer_start(&v->pause, resume, 1000 - now % 1000, 0);
	}
}

static void wait_and_start(struct ward *v, unsigned ms)
{
	v->phase = WAITING;
	v->wait_ms = ms;
	uv_timer_start(&v->timer, on_timer, ms, 0);
}

/* It would not start. */
static void start_failed(struct ward *v, const char *reason)
{
	struct tg_started *st = v->worker->started;
	if (v->s->conf.once) {
		tg_health_gone(v->worker, true);
		tg_queue_pump(v->queue);
		return;
	}
	unsigned tries = atomic_fetch_add(&st->tries, 1) + 1;
	bool for_good = tries >= TG_START_TRIES;
	unsigned wait = for_good ? TG_RETRY_FAILED_MS : START_WAIT_MS << (tries - 1);
	struct tg_buf tail;
	tg_buf_init(&tail, TG_OUTPUT_TAIL_MAX + 16);
	tg_output_tail(&st->output, TAIL_LINES, &tail);
	bool quiet = tries > TG_START_TRIES; /* said often enough */
	if (!quiet) {
		say(v, "%.200s %s; that was try %u of %u, %s in %u ms", st->command.v[0], reason, tries, TG_START_TRIES,
		    for_good ? "it has failed and is tried again" : "the next comes", wait);
		if (tail.len)
			v->s->conf.say(v->s->conf.ctx, "its last output:");
		for (size_t at = 0; at < tail.len;) {
			const char *nl = memchr(tail.p + at, '\n', tail.len - at);
			size_t n = nl ? (size_t)(nl - (tail.p + at)) : tail.len - at;
			char line[400];
			snprintf(line, sizeof line, "  %.*s", (int)(n < 380 ? n : 380), tail.p + at);
			v->s->conf.say(v->s->conf.ctx, line);
			at += n + 1;
		}
	}
	tg_buf_free(&tail);
	tg_log(for_good ? TG_LOG_F_ERROR : TG_LOG_F_WARN, for_good ? "worker.failed" : "worker.start_failed", "t:worker", v->worker->name, "t:why", reason, "u:try",
	       (uint64_t)tries, "u:next_ms", (uint64_t)wait, NULL);
	tg_health_gone(v->worker, for_good);
	tg_queue_pump(v->queue);
	wait_and_start(v, wait);
}

/* It was ready, and has ended. */
static void died(struct ward *v, const char *reason, uint64_t now)
{
	struct tg_started *st = v->worker->started;
	unsigned wait = now - v->ready_ms >= STEADY_MS || !v->wait_ms || v->wait_ms == TG_RETRY_FAILED_MS ? RESTART_WAIT_MS
			: v->wait_ms * 2 > RESTART_WAIT_MAX_MS							  ? RESTART_WAIT_MAX_MS
														  : v->wait_ms * 2;
	atomic_fetch_add(&st->restarts, 1);
	tg_quarantine_death(v->s->conf.quarantine, v->worker, now);
	say(v, "%s after %.1f s; it is started again in %.1f s", reason, (double)(now - v->ready_ms) / 1000, (double)wait / 1000);
	tg_log(TG_LOG_F_WARN, "worker.died", "t:worker", v->worker->name, "i:pid", (int64_t)v->child.pid, "t:why", reason, "u:next_ms", (uint64_t)wait, NULL);
	tg_health_gone(v->worker, false);
	wait_and_start(v, wait);
}

static void on_end(struct tg_child *c)
{
	struct ward *v = c->owner;
	struct tg_started *st = v->worker->started;
	uint64_t now = now_ms();
	bool was_ready = v->ready_ms != 0;
	char reason[256];
	tg_output_end(&st->output, (int)c->pid);
	if (v->why[0])
		snprintf(reason, sizeof reason, "%s", v->why);
	else
		tg_child_end_text(&c->end, reason, sizeof reason);
	v->why[0] = 0;
	atomic_store(&st->pid, 0);
	atomic_store(&st->since_us, 0);
	atomic_store(&st->cpu_us, 0);
	atomic_store(&st->rss_bytes, 0);
	uv_timer_stop(&v->timer);
	uv_timer_stop(&v->pause);
	if (c->end.kind == TG_CHILD_LOST)
		end_strays(v->s);
	const struct tg_sockaddr *a = atomic_load(&v->worker->addr);
	if (st->by_socket && a)
		unlink(((const struct sockaddr_un *)(const void *)&a->ss)->sun_path);
	v->phase = WAITING;
	if (v->leaving) {
		say(v, "ended");
		tg_log(TG_LOG_F_INFO, "worker.ended", "t:worker", v->worker->name, NULL);
		drop(v);
		return;
	}
	set_reason(st, reason);
	if (was_ready && !v->s->conf.once)
		died(v, reason, now);
	else
		start_failed(v, reason);
	changed(v, &c->end);
}

static bool file_is_there(const char *file, char *reason, size_t cap)
{
	if (!file || access(file, R_OK) == 0)
		return true;
	snprintf(reason, cap, "cannot be started: %.150s: %s", file, strerror(errno));
	return false;
}

static void set_place(struct tg_worker *w, const struct tg_launch *l)
{
	atomic_store(&w->started->port, l->port);
	if (l->port) {
		struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(l->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
		tg_worker_set_addr(w, (struct sockaddr *)&a, sizeof a);
	} else {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		snprintf(un.sun_path, sizeof un.sun_path, "%s", l->socket);
		tg_worker_set_addr(w, (struct sockaddr *)&un, sizeof un);
	}
}

static void start(struct ward *v)
{
	struct tg_started *st = v->worker->started;
	struct tg_launch l;
	struct tg_err err;
	char reason[256];
	bool there = file_is_there(st->file, reason, sizeof reason);
	if (there && !(there = tg_launch_make(&l, v->worker, &err)))
		snprintf(reason, sizeof reason, "cannot be started: %.230s", err.text);
	if (!there) {
		set_reason(st, reason);
		start_failed(v, reason);
		changed(v, &(struct tg_child_end){ TG_CHILD_NOT_RUN, 0 });
		return;
	}
	set_place(v->worker, &l);
	v->phase = STARTING;
	v->started_ms = now_ms();
	v->ready_ms = v->doubt_ms = v->down_ms = 0;
	v->look_ms = FIRST_LOOK_MS;
	v->worker->probed_ms = 0;
	atomic_store(&st->since_us, tg_wall_us());
	tg_child_start(&v->child, v->s->conf.loop, l.argv, l.env, atomic_load(&st->stop_ms));
	tg_launch_free(&l);
	look_again(v);
}

/* ---- the timer: to start, to look, to end ---- */

/* Requests of the configuration before may have it in hand, wait for it, or be about to: as long as anybody but us holds a count of it. */
static void on_going(uv_timer_t *t)
{
	struct ward *v = t->data;
	if (atomic_load(&v->worker->refs) > 1 && now_ms() < v->leave_ms)
		return;
	uv_timer_stop(t);
	if (v->child.running && v->phase != ENDING)
		stop_child(v);
	else
		drop(v);
}

static void on_timer(uv_timer_t *t)
{
	struct ward *v = t->data;
	struct tg_started *st = v->worker->started;
	if (v->phase == WAITING) {
		start(v);
	} else if (v->phase == STARTING) {
		unsigned most = atomic_load(&st->start_ms);
		if (now_ms() - v->started_ms < most) {
			ask(v);
			return;
		}
		snprintf(v->why, sizeof v->why, "was not ready within %.3g seconds", (double)most / 1000);
		stop_child(v);
	} else if (v->phase == RUNNING && v->doubt_ms) {
		ask(v);
	}
}

/* ---- what the control thread asks for ---- */

struct tg_supervisor *tg_supervisor_new(const struct tg_supervisor_conf *conf)
{
	struct tg_supervisor *s = calloc(1, sizeof *s);
	if (s)
		s->conf = *conf;
	return s;
}

void tg_supervisor_free(struct tg_supervisor *s)
{
	free(s);
}

static struct ward *ward_of(const struct tg_supervisor *s, const struct tg_worker *w)
{
	for (struct ward *v = s->wards; v; v = v->next)
		if (v->worker == w)
			return v;
	return NULL;
}

static void leave(struct ward *v, uint32_t drain_ms)
{
	v->leaving = true;
	v->leave_ms = now_ms() + drain_ms;
	if (!v->child.running) {
		uv_timer_stop(&v->timer);
		drop(v); /* a probe that is still on the way does it later */
	} else if (v->phase != ENDING) {
		uv_timer_start(&v->going, on_going, drain_ms ? GOING_MS : 0, GOING_MS);
	}
}

/* Wards for those that have none yet, and their first start. */
static void take(struct tg_supervisor *s, const struct tg_models *ms, bool hidden)
{
	struct ward **end = &s->wards, *fresh = NULL, **last = &fresh;
	while (*end)
		end = &(*end)->next;
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++) {
			struct tg_worker *w = ms->v[i].workers[k];
			if (w->started) {
				atomic_store(&w->started->start_ms, ms->v[i].conf->start_ms);
				atomic_store(&w->started->stop_ms, ms->v[i].conf->stop_ms);
			}
			struct ward *v = w->started && !ward_of(s, w) ? calloc(1, sizeof *v) : NULL;
			if (!v)
				continue;
			v->s = s;
			v->hidden = hidden;
			v->worker = tg_worker_get(w);
			v->queue = tg_queue_get(ms->v[i].queue);
			v->child.owner = v;
			v->child.on_pid = on_pid;
			v->child.on_output = on_output;
			v->child.on_end = on_end;
			uv_timer_t *timers[] = { &v->timer, &v->pause, &v->going };
			for (; v->timers < sizeof timers / sizeof timers[0]; v->timers++) {
				uv_timer_init(s->conf.loop, timers[v->timers]);
				timers[v->timers]->data = v;
			}
			*last = v;
			last = &v->next;
		}
	*end = fresh;
	/* They run as our user: without this they could read our keys from /proc or by ptrace(2). */
	if (fresh)
		prctl(PR_SET_DUMPABLE, 0);
	for (struct ward *v = fresh; v; v = v->next)
		start(v);
}

void tg_supervisor_update(struct tg_supervisor *s, const struct tg_models *now, uint32_t drain_ms)
{
	for (struct ward *v = s->wards, *next; v; v = next) {
		next = v->next;
		if (!v->leaving && !v->hidden && !tg_models_have_worker(now, v->worker))
			leave(v, drain_ms);
	}
	take(s, now, false);
}

void tg_supervisor_add(struct tg_supervisor *s, const struct tg_models *hidden)
{
	if (!s->stopping)
		take(s, hidden, true);
}

void tg_supervisor_stop(struct tg_supervisor *s, void (*done)(void *ctx), void *ctx)
{
	bool again = s->stopping;
	s->stopping = true;
	s->done = done;
	s->done_ctx = ctx;
	for (struct ward *v = s->wards, *next; v; v = next) {
		next = v->next;
		if (again && v->child.running)
			tg_child_kill(&v->child);
		else if (!v->leaving || v->phase != ENDING)
			leave(v, 0);
	}
	maybe_done(s);
}

void tg_supervisor_retry(struct tg_supervisor *s, const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++) {
		struct ward *v = ward_of(s, m->workers[i]);
		if (!v || v->leaving || v->phase != WAITING || v->child.running)
			continue;
		atomic_store(&v->worker->started->tries, 0);
		tg_health_gone(v->worker, false);
		uv_timer_stop(&v->timer);
		start(v);
	}
}

void tg_supervisor_look(struct tg_supervisor *s, uint64_t now)
{
	if (s->strays)
		end_strays(s);
	for (struct ward *v = s->wards; v; v = v->next) {
		tg_output_tick(&v->worker->started->output, (int)v->child.pid, now);
		if (v->phase != RUNNING || v->leaving)
			continue;
		int state = atomic_load(&v->worker->state);
		if (state == TG_WORKER_STARTING && !v->doubt_ms) {
			v->doubt_ms = now ? now : 1;
			v->look_ms = FIRST_LOOK_MS;
			ask(v);
		}
		/* Down by its probes, not for its answers, and without anything to do: nobody is at home. */
		bool silent = state == TG_WORKER_DOWN && !atomic_load(&v->worker->failing) && atomic_load(&v->worker->in_use) <= 0;
		v->down_ms = !silent ? 0 : v->down_ms ? v->down_ms : now;
		if (silent && now - v->down_ms > UNANSWERED_MS) {
			snprintf(v->why, sizeof v->why, "did not answer its health check for %u seconds", UNANSWERED_MS / 1000);
			stop_child(v);
		}
	}
}

/* ---- what they use ---- */

struct sample {
	struct tg_supervisor *s;
	unsigned n;
	struct sampled_worker {
		struct tg_worker *worker; /* a count of it */
		int pid;                  /* that it had */
	} *of;
	struct tg_procfs_use use[];       /* roots: the keepers */
};

static void do_sample(uv_work_t *w)
{
	struct sample *a = w->data;
	tg_procfs_look(a->use, a->n);
}

static void sampled(uv_work_t *w, int status)
{
	struct sample *a = w->data;
	struct tg_supervisor *s = a->s;
	for (unsigned i = 0; i < a->n; i++) {
		struct tg_started *st = a->of[i].worker->started;
		if (status == 0 && a->of[i].pid && a->of[i].pid == atomic_load(&st->pid)) {
			atomic_store(&st->cpu_us, a->use[i].cpu_us);
			atomic_store(&st->rss_bytes, a->use[i].rss_bytes);
		}
		tg_worker_put(a->of[i].worker);
	}
	free(a->of);
	free(a);
	s->sampling = NULL;
	maybe_done(s);
}

void tg_supervisor_sample(struct tg_supervisor *s)
{
	unsigned n = 0;
	for (struct ward *v = s->wards; v; v = v->next)
		n++;
	if (!n || s->sampling || s->stopping)
		return;
	struct sample *a = calloc(1, sizeof *a + n * sizeof a->use[0]);
	if (!a || !(a->of = calloc(n, sizeof *a->of))) {
		free(a);
		return;
	}
	a->s = s;
	for (struct ward *v = s->wards; v; v = v->next) {
		a->use[a->n].root = v->child.running ? uv_process_get_pid(&v->child.keeper) : 0;
		a->of[a->n++] = (struct sampled_worker){ tg_worker_get(v->worker), atomic_load(&v->worker->started->pid) };
	}
	s->sampling = a;
	s->sample.data = a;
	if (uv_queue_work(s->conf.loop, &s->sample, do_sample, sampled) != 0)
		sampled(&s->sample, UV_ENOSYS);
}

/* ---- before the start ---- */

/* PATH as the command will have it. */
static const char *path_of(const struct tg_model_conf *m)
{
	for (size_t i = 0; i < m->env.n; i++)
		if (strncmp(m->env.v[i], "PATH=", 5) == 0)
			return m->env.v[i] + 5;
	return getenv("PATH");
}

static bool on_path(const char *program, const char *path)
{
	if (strchr(program, '/'))
		return access(program, X_OK) == 0;
	for (path = path ? path : "/usr/bin:/bin"; *path;) {
		size_t n = strcspn(path, ":");
		char file[PATH_MAX];
		snprintf(file, sizeof file, "%.*s/%s", n ? (int)n : 1, n ? path : ".", program);
		if (access(file, X_OK) == 0)
			return true;
		path += n + (path[n] == ':');
	}
	errno = ENOENT;
	return false;
}

bool tg_supervise_check(const struct tg_config *c, struct tg_err *err)
{
	for (size_t i = 0; i < c->nmodels; i++) {
		const struct tg_model_conf *m = &c->models[i];
		if (!m->command.n || !m->workers)
			continue;
		const char *program = m->command.v[0];
		if (m->file && access(m->file, R_OK) != 0) {
			tg_err_set(err, "model %.128s: %.200s: %s%s%.150s", m->name, m->file, strerror(errno), m->fetch ? ". What fetches it: " : "", m->fetch ? m->fetch : "");
			return false;
		}
		if (!strchr(program, '{') && !on_path(program, path_of(m))) {
			tg_err_set(err, "model %.128s: its command %.200s cannot be run: %s%s", m->name, program, strerror(errno), strchr(program, '/') ? "" : " in PATH");
			return false;
		}
	}
	return true;
}
