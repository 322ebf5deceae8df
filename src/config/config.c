/*
 * Loading: defaults, then data/keys.env, .env, the TOML file and the environment, each over the one before, then the profile where none of them says anything, into one
 * struct that nobody changes afterwards. Everything in the TOML file is checked even where the environment overrides it, so that `config check`
 * means the file.
 *
 * Invariants: a struct tg_config that leaves here is whole; on any fault everything is given back and err says where (file:line:column
 * or variable), which option, what was wrong. No secret stands in an error, a warning or `config show`.
 */
#include "config/loader.h"
#include <errno.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MODELS_MAX = 1000 };

void tg_load_warn(const struct loader *l, const char *fmt, ...)
{
	struct tg_err e;
	va_list ap;
	if (!l->warn)
		return;
	va_start(ap, fmt);
	vsnprintf(e.text, sizeof e.text, fmt, ap);
	va_end(ap);
	l->warn(l->warn_ctx, e.text);
}

/* ---- variables ---- */

/* As written first; document 004's settings are then found in any case, as its own library finds them. */
static const char *environ_find(char *const *env, const char *name)
{
	size_t n = strlen(name);
	const char *other = NULL;
	for (; env && *env; env++) {
		if (strncmp(*env, name, n) == 0 && (*env)[n] == '=')
			return *env + n + 1;
		if (!other && tg_option_alias_is(name, n, *env, strcspn(*env, "=")) && (*env)[n] == '=')
			other = *env + n + 1;
	}
	return other;
}

static const struct tg_env_var *file_find(const struct tg_env_file *f, const char *name)
{
	const struct tg_env_var *v = tg_env_find(f, name);
	for (size_t i = f->n; !v && i-- > 0;)
		if (tg_option_alias_is(name, strlen(name), f->v[i].name, strlen(f->v[i].name)))
			v = &f->v[i];
	return v;
}

/* An empty one counts as unset, since that is what `${X:-}` in a compose file gives. */
const char *tg_load_variable(const struct loader *l, enum layer from, const char *name, int *line)
{
	const char *v;
	*line = 0;
	if (from == FROM_ENV) {
		v = environ_find(l->src->env, name);
	} else {
		const struct tg_env_var *e = file_find(from == FROM_DOTENV ? &l->dotenv : &l->keys, name);
		v = e ? e->value : NULL;
		*line = e ? e->line : 0;
	}
	return v && *v ? v : NULL;
}

const char *tg_load_any(const struct loader *l, const char *name, enum layer *from, int *line)
{
	static const enum layer order[] = { FROM_ENV, FROM_DOTENV, FROM_KEYS_ENV };
	const char *v = NULL;
	for (unsigned i = 0; !v && i < 3; i++)
		v = tg_load_variable(l, *from = order[i], name, line);
	return v;
}

/* For "env:NAME". */
static const char *any_variable(void *ctx, const char *name)
{
	enum layer from;
	int line;
	return tg_load_any(ctx, name, &from, &line);
}

void tg_load_secret_file(struct loader *l, const char *path, bool refused)
{
	struct tg_err text;
	mode_t mode = tg_secret_file_exposed(path);
	if (!mode)
		return;
	tg_secret_file_text(path, NULL, mode, &text);
	if (refused && !l->exposed.text[0])
		l->exposed = text;
	tg_load_warn(l, "%s", text.text);
}

/* "file:" values: a mount of a container may give them any mode, so that nothing more than a warning comes of it. */
static void read_file(void *ctx, const char *path)
{
	tg_load_secret_file(ctx, path, false);
}

unsigned tg_load_row(const char *table, const char *name)
{
	return (unsigned)(tg_option_find(table, name) - tg_options);
}

void tg_load_place(const struct loader *l, enum layer from, const char *name, int line, char *out, size_t cap)
{
	if (from == FROM_ENV)
		snprintf(out, cap, "environment %s", name);
	else
		snprintf(out, cap, "%.250s:%d %s", from == FROM_DOTENV ? l->dotenv_path : l->keys_path, line, name);
}

bool tg_load_origin(struct loader *l, unsigned i, const char *text)
{
	char *copy = strdup(text);
	if (!copy) {
		tg_err_set(l->err, "out of memory");
		return false;
	}
	free(l->c->origins->text[i]);
	l->c->origins->text[i] = copy;
	return true;
}

