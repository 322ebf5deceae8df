#pragma once
/* Columns of a row as C knows them: what is of another kind, or too long for its place, is empty. For the repositories (identity.c, load.c). */
#include "policy/principal.h"
#include "store/db.h"
#include <sodium.h>

static inline const char *tg_col_text(const struct tg_db_value *v, char *room, size_t cap)
{
	size_t n = v->kind == TG_DB_TEXT && v->s.n < cap ? v->s.n : 0;
	if (n)
		memcpy(room, v->s.p, n);
	room[n] = 0;
	return room;
}

static inline int64_t tg_col_int(const struct tg_db_value *v)
{
	return v->kind == TG_DB_INT ? v->i : 0;
}

static inline bool tg_col_digest(const struct tg_db_value *v, uint8_t out[32])
{
	size_t n = 0;
	return v->kind == TG_DB_TEXT && v->s.n == 64 && sodium_hex2bin(out, 32, v->s.p, 64, NULL, &n, NULL) == 0 && n == 32;
}

static inline uint32_t tg_col_perms(const struct tg_db_value *v)
{
	return tg_perms_listed(v->kind == TG_DB_TEXT ? v->s : (struct tg_slice){ 0 });
}
