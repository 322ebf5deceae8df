/*
 * What the documents configure in ways of their own: two variables that each are half an address, three that together are one URL, and a file of
 * keys. None of them is an option, and each is named by its own name when it is wrong.
 *
 * Invariants: as config.c. A variable of a higher layer than the option it stands for replaces it, one of a lower layer does not.
 */
#include "config/loader.h"
#include <errno.h>
#include <stdlib.h>

enum { KEY_FILE_MAX = 1 << 20 };

/* ---- LOAD_BALANCER_HOST and LOAD_BALANCER_PORT ---- */

/* Each replaces its half of the first entry, if it does not come from a lower layer than the entry itself. */
static bool apply_half(struct loader *l, const char *name, bool port)
{
	struct tg_listen first;
	struct tg_err why;
	char where[400], entry[400], origin[900];
	enum layer from;
	int line;
	const char *v = tg_load_any(l, name, &from, &line);
	if (!v || from < l->listen_from)
		return true;
	tg_load_place(l, from, name, line, where, sizeof where);
	struct tg_strlist *list = &l->c->listen;
	if (!tg_listen_parse(tg_slice_cstr(list->v[0]), &first, &why) || first.unix_socket) {
		tg_err_set(l->err, "%s: the first listen entry, %.120s, has no host and port to replace", where, list->v[0]);
		return false;
	}
	char host[128];
	snprintf(host, sizeof host, "%.*s", (int)first.host.n, first.host.p);
	const char *kind = tg_listen_prefixes[first.kind];
	if (port) {
		snprintf(entry, sizeof entry, strchr(host, ':') ? "%s[%s]:%.40s" : "%s%s:%.40s", kind, host, v);
	} else {
		bool bare6 = strchr(v, ':') && v[0] != '[';
		snprintf(entry, sizeof entry, bare6 ? "%s[%.120s]:%u" : "%s%.120s:%u", kind, v, first.port);
	}
	if (!tg_listen_parse(tg_slice_cstr(entry), &first, &why)) {
		tg_err_set(l->err, "%s: %s", where, why.text);
		return false;
	}
	unsigned row = tg_load_row("server", "listen");
	const char *old = l->c->origins->text[row];
	char normal[200];
	char *copy = tg_listen_text(&first, normal, sizeof normal) ? strdup(normal) : NULL;
	if (!copy) {
		tg_err_set(l->err, "out of memory");
		return false;
	}
	free(list->v[0]);
	list->v[0] = copy;
	snprintf(origin, sizeof origin, "%.400s, %s", old ? old : "default", where);
	return tg_load_origin(l, row, origin);
}

/* ---- document 004's MODEL_STORAGE_TYPE, MODEL_STORAGE_PATH and S3_BUCKET ---- */

struct part {
	const char *name, *value;
	enum layer from;
	char where[400];
};

static void find(const struct loader *l, struct part *p)
{
	int line;
	p->value = tg_load_any(l, p->name, &p->from, &line);
	if (p->value)
		tg_load_place(l, p->from, p->name, line, p->where, sizeof p->where);
	else
		p->from = FROM_DEFAULT;
}

static bool apply_storage(struct loader *l)
{
	struct part type = { .name = "CREDIT_RISK_MODEL_STORAGE_TYPE" }, path = { .name = "CREDIT_RISK_MODEL_STORAGE_PATH" };
	struct part bucket = { .name = "CREDIT_RISK_S3_BUCKET" };
	char url[2200];
	struct tg_err why;
	find(l, &type);
	find(l, &path);
	find(l, &bucket);
	bool s3 = type.value && tg_slice_eq_nocase(tg_slice_cstr(type.value), TG_S("s3"));
	if (type.value && !s3 && !tg_slice_eq_nocase(tg_slice_cstr(type.value), TG_S("filesystem"))) {
		tg_err_set(l->err, "%s: must be \"filesystem\" or \"s3\"", type.where);
		return false;
	}
	if (s3 && !bucket.value) {
		tg_err_set(l->err, "%s: s3 needs a bucket: set CREDIT_RISK_S3_BUCKET", type.where);
		return false;
	}
	if (bucket.value && !s3)
		tg_load_warn(l, "%s is ignored: CREDIT_RISK_MODEL_STORAGE_TYPE is not s3", bucket.where);
	const struct part *says = s3 ? &bucket : path.value ? &path : &type; /* what is wrong with the URL is wrong with that */
	enum layer from = s3 ? type.from : path.from > type.from ? path.from : type.from;
	if (!says->value || from <= l->artifacts_from)
		return true;
	unsigned row = tg_load_row("artifacts", "url");
	snprintf(url, sizeof url, "%s%.2100s", s3 ? "s3://" : "file:", s3 ? bucket.value : path.value ? path.value : "artifacts/models");
	if (!tg_option_set_text(&tg_options[row], l->c, url, NULL, &why)) {
		tg_err_set(l->err, "%s: %s", says->where, why.text);
		return false;
	}
	return tg_load_origin(l, row, says->where);
}

bool tg_load_documents(struct loader *l)
{
	return apply_half(l, "LOAD_BALANCER_HOST", false) && apply_half(l, "LOAD_BALANCER_PORT", true) && apply_storage(l);
}

/* ---- CHAPKIT_API_KEY_FILE ---- */

/* One key a line, # before a comment: written over as the comma separated list that it means, in one line. A JSON list only loses its line ends. */
static void flatten(char *text)
{
	bool json = text[strspn(text, " \t\r\n")] == '[';
	for (char *p = text; *p;) {
		size_t n = strcspn(p, "\r\n"), blanks = strspn(p, " \t");
		if (!json && p[blanks] == '#')
			memset(p, ' ', n);
		p += n;
		if (*p)
			*p++ = json ? ' ' : ',';
	}
}

bool tg_load_key_file(struct loader *l)
{
	static const struct tg_option list = { "auth", "chapkit_key_file", TG_OPT_KEYS, offsetof(struct tg_config, chapkit_file_keys), "", 1, 100000, true, "", "" };
	struct tg_config *c = l->c;
	struct tg_err why = { "" };
	size_t n;
	const char *named = c->chapkit_key_file, *usual = l->src->key_file ? l->src->key_file : "/run/secrets/ml_api_keys", *path = named ? named : usual;
	char *text = tg_read_file(path, KEY_FILE_MAX, &n, NULL, &why);
	if (!text && !named && (errno == ENOENT || errno == ENOTDIR))
		return true;
	bool ok = text != NULL;
	if (ok && memchr(text, 0, n)) {
		tg_err_set(&why, "the file holds NUL");
		ok = false;
	}
	if (ok) {
		tg_load_secret_file(l, path, false);
		flatten(text);
		ok = tg_option_set_text(&list, c, text, NULL, &why);
	}
	if (text)
		explicit_bzero(text, n);
	free(text);
	if (!ok) {
		const char *where = named ? tg_config_origin(c, "auth", "chapkit_key_file") : "CHAPKIT_API_KEY_FILE's usual place";
		tg_err_set(l->err, "[auth] chapkit_key_file (%.150s): %.200s: %.120s", where, path, why.text);
		return false;
	}
	if (named)
		return true;
	c->chapkit_key_file = strdup(usual);
	if (!c->chapkit_key_file) {
		tg_err_set(l->err, "out of memory");
		return false;
	}
	return tg_load_origin(l, tg_load_row("auth", "chapkit_key_file"), "found there");
}
