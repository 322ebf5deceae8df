/*
 * api_keys.json, read and written. Invariants: a file is taken whole or not at all (one wrong entry voids it, so that a typing error
 * cannot silently drop a key or widen a network); no message quotes the file's text, which jansson's own "near ..." would; every
 * copy of a key made here is wiped, those in the JSON tree before it is dropped. Readers never see half a file: it is
 * replaced by rename, after fsync, by one that was 0600 from its first byte.
 */
#include "policy/keyfile.h"
#include "base/newfile.h"
#include "base/utf8.h"
#include "base/secret_mode.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <limits.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

enum { FILE_MAX = 1 << 20, KEYS_MAX = 100000, LOCK_WAIT_MS = 10000, LOCK_STEP_MS = 10 };

static const char *const default_networks[] = { "127.0.0.1", "localhost", "::1" };

const char *tg_keyfile_key_fault(struct tg_slice key)
{
	if (key.n == 0)
		return "is empty";
	if (key.n > TG_KEYFILE_KEY_MAX)
		return "is longer than 1024 bytes";
	if (!tg_utf8_valid(key.p, key.n))
		return "is not valid UTF-8";
	for (size_t i = 0; i < key.n; i++)
		if ((unsigned char)key.p[i] < 0x20 || key.p[i] == 0x7f)
			return "has a control character";
	return NULL;
}

static void wipe_list(struct tg_strlist *l)
{
	for (size_t i = 0; i < l->n; i++)
		explicit_bzero(l->v[i], strlen(l->v[i]));
	tg_strlist_free(l);
}

static void wipe_strings(json_t *array)
{
	size_t i;
	json_t *v;
	json_array_foreach(array, i, v)
		if (json_is_string(v))
			explicit_bzero((void *)(uintptr_t)json_string_value(v), json_string_length(v));
}

static void drop_tree(json_t *tree)
{
	if (tree)
		wipe_strings(json_object_get(tree, "valid_keys"));
	json_decref(tree);
}

void tg_keyfile_free(struct tg_keyfile *f)
{
	wipe_list(&f->keys);
	tg_strlist_free(&f->local_networks);
	drop_tree(f->tree);
	*f = (struct tg_keyfile){ .require_auth_for_external = true };
}

static bool add_default_networks(struct tg_keyfile *f)
{
	for (size_t i = 0; i < sizeof default_networks / sizeof *default_networks; i++)
		if (!tg_strlist_add(&f->local_networks, tg_slice_cstr(default_networks[i])))
			return false;
	return true;
}

void tg_keyfile_defaults(struct tg_keyfile *f)
{
	*f = (struct tg_keyfile){ .require_auth_for_external = true };
	/* Without memory the list is shorter, never wider. */
	add_default_networks(f);
}

static struct tg_slice string_of(const json_t *v)
{
	return (struct tg_slice){ json_string_value(v), json_string_length(v) };
}

static const char *kind_of(const json_t *v)
{
	switch (json_typeof(v)) {
	case JSON_OBJECT: return "an object";
	case JSON_ARRAY: return "an array";
	case JSON_STRING: return "a string";
	case JSON_INTEGER:
	case JSON_REAL: return "a number";
	case JSON_TRUE:
	case JSON_FALSE: return "a boolean";
	default: return "null";
	}
}

/* The member as an array of strings; NULL and *ok where it is absent. */
static const json_t *strings(const json_t *tree, const char *path, const char *name, bool *ok, struct tg_err *err)
{
	const json_t *a = json_object_get(tree, name), *v;
	size_t i;
	*ok = true;
	if (!a)
		return NULL;
	if (!json_is_array(a)) {
		tg_err_set(err, "%s: %s must be an array of strings, not %s", path, name, kind_of(a));
		*ok = false;
		return NULL;
	}
	json_array_foreach((json_t *)(uintptr_t)a, i, v)
		if (!json_is_string(v)) {
			tg_err_set(err, "%s: %s[%zu] must be a string, not %s", path, name, i, kind_of(v));
			*ok = false;
			return NULL;
		}
	return a;
}

static bool read_keys(struct tg_keyfile *f, const char *path, struct tg_err *err)
{
	bool ok;
	const json_t *a = strings(f->tree, path, "valid_keys", &ok, err);
	if (json_array_size(a) > KEYS_MAX) {
		tg_err_set(err, "%s: valid_keys has more than %d keys", path, KEYS_MAX);
		return false;
	}
	for (size_t i = 0; ok && i < json_array_size(a); i++) {
		struct tg_slice key = string_of(json_array_get(a, i));
		const char *fault = tg_keyfile_key_fault(key);
		if (fault || !tg_strlist_add(&f->keys, key)) {
			tg_err_set(err, "%s: valid_keys[%zu] %s", path, i, fault ? fault : "does not fit in memory");
			return false;
		}
	}
	return ok;
}

