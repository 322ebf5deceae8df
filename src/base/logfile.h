#pragma once
/*
 * A file of whole lines that many threads append to: rotated by size, opened anew on request, never a reason to stop. The gate's log and the workers' output
 * are two of them. Owner: whoever embeds it, for the life of the process.
 */
#include "base/err.h"
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct tg_logfile {
	pthread_mutex_t lock;
	const char *option; /* names the setting in messages: "log.path" */
	int fd;             /* -1: not open */
	char path[PATH_MAX];
	bool regular, sock, torn;
	bool failing, said; /* the last write lost lines; and that was said */
	uint64_t size;      /* of the regular file, bytes: since it was opened fresh, or since a rotation that failed */
	uint64_t rotate_bytes;
	unsigned rotate_keep;
	_Atomic uint64_t lost; /* lines that could not be written */
};
#define TG_LOGFILE_INIT(option_) { .lock = PTHREAD_MUTEX_INITIALIZER, .option = (option_), .fd = -1 }

/* path "-": stdout. Parent folders are made (0750), the file 0640. rotate_bytes 0: never. Also: reconfigure; the old file stays on failure. */
bool tg_logfile_open(struct tg_logfile *f, const char *path, uint64_t rotate_bytes, unsigned rotate_keep, struct tg_err *err);
void tg_logfile_reopen(struct tg_logfile *f); /* after somebody else has moved it */
void tg_logfile_close(struct tg_logfile *f);
/* Whole lines. False: not open (the caller may have a better place); what cannot be written otherwise is counted, said once on stderr. */
bool tg_logfile_put(struct tg_logfile *f, const char *p, size_t n);
