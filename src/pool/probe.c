/*
 * Probes (see probe.h), by libuv's streams: a control path, where a library's callbacks cost nothing that matters. One timer bounds it all. Of the answer only the status
 * line is looked at.
 */
#include "pool/probe.h"
#include <stdlib.h>
#include <sys/un.h>

#define LINE 12 /* "HTTP/1.1 200" */

struct probe {
	struct probe *next, **pprev; /* in the list of all */
	struct tg_worker *worker;
	uv_loop_t *loop;
	void (*done)(struct tg_worker *w, enum tg_probe_result r, void *arg);
	void *arg;
	uv_timer_t timer;
	union {
		uv_handle_t handle;
		uv_stream_t stream;
		uv_tcp_t tcp;
		uv_pipe_t pipe;
	} conn;
	uv_connect_t connect;
	uv_write_t write;
	struct tg_buf request;
	char line[LINE];
	unsigned have;
	char rest[4096];      /* what follows, read and dropped */
	bool second;          /* the other path is being asked */
	bool has_conn, again; /* again: the connection closes to make room for another */
	bool decided;
	enum tg_probe_result result;
	unsigned open;        /* handles and requests not yet given back */
};

static struct probe *all; /* the control thread's */

static void begin(struct probe *p);

static void ended(struct probe *p)
{
	if (--p->open)
		return;
	if (p->request.p)
		explicit_bzero(p->request.p, p->request.len); /* the worker's key */
	tg_buf_free(&p->request);
	*p->pprev = p->next;
	if (p->next)
		p->next->pprev = p->pprev;
	p->done(p->worker, p->result, p->arg);
	tg_worker_put(p->worker);
	free(p);
}

static void closed(uv_handle_t *h)
{
	struct probe *p = h->data;
	if (h == &p->conn.handle) {
		p->has_conn = false;
		if (p->again && !p->decided)
			begin(p);
	}
	ended(p);
}

static void close_conn(struct probe *p)
{
	if (p->has_conn && !uv_is_closing(&p->conn.handle))
		uv_close(&p->conn.handle, closed);
}

static void decide(struct probe *p, enum tg_probe_result r)
{
	if (p->decided)
		return;
	p->decided = true;
	p->result = r;
	uv_close((uv_handle_t *)&p->timer, closed);
	close_conn(p);
}

static void on_timer(uv_timer_t *t)
{
	decide(t->data, TG_PROBE_SILENT);
}

static void answered(struct probe *p)
{
	unsigned status = 0;
	bool ok = memcmp(p->line, "HTTP/1.", 7) == 0 && p->line[8] == ' ';
	for (int i = 9; i < LINE; i++) {
		ok = ok && p->line[i] >= '0' && p->line[i] <= '9';
		status = status * 10 + (unsigned)(p->line[i] - '0');
	}
	if (ok && status == 404 && !p->second && p->worker->protocol == TG_PROTO_OPENAI) {
		p->second = p->again = true; /* on a connection of its own: this one may be at its end */
		close_conn(p);
		return;
	}
	decide(p, ok && status >= 200 && (status < 500 || status == 501) ? TG_PROBE_GOOD : TG_PROBE_SICK);
}

static void on_alloc(uv_handle_t *h, size_t want, uv_buf_t *b)
{
	struct probe *p = h->data;
	(void)want;
	*b = p->have < LINE ? uv_buf_init(p->line + p->have, LINE - p->have) : uv_buf_init(p->rest, sizeof p->rest);
}

static void on_read(uv_stream_t *s, ssize_t n, const uv_buf_t *b)
{
	struct probe *p = s->data;
	(void)b;
	if (p->have >= LINE || p->decided)
		return;
	if (n < 0) {
		decide(p, TG_PROBE_REFUSED);
		return;
	}
	p->have += (unsigned)n;
	if (p->have == LINE)
		answered(p);
}

static void on_write(uv_write_t *w, int status)
{
	struct probe *p = w->data;
	if (status < 0 && status != UV_ECANCELED)
		decide(p, TG_PROBE_REFUSED);
	ended(p);
}

static void ask(struct probe *p)
{
	const struct tg_worker *w = p->worker;
	struct tg_buf *b = &p->request;
	b->len = 0;
	tg_buf_lit(b, "GET ");
	tg_buf_cstr(b, w->base);
	tg_buf_cstr(b, p->second ? "/v1/models" : "/health");
	tg_buf_lit(b, " HTTP/1.1\r\n");
	tg_buf_put(b, w->fixed, w->fixed_len);
	tg_buf_lit(b, "Accept: */*\r\nConnection: close\r\n\r\n");
	uv_buf_t out = uv_buf_init(b->p, (unsigned)b->len);
	p->write.data = p;
	p->have = 0;
	if (b->failed || uv_write(&p->write, &p->conn.stream, &out, 1, on_write) != 0) {
		decide(p, TG_PROBE_REFUSED);
		return;
	}
	p->open++;
	uv_read_start(&p->conn.stream, on_alloc, on_read);
}

static void on_connect(uv_connect_t *c, int status)
{
	struct probe *p = c->data;
	if (!p->decided && status == 0)
		ask(p);
	else if (status != UV_ECANCELED)
		decide(p, status == UV_ETIMEDOUT ? TG_PROBE_SILENT : TG_PROBE_REFUSED);
	ended(p);
}

static void begin(struct probe *p)
{
	const struct tg_sockaddr *a = atomic_load(&p->worker->addr);
	if (!a) {
		decide(p, TG_PROBE_REFUSED);
		return;
	}
	bool local = a->ss.ss_family == AF_UNIX;
	if ((local ? uv_pipe_init(p->loop, &p->conn.pipe, 0) : uv_tcp_init(p->loop, &p->conn.tcp)) != 0) {
		decide(p, TG_PROBE_SILENT); /* our fault, not the worker's */
		return;
	}
	p->has_conn = true;
	p->conn.handle.data = p->connect.data = p;
	p->open++;
	int r = 0;
	if (local)
		uv_pipe_connect(&p->connect, &p->conn.pipe, ((const struct sockaddr_un *)(const void *)&a->ss)->sun_path, on_connect);
	else
		r = uv_tcp_connect(&p->connect, &p->conn.tcp, (const struct sockaddr *)&a->ss, on_connect);
	if (r == 0)
		p->open++;
	else
		decide(p, TG_PROBE_REFUSED);
}

bool tg_probe_start(uv_loop_t *loop, struct tg_worker *w, void (*done)(struct tg_worker *w, enum tg_probe_result r, void *arg), void *arg)
{
	struct probe *p = calloc(1, sizeof *p);
	if (!p)
		return false;
	p->worker = tg_worker_get(w);
	p->loop = loop;
	p->done = done;
	p->arg = arg;
	p->open = 1; /* the timer */
	p->next = all;
	p->pprev = &all;
	if (all)
		all->pprev = &p->next;
	all = p;
	tg_buf_init(&p->request, 128u << 10);
	uv_timer_init(loop, &p->timer);
	p->timer.data = p;
	uv_update_time(loop);
	uv_timer_start(&p->timer, on_timer, TG_PROBE_MS, 0);
	begin(p);
	return true;
}

void tg_probe_cancel_all(void)
{
	for (struct probe *p = all; p; p = p->next)
		decide(p, TG_PROBE_SILENT);
}
