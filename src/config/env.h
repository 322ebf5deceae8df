#pragma once
/* Files read whole, and .env files: NAME=value lines for whoever has no way to set a real environment. */
#include "base/err.h"
#include "base/secret.h"
#include <sys/types.h>

/* Reads a whole file of at most max bytes; NUL-terminated, owned by the caller, NULL with err ("cannot open: ...") on failure. errno
 * is ENOENT where there is no such file. mode (may be NULL): its permission bits. */
char *tg_read_file(const char *path, size_t max, size_t *n, mode_t *mode, struct tg_err *err);

#define TG_ENV_MAX_BYTES (256u << 10)
#define TG_ENV_MAX_VARS 4096

struct tg_env_var {
	char *name, *value; /* owned; values are wiped on free: they are often secrets */
	int line;
};

struct tg_env_file {
	struct tg_env_var *v;
	size_t n;
};

/*
 * NAME=value, `export NAME=value`; # begins a comment at a line's start or after white space; 'literal'; "with \n \r \t \" \\ \$ escapes"; quoted values may
 * hold line ends. Nothing is expanded. Of two lines for one name the later counts. False: err has "path:line: ...".
 */
bool tg_env_parse(const char *path, struct tg_slice text, struct tg_env_file *out, struct tg_err *err);
void tg_env_free(struct tg_env_file *f);
const struct tg_env_var *tg_env_find(const struct tg_env_file *f, const char *name); /* NULL: absent */

/* Variables that hold a secret of ours because the configuration says "env:NAME": no child gets them. Of the process, as its environment is; once in, for good. At most
 * TG_ENV_WITHHELD_MAX names. One thread (control). */
#define TG_ENV_WITHHELD_MAX 64
bool tg_env_withhold(const char *name); /* false: there are too many, or no memory */
bool tg_env_withheld(const char *name, size_t n);