/* The option's variable in a layer: its own name before the documents' names. found: room for the name. */
static const char *option_variable(const struct loader *l, enum layer from, const struct tg_option *o, char found[TG_OPTION_ENV_MAX], int *line)
{
	tg_option_env_name(o->table, o->name, found);
	const char *v = tg_load_variable(l, from, found, line);
	for (const char *a = o->aliases; !v && *a;) {
		size_t n = strcspn(a, " ");
		snprintf(found, TG_OPTION_ENV_MAX, "%.*s", (int)n, a);
		v = tg_load_variable(l, from, found, line);
		a += n + (a[n] == ' ');
	}
	return v;
}

/* The two options that other variables have a say in (documents.c). */
static void note_layer(struct loader *l, const struct tg_option *o, enum layer from)
{
	if (o->type == TG_OPT_LISTEN)
		l->listen_from = from;
	else if (o->type == TG_OPT_ARTIFACTS)
		l->artifacts_from = from;
}

static bool apply_variable(struct loader *l, enum layer from, unsigned i, bool *applied)
{
	const struct tg_option *o = &tg_options[i];
	char name[TG_OPTION_ENV_MAX], where[400];
	struct tg_err why;
	int line;
	const char *v = option_variable(l, from, o, name, &line);
	*applied = v != NULL;
	if (!v)
		return true;
	tg_load_place(l, from, name, line, where, sizeof where);
	if (!tg_option_set_text(o, l->c, v, &l->env, &why)) {
		tg_err_set(l->err, "%s: %s", where, why.text);
		return false;
	}
	note_layer(l, o, from);
	return tg_load_origin(l, i, where);
}

/* ---- TOML ---- */

static void where_toml(const struct loader *l, const char *path, char *out, size_t cap)
{
	const struct tg_toml_pos *p = tg_toml_where(&l->toml, path);
	snprintf(out, cap, "%.250s:%d:%d", l->c->path, p ? p->line : 1, p ? p->column : 1);
}

/* A key for a message: no control characters, not long. */
static void show_key(const char *key, char out[80])
{
	size_t i = 0;
	for (; key[i] && i < 60; i++)
		out[i] = (unsigned char)key[i] < 0x20 || key[i] == 0x7f ? '?' : key[i];
	/* not in the middle of a character */
	while (i && key[i] && ((unsigned char)key[i] & 0xc0) == 0x80)
		i--;
	snprintf(out + i, 80 - i, "%s", key[i] ? "..." : "");
}

static void pointer(char *out, size_t cap, const char *prefix, const char *key)
{
	size_t n = (size_t)snprintf(out, cap, "%s/", prefix);
	for (; *key && n + 3 < cap; key++) {
		if (*key == '~' || *key == '/') {
			out[n++] = '~';
			out[n++] = *key == '~' ? '0' : '1';
		} else {
			out[n++] = *key;
		}
	}
	out[n < cap ? n : cap - 1] = 0;
}

static bool fault_at(const struct loader *l, const char *path, const char *table, const char *fmt, const char *a)
{
	char where[300];
	where_toml(l, path, where, sizeof where);
	bool model = strcmp(table, "model") == 0;
	struct tg_buf t;
	tg_buf_init(&t, sizeof l->err->text);
	tg_buf_cstr(&t, where);
	tg_buf_lit(&t, ": ");
	if (*table) {
		tg_buf_cstr(&t, model ? "[[" : "[");
		tg_buf_cstr(&t, table);
		tg_buf_cstr(&t, model ? "]] " : "] ");
	}
	for (const char *p = fmt; *p; p++)
		if (*p == '@')
			tg_buf_cstr(&t, a);
		else
			tg_buf_char(&t, *p);
	snprintf(l->err->text, sizeof l->err->text, "%.*s", (int)t.len, t.p ? t.p : "");
	tg_buf_free(&t);
	return false;
}

static bool unknown_key(const struct loader *l, const char *path, const char *table, const char *key)
{
	char shown[80];
	show_key(key, shown);
	const char *later = tg_option_later(table, key);
	if (later) {
		char text[400];
		snprintf(text, sizeof text, "%s: %s", shown, later);
		return fault_at(l, path, table, "@", text);
	}
	fault_at(l, path, table, "unknown key \"@\"", shown);
	tg_option_suggest(table, key, l->err);
	return false;
}

