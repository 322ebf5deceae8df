/*
 * Stage 9: the worker's answer, as it comes. Its head is parsed as strictly as a request's and rebuilt; its body passes in the same loop turn in which it was
 * read (never waiting for more), with usage read in passing. Back-pressure: while the client does not take what we have, nothing more is read
 * from the worker. A worker that breaks off after the first byte ends the answer short: in a stream by one error event and never [DONE], else by closing.
 */
#include "api/translate.h"
#include "gate/exchange.h"
#include <stdlib.h>

#define ANSWER_HEAD_MAX (64u << 10)
#define COLLECT_MAX (16u << 20)
#define COPY_BELOW 2048 /* a piece up to this is copied behind its framing: one send of one piece */

enum { FRAME_NONE, FRAME_LENGTH, FRAME_CHUNKED, FRAME_EOF };

enum tg_step tg_stage_relay(struct tg_exchange *x)
{
	return x->done || x->aborted ? TG_NEXT : TG_WAIT;
}

/* ---- endings ---- */

static void release_up(struct tg_exchange *x, bool reuse)
{
	if (!x->up)
		return;
	/* A worker may answer before it has read the whole request: what is still unsent must not meet the next one. And after a reload the worker may be gone
	 * from the configuration: nobody would ever take the connection out of the pool. */
	if (reuse && !tg_conn_pending(&x->up->conn) && (x->snap == x->gl->snap || tg_models_have_worker(&x->gl->snap->models, x->up->worker)))
		tg_upstream_give_back(x->up);
	else
		tg_upstream_close(x->up);
	x->up = NULL;
}

static void finish(struct tg_exchange *x)
{
	x->done = true;
	tg_corridor_run(x);
}

static void settle_now(struct tg_exchange *x)
{
	x->stage = TG_STAGE_SETTLE;
	tg_corridor_run(x);
}

void tg_exchange_abort(struct tg_exchange *x, const char *reason)
{
	if (x->aborted)
		return;
	x->aborted = true;
	x->partial = x->sent_upstream;
	x->reason = reason;
	x->closes = true;
	tg_metrics_count(x->gl->metrics, TG_COUNT_CLIENT_GONE);
	if (!x->status)
		x->status = 499;
	release_up(x, false);
	tg_timer_stop(&x->timer);
	if (x->waiter.state == TG_WAIT_QUEUED || x->waiter.state == TG_WAIT_GRANTED) {
		if (!tg_queue_leave(&x->waiter))
			return; /* the grant that is on its way ends it */
		tg_metrics_gauge(x->gl->metrics, TG_GAUGE_QUEUED, -1);
	}
	settle_now(x);
}

static void send_frame(struct tg_exchange *x, const char *p, size_t n, bool last)
{
	struct tg_buf b;
	tg_buf_init(&b, n + 64);
	if (x->minor == 1) {
		tg_buf_hex(&b, n);
		tg_buf_lit(&b, "\r\n");
		tg_buf_put(&b, p, n);
		tg_buf_cstr(&b, last ? "\r\n0\r\n\r\n" : "\r\n");
	} else {
		tg_buf_put(&b, p, n);
	}
	if (!b.failed)
		tg_conn_send1(tg_session_conn(x->session), b.p, b.len);
	tg_buf_free(&b);
}

void tg_relay_fail(struct tg_exchange *x, enum tg_error e, const char *reason, const char *detail)
{
	if (x->done || x->aborted)
		return;
	release_up(x, false);
	if (x->head_sent && !x->head_pending) {
		x->partial = true;
		x->reason = reason;
		x->closes = true;
		x->aborted = !x->sse; /* a plain answer can only be cut short */
		tg_metrics_refusal(x->gl->metrics, reason);
		if (x->sse) {
			struct tg_problem p;
			struct tg_buf b;
			tg_answer_problem_of(x, e, detail, NULL, &p);
			tg_buf_init(&b, 64u << 10);
			if (x->sse->overlong || (!x->sse->cut && x->sse->tail.len))
				tg_buf_lit(&b, "\n\n"); /* an event was passed on in part */
			tg_problem_sse(&b, &p);
			tg_limit_end(x, 0);
			send_frame(x, b.p, b.len, true);
			tg_buf_free(&b);
		}
	} else {
		uint16_t status = tg_error_info(e)->status;
		tg_answer_problem(x, e, reason, detail, NULL, status == 503 ? "Retry-After: 1\r\n" : NULL);
	}
	settle_now(x);
}

