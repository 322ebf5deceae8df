/*
 * mock_upstream.c - a very fast fake OpenAI-style model worker, for measuring gateways only.
 *
 *   mock_upstream [-p port=0] [-n addresses=1] [-c core]     listens on 127.0.0.1 and prints the port, one line; -n 4: also on 127.0.0.2 to .4, as
 *                                                            several workers in one process; -c pins it to a core
 *
 * One thread, edge-triggered epoll, keep-alive, pipelining. POST to a path ending in /completions: a chat answer of about 600 bytes with usage, or,
 * where the body has "stream":true, server-sent events in chunks: content events at a steady pace, a usage event if the body asks for it
 * (include_usage, as real workers do), [DONE]. The pace is in the body too, so that no gateway has to forward odd headers: "mock_chunks":N (20) and
 * "mock_delay_ms":N (0). Paths ending in /infer and /models answer small JSON, anything else {"status":"ok"}.
 *
 * Not a reference for correct HTTP: no chunked request bodies, no timeouts, requests up to 256 KiB. It must cost as little as it can, because in the
 * one-core layout it shares the core with the gateway measured. SIGTERM or SIGINT ends it; it then prints what it counted.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <sched.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define MAX_REQUEST (256u * 1024)

struct conn {
	int fd;
	int heap_at;       /* place in the timer heap, -1: none */
	long left, total;  /* stream: content events to come, in all */
	long delay_ms;     /* between them */
	uint64_t due_ms;
	bool streaming, usage, want_close, dead;
	char *in, *out;
	size_t inlen, incap, outlen, outcap;
};

struct text {
	char p[2048];
	size_t n;
};

static int ep;
static volatile sig_atomic_t quit;
static uint64_t nrequests, nevents;
static struct text answer_chat, answer_infer, answer_models, answer_other, event_chunk;
static struct conn **heap;
static int heap_n, heap_cap;

static void *grow(void *p, size_t n)
{
	p = realloc(p, n);
	if (!p)
		abort();
	return p;
}

static uint64_t now_ms(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000 + (uint64_t)t.tv_nsec / 1000000;
}

/* The timer heap: the stream whose next event is due first is at the top. */
static void heap_set(int i, struct conn *c)
{
	heap[i] = c;
	c->heap_at = i;
}

static void heap_up(int i)
{
	struct conn *c = heap[i];
	for (; i && heap[(i - 1) / 2]->due_ms > c->due_ms; i = (i - 1) / 2)
		heap_set(i, heap[(i - 1) / 2]);
	heap_set(i, c);
}

static void heap_down(int i)
{
	struct conn *c = heap[i];
	for (;;) {
		int kid = 2 * i + 1;
		if (kid >= heap_n)
			break;
		if (kid + 1 < heap_n && heap[kid + 1]->due_ms < heap[kid]->due_ms)
			kid++;
		if (heap[kid]->due_ms >= c->due_ms)
			break;
		heap_set(i, heap[kid]);
		i = kid;
	}
	heap_set(i, c);
}

static void heap_add(struct conn *c)
{
	if (heap_n == heap_cap) {
		heap_cap = heap_cap ? heap_cap * 2 : 256;
		heap = grow(heap, (size_t)heap_cap * sizeof *heap);
	}
	heap_set(heap_n, c);
	heap_up(heap_n++);
}

static void heap_del(struct conn *c)
{
	int i = c->heap_at;
	if (i < 0)
		return;
	c->heap_at = -1;
	struct conn *last = heap[--heap_n];
	if (last != c) {
		heap_set(i, last);
		heap_up(i);
		heap_down(last->heap_at);
	}
}

static void put(struct conn *c, const char *p, size_t n)
{
	if (c->outlen + n > c->outcap) {
		c->outcap = (c->outlen + n) * 2;
		c->out = grow(c->out, c->outcap);
	}
	memcpy(c->out + c->outlen, p, n);
	c->outlen += n;
}

