/*
 * What one option alone cannot tell: options that contradict each other, keys that are weak, variables that look like options and are none.
 */
#include "config/loader.h"

enum { ENV_WARNINGS = 20, SHORT_KEY = 16 };

static void warn_variable(const struct loader *l, const char *name, unsigned *left)
{
	struct tg_err why;
	tg_option_env_known(name, &why);
	if (*left && why.text[0]) {
		tg_load_warn(l, "%s", why.text);
		--*left;
	}
}

void tg_load_warn_unknown(const struct loader *l)
{
	unsigned left = ENV_WARNINGS;
	for (char *const *e = l->src->env; e && *e; e++) {
		char name[128];
		size_t n = strcspn(*e, "=");
		if (n < sizeof name) {
			memcpy(name, *e, n);
			name[n] = 0;
			warn_variable(l, name, &left);
		}
	}
	for (size_t i = 0; i < l->dotenv.n; i++)
		warn_variable(l, l->dotenv.v[i].name, &left);
	for (size_t i = 0; i < l->keys.n; i++)
		warn_variable(l, l->keys.v[i].name, &left);
}

void tg_load_warn_keys(const struct loader *l)
{
	const struct tg_config *c = l->c;
	const struct tg_slice admin = { c->admin_key.p, c->admin_key.n }, reader = { c->read_key.p, c->read_key.n };
	if (admin.n && admin.n < SHORT_KEY)
		tg_load_warn(l, "the admin key is under %d characters: `tollgate init` makes a better one", SHORT_KEY);
	if (reader.n && reader.n < SHORT_KEY)
		tg_load_warn(l, "the read key is under %d characters: `tollgate init` makes a better one", SHORT_KEY);
	if (admin.n && tg_secret_equal(admin, reader))
		tg_load_warn(l, "the read key is the admin key: every reader is an admin");
	const struct {
		const char *name;
		const struct tg_strlist *list;
	} lists[] = { { "TOLLGATE_API_KEYS", &c->tollgate_keys }, { "CHAPKIT_API_KEYS", &c->chapkit_keys }, { "CHAPKIT_API_KEY_FILE", &c->chapkit_file_keys },
		      { "CREDIT_RISK_API_KEYS", &c->credit_risk_keys } };
	for (unsigned k = 0; k < sizeof lists / sizeof lists[0]; k++) {
		size_t few = 0;
		for (size_t i = 0; i < lists[k].list->n; i++)
			few += strlen(lists[k].list->v[i]) < SHORT_KEY;
		if (few)
			tg_load_warn(l, "%s: %zu of %zu keys are under %d characters", lists[k].name, few, lists[k].list->n, SHORT_KEY);
	}
}

/* A browser sends no cookies to "*", and a gate that echoed any origin instead would let every page read what its visitor may (S4-32). */
static bool check_cors(struct loader *l)
{
	const struct tg_config *c = l->c;
	const char *origin = tg_config_origin(c, "server", "cors_origins");
	bool any = false, null = false;
	for (size_t i = 0; i < c->cors_origins.n; i++) {
		any |= strcmp(c->cors_origins.v[i], "*") == 0;
		null |= strcmp(c->cors_origins.v[i], "null") == 0;
	}
	if (null)
		tg_load_warn(l, "[server] cors_origins (%.300s) holds \"null\": that is the origin of local files and of sandboxed pages of any site", origin);
	if (!any)
		return true;
	if (c->cors_origins.n > 1) {
		tg_err_set(l->err, "[server] cors_origins (%.300s): \"*\" must stand alone: it takes in every other origin", origin);
		return false;
	}
	if (c->cors_credentials && l->c->origins->text[tg_load_row("server", "cors_credentials")]) {
		tg_err_set(l->err, "[server] cors_credentials (%.200s) is true, and cors_origins (%.200s) is \"*\": name the origins whose pages may send cookies",
			   tg_config_origin(c, "server", "cors_credentials"), origin);
		return false;
	}
	if (c->require_auth)
		tg_load_warn(l, "[server] cors_origins (%.300s) is \"*\": pages of any site may use a key that their visitor gives them", origin);
	return true;
}

static bool check_store(struct loader *l)
{
	const char *url = l->c->store_url;
	if (!*url || (strncmp(url, "sqlite:", 7) == 0 && url[7]))
		return true;
	tg_err_set(l->err, "[store] url (%.300s): \"%.60s\" is not sqlite:PATH, nor \"\" for no database", tg_config_origin(l->c, "store", "url"), url);
	return false;
}

bool tg_load_check(struct loader *l)
{
	const struct tg_config *c = l->c;
	if (c->max_buffered_bytes < c->max_body_bytes) {
		const char *o = tg_config_origin(c, "server", "max_buffered_bytes");
		tg_err_set(l->err, "[server] max_buffered_bytes (%s) is less than max_body_bytes: no such body could be taken", o);
		return false;
	}
	if (strcmp(c->log_path, "-") != 0 && strcmp(c->log_path, c->workers_log_path) == 0) { /* two would rotate it */
		tg_err_set(l->err, "[log] workers_path (%.300s) is [log] path, too: %.300s", tg_config_origin(c, "log", "workers_path"), c->log_path);
		return false;
	}
	return check_store(l) && tg_listen_check(c, l->err) && check_cors(l);
}
