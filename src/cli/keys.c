/*
 * tollgate keys: keys of the database, on the machine where it lies. Who may read the database's file may do all of this, so no permission is asked for. A gate that runs sees the change within
 * half a second. (The keys of api_keys.json have their own command: tollgate keyfile.)
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/stored.h"
#include "policy/key_limits.h"
#include "store/identity.h"
#include <stdio.h>
#include <stdlib.h>

#define DAY 86400

static const char usage[] =
	"usage: tollgate keys COMMAND [--config FILE]\n"
	"\n"
	"  create NAME --permissions P,P... [--days N] " TG_KEY_LIMITS_USAGE "\n"
	"                 make a key and print it: this is the only time\n"
	"  list           the keys, without their secrets\n"
	"  revoke ID      end a key, for good\n"
	"  rotate ID [--overlap SECONDS]\n"
	"                 a new secret for a key; the old one lives on for a day, or that long\n"
	"\n"
	"Permissions are those of `tollgate routes`; also all, none.\n";

struct call {
	const char *command, *subject, *config, *permissions;
	int64_t days, overlap;
	struct tg_key_limits limits;
	/* for the transaction */
	struct tg_key_row row;
	uint8_t digest[32];
	int64_t now;
	bool found, two;
	unsigned n;
	unsigned given; /* options */
};

static enum tg_db_result insert(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	return tg_keys_insert(db, &c->row, c->digest, err);
}

static bool make(struct tg_cli_store *s, struct call *c, char id[TG_STORED_ID_LEN + 1], char key[TG_STORED_KEY_LEN + 1], struct tg_err *err)
{
	if (!tg_stored_key_make(id, key) || !tg_digest(&s->digester, tg_slice_cstr(key), c->digest)) {
		tg_err_set(err, "no key could be made");
		return false;
	}
	tg_key_prefix(tg_slice_cstr(key), c->row.prefix);
	return true;
}

static int create(struct tg_cli_store *s, struct call *c)
{
	char id[TG_STORED_ID_LEN + 12] = "", key[TG_STORED_KEY_LEN + 1], until[24];
	struct tg_err err;
	uint64_t generation;
	if (!tg_cli_perms(c->permissions, &c->row.perms, &err) || !make(s, c, id, key, &err))
		return tg_cli_failed(&err);
	char *limits = tg_limits_dump(&c->limits);
	c->row.id = id;
	c->row.name = c->subject;
	c->row.made_by = "command line";
	c->row.limits = limits ? limits : "{}";
	c->row.created_s = c->now;
	c->row.expires_s = c->days ? c->now + c->days * DAY : 0;
	enum tg_db_result r = limits ? tg_store_write(s->store, insert, c, &generation, &err) : TG_DB_AWAY;
	free(limits);
	if (r != TG_DB_OK)
		return tg_cli_failed(&err);
	tg_cli_time(c->row.expires_s, until);
	printf("%s\n\nid: %s\nexpires: %s\nThe key is shown this once.\n", key, id, until);
	explicit_bzero(key, sizeof key);
	return tg_cli_done();
}

static bool print_key(void *ctx, const struct tg_key_row *k)
{
	struct call *c = ctx;
	char perms[TG_PERMS_TEXT], made[24], until[24], used[24], name[TG_CLI_SHOWN];
	tg_perms_text(k->perms, ",", perms);
	tg_cli_time(k->created_s, made);
	tg_cli_time(k->expires_s, until);
	tg_cli_time(k->used_s, used);
	const char *state = k->revoked_s ? "revoked" : k->expires_s && k->expires_s <= c->now ? "expired" : k->secrets > 1 ? "rotating" : "active";
	printf("%-20s  %-9s  %-8s  %-20s  %-20s  %-20s  %s  [%s]\n", k->id, k->prefix, state, made, until, used, tg_cli_shown(k->name, name), perms[0] ? perms : "none");
	c->n++;
	return true;
}

static enum tg_db_result list_all(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	return tg_keys_list(db, "", 1u << 21, c->now, print_key, c, err);
}

