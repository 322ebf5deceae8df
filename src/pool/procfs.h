#pragma once
/* Processes, from /proc (proc(5)): what all that descends from each root uses of CPU time and memory, and who is whose child. Blocking: tg_procfs_look is for the job pool. */
#include <stdint.h>
#include <sys/types.h>

struct tg_procfs_use {
	pid_t root;         /* in; itself not counted; 0: nothing is looked for */
	uint64_t cpu_us;    /* out: user and system time, ended children included */
	uint64_t rss_bytes; /* out */
};
void tg_procfs_look(struct tg_procfs_use *v, unsigned n);
/* Children of a process, zombies too, at most max of them. */
unsigned tg_procfs_children(pid_t parent, pid_t *out, unsigned max);
