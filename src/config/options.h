#pragma once
/*
 * The options table (tables/options.def) as data, and what can be done with one option: set it, show it, compare it. `base` is
 * the struct that holds the field: a struct tg_config, or a struct tg_model_conf for rows of tg_model_options.
 */
#include "base/buf.h"
#include "config/config.h"
#include <jansson.h>

enum tg_option_type {
	TG_OPT_BOOL, TG_OPT_U32, TG_OPT_U64, TG_OPT_STR, TG_OPT_NAME, TG_OPT_SECRET, TG_OPT_HIDDEN, TG_OPT_RATE, TG_OPT_DECIMAL,
	TG_OPT_LEVEL, TG_OPT_PROFILE, TG_OPT_PROTOCOL, TG_OPT_AFFINITY, TG_OPT_ARTIFACTS,
	/* lists from here */
	TG_OPT_LIST, TG_OPT_LISTEN, TG_OPT_HOSTS, TG_OPT_URLS, TG_OPT_NAMES, TG_OPT_KEYS, TG_OPT_ARGV, TG_OPT_ENVS, TG_OPT_ORIGINS, TG_OPT_METHODS, TG_OPT_FIELDS,
};

/* DECIMAL: uint64_t, in millionths; min and max too. */
/* SECRET: a key, shown by its first characters. HIDDEN: a password or what signs and digests: nothing of it is shown. */
static inline bool tg_opt_secret(enum tg_option_type t)
{
	return t == TG_OPT_SECRET || t == TG_OPT_HIDDEN;
}

struct tg_option {
	const char *table; /* "" top level, "model" */
	const char *name;
	enum tg_option_type type;
	size_t offset;
	const char *deflt;
	uint64_t min, max;
	bool live;           /* a reload changes it */
	const char *aliases; /* environment names, separated by spaces */
	const char *doc;
};
extern const struct tg_option tg_options[], tg_model_options[];
extern const unsigned tg_noptions, tg_nmodel_options;

/* "env:NAME" is looked up here; NULL: not set. A "file:" secret that was read is told (may be NULL). */
struct tg_option_env {
	const char *(*lookup)(void *ctx, const char *name);
	void *ctx;
	void (*read_file)(void *ctx, const char *path);
};

/* Replace the value. On failure the old one stays and why says what was wrong, without the option's name and never with a secret. */
bool tg_option_set_json(const struct tg_option *o, void *base, const json_t *v, const struct tg_option_env *env, struct tg_err *why);
/* A variable's text: lists are comma separated or JSON. */
bool tg_option_set_text(const struct tg_option *o, void *base, const char *text, const struct tg_option_env *env, struct tg_err *why);
void tg_option_free(const struct tg_option *o, void *base);
/* As TOML; secrets by prefix. */
void tg_option_print(const struct tg_option *o, const void *base, struct tg_buf *out);
bool tg_option_equal(const struct tg_option *o, const void *a, const void *b);

const struct tg_option *tg_option_find(const char *table, const char *name);
bool tg_option_table_known(const char *table); /* a table of today */
const char *tg_option_later(const char *table, const char *name); /* the sentence, or NULL */
/* "TOLLGATE_SERVER_LISTEN". */
#define TG_OPTION_ENV_MAX 96
void tg_option_env_name(const char *table, const char *name, char out[TG_OPTION_ENV_MAX]);
/* Ends `err` with '; did you mean …?' or where the key belongs, when something is near. */
void tg_option_suggest(const char *table, const char *name, struct tg_err *err);
void tg_option_suggest_table(const char *table, struct tg_err *err);
/* Whether a variable has the name of an alias (n bytes): document 004's in any case, others exactly. */
bool tg_option_alias_is(const char *alias, size_t n, const char *var, size_t k);
/* Whether a variable is an option's name. If not, and it looks like one, or is not used yet, why says so (else why->text is ""). */
bool tg_option_env_known(const char *var, struct tg_err *why);
