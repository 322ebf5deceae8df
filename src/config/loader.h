#pragma once
/* What the files of one load share (config.c, documents.c, profile.c, checks.c). Nothing outside of src/config includes it. */
#include "config/env.h"
#include "config/options.h"
#include "base/secret_mode.h"
#include "config/toml.h"

enum { PATH_BYTES = 4096, ORIGINS_MAX = 128 };
enum layer { FROM_DEFAULT, FROM_KEYS_ENV, FROM_DOTENV, FROM_TOML, FROM_ENV };

struct tg_origins {
	char *text[ORIGINS_MAX]; /* NULL: default; one a row of tg_options */
};

struct loader {
	const struct tg_config_source *src;
	struct tg_config *c;
	enum layer listen_from, artifacts_from;
	struct tg_env_file dotenv, keys; /* .env, data/keys.env */
	char dotenv_path[PATH_BYTES], keys_path[PATH_BYTES];
	bool has_file, file_open;        /* there is a TOML file; others than its owner can read it */
	struct tg_toml toml;
	struct tg_option_env env;
	struct tg_err exposed;           /* the first secret file that production does not take as it lies there; "": none */
	struct tg_err *err;
	void (*warn)(void *ctx, const char *line);
	void *warn_ctx;
};

/* config.c */
__attribute__((format(printf, 2, 3))) void tg_load_warn(const struct loader *l, const char *fmt, ...);
/* A variable in one layer; NULL: unset or empty. Names of document 004 in any case. line: in its file, 0 for the environment. */
const char *tg_load_variable(const struct loader *l, enum layer from, const char *name, int *line);
/* The same in the highest layer that has it, from. */
const char *tg_load_any(const struct loader *l, const char *name, enum layer *from, int *line);
/* Where that variable stands, for messages. */
void tg_load_place(const struct loader *l, enum layer from, const char *name, int line, char *out, size_t cap);
/* The row of an option that is there. */
unsigned tg_load_row(const char *table, const char *name);
bool tg_load_origin(struct loader *l, unsigned row, const char *text);
/* A file of secrets has been read: warns where others can read it too. refused: production does not start then. */
void tg_load_secret_file(struct loader *l, const char *path, bool refused);

/* documents.c: variables that are no option of their own */
bool tg_load_documents(struct loader *l);
bool tg_load_key_file(struct loader *l);
/* settings.c: data/settings.json */
bool tg_load_settings(struct loader *l);
/* profile.c */
bool tg_profile_apply(struct loader *l);
bool tg_profile_check(struct loader *l);
/* checks.c */
bool tg_load_check(struct loader *l);
void tg_load_warn_keys(const struct loader *l);
void tg_load_warn_unknown(const struct loader *l);
