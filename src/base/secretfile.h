#pragma once
/*
 * Secrets of the gate itself: the key that signs tokens (data/jwt.secret), the key under which API keys are digested (data/secret.key). Given by the administrator, or made once
 * and kept in a file that only the gate's user can read.
 */
#include "base/err.h"
#include "base/secret.h"

#define TG_SECRET_FILE_MAX 4096 /* bytes of the file */
#define TG_SECRET_MADE 64       /* bytes of a secret made here: 256 random bits in hexadecimal digits */

/*
 * `given` wins if it is not empty, and then no file is looked at; else the secret is what the file holds, without line ends behind it; else it is made: 0600, in a folder that is made too (0700),
 * by two processes at once only one time.
 * False: err is a sentence that names `name` (an option or variable, for `given`) or the path: shorter than `min` bytes, nothing but blanks, a NUL, over TG_SECRET_FILE_MAX,
 * no plain file, unreadable, not makeable. A secret's own bytes are never in it. A file that is there is never replaced, whatever is wrong with it.
 * warning: set where others can read or write the file (but not under /run/secrets or on a read-only mount, where modes are not ours); else its text is empty.
 * What *out held is wiped.
 */
bool tg_secret_file(const char *path, const char *name, struct tg_slice given, size_t min, struct tg_secret *out, struct tg_err *warning, struct tg_err *err);
