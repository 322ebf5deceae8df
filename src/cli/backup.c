/*
 * tollgate backup, tollgate restore: what a gate cannot be set up again without, as plain files in a folder: the database (a consistent copy, also while a gate runs), the secrets its keys and
 * tokens depend on, the key files, what was changed while it ran. manifest.json names each with its SHA-256; a restore checks them all before it touches anything.
 *
 * A restore replaces files one by one, each whole, and leaves none that the backup has not: limits or a key that it never had would be in force at the next start. It refuses while anybody has the database open or might make it (store/folder.h), since a database
 * must not change under its readers, and a gate that runs goes on with the secret that it has.
 */
#include "base/clock.h"
#include "base/newfile.h"
#include "base/version.h"
#include "cli/cli.h"
#include "cli/stored.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <openssl/evp.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PARTS = 6, HEX = 65 };

/* A file of the gate and its name in a backup. */
struct part {
	const char *name;
	char path[PATH_MAX];
	bool must; /* a backup without it is none */
	bool kept; /* a restore leaves it: what a link leads to is what was saved, and is often a mount that nobody writes to */
};

static const char usage_backup[] = "usage: tollgate backup DIR [--config FILE]\n\n"
				   "Copies the database, its secrets, the key files and data/settings.json into DIR, which is made and must not exist. A gate may run meanwhile.\n"
				   "Trained models ([artifacts] url) are not copied: keep them with it.\n";
static const char usage_restore[] = "usage: tollgate restore DIR [--force] [--config FILE]\n\n"
				    "Puts the files of a backup in their places. What is there already is only replaced, and what the backup does not have only moved aside\n"
				    "(NAME.before-restore), with --force. Stop the gate first. Trained models ([artifacts] url) are not in a backup.\n";

static bool places(const struct tg_config *c, struct part parts[PARTS], struct tg_err *err)
{
	const char *db = strncmp(c->store_url, "sqlite:", 7) == 0 ? c->store_url + 7 : c->store_url, *slash = strrchr(db, '/');
	parts[0] = (struct part){ .name = "tollgate.db", .must = true };
	parts[1] = (struct part){ .name = "secret.key" };
	parts[2] = (struct part){ .name = "jwt.secret" };
	parts[3] = (struct part){ .name = "keys.env" };
	parts[4] = (struct part){ .name = "api_keys.json" };
	parts[5] = (struct part){ .name = "settings.json" };
	bool ok = strlen(db) + sizeof "secret.key" < PATH_MAX && strlen(c->api_keys_file) < PATH_MAX;
	if (ok) {
		snprintf(parts[0].path, PATH_MAX, "%s", db);
		snprintf(parts[1].path, PATH_MAX, "%.*ssecret.key", slash ? (int)(slash + 1 - db) : 0, db);
		snprintf(parts[4].path, PATH_MAX, "%s", c->api_keys_file);
	}
	ok = ok && tg_config_data_path(c, "jwt.secret", parts[2].path, PATH_MAX) && tg_config_data_path(c, "keys.env", parts[3].path, PATH_MAX) &&
	     tg_config_data_path(c, "settings.json", parts[5].path, PATH_MAX);
	if (!ok)
		tg_err_set(err, "a path is too long");
	return ok;
}

/* The file in memory, and its digest. *n 0: it is empty. NULL: errno. follow: a file of the gate's may be a link to where it is kept; one of a backup is what was saved. */
static void *map(const char *path, bool follow, size_t *n, char hex[HEX])
{
	struct stat st;
	unsigned char md[32];
	int fd = open(path, O_RDONLY | O_CLOEXEC | (follow ? 0 : O_NOFOLLOW));
	void *p = NULL;
	if (fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size > 0) {
		p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
		p = p == MAP_FAILED ? NULL : p;
		*n = (size_t)st.st_size;
	} else if (fd >= 0) {
		errno = EINVAL;
	}
	int e = errno;
	if (fd >= 0)
		close(fd);
	if (p && EVP_Digest(p, *n, md, NULL, EVP_sha256(), NULL) == 1) {
		sodium_bin2hex(hex, HEX, md, sizeof md);
	} else if (p) {
		munmap(p, *n);
		p = NULL;
	}
	errno = e;
	return p;
}

