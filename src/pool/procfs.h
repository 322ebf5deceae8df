#pragma once
/* What processes use, from /proc (proc(5)): CPU time and resident memory of all that descends from each root. Blocking: job pool only. */
#include <stdint.h>
#include <sys/types.h>

struct tg_procfs_use {
	pid_t root;         /* in; itself not counted; 0: nothing is looked for */
	uint64_t cpu_us;    /* out: user and system time, ended children included */
	uint64_t rss_bytes; /* out */
};
void tg_procfs_look(struct tg_procfs_use *v, unsigned n);
