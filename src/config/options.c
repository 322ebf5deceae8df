/*
 * One option at a time: the table as data, setting a field from TOML or from text, printing, comparing. Both ways in end in the same
 * checks, so that a value is right or wrong whatever its source.
 *
 * Invariants: a setter replaces the field whole or leaves it alone; secrets are wiped before their memory goes back and never stand in
 * an error text.
 */
#include "config/options.h"
#include "config/env.h"
#include "base/log.h"
#include "base/utf8.h"
#include <arpa/inet.h>
#include <inttypes.h>
#include <stdlib.h>

#define LIVE true
#define RESTART false
const struct tg_option tg_options[] = {
#define OPTION(t, n, type_, field, deflt_, min_, max_, reload, aliases_, doc_) \
	{ t, n, TG_OPT_##type_, offsetof(struct tg_config, field), deflt_, min_, max_, reload, aliases_, doc_ },
#include "tables/options.def"
};
const struct tg_option tg_model_options[] = {
#define MODEL(n, type_, field, deflt_, min_, max_, doc_) \
	{ "model", n, TG_OPT_##type_, offsetof(struct tg_model_conf, field), deflt_, min_, max_, true, "", doc_ },
#include "tables/options.def"
};
#undef LIVE
#undef RESTART
const unsigned tg_noptions = sizeof tg_options / sizeof *tg_options;
const unsigned tg_nmodel_options = sizeof tg_model_options / sizeof *tg_model_options;

enum { TEXT_MAX = 64 << 10, SHOWN = 60 };

/* Words of an enumeration, in the order of its values. */
static const char *const levels[] = { "debug", "info", "warn", "error", NULL };
static const char *const profiles[] = { "", "dev", "staging", "production", NULL };
static const char *const protocols[] = { "openai", "infer", NULL };
static const char *const affinities[] = { "session", "key", "off", NULL };

static const char *const *words(enum tg_option_type t)
{
	switch (t) {
	case TG_OPT_LEVEL: return levels;
	case TG_OPT_PROFILE: return profiles;
	case TG_OPT_AFFINITY: return affinities;
	default: return protocols;
	}
}

static bool is_list(enum tg_option_type t)
{
	return t >= TG_OPT_LIST;
}

static bool is_secret(enum tg_option_type t)
{
	return tg_opt_secret(t) || t == TG_OPT_KEYS;
}

static bool fail(struct tg_err *why, const char *text)
{
	tg_err_set(why, "%s", text);
	return false;
}

/* ---- lists ---- */

bool tg_strlist_add(struct tg_strlist *l, struct tg_slice s)
{
	char *copy = malloc(s.n + 1);
	char **v = copy ? realloc(l->v, (l->n + 1) * sizeof *v) : NULL;
	if (!v) {
		free(copy);
		return false;
	}
	if (s.n)
		memcpy(copy, s.p, s.n);
	copy[s.n] = 0;
	l->v = v;
	l->v[l->n++] = copy;
	return true;
}

void tg_strlist_free(struct tg_strlist *l)
{
	for (size_t i = 0; i < l->n; i++) {
		explicit_bzero(l->v[i], strlen(l->v[i])); /* some lists are of keys; the others are short */
		free(l->v[i]);
	}
	free(l->v);
	*l = (struct tg_strlist){ 0 };
}

/* ---- checks of text ---- */

/* What no option takes: control characters and broken UTF-8. Line ends and tabs stand in arguments that are scripts. */
static bool clean(const struct tg_option *o, struct tg_slice s, struct tg_err *why)
{
	bool script = o->type == TG_OPT_ARGV || o->type == TG_OPT_ENVS;
	for (size_t i = 0; i < s.n; i++)
		if (((unsigned char)s.p[i] < 0x20 && !(script && (s.p[i] == '\n' || s.p[i] == '\t'))) || s.p[i] == 0x7f)
			return fail(why, "holds a control character");
	return tg_utf8_valid(s.p, s.n) || fail(why, "is not valid UTF-8");
}

static bool blank_ends(struct tg_slice s)
{
	return s.n && (s.p[0] == ' ' || s.p[s.n - 1] == ' ');
}

static bool check_name(struct tg_slice s, struct tg_err *why)
{
	static const char *const reserved[] = { "info", "register", "set_active", "reload", "active", "pool" };
	if (!s.n || s.n > 128)
		return fail(why, "must be 1 to 128 characters");
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		bool alnum = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!alnum && (!memchr("._:/@+-", c, 7) || i == 0))
			return fail(why, "must begin with a letter or digit and hold letters, digits and . _ : / @ + - only");
	}
	for (size_t i = 0; i < sizeof reserved / sizeof *reserved; i++)
		if (tg_slice_eq(s, tg_slice_cstr(reserved[i]))) {
			tg_err_set(why, "\"%s\" is reserved: it is a path below /models", reserved[i]);
			return false;
		}
	return true;
}

