/*
 * Answers that the gate itself writes, and the head of those that a worker writes: one place for the status line and the headers that every
 * answer has. Built in the loop's scratch buffer and sent in one call.
 */
#include "gate/exchange.h"

static struct tg_slice reason_phrase(uint16_t status)
{
	static const struct {
		uint16_t status;
		const char *text;
	} table[] = {
		{ 200, "OK" }, { 201, "Created" }, { 202, "Accepted" }, { 204, "No Content" }, { 304, "Not Modified" }, { 308, "Permanent Redirect" }, { 400, "Bad Request" }, { 401, "Unauthorized" },
		{ 403, "Forbidden" }, { 404, "Not Found" }, { 405, "Method Not Allowed" }, { 408, "Request Timeout" }, { 409, "Conflict" },
		{ 413, "Content Too Large" }, { 414, "URI Too Long" }, { 415, "Unsupported Media Type" }, { 417, "Expectation Failed" },
		{ 421, "Misdirected Request" }, { 422, "Unprocessable Content" }, { 429, "Too Many Requests" }, { 431, "Request Header Fields Too Large" },
		{ 500, "Internal Server Error" }, { 501, "Not Implemented" }, { 502, "Bad Gateway" }, { 503, "Service Unavailable" },
		{ 504, "Gateway Timeout" }, { 505, "HTTP Version Not Supported" },
	};
	for (size_t i = 0; i < sizeof table / sizeof table[0]; i++)
		if (table[i].status == status)
			return tg_slice_cstr(table[i].text);
	return TG_S("Status");
}

void tg_answer_head(struct tg_exchange *x, uint16_t status, struct tg_slice type, int64_t length)
{
	struct tg_buf *b = &x->gl->loop->obuf;
	b->len = 0;
	b->failed = false;
	if (status == 200) {
		tg_buf_lit(b, "HTTP/1.1 200 OK\r\nDate: ");
	} else {
		tg_buf_lit(b, "HTTP/1.1 ");
		tg_buf_u64(b, status);
		tg_buf_char(b, ' ');
		tg_buf_slice(b, reason_phrase(status));
		tg_buf_lit(b, "\r\nDate: ");
	}
	tg_buf_put(b, tg_gate_date(x->gl), 29);
	if (type.n) {
		tg_buf_lit(b, "\r\nContent-Type: ");
		tg_buf_slice(b, type);
	}
	if (status == 204 || status == 304) {
		/* RFC 9110 section 8.6: no length (a 304's would be that of what is not sent), and nothing to frame. */
	} else if (length >= 0) {
		tg_buf_lit(b, "\r\nContent-Length: ");
		tg_buf_u64(b, (uint64_t)length);
	} else if (x->minor == 1) {
		tg_buf_lit(b, "\r\nTransfer-Encoding: chunked");
	} else {
		x->closes = true; /* HTTP/1.0: the body ends with the connection */
	}
	tg_buf_lit(b, "\r\nX-Request-ID: ");
	tg_buf_slice(b, tg_exchange_rid(x));
	tg_buf_lit(b, "\r\n");
	if (x->nbuckets)
		tg_limit_head(x, b);
	if (x->cors)
		tg_cors_lines(b, x->snap->config, (enum tg_cors)x->cors, x->cors_origin);
	x->status = status;
	x->head_sent = true;
}

void tg_answer_end_head(struct tg_exchange *x)
{
	struct tg_buf *b = &x->gl->loop->obuf;
	if (x->gl->draining || x->body_left || !x->snap->config->keepalive_ms)
		x->closes = true;
	if (x->closes || !x->keep_alive) {
		x->closes = true;
		tg_buf_lit(b, "Connection: close\r\n\r\n");
	} else if (x->minor == 0) {
		tg_buf_lit(b, "Connection: keep-alive\r\n\r\n");
	} else {
		tg_buf_lit(b, "\r\n");
	}
}

enum tg_step tg_answer(struct tg_exchange *x, uint16_t status, const char *type, struct tg_slice body, const char *extra)
{
	struct tg_buf *b = &x->gl->loop->obuf;
	tg_answer_head(x, status, tg_slice_cstr(type), (int64_t)body.n);
	if (extra)
		tg_buf_cstr(b, extra);
	tg_answer_end_head(x);
	bool head_only = x->head_request || status == 204 || status == 304;
	tg_limit_end(x, body.n);
	struct iovec v[2] = { { b->p, b->len }, { (void *)(uintptr_t)body.p, head_only ? 0 : body.n } };
	if (!b->failed && tg_conn_send(tg_session_conn(x->session), v, v[1].iov_len ? 2 : 1))
		x->bytes_out += v[1].iov_len;
	else
		x->aborted = true;
	x->first_us = tg_mono_us();
	tg_exchange_drop_head(x);
	return TG_ANSWERED;
}

