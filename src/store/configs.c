/* The statements for configurations (migrations/0002_ml.sql). SQL is the common part of SQLite and PostgreSQL. A put is a look and a write in one transaction, so that no dialect's upsert is needed. */
#include "store/configs.h"
#include "store/row.h"

#define COLUMNS "id, name, data, created_at, updated_at"

struct rows {
	tg_config_row_fn row;
	void *ctx;
	bool found;
};

static bool one_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	if (n != 5)
		return false;
	struct tg_config_row c = { .id = tg_row_text_or_empty(&v[0]), .name = tg_row_text_or_empty(&v[1]), .data = tg_row_text_or_empty(&v[2]), .created_us = tg_row_int(&v[3]),
				   .updated_us = tg_row_int(&v[4]) };
	r->found = true;
	return r->row(r->ctx, &c);
}

enum tg_db_result tg_configs_update(struct tg_db *db, struct tg_config_row *c, bool *found, struct tg_err *err)
{
	struct tg_db_value id = TG_DB_T(c->id), args[] = { TG_DB_T(c->id), TG_DB_T(c->name), TG_DB_T(c->data), TG_DB_I(c->updated_us) };
	int64_t created = 0, changed = 0;
	enum tg_db_result r = tg_db_run(db, "UPDATE configs SET name = $2, data = $3, updated_at = $4 WHERE id = $1", args, 4, NULL, NULL, &changed, err);
	*found = changed > 0;
	if (r != TG_DB_OK || !*found)
		return r;
	r = tg_db_run(db, "SELECT created_at FROM configs WHERE id = $1", &id, 1, tg_row_one_int, &created, NULL, err);
	c->created_us = created;
	return r;
}

enum tg_db_result tg_configs_put(struct tg_db *db, struct tg_config_row *c, bool *created, struct tg_err *err)
{
	bool found;
	enum tg_db_result r = tg_configs_update(db, c, &found, err);
	*created = false;
	if (r != TG_DB_OK || found)
		return r;
	struct tg_db_value args[] = { TG_DB_T(c->id), TG_DB_T(c->name), TG_DB_T(c->data), TG_DB_I(c->created_us), TG_DB_I(c->updated_us) };
	r = tg_db_run(db, "INSERT INTO configs (" COLUMNS ") VALUES ($1, $2, $3, $4, $5)", args, 5, NULL, NULL, NULL, err);
	*created = r == TG_DB_OK;
	return r;
}

enum tg_db_result tg_configs_get(struct tg_db *db, const char *id, tg_config_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	struct rows rows = { row, ctx, false };
	enum tg_db_result r = tg_db_run(db, "SELECT " COLUMNS " FROM configs WHERE id = $1", &arg, 1, one_row, &rows, NULL, err);
	*found = rows.found;
	return r;
}

enum tg_db_result tg_configs_list(struct tg_db *db, uint64_t skip, uint64_t most, tg_config_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { tg_row_count(most), tg_row_count(skip) };
	struct rows rows = { row, ctx, false };
	return tg_db_run(db, "SELECT " COLUMNS " FROM configs ORDER BY created_at, id LIMIT $1 OFFSET $2", args, 2, one_row, &rows, NULL, err);
}

enum tg_db_result tg_configs_count(struct tg_db *db, uint64_t *n, struct tg_err *err)
{
	int64_t count = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM configs", NULL, 0, tg_row_one_int, &count, NULL, err);
	*n = (uint64_t)count;
	return r;
}

enum tg_db_result tg_configs_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db, "DELETE FROM configs WHERE id = $1", &arg, 1, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}
