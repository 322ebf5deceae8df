/* The database: migrations, statements, what is known while it is away. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "policy/key_limits.h"
#include "store/identity.h"
#include "store/migrations.h"
#include "store/store.h"
#include <sodium.h>
#include <sqlite3.h>
#include <stdatomic.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[64], url[160], path[128];
static const struct tg_secret given = { (char *)(uintptr_t)"0123456789abcdef0123456789abcdef", 32 };

static int setup(void **state)
{
	(void)state;
	snprintf(dir, sizeof dir, "/tmp/tollgate-unit-XXXXXX");
	assert_non_null(mkdtemp(dir));
	snprintf(path, sizeof path, "%s/data/t.db", dir);
	snprintf(url, sizeof url, "sqlite:%s", path);
	return 0;
}

static int teardown(void **state)
{
	(void)state;
	char name[160];
	static const char *const names[] = { "data/t.db", "data/t.db-wal", "data/t.db-shm", "data/t.db.known", "data/secret.key", "copy", "data", "" };
	for (unsigned i = 0; i < sizeof names / sizeof *names; i++) {
		snprintf(name, sizeof name, "%s/%s", dir, names[i]);
		remove(name);
	}
	return 0;
}

static struct tg_store *open_store(void)
{
	struct tg_err err = { "" };
	struct tg_store *s = tg_store_open(url, &given, NULL, NULL, &err);
	if (!s)
		fail_msg("%s", err.text);
	return s;
}

/* ---- rows ---- */

struct row {
	struct tg_key_row k;
	struct tg_user_row u;
	uint8_t digest[32];
	const char *id;
	int64_t now;
	bool found;
	unsigned n;
};

static enum tg_db_result insert_key(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct row *r = ctx;
	return tg_keys_insert(db, &r->k, r->digest, err);
}

static enum tg_db_result revoke_key(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct row *r = ctx;
	return tg_keys_revoke(db, r->id, r->now, &r->found, err);
}

static enum tg_db_result insert_user(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct row *r = ctx;
	return tg_users_insert(db, &r->u, err);
}

static struct row key_row(const char *id, uint8_t fill, int64_t expires)
{
	struct row r = { .k = { .id = id, .name = "n", .made_by = "me", .perms = TG_PERM_read_models | TG_PERM_manage_power, .limits = "{\"in_flight\":3}", .created_s = 100, .expires_s = expires,
				.prefix = "tg_abcdef" },
			 .id = id, .now = 200 };
	memset(r.digest, fill, sizeof r.digest);
	return r;
}

static void write_ok(struct tg_store *s, tg_store_change change, struct row *r)
{
	struct tg_err err = { "" };
	uint64_t generation = 0, before = tg_store_generation(s);
	if (tg_store_write(s, change, r, &generation, &err) != TG_DB_OK)
		fail_msg("%s", err.text);
	assert_true(generation >= before);
}

static void test_a_key_from_row_to_principal(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row r = key_row("key_aaaaaaaaaaaaaaaa", 7, 0), past = key_row("key_bbbbbbbbbbbbbbbb", 8, 1);
	struct stat st;
	uint64_t generation;
	write_ok(s, insert_key, &r);
	write_ok(s, insert_key, &past);
	struct tg_identity *d = tg_store_identity(s, &generation);
	const struct tg_principal *p = tg_identity_key(d, r.digest);
	assert_non_null(p);
	assert_string_equal(p->id, "key_aaaaaaaaaaaaaaaa");
	assert_string_equal(p->prefix, "tg_abcdef");
	assert_int_equal(p->perms, r.k.perms);
	assert_int_equal(p->limits.in_flight, 3);
	assert_int_equal(p->source, TG_SRC_STORED_KEY);
	assert_null(tg_identity_key(d, past.digest)); /* expired long ago: not even loaded */
	assert_int_equal(tg_identity_union(d), r.k.perms);
	/* The same digest or id again changes nothing. */
	struct row twice = key_row("key_cccccccccccccccc", 7, 0);
	struct tg_err err;
	assert_int_equal(tg_store_write(s, insert_key, &twice, &generation, &err), TG_DB_CONFLICT);
	assert_int_equal(tg_store_state(s), TG_STORE_OK);
	tg_identity_put(d);
	write_ok(s, revoke_key, &r);
	assert_true(r.found);
	write_ok(s, revoke_key, &r);
	assert_false(r.found);
	d = tg_store_identity(s, &generation);
	assert_null(tg_identity_key(d, r.digest));
	tg_identity_put(d);
	tg_store_close(s);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
}