static bool set_toml(struct loader *l, const char *path, const struct tg_option *o, void *base, const json_t *v)
{
	struct tg_err why;
	if (tg_option_set_json(o, base, v, &l->env, &why)) {
		bool literal = o->type == TG_OPT_KEYS ? json_array_size(v) > 0
			: tg_opt_secret(o->type) && json_string_length(v) && strncmp(json_string_value(v), "file:", 5) != 0 && strncmp(json_string_value(v), "env:", 4) != 0;
		if (literal && l->file_open)
			tg_load_warn(l, "%.250s holds a key (%s) and can be read by others: chmod 600 it, or write \"file:/path\"", l->c->path, o->name);
		return true;
	}
	char text[640];
	snprintf(text, sizeof text, "%s: %s", o->name, why.text);
	return fault_at(l, path, o->table, "@", text);
}

static bool apply_option(struct loader *l, const char *path, const char *table, const char *key, const json_t *v)
{
	const struct tg_option *o = tg_option_find(table, key);
	if (!o)
		return unknown_key(l, path, table, key);
	if (!set_toml(l, path, o, l->c, v))
		return false;
	note_layer(l, o, FROM_TOML);
	const struct tg_toml_pos *p = tg_toml_where(&l->toml, path);
	char where[300];
	snprintf(where, sizeof where, "%.250s:%d", l->c->path, p ? p->line : 1);
	return tg_load_origin(l, (unsigned)(o - tg_options), where);
}

static bool model_defaults(struct tg_model_conf *m, struct tg_err *err)
{
	for (unsigned i = 0; i < tg_nmodel_options; i++) {
		const struct tg_option *o = &tg_model_options[i];
		if (*o->deflt && !tg_option_set_text(o, m, o->deflt, NULL, err))
			return false;
	}
	return true;
}

static void warn_model(const struct loader *l, const struct tg_model_conf *m)
{
	for (size_t i = 0; i < m->urls.n; i++) {
		struct tg_url u;
		struct tg_err why;
		if (tg_url_parse(tg_slice_cstr(m->urls.v[i]), &u, &why) && u.base.n >= 3 && memcmp(u.base.p + u.base.n - 3, "/v1", 3) == 0)
			tg_load_warn(l, "%.250s:%d: [[model]] %s: %.100s ends in /v1: the gate adds /v1/... itself", l->c->path, m->line, m->name, m->urls.v[i]);
	}
	if (m->first_byte_ms > m->total_ms)
		tg_load_warn(l, "%.250s:%d: [[model]] %s: total_ms is less than first_byte_ms and ends every answer first", l->c->path, m->line, m->name);
}

static bool given(const struct tg_model_conf *m, const char *name)
{
	return m->given >> (tg_option_find("model", name) - tg_model_options) & 1;
}

/* Where its workers come from: they run somewhere (urls), or are started (command). */
static bool check_workers(struct loader *l, const char *path, struct tg_model_conf *m)
{
	if (m->urls.n && m->command.n)
		return fault_at(l, path, "model", "@: urls and command exclude each other: its workers run already, or are started", m->name);
	if (m->command.n) {
		bool port = tg_model_says(m, "{port}"), socket = tg_model_says(m, "{socket}");
		if (!*m->command.v[0])
			return fault_at(l, path, "model", "@: command begins with an empty string: the program is missing", m->name);
		if (!port && !socket)
			return fault_at(l, path, "model", "@: neither command nor env holds {port} or {socket}: the gate could not know where the worker listens", m->name);
		if (port && socket)
			return fault_at(l, path, "model", "@: command and env hold both {port} and {socket}: a worker listens at one", m->name);
		if (!m->file && tg_model_says(m, "{file}"))
			return fault_at(l, path, "model", "@: the command holds {file}, and file is not set", m->name);
		if (!given(m, "slots"))
			m->slots = tg_started_slots(m->protocol);
		return true;
	}
	if (!m->urls.n)
		return fault_at(l, path, "model", "@: urls is missing: where its workers are, as urls = [\"http://127.0.0.1:8000\"]; or command: what starts them", m->name);
	if (m->env.n || (given(m, "workers") && m->workers != 1))
		return fault_at(l, path, "model", "@: workers and env are of workers that command starts; with urls there are as many as urls has", m->name);
	return true;
}

