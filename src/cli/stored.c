/* The database from the command line (see stored.h): the same configuration that `serve` reads here, so that both mean the same file. */
#include "cli/stored.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/terminal.h"
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int tg_cli_failed(const struct tg_err *err)
{
	fprintf(stderr, "error: %s\n", err->text);
	return 1;
}

int tg_cli_done(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	fputs("error: standard output: cannot be written\n", stderr);
	return 1;
}

static void warn_line(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "warning: %s\n", line);
}

typedef struct tg_store *(*opener)(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err);

static int open_by(opener how, struct tg_cli_store *s, const char *path)
{
	struct tg_config_source source = { .path = path, .env = environ };
	struct tg_err err;
	tg_log_quiet();
	*s = (struct tg_cli_store){ .config = tg_config_load(&source, &err, warn_line, NULL) };
	if (!s->config) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		return 2;
	}
	if (!s->config->store_url[0]) {
		fputs("tollgate: [store] url is empty: there is no database\n", stderr);
		tg_cli_store_close(s);
		return 2;
	}
	s->store = how(s->config->store_url, &s->config->store_secret, warn_line, NULL, &err);
	if (s->store && tg_store_state(s->store) == TG_STORE_OK && tg_digester_init(&s->digester))
		return 0;
	if (!s->store)
		tg_cli_failed(&err);
	tg_cli_store_close(s);
	return 1;
}

int tg_cli_store_open(struct tg_cli_store *s, const char *path)
{
	return open_by(tg_store_open, s, path);
}

int tg_cli_store_look(struct tg_cli_store *s, const char *path)
{
	return open_by(tg_store_look, s, path);
}

void tg_cli_store_close(struct tg_cli_store *s)
{
	tg_digester_free(&s->digester);
	tg_store_close(s->store);
	if (s->config)
		tg_config_free(s->config);
}

void tg_cli_time(int64_t s, char out[24])
{
	if (s <= 0) {
		snprintf(out, 24, "never");
		return;
	}
	tg_rfc3339_s((uint64_t)s * 1000000u, out);
	out[20] = 0;
}

const char *tg_cli_shown(const char *name, char out[TG_CLI_SHOWN])
{
	snprintf(out, TG_CLI_SHOWN, "%s", name);
	out[tg_terminal_safe(out, strlen(out))] = 0;
	return out;
}

bool tg_cli_name(const char *name, size_t max, struct tg_err *err)
{
	size_t n = strlen(name);
	if (n && n <= max && tg_terminal_fit(tg_slice_cstr(name)))
		return true;
	if (!n || n > max)
		tg_err_set(err, "NAME must have from 1 to %zu bytes", max);
	else
		tg_err_set(err, "NAME must be UTF-8, without control characters and without those that turn the direction of text");
	return false;
}

bool tg_cli_perms(const char *text, uint32_t *out, struct tg_err *err)
{
	*out = 0;
	if (strcmp(text, "all") == 0)
		*out = TG_PERM_ALL;
	if (strcmp(text, "all") == 0 || strcmp(text, "none") == 0)
		return true;
	for (const char *p = text;;) {
		struct tg_slice one = tg_slice_trim((struct tg_slice){ p, strcspn(p, ",") });
		uint32_t bit = tg_perm_named(one);
		if (!bit) {
			char names[TG_PERMS_TEXT];
			tg_perms_text(TG_PERM_ALL, ", ", names);
			tg_err_set(err, "--permissions: \"%.*s\" is no permission. Known are %s; also all, none", (int)(one.n < 40 ? one.n : 40), one.p, names);
			return false;
		}
		*out |= bit;
		p += strcspn(p, ",");
		if (!*p++)
			return true;
	}
}
