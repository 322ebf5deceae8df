/*
 * The statements for artifacts (migrations/0002_ml.sql). As configs.c.
 *
 * Invariant: parents form no circle. A row gets a parent only after the way up from there was walked and did not meet it; a tree's height is bounded, and so is that walk.
 */
#include "store/artifacts.h"
#include "base/json_scan.h"
#include "store/row.h"

#define COLUMNS "id, parent_id, level, data, created_at, updated_at"

struct rows {
	tg_artifact_row_fn row;
	void *ctx;
	bool found;
};

static bool one_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct rows *r = ctx;
	if (n != 6)
		return false;
	struct tg_artifact_row a = { .id = tg_row_text_or_empty(&v[0]), .parent_id = tg_row_text(&v[1]), .level = (unsigned)tg_row_int(&v[2]), .data = tg_row_text_or_empty(&v[3]),
				     .data_len = v[3].kind == TG_DB_TEXT ? v[3].s.n : 0, .created_us = tg_row_int(&v[4]), .updated_us = tg_row_int(&v[5]) };
	r->found = true;
	return r->row(r->ctx, &a);
}

/* ---- where a row stands ---- */

struct place {
	char parent[TG_ULID_LEN + 1]; /* "": a root */
	int64_t level, created;
	bool there;
};

static bool place_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct place *p = ctx;
	if (n != 3)
		return false;
	p->there = true;
	p->level = tg_row_int(&v[1]);
	p->created = tg_row_int(&v[2]);
	snprintf(p->parent, sizeof p->parent, "%s", tg_row_text_or_empty(&v[0]));
	return false;
}

static enum tg_db_result place_of(struct tg_db *db, const char *id, struct place *p, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	*p = (struct place){ 0 };
	return tg_db_run(db, "SELECT parent_id, level, created_at FROM artifacts WHERE id = $1", &arg, 1, place_row, p, NULL, err);
}

/* The level of a child of `parent`; -1: there can be none. */
static enum tg_db_result level_under(struct tg_db *db, const char *id, const char *parent, int64_t *level, struct tg_err *err)
{
	char at[TG_ULID_LEN + 1];
	struct place p;
	int64_t below = -1;
	*level = -1;
	snprintf(at, sizeof at, "%s", parent);
	for (unsigned i = 0; i <= TG_ARTIFACT_LEVEL_MAX && strcmp(at, id) != 0; i++) {
		enum tg_db_result r = place_of(db, at, &p, err);
		if (r != TG_DB_OK || !p.there)
			return r;
		if (i == 0)
			below = p.level + 1; /* of those further up only the way matters */
		if (!p.parent[0]) {
			*level = below <= TG_ARTIFACT_LEVEL_MAX ? below : -1;
			return TG_DB_OK;
		}
		memcpy(at, p.parent, sizeof at);
	}
	return TG_DB_OK;
}

#define BELOW "WITH RECURSIVE below (id) AS (SELECT id FROM artifacts WHERE parent_id = $1 UNION ALL SELECT a.id FROM artifacts a JOIN below b ON a.parent_id = b.id) "

/* Those below move by as much. *fits false: the deepest of them would be too deep. */
static enum tg_db_result move_below(struct tg_db *db, const char *id, int64_t by, bool *fits, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(id), TG_DB_I(by) };
	int64_t deepest = 0;
	*fits = true;
	if (!by)
		return TG_DB_OK;
	enum tg_db_result r = tg_db_run(db, BELOW "SELECT COALESCE(MAX(level), 0) FROM artifacts WHERE id IN (SELECT id FROM below)", args, 1, tg_row_one_int, &deepest, NULL, err);
	if (r != TG_DB_OK || !(*fits = deepest + by <= TG_ARTIFACT_LEVEL_MAX))
		return r;
	return tg_db_run(db, BELOW "UPDATE artifacts SET level = level + $2 WHERE id IN (SELECT id FROM below)", args, 2, NULL, NULL, NULL, err);
}

/* The configuration that data names, where it does. False: none. */
static bool config_of(const struct tg_artifact_row *a, char out[TG_ULID_LEN + 1])
{
	static const char *const names[] = { "config_id" };
	struct tg_slice doc = { a->data, a->data_len };
	struct tg_json_scan s;
	if (tg_json_scan_all(&s, doc, names, 1) != TG_JSON_DONE || s.want[0].type != TG_JSON_STRING || s.want[0].escaped)
		return false;
	struct tg_slice quoted = tg_json_value(doc, &s.want[0]);
	return tg_ulid_read((struct tg_slice){ quoted.p + 1, quoted.n - 2 }, out);
}

enum tg_db_result tg_artifacts_put(struct tg_db *db, struct tg_artifact_row *a, bool *created, bool *parent, struct tg_err *err)
{
	struct place was;
	int64_t level = 0;
	char config[TG_ULID_LEN + 1];
	bool fits = true;
	*created = false;
	*parent = true;
	enum tg_db_result r = place_of(db, a->id, &was, err);
	if (r == TG_DB_OK && a->parent_id)
		r = level_under(db, a->id, a->parent_id, &level, err);
	if (r == TG_DB_OK && level >= 0 && was.there)
		r = move_below(db, a->id, level - was.level, &fits, err);
	if (r != TG_DB_OK)
		return r;
	if (level < 0 || !fits) {
		*parent = false;
		return TG_DB_OK;
	}
	a->level = (unsigned)level;
	if (was.there)
		a->created_us = was.created;
	struct tg_db_value args[] = { TG_DB_T(a->id), tg_text_or_null(a->parent_id), TG_DB_I(level), { .kind = TG_DB_TEXT, .s = { a->data, a->data_len } },
				      TG_DB_I(a->created_us), TG_DB_I(a->updated_us), config_of(a, config) ? TG_DB_T(config) : TG_DB_N };
	*created = !was.there;
	return was.there ? tg_db_run(db, "UPDATE artifacts SET parent_id = $2, level = $3, data = $4, created_at = $5, updated_at = $6, config_id = $7 WHERE id = $1", args, 7, NULL,
				     NULL, NULL, err)
			 : tg_db_run(db, "INSERT INTO artifacts (" COLUMNS ", config_id) VALUES ($1, $2, $3, $4, $5, $6, $7)", args, 7, NULL, NULL, NULL, err);
}

