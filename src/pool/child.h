#pragma once
/*
 * One command running under a keeper (pool/keeper.h), as seen from the control thread's libuv loop, which alone may touch it. What it writes is handed on as it
 * comes; its end is told once, when its output has been read to the end and nothing of it is left.
 */
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum tg_child_end_kind { TG_CHILD_NOT_RUN, TG_CHILD_EXITED, TG_CHILD_SIGNALLED, TG_CHILD_LOST }; /* LOST: its keeper was killed, and it with it */
struct tg_child_end {
	enum tg_child_end_kind kind;
	int code; /* errno, exit status, signal */
};

struct tg_child {
	uv_process_t keeper;
	uv_pipe_t lifeline, output;
	uv_timer_t linger;      /* after the keeper's end: how long its output may still come */
	pid_t pid;              /* of the command, and its process group; 0: not known (yet) */
	bool running;           /* on_end is still to come */
	unsigned open;          /* handles not yet closed */
	bool has_process, keeper_gone, output_gone, end_known;
	struct tg_child_end end;
	char line[64];          /* of the keeper's report, incomplete */
	unsigned line_len;
	char buf[16384];
	void *owner;
	void (*on_pid)(struct tg_child *c);
	void (*on_output)(struct tg_child *c, const char *p, size_t n);
	void (*on_end)(struct tg_child *c); /* may start it again or free it */
};

/* argv and env end with NULL and are not kept. What could not even be begun ends like the rest, with TG_CHILD_NOT_RUN. */
void tg_child_start(struct tg_child *c, uv_loop_t *loop, char *const *argv, char *const *env, uint32_t stop_ms);
void tg_child_stop(struct tg_child *c); /* SIGTERM, after stop_ms SIGKILL; on_end tells when it is done */
void tg_child_kill(struct tg_child *c);
/* Back-pressure: while paused nothing is read and a command that writes much must wait. */
void tg_child_pause(struct tg_child *c, bool pause);
/* What a keeper that was killed has left has become ours (the gate is a subreaper): every child of this process but these keepers is killed. True: some are not yet gone, and what
 * they leave may follow. */
bool tg_child_end_adopted(const pid_t *keepers, unsigned n);
/* "exited with status 1", "was ended by signal 9 (Killed)", "could not be run: No such file or directory". */
void tg_child_end_text(const struct tg_child_end *e, char *out, size_t cap);
