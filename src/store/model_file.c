/*
 * The folder of models (see model_file.h). A pair is whole from the rename of its .json on; until then nobody sees it. Order of a save: both temporary files are synced, <id>.tgm
 * gets its name, <id>.json gets its name, the folder is synced. Of a removal: the .json first. So whatever is cut short is half a pair, which is no pair.
 */
#include "store/model_file.h"
#include "store/model_store.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/file.h>
#include <sys/random.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#define TEMP ".tmp-"
#define LOCK_TRIES 1000 /* of 10 ms */
#define LEFT_S 60
#define IDS_MAX 100000u

static bool make_folder(const char *path)
{
	char t[PATH_MAX];
	size_t n = strlen(path);
	if (!n || n >= sizeof t) {
		errno = n ? ENAMETOOLONG : ENOENT;
		return false;
	}
	memcpy(t, path, n + 1);
	for (char *p = t + 1; *p; p++)
		if (*p == '/') {
			*p = 0;
			mkdir(t, 0750);
			*p = '/';
		}
	return mkdir(t, 0750) == 0 || errno == EEXIST;
}

bool tg_model_folder_open(struct tg_model_folder *f, const char *path, struct tg_err *err)
{
	f->fd = make_folder(path) ? open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;
	if (f->fd < 0) {
		tg_err_set(err, "[artifacts] url: cannot use the folder %.300s: %s", path, strerror(errno));
		return false;
	}
	snprintf(f->path, sizeof f->path, "%s", path);
	for (size_t n = strlen(f->path); n > 1 && f->path[n - 1] == '/'; n--)
		f->path[n - 1] = 0;
	return true;
}