static bool read_networks(struct tg_keyfile *f, const char *path, struct tg_err *err)
{
	bool ok;
	const json_t *a = strings(f->tree, path, "local_networks", &ok, err);
	if (!ok)
		return false;
	if (!a && !add_default_networks(f)) {
		tg_err_set(err, "%s: out of memory", path);
		return false;
	}
	struct tg_cidr_list nets = { 0 };
	for (size_t i = 0; ok && i < json_array_size(a); i++) {
		struct tg_slice s = string_of(json_array_get(a, i));
		ok = tg_cidr_list_add(&nets, s) && tg_strlist_add(&f->local_networks, s);
		if (ok)
			continue;
		if (nets.n + 1 >= TG_CIDR_MAX)
			tg_err_set(err, "%s: local_networks has more than %d networks", path, TG_CIDR_MAX);
		else
			tg_err_set(err, "%s: local_networks[%zu] is not an address, a network (CIDR) or localhost", path, i);
	}
	tg_cidr_list_free(&nets);
	return ok;
}

enum tg_keyfile_result tg_keyfile_parse(struct tg_keyfile *f, const char *path, struct tg_slice text, struct tg_err *err)
{
	*f = (struct tg_keyfile){ .require_auth_for_external = true };
	if (text.n > FILE_MAX) {
		tg_err_set(err, "%s: larger than %d bytes", path, FILE_MAX);
		return TG_KEYFILE_INVALID;
	}
	json_error_t e;
	json_t *tree = json_loadb(text.n ? text.p : "", text.n, JSON_REJECT_DUPLICATES, &e);
	if (!tree) {
		/* "... near '<text of the file>'" may hold a key. */
		char *near = strstr(e.text, " near ");
		tg_err_set(err, "%s:%d:%d: not valid JSON: %.*s", path, e.line > 0 ? e.line : 1, e.column > 0 ? e.column : 1,
			   near ? (int)(near - e.text) : (int)strnlen(e.text, sizeof e.text), e.text);
		explicit_bzero(&e, sizeof e);
		return TG_KEYFILE_INVALID;
	}
	f->tree = tree;
	const json_t *require = json_object_get(tree, "require_auth_for_external");
	bool ok = false;
	if (!json_is_object(tree))
		tg_err_set(err, "%s: must hold an object, not %s", path, kind_of(tree));
	else if (require && !json_is_boolean(require))
		tg_err_set(err, "%s: require_auth_for_external must be true or false, not %s", path, kind_of(require));
	else
		ok = read_keys(f, path, err) && read_networks(f, path, err);
	if (!ok) {
		tg_keyfile_free(f);
		return TG_KEYFILE_INVALID;
	}
	f->require_auth_for_external = !require || json_is_true(require);
	return TG_KEYFILE_OK;
}

/* The bytes read, FILE_MAX + 1 where there are more; -1 with errno. */
static ssize_t read_whole(int fd, char *p)
{
	size_t n = 0;
	while (n < FILE_MAX + 1) {
		ssize_t k = read(fd, p + n, FILE_MAX + 1 - n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k < 0)
			return -1;
		if (k == 0)
			break;
		n += (size_t)k;
	}
	return (ssize_t)n;
}

enum tg_keyfile_result tg_keyfile_load(struct tg_keyfile *f, const char *path, struct tg_err *err)
{
	*f = (struct tg_keyfile){ .require_auth_for_external = true };
	/* O_NONBLOCK: a FIFO must not hold us. */
	int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY);
	if (fd < 0) {
		bool missing = errno == ENOENT || errno == ENOTDIR;
		tg_err_set(err, "%s: cannot be read: %s", path, strerror(errno));
		return missing ? TG_KEYFILE_MISSING : TG_KEYFILE_UNREADABLE;
	}
	struct stat st;
	enum tg_keyfile_result r = TG_KEYFILE_UNREADABLE;
	char *p = NULL;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
		tg_err_set(err, "%s: cannot be read: not a regular file", path);
	} else if (!(p = malloc(FILE_MAX + 1))) {
		tg_err_set(err, "%s: cannot be read: out of memory", path);
	} else {
		ssize_t n = read_whole(fd, p);
		if (n < 0)
			tg_err_set(err, "%s: cannot be read: %s", path, strerror(errno));
		else
			r = tg_keyfile_parse(f, path, (struct tg_slice){ p, (size_t)n }, err);
		if (n > 0)
			explicit_bzero(p, (size_t)n);
	}
	free(p);
	close(fd);
	return r;
}

