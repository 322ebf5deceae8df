/*
 * The registry: from the configuration to models with workers. A reload keeps the worker object of every url that stays, and with it the connections, the
 * slots in use and what is known of its health.
 */
#include "pool/model.h"
#include "net/addr.h"
#include <errno.h>
#include <netdb.h>
#include <netinet/in.h>
#include <arpa/inet.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>
#include <unistd.h>

struct tg_worker *tg_worker_get(struct tg_worker *w)
{
	atomic_fetch_add(&w->refs, 1);
	return w;
}

void tg_worker_put(struct tg_worker *w)
{
	if (!w || atomic_fetch_sub(&w->refs, 1) != 1)
		return;
	for (struct tg_sockaddr *a = w->seen, *next; a; a = next) {
		next = a->next;
		free(a);
	}
	if (w->fixed)
		explicit_bzero(w->fixed, w->fixed_len);
	free(w->fixed);
	free(w->url);
	free(w->name);
	free(w->host);
	free(w->port);
	free(w->base);
	free(w->pools);
	free(w);
}

static void set_addr(struct tg_worker *w, const struct sockaddr *sa, socklen_t len)
{
	struct tg_sockaddr *a = w->seen;
	while (a && !(a->len == len && memcmp(&a->ss, sa, len) == 0))
		a = a->next;
	if (!a) {
		a = calloc(1, sizeof *a);
		if (!a)
			return;
		memcpy(&a->ss, sa, len);
		a->len = len;
		a->next = w->seen;
		w->seen = a;
	}
	atomic_store(&w->addr, a);
}

/* Does anybody listen there? A name often has an address of each family and a worker behind one of them ("localhost"). */
static bool listens(const struct addrinfo *a)
{
	int fd = socket(a->ai_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return false;
	bool up = connect(fd, a->ai_addr, a->ai_addrlen) == 0;
	struct pollfd p = { .fd = fd, .events = POLLOUT };
	int e = 0;
	socklen_t n = sizeof e;
	if (!up && errno == EINPROGRESS && poll(&p, 1, 500) == 1)
		up = getsockopt(fd, SOL_SOCKET, SO_ERROR, &e, &n) == 0 && e == 0;
	close(fd);
	return up;
}

bool tg_worker_resolve(struct tg_worker *w)
{
	struct tg_addr literal;
	if (!w->host || tg_addr_parse(tg_slice_cstr(w->host), &literal))
		return true;
	struct addrinfo hints = { .ai_socktype = SOCK_STREAM, .ai_flags = AI_NUMERICSERV }, *r = NULL;
	if (getaddrinfo(w->host, w->port, &hints, &r) || !r)
		return false;
	const struct addrinfo *best = r;
	for (const struct addrinfo *a = r; a && r->ai_next; a = a->ai_next)
		if (listens(a)) {
			best = a;
			break;
		}
	set_addr(w, best->ai_addr, best->ai_addrlen);
	freeaddrinfo(r);
	return true;
}

static bool set_numeric(struct tg_worker *w, uint16_t port)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (inet_pton(AF_INET, w->host, &s4.sin_addr) == 1)
		set_addr(w, (struct sockaddr *)&s4, sizeof s4);
	else if (inet_pton(AF_INET6, w->host, &s6.sin6_addr) == 1)
		set_addr(w, (struct sockaddr *)&s6, sizeof s6);
	else
		return false;
	return true;
}

static char *fixed_lines(const struct tg_url *u, const struct tg_secret *key, size_t *len)
{
	struct tg_buf b;
	tg_buf_init(&b, 64u << 10);
	tg_buf_lit(&b, "Host: ");
	bool v6 = memchr(u->host.p, ':', u->host.n) != NULL;
	if (u->unix_socket) {
		tg_buf_lit(&b, "localhost");
	} else {
		tg_buf_cstr(&b, v6 ? "[" : "");
		tg_buf_slice(&b, u->host);
		tg_buf_cstr(&b, v6 ? "]" : "");
		tg_buf_char(&b, ':');
		tg_buf_u64(&b, u->port);
	}
	tg_buf_lit(&b, "\r\n");
	if (key->n) {
		tg_buf_lit(&b, "Authorization: Bearer ");
		tg_buf_put(&b, key->p, key->n);
		tg_buf_lit(&b, "\r\n");
	}
	*len = b.len;
	return b.failed ? NULL : b.p;
}

