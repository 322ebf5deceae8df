#pragma once
/*
 * Files that are made once: whole or not at all, never in the place of another. Keys, secrets and first configurations are written so.
 */
#include "base/slice.h"
#include <sys/types.h>

enum tg_made { TG_MADE, TG_THERE, TG_NOT_MADE };
/*
 * The file appears under its name with all its bytes and its mode, durable, or does not appear: temporary file (O_EXCL, 0600 from its first byte), fsync, rename that refuses to
 * replace, fsync of the folder. THERE: something has that name already, perhaps since a moment ago: two processes that make it at once get one file. NOT_MADE: errno
 * says why. Ends with the folder's fsync failing unsaid where the file system knows none.
 */
enum tg_made tg_newfile(const char *path, mode_t mode, struct tg_slice text);
