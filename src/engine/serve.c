/*
 * The server (see serve.h). Connections are few and long: the gate keeps them, so a thread each is the simplest thing that is enough. Past half of what is possible they are closed after each
 * answer, so that idle ones do not keep others out; past all of it they are told to come again (429), at once, so that whoever asks whether the engine lives has an answer. Threads are joined and
 * not detached: one that has only its end to reach would otherwise be met there by exit(), with what libraries keep for it half given back.
 */
#include "engine/serve.h"
#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define END_S 3 /* for threads to end, once their connections are shut */

static volatile sig_atomic_t asked_to_end;

enum place_state { FREE, TALKING, OVER }; /* OVER: its thread is still to be joined */
struct place {
	enum place_state state;
	int fd; /* -1: none, or not to be shut any more */
	pthread_t thread;
};
struct server {
	struct tg_service *service;
	pthread_mutex_t lock;
	pthread_cond_t fewer;
	unsigned n; /* TALKING */
	struct place places[TG_CONNECTIONS_MAX];
	bool ending;
};
struct connection {
	struct server *server;
	struct place *place;
	struct tg_http http;
};

static void on_signal(int sig)
{
	(void)sig;
	asked_to_end = 1;
}

static bool refuse(void *ctx, const char *p, size_t n)
{
	(void)ctx;
	(void)p;
	return n == 0;
}

static void health(struct tg_http *h)
{
	if (tg_http_body(h, refuse, NULL) == TG_HTTP_BODY_OK)
		tg_http_answer(h, 200, TG_S("{\"status\":\"ok\"}\n"));
	else
		tg_service_error(h, 400, "no body is expected here");
}

static void answer(struct tg_service *s, struct tg_http *h)
{
	struct tg_slice rest;
	if (tg_http_is(h, HTTP_GET, "/health"))
		health(h);
	else if (tg_http_is(h, HTTP_POST, "/train"))
		tg_serve_train(s, h);
	else if (tg_http_is(h, HTTP_POST, "/predict"))
		tg_serve_predict(s, h);
	else if (tg_http_is(h, HTTP_POST, "/forget"))
		tg_serve_forget(s, h);
	else if (h->parser.method == HTTP_POST && (rest = tg_http_path_after(h, "/dataset/")).p)
		tg_serve_dataset(s, h, rest);
	else if (h->parser.method == HTTP_POST && (rest = tg_http_path_after(h, "/intake/")).p && memchr(rest.p, '/', rest.n)) {
		size_t kind = (size_t)((const char *)memchr(rest.p, '/', rest.n) - rest.p);
		tg_serve_intake(s, h, (struct tg_slice){ rest.p, kind }, (struct tg_slice){ rest.p + kind + 1, rest.n - kind - 1 });
	} else
		tg_service_error(h, 404, "there is no such endpoint, or not with this method");
}

static bool crowded(struct server *v)
{
	pthread_mutex_lock(&v->lock);
	bool yes = v->n > TG_CONNECTIONS_MAX / 2 || v->ending;
	pthread_mutex_unlock(&v->lock);
	return yes;
}

static void *converse(void *arg)
{
	struct connection *c = arg;
	struct server *v = c->server;
	struct tg_http *h = &c->http;
	enum tg_http_next next;
	while ((next = tg_http_next(h)) == TG_HTTP_REQUEST) {
		h->close = crowded(v);
		answer(v->service, h);
		if (h->close)
			break;
	}
	if (next == TG_HTTP_BAD)
		tg_service_error(h, 400, "that is no HTTP request");
	/* This goes first: the descriptor's number may be another connection's as soon as it is closed. */
	pthread_mutex_lock(&v->lock);
	c->place->fd = -1;
	pthread_mutex_unlock(&v->lock);
	tg_http_finish(h);
	pthread_mutex_lock(&v->lock);
	c->place->state = OVER;
	v->n--;
	pthread_cond_signal(&v->fewer);
	pthread_mutex_unlock(&v->lock);
	free(c);
	return NULL;
}

