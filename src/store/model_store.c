/*
 * The model store (see model_store.h): the rules of pairs. The folder (model_file.c) is where models are used from; a bucket (model_s3.c) is where they outlive this machine.
 *
 * A pair that waits for its upload has a mark, <id>.upload, which is made before the pair and removed after the upload: a crash between the two costs an upload of what is there already, never a model that nobody
 * uploads. Deletions have marks too (model_work.c). What was verified once is known by device, inode, times and size, so that a prediction does not digest its model anew; whoever can forge a file's change time is the owner of this process.
 */
#include "store/model_inner.h"
#include "base/clock.h"
#include "base/log.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <unistd.h>

#define LOCAL_FOLDER "artifacts/models" /* where there is a bucket */
#define DEFAULT_PREFIX "models/"
#define FORMAT "tgm"
#define AWAY_MS 15000
#define SILENT_MS 2000 /* a bucket that took so long, and gave nothing, */
#define QUIET_MS 5000  /* is not asked again so long */
#define MODEL_BYTES_MAX (1ull << 40)

/* What the metadata says of the model's file. */
struct facts {
	char sha256[65];
	uint64_t bytes;
};

bool tg_model_id_ok(struct tg_slice id)
{
	static const char *const words[] = { "info", "register", "set_active", "reload", "active", "pool" };
	if (!id.n || id.n > TG_MODEL_ID_MAX)
		return false;
	for (size_t i = 0; i < id.n; i++) {
		char c = id.p[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_'))
			return false;
	}
	for (size_t i = 0; i < sizeof words / sizeof *words; i++)
		if (tg_slice_eq(id, tg_slice_cstr(words[i])))
			return false;
	return true;
}

/* ---- open ---- */

/* "s3://bucket/prefix"; the prefix is a folder's: it ends with a slash, or is all of it. */
static bool take_bucket(struct tg_model_store *ms, const char *url, struct tg_err *err)
{
	size_t n = strcspn(url, "/");
	const char *prefix = url[n] && url[n + 1] ? url + n + 1 : DEFAULT_PREFIX;
	size_t len = strlen(prefix);
	if (n >= sizeof ms->bucket || len + TG_MODEL_NAME_MAX >= sizeof ms->prefix) {
		tg_err_set(err, "[artifacts] url: the bucket or the prefix is too long");
		return false;
	}
	snprintf(ms->bucket, sizeof ms->bucket, "%.*s", (int)n, url);
	snprintf(ms->prefix, sizeof ms->prefix, "%s%s", prefix, prefix[len - 1] == '/' ? "" : "/");
	ms->s3 = tg_s3_open(ms->bucket, err);
	return ms->s3 != NULL;
}

struct tg_model_store *tg_model_store_open(const char *url, struct tg_err *err)
{
	struct tg_model_store *ms = calloc(1, sizeof *ms);
	tg_err_set(err, "out of memory");
	if (!ms)
		return NULL;
	ms->folder.fd = -1;
	pthread_mutex_init(&ms->lock, NULL);
	pthread_mutex_init(&ms->upload, NULL);
	bool s3 = strncmp(url, "s3://", 5) == 0, file = strncmp(url, "file:", 5) == 0;
	if (!s3 && !file)
		tg_err_set(err, "[artifacts] url: must be \"file:FOLDER\" or \"s3://BUCKET/PREFIX\"");
	if ((s3 || file) && (!s3 || take_bucket(ms, url + 5, err)) && tg_model_folder_open(&ms->folder, s3 ? LOCAL_FOLDER : url + 5, err)) {
		tg_model_folder_sweep(&ms->folder);
		atomic_store(&ms->marked, true);
		return ms;
	}
	tg_model_store_close(ms);
	return NULL;
}

void tg_model_store_close(struct tg_model_store *ms)
{
	if (!ms)
		return;
	tg_s3_close(ms->s3);
	tg_model_folder_close(&ms->folder);
	pthread_mutex_destroy(&ms->lock);
	pthread_mutex_destroy(&ms->upload);
	free(ms);
}

void tg_model_store_stop(struct tg_model_store *ms)
{
	if (ms->s3)
		tg_s3_stop(ms->s3);
}

bool tg_model_store_remote(const struct tg_model_store *ms)
{
	return ms->s3 != NULL;
}

bool tg_model_store_uri(struct tg_model_store *ms, const char *id, char uri[PATH_MAX])
{
	bool there = ms->s3 && !tg_model_file_there(&ms->folder, id, ".upload");
	int n = there ? snprintf(uri, PATH_MAX, "s3://%s/%s%s" TG_MODEL_EXT, ms->bucket, ms->prefix, id) : snprintf(uri, PATH_MAX, "%s/%s" TG_MODEL_EXT, ms->folder.path, id);
	return n > 0 && n < PATH_MAX;
}

/* ---- metadata ---- */

bool tg_model_bad_id(const char *id, struct tg_err *err)
{
	if (tg_model_id_ok(tg_slice_cstr(id)))
		return false;
	tg_err_set(err, "a model's id is 1 to %d letters, digits, - and _, and none of the words that /models has for itself", TG_MODEL_ID_MAX);
	return true;
}

static bool is_digest(const char *s)
{
	return s && strlen(s) == 64 && strspn(s, "0123456789abcdef") == 64;
}

static bool read_facts(struct tg_slice text, const char *id, struct facts *f, struct tg_err *err)
{
	json_t *j = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, NULL);
	const char *name = json_string_value(json_object_get(j, "id")), *format = json_string_value(json_object_get(j, "format")), *sha = json_string_value(json_object_get(j, "sha256"));
	json_int_t bytes = json_is_integer(json_object_get(j, "bytes")) ? json_integer_value(json_object_get(j, "bytes")) : -1;
	bool ok = json_is_object(j) && name && strcmp(name, id) == 0 && format && strcmp(format, FORMAT) == 0 && is_digest(sha) && bytes >= 0 && (uint64_t)bytes <= MODEL_BYTES_MAX;
	if (ok) {
		memcpy(f->sha256, sha, sizeof f->sha256);
		f->bytes = (uint64_t)bytes;
	} else if (!json_is_object(j)) {
		tg_err_set(err, "the metadata of model %s is no JSON object", id);
	} else {
		tg_err_set(err, "the metadata of model %s is not of a model that was saved here (id, format, sha256, bytes)", id);
	}
	json_decref(j);
	return ok;
}

