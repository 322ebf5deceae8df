/*
 * GET /api/v1/jobs/{id}/$stream: a job's body at once and whenever it changes, as server-sent events, until it has ended.
 *
 * A loop looks for all its streams together, each half second, with one look at the database on the job pool: however many clients watch, at most one thread of the pool waits for the database on a loop's
 * account. What is watched exists only while somebody watches; a client that leaves takes his stream out of it, also while a look is under way.
 * A stream ends early, with an error, where the gate drains or its key is taken away. How many there are is bounded, and how many of them one key may have.
 */
#include "api/jobs.h"
#include "api/entity.h"
#include "gate/handlers.h"
#include "gate/revoked.h"
#include <stdatomic.h>

#define PATH "/api/v1/jobs/"
#define LOOK_MS 500
#define STREAMS_MAX 256 /* of the process */
#define STREAMS_KEY 64  /* of one key or user */
#define QUIET_LOOKS 30  /* then a comment, so that nobody between takes the connection for dead */
#define EVENT_MAX (64u << 10)

static _Atomic unsigned streams;

struct stream {
	struct tg_parking parking; /* first: left() casts */
	struct tg_exchange *x;
	struct stream *next, **pprev;
	char id[TG_ULID_LEN + 1];
	struct tg_buf last;        /* what was sent last */
	unsigned quiet;
};

struct look {
	struct stream *s;          /* NULL: it has left */
	char id[TG_ULID_LEN + 1];
	bool found, ended;
	struct tg_buf body;
};

struct tg_job_watch {
	struct tg_gate_loop *gl;
	uv_timer_t timer;
	uv_work_t work;
	struct stream *first;
	unsigned n;
	bool looking, again;
	struct look *looks;
	unsigned nlooks;
	enum tg_db_result r;
	struct tg_err err;
};

/* ---- towards the client ---- */

static void send_piece(struct stream *s, struct tg_slice text, bool end)
{
	struct tg_exchange *x = s->x;
	struct tg_buf b;
	tg_buf_init(&b, EVENT_MAX + 64);
	if (text.n && x->minor == 1) {
		tg_buf_hex(&b, text.n);
		tg_buf_lit(&b, "\r\n");
	}
	tg_buf_slice(&b, text);
	if (x->minor == 1)
		tg_buf_cstr(&b, text.n ? end ? "\r\n0\r\n\r\n" : "\r\n" : end ? "0\r\n\r\n" : "");
	if (end)
		tg_limit_end(x, b.len);
	if (b.failed || !tg_conn_send1(tg_session_conn(x->session), b.p, b.len))
		x->aborted = true;
	else
		x->bytes_out += text.n;
	if (!end && tg_conn_pending(tg_session_conn(x->session)))
		tg_session_write_clock(x->session);
	tg_buf_free(&b);
}

static void send_event(struct stream *s, struct tg_slice body, bool end)
{
	struct tg_buf b;
	tg_buf_init(&b, EVENT_MAX);
	tg_buf_lit(&b, "data: ");
	tg_buf_slice(&b, body);
	tg_buf_lit(&b, "\n\n");
	send_piece(s, tg_buf_view(&b), end);
	tg_buf_free(&b);
}

static bool goes_on(const struct tg_exchange *x)
{
	return x->minor == 1 && x->keep_alive && !x->closes && !x->body_left && !x->gl->draining && x->snap->config->keepalive_ms;
}