static void test_users(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	uint64_t generation;
	struct row r = { .u = { .id = "usr_aaaaaaaaaaaaaaaa", .name = "ann", .password = "$argon2id$x", .perms = TG_PERM_ALL, .limits = "{}", .tokens_from_s = 9, .created_s = 1, .updated_s = 1 } };
	struct row twice = r, off = r;
	write_ok(s, insert_user, &r);
	struct tg_err err;
	twice.u.id = "usr_bbbbbbbbbbbbbbbb";
	assert_int_equal(tg_store_write(s, insert_user, &twice, &generation, &err), TG_DB_CONFLICT);
	off.u.id = "usr_cccccccccccccccc";
	off.u.name = "bob";
	off.u.disabled = true;
	write_ok(s, insert_user, &off);
	struct tg_identity *d = tg_store_identity(s, &generation);
	const struct tg_user *u = tg_identity_user_named(d, TG_S("ann"));
	assert_non_null(u);
	assert_ptr_equal(u, tg_identity_user(d, TG_S("usr_aaaaaaaaaaaaaaaa")));
	assert_string_equal(u->password, "$argon2id$x");
	assert_int_equal(u->tokens_from, 9);
	assert_true(tg_identity_user_named(d, TG_S("bob"))->disabled);
	assert_null(tg_identity_user_named(d, TG_S("Ann")));
	assert_null(tg_identity_user_named(d, TG_S("")));
	assert_null(tg_identity_user_named(d, TG_S("ann\0x")));
	assert_null(tg_identity_user(d, TG_S("usr_aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa")));
	assert_true(tg_identity_named(d));
	tg_identity_put(d);
	tg_store_close(s);
}

/* What a start says in a time without a database; NULL: it knows nothing. */
static struct tg_identity *known(void)
{
	char away[160];
	uint64_t generation;
	snprintf(away, sizeof away, "%s/copy", dir);
	assert_int_equal(rename(path, away), 0);
	struct tg_store *s = open_store();
	assert_int_equal(tg_store_state(s), TG_STORE_AWAY);
	struct tg_identity *d = tg_store_identity(s, &generation);
	tg_store_close(s);
	assert_int_equal(rename(away, path), 0);
	if (d && !tg_identity_keys(d) && !tg_identity_users(d)) {
		tg_identity_put(d);
		return NULL;
	}
	return d;
}

static char known_text[1 << 16];

static size_t read_known(void)
{
	char name[160];
	snprintf(name, sizeof name, "%s.known", path);
	FILE *f = fopen(name, "r");
	assert_non_null(f);
	size_t n = fread(known_text, 1, sizeof known_text, f);
	fclose(f);
	assert_true(n < sizeof known_text);
	return n;
}

static void write_known(size_t n)
{
	char name[160];
	snprintf(name, sizeof name, "%s.known", path);
	FILE *f = fopen(name, "w");
	assert_non_null(f);
	assert_int_equal(fwrite(known_text, 1, n, f), n);
	fclose(f);
}

