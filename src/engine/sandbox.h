#pragma once
/*
 * What the engine gives up before it looks at the first byte of anybody's data, for itself and for all processes it makes, for good: the file system but for its folders (Landlock), and the system
 * calls that it does not need (seccomp): no network, no other program, no new code in memory, no look into another process.
 */
#include "base/err.h"
#include <stdbool.h>

struct tg_sandbox {
	const int *read;  /* folders whose files may be read; -1: left out */
	unsigned nread;
	int write;        /* the folder in which files may be made, read and removed */
};
/* One thread only may be running. *files: Landlock's version; negative: there is none here (tg_landlock_lack says why), and only the system calls are bounded. False: err; then nothing may be served. */
bool tg_sandbox_enter(const struct tg_sandbox *s, int *files, struct tg_err *err);
