#pragma once
/*
 * The folder of models: files of it by name, never by path. Names are an id and an extension (or temporary names that begin with a dot, which no id does). Everything is opened beneath the folder and through no
 * link (openat2 with RESOLVE_BENEATH and RESOLVE_NO_SYMLINKS; where a kernel or its sandbox lacks that, O_NOFOLLOW: for names without a slash it says the same). Changes of pairs are made under a lock
 * (flock of the file ".lock"), so that several threads and processes may share a folder. Thread-safe.
 */
#include "base/buf.h"
#include "base/err.h"
#include <limits.h>
#include <sys/stat.h>

#define TG_MODEL_NAME_MAX 96

struct tg_model_folder {
	int fd;             /* -1: not open */
	char path[PATH_MAX];
};

/* Makes it with its parents (0750). */
bool tg_model_folder_open(struct tg_model_folder *f, const char *path, struct tg_err *err);
void tg_model_folder_close(struct tg_model_folder *f);
/* For reading: a plain file, or -1 with errno: ENOENT, ELOOP (a link), EINVAL (no plain file), ... */
int tg_model_file_open(const struct tg_model_folder *f, const char *id, const char *ext, struct stat *st);
bool tg_model_file_there(const struct tg_model_folder *f, const char *id, const char *ext); /* a plain file of that name */
/* Its bytes, appended; at most b->max. False: errno as above, EFBIG, ENOMEM. */
bool tg_model_file_read(const struct tg_model_folder *f, const char *id, const char *ext, struct tg_buf *b);
/* A new empty file (0640), open for reading and writing; its name. -1: errno. */
int tg_model_file_temp(const struct tg_model_folder *f, char name[TG_MODEL_NAME_MAX]);
void tg_model_file_drop(const struct tg_model_folder *f, const char *name); /* a temporary file that is not needed */
bool tg_model_file_write(int fd, struct tg_slice text);
/* The rest of `from` into `to`, at most `most` bytes, fsynced; sha256 of it in hex. False: errno (EFBIG: it is longer). */
bool tg_model_file_copy(int from, int to, uint64_t most, uint64_t *bytes, char sha256[65]);
bool tg_model_file_digest(int fd, char sha256[65]); /* from its beginning */

enum tg_pair_made { TG_PAIR_MADE, TG_PAIR_THERE, TG_PAIR_FAILED };
/*
 * Two temporary files become the pair of that id, the .json last, durable; half a pair that was there is replaced. mark: a file <id>.upload is made before. THERE: it is whole already. Else:
 * FAILED, errno. The temporary files are gone afterwards, whatever came of it.
 */
enum tg_pair_made tg_model_pair_make(const struct tg_model_folder *f, const char *id, const char *temp_model, const char *temp_json, bool mark);
bool tg_model_pair_remove(const struct tg_model_folder *f, const char *id, bool *found); /* and its marks, save ".deleted" */
/* A mark is an empty file <id><ext>, durable when that returns. False: errno. */
bool tg_model_mark(const struct tg_model_folder *f, const char *id, const char *ext);
bool tg_model_unmark(const struct tg_model_folder *f, const char *id, const char *ext); /* also where there is none */
/* The ids of all plain files with that extension, sorted, joined without gaps in `ids` (each TG_MODEL_ID_MAX + 1 bytes, NUL-padded). False: errno. */
bool tg_model_folder_ids(const struct tg_model_folder *f, const char *ext, struct tg_buf *ids);
/* What writers that died left behind, older than a minute: temporary files, half pairs. */
void tg_model_folder_sweep(const struct tg_model_folder *f);
