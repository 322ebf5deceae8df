/*
 * The database's people and keys as requests see them. Keys are a large set that is built once (policy/key.c: constant-time look-up by digest) and shared by every identity that comes of it, and a small one that is
 * laid over it: digests that changed since, with whom they lead to now, or with a principal without an id where they lead to nobody.
 *
 * Invariants: what is laid over a digest is the whole truth about it, so that it may be laid over any later base too (tg_identity_refold). Both sets are asked for every key: known, unknown, changed or taken away, the work
 * is the same. `holders` counts the keys that hold each permission, so that the last holder's end is seen without looking at all keys.
 */
#include "policy/identity.h"
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>

enum { PERMS = 16 };

struct base {
	_Atomic unsigned refs;
	struct tg_keyset *keys;
};

struct tg_identity {
	_Atomic unsigned refs;
	struct base *base;
	struct tg_keyset *over;  /* NULL: nothing */
	struct tg_people *people;
	struct tg_ended *ended;
	size_t nkeys;
	uint32_t holders[PERMS];
	int64_t now;             /* of tg_identity_next */
	bool new_people, new_ended; /* they are this one's own and not sealed yet */
	bool nameless, blind;
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

struct tg_identity *tg_identity_blind_new(void)
{
	struct tg_identity *d = tg_identity_new();
	if (d && !tg_identity_seal(d)) {
		tg_identity_put(d);
		return NULL;
	}
	if (d)
		d->nameless = d->blind = true;
	return d;
}

bool tg_identity_blind(const struct tg_identity *d)
{
	return d && d->blind;
}

bool tg_stored_key_like(struct tg_slice key)
{
	enum { ID = 16, SECRET = 44 };
	if (key.n != 3 + ID + 1 + SECRET || memcmp(key.p, "tg_", 3) != 0 || key.p[3 + ID] != '_')
		return false;
	for (size_t i = 3; i < key.n; i++) {
		char c = key.p[i];
		bool small = (c >= 'a' && c <= 'z') || (c >= '0' && c <= '9');
		if (i != 3 + ID && !small && (i < 3 + ID || c < 'A' || c > 'Z'))
			return false;
	}
	return true;
}

static void base_put(struct base *b)
{
	if (!b || atomic_fetch_sub(&b->refs, 1) != 1)
		return;
	tg_keyset_free(b->keys);
	free(b);
}

struct tg_identity *tg_identity_new(void)
{
	struct tg_identity *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	atomic_init(&d->refs, 1);
	d->base = calloc(1, sizeof *d->base);
	d->people = tg_people_new();
	d->ended = tg_ended_new();
	d->new_people = d->new_ended = true;
	if (d->base) {
		atomic_init(&d->base->refs, 1);
		d->base->keys = tg_keyset_new();
	}
	if (d->base && d->base->keys && d->people && d->ended)
		return d;
	tg_identity_put(d);
	return NULL;
}

static void count_key(struct tg_identity *d, const struct tg_principal *who, bool more)
{
	d->nkeys = more ? d->nkeys + 1 : d->nkeys - 1;
	for (unsigned i = 0; i < PERMS; i++)
		if (who->perms >> i & 1)
			d->holders[i] = more ? d->holders[i] + 1 : d->holders[i] - 1;
}

bool tg_identity_add_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who)
{
	if (!who->id[0] || !tg_keyset_put(d->base->keys, digest, who))
		return false;
	count_key(d, who, true);
	return true;
}

bool tg_identity_set_key(struct tg_identity *d, const uint8_t digest[32], const struct tg_principal *who)
{
	static const struct tg_principal nobody = { .name = "nobody" };
	const struct tg_principal *was = tg_identity_key(d, digest);
	if ((who && !who->id[0]) || (who && !was && d->nkeys >= TG_KEYSET_MAX))
		return false;
	if (!who && !was)
		return true;
	struct tg_principal before = was ? *was : nobody; /* `was` may lie in the set that is about to grow */
	if ((!d->over && !(d->over = tg_keyset_new())) || !tg_keyset_set(d->over, digest, who ? who : &nobody))
		return false;
	if (was)
		count_key(d, &before, false);
	if (who)
		count_key(d, who, true);
	return true;
}

