#pragma once
/*
 * The spools in which data of jobs lies (jobs.place), and since when nobody has used each: so that jobs of one that never comes back can end. A gate that has a spool says so now and then; every gate adds to the
 * others the time for which it has seen nothing of them. Sums of that and no times of day: a clock that is set makes no spool look forsaken.
 *
 * Whose time counts: `turn` moves whenever a row changes. A gate adds the time since its last look only where the turn is what it left then, so that of several gates that look on one at a time counts, and none after
 * the spool was used. As store/configs.h for transactions.
 */
#include "store/db.h"

typedef bool (*tg_spool_row_fn)(void *ctx, const char *place, int64_t turn, int64_t unused_us); /* false: enough */

/* Its gate lives: unused for no time. */
enum tg_db_result tg_spool_rows_used(struct tg_db *db, const char *place, struct tg_err *err);
/* A row for each place that jobs wait or run at and that has none. */
enum tg_db_result tg_spool_rows_learn(struct tg_db *db, struct tg_err *err);
/* All but `mine` (""; of no gate: all), those unused for longest first. */
enum tg_db_result tg_spool_rows_list(struct tg_db *db, const char *mine, uint64_t most, tg_spool_row_fn row, void *ctx, struct tg_err *err);
/* Adds to unused_us if the turn is still that one, which then is turn + 1. */
enum tg_db_result tg_spool_rows_unused(struct tg_db *db, const char *place, int64_t turn, int64_t add_us, struct tg_err *err);
/* Those that were unused for as long and where no job waits or runs any more. */
enum tg_db_result tg_spool_rows_forget(struct tg_db *db, int64_t unused_us, struct tg_err *err);
