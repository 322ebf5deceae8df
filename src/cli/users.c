/*
 * tollgate users: who can log in, on the machine where the database lies. The first user is made here, or by INFERNO_ADMIN_PASSWORD at the first start (seed ledger C-41). A password is read from the terminal
 * without echo, or from standard input; never from the command line, which everybody on the machine can see.
 */
#include "base/clock.h"
#include "cli/cli.h"
#include "cli/stored.h"
#include "policy/key_limits.h"
#include "policy/password.h"
#include "store/identity.h"
#include <stdio.h>
#include <stdlib.h>
#include <termios.h>
#include <unistd.h>

static const char usage[] =
	"usage: tollgate users COMMAND [--config FILE]\n"
	"\n"
	"  add NAME [--permissions P,P...] " TG_KEY_LIMITS_USAGE "\n"
	"                     a user; without --permissions one who may do everything\n"
	"  list               the users\n"
	"  passwd NAME        another password; ends the tokens of the old one\n"
	"  permissions NAME --permissions P,P...\n"
	"  disable NAME       may not come in any more; ends the tokens\n"
	"  enable NAME\n"
	"  remove NAME\n"
	"\n"
	"add and passwd ask for the password, or read it from standard input: its first line.\n";

struct call {
	const char *command, *config, *permissions;
	char name[TG_USER_NAME_MAX + 1], hash[TG_PASSWORD_HASH];
	struct tg_key_limits limits;
	uint32_t perms;
	int64_t now;
	int64_t far; /* up to when tokens were void by a clock that was wrong; 0: not */
	bool found, has_limits, production;
	unsigned n;
};

/* ---- the password ---- */

/* One line; false: none, or too long. */
static bool read_line(char out[TG_PASSWORD_MAX + 2])
{
	if (!fgets(out, TG_PASSWORD_MAX + 2, stdin))
		return false;
	size_t n = strcspn(out, "\r\n");
	bool whole = out[n] || feof(stdin);
	out[n] = 0;
	return whole;
}

static bool ask(const char *what, char out[TG_PASSWORD_MAX + 2])
{
	struct termios old, quiet;
	bool terminal = tcgetattr(STDIN_FILENO, &old) == 0;
	if (terminal) {
		fprintf(stderr, "%s: ", what);
		quiet = old;
		quiet.c_lflag &= ~(tcflag_t)ECHO;
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &quiet);
	}
	bool ok = read_line(out);
	if (terminal) {
		tcsetattr(STDIN_FILENO, TCSAFLUSH, &old);
		fputc('\n', stderr);
	}
	return ok;
}

static bool take_password(struct call *c, struct tg_err *err)
{
	char one[TG_PASSWORD_MAX + 2] = "", two[TG_PASSWORD_MAX + 2] = "";
	const char *fault = NULL;
	if (!ask("Password", one))
		fault = "could not be read: one line of at most 1024 bytes";
	else if (!(fault = tg_password_fault(tg_slice_cstr(one))) && isatty(STDIN_FILENO) && (!ask("Again", two) || strcmp(one, two) != 0))
		fault = "was not typed twice alike";
	else if (!fault && c->production && tg_demo_key(tg_slice_cstr(one)))
		fault = "is one that the documents print, which profile production refuses";
	else if (!fault && !tg_password_hash(tg_slice_cstr(one), c->hash))
		fault = "could not be hashed: no memory";
	explicit_bzero(one, sizeof one);
	explicit_bzero(two, sizeof two);
	if (fault)
		tg_err_set(err, "the password %s", fault);
	return !fault;
}

/* ---- the commands ---- */

static enum tg_db_result insert(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	char id[TG_STORED_ID_LEN + 12] = "";
	char *limits = tg_limits_dump(&c->limits);
	tg_err_set(err, "no memory, or no random numbers");
	if (!limits || !tg_user_id_make(id)) {
		free(limits);
		return TG_DB_AWAY;
	}
	struct tg_user_row u = { .id = id, .name = c->name, .password = c->hash, .perms = c->perms, .limits = limits, .created_s = c->now, .updated_s = c->now };
	enum tg_db_result r = tg_users_insert(db, &u, err);
	if (r == TG_DB_CONFLICT)
		tg_err_set(err, "there is a user of that name");
	free(limits);
	return r;
}