/* The .json that is written, from what the caller knows and what the file is. */
static char *write_facts(struct tg_slice text, const char *id, const struct facts *f, struct tg_err *err)
{
	char saved[21] = "";
	json_t *j = json_loadb(text.p ? text.p : "", text.n, JSON_REJECT_DUPLICATES, NULL);
	const char *given = json_string_value(json_object_get(j, "sha256"));
	tg_rfc3339_s(tg_wall_us(), saved);
	if (!json_is_object(j)) {
		tg_err_set(err, "the metadata of model %s is no JSON object", id);
	} else if (given && strcmp(given, f->sha256) != 0) {
		tg_err_set(err, "the file of model %s is not the one that its metadata speaks of (SHA-256)", id);
	} else if (json_object_set_new(j, "id", json_string(id)) || json_object_set_new(j, "format", json_string(FORMAT)) || json_object_set_new(j, "sha256", json_string(f->sha256)) ||
		   json_object_set_new(j, "bytes", json_integer((json_int_t)f->bytes)) || json_object_set_new(j, "saved_at", json_string(saved))) {
		tg_err_set(err, "out of memory");
	} else {
		char *out = json_dumps(j, JSON_COMPACT);
		json_decref(j);
		if (!out)
			tg_err_set(err, "out of memory");
		if (out && strlen(out) <= TG_MODEL_METADATA_MAX)
			return out;
		if (out)
			tg_err_set(err, "the metadata of model %s is over %u bytes", id, TG_MODEL_METADATA_MAX);
		free(out);
		return NULL;
	}
	json_decref(j);
	return NULL;
}