static int list(struct tg_cli_store *s, struct call *c)
{
	struct tg_err err;
	printf("%-20s  %-9s  %-8s  %-20s  %-20s  %-20s  %s\n", "ID", "PREFIX", "STATE", "MADE", "EXPIRES", "USED", "NAME [PERMISSIONS]");
	if (tg_store_read(s->store, list_all, c, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	printf("%u keys\n", c->n);
	return tg_cli_done();
}

static enum tg_db_result end(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	return tg_keys_revoke(db, c->subject, c->now, &c->found, err);
}

static int no_such(const struct call *c)
{
	fprintf(stderr, "error: there is no key %s, or it has ended\n", c->subject);
	return 1;
}

static int revoke(struct tg_cli_store *s, struct call *c)
{
	struct tg_err err;
	uint64_t generation;
	if (tg_store_write(s->store, end, c, &generation, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	if (!c->found)
		return no_such(c);
	printf("Revoked %s.\n", c->subject);
	return tg_cli_done();
}

static bool state_of(void *ctx, const struct tg_key_row *k)
{
	struct call *c = ctx;
	c->found = !k->revoked_s && !(k->expires_s && k->expires_s <= c->now);
	c->two = k->secrets > 1;
	return true;
}

static enum tg_db_result add_secret(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	bool there;
	enum tg_db_result r = tg_keys_get(db, c->subject, c->now, state_of, c, &there, err);
	if (r != TG_DB_OK || !c->found || (c->two && c->overlap))
		return r;
	return tg_keys_add_secret(db, c->subject, c->digest, c->row.prefix, c->now, c->now + c->overlap, err);
}

static int rotate(struct tg_cli_store *s, struct call *c)
{
	char id[TG_STORED_ID_LEN + 12] = "", key[TG_STORED_KEY_LEN + 1], until[24];
	struct tg_err err;
	uint64_t generation;
	if (strlen(c->subject) != TG_STORED_ID_LEN)
		return no_such(c);
	memcpy(id, c->subject, TG_STORED_ID_LEN + 1);
	if (!make(s, c, id, key, &err) || tg_store_write(s->store, add_secret, c, &generation, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	if (!c->found)
		return no_such(c);
	if (c->two && c->overlap) {
		fputs("error: this key has two secrets already: the older one must end first, or both at once by --overlap 0\n", stderr);
		return 1;
	}
	tg_cli_time(c->now + c->overlap, until);
	printf("%s\n\nid: %s\nthe old secret ends: %s\nThe key is shown this once.\n", key, id, until);
	explicit_bzero(key, sizeof key);
	return tg_cli_done();
}

enum { PERMISSIONS = 1, DAYS = 2, OVERLAP = 4, LIMITS = 8 };

static const struct command {
	const char *name;
	bool subject;
	unsigned takes; /* options that mean something to it; another one is a mistake, never passed over */
	int (*run)(struct tg_cli_store *s, struct call *c);
} commands[] = {
	{ "create", true, PERMISSIONS | DAYS | LIMITS, create },
	{ "list", false, 0, list },
	{ "revoke", true, 0, revoke },
	{ "rotate", true, OVERLAP, rotate },
};

static int wrong(const char *why)
{
	if (why)
		fprintf(stderr, "tollgate keys: %s\n", why);
	fputs(usage, stderr);
	return 2;
}

static bool number(const char *text, int64_t min, int64_t max, int64_t *out)
{
	char *rest;
	long long v = strtoll(text, &rest, 10);
	*out = v;
	return *text >= '0' && *text <= '9' && !*rest && v >= min && v <= max;
}

static int dispatch(const struct command *m, struct call *c)
{
	struct tg_err err;
	struct tg_cli_store s;
	char why[80];
	if (c->given & ~m->takes) {
		unsigned odd = c->given & ~m->takes;
		snprintf(why, sizeof why, "%s does not take %s", m->name, odd & PERMISSIONS ? "--permissions" : odd & DAYS ? "--days" : odd & OVERLAP ? "--overlap" : "limits");
		return wrong(why);
	}
	if (m->subject != (c->subject != NULL) || (m->takes & PERMISSIONS & ~c->given))
		return wrong(NULL);
	if (c->permissions && (!tg_cli_name(c->subject, TG_KEY_NAME_MAX, &err) || !tg_cli_perms(c->permissions, &c->row.perms, &err)))
		return wrong(err.text);
	int rc = m->run == create ? tg_cli_store_open(&s, c->config) : tg_cli_store_look(&s, c->config);
	if (rc == 0) {
		rc = m->run(&s, c);
		tg_cli_store_close(&s);
	}
	return rc;
}

int tg_cmd_keys(int argc, char **argv)
{
	struct call c = { .overlap = DAY, .now = (int64_t)(tg_wall_us() / 1000000u) };
	struct tg_err err;
	for (int i = 1; i < argc; i++) {
		const char *a = argv[i], *value = i + 1 < argc ? argv[i + 1] : NULL;
		int taken = tg_key_limits_option(&c.limits, a, value, &err);
		if (strcmp(a, "--help") == 0 || strcmp(a, "-h") == 0) {
			fputs(usage, stdout);
			return tg_cli_done();
		}
		if (taken < 0)
			return wrong(err.text);
		if (taken > 0) {
			c.given |= LIMITS;
			i++;
		} else if (strcmp(a, "--config") == 0 && value) {
			c.config = argv[++i];
		} else if (strcmp(a, "--permissions") == 0 && value) {
			c.permissions = argv[++i];
			c.given |= PERMISSIONS;
		} else if (strcmp(a, "--days") == 0 && value) {
			if (!number(argv[++i], 1, 36500, &c.days))
				return wrong("--days must be a number from 1 to 36500");
			c.given |= DAYS;
		} else if (strcmp(a, "--overlap") == 0 && value) {
			if (!number(argv[++i], 0, 30 * DAY, &c.overlap))
				return wrong("--overlap must be a number of seconds from 0 to 2592000");
			c.given |= OVERLAP;
		} else if (a[0] == '-' || c.subject) {
			return wrong("a word is not understood here");
		} else if (!c.command) {
			c.command = a;
		} else {
			c.subject = a;
		}
	}
	for (size_t i = 0; c.command && i < sizeof commands / sizeof *commands; i++)
		if (strcmp(commands[i].name, c.command) == 0)
			return dispatch(&commands[i], &c);
	return wrong(NULL);
}
