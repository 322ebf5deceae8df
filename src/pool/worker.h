#pragma once
/*
 * A worker: an HTTP/1.1 server that answers for a model, reached at an address. It runs somewhere (url), or is started here (then `started` says how, and the
 * supervisor, pool/supervise.c, runs it). Shared by all loops through atomics; counted, so that it outlives a reload while its place in the
 * configuration stays the same.
 */
#include "config/config.h"
#include "net/loop.h"
#include "pool/output.h"
#include <stdatomic.h>
#include <sys/socket.h>

/* UNKNOWN: not probed yet, usable. STARTING: ours, and its process is on the way: requests may wait for it. FAILED: ours, and given up for the time being. */
enum tg_worker_state { TG_WORKER_UNKNOWN, TG_WORKER_UP, TG_WORKER_DOWN, TG_WORKER_STARTING, TG_WORKER_FAILED, TG_WORKER_STATES };
extern const char *const tg_worker_state_names[TG_WORKER_STATES];

struct tg_sockaddr {
	struct sockaddr_storage ss;
	socklen_t len;
	struct tg_sockaddr *next; /* all that were ever seen, freed with the worker: a loop may still be reading one */
};

struct tg_upconn;
struct tg_pool { /* idle connections of one loop to one worker, most recently used first; touched by that loop only */
	struct tg_upconn *idle;
	unsigned nidle;
};

/* How a worker of ours is started, and how it is doing. The templates never change; the rest is written by the control thread and read by anybody. */
struct tg_started {
	struct tg_strlist command, env; /* with {port} and the like in them; owned */
	char *file;                     /* owned; NULL: none */
	bool by_socket;                 /* {socket}, not {port} */
	_Atomic unsigned stop_ms, start_ms;
	_Atomic int pid;                /* 0: none */
	_Atomic unsigned port;          /* 0: none, or a socket */
	_Atomic unsigned restarts;      /* times it was started again */
	_Atomic unsigned tries;         /* starts in a row that did not become ready */
	_Atomic uint64_t since_us;      /* wall clock: when this process was started; 0: none runs */
	_Atomic uint64_t cpu_us, rss_bytes; /* of the command and all that descends from it, at the last look */
	uv_mutex_t lock;
	char reason[256];               /* why it is not running, "" while it is; under the lock */
	struct tg_output output;
};

struct tg_worker {
	/* what every request touches, from all loops */
	_Alignas(64) _Atomic int in_use; /* requests it has now */
	_Atomic int state;            /* enum tg_worker_state */
	_Atomic bool trying;          /* a request is trying whether a down worker is back */
	_Atomic bool half_open;       /* down for its failures, and due for one trial: pool/health.c */
	_Atomic bool failing;         /* down for its failures: only a request that succeeds brings it back */
	_Atomic uint64_t ramp_ms;     /* monotonic: since when it is back; 0: for long */
	_Atomic uint64_t window[2];   /* successes and failures of late: pool/health.c */
	_Atomic uint64_t requests, successes, errors; /* ended; of those: well, or failed by the worker */
	_Atomic uint64_t last_us, average_us; /* duration of the last one, and of late */
	/* health, rarely written */
	_Alignas(64) _Atomic unsigned refs;
	_Atomic bool want_probe;      /* asked for by anybody, done by the control thread */
	_Atomic bool want_retry;      /* so is one more start of one that has failed */
	bool probing, resolving;      /* the control thread's */
	bool unresolved;              /* the control thread's: the last look-up failed */
	uint64_t resolved_ms;         /* the control thread's: when a look-up was last begun */
	uint64_t probed_ms;           /* the control thread's: when a probe last ended; 0: never */
	_Atomic uint64_t trial_at_ms; /* failing: not before */
	_Atomic unsigned cool_ms;     /* failing: how long it was sent away */
	_Atomic unsigned connections; /* open to it, idle ones too */
	_Atomic unsigned ejections;   /* times it was taken out for its failures */
	_Atomic unsigned incarnation; /* counts its processes, or its returns: sessions are bound to one */
	/* what it is */
	unsigned id;                  /* unique in this process */
	char *identity;               /* what makes it the same worker after a reload: its url, or its command */
	char *model;                  /* its model's name */
	char *name;                   /* "qwen3/0": for people, logs and metrics */
	unsigned index;               /* place in its model */
	char *host, *port;            /* to resolve; NULL for Unix sockets and started ones */
	char *base;                   /* path prefix: "" or "/base" */
	char *fixed;                  /* "Host: ...\r\n" and "Authorization: Bearer ...\r\n": the lines that never change */
	size_t fixed_len;
	enum tg_protocol protocol;
	_Atomic(struct tg_sockaddr *) addr; /* NULL: not known (yet) */
	struct tg_sockaddr *seen;     /* the control thread's */
	struct tg_started *started;   /* NULL: it runs somewhere */
	struct tg_pool *pools;        /* one a loop */
	unsigned nloops;
};

/* The place'th url of a model, or one of the workers that its command starts. NULL with err. */
struct tg_worker *tg_worker_new(const struct tg_model_conf *mc, unsigned place, unsigned nloops, struct tg_err *err);
struct tg_worker *tg_worker_get(struct tg_worker *w);
void tg_worker_put(struct tg_worker *w);
bool tg_worker_same(const struct tg_worker *a, const struct tg_worker *b);
/* Control thread: where it is reached from now on. An address that was seen before costs nothing. */
void tg_worker_set_addr(struct tg_worker *w, const struct sockaddr *sa, socklen_t len);
/* The name still to be looked up; false: the address is known for good. */
static inline bool tg_worker_named(const struct tg_worker *w)
{
	return w->host != NULL;
}
static inline bool tg_worker_usable(const struct tg_worker *w)
{
	int s = atomic_load_explicit(&w->state, memory_order_relaxed);
	return s == TG_WORKER_UP || s == TG_WORKER_UNKNOWN;
}
/* One request has ended there: answered; failed by the worker; or cut for no fault of its own (the client left, the whole time was over, the gate ends). */
enum tg_request_end { TG_REQUEST_OK, TG_REQUEST_FAILED, TG_REQUEST_CUT };
void tg_worker_account(struct tg_worker *w, enum tg_request_end how, uint64_t us);