static struct tg_worker *worker_new(const char *url, const struct tg_model_conf *mc, unsigned index, unsigned nloops, struct tg_err *err)
{
	struct tg_url u;
	if (!tg_url_parse(tg_slice_cstr(url), &u, err))
		return NULL;
	struct tg_worker *w = calloc(1, sizeof *w);
	if (!w)
		return NULL;
	w->refs = 1;
	w->index = index;
	w->nloops = nloops;
	w->url = tg_slice_dup(tg_slice_cstr(url));
	w->pools = calloc(nloops, sizeof *w->pools);
	w->fixed = fixed_lines(&u, &mc->api_key, &w->fixed_len);
	/* Clients of OpenAI's API write base URLs that end in /v1; our paths begin with it. */
	struct tg_slice base = u.base;
	if (base.n >= 3 && memcmp(base.p + base.n - 3, "/v1", 3) == 0)
		base.n -= 3;
	w->base = tg_slice_dup(base);
	char text[300];
	int n = snprintf(text, sizeof text, "%s/%u", mc->name, index);
	w->name = tg_slice_dup((struct tg_slice){ text, (size_t)n < sizeof text ? (size_t)n : sizeof text - 1 });
	bool ok = w->url && w->pools && w->fixed && w->base && w->name;
	if (ok && u.unix_socket) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		ok = u.host.n < sizeof un.sun_path;
		if (ok) {
			memcpy(un.sun_path, u.host.p, u.host.n);
			set_addr(w, (struct sockaddr *)&un, sizeof un);
		}
	} else if (ok) {
		snprintf(text, sizeof text, "%u", u.port);
		w->host = tg_slice_dup(u.host);
		w->port = tg_slice_dup(tg_slice_cstr(text));
		ok = w->host && w->port;
		if (ok)
			(void)set_numeric(w, u.port);
	}
	if (!ok) {
		tg_err_set(err, "model \"%s\": url \"%s\": out of memory or path too long", mc->name, url);
		tg_worker_put(w);
		return NULL;
	}
	return w;
}

/* The same url with the same key, from the registry that was. */
static struct tg_worker *take_over(const struct tg_models *old, const char *model, struct tg_worker *fresh)
{
	for (unsigned i = 0; old && i < old->n; i++) {
		if (strcmp(old->v[i].conf->name, model) != 0)
			continue;
		for (unsigned k = 0; k < old->v[i].nworkers; k++) {
			struct tg_worker *w = old->v[i].workers[k];
			if (strcmp(w->url, fresh->url) == 0 && w->index == fresh->index && w->fixed_len == fresh->fixed_len &&
			    memcmp(w->fixed, fresh->fixed, w->fixed_len) == 0) {
				tg_worker_put(fresh);
				return tg_worker_get(w);
			}
		}
	}
	return fresh;
}

static bool build_one(struct tg_model *m, const struct tg_model_conf *mc, const struct tg_models *old, unsigned nloops, struct tg_err *err)
{
	m->conf = mc;
	m->workers = calloc(mc->urls.n ? mc->urls.n : 1, sizeof *m->workers);
	m->turn = calloc(1, sizeof *m->turn);
	for (unsigned i = 0; old && i < old->n; i++)
		if (strcmp(old->v[i].conf->name, mc->name) == 0)
			m->queue = tg_queue_get(old->v[i].queue);
	if (!m->queue)
		m->queue = tg_queue_new();
	if (!m->workers || !m->turn || !m->queue)
		return false;
	for (size_t i = 0; i < mc->urls.n; i++) {
		struct tg_worker *w = worker_new(mc->urls.v[i], mc, (unsigned)i, nloops, err);
		if (!w)
			return false;
		m->workers[m->nworkers++] = take_over(old, mc->name, w);
	}
	return true;
}

bool tg_models_build(struct tg_models *ms, const struct tg_config *c, const struct tg_models *old, unsigned nloops, struct tg_err *err)
{
	*ms = (struct tg_models){ .v = calloc(c->nmodels ? c->nmodels : 1, sizeof *ms->v), .names = calloc(c->nmodels ? c->nmodels : 1, sizeof *ms->names) };
	tg_err_set(err, "out of memory");
	for (size_t i = 0; ms->v && ms->names && i < c->nmodels; i++) {
		struct tg_model *m = &ms->v[ms->n++];
		m->index = (unsigned)i;
		ms->names[i] = c->models[i].name;
		if (!build_one(m, &c->models[i], old, nloops, err)) {
			tg_models_free(ms);
			return false;
		}
	}
	return ms->v && ms->names;
}

void tg_models_free(struct tg_models *ms)
{
	for (unsigned i = 0; i < ms->n; i++) {
		struct tg_model *m = &ms->v[i];
		for (unsigned k = 0; k < m->nworkers; k++)
			tg_worker_put(m->workers[k]);
		free(m->workers);
		free(m->turn);
		tg_queue_put(m->queue);
	}
	free(ms->v);
	free(ms->names);
	*ms = (struct tg_models){ 0 };
}

struct tg_model *tg_models_find(const struct tg_models *ms, struct tg_slice name)
{
	for (unsigned i = 0; i < ms->n; i++) {
		const struct tg_model_conf *c = ms->v[i].conf;
		if (tg_slice_eq(name, tg_slice_cstr(c->name)))
			return &ms->v[i];
		for (size_t k = 0; k < c->aliases.n; k++)
			if (tg_slice_eq(name, tg_slice_cstr(c->aliases.v[k])))
				return &ms->v[i];
	}
	return NULL;
}

void tg_models_list(const struct tg_models *ms, struct tg_buf *out)
{
	for (unsigned i = 0; i < ms->n; i++) {
		if (i)
			tg_buf_lit(out, ", ");
		tg_buf_cstr(out, ms->v[i].conf->name);
	}
}

bool tg_models_have_worker(const struct tg_models *ms, const struct tg_worker *w)
{
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			if (ms->v[i].workers[k] == w)
				return true;
	return false;
}