/* What `known` says after a round trip is what the database said, but for names and passwords. */
static void test_what_is_known(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 4102444800), u = { .u = { .id = "usr_aaaaaaaaaaaaaaaa", .name = "ann", .password = "x", .perms = TG_PERM_read_models, .limits = "{}",
									  .tokens_from_s = 9 } };
	write_ok(s, insert_key, &k);
	write_ok(s, insert_user, &u);
	tg_store_close(s);
	struct tg_identity *d = known();
	assert_non_null(d);
	const struct tg_principal *p = tg_identity_key(d, k.digest);
	assert_non_null(p);
	assert_int_equal(p->perms, k.k.perms);
	assert_int_equal(p->expires_s, 4102444800);
	assert_int_equal(p->limits.in_flight, 3);
	assert_int_equal(p->hash, tg_stored_account("key_aaaaaaaaaaaaaaaa"));
	const struct tg_user *who = tg_identity_user(d, TG_S("usr_aaaaaaaaaaaaaaaa"));
	assert_non_null(who);
	assert_int_equal(who->tokens_from, 9);
	assert_false(tg_identity_named(d));
	tg_identity_put(d);
	/* Cut anywhere, in the changes too, it is nothing: a part of it would be rights that were taken away since. */
	size_t n = read_known();
	for (size_t cut = 0; cut < n; cut += 7) {
		write_known(cut);
		assert_null(known());
	}
	/* Nor with a byte that is another, behind its first line. */
	for (size_t at = 96; at < n; at += 5) {
		known_text[at] ^= 1;
		write_known(n);
		known_text[at] ^= 1;
		assert_null(known());
	}
	write_known(n);
	d = known();
	assert_non_null(d);
	tg_identity_put(d);
}

static enum tg_db_result end_token(struct tg_db *db, void *ctx, struct tg_err *err)
{
	(void)ctx;
	return tg_tokens_revoke(db, "01ARZ3NDEKTSV4RRFFQ69G5FAV", 4102444800, 200, err);
}

static enum tg_db_result drop_user(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct row *r = ctx;
	return tg_users_delete(db, r->u.id, &r->found, err);
}

static enum tg_db_result change_user(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct row *r = ctx;
	return tg_users_update(db, &r->u, &r->found, err);
}

static ino_t known_file(off_t *size)
{
	char name[160];
	struct stat st;
	snprintf(name, sizeof name, "%s.known", path);
	assert_int_equal(stat(name, &st), 0);
	*size = st.st_size;
	return st.st_ino;
}

/* Each kind of change is added at the file's end; nothing that stood there is written again. */
static void test_changes_are_appended(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0), other = key_row("key_bbbbbbbbbbbbbbbb", 8, 0),
		   u = { .u = { .id = "usr_aaaaaaaaaaaaaaaa", .name = "ann", .password = "x", .perms = TG_PERM_ALL, .limits = "{}", .tokens_from_s = 9 } }, gone = u;
	gone.u.id = "usr_bbbbbbbbbbbbbbbb";
	gone.u.name = "bob";
	off_t before, after;
	write_ok(s, insert_key, &k);
	ino_t ino = known_file(&before);
	write_ok(s, insert_key, &other);
	write_ok(s, insert_user, &u);
	write_ok(s, insert_user, &gone);
	write_ok(s, revoke_key, &k);
	write_ok(s, drop_user, &gone);
	u.u.perms = TG_PERM_read_models;
	u.u.tokens_from_s = 77;
	write_ok(s, change_user, &u);
	write_ok(s, end_token, NULL);
	assert_int_equal(known_file(&after), ino);
	assert_in_range(after - before, 500, 7 * 500);
	struct tg_identity *d = known();
	assert_non_null(d);
	assert_null(tg_identity_key(d, k.digest));
	assert_non_null(tg_identity_key(d, other.digest));
	assert_int_equal(tg_identity_keys(d), 1);
	assert_int_equal(tg_identity_users(d), 1);
	const struct tg_user *who = tg_identity_user(d, TG_S("usr_aaaaaaaaaaaaaaaa"));
	assert_non_null(who);
	assert_int_equal(who->who.perms, TG_PERM_read_models);
	assert_int_equal(who->tokens_from, 77);
	assert_true(tg_identity_revoked(d, TG_S("01ARZ3NDEKTSV4RRFFQ69G5FAV")));
	tg_identity_put(d);
	tg_store_close(s);
	/* A start writes nothing where nothing changed. */
	s = open_store();
	off_t now;
	assert_int_equal(known_file(&now), ino);
	assert_int_equal(now, after);
	tg_store_close(s);
	/* What a crash left half written was answered to nobody. */
	size_t n = read_known();
	memcpy(known_text + n, "{\"key\":\"0808", 12);
	write_known(n + 12);
	d = known();
	assert_non_null(d);
	assert_non_null(tg_identity_key(d, other.digest));
	tg_identity_put(d);
	/* And the next start makes the file whole. */
	s = open_store();
	write_ok(s, revoke_key, &other);
	d = known();
	assert_non_null(d);
	assert_null(tg_identity_key(d, other.digest));
	assert_int_equal(tg_identity_users(d), 1);
	tg_identity_put(d);
	tg_store_close(s);
}

