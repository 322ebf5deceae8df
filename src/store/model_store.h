#pragma once
/*
 * Trained models: pairs of files, <id>.tgm (what the engine wrote; nothing here reads it) and <id>.json (metadata). Whole or not there: temporary name, fsync, rename, the .json last.
 * Its SHA-256 is in the metadata and is checked before a model is handed out. [artifacts] url: "file:FOLDER", or "s3://BUCKET/PREFIX": then a pair is kept in the folder
 * artifacts/models first and uploaded after, and found again from there on a fresh host. Thread-safe. Blocking: for the job pool, the runner and the command line.
 * Ids are checked (tg_model_id_ok) before they are names of files, and files are opened beneath the folder only (openat2, RESOLVE_BENEATH).
 */
#include "base/buf.h"
#include "base/err.h"
#include <limits.h>

#define TG_MODEL_EXT ".tgm"
#define TG_MODEL_ID_MAX 64             /* letters, digits, '-' and '_' */
#define TG_MODEL_METADATA_MAX (8u << 20)

struct tg_model_store; /* opaque */
enum tg_model_found {
	TG_MODEL_FOUND,
	TG_MODEL_NONE,    /* there is no such id, or half a pair */
	TG_MODEL_REFUSED, /* it is not what was written: digest, size, format (err: one sentence) */
	TG_MODEL_AWAY,    /* the disk or the bucket does not answer */
};

bool tg_model_id_ok(struct tg_slice id);
/* url as config's artifacts_url has it. Makes the folder with its parents. NULL: err. */
struct tg_model_store *tg_model_store_open(const char *url, struct tg_err *err);
void tg_model_store_close(struct tg_model_store *ms);
/* `from`: the engine's file, which is taken away on success. metadata: a JSON object; the members id, format, sha256, bytes, saved_at are set here. uri: where it is now ("artifacts/models/<id>.tgm",
 * "s3://bucket/prefix<id>.tgm"). An id that is there already is refused. False: err; nothing is left of it, `from` stays. An upload that fails is no failure: the pair is kept here and
 * tried again (tg_model_store_work). */
bool tg_model_store_save(struct tg_model_store *ms, const char *id, const char *from, struct tg_slice metadata, char uri[PATH_MAX], struct tg_err *err);
/* path: a local file, verified. metadata (may be NULL): the .json's bytes. */
enum tg_model_found tg_model_store_load(struct tg_model_store *ms, const char *id, char path[PATH_MAX], struct tg_buf *metadata, struct tg_err *err);
enum tg_model_found tg_model_store_metadata(struct tg_model_store *ms, const char *id, struct tg_buf *metadata, struct tg_err *err); /* without a look at the model's file */
/* Every whole pair, by id; of a bucket too. */
enum tg_model_found tg_model_store_list(struct tg_model_store *ms, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err);
enum tg_model_found tg_model_store_delete(struct tg_model_store *ms, const char *id, struct tg_err *err);
bool tg_model_store_uri(struct tg_model_store *ms, const char *id, char uri[PATH_MAX]);
const char *tg_model_store_folder(const struct tg_model_store *ms); /* where the files of models lie: what the engine may read */
unsigned tg_model_store_work(struct tg_model_store *ms); /* uploads what waits; how many still do */
