/*
 * Bodies streamed to the engine (see upload.h). The exchange stays in the dispatch stage: first it waits for the engine, looked at by the exchange's timer; then x->intake marks the body that is on
 * its way, and the session hands each piece to tg_upload_feed, which sends it on in the same turn; then x->up alone is there and the engine's answer is awaited.
 *
 * Invariants: at most one piece of the body (a receive buffer) is kept here, behind the engine's connection; while it is, the client is not read. The engine's connection is used once and closed:
 * whoever leaves in the middle leaves nothing behind that another request could meet. What hangs on the exchange (x->parked) is this upload until `done` is called.
 */
#include "gate/upload.h"
#include "base/boundary.h"
#include "base/log.h"
#include "gate/revoked.h"
#include "http/h1_reader.h"
#include "jobs/runner.h"
#include "jobs/spool.h"
#include "pool/engine.h"
#include <jansson.h>
#include <poll.h>
#include <stdlib.h>

#define LOOK_MS 50       /* how often an engine that is on its way is looked at */
#define CONNECT_MS 2000
/* Bodies on their way at a time. The engine gives each connection a thread and has a bound of them (TG_CONNECTIONS_MAX in engine/serve.h): half of them are left to the runner and to who asks whether it lives, and of the
 * others half is the most for one key or user, so that nobody keeps others out with bodies that never end. */
#define UPLOADS_MAX 128
#define UPLOADS_OF_ONE 64

static const char *const types[] = { [TG_UPLOAD_JSON] = "application/json", [TG_UPLOAD_CSV] = "text/csv", [TG_UPLOAD_FORM] = "multipart/form-data" };

struct tg_upload {
	struct tg_parking parking; /* first: left() casts */
	struct tg_exchange *x;
	struct tg_upload_conf conf;
	tg_upload_done done;
	struct tg_h1_reader reader;
	uint64_t ready_by_ms, place_by_ms, taken, length; /* taken: bytes of the body so far; length: as announced */
	char boundary[2 * TG_BOUNDARY_MAX + 1]; /* of a form, in hexadecimal; a copy, for the head moves while the engine is awaited */
	bool chunked, expects;
	bool placed;               /* it has its place in gate->uploads */
	bool answered;             /* the engine has, and its answer was read */
	bool full;                 /* there is no memory for the engine's answer */
	bool deaf;                 /* the engine takes nothing any more: it has answered, or ended */
};

static enum tg_step fail(struct tg_exchange *x, enum tg_error e, const char *reason, const char *detail)
{
	return tg_answer_problem(x, e, reason, detail, NULL, tg_error_info(e)->status == 503 ? "Retry-After: 1\r\n" : NULL);
}

static enum tg_step engine_gone(struct tg_exchange *x)
{
	return fail(x, TG_E_unavailable, "worker_gone", "The engine ended; try again.");
}

static enum tg_step rubbish(struct tg_exchange *x)
{
	return fail(x, TG_E_bad_gateway, "worker_rubbish", "The engine's answer was not valid.");
}

static enum tg_step too_large(struct tg_exchange *x)
{
	char text[96];
	snprintf(text, sizeof text, "The body is over the limit of %llu bytes.", (unsigned long long)x->snap->config->ml_max_body_bytes);
	return fail(x, TG_E_too_large, "body_too_large", text);
}

/* of_key: a share of this key's own is used up, be it of places or of the engine's memory. */
static enum tg_step too_much(struct tg_exchange *x, bool of_key)
{
	if (of_key)
		return tg_answer_problem(x, TG_E_rate_limited, "too_many_uploads", "This key has as much data being taken in as one may; try again when some of it is done.", NULL, "Retry-After: 2\r\n");
	return tg_answer_problem(x, TG_E_unavailable, "busy", "The engine has too much to do; try again.", NULL, "Retry-After: 2\r\n");
}

