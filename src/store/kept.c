/*
 * Answers that hold until somebody commits (see kept.h). All of them are of one mark: a commit makes all of them worthless, so the first that is put after it throws the others away.
 */
#include "store/kept.h"
#include <stdlib.h>
#include <uv.h>

struct kept {
	struct tg_kept_key key; /* what NULL: a free place */
	bool found;
	char *text; /* owned */
	size_t n;
};
struct tg_kept {
	uv_mutex_t lock;
	struct tg_db_mark mark;
	unsigned next; /* the place that is given up where all are taken */
	struct kept v[TG_KEPT_MOST];
};

struct tg_kept *tg_kept_new(void)
{
	struct tg_kept *k = calloc(1, sizeof *k);
	if (k && uv_mutex_init(&k->lock)) {
		free(k);
		return NULL;
	}
	return k;
}

static void drop(struct kept *v)
{
	free(v->text);
	*v = (struct kept){ 0 };
}

void tg_kept_free(struct tg_kept *k)
{
	if (!k)
		return;
	for (unsigned i = 0; i < TG_KEPT_MOST; i++)
		drop(&k->v[i]);
	uv_mutex_destroy(&k->lock);
	free(k);
}

static bool same_mark(const struct tg_db_mark *a, const struct tg_db_mark *b)
{
	return a->opened == b->opened && memcmp(a->header, b->header, sizeof a->header) == 0;
}

static struct kept *find(struct tg_kept *k, const struct tg_kept_key *key)
{
	for (struct kept *v = k->v; v < k->v + TG_KEPT_MOST; v++)
		if (v->key.what == key->what && v->key.page == key->page && v->key.size == key->size && strcmp(v->key.id, key->id) == 0)
			return v;
	return NULL;
}

bool tg_kept_get(struct tg_kept *k, struct tg_store *s, const struct tg_kept_key *key, bool *found, struct tg_buf *answer)
{
	struct tg_db_mark now;
	if (!tg_store_mark(s, &now))
		return false;
	uv_mutex_lock(&k->lock);
	const struct kept *v = same_mark(&now, &k->mark) ? find(k, key) : NULL;
	if (v) {
		*found = v->found;
		tg_buf_put(answer, v->text, v->n);
	}
	uv_mutex_unlock(&k->lock);
	return v != NULL;
}

void tg_kept_put(struct tg_kept *k, const struct tg_db_mark *mark, const struct tg_kept_key *key, bool found, struct tg_slice answer)
{
	char *text = answer.n <= TG_KEPT_BYTES ? tg_slice_dup(answer) : NULL;
	if (!text)
		return;
	uv_mutex_lock(&k->lock);
	if (!same_mark(mark, &k->mark)) {
		for (unsigned i = 0; i < TG_KEPT_MOST; i++)
			drop(&k->v[i]);
		k->mark = *mark;
		k->next = 0;
	}
	if (find(k, key)) { /* two asked at once */
		free(text);
	} else {
		struct kept *v = &k->v[k->next];
		drop(v);
		*v = (struct kept){ *key, found, text, answer.n };
		k->next = (k->next + 1) % TG_KEPT_MOST;
	}
	uv_mutex_unlock(&k->lock);
}
