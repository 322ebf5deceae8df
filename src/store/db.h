#pragma once
/*
 * A database, reduced to what the repositories need: statements with numbered arguments ($1, $2, ... of standard SQL), rows, transactions. The statements are
 * the repositories' own and the same for every driver; sqlite.c is the first driver, and the only file that knows SQLite.
 *
 * A struct tg_db is one connection: its owner (store.c) serializes its use. Blocking: for the job pool and the command line, never for a loop's thread.
 */
#include "base/buf.h"
#include "base/err.h"
#include <stdint.h>

enum tg_db_result {
	TG_DB_OK,
	TG_DB_CONFLICT, /* a row that must be unique is there already */
	TG_DB_AWAY,     /* locked for too long, gone, full, read-only: it may work later; nothing was changed */
	TG_DB_BROKEN,   /* damaged, or a newer schema, or a fault of ours: waiting does not help */
};

struct tg_db; /* opaque */

/*
 * "sqlite:PATH". The file is made (0600) where it is missing and `create` is set; missing otherwise: AWAY with *missing. Migrations (migrations/NNNN_name.sql) that it lacks
 * are applied, each in a transaction, after a copy of the file was made beside it (PATH.before-NNNN); a schema newer than ours is refused. NULL: err says why.
 */
struct tg_db *tg_db_open(const char *url, bool create, bool *missing, enum tg_db_result *why, struct tg_err *err);
/* One of the newest schema with nothing in it, in memory. NULL: err says why. */
struct tg_db *tg_db_empty(struct tg_err *err);
void tg_db_close(struct tg_db *db);
unsigned tg_db_schema(void); /* the newest schema this program knows */

enum tg_db_kind { TG_DB_NULL, TG_DB_INT, TG_DB_TEXT };
struct tg_db_value {
	enum tg_db_kind kind;
	int64_t i;
	struct tg_slice s; /* of a row: until the callback returns, with a NUL behind its end */
};
#define TG_DB_I(v) ((struct tg_db_value){ .kind = TG_DB_INT, .i = (int64_t)(v) })
#define TG_DB_T(text) ((struct tg_db_value){ .kind = TG_DB_TEXT, .s = tg_slice_cstr(text) })
#define TG_DB_N ((struct tg_db_value){ .kind = TG_DB_NULL })

/* A row's columns; false ends the query as OK. */
typedef bool (*tg_db_row)(void *ctx, const struct tg_db_value *v, unsigned n);
/* `sql` is a literal: prepared statements are kept by its address. `row` NULL: no rows are expected. *changed (may be NULL): rows inserted, updated or deleted. */
enum tg_db_result tg_db_run(struct tg_db *db, const char *sql, const struct tg_db_value *args, unsigned n, tg_db_row row, void *ctx, int64_t *changed, struct tg_err *err);
enum tg_db_result tg_db_begin(struct tg_db *db, struct tg_err *err); /* for writing: others wait from here on */
enum tg_db_result tg_db_commit(struct tg_db *db, struct tg_err *err);
void tg_db_rollback(struct tg_db *db);
/* Between transactions. false: a power cut may take back what is committed from here on, until something that lasts is committed after it; a process that dies takes nothing back. A connection begins with true. */
enum tg_db_result tg_db_lasting(struct tg_db *db, bool lasting, struct tg_err *err);
/* A number that moves whenever somebody else has committed something. */
enum tg_db_result tg_db_version(struct tg_db *db, int64_t *version, struct tg_err *err);
/*
 * What differs after each commit, whoever made it, and is read without asking the database: of memory, in no time. While it is the same, all that was read since it was taken is what would be read now. False: this
 * driver, or this database, has no such thing.
 */
struct tg_db_mark {
	uint64_t opened; /* which opening of a database in this process */
	uint32_t header[24];
};
bool tg_db_mark(struct tg_db *db, struct tg_db_mark *mark);
/* A number that the owner leaves in the database, which copies of it have too; 0: none yet. */
enum tg_db_result tg_db_tag(struct tg_db *db, uint32_t *tag, struct tg_err *err);
enum tg_db_result tg_db_set_tag(struct tg_db *db, uint32_t tag, struct tg_err *err); /* under 1 << 31 */
bool tg_db_same_file(struct tg_db *db); /* the file under the path is still the one that was opened */
/* A consistent copy of a living database into a new file (0600); an existing file is refused. */
bool tg_db_copy(struct tg_db *db, const char *to, struct tg_err *err);
/* Folds everything into the one file, which may be replaced then. False: somebody has it open, or it is damaged. */
bool tg_db_retire(const char *url, struct tg_err *err);