static bool copy(const char *from, bool follow, const char *to, char hex[HEX], struct tg_err *err)
{
	size_t n;
	void *p = map(from, follow, &n, hex);
	bool ok = p && tg_replace_file(to, (struct tg_slice){ p, n });
	if (!ok)
		tg_err_set(err, "%s: cannot be %s: %s", p ? to : from, p ? "written" : "read", strerror(errno));
	if (p)
		munmap(p, n);
	return ok;
}

static bool join(const char *dir, const char *name, char out[PATH_MAX], struct tg_err *err)
{
	int n = snprintf(out, PATH_MAX, "%s/%s", dir, name);
	if (n > 0 && n < PATH_MAX)
		return true;
	tg_err_set(err, "%s: the path is too long", dir);
	return false;
}

/* ---- backup ---- */

static bool save_part(struct tg_cli_store *s, const struct part *p, const char *dir, json_t *files, struct tg_err *err)
{
	char to[PATH_MAX], hex[HEX];
	size_t n;
	bool db = strcmp(p->name, "tollgate.db") == 0;
	if (!join(dir, p->name, to, err))
		return false;
	if (!db && access(p->path, F_OK) != 0)
		return true;
	if (db ? !tg_store_copy(s->store, to, err) : !copy(p->path, true, to, hex, err))
		return false;
	void *m = map(to, false, &n, hex);
	if (!m) {
		tg_err_set(err, "%s: cannot be read: %s", to, strerror(errno));
		return false;
	}
	munmap(m, n);
	printf("  %s\n", p->name);
	return json_object_set_new(files, p->name, json_pack("{s:s, s:I}", "sha256", hex, "bytes", (json_int_t)n)) == 0;
}

static bool save_manifest(const char *dir, json_t *files, struct tg_err *err)
{
	char path[PATH_MAX], now[24];
	tg_cli_time((int64_t)(tg_wall_us() / 1000000u), now);
	json_t *m = json_pack("{s:s, s:i, s:s, s:O}", "tollgate", TG_VERSION, "schema", (int)tg_db_schema(), "made_at", now, "files", files);
	char *text = m ? json_dumps(m, JSON_INDENT(2)) : NULL;
	bool ok = text && join(dir, "manifest.json", path, err) && tg_replace_file(path, tg_slice_cstr(text));
	if (!ok)
		tg_err_set(err, "%s/manifest.json: cannot be written", dir);
	free(text);
	json_decref(m);
	return ok;
}

/* One that failed is no backup but holds secrets, and would be in the way of the next try. What is not ours stays, and the folder with it. */
static void take_back(const char *dir, const struct part parts[PARTS])
{
	char path[PATH_MAX];
	struct tg_err err;
	for (unsigned i = 0; i < PARTS; i++)
		if (join(dir, parts[i].name, path, &err))
			unlink(path);
	if (join(dir, "manifest.json", path, &err))
		unlink(path);
	rmdir(dir);
}

static int backup(struct tg_cli_store *s, const char *dir)
{
	struct part parts[PARTS];
	struct tg_err err;
	json_t *files = json_object();
	if (!places(s->config, parts, &err) || (access(parts[0].path, F_OK) && (tg_err_set(&err, "%s: there is no database yet; the other files can be copied as they are", parts[0].path), true)) || (mkdir(dir, 0700) && (tg_err_set(&err, "%s: cannot be made: %s", dir, strerror(errno)), true))) {
		json_decref(files);
		return tg_cli_failed(&err);
	}
	bool ok = files != NULL;
	for (unsigned i = 0; ok && i < PARTS; i++)
		ok = save_part(s, &parts[i], dir, files, &err);
	ok = ok && save_manifest(dir, files, &err); /* last: a folder without it is no backup */
	json_decref(files);
	if (!ok) {
		take_back(dir, parts);
		return tg_cli_failed(&err);
	}
	printf("The backup is in %s. It holds secrets: keep it as you keep the gate's own files.\n", dir);
	if (s->config->ml_engine)
		printf("Trained models (%s) are not in it: keep a copy of them with it, made after it, else its records and the models do not fit.\n", s->config->artifacts_url);
	return tg_cli_done();
}

