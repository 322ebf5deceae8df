/*
 * tollgate init: the first run. It makes data/keys.env (an admin key and a read key) and a commented tollgate.toml, and prints one
 * screen that leads to an answered request. Running it again changes nothing and says what is there.
 *
 * Invariants: no file is ever replaced and no key that is set anywhere (environment, TOML, .env, data/keys.env) is made again; a file
 * appears whole or not at all (temporary file, fsync, rename that refuses to replace, fsync of the folder); keys.env is 0600 from
 * its first byte; a key is printed only by the run that made it, and only once it is on disk.
 */
#include "base/buf.h"
#include "base/newfile.h"
#include "cli/cli.h"
#include "config/config.h"
#include <errno.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ID = 8, RANDOM_BYTES = 32, RANDOM_TEXT = 43, KEY_TEXT = 3 + ID + 1 + RANDOM_TEXT + 1, PATH_BYTES = 4096, FILE_MAX = 256 << 10 };

struct first_run {
	const char *dir; /* "." without --dir */
	bool quiet;
	char admin[KEY_TEXT], read[KEY_TEXT]; /* "" unless made now */
	bool made_keys, made_toml;
};

static const char usage[] =
	"usage: tollgate init [--dir FOLDER] [--quiet]\n"
	"\n"
	"Makes data/keys.env (an admin key and a read key) and a commented tollgate.toml, here or in FOLDER, and says\n"
	"what to do next. Nothing that is there is replaced.\n";

/* tg_<8 characters of public id>_<43 random characters: 256 bits>. */
static void make_key(char out[KEY_TEXT])
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz0123456789";
	unsigned char random[RANDOM_BYTES];
	char *p = out + 3;
	memcpy(out, "tg_", 3);
	for (int i = 0; i < ID; i++)
		*p++ = letters[randombytes_uniform(sizeof letters - 1)];
	*p++ = '_';
	randombytes_buf(random, sizeof random);
	sodium_bin2base64(p, RANDOM_TEXT + 1, random, sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	sodium_memzero(random, sizeof random);
}

static bool path_in(char out[PATH_BYTES], const char *dir, const char *name)
{
	int n = strcmp(dir, ".") == 0 ? snprintf(out, PATH_BYTES, "%s", name) : snprintf(out, PATH_BYTES, "%s/%s", dir, name);
	return n > 0 && n < PATH_BYTES;
}

static bool make_folder(const char *path, mode_t mode)
{
	struct stat st;
	if (tg_new_folder(path, mode) == 0)
		return true;
	if (errno == EEXIST && stat(path, &st) == 0) {
		if (mode == 0700 && (st.st_mode & 022))
			fprintf(stderr, "warning: others may write to %s: chmod 700 it\n", path);
		if (S_ISDIR(st.st_mode))
			return true;
		errno = ENOTDIR;
	}
	fprintf(stderr, "tollgate init: cannot make the folder %s: %s\n", path, strerror(errno));
	return false;
}

static enum tg_made write_new(const char *path, mode_t mode, struct tg_slice text)
{
	enum tg_made m = tg_newfile(path, mode, text);
	if (m == TG_NOT_MADE)
		fprintf(stderr, "tollgate init: cannot write %s: %s\n", path, strerror(errno));
	return m;
}