void tg_model_folder_close(struct tg_model_folder *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static int open_beneath(const struct tg_model_folder *f, const char *name, int flags, mode_t mode)
{
	struct open_how how = { .flags = (uint64_t)(unsigned)(flags | O_CLOEXEC), .mode = flags & O_CREAT ? mode : 0, .resolve = RESOLVE_BENEATH | RESOLVE_NO_SYMLINKS | RESOLVE_NO_MAGICLINKS };
	long fd = syscall(SYS_openat2, f->fd, name, &how, sizeof how);
	if (fd >= 0 || (errno != ENOSYS && errno != EPERM && errno != EINVAL))
		return (int)fd;
	if (strchr(name, '/')) {
		errno = EXDEV;
		return -1;
	}
	return openat(f->fd, name, flags | O_CLOEXEC | O_NOFOLLOW, mode);
}

static bool name_of(const char *id, const char *ext, char name[TG_MODEL_NAME_MAX])
{
	int n = snprintf(name, TG_MODEL_NAME_MAX, "%s%s", id, ext);
	return n > 0 && n < TG_MODEL_NAME_MAX;
}

int tg_model_file_open(const struct tg_model_folder *f, const char *id, const char *ext, struct stat *st)
{
	char name[TG_MODEL_NAME_MAX];
	if (!name_of(id, ext, name)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	int fd = open_beneath(f, name, O_RDONLY | O_NONBLOCK | O_NOCTTY, 0);
	if (fd < 0)
		return -1;
	if (fstat(fd, st) == 0 && S_ISREG(st->st_mode))
		return fd;
	close(fd);
	errno = EINVAL;
	return -1;
}

bool tg_model_file_there(const struct tg_model_folder *f, const char *id, const char *ext)
{
	char name[TG_MODEL_NAME_MAX];
	struct stat st;
	return name_of(id, ext, name) && fstatat(f->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode);
}

bool tg_model_file_read(const struct tg_model_folder *f, const char *id, const char *ext, struct tg_buf *b)
{
	struct stat st;
	int fd = tg_model_file_open(f, id, ext, &st);
	if (fd < 0)
		return false;
	int why = st.st_size < 0 || (uint64_t)st.st_size > b->max - b->len ? EFBIG : 0;
	for (;;) { /* to its end, whatever its size was */
		if (why || !tg_buf_reserve(b, 1)) {
			why = why ? why : EFBIG;
			break;
		}
		ssize_t k = read(fd, b->p + b->len, b->cap - b->len);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			why = errno;
		if (k <= 0)
			break;
		b->len += (size_t)k;
		if (b->len == b->max)
			break;
	}
	close(fd);
	errno = why;
	return !why;
}

int tg_model_file_temp(const struct tg_model_folder *f, char name[TG_MODEL_NAME_MAX])
{
	uint64_t r[2];
	for (unsigned i = 0; i < 4; i++) {
		if (getrandom(r, sizeof r, 0) != sizeof r)
			return -1;
		snprintf(name, TG_MODEL_NAME_MAX, TEMP "%016llx%016llx", (unsigned long long)r[0], (unsigned long long)r[1]);
		int fd = open_beneath(f, name, O_RDWR | O_CREAT | O_EXCL, 0640);
		if (fd >= 0 || errno != EEXIST)
			return fd;
	}
	return -1;
}

void tg_model_file_drop(const struct tg_model_folder *f, const char *name)
{
	if (name[0])
		unlinkat(f->fd, name, 0);
}

bool tg_model_file_write(int fd, struct tg_slice text)
{
	while (text.n) {
		ssize_t w = write(fd, text.p, text.n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0) {
			errno = w ? errno : ENOSPC;
			return false;
		}
		text = (struct tg_slice){ text.p + w, text.n - (size_t)w };
	}
	return fsync(fd) == 0;
}

/* to -1: only the digest. */
static bool pump(int from, int to, uint64_t most, uint64_t *bytes, char sha256[65])
{
	static const char hex[] = "0123456789abcdef";
	char block[65536];
	uint8_t d[32];
	EVP_MD_CTX *m = EVP_MD_CTX_new();
	bool ok = m && EVP_DigestInit_ex(m, EVP_sha256(), NULL) == 1;
	int why = ok ? 0 : ENOMEM;
	*bytes = 0;
	while (!why) {
		ssize_t k = read(from, block, sizeof block);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			why = errno;
		if (k <= 0)
			break;
		*bytes += (uint64_t)k;
		if (*bytes > most)
			why = EFBIG;
		else if (EVP_DigestUpdate(m, block, (size_t)k) != 1)
			why = ENOMEM;
		for (ssize_t done = 0; !why && to >= 0 && done < k;) {
			ssize_t w = write(to, block + done, (size_t)(k - done));
			if (w < 0 && errno == EINTR)
				continue;
			if (w <= 0)
				why = w ? errno : ENOSPC;
			else
				done += w;
		}
	}
	if (!why && EVP_DigestFinal_ex(m, d, NULL) != 1)
		why = ENOMEM;
	EVP_MD_CTX_free(m);
	for (unsigned i = 0; !why && i < 32; i++) {
		sha256[2 * i] = hex[d[i] >> 4];
		sha256[2 * i + 1] = hex[d[i] & 15];
	}
	sha256[64] = 0;
	errno = why;
	return !why;
}

bool tg_model_file_copy(int from, int to, uint64_t most, uint64_t *bytes, char sha256[65])
{
	return pump(from, to, most, bytes, sha256) && fsync(to) == 0;
}

bool tg_model_file_digest(int fd, char sha256[65])
{
	uint64_t bytes;
	return lseek(fd, 0, SEEK_SET) == 0 && pump(fd, -1, UINT64_MAX, &bytes, sha256);
}

/* ---- pairs ---- */

/* One change of pairs at a time, of all who share the folder. -1: errno; given back by close. */
static int take_lock(const struct tg_model_folder *f)
{
	int fd = open_beneath(f, ".lock", O_RDWR | O_CREAT, 0640);
	for (unsigned i = 0; fd >= 0; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return fd;
		if ((errno != EWOULDBLOCK && errno != EINTR) || i == LOCK_TRIES) {
			int why = errno;
			close(fd);
			errno = why;
			return -1;
		}
		nanosleep(&(struct timespec){ .tv_nsec = 10000000 }, NULL);
	}
	return -1;
}

static bool sync_folder(const struct tg_model_folder *f)
{
	return fsync(f->fd) == 0 || errno == EINVAL; /* some file systems know no such thing, and are durable without */
}

static bool make_mark(const struct tg_model_folder *f, const char *name)
{
	int fd = open_beneath(f, name, O_WRONLY | O_CREAT, 0640);
	bool ok = fd >= 0 && fsync(fd) == 0;
	if (fd >= 0)
		close(fd);
	return ok;
}

enum tg_pair_made tg_model_pair_make(const struct tg_model_folder *f, const char *id, const char *temp_model, const char *temp_json, bool mark)
{
	char model[TG_MODEL_NAME_MAX], json[TG_MODEL_NAME_MAX], upload[TG_MODEL_NAME_MAX];
	struct stat st;
	bool named = name_of(id, TG_MODEL_EXT, model) && name_of(id, ".json", json) && name_of(id, ".upload", upload), moved = false, there = false;
	int lock = named ? take_lock(f) : -1;
	bool ok = lock >= 0;
	if (ok)
		there = fstatat(f->fd, json, &st, AT_SYMLINK_NOFOLLOW) == 0 && fstatat(f->fd, model, &st, AT_SYMLINK_NOFOLLOW) == 0;
	if (ok && !there) {
		ok = (!mark || make_mark(f, upload)) && (unlinkat(f->fd, json, 0) == 0 || errno == ENOENT); /* the .json of half a pair */
		moved = ok && renameat(f->fd, temp_model, f->fd, model) == 0;
		ok = moved && renameat(f->fd, temp_json, f->fd, json) == 0 && sync_folder(f);
	}
	int why = errno;
	if (!ok && moved) {
		unlinkat(f->fd, json, 0);
		unlinkat(f->fd, model, 0);
	}
	if (!ok && mark && !there && lock >= 0)
		unlinkat(f->fd, upload, 0);
	if (lock >= 0)
		close(lock);
	tg_model_file_drop(f, temp_model);
	tg_model_file_drop(f, temp_json);
	errno = why;
	return there ? TG_PAIR_THERE : ok ? TG_PAIR_MADE : TG_PAIR_FAILED;
}

bool tg_model_mark(const struct tg_model_folder *f, const char *id, const char *ext)
{
	char name[TG_MODEL_NAME_MAX];
	return name_of(id, ext, name) && make_mark(f, name) && sync_folder(f);
}

bool tg_model_unmark(const struct tg_model_folder *f, const char *id, const char *ext)
{
	char name[TG_MODEL_NAME_MAX];
	return name_of(id, ext, name) && (unlinkat(f->fd, name, 0) == 0 || errno == ENOENT);
}

bool tg_model_pair_remove(const struct tg_model_folder *f, const char *id, bool *found)
{
	static const char *const exts[] = { ".json", TG_MODEL_EXT, ".upload", ".leaving" };
	char name[TG_MODEL_NAME_MAX];
	*found = tg_model_file_there(f, id, ".json") && tg_model_file_there(f, id, TG_MODEL_EXT);
	int lock = take_lock(f);
	bool ok = lock >= 0;
	for (unsigned i = 0; ok && i < sizeof exts / sizeof *exts; i++)
		ok = name_of(id, exts[i], name) && (unlinkat(f->fd, name, 0) == 0 || errno == ENOENT);
	ok = ok && sync_folder(f);
	int why = errno;
	if (lock >= 0)
		close(lock);
	errno = why;
	return ok;
}

/* ---- what is there ---- */

static DIR *list_folder(const struct tg_model_folder *f)
{
	int fd = openat(f->fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	DIR *d = fd >= 0 ? fdopendir(fd) : NULL;
	if (!d && fd >= 0)
		close(fd);
	return d;
}

/* The id of a name with that extension; empty: another name. */
static struct tg_slice id_of(const char *name, const char *ext)
{
	size_t n = strlen(name), e = strlen(ext);
	struct tg_slice id = { name, n > e ? n - e : 0 };
	return id.n && memcmp(name + id.n, ext, e) == 0 && tg_model_id_ok(id) ? id : (struct tg_slice){ 0 };
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

bool tg_model_folder_ids(const struct tg_model_folder *f, const char *ext, struct tg_buf *ids)
{
	char row[TG_MODEL_ID_MAX + 1];
	DIR *d = list_folder(f);
	if (!d)
		return false;
	errno = 0;
	for (struct dirent *e; (e = readdir(d)) && !ids->failed;) {
		struct tg_slice id = id_of(e->d_name, ext);
		if (!id.n)
			continue;
		memset(row, 0, sizeof row);
		memcpy(row, id.p, id.n);
		if (!tg_model_file_there(f, row, ext))
			continue;
		if (ids->len / sizeof row >= IDS_MAX)
			ids->failed = true;
		tg_buf_put(ids, row, sizeof row);
	}
	int why = ids->failed ? EOVERFLOW : 0;
	closedir(d);
	if (ids->len)
		qsort(ids->p, ids->len / sizeof row, sizeof row, by_text);
	errno = why;
	return !why;
}

static bool is_left(const struct tg_model_folder *f, const char *name)
{
	struct stat st;
	return fstatat(f->fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0 && S_ISREG(st.st_mode) && st.st_mtim.tv_sec < time(NULL) - LEFT_S;
}

static void sweep_one(const struct tg_model_folder *f, const char *name)
{
	static const char *const exts[] = { ".json", TG_MODEL_EXT, ".upload" };
	char id[TG_MODEL_ID_MAX + 1];
	bool left = strncmp(name, TEMP, sizeof TEMP - 1) == 0;
	for (unsigned i = 0; !left && i < 3; i++) {
		struct tg_slice s = id_of(name, exts[i]);
		if (!s.n)
			continue;
		snprintf(id, sizeof id, "%.*s", (int)s.n, s.p);
		left = !tg_model_file_there(f, id, ".json") || !tg_model_file_there(f, id, TG_MODEL_EXT);
	}
	if (left && is_left(f, name))
		unlinkat(f->fd, name, 0);
}

void tg_model_folder_sweep(const struct tg_model_folder *f)
{
	int lock = take_lock(f);
	DIR *d = lock >= 0 ? list_folder(f) : NULL;
	for (struct dirent *e; d && (e = readdir(d));)
		sweep_one(f, e->d_name);
	if (d)
		closedir(d);
	if (lock >= 0)
		close(lock);
}
