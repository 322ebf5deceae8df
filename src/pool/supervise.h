#pragma once
/*
 * The supervisor: runs the workers that the configuration gives as commands. It starts each on a port or socket of its own, waits until it answers, starts it again
 * when it ends, gives it up when it will not start, and ends it with its whole process group. All of it on the control thread's loop.
 *
 * A start that fails (the command cannot be run, ends before it is ready, is not ready within start_ms) is tried TG_START_TRIES times with growing waits; then the worker
 * is FAILED, and one more try follows each TG_RETRY_FAILED_MS. One that was ready and ended is started again at once, with growing waits where it keeps ending.
 */
#include "pool/child.h"
#include "pool/model.h"
#include "pool/quarantine.h"

#define TG_START_TRIES 3
#define TG_RETRY_FAILED_MS 60000

struct tg_supervisor;
struct tg_supervisor_conf {
	uv_loop_t *loop;
	struct tg_quarantine *quarantine; /* told of deaths */
	bool once;                        /* nothing is started a second time (`tollgate run`) */
	/* What happens, for people: "qwen/0: ready after 2.1 s on 127.0.0.1:41233 (3 of 6 workers)"; may hold several lines. */
	void (*say)(void *ctx, const char *text);
	/* A worker became ready, ended, or was given up. end: why it is not running (once: it is over); NULL while it is. May be NULL. */
	void (*changed)(void *ctx, const struct tg_worker *w, const struct tg_child_end *end);
	void *ctx;
};
struct tg_supervisor *tg_supervisor_new(const struct tg_supervisor_conf *conf);
/* Starts what is new in these models, lets what is gone from them finish (drain_ms at most) and ends it. */
void tg_supervisor_update(struct tg_supervisor *s, const struct tg_models *now, uint32_t drain_ms);
/* Starts the workers of these as well, which no configuration knows: no update ends them, and they are not counted. Once. */
void tg_supervisor_add(struct tg_supervisor *s, const struct tg_models *hidden);
/* Ends them all; done: when nothing of them is left, perhaps at once. Asked again: by SIGKILL. */
void tg_supervisor_stop(struct tg_supervisor *s, void (*done)(void *ctx), void *ctx);
void tg_supervisor_free(struct tg_supervisor *s); /* after it has stopped */
void tg_supervisor_look(struct tg_supervisor *s, uint64_t now_ms); /* now and then, and when a worker may have ended */
void tg_supervisor_sample(struct tg_supervisor *s); /* looks what they use, on the job pool */
void tg_supervisor_retry(struct tg_supervisor *s, const struct tg_model *m); /* its failed workers: now */
struct tg_supervised_count {
	unsigned all, ready;
};
uint64_t tg_supervisor_stop_ms(const struct tg_supervisor *s); /* how long the most patient of them may take to end */
struct tg_supervised_count tg_supervisor_count(const struct tg_supervisor *s);
/* Before anything is started: are the programs and files there? False: err names the first that is not, and what fetches it. */
bool tg_supervise_check(const struct tg_config *c, struct tg_err *err);
