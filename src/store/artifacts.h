#pragma once
/*
 * Artifacts (document 003, /api/v1/artifacts): trees of results. A trained model is a root (level 0), a prediction made with it its child (level 1). What a model's file holds is
 * in the model store under the same id (store/model_store.h); here is what callers see. As store/configs.h for times, ids, transactions.
 */
#include "base/id.h"
#include "store/db.h"

#define TG_ARTIFACT_DATA_MAX (32u << 20) /* bytes of `data` as JSON text */
#define TG_ARTIFACT_LEVEL_MAX 64         /* of a tree */

struct tg_artifact_row {
	const char *id, *parent_id; /* parent_id NULL: a root */
	unsigned level;
	const char *data;           /* JSON text, any value but null */
	size_t data_len;
	int64_t created_us, updated_us;
};
typedef bool (*tg_artifact_row_fn)(void *ctx, const struct tg_artifact_row *a);
/* Inserts, or replaces the row of that id, whose created_us stays (written back). level is derived from the parent (written back). Those below a row that is moved move with it. *created; *parent false: there is
 * no such parent, or it is the row itself or below it, or the tree would be deeper than TG_ARTIFACT_LEVEL_MAX, and nothing was done. */
enum tg_db_result tg_artifacts_put(struct tg_db *db, struct tg_artifact_row *a, bool *created, bool *parent, struct tg_err *err);
enum tg_db_result tg_artifacts_get(struct tg_db *db, const char *id, tg_artifact_row_fn row, void *ctx, bool *found, struct tg_err *err);
enum tg_db_result tg_artifacts_list(struct tg_db *db, uint64_t skip, uint64_t most, tg_artifact_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_artifacts_children(struct tg_db *db, const char *id, tg_artifact_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_artifacts_children_ids(struct tg_db *db, const char *id, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err); /* the same without what they hold */
/* Roots whose data is an object with that config_id: the models that were trained with it. In the order of their making. */
enum tg_db_result tg_artifacts_of_config(struct tg_db *db, const char *config_id, uint64_t skip, uint64_t most, tg_artifact_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_artifacts_count_of_config(struct tg_db *db, const char *config_id, uint64_t *n, struct tg_err *err);
/* The configuration that the artifact's data names, or its parent's, and so on upwards. *found false: there is no such artifact; id "": none of them names one. */
enum tg_db_result tg_artifacts_config(struct tg_db *db, const char *id, char config_id[TG_ULID_LEN + 1], bool *found, struct tg_err *err);
enum tg_db_result tg_artifacts_count(struct tg_db *db, uint64_t *n, struct tg_err *err);
/* Its children stay, as roots of their own with the level they had (as the origin does). */
enum tg_db_result tg_artifacts_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err);
