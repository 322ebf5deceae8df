/*
 * SQLite behind db.h: WAL, so that readers and the writer do not wait for each other; synchronous=FULL, so that what was answered survives a power cut;
 * a busy timeout that is short, because whoever waits here holds a job thread.
 *
 * Invariants: a statement is always reset before tg_db_run returns; a migration and its version number are one transaction; every file made here is 0600
 * from its first byte (SQLite gives its -wal and -shm files the database's mode).
 */
#include "store/db.h"
#include "base/newfile.h"
#include "store/migrations.h"
#include <errno.h>
#include <fcntl.h>
#include <sqlite3.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BUSY_MS = 2000, STATEMENTS = 96, ARGS_MAX = 20, COLUMNS_MAX = 20 };

struct tg_db {
	sqlite3 *h;
	uint64_t opened; /* the n-th of this process */
	bool wal;
	char *path;
	ino_t ino;
	dev_t dev;
	struct {
		const char *sql; /* by address */
		sqlite3_stmt *st;
	} kept[STATEMENTS];
	unsigned nkept;
};

static enum tg_db_result result_of(sqlite3 *h, int rc, struct tg_err *err)
{
	if (rc == SQLITE_OK || rc == SQLITE_DONE || rc == SQLITE_ROW)
		return TG_DB_OK;
	const char *file = h ? sqlite3_db_filename(h, "main") : NULL;
	tg_err_set(err, "%s: %s", file && *file ? file : "the database", h ? sqlite3_errmsg(h) : sqlite3_errstr(rc));
	switch (rc & 0xff) {
	case SQLITE_CONSTRAINT:
		return TG_DB_CONFLICT;
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
	case SQLITE_IOERR:
	case SQLITE_FULL:
	case SQLITE_CANTOPEN:
	case SQLITE_READONLY:
	case SQLITE_PERM:
	case SQLITE_NOMEM:
	case SQLITE_INTERRUPT:
		return TG_DB_AWAY;
	default:
		return TG_DB_BROKEN;
	}
}

static sqlite3_stmt *statement(struct tg_db *db, const char *sql, int *rc)
{
	for (unsigned i = 0; i < db->nkept; i++)
		if (db->kept[i].sql == sql)
			return db->kept[i].st;
	sqlite3_stmt *st = NULL;
	*rc = sqlite3_prepare_v3(db->h, sql, -1, SQLITE_PREPARE_PERSISTENT, &st, NULL);
	if (*rc != SQLITE_OK)
		return NULL;
	if (db->nkept == STATEMENTS) { /* more statements than we have: the first gives its place */
		sqlite3_finalize(db->kept[0].st);
		db->kept[0].sql = sql;
		db->kept[0].st = st;
	} else {
		db->kept[db->nkept].sql = sql;
		db->kept[db->nkept++].st = st;
	}
	return st;
}

static int bind(sqlite3_stmt *st, unsigned i, const struct tg_db_value *v)
{
	char name[8];
	snprintf(name, sizeof name, "$%u", i + 1);
	int at = sqlite3_bind_parameter_index(st, name); /* in SQLite $1 is a name, not a number */
	switch (v->kind) {
	case TG_DB_INT:
		return sqlite3_bind_int64(st, at, v->i);
	case TG_DB_TEXT:
		return sqlite3_bind_text(st, at, v->s.p ? v->s.p : "", (int)v->s.n, SQLITE_STATIC);
	default:
		return sqlite3_bind_null(st, at);
	}
}

static bool give_row(sqlite3_stmt *st, tg_db_row row, void *ctx)
{
	struct tg_db_value v[COLUMNS_MAX];
	int n = sqlite3_column_count(st);
	for (int i = 0; i < n && i < COLUMNS_MAX; i++)
		switch (sqlite3_column_type(st, i)) {
		case SQLITE_NULL:
			v[i] = TG_DB_N;
			break;
		case SQLITE_INTEGER:
			v[i] = TG_DB_I(sqlite3_column_int64(st, i));
			break;
		default:
			v[i] = (struct tg_db_value){ .kind = TG_DB_TEXT, .s = { (const char *)sqlite3_column_text(st, i), (size_t)sqlite3_column_bytes(st, i) } };
			if (!v[i].s.p)
				v[i] = TG_DB_N;
		}
	return row(ctx, v, (unsigned)n);
}

