/*
 * Look-ups (see resolve.h): uv_getaddrinfo, then a connect to one address after the other, each with a short time of its own.
 */
#include "base/log.h"
#include "pool/resolve.h"
#include <netdb.h>
#include <stdlib.h>

#define CONNECT_MS 500

struct resolve {
	struct tg_worker *worker;
	uv_loop_t *loop;
	uv_getaddrinfo_t lookup;
	struct addrinfo *found, *at; /* owned; the one being tried */
	uv_tcp_t tcp;
	uv_connect_t connect;
	uv_timer_t timer;
	bool has_tcp, accepted;
	unsigned open; /* handles and requests not yet given back */
};

static unsigned pending; /* the control thread's */

static void try_one(struct resolve *r);

static void finish(struct resolve *r)
{
	pending--;
	r->worker->resolving = false;
	if (r->found)
		uv_freeaddrinfo(r->found);
	tg_worker_put(r->worker);
	free(r);
}

static void timer_closed(uv_handle_t *h)
{
	finish(h->data);
}

static void ended(struct resolve *r)
{
	if (--r->open)
		return;
	/* This address is done with, and nothing of it is pending. */
	if (r->accepted) {
		tg_worker_set_addr(r->worker, r->at->ai_addr, r->at->ai_addrlen);
		r->at = NULL;
	} else {
		r->at = r->at->ai_next;
	}
	if (r->at)
		try_one(r);
	else
		uv_close((uv_handle_t *)&r->timer, timer_closed);
}

static void closed(uv_handle_t *h)
{
	ended(h->data);
}

static void close_tcp(struct resolve *r)
{
	uv_timer_stop(&r->timer);
	if (!uv_is_closing((uv_handle_t *)&r->tcp))
		uv_close((uv_handle_t *)&r->tcp, closed);
}

static void on_timer(uv_timer_t *t)
{
	close_tcp(t->data);
}

static void on_connect(uv_connect_t *c, int status)
{
	struct resolve *r = c->data;
	r->accepted = status == 0;
	close_tcp(r);
	ended(r);
}

static void try_one(struct resolve *r)
{
	if (uv_tcp_init(r->loop, &r->tcp) != 0) {
		r->at = NULL;
		uv_close((uv_handle_t *)&r->timer, timer_closed);
		return;
	}
	r->tcp.data = r->connect.data = r;
	r->open = 1;
	if (uv_tcp_connect(&r->connect, &r->tcp, r->at->ai_addr, on_connect) == 0)
		r->open++;
	else
		close_tcp(r);
	uv_timer_start(&r->timer, on_timer, CONNECT_MS, 0);
}

/* Is the address in use among those found? */
static bool still_there(const struct tg_worker *w, const struct addrinfo *found)
{
	const struct tg_sockaddr *a = atomic_load(&w->addr);
	for (; a && found; found = found->ai_next)
		if (a->len == found->ai_addrlen && memcmp(&a->ss, found->ai_addr, a->len) == 0)
			return true;
	return false;
}

static void on_lookup(uv_getaddrinfo_t *l, int status, struct addrinfo *found)
{
	struct resolve *r = l->data;
	struct tg_worker *w = r->worker;
	r->found = status == 0 ? found : NULL;
	if (status != 0 && !w->unresolved)
		tg_log(TG_LOG_F_WARN, "worker.unresolved", "t:worker", w->name, "s:host", w->host, "s:why", uv_strerror(status), "b:last_address_kept",
		       atomic_load(&w->addr) != NULL, NULL);
	w->unresolved = status != 0;
	if (!r->found || (still_there(w, found) && tg_worker_usable(w))) {
		uv_close((uv_handle_t *)&r->timer, timer_closed);
		return;
	}
	if (!still_there(w, found)) /* better any than one that is gone, until one has answered */
		tg_worker_set_addr(w, found->ai_addr, found->ai_addrlen);
	r->at = found;
	try_one(r);
}

bool tg_resolve_start(uv_loop_t *loop, struct tg_worker *w)
{
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV };
	struct resolve *r = calloc(1, sizeof *r);
	if (!r)
		return false;
	*r = (struct resolve){ .loop = loop };
	pending++;
	r->lookup.data = r->timer.data = r;
	uv_timer_init(loop, &r->timer);
	if (uv_getaddrinfo(loop, &r->lookup, on_lookup, w->host, w->port, &hints) != 0) {
		r->worker = tg_worker_get(w);
		uv_close((uv_handle_t *)&r->timer, timer_closed);
		return false;
	}
	r->worker = tg_worker_get(w);
	w->resolving = true;
	return true;
}

unsigned tg_resolve_pending(void)
{
	return pending;
}
