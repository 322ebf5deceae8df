#pragma once
/* The writer of the audit trail: a bounded queue of whole lines and the one thread that appends them to the file. Whoever makes lines is event.c; nobody else includes this. */
#include "base/err.h"
#include "base/slice.h"

bool tg_audit_writer_open(const char *path, struct tg_err *err);
void tg_audit_writer_close(void);
void tg_audit_writer_reopen(void);
bool tg_audit_writer_on(void);
/* Takes one line with its end. wait: for room, TG_AUDIT_WAIT_MS at most. False: no room; counted and said. */
bool tg_audit_writer_put(struct tg_slice line, bool wait);
bool tg_audit_writer_flush(void);
void tg_audit_writer_lose(const char *why); /* an event that could not be made into a line */
