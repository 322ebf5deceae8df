#pragma once
/*
 * Connections to workers, per loop: taken from the idle pool or newly made, given back or closed. What is spoken on them is the relay's business:
 * it sets x and the callbacks while it holds the connection.
 */
#include "http/h1.h"
#include "net/conn.h"
#include "pool/model.h"

#define TG_POOL_IDLE_MAX 512
#define TG_POOL_IDLE_MS 60000

struct tg_upconn {
	struct tg_conn conn;
	struct tg_worker *worker; /* a count of it */
	struct tg_upconn *next, **pprev; /* in the idle list */
	bool idle, connecting, reused;
	/* while held */
	void *x;
	void (*on_connected)(struct tg_upconn *u, int error); /* 0: go */
	void (*on_event)(struct tg_upconn *u, int events);
	void (*on_deadline)(struct tg_upconn *u);
	/* the answer being read: the relay's */
	char *in;                 /* an incomplete head, or one that is held; owned; NULL: none */
	uint32_t in_len;
	size_t scanned;
	struct tg_chunked *chunked; /* owned; NULL: not chunked */
	uint64_t remaining;       /* Content-Length still to come */
	uint8_t framing;          /* the relay's */
	bool held;                /* the head is whole and waits for the first byte of its body */
	bool head_done, keep;
};

/* A connection: u->connecting says whether on_connected is still to come. NULL: it could not even be begun; *why says what is
 * wrong with the worker, and stays as it was where the fault is ours (descriptors, memory). */
struct tg_upconn *tg_upstream_get(struct tg_loop *l, struct tg_worker *w, bool fresh, uint32_t connect_ms, const char **why);
void tg_upstream_give_back(struct tg_upconn *u);
void tg_upstream_close(struct tg_upconn *u);
/* Closes the idle connections of one loop to a worker that is no longer configured. */
void tg_upstream_drop_idle(struct tg_loop *l, struct tg_worker *w);