static void flush_out(struct conn *c)
{
	size_t off = 0;
	while (off < c->outlen) {
		ssize_t k = send(c->fd, c->out + off, c->outlen - off, MSG_NOSIGNAL);
		if (k > 0) {
			off += (size_t)k;
			continue;
		}
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN)
			break;
		c->dead = true;
		return;
	}
	memmove(c->out, c->out + off, c->outlen - off);
	c->outlen -= off;
	if (!c->outlen && c->want_close && !c->streaming)
		c->dead = true;
}

static void conn_free(struct conn *c)
{
	heap_del(c);
	close(c->fd);
	free(c->in);
	free(c->out);
	free(c);
}

/* Everything of the stream that is due now. */
static void stream_step(struct conn *c)
{
	uint64_t now = now_ms();
	while (c->left > 0 && (c->delay_ms == 0 || c->due_ms <= now)) {
		put(c, event_chunk.p, event_chunk.n);
		c->left--;
		nevents++;
		c->due_ms += (uint64_t)c->delay_ms;
	}
	if (c->left == 0 && (c->delay_ms == 0 || c->due_ms <= now)) {
		char last[512], framed[600];
		int n = 0;
		if (c->usage)
			n = snprintf(last, sizeof last,
				     "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[],"
				     "\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":%ld,\"total_tokens\":%ld}}\n\n",
				     c->total, 42 + c->total);
		n += snprintf(last + n, sizeof last - (size_t)n, "data: [DONE]\n\n");
		n = snprintf(framed, sizeof framed, "%x\r\n%s\r\n0\r\n\r\n", (unsigned)n, last);
		put(c, framed, (size_t)n);
		c->streaming = false;
	}
	heap_del(c);
	if (c->streaming)
		heap_add(c);
}

/* The number after `name` and a colon, both within [p, end). Header names are looked for at line starts, members anywhere. */
static long number_after(const char *p, size_t n, const char *name, bool header, long missing)
{
	const char *end = p + n;
	size_t l = strlen(name);
	while (p < end) {
		if (header) {
			p = memchr(p, '\n', (size_t)(end - p));
			if (!p || ++p + l + 1 >= end)
				return missing;
			if (strncasecmp(p, name, l) != 0)
				continue;
		} else {
			p = memmem(p, (size_t)(end - p), name, l);
			if (!p || p + l + 1 >= end)
				return missing;
		}
		p += l;
		while (p < end && (*p == ':' || *p == ' '))
			p++;
		return p < end ? strtol(p, NULL, 10) : missing;
	}
	return missing;
}

static bool ends_with(const char *p, size_t n, const char *s)
{
	size_t l = strlen(s);
	return n >= l && memcmp(p + n - l, s, l) == 0;
}

static bool member_true(const char *body, size_t n, const char *quoted)
{
	const char *s = memmem(body, n, quoted, strlen(quoted)), *end = body + n;
	if (!s)
		return false;
	for (s += strlen(quoted); s < end && (*s == ':' || *s == ' ');)
		s++;
	return s < end && *s == 't';
}

/* 1: one request was answered; 0: more bytes are needed; -1: not something this program serves. */
static int one_request(struct conn *c)
{
	char *blank = memmem(c->in, c->inlen, "\r\n\r\n", 4);
	if (!blank)
		return c->inlen > MAX_REQUEST ? -1 : 0;
	size_t head = (size_t)(blank - c->in) + 4;
	long length = number_after(c->in, head, "content-length", true, 0);
	if (length < 0 || head + (size_t)length > MAX_REQUEST)
		return -1;
	size_t body_n = (size_t)length;
	if (c->inlen < head + body_n)
		return 0;
	const char *path = memchr(c->in, ' ', head), *sp = path ? memchr(path + 1, ' ', head - (size_t)(path + 1 - c->in)) : NULL;
	if (!sp)
		return -1;
	path++;
	const char *query = memchr(path, '?', (size_t)(sp - path)), *body = c->in + head;
	size_t path_n = (size_t)((query ? query : sp) - path);
	nrequests++;
	if (memmem(c->in, head, "HTTP/1.0", 8) || memmem(c->in, head, "onnection: close", 16))
		c->want_close = true;
	if (ends_with(path, path_n, "/completions")) {
		if (!member_true(body, body_n, "\"stream\"")) {
			put(c, answer_chat.p, answer_chat.n);
		} else {
			static const char stream_head[] = "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nCache-Control: no-cache\r\nTransfer-Encoding: chunked\r\n\r\n";
			c->left = c->total = number_after(body, body_n, "\"mock_chunks\"", false, 20);
			c->delay_ms = number_after(body, body_n, "\"mock_delay_ms\"", false, 0);
			c->usage = member_true(body, body_n, "\"include_usage\"");
			put(c, stream_head, sizeof stream_head - 1);
			c->streaming = true;
			c->due_ms = now_ms();
			stream_step(c);
		}
	} else {
		const struct text *t = ends_with(path, path_n, "/infer") ? &answer_infer : ends_with(path, path_n, "/models") ? &answer_models : &answer_other;
		put(c, t->p, t->n);
	}
	memmove(c->in, c->in + head + body_n, c->inlen - head - body_n);
	c->inlen -= head + body_n;
	return 1;
}