bool tg_keyfile_has_demo(const struct tg_keyfile *f, const char *path, struct tg_err *err)
{
	for (size_t i = 0; i < f->keys.n; i++) {
		const char *document = tg_demo_key(tg_slice_cstr(f->keys.v[i]));
		if (document) {
			tg_err_set(err, "%.300s: valid_keys[%zu] is a key that document %s prints", path, i, document);
			return true;
		}
	}
	return false;
}

bool tg_keyfile_vet(const struct tg_config *c, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx)
{
	const char *path = c->api_keys_file;
	bool production = c->profile == TG_PROFILE_PRODUCTION, ok = true;
	struct tg_keyfile f;
	struct tg_err why;
	if (!*path)
		return true;
	enum tg_keyfile_result r = tg_keyfile_load(&f, path, &why);
	if (r == TG_KEYFILE_UNREADABLE) {
		*err = why;
		return false;
	}
	if (r == TG_KEYFILE_MISSING)
		return true;
	if (r == TG_KEYFILE_OK && tg_keyfile_has_demo(&f, path, &why)) {
		if (production) {
			tg_err_set(err, "%.420s, which profile production refuses", why.text);
			ok = false;
		} else if (warn) {
			warn(ctx, why.text);
		}
	}
	if (r == TG_KEYFILE_OK)
		tg_keyfile_free(&f);
	return ok && tg_secret_file_check(path, NULL, production, err, warn, ctx);
}

static json_t *to_array(const struct tg_strlist *l)
{
	json_t *a = json_array();
	for (size_t i = 0; a && i < l->n; i++)
		if (json_array_append_new(a, json_string(l->v[i])) != 0) {
			wipe_strings(a);
			json_decref(a);
			return NULL;
		}
	return a;
}

char *tg_keyfile_text(const struct tg_keyfile *f, size_t *n)
{
	char *text = NULL;
	json_t *tree = f->tree ? json_copy(f->tree) : json_object(); /* shallow: f->tree stays as it is */
	json_t *keys = to_array(&f->keys);
	if (json_object_set(tree, "valid_keys", keys) == 0 &&
	    json_object_set_new(tree, "require_auth_for_external", json_boolean(f->require_auth_for_external)) == 0 &&
	    json_object_set_new(tree, "local_networks", to_array(&f->local_networks)) == 0) {
		const size_t flags = JSON_INDENT(2);
		size_t len = json_dumpb(tree, NULL, 0, flags);
		if (len && len < FILE_MAX && (text = malloc(len + 2))) {
			json_dumpb(tree, text, len, flags);
			memcpy(text + len, "\n", 2);
			*n = len + 1;
		}
	}
	wipe_strings(keys);
	json_decref(keys);
	json_decref(tree);
	return text;
}

/* The file behind a symbolic link is what must be replaced, not the link. Owned by the caller. */
static char *real_target(const char *path)
{
	char *p = realpath(path, NULL);
	return p || errno != ENOENT ? p : strdup(path);
}

int tg_keyfile_lock(const char *path, struct tg_err *err)
{
	char *target = real_target(path), *name = NULL;
	int fd = -1;
	if (!target || asprintf(&name, "%s.lock", target) < 0) { /* name is undefined then */
		tg_err_set(err, "%s: cannot be locked: %s", path, strerror(errno));
		free(target);
		return -1;
	}
	fd = tg_open_made(name, O_RDWR | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0) {
		tg_err_set(err, "%s: cannot be written: %s.lock: %s", path, path, strerror(errno));
	} else {
		for (int waited = 0; flock(fd, LOCK_EX | LOCK_NB) != 0; waited += LOCK_STEP_MS) {
			if (errno == EINTR)
				continue;
			if (errno != EWOULDBLOCK || waited >= LOCK_WAIT_MS) {
				tg_err_set(err, "%s: cannot be locked: %s", path,
					   errno == EWOULDBLOCK ? "another command has held it for 10 seconds" : strerror(errno));
				close(fd);
				fd = -1;
				break;
			}
			nanosleep(&(struct timespec){ .tv_nsec = LOCK_STEP_MS * 1000000L }, NULL);
		}
	}
	free(name);
	free(target);
	return fd;
}

bool tg_keyfile_save(const struct tg_keyfile *f, const char *path, struct tg_err *err)
{
	if (f->keys.n > KEYS_MAX) {
		tg_err_set(err, "%s: cannot be written: more than %d keys", path, KEYS_MAX);
		return false;
	}
	size_t n = 0;
	char *text = tg_keyfile_text(f, &n);
	if (!text) {
		tg_err_set(err, "%s: cannot be written: out of memory, or larger than %d bytes", path, FILE_MAX);
		return false;
	}
	char *target = real_target(path);
	bool ok = target && tg_replace_file(target, (struct tg_slice){ text, n });
	if (!ok)
		tg_err_set(err, "%s: cannot be written: %s", path, strerror(errno));
	explicit_bzero(text, n);
	free(text);
	free(target);
	return ok;
}