static bool write_keys(struct first_run *r, const struct tg_config *c)
{
	char folder[PATH_BYTES], path[PATH_BYTES];
	struct tg_buf b;
	if (c->admin_key.n && c->read_key.n)
		return true;
	if (!path_in(folder, r->dir, "data") || !path_in(path, r->dir, "data/keys.env")) {
		fprintf(stderr, "tollgate init: the folder's name is too long\n");
		return false;
	}
	if (access(path, F_OK) == 0)
		return true;
	if (!make_folder(folder, 0700))
		return false;
	tg_buf_init(&b, 4096);
	tg_buf_lit(&b, "# Made by `tollgate init`. Whoever can read this file holds these keys. A variable of the environment wins over a line here.\n");
	if (!c->admin_key.n) {
		make_key(r->admin);
		tg_buf_fmt(&b, "INFERENCE_ADMIN_KEY=%s\n", r->admin);
	}
	if (!c->read_key.n) {
		make_key(r->read);
		tg_buf_fmt(&b, "INFERENCE_READ_KEY=%s\n", r->read);
	}
	enum tg_made m = b.failed ? TG_NOT_MADE : write_new(path, 0600, tg_buf_view(&b));
	r->made_keys = m == TG_MADE;
	if (m != TG_MADE) {
		sodium_memzero(r->admin, sizeof r->admin);
		sodium_memzero(r->read, sizeof r->read);
	}
	if (b.p)
		sodium_memzero(b.p, b.cap);
	tg_buf_free(&b);
	return m != TG_NOT_MADE;
}

static bool write_toml(struct first_run *r)
{
	char path[PATH_BYTES], *text = NULL;
	size_t n = 0;
	if (!path_in(path, r->dir, "tollgate.toml"))
		return false;
	if (access(path, F_OK) == 0)
		return true;
	FILE *f = open_memstream(&text, &n);
	if (f)
		tg_config_sample(f);
	bool ok = f && fclose(f) == 0 && n > 0 && n < FILE_MAX;
	enum tg_made m = TG_NOT_MADE;
	if (ok)
		m = write_new(path, 0600, (struct tg_slice){ text, n });
	else
		fprintf(stderr, "tollgate init: out of memory\n");
	free(text);
	r->made_toml = m == TG_MADE;
	return m != TG_NOT_MADE;
}

/* The first TCP entry as a client on this machine would write it; false where there is none with a known port. */
static bool base_url(const struct tg_config *c, char *out, size_t cap)
{
	for (size_t i = 0; i < c->listen.n; i++) {
		struct tg_listen l;
		struct tg_err why;
		if (!tg_listen_parse(tg_slice_cstr(c->listen.v[i]), &l, &why) || l.unix_socket || !l.port || l.kind == TG_LISTEN_REDIRECT)
			continue;
		if (tg_slice_eq(l.host, TG_S("0.0.0.0")))
			l.host = TG_S("127.0.0.1");
		else if (tg_slice_eq(l.host, TG_S("::")))
			l.host = TG_S("::1");
		bool v6 = memchr(l.host.p, ':', l.host.n) != NULL;
		snprintf(out, cap, "http%s://%s%.*s%s:%u", l.kind == TG_LISTEN_TLS ? "s" : "", v6 ? "[" : "", (int)l.host.n, l.host.p, v6 ? "]" : "", l.port);
		return true;
	}
	snprintf(out, cap, "http://127.0.0.1:9001");
	return false;
}

static void print_key(const char *what, const char *made, const struct tg_config *c, const char *option, size_t length, const char *file)
{
	const char *origin = tg_config_origin(c, "auth", option);
	if (*made)
		printf("  %s  %s\n", what, made);
	else if (length)
		printf("  %s  already set: %s\n", what, origin);
	else
		printf("  %s  not set: add a line INFERENCE_%s_KEY=... to %s\n", what, strcmp(option, "read_key") == 0 ? "READ" : "ADMIN", file);
}