enum tg_step tg_answer_taken(struct tg_exchange *x)
{
	return !x->aborted && tg_conn_pending(tg_session_conn(x->session)) ? TG_WAIT : TG_ANSWERED;
}

/* Half of what all may hold: who takes nothing is not everybody's trouble. */
static bool share(struct tg_exchange *x, size_t n)
{
	if (!x->principal)
		return true;
	if (!tg_share_take(&x->gl->gate->shares, x->principal->id, TG_SHARE_ANSWERS, n, x->snap->config->max_buffered_bytes / 2))
		return false;
	x->shared += n;
	return true;
}

enum tg_step tg_answer_counted(struct tg_exchange *x, uint16_t status, const char *type, struct tg_slice body, const char *extra)
{
	if (body.n < TG_ANSWER_LARGE)
		return tg_answer(x, status, type, body, extra);
	if (!tg_exchange_charge(x, body.n))
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Too much is in memory; try again.", NULL, "Retry-After: 1\r\n");
	if (!share(x, body.n))
		return tg_answer_problem(x, TG_E_rate_limited, "share_full", "Answers to this key that were not read yet fill its share of memory; read them first.", NULL, "Retry-After: 1\r\n");
	tg_answer(x, status, type, body, extra);
	enum tg_step r = tg_answer_taken(x);
	if (r == TG_WAIT)
		tg_session_write_clock(x->session);
	return r;
}

void tg_answer_problem_of(const struct tg_exchange *x, enum tg_error e, const char *detail, const char *param, struct tg_problem *p)
{
	*p = (struct tg_problem){
		.error = e,
		.family = x->family,
		.detail = tg_slice_cstr(detail),
		.param = tg_slice_cstr(param),
		.instance = tg_exchange_path(x),
		.request_id = tg_exchange_rid(x),
	};
	if (e == TG_E_unauthenticated)
		p->event = x->presented ? "auth.invalid_key" : "auth.missing_key";
}

enum tg_step tg_answer_buf(struct tg_exchange *x, const char *type, struct tg_buf *b, const char *extra)
{
	enum tg_step r = b->failed ? tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL)
			  : tg_answer(x, 200, type, tg_buf_view(b), extra);
	tg_buf_free(b);
	return r;
}

static enum tg_step send_problem(struct tg_exchange *x, const struct tg_problem *p, uint16_t status, const char *extra)
{
	struct tg_buf body;
	tg_buf_init(&body, 64u << 10);
	tg_problem_write(&body, p);
	struct tg_buf lines;
	tg_buf_init(&lines, 4096);
	if (status == 401) {
		tg_buf_lit(&lines, "WWW-Authenticate: ");
		tg_buf_cstr(&lines, tg_problem_challenge(x->presented));
		tg_buf_lit(&lines, "\r\n");
	}
	tg_buf_cstr(&lines, extra ? extra : "");
	tg_buf_char(&lines, 0);
	enum tg_step r = tg_answer(x, status, tg_problem_type(p->family), tg_buf_view(&body), lines.p);
	tg_buf_free(&lines);
	tg_buf_free(&body);
	return r;
}

enum tg_step tg_answer_problem(struct tg_exchange *x, enum tg_error e, const char *reason, const char *detail, const char *param, const char *extra)
{
	struct tg_problem p;
	tg_answer_problem_of(x, e, detail, param, &p);
	x->reason = reason;
	tg_metrics_refusal(x->gl->metrics, reason);
	return send_problem(x, &p, tg_error_info(e)->status, extra);
}

enum tg_step tg_answer_refusal(struct tg_exchange *x, enum tg_refusal r)
{
	const struct tg_refusal_info *i = &tg_refusals[r];
	enum tg_error e = TG_E_bad_request;
	for (enum tg_error k = 1; k < TG_E_COUNT; k++)
		if (tg_error_info(k)->status == i->status && e == TG_E_bad_request && i->status != 400)
			e = k;
	struct tg_problem p;
	tg_answer_problem_of(x, e, i->text, NULL, &p);
	p.status = i->status;
	x->reason = i->name;
	x->closes = true;
	x->body_left = true;
	tg_metrics_refusal(x->gl->metrics, i->name);
	return send_problem(x, &p, i->status, i->status == 405 ? "Allow: GET, HEAD, POST, PUT, PATCH, DELETE, OPTIONS\r\n" : NULL);
}