enum tg_db_result tg_db_run(struct tg_db *db, const char *sql, const struct tg_db_value *args, unsigned n, tg_db_row row, void *ctx, int64_t *changed, struct tg_err *err)
{
	int rc = SQLITE_OK;
	sqlite3_stmt *st = statement(db, sql, &rc);
	if (!st)
		return result_of(db->h, rc, err);
	for (unsigned i = 0; i < n && i < ARGS_MAX && rc == SQLITE_OK; i++)
		rc = bind(st, i, &args[i]);
	if (rc == SQLITE_OK)
		while ((rc = sqlite3_step(st)) == SQLITE_ROW && (!row || give_row(st, row, ctx)))
			;
	enum tg_db_result r = result_of(db->h, rc, err);
	if (changed)
		*changed = r == TG_DB_OK ? sqlite3_changes64(db->h) : 0;
	sqlite3_reset(st);
	sqlite3_clear_bindings(st);
	return r;
}

enum tg_db_result tg_db_begin(struct tg_db *db, struct tg_err *err)
{
	return tg_db_run(db, "BEGIN IMMEDIATE", NULL, 0, NULL, NULL, NULL, err);
}

enum tg_db_result tg_db_commit(struct tg_db *db, struct tg_err *err)
{
	enum tg_db_result r = tg_db_run(db, "COMMIT", NULL, 0, NULL, NULL, NULL, err);
	if (r != TG_DB_OK)
		tg_db_rollback(db);
	return r;
}

void tg_db_rollback(struct tg_db *db)
{
	struct tg_err ignored;
	if (!sqlite3_get_autocommit(db->h))
		tg_db_run(db, "ROLLBACK", NULL, 0, NULL, NULL, NULL, &ignored);
}

static bool one_int(void *ctx, const struct tg_db_value *v, unsigned n)
{
	*(int64_t *)ctx = n && v[0].kind == TG_DB_INT ? v[0].i : -1;
	return false;
}

enum tg_db_result tg_db_version(struct tg_db *db, int64_t *version, struct tg_err *err)
{
	return tg_db_run(db, "PRAGMA data_version", NULL, 0, one_int, version, NULL, err);
}

/*
 * The header of the WAL's index (walformat.html, 2.2): a counter of commits, the log's length, salt and check sum, twice. Each commit writes both copies, the second first, so equal ones are from before the next commit. It lies in
 * memory that all processes share, which SQLite has mapped already; a descriptor of our own for that file would, when it is closed, take SQLite's locks along.
 */
bool tg_db_mark(struct tg_db *db, struct tg_db_mark *mark)
{
	enum { REGION = 32768 };
	sqlite3_file *f = NULL;
	void volatile *index = NULL;
	if (!db->wal || sqlite3_file_control(db->h, "main", SQLITE_FCNTL_FILE_POINTER, &f) != SQLITE_OK || !f || !f->pMethods || f->pMethods->iVersion < 2 || !f->pMethods->xShmMap ||
	    f->pMethods->xShmMap(f, 0, REGION, 0, &index) != SQLITE_OK || !index)
		return false;
	for (unsigned i = 0; i < sizeof mark->header / sizeof *mark->header; i++)
		mark->header[i] = ((const uint32_t volatile *)index)[i];
	mark->opened = db->opened;
	return true;
}

bool tg_db_same_file(struct tg_db *db)
{
	struct stat st;
	return stat(db->path, &st) == 0 && st.st_ino == db->ino && st.st_dev == db->dev;
}

unsigned tg_db_schema(void)
{
	return tg_migrations[tg_nmigrations - 1].version;
}

static enum tg_db_result exec(struct tg_db *db, const char *sql, struct tg_err *err)
{
	return result_of(db->h, sqlite3_exec(db->h, sql, NULL, NULL, NULL), err);
}

static enum tg_db_result apply(struct tg_db *db, const struct tg_migration *m, struct tg_err *err)
{
	struct tg_db_value version = TG_DB_I(m->version);
	enum tg_db_result r = exec(db, m->sql, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "DELETE FROM schema_version", NULL, 0, NULL, NULL, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "INSERT INTO schema_version (version) VALUES ($1)", &version, 1, NULL, NULL, NULL, err);
	return r;
}

