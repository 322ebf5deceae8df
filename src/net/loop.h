#pragma once
/*
 * One event loop per thread: libuv, a receive buffer and a send buffer shared by all its connections, a timer wheel, and a mailbox through
 * which other threads hand it work. Nothing else of a loop may be touched from outside.
 */
#include "base/buf.h"
#include "net/wheel.h"
#include <uv.h>

#define TG_RBUF (64u * 1024u)

struct tg_loop;
typedef void (*tg_msg_fn)(struct tg_loop *l, void *arg);
struct tg_msg {
	struct tg_msg *next;
	tg_msg_fn fn;
	void *arg;
};

/* Something to be done in the loop's next turn: the owner embeds it. */
struct tg_turn {
	struct tg_turn *next, **pprev; /* pprev NULL: not waiting */
	void (*run)(struct tg_turn *t);
};

struct tg_loop {
	uv_loop_t uv;
	unsigned index;
	char *rbuf;            /* TG_RBUF bytes: valid inside one callback only */
	struct tg_buf obuf;    /* scratch for an answer's head and small body: valid inside one callback only */
	struct tg_wheel wheel;
	uv_timer_t tick;
	uv_idle_t idle;        /* runs while turns wait: the loop does not sleep then */
	struct tg_turn *turns;
	uv_async_t async;
	uv_mutex_t mail_lock;
	struct tg_msg *mail_first, **mail_last;
	bool ended;            /* under mail_lock: nothing is posted any more */
	void *user;            /* the gate's state for this loop */
};

bool tg_loop_init(struct tg_loop *l, unsigned index);
/* Runs until tg_loop_stop and until every handle is closed. */
void tg_loop_run(struct tg_loop *l);
void tg_loop_stop(struct tg_loop *l); /* own thread only; what was posted before is still done */
void tg_loop_free(struct tg_loop *l);
/* Own thread only. Asking twice is asking once; tg_loop_no_turn takes it back (before the owner is freed). */
void tg_loop_next_turn(struct tg_loop *l, struct tg_turn *t);
void tg_loop_no_turn(struct tg_turn *t);
/* From any thread. The message is the caller's memory until fn runs (embed it where there must be no allocation). False: the loop has ended, fn will
 * not run. */
bool tg_loop_post(struct tg_loop *l, struct tg_msg *m, tg_msg_fn fn, void *arg);
static inline uint64_t tg_loop_ms(struct tg_loop *l)
{
	return uv_now(&l->uv);
}