/* What is left of an answer is not to be had from this worker. */
static void fail_worker(struct tg_exchange *x, enum tg_fault f, enum tg_error e, const char *reason, const char *detail)
{
	if (x->worker)
		tg_outcome_fault(x, f, detail);
	tg_relay_fail(x, e, reason, detail);
}

static void rubbish(struct tg_exchange *x)
{
	if (x->worker)
		tg_outcome_fault(x, TG_FAULT_RUBBISH, "its answer is not valid HTTP");
	tg_relay_fail(x, TG_E_bad_gateway, "worker_rubbish", "The model worker's answer was not valid.");
}

/* ---- towards the client ---- */

/* Sends body pieces (framed if our answer is chunked), with the head in front if it still waits. `end`: the last of the body. */
static bool push(struct tg_exchange *x, const struct tg_slice *piece, unsigned n, bool end)
{
	struct tg_conn *c = tg_session_conn(x->session);
	struct tg_buf *b = &x->gl->loop->obuf;
	size_t total = 0;
	for (unsigned i = 0; i < n; i++)
		total += piece[i].n;
	if (!x->head_pending) {
		b->len = 0;
		b->failed = false;
	}
	bool chunked = x->minor == 1 && x->chunk_out;
	if (chunked && total) {
		tg_buf_hex(b, total);
		tg_buf_lit(b, "\r\n");
	}
	const char *tail = !chunked ? "" : end ? (total ? "\r\n0\r\n\r\n" : "0\r\n\r\n") : total ? "\r\n" : "";
	struct iovec v[5];
	int k = 0;
	if (total <= COPY_BELOW) {
		for (unsigned i = 0; i < n; i++)
			tg_buf_slice(b, piece[i]);
		tg_buf_cstr(b, tail);
		v[k++] = (struct iovec){ b->p, b->len };
	} else {
		v[k++] = (struct iovec){ b->p, b->len };
		for (unsigned i = 0; i < n; i++)
			v[k++] = (struct iovec){ (void *)(uintptr_t)piece[i].p, piece[i].n };
		if (*tail)
			v[k++] = (struct iovec){ (void *)(uintptr_t)tail, strlen(tail) };
	}
	x->head_pending = false;
	if (b->failed || !tg_conn_send(c, v, k)) {
		tg_exchange_abort(x, "client_gone");
		return false;
	}
	x->bytes_out += total;
	if (!x->first_us) {
		x->first_us = tg_mono_us();
		x->mark_us = end ? x->first_us : 0;
		x->overhead_us += x->first_us - x->answer_us;
	}
	if (tg_conn_pending(c) && !end) {
		tg_conn_read(&x->up->conn, false);
		tg_timer_stop(&x->up->conn.timer);
		tg_session_write_clock(x->session);
	}
	return true;
}

void tg_relay_client_writable(struct tg_exchange *x)
{
	if (x->up && x->head_sent && !x->head_pending) {
		tg_conn_read(&x->up->conn, true);
		tg_conn_deadline(&x->up->conn, x->model->conf->idle_ms);
	} else if (x->stage == TG_STAGE_DISPATCH && x->head_sent && !x->parked) {
		tg_corridor_run(x); /* a local handler's large answer was taken: tg_answer_counted */
	}
}

/* ---- the body ---- */

static bool collect(struct tg_exchange *x, const char *p, size_t n)
{
	size_t had = x->collected.cap;
	tg_buf_put(&x->collected, p, n);
	if (x->collected.failed)
		rubbish(x); /* longer than any answer */
	else if (!tg_exchange_charge(x, x->collected.cap - had))
		tg_relay_fail(x, TG_E_unavailable, "memory", "The gate is out of memory for answers; try again soon.");
	else
		return true;
	return false;
}

