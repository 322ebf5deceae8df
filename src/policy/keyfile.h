#pragma once
/*
 * api_keys.json of document 001: valid_keys, require_auth_for_external, local_networks (seed ledger S1-08 to S1-22). Plain by its
 * fixed format, written 0600 by temp file + fsync + rename + directory fsync. Unknown members are kept when the file is rewritten.
 * Used by the gate (read) and by `tollgate keyfile` (read and write).
 */
#include "base/err.h"
#include "config/config.h"
#include "net/addr.h"

struct tg_keyfile {
	struct tg_strlist keys;            /* wiped on free */
	bool require_auth_for_external;    /* absent: true */
	struct tg_strlist local_networks;  /* absent: 127.0.0.1, localhost, ::1 */
	void *tree;                        /* json_t: the whole object, for rewriting */
};

/* A loader leaves *f empty unless it answers OK. What *f held before is not freed. Texts of err never quote the file: it is made of secrets. */
enum tg_keyfile_result { TG_KEYFILE_OK, TG_KEYFILE_MISSING, TG_KEYFILE_UNREADABLE, TG_KEYFILE_INVALID };
/* INVALID: err has "api_keys.json:LINE:COLUMN: ..." for bad JSON, or names the member and what was wrong with it (wrong type, empty or
 * control-character key, network not understood). A path is followed through symbolic links, also by save. At most 1 MiB and 100,000 keys are read. */
enum tg_keyfile_result tg_keyfile_load(struct tg_keyfile *f, const char *path, struct tg_err *err);
/* The same from memory: for tests and fuzzing. `path` is for messages. */
enum tg_keyfile_result tg_keyfile_parse(struct tg_keyfile *f, const char *path, struct tg_slice text, struct tg_err *err);
void tg_keyfile_defaults(struct tg_keyfile *f); /* what `keyfile add` starts from where there is no file: no keys, auth required, loopback */
/* The text that tg_keyfile_save writes: *n bytes and a NUL, owned by the caller, who wipes it. NULL: no memory, or more than could be read back. */
char *tg_keyfile_text(const struct tg_keyfile *f, size_t *n);
/* Whether a key may stand in the file: 1 to TG_KEYFILE_KEY_MAX bytes of UTF-8 without control characters. NULL: yes; else what is wrong with it. */
#define TG_KEYFILE_KEY_MAX 1024
const char *tg_keyfile_key_fault(struct tg_slice key);
/* Readers need no lock (a file is replaced whole). Writers hold this from load to save: an flock on PATH.lock beside the file, waited for at most 10 s. The
 * descriptor, closed to unlock; -1: err says why. The side file stays: removing it would let two writers hold two different ones. */
int tg_keyfile_lock(const char *path, struct tg_err *err);
bool tg_keyfile_save(const struct tg_keyfile *f, const char *path, struct tg_err *err);
/* A key of it that a seed document prints: err names its place, never the key. False: there is none. */
bool tg_keyfile_has_demo(const struct tg_keyfile *f, const char *path, struct tg_err *err);
/* What a start asks of the configuration's key file: false where it is there and cannot be read; and in profile production where others can read it or it has such a key.
 * Elsewhere these two are warnings. A file that is missing or cannot be understood is no matter of the start: its keys are void. */
bool tg_keyfile_vet(const struct tg_config *c, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx);
void tg_keyfile_free(struct tg_keyfile *f);
