/* See standard.h. */
#include "base/standard.h"
#include <fcntl.h>
#include <unistd.h>

void tg_standard_open(void)
{
	int fd;
	do
		fd = open("/dev/null", O_RDWR);
	while (fd >= 0 && fd <= 2);
	if (fd > 2)
		close(fd);
}
