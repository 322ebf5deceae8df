/*
 * Deletions, and what waits for the bucket (see model_store.h).
 *
 * A model that goes with its artifact has a mark <id>.leaving from before that is in the database, and <id>.deleted from when it is: then nobody sees it any more, whatever of it is still somewhere. The files here go at
 * once, what the bucket has when it answers, and the mark last. Who ends between the two marks leaves the first, and the database knows what became of it.
 */
#include "store/model_inner.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

#define LEAVING_S 60 /* so long after its mark was made a transaction has ended */

/* What is not there is removed. The .json first: whoever sees it finds the model. */
static enum tg_s3_result remove_remote(struct tg_model_store *ms, const char *id, struct tg_err *err)
{
	static const char *const exts[] = { ".json", TG_MODEL_EXT };
	char key[TG_S3_KEY_MAX + 1];
	enum tg_s3_result got = TG_S3_OK;
	for (unsigned i = 0; got == TG_S3_OK && i < 2 && tg_model_key(ms, id, exts[i], key); i++) {
		struct tg_s3_request r = tg_s3_request("DELETE", key);
		r.ms = TG_MODEL_ASK_MS;
		got = tg_s3_do(ms->s3, &r, err);
		got = got == TG_S3_NONE ? TG_S3_OK : got;
	}
	return got;
}

enum tg_model_found tg_model_store_delete(struct tg_model_store *ms, const char *id, struct tg_err *err)
{
	char key[TG_S3_KEY_MAX + 1];
	bool found, remote = false;
	if (tg_model_bad_id(id, err))
		return TG_MODEL_NONE;
	pthread_mutex_lock(&ms->upload); /* not in the middle of one */
	enum tg_s3_result got = TG_S3_OK;
	if (ms->s3 && tg_model_key(ms, id, ".json", key)) {
		struct tg_s3_request r = tg_s3_request("HEAD", key);
		r.ms = TG_MODEL_ASK_MS;
		got = tg_s3_do(ms->s3, &r, err);
		remote = got == TG_S3_OK;
		got = got == TG_S3_NONE ? TG_S3_OK : got;
	}
	if (ms->s3 && got == TG_S3_OK)
		got = remove_remote(ms, id, err);
	bool ok = got == TG_S3_OK && tg_model_pair_remove(&ms->folder, id, &found);
	if (got == TG_S3_OK && !ok)
		tg_err_set(err, "model %s cannot be removed: %s", id, strerror(errno));
	pthread_mutex_unlock(&ms->upload);
	if (!ok)
		return TG_MODEL_AWAY;
	if (!found && !remote)
		tg_err_set(err, "there is no model %s", id);
	return found || remote ? TG_MODEL_FOUND : TG_MODEL_NONE;
}

/* ---- work that waits ---- */

