/*
 * Key digests and key sets. Only HMAC-SHA256 digests under a random process key are kept, so neither the table's layout nor the time
 * a look-up takes says anything about a stored key: a caller cannot steer a digest towards another.
 *
 * The table is open addressing by the first 64 bits of the digest, at most a quarter full. A look-up always reads the same number of slots (`reach`, the
 * longest displacement of any stored key), picks a candidate without branching, and compares one full digest with CRYPTO_memcmp:
 * the candidate's, or that of entry 0, which belongs to nobody. Known or unknown, the work is the same.
 */
#include "policy/key.h"
#include <openssl/crypto.h>
#include <pthread.h>
#include <sodium.h>
#include <stdlib.h>

enum { DIGEST = TG_HMAC, MIN_SLOTS = 64 };

static uint8_t process_key[DIGEST];
static bool process_key_made;
static pthread_once_t process_key_once = PTHREAD_ONCE_INIT;

static void make_process_key(void)
{
	if (process_key_made || sodium_init() < 0)
		return;
	randombytes_buf(process_key, sizeof process_key);
	process_key_made = true;
}

void tg_digest_key(const uint8_t key[DIGEST])
{
	memcpy(process_key, key, DIGEST);
	process_key_made = true;
}

bool tg_digester_init(struct tg_digester *d)
{
	pthread_once(&process_key_once, make_process_key);
	return process_key_made && tg_hmac_key(&d->hmac, (struct tg_slice){ (const char *)process_key, DIGEST });
}

void tg_digester_free(struct tg_digester *d)
{
	tg_hmac_wipe(&d->hmac);
}

bool tg_digest(const struct tg_digester *d, struct tg_slice key, uint8_t out[DIGEST])
{
	return tg_hmac(&d->hmac, key, out);
}

struct slot {
	uint64_t tag;   /* the digest's first 8 bytes */
	uint32_t entry; /* 0: free */
};

struct tg_keyset {
	struct slot *slots;
	uint32_t mask;           /* slots - 1 */
	uint32_t reach;          /* slots read by every look-up */
	uint32_t n, cap;         /* entries, entry 0 included */
	uint8_t (*digests)[DIGEST];
	struct tg_principal *who;
	uint32_t perms;
};

static uint64_t tag_of(const uint8_t digest[DIGEST])
{
	uint64_t t;
	memcpy(&t, digest, sizeof t);
	return t;
}

static void place(struct tg_keyset *k, uint32_t entry)
{
	uint64_t tag = tag_of(k->digests[entry]);
	uint32_t away = 0;
	while (k->slots[(tag + away) & k->mask].entry)
		away++;
	k->slots[(tag + away) & k->mask] = (struct slot){ tag, entry };
	if (away + 1 > k->reach)
		k->reach = away + 1;
}

static bool rehash(struct tg_keyset *k, uint32_t slots)
{
	struct slot *v = calloc(slots, sizeof *v);
	if (!v)
		return false;
	free(k->slots);
	k->slots = v;
	k->mask = slots - 1;
	k->reach = 1;
	for (uint32_t i = 1; i < k->n; i++)
		place(k, i);
	return true;
}

static bool grow_entries(struct tg_keyset *k)
{
	uint32_t cap = k->cap * 2;
	uint8_t(*digests)[DIGEST] = realloc(k->digests, cap * sizeof *digests);
	if (!digests)
		return false;
	k->digests = digests;
	struct tg_principal *who = realloc(k->who, cap * sizeof *who);
	if (!who)
		return false;
	k->who = who;
	k->cap = cap;
	return true;
}

struct tg_keyset *tg_keyset_new(void)
{
	struct tg_keyset *k = calloc(1, sizeof *k);
	if (!k)
		return NULL;
	k->cap = MIN_SLOTS / 4;
	k->n = 1;
	k->digests = calloc(k->cap, sizeof *k->digests);
	k->who = calloc(k->cap, sizeof *k->who);
	/* Entry 0 is compared with unknown digests; it is refused whatever the comparison says. */
	if (!k->digests || !k->who || sodium_init() < 0 || !rehash(k, MIN_SLOTS)) {
		tg_keyset_free(k);
		return NULL;
	}
	randombytes_buf(k->digests[0], DIGEST);
	return k;
}

struct tg_keyset *tg_keyset_copy(const struct tg_keyset *k)
{
	struct tg_keyset *c = malloc(sizeof *c);
	if (!c)
		return NULL;
	*c = *k;
	c->slots = malloc(((size_t)k->mask + 1) * sizeof *c->slots);
	c->digests = malloc(k->cap * sizeof *c->digests);
	c->who = malloc(k->cap * sizeof *c->who);
	if (!c->slots || !c->digests || !c->who) {
		free(c->slots);
		free(c->digests);
		free(c->who);
		free(c);
		return NULL;
	}
	memcpy(c->slots, k->slots, ((size_t)k->mask + 1) * sizeof *c->slots);
	memcpy(c->digests, k->digests, k->n * sizeof *c->digests);
	memcpy(c->who, k->who, k->n * sizeof *c->who);
	return c;
}

