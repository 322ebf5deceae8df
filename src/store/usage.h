#pragma once
/* What was used, in the database: a row for each principal and day (migrations/0003_usage.sql). All for use inside tg_store_read and the store's own transactions. */
#include "store/db.h"
#include "store/uses.h"

enum tg_db_result tg_usage_add(struct tg_db *db, const struct tg_owed *o, struct tg_err *err); /* to what is there already, and who it is */
/* Days before `first`, and who has no day left. */
enum tg_db_result tg_usage_forget(struct tg_db *db, uint32_t first, struct tg_err *err);

struct tg_usage_row {
	uint32_t day;          /* of a list by day */
	const char *principal, *name, *source, *prefix, *label; /* of a list by principal; "": not known, or there is none */
	struct tg_counts counts;
};
struct tg_usage_range {
	uint32_t from, to;     /* days, both included */
	const char *principal; /* "": all */
};
typedef bool (*tg_usage_row_fn)(void *ctx, const struct tg_usage_row *r); /* false: enough */
/* A row a principal, by id, behind `after`. */
enum tg_db_result tg_usage_by_principal(struct tg_db *db, const struct tg_usage_range *range, const char *after, unsigned most, tg_usage_row_fn row, void *ctx, struct tg_err *err);
/* A row a day, from day `start` on. */
enum tg_db_result tg_usage_by_day(struct tg_db *db, const struct tg_usage_range *range, uint32_t start, unsigned most, tg_usage_row_fn row, void *ctx, struct tg_err *err);
enum tg_db_result tg_usage_total(struct tg_db *db, const struct tg_usage_range *range, struct tg_counts *out, struct tg_err *err);

/* ?from, ?to, as text; NULL: not given. The default is the thirty days that end today. False: *field is the one at fault, *why a sentence. */
bool tg_usage_range_parse(const char *from, const char *to, uint32_t today, struct tg_usage_range *out, const char **field, const char **why);
/* The members of a row's counts, as JSON without braces: "requests":1, ... "cost":0.25. */
void tg_usage_counts_json(struct tg_buf *b, const struct tg_counts *c);
/* "principal", "name", "source", "key_prefix", "label" of a row the same way, or its "day". */
void tg_usage_who_json(struct tg_buf *b, const struct tg_usage_row *r);
