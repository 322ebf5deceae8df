#pragma once
/*
 * Key sets: from the digest of what a caller sent to a principal. Only HMAC-SHA256 digests are kept (keyed by data/secret.key where the
 * database has keys, which must outlive the process, else by a random key of the process), look-up is by digest, the final comparison is
 * constant time. Immutable once built: it is part of a snapshot and read by every loop without a lock.
 */
#include "base/hmac.h"
#include "policy/principal.h"

struct tg_digester { /* any number of threads may use one */
	struct tg_hmac hmac;
};
/* The key of all digests of this process: before the first digester is made, else it is a random one. */
void tg_digest_key(const uint8_t key[32]);
bool tg_digester_init(struct tg_digester *d); /* also makes the process key on first use (thread-safe) */
void tg_digester_free(struct tg_digester *d);
bool tg_digest(const struct tg_digester *d, struct tg_slice key, uint8_t out[32]);

struct tg_keyset; /* opaque */
#define TG_KEYSET_MAX (1u << 20)
struct tg_keyset *tg_keyset_new(void);
struct tg_keyset *tg_keyset_copy(const struct tg_keyset *k); /* NULL: no memory */
void tg_keyset_free(struct tg_keyset *k);
/* The first source to add a key wins (admin before read before file before lists). Empty keys are never added. False: no memory. */
bool tg_keyset_add(struct tg_keyset *k, const struct tg_digester *d, struct tg_slice key, enum tg_source source, uint32_t perms, const char *name);
/* The same for a digest and a principal that are known already; who->hash 0 becomes the digest's. False: no memory, full, or the digest is there already. */
bool tg_keyset_put(struct tg_keyset *k, const uint8_t digest[32], const struct tg_principal *who);
/* The same, but in the place of what the digest had. The set's union keeps what it held. */
bool tg_keyset_set(struct tg_keyset *k, const uint8_t digest[32], const struct tg_principal *who);
const struct tg_principal *tg_keyset_find(const struct tg_keyset *k, const uint8_t digest[32]); /* NULL: unknown */
size_t tg_keyset_count(const struct tg_keyset *k);
uint32_t tg_keyset_union(const struct tg_keyset *k); /* permissions that at least one principal holds */
/* Before it is shared: gives each principal its place (NULL passes). */
void tg_keyset_places(struct tg_keyset *k, struct tg_use *(*place)(void *ctx, const struct tg_principal *who), void *ctx);
/* The digest of a principal of this set (by address); NULL: not of this set. */
const uint8_t *tg_keyset_digest(const struct tg_keyset *k, const struct tg_principal *who);
void tg_keyset_each(const struct tg_keyset *k, void (*one)(void *ctx, const uint8_t digest[32], const struct tg_principal *who), void *ctx);
