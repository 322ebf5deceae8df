/* Snapshots: put together whole or not at all, so that a bad reload leaves the old one in force. */
#include "gate/snapshot.h"
#include <stdlib.h>

static void destroy(struct tg_snapshot *s)
{
	tg_models_free(&s->models);
	tg_policy_free(&s->policy);
	tg_shared_config_put(s->shared);
	free(s->in_flight);
	free(s);
}

struct tg_shared_config *tg_shared_config_new(struct tg_config *c)
{
	struct tg_shared_config *s = malloc(sizeof *s);
	if (!s) {
		tg_config_free(c);
		return NULL;
	}
	*s = (struct tg_shared_config){ .refs = 1, .config = c };
	return s;
}

void tg_page_free(struct tg_page *p)
{
	if (p)
		free(p->text);
	free(p);
}

struct tg_shared_config *tg_shared_config_get(struct tg_shared_config *s)
{
	atomic_fetch_add(&s->refs, 1);
	return s;
}

void tg_shared_config_put(struct tg_shared_config *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1) {
		tg_config_free(s->config);
		tg_tls_put(s->tls);
		for (unsigned i = 0; i < TG_PAGE_COUNT; i++)
			tg_page_free(atomic_load(&s->pages[i]));
		free(s);
	}
}

struct tg_snapshot *tg_snapshot_new(struct tg_shared_config *shared, const struct tg_keyfile *kf, struct tg_identity *identity, uint64_t generation,
				    const struct tg_snapshot *old, unsigned nloops, struct tg_err *err)
{
	struct tg_snapshot *s = calloc(1, sizeof *s);
	if (!s) {
		tg_err_set(err, "out of memory");
		return NULL;
	}
	const struct tg_config *c = shared->config;
	*s = (struct tg_snapshot){ .refs = 1 + nloops, .nloops = nloops, .shared = tg_shared_config_get(shared), .config = c, .generation = generation,
				   .in_flight = calloc(nloops, sizeof *s->in_flight) };
	if (!s->in_flight || !tg_policy_build(&s->policy, c, kf, err) || !tg_models_build(&s->models, c, old ? &old->models : NULL, nloops, err)) {
		destroy(s);
		return NULL;
	}
	s->policy.identity = tg_identity_get(identity);
	if (c->limits_enabled) {
		s->rates[TG_LIMIT_API] = c->limit_api;
		s->rates[TG_LIMIT_TRAIN] = c->limit_train;
		s->rates[TG_LIMIT_PREDICT] = c->limit_predict;
		s->rates[TG_LIMIT_POLL] = c->limit_poll;
		s->rates[TG_LIMIT_INFER] = c->limit_infer;
		s->rates[TG_LIMIT_ML] = c->limit_ml;
	}
	s->held = tg_keyset_union(s->policy.keys) | tg_identity_union(identity) | (c->require_auth ? 0 : s->policy.anonymous.perms);
	return s;
}

void tg_snapshot_drop(struct tg_snapshot *s)
{
	destroy(s);
}

void tg_snapshot_put(struct tg_snapshot *s)
{
	if (s && atomic_fetch_sub(&s->refs, 1) == 1)
		destroy(s);
}
