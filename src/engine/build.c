/*
 * Columns as they grow (see build.h). All columns have room for the same number of rows, so a cell is one store without a question; what a column was before its first cell that is no null is
 * filled in then. Words are found by a table of the column's own, seeded, so that nobody can choose texts that meet in it.
 */
#include "engine/build.h"
#include "base/hash.h"
#include <math.h>

#define NAME_SLOTS (2 * TG_FRAME_COLUMNS_MAX)
_Static_assert(sizeof(union tg_build_word) == sizeof(struct tg_slice), "words become slices in their place");

struct tg_build *tg_build_new(bool keep, bool lines, uint64_t max_bytes)
{
	struct tg_build *b = calloc(1, sizeof *b);
	if (!b)
		return NULL;
	b->keep = keep;
	b->lines = lines;
	tg_buf_init(&b->names, TG_FRAME_COLUMNS_MAX * (TG_FRAME_NAME_MAX + 1));
	tg_buf_init(&b->text, max_bytes + 16);
	b->name_at = malloc(TG_FRAME_COLUMNS_MAX * sizeof *b->name_at);
	b->name_slots = calloc(NAME_SLOTS, sizeof *b->name_slots);
	if (b->name_at && b->name_slots)
		return b;
	tg_build_free(b);
	return NULL;
}

void tg_build_free(struct tg_build *b)
{
	if (!b)
		return;
	for (unsigned i = 0; i < b->ncolumns; i++) {
		struct tg_build_column *c = &b->columns[i];
		free(c->number);
		free(c->word);
		free(c->words);
		free(c->slots);
		tg_buf_free(&c->text);
	}
	free(b->columns);
	free(b->frame.columns);
	free(b->name_at);
	free(b->name_slots);
	free(b->ends);
	tg_buf_free(&b->names);
	tg_buf_free(&b->text);
	free(b);
}

static void built_free(struct tg_frame *f)
{
	tg_build_free((struct tg_build *)(void *)f->owner);
}

const char *tg_build_name(struct tg_build *b, struct tg_slice name)
{
	if (!name.n)
		return "must not be empty";
	if (name.n > TG_FRAME_NAME_MAX)
		return "is longer than 256 bytes";
	if (memchr(name.p, 0, name.n))
		return "must not hold a NUL";
	if (b->nnames == TG_FRAME_COLUMNS_MAX)
		return "is one more than the 4096 columns that a table may have";
	size_t at = tg_hash(tg_hash_seed(), name.p, name.n) % NAME_SLOTS;
	for (; b->name_slots[at]; at = (at + 1) % NAME_SLOTS)
		if (tg_slice_eq(name, tg_slice_cstr(b->names.p + b->name_at[b->name_slots[at] - 1])))
			return "is the name of a column before it";
	b->name_at[b->nnames] = (uint32_t)b->names.len;
	tg_buf_slice(&b->names, name);
	tg_buf_char(&b->names, 0);
	if (b->names.failed)
		return "finds no memory";
	b->name_slots[at] = (uint16_t)++b->nnames;
	return NULL;
}

const char *tg_build_name_of(const struct tg_build *b, unsigned column)
{
	return column < b->nnames ? b->names.p + b->name_at[column] : NULL;
}

bool tg_build_column(struct tg_build *b)
{
	if (b->ncolumns == b->columns_cap) {
		unsigned cap = b->columns_cap ? 2 * b->columns_cap : 8;
		struct tg_build_column *p = tg_charge(b->charge, (cap - b->columns_cap) * sizeof *p) ? realloc(b->columns, cap * sizeof *p) : NULL;
		if (!p)
			return false;
		b->columns = p;
		b->columns_cap = cap;
	}
	struct tg_build_column *c = &b->columns[b->ncolumns++];
	*c = (struct tg_build_column){ .nulls = b->rows };
	tg_buf_init(&c->text, UINT32_MAX);
	return true;
}

/* array: the address of a pointer. */
static bool grow(void *array, size_t each, uint64_t cap)
{
	void *p, *q;
	memcpy(&p, array, sizeof p);
	q = realloc(p, (size_t)cap * each);
	if (q)
		memcpy(array, &q, sizeof q);
	return q;
}

bool tg_build_row(struct tg_build *b)
{
	if (b->rows < b->cap || (!b->keep && !b->lines))
		return true;
	uint64_t cap = b->cap < 4 ? b->cap + 1 : b->cap + b->cap / 2, each = b->lines ? sizeof *b->ends : 0;
	for (unsigned i = 0; b->keep && i < b->ncolumns; i++)
		each += b->columns[i].number ? sizeof(double) : b->columns[i].word ? sizeof(uint32_t) : 0;
	if (!tg_charge(b->charge, (cap - b->cap) * each))
		return false;
	for (unsigned i = 0; b->keep && i < b->ncolumns; i++) {
		struct tg_build_column *c = &b->columns[i];
		if ((c->number && !grow(&c->number, sizeof *c->number, cap)) || (c->word && !grow(&c->word, sizeof *c->word, cap)))
			return false;
	}
	if (b->lines && !grow(&b->ends, sizeof *b->ends, cap))
		return false;
	b->cap = cap;
	return true;
}

bool tg_build_row_end(struct tg_build *b)
{
	if (b->lines) {
		if (b->text.failed)
			return false;
		b->ends[b->rows] = b->text.len;
	}
	b->rows++;
	return true;
}

