/*
 * sse_load.c - opens many streams of server-sent events at once on 127.0.0.1 and tells how they fared. For measuring gateways only.
 *
 *   sse_load -p PORT [-u /v1/chat/completions] [-H 'Name: value']... [-b BODY] [-c at once=1] [-n in all=100] [-r new ones a second=500] [-t give up after s=60]
 *
 * Each stream is one POST; keep-alive connections are used again. A stream is good when its status was 200, "data: [DONE]" came and then the end
 * of the chunked body. Prints one JSON line: streams good and failed, events, time to the first event (us from the request's send), the longest
 * silence inside a stream (ms), the most streams open at once, the wall time. Exit status 1 if any stream failed or was unfinished.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define STATUS_END 12 /* "HTTP/1.1 200" */

struct stream {
	int fd;
	bool busy, done;
	int at_status, at_data, at_done, at_end; /* how much of each pattern has been matched */
	char status[4];
	uint64_t started_us, first_us, last_us, silence_us;
};

static struct sockaddr_in server;
static int ep;
static char *request;
static size_t request_n;
static uint64_t *firsts, *silences;
static long ngood, nfailed, nevents, nstarted, total = 100, open_now, open_max, bad_status;
static char first_bad[4] = "";

static uint64_t now_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

static int by_size(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

/* Connects where needed and sends the request. False: the stream has failed. */
static bool begin(struct stream *s)
{
	int one = 1;
	nstarted++;
	s->busy = true;
	if (++open_now > open_max)
		open_max = open_now;
	if (s->fd < 0) {
		s->fd = socket(AF_INET, SOCK_STREAM, 0);
		if (s->fd < 0 || connect(s->fd, (void *)&server, sizeof server))
			return false;
		setsockopt(s->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
		struct epoll_event e = { .events = EPOLLIN, .data.ptr = s };
		epoll_ctl(ep, EPOLL_CTL_ADD, s->fd, &e);
	}
	s->at_status = s->at_data = s->at_done = s->at_end = 0;
	s->done = false;
	s->first_us = s->silence_us = 0;
	s->started_us = s->last_us = now_us();
	return send(s->fd, request, request_n, MSG_NOSIGNAL) == (ssize_t)request_n;
}

static void finish(struct stream *s, bool good, bool keep)
{
	if (s->busy) {
		open_now--;
		s->busy = false;
		if (good) {
			firsts[ngood] = s->first_us;
			silences[ngood] = s->silence_us;
			ngood++;
		} else {
			nfailed++;
		}
	}
	if (!keep && s->fd >= 0) {
		close(s->fd);
		s->fd = -1;
	}
}

static void start_next(struct stream *s)
{
	if (nstarted < total && !begin(s))
		finish(s, false, false);
}

/* How much of `pattern` is matched after c. The patterns used are such that after a mismatch only their first byte can begin anew. */
static int match(int at, const char *pattern, char c)
{
	return c == pattern[at] ? at + 1 : c == pattern[0];
}

static void readable(struct stream *s)
{
	static char buf[65536];
	ssize_t r = recv(s->fd, buf, sizeof buf, MSG_DONTWAIT);
	if (r < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	uint64_t now = now_us();
	if (r <= 0) {
		finish(s, false, false);
		start_next(s);
		return;
	}
	if (!s->busy)
		return;
	bool got = false, ended = false;
	for (ssize_t j = 0; j < r; j++) {
		char c = buf[j];
		if (s->at_status < STATUS_END) {
			if (s->at_status >= STATUS_END - 3)
				s->status[s->at_status - (STATUS_END - 3)] = c;
			if (++s->at_status == STATUS_END && memcmp(s->status, "200", 3) != 0) {
				bad_status++;
				memcpy(first_bad, s->status, 3);
				finish(s, false, false);
				start_next(s);
				return;
			}
		}
		if ((s->at_data = match(s->at_data, "data:", c)) == 5) {
			s->at_data = 0;
			nevents++;
			got = true;
		}
		if ((s->at_done = match(s->at_done, "[DONE]", c)) == 6) {
			s->at_done = 0;
			s->done = true;
		}
		if (s->done && (s->at_end = match(s->at_end, "\r\n0\r\n\r\n", c)) == 7)
			ended = true;
	}
	if (got) {
		if (!s->first_us)
			s->first_us = now - s->started_us;
		else if (now - s->last_us > s->silence_us)
			s->silence_us = now - s->last_us;
		s->last_us = now;
	}
	if (ended) {
		finish(s, true, true);
		start_next(s);
	}
}

static uint64_t quantile(const uint64_t *v, double q)
{
	return ngood ? v[(long)((double)(ngood - 1) * q)] : 0;
}

int main(int argc, char **argv)
{
	long port = 0, at_once = 1, rate = 500, limit_s = 60;
	const char *path = "/v1/chat/completions", *body = "{\"model\":\"mock\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"hello\"}]}";
	char headers[4096] = "";
	size_t headers_n = 0;
	for (int o; (o = getopt(argc, argv, "p:u:H:b:c:n:r:t:")) > 0;) {
		switch (o) {
		case 'p': port = strtol(optarg, NULL, 10); break;
		case 'u': path = optarg; break;
		case 'b': body = optarg; break;
		case 'c': at_once = strtol(optarg, NULL, 10); break;
		case 'n': total = strtol(optarg, NULL, 10); break;
		case 'r': rate = strtol(optarg, NULL, 10); break;
		case 't': limit_s = strtol(optarg, NULL, 10); break;
		case 'H':
			headers_n += (size_t)snprintf(headers + headers_n, sizeof headers - headers_n, "%s\r\n", optarg);
			if (headers_n >= sizeof headers)
				return 2;
			break;
		default: return 2;
		}
	}
	if (port <= 0 || total < 1 || at_once < 1) {
		fprintf(stderr, "sse_load: -p PORT is needed\n");
		return 2;
	}
	struct rlimit files;
	getrlimit(RLIMIT_NOFILE, &files);
	files.rlim_cur = files.rlim_max;
	setrlimit(RLIMIT_NOFILE, &files);
	server = (struct sockaddr_in){ .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int n = asprintf(&request,
			 "POST %s HTTP/1.1\r\nHost: 127.0.0.1:%ld\r\nContent-Type: application/json\r\nAccept: text/event-stream\r\n%sContent-Length: %zu\r\n\r\n%s",
			 path, port, headers, strlen(body), body);
	firsts = calloc((size_t)total, sizeof *firsts);
	silences = calloc((size_t)total, sizeof *silences);
	struct stream *streams = calloc((size_t)at_once, sizeof *streams);
	if (n < 0 || !firsts || !silences || !streams)
		return 1;
	request_n = (size_t)n;
	for (long i = 0; i < at_once; i++)
		streams[i].fd = -1;
	ep = epoll_create1(0);
	struct epoll_event events[1024];
	uint64_t start = now_us();
	long launched = 0;
	while (ngood + nfailed < total && now_us() - start < (uint64_t)limit_s * 1000000) {
		long allowed = (long)((now_us() - start) * (uint64_t)rate / 1000000) + 1;
		if (allowed > at_once)
			allowed = at_once;
		for (int k = 0; k < 64 && launched < allowed && nstarted < total; k++)
			start_next(&streams[launched++]);
		int ready = epoll_wait(ep, events, 1024, launched < at_once && nstarted < total ? 2 : 100);
		for (int i = 0; i < ready; i++) {
			struct stream *s = events[i].data.ptr;
			if (s->fd >= 0)
				readable(s);
		}
	}
	double wall_s = (double)(now_us() - start) / 1e6;
	long unfinished = open_now;
	qsort(firsts, (size_t)ngood, sizeof *firsts, by_size);
	qsort(silences, (size_t)ngood, sizeof *silences, by_size);
	printf("{\"ok\":%ld,\"failed\":%ld,\"unfinished\":%ld,\"bad_status\":%ld,\"first_bad\":\"%s\",\"events\":%ld,\"first_event_us\":{\"p50\":%lu,\"p90\":%lu,\"p99\":%lu,"
	       "\"max\":%lu},\"silence_ms\":{\"p50\":%.1f,\"p99\":%.1f,\"max\":%.1f},\"open_max\":%ld,\"wall_s\":%.2f}\n",
	       ngood, nfailed, unfinished, bad_status, first_bad, nevents, quantile(firsts, .5), quantile(firsts, .9), quantile(firsts, .99), quantile(firsts, 1),
	       (double)quantile(silences, .5) / 1e3, (double)quantile(silences, .99) / 1e3, (double)quantile(silences, 1) / 1e3, open_max, wall_s);
	return nfailed || unfinished ? 1 : 0;
}