static void send_away(int fd)
{
	static const char text[] = "HTTP/1.1 429 Too Many Requests\r\nContent-Type: application/json\r\nContent-Length: 48\r\nConnection: close\r\n\r\n{\"error\":\"there are as many connections as can\"}";
	(void)!send(fd, text, sizeof text - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

/* The first free place, once those whose threads have ended are free again; NULL: there is none. */
static struct place *free_place(struct server *v)
{
	struct place *found = NULL;
	for (struct place *p = v->places; p < v->places + TG_CONNECTIONS_MAX; p++) {
		pthread_mutex_lock(&v->lock);
		enum place_state state = p->state;
		pthread_mutex_unlock(&v->lock);
		if (state == OVER) {
			pthread_join(p->thread, NULL);
			p->state = state = FREE;
		}
		if (state == FREE && !found)
			found = p;
	}
	return found;
}

/* A thread for it; else it is closed. */
static void take(struct server *v, int fd)
{
	struct place *p = free_place(v);
	struct connection *c = p ? malloc(sizeof *c) : NULL;
	if (!c) {
		send_away(fd);
		return;
	}
	c->server = v;
	c->place = p;
	tg_http_init(&c->http, fd);
	pthread_mutex_lock(&v->lock);
	p->state = TALKING;
	p->fd = fd;
	v->n++;
	pthread_mutex_unlock(&v->lock);
	if (pthread_create(&p->thread, NULL, converse, c) == 0)
		return;
	pthread_mutex_lock(&v->lock);
	p->state = FREE;
	p->fd = -1;
	v->n--;
	pthread_mutex_unlock(&v->lock);
	free(c);
	send_away(fd);
}

static void accept_some(struct server *v, int listening)
{
	int fd = accept4(listening, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		take(v, fd);
	else if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL); /* until a connection has ended */
}

static bool end_all(struct server *v)
{
	struct timespec until;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += END_S;
	pthread_mutex_lock(&v->lock);
	v->ending = true;
	for (unsigned i = 0; i < TG_CONNECTIONS_MAX; i++)
		if (v->places[i].fd >= 0)
			shutdown(v->places[i].fd, SHUT_RDWR);
	while (v->n && pthread_cond_timedwait(&v->fewer, &v->lock, &until) != ETIMEDOUT)
		;
	bool all = v->n == 0;
	pthread_mutex_unlock(&v->lock);
	free_place(v); /* joins them */
	return all;
}

int tg_serve(struct tg_service *s, int listening, bool *left)
{
	static struct server v = { .lock = PTHREAD_MUTEX_INITIALIZER, .fewer = PTHREAD_COND_INITIALIZER };
	struct sigaction a = { .sa_handler = on_signal };
	sigset_t ends, none;
	int code = 0;
	v.service = s;
	for (unsigned i = 0; i < TG_CONNECTIONS_MAX; i++)
		v.places[i].fd = -1;
	/* Signals reach this thread only, and only while it waits. */
	sigemptyset(&ends);
	sigaddset(&ends, SIGTERM);
	sigaddset(&ends, SIGINT);
	pthread_sigmask(SIG_BLOCK, &ends, &none);
	sigaction(SIGTERM, &a, NULL);
	sigaction(SIGINT, &a, NULL);
	while (!asked_to_end) {
		struct pollfd p[2] = { { .fd = listening, .events = POLLIN }, { .fd = s->zygote.control, .events = POLLIN } };
		int r = ppoll(p, 2, NULL, &none);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0 || p[1].revents || p[0].revents & (POLLERR | POLLNVAL)) {
			fprintf(stderr, "tollgate-engine: %s\n", r >= 0 && p[1].revents ? "the process that makes the trainings has ended" : "nothing can be accepted any more");
			code = 1;
			break;
		}
		if (p[0].revents)
			accept_some(&v, listening);
	}
	close(listening);
	*left = !end_all(&v);
	return code;
}
