/*
 * Models in memory (see loaded.h). A digest stands for one content for good, so what is in memory is never out of date, whatever becomes of the file. Before a file is loaded its digest is
 * computed; the loader opens it again by name, so that afterwards it is looked whether it is still that file.
 *
 * One lock over the table; nothing slow is done under it. Who wants a model that is being loaded waits for that load.
 */
#include "engine/loaded.h"
#include "engine/folder.h"
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>

struct tg_loaded {
	char sha256[TG_SHA256_TEXT]; /* "": a free place */
	struct tg_trained *model;    /* NULL: being loaded */
	uint64_t bytes, used;
	unsigned users;
	bool kept;                   /* in the table; else it goes with its one user */
	pthread_mutex_t predicting;
};
struct tg_loaded_models {
	int folder;
	pthread_mutex_t lock;
	pthread_cond_t loaded;
	uint64_t clock, bytes;
	struct tg_loaded of[TG_LOADED_MAX];
};

struct tg_loaded_models *tg_loaded_new(int folder)
{
	struct tg_loaded_models *all = calloc(1, sizeof *all);
	if (!all)
		return NULL;
	all->folder = folder;
	pthread_mutex_init(&all->lock, NULL);
	pthread_cond_init(&all->loaded, NULL);
	for (unsigned i = 0; i < TG_LOADED_MAX; i++) {
		pthread_mutex_init(&all->of[i].predicting, NULL);
		all->of[i].kept = true;
	}
	return all;
}

void tg_loaded_free(struct tg_loaded_models *all)
{
	for (unsigned i = 0; all && i < TG_LOADED_MAX; i++) {
		tg_trained_free(all->of[i].model);
		pthread_mutex_destroy(&all->of[i].predicting);
	}
	if (!all)
		return;
	pthread_cond_destroy(&all->loaded);
	pthread_mutex_destroy(&all->lock);
	free(all);
}

/* Under the lock. The one used longest ago that nobody uses; NULL: all are in use. */
static struct tg_loaded *oldest(struct tg_loaded_models *all, bool or_free)
{
	struct tg_loaded *best = NULL;
	for (struct tg_loaded *m = all->of; m < all->of + TG_LOADED_MAX; m++) {
		if (!m->sha256[0] && or_free)
			return m;
		if (m->sha256[0] && !m->users && (!best || m->used < best->used))
			best = m;
	}
	return best;
}

/* Under the lock. */
static void empty(struct tg_loaded_models *all, struct tg_loaded *m)
{
	tg_trained_free(m->model);
	all->bytes -= m->bytes;
	m->model = NULL;
	m->bytes = 0;
	m->sha256[0] = 0;
}

static void shrink(struct tg_loaded_models *all)
{
	for (struct tg_loaded *m; all->bytes > TG_LOADED_BYTES && (m = oldest(all, false));)
		empty(all, m);
}

static bool same_file(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec && a->st_mtim.tv_nsec == b->st_mtim.tv_nsec &&
	       a->st_ctim.tv_sec == b->st_ctim.tv_sec && a->st_ctim.tv_nsec == b->st_ctim.tv_nsec;
}

static struct tg_trained *load(int folder, const char *name, const char *sha256, uint64_t *bytes, struct tg_err *err)
{
	struct stat before, after;
	char hex[TG_SHA256_TEXT] = "";
	int fd = tg_open_beneath(folder, name, &before);
	if (fd < 0) {
		tg_err_set(err, errno == ENOENT ? "The model's file is not there." : "The model's file cannot be opened.");
		return NULL;
	}
	bool read = tg_sha256_fd(fd, hex);
	close(fd);
	if (!read || strcmp(hex, sha256) != 0) {
		tg_err_set(err, read ? "The model's file is not the one that was stored: its digest is another." : "The model's file cannot be read.");
		return NULL;
	}
	struct tg_trained *m = tg_trained_load(folder, name, err);
	fd = m ? tg_open_beneath(folder, name, &after) : -1;
	bool same = fd >= 0 && same_file(&before, &after);
	if (fd >= 0)
		close(fd);
	if (m && !same) {
		tg_trained_free(m);
		m = NULL;
		tg_err_set(err, "The model's file was changed while it was read.");
	}
	*bytes = (uint64_t)before.st_size;
	return m;
}

/* All places are in use: this one belongs to its caller alone. */
static struct tg_loaded *load_aside(struct tg_loaded_models *all, const char *name, const char *sha256, struct tg_err *err)
{
	struct tg_loaded *m = calloc(1, sizeof *m);
	tg_err_set(err, "out of memory");
	if (!m || !(m->model = load(all->folder, name, sha256, &m->bytes, err))) {
		free(m);
		return NULL;
	}
	pthread_mutex_init(&m->predicting, NULL);
	return m;
}

static struct tg_loaded *find(struct tg_loaded_models *all, const char *sha256)
{
	for (struct tg_loaded *m = all->of; m < all->of + TG_LOADED_MAX; m++)
		if (strcmp(m->sha256, sha256) == 0)
			return m;
	return NULL;
}

struct tg_loaded *tg_loaded_get(struct tg_loaded_models *all, const char *name, const char *sha256, bool *fresh, struct tg_err *err)
{
	*fresh = false;
	pthread_mutex_lock(&all->lock);
	struct tg_loaded *m;
	while ((m = find(all, sha256)) && !m->model)
		pthread_cond_wait(&all->loaded, &all->lock); /* found, it may yet fail: then this caller tries itself */
	if (m) {
		m->users++;
		m->used = ++all->clock;
		pthread_mutex_unlock(&all->lock);
		return m;
	}
	*fresh = true;
	m = oldest(all, true);
	if (!m) {
		pthread_mutex_unlock(&all->lock);
		return load_aside(all, name, sha256, err);
	}
	empty(all, m);
	snprintf(m->sha256, sizeof m->sha256, "%s", sha256);
	m->users = 1;
	m->used = ++all->clock;
	pthread_mutex_unlock(&all->lock);
	uint64_t bytes = 0;
	struct tg_trained *model = load(all->folder, name, sha256, &bytes, err);
	pthread_mutex_lock(&all->lock);
	m->model = model;
	if (model) {
		m->bytes = bytes;
		all->bytes += bytes;
		shrink(all);
	} else {
		m->users = 0;
		m->sha256[0] = 0;
		m = NULL;
	}
	pthread_cond_broadcast(&all->loaded);
	pthread_mutex_unlock(&all->lock);
	return m;
}

void tg_loaded_put(struct tg_loaded_models *all, struct tg_loaded *m)
{
	if (!m->kept) {
		tg_trained_free(m->model);
		pthread_mutex_destroy(&m->predicting);
		free(m);
		return;
	}
	pthread_mutex_lock(&all->lock);
	m->users--;
	shrink(all);
	pthread_mutex_unlock(&all->lock);
}

const struct tg_trained *tg_loaded_model(const struct tg_loaded *m)
{
	return m->model;
}

bool tg_loaded_predict(struct tg_loaded *m, const struct tg_frame *f, double *out, struct tg_err *err)
{
	pthread_mutex_lock(&m->predicting);
	bool ok = tg_predict(m->model, f, out, err);
	pthread_mutex_unlock(&m->predicting);
	return ok;
}
