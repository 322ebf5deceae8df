#pragma once
/*
 * Files that hold secrets: who else can get at one. For every kind of them (.env, api_keys.json, keys of TLS, "file:" values), so that one rule and
 * one sentence hold.
 */
#include "base/err.h"
#include <stdbool.h>
#include <sys/types.h>

/* The permission bits of a file that its group or others may read or write; 0: nobody else may. One that is somebody else's may have a group, which is ours then. 0 too below
 * /run/secrets and /run/credentials and on read-only mounts,
 * whose modes are those of whoever mounts, for what is no regular file, and where it cannot be looked at. Symbolic links are followed. */
mode_t tg_secret_file_exposed(const char *path);
/* The sentence about it. what: "the TLS key", or NULL where the name says it. */
void tg_secret_file_text(const char *path, const char *what, mode_t mode, struct tg_err *text);
/* Both: false where it is exposed and that is refused (err has the sentence); else an exposed file is told to warn (may be NULL). */
bool tg_secret_file_check(const char *path, const char *what, bool refuse, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx);