static bool check_key(struct tg_slice s, struct tg_err *why)
{
	if (!s.n)
		return fail(why, "is empty");
	if (s.n > 4096)
		return fail(why, "is over 4096 bytes");
	if (s.p[0] == '[' || s.p[0] == '"' || s.p[0] == '\'')
		return fail(why, "begins with a quote or bracket: is it a JSON list that does not parse?");
	return !blank_ends(s) || fail(why, "begins or ends with a space");
}

/* A host as requests name it: lower case, IPv6 without brackets, no port. Written to out (cap 256). */
static bool check_host(struct tg_slice s, char *out, struct tg_err *why)
{
	if (s.n > 2 && s.p[0] == '[' && s.p[s.n - 1] == ']')
		s = (struct tg_slice){ s.p + 1, s.n - 2 };
	if (!s.n || s.n > 253)
		return fail(why, "must be 1 to 253 characters");
	for (size_t i = 0; i < s.n; i++)
		out[i] = s.p[i] >= 'A' && s.p[i] <= 'Z' ? (char)(s.p[i] | 32) : s.p[i];
	out[s.n] = 0;
	struct in6_addr a;
	if (strchr(out, ':'))
		return inet_pton(AF_INET6, out, &a) == 1 || fail(why, "must be a name or an address without port");
	return !out[strcspn(out, "/ @?#*,[]\"'\\")] || fail(why, "must be a name or an address without port; there are no wildcards");
}

/* NAME=value, the name as POSIX shells take it. */
static bool check_env(struct tg_slice s, struct tg_err *why)
{
	size_t n = 0;
	while (n < s.n && ((s.p[n] >= 'a' && s.p[n] <= 'z') || (s.p[n] >= 'A' && s.p[n] <= 'Z') || s.p[n] == '_' || (n && s.p[n] >= '0' && s.p[n] <= '9')))
		n++;
	return (n && n < s.n && s.p[n] == '=') || fail(why, "must be NAME=value");
}

/* Method and header names (RFC 9110 section 5.6.2); "*" is one by the letter, and would mean something else to browsers with credentials than without. */
static bool check_token(enum tg_option_type t, struct tg_slice s, struct tg_err *why)
{
	if (tg_slice_eq(s, TG_S("*")))
		return fail(why, "there are no wildcards here: write the names");
	for (size_t i = 0; i < s.n; i++) {
		char c = s.p[i];
		if (t == TG_OPT_METHODS && !(c >= 'A' && c <= 'Z'))
			return fail(why, "must be a method, in capital letters");
		if (!(c >= 'a' && c <= 'z') && !(c >= 'A' && c <= 'Z') && !(c >= '0' && c <= '9') && !memchr("!#$%&'*+-.^_`|~", c, 15))
			return fail(why, "must be the name of a header");
	}
	return (s.n && s.n <= 128) || fail(why, "must be 1 to 128 characters");
}

