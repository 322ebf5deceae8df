/*
 * The database's people and keys as requests see them. Keys are a key set of their own (policy/key.c: constant-time look-up by digest). Users are few and looked up by
 * id on every request that brings a token, so they are an array sorted by id, and once more by name for logins; ended tokens are a sorted array of ids.
 */
#include "policy/identity.h"
#include <openssl/crypto.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { JTI_MAX = 40 };

struct tg_identity {
	_Atomic unsigned refs;
	struct tg_keyset *keys;
	struct tg_user *users;       /* by id */
	const struct tg_user **named; /* by name */
	size_t nusers, users_cap;
	char (*revoked)[JTI_MAX + 1];
	size_t nrevoked, revoked_cap;
	bool nameless;
	uint32_t perms;              /* of users who are not disabled */
};

uint64_t tg_stored_account(const char *id)
{
	unsigned char h[crypto_generichash_BYTES_MIN];
	uint64_t v;
	crypto_generichash(h, sizeof h, (const unsigned char *)id, strlen(id), NULL, 0);
	memcpy(&v, h, sizeof v);
	return v;
}

void tg_user_name(struct tg_slice name, char out[TG_USER_NAME_MAX + 1])
{
	size_t n = 0;
	for (; n < name.n && n < TG_USER_NAME_MAX; n++)
		out[n] = (char)(name.p[n] >= 'A' && name.p[n] <= 'Z' ? name.p[n] | 0x20 : name.p[n]);
	out[n] = 0;
}

bool tg_identity_named(const struct tg_identity *d)
{
	return d && !d->nameless;
}

void tg_identity_nameless(struct tg_identity *d)
{
	d->nameless = true;
}

struct tg_identity *tg_identity_new(void)
{
	struct tg_identity *d = calloc(1, sizeof *d);
	if (!d || !(d->keys = tg_keyset_new())) {
		free(d);
		return NULL;
	}
	atomic_init(&d->refs, 1);
	return d;
}

bool tg_identity_add_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who)
{
	return tg_keyset_put(d->keys, digest, who);
}

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

bool tg_identity_add_user(struct tg_identity *d, const struct tg_user *u, const char *password)
{
	char *copy = strdup(password);
	if (!copy || !room((void **)&d->users, &d->users_cap, d->nusers, sizeof *d->users)) {
		free(copy);
		return false;
	}
	d->users[d->nusers] = *u;
	d->users[d->nusers++].password = copy;
	if (!u->disabled)
		d->perms |= u->who.perms;
	return true;
}

bool tg_identity_add_revoked(struct tg_identity *d, const char *jti)
{
	size_t n = strlen(jti);
	if (n > JTI_MAX)
		return true; /* no token of ours has such an id */
	if (!room((void **)&d->revoked, &d->revoked_cap, d->nrevoked, sizeof *d->revoked))
		return false;
	memcpy(d->revoked[d->nrevoked++], jti, n + 1);
	return true;
}

static int by_id(const void *a, const void *b)
{
	return strcmp(((const struct tg_user *)a)->who.id, ((const struct tg_user *)b)->who.id);
}

static int by_name(const void *a, const void *b)
{
	return strcmp((*(const struct tg_user *const *)a)->name, (*(const struct tg_user *const *)b)->name);
}

static int by_text(const void *a, const void *b)
{
	return strcmp(a, b);
}

bool tg_identity_seal(struct tg_identity *d)
{
	d->named = malloc((d->nusers ? d->nusers : 1) * sizeof *d->named);
	if (!d->named)
		return false;
	if (d->nusers)
		qsort(d->users, d->nusers, sizeof *d->users, by_id);
	for (size_t i = 0; i < d->nusers; i++)
		d->named[i] = &d->users[i];
	if (d->nusers)
		qsort(d->named, d->nusers, sizeof *d->named, by_name);
	if (d->nrevoked)
		qsort(d->revoked, d->nrevoked, sizeof *d->revoked, by_text);
	for (size_t i = 1; i < d->nusers; i++)
		if (by_id(&d->users[i - 1], &d->users[i]) == 0 || by_name(&d->named[i - 1], &d->named[i]) == 0)
			return false;
	return true;
}

struct tg_identity *tg_identity_get(struct tg_identity *d)
{
	if (d)
		atomic_fetch_add(&d->refs, 1);
	return d;
}

void tg_identity_put(struct tg_identity *d)
{
	if (!d || atomic_fetch_sub(&d->refs, 1) != 1)
		return;
	for (size_t i = 0; i < d->nusers; i++) {
		OPENSSL_cleanse(d->users[i].password, strlen(d->users[i].password));
		free(d->users[i].password);
	}
	tg_keyset_free(d->keys);
	free(d->users);
	free(d->named);
	free(d->revoked);
	free(d);
}

const struct tg_principal *tg_identity_key(const struct tg_identity *d, const uint8_t digest[32])
{
	return d ? tg_keyset_find(d->keys, digest) : NULL;
}

bool tg_identity_still_has(const struct tg_identity *now, const struct tg_identity *was, const struct tg_principal *who)
{
	const uint8_t *digest = was ? tg_keyset_digest(was->keys, who) : NULL;
	return digest && tg_identity_key(now, digest);
}

const struct tg_user *tg_identity_user(const struct tg_identity *d, struct tg_slice id)
{
	struct tg_user key;
	if (!d || !d->nusers || id.n >= sizeof key.who.id)
		return NULL;
	memcpy(key.who.id, id.p, id.n);
	key.who.id[id.n] = 0;
	return bsearch(&key, d->users, d->nusers, sizeof *d->users, by_id);
}

const struct tg_user *tg_identity_user_named(const struct tg_identity *d, struct tg_slice name)
{
	struct tg_user key, *at = &key;
	if (!d || !d->nusers || !name.n || name.n > TG_USER_NAME_MAX || memchr(name.p, 0, name.n))
		return NULL;
	memcpy(key.name, name.p, name.n);
	key.name[name.n] = 0;
	const struct tg_user **found = bsearch(&at, d->named, d->nusers, sizeof *d->named, by_name);
	return found ? *found : NULL;
}

bool tg_identity_revoked(const struct tg_identity *d, struct tg_slice jti)
{
	char key[JTI_MAX + 1];
	if (!d || !d->nrevoked || jti.n > JTI_MAX)
		return false;
	memcpy(key, jti.p, jti.n);
	key[jti.n] = 0;
	return bsearch(key, d->revoked, d->nrevoked, sizeof *d->revoked, by_text) != NULL;
}

uint32_t tg_identity_union(const struct tg_identity *d)
{
	return d ? d->perms | tg_keyset_union(d->keys) : 0;
}

size_t tg_identity_keys(const struct tg_identity *d)
{
	return d ? tg_keyset_count(d->keys) : 0;
}

size_t tg_identity_users(const struct tg_identity *d)
{
	return d ? d->nusers : 0;
}

void tg_identity_each_key(const struct tg_identity *d, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx)
{
	if (d)
		tg_keyset_each(d->keys, one, ctx);
}

const struct tg_user *tg_identity_user_at(const struct tg_identity *d, size_t i)
{
	return &d->users[i];
}

const char *tg_identity_revoked_at(const struct tg_identity *d, size_t i)
{
	return d && i < d->nrevoked ? d->revoked[i] : NULL;
}
