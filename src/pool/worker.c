/*
 * Workers as objects: made from the configuration, counted, freed. What they do is elsewhere: choosing (balance.c), health (health.c, probe.c), running
 * the ones that are ours (supervise.c).
 */
#include "pool/worker.h"
#include <arpa/inet.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/un.h>

const char *const tg_worker_state_names[TG_WORKER_STATES] = { "unknown", "up", "down", "starting", "failed" };

struct tg_worker *tg_worker_get(struct tg_worker *w)
{
	atomic_fetch_add(&w->refs, 1);
	return w;
}

static void started_free(struct tg_started *s)
{
	if (!s)
		return;
	tg_strlist_free(&s->command);
	tg_strlist_free(&s->env);
	free(s->file);
	uv_mutex_destroy(&s->lock);
	tg_output_free(&s->output);
	free(s);
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
	started_free(w->started);
	free(w->fixed);
	free(w->identity);
	free(w->model);
	free(w->name);
	free(w->host);
	free(w->port);
	free(w->base);
	free(w->pools);
	free(w);
}

void tg_worker_set_addr(struct tg_worker *w, const struct sockaddr *sa, socklen_t len)
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

static void set_literal(struct tg_worker *w, uint16_t port)
{
	struct sockaddr_in s4 = { .sin_family = AF_INET, .sin_port = htons(port) };
	struct sockaddr_in6 s6 = { .sin6_family = AF_INET6, .sin6_port = htons(port) };
	if (inet_pton(AF_INET, w->host, &s4.sin_addr) == 1)
		tg_worker_set_addr(w, (struct sockaddr *)&s4, sizeof s4);
	else if (inet_pton(AF_INET6, w->host, &s6.sin6_addr) == 1)
		tg_worker_set_addr(w, (struct sockaddr *)&s6, sizeof s6);
	else
		return;
	free(w->host); /* nothing to look up */
	w->host = NULL;
}

