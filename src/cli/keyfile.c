/*
 * tollgate keyfile: the five commands of document 001 on api_keys.json. src/manage_api_keys.py is the same program for people
 * who type that document's lines: texts, exit codes, file format and lock are equal, and a test runs both against one file.
 * Exit codes: 0 done (also where nothing had to be), 1 the file or the key stands in the way, 2 the command line is wrong. A key is
 * printed by `list` and `generate` alone, and nothing is printed as done before the file is on disk.
 */
#include "policy/keyfile.h"
#include <stdio.h>
#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

int tg_cmd_keyfile(int argc, char **argv);

enum { GENERATED = 32, SHORT_KEY = 16 };

static const char usage[] =
	"usage: tollgate keyfile [--file FILE] COMMAND\n"
	"\n"
	"Manages the API keys in api_keys.json (or $API_KEYS_FILE, or --file FILE).\n"
	"\n"
	"  list [--mask]   list the keys; --mask shows at most their first 9 characters\n"
	"  add KEY         add a key of your own\n"
	"  remove KEY      remove a key\n"
	"  generate        make a random key, add it and print it\n"
	"  toggle-auth     switch whether external requests need a key\n"
	"\n"
	"A KEY that begins with -- is given after a lone --.\n";

struct call {
	const char *path, *command;
	char *key;
	bool mask;
};

static int wrong_usage(void)
{
	fputs(usage, stderr);
	return 2;
}

static int fail(const struct tg_err *err)
{
	fprintf(stderr, "error: %s\n", err->text);
	return 1;
}

/* Output that did not arrive is a failure: a generated key would be lost. */
static int done(void)
{
	if (fflush(stdout) == 0 && !ferror(stdout))
		return 0;
	fputs("error: standard output: cannot be written\n", stderr);
	return 1;
}

static const char *state(const struct tg_keyfile *f)
{
	return f->require_auth_for_external ? "true" : "false";
}

static int cmd_list(const struct call *c, struct tg_keyfile *f)
{
	printf("API keys in %s: %zu\n", c->path, f->keys.n);
	for (size_t i = 0; i < f->keys.n; i++) {
		char prefix[TG_KEY_PREFIX_MAX + 1];
		struct tg_slice key = tg_slice_cstr(f->keys.v[i]);
		tg_key_prefix(key, prefix);
		if (c->mask)
			printf("  %zu. %s%s\n", i + 1, prefix, key.n < SHORT_KEY ? "" : "...");
		else
			printf("  %zu. %s\n", i + 1, f->keys.v[i]);
	}
	printf("require_auth_for_external: %s\n", state(f));
	printf("local_networks:");
	for (size_t i = 0; i < f->local_networks.n; i++)
		printf("%s %s", i ? "," : "", f->local_networks.v[i]);
	puts(f->local_networks.n ? "" : " none");
	return done();
}

static bool has(const struct tg_keyfile *f, struct tg_slice key)
{
	bool found = false;
	for (size_t i = 0; i < f->keys.n; i++)
		found |= tg_secret_equal(tg_slice_cstr(f->keys.v[i]), key);
	return found;
}

static int append(const struct call *c, struct tg_keyfile *f, struct tg_slice key)
{
	struct tg_err err;
	if (!tg_strlist_add(&f->keys, key)) {
		tg_err_set(&err, "%s: out of memory", c->path);
		return fail(&err);
	}
	return tg_keyfile_save(f, c->path, &err) ? 0 : fail(&err);
}

static int cmd_add(const struct call *c, struct tg_keyfile *f)
{
	struct tg_slice key = tg_slice_cstr(c->key);
	struct tg_err err;
	const char *fault = tg_keyfile_key_fault(key);
	if (!fault && tg_slice_trim(key).n != key.n)
		fault = "begins or ends with a space, which no header can carry";
	if (fault) {
		tg_err_set(&err, "KEY %s", fault);
		return fail(&err);
	}
	if (has(f, key)) {
		printf("The key is already in %s; nothing was changed.\n", c->path);
		return done();
	}
	if (append(c, f, key) != 0)
		return 1;
	if (key.n < SHORT_KEY)
		fprintf(stderr, "warning: the key is shorter than %d characters; `generate` makes a strong one\n", SHORT_KEY);
	printf("Added the key to %s.\n", c->path);
	return done();
}

static int cmd_remove(const struct call *c, struct tg_keyfile *f)
{
	struct tg_slice key = tg_slice_cstr(c->key);
	struct tg_err err;
	size_t kept = 0;
	for (size_t i = 0; i < f->keys.n; i++) {
		char *v = f->keys.v[i];
		if (tg_secret_equal(tg_slice_cstr(v), key)) {
			explicit_bzero(v, strlen(v));
			free(v);
		} else {
			f->keys.v[kept++] = v;
		}
	}
	bool gone = kept < f->keys.n;
	f->keys.n = kept;
	if (!gone) {
		tg_err_set(&err, "%s: has no such key", c->path);
		return fail(&err);
	}
	if (!tg_keyfile_save(f, c->path, &err))
		return fail(&err);
	printf("Removed the key from %s.\n", c->path);
	return done();
}

