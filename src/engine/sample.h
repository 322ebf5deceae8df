#pragma once
/*
 * Which rows train, which measure, which are left out: by chance, but by the seed's chance, so that the same plan draws the same rows on any machine. The generator is that of base/id.h
 * (xoshiro256**), its state spread from the seed by splitmix64; nothing of the process or of time is in it.
 */
#include "base/id.h"
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* stream: what it is for; each use of one seed has a sequence of its own. */
enum { TG_STREAM_SPLIT, TG_STREAM_FOLDS, TG_STREAM_UNDERSAMPLE, TG_STREAM_FOLD_UNDERSAMPLE /* and one more a fold */ };
struct tg_rng tg_seeded(uint32_t seed, uint32_t stream);
uint32_t tg_below(struct tg_rng *r, uint32_t n); /* 0 to n - 1, each as likely; n > 0 */

/*
 * part[rows]: what becomes of each row. y: NULL (regression), or 0 and 1, and then each class gets its share of every part (stratified).
 */
/* part[i] is 1 for the share that is held back: to the nearest row, but at least one (of each class) and never all. */
bool tg_sample_split(const uint8_t *y, uint32_t rows, double share, uint32_t seed, uint8_t *part);
/* part[i] is the fold of row i, 0 to folds - 1; their sizes differ by one at most, and so does each class's share of them. */
bool tg_sample_folds(const uint8_t *y, uint32_t rows, unsigned folds, uint32_t seed, uint8_t *part);
/* rows[n], ascending: thinned until both classes are of one size, in place; the new n. 0: no memory. */
size_t tg_sample_even(const uint8_t *y, uint32_t *rows, size_t n, struct tg_rng *r);
