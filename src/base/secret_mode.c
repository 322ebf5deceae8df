/*
 * The modes of secret files (see secret_mode.h). The path is looked at, not the descriptor that was read: what matters is who can open it tomorrow,
 * and whoever could swap the file could read it anyway.
 */
#include "base/secret_mode.h"
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

/* What belongs to us must be ours alone (0600); what is somebody else's reaches us through its group (0640), as PostgreSQL has it. */
enum { OTHERS_OF_OURS = 066, OTHERS_OF_FOREIGN = 026 };

mode_t tg_secret_file_exposed(const char *path)
{
	static const char *const mounts[] = { "/run/secrets/", "/run/credentials/" }; /* of containers, of systemd */
	struct stat st;
	struct statvfs fs;
	char real[PATH_MAX];
	if (stat(path, &st) != 0 || !S_ISREG(st.st_mode) || !(st.st_mode & (st.st_uid == geteuid() ? OTHERS_OF_OURS : OTHERS_OF_FOREIGN)))
		return 0;
	bool resolved = realpath(path, real) != NULL;
	for (unsigned i = 0; resolved && i < sizeof mounts / sizeof *mounts; i++)
		if (strncmp(real, mounts[i], strlen(mounts[i])) == 0)
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