static bool apply_model(struct loader *l, size_t i, json_t *table)
{
	char path[32], at[PATH_BYTES];
	snprintf(path, sizeof path, "/model/%zu", i);
	if (!json_is_object(table))
		return fault_at(l, path, "", "model must be written as tables: [[model]]", "");
	struct tg_model_conf *m = &l->c->models[i];
	l->c->nmodels = i + 1; /* counted from here, so that a fault below frees it too */
	if (!model_defaults(m, l->err))
		return false;
	const struct tg_toml_pos *p = tg_toml_where(&l->toml, path);
	m->line = p ? p->line : 1;
	const char *key;
	json_t *v;
	json_object_foreach(table, key, v) {
		const struct tg_option *o = tg_option_find("model", key);
		pointer(at, sizeof at, path, key);
		if (!o)
			return unknown_key(l, at, "model", key);
		if (!set_toml(l, at, o, m, v))
			return false;
		m->given |= 1u << (o - tg_model_options);
	}
	if (!m->name)
		return fault_at(l, path, "model", "name is missing", "");
	if (!check_workers(l, path, m))
		return false;
	warn_model(l, m);
	return true;
}

struct used_name {
	const char *name;
	size_t model;
};

static int by_name(const void *a, const void *b)
{
	const struct used_name *x = a, *y = b;
	int c = strcmp(x->name, y->name);
	return c ? c : (x->model > y->model) - (x->model < y->model);
}

static bool names_unique(struct loader *l)
{
	struct tg_config *c = l->c;
	size_t n = 0, k = 0;
	for (size_t i = 0; i < c->nmodels; i++)
		n += 1 + c->models[i].aliases.n;
	struct used_name *u = calloc(n + 1, sizeof *u);
	if (!u) {
		tg_err_set(l->err, "out of memory");
		return false;
	}
	for (size_t i = 0; i < c->nmodels; i++) {
		u[k++] = (struct used_name){ c->models[i].name, i };
		for (size_t j = 0; j < c->models[i].aliases.n; j++)
			u[k++] = (struct used_name){ c->models[i].aliases.v[j], i };
	}
	qsort(u, n, sizeof *u, by_name);
	bool ok = true;
	for (size_t i = 1; ok && i < n; i++)
		if (strcmp(u[i - 1].name, u[i].name) == 0) {
			char path[32], text[320];
			snprintf(path, sizeof path, "/model/%zu", u[i].model);
			snprintf(text, sizeof text, "the name or alias \"%s\" is taken by the model of line %d", u[i].name, c->models[u[i - 1].model].line);
			ok = fault_at(l, path, "model", "@", text);
		}
	free(u);
	return ok;
}

static bool apply_models(struct loader *l, json_t *list)
{
	size_t n = json_array_size(list);
	if (!json_is_array(list))
		return fault_at(l, "/model", "", "a model is written [[model]], with two brackets", "");
	if (n > MODELS_MAX)
		return fault_at(l, "/model", "", "there are more than 1000 models", "");
	l->c->models = calloc(n + 1, sizeof *l->c->models);
	if (!l->c->models) {
		tg_err_set(l->err, "out of memory");
		return false;
	}
	for (size_t i = 0; i < n; i++)
		if (!apply_model(l, i, json_array_get(list, i)))
			return false;
	return names_unique(l);
}

static bool apply_table(struct loader *l, const char *path, const char *table, json_t *values)
{
	const char *key;
	json_t *v;
	char at[PATH_BYTES];
	if (!json_is_object(values))
		return fault_at(l, path, "", "@ must be a table, written [@]", table);
	json_object_foreach(values, key, v) {
		pointer(at, sizeof at, path, key);
		if (!apply_option(l, at, table, key, v))
			return false;
	}
	return true;
}

static bool apply_toml(struct loader *l)
{
	const char *key;
	json_t *v;
	char path[PATH_BYTES], shown[80];
	json_object_foreach(l->toml.root, key, v) {
		bool ok;
		pointer(path, sizeof path, "", key);
		show_key(key, shown);
		const char *later = tg_option_later(key, "");
		if (strcmp(key, "model") == 0) {
			ok = apply_models(l, v);
		} else if (tg_option_table_known(key)) {
			ok = apply_table(l, path, key, v);
		} else if (later) {
			ok = fault_at(l, path, shown, "@", later);
		} else if (json_is_object(v) || json_is_array(v)) {
			if (json_is_object(v) || json_is_object(json_array_get(v, 0))) {
				ok = fault_at(l, path, "", "unknown table [@]", shown);
				tg_option_suggest_table(key, l->err);
			} else {
				ok = apply_option(l, path, "", key, v);
			}
		} else {
			ok = apply_option(l, path, "", key, v);
		}
		if (!ok)
			return false;
	}
	return true;
}

/* ---- files ---- */

