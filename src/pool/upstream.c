/*
 * The pool of connections to workers. Last in, first out: the hottest connection is used again and the others age out. An idle connection keeps its read
 * interest: whatever arrives on it, an EOF or stray bytes, removes it.
 */
#include "pool/upstream.h"
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

static void drop_answer(struct tg_upconn *u)
{
	free(u->in);
	u->in = NULL;
	u->in_len = 0;
	u->scanned = 0;
	free(u->chunked);
	u->chunked = NULL;
	u->remaining = 0;
	u->framing = 0;
	u->held = u->head_done = u->keep = false;
}

static void unlink_idle(struct tg_upconn *u)
{
	if (!u->idle)
		return;
	*u->pprev = u->next;
	if (u->next)
		u->next->pprev = u->pprev;
	u->idle = false;
	u->worker->pools[u->conn.loop->index].nidle--;
}

static void on_closed(struct tg_conn *c)
{
	struct tg_upconn *u = (struct tg_upconn *)c;
	atomic_fetch_sub_explicit(&u->worker->connections, 1, memory_order_relaxed);
	tg_worker_put(u->worker);
	free(u);
}

void tg_upstream_close(struct tg_upconn *u)
{
	unlink_idle(u);
	drop_answer(u);
	u->x = NULL;
	tg_conn_close(&u->conn);
}

static void on_event(struct tg_conn *c, int events)
{
	struct tg_upconn *u = (struct tg_upconn *)c;
	if (u->idle) {
		tg_upstream_close(u);
		return;
	}
	if (u->connecting) {
		int e = tg_conn_error(c);
		u->connecting = false;
		tg_timer_stop(&c->timer);
		if (!e)
			tg_conn_connected(c);
		u->on_connected(u, e);
		return;
	}
	u->on_event(u, events);
}

static void on_timer(struct tg_timer *t)
{
	struct tg_upconn *u = (struct tg_upconn *)((char *)t - offsetof(struct tg_upconn, conn.timer));
	if (u->idle) {
		tg_upstream_close(u);
	} else if (u->connecting) {
		u->connecting = false;
		u->on_connected(u, ETIMEDOUT);
	} else {
		u->on_deadline(u);
	}
}

static struct tg_upconn *begin(struct tg_loop *l, struct tg_worker *w, uint32_t connect_ms, const char **why)
{
	struct tg_sockaddr *a = atomic_load(&w->addr);
	if (!a) {
		*why = "its name is not resolved";
		return NULL;
	}
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return NULL;
	if (a->ss.ss_family != AF_UNIX) {
		int one = 1;
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
	}
	bool now = connect(fd, (struct sockaddr *)&a->ss, a->len) == 0;
	if (!now && errno != EINPROGRESS) {
		if (errno != EAGAIN) /* a Unix socket whose backlog is full is busy, not gone */
			*why = strerror(errno);
		close(fd);
		return NULL;
	}
	struct tg_upconn *u = calloc(1, sizeof *u);
	if (!u) {
		close(fd);
		return NULL;
	}
	u->conn.on_event = on_event;
	u->conn.on_closed = on_closed;
	u->conn.timer.fire = on_timer;
	if (!(now ? tg_conn_open(&u->conn, l, fd) : tg_conn_open_connecting(&u->conn, l, fd))) {
		free(u);
		return NULL;
	}
	u->worker = tg_worker_get(w);
	atomic_fetch_add_explicit(&w->connections, 1, memory_order_relaxed);
	u->connecting = !now;
	if (!now)
		tg_conn_deadline(&u->conn, connect_ms);
	return u;
}

struct tg_upconn *tg_upstream_get(struct tg_loop *l, struct tg_worker *w, bool fresh, uint32_t connect_ms, const char **why)
{
	struct tg_pool *p = &w->pools[l->index];
	struct tg_upconn *u = fresh ? NULL : p->idle;
	if (u) {
		unlink_idle(u);
		u->reused = true;
		return u;
	}
	return begin(l, w, connect_ms, why);
}

void tg_upstream_give_back(struct tg_upconn *u)
{
	struct tg_pool *p = &u->worker->pools[u->conn.loop->index];
	drop_answer(u);
	u->x = NULL;
	tg_conn_read(&u->conn, true);
	if (p->nidle >= TG_POOL_IDLE_MAX || u->conn.closing) {
		tg_upstream_close(u);
		return;
	}
	u->next = p->idle;
	u->pprev = &p->idle;
	if (u->next)
		u->next->pprev = &u->next;
	p->idle = u;
	p->nidle++;
	u->idle = true;
	tg_conn_deadline(&u->conn, TG_POOL_IDLE_MS);
}

void tg_upstream_drop_idle(struct tg_loop *l, struct tg_worker *w)
{
	while (w->pools[l->index].idle)
		tg_upstream_close(w->pools[l->index].idle);
}
