#pragma once
/*
 * Files that are written whole or not at all: made once and never in the place of another (secrets, first configurations), or put in the place of an older one (key files, settings).
 *
 * What root makes in somebody else's folder is made for him: all of these give it to the folder's owner, where that can be (a container's root often cannot).
 */
#include "base/slice.h"
#include <limits.h>
#include <sys/types.h>

enum tg_made { TG_MADE, TG_THERE, TG_NOT_MADE };
/*
 * The file appears under its name with all its bytes and its mode, durable, or does not appear: temporary file (O_EXCL, 0600 from its first byte), fsync, rename that refuses to
 * replace, fsync of the folder. THERE: something has that name already, perhaps since a moment ago: two processes that make it at once get one file. NOT_MADE: errno
 * says why. Ends with the folder's fsync failing unsaid where the file system knows none.
 */
enum tg_made tg_newfile(const char *path, mode_t mode, struct tg_slice text);
/* Replaces the file, durably; 0600 from its first byte. Readers see the old one or the new one; the old one's owner stays. False: errno; the old file stands, or the folder could not be synced. */
bool tg_replace_file(const char *path, struct tg_slice text);
/*
 * The same in two steps, for what is too large to be kept as one text: an empty file beside `path` (*temp, malloc'd, for the second step), 0600, which the caller fills through the descriptor and syncs; then it takes path's
 * place, or, with keep false, is gone. begin: -1 and errno. end closes the descriptor and frees temp; false: errno.
 */
int tg_replace_begin(const char *path, char **temp);
bool tg_replace_end(int fd, char *temp, const char *path, bool keep);
/* Gives what has that name (a link itself, not what it leads to) the name `path` and `tail`, or the first of -2 to -99 behind it that nobody has; a file becomes 0600. Durable. False: errno (EEXIST: all of them are taken). */
bool tg_move_aside(const char *path, const char *tail, char out[PATH_MAX]);
/* open(2) with O_CREAT, and mkdir(2); with the owner as above. */
int tg_open_made(const char *path, int flags, mode_t mode);
int tg_new_folder(const char *path, mode_t mode);
bool tg_write_all(int fd, struct tg_slice text); /* false: errno */