/* Two processes: each change is written once, whoever sees it first. */
static void test_two_who_append(void **state)
{
	(void)state;
	struct tg_store *a = open_store(), *b = open_store();
	char id[16][24];
	struct row r[16];
	off_t one, both;
	for (unsigned i = 0; i < 16; i++) {
		snprintf(id[i], sizeof id[i], "key_%016u", i);
		r[i] = key_row(id[i], (uint8_t)(i + 1), 0);
		write_ok(i % 2 ? a : b, insert_key, &r[i]);
		if (i % 3 == 0)
			tg_store_poll(i % 2 ? b : a);
	}
	(void)known_file(&one);
	tg_store_poll(a);
	tg_store_poll(b);
	(void)known_file(&both);
	assert_int_equal(one, both);
	struct tg_identity *d = known();
	assert_non_null(d);
	assert_int_equal(tg_identity_keys(d), 16);
	tg_identity_put(d);
	write_ok(b, revoke_key, &r[3]);
	tg_store_close(b);
	tg_store_close(a);
	d = known();
	assert_non_null(d);
	assert_null(tg_identity_key(d, r[3].digest));
	tg_identity_put(d);
}

/* A file that does not lead to the change is worth nothing any more; then it is made anew, in time. */
static void test_a_gap_is_no_knowledge(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0), other = key_row("key_bbbbbbbbbbbbbbbb", 8, 0), third = key_row("key_cccccccccccccccc", 9, 0);
	write_ok(s, insert_key, &k);
	size_t n = read_known();
	write_ok(s, insert_key, &other);
	write_known(n); /* an older copy */
	write_ok(s, revoke_key, &k);
	assert_null(known());
	assert_true(tg_store_untidy(s));
	write_ok(s, insert_key, &third);
	assert_null(known());
	tg_store_tidy(s);
	struct tg_identity *d = known();
	assert_non_null(d);
	assert_null(tg_identity_key(d, k.digest));
	assert_int_equal(tg_identity_keys(d), 2);
	tg_identity_put(d);
	/* Another's file under the name, though it ends at the same number: here, no list at all. */
	write_known(0);
	write_ok(s, revoke_key, &third);
	tg_store_close(s); /* sees to it where nobody else will */
	d = known();
	assert_non_null(d);
	assert_int_equal(tg_identity_keys(d), 1);
	tg_identity_put(d);
}

static void test_known_while_the_database_is_away(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0);
	char away[160];
	uint64_t generation;
	write_ok(s, insert_key, &k);
	tg_store_close(s);
	snprintf(away, sizeof away, "%s/copy", dir);
	assert_int_equal(rename(path, away), 0);
	assert_int_equal(mkdir(path, 0700), 0); /* nothing can be opened there */
	s = open_store();
	assert_int_equal(tg_store_state(s), TG_STORE_AWAY);
	struct tg_identity *d = tg_store_identity(s, &generation);
	assert_non_null(tg_identity_key(d, k.digest));
	tg_identity_put(d);
	struct tg_err err;
	assert_int_equal(tg_store_write(s, insert_key, &k, &generation, &err), TG_DB_AWAY);
	assert_int_equal(rmdir(path), 0);
	assert_int_equal(rename(away, path), 0);
	assert_int_equal(tg_store_write(s, revoke_key, &k, &generation, &err), TG_DB_AWAY); /* it was away a moment ago */
	usleep(1100000);
	write_ok(s, revoke_key, &k); /* it looks again by itself */
	assert_true(k.found);
	assert_int_equal(tg_store_state(s), TG_STORE_OK);
	tg_store_close(s);
}