bool tg_db_copy(struct tg_db *db, const char *to, struct tg_err *err)
{
	/* Made by us first: VACUUM INTO takes an empty file, and its mode stays. */
	int fd = open(to, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0) {
		tg_err_set(err, "%s: cannot be made: %s", to, strerror(errno));
		return false;
	}
	struct tg_db_value path = TG_DB_T(to);
	bool ok = tg_db_run(db, "VACUUM INTO $1", &path, 1, NULL, NULL, NULL, err) == TG_DB_OK;
	if (ok && fsync(fd)) {
		tg_err_set(err, "%s: %s", to, strerror(errno));
		ok = false;
	}
	close(fd);
	if (!ok)
		unlink(to);
	return ok;
}

static bool copy_before(struct tg_db *db, unsigned version, struct tg_err *err)
{
	char to[4200];
	snprintf(to, sizeof to, "%s.before-%04u", db->path, version);
	if (access(to, F_OK) == 0)
		return true; /* of an earlier try: the older one is the better one */
	return tg_db_copy(db, to, err);
}

/* The lock is taken first: of two programs that start at once, the second finds everything done. */
static enum tg_db_result migrate(struct tg_db *db, struct tg_err *err)
{
	int64_t have = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM sqlite_master WHERE name = 'schema_version'", NULL, 0, one_int, &have, NULL, err);
	if (r == TG_DB_OK && have) {
		have = 0;
		r = tg_db_run(db, "SELECT version FROM schema_version", NULL, 0, one_int, &have, NULL, err);
	}
	if (r != TG_DB_OK)
		return r;
	if (have < 0 || have > tg_db_schema()) {
		tg_err_set(err, "%s: its schema is %lld, this program knows %u: it was written by a newer Tollgate", db->path, (long long)have, tg_db_schema());
		return TG_DB_BROKEN;
	}
	if (have == tg_db_schema())
		return TG_DB_OK;
	if (have && !copy_before(db, (unsigned)have + 1, err))
		return TG_DB_AWAY;
	if ((r = tg_db_begin(db, err)) != TG_DB_OK)
		return r;
	int64_t now = 0;
	r = exec(db, "CREATE TABLE IF NOT EXISTS schema_version (version BIGINT NOT NULL)", err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "SELECT COALESCE(MAX(version), 0) FROM schema_version", NULL, 0, one_int, &now, NULL, err);
	for (unsigned i = 0; r == TG_DB_OK && i < tg_nmigrations; i++)
		if (tg_migrations[i].version > now)
			r = apply(db, &tg_migrations[i], err);
	if (r != TG_DB_OK) {
		tg_db_rollback(db);
		return r;
	}
	return tg_db_commit(db, err);
}

enum tg_db_result tg_db_tag(struct tg_db *db, uint32_t *tag, struct tg_err *err)
{
	int64_t v = 0;
	enum tg_db_result r = tg_db_run(db, "PRAGMA user_version", NULL, 0, one_int, &v, NULL, err);
	*tag = (uint32_t)v;
	return r;
}

enum tg_db_result tg_db_set_tag(struct tg_db *db, uint32_t tag, struct tg_err *err)
{
	char sql[48];
	snprintf(sql, sizeof sql, "PRAGMA user_version = %u", tag);
	return exec(db, sql, err);
}

/* The folder, and the file with its mode, before SQLite can make it with another. */
static bool make_file(const char *path, struct tg_err *err)
{
	char dir[4096];
	const char *slash = strrchr(path, '/');
	if (slash && slash != path) {
		snprintf(dir, sizeof dir, "%.*s", (int)(slash - path), path);
		if (tg_new_folder(dir, 0700) && errno != EEXIST) {
			tg_err_set(err, "%s: cannot be made: %s", dir, strerror(errno));
			return false;
		}
	}
	int fd = tg_open_made(path, O_RDWR | O_CLOEXEC, 0600); /* its -wal and -shm get this one's owner, from SQLite */
	if (fd < 0) {
		tg_err_set(err, "%s: cannot be opened: %s", path, strerror(errno));
		return false;
	}
	close(fd);
	return true;
}

static bool is_text(const struct tg_db_value *v, unsigned n, const char *text)
{
	return n == 1 && tg_slice_eq(v[0].s, tg_slice_cstr(text));
}

static bool is_wal(void *ctx, const struct tg_db_value *v, unsigned n)
{
	*(bool *)ctx = is_text(v, n, "wal");
	return false;
}