static void print_screen(const struct first_run *r, const struct tg_config *c)
{
	char url[128], file[PATH_BYTES] = "", keys[PATH_BYTES] = "";
	bool known = base_url(c, url, sizeof url);
	bool here = strcmp(r->dir, ".") == 0;
	/* What stands for the read key in the lines below: itself when it was made now, else the variable that the key file sets. */
	const char *key = *r->read ? r->read : "$INFERENCE_READ_KEY";
	const char *from = tg_config_origin(c, "auth", "read_key");
	if (!path_in(file, r->dir, "tollgate.toml") || !path_in(keys, r->dir, "data/keys.env"))
		return;
	printf("Settings: %s (%s)    Keys: %s (%s)\n\n", file, r->made_toml ? "made now" : "was there", keys,
	       r->made_keys ? "made now" : access(keys, F_OK) == 0 ? "was there" : "not needed");
	printf("  URL        %s%s\n", url, known ? "" : "  (as it is logged at the start)");
	print_key("Admin key", r->admin, c, "admin_key", c->admin_key.n, keys);
	print_key("Read key ", r->read, c, "read_key", c->read_key.n, keys);
	if (*r->admin || *r->read)
		puts("  Keys are shown this once.");
	printf("\nStart it:\n  tollgate serve%s%s\n", here ? "" : " --config ", here ? "" : file);
	puts("\nTry it:");
	if (!*r->read && from && strstr(from, "keys.env"))
		printf("  . %s%s\n", keys[0] == '/' ? "" : "./", keys);
	else if (!*r->read && c->read_key.n && strncmp(from, "environment", 11) != 0)
		printf("  INFERENCE_READ_KEY='the read key'     # %s\n", from);
	printf("  curl %s/health\n", url);
	printf("  curl -H \"Authorization: Bearer %s\" %s/v1/models\n", key, url);
	printf("  curl -N -H \"Authorization: Bearer %s\" -H 'Content-Type: application/json' \\\n"
	       "    -d '{\"model\":\"%s\",\"stream\":true,\"messages\":[{\"role\":\"user\",\"content\":\"Hello\"}]}' \\\n"
	       "    %s/v1/chat/completions\n",
	       key, c->nmodels ? c->models[0].name : "my-model", url);
	if (!c->nmodels)
		puts("  (the last answers 503 until there is a model)");
	printf("\nAdd a model that runs somewhere: lines at the end of %s\n"
	       "  [[model]]\n"
	       "  name = \"my-model\"\n"
	       "  urls = [\"http://127.0.0.1:8080\"]\n"
	       "Or put a gate in front of a command, with no file at all:\n"
	       "  tollgate run -- llama-server -m X.gguf --port {port}\n",
	       file);
}

static int first_run(struct first_run *r)
{
	struct tg_config_source src = { .env = environ, .dir = r->dir, .draft = true };
	struct tg_err err;
	if (strcmp(r->dir, ".") != 0 && !make_folder(r->dir, 0755))
		return 1;
	struct tg_config *c = tg_config_load(&src, &err, NULL, NULL);
	if (!c) {
		fprintf(stderr, "%s\n", err.text);
		return 2;
	}
	bool ok = write_keys(r, c) && write_toml(r);
	if (ok && !r->made_keys && (!c->admin_key.n || !c->read_key.n)) {
		/* Another run may have made the file meanwhile: tell what is there now. */
		struct tg_config *now = tg_config_load(&src, &err, NULL, NULL);
		if (now) {
			tg_config_free(c);
			c = now;
		}
	}
	if (ok && !r->quiet)
		print_screen(r, c);
	tg_config_free(c);
	return ok && fflush(stdout) == 0 ? 0 : 1;
}

int tg_cmd_init(int argc, char **argv)
{
	struct first_run r = { .dir = "." };
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			fputs(usage, stdout);
			return 0;
		}
		if (strcmp(argv[i], "--quiet") == 0) {
			r.quiet = true;
		} else if (strcmp(argv[i], "--dir") == 0 && i + 1 < argc && *argv[i + 1]) {
			r.dir = argv[++i];
		} else {
			fprintf(stderr, "tollgate init: not understood: %s\n\n%s", argv[i], usage);
			return 2;
		}
	}
	if (sodium_init() < 0) {
		fprintf(stderr, "tollgate init: no source of random numbers\n");
		return 1;
	}
	int rc = first_run(&r);
	sodium_memzero(&r, sizeof r);
	return rc;
}