/* One entry; may be replaced by its normal form, which then stands in buf. */
static bool check_entry(enum tg_option_type t, struct tg_slice *s, char buf[256], struct tg_err *why)
{
	struct tg_url url;
	struct tg_listen l;
	switch (t) {
	case TG_OPT_LISTEN:
		if (!tg_listen_parse(*s, &l, why))
			return false;
		if (!l.unix_socket && tg_slice_eq(l.host, TG_S("127.0.0.1")) && tg_listen_text(&l, buf, 256)) /* it may have been "localhost" */
			*s = tg_slice_cstr(buf);
		return true;
	case TG_OPT_HOSTS:
		if (!check_host(*s, buf, why))
			return false;
		*s = tg_slice_cstr(buf);
		return true;
	case TG_OPT_ORIGINS:
		if (!tg_origin_parse(*s, buf, why))
			return false;
		*s = tg_slice_cstr(buf);
		return true;
	case TG_OPT_METHODS:
	case TG_OPT_FIELDS:
		return check_token(t, *s, why);
	case TG_OPT_URLS:
		return tg_url_parse(*s, &url, why);
	case TG_OPT_NAMES:
		return check_name(*s, why);
	case TG_OPT_KEYS:
		return check_key(*s, why);
	case TG_OPT_ENVS:
		return check_env(*s, why);
	case TG_OPT_ARGV:
		return true; /* an argument may be empty */
	default:
		return s->n > 0 || fail(why, "is empty");
	}
}

/* Adds one entry to a list under construction. */
static bool add_entry(const struct tg_option *o, struct tg_strlist *l, struct tg_slice s, struct tg_err *why)
{
	char buf[256];
	struct tg_err inner = { "" };
	if (l->n >= o->max) {
		tg_err_set(why, "must have at most %" PRIu64 " entries", o->max);
		return false;
	}
	if (!clean(o, s, &inner) || !check_entry(o->type, &s, buf, &inner)) {
		if (is_secret(o->type))
			tg_err_set(why, "entry %zu %s", l->n + 1, inner.text);
		else
			tg_err_set(why, "entry %zu (\"%.*s\"): %s", l->n + 1, (int)(s.n < SHOWN ? s.n : SHOWN), s.p, inner.text);
		return false;
	}
	/* Keys may be many, and one given twice does no harm; arguments may repeat; elsewhere it is a mistake. */
	for (size_t i = 0; o->type != TG_OPT_KEYS && o->type != TG_OPT_ARGV && i < l->n; i++)
		if (tg_slice_eq(tg_slice_cstr(l->v[i]), s)) {
			tg_err_set(why, "\"%.*s\" is given twice", (int)(s.n < SHOWN ? s.n : SHOWN), s.p);
			return false;
		}
	return tg_strlist_add(l, s) || fail(why, "out of memory");
}

static bool finish_list(const struct tg_option *o, struct tg_strlist *field, struct tg_strlist *l, bool ok, struct tg_err *why)
{
	if (ok && l->n < o->min) {
		tg_err_set(why, "must have at least %" PRIu64 " entr%s", o->min, o->min == 1 ? "y" : "ies");
		ok = false;
	}
	struct tg_strlist drop = ok ? *field : *l;
	if (ok)
		*field = *l;
	tg_strlist_free(&drop);
	return ok;
}

static bool list_from_json(const struct tg_option *o, struct tg_strlist *field, const json_t *v, struct tg_err *why)
{
	struct tg_strlist l = { 0 };
	bool ok = json_is_array(v) || fail(why, "must be a list of strings, as [\"a\", \"b\"]");
	for (size_t i = 0; ok && i < json_array_size(v); i++) {
		const json_t *e = json_array_get(v, i);
		ok = json_is_string(e) ? add_entry(o, &l, (struct tg_slice){ json_string_value(e), json_string_length(e) }, why)
				       : fail(why, "must be a list of strings");
	}
	return finish_list(o, field, &l, ok, why);
}

/* Comma separated, or a JSON list. "[::1]:9001" begins with a bracket too, so only [" and [] are taken for JSON. */
static bool list_from_text(const struct tg_option *o, struct tg_strlist *field, const char *text, struct tg_err *why)
{
	struct tg_slice s = tg_slice_trim(tg_slice_cstr(text));
	if (s.n > 1 && s.p[0] == '[') {
		struct tg_slice in = tg_slice_trim((struct tg_slice){ s.p + 1, s.n - 1 });
		if (in.p[0] == '"' || in.p[0] == ']') {
			json_error_t je;
			json_t *v = json_loadb(s.p, s.n, JSON_REJECT_DUPLICATES, &je);
			if (!v)
				return fail(why, "begins like a JSON list and is none");
			bool ok = list_from_json(o, field, v, why);
			json_decref(v);
			return ok;
		}
	}
	struct tg_strlist l = { 0 };
	bool ok = true;
	while (ok && s.n) {
		const char *comma = memchr(s.p, ',', s.n);
		size_t n = comma ? (size_t)(comma - s.p) : s.n;
		struct tg_slice e = tg_slice_trim((struct tg_slice){ s.p, n });
		if (e.n)
			ok = add_entry(o, &l, e, why);
		n += comma != NULL;
		s = (struct tg_slice){ s.p + n, s.n - n };
	}
	return finish_list(o, field, &l, ok, why);
}

