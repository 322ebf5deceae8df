#pragma once
/*
 * The audit trail: what was done by whom, one JSON object a line, apart from the log (document 004's table of events; seed ledger S4-59 to S4-72). Events and their fields are rows of
 * tables/audit_events.def; an event that lacks one of its fields, or has one of another name, does not get through the tests. One function makes lines and one thread writes them, off the
 * loops: the place where a chain of hashes comes in later.
 *
 * Nothing is lost in silence. What cannot be written (disk full) is kept and tried again every quarter of a second; meanwhile up to TG_AUDIT_QUEUE bytes of further lines wait. Past that whoever may
 * wait does, for TG_AUDIT_WAIT_MS; then, and at once on a loop, the event is counted as lost (tg_audit_lost), said once on stderr and in the log, and said in the trail itself as soon as there is
 * room again (`{"event":"audit_lost","lost":N,...}`).
 */
#include "base/err.h"
#include "base/slice.h"
#include <stdint.h>

#define EVENT(name, fields, doc) TG_AUDIT_##name,
enum tg_audit_event {
#include "tables/audit_events.def"
	TG_AUDIT_EVENT_COUNT
};
#undef EVENT
extern const char *const tg_audit_event_names[TG_AUDIT_EVENT_COUNT];

#define TG_AUDIT_QUEUE (4u << 20)   /* bytes of lines that wait for the writer */
#define TG_AUDIT_LINE_MAX (256u << 10)
#define TG_AUDIT_WAIT_MS 2000       /* how long tg_audit_event and tg_audit_flush wait at most */

/* path "": nothing is written. Parent folders are made (0750), the file 0640, appended to. Also: takes another path into use; what was handed over before goes to the old one. False: err, and all stays
 * as it was. */
bool tg_audit_open(const char *path, struct tg_err *err);
void tg_audit_reopen(void); /* SIGHUP: somebody moved the file */
void tg_audit_close(void);  /* what was handed over is written first */
bool tg_audit_on(void);     /* whether events are written at all */
/*
 * Hands one event to the writer; any thread but a loop's. `event`, `event_type` (the same), `timestamp` and `request_id` (NULL: none) come first, then the pairs in the order given, keys as base/log.h
 * has them ("s:error": redacted, "t:user", "t:model_id", "t:path": ids, names and hashes of our own, which redaction would take for keys; "l:", "u:n_samples", "i:", "b:"), and "d:duration" (double), "j:metrics"
 * (const char *, JSON text; its strings as those of "s:", but for config_id, hash and request_id, which are ours; written without line ends; what is no JSON becomes null). A line over TG_AUDIT_LINE_MAX has its longest values cut to null. Returns when the writer has it, not when it
 * is on disk. What must be there before its caller is answered (training_*, model_*, prediction_made) is followed by tg_audit_flush.
 */
void tg_audit_event(enum tg_audit_event e, const struct tg_slice *request_id, ...) __attribute__((sentinel));
/* The same for loops: never waits. False: counted as lost. */
bool tg_audit_offer(enum tg_audit_event e, const struct tg_slice *request_id, ...) __attribute__((sentinel));
/* Waits until everything handed over before has been written (write(2) returned), TG_AUDIT_WAIT_MS at most, and not at all while writes fail. For whoever must not answer before. False: not yet. */
bool tg_audit_flush(void);
uint64_t tg_audit_lost(void);    /* events */
uint64_t tg_audit_faults(void);  /* writes that failed */
uint64_t tg_audit_waiting(void); /* bytes */
