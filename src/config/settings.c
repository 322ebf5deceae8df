/*
 * The layer of settings. What may be changed while the gate runs is what a reload changes, less what would let somebody who holds write_config have more than that: paths (a log's path is a file that is
 * written), keys and secrets, who is believed and who needs no key: so the pages that a browser lets read with its user's cookie, and what guessing costs, which is where belief is bought.
 */
#include "config/settings.h"
#include "base/newfile.h"
#include "config/loader.h"
#include <errno.h>

struct named {
	const char *table, *name;
};

static bool among(const struct named *v, size_t n, const char *table, const char *name)
{
	for (size_t i = 0; i < n; i++)
		if (strcmp(v[i].table, table) == 0 && strcmp(v[i].name, name) == 0)
			return true;
	return false;
}

static bool too_strong(const struct tg_option *o)
{
	static const struct named never[] = { { "", "profile" }, { "auth", "require_auth" }, { "server", "trusted_proxies" }, { "server", "hosts" }, { "server", "cors_origins" }, { "server", "cors_credentials" },
		    { "auth", "guesses" }, { "auth", "password_guesses" }, { "metrics", "loopback" }, { "log", "debug" } };
	return among(never, sizeof never / sizeof *never, o->table, o->name) || o->type == TG_OPT_STR || tg_opt_secret(o->type) || o->type == TG_OPT_KEYS || o->type == TG_OPT_ARTIFACTS || o->type == TG_OPT_LISTEN;
}

bool tg_setting_needs_all(const char *table, const char *name)
{
	static const struct named own[] = { { "limits", "enabled" }, { "limits", "key_requests" }, { "limits", "key_tokens_per_minute" }, { "limits", "key_in_flight" }, { "ml", "key_jobs" },
					    { "log", "level" }, { "log", "rotate_bytes" }, { "log", "rotate_keep" } };
	return among(own, sizeof own / sizeof *own, table, name);
}

const char *tg_setting_table_fault(const char *table, struct tg_err *err)
{
	if (strcmp(table, "model") == 0)
		return "models are changed in tollgate.toml only";
	if (!*table || tg_option_table_known(table))
		return NULL;
	tg_err_set(err, "there is no such table");
	tg_option_suggest_table(table, err);
	return err->text;
}

const char *tg_setting_fault(const char *table, const char *name, struct tg_err *err)
{
	if (strcmp(table, "model") == 0)
		return "models are changed in tollgate.toml only";
	const struct tg_option *o = tg_option_find(table, name);
	if (!o) {
		err->text[0] = 0;
		tg_option_suggest(table, name, err);
		return "";
	}
	if (!o->live)
		return "needs a restart: it is changed in tollgate.toml";
	return too_strong(o) ? "is changed in tollgate.toml only" : NULL;
}

bool tg_setting_takes(const char *table, const char *name, const json_t *v, struct tg_err *why)
{
	struct tg_config *scratch = tg_config_defaults();
	why->text[0] = 0;
	bool ok = scratch && tg_option_set_json(tg_option_find(table, name), scratch, v, NULL, why);
	if (!scratch)
		tg_err_set(why, "out of memory");
	tg_config_free(scratch);
	return ok;
}

json_t *tg_settings_read(const char *path, struct tg_err *err)
{
	size_t n;
	json_error_t e;
	struct tg_err why;
	char *text = tg_read_file(path, TG_SETTINGS_MAX, &n, NULL, &why);
	if (!text && (errno == ENOENT || errno == ENOTDIR))
		return json_object();
	json_t *tree = text ? json_loadb(text, n, JSON_REJECT_DUPLICATES, &e) : NULL;
	if (!text)
		tg_err_set(err, "%.300s: %s", path, why.text);
	else if (!json_is_object(tree))
		tg_err_set(err, "%.300s: is not a JSON object", path);
	free(text);
	if (json_is_object(tree))
		return tree;
	json_decref(tree);
	return NULL;
}

bool tg_settings_merge(json_t *settings, const json_t *patch)
{
	const char *table, *name;
	json_t *values, *v;
	json_object_foreach((json_t *)(uintptr_t)patch, table, values) {
		json_t *own = json_object_get(settings, table);
		if (!own && json_object_set_new(settings, table, own = json_object()) != 0)
			return false;
		json_object_foreach(values, name, v)
			if (json_is_null(v) ? (json_object_del(own, name), false) : json_object_set(own, name, v) != 0)
				return false;
		if (!json_object_size(own))
			json_object_del(settings, table);
	}
	return true;
}

bool tg_settings_write(const char *path, const json_t *settings, struct tg_err *err)
{
	char *text = json_dumps(settings, JSON_INDENT(2) | JSON_SORT_KEYS);
	bool ok = text && strlen(text) < TG_SETTINGS_MAX && tg_replace_file(path, tg_slice_cstr(text));
	if (!ok)
		tg_err_set(err, "%.300s: cannot be written: %s", path, text ? strerror(errno) : "out of memory");
	free(text);
	return ok;
}

static bool apply_one(struct loader *l, const char *path, const char *table, const char *name, const json_t *v)
{
	struct tg_err why = { "" };
	const char *fault = tg_setting_fault(table, name, &why);
	const struct tg_option *o = fault ? NULL : tg_option_find(table, name);
	if (fault || !tg_option_set_json(o, l->c, v, &l->env, &why)) {
		tg_err_set(l->err, "%.250s: [%.60s] %.60s: %s%s", path, table, name, !fault ? "" : *fault ? fault : "no such option", why.text);
		return false;
	}
	return tg_load_origin(l, (unsigned)(o - tg_options), path);
}

bool tg_load_settings(struct loader *l)
{
	char path[PATH_BYTES];
	const char *table, *name;
	json_t *values, *v;
	if (!l->src->env || !tg_config_data_path(l->c, "settings.json", path, sizeof path))
		return true;
	json_t *tree = l->src->settings ? json_incref((json_t *)(uintptr_t)l->src->settings) : tg_settings_read(path, l->err);
	bool ok = tree != NULL;
	json_object_foreach(tree, table, values) {
		if (!json_is_object(values)) {
			tg_err_set(l->err, "%.250s: \"%.60s\" must be an object: a table's options", path, table);
			ok = false;
		}
		json_object_foreach(values, name, v)
			if (ok)
				ok = apply_one(l, path, table, name, v);
	}
	json_decref(tree);
	return ok;
}
