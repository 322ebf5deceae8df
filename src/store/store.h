#pragma once
/*
 * The one database of a process: opened once, used under a lock, found again when it was away. Whoever changes something gets a generation: the change is in force for
 * requests once the gate has adopted that generation (gate/snapshot.h). It is a new one only where somebody's keys, users or tokens changed.
 *
 * What it last knew stays in force while the database is away: in memory, and for a start in that time in a file beside it (PATH.known, 0600: digests,
 * no key and no password hash), so that keys go on being keys. Where that file says nothing, its identity is blind (policy/identity.h): it was there, and nobody knows who it knew. Blocking: for the job pool and the command line.
 */
#include "policy/policy.h"
#include "store/db.h"
#include "store/uses.h"

struct tg_store; /* opaque, thread-safe */

enum tg_store_state { TG_STORE_OK, TG_STORE_AWAY };

/*
 * url: "sqlite:PATH". PATH's secret (secret.key in its folder, or `secret` where it is not empty: TOLLGATE_SECRET) is made where it is missing, the
 * database when somebody first writes (a start is no such need: most gates have keys of files only). A database that was there and is not, or is
 * locked, is no failure: the store is AWAY and tries again in tg_store_poll. NULL: it can never work (damaged, written by a newer program, keys without their secret).
 * warn gets a sentence for people where something is not as it should be. Sets the process's digest key: before any digester is made.
 */
struct tg_store *tg_store_open(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err);
/* The same for whoever makes nobody: where there is no database and never was one, nothing is made; reads find nothing, and so do changes. */
struct tg_store *tg_store_look(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err);
/*
 * Before its files are replaced by others: nobody has the database open or might make it, until the descriptor *held is closed (-1: there is no folder yet); and what it last said is true no more. False: somebody does.
 */
bool tg_store_claim(const char *url, int *held, struct tg_err *err);
void tg_store_close(struct tg_store *s); /* after the last snapshot of its identities */

/* Looks for changes that others made (tollgate keys on the command line, another gate), and for a database that was away. */
void tg_store_poll(struct tg_store *s);
/* Whether what changed is to be folded in (policy/identity.h), and doing so: as long as a load of everybody, while changes and looks go on. At most once at a time. */
bool tg_store_untidy(const struct tg_store *s);
void tg_store_tidy(struct tg_store *s);
bool tg_store_there(struct tg_store *s); /* it is open now: there is one, and asking it makes none */
/* Who the database knows, one reference, and the generation of that. */
struct tg_identity *tg_store_identity(struct tg_store *s, uint64_t *generation);
uint64_t tg_store_generation(struct tg_store *s);
enum tg_store_state tg_store_state(const struct tg_store *s);

/*
 * Usage. Everybody whom the configuration knows gets a place to count in, before the snapshot is shared; the database's own have theirs. What was counted is told to the database every flush_s seconds
 * by tg_store_poll, by tg_store_flush, and at the end; a process that is killed loses what came after. While the database is away it waits in memory, day by day (store/uses.h).
 */
void tg_store_keep_usage(struct tg_store *s, unsigned days, unsigned flush_s); /* days 0: nobody counts. Before the first poll */
void tg_store_places(struct tg_store *s, struct tg_policy *p);
enum tg_db_result tg_store_flush(struct tg_store *s, struct tg_err *err);
/* Counts for somebody whose request is over: work that goes on behind it. */
void tg_store_count(struct tg_store *s, const char *principal, uint64_t wall_us, const struct tg_counts *c);

/* Within tg_store_read or tg_store_write: when that key was last used since this process runs, seconds since the epoch; 0: not. The database hears of it once a minute. */
uint64_t tg_store_last_used(struct tg_store *s, const char *id);

/* One transaction; `change` must answer OK for it to be kept. *generation: what the gate must adopt. AWAY: nothing was changed, or it is not known whether it was. */
typedef enum tg_db_result (*tg_store_change)(struct tg_db *db, void *ctx, struct tg_err *err);
enum tg_db_result tg_store_write(struct tg_store *s, tg_store_change change, void *ctx, uint64_t *generation, struct tg_err *err);
/* The same for what no request is judged by (configs, artifacts, jobs): identities are not read again and the generation stays, so that there is nothing to adopt. Whoever else has
 * the database open finds nothing new in its list of changes. */
enum tg_db_result tg_store_record(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err);
/* The same for what may be forgotten by a machine that loses power, though by no process that dies: it is not waited for the disk. */
enum tg_db_result tg_store_note(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err);
enum tg_db_result tg_store_read(struct tg_store *s, tg_store_change look, void *ctx, struct tg_err *err);
/* The database's mark now (tg_db_mark). Never waits: false where somebody is using the database, or it is away. For any thread. */
bool tg_store_mark(struct tg_store *s, struct tg_db_mark *mark);
bool tg_store_copy(struct tg_store *s, const char *to, struct tg_err *err);