/* A set that is shared is copied before the first change. */
static bool own_people(struct tg_identity *d)
{
	struct tg_people *made = d->new_people ? NULL : tg_people_copy(d->people);
	if (!made)
		return d->new_people;
	tg_people_put(d->people);
	d->people = made;
	return d->new_people = true;
}

bool tg_identity_add_user(struct tg_identity *d, const struct tg_user *u, const char *password)
{
	return own_people(d) && tg_people_add(d->people, u, password);
}

bool tg_identity_set_user(struct tg_identity *d, const char *id, const struct tg_user *u, const char *password)
{
	if (!own_people(d))
		return false;
	tg_people_drop(d->people, id);
	return !u || tg_people_add(d->people, u, password);
}

bool tg_identity_add_revoked(struct tg_identity *d, const char *jti, int64_t expires_s)
{
	if (!d->new_ended) {
		struct tg_ended *made = tg_ended_copy(d->ended, d->now);
		if (!made)
			return false;
		tg_ended_put(d->ended);
		d->ended = made;
		d->new_ended = true;
	}
	return tg_ended_add(d->ended, jti, expires_s);
}

bool tg_identity_seal(struct tg_identity *d)
{
	if (d->new_people && !tg_people_seal(d->people))
		return false;
	if (d->new_ended)
		tg_ended_seal(d->ended);
	d->new_people = d->new_ended = false;
	return true;
}

/* Over the base of `of`, with the rest of `rest` and nothing laid over. */
static struct tg_identity *made_of(const struct tg_identity *of, const struct tg_identity *rest)
{
	struct tg_identity *d = calloc(1, sizeof *d);
	if (!d)
		return NULL;
	atomic_init(&d->refs, 1);
	atomic_fetch_add(&of->base->refs, 1);
	d->base = of->base;
	d->people = tg_people_get(rest->people);
	d->ended = tg_ended_get(rest->ended);
	d->nameless = rest->nameless;
	d->nkeys = of->nkeys;
	memcpy(d->holders, of->holders, sizeof d->holders);
	return d;
}

struct tg_identity *tg_identity_next(const struct tg_identity *was, int64_t now)
{
	struct tg_identity *d = made_of(was, was);
	if (!d)
		return NULL;
	d->now = now;
	if (was->over && !(d->over = tg_keyset_copy(was->over))) {
		tg_identity_put(d);
		return NULL;
	}
	return d;
}

size_t tg_identity_laid_over(const struct tg_identity *d)
{
	return d && d->over ? tg_keyset_count(d->over) : 0;
}

struct folding {
	struct tg_identity *into;
	uint64_t now;
	bool failed;
};

static void fold_one(void *ctx, const uint8_t digest[32], const struct tg_principal *who)
{
	struct folding *f = ctx;
	if (!f->failed && (!who->expires_s || who->expires_s > f->now))
		f->failed = !tg_identity_add_key(f->into, digest, who);
}

struct tg_identity *tg_identity_fold(const struct tg_identity *d, int64_t now)
{
	struct folding f = { .into = tg_identity_new(), .now = (uint64_t)now };
	if (!f.into)
		return NULL;
	tg_identity_each_key(d, fold_one, &f);
	tg_people_put(f.into->people);
	tg_ended_put(f.into->ended);
	f.into->people = tg_people_get(d->people);
	f.into->ended = tg_ended_get(d->ended);
	f.into->new_people = f.into->new_ended = false;
	f.into->nameless = d->nameless;
	if (!f.failed)
		return f.into;
	tg_identity_put(f.into);
	return NULL;
}

struct refolding {
	struct tg_identity *into;
	const struct tg_keyset *folded;
	bool failed;
};

static void refold_one(void *ctx, const uint8_t digest[32], const struct tg_principal *who)
{
	struct refolding *r = ctx;
	const struct tg_principal *was = r->folded ? tg_keyset_find(r->folded, digest) : NULL;
	if (r->failed || (was && memcmp(was, who, sizeof *who) == 0)) /* padding may differ: then it stays laid over, which is right as well */
		return;
	r->failed = !tg_identity_set_key(r->into, digest, who->id[0] ? who : NULL);
}

