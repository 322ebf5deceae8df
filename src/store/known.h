#pragma once
/*
 * What the database last said, in a file beside it (PATH.known, 0600): for a start in a time in which the database cannot be read. Digests, ids, permissions, limits;
 * no key and no password hash, so logins wait for the database while keys and tokens go on. JSON, a line each: an object with "key", "user" or "ended".
 */
#include "policy/identity.h"
#include "store/uses.h"

#define TG_KNOWN_KEYS_MAX 200000 /* over that the file is not kept: writing it at each change would cost more than it saves */

bool tg_known_write(const char *path, const struct tg_identity *d, struct tg_err *err); /* true, and no file: too many keys */
struct tg_identity *tg_known_read(const char *path, struct tg_uses *uses); /* NULL: none, or not whole. uses (may be NULL): gives each its place */
