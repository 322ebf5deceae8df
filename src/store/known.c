/*
 * The file of what is known. It is taken whole or not at all: its last line says how many there must be, so that a file that was cut off (a full disk, a copy) gives nobody a part of the rights
 * of yesterday and takes nobody's away half.
 */
#include "store/known.h"
#include "base/buf.h"
#include "base/newfile.h"
#include "config/env.h"
#include "policy/key_limits.h"
#include "store/identity.h"
#include <errno.h>
#include <jansson.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { LINE_WORST = 1600, FIRST_ROOM = 1 << 16 };

static void put_common(struct tg_buf *b, const struct tg_principal *p)
{
	char perms[TG_PERMS_TEXT];
	tg_perms_text(p->perms, ",", perms);
	tg_buf_fmt(b, ",\"id\":\"%s\",\"permissions\":\"%s\"", p->id, perms);
	if (!tg_key_limits_set(&p->limits))
		return;
	char *limits = tg_limits_dump(&p->limits);
	tg_buf_fmt(b, ",\"limits\":%s", limits ? limits : "");
	b->failed |= !limits;
	free(limits);
}

static void put_key(void *ctx, const uint8_t digest[32], const struct tg_principal *p)
{
	struct tg_buf *b = ctx;
	char hex[65];
	sodium_bin2hex(hex, sizeof hex, digest, 32);
	tg_buf_fmt(b, "{\"key\":\"%s\"", hex);
	put_common(b, p);
	tg_buf_fmt(b, ",\"prefix\":\"%s\",\"expires\":%llu}\n", p->prefix, (unsigned long long)p->expires_s);
}

/* A start changes nothing: it need not wait for the disk. */
static bool same(const char *path, struct tg_slice text)
{
	size_t n = 0;
	mode_t mode = 0;
	struct tg_err ignored;
	char *old = tg_read_file(path, text.n + 1, &n, &mode, &ignored);
	bool equal = old && mode == 0600 && n == text.n && memcmp(old, text.p, n) == 0;
	free(old);
	return equal;
}

bool tg_known_write(const char *path, const struct tg_identity *d, struct tg_err *err)
{
	size_t keys = tg_identity_keys(d), users = tg_identity_users(d), ended = 0;
	if (keys > TG_KNOWN_KEYS_MAX) {
		if (unlink(path) && errno != ENOENT) {
			tg_err_set(err, "%s: cannot be removed: %s", path, strerror(errno));
			return false;
		}
		return true;
	}
	struct tg_buf b;
	tg_buf_init(&b, (keys + users + 4096) * LINE_WORST + (1u << 26));
	tg_buf_reserve(&b, FIRST_ROOM);
	tg_identity_each_key(d, put_key, &b);
	for (size_t i = 0; i < users; i++) {
		const struct tg_user *u = tg_identity_user_at(d, i);
		tg_buf_fmt(&b, "{\"user\":%s", u->disabled ? "false" : "true");
		put_common(&b, &u->who);
		tg_buf_fmt(&b, ",\"from\":%lld}\n", (long long)u->tokens_from);
	}
	int64_t expires = 0;
	for (const char *jti; (jti = tg_identity_revoked_at(d, ended, &expires)); ended++) {
		tg_buf_lit(&b, "{\"ended\":");
		tg_buf_json(&b, tg_slice_cstr(jti));
		tg_buf_fmt(&b, ",\"expires\":%lld}\n", (long long)expires);
	}
	tg_buf_fmt(&b, "{\"lines\":%zu}\n", keys + users + ended);
	bool ok = !b.failed && (same(path, tg_buf_view(&b)) || tg_replace_file(path, tg_buf_view(&b)));
	if (!ok)
		tg_err_set(err, "%s: cannot be written: %s", path, b.failed ? "out of memory" : strerror(errno));
	tg_buf_free(&b);
	return ok;
}

static const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static bool common(const json_t *o, struct tg_principal *p)
{
	struct tg_key_limits_fault ignored;
	struct tg_slice names = tg_slice_cstr(text(o, "permissions"));
	if (strlen(text(o, "id")) >= sizeof p->id || !tg_key_limits_parse(json_object_get(o, "limits"), &p->limits, &ignored))
		return false;
	snprintf(p->id, sizeof p->id, "%s", text(o, "id"));
	p->perms = tg_perms_listed(names);
	p->hash = tg_stored_account(p->id);
	return p->id[0] != 0;
}

static bool placed(struct tg_uses *uses, struct tg_principal *p)
{
	return !uses || (p->use = tg_uses_of(uses, p)) != NULL;
}

static bool take_line(struct tg_identity *d, struct tg_uses *uses, const json_t *o)
{
	if (json_object_get(o, "ended"))
		return tg_identity_add_revoked(d, text(o, "ended"), json_integer_value(json_object_get(o, "expires")));
	const json_t *user = json_object_get(o, "user");
	if (user) {
		struct tg_user u = { .who = { .source = TG_SRC_USER, .name = "user" }, .disabled = !json_is_true(user), .tokens_from = json_integer_value(json_object_get(o, "from")) };
		/* Without a name nobody can log in; the id is enough for a token. */
		return common(o, &u.who) && placed(uses, &u.who) && snprintf(u.name, sizeof u.name, "?%s", u.who.id) > 0 && tg_identity_add_user(d, &u, "!");
	}
	struct tg_principal p = { .source = TG_SRC_STORED_KEY, .name = "database" };
	uint8_t digest[32];
	const char *hex = text(o, "key");
	size_t n = 0;
	if (strlen(hex) != 64 || sodium_hex2bin(digest, sizeof digest, hex, 64, NULL, &n, NULL) || n != sizeof digest || !common(o, &p) || !placed(uses, &p))
		return false;
	snprintf(p.prefix, sizeof p.prefix, "%s", text(o, "prefix"));
	p.expires_s = (uint64_t)json_integer_value(json_object_get(o, "expires"));
	return tg_identity_add_key(d, digest, &p);
}

struct tg_identity *tg_known_read(const char *path, struct tg_uses *uses)
{
	FILE *f = fopen(path, "re");
	struct tg_identity *d = f ? tg_identity_new() : NULL;
	char *line = NULL;
	size_t cap = 0, lines = 0;
	bool ok = d != NULL, whole = false;
	for (ssize_t n; ok && !whole && (n = getline(&line, &cap, f)) > 0;) {
		json_t *o = json_loadb(line, (size_t)n, JSON_REJECT_DUPLICATES, NULL);
		const json_t *end = json_object_get(o, "lines");
		if (end)
			whole = json_integer_value(end) == (json_int_t)lines;
		ok = end ? whole : json_is_object(o) && take_line(d, uses, o);
		lines++;
		json_decref(o);
	}
	free(line);
	if (f)
		fclose(f);
	if (ok && whole && tg_identity_seal(d)) {
		tg_identity_nameless(d);
		return d;
	}
	tg_identity_put(d);
	return NULL;
}
