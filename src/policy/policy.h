#pragma once
/*
 * The policy part of a snapshot: who holds which key, who is local, whom we trust to forward addresses. Built by the control thread, immutable
 * afterwards, freed with its snapshot.
 */
#include "policy/identity.h"
#include "policy/keyfile.h"

struct tg_policy {
	struct tg_keyset *keys;       /* of the configuration and the key file */
	struct tg_identity *identity; /* of the database; NULL: nobody */
	struct tg_cidr_list local;    /* local callers of /infer */
	struct tg_cidr_list trusted;  /* trusted_proxies */
	bool require_auth_for_external;
	const struct tg_config *config; /* borrowed: the snapshot owns it */
	struct tg_principal local_caller, outsider; /* nameless callers of /infer */
	struct tg_key_limits key_limits; /* [limits] key_*: for keys that have none of their own */
	struct tg_principal anonymous;  /* whoever needs no key because auth.require_auth is false */
};

/* `keyfile` NULL: there is no usable key file: no keys of it, auth required, local = loopback. False: err names the option. */
bool tg_policy_build(struct tg_policy *p, const struct tg_config *c, const struct tg_keyfile *keyfile, struct tg_err *err);
/* The networks of trusted_proxies; false: one is none, or in profile production one of everybody; err names its place. draft: it is only shown, so the latter is let pass. Also how the command line checks a configuration before it starts. */
bool tg_policy_trusted(const struct tg_config *c, bool draft, struct tg_cidr_list *into, struct tg_err *err);
/* Before it is shared: gives each principal that the configuration makes its place (policy/use.h); those of the identity have theirs. */
void tg_policy_places(struct tg_policy *p, struct tg_use *(*place)(void *ctx, const struct tg_principal *who), void *ctx);
void tg_policy_free(struct tg_policy *p);
/* Whose key that is: of the configuration, the key file or the database; NULL: nobody's. An expired one is somebody's. */
const struct tg_principal *tg_policy_key(const struct tg_policy *p, const uint8_t digest[32]);
/* Whether a Host or Origin host (port already cut) names us: loopback name or address, the connection's own address, or server.hosts. */
bool tg_policy_own_host(const struct tg_policy *p, struct tg_slice host, const struct tg_addr *self);
/* "host:port", "[::1]:port", "host" -> host without brackets. */
struct tg_slice tg_host_only(struct tg_slice authority);
