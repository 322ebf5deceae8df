#pragma once
/*
 * The one database of a process: opened once, used under a lock, found again when it was away. Whoever changes something gets a generation: the change is in force for
 * requests once the gate has adopted that generation (gate/snapshot.h).
 *
 * What it last knew stays in force while the database is away: in memory, and for a start in that time in a file beside it (PATH.known, 0600: digests,
 * no key and no password hash), so that keys go on being keys. Blocking: for the job pool and the command line.
 */
#include "policy/identity.h"
#include "store/db.h"

struct tg_store; /* opaque, thread-safe */

enum tg_store_state { TG_STORE_OK, TG_STORE_AWAY };

/*
 * url: "sqlite:PATH". PATH's secret (secret.key in its folder, or `secret` where it is not empty: TOLLGATE_SECRET) is made where it is missing, the
 * database when somebody first needs one (a start is no such need: most gates have keys of files only). A database that was there and is not, or is
 * locked, is no failure: the store is AWAY and tries again in tg_store_poll. NULL: it can never work (damaged, written by a newer program, keys without their secret).
 * warn gets a sentence for people where something is not as it should be. Sets the process's digest key: before any digester is made.
 */
struct tg_store *tg_store_open(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err);
void tg_store_close(struct tg_store *s); /* after the last snapshot of its identities */

/* Looks for changes that others made (tollgate keys on the command line, another gate), and for a database that was away. */
void tg_store_poll(struct tg_store *s);
/* Who the database knows, one reference, and the generation of that. */
struct tg_identity *tg_store_identity(struct tg_store *s, uint64_t *generation);
uint64_t tg_store_generation(struct tg_store *s);
enum tg_store_state tg_store_state(const struct tg_store *s);

/* Within tg_store_read or tg_store_write: when that key was last used since this process runs, seconds since the epoch; 0: not. The database hears of it once a minute. */
uint64_t tg_store_last_used(struct tg_store *s, const char *id);

/* One transaction; `change` must answer OK for it to be kept. *generation: what the gate must adopt. AWAY: nothing was changed, or it is not known whether it was. */
typedef enum tg_db_result (*tg_store_change)(struct tg_db *db, void *ctx, struct tg_err *err);
enum tg_db_result tg_store_write(struct tg_store *s, tg_store_change change, void *ctx, uint64_t *generation, struct tg_err *err);
enum tg_db_result tg_store_read(struct tg_store *s, tg_store_change look, void *ctx, struct tg_err *err);
bool tg_store_copy(struct tg_store *s, const char *to, struct tg_err *err);
