/*
 * Counting (see use.h). The day is written into its cell by whoever counts first in it; that the cell still holds something of two days before then can only be where nobody took it for a day, a
 * suspended machine, and is counted all the same, as the newer day's.
 */
#include "policy/use.h"
#include <stdio.h>
#include <stdlib.h>

static struct tg_tally *tally_of(struct tg_use *u)
{
	struct tg_tally *t = atomic_load_explicit(&u->tally, memory_order_acquire);
	if (t)
		return t;
	struct tg_tally *made = aligned_alloc(_Alignof(struct tg_tally), sizeof *made), *other = NULL;
	if (!made)
		return NULL;
	for (unsigned i = 0; i < 2; i++) {
		atomic_init(&made->cell[i].day, 0);
		for (unsigned k = 0; k < TG_COUNTS_N; k++)
			atomic_init(&made->cell[i].count[k], 0);
	}
	if (atomic_compare_exchange_strong_explicit(&u->tally, &other, made, memory_order_acq_rel, memory_order_acquire))
		return made;
	free(made); /* another loop was first */
	return other;
}

void tg_use_add(struct tg_use *u, uint64_t wall_us, const struct tg_counts *c)
{
	struct tg_tally *t = tally_of(u);
	if (!t)
		return;
	uint64_t day = wall_us / TG_DAY_US;
	struct tg_tally_cell *cell = &t->cell[day & 1];
	if (atomic_load_explicit(&cell->day, memory_order_relaxed) != day)
		atomic_store_explicit(&cell->day, day, memory_order_relaxed);
	for (unsigned i = 0; i < TG_COUNTS_N; i++) {
		uint64_t v = *tg_counts_at((struct tg_counts *)(uintptr_t)c, i);
		if (v)
			atomic_fetch_add_explicit(&cell->count[i], v, memory_order_relaxed);
	}
}

bool tg_use_take(struct tg_use *u, unsigned cell, uint32_t *day, struct tg_counts *out)
{
	struct tg_tally *t = atomic_load_explicit(&u->tally, memory_order_acquire);
	bool any = false;
	if (!t)
		return false;
	*out = (struct tg_counts){ 0 };
	for (unsigned i = 0; i < TG_COUNTS_N; i++) {
		_Atomic uint64_t *at = &t->cell[cell].count[i];
		if (!atomic_load_explicit(at, memory_order_relaxed))
			continue;
		*tg_counts_at(out, i) = atomic_exchange_explicit(at, 0, memory_order_relaxed);
		any = true;
	}
	uint64_t d = atomic_load_explicit(&t->cell[cell].day, memory_order_relaxed);
	*day = d < TG_DAY_MAX ? (uint32_t)d : TG_DAY_MAX;
	return any;
}

void tg_use_free(struct tg_use *u)
{
	free(atomic_load_explicit(&u->tally, memory_order_relaxed));
	atomic_store_explicit(&u->tally, NULL, memory_order_relaxed);
}

/* ---- days ---- */

/* Days from the civil calendar and back, counted in years that begin in March, so that the leap day is a year's last. */
static uint32_t day_of(unsigned y, unsigned m, unsigned d)
{
	y -= m <= 2;
	unsigned in_year = (153 * (m > 2 ? m - 3 : m + 9) + 2) / 5 + d - 1;
	return y * 365 + y / 4 - y / 100 + y / 400 + in_year - 719468u;
}

void tg_day_text(uint32_t day, char out[TG_DAY_TEXT])
{
	uint32_t z = (day < TG_DAY_MAX ? day : TG_DAY_MAX) + 719468u, era = z / 146097, in_era = z % 146097;
	uint32_t year = (in_era - in_era / 1460 + in_era / 36524 - in_era / 146096) / 365, in_year = in_era - (365 * year + year / 4 - year / 100);
	uint32_t m = (5 * in_year + 2) / 153, d = in_year - (153 * m + 2) / 5 + 1;
	m = m < 10 ? m + 3 : m - 9;
	snprintf(out, TG_DAY_TEXT, "%04u-%02u-%02u", (year + era * 400 + (m <= 2)) % 10000u, m % 100u, d % 100u);
}

bool tg_day_parse(const char *text, uint32_t *day)
{
	unsigned v[3] = { 0 };
	char again[TG_DAY_TEXT];
	for (unsigned i = 0; i < TG_DAY_TEXT - 1; i++) {
		bool dash = i == 4 || i == 7;
		if (dash ? text[i] != '-' : text[i] < '0' || text[i] > '9')
			return false;
		if (!dash)
			v[i > 4 ? i > 7 ? 2 : 1 : 0] = v[i > 4 ? i > 7 ? 2 : 1 : 0] * 10 + (unsigned)(text[i] - '0');
	}
	if (text[TG_DAY_TEXT - 1] || v[0] < 1970 || !v[1] || v[1] > 12 || !v[2] || v[2] > 31)
		return false;
	*day = day_of(v[0], v[1], v[2]);
	tg_day_text(*day, again); /* the 31st of June comes back as the 1st of July */
	for (unsigned i = 0; i < TG_DAY_TEXT - 1; i++)
		if (again[i] != text[i])
			return false;
	return true;
}
