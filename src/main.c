/*
 * The command line: one row per subcommand. A command gets its own name as argv[0] and answers the exit status: 0 done, 1 failed, 2 wrong usage or
 * a configuration that cannot be used. Each command explains itself with --help; this file only knows their names.
 */
#include "base/standard.h"
#include "base/version.h"
#include "cli/cli.h"
#include "pool/keeper.h"
#include <stdbool.h>
#include <stdio.h>
#include <string.h>

struct command {
	const char *name, *arguments, *help;
	int (*run)(int argc, char **argv);
};

static const struct command *find(const char *name);
static int help(int argc, char **argv);
static int version(int argc, char **argv);

static const struct command commands[] = {
	{ "init", "[--dir FOLDER] [--quiet]", "make tollgate.toml and the first two keys, and say how to use them", tg_cmd_init },
	{ "serve", "[--config FILE] [--also ADDR] [--workers M=N]", "stand in front of the models of tollgate.toml", tg_cmd_serve },
	{ "run", "-- COMMAND ... {port} ...", "start one model server and stand in front of it, with a fresh key and no files", tg_cmd_run },
	{ "config", "check | show | sample", "check the configuration, show what is in force, print a commented sample", tg_cmd_config },
	{ "keyfile", "list | add | remove | generate | toggle-auth", "look at and change the keys in api_keys.json", tg_cmd_keyfile },
	{ "users", "add | list | passwd | permissions | ...", "look at and change who can log in", tg_cmd_users },
	{ "keys", "create | list | revoke | rotate", "look at and change the keys in the database", tg_cmd_keys },
	{ "usage", "[--from DAY] [--to DAY] [--json]", "what each key and user used, and what it cost", tg_cmd_usage },
	{ "backup", "DIR", "copy the database, its secrets and the key files, while the gate runs", tg_cmd_backup },
	{ "restore", "DIR [--force]", "put a backup in their place, while no gate runs", tg_cmd_restore },
	{ "engine", "tabular --socket PATH ...", "train models and predict with them; the gate starts it by itself", tg_cmd_engine },
	{ "routes", "[--json]", "print every route with the permission and limit it has", tg_cmd_routes },
	{ "version", "", "print the version", version },
	{ "help", "[COMMAND]", "this page, or a command's own", help },
};
enum { NCOMMANDS = sizeof commands / sizeof *commands, NAME_MAX_LEN = 16 };

static void print_help(FILE *out)
{
	fputs("Tollgate " TG_VERSION ": makes machine-learning models safe to expose.\n\n"
	      "It stands in front of model servers (llama-server, vLLM, Ollama or any other that speaks HTTP) and decides for every request:\n"
	      "who is calling, may they, how much, which server answers. It keeps a log line of each and serves metrics.\n\n"
	      "usage: tollgate COMMAND [ARGUMENTS]\n\n",
	      out);
	for (unsigned i = 0; i < NCOMMANDS; i++)
		fprintf(out, "  %-8s %-46s %s\n", commands[i].name, commands[i].arguments, commands[i].help);
	fputs("\nThe first minute:\n"
	      "  tollgate run -- llama-server -m model.gguf --port {port}     a model behind a key, now\n"
	      "or, to stay:\n"
	      "  tollgate init                       writes tollgate.toml and data/keys.env; the keys are shown once\n"
	      "  (name your model server in tollgate.toml, under [[model]])\n"
	      "  tollgate serve                      answers on http://127.0.0.1:9001\n"
	      "  curl http://127.0.0.1:9001/v1/models -H \"X-API-Key: KEY\"\n\n"
	      "`tollgate COMMAND --help` tells more. Signals to serve: TERM finishes what is running and ends, HUP reads the configuration again.\n",
	      out);
}

static int explain(const struct command *c)
{
	printf("usage: tollgate %s%s%s\n\n%s\n", c->name, *c->arguments ? " " : "", c->arguments, c->help);
	return fflush(stdout) == 0 ? 0 : 1;
}

static bool asks(const char *word)
{
	return strcmp(word, "--help") == 0 || strcmp(word, "-h") == 0;
}

static int version(int argc, char **argv)
{
	if (argc == 2 && asks(argv[1]))
		return explain(find("version"));
	if (argc > 1) {
		fprintf(stderr, "tollgate %s: takes no argument\n", argv[0]);
		return 2;
	}
	puts("tollgate " TG_VERSION);
	return fflush(stdout) == 0 ? 0 : 1;
}

static unsigned least(unsigned a, unsigned b, unsigned c)
{
	unsigned m = a < b ? a : b;
	return m < c ? m : c;
}

/* Letters to change, add, drop or swap with a neighbour to get from one name to the other; names past NAME_MAX_LEN are as far as can be. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned d[NAME_MAX_LEN + 1][NAME_MAX_LEN + 1];
	if (n > NAME_MAX_LEN || m > NAME_MAX_LEN)
		return 2 * NAME_MAX_LEN;
	for (size_t i = 0; i <= n; i++)
		for (size_t j = 0; j <= m; j++) {
			if (!i || !j) {
				d[i][j] = (unsigned)(i + j);
				continue;
			}
			d[i][j] = least(d[i - 1][j] + 1, d[i][j - 1] + 1, d[i - 1][j - 1] + (a[i - 1] != b[j - 1]));
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] && d[i - 2][j - 2] + 1 < d[i][j])
				d[i][j] = d[i - 2][j - 2] + 1;
		}
	return d[n][m];
}

static const struct command *find(const char *name)
{
	for (unsigned i = 0; i < NCOMMANDS; i++)
		if (strcmp(commands[i].name, name) == 0)
			return &commands[i];
	return NULL;
}

static int unknown(const char *name)
{
	const struct command *nearest = NULL;
	unsigned best = 4; /* further away is no slip of the finger */
	for (unsigned i = 0; i < NCOMMANDS; i++) {
		unsigned d = distance(name, commands[i].name);
		if (d < best) {
			best = d;
			nearest = &commands[i];
		}
	}
	fprintf(stderr, "tollgate: there is no command '%.64s'", name);
	if (nearest)
		fprintf(stderr, "; did you mean '%s'?", nearest->name);
	fputs("\n`tollgate help` lists them.\n", stderr);
	return 2;
}

static int help(int argc, char **argv)
{
	if (argc < 2) {
		print_help(stdout);
		return fflush(stdout) == 0 ? 0 : 1;
	}
	const struct command *c = find(asks(argv[1]) ? "help" : argv[1]);
	if (!c)
		return unknown(argv[1]);
	if (c->run == help || c->run == version)
		return explain(c);
	char flag[] = "--help";
	char *args[] = { argv[1], flag, NULL };
	return c->run(2, args);
}

int main(int argc, char **argv)
{
	tg_standard_open();
	if (argc < 2) {
		print_help(stderr);
		return 2;
	}
	const char *name = argv[1];
	if (strcmp(name, "keep") == 0) /* the gate itself runs that, between it and a worker */
		return tg_keeper_main(argc - 1, argv + 1);
	if (asks(name))
		name = "help";
	else if (strcmp(name, "--version") == 0 || strcmp(name, "-V") == 0)
		name = "version";
	const struct command *c = find(name);
	return c ? c->run(argc - 1, argv + 1) : unknown(name);
}