/* ---- what is here ---- */

/* Why a file that has a name of ours is not taken. */
static enum tg_model_found file_fault(const char *id, const char *ext, int why, struct tg_err *err)
{
	if (why == ENOENT) {
		tg_err_set(err, "there is no model %s", id);
		return TG_MODEL_NONE;
	}
	if (why == ELOOP || why == EINVAL || why == EXDEV || why == EISDIR) {
		tg_err_set(err, "%s%s is no plain file", id, ext);
		return TG_MODEL_REFUSED;
	}
	if (why == EFBIG) {
		tg_err_set(err, "%s%s is over %u bytes", id, ext, TG_MODEL_METADATA_MAX);
		return TG_MODEL_REFUSED;
	}
	tg_err_set(err, "%s%s cannot be read: %s", id, ext, strerror(why));
	return TG_MODEL_AWAY;
}

/* Deleted: what of it is still somewhere is nobody's. */
static bool is_deleted(struct tg_model_store *ms, const char *id, struct tg_err *err)
{
	if (!tg_model_file_there(&ms->folder, id, ".deleted"))
		return false;
	tg_err_set(err, "there is no model %s", id);
	return true;
}

/* A file of another program's, under our id: it is not opened, and the answer says why. */
static bool refused_by_name(struct tg_model_store *ms, const char *id, struct tg_err *err)
{
	static const char *const exts[] = { ".joblib", ".pkl", ".pickle" };
	for (size_t i = 0; i < sizeof exts / sizeof *exts; i++)
		if (tg_model_file_there(&ms->folder, id, exts[i])) {
			tg_err_set(err, "%s%s is a pickle, and reading one runs whatever code it holds: models are " TG_MODEL_EXT " files that this service wrote; train it again", id, exts[i]);
			return true;
		}
	return false;
}

static enum tg_model_found local_facts(struct tg_model_store *ms, const char *id, struct tg_buf *text, struct facts *f, struct tg_err *err)
{
	text->len = 0;
	if (is_deleted(ms, id, err))
		return TG_MODEL_NONE;
	if (!tg_model_file_read(&ms->folder, id, ".json", text))
		return file_fault(id, ".json", errno, err);
	return read_facts(tg_buf_view(text), id, f, err) ? TG_MODEL_FOUND : TG_MODEL_REFUSED;
}

static bool same(const struct tg_model_known *k, const struct stat *st, const char *sha256)
{
	return k->ino == st->st_ino && k->dev == st->st_dev && k->size == st->st_size && k->mtime.tv_sec == st->st_mtim.tv_sec && k->mtime.tv_nsec == st->st_mtim.tv_nsec &&
	       k->ctime.tv_sec == st->st_ctim.tv_sec && k->ctime.tv_nsec == st->st_ctim.tv_nsec && memcmp(k->sha256, sha256, 64) == 0;
}

static bool is_known(struct tg_model_store *ms, const struct stat *st, const char *sha256)
{
	bool found = false;
	pthread_mutex_lock(&ms->lock);
	for (unsigned i = 0; !found && i < TG_MODEL_KNOWN_MAX; i++)
		found = same(&ms->known[i], st, sha256);
	pthread_mutex_unlock(&ms->lock);
	return found;
}

static void learn(struct tg_model_store *ms, const struct stat *st, const char *sha256)
{
	pthread_mutex_lock(&ms->lock);
	struct tg_model_known *k = &ms->known[ms->next++ % TG_MODEL_KNOWN_MAX];
	*k = (struct tg_model_known){ .dev = st->st_dev, .ino = st->st_ino, .mtime = st->st_mtim, .ctime = st->st_ctim, .size = st->st_size };
	memcpy(k->sha256, sha256, sizeof k->sha256);
	pthread_mutex_unlock(&ms->lock);
}