static void serve(struct conn *c)
{
	int r = 0;
	while (!c->streaming && c->inlen && (r = one_request(c)) > 0)
		;
	if (r < 0)
		c->dead = true;
	else
		flush_out(c);
}

static void readable(struct conn *c, bool hangup)
{
	for (;;) {
		if (c->incap - c->inlen < 2048) {
			c->incap = c->incap ? c->incap * 2 : 4096;
			c->in = grow(c->in, c->incap);
		}
		size_t room = c->incap - c->inlen;
		ssize_t k = recv(c->fd, c->in + c->inlen, room, 0);
		if (k > 0) {
			c->inlen += (size_t)k;
			/* a short read is the end of what is there, save where the peer's FIN still has to be read */
			if ((!hangup && (size_t)k < room) || c->inlen > 2 * MAX_REQUEST)
				break;
			continue;
		}
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0 && errno == EAGAIN)
			break;
		c->dead = true;
		return;
	}
	serve(c);
}

static void accept_all(int listener)
{
	int fd, one = 1;
	while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct conn *c = calloc(1, sizeof *c);
		if (!c)
			abort();
		c->fd = fd;
		c->heap_at = -1;
		struct epoll_event e = { .events = EPOLLIN | EPOLLOUT | EPOLLRDHUP | EPOLLET, .data.ptr = c };
		epoll_ctl(ep, EPOLL_CTL_ADD, fd, &e);
	}
}

static void make_answer(struct text *t, const char *body)
{
	t->n = (size_t)snprintf(t->p, sizeof t->p, "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n\r\n%s", strlen(body), body);
}

static void make_answers(void)
{
	make_answer(&answer_chat,
		    "{\"id\":\"chatcmpl-mock0123456789abcdef\",\"object\":\"chat.completion\",\"created\":1700000000,\"model\":\"mock\",\"system_fingerprint\":\"fp_mock\","
		    "\"choices\":[{\"index\":0,\"message\":{\"role\":\"assistant\",\"content\":\"A gateway stands in front of model workers. It checks who calls, how often "
		    "and with what rights, spreads the calls over the workers that are alive, passes the answer through as it comes, and writes down what was used "
		    "so that somebody can be billed for it at the end of the month.\"},\"logprobs\":null,\"finish_reason\":\"stop\"}],"
		    "\"usage\":{\"prompt_tokens\":42,\"completion_tokens\":58,\"total_tokens\":100}}");
	make_answer(&answer_infer, "{\"model\":\"mock\",\"result\":{\"label\":\"positive\",\"score\":0.9731},\"latency_ms\":0.1}");
	make_answer(&answer_models, "{\"object\":\"list\",\"data\":[{\"id\":\"mock\",\"object\":\"model\",\"created\":1700000000,\"owned_by\":\"mock\"}]}");
	make_answer(&answer_other, "{\"status\":\"ok\"}");
	static const char event[] = "data: {\"id\":\"chatcmpl-mock\",\"object\":\"chat.completion.chunk\",\"created\":1700000000,\"model\":\"mock\",\"choices\":[{\"index\":0,"
				    "\"delta\":{\"content\":\" token\"},\"finish_reason\":null}]}\n\n";
	event_chunk.n = (size_t)snprintf(event_chunk.p, sizeof event_chunk.p, "%zx\r\n%s\r\n", sizeof event - 1, event);
}