static void test_changes_of_others_are_seen(void **state)
{
	(void)state;
	struct tg_store *a = open_store(), *b = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0);
	uint64_t generation;
	write_ok(a, insert_key, &k);
	tg_store_poll(b);
	struct tg_identity *d = tg_store_identity(b, &generation);
	assert_non_null(tg_identity_key(d, k.digest));
	tg_identity_put(d);
	uint64_t quiet = tg_store_generation(b);
	tg_store_poll(b);
	assert_int_equal(tg_store_generation(b), quiet); /* nothing new is no new generation */
	tg_store_close(a);
	tg_store_close(b);
}

static void sql(const char *text)
{
	sqlite3 *h;
	assert_int_equal(sqlite3_open(path, &h), SQLITE_OK);
	assert_int_equal(sqlite3_exec(h, text, NULL, NULL, NULL), SQLITE_OK);
	sqlite3_close(h);
}

static bool has(struct tg_store *s, const uint8_t digest[32], uint32_t perms)
{
	uint64_t generation;
	struct tg_identity *d = tg_store_identity(s, &generation);
	const struct tg_principal *p = tg_identity_key(d, digest);
	bool right = p && p->perms == perms;
	tg_identity_put(d);
	return right;
}

static size_t laid_over(struct tg_store *s)
{
	uint64_t generation;
	struct tg_identity *d = tg_store_identity(s, &generation);
	size_t n = tg_identity_laid_over(d);
	tg_identity_put(d);
	return n;
}

static enum tg_db_result nobody_changes(struct tg_db *db, void *ctx, struct tg_err *err)
{
	(void)ctx;
	return tg_db_run(db, "UPDATE api_keys SET used_at = 7, name = 'other'", NULL, 0, NULL, NULL, NULL, err);
}