static enum tg_db_result open_file(struct tg_db *db, bool create, bool *missing, struct tg_err *err)
{
	*missing = access(db->path, F_OK) != 0 && errno == ENOENT;
	if (*missing && !create) {
		tg_err_set(err, "%s: does not exist", db->path);
		return TG_DB_AWAY;
	}
	if (*missing && !make_file(db->path, err))
		return TG_DB_AWAY;
	enum tg_db_result r = result_of(NULL, sqlite3_open_v2(db->path, &db->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX | SQLITE_OPEN_EXRESCODE, NULL), err);
	if (r != TG_DB_OK) {
		tg_err_set(err, "%s: cannot be opened: %s", db->path, db->h ? sqlite3_errmsg(db->h) : "out of memory");
		return r;
	}
	struct stat st;
	if (stat(db->path, &st)) {
		tg_err_set(err, "%s: %s", db->path, strerror(errno));
		return TG_DB_AWAY;
	}
	static _Atomic uint64_t openings;
	db->opened = ++openings;
	db->ino = st.st_ino;
	db->dev = st.st_dev;
	sqlite3_busy_timeout(db->h, BUSY_MS);
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_DEFENSIVE, 1, NULL);
	sqlite3_db_config(db->h, SQLITE_DBCONFIG_TRUSTED_SCHEMA, 0, NULL);
	r = exec(db, "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA foreign_keys = ON; PRAGMA cell_size_check = ON; PRAGMA secure_delete = ON", err);
	if (r == TG_DB_OK) /* some file systems cannot have it: then it is slower, and no less safe */
		r = tg_db_run(db, "PRAGMA journal_mode", NULL, 0, is_wal, &db->wal, NULL, err);
	return r == TG_DB_OK ? migrate(db, err) : r;
}

/* The log is written in order: what is synced takes all before it along. */
enum tg_db_result tg_db_lasting(struct tg_db *db, bool lasting, struct tg_err *err)
{
	return exec(db, lasting ? "PRAGMA synchronous = FULL" : "PRAGMA synchronous = NORMAL", err);
}

struct tg_db *tg_db_open(const char *url, bool create, bool *missing, enum tg_db_result *why, struct tg_err *err)
{
	struct tg_db *db = calloc(1, sizeof *db);
	bool gone;
	*why = TG_DB_AWAY;
	tg_err_set(err, "out of memory");
	if (!db)
		return NULL;
	db->path = strdup(strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url);
	if (db->path)
		*why = open_file(db, create, missing ? missing : &gone, err);
	if (*why == TG_DB_OK)
		return db;
	tg_db_close(db);
	return NULL;
}

struct tg_db *tg_db_empty(struct tg_err *err)
{
	struct tg_db *db = calloc(1, sizeof *db);
	tg_err_set(err, "out of memory");
	if (db && (db->path = strdup("")) && result_of(NULL, sqlite3_open_v2(":memory:", &db->h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL), err) == TG_DB_OK && migrate(db, err) == TG_DB_OK)
		return db;
	tg_db_close(db);
	return NULL;
}

void tg_db_close(struct tg_db *db)
{
	if (!db)
		return;
	for (unsigned i = 0; i < db->nkept; i++)
		sqlite3_finalize(db->kept[i].st);
	sqlite3_close(db->h);
	free(db->path);
	free(db);
}

static bool is_delete(void *ctx, const struct tg_db_value *v, unsigned n)
{
	*(bool *)ctx = is_text(v, n, "delete");
	return false;
}

bool tg_db_retire(const char *url, struct tg_err *err)
{
	struct tg_db db = { .path = strdup(strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url) };
	bool alone = false;
	if (!db.path || sqlite3_open_v2(db.path, &db.h, SQLITE_OPEN_READWRITE | SQLITE_OPEN_NOMUTEX, NULL) != SQLITE_OK ||
	    tg_db_run(&db, "PRAGMA journal_mode = DELETE", NULL, 0, is_delete, &alone, NULL, err) == TG_DB_BROKEN)
		alone = true; /* what cannot be opened has no readers, and is what a restore is for */
	else if (!alone)
		tg_err_set(err, "%s is open somewhere: stop the gate first", db.path);
	for (unsigned i = 0; i < db.nkept; i++)
		sqlite3_finalize(db.kept[i].st);
	sqlite3_close(db.h);
	if (alone) { /* a damaged one may have left them; they must not meet another database */
		static const char *const tails[] = { "-wal", "-shm" };
		char path[4200];
		for (unsigned i = 0; i < 2; i++)
			if (snprintf(path, sizeof path, "%s%s", db.path, tails[i]) < (int)sizeof path)
				unlink(path);
	}
	free(db.path);
	return alone;
}
