#pragma once
/*
 * What was changed while the gate ran (PATCH /api/v1/config): data/settings.json, tables as in tollgate.toml. A layer of its own, above the file and below the environment, so that a change outlives a restart
 * and whoever set a variable keeps the last word.
 */
#include "config/config.h"
#include <jansson.h>

#define TG_SETTINGS_MAX 65536 /* bytes of the file */

/* NULL: may be changed while the gate runs. Else why not, without the option's name: "" for no such option (err has the nearest known name), or a sentence. */
const char *tg_setting_fault(const char *table, const char *name, struct tg_err *err);
/* The same of a table, whether or not any option of it is named. */
const char *tg_setting_table_fault(const char *table, struct tg_err *err);
/* Whether it would free its holder of bounds, or his requests of the log: only who holds all permissions changes it. */
bool tg_setting_needs_all(const char *table, const char *name);
/* Whether the option, one that may be changed, takes this value by itself. False: why, without the option's name. */
bool tg_setting_takes(const char *table, const char *name, const json_t *v, struct tg_err *why);
/* The file; a new reference. An empty object where there is none. NULL: it cannot be read; err. */
json_t *tg_settings_read(const char *path, struct tg_err *err);
/* patch over settings: null takes a setting away; tables that become empty go too. */
bool tg_settings_merge(json_t *settings, const json_t *patch);
bool tg_settings_write(const char *path, const json_t *settings, struct tg_err *err); /* whole or not at all, 0600 */
