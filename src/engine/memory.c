/*
 * The memory that there is (see memory.h). In a container, or a service with a bound, the machine's own figure is somebody else's memory: the kernel ends whoever trusts it. Bounds are looked at where they are kept, from the process's own group
 * upwards; what is named and not there (a container sees its group as the root of a smaller tree) is passed over.
 */
#include "engine/memory.h"
#include <fcntl.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define GROUPS_MAX 16384 /* bytes of /proc/self/cgroup */

/* A small file with a NUL behind it; false: none. */
static bool read_text(const char *path, char *to, size_t room)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	ssize_t n = read(fd, to, room - 1);
	close(fd);
	to[n < 0 ? 0 : n] = 0;
	return n > 0;
}

/* "max", and version 1's number near 2^63, are above any machine's memory. */
static uint64_t bound_in(const char *folder, const char *file)
{
	char path[PATH_MAX], text[32], *end;
	if (snprintf(path, sizeof path, "%s/%s", folder, file) >= (int)sizeof path || !read_text(path, text, sizeof text))
		return UINT64_MAX;
	unsigned long long v = strtoull(text, &end, 10);
	return end == text ? UINT64_MAX : v;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

/* The least bound in the group and those above it. */
static uint64_t bound_upwards(const char *tree, const char *group, const char *const files[2])
{
	char path[PATH_MAX];
	uint64_t least = UINT64_MAX;
	size_t base = strlen(tree);
	if (snprintf(path, sizeof path, "%s%s", tree, group) >= (int)sizeof path)
		return least;
	for (;;) {
		for (unsigned i = 0; i < 2 && files[i]; i++)
			least = less(least, bound_in(path, files[i]));
		char *slash = strrchr(path + base, '/');
		if (!slash)
			return least;
		*slash = 0;
	}
}

static bool has_word(const char *list, const char *end, const char *word)
{
	size_t n = strlen(word);
	for (const char *p = list; p < end; p++)
		if ((size_t)(end - p) >= n && strncmp(p, word, n) == 0 && (p == list || p[-1] == ',') && (p + n == end || p[n] == ','))
			return true;
	return false;
}

/* A line of /proc/self/cgroup: NUMBER:CONTROLLERS:PATH (cgroups(7)); of version 2 there are no controllers. */
static uint64_t bound_of(const char *root, char *line)
{
	static const char *const two[] = { "memory.max", "memory.high" }, *const one[] = { "memory.limit_in_bytes", NULL };
	static const char *const trees[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	char tree[PATH_MAX];
	char *controllers = strchr(line, ':'), *group = controllers ? strchr(controllers + 1, ':') : NULL;
	uint64_t least = UINT64_MAX;
	if (!group || group[1] != '/')
		return least;
	controllers++;
	if (controllers == group)
		for (unsigned i = 0; i < sizeof trees / sizeof *trees; i++) {
			if (snprintf(tree, sizeof tree, "%s%s", root, trees[i]) < (int)sizeof tree)
				least = less(least, bound_upwards(tree, group + 1, two));
		}
	else if (has_word(controllers, group, "memory") && snprintf(tree, sizeof tree, "%s/sys/fs/cgroup/memory", root) < (int)sizeof tree)
		least = bound_upwards(tree, group + 1, one);
	return least;
}

uint64_t tg_memory_there(const char *root)
{
	char path[PATH_MAX], groups[GROUPS_MAX], *rest = groups;
	long pages = sysconf(_SC_PHYS_PAGES), size = sysconf(_SC_PAGESIZE);
	uint64_t there = pages > 0 && size > 0 ? (uint64_t)pages * (uint64_t)size : UINT64_MAX;
	if (snprintf(path, sizeof path, "%s/proc/self/cgroup", root) < (int)sizeof path && read_text(path, groups, sizeof groups))
		for (char *line; (line = strsep(&rest, "\n"));)
			there = less(there, bound_of(root, line));
	return there == UINT64_MAX ? 0 : there;
}
