/*
 * Puts the key sources together, in the order in which they win: admin key, read key, key file, the lists (DESIGN "Principals and keys").
 */
#include "policy/policy.h"
#include <stdlib.h>

static void nameless(struct tg_principal *p, const char *name, enum tg_source source, uint32_t perms)
{
	*p = (struct tg_principal){ .perms = perms, .source = source };
	snprintf(p->id, sizeof p->id, "%s", name);
	snprintf(p->name, sizeof p->name, "%s", name);
}

static bool add_list(struct tg_policy *p, struct tg_digester *d, const struct tg_strlist *l, enum tg_source source, uint32_t perms, const char *name)
{
	for (size_t i = 0; i < l->n; i++)
		if (l->v[i][0] && !tg_keyset_add(p->keys, d, tg_slice_cstr(l->v[i]), source, perms, name))
			return false;
	return true;
}

static bool add_keys(struct tg_policy *p, struct tg_digester *d, const struct tg_config *c, const struct tg_keyfile *f)
{
	if (c->admin_key.n && !tg_keyset_add(p->keys, d, (struct tg_slice){ c->admin_key.p, c->admin_key.n }, TG_SRC_ADMIN_KEY, TG_PERM_ALL, "admin"))
		return false;
	if (c->read_key.n && !tg_keyset_add(p->keys, d, (struct tg_slice){ c->read_key.p, c->read_key.n }, TG_SRC_READ_KEY, TG_PERMS_USER, "read"))
		return false;
	if (f && !add_list(p, d, &f->keys, TG_SRC_KEYS_FILE, TG_PERMS_USER, "api_keys.json"))
		return false;
	return add_list(p, d, &c->tollgate_keys, TG_SRC_TOLLGATE_KEYS, TG_PERMS_USER, "TOLLGATE_API_KEYS") &&
	       add_list(p, d, &c->chapkit_keys, TG_SRC_CHAPKIT_KEYS, TG_PERMS_CHAPKIT, "CHAPKIT_API_KEYS") &&
	       add_list(p, d, &c->chapkit_file_keys, TG_SRC_CHAPKIT_FILE, TG_PERMS_CHAPKIT, "CHAPKIT_API_KEY_FILE") &&
	       add_list(p, d, &c->credit_risk_keys, TG_SRC_CREDIT_RISK_KEYS, TG_PERMS_CREDIT_RISK, "CREDIT_RISK_API_KEYS");
}

/* Whoever connects from a network of everybody may say from where, and that TLS was in front. */
static bool trusted_is_meant(const struct tg_config *c, const char *text, const struct tg_cidr *network, struct tg_err *err)
{
	if (c->profile != TG_PROFILE_PRODUCTION || !tg_cidr_is_vast(network))
		return true;
	tg_err_set(err, "[server] trusted_proxies (%.250s): %.100s is everybody or a large part (IPv4 shorter than /8, IPv6 than /16), which profile production refuses: name the proxies in front",
		   tg_config_origin(c, "server", "trusted_proxies"), text);
	return false;
}

bool tg_policy_trusted(const struct tg_config *c, bool draft, struct tg_cidr_list *into, struct tg_err *err)
{
	const char *origin = tg_config_origin(c, "server", "trusted_proxies");
	for (size_t i = 0; i < c->trusted_proxies.n; i++) {
		if (!tg_cidr_list_add(into, tg_slice_cstr(c->trusted_proxies.v[i]))) {
			tg_err_set(err, "%s: [server] trusted_proxies: \"%s\" is neither an address nor a network", origin ? origin : "",
				   c->trusted_proxies.v[i]);
			return false;
		}
		if (!draft && !trusted_is_meant(c, c->trusted_proxies.v[i], &into->v[into->n - 1], err))
			return false;
	}
	return true;
}

