#pragma once
/*
 * Whether the kernel would bound this process's files (Landlock). The engine is who uses it; the gate, under the same rules of whoever started both, can tell beforehand.
 */

int tg_landlock_version(void); /* at least 1; else a negative errno: there is none here */
/* Of such an errno, without a full stop: the kernel's doing, or that of whoever forbids us the call. */
const char *tg_landlock_lack(int negative_errno);
