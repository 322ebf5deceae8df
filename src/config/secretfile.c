/* The one rule for secret files: see the header. A file that cannot be looked at is nobody's: reading it will say why. */
#include "config/secretfile.h"
#include <stdlib.h>
#include <string.h>
#include <sys/statvfs.h>
#include <unistd.h>

static bool mounted_secret(const char *path)
{
	static const char *const places[] = { "/run/secrets/", "/run/credentials/" };
	char *real = realpath(path, NULL);
	bool yes = false;
	for (unsigned i = 0; i < sizeof places / sizeof *places; i++)
		yes |= strncmp(path, places[i], strlen(places[i])) == 0 || (real && strncmp(real, places[i], strlen(places[i])) == 0);
	free(real);
	struct statvfs fs;
	return yes || (statvfs(path, &fs) == 0 && (fs.f_flag & ST_RDONLY));
}

bool tg_secret_file_open_to_others(const char *path, mode_t *mode)
{
	struct stat st;
	if (stat(path, &st) != 0)
		return false;
	*mode = st.st_mode & 07777;
	mode_t forbidden = st.st_uid == geteuid() ? 077 : 037;
	return (*mode & forbidden) && !mounted_secret(path);
}