/* While it was digested; and its change lies so far back that another one would have another time (clocks of file systems tick in milliseconds). */
static bool unchanged(int fd, const struct stat *before)
{
	struct stat now;
	int64_t age_s = (int64_t)(tg_wall_us() / 1000000u) - (int64_t)before->st_ctim.tv_sec;
	return age_s >= 2 && fstat(fd, &now) == 0 && now.st_size == before->st_size && now.st_mtim.tv_sec == before->st_mtim.tv_sec && now.st_mtim.tv_nsec == before->st_mtim.tv_nsec &&
	       now.st_ctim.tv_sec == before->st_ctim.tv_sec && now.st_ctim.tv_nsec == before->st_ctim.tv_nsec;
}

static enum tg_model_found verify(struct tg_model_store *ms, const char *id, const struct facts *f, struct tg_err *err)
{
	struct stat st;
	char sha256[65];
	int fd = tg_model_file_open(&ms->folder, id, TG_MODEL_EXT, &st);
	if (fd < 0)
		return file_fault(id, TG_MODEL_EXT, errno, err);
	enum tg_model_found r = TG_MODEL_FOUND;
	if ((uint64_t)st.st_size != f->bytes) {
		tg_err_set(err, "%s" TG_MODEL_EXT " is not what was saved: it has %lld bytes and had %llu", id, (long long)st.st_size, (unsigned long long)f->bytes);
		r = TG_MODEL_REFUSED;
	} else if (!is_known(ms, &st, f->sha256)) {
		if (!tg_model_file_digest(fd, sha256)) {
			r = file_fault(id, TG_MODEL_EXT, errno ? errno : EIO, err);
		} else if (strcmp(sha256, f->sha256) != 0) {
			tg_err_set(err, "%s" TG_MODEL_EXT " is not what was saved: its SHA-256 is another", id);
			r = TG_MODEL_REFUSED;
		} else if (unchanged(fd, &st)) {
			learn(ms, &st, sha256);
		}
	}
	close(fd);
	return r;
}

/* ---- the bucket ---- */

bool tg_model_key(const struct tg_model_store *ms, const char *id, const char *ext, char key[TG_S3_KEY_MAX + 1])
{
	int n = snprintf(key, TG_S3_KEY_MAX + 1, "%s%s%s", ms->prefix, id, ext);
	return n > 0 && n <= TG_S3_KEY_MAX;
}

static enum tg_model_found found_of(enum tg_s3_result r)
{
	return r == TG_S3_OK ? TG_MODEL_FOUND : r == TG_S3_NONE ? TG_MODEL_NONE : TG_MODEL_AWAY;
}

static bool is_silent(struct tg_model_store *ms, struct tg_err *err)
{
	uint64_t then = atomic_load(&ms->silent_ms);
	if (!then || tg_mono_us() / 1000 - then >= QUIET_MS)
		return false;
	tg_err_set(err, "the bucket %s did not answer a moment ago", ms->bucket);
	return true;
}

static void note_silence(struct tg_model_store *ms, enum tg_s3_result got, uint64_t begun_ms)
{
	uint64_t now = tg_mono_us() / 1000;
	if (got != TG_S3_AWAY)
		atomic_store(&ms->silent_ms, 0);
	else if (now - begun_ms >= SILENT_MS)
		atomic_store(&ms->silent_ms, now);
}

/* For reads that somebody waits for. */
static enum tg_s3_result ask(struct tg_model_store *ms, struct tg_s3_request *r, unsigned most_ms, struct tg_err *err)
{
	uint64_t begun_ms = tg_mono_us() / 1000;
	if (is_silent(ms, err))
		return TG_S3_AWAY;
	r->ms = most_ms;
	enum tg_s3_result got = tg_s3_do(ms->s3, r, err);
	note_silence(ms, got, begun_ms);
	return got;
}

static enum tg_model_found remote_facts(struct tg_model_store *ms, const char *id, struct tg_buf *text, struct facts *f, struct tg_err *err)
{
	char key[TG_S3_KEY_MAX + 1];
	if (is_deleted(ms, id, err) || !tg_model_key(ms, id, ".json", key))
		return TG_MODEL_NONE;
	struct tg_s3_request r = tg_s3_request("GET", key);
	r.into = text;
	enum tg_s3_result got = ask(ms, &r, TG_MODEL_ASK_MS, err);
	if (got == TG_S3_OK)
		return read_facts(tg_buf_view(text), id, f, err) ? TG_MODEL_FOUND : TG_MODEL_REFUSED;
	if (got == TG_S3_NONE)
		tg_err_set(err, "there is no model %s", id);
	return text->failed ? TG_MODEL_REFUSED : found_of(got);
}

