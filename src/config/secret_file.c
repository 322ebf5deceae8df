/*
 * The modes of secret files (see secret_file.h). The path is looked at, not the descriptor that was read: what matters is who can open it tomorrow,
 * and whoever could swap the file could read it anyway.
 */
#include "config/secret_file.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

enum { OTHERS = 066 };

mode_t tg_secret_file_exposed(const char *path)
{
	static const char secrets[] = "/run/secrets/";
	struct stat st;
	struct statvfs fs;
	char real[PATH_MAX];
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || !(st.st_mode & OTHERS))
		return 0;
	if (realpath(path, real) && strncmp(real, secrets, sizeof secrets - 1) == 0)
		return 0;
	if (statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY))
		return 0;
	return st.st_mode & 07777;
}

void tg_secret_file_text(const char *path, const char *what, mode_t mode, struct tg_err *text)
{
	tg_err_set(text, "%.300s%s%.60s%s can be read or written by others (mode %04o): chmod 600 it", path, what ? " (" : "", what ? what : "", what ? ")" : "", (unsigned)mode);
}

bool tg_secret_file_check(const char *path, const char *what, bool refuse, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx)
{
	struct tg_err text;
	mode_t mode = tg_secret_file_exposed(path);
	if (!mode)
		return true;
	tg_secret_file_text(path, what, mode, refuse ? err : &text);
	if (!refuse && warn)
		warn(ctx, text.text);
	return !refuse;
}
