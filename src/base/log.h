#pragma once
/*
 * The log: JSON lines, one object each, to a file or stdout ("-"). Two kinds of writer share one file opened O_APPEND, whole lines per
 * write(2): events (tg_log, any thread, rare, written at once under a mutex) and the access log (one struct tg_log_batch per loop,
 * 64 KiB, flushed by the loop when full or after 100 ms).
 * Strings are escaped (no control character, no invalid UTF-8 reaches the file) and cut at 1 KiB. Secrets never come here: what may be shown
 * of a key is its prefix and label (base/secret.h); every string value also passes tg_log_redact.
 * Reopened on SIGHUP; rotated by size (log_rotate_bytes, log_rotate_keep: app.log.1 ...). A write that fails (disk full) is counted, said once on
 * stderr, and never blocks or ends the program.
 */
#include "base/buf.h"
#include "base/err.h"

enum { TG_LOG_F_DEBUG, TG_LOG_F_INFO, TG_LOG_F_WARN, TG_LOG_F_ERROR };

struct tg_log_conf {
	const char *path; /* "-": stdout; parent folders are made (0750), the file 0640 */
	int level;        /* least level written */
	uint64_t rotate_bytes;
	unsigned rotate_keep;
};
bool tg_log_open(const struct tg_log_conf *c, struct tg_err *err); /* also: reconfigure; the old file stays on failure */
void tg_log_reopen(void);
void tg_log_close(void);
uint64_t tg_log_lost(void); /* lines that could not be written */
void tg_log_count_lost(void); /* one more: for a line that found no memory */

/* One event: tg_log(TG_LOG_F_WARN, "worker.down", "s:worker", name, "u:attempt", (uint64_t)n, NULL). A key is "s:name" (const char *, may be
 * NULL = null), "l:name" (struct tg_slice *, pointer), "u:name" (uint64_t), "i:name" (int64_t), "b:name" (int). Members ts, level, event come first.
 * "n:name" (const char *, may be NULL = null) is a JSON number, written as it stands: costs (policy/price.h).
 * "t:name" (const char *, may be NULL = null) is for text of our own making: ids, model and worker names of the configuration. It is escaped and cut
 * like "s:", but not redacted (a ULID looks like a key). Before tg_log_open, events go to stderr. */
void tg_log(int level, const char *event, ...) __attribute__((sentinel));
/* One value of such a pair, as JSON: `type` is the letter before the colon, *ap stands at the value. Strings are cut at `cut` bytes, TG_LOG_CUT_MAX at most. For who writes lines like these elsewhere. */
#define TG_LOG_CUT_MAX 4096
void tg_log_member(struct tg_buf *b, char type, size_t cut, va_list *ap);
void tg_log_quiet(void); /* no events until tg_log_open: of a command, which tells its user itself */
bool tg_log_on(int level); /* whether lines of that level are written */

#define TG_LOG_BATCH 65536
#define TG_LOG_LINE_MAX 16384 /* bytes of one access-log line: record.c stays under it by cutting its strings */
struct tg_log_batch {
	struct tg_buf buf;
	uint32_t lines;
};
void tg_log_batch_init(struct tg_log_batch *b); /* ceiling 64 KiB + one line */
/* Writes what is there, whole lines. Called by the owner loop only. */
void tg_log_batch_flush(struct tg_log_batch *b);
void tg_log_batch_free(struct tg_log_batch *b);

/* A JSON string with its quotes, cut at `cut` bytes of input: besides what RFC 8259 asks for, DEL, C1 controls and bidirectional overrides are
 * escaped (they would act on a terminal), and bytes that are no UTF-8 become U+FFFD. */
void tg_log_string(struct tg_buf *b, struct tg_slice s, size_t cut);

/* Replaces by "***", in a string that came from outside: e-mail addresses (also the user:password@ of a URL), JWT-like runs (eyJ...), key-like runs
 * (sk-..., sk_..., tg_..., or >= 20 characters of [A-Za-z0-9_-] holding both a letter and a digit) and what follows the names of secrets (password=,
 * "api_key": "...", Bearer ...). Looks at whole runs before it cuts, so that no half of a key is left. Writes at most cap bytes to out, which must not
 * overlap s; returns how many. ULIDs, UUIDs and request ids made by us are exempt by not being passed through it. */
size_t tg_log_redact(struct tg_slice s, char *out, size_t cap);