/* u NULL: ours, whose port changes: the name alone. */
static char *fixed_lines(const struct tg_url *u, const struct tg_secret *key, size_t *len)
{
	struct tg_buf b;
	tg_buf_init(&b, 64u << 10);
	tg_buf_lit(&b, "Host: ");
	if (!u || u->unix_socket) {
		tg_buf_lit(&b, "localhost");
	} else {
		bool v6 = memchr(u->host.p, ':', u->host.n) != NULL;
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

static bool reached_by_url(struct tg_worker *w, const char *url, const struct tg_model_conf *mc, struct tg_err *err)
{
	struct tg_url u;
	if (!tg_url_parse(tg_slice_cstr(url), &u, err))
		return false;
	tg_err_set(err, "model %.128s: its url: out of memory, or a path that is too long", mc->name);
	w->identity = tg_slice_dup(tg_slice_cstr(url));
	w->fixed = fixed_lines(&u, &mc->api_key, &w->fixed_len);
	/* Clients of OpenAI's API write base URLs that end in /v1; our paths begin with it. */
	struct tg_slice base = u.base;
	if (base.n >= 3 && memcmp(base.p + base.n - 3, "/v1", 3) == 0)
		base.n -= 3;
	w->base = tg_slice_dup(base);
	if (!w->identity || !w->fixed || !w->base)
		return false;
	if (u.unix_socket) {
		struct sockaddr_un un = { .sun_family = AF_UNIX };
		if (u.host.n >= sizeof un.sun_path)
			return false;
		memcpy(un.sun_path, u.host.p, u.host.n);
		tg_worker_set_addr(w, (struct sockaddr *)&un, sizeof un);
		return true;
	}
	char text[8];
	snprintf(text, sizeof text, "%u", u.port);
	w->host = tg_slice_dup(u.host);
	w->port = tg_slice_dup(tg_slice_cstr(text));
	if (!w->host || !w->port)
		return false;
	set_literal(w, u.port);
	return true;
}

static bool copy_list(struct tg_strlist *to, const struct tg_strlist *from)
{
	for (size_t i = 0; i < from->n; i++)
		if (!tg_strlist_add(to, tg_slice_cstr(from->v[i])))
			return false;
	return true;
}

/* Everything whose change makes another process of it. Parts end with a character that no part holds. */
static char *identity_of(const struct tg_model_conf *mc)
{
	struct tg_buf b;
	tg_buf_init(&b, 64u << 20);
	const struct tg_strlist *lists[] = { &mc->command, &mc->env };
	for (unsigned k = 0; k < 2; k++) {
		for (size_t i = 0; i < lists[k]->n; i++) {
			tg_buf_cstr(&b, lists[k]->v[i]);
			tg_buf_char(&b, 1);
		}
		tg_buf_char(&b, 2);
	}
	tg_buf_cstr(&b, mc->file ? mc->file : "");
	tg_buf_char(&b, 0);
	if (b.failed)
		tg_buf_free(&b);
	return b.p;
}

#define SECRET_MIN 8 /* a shorter "key" is a placeholder, and hiding it would hide words */

static bool started_here(struct tg_worker *w, const struct tg_model_conf *mc, struct tg_err *err)
{
	tg_err_set(err, "out of memory");
	struct tg_started *s = calloc(1, sizeof *s);
	if (!s)
		return false;
	if (uv_mutex_init(&s->lock) != 0) {
		free(s);
		return false;
	}
	if (!tg_output_init(&s->output, w->model, w->name)) {
		uv_mutex_destroy(&s->lock);
		free(s);
		return false;
	}
	w->started = s;
	s->by_socket = tg_model_says(mc, "{socket}");
	s->start_ms = mc->start_ms;
	s->stop_ms = mc->stop_ms;
	s->file = mc->file ? tg_slice_dup(tg_slice_cstr(mc->file)) : NULL;
	w->identity = identity_of(mc);
	w->fixed = fixed_lines(NULL, &mc->api_key, &w->fixed_len);
	w->base = tg_slice_dup(TG_S(""));
	const char *key = w->fixed ? memmem(w->fixed, w->fixed_len, "Bearer ", 7) : NULL;
	if (mc->api_key.n >= SECRET_MIN && key)
		s->output.secret = (struct tg_slice){ key + 7, w->fixed_len - (size_t)(key + 7 - w->fixed) - 2 };
	w->state = TG_WORKER_STARTING;
	return w->identity && w->fixed && w->base && (!mc->file || s->file) && copy_list(&s->command, &mc->command) &&
	       copy_list(&s->env, &mc->env);
}

struct tg_worker *tg_worker_new(const struct tg_model_conf *mc, unsigned place, unsigned nloops, struct tg_err *err)
{
	static _Atomic unsigned next_id = 1;
	struct tg_worker *w = aligned_alloc(64, sizeof *w); /* its size is a multiple: it has members of that alignment */
	if (!w) {
		tg_err_set(err, "out of memory");
		return NULL;
	}
	memset(w, 0, sizeof *w);
	w->refs = 1;
	w->id = atomic_fetch_add(&next_id, 1);
	w->index = place;
	w->nloops = nloops;
	w->protocol = mc->protocol;
	w->pools = calloc(nloops, sizeof *w->pools);
	char text[160];
	snprintf(text, sizeof text, "%.128s/%u", mc->name, place);
	w->name = tg_slice_dup(tg_slice_cstr(text));
	w->model = tg_slice_dup(tg_slice_cstr(mc->name));
	tg_err_set(err, "out of memory");
	if (w->pools && w->name && w->model && (mc->command.n ? started_here(w, mc, err) : reached_by_url(w, mc->urls.v[place], mc, err)))
		return w;
	tg_worker_put(w);
	return NULL;
}

bool tg_worker_same(const struct tg_worker *a, const struct tg_worker *b)
{
	return a->index == b->index && !a->started == !b->started && a->protocol == b->protocol && strcmp(a->identity, b->identity) == 0 &&
	       a->fixed_len == b->fixed_len && memcmp(a->fixed, b->fixed, a->fixed_len) == 0;
}

void tg_worker_account(struct tg_worker *w, enum tg_request_end how, uint64_t us)
{
	atomic_fetch_add_explicit(&w->requests, 1, memory_order_relaxed);
	if (how != TG_REQUEST_CUT)
		atomic_fetch_add_explicit(how == TG_REQUEST_FAILED ? &w->errors : &w->successes, 1, memory_order_relaxed);
	atomic_store_explicit(&w->last_us, us, memory_order_relaxed);
	/* An eighth of the newest; that two loops may overwrite each other's change does no harm to an average. */
	uint64_t a = atomic_load_explicit(&w->average_us, memory_order_relaxed);
	atomic_store_explicit(&w->average_us, a ? a - a / 8 + us / 8 : us, memory_order_relaxed);
}
