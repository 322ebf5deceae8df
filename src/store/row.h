#pragma once
/* What a column of a row holds, for the repositories: NULL and 0 where it is null or of another kind than the schema says. */
#include "store/db.h"

static inline const char *tg_row_text(const struct tg_db_value *v)
{
	return v->kind == TG_DB_TEXT ? v->s.p : NULL;
}
static inline const char *tg_row_text_or_empty(const struct tg_db_value *v)
{
	return v->kind == TG_DB_TEXT ? v->s.p : "";
}
static inline int64_t tg_row_int(const struct tg_db_value *v)
{
	return v->kind == TG_DB_INT ? v->i : 0;
}
static inline struct tg_db_value tg_text_or_null(const char *text)
{
	return text ? TG_DB_T(text) : TG_DB_N;
}
static inline struct tg_db_value tg_int_or_null(int64_t v)
{
	return v ? TG_DB_I(v) : TG_DB_N;
}
/* For a query of one number. */
static inline bool tg_row_one_int(void *ctx, const struct tg_db_value *v, unsigned n)
{
	*(int64_t *)ctx = n ? tg_row_int(&v[0]) : 0;
	return false;
}
/* SQL's LIMIT and OFFSET are signed. */
static inline struct tg_db_value tg_row_count(uint64_t n)
{
	return TG_DB_I(n < INT64_MAX ? n : INT64_MAX);
}