/* ---- restore ---- */

static json_t *read_manifest(const char *dir, struct tg_err *err)
{
	char path[PATH_MAX];
	json_error_t e;
	if (!join(dir, "manifest.json", path, err))
		return NULL;
	if (access(path, R_OK)) {
		tg_err_set(err, "%s: cannot be read: %s. A backup is a folder that tollgate backup has made", path, strerror(errno));
		return NULL;
	}
	json_t *m = json_load_file(path, JSON_REJECT_DUPLICATES, &e);
	json_int_t schema = json_integer_value(json_object_get(m, "schema"));
	if (!json_is_object(json_object_get(m, "files")) || schema < 1)
		tg_err_set(err, "%s: is no manifest of a backup", path);
	else if (schema > (json_int_t)tg_db_schema())
		tg_err_set(err, "%s: of a newer Tollgate: schema %lld, this program knows %u", path, (long long)schema, tg_db_schema());
	else
		return m;
	json_decref(m);
	return NULL;
}

static bool is_there(const struct part *p)
{
	struct stat st;
	return lstat(p->path, &st) == 0;
}

static bool is_saved(const char *path, const json_t *file)
{
	char hex[HEX];
	size_t n;
	const char *want = json_string_value(json_object_get(file, "sha256"));
	void *m = map(path, true, &n, hex);
	bool same = m && want && strcmp(want, hex) == 0;
	if (m)
		munmap(m, n);
	return same;
}

/* A link stays: where it leads to is where somebody keeps the file. */
static bool follow_link(struct part *p, const json_t *file, struct tg_err *err)
{
	struct stat st;
	char folder[PATH_MAX], *real;
	if (lstat(p->path, &st) != 0 || !S_ISLNK(st.st_mode))
		return true;
	real = realpath(p->path, NULL);
	if (!real || strlen(real) >= PATH_MAX) {
		tg_err_set(err, "%s is a link that leads nowhere (%s): make the file that it leads to, or remove it", p->path, real ? "a path too long" : strerror(errno));
		free(real);
		return false;
	}
	snprintf(folder, sizeof folder, "%s", real);
	*(strrchr(folder, '/') + 1) = 0;
	p->kept = !p->must && is_saved(real, file); /* of a database the file alone says little */
	bool ok = p->kept || access(folder, W_OK) == 0;
	if (ok)
		snprintf(p->path, sizeof p->path, "%s", real);
	else
		tg_err_set(err, "%s leads to %s, which is not what was saved and cannot be replaced: %s", p->path, real, strerror(errno));
	free(real);
	return ok;
}

/* The file is there and is the one that was saved. */
static bool check_part(struct part *p, const char *dir, const json_t *files, bool force, struct tg_err *err)
{
	const json_t *f = json_object_get(files, p->name);
	char from[PATH_MAX], hex[HEX];
	size_t n;
	if (!f && !p->must) {
		if (force || !is_there(p))
			return true;
		tg_err_set(err, "%s is there, and the backup has none; --force moves it aside", p->path);
		return false;
	}
	if (!f || !join(dir, p->name, from, err)) {
		tg_err_set(err, "%s: the backup has no %s", dir, p->name);
		return false;
	}
	void *m = map(from, false, &n, hex);
	const char *want = json_string_value(json_object_get(f, "sha256"));
	bool same = m && want && strcmp(want, hex) == 0;
	if (m)
		munmap(m, n);
	if (!same)
		tg_err_set(err, "%s: %s", from, m ? "is not what was saved: its SHA-256 differs" : strerror(errno));
	else if (!force && is_there(p))
		tg_err_set(err, "%s is there already; --force replaces it", p->path);
	else
		return follow_link(p, f, err);
	return false;
}