/* The collected answer in the shape of its route. */
static void answer_collected(struct tg_exchange *x, bool reuse)
{
	struct tg_slice answer = tg_buf_view(&x->collected);
	uint16_t status = x->status; /* the worker's; ours follows */
	const struct tg_worker *w = x->worker;
	unsigned pid = w->started ? (unsigned)atomic_load(&w->started->pid) : 0;
	uint64_t now = tg_mono_us();
	release_up(x, reuse);
	x->done = true; /* as far as the worker goes */
	x->status = 0;
	struct tg_buf out;
	tg_buf_init(&out, COLLECT_MAX * 2u);
	bool ok = false;
	if (status == 200) {
		struct tg_usage_scan u;
		tg_usage_scan_init(&u);
		tg_usage_scan_feed(&u, answer.p, answer.n);
		x->usage = u.usage;
		tg_usage_scan_free(&u);
		struct tg_infer_meta m = { .model = x->model->conf->name, .duration_us = now - x->sent_us, .lb_latency_us = x->sent_us - x->start_us,
					   .worker_id = w->index, .worker_pid = pid, .queue_at_dispatch = x->queue_seen };
		ok = x->family == TG_FAM_INFER ? tg_chat_to_infer(answer, &m, &out) : tg_chat_to_inference(answer, m.model, &out);
		ok = ok && !out.failed;
	}
	if (ok)
		tg_answer(x, 200, "application/json", tg_buf_view(&out), NULL);
	else if (status == 200)
		tg_answer_problem(x, TG_E_bad_gateway, "worker_rubbish", "The model worker's answer was not valid.", NULL, NULL);
	else if (status == 429 || status == 503)
		tg_answer_problem(x, TG_E_unavailable, "no_worker", "The model worker is busy; try again soon.", NULL, "Retry-After: 1\r\n");
	else if (status >= 500)
		tg_answer_problem(x, TG_E_bad_gateway, "worker_rubbish", "The model worker failed to answer.", NULL, NULL);
	else
		tg_answer_problem(x, TG_E_bad_request, "bad_body", "The model worker refused the request.", NULL, NULL);
	tg_buf_free(&out);
	settle_now(x);
}

static void scan_usage(struct tg_exchange *x, const char *p, size_t n, bool end)
{
	if (x->usage_scan) {
		tg_usage_scan_feed(x->usage_scan, p, n);
		x->usage = x->usage_scan->usage;
	} else if (end) { /* the whole answer in one piece: nothing is kept */
		struct tg_usage_scan u;
		tg_usage_scan_init(&u);
		tg_usage_scan_feed(&u, p, n);
		x->usage = u.usage;
		tg_usage_scan_free(&u);
	} else if ((x->usage_scan = malloc(sizeof *x->usage_scan))) {
		tg_usage_scan_init(x->usage_scan);
		tg_usage_scan_feed(x->usage_scan, p, n);
	}
}

/* False: x is gone. */
static bool deliver(struct tg_exchange *x, char *p, size_t n, bool end)
{
	if (x->answer_mode == TG_ANSWER_COLLECT)
		return collect(x, p, n);
	struct tg_slice piece[2] = { { p, n } };
	unsigned k = 1;
	if (x->sse) {
		tg_sse_feed(x->sse, p, n, piece);
		k = 2;
		if (end && x->sse->tail.len) { /* an event that the stream did not end; asking for it ends the life of the pieces before */
			if (!push(x, piece, k, false))
				return false;
			piece[0] = tg_sse_end(x->sse);
			k = 1;
		}
		x->usage = x->sse->usage;
	} else if (x->status == 200 && (n || x->usage_scan)) {
		scan_usage(x, p, n, end);
	}
	if (end || (x->sse && x->sse->done)) /* after [DONE] the client takes it for over */
		tg_limit_end(x, n);
	return push(x, piece, k, end);
}

/* Body bytes of the answer; may end it. */
static void body(struct tg_exchange *x, char *p, size_t n, bool eof)
{
	struct tg_upconn *u = x->up;
	size_t len = n, used = n;
	bool end = false, whole = true;
	switch (u->framing) {
	case FRAME_LENGTH:
		len = used = n < u->remaining ? n : (size_t)u->remaining;
		u->remaining -= len;
		end = !u->remaining;
		whole = end || !eof;
		break;
	case FRAME_CHUNKED:
		if (n && !tg_chunked_feed(u->chunked, p, n, &len, &used)) {
			rubbish(x);
			return;
		}
		end = u->chunked->done;
		whole = end || !eof;
		break;
	case FRAME_EOF:
		end = eof;
		break;
	default:
		end = true;
		len = used = 0;
	}
	bool reuse = end && u->keep && used == n && u->framing != FRAME_EOF;
	if (len || end)
		tg_outcome_begun(x);
	if (len || end || x->head_pending)
		if (!deliver(x, p, len, end))
			return;
	if (!end && !whole) {
		fail_worker(x, TG_FAULT_DROPPED, TG_E_bad_gateway, "worker_gone", "The model worker broke off its answer.");
		return;
	}
	if (!end)
		return;
	if (x->answer_mode == TG_ANSWER_COLLECT) {
		answer_collected(x, reuse);
		return;
	}
	release_up(x, reuse);
	finish(x);
}

/* ---- the head ---- */

static bool is_type(struct tg_slice type, const char *name)
{
	size_t n = strlen(name);
	return type.n >= n && strncasecmp(type.p, name, n) == 0 && (type.n == n || type.p[n] == ';' || type.p[n] == ' ');
}

