#pragma once
/* What the commands on users and keys share: the configuration's database, opened for the command line. */
#include "config/config.h"
#include "store/store.h"

struct tg_cli_store {
	struct tg_config *config;
	struct tg_store *store;
	struct tg_digester digester;
};
/* 0, or the exit code, with the reason on stderr. `path`: --config. */
int tg_cli_store_open(struct tg_cli_store *s, const char *path);
int tg_cli_store_look(struct tg_cli_store *s, const char *path); /* the same for whoever makes nobody: tg_store_look */
void tg_cli_store_close(struct tg_cli_store *s);
int tg_cli_failed(const struct tg_err *err);    /* "error: ..." on stderr; 1 */
int tg_cli_done(void);                          /* 0 once standard output is written */
void tg_cli_time(int64_t s, char out[24]);      /* "2026-11-23T21:50:13Z" or "never" */
/* A name out of the database, fit for a terminal: it may be older than the rules for names, or another program's. Cut where out is full; returns out. */
#define TG_CLI_SHOWN 512
const char *tg_cli_shown(const char *name, char out[TG_CLI_SHOWN]);
/* The NAME of a new key or user: what the API takes. False: err says why not. */
bool tg_cli_name(const char *name, size_t max, struct tg_err *err);
/* "read_models,run_inference", "all" or "none". False: err names the unknown one and the known ones. */
bool tg_cli_perms(const char *text, uint32_t *out, struct tg_err *err);
