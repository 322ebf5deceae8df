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

/* 1 to TG_MODEL_ID_MAX letters, digits, '-' and '_'; none of the words that are routes of document 000 under /models (info, register, set_active, reload, active, pool: seed ledger C-07). */
bool tg_model_id_ok(struct tg_slice id);
/* url as config's artifacts_url has it. Makes the folder with its parents, and removes what writers that died left there. The bucket is not asked yet. NULL: err. */
struct tg_model_store *tg_model_store_open(const char *url, struct tg_err *err);
void tg_model_store_close(struct tg_model_store *ms);
void tg_model_store_stop(struct tg_model_store *ms); /* the gate ends: requests to the bucket, under way or to come, end soon */
bool tg_model_store_remote(const struct tg_model_store *ms); /* there is a bucket: calls may take seconds */
/* `from`: the engine's file, which is taken away on success. metadata: a JSON object; the members id, format, sha256, bytes, saved_at are set here; a sha256 that is given must be the file's. uri: where it is now
 * ("artifacts/models/<id>.tgm", "s3://bucket/prefix<id>.tgm"). An id that is there already is refused, save where it is that very file (a job that was cut short after its save does
 * it again): then the metadata stays as it was. False: err; nothing is left of it, `from` stays; errno is what the
 * disk said, which may pass, and 0 where it is no matter of the disk. An upload that fails is no failure: the pair is
 * kept here and tried again (tg_model_store_work). */
bool tg_model_store_save(struct tg_model_store *ms, const char *id, const char *from, struct tg_slice metadata, char uri[PATH_MAX], struct tg_err *err);
/* path: a local file, verified. metadata (may be NULL): the .json's bytes are appended. A file named <id>.joblib or .pkl is refused by that name: reading one runs code (ADR 0018). */
enum tg_model_found tg_model_store_load(struct tg_model_store *ms, const char *id, char path[PATH_MAX], struct tg_buf *metadata, struct tg_err *err);
enum tg_model_found tg_model_store_metadata(struct tg_model_store *ms, const char *id, struct tg_buf *metadata, struct tg_err *err); /* without a look at the model's file */
/* Every whole pair, by id; of a bucket too. row returns false: enough. FOUND also where there is none. */
enum tg_model_found tg_model_store_list(struct tg_model_store *ms, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err);
enum tg_model_found tg_model_store_delete(struct tg_model_store *ms, const char *id, struct tg_err *err);
/*
 * A model goes with its artifact. `leaves` is for the transaction that removes the artifact: a mark, so that whoever dies before `gone` leaves nothing that nobody finds. likely: it may be one of the bucket, which
 * is not asked. *marked false: there is no such model. False: err; the artifact must stay. `gone` is for when that transaction is durable: from then on there is no such model for anybody who has this
 * folder, whether the bucket answers or not; what the bucket has is removed by tg_model_store_work. Neither waits for the bucket.
 */
bool tg_model_store_leaves(struct tg_model_store *ms, const char *id, bool likely, bool *marked, struct tg_err *err);
void tg_model_store_gone(struct tg_model_store *ms, const char *id);
/* Who tells whether there is an artifact of that id, for marks that were left. False: it cannot be told now. Once, before the first work. */
void tg_model_store_ask(struct tg_model_store *ms, bool (*artifact)(void *ctx, const char *id, bool *there), void *ctx);
/* Sees to it that it is where the URL says: uploads it now if it waits for that, or if the bucket does not have it. Idempotent. uri as above; AWAY: it could not be uploaded, and waits. */
enum tg_model_found tg_model_store_persist(struct tg_model_store *ms, const char *id, char uri[PATH_MAX], struct tg_err *err);
bool tg_model_store_uri(struct tg_model_store *ms, const char *id, char uri[PATH_MAX]); /* where it is now; false: the name is too long */
unsigned tg_model_store_work(struct tg_model_store *ms); /* uploads what waits, and removes what is to go; how many still do */
bool tg_model_store_hurry(struct tg_model_store *ms); /* there is work that need not wait for its turn; once for each that came */
