/*
 * A configuration file of any bytes: the parser, the tree, the positions and everything that reads them. Besides not crashing: a refused file
 * says where; positions exist for what is reported and lie within the text; a taken file's listing can be made.
 * The first byte picks between the TOML file and a .env file (the two formats people write by hand).
 */
#include "config/config.h"
#include "config/env.h"
#include "config/toml.h"
#include <fcntl.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void need(bool ok)
{
	if (!ok)
		abort();
}

static void fuzz_env(struct tg_slice text)
{
	struct tg_env_file f;
	struct tg_err err;
	if (!tg_env_parse("f", text, &f, &err)) {
		need(strncmp(err.text, "f:", 2) == 0);
		return;
	}
	for (size_t i = 0; i < f.n; i++) {
		need(f.v[i].line >= 1 && f.v[i].name[0]);
		need(strlen(f.v[i].value) <= text.n);
		need(tg_env_find(&f, f.v[i].name) != NULL);
	}
	tg_env_free(&f);
}

static void fuzz_load(struct tg_slice text, bool parsed)
{
	char path[32];
	struct tg_err err;
	int fd = memfd_create("toml", 0);
	need(fd >= 0 && write(fd, text.p, text.n) == (ssize_t)text.n);
	snprintf(path, sizeof path, "/proc/self/fd/%d", fd);
	struct tg_config_source src = { .path = path };
	struct tg_config *c = tg_config_load(&src, &err, NULL, NULL);
	need(c ? parsed : err.text[0]);
	/* Only a check over several options has no place of its own in front. */
	need(c || strncmp(err.text, path, strlen(path)) == 0 || strncmp(err.text, "[server] ", 9) == 0);
	if (c) {
		FILE *f = fopen("/dev/null", "w");
		need(f != NULL);
		tg_config_show(c, f);
		fclose(f);
	}
	tg_config_free(c);
	close(fd);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tg_toml t;
	struct tg_toml_fault fault;
	if (!size)
		return 0;
	struct tg_slice text = { (const char *)data, size };
	if (data[0] == '!') {
		fuzz_env((struct tg_slice){ text.p + 1, text.n - 1 });
		return 0;
	}
	int lines = 1;
	for (size_t i = 0; i < size; i++)
		lines += data[i] == '\n';
	bool ok = tg_toml_parse(text.p, text.n, &t, &fault);
	if (!ok) {
		need(fault.text[0] && fault.line >= 1 && fault.line <= lines && fault.column >= 1);
		need(!t.root && !t.pos);
	}
	for (size_t i = 0; i < t.npos; i++) {
		need(t.pos[i].line >= 1 && t.pos[i].line <= lines && t.pos[i].column >= 1);
		need(tg_toml_where(&t, t.pos[i].path) != NULL);
	}
	if (ok)
		tg_toml_free(&t);
	fuzz_load(text, ok);
	return 0;
}