/* Some model was deleted while this one was on its way: it may be that one. In doubt it is not. */
static bool still_there(struct tg_model_store *ms, const char *id)
{
	char key[TG_S3_KEY_MAX + 1];
	struct tg_err err;
	if (is_deleted(ms, id, &err) || !tg_model_key(ms, id, ".json", key))
		return false;
	struct tg_s3_request r = tg_s3_request("HEAD", key);
	return ask(ms, &r, TG_MODEL_ASK_MS, &err) != TG_S3_NONE;
}

/* From the bucket into the folder, whole and verified. text: its metadata. */
static enum tg_model_found fetch(struct tg_model_store *ms, const char *id, struct tg_buf *text, struct tg_err *err)
{
	char key[TG_S3_KEY_MAX + 1], model[TG_MODEL_NAME_MAX] = "", json[TG_MODEL_NAME_MAX] = "", sha256[65];
	struct facts f;
	uint64_t gone = atomic_load(&ms->gone);
	enum tg_model_found r = remote_facts(ms, id, text, &f, err);
	if (r != TG_MODEL_FOUND || !tg_model_key(ms, id, TG_MODEL_EXT, key))
		return r;
	int fd = tg_model_file_temp(&ms->folder, model), jd = fd >= 0 ? tg_model_file_temp(&ms->folder, json) : -1;
	if (jd < 0)
		r = file_fault(id, TG_MODEL_EXT, errno == ENOENT ? EIO : errno, err);
	struct tg_s3_request q = tg_s3_request("GET", key);
	q.into_fd = fd;
	q.most = f.bytes;
	if (r == TG_MODEL_FOUND)
		r = found_of(ask(ms, &q, 0, err));
	if (r == TG_MODEL_NONE)
		tg_err_set(err, "the bucket has the metadata of model %s, and not its file", id);
	if (r == TG_MODEL_FOUND) {
		struct stat st;
		if (fsync(fd) || fstat(fd, &st) || !tg_model_file_digest(fd, sha256)) {
			r = file_fault(id, TG_MODEL_EXT, errno ? errno : EIO, err);
		} else if ((uint64_t)st.st_size != f.bytes || strcmp(sha256, f.sha256) != 0) {
			tg_err_set(err, "%s" TG_MODEL_EXT " of the bucket is not what was saved: its SHA-256 is another", id);
			r = TG_MODEL_REFUSED;
		} else if (!tg_model_file_write(jd, tg_buf_view(text)) || tg_model_pair_make(&ms->folder, id, model, json, false) == TG_PAIR_FAILED) {
			r = file_fault(id, TG_MODEL_EXT, errno == ENOENT ? EIO : errno, err);
		}
	}
	if (fd >= 0)
		close(fd);
	if (jd >= 0)
		close(jd);
	tg_model_file_drop(&ms->folder, model);
	tg_model_file_drop(&ms->folder, json);
	if (r == TG_MODEL_FOUND && atomic_load(&ms->gone) != gone && !still_there(ms, id)) {
		bool found;
		(void)tg_model_pair_remove(&ms->folder, id, &found);
		tg_err_set(err, "there is no model %s", id);
		r = TG_MODEL_NONE;
	}
	return r;
}

static enum tg_s3_result put_file(struct tg_model_store *ms, const char *id, const char *ext, struct tg_err *err)
{
	char key[TG_S3_KEY_MAX + 1];
	struct stat st;
	int fd = tg_model_file_open(&ms->folder, id, ext, &st);
	if (fd < 0 || !tg_model_key(ms, id, ext, key)) {
		tg_err_set(err, "%s%s cannot be read: %s", id, ext, strerror(errno));
		return TG_S3_REFUSED;
	}
	enum tg_s3_result r = tg_model_s3_put(ms->s3, key, fd, (uint64_t)st.st_size, err);
	close(fd);
	return r;
}

