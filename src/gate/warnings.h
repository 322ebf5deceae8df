#pragma once
#include "gate/snapshot.h"

void tg_warn_line(void *ctx, const char *line); /* "tollgate: warning: ..." on stderr, alone */
/* On stderr and in the log: no key for what needs one, authentication that is off, an /infer that is open. */
void tg_warn_about(const struct tg_snapshot *s);
