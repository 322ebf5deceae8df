/* The statements for spools (migrations/0005_bounds.sql; see spools.h). As jobs.c. */
#include "store/spools.h"
#include "store/row.h"

enum tg_db_result tg_spool_rows_used(struct tg_db *db, const char *place, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(place);
	return tg_db_run(db, "INSERT INTO spools (place, turn, unused_us) VALUES ($1, 0, 0) ON CONFLICT (place) DO UPDATE SET turn = spools.turn + 1, unused_us = 0", &arg, 1, NULL, NULL, NULL, err);
}

enum tg_db_result tg_spool_rows_learn(struct tg_db *db, struct tg_err *err)
{
	return tg_db_run(db,
			 "INSERT INTO spools (place, turn, unused_us) SELECT DISTINCT place, 0, 0 FROM jobs WHERE place IS NOT NULL AND status IN ('pending', 'running') ON CONFLICT (place) DO NOTHING",
			 NULL, 0, NULL, NULL, NULL, err);
}

struct rows {
	tg_spool_row_fn row;
	void *ctx;
};

static bool one_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	return n == 3 && r->row(r->ctx, tg_row_text_or_empty(&v[0]), tg_row_int(&v[1]), tg_row_int(&v[2]));
}

enum tg_db_result tg_spool_rows_list(struct tg_db *db, const char *mine, uint64_t most, tg_spool_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(mine), tg_row_count(most) };
	struct rows rows = { row, ctx };
	return tg_db_run(db, "SELECT place, turn, unused_us FROM spools WHERE place <> $1 ORDER BY unused_us DESC, place LIMIT $2", args, 2, one_row, &rows, NULL, err);
}

enum tg_db_result tg_spool_rows_unused(struct tg_db *db, const char *place, int64_t turn, int64_t add_us, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(place), TG_DB_I(turn), TG_DB_I(add_us) };
	return tg_db_run(db, "UPDATE spools SET turn = turn + 1, unused_us = unused_us + $3 WHERE place = $1 AND turn = $2", args, 3, NULL, NULL, NULL, err);
}

enum tg_db_result tg_spool_rows_forget(struct tg_db *db, int64_t unused_us, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_I(unused_us);
	return tg_db_run(db,
			 "DELETE FROM spools WHERE unused_us >= $1 AND NOT EXISTS (SELECT 1 FROM jobs WHERE jobs.place = spools.place AND status IN ('pending', 'running'))", &arg, 1, NULL, NULL,
			 NULL, err);
}