static void begin(struct stream *s)
{
	struct tg_exchange *x = s->x;
	struct tg_buf *b = &x->gl->loop->obuf;
	tg_answer_head(x, 200, TG_S("text/event-stream; charset=utf-8"), -1);
	tg_buf_lit(b, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
	if (goes_on(x))
		tg_buf_lit(b, "Connection: keep-alive\r\n");
	tg_answer_end_head(x);
	if (b->failed || !tg_conn_send1(tg_session_conn(x->session), b->p, b->len))
		x->aborted = true;
	x->first_us = tg_mono_us();
	x->stream = true;
	tg_exchange_drop_head(x);
}

/* It ends before the job has: as every stream that has begun, with an error and the end of the connection. */
static void send_end(struct stream *s, enum tg_error e, const char *reason, const char *detail)
{
	struct tg_exchange *x = s->x;
	struct tg_problem p;
	struct tg_buf b;
	tg_answer_problem_of(x, e, detail, NULL, &p);
	tg_buf_init(&b, EVENT_MAX);
	tg_problem_sse(&b, &p);
	x->reason = reason;
	x->partial = x->closes = true;
	tg_metrics_refusal(x->gl->metrics, reason);
	send_piece(s, tg_buf_view(&b), true);
	tg_buf_free(&b);
}

/* ---- the watch ---- */

static void unlink_stream(struct tg_job_watch *w, struct stream *s)
{
	*s->pprev = s->next;
	if (s->next)
		s->next->pprev = s->pprev;
	w->n--;
	for (unsigned i = 0; i < w->nlooks; i++)
		if (w->looks[i].s == s)
			w->looks[i].s = NULL;
	atomic_fetch_sub(&streams, 1);
	tg_share_give(&w->gl->gate->shares, s->x->principal->id, TG_SHARE_STREAMS, 1);
	tg_buf_free(&s->last);
}

static void closed(uv_handle_t *h)
{
	free(h->data);
}

/* Nobody watches any more: it is made anew by the next who does. */
static void end_if_idle(struct tg_job_watch *w)
{
	if (w->n || w->looking)
		return;
	w->gl->job_watch = NULL;
	uv_close((uv_handle_t *)&w->timer, closed);
}

static void left(struct tg_parking *p)
{
	struct stream *s = (struct stream *)p;
	struct tg_job_watch *w = s->x->gl->job_watch;
	unlink_stream(w, s);
	free(s);
	end_if_idle(w);
}

/* The exchange ends; the caller sees to the watch. */
static void finish(struct tg_job_watch *w, struct stream *s)
{
	struct tg_exchange *x = s->x;
	x->parked = NULL;
	unlink_stream(w, s);
	free(s);
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static bool terminal(enum tg_job_status s)
{
	return s != TG_JOB_PENDING && s != TG_JOB_RUNNING;
}

static bool found_job(void *ctx, const struct tg_job_row *j)
{
	struct look *l = ctx;
	l->ended = terminal(j->status);
	tg_put_job(&l->body, j);
	return true;
}

static enum tg_db_result look_at_jobs(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_job_watch *w = ctx;
	enum tg_db_result r = TG_DB_OK;
	for (unsigned i = 0; i < w->nlooks && r == TG_DB_OK; i++)
		r = tg_job_rows_get(db, w->looks[i].id, found_job, &w->looks[i], &w->looks[i].found, err);
	return r;
}

static void on_pool(uv_work_t *work)
{
	struct tg_job_watch *w = work->data;
	w->r = tg_store_read(w->gl->gate->store, look_at_jobs, w, &w->err);
}

/* What a stream learns from a look. */
static void deliver(struct tg_job_watch *w, struct stream *s, struct look *l)
{
	struct tg_exchange *x = s->x;
	if (!x->head_sent) {
		if (w->r != TG_DB_OK)
			tg_stored_fault(x, w->r, &w->err);
		else if (!l->found)
			tg_answer_problem(x, TG_E_not_found, "not_found", "Job not found", NULL, NULL);
		else if (l->body.failed)
			tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
		else
			begin(s);
		if (!x->stream || x->head_request) { /* no stream began, or its head is all that was asked for */
			finish(w, s);
			return;
		}
	}
	if (x->aborted) {
		finish(w, s);
	} else if (!tg_still_allowed(x)) {
		send_end(s, TG_E_unauthenticated, "revoked", "The key or user of this request was taken away.");
		finish(w, s);
	} else if (x->gl->draining) {
		send_end(s, TG_E_unavailable, "draining", "The gate is shutting down.");
		finish(w, s);
	} else if (w->r == TG_DB_OK && !l->found) { /* deleted, which is how a job is canceled */
		char text[96];
		int n = snprintf(text, sizeof text, "{\"id\":\"%s\",\"status\":\"canceled\"}", s->id);
		send_event(s, (struct tg_slice){ text, (size_t)n }, true);
		finish(w, s);
	} else if (w->r == TG_DB_OK && !l->body.failed && !tg_slice_eq(tg_buf_view(&s->last), tg_buf_view(&l->body))) {
		if (tg_conn_pending(tg_session_conn(x->session)) && !l->ended)
			return; /* it has not taken the last one: it gets the newest when it has */
		send_event(s, tg_buf_view(&l->body), l->ended);
		struct tg_buf was = s->last;
		s->last = l->body;
		l->body = was;
		s->quiet = 0;
		if (l->ended || x->aborted)
			finish(w, s);
	} else if (++s->quiet >= QUIET_LOOKS) {
		s->quiet = 0;
		if (!tg_conn_pending(tg_session_conn(x->session)))
			send_piece(s, TG_S(": \n\n"), false);
	}
}

static void look(struct tg_job_watch *w);

static void looked(uv_work_t *work, int status)
{
	(void)status; /* nothing cancels */
	struct tg_job_watch *w = work->data;
	for (unsigned i = 0; i < w->nlooks; i++) {
		struct look *l = &w->looks[i];
		if (l->s)
			deliver(w, l->s, l);
		tg_buf_free(&l->body);
	}
	free(w->looks);
	w->looks = NULL;
	w->nlooks = 0;
	w->looking = false;
	if (w->n && w->again)
		look(w);
	end_if_idle(w);
}

static void look(struct tg_job_watch *w)
{
	w->again = w->looking;
	if (w->looking || !w->n)
		return;
	w->looks = calloc(w->n, sizeof *w->looks);
	if (!w->looks)
		return; /* the next turn tries again */
	for (struct stream *s = w->first; s; s = s->next) {
		struct look *l = &w->looks[w->nlooks++];
		l->s = s;
		memcpy(l->id, s->id, sizeof l->id);
		tg_buf_init(&l->body, EVENT_MAX / 2);
	}
	w->looking = true;
	uv_queue_work(&w->gl->loop->uv, &w->work, on_pool, looked);
}

static void on_timer(uv_timer_t *t)
{
	look(t->data);
}

static struct tg_job_watch *watch_of(struct tg_gate_loop *gl)
{
	struct tg_job_watch *w = gl->job_watch;
	if (w || !(w = calloc(1, sizeof *w)))
		return w;
	w->gl = gl;
	w->timer.data = w->work.data = w;
	uv_timer_init(&gl->loop->uv, &w->timer);
	uv_timer_start(&w->timer, on_timer, LOOK_MS, LOOK_MS);
	return gl->job_watch = w;
}

enum tg_step tg_api_jobs_stream(struct tg_exchange *x)
{
	char id[TG_ULID_LEN + 1];
	enum tg_step answered;
	struct tg_err none = { "there is none" };
	if (!tg_entity_id(x, sizeof PATH - 1, id, &answered))
		return answered;
	if (!x->gl->gate->store)
		return tg_stored_fault(x, TG_DB_AWAY, &none);
	if (!tg_share_take(&x->gl->gate->shares, x->principal->id, TG_SHARE_STREAMS, 1, STREAMS_KEY))
		return tg_answer_problem(x, TG_E_rate_limited, "share_full", "This key watches 64 jobs, as many as it may at once; ask for the job itself.", NULL, "Retry-After: 2\r\n");
	bool full = atomic_fetch_add(&streams, 1) >= STREAMS_MAX;
	struct stream *s = full || !tg_exchange_keep_head(x) ? NULL : calloc(1, sizeof *s);
	struct tg_job_watch *w = s ? watch_of(x->gl) : NULL;
	if (!w) {
		atomic_fetch_sub(&streams, 1);
		tg_share_give(&x->gl->gate->shares, x->principal->id, TG_SHARE_STREAMS, 1);
		free(s);
		return tg_answer_problem(x, TG_E_unavailable, full ? "busy" : "memory", "Too many jobs are being watched at once; ask for the job itself.", NULL, "Retry-After: 2\r\n");
	}
	memcpy(s->id, id, sizeof id);
	tg_buf_init(&s->last, EVENT_MAX / 2);
	s->parking.left = left;
	s->x = x;
	s->next = w->first;
	s->pprev = &w->first;
	if (s->next)
		s->next->pprev = &s->next;
	w->first = s;
	w->n++;
	x->parked = &s->parking;
	look(w);
	return TG_WAIT;
}
