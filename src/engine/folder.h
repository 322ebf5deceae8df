#pragma once
/*
 * The three folders the engine knows, as descriptors, and names in them. What comes over the socket are ids and names, never paths: they are checked here, and files are opened beneath their
 * folder only (openat2, RESOLVE_BENEATH), regular ones, through no link.
 */
#include "base/err.h"
#include "base/slice.h"
#include <sys/stat.h>

#define TG_ID_LEN 26        /* a ULID */
#define TG_NAME_MAX 255     /* bytes of a file's name */
#define TG_SHA256_TEXT 65   /* hex and NUL */

bool tg_id_ok(struct tg_slice id);     /* a ULID, in capitals */
bool tg_name_ok(struct tg_slice name); /* a file's name: no slash, no leading dot, no control character */
/* Makes the folder with its parents where it is not there; `own`: it is this user's and only this user may enter it (0700). A descriptor, -1: err. */
int tg_folder_make(const char *path, bool own, struct tg_err *err);
/* For reading. -1: errno (ENOENT: there is none; EINVAL: a name that is none, or no regular file). st may be NULL. */
int tg_open_beneath(int folder, const char *name, struct stat *st);
/* SHA-256 of all that is in the file, from its beginning; false: errno. */
bool tg_sha256_fd(int fd, char hex[TG_SHA256_TEXT]);
/*
 * A new file in the spool under a temporary name, and its end: renamed to NAME; or removed. NAME is at most 64 bytes. It is not synced: what a job makes in the spool is there again when the
 * job is done again, which it is until the gate has stored it elsewhere.
 */
int tg_spool_begin(int spool, const char *name);
bool tg_spool_finish(int spool, int fd, const char *name, bool keep);
/* What is under that name in the spool is there after a power cut too. True as well where there is no such file any more; false: errno. */
bool tg_spool_sync(int spool, const char *name);
/* Removes what belongs to a job: names that begin with `start`; how many. */
unsigned tg_spool_remove(int spool, const char *start);
