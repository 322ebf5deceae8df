/*
 * Where the gate keeps what it makes for itself: the folder data/. It lies beside the configuration file, or, with a configuration that lies elsewhere (as in /etc), where the program
 * works: the rule of data/keys.env.
 */
#include "config/config.h"
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

bool tg_config_data_path(const struct tg_config *c, const char *name, char *out, size_t cap)
{
	char beside[PATH_MAX];
	const char *slash = c->path ? strrchr(c->path, '/') : NULL;
	int dir = slash ? (int)(slash - c->path) : 0, k = snprintf(out, cap, "data/%s", name);
	if (k < 0 || (size_t)k >= cap)
		return false;
	if (!slash)
		return true;
	k = snprintf(beside, sizeof beside, "%.*s/data/%s", dir, c->path, name);
	if (k < 0 || (size_t)k >= sizeof beside)
		return false;
	bool there = access(beside, F_OK) == 0;
	if (!there && access(out, F_OK) != 0) { /* nowhere yet: in the folder that there is */
		char folder[PATH_MAX];
		snprintf(folder, sizeof folder, "%.*s/data", dir, c->path);
		there = access(folder, F_OK) == 0;
	}
	if (there && (size_t)k >= cap)
		return false;
	if (there)
		memcpy(out, beside, (size_t)k + 1);
	return true;
}