/* Whoever changes whatever, with this program or by hand: what changed is laid over what was, and it is the same that a new look at everybody would find. */
static void test_each_change_is_caught_up_with(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row a = key_row("key_aaaaaaaaaaaaaaaa", 7, 0), b = key_row("key_bbbbbbbbbbbbbbbb", 8, 0),
		   u = { .u = { .id = "usr_aaaaaaaaaaaaaaaa", .name = "ann", .password = "x", .perms = TG_PERM_read_models, .limits = "{}" } };
	uint64_t generation, before;
	struct tg_err err;
	write_ok(s, insert_key, &a);
	write_ok(s, insert_key, &b);
	write_ok(s, insert_user, &u);
	assert_int_equal(laid_over(s), 2);
	before = tg_store_generation(s);
	assert_int_equal(tg_store_write(s, nobody_changes, NULL, &generation, &err), TG_DB_OK);
	assert_int_equal(generation, before);
	const struct {
		const char *sql;
		uint32_t a, b, user; /* permissions afterwards; 0: nobody's */
		bool ended;
	} steps[] = {
		{ "UPDATE api_keys SET permissions = 'read_models' WHERE id = 'key_aaaaaaaaaaaaaaaa'", TG_PERM_read_models, b.k.perms, TG_PERM_read_models, false },
		{ "UPDATE api_keys SET revoked_at = 5 WHERE id = 'key_aaaaaaaaaaaaaaaa'", 0, b.k.perms, TG_PERM_read_models, false },
		{ "UPDATE api_keys SET revoked_at = NULL, expires_at = 4102444800", TG_PERM_read_models, b.k.perms, TG_PERM_read_models, false },
		{ "UPDATE api_key_secrets SET expires_at = 1 WHERE key_id = 'key_bbbbbbbbbbbbbbbb'", TG_PERM_read_models, 0, TG_PERM_read_models, false },
		{ "UPDATE api_key_secrets SET expires_at = NULL", TG_PERM_read_models, b.k.perms, TG_PERM_read_models, false },
		{ "DELETE FROM api_key_secrets WHERE key_id = 'key_bbbbbbbbbbbbbbbb'", TG_PERM_read_models, 0, TG_PERM_read_models, false },
		{ "PRAGMA foreign_keys = OFF; DELETE FROM api_keys", 0, 0, TG_PERM_read_models, false },
		{ "UPDATE users SET permissions = 'run_inference'", 0, 0, TG_PERM_run_inference, false },
		{ "INSERT INTO revoked_tokens VALUES ('jti-1', 4102444800)", 0, 0, TG_PERM_run_inference, true },
		{ "DELETE FROM users", 0, 0, 0, true },
	};
	for (unsigned i = 0; i < sizeof steps / sizeof *steps; i++) {
		before = tg_store_generation(s);
		sql(steps[i].sql);
		tg_store_poll(s);
		assert_true(tg_store_generation(s) > before);
		assert_int_equal(laid_over(s), 2);
		for (int fresh = 0; fresh < 2; fresh++) { /* caught up with, and read whole */
			struct tg_store *t = fresh ? open_store() : s;
			assert_int_equal(has(t, a.digest, steps[i].a), steps[i].a != 0);
			assert_int_equal(has(t, b.digest, steps[i].b), steps[i].b != 0);
			struct tg_identity *d = tg_store_identity(t, &generation);
			const struct tg_user *who = tg_identity_user(d, TG_S("usr_aaaaaaaaaaaaaaaa"));
			assert_int_equal(who ? who->who.perms : 0, steps[i].user);
			assert_int_equal(tg_identity_revoked(d, TG_S("jti-1")), steps[i].ended);
			tg_identity_put(d);
			if (fresh)
				tg_store_close(t);
		}
	}
	tg_store_close(s);
}

struct ending {
	const char *jti;
	int64_t expires, now;
};

static enum tg_db_result end_at(struct tg_db *db, void *ctx, struct tg_err *err)
{
	const struct ending *e = ctx;
	return tg_tokens_revoke(db, e->jti, e->expires, e->now, err);
}

static void end_ok(struct tg_store *s, struct ending *e)
{
	uint64_t generation;
	struct tg_err err;
	assert_int_equal(tg_store_write(s, end_at, e, &generation, &err), TG_DB_OK);
}

struct looking {
	int64_t now;
	struct tg_identity *d;
};

static enum tg_db_result look_at(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct looking *l = ctx;
	return tg_identity_load(db, l->now, NULL, &l->d, err);
}

static bool is_ended(struct tg_store *s, int64_t now, struct tg_slice jti)
{
	struct looking l = { .now = now };
	struct tg_err err;
	assert_int_equal(tg_store_read(s, look_at, &l, &err), TG_DB_OK);
	bool ended = tg_identity_revoked(l.d, jti);
	tg_identity_put(l.d);
	return ended;
}

/* A token that was logged out stays so through a while in which the clock is ahead: neither another logout nor a start at that time forgets it. */
static void test_ended_tokens_outlive_a_wrong_clock(void **state)
{
	(void)state;
	const int64_t day = 86400, now = 100 * day;
	struct tg_store *s = open_store();
	struct ending a = { "jti-a", now + day, now }, b = { "jti-b", now + 30 * day, now + 29 * day }, c = { "jti-c", now + 40 * day, now + 32 * day };
	end_ok(s, &a);
	end_ok(s, &b);
	assert_true(is_ended(s, now, TG_S("jti-a")) && is_ended(s, now + 30 * day, TG_S("jti-a")) && is_ended(s, now + 31 * day, TG_S("jti-b")));
	assert_false(is_ended(s, now + 31 * day, TG_S("jti-a")));
	assert_true(is_ended(s, now, TG_S("jti-a")));
	end_ok(s, &c); /* over 30 days after its end it goes for good */
	assert_false(is_ended(s, now, TG_S("jti-a")));
	assert_true(is_ended(s, now, TG_S("jti-b")));
	tg_store_close(s);
}

