#pragma once
/*
 * The gate as a whole (struct tg_gate: one a process, shared by all threads through atomics only) and its part in one loop (struct tg_gate_loop: that
 * thread's alone).
 */
#include "base/id.h"
#include "gate/proposal.h"
#include "gate/metrics.h"
#include "gate/snapshot.h"
#include "gate/share.h"
#include "gate/waiting.h"
#include "net/listener.h"
#include "pool/engine.h"
#include "pool/quarantine.h"
#include "policy/guess.h"
#include "policy/limit.h"
#include "policy/password.h"
#include "store/kept.h"

struct tg_gate {
	unsigned nloops;
	struct tg_loop *loops;
	struct tg_gate_loop *states;
	struct tg_metrics_shard **shards; /* one a loop, and the last for the control thread */
	struct tg_limiter *limiter;    /* what keys took */
	struct tg_limiter *strangers;  /* what addresses took: a flood of them fills this table and no key's */
	_Atomic uint64_t wall_less_mono_ms; /* for Reset: gate/limit.c */
	struct tg_guess *guess;        /* who presents unknown credentials */
	struct tg_hasher *hasher;      /* passwords, on the job pool */
	struct tg_listen_addr *addrs;
	unsigned naddrs;
	uint16_t tls_port;             /* of the first tls: address: where redirect: ones send callers */
	uint64_t start_wall_us;
	_Atomic bool ready, draining;
	_Atomic int connections;       /* of clients */
	unsigned max_connections;      /* what the descriptors of this process allow: each may need one for a worker */
	_Atomic uint64_t buffered;     /* bytes of request bodies and collected answers held in memory */
	struct tg_quarantine *quarantine; /* requests that end workers */
	uv_loop_t control;             /* the main thread's loop: signals, the key file, probes */
	struct tg_snapshot *snapshot;  /* the control thread's view */
	struct tg_store *store;        /* NULL: no database (tollgate run) */
	struct tg_kept *kept;          /* answers of the database (store/kept.h); NULL: no database */
	struct tg_engine *engine;      /* the tabular engine; NULL: [ml] engine = false, or tollgate run */
	struct tg_runner *runner;      /* of durable jobs; NULL: there is no engine, no database or no model store */
	struct tg_tend *tend;          /* of the queue of jobs; NULL: no database */
	struct tg_asides *train_asides, *predict_asides; /* gate/aside.h: what /train and /predict wait for; NULL where there is no runner */
	struct tg_model_store *model_store; /* NULL: [ml] engine is off, or its folder cannot be made */
	struct tg_token_key *token_key; /* NULL: nobody logs in here */
	_Atomic uint64_t adopted;      /* the store's generation that every loop judges by */
	const struct tg_config_source *source; /* what a reload reads; NULL: there is nothing to reload */
	_Atomic uint64_t in_force;     /* the number of the snapshot that every loop judges by */
	struct tg_proposals proposals; /* of data/settings.json */
	struct tg_jobs {
		uv_mutex_t lock;
		unsigned running, all;
		struct tg_job *first, **last; /* in line */
	} jobs, away_jobs;             /* of exchanges, on the job pool: gate/job.h */
	_Atomic unsigned uploads;      /* on their way to the engine */
	struct tg_waiting waiting;     /* jobs */
	struct tg_shares shares;       /* what single callers hold */
	uv_async_t wake;               /* the control loop: look at probes and at loops that ended */
	_Atomic unsigned loops_ended;
};

struct tg_session;
struct tg_exchange;
struct tg_job_watch;
struct tg_gate_loop {
	struct tg_gate *gate;
	struct tg_loop *loop;
	struct tg_snapshot *snap;      /* what new requests are judged by */
	struct tg_digester digester;
	struct tg_token_verifier *tokens; /* NULL: nobody logs in here */
	struct tg_rng rng;
	struct tg_log_batch log;
	uv_timer_t log_timer;
	struct tg_metrics_shard *metrics;
	struct tg_listener *listeners;
	struct tg_session *sessions;   /* all of this loop's, for draining */
	unsigned nsessions;
	bool draining, cutting;        /* cutting: the drain deadline has passed */
	struct tg_job_watch *job_watch; /* api/job_stream.c: NULL while nobody watches a job */
	struct tg_exchange *spare;     /* exchanges for reuse */
	unsigned nspare;
	char date[30];                 /* "Mon, 23 Nov 2026 21:50:13 GMT" */
	uint64_t date_s;
	uint64_t offset_us, offset_at_us;
	struct tg_head head, answer;   /* scratch: the head being read from a client, from a worker; valid inside one callback */
	struct tg_msg drain_msg, cut_msg;
};

/* gate/gate.c */
bool tg_gate_loop_init(struct tg_gate *g, unsigned index, struct tg_err *err);
void tg_gate_loop_thread(void *gate_loop); /* a loop's thread: listens, runs until drained */
void tg_gate_loop_free(struct tg_gate_loop *gl); /* after its thread has ended: until then others may post to it */
void tg_gate_hold(struct tg_gate_loop *gl, struct tg_snapshot **held);  /* a request begins: *held = the snapshot in force */
void tg_gate_let_go(struct tg_gate_loop *gl, struct tg_snapshot *s);
void tg_gate_publish(struct tg_gate *g, struct tg_snapshot *s);         /* control thread: to every loop */
void tg_gate_drain(struct tg_gate *g);                                  /* control thread: stop accepting, finish */
void tg_gate_cut(struct tg_gate *g);                                    /* control thread: the deadline has come */
void tg_gate_session_ended(struct tg_gate_loop *gl);                     /* a session of a draining loop is gone */
void tg_gate_log_later(struct tg_gate_loop *gl);                        /* the batch has a line: flush within 100 ms */
const char *tg_gate_date(struct tg_gate_loop *gl);
uint64_t tg_gate_wall_offset(struct tg_gate_loop *gl, uint64_t mono_us); /* wall clock less monotonic clock, looked at ten times a second */
/* Accounts for memory that a request's body takes; false: over server.max_buffered_bytes. */
bool tg_gate_buffer(struct tg_gate *g, uint64_t bytes, uint64_t max);
void tg_gate_unbuffer(struct tg_gate *g, uint64_t bytes);
/* Any thread: look at the workers now (gate/watch.c): some may have ended, or want a probe. */
void tg_gate_look(struct tg_gate *g);
/* Any thread: probe that model's workers, and try those again that were given up. */
void tg_gate_reprobe(struct tg_gate *g, const struct tg_model *m);
