#pragma once
/* What the two files of the model store share (model_store.c: pairs; model_work.c: deletions, and work that waits for the bucket). Nobody else's. */
#include "store/model_file.h"
#include "store/model_s3.h"
#include "store/model_store.h"
#include <pthread.h>
#include <stdatomic.h>

#define TG_MODEL_KNOWN_MAX 256
#define TG_MODEL_ASK_MS 10000  /* a request for what is small, or a whole list: who waits for it has others behind him */

struct tg_model_known {
	dev_t dev;
	ino_t ino;
	struct timespec mtime, ctime;
	off_t size;
	char sha256[65];
};
struct tg_model_store {
	struct tg_model_folder folder;
	struct tg_s3 *s3;       /* NULL: the folder is all */
	char bucket[64], prefix[TG_S3_KEY_MAX];
	pthread_mutex_t lock;   /* of known; and of one upload at a time */
	pthread_mutex_t upload;
	_Atomic uint64_t silent_ms; /* when a read waited for nothing; 0: none has, since one had its answer */
	_Atomic uint64_t away_ms; /* when the bucket last did not answer; 0: it did since */
	struct tg_model_known known[TG_MODEL_KNOWN_MAX];
	unsigned next;
	bool (*artifact)(void *ctx, const char *id, bool *there); /* tg_model_store_ask; NULL: nobody can tell */
	void *artifact_ctx;
	_Atomic bool marked;      /* there may be marks of models that go */
	_Atomic bool hurry;       /* tg_model_store_hurry */
	_Atomic uint64_t gone;    /* counts deletions: a fetch that began before one looks again */
};

bool tg_model_bad_id(const char *id, struct tg_err *err); /* err says what an id is */
bool tg_model_key(const struct tg_model_store *ms, const char *id, const char *ext, char key[TG_S3_KEY_MAX + 1]); /* of the object; false: too long */
enum tg_s3_result tg_model_upload(struct tg_model_store *ms, const char *id, struct tg_err *err); /* both files, and takes the mark away */