/* From an event: what a stage would have returned. */
static void go_on(struct tg_exchange *x, enum tg_step step)
{
	if (step != TG_ANSWERED)
		return;
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

static void leave(struct tg_gate *g, const char *who, bool answered)
{
	tg_engine_leave(g->engine, answered);
	atomic_fetch_sub(&g->uploads, 1);
	tg_share_give(&g->shares, who, TG_SHARE_UPLOADS, 1);
}

/* The engine's connection is closed by now. So an engine that answers later is told so by that and removes what it wrote; one that had answered has written all, and its answer was not read. */
static void left(struct tg_parking *p)
{
	struct tg_upload *u = (struct tg_upload *)p;
	struct tg_gate *g = u->x->gl->gate;
	if (u->placed)
		leave(g, u->x->principal->id, u->answered);
	if (u->x->received && !u->answered && g->runner)
		tg_spool_drop(tg_runner_spool(g->runner), u->conf.id);
	tg_h1_reader_free(&u->reader);
	free(u);
}

static void client_clock(struct tg_upload *u, bool on)
{
	if (on)
		tg_session_body_clock(u->x->session);
	else
		tg_timer_stop(&tg_session_conn(u->x->session)->timer);
}

static void engine_clock(struct tg_upload *u)
{
	tg_conn_deadline(&u->x->up->conn, u->x->snap->config->body_idle_ms);
}

/* ---- towards the engine ---- */

static bool send_head(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	struct tg_buf *b = &x->gl->loop->obuf;
	b->len = 0;
	b->failed = false;
	tg_buf_fmt(b, "POST /intake/%s/%s?max_bytes=%llu&owner=%s", u->conf.kind, u->conf.id, (unsigned long long)x->snap->config->ml_max_body_bytes, x->principal->id);
	if (u->boundary[0])
		tg_buf_fmt(b, "&boundary=%s", u->boundary);
	tg_buf_fmt(b, " HTTP/1.1\r\nHost: engine\r\nContent-Type: %s\r\n", types[u->conf.type]);
	if (u->chunked)
		tg_buf_lit(b, "Transfer-Encoding: chunked\r\n");
	else
		tg_buf_fmt(b, "Content-Length: %llu\r\n", (unsigned long long)u->length);
	if (x->principal->prefix[0])
		tg_buf_fmt(b, "X-Tollgate-Key-Prefix: %s\r\n", x->principal->prefix);
	tg_buf_lit(b, "X-Request-ID: ");
	tg_buf_slice(b, tg_exchange_rid(x));
	tg_buf_lit(b, "\r\n\r\n");
	return !b->failed && tg_conn_send1(&x->up->conn, b->p, b->len);
}

/* One piece of the body, framed as the client framed it. */
static bool send_piece(struct tg_upload *u, const char *p, size_t n, bool end)
{
	struct tg_conn *c = &u->x->up->conn;
	if (!u->chunked)
		return !n || tg_conn_send1(c, p, n);
	char size[24];
	const char *tail = end ? n ? "\r\n0\r\n\r\n" : "0\r\n\r\n" : "\r\n";
	struct iovec v[3];
	int k = 0;
	if (n) {
		v[k++] = (struct iovec){ size, (size_t)snprintf(size, sizeof size, "%zx\r\n", n) };
		v[k++] = (struct iovec){ (void *)(uintptr_t)p, n };
	}
	if (n || end)
		v[k++] = (struct iovec){ (void *)(uintptr_t)tail, strlen(tail) };
	return !k || tg_conn_send(c, v, k);
}

/* The engine does not keep up, or takes nothing any more: the client waits. */
static void hold_client(struct tg_upload *u)
{
	tg_conn_read(tg_session_conn(u->x->session), false);
	client_clock(u, false);
	engine_clock(u);
}

static void body_is_whole(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	free(x->intake);
	x->intake = NULL;
	x->received = true;
	x->body_left = false;
	tg_timer_stop(&x->timer);
	tg_conn_read(tg_session_conn(x->session), true); /* should it leave */
	client_clock(u, false);
	engine_clock(u);
}

enum tg_step tg_upload_feed(struct tg_exchange *x, char *p, size_t n, size_t *used)
{
	struct tg_intake *in = x->intake;
	struct tg_upload *u = in->upload;
	size_t body = n;
	*used = n;
	if (u->chunked) {
		if (!tg_chunked_feed(&in->chunked, p, n, &body, used))
			return tg_answer_refusal(x, in->chunked.why);
	} else if (body > u->length - u->taken) {
		body = *used = (size_t)(u->length - u->taken);
	}
	u->taken += body;
	x->bytes_in += body;
	if (u->taken > x->snap->config->ml_max_body_bytes)
		return too_large(x);
	bool end = u->chunked ? in->chunked.done : u->taken == u->length;
	if (!u->deaf && !send_piece(u, p, body, end))
		u->deaf = true; /* what it has to say about that is read first: its answer may lie there */
	if (end)
		body_is_whole(u);
	else if (u->deaf || tg_conn_pending(&x->up->conn))
		hold_client(u);
	return TG_WAIT;
}

/* ---- the engine's answer ---- */

/* {"field":...,"why":...} to the client in its own shape. */
static enum tg_step at_fault(struct tg_exchange *x, uint16_t status, struct tg_slice body)
{
	json_t *o = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
	const char *field = json_string_value(json_object_get(o, "field")), *why = json_string_value(json_object_get(o, "why"));
	enum tg_step r;
	char text[512];
	if (status == 429) { /* also without a body that says more: of a connection too many */
		r = too_much(x, field && strcmp(field, "owner") == 0);
	} else if (!field || !why) {
		r = rubbish(x);
	} else if (status == 413) {
		snprintf(text, sizeof text, "The body %s.", why);
		r = fail(x, TG_E_too_large, "body_too_large", text);
	} else {
		snprintf(text, sizeof text, "Validation error on %s: %s", field[0] ? field : "body", why);
		r = tg_answer_problem(x, TG_E_bad_field, "bad_body", text, field[0] ? field : "body", NULL);
	}
	json_decref(o);
	return r;
}

bool tg_spool_is_away(const json_t *answer)
{
	const char *field = json_string_value(json_object_get(answer, "field")), *why = json_string_value(json_object_get(answer, "why"));
	bool away = field && why && strcmp(field, "spool") == 0;
	if (away)
		tg_log(TG_LOG_F_WARN, "spool.not_written", "s:why", why, NULL);
	return away;
}

enum tg_step tg_spool_away(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_unavailable, "spool_away", "The data cannot be written now; try again later.", NULL, "Retry-After: 30\r\n");
}