/* 6 bits a character: 192 bits, less a trifle for the first, which is never '-' so that no command line takes it for an option. */
static bool random_key(char out[GENERATED + 1])
{
	static const char alphabet[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	unsigned char r[GENERATED];
	for (unsigned attempt = 0; attempt < 64; attempt++) {
		if (getrandom(r, sizeof r, 0) != (ssize_t)sizeof r)
			return false;
		for (unsigned i = 0; i < GENERATED; i++)
			out[i] = alphabet[r[i] & 63];
		explicit_bzero(r, sizeof r);
		if (out[0] != '-')
			break;
	}
	out[GENERATED] = '\0';
	return out[0] != '-';
}

static int cmd_generate(const struct call *c, struct tg_keyfile *f)
{
	char key[GENERATED + 1];
	struct tg_err err;
	if (!random_key(key)) {
		tg_err_set(&err, "the system gives no random numbers");
		return fail(&err);
	}
	int rc = append(c, f, (struct tg_slice){ key, GENERATED });
	if (rc == 0) {
		printf("Generated API key: %s\n", key);
		printf("Added the key to %s.\n", c->path);
		rc = done();
	}
	explicit_bzero(key, sizeof key);
	return rc;
}

static int cmd_toggle(const struct call *c, struct tg_keyfile *f)
{
	struct tg_err err;
	f->require_auth_for_external = !f->require_auth_for_external;
	if (!tg_keyfile_save(f, c->path, &err))
		return fail(&err);
	printf("require_auth_for_external: %s\n", state(f));
	puts(f->require_auth_for_external ? "External requests need a key." : "External requests are let in WITHOUT a key.");
	return done();
}

static const struct command {
	const char *name;
	bool takes_key, writes;
	int (*run)(const struct call *c, struct tg_keyfile *f);
} commands[] = {
	{ "list", false, false, cmd_list },     { "add", true, true, cmd_add },
	{ "remove", true, true, cmd_remove },   { "generate", false, true, cmd_generate },
	{ "toggle-auth", false, true, cmd_toggle },
};

/* Words up to a lone "--" may be options; the first other word is the command, the second its key. False: not understood. */
static bool read_args(int argc, char **argv, struct call *c, bool *help)
{
	bool options = true;
	for (int i = 1; i < argc; i++) {
		char *a = argv[i];
		if (options && strcmp(a, "--") == 0) {
			options = false;
		} else if (options && (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0)) {
			*help = true;
		} else if (options && strcmp(a, "--mask") == 0) {
			c->mask = true;
		} else if (options && strcmp(a, "--file") == 0) {
			if (++i == argc)
				return false;
			c->path = argv[i];
		} else if (options && strncmp(a, "--file=", 7) == 0) {
			c->path = a + 7;
		} else if (options && strncmp(a, "--", 2) == 0) {
			return false;
		} else if (!c->command) {
			c->command = a;
		} else if (!c->key) {
			c->key = a;
		} else {
			return false;
		}
	}
	return *c->path;
}

static int run(const struct command *cmd, const struct call *c)
{
	struct tg_keyfile f;
	struct tg_err err;
	int lock = -1, rc;
	if (cmd->writes && (lock = tg_keyfile_lock(c->path, &err)) < 0)
		return fail(&err);
	enum tg_keyfile_result r = tg_keyfile_load(&f, c->path, &err);
	if (r == TG_KEYFILE_MISSING) {
		tg_keyfile_defaults(&f);
		if (!cmd->writes)
			fprintf(stderr, "%s does not exist yet; the first key added creates it.\n", c->path);
		r = TG_KEYFILE_OK;
	}
	rc = r == TG_KEYFILE_OK ? cmd->run(c, &f) : fail(&err);
	tg_keyfile_free(&f);
	if (lock >= 0)
		close(lock);
	return rc;
}

int tg_cmd_keyfile(int argc, char **argv)
{
	const char *env = getenv("API_KEYS_FILE");
	struct call c = { .path = env && *env ? env : "api_keys.json" };
	bool help = false;
	if (!read_args(argc, argv, &c, &help))
		return wrong_usage();
	if (help) {
		fputs(usage, stdout);
		return done();
	}
	for (size_t i = 0; c.command && i < sizeof commands / sizeof *commands; i++) {
		const struct command *cmd = &commands[i];
		if (strcmp(cmd->name, c.command) != 0)
			continue;
		if (cmd->takes_key != (c.key != NULL) || (c.mask && cmd->writes))
			return wrong_usage();
		int rc = run(cmd, &c);
		if (c.key) /* ends what `ps` can show of it */
			explicit_bzero(c.key, strlen(c.key));
		return rc;
	}
	return wrong_usage();
}
