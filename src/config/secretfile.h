#pragma once
/* Who else can read a file that holds a secret. */
#include <stdbool.h>
#include <sys/stat.h>

/*
 * Whether others than the gate and the file's owner can read or write it, as `mode` says. What belongs to us must be ours alone (0600); what is somebody
 * else's reaches us through its group (0640), as PostgreSQL has it. Never so under /run/secrets or /run/credentials and on read-only mounts: there
 * the modes are the container's or systemd's, and nobody can change them.
 */
bool tg_secret_file_open_to_others(const char *path, mode_t *mode);