static void on_signal(int s)
{
	(void)s;
	quit = 1;
}

#define LISTENERS_MAX 16

/* *port 0: any; afterwards the one it is. */
static int listen_on(uint32_t address, uint16_t *port)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK, 0), one = 1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons(*port), .sin_addr.s_addr = htonl(address) };
	socklen_t n = sizeof a;
	if (bind(fd, (void *)&a, n) || listen(fd, 4096) || getsockname(fd, (void *)&a, &n)) {
		perror("mock_upstream");
		exit(1);
	}
	*port = ntohs(a.sin_port);
	return fd;
}

int main(int argc, char **argv)
{
	long core = -1, addresses = 1;
	uint16_t port = 0;
	for (int o; (o = getopt(argc, argv, "p:n:c:")) > 0;) {
		if (o == 'p')
			port = (uint16_t)strtol(optarg, NULL, 10);
		else if (o == 'n')
			addresses = strtol(optarg, NULL, 10);
		else if (o == 'c')
			core = strtol(optarg, NULL, 10);
		else
			return 2;
	}
	if (core >= 0) {
		cpu_set_t set;
		CPU_ZERO(&set);
		CPU_SET((size_t)core, &set);
		sched_setaffinity(0, sizeof set, &set);
	}
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	make_answers();
	signal(SIGINT, on_signal);
	signal(SIGTERM, on_signal);
	signal(SIGPIPE, SIG_IGN);
	if (addresses < 1 || addresses > LISTENERS_MAX)
		return 2;
	ep = epoll_create1(0);
	struct epoll_event first = { .events = EPOLLIN, .data.ptr = NULL }, events[512];
	int listener[LISTENERS_MAX];
	for (long i = 0; i < addresses; i++) {
		listener[i] = listen_on(INADDR_LOOPBACK + (uint32_t)i, &port);
		epoll_ctl(ep, EPOLL_CTL_ADD, listener[i], &first);
	}
	printf("%u\n", port);
	fflush(stdout);
	while (!quit) {
		int wait_ms = 1000;
		if (heap_n) {
			int64_t d = (int64_t)(heap[0]->due_ms - now_ms());
			wait_ms = d < 0 ? 0 : d > 1000 ? 1000 : (int)d;
		}
		int n = epoll_wait(ep, events, 512, wait_ms);
		for (int i = 0; i < n; i++) {
			struct conn *c = events[i].data.ptr;
			if (!c) {
				for (long k = 0; k < addresses; k++)
					accept_all(listener[k]);
				continue;
			}
			if (events[i].events & (EPOLLERR | EPOLLHUP))
				c->dead = true;
			if (!c->dead && events[i].events & (EPOLLIN | EPOLLRDHUP))
				readable(c, (events[i].events & EPOLLRDHUP) != 0);
			if (!c->dead && events[i].events & EPOLLOUT && c->outlen)
				flush_out(c);
			if (c->dead)
				conn_free(c);
		}
		for (uint64_t now = now_ms(); heap_n && heap[0]->due_ms <= now;) {
			struct conn *c = heap[0];
			stream_step(c);
			flush_out(c);
			if (!c->dead && !c->streaming && c->inlen)
				serve(c);
			if (c->dead)
				conn_free(c);
		}
	}
	struct rusage ru;
	getrusage(RUSAGE_SELF, &ru);
	double cpu_s = (double)(ru.ru_utime.tv_sec + ru.ru_stime.tv_sec) + (double)(ru.ru_utime.tv_usec + ru.ru_stime.tv_usec) / 1e6;
	fprintf(stderr, "mock_upstream: %llu requests, %llu events, %.2f CPU s\n", (unsigned long long)nrequests, (unsigned long long)nevents, cpu_s);
	return 0;
}
