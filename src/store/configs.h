#pragma once
/*
 * Configurations of trainings (document 003, /api/v1/configs) in the database: the statements. For use inside tg_store_record (writes) or tg_store_read. Times: microseconds since the
 * epoch. Ids: ULIDs in upper case, checked by the caller.
 */
#include "base/id.h"
#include "store/db.h"

#define TG_CONFIG_NAME_MAX 200         /* characters */
#define TG_CONFIG_DATA_MAX (1u << 20)  /* bytes of `data` as JSON text */

struct tg_config_row {
	const char *id, *name;
	const char *data; /* JSON text of an object */
	int64_t created_us, updated_us;
};
typedef bool (*tg_config_row_fn)(void *ctx, const struct tg_config_row *c); /* the row lives until it returns; false: enough */
/* Inserts, or replaces the row of that id, whose created_us stays and is written back to c. *created: it was inserted. */
enum tg_db_result tg_configs_put(struct tg_db *db, struct tg_config_row *c, bool *created, struct tg_err *err);
enum tg_db_result tg_configs_update(struct tg_db *db, struct tg_config_row *c, bool *found, struct tg_err *err); /* only what is there; created_us is written back */
enum tg_db_result tg_configs_get(struct tg_db *db, const char *id, tg_config_row_fn row, void *ctx, bool *found, struct tg_err *err);
enum tg_db_result tg_configs_list(struct tg_db *db, uint64_t skip, uint64_t most, tg_config_row_fn row, void *ctx, struct tg_err *err); /* in the order of their making */
enum tg_db_result tg_configs_count(struct tg_db *db, uint64_t *n, struct tg_err *err);
enum tg_db_result tg_configs_delete(struct tg_db *db, const char *id, bool *found, struct tg_err *err); /* models trained with it stay */