static bool move_part(const struct part *p, const json_t *files, struct tg_err *err)
{
	char to[PATH_MAX];
	if (json_object_get(files, p->name) || !is_there(p))
		return true;
	if (!tg_move_aside(p->path, ".before-restore", to)) {
		tg_err_set(err, "%s: the backup has none, and it cannot be moved aside: %s", p->path, strerror(errno));
		return false;
	}
	printf("  %s: the backup has none; it is %s now\n", p->path, to);
	return true;
}

static bool put_part(const struct part *p, const char *dir, const json_t *files, struct tg_err *err)
{
	char from[PATH_MAX], hex[HEX], folder[PATH_MAX];
	if (!json_object_get(files, p->name))
		return true;
	if (p->kept) {
		printf("  %s (as it is: what was saved)\n", p->path);
		return true;
	}
	snprintf(folder, sizeof folder, "%s", p->path);
	char *slash = strrchr(folder, '/');
	if (slash && slash != folder) {
		*slash = 0;
		if (mkdir(folder, 0700) && errno != EEXIST) {
			tg_err_set(err, "%s: cannot be made: %s", folder, strerror(errno));
			return false;
		}
	}
	if (!join(dir, p->name, from, err) || !copy(from, false, p->path, hex, err))
		return false;
	printf("  %s\n", p->path);
	return true;
}

static int restore(const char *config, const char *dir, bool force)
{
	struct tg_config_source source = { .path = config, .env = environ };
	struct tg_err err;
	struct part parts[PARTS];
	struct tg_config *c = tg_config_load(&source, &err, NULL, NULL);
	if (!c) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		return 2;
	}
	json_t *m = read_manifest(dir, &err);
	const json_t *files = json_object_get(m, "files");
	bool ok = m && places(c, parts, &err);
	int held = -1;
	for (unsigned i = 0; ok && i < PARTS; i++)
		ok = check_part(&parts[i], dir, files, force, &err);
	/* Also where there is no database: a gate that runs would make one, under the secret that it has. */
	ok = ok && tg_store_claim(c->store_url, &held, &err);
	ok = ok && (access(parts[0].path, F_OK) != 0 || tg_db_retire(parts[0].path, &err));
	for (unsigned i = 0; ok && i < PARTS; i++)
		ok = move_part(&parts[i], files, &err);
	/* The secrets before the database: a database without its secret would stop a start, the other way round it would not. */
	for (unsigned i = PARTS; ok && i-- > 0;)
		ok = put_part(&parts[i], dir, files, &err);
	if (held >= 0)
		close(held);
	json_decref(m);
	if (ok && c->ml_engine)
		printf("Trained models (%s) are in no backup: put back those that were kept with it, else its records and the models do not fit.\n", c->artifacts_url);
	tg_config_free(c);
	if (!ok)
		return tg_cli_failed(&err);
	puts("Restored. Start the gate.");
	return tg_cli_done();
}

/* ---- the command line ---- */

static int wrong(const char *usage)
{
	fputs(usage, stderr);
	return 2;
}

static int parse(int argc, char **argv, const char *usage, bool may_force, const char **config, const char **dir, bool *force)
{
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			fputs(usage, stdout);
			return tg_cli_done();
		}
		if (strcmp(argv[i], "--config") == 0 && i + 1 < argc)
			*config = argv[++i];
		else if (may_force && strcmp(argv[i], "--force") == 0)
			*force = true;
		else if (argv[i][0] == '-' || *dir)
			return wrong(usage);
		else
			*dir = argv[i];
	}
	return *dir ? -1 : wrong(usage);
}

int tg_cmd_backup(int argc, char **argv)
{
	const char *config = NULL, *dir = NULL;
	bool force = false;
	int rc = parse(argc, argv, usage_backup, false, &config, &dir, &force);
	struct tg_cli_store s;
	if (rc >= 0)
		return rc;
	rc = tg_cli_store_look(&s, config);
	if (rc)
		return rc;
	rc = backup(&s, dir);
	tg_cli_store_close(&s);
	return rc;
}

int tg_cmd_restore(int argc, char **argv)
{
	const char *config = NULL, *dir = NULL;
	bool force = false;
	int rc = parse(argc, argv, usage_restore, true, &config, &dir, &force);
	return rc >= 0 ? rc : restore(config, dir, force);
}