/* The .json last: whoever sees it finds the model. */
enum tg_s3_result tg_model_upload(struct tg_model_store *ms, const char *id, struct tg_err *err)
{
	char name[TG_MODEL_NAME_MAX];
	pthread_mutex_lock(&ms->upload);
	enum tg_s3_result r = put_file(ms, id, TG_MODEL_EXT, err);
	if (r == TG_S3_OK)
		r = put_file(ms, id, ".json", err);
	if (r == TG_S3_OK) {
		snprintf(name, sizeof name, "%s.upload", id);
		tg_model_file_drop(&ms->folder, name);
		tg_log(TG_LOG_F_INFO, "model.uploaded", "t:model_id", id, "t:bucket", ms->bucket, NULL);
	} else {
		tg_log(TG_LOG_F_WARN, "model.upload_failed", "t:model_id", id, "s:why", err->text, NULL);
	}
	atomic_store(&ms->away_ms, r == TG_S3_AWAY ? tg_mono_us() / 1000 : 0);
	pthread_mutex_unlock(&ms->upload);
	return r;
}

/* A training need not wait for what has just been seen not to answer: the mark is there. */
static bool was_away(struct tg_model_store *ms)
{
	uint64_t then = atomic_load(&ms->away_ms);
	return then && tg_mono_us() / 1000 - then < AWAY_MS;
}

/* ---- the contract ---- */

/* What lies there is that very model: somebody who was killed after saving it is doing it again. */
static bool is_same(struct tg_model_store *ms, const char *id, const struct facts *f)
{
	struct tg_buf text;
	struct facts there;
	struct tg_err why;
	tg_buf_init(&text, TG_MODEL_METADATA_MAX + 1);
	bool same_file = local_facts(ms, id, &text, &there, &why) == TG_MODEL_FOUND && strcmp(there.sha256, f->sha256) == 0 && verify(ms, id, &there, &why) == TG_MODEL_FOUND;
	tg_buf_free(&text);
	return same_file;
}

static bool save_pair(struct tg_model_store *ms, const char *id, int from, struct tg_slice metadata, struct tg_err *err)
{
	char model[TG_MODEL_NAME_MAX] = "", json[TG_MODEL_NAME_MAX] = "", *text = NULL;
	struct facts f;
	int fd = tg_model_file_temp(&ms->folder, model), jd = fd >= 0 ? tg_model_file_temp(&ms->folder, json) : -1;
	bool ok = jd >= 0;
	int why = ok ? 0 : errno;
	if (ok && !tg_model_file_copy(from, fd, MODEL_BYTES_MAX, &f.bytes, f.sha256)) {
		why = errno;
		ok = false;
	}
	ok = ok && (text = write_facts(metadata, id, &f, err));
	if (ok && !tg_model_file_write(jd, tg_slice_cstr(text))) {
		why = errno;
		ok = false;
	}
	if (ok) {
		enum tg_pair_made made = tg_model_pair_make(&ms->folder, id, model, json, ms->s3 != NULL);
		ok = made == TG_PAIR_MADE || (made == TG_PAIR_THERE && is_same(ms, id, &f));
		why = made == TG_PAIR_FAILED ? errno : 0;
		if (!ok && made == TG_PAIR_THERE)
			tg_err_set(err, "there is a model %s already", id);
		model[0] = json[0] = 0;
	}
	if (why)
		tg_err_set(err, "model %s cannot be written: %s", id, strerror(why));
	free(text);
	if (fd >= 0)
		close(fd);
	if (jd >= 0)
		close(jd);
	tg_model_file_drop(&ms->folder, model);
	tg_model_file_drop(&ms->folder, json);
	errno = why;
	return ok;
}

