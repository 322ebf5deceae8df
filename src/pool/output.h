#pragma once
/*
 * What started workers write: cut into lines, made fit for a terminal (base/terminal.h), redacted (base/log.h), labelled, written to [log] workers_path, and the last of it kept in memory for error
 * messages, /status and /logs. Fed by the control thread; the tail may be read from any thread. Owner: the worker (pool/worker.h).
 */
#include "base/buf.h"
#include "base/err.h"
#include <uv.h>

#define TG_OUTPUT_LINE_MAX 4096  /* bytes; the rest of a longer line is left out */
#define TG_OUTPUT_TAIL_MAX 32768 /* bytes kept */

struct tg_output {
	const char *model, *worker; /* borrowed: labels */
	struct tg_slice secret;     /* borrowed: the worker's own key, which it might print; n 0: none */
	uv_mutex_t lock;
	struct tg_buf tail;         /* whole lines, each with '\n'; under the lock */
	char *line;                 /* the incomplete one, owned; NULL: none yet */
	size_t line_len;
	bool overlong;
	uint64_t second, logged, read; /* this second; bytes logged and read in it */
	uint64_t dropped;           /* lines left out in it */
};

bool tg_output_init(struct tg_output *o, const char *model, const char *worker);
void tg_output_free(struct tg_output *o);
/* False: it has written so much this second (TG_OUTPUT_READ_MAX) that nothing more should be read before the next. */
bool tg_output_feed(struct tg_output *o, int pid, const char *p, size_t n, uint64_t now_ms);
void tg_output_tick(struct tg_output *o, int pid, uint64_t now_ms); /* now and then: says what was left out */
void tg_output_end(struct tg_output *o, int pid); /* an incomplete last line is one too */
/* The last `lines` lines, appended to out. */
void tg_output_tail(struct tg_output *o, unsigned lines, struct tg_buf *out);

/* The file of all of them; "-": stdout. Where it is not opened, lines go to stderr as they are (`tollgate run`). */
bool tg_output_open(const char *path, uint64_t rotate_bytes, unsigned rotate_keep, struct tg_err *err);
void tg_output_reopen(void);
void tg_output_close(void);