static int add(struct tg_cli_store *s, struct call *c)
{
	struct tg_err err;
	uint64_t generation;
	if (!take_password(c, &err) || tg_store_write(s->store, insert, c, &generation, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	printf("Added the user %s.\n", c->name);
	return tg_cli_done();
}

static bool print_user(void *ctx, const struct tg_user_row *u)
{
	struct call *c = ctx;
	char perms[TG_PERMS_TEXT], made[24], name[TG_CLI_SHOWN];
	tg_perms_text(u->perms, ",", perms);
	tg_cli_time(u->created_s, made);
	printf("%-20s  %-8s  %-20s  %s  [%s]\n", u->id, u->disabled ? "disabled" : "active", made, tg_cli_shown(u->name, name), u->perms == TG_PERM_ALL ? "all" : perms[0] ? perms : "none");
	c->n++;
	return true;
}

static enum tg_db_result list_all(struct tg_db *db, void *ctx, struct tg_err *err)
{
	return tg_users_list(db, "", 1u << 21, print_user, ctx, err);
}

static int list(struct tg_cli_store *s, struct call *c)
{
	struct tg_err err;
	printf("%-20s  %-8s  %-20s  %s\n", "ID", "STATE", "MADE", "NAME [PERMISSIONS]");
	if (tg_store_read(s->store, list_all, c, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	printf("%u users\n", c->n);
	return tg_cli_done();
}

struct changing {
	struct call *c;
	struct tg_db *db;
	enum tg_db_result r;
	struct tg_err *err;
};

static bool change_row(void *ctx, const struct tg_user_row *was)
{
	struct changing *g = ctx;
	struct call *c = g->c;
	struct tg_user_row u = *was;
	bool found, disable = strcmp(c->command, "disable") == 0;
	if (strcmp(c->command, "remove") == 0) {
		g->r = tg_users_delete(g->db, was->id, &found, g->err);
		return false;
	}
	if (c->hash[0])
		u.password = c->hash;
	if (c->permissions)
		u.perms = c->perms;
	if (disable || strcmp(c->command, "enable") == 0)
		u.disabled = disable;
	if (c->hash[0] || disable) {
		bool back;
		u.tokens_from_s = tg_tokens_void_now(was->tokens_from_s, &back); /* of now: the password may have been typed slowly */
		c->far = back ? was->tokens_from_s : 0;
	}
	u.updated_s = c->now;
	g->r = tg_users_update(g->db, &u, &found, g->err);
	return false;
}

static enum tg_db_result change_one(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct call *c = ctx;
	struct changing g = { c, db, TG_DB_OK, err };
	enum tg_db_result r = tg_users_get(db, NULL, c->name, change_row, &g, &c->found, err);
	return r == TG_DB_OK ? g.r : r;
}

static int change(struct tg_cli_store *s, struct call *c)
{
	struct tg_err err;
	uint64_t generation;
	if (strcmp(c->command, "passwd") == 0 && !take_password(c, &err))
		return tg_cli_failed(&err);
	if (tg_store_write(s->store, change_one, c, &generation, &err) != TG_DB_OK)
		return tg_cli_failed(&err);
	if (!c->found) {
		fprintf(stderr, "error: there is no user %s\n", c->name);
		return 1;
	}
	if (c->far) {
		char until[24];
		tg_cli_time(c->far, until);
		fprintf(stderr, "warning: the tokens of %s were void up to %s, which a clock that was wrong has set; they are void up to now. Tokens that were made while it was wrong may live again: to end those of all users, replace the secret "
			"(INFERNO_JWT_SECRET, or data/jwt.secret).\n", c->name, until);
	}
	printf("Done: %s %s.\n", c->command, c->name);
	return tg_cli_done();
}

static const struct command {
	const char *name;
	bool subject;
	enum { NO, MAY, MUST } permissions;
	int (*run)(struct tg_cli_store *s, struct call *c);
} commands[] = {
	{ "add", true, MAY, add },       { "list", false, NO, list },      { "passwd", true, NO, change }, { "permissions", true, MUST, change },
	{ "disable", true, NO, change }, { "enable", true, NO, change },   { "remove", true, NO, change },
};

static int wrong(const char *why)
{
	if (why)
		fprintf(stderr, "tollgate users: %s\n", why);
	fputs(usage, stderr);
	return 2;
}

static int dispatch(struct call *c, const char *subject)
{
	struct tg_err err;
	for (size_t i = 0; c->command && i < sizeof commands / sizeof *commands; i++) {
		const struct command *m = &commands[i];
		if (strcmp(m->name, c->command) != 0)
			continue;
		if (m->subject != (subject != NULL) || (m->permissions == NO && c->permissions) || (m->permissions == MUST && !c->permissions) || (c->has_limits && m->run != add))
			return wrong(NULL);
		if (subject && (!*subject || strlen(subject) > TG_USER_NAME_MAX))
			return wrong("NAME must have from 1 to 64 bytes");
		if (m->run == add && !tg_cli_name(subject, TG_USER_NAME_MAX, &err))
			return wrong(err.text);
		c->perms = TG_PERM_ALL;
		if (c->permissions && !tg_cli_perms(c->permissions, &c->perms, &err))
			return wrong(err.text);
		if (subject)
			tg_user_name(tg_slice_cstr(subject), c->name);
		struct tg_cli_store s;
		int rc = m->run == add ? tg_cli_store_open(&s, c->config) : tg_cli_store_look(&s, c->config);
		if (rc == 0) {
			c->production = s.config->profile == TG_PROFILE_PRODUCTION;
			rc = m->run(&s, c);
			tg_cli_store_close(&s);
		}
		explicit_bzero(c->hash, sizeof c->hash);
		return rc;
	}
	return wrong(NULL);
}

int tg_cmd_users(int argc, char **argv)
{
	struct call c = { .now = (int64_t)(tg_wall_us() / 1000000u) };
	const char *subject = NULL;
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
			c.has_limits = true;
			i++;
		} else if (strcmp(a, "--config") == 0 && value) {
			c.config = argv[++i];
		} else if (strcmp(a, "--permissions") == 0 && value) {
			c.permissions = argv[++i];
		} else if (a[0] == '-' || subject) {
			return wrong("a word is not understood here");
		} else if (!c.command) {
			c.command = a;
		} else {
			subject = a;
		}
	}
	return dispatch(&c, subject);
}