/* An answer that a client must not see as it is: a redirect, the worker refusing *our* key, a coding that nobody asked for. */
static bool acceptable(const struct tg_head *h)
{
	struct tg_slice coding = tg_head_get(h, TG_H_CONTENT_ENCODING);
	if (coding.n && !tg_slice_eq_nocase(coding, TG_S("identity")))
		return false;
	return (h->status >= 200 && h->status < 300) || (h->status >= 400 && h->status < 600 && h->status != 401 && h->status != 403 && h->status != 407);
}

static bool set_framing(struct tg_exchange *x, const struct tg_head *h)
{
	struct tg_upconn *u = x->up;
	u->keep = h->keep_alive;
	if (h->status == 204 || h->status == 304) {
		u->framing = FRAME_NONE;
		u->keep = u->keep && h->content_length <= 0 && !h->chunked;
	} else if (h->chunked) {
		u->framing = FRAME_CHUNKED;
		u->chunked = malloc(sizeof *u->chunked);
		if (!u->chunked)
			return false;
		tg_chunked_init(u->chunked);
	} else if (h->content_length >= 0) {
		u->framing = h->content_length ? FRAME_LENGTH : FRAME_NONE;
		u->remaining = (uint64_t)h->content_length;
	} else {
		u->framing = FRAME_EOF;
		u->keep = false;
	}
	return true;
}

static bool begin_answer(struct tg_exchange *x, const struct tg_head *h)
{
	struct tg_upconn *u = x->up;
	if (h->status >= 500 && h->status != 501) {
		bool trial = x->trial;
		tg_outcome_fault(x, TG_FAULT_STATUS, "it answers with server errors");
		if (trial && tg_forward_elsewhere(x))
			return false;
	}
	if (x->stream)
		(void)tg_forward_print(x); /* should the worker end in the middle: the request is let go now */
	tg_forward_let_go(x);
	u->head_done = true;
	if (!acceptable(h) || !set_framing(x, h)) {
		rubbish(x);
		return false;
	}
	tg_conn_deadline(&u->conn, x->model->conf->idle_ms);
	if (x->answer_mode == TG_ANSWER_COLLECT) {
		x->status = h->status;
		tg_buf_init(&x->collected, COLLECT_MAX);
		return true;
	}
	struct tg_slice type = tg_head_get(h, TG_H_CONTENT_TYPE);
	if (h->status == 200 && is_type(type, "text/event-stream")) {
		x->answer_mode = TG_ANSWER_STREAM;
		x->stream = true;
		x->sse = malloc(sizeof *x->sse);
		if (!x->sse) {
			rubbish(x);
			return false;
		}
		tg_sse_init(x->sse, x->cut_usage);
		tg_metrics_gauge(x->gl->metrics, TG_GAUGE_STREAMS, 1);
	}
	/* Of a stream the length is not known, whatever the worker says: an event may be cut. */
	x->chunk_out = x->sse || u->framing == FRAME_CHUNKED || u->framing == FRAME_EOF;
	tg_answer_head(x, h->status, type, x->chunk_out ? -1 : (int64_t)u->remaining);
	struct tg_buf *b = &x->gl->loop->obuf;
	if (x->sse)
		tg_buf_lit(b, "Cache-Control: no-cache\r\nX-Accel-Buffering: no\r\n");
	/* Seconds only: clients read it as a number, and every 429 has one. */
	uint64_t retry = 0;
	bool given = tg_json_u64(tg_head_get(h, TG_H_RETRY_AFTER), 86400, &retry) && retry;
	if (given || h->status == 429) {
		tg_buf_lit(b, "Retry-After: ");
		tg_buf_u64(b, given ? retry : 1);
		tg_buf_lit(b, "\r\n");
	}
	tg_answer_end_head(x);
	x->head_pending = true;
	return true;
}

/* ---- events of the worker's connection ---- */

/* Finds and parses a head in p[0, n). Returns where the body begins, 0: incomplete, -1: rubbish. Interim answers are skipped: *skip bytes are done with. */
static long take_head(struct tg_upconn *u, struct tg_head *h, const char *p, size_t n, size_t *skip)
{
	static const struct tg_h1_limits lim = { .max_head = ANSWER_HEAD_MAX, .max_headers = TG_HEADERS_MAX };
	size_t off = 0;
	for (int interim = 0; interim < 16; interim++) {
		enum tg_refusal why;
		size_t start = 0;
		/* Something else than HTTP may never end a line: it is told by its first bytes. */
		if (memcmp(p + off, "HTTP/", n - off < 5 ? n - off : 5) != 0)
			return -1;
		long len = tg_h1_head_end(p + off, n - off, &u->scanned, &start, false, &lim, &why);
		if (len < 0)
			return -1;
		*skip = off;
		if (!len)
			return 0;
		u->scanned = 0;
		if (!tg_h1_parse_response(p + off + start, (size_t)len, &lim, h, &why))
			return -1;
		off += start + (size_t)len;
		if (h->status >= 200)
			return (long)off;
	}
	return -1;
}

