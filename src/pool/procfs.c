/*
 * One pass over /proc for all roots together (see procfs.h). A worker is often a shell or an interpreter that starts others, so its own figures alone would say little.
 * Not every kernel lists a process's children, so parents are followed instead.
 */
#include "pool/procfs.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define PROCESSES_MAX 65536

struct process {
	pid_t pid, parent;
	uint64_t ticks, pages;
};

/* The fields of /proc/PID/stat behind the name, which may hold anything: 4 ppid, 14 utime, 15 stime, 16 cutime, 17 cstime, 24 rss. */
static bool read_stat(int proc, const char *pid, struct process *out)
{
	char path[32], text[1024];
	snprintf(path, sizeof path, "%.16s/stat", pid);
	int fd = openat(proc, path, O_RDONLY | O_CLOEXEC);
	ssize_t n = fd < 0 ? -1 : read(fd, text, sizeof text - 1);
	if (fd >= 0)
		close(fd);
	if (n <= 0)
		return false;
	text[n] = 0;
	char *p = strrchr(text, ')');
	if (!p || p[1] != ' ')
		return false;
	p += 2;
	*out = (struct process){ .pid = (pid_t)strtol(pid, NULL, 10) };
	for (int field = 3; p && *p && field <= 24; field++) {
		unsigned long long v = strtoull(p, NULL, 10);
		if (field == 4)
			out->parent = (pid_t)v;
		else if (field >= 14 && field <= 17)
			out->ticks += v;
		else if (field == 24)
			out->pages = v;
		p = strchr(p, ' ');
		p = p ? p + 1 : NULL;
	}
	return true;
}

unsigned tg_procfs_children(pid_t parent, pid_t *out, unsigned max)
{
	unsigned n = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && n < max && (e = readdir(d));) {
		struct process p;
		if (e->d_name[0] >= '1' && e->d_name[0] <= '9' && read_stat(dirfd(d), e->d_name, &p) && p.parent == parent)
			out[n++] = p.pid;
	}
	if (d)
		closedir(d);
	return n;
}

static int by_pid(const void *a, const void *b)
{
	const struct process *x = a, *y = b;
	return (x->pid > y->pid) - (x->pid < y->pid);
}

static struct process *read_all(size_t *n)
{
	struct process *v = NULL;
	size_t cap = 0;
	*n = 0;
	DIR *d = opendir("/proc");
	for (struct dirent *e; d && (e = readdir(d)) && *n < PROCESSES_MAX;) {
		if (e->d_name[0] < '1' || e->d_name[0] > '9')
			continue;
		if (*n == cap) {
			size_t more = cap ? cap * 2 : 256;
			struct process *grown = realloc(v, more * sizeof *v);
			if (!grown)
				break;
			v = grown;
			cap = more;
		}
		*n += read_stat(dirfd(d), e->d_name, &v[*n]);
	}
	if (d)
		closedir(d);
	if (*n)
		qsort(v, *n, sizeof *v, by_pid);
	return v;
}

/* Which root a process descends from, NULL: none. A chain of parents is short; a bound all the same, since the processes were not read at one moment. */
static struct tg_procfs_use *root_of(const struct process *all, size_t n, const struct process *p, struct tg_procfs_use *v, unsigned roots)
{
	for (int depth = 0; p && depth < 64; depth++) {
		for (unsigned i = 0; i < roots; i++)
			if (v[i].root && v[i].root == p->parent)
				return &v[i];
		struct process key = { .pid = p->parent };
		p = p->parent > 1 ? bsearch(&key, all, n, sizeof *all, by_pid) : NULL;
	}
	return NULL;
}

void tg_procfs_look(struct tg_procfs_use *v, unsigned roots)
{
	size_t n;
	struct process *all = read_all(&n);
	long hz = sysconf(_SC_CLK_TCK), page = sysconf(_SC_PAGESIZE);
	for (unsigned i = 0; i < roots; i++)
		v[i].cpu_us = v[i].rss_bytes = 0;
	for (size_t k = 0; k < n; k++) {
		struct tg_procfs_use *r = root_of(all, n, &all[k], v, roots);
		if (!r)
			continue;
		r->cpu_us += all[k].ticks * 1000000u / (uint64_t)(hz > 0 ? hz : 100);
		r->rss_bytes += all[k].pages * (uint64_t)page;
	}
	free(all);
}