/* The list of changes keeps the last ones: who is further behind, or reads of what it does not know, reads everybody. */
static void test_who_is_far_behind_reads_everybody(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row a = key_row("key_aaaaaaaaaaaaaaaa", 7, 0), b = key_row("key_bbbbbbbbbbbbbbbb", 8, 0);
	write_ok(s, insert_key, &a);
	assert_int_equal(laid_over(s), 1);
	sql("UPDATE api_keys SET permissions = 'read_models'; DELETE FROM identity_changes WHERE seq < (SELECT MAX(seq) FROM identity_changes)");
	tg_store_poll(s);
	assert_int_equal(laid_over(s), 0);
	assert_true(has(s, a.digest, TG_PERM_read_models));
	write_ok(s, insert_key, &b);
	assert_int_equal(laid_over(s), 1);
	sql("UPDATE api_keys SET permissions = 'run_inference'; DELETE FROM identity_changes"); /* emptied by hand */
	tg_store_poll(s);
	assert_int_equal(laid_over(s), 0);
	assert_true(has(s, a.digest, TG_PERM_run_inference));
	sql("INSERT INTO identity_changes (kind, id) VALUES ('of_tomorrow', 'x')");
	tg_store_poll(s);
	assert_int_equal(laid_over(s), 0);
	sql("BEGIN; UPDATE api_keys SET limits = '{}';"
	    "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 12000) INSERT INTO revoked_tokens SELECT 'jti-' || i, 4102444800 FROM n; COMMIT");
	tg_store_poll(s);
	uint64_t generation;
	struct tg_identity *d = tg_store_identity(s, &generation);
	assert_true(tg_identity_revoked(d, TG_S("jti-1")) && tg_identity_revoked(d, TG_S("jti-12000")));
	assert_int_equal(tg_identity_key(d, a.digest)->limits.in_flight, 0);
	tg_identity_put(d);
	tg_store_close(s);
}

static void test_folding(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row r[40];
	char id[40][24];
	uint64_t generation;
	for (unsigned i = 0; i < 40; i++) {
		snprintf(id[i], sizeof id[i], "key_%016u", i);
		r[i] = key_row(id[i], (uint8_t)(i + 1), 0);
		write_ok(s, insert_key, &r[i]);
	}
	assert_int_equal(laid_over(s), 40);
	assert_false(tg_store_untidy(s)); /* not while changes are coming */
	uint64_t before = tg_store_generation(s);
	tg_store_tidy(s);
	assert_int_equal(laid_over(s), 0);
	assert_true(tg_store_generation(s) > before);
	tg_store_poll(s); /* what was replaced is freed */
	before = tg_store_generation(s);
	tg_store_tidy(s);
	assert_int_equal(tg_store_generation(s), before); /* nothing to do */
	write_ok(s, revoke_key, &r[0]);
	assert_int_equal(laid_over(s), 1);
	assert_false(has(s, r[0].digest, r[0].k.perms));
	assert_true(has(s, r[1].digest, r[1].k.perms));
	/* What is known of a crash at this moment is what was answered. */
	struct tg_identity *d = known();
	assert_non_null(d);
	assert_null(tg_identity_key(d, r[0].digest));
	assert_int_equal(tg_identity_keys(d), 39);
	tg_identity_put(d);
	struct tg_identity *held = tg_store_identity(s, &generation); /* as a stream would hold it */
	tg_store_tidy(s);
	write_ok(s, revoke_key, &r[1]);
	tg_store_tidy(s);
	assert_int_equal(laid_over(s), 1); /* two old ones are never kept */
	tg_identity_put(held);
	tg_store_poll(s);
	tg_store_tidy(s);
	assert_int_equal(laid_over(s), 0);
	assert_false(has(s, r[1].digest, r[1].k.perms));
	tg_store_close(s);
}