/* ---- single values ---- */

static bool set_number(const struct tg_option *o, void *field, uint64_t v, struct tg_err *why)
{
	if (v < o->min || v > o->max) {
		tg_err_set(why, "must be from %" PRIu64 " to %" PRIu64 ", not %" PRIu64, o->min, o->max, v);
		return false;
	}
	if (o->type == TG_OPT_U32)
		*(uint32_t *)field = (uint32_t)v;
	else
		*(uint64_t *)field = v;
	return true;
}

static bool set_decimal(const struct tg_option *o, uint64_t *field, struct tg_slice s, struct tg_err *why)
{
	char least[TG_DECIMAL_TEXT], most[TG_DECIMAL_TEXT];
	uint64_t v;
	if (!tg_decimal_parse(s, &v))
		return fail(why, "must be a decimal in quotes with at most six places, as \"0.15\"");
	if (v < o->min || v > o->max) {
		tg_decimal_text(o->min, least);
		tg_decimal_text(o->max, most);
		tg_err_set(why, "must be from %s to %s, not %.*s", least, most, (int)s.n, s.p);
		return false;
	}
	*field = v;
	return true;
}

static bool resolve_secret(struct tg_slice *s, const struct tg_option_env *env, char **owned, size_t *nowned, struct tg_err *why)
{
	if (tg_slice_starts(*s, TG_S("file:"))) {
		struct tg_err inner;
		const char *path = s->p + 5;
		*owned = tg_read_file(path, TEXT_MAX, nowned, NULL, &inner);
		if (!*owned) {
			tg_err_set(why, "%.200s: %s", path, inner.text);
			return false;
		}
		if (env && env->read_file)
			env->read_file(env->ctx, path);
		*s = (struct tg_slice){ *owned, *nowned };
		while (s->n && (s->p[s->n - 1] == '\n' || s->p[s->n - 1] == '\r'))
			s->n--;
		if (!s->n) {
			tg_err_set(why, "%.200s: the file is empty", path);
			return false;
		}
	} else if (tg_slice_starts(*s, TG_S("env:"))) {
		const char *v = env && env->lookup ? env->lookup(env->ctx, s->p + 4) : NULL;
		if (!v || !*v) {
			tg_err_set(why, "the environment variable %.100s is not set", s->p + 4);
			return false;
		}
		*s = tg_slice_cstr(v);
	}
	return true;
}

static bool set_secret(const struct tg_option *o, struct tg_secret *field, struct tg_slice s, const struct tg_option_env *env, struct tg_err *why)
{
	char *owned = NULL;
	size_t n = 0;
	/* Not a worker's own key: that its worker may need. */
	if (tg_slice_starts(s, TG_S("env:")) && strcmp(o->table, "model") != 0 && !tg_env_withhold(s.p + 4))
		return fail(why, "too many variables hold secrets");
	bool ok = resolve_secret(&s, env, &owned, &n, why);
	if (ok && s.n > o->max)
		ok = fail(why, "is over 4096 bytes");
	if (ok && s.n && s.n < o->min) {
		tg_err_set(why, "has %zu bytes; at least %" PRIu64 " are needed", s.n, o->min);
		ok = false;
	}
	if (ok && s.n)
		ok = clean(o, s, why) && (!blank_ends(s) || fail(why, "begins or ends with a space"));
	if (ok) {
		if (s.n)
			ok = tg_secret_set(field, s) || fail(why, "out of memory");
		else
			tg_secret_wipe(field);
	}
	if (owned)
		explicit_bzero(owned, n);
	free(owned);
	return ok;
}

