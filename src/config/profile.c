/*
 * Profiles: document 004's table of environments (tables/profiles.def) put under whatever is set explicitly, and what production refuses at the start. (Proxies that are everybody: policy/policy.c, which knows networks.)
 *
 * Refusing is for what cannot be meant: a key that everybody has read, plain HTTP towards other machines, pages of any site. What can be meant but is rarely
 * wanted (no limits, no authentication) is said loudly instead, since an explicit value wins over its profile (seed ledger C-12).
 */
#include "config/loader.h"
#include <arpa/inet.h>

static const struct {
	enum tg_profile profile;
	const char *table, *name;
	const char *value;  /* NULL: has to be set explicitly */
	const char *needed; /* then: what can be written */
} rows[] = {
#define PROFILE(p, t, n, v) { TG_PROFILE_##p, t, n, v, NULL },
#define NEEDED(p, t, n, what) { TG_PROFILE_##p, t, n, NULL, what },
#include "tables/profiles.def"
};

static const char *const names[] = { "", "dev", "staging", "production" };

static const struct {
	const char *document, *key;
} demo_keys[] = {
#define DEMO_KEY(d, k) { d, k },
#include "tables/demo_keys.def"
};

const char *tg_demo_key(struct tg_slice key)
{
	for (size_t i = 0; i < sizeof demo_keys / sizeof *demo_keys; i++)
		if (tg_slice_eq(key, tg_slice_cstr(demo_keys[i].key)))
			return demo_keys[i].document;
	return NULL;
}

bool tg_profile_apply(struct loader *l)
{
	enum tg_profile p = l->c->profile;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		unsigned row = tg_load_row(rows[i].table, rows[i].name);
		if (rows[i].profile != p || l->c->origins->text[row])
			continue;
		if (!rows[i].value && l->src->draft)
			continue;
		if (!rows[i].value) {
			tg_err_set(l->err, "[%s] %s is not set, and profile %s (%.200s) needs it: %s", rows[i].table, rows[i].name, names[p],
				   tg_config_origin(l->c, "", "profile"), rows[i].needed);
			return false;
		}
		char origin[32];
		snprintf(origin, sizeof origin, "profile %s", names[p]);
		if (!tg_option_set_text(&tg_options[row], l->c, rows[i].value, NULL, l->err) || !tg_load_origin(l, row, origin))
			return false;
	}
	if (l->c->log_debug && l->c->log_level != TG_LOG_DEBUG) {
		char origin[300];
		l->c->log_level = TG_LOG_DEBUG;
		snprintf(origin, sizeof origin, "log.debug, %.250s", tg_config_origin(l->c, "log", "debug"));
		return tg_load_origin(l, tg_load_row("log", "level"), origin);
	}
	return true;
}

/* ---- production ---- */

static bool is_loopback(struct tg_slice host)
{
	char text[64];
	struct in_addr a4;
	struct in6_addr a6;
	snprintf(text, sizeof text, "%.*s", (int)(host.n < 63 ? host.n : 63), host.p);
	if (inet_pton(AF_INET, text, &a4) == 1)
		return ntohl(a4.s_addr) >> 24 == 127;
	return inet_pton(AF_INET6, text, &a6) == 1 && (IN6_IS_ADDR_LOOPBACK(&a6) || (IN6_IS_ADDR_V4MAPPED(&a6) && a6.s6_addr[12] == 127));
}

/* Other machines reach it, and without TLS. */
static bool is_plain(const char *entry)
{
	struct tg_listen a;
	struct tg_err why;
	struct tg_slice s = tg_slice_cstr(entry);
	if (tg_slice_starts(s, TG_S("tls:")) || tg_slice_starts(s, TG_S("redirect:")))
		return false;
	return tg_listen_parse(s, &a, &why) && !a.unix_socket && !is_loopback(a.host);
}

static bool check_listen(struct loader *l)
{
	const struct tg_config *c = l->c;
	if (c->trusted_proxies.n)
		return true;
	for (size_t i = 0; i < c->listen.n + l->src->nalso; i++) {
		bool also = i >= c->listen.n;
		const char *entry = also ? l->src->also[i - c->listen.n] : c->listen.v[i];
		if (is_plain(entry)) {
			tg_err_set(l->err,
				   "[server] listen (%.150s): %.100s is reached by other machines without TLS, which profile production refuses: listen on 127.0.0.1, "
				   "use TLS (\"tls:ADDRESS:PORT\"), or name the TLS proxy in front in trusted_proxies",
				   also ? "--also" : tg_config_origin(c, "server", "listen"), entry);
			return false;
		}
	}
	return true;
}

