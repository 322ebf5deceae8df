#pragma once
/*
 * The immutable state that requests are judged by: configuration, keys, networks, models. The control thread builds a new one and posts it to every loop;
 * each loop swaps its pointer and drops its count on the old one when its last request that holds it has ended.
 */
#include "gate/route.h"
#include "net/tls_context.h"
#include "policy/policy.h"
#include "pool/model.h"

/* A configuration, with the certificate it names and what is written of it, shared by the snapshots made from it: a changed key file makes a new snapshot from the same configuration. */
enum tg_page_id { TG_PAGE_OPENAPI, TG_PAGE_REDOC, TG_PAGE_COUNT };
struct tg_page {
	char *text;              /* owned */
	size_t n;
	char etag[40];           /* with its quotes */
};
struct tg_shared_config {
	_Atomic unsigned refs;
	struct tg_config *config;
	struct tg_tls *tls; /* a count; NULL: none */
	_Atomic(struct tg_page *) pages[TG_PAGE_COUNT]; /* made by the first who asks (api/docs.c), immutable then; NULL: nobody asked */
};
void tg_page_free(struct tg_page *p);
struct tg_shared_config *tg_shared_config_new(struct tg_config *c); /* takes c over; NULL: no memory, c is freed. tls is the caller's to set */
struct tg_shared_config *tg_shared_config_get(struct tg_shared_config *s);
void tg_shared_config_put(struct tg_shared_config *s);

struct tg_snapshot {
	_Atomic unsigned refs;   /* the control thread's and one a loop */
	unsigned nloops;
	unsigned *in_flight;     /* a loop's own count of requests that hold it; the loop's thread only */
	struct tg_shared_config *shared;
	const struct tg_config *config;
	struct tg_policy policy;
	struct tg_models models;
	struct tg_rate rates[TG_LIMIT_COUNT];
	uint64_t generation;     /* the store's, of policy.identity */
	uint64_t number;         /* how many were published before it */
	_Atomic unsigned adopted; /* loops that judge by it, or never will again */
	uint32_t held;           /* permissions that at least one key holds (000's 500 texts) */
};

/* Takes a count of `config` and one of `identity` (NULL: nobody). `old` may be NULL. */
struct tg_snapshot *tg_snapshot_new(struct tg_shared_config *config, const struct tg_keyfile *keyfile, struct tg_identity *identity, uint64_t generation,
				    const struct tg_snapshot *old, unsigned nloops, struct tg_err *err);
void tg_snapshot_put(struct tg_snapshot *s);
void tg_snapshot_drop(struct tg_snapshot *s); /* one that was never published */