bool tg_policy_build(struct tg_policy *p, const struct tg_config *c, const struct tg_keyfile *f, struct tg_err *err)
{
	*p = (struct tg_policy){ .config = c, .require_auth_for_external = f ? f->require_auth_for_external : true };
	p->key_limits = (struct tg_key_limits){ c->limit_key_requests, c->limit_key_tokens, c->limit_key_in_flight };
	nameless(&p->local_caller, "local", TG_SRC_LOCAL, TG_PERMS_LOCAL);
	nameless(&p->outsider, "anonymous", TG_SRC_OUTSIDER, TG_PERMS_LOCAL);
	nameless(&p->anonymous, "anonymous", TG_SRC_ANONYMOUS, TG_PERMS_CHAPKIT);
	if (!tg_policy_trusted(c, false, &p->trusted, err)) {
		tg_policy_free(p);
		return false;
	}
	static char *loopback[] = { "127.0.0.1", "localhost", "::1" };
	struct tg_strlist nets = f ? f->local_networks : (struct tg_strlist){ loopback, 3 };
	for (size_t i = 0; i < nets.n; i++)
		if (!tg_cidr_list_add(&p->local, tg_slice_cstr(nets.v[i]))) {
			tg_err_set(err, "%s: local_networks: \"%s\" is neither an address nor a network", c->api_keys_file, nets.v[i]);
			tg_policy_free(p);
			return false;
		}
	struct tg_digester d;
	bool ok = tg_digester_init(&d);
	p->keys = ok ? tg_keyset_new() : NULL;
	ok = p->keys && add_keys(p, &d, c, f);
	tg_digester_free(&d);
	if (!ok) {
		tg_err_set(err, "out of memory while reading the keys");
		tg_policy_free(p);
	}
	return ok;
}

void tg_policy_places(struct tg_policy *p, struct tg_use *(*place)(void *ctx, const struct tg_principal *who), void *ctx)
{
	tg_keyset_places(p->keys, place, ctx);
	p->local_caller.use = place(ctx, &p->local_caller);
	p->outsider.use = place(ctx, &p->outsider);
	p->anonymous.use = place(ctx, &p->anonymous);
}

void tg_policy_free(struct tg_policy *p)
{
	tg_keyset_free(p->keys);
	tg_identity_put(p->identity);
	tg_cidr_list_free(&p->local);
	tg_cidr_list_free(&p->trusted);
	*p = (struct tg_policy){ 0 };
}

/* Both sets are always asked: known or unknown, here or there, the work is the same. */
const struct tg_principal *tg_policy_key(const struct tg_policy *p, const uint8_t digest[32])
{
	const struct tg_principal *own = tg_keyset_find(p->keys, digest), *stored = tg_identity_key(p->identity, digest);
	return own ? own : stored;
}

struct tg_slice tg_host_only(struct tg_slice a)
{
	if (a.n && a.p[0] == '[') {
		const char *close = memchr(a.p, ']', a.n), *end = a.p + a.n;
		/* "[::1].evil.example" is no form of ::1. */
		return close && (close + 1 == end || close[1] == ':') ? (struct tg_slice){ a.p + 1, (size_t)(close - a.p - 1) } : a;
	}
	const char *colon = memchr(a.p ? a.p : "", ':', a.n);
	return colon ? (struct tg_slice){ a.p, (size_t)(colon - a.p) } : a;
}

bool tg_policy_own_host(const struct tg_policy *p, struct tg_slice host, const struct tg_addr *self)
{
	if (tg_slice_eq_nocase(host, TG_S("localhost")))
		return true;
	struct tg_addr a, b;
	bool literal = tg_addr_parse(host, &a);
	/* server.hosts has neither ports nor brackets (config/options.c): an entry is compared whole, an address by its value. */
	for (size_t i = 0; i < p->config->hosts.n; i++) {
		struct tg_slice known = tg_slice_cstr(p->config->hosts.v[i]);
		if (tg_slice_eq_nocase(host, known) || (literal && tg_addr_parse(known, &b) && tg_addr_equal(&a, &b)))
			return true;
	}
	return literal && (tg_addr_is_loopback(&a) || (self && tg_addr_equal(&a, self)));
}
