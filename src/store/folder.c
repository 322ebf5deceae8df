/* See folder.h. */
#include "store/folder.h"
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { TRIES = 40, AGAIN_US = 50000 };

char *tg_folder_file(const char *database, const char *name)
{
	const char *slash = strrchr(database, '/');
	char *p;
	return asprintf(&p, "%.*s%s", slash ? (int)(slash + 1 - database) : 0, database, name) < 0 ? NULL : p;
}

int tg_folder_hold(const char *database, bool alone, struct tg_err *err)
{
	char *folder = tg_folder_file(database, ".");
	int fd = folder ? open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1, held = -1;
	bool busy = false;
	for (unsigned i = 0; fd >= 0 && held < 0 && i < (alone ? 1 : TRIES); i++) {
		if (i)
			usleep(AGAIN_US);
		if (flock(fd, (alone ? LOCK_EX : LOCK_SH) | LOCK_NB) == 0)
			held = fd;
		else if (!(busy = errno == EWOULDBLOCK))
			break;
	}
	if (held < 0 && busy)
		tg_err_set(err, alone ? "%.*s is in use: stop the gate first" : "%.*s: a restore is under way", (int)(strlen(folder) > 2 ? strlen(folder) - 2 : 1), folder); /* without "/." */
	if (held < 0 && fd >= 0)
		close(fd);
	free(folder);
	return held < 0 && busy ? -2 : held;
}
