#pragma once
/*
 * The audit trail: what was done by whom, one JSON object a line, apart from the log (document 004's table of events; seed ledger S4-59 to S4-72). Events and their fields are rows of
 * tables/audit_events.def; an event that lacks one of its fields, or has one of another name, does not get through the tests. One function makes lines and one thread writes them, off the
 * loops: the place where a chain of hashes comes in later.
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

/* path "": nothing is written. Parent folders are made (0750), the file 0640, appended to. */
bool tg_audit_open(const char *path, struct tg_err *err);
void tg_audit_reopen(void); /* SIGHUP: somebody moved the file */
void tg_audit_close(void);  /* what was handed over is written first */
/*
 * Hands one event to the writer; any thread. `event`, `event_type` (the same), `timestamp` and `request_id` (NULL: none) come first, then the pairs in the order given, keys as base/log.h
 * has them ("s:user", "u:n_samples", "d:duration" (double), "j:metrics" (const char *, JSON text)). Returns when the writer has it, not when it is on disk.
 */
void tg_audit_event(enum tg_audit_event e, const struct tg_slice *request_id, ...) __attribute__((sentinel));
/* Waits until everything handed over before has been written (write(2) returned). For whoever must not answer before. */
void tg_audit_flush(void);
