#pragma once
/* A file is replaced whole, durably, and is 0600 from its first byte: readers see the old one or the new one. The owner of the old one stays. */
#include "base/slice.h"

bool tg_replace_file(const char *path, struct tg_slice text); /* false: errno; the old file stands, or the folder could not be synced */