static bool set_string(const struct tg_option *o, char **field, struct tg_slice s, struct tg_err *why)
{
	if (s.n < o->min || s.n > o->max) {
		tg_err_set(why, s.n ? "must be at most %" PRIu64 " bytes" : "must not be empty", o->max);
		return false;
	}
	if (!clean(o, s, why) || (o->type == TG_OPT_NAME && !check_name(s, why)) || (o->type == TG_OPT_ARTIFACTS && !tg_artifacts_ok(s, why)))
		return false;
	char *copy = s.n ? tg_slice_dup(s) : NULL;
	if (s.n && !copy)
		return fail(why, "out of memory");
	free(*field);
	*field = copy;
	return true;
}

static bool set_word(const struct tg_option *o, void *field, struct tg_slice s, struct tg_err *why)
{
	const char *const *w = words(o->type);
	/* Python's names for two of them, as document 004 writes them. */
	if (o->type == TG_OPT_LEVEL && tg_slice_eq_nocase(s, TG_S("warning")))
		s = TG_S("warn");
	else if (o->type == TG_OPT_LEVEL && tg_slice_eq_nocase(s, TG_S("critical")))
		s = TG_S("error");
	for (unsigned i = 0; w[i]; i++)
		if (tg_slice_eq_nocase(s, tg_slice_cstr(w[i]))) {
			/* Each enumeration has a field of its own type. */
			if (o->type == TG_OPT_LEVEL)
				*(enum tg_log_level *)field = (enum tg_log_level)i;
			else if (o->type == TG_OPT_PROFILE)
				*(enum tg_profile *)field = (enum tg_profile)i;
			else if (o->type == TG_OPT_AFFINITY)
				*(enum tg_affinity *)field = (enum tg_affinity)i;
			else
				*(enum tg_protocol *)field = (enum tg_protocol)i;
			return true;
		}
	size_t len = (size_t)snprintf(why->text, sizeof why->text, "must be one of");
	for (unsigned i = 0; w[i]; i++)
		len += (size_t)snprintf(why->text + len, sizeof why->text - len, "%s \"%s\"", i ? "," : "", w[i]);
	return false;
}

static unsigned word_of(const struct tg_option *o, const void *field)
{
	if (o->type == TG_OPT_LEVEL)
		return *(const enum tg_log_level *)field;
	if (o->type == TG_OPT_PROFILE)
		return *(const enum tg_profile *)field;
	if (o->type == TG_OPT_AFFINITY)
		return *(const enum tg_affinity *)field;
	return *(const enum tg_protocol *)field;
}

/* The types that are strings in TOML. */
static bool set_from_string(const struct tg_option *o, void *field, struct tg_slice s, const struct tg_option_env *env, struct tg_err *why)
{
	switch (o->type) {
	case TG_OPT_SECRET:
	case TG_OPT_HIDDEN:
		return set_secret(o, field, s, env, why);
	case TG_OPT_RATE:
		return tg_rate_parse(s, field) || fail(why, "must be N/second, N/minute, N/hour, N/day (N from 1 to 16000000) or \"off\"");
	case TG_OPT_DECIMAL:
		return set_decimal(o, field, s, why);
	case TG_OPT_LEVEL:
	case TG_OPT_PROFILE:
	case TG_OPT_PROTOCOL:
	case TG_OPT_AFFINITY:
		return set_word(o, field, s, why);
	default:
		return set_string(o, field, s, why);
	}
}