static void test_newer_and_damaged(void **state)
{
	(void)state;
	struct tg_err err;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0);
	write_ok(s, insert_key, &k);
	tg_store_close(s);
	sql("UPDATE schema_version SET version = 99");
	assert_null(tg_store_open(url, &given, NULL, NULL, &err));
	assert_non_null(strstr(err.text, "newer"));
	char back[64];
	snprintf(back, sizeof back, "UPDATE schema_version SET version = %u", tg_db_schema());
	sql(back);
	tg_store_close(open_store());
	FILE *f = fopen(path, "r+");
	for (int i = 0; i < 4096; i++)
		fputc('x', f);
	fclose(f);
	assert_null(tg_store_open(url, &given, NULL, NULL, &err));
	assert_non_null(strstr(err.text, "database"));
	assert_null(tg_store_open("postgres://x/y", &given, NULL, NULL, &err));
	assert_non_null(strstr(err.text, "[store] url"));
}

static void test_limits_that_cannot_be_read_are_tight(void **state)
{
	(void)state;
	struct tg_store *s = open_store();
	struct row k = key_row("key_aaaaaaaaaaaaaaaa", 7, 0);
	k.k.limits = "{\"of_tomorrow\":1}";
	uint64_t generation;
	write_ok(s, insert_key, &k);
	struct tg_identity *d = tg_store_identity(s, &generation);
	assert_int_equal(tg_identity_key(d, k.digest)->limits.in_flight, 1);
	assert_int_equal(tg_identity_key(d, k.digest)->limits.requests.n, 1);
	tg_identity_put(d);
	tg_store_close(s);
}

static void test_made_keys(void **state)
{
	(void)state;
	char id[TG_STORED_ID_LEN + 12] = "", again[TG_STORED_ID_LEN + 12], key[TG_STORED_KEY_LEN + 1], other[TG_STORED_KEY_LEN + 1];
	assert_true(tg_stored_key_make(id, key));
	assert_int_equal(strlen(id), TG_STORED_ID_LEN);
	assert_int_equal(strlen(key), TG_STORED_KEY_LEN);
	assert_memory_equal(key + 3, id + 4, 16);
	memcpy(again, id, sizeof id);
	assert_true(tg_stored_key_make(again, other));
	assert_string_equal(again, id);
	assert_memory_equal(other, key, 20);
	assert_string_not_equal(other, key);
}

static void test_permissions_as_text(void **state)
{
	(void)state;
	char text[TG_PERMS_TEXT];
	for (uint32_t mask = 0; mask <= TG_PERM_ALL; mask += 37) {
		tg_perms_text(mask, ",", text);
		assert_int_equal(tg_perms_listed(tg_slice_cstr(text)), mask);
	}
	assert_int_equal(tg_perms_listed(TG_S("read_models,of_tomorrow,manage_power")), TG_PERM_read_models | TG_PERM_manage_power);
	assert_int_equal(tg_perm_named(TG_S("read_model")), 0);
	assert_int_equal(tg_perm_named(TG_S("read_models ")), 0);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_a_key_from_row_to_principal), T(test_users), T(test_what_is_known), T(test_changes_are_appended), T(test_two_who_append), T(test_a_gap_is_no_knowledge),
		T(test_known_while_the_database_is_away), T(test_changes_of_others_are_seen),
		T(test_each_change_is_caught_up_with), T(test_who_is_far_behind_reads_everybody),
		T(test_folding), T(test_ended_tokens_outlive_a_wrong_clock), T(test_newer_and_damaged), T(test_limits_that_cannot_be_read_are_tight), cmocka_unit_test(test_made_keys), cmocka_unit_test(test_permissions_as_text),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
