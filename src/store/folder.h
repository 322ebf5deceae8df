#pragma once
/*
 * The folder of the database, held by whoever has the database open or might make it (shared) and by a restore, which replaces what is in it (alone): flock on the folder itself, so that no file is needed and nothing is
 * left behind by a process that dies.
 */
#include "base/err.h"
#include <stdbool.h>

/* `database`: its path. The descriptor that holds it; -1: there is no folder yet, or its file system knows no such lock; -2: somebody else holds it, err says so. Shared: waits up to two seconds. */
int tg_folder_hold(const char *database, bool alone, struct tg_err *err);
/* "secret.key" beside the database; malloc'd; NULL: no memory. */
char *tg_folder_file(const char *database, const char *name);