static enum tg_step failed(struct tg_exchange *x, struct tg_slice body)
{
	json_t *o = json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, NULL);
	bool away = tg_spool_is_away(o);
	json_decref(o);
	return away ? tg_spool_away(x) : rubbish(x);
}

enum tg_step tg_spool_full(struct tg_exchange *x)
{
	return tg_answer_problem(x, TG_E_unavailable, "spool_full", "There is no room for the data of more jobs; try again when some have ended.", NULL, "Retry-After: 30\r\n");
}

static enum tg_step judge(struct tg_exchange *x, const struct tg_upload_conf *conf, tg_upload_done done, uint16_t status)
{
	struct tg_slice body = tg_buf_view(&x->collected);
	struct tg_runner *runner = x->gl->gate->runner;
	if (tg_judge_again(x) == TG_ANSWERED) { /* it may have taken minutes */
		if (status == 200 && runner)
			tg_spool_drop(tg_runner_spool(runner), conf->id);
		return TG_ANSWERED;
	}
	switch (status) {
	case 200: return x->received ? done(x, conf, body) : rubbish(x); /* it cannot know what it has not read */
	case 400:
	case 413:
	case 429: return at_fault(x, status, body);
	case 500: return failed(x, body);
	case 507: return tg_spool_full(x);
	case 503: return tg_answer_problem(x, TG_E_unavailable, "no_worker", "The engine cannot take this now; try again.", NULL, "Retry-After: 2\r\n");
	default: return rubbish(x);
	}
}

static void answered(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	struct tg_upload_conf conf = u->conf;
	tg_upload_done done = u->done;
	uint16_t status = u->reader.status;
	u->answered = true;
	x->parked = NULL;
	tg_upstream_close(x->up);
	x->up = NULL;
	tg_timer_stop(&x->timer);
	client_clock(u, false);
	left(&u->parking);
	go_on(x, judge(x, &conf, done, status));
}

static struct tg_upload *of(struct tg_upconn *c)
{
	return (struct tg_upload *)((struct tg_exchange *)c->x)->parked;
}

static bool keep_answer(void *ctx, const char *p, size_t n)
{
	struct tg_exchange *x = ctx;
	size_t had = x->collected.cap;
	tg_buf_put(&x->collected, p, n);
	if (!x->collected.failed && x->collected.cap > had && x->collected.cap > TG_UPLOAD_ANSWER_ORDINARY && !tg_exchange_charge(x, x->collected.cap - had))
		of(x->up)->full = true;
	return !x->collected.failed && !of(x->up)->full;
}