static time_t marked_at(struct tg_model_store *ms, const char *id, const char *ext)
{
	char name[TG_MODEL_NAME_MAX];
	struct stat st;
	snprintf(name, sizeof name, "%s%s", id, ext);
	return fstatat(ms->folder.fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 ? st.st_mtim.tv_sec : 0;
}

static bool is_old(struct tg_model_store *ms, const char *id, const char *ext)
{
	time_t then = marked_at(ms, id, ext), now = (time_t)(tg_wall_us() / 1000000u);
	return then && (then < now - LEAVING_S || then > now + LEAVING_S); /* a clock that was set back holds nothing up */
}

static unsigned upload_waiting(struct tg_model_store *ms)
{
	struct tg_buf ids;
	struct tg_err err;
	unsigned left = 0;
	tg_buf_init(&ids, 8u << 20);
	bool away = !tg_model_folder_ids(&ms->folder, ".upload", &ids);
	for (size_t i = 0; i < ids.len; i += TG_MODEL_ID_MAX + 1) {
		const char *id = ids.p + i;
		if (!tg_model_file_there(&ms->folder, id, ".json") || !tg_model_file_there(&ms->folder, id, TG_MODEL_EXT)) {
			if (is_old(ms, id, ".upload")) /* of a pair that is gone, or not there yet: then it is made again */
				(void)tg_model_unmark(&ms->folder, id, ".upload");
			continue;
		}
		enum tg_s3_result r = away ? TG_S3_AWAY : tg_model_upload(ms, id, &err);
		left += r != TG_S3_OK;
		away |= r == TG_S3_AWAY; /* the others would wait as long for the same */
	}
	tg_buf_free(&ids);
	return left;
}

/* Here, then in the bucket; the mark last. */
static enum tg_s3_result finish_deletion(struct tg_model_store *ms, const char *id)
{
	struct tg_err err;
	bool found;
	pthread_mutex_lock(&ms->upload); /* not in the middle of one */
	enum tg_s3_result r = TG_S3_REFUSED;
	if (!tg_model_pair_remove(&ms->folder, id, &found))
		tg_err_set(&err, "%s", strerror(errno));
	else
		r = ms->s3 ? remove_remote(ms, id, &err) : TG_S3_OK;
	if (r == TG_S3_OK && !tg_model_unmark(&ms->folder, id, ".deleted")) {
		tg_err_set(&err, "%s", strerror(errno));
		r = TG_S3_REFUSED;
	}
	pthread_mutex_unlock(&ms->upload);
	if (r == TG_S3_OK)
		tg_log(TG_LOG_F_INFO, "model.deleted", "t:model_id", id, NULL);
	else
		tg_log(TG_LOG_F_WARN, "model.delete_failed", "t:model_id", id, "s:why", err.text, NULL);
	return r;
}

/* Marks of those who died, or did not learn what became of their transaction. */
static unsigned settle_leaving(struct tg_model_store *ms)
{
	struct tg_buf ids;
	unsigned left = 0;
	tg_buf_init(&ids, 8u << 20);
	if (!tg_model_folder_ids(&ms->folder, ".leaving", &ids))
		left++;
	for (size_t i = 0; i < ids.len; i += TG_MODEL_ID_MAX + 1) {
		const char *id = ids.p + i;
		bool there, told = false;
		if (is_old(ms, id, ".leaving") && ms->artifact) {
			told = ms->artifact(ms->artifact_ctx, id, &there);
			if (!told)
				atomic_store(&ms->hurry, true); /* the database is back sooner than our next turn comes */
		}
		if (!told) {
			left++;
			continue;
		}
		if (there)
			(void)tg_model_unmark(&ms->folder, id, ".leaving");
		else
			tg_model_store_gone(ms, id);
	}
	tg_buf_free(&ids);
	return left;
}

static unsigned delete_waiting(struct tg_model_store *ms)
{
	struct tg_buf ids;
	tg_buf_init(&ids, 8u << 20);
	unsigned left = settle_leaving(ms);
	bool away = !tg_model_folder_ids(&ms->folder, ".deleted", &ids);
	left += away;
	for (size_t i = 0; i < ids.len; i += TG_MODEL_ID_MAX + 1) {
		enum tg_s3_result r = away ? TG_S3_AWAY : finish_deletion(ms, ids.p + i);
		left += r != TG_S3_OK;
		away |= r == TG_S3_AWAY;
	}
	tg_buf_free(&ids);
	return left;
}

void tg_model_store_ask(struct tg_model_store *ms, bool (*artifact)(void *ctx, const char *id, bool *there), void *ctx)
{
	ms->artifact = artifact;
	ms->artifact_ctx = ctx;
}

bool tg_model_store_leaves(struct tg_model_store *ms, const char *id, bool likely, bool *marked, struct tg_err *err)
{
	*marked = false;
	if (tg_model_bad_id(id, err))
		return true;
	if (!(likely && ms->s3) && !tg_model_file_there(&ms->folder, id, ".json") && !tg_model_file_there(&ms->folder, id, TG_MODEL_EXT))
		return true;
	*marked = tg_model_mark(&ms->folder, id, ".leaving");
	if (!*marked)
		tg_err_set(err, "model %s cannot be removed: %s", id, strerror(errno));
	atomic_store(&ms->marked, true);
	return *marked;
}

void tg_model_store_gone(struct tg_model_store *ms, const char *id)
{
	bool found;
	atomic_fetch_add(&ms->gone, 1);
	atomic_store(&ms->marked, true);
	if (!tg_model_mark(&ms->folder, id, ".deleted")) {
		tg_log(TG_LOG_F_WARN, "model.delete_failed", "t:model_id", id, "s:why", strerror(errno), NULL); /* its other mark is there: it is tried again */
		return;
	}
	if (tg_model_pair_remove(&ms->folder, id, &found) && !ms->s3 && tg_model_unmark(&ms->folder, id, ".deleted"))
		tg_log(TG_LOG_F_INFO, "model.deleted", "t:model_id", id, NULL);
	else
		atomic_store(&ms->hurry, true);
}

bool tg_model_store_hurry(struct tg_model_store *ms)
{
	return atomic_exchange(&ms->hurry, false);
}

unsigned tg_model_store_work(struct tg_model_store *ms)
{
	unsigned deletions = 0;
	if (atomic_exchange(&ms->marked, false) && (deletions = delete_waiting(ms)))
		atomic_store(&ms->marked, true);
	return deletions + (ms->s3 ? upload_waiting(ms) : 0);
}
