/* The limit of open files (see descriptors.h): the default of 1024 is a relic of select(2), which nothing here uses. */
#include "gate/descriptors.h"
#include <sys/resource.h>

void tg_descriptors_raise(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) == 0 && r.rlim_cur < r.rlim_max) {
		r.rlim_cur = r.rlim_max;
		setrlimit(RLIMIT_NOFILE, &r);
	}
}

unsigned tg_descriptors_connections(void)
{
	struct rlimit r;
	if (getrlimit(RLIMIT_NOFILE, &r) || r.rlim_cur == RLIM_INFINITY || r.rlim_cur > 2000000)
		return 1000000;
	return r.rlim_cur > 128 ? (unsigned)(r.rlim_cur - 64) / 2 : 32;
}