static void on_event(struct tg_upconn *c, int events)
{
	struct tg_upload *u = of(c);
	struct tg_exchange *x = u->x;
	if ((events & TG_WRITABLE) && x->intake && !u->deaf) { /* it has taken what there was */
		tg_timer_stop(&c->conn.timer);
		client_clock(u, true);
		tg_conn_read(tg_session_conn(x->session), true);
	}
	if (!(events & TG_READABLE))
		return;
	char *p = x->gl->loop->rbuf;
	long n = tg_conn_recv(&c->conn, p, TG_RBUF);
	if (n == -1)
		return;
	if (n <= 0) {
		if (tg_h1_reader_eof(&u->reader))
			answered(u);
		else
			go_on(x, engine_gone(x));
		return;
	}
	if (!tg_h1_reader_feed(&u->reader, p, (size_t)n, keep_answer, x)) {
		go_on(x, u->full ? fail(x, TG_E_unavailable, "memory", "The gate is out of memory for answers; try again soon.") : rubbish(x));
		return;
	}
	if (u->reader.done) {
		answered(u);
	} else if (x->intake) { /* it answers before it has read all: what the client still has is not wanted */
		u->deaf = true;
		hold_client(u);
	}
}

static void on_deadline(struct tg_upconn *c)
{
	struct tg_exchange *x = c->x;
	go_on(x, fail(x, TG_E_first_byte_timeout, "first_byte_timeout", "The engine did not answer in time."));
}

/* ---- the beginning ---- */

static void on_body_total(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	go_on(x, tg_receive_timeout(x));
}

/* What of the body has come already: behind the head, in this very turn; or kept by the session while the engine was awaited. */
static enum tg_step first_bytes(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	char *p;
	size_t used = 0;
	struct tg_slice fresh = tg_session_avail(x->session, &p);
	if (fresh.n) {
		enum tg_step r = tg_upload_feed(x, p, fresh.n, &used);
		tg_session_took(x->session, used);
		return r;
	}
	struct tg_slice kept = tg_session_kept(x->session, &p);
	if (kept.n) {
		enum tg_step r = tg_upload_feed(x, p, kept.n, &used);
		tg_session_kept_took(x->session, used);
		return r;
	}
	if (u->expects)
		tg_conn_send1(tg_session_conn(x->session), "HTTP/1.1 100 Continue\r\n\r\n", 25);
	return TG_WAIT;
}

static enum tg_step stream(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	x->intake = calloc(1, sizeof *x->intake);
	if (!x->intake)
		return fail(x, TG_E_unavailable, "memory", "Out of memory; try again.");
	x->intake->upload = u;
	if (u->chunked)
		tg_chunked_init(&x->intake->chunked);
	x->timer.fire = on_body_total;
	tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + x->snap->config->body_ms);
	if (!send_head(u)) { /* it may have said why before it closed: that is read, or else its end */
		u->deaf = true;
		hold_client(u);
		return TG_WAIT;
	}
	client_clock(u, true);
	tg_conn_read(tg_session_conn(x->session), true);
	return first_bytes(u);
}

static void on_connected(struct tg_upconn *c, int error)
{
	struct tg_upload *u = of(c);
	go_on(u->x, error ? engine_gone(u->x) : stream(u));
}

static void look_again(struct tg_timer *t);

static enum tg_step later(struct tg_exchange *x)
{
	x->timer.fire = look_again;
	tg_timer_set(&x->gl->loop->wheel, &x->timer, tg_loop_ms(x->gl->loop) + LOOK_MS);
	return TG_WAIT;
}

/* NEXT: it has one. Small bodies are gone as fast as they come, so many at once wait a little before one is sent away. */
static enum tg_step place(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	if (u->placed)
		return TG_NEXT;
	struct tg_gate *g = x->gl->gate;
	bool of_key = !tg_share_take(&g->shares, x->principal->id, TG_SHARE_UPLOADS, 1, UPLOADS_OF_ONE);
	if (!of_key) {
		tg_engine_enter(g->engine);
		u->placed = atomic_fetch_add(&g->uploads, 1) < UPLOADS_MAX;
		if (u->placed)
			return TG_NEXT;
		leave(g, x->principal->id, true); /* it was not in it */
	}
	return tg_loop_ms(x->gl->loop) < u->place_by_ms ? later(x) : too_much(x, of_key);
}

