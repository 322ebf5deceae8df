#pragma once
/* What a started worker is started with: its arguments and environment, and where it is to listen. */
#include "pool/worker.h"

struct tg_launch {
	char **argv, **env; /* end with NULL; owned */
	uint16_t port;      /* 0: a socket */
	char socket[108];   /* absolute path; "": a port */
};

/* Chooses a free port of 127.0.0.1 (the worker's last one where nobody else has taken it; never one that another worker of ours has been given) or a socket file in a folder of
 * ours (0700), and fills in the braces. One thread (control). */
bool tg_launch_make(struct tg_launch *l, const struct tg_worker *w, struct tg_err *err);
void tg_launch_forget(const struct tg_worker *w); /* its port may be given to others: it is not started again */
void tg_launch_free(struct tg_launch *l);