static bool read_toml(struct loader *l)
{
	const struct tg_config_source *s = l->src;
	char path[PATH_BYTES];
	struct tg_err why;
	struct tg_toml_fault fault;
	mode_t mode = 0;
	size_t n;
	bool in_dir = s->dir && strcmp(s->dir, ".") != 0;
	int k = s->path ? snprintf(path, sizeof path, "%s", s->path) : snprintf(path, sizeof path, "%s%stollgate.toml", in_dir ? s->dir : "", in_dir ? "/" : "");
	if (k < 0 || (size_t)k >= sizeof path) {
		tg_err_set(l->err, "the path of the configuration file is too long");
		return false;
	}
	char *text = tg_read_file(path, TG_TOML_MAX_BYTES, &n, &mode, &why);
	if (!text && errno == ENOENT && !s->path)
		return true;
	l->c->path = strdup(path);
	if (!text || !l->c->path) {
		tg_err_set(l->err, "%.300s: %s", path, text ? "out of memory" : why.text);
		free(text);
		return false;
	}
	l->has_file = true;
	l->file_open = mode & 044;
	bool ok = tg_toml_parse(text, n, &l->toml, &fault);
	explicit_bzero(text, n);
	free(text);
	if (!ok)
		tg_err_set(l->err, "%.250s:%d:%d: %s", path, fault.line, fault.column, fault.text);
	return ok;
}

/* A file of variables beside the configuration file; absent is fine. */
static bool read_env_file(struct loader *l, const char *name, char path[PATH_BYTES], struct tg_env_file *out)
{
	const char *file = l->c->path, *slash = file ? strrchr(file, '/') : NULL;
	struct tg_err why;
	size_t n;
	int k;
	if (slash)
		k = snprintf(path, PATH_BYTES, "%.*s/%s", (int)(slash - file), file, name);
	else if (!file && l->src->dir && strcmp(l->src->dir, ".") != 0)
		k = snprintf(path, PATH_BYTES, "%s/%s", l->src->dir, name);
	else
		k = snprintf(path, PATH_BYTES, "%s", name);
	if (k < 0 || k >= PATH_BYTES) {
		tg_err_set(l->err, "the path of %s is too long", name);
		return false;
	}
	char *text = tg_read_file(path, TG_ENV_MAX_BYTES, &n, NULL, &why);
	/* data/ is where the program works: a configuration that lies elsewhere, as in /etc, has no such folder beside it. */
	if (!text && errno == ENOENT && slash && strncmp(name, "data/", 5) == 0 && access(name, F_OK) == 0) {
		snprintf(path, PATH_BYTES, "%s", name);
		text = tg_read_file(path, TG_ENV_MAX_BYTES, &n, NULL, &why);
	}
	if (!text) {
		if (errno == ENOENT || errno == ENOTDIR)
			return true;
		tg_err_set(l->err, "%.300s: %s", path, why.text);
		return false;
	}
	tg_load_secret_file(l, path, true);
	bool ok = tg_env_parse(path, (struct tg_slice){ text, n }, out, l->err);
	explicit_bzero(text, n);
	free(text);
	return ok;
}

/* --workers NAME=N of the command line, over the file. */
static bool apply_counts(struct loader *l)
{
	for (unsigned i = 0; i < l->src->nworkers; i++) {
		const struct tg_worker_count *w = &l->src->workers[i];
		struct tg_model_conf *m = NULL;
		for (size_t k = 0; k < l->c->nmodels; k++)
			if (tg_slice_eq(w->model, tg_slice_cstr(l->c->models[k].name)))
				m = &l->c->models[k];
		if (l->src->reload && (!m || !m->command.n)) {
			tg_load_warn(l, "--workers %.*s=%u is ignored: there is no such model with a command any more", (int)(w->model.n < 128 ? w->model.n : 128), w->model.p, w->n);
			continue;
		}
		if (!m || !m->command.n) {
			tg_err_set(l->err, "--workers %.*s=%u: %s", (int)(w->model.n < 128 ? w->model.n : 128), w->model.p, w->n,
				   m ? "that model has urls, not a command to start workers with" : "there is no such model in the configuration");
			return false;
		}
		m->workers = w->n;
	}
	return true;
}

/* ---- the whole ---- */

static bool set_defaults(struct tg_config *c, struct tg_err *err)
{
	_Static_assert(sizeof(c->origins->text) / sizeof(c->origins->text[0]) == ORIGINS_MAX, "one origin a row");
	c->origins = calloc(1, sizeof *c->origins);
	if (!c->origins || tg_noptions > ORIGINS_MAX) {
		tg_err_set(err, "out of memory");
		return false;
	}
	for (unsigned i = 0; i < tg_noptions; i++)
		if (*tg_options[i].deflt && !tg_option_set_text(&tg_options[i], c, tg_options[i].deflt, NULL, err))
			return false;
	return true;
}