bool tg_option_set_json(const struct tg_option *o, void *base, const json_t *v, const struct tg_option_env *env, struct tg_err *why)
{
	void *field = (char *)base + o->offset;
	if (is_list(o->type))
		return list_from_json(o, field, v, why);
	switch (o->type) {
	case TG_OPT_BOOL:
		if (!json_is_boolean(v))
			return fail(why, "must be true or false");
		*(bool *)field = json_is_true(v);
		return true;
	case TG_OPT_U32:
	case TG_OPT_U64:
		if (!json_is_integer(v))
			return fail(why, "must be a whole number, without quotes");
		if (json_integer_value(v) < 0) {
			tg_err_set(why, "must be from %" PRIu64 " to %" PRIu64 ", not %lld", o->min, o->max, (long long)json_integer_value(v));
			return false;
		}
		return set_number(o, field, (uint64_t)json_integer_value(v), why);
	case TG_OPT_DECIMAL: /* a whole number is exact; one with a point was a binary fraction before it came here */
		if (json_is_integer(v) && json_integer_value(v) >= 0) {
			char text[TG_DECIMAL_TEXT];
			snprintf(text, sizeof text, "%" JSON_INTEGER_FORMAT, json_integer_value(v));
			return set_decimal(o, field, tg_slice_cstr(text), why);
		}
		return set_decimal(o, field, json_is_string(v) ? (struct tg_slice){ json_string_value(v), json_string_length(v) } : (struct tg_slice){ 0 }, why);
	default:
		if (!json_is_string(v))
			return fail(why, "must be a string, in quotes");
		return set_from_string(o, field, (struct tg_slice){ json_string_value(v), json_string_length(v) }, env, why);
	}
}

bool tg_option_set_text(const struct tg_option *o, void *base, const char *text, const struct tg_option_env *env, struct tg_err *why)
{
	void *field = (char *)base + o->offset;
	if (is_list(o->type))
		return list_from_text(o, field, text, why);
	struct tg_slice s = tg_slice_cstr(text);
	if (o->type == TG_OPT_BOOL) {
		static const char *const is[] = { "true", "1", "yes", "on" }, *const is_not[] = { "false", "0", "no", "off" };
		bool yes = false, no = false;
		for (unsigned i = 0; i < 4; i++) {
			yes |= tg_slice_eq_nocase(s, tg_slice_cstr(is[i]));
			no |= tg_slice_eq_nocase(s, tg_slice_cstr(is_not[i]));
		}
		if (!yes && !no)
			return fail(why, "must be true or false");
		*(bool *)field = yes;
		return true;
	}
	if (o->type == TG_OPT_U32 || o->type == TG_OPT_U64) {
		uint64_t n = 0;
		bool ok = s.n > 0 && s.n <= 18;
		for (size_t i = 0; ok && i < s.n; i++) {
			ok = s.p[i] >= '0' && s.p[i] <= '9';
			n = n * 10 + (uint64_t)(s.p[i] - '0');
		}
		if (ok)
			return set_number(o, field, n, why);
		tg_err_set(why, "must be a whole number from %" PRIu64 " to %" PRIu64, o->min, o->max);
		return false;
	}
	return set_from_string(o, field, s, env, why);
}

void tg_option_free(const struct tg_option *o, void *base)
{
	void *field = (char *)base + o->offset;
	if (is_list(o->type))
		tg_strlist_free(field);
	else if (tg_opt_secret(o->type))
		tg_secret_wipe(field);
	else if (o->type == TG_OPT_STR || o->type == TG_OPT_NAME || o->type == TG_OPT_ARTIFACTS) {
		free(*(char **)field);
		*(char **)field = NULL;
	}
}

static void print_secret(struct tg_slice s, struct tg_buf *out)
{
	char prefix[TG_KEY_PREFIX_MAX + 1];
	if (s.n)
		tg_key_prefix(s, prefix);
	tg_buf_json(out, s.n ? tg_slice_cstr(prefix) : TG_S(""));
}

/* An argument or a variable of a command: it may hold a key, by its looks or by the variable's name. */
static void print_redacted(struct tg_slice s, struct tg_buf *out)
{
	static const char *const words[] = { "KEY", "TOKEN", "SECRET", "PASSWORD" };
	const char *eq = memchr(s.p, '=', s.n);
	for (unsigned i = 0; eq && i < sizeof words / sizeof words[0]; i++) {
		char name[128];
		snprintf(name, sizeof name, "%.*s", (int)(eq - s.p < 127 ? eq - s.p : 127), s.p);
		if (strcasestr(name, words[i])) {
			char text[160];
			snprintf(text, sizeof text, "%s=[redacted]", name);
			tg_buf_json(out, tg_slice_cstr(text));
			return;
		}
	}
	size_t cap = 2 * s.n + 16;
	char *text = malloc(cap);
	tg_buf_json(out, text ? (struct tg_slice){ text, tg_log_redact(s, text, cap) } : TG_S("[no memory]"));
	free(text);
}