void tg_keyset_free(struct tg_keyset *k)
{
	if (!k)
		return;
	free(k->slots);
	if (k->digests)
		OPENSSL_cleanse(k->digests, k->cap * sizeof *k->digests);
	free(k->digests);
	if (k->who)
		OPENSSL_cleanse(k->who, k->cap * sizeof *k->who);
	free(k->who);
	free(k);
}

/* The entry whose tag it is, 0: none. Reads `reach` slots, always, and selects by mask: equal is all ones where the tags agree. */
static uint32_t candidate(const struct tg_keyset *k, uint64_t tag)
{
	uint32_t found = 0;
	for (uint32_t i = 0; i < k->reach; i++) {
		const struct slot *s = &k->slots[(tag + i) & k->mask];
		uint64_t diff = s->tag ^ tag;
		uint32_t equal = (uint32_t)((diff | (0 - diff)) >> 63) - 1;
		found |= s->entry & equal;
	}
	return found;
}

static bool is_list(enum tg_source s)
{
	return s == TG_SRC_KEYS_FILE || s == TG_SRC_TOLLGATE_KEYS || s == TG_SRC_CHAPKIT_KEYS || s == TG_SRC_CHAPKIT_FILE || s == TG_SRC_CREDIT_RISK_KEYS;
}

/* Room for one more, and whether the digest may have it. */
static bool make_room(struct tg_keyset *k)
{
	if (k->n > TG_KEYSET_MAX || (k->n == k->cap && !grow_entries(k)))
		return false;
	return (uint64_t)k->n * 4 <= k->mask || rehash(k, (k->mask + 1) * 2);
}

bool tg_keyset_put(struct tg_keyset *k, const uint8_t digest[DIGEST], const struct tg_principal *who)
{
	/* The tag is unique in a set. Two keys that share 64 bits of HMAC will not be seen (100,000 keys: 3 in 10^10); if they
	 * are, refusing the second is better than a look-up that may find the wrong one. */
	if (candidate(k, tag_of(digest)) || !make_room(k))
		return false;
	uint32_t at = k->n;
	k->who[at] = *who;
	if (!who->hash)
		k->who[at].hash = tag_of(digest);
	memcpy(k->digests[at], digest, DIGEST);
	k->n++;
	place(k, at);
	k->perms |= who->perms;
	return true;
}

bool tg_keyset_set(struct tg_keyset *k, const uint8_t digest[DIGEST], const struct tg_principal *who)
{
	uint32_t at = candidate(k, tag_of(digest));
	if (!at || CRYPTO_memcmp(k->digests[at], digest, DIGEST) != 0)
		return tg_keyset_put(k, digest, who);
	k->who[at] = *who;
	if (!who->hash)
		k->who[at].hash = tag_of(digest);
	k->perms |= who->perms;
	return true;
}

bool tg_keyset_add(struct tg_keyset *k, const struct tg_digester *d, struct tg_slice key, enum tg_source source, uint32_t perms, const char *name)
{
	if (key.n == 0)
		return true;
	uint8_t digest[DIGEST];
	if (!tg_digest(d, key, digest))
		return false;
	uint32_t same = candidate(k, tag_of(digest));
	if (same)
		return CRYPTO_memcmp(k->digests[same], digest, DIGEST) == 0;
	struct tg_principal p = { .perms = perms, .source = source };
	memcpy(p.id, "key_", 4);
	for (size_t i = 0; i < 16; i++)
		p.id[4 + i] = "0123456789abcdef"[digest[i / 2] >> (i % 2 ? 0 : 4) & 15];
	size_t n = strnlen(name, sizeof p.name - 1);
	memcpy(p.name, name, n);
	tg_key_prefix(key, p.prefix);
	if (is_list(source))
		tg_key_label(key, p.label);
	return tg_keyset_put(k, digest, &p);
}

const struct tg_principal *tg_keyset_find(const struct tg_keyset *k, const uint8_t digest[32])
{
	uint32_t at = candidate(k, tag_of(digest));
	int differs = CRYPTO_memcmp(k->digests[at], digest, DIGEST);
	return at && differs == 0 ? &k->who[at] : NULL;
}

size_t tg_keyset_count(const struct tg_keyset *k)
{
	return k->n - 1;
}

uint32_t tg_keyset_union(const struct tg_keyset *k)
{
	return k->perms;
}

void tg_keyset_each(const struct tg_keyset *k, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx)
{
	for (uint32_t i = 1; i < k->n; i++)
		one(ctx, k->digests[i], &k->who[i]);
}

void tg_keyset_places(struct tg_keyset *k, struct tg_use *(*place_of)(void *ctx, const struct tg_principal *who), void *ctx)
{
	for (uint32_t i = 1; i < k->n; i++)
		k->who[i].use = place_of(ctx, &k->who[i]);
}

const uint8_t *tg_keyset_digest(const struct tg_keyset *k, const struct tg_principal *who)
{
	return who > k->who && who < k->who + k->n ? k->digests[who - k->who] : NULL;
}
