#pragma once
/*
 * What a reload reads (see gate/control.h): the configuration with everything it names that has to be right before it is put in force. Control thread.
 */
#include "gate/snapshot.h"

struct tg_reread {
	unsigned nloops;
	struct tg_tickets **tickets; /* made with the first certificate; the caller's */
	const struct tg_shared_config *now; /* in force; NULL: a start */
};
/* The certificate that `shared` names; where it names none, the one in force: its listeners stay until a restart. */
bool tg_reread_tls(const struct tg_reread *r, struct tg_shared_config *shared, struct tg_err *err);
/* NULL: err, for the log, and *why, a text without anything of this machine, for callers. The caller puts what comes. */
struct tg_shared_config *tg_reread(const struct tg_reread *r, const struct tg_config_source *source, const char **why, struct tg_err *err);