/* Many workers send the head and the body of an answer apart. Until the first byte of the body is there, nothing goes to the client: a worker that ends in between costs
 * nothing but a retry, and the two leave in one send. Not so with streams, whose head tells that the request has been taken. */
static bool waits_for_body(const struct tg_head *h)
{
	return (h->chunked || h->content_length > 0) && h->status != 204 && h->status != 304 && !is_type(tg_head_get(h, TG_H_CONTENT_TYPE), "text/event-stream");
}

static bool hold(struct tg_upconn *u, const char *head, size_t n)
{
	if (!u->in && (u->in = malloc(n)))
		memcpy(u->in, head, n);
	u->in_len = (uint32_t)n;
	u->held = true;
	return u->in != NULL;
}

static void head_bytes(struct tg_exchange *x, char *p, size_t n)
{
	struct tg_upconn *u = x->up;
	char *from = p;
	size_t have = n;
	if (u->in) {
		if (u->in_len + n > ANSWER_HEAD_MAX + TG_RBUF) {
			rubbish(x);
			return;
		}
		char *grown = realloc(u->in, u->in_len + n);
		if (!grown) {
			rubbish(x);
			return;
		}
		memcpy(grown + u->in_len, p, n);
		u->in = grown;
		u->in_len += (uint32_t)n;
		from = u->in;
		have = u->in_len;
	}
	size_t skip = 0;
	long len = take_head(u, &x->gl->answer, from, have, &skip);
	if (len < 0) {
		rubbish(x);
		return;
	}
	if (!len) {
		if (!u->in && !(u->in = malloc(have - skip))) {
			rubbish(x);
			return;
		}
		memmove(u->in, from + skip, have - skip);
		u->in_len = (uint32_t)(have - skip);
		return;
	}
	if ((size_t)len == have && waits_for_body(&x->gl->answer)) {
		x->answer_us = 0; /* what follows is the worker's time */
		if (!hold(u, from, have))
			rubbish(x);
		return;
	}
	/* The saved bytes must outlive the callback's use of them, whatever becomes of the connection. */
	char *saved = u->in;
	u->in = NULL;
	u->in_len = 0;
	u->held = false;
	if (begin_answer(x, &x->gl->answer))
		body(x, from + len, have - (size_t)len, false);
	free(saved);
}

static void on_eof(struct tg_exchange *x)
{
	struct tg_upconn *u = x->up;
	if (u->head_done) {
		body(x, NULL, 0, true);
		return;
	}
	bool held = u->held;
	if (tg_forward_retry(x))
		return;
	fail_worker(x, TG_FAULT_DROPPED, TG_E_bad_gateway, "worker_gone",
		    held ? "The model worker broke off its answer." : "The model worker closed the connection without an answer.");
}

static void on_event(struct tg_upconn *u, int events)
{
	struct tg_exchange *x = u->x;
	if (!(events & TG_READABLE))
		return;
	char *p = x->gl->loop->rbuf;
	long n = tg_conn_recv(&u->conn, p, TG_RBUF);
	if (n == -1)
		return;
	if (!x->answer_us)
		x->answer_us = tg_mono_us();
	if (n <= 0) {
		on_eof(x);
		return;
	}
	if (u->head_done) {
		tg_conn_deadline(&u->conn, x->model->conf->idle_ms);
		body(x, p, (size_t)n, false);
	} else {
		head_bytes(x, p, (size_t)n);
	}
}

static void on_deadline(struct tg_upconn *u)
{
	struct tg_exchange *x = u->x;
	tg_metrics_timeout(x->gl->metrics, x->model->index, u->head_done ? TG_CLOCK_IDLE : TG_CLOCK_FIRST_BYTE);
	if (u->head_done)
		fail_worker(x, TG_FAULT_TIMEOUT, TG_E_idle_timeout, "idle_timeout", "The model worker's answer stalled.");
	else
		fail_worker(x, TG_FAULT_TIMEOUT, TG_E_first_byte_timeout, "first_byte_timeout", "The model worker did not answer in time.");
}

void tg_relay_attach(struct tg_exchange *x)
{
	x->up->on_event = on_event;
	x->up->on_deadline = on_deadline;
}