bool tg_model_store_save(struct tg_model_store *ms, const char *id, const char *from, struct tg_slice metadata, char uri[PATH_MAX], struct tg_err *err)
{
	struct tg_err why;
	struct stat st;
	errno = 0;
	if (tg_model_bad_id(id, err))
		return false;
	int fd = open(from, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0 || fstat(fd, &st) || !S_ISREG(st.st_mode)) {
		tg_err_set(err, "the file of model %s cannot be read: %s", id, fd < 0 ? strerror(errno) : "it is no plain file");
		if (fd >= 0)
			close(fd);
		errno = 0;
		return false;
	}
	bool ok = save_pair(ms, id, fd, metadata, err);
	int disk = errno;
	close(fd);
	errno = disk;
	if (!ok)
		return false;
	unlink(from);
	if (ms->s3 && !was_away(ms))
		tg_model_upload(ms, id, &why); /* it was logged, and is tried again */
	if (!tg_model_store_uri(ms, id, uri))
		uri[0] = 0;
	return true;
}

enum tg_model_found tg_model_store_load(struct tg_model_store *ms, const char *id, char path[PATH_MAX], struct tg_buf *metadata, struct tg_err *err)
{
	struct tg_buf text;
	struct facts f;
	if (tg_model_bad_id(id, err))
		return TG_MODEL_NONE;
	tg_buf_init(&text, TG_MODEL_METADATA_MAX + 1);
	enum tg_model_found r = local_facts(ms, id, &text, &f, err);
	if (r == TG_MODEL_FOUND)
		r = verify(ms, id, &f, err);
	if (r == TG_MODEL_NONE && refused_by_name(ms, id, err))
		r = TG_MODEL_REFUSED;
	if (r == TG_MODEL_NONE && ms->s3) {
		text.len = 0;
		r = fetch(ms, id, &text, err);
		if (r == TG_MODEL_FOUND && (r = local_facts(ms, id, &text, &f, err)) == TG_MODEL_FOUND)
			r = verify(ms, id, &f, err); /* what lies there now, whoever was first */
	}
	int n = snprintf(path, PATH_MAX, "%s/%s" TG_MODEL_EXT, ms->folder.path, id);
	if (r == TG_MODEL_FOUND && metadata) {
		tg_buf_slice(metadata, tg_buf_view(&text));
		if (metadata->failed) {
			tg_err_set(err, "out of memory");
			r = TG_MODEL_AWAY;
		}
	}
	tg_buf_free(&text);
	if (r == TG_MODEL_FOUND && (n <= 0 || n >= PATH_MAX)) {
		tg_err_set(err, "the folder's path is too long");
		r = TG_MODEL_AWAY;
	}
	return r;
}

enum tg_model_found tg_model_store_metadata(struct tg_model_store *ms, const char *id, struct tg_buf *metadata, struct tg_err *err)
{
	struct tg_buf text;
	struct facts f;
	if (tg_model_bad_id(id, err))
		return TG_MODEL_NONE;
	tg_buf_init(&text, TG_MODEL_METADATA_MAX + 1);
	enum tg_model_found r = local_facts(ms, id, &text, &f, err);
	if (r == TG_MODEL_FOUND && !tg_model_file_there(&ms->folder, id, TG_MODEL_EXT)) {
		tg_err_set(err, "there is no model %s", id);
		r = TG_MODEL_NONE;
	}
	if (r == TG_MODEL_NONE && ms->s3)
		r = remote_facts(ms, id, &text, &f, err);
	if (r == TG_MODEL_FOUND) {
		tg_buf_slice(metadata, tg_buf_view(&text));
		if (metadata->failed) {
			tg_err_set(err, "out of memory");
			r = TG_MODEL_AWAY;
		}
	}
	tg_buf_free(&text);
	return r;
}

struct merge {
	const struct tg_model_folder *folder;
	const struct tg_buf *here;
	size_t at; /* of the next local one */
	bool (*row)(void *ctx, const char *id);
	void *ctx;
	bool enough;
};