struct tg_identity *tg_identity_refold(struct tg_identity *now, struct tg_identity *folded, const struct tg_identity *was)
{
	if (now->base != was->base)
		return NULL;
	if (now == was)
		return tg_identity_get(folded);
	struct refolding r = { made_of(folded, now), was->over, false };
	if (r.into && now->over)
		tg_keyset_each(now->over, refold_one, &r);
	if (!r.failed)
		return r.into;
	tg_identity_put(r.into);
	return NULL;
}

bool tg_identity_alone(const struct tg_identity *d)
{
	return atomic_load(&d->refs) == 1 && atomic_load(&d->base->refs) == 1;
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
	base_put(d->base);
	tg_keyset_free(d->over);
	tg_people_put(d->people);
	tg_ended_put(d->ended);
	free(d);
}

const struct tg_principal *tg_identity_key(const struct tg_identity *d, const uint8_t digest[32])
{
	if (!d)
		return NULL;
	const struct tg_principal *p = tg_keyset_find(d->base->keys, digest);
	if (d->over) {
		const struct tg_principal *changed = tg_keyset_find(d->over, digest);
		if (changed)
			return changed->id[0] ? changed : NULL;
	}
	return p;
}

const uint8_t *tg_identity_digest(const struct tg_identity *d, const struct tg_principal *who)
{
	const uint8_t *digest = d && d->over ? tg_keyset_digest(d->over, who) : NULL;
	return digest || !d ? digest : tg_keyset_digest(d->base->keys, who);
}

const struct tg_principal *tg_identity_still_has(const struct tg_identity *now, const struct tg_identity *was, const struct tg_principal *who)
{
	const uint8_t *digest = tg_identity_digest(was, who);
	return digest ? tg_identity_key(now, digest) : NULL;
}

const struct tg_user *tg_identity_user(const struct tg_identity *d, struct tg_slice id)
{
	return d ? tg_people_by_id(d->people, id) : NULL;
}

const struct tg_user *tg_identity_user_named(const struct tg_identity *d, struct tg_slice name)
{
	return d ? tg_people_by_name(d->people, name) : NULL;
}

bool tg_identity_revoked(const struct tg_identity *d, struct tg_slice jti)
{
	return d && tg_ended_has(d->ended, jti);
}

const struct tg_user *tg_identity_bearer(const struct tg_identity *d, struct tg_slice id, struct tg_slice jti, int64_t issued_s)
{
	const struct tg_user *u = tg_identity_user(d, id);
	return u && !u->disabled && issued_s >= u->tokens_from && !tg_identity_revoked(d, jti) ? u : NULL;
}

uint32_t tg_identity_union(const struct tg_identity *d)
{
	uint32_t all = d ? tg_people_union(d->people) : 0;
	for (unsigned i = 0; d && i < PERMS; i++)
		all |= d->holders[i] ? 1u << i : 0;
	return all;
}

size_t tg_identity_keys(const struct tg_identity *d)
{
	return d ? d->nkeys : 0;
}

size_t tg_identity_users(const struct tg_identity *d)
{
	return d ? tg_people_count(d->people) : 0;
}

struct walk {
	const struct tg_keyset *over; /* NULL: this is what is laid over */
	void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who);
	void *ctx;
};

static void walk_one(void *ctx, const uint8_t digest[32], const struct tg_principal *who)
{
	struct walk *w = ctx;
	if (w->over ? !tg_keyset_find(w->over, digest) : who->id[0] != 0)
		w->one(w->ctx, digest, who);
}

void tg_identity_each_key(const struct tg_identity *d, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx)
{
	if (!d)
		return;
	struct walk w = { d->over, one, ctx };
	if (!d->over) {
		tg_keyset_each(d->base->keys, one, ctx);
		return;
	}
	tg_keyset_each(d->base->keys, walk_one, &w);
	w.over = NULL;
	tg_keyset_each(d->over, walk_one, &w);
}

const struct tg_user *tg_identity_user_at(const struct tg_identity *d, size_t i)
{
	return tg_people_at(d->people, i);
}

const char *tg_identity_revoked_at(const struct tg_identity *d, size_t i, int64_t *expires_s)
{
	return d ? tg_ended_at(d->ended, i, expires_s) : NULL;
}