/* Options that are off when they are empty: an empty text was set as NULL, and their readers look at the first character. */
static bool keep_empty(struct tg_config *c, struct tg_err *err)
{
	char **texts[] = { &c->store_url, &c->audit_path };
	for (size_t i = 0; i < sizeof texts / sizeof *texts; i++)
		if (!*texts[i] && !(*texts[i] = strdup(""))) {
			tg_err_set(err, "out of memory");
			return false;
		}
	return true;
}

static bool load(struct loader *l)
{
	bool done = false;
	if (!set_defaults(l->c, l->err) || !read_toml(l) || !read_env_file(l, ".env", l->dotenv_path, &l->dotenv) || !read_env_file(l, "data/keys.env", l->keys_path, &l->keys))
		return false;
	for (unsigned i = 0; i < tg_noptions; i++)
		if (!apply_variable(l, FROM_DOTENV, i, &done) || (!done && !apply_variable(l, FROM_KEYS_ENV, i, &done)))
			return false;
	if ((l->has_file && !apply_toml(l)) || !tg_load_settings(l))
		return false;
	for (unsigned i = 0; i < tg_noptions; i++)
		if (!apply_variable(l, FROM_ENV, i, &done))
			return false;
	if (!keep_empty(l->c, l->err) || !tg_load_documents(l) || !apply_counts(l) || !tg_profile_apply(l) || !tg_load_key_file(l) || !tg_load_check(l) || !tg_profile_check(l))
		return false;
	tg_load_warn_unknown(l);
	tg_load_warn_keys(l);
	return true;
}

struct tg_config *tg_config_load(const struct tg_config_source *src, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx)
{
	struct loader *l = calloc(1, sizeof *l);
	struct tg_config *c = calloc(1, sizeof *c);
	err->text[0] = 0;
	if (!l || !c) {
		tg_err_set(err, "out of memory");
		free(l);
		free(c);
		return NULL;
	}
	*l = (struct loader){ .src = src, .c = c, .err = err, .warn = warn, .warn_ctx = ctx };
	l->env = (struct tg_option_env){ any_variable, l, read_file };
	if (!load(l)) {
		tg_config_free(c);
		c = NULL;
	}
	if (l->toml.root)
		tg_toml_free(&l->toml);
	tg_env_free(&l->dotenv);
	tg_env_free(&l->keys);
	free(l);
	return c;
}

struct tg_config *tg_config_defaults(void)
{
	struct tg_err err;
	struct tg_config *c = calloc(1, sizeof *c);
	if (c && !set_defaults(c, &err)) {
		tg_config_free(c);
		c = NULL;
	}
	return c;
}

void tg_config_free(struct tg_config *c)
{
	if (!c)
		return;
	for (unsigned i = 0; i < tg_noptions; i++) {
		tg_option_free(&tg_options[i], c);
		if (c->origins && i < ORIGINS_MAX)
			free(c->origins->text[i]);
	}
	for (size_t m = 0; m < c->nmodels; m++)
		for (unsigned i = 0; i < tg_nmodel_options; i++)
			tg_option_free(&tg_model_options[i], &c->models[m]);
	tg_strlist_free(&c->chapkit_file_keys);
	free(c->models);
	free(c->origins);
	free(c->path);
	free(c);
}

const char *tg_config_origin(const struct tg_config *c, const char *table, const char *name)
{
	const struct tg_option *o = tg_option_find(table, name);
	if (!o || o < tg_options || o >= tg_options + tg_noptions)
		return NULL;
	const char *t = c->origins ? c->origins->text[o - tg_options] : NULL;
	return t ? t : "default";
}

bool tg_config_needs_restart(const struct tg_config *old, const struct tg_config *new_, char *names, size_t cap)
{
	size_t at = 0;
	bool any = false;
	if (cap)
		names[0] = 0;
	for (unsigned i = 0; i < tg_noptions; i++) {
		const struct tg_option *o = &tg_options[i];
		if (o->live || tg_option_equal(o, old, new_))
			continue;
		int k = snprintf(names ? names + at : NULL, cap - at, "%s%s%s%s", any ? ", " : "", o->table, *o->table ? "." : "", o->name);
		at = k > 0 && (size_t)k < cap - at ? at + (size_t)k : cap ? cap - 1 : 0;
		any = true;
	}
	return any;
}
