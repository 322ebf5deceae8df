/*
 * Users are looked up by id on every request that brings a token and by name at logins: two sorted arrays of pointers to counted users, so that a change of one user copies pointers and nothing else.
 * Ended tokens are a sorted array of ids with the second from which on nobody needs to remember them.
 */
#include "policy/people.h"
#include "policy/token.h"
#include <openssl/crypto.h>
#include <stdatomic.h>
#include <stdlib.h>

struct person {
	struct tg_user u; /* first: the arrays hand these out */
	_Atomic unsigned refs;
};

struct tg_people {
	_Atomic unsigned refs;
	struct person **by_id, **by_name;
	size_t n, cap;
	uint32_t perms;
};

struct token {
	char jti[TG_TOKEN_JTI_MAX + 1]; /* first: compared as a string */
	int64_t expires_s;
};

struct tg_ended {
	_Atomic unsigned refs;
	struct token *v;
	size_t n, cap;
};

static bool room(void **v, size_t *cap, size_t n, size_t size)
{
	if (n < *cap)
		return true;
	size_t k = *cap ? *cap * 2 : 16;
	void *p = realloc(*v, k * size);
	if (!p)
		return false;
	*v = p;
	*cap = k;
	return true;
}

static void person_put(struct person *p)
{
	if (atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	OPENSSL_cleanse(p->u.password, strlen(p->u.password));
	free(p->u.password);
	free(p);
}

struct tg_people *tg_people_new(void)
{
	struct tg_people *p = calloc(1, sizeof *p);
	if (p)
		atomic_init(&p->refs, 1);
	return p;
}

struct tg_people *tg_people_copy(const struct tg_people *p)
{
	struct tg_people *made = tg_people_new();
	size_t cap = p->n + 16;
	if (!made || !(made->by_id = malloc(cap * sizeof *made->by_id))) {
		free(made);
		return NULL;
	}
	made->cap = cap;
	for (; made->n < p->n; made->n++) {
		made->by_id[made->n] = p->by_id[made->n];
		atomic_fetch_add(&made->by_id[made->n]->refs, 1);
	}
	return made;
}

struct tg_people *tg_people_get(struct tg_people *p)
{
	atomic_fetch_add(&p->refs, 1);
	return p;
}

void tg_people_put(struct tg_people *p)
{
	if (!p || atomic_fetch_sub(&p->refs, 1) != 1)
		return;
	for (size_t i = 0; i < p->n; i++)
		person_put(p->by_id[i]);
	free(p->by_id);
	free(p->by_name);
	free(p);
}

bool tg_people_add(struct tg_people *p, const struct tg_user *u, const char *password)
{
	struct person *made = malloc(sizeof *made);
	char *copy = strdup(password);
	if (!made || !copy || !room((void **)&p->by_id, &p->cap, p->n, sizeof *p->by_id)) {
		free(made);
		free(copy);
		return false;
	}
	made->u = *u;
	made->u.password = copy;
	atomic_init(&made->refs, 1);
	p->by_id[p->n++] = made;
	return true;
}

void tg_people_drop(struct tg_people *p, const char *id)
{
	for (size_t i = 0; i < p->n; i++)
		if (strcmp(p->by_id[i]->u.who.id, id) == 0) {
			person_put(p->by_id[i]);
			memmove(p->by_id + i, p->by_id + i + 1, (--p->n - i) * sizeof *p->by_id);
			return;
		}
}

static int ids(const void *a, const void *b)
{
	return strcmp((*(struct person *const *)a)->u.who.id, (*(struct person *const *)b)->u.who.id);
}

static int names(const void *a, const void *b)
{
	return strcmp((*(struct person *const *)a)->u.name, (*(struct person *const *)b)->u.name);
}

bool tg_people_seal(struct tg_people *p)
{
	free(p->by_name);
	p->by_name = malloc((p->n ? p->n : 1) * sizeof *p->by_name);
	if (!p->by_name)
		return false;
	p->perms = 0;
	if (p->n) {
		qsort(p->by_id, p->n, sizeof *p->by_id, ids);
		memcpy(p->by_name, p->by_id, p->n * sizeof *p->by_id);
		qsort(p->by_name, p->n, sizeof *p->by_name, names);
	}
	for (size_t i = 0; i < p->n; i++) {
		if (i && (ids(&p->by_id[i - 1], &p->by_id[i]) == 0 || names(&p->by_name[i - 1], &p->by_name[i]) == 0))
			return false;
		if (!p->by_id[i]->u.disabled)
			p->perms |= p->by_id[i]->u.who.perms;
	}
	return true;
}

const struct tg_user *tg_people_by_id(const struct tg_people *p, struct tg_slice id)
{
	struct person key, *at = &key;
	if (!p->n || !id.n || id.n >= sizeof key.u.who.id)
		return NULL;
	memcpy(key.u.who.id, id.p, id.n);
	key.u.who.id[id.n] = 0;
	struct person **found = bsearch(&at, p->by_id, p->n, sizeof *p->by_id, ids);
	return found ? &(*found)->u : NULL;
}

const struct tg_user *tg_people_by_name(const struct tg_people *p, struct tg_slice name)
{
	struct person key, *at = &key;
	if (!p->n || !name.n || name.n > TG_USER_NAME_MAX || memchr(name.p, 0, name.n))
		return NULL;
	memcpy(key.u.name, name.p, name.n);
	key.u.name[name.n] = 0;
	struct person **found = bsearch(&at, p->by_name, p->n, sizeof *p->by_name, names);
	return found ? &(*found)->u : NULL;
}

size_t tg_people_count(const struct tg_people *p)
{
	return p->n;
}

const struct tg_user *tg_people_at(const struct tg_people *p, size_t i)
{
	return &p->by_id[i]->u;
}

uint32_t tg_people_union(const struct tg_people *p)
{
	return p->perms;
}

struct tg_ended *tg_ended_new(void)
{
	struct tg_ended *e = calloc(1, sizeof *e);
	if (e)
		atomic_init(&e->refs, 1);
	return e;
}

struct tg_ended *tg_ended_copy(const struct tg_ended *e, int64_t now)
{
	struct tg_ended *made = tg_ended_new();
	size_t cap = e->n + 16;
	if (!made || !(made->v = malloc(cap * sizeof *made->v))) {
		free(made);
		return NULL;
	}
	made->cap = cap;
	for (size_t i = 0; i < e->n; i++)
		if (e->v[i].expires_s > now - TG_ENDED_KEPT_S)
			made->v[made->n++] = e->v[i];
	return made;
}

struct tg_ended *tg_ended_get(struct tg_ended *e)
{
	atomic_fetch_add(&e->refs, 1);
	return e;
}

void tg_ended_put(struct tg_ended *e)
{
	if (!e || atomic_fetch_sub(&e->refs, 1) != 1)
		return;
	free(e->v);
	free(e);
}

bool tg_ended_add(struct tg_ended *e, const char *jti, int64_t expires_s)
{
	size_t n = strlen(jti);
	if (n > TG_TOKEN_JTI_MAX)
		return true;
	if (!room((void **)&e->v, &e->cap, e->n, sizeof *e->v))
		return false;
	memcpy(e->v[e->n].jti, jti, n + 1);
	e->v[e->n++].expires_s = expires_s;
	return true;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

void tg_ended_seal(struct tg_ended *e)
{
	if (e->n)
		qsort(e->v, e->n, sizeof *e->v, by_text);
}

bool tg_ended_has(const struct tg_ended *e, struct tg_slice jti)
{
	char key[TG_TOKEN_JTI_MAX + 1];
	if (!e->n || jti.n > TG_TOKEN_JTI_MAX)
		return false;
	memcpy(key, jti.p, jti.n);
	key[jti.n] = 0;
	return bsearch(key, e->v, e->n, sizeof *e->v, by_text) != NULL;
}

const char *tg_ended_at(const struct tg_ended *e, size_t i, int64_t *expires_s)
{
	if (i >= e->n)
		return NULL;
	*expires_s = e->v[i].expires_s;
	return e->v[i].jti;
}