void tg_option_print(const struct tg_option *o, const void *base, struct tg_buf *out)
{
	const void *field = (const char *)base + o->offset;
	char rate[TG_RATE_TEXT], decimal[TG_DECIMAL_TEXT];
	if (is_list(o->type)) {
		const struct tg_strlist *l = field;
		tg_buf_char(out, '[');
		for (size_t i = 0; i < l->n; i++) {
			if (i)
				tg_buf_lit(out, ", ");
			if (is_secret(o->type))
				print_secret(tg_slice_cstr(l->v[i]), out);
			else if (o->type == TG_OPT_ENVS || o->type == TG_OPT_ARGV)
				print_redacted(tg_slice_cstr(l->v[i]), out);
			else
				tg_buf_json(out, tg_slice_cstr(l->v[i]));
		}
		tg_buf_char(out, ']');
		return;
	}
	switch (o->type) {
	case TG_OPT_BOOL:
		tg_buf_cstr(out, *(const bool *)field ? "true" : "false");
		break;
	case TG_OPT_U32:
		tg_buf_u64(out, *(const uint32_t *)field);
		break;
	case TG_OPT_U64:
		tg_buf_u64(out, *(const uint64_t *)field);
		break;
	case TG_OPT_SECRET: {
		const struct tg_secret *s = field;
		print_secret((struct tg_slice){ s->p, s->n }, out);
		break;
	}
	case TG_OPT_HIDDEN:
		tg_buf_cstr(out, ((const struct tg_secret *)field)->n ? "\"***\"" : "\"\"");
		break;
	case TG_OPT_RATE:
		tg_rate_text(*(const struct tg_rate *)field, rate);
		tg_buf_json(out, tg_slice_cstr(rate));
		break;
	case TG_OPT_DECIMAL:
		tg_decimal_text(*(const uint64_t *)field, decimal);
		tg_buf_json(out, tg_slice_cstr(decimal));
		break;
	case TG_OPT_LEVEL:
	case TG_OPT_PROFILE:
	case TG_OPT_PROTOCOL:
	case TG_OPT_AFFINITY:
		tg_buf_json(out, tg_slice_cstr(words(o->type)[word_of(o, field)]));
		break;
	default: {
		const char *s = *(char *const *)field;
		tg_buf_json(out, tg_slice_cstr(s ? s : ""));
	}
	}
}

bool tg_option_equal(const struct tg_option *o, const void *a, const void *b)
{
	const void *fa = (const char *)a + o->offset, *fb = (const char *)b + o->offset;
	if (is_list(o->type)) {
		const struct tg_strlist *la = fa, *lb = fb;
		bool same = la->n == lb->n;
		for (size_t i = 0; same && i < la->n; i++)
			same = strcmp(la->v[i], lb->v[i]) == 0;
		return same;
	}
	switch (o->type) {
	case TG_OPT_BOOL:
		return *(const bool *)fa == *(const bool *)fb;
	case TG_OPT_U32:
		return *(const uint32_t *)fa == *(const uint32_t *)fb;
	case TG_OPT_U64:
	case TG_OPT_DECIMAL:
		return *(const uint64_t *)fa == *(const uint64_t *)fb;
	case TG_OPT_SECRET:
	case TG_OPT_HIDDEN: {
		const struct tg_secret *x = fa, *y = fb;
		if (!x->n || !y->n) /* for tg_secret_equal nothing equals an empty secret */
			return x->n == y->n;
		return tg_secret_equal((struct tg_slice){ x->p, x->n }, (struct tg_slice){ y->p, y->n });
	}
	case TG_OPT_RATE: {
		const struct tg_rate *x = fa, *y = fb;
		return x->n == y->n && x->period_s == y->period_s;
	}
	case TG_OPT_LEVEL:
	case TG_OPT_PROFILE:
	case TG_OPT_PROTOCOL:
	case TG_OPT_AFFINITY:
		return word_of(o, fa) == word_of(o, fb);
	default: {
		const char *x = *(char *const *)fa, *y = *(char *const *)fb;
		return x && y ? strcmp(x, y) == 0 : x == y;
	}
	}
}
