#pragma once
/* How much memory there is for this process. */
#include <stdint.h>

/*
 * Bytes: what the machine has, or less where a control group of this process, or one above it, has less: memory.max and memory.high of version 2, memory.limit_in_bytes of version 1 (Linux: Documentation/admin-guide/cgroup-v2.rst
 * and cgroup-v1/memory.rst). 0: not known. root: what stands before /proc and /sys, "" but in tests. Before the sandbox, which hides both.
 */
uint64_t tg_memory_there(const char *root);