/* ---- reading ---- */

enum tg_db_result tg_artifacts_get(struct tg_db *db, const char *id, tg_artifact_row_fn row, void *ctx, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	struct rows rows = { row, ctx, false };
	enum tg_db_result r = tg_db_run(db, "SELECT " COLUMNS " FROM artifacts WHERE id = $1", &arg, 1, one_row, &rows, NULL, err);
	*found = rows.found;
	return r;
}

enum tg_db_result tg_artifacts_list(struct tg_db *db, uint64_t skip, uint64_t most, tg_artifact_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { tg_row_count(most), tg_row_count(skip) };
	struct rows rows = { row, ctx, false };
	return tg_db_run(db, "SELECT " COLUMNS " FROM artifacts ORDER BY created_at, id LIMIT $1 OFFSET $2", args, 2, one_row, &rows, NULL, err);
}

enum tg_db_result tg_artifacts_children(struct tg_db *db, const char *id, tg_artifact_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	struct rows rows = { row, ctx, false };
	return tg_db_run(db, "SELECT " COLUMNS " FROM artifacts WHERE parent_id = $1 ORDER BY created_at, id", &arg, 1, one_row, &rows, NULL, err);
}

struct id_rows {
	bool (*row)(void *ctx, const char *id);
	void *ctx;
};

static bool one_id(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct id_rows *r = ctx;
	return n == 1 && r->row(r->ctx, tg_row_text_or_empty(&v[0]));
}

enum tg_db_result tg_artifacts_children_ids(struct tg_db *db, const char *id, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	struct id_rows rows = { row, ctx };
	return tg_db_run(db, "SELECT id FROM artifacts WHERE parent_id = $1 ORDER BY created_at, id", &arg, 1, one_id, &rows, NULL, err);
}

enum tg_db_result tg_artifacts_of_config(struct tg_db *db, const char *config_id, uint64_t skip, uint64_t most, tg_artifact_row_fn row, void *ctx, struct tg_err *err)
{
	struct tg_db_value args[] = { TG_DB_T(config_id), tg_row_count(most), tg_row_count(skip) };
	struct rows rows = { row, ctx, false };
	return tg_db_run(db, "SELECT " COLUMNS " FROM artifacts WHERE config_id = $1 AND level = 0 ORDER BY created_at, id LIMIT $2 OFFSET $3", args, 3, one_row, &rows, NULL, err);
}

enum tg_db_result tg_artifacts_count_of_config(struct tg_db *db, const char *config_id, uint64_t *n, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(config_id);
	int64_t count = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM artifacts WHERE config_id = $1 AND level = 0", &arg, 1, tg_row_one_int, &count, NULL, err);
	*n = (uint64_t)count;
	return r;
}

struct named {
	char config[TG_ULID_LEN + 1], parent[TG_ULID_LEN + 1];
	bool there;
};

static bool named_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	struct named *a = ctx;
	if (n == 2) {
		a->there = true;
		snprintf(a->config, sizeof a->config, "%s", tg_row_text_or_empty(&v[0]));
		snprintf(a->parent, sizeof a->parent, "%s", tg_row_text_or_empty(&v[1]));
	}
	return false;
}

enum tg_db_result tg_artifacts_config(struct tg_db *db, const char *id, char config_id[TG_ULID_LEN + 1], bool *found, struct tg_err *err)
{
	char at[TG_ULID_LEN + 1];
	snprintf(at, sizeof at, "%s", id);
	*found = false;
	config_id[0] = 0;
	for (unsigned i = 0; i <= TG_ARTIFACT_LEVEL_MAX && at[0]; i++) {
		struct tg_db_value arg = TG_DB_T(at);
		struct named a = { 0 };
		enum tg_db_result r = tg_db_run(db, "SELECT config_id, parent_id FROM artifacts WHERE id = $1", &arg, 1, named_row, &a, NULL, err);
		if (r != TG_DB_OK || !a.there)
			return r;
		*found = true;
		if (a.config[0]) {
			memcpy(config_id, a.config, sizeof a.config);
			return TG_DB_OK;
		}
		memcpy(at, a.parent, sizeof at);
	}
	return TG_DB_OK;
}

enum tg_db_result tg_artifacts_count(struct tg_db *db, uint64_t *n, struct tg_err *err)
{
	int64_t count = 0;
	enum tg_db_result r = tg_db_run(db, "SELECT COUNT(*) FROM artifacts", NULL, 0, tg_row_one_int, &count, NULL, err);
	*n = (uint64_t)count;
	return r;
}

enum tg_db_result tg_artifacts_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err)
{
	struct tg_db_value arg = TG_DB_T(id);
	int64_t changed = 0;
	enum tg_db_result r = tg_db_run(db, "UPDATE artifacts SET parent_id = NULL WHERE parent_id = $1", &arg, 1, NULL, NULL, NULL, err);
	if (r == TG_DB_OK)
		r = tg_db_run(db, "DELETE FROM artifacts WHERE id = $1", &arg, 1, NULL, NULL, &changed, err);
	*found = changed > 0;
	return r;
}