/* The engine may be on its way: the first request is what starts it. */
static enum tg_step reach(struct tg_upload *u)
{
	struct tg_exchange *x = u->x;
	struct tg_engine *e = x->gl->gate->engine;
	const char *why = NULL;
	tg_engine_want(e);
	enum tg_step r = place(u);
	if (r != TG_NEXT)
		return r;
	struct tg_worker *w = tg_engine_worker(e);
	struct tg_upconn *c = w ? tg_upstream_get(x->gl->loop, w, true, CONNECT_MS, &why) : NULL;
	if (c) {
		x->up = c;
		c->x = x;
		c->on_connected = on_connected;
		c->on_event = on_event;
		c->on_deadline = on_deadline;
		tg_metrics_count(x->gl->metrics, TG_COUNT_WORKER_CONNECTS);
		return c->connecting ? TG_WAIT : stream(u);
	}
	enum tg_engine_state state = tg_engine_state(e, NULL);
	if (state == TG_ENGINE_NONE)
		return tg_answer_problem(x, TG_E_unavailable, "no_worker", "Training and prediction are not offered here ([ml] engine).", NULL, "Retry-After: 3600\r\n");
	if (state == TG_ENGINE_FAILED)
		return tg_answer_problem(x, TG_E_unavailable, "model_failed", "The engine does not start; the gate's log says why.", NULL, "Retry-After: 30\r\n");
	if (tg_loop_ms(x->gl->loop) >= u->ready_by_ms)
		return tg_answer_problem(x, TG_E_unavailable, "no_worker", "The engine is not ready; try again.", NULL, "Retry-After: 2\r\n");
	return later(x);
}

static void look_again(struct tg_timer *t)
{
	struct tg_exchange *x = (struct tg_exchange *)((char *)t - offsetof(struct tg_exchange, timer));
	go_on(x, reach((struct tg_upload *)x->parked));
}

static enum tg_step check_type(struct tg_exchange *x, enum tg_upload_type type, struct tg_slice *boundary)
{
	const char *why;
	char text[256];
	snprintf(text, sizeof text, "Content-Type must be %s.", types[type]);
	if (!tg_receive_is_type(x->head, tg_slice_cstr(types[type])))
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", text, NULL, NULL);
	if (type != TG_UPLOAD_FORM || tg_boundary_of(tg_head_get(x->head, TG_H_CONTENT_TYPE), boundary, &why))
		return TG_NEXT;
	snprintf(text, sizeof text, "Validation error on Content-Type: %s", why);
	return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, "Content-Type", NULL);
}

static enum tg_step check_head(struct tg_exchange *x, const struct tg_upload_conf *conf, struct tg_slice *boundary)
{
	const struct tg_head *h = x->head;
	struct tg_slice coding = tg_head_get(h, TG_H_CONTENT_ENCODING);
	if (coding.n && !tg_slice_eq_nocase(coding, TG_S("identity")))
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Bodies must be sent without Content-Encoding.", NULL, NULL);
	enum tg_step r = check_type(x, conf->type, boundary);
	if (r != TG_NEXT)
		return r;
	if (!h->chunked && h->content_length > 0 && (uint64_t)h->content_length > x->snap->config->ml_max_body_bytes)
		return too_large(x);
	if (!x->body_left)
		return tg_answer_problem(x, TG_E_bad_json, "bad_body", conf->type == TG_UPLOAD_JSON ? "The body is missing: a JSON object is needed." : "The body is missing.", NULL, NULL);
	return TG_NEXT;
}

enum tg_step tg_upload_start(struct tg_exchange *x, const struct tg_upload_conf *conf, tg_upload_done done)
{
	struct tg_slice boundary = { 0 };
	enum tg_step r = check_head(x, conf, &boundary);
	if (r != TG_NEXT)
		return r;
	struct tg_upload *u = malloc(sizeof *u);
	if (!u)
		return fail(x, TG_E_unavailable, "memory", "Out of memory; try again.");
	const struct tg_head *h = x->head;
	*u = (struct tg_upload){ .parking.left = left, .x = x, .conf = *conf, .done = done, .chunked = h->chunked, .length = h->chunked ? 0 : (uint64_t)h->content_length };
	for (size_t i = 0; i < boundary.n; i++)
		snprintf(u->boundary + 2 * i, 3, "%02x", (unsigned char)boundary.p[i]);
	u->expects = h->expect_continue && h->minor == 1;
	u->ready_by_ms = tg_loop_ms(x->gl->loop) + TG_UPLOAD_READY_MS;
	u->place_by_ms = tg_loop_ms(x->gl->loop) + TG_UPLOAD_PLACE_MS;
	tg_h1_reader_init(&u->reader);
	tg_buf_init(&x->collected, TG_UPLOAD_ANSWER_MAX);
	x->parked = &u->parking;
	return reach(u);
}