enum tg_put tg_build_first(struct tg_build *b, struct tg_build_column *c, enum tg_column_type type)
{
	if (c->type != TG_COLUMN_EMPTY)
		return TG_PUT_MIXED;
	if (b->keep && !tg_charge(b->charge, b->cap * (type == TG_COLUMN_NUMBER ? sizeof *c->number : sizeof *c->word)))
		return TG_PUT_MEMORY;
	if (b->keep && type == TG_COLUMN_NUMBER) {
		c->number = malloc((size_t)b->cap * sizeof *c->number);
		if (!c->number)
			return TG_PUT_MEMORY;
		for (uint64_t i = 0; i < b->rows; i++)
			c->number[i] = NAN;
	} else if (b->keep) {
		c->word = malloc((size_t)b->cap * sizeof *c->word);
		if (!c->word)
			return TG_PUT_MEMORY;
		for (uint64_t i = 0; i < b->rows; i++)
			c->word[i] = TG_FRAME_NO_WORD;
	}
	c->type = type;
	return TG_PUT_OK;
}

void tg_build_null(struct tg_build *b, unsigned column)
{
	struct tg_build_column *c = &b->columns[column];
	c->nulls++;
	if (c->number)
		c->number[b->rows] = NAN;
	else if (c->word)
		c->word[b->rows] = TG_FRAME_NO_WORD;
}

/* Twice as many slots as words at least. */
static bool more_slots(struct tg_charge *charge, struct tg_build_column *c)
{
	uint32_t n = c->nslots ? 2 * c->nslots : 8, *slots = tg_charge(charge, n * sizeof *slots) ? calloc(n, sizeof *slots) : NULL;
	if (!slots)
		return false;
	for (uint32_t i = 0; i < c->nwords; i++) {
		uint32_t at = c->words[i].is.hash & (n - 1);
		while (slots[at])
			at = (at + 1) & (n - 1);
		slots[at] = i + 1;
	}
	free(c->slots);
	tg_charge_back(charge, c->nslots * sizeof *slots);
	c->slots = slots;
	c->nslots = n;
	return true;
}

enum tg_put tg_build_text(struct tg_build *b, unsigned column, struct tg_slice text)
{
	struct tg_build_column *c = &b->columns[column];
	if (c->type != TG_COLUMN_TEXT) {
		enum tg_put put = tg_build_first(b, c, TG_COLUMN_TEXT);
		if (put != TG_PUT_OK)
			return put;
	}
	if (!b->keep)
		return TG_PUT_OK;
	if (2 * (c->nwords + 1) > c->nslots && !more_slots(b->charge, c))
		return TG_PUT_MEMORY;
	uint32_t hash = (uint32_t)tg_hash(tg_hash_seed(), text.p, text.n), at = hash & (c->nslots - 1);
	for (; c->slots[at]; at = (at + 1) & (c->nslots - 1)) {
		const union tg_build_word *w = &c->words[c->slots[at] - 1];
		if (w->is.hash == hash && w->is.n == text.n && memcmp(c->text.p + w->is.at, text.p, text.n) == 0) {
			c->word[b->rows] = c->slots[at] - 1;
			return TG_PUT_OK;
		}
	}
	if (c->nwords == TG_FRAME_WORDS_MAX || c->text.len + text.n > c->text.max)
		return TG_PUT_WORDS;
	if (c->nwords == c->words_cap) {
		uint32_t cap = c->words_cap < 4 ? c->words_cap + 1 : c->words_cap + c->words_cap / 2;
		if (!tg_charge(b->charge, (cap - c->words_cap) * sizeof *c->words) || !grow(&c->words, sizeof *c->words, cap))
			return TG_PUT_MEMORY;
		c->words_cap = cap;
	}
	c->words[c->nwords].is.at = c->text.len;
	c->words[c->nwords].is.n = (uint32_t)text.n;
	c->words[c->nwords].is.hash = hash;
	size_t had = c->text.cap;
	if (!tg_buf_reserve(&c->text, text.n ? text.n : 1)) /* the empty text, too, is somewhere */
		return TG_PUT_MEMORY;
	if (!tg_charge(b->charge, c->text.cap - had)) /* nothing was written there yet, so it is no memory yet */
		return TG_PUT_MEMORY;
	tg_buf_slice(&c->text, text);
	c->word[b->rows] = c->nwords;
	c->slots[at] = ++c->nwords;
	return TG_PUT_OK;
}

struct tg_frame *tg_build_finish(struct tg_build *b)
{
	struct tg_frame *f = &b->frame;
	f->columns = calloc(b->ncolumns ? b->ncolumns : 1, sizeof *f->columns);
	if (!f->columns || (b->lines && !b->ends && !grow(&b->ends, sizeof *b->ends, 1)) || (b->lines && !tg_buf_reserve(&b->text, 1))) {
		tg_build_free(b);
		return NULL;
	}
	for (unsigned i = 0; i < b->ncolumns; i++) {
		struct tg_build_column *c = &b->columns[i];
		free(c->slots);
		c->slots = NULL;
		for (uint32_t w = 0; w < c->nwords; w++)
			c->words[w].slice = (struct tg_slice){ c->text.p + c->words[w].is.at, c->words[w].is.n };
		f->columns[i] = (struct tg_column){ .name = tg_build_name_of(b, i), .type = c->type, .integers = c->type == TG_COLUMN_NUMBER && !c->fractions, .nulls = c->nulls,
			.number = c->number, .word = c->word, .words = (const struct tg_slice *)c->words, .nwords = c->nwords };
	}
	f->rows = b->rows;
	f->ncolumns = b->ncolumns;
	f->text = b->lines ? b->text.p : NULL;
	f->ends = b->lines ? b->ends : NULL;
	f->owner = &b->owner;
	b->owner.free = built_free;
	return f;
}
