/* See landlock.h. A filter of system calls (systemd's, a container's) answers EPERM mostly, which the kernel itself does not answer to this. */
#include "base/landlock.h"
#include <errno.h>
#include <linux/landlock.h>
#include <stddef.h>
#include <sys/syscall.h>
#include <unistd.h>

int tg_landlock_version(void)
{
	long version = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);
	return version > 0 ? (int)version : version < 0 ? -errno : -ENOSYS;
}

const char *tg_landlock_lack(int negative_errno)
{
	switch (-negative_errno) {
	case ENOSYS: return "this kernel has no Landlock";
	case EOPNOTSUPP: return "this kernel has Landlock switched off";
	default: return "Landlock is forbidden here by whoever started Tollgate (a filter of system calls: systemd's SystemCallFilter, a container's seccomp profile)";
	}
}