/* Local ones up to `limit` (NULL: all), one of that very name not: it is the bucket's turn. */
static void local_up_to(struct merge *m, const char *limit)
{
	for (; !m->enough && m->at < m->here->len; m->at += TG_MODEL_ID_MAX + 1) {
		const char *id = m->here->p + m->at;
		int order = limit ? strcmp(id, limit) : -1;
		if (order > 0)
			return;
		if (order < 0)
			m->enough = !m->row(m->ctx, id);
	}
}

static bool remote_row(void *ctx, const char *id)
{
	struct merge *m = ctx;
	local_up_to(m, id);
	if (!m->enough && !tg_model_file_there(m->folder, id, ".deleted"))
		m->enough = !m->row(m->ctx, id);
	return !m->enough;
}

enum tg_model_found tg_model_store_list(struct tg_model_store *ms, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err)
{
	struct tg_buf ids;
	tg_buf_init(&ids, 8u << 20);
	if (!tg_model_folder_ids(&ms->folder, ".json", &ids)) {
		tg_err_set(err, "the folder of models cannot be read: %s", strerror(errno));
		tg_buf_free(&ids);
		return TG_MODEL_AWAY;
	}
	size_t whole = 0;
	for (size_t i = 0; i < ids.len; i += TG_MODEL_ID_MAX + 1) {
		if (!tg_model_file_there(&ms->folder, ids.p + i, TG_MODEL_EXT) || tg_model_file_there(&ms->folder, ids.p + i, ".deleted"))
			continue;
		memmove(ids.p + whole, ids.p + i, TG_MODEL_ID_MAX + 1);
		whole += TG_MODEL_ID_MAX + 1;
	}
	ids.len = whole;
	struct merge m = { .folder = &ms->folder, .here = &ids, .row = row, .ctx = ctx };
	enum tg_model_found r = TG_MODEL_FOUND;
	if (ms->s3) {
		uint64_t begun_ms = tg_mono_us() / 1000;
		enum tg_s3_result got = TG_S3_AWAY;
		if (!is_silent(ms, err)) {
			got = tg_model_s3_list(ms->s3, ms->prefix, TG_MODEL_ASK_MS, remote_row, &m, err);
			note_silence(ms, got, begun_ms);
		}
		r = got == TG_S3_OK ? TG_MODEL_FOUND : TG_MODEL_AWAY;
	}
	if (r == TG_MODEL_FOUND)
		local_up_to(&m, NULL);
	tg_buf_free(&ids);
	return r;
}

enum tg_model_found tg_model_store_persist(struct tg_model_store *ms, const char *id, char uri[PATH_MAX], struct tg_err *err)
{
	char key[TG_S3_KEY_MAX + 1];
	struct tg_buf text;
	struct facts f;
	if (tg_model_bad_id(id, err))
		return TG_MODEL_NONE;
	tg_buf_init(&text, TG_MODEL_METADATA_MAX + 1);
	enum tg_model_found r = local_facts(ms, id, &text, &f, err);
	if (r == TG_MODEL_FOUND)
		r = verify(ms, id, &f, err); /* what was changed is not uploaded */
	bool here = r == TG_MODEL_FOUND;
	if (ms->s3 && r == TG_MODEL_NONE) {
		text.len = 0;
		r = remote_facts(ms, id, &text, &f, err);
	}
	tg_buf_free(&text);
	if (ms->s3 && here) {
		enum tg_s3_result got = TG_S3_NONE;
		if (!tg_model_file_there(&ms->folder, id, ".upload") && tg_model_key(ms, id, ".json", key)) {
			struct tg_s3_request q = tg_s3_request("HEAD", key);
			got = ask(ms, &q, TG_MODEL_ASK_MS, err);
		}
		if (got == TG_S3_NONE)
			got = tg_model_upload(ms, id, err);
		r = got == TG_S3_OK ? TG_MODEL_FOUND : TG_MODEL_AWAY;
	}
	if (r == TG_MODEL_FOUND && !tg_model_store_uri(ms, id, uri)) {
		tg_err_set(err, "the folder's path is too long");
		r = TG_MODEL_AWAY;
	}
	return r;
}