/* False: production, and the key or password is a document's. better: how to get one. */
static bool check_shared(struct loader *l, const char *name, const char *kind, struct tg_slice key, const char *better)
{
	const char *document = key.n ? tg_demo_key(key) : NULL;
	if (!document)
		return true;
	const char *origin = tg_config_origin(l->c, "auth", name);
	if (l->c->profile == TG_PROFILE_PRODUCTION) {
		tg_err_set(l->err, "[auth] %s (%.250s) has a %s that document %s prints, which profile production refuses: %s", name, origin, kind, document, better);
		return false;
	}
	tg_load_warn(l, "[auth] %s (%.300s) has a %s that document %s prints: everybody can know it", name, origin, kind, document);
	return true;
}

static bool check_key(struct loader *l, const char *name, struct tg_slice key)
{
	return check_shared(l, name, "key", key, "`tollgate init` or `tollgate keyfile generate` makes one");
}

static bool check_keys(struct loader *l)
{
	const struct tg_config *c = l->c;
	const struct {
		const char *name;
		const struct tg_strlist *list;
	} lists[] = { { "keys", &c->tollgate_keys }, { "chapkit_keys", &c->chapkit_keys }, { "chapkit_key_file", &c->chapkit_file_keys },
		      { "credit_risk_keys", &c->credit_risk_keys } };
	if (!check_key(l, "admin_key", (struct tg_slice){ c->admin_key.p, c->admin_key.n }) || !check_key(l, "read_key", (struct tg_slice){ c->read_key.p, c->read_key.n }) ||
	    !check_shared(l, "admin_password", "password", (struct tg_slice){ c->admin_password.p, c->admin_password.n }, "choose another"))
		return false;
	for (unsigned k = 0; k < sizeof lists / sizeof lists[0]; k++) {
		size_t i = 0;
		while (i < lists[k].list->n && !tg_demo_key(tg_slice_cstr(lists[k].list->v[i])))
			i++;
		if (i < lists[k].list->n && !check_key(l, lists[k].name, tg_slice_cstr(lists[k].list->v[i])))
			return false;
	}
	return true;
}

/* What can be meant, but not often: each is said at every start (seed ledger S4-111). */
static void say_what_is_off(struct loader *l)
{
	const struct tg_config *c = l->c;
	const struct {
		const char *table, *name;
		bool on;
	} usual[] = { { "limits", "api", c->limit_api.n }, { "limits", "train", c->limit_train.n }, { "limits", "predict", c->limit_predict.n },
		      { "auth", "guesses", c->guesses.n }, { "auth", "password_guesses", c->password_guesses.n } };
	if (!c->limits_enabled)
		tg_load_warn(l, "profile production runs without limits: [limits] enabled (%.300s) is false", tg_config_origin(c, "limits", "enabled"));
	for (unsigned i = 0; i < sizeof usual / sizeof *usual; i++)
		if (!usual[i].on)
			tg_load_warn(l, "profile production runs without a limit that it usually has: [%s] %s (%.300s) is off", usual[i].table, usual[i].name,
				     tg_config_origin(c, usual[i].table, usual[i].name));
	if (!c->require_auth)
		tg_load_warn(l, "profile production runs without authentication on this machine: [auth] require_auth (%.300s) is false",
			     tg_config_origin(c, "auth", "require_auth"));
}

/* Whoever reads what signs tokens makes himself one of any user's. It is not a "file:" value: it lies where the gate itself made it. */
static void look_at_token_secret(struct loader *l)
{
	char path[PATH_BYTES];
	if (!l->c->jwt_secret.n && l->c->store_url[0] && tg_config_data_path(l->c, "jwt.secret", path, sizeof path))
		tg_load_secret_file(l, path, true);
}

bool tg_profile_check(struct loader *l)
{
	const struct tg_config *c = l->c;
	if (l->src->draft)
		return true;
	look_at_token_secret(l);
	if (!check_keys(l))
		return false;
	if (c->profile != TG_PROFILE_PRODUCTION)
		return true;
	if (l->exposed.text[0]) {
		tg_err_set(l->err, "%.400s; profile production refuses it", l->exposed.text);
		return false;
	}
	for (size_t i = 0; i < c->cors_origins.n; i++)
		if (strcmp(c->cors_origins.v[i], "*") == 0) {
			tg_err_set(l->err, "[server] cors_origins (%.300s) is \"*\", which profile production refuses: name the origins of your pages",
				   tg_config_origin(c, "server", "cors_origins"));
			return false;
		}
	say_what_is_off(l);
	return check_listen(l);
}
