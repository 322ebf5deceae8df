#pragma once
/* A body read in one piece, byte by byte or in pieces drawn by chance: whatever the cuts, the outcome is one. Pieces lie in memory of their own size, so that a look past one is seen. */
#include "engine/frame.h"
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>

#include <cmocka.h>

struct outcome {
	bool ok;
	struct tg_frame *frame;
	char *members, hash[65];
	struct tg_intake_fault fault;
};

static uint64_t rng = 88172645463325252u;
static inline uint64_t draw(uint64_t n)
{
	rng ^= rng << 13;
	rng ^= rng >> 7;
	rng ^= rng << 17;
	return rng % n;
}

/* most: bytes of a piece at most, drawn where it is more than 1; 0: one piece. */
static inline struct outcome read_body(enum tg_intake_kind kind, struct tg_slice body, size_t most, uint64_t max_bytes)
{
	struct outcome o = { .ok = true };
	struct tg_frame_reader *r = tg_frame_reader_new(kind, max_bytes);
	struct tg_slice members;
	assert_non_null(r);
	for (size_t i = 0, k; o.ok && i < body.n; i += k) {
		k = !most ? body.n : most == 1 ? 1 : 1 + draw(most);
		if (k > body.n - i)
			k = body.n - i;
		char *piece = malloc(k);
		memcpy(piece, body.p + i, k);
		o.ok = tg_frame_reader_feed(r, piece, k, &o.fault);
		free(piece);
	}
	if (o.ok) {
		o.ok = tg_frame_reader_end(r, &o.frame, &members, o.hash, &o.fault);
		o.members = o.ok ? tg_slice_dup(members) : NULL;
	}
	struct tg_intake_fault again;
	if (!o.ok) { /* it stays as it is */
		assert_false(tg_frame_reader_feed(r, "x", 1, &again));
		assert_string_equal(again.why, o.fault.why);
		assert_null(o.frame);
		assert_true(o.fault.why[0] && !o.fault.memory);
	}
	tg_frame_reader_free(r);
	return o;
}

static inline void outcome_free(struct outcome *o)
{
	tg_frame_free(o->frame);
	free(o->members);
}

static inline void same_frame(const struct tg_frame *a, const struct tg_frame *b)
{
	assert_int_equal(a->rows, b->rows);
	assert_int_equal(a->ncolumns, b->ncolumns);
	for (unsigned i = 0; i < a->ncolumns; i++) {
		const struct tg_column *x = &a->columns[i], *y = &b->columns[i];
		assert_string_equal(x->name, y->name);
		assert_int_equal(x->type, y->type);
		assert_int_equal(x->integers, y->integers);
		assert_int_equal(x->nulls, y->nulls);
		assert_int_equal(x->nwords, y->nwords);
		for (uint32_t w = 0; w < x->nwords; w++)
			assert_true(tg_slice_eq(x->words[w], y->words[w]));
		if (x->type == TG_COLUMN_NUMBER)
			assert_memory_equal(x->number, y->number, (size_t)a->rows * sizeof(double));
		if (x->type == TG_COLUMN_TEXT)
			assert_memory_equal(x->word, y->word, (size_t)a->rows * sizeof(uint32_t));
	}
	assert_int_equal(a->ends == NULL, b->ends == NULL);
	for (uint64_t r = 0; a->ends && r < a->rows; r++)
		assert_true(tg_slice_eq(tg_frame_line(a, r), tg_frame_line(b, r)));
}

static inline void same_outcome(const struct outcome *a, const struct outcome *b)
{
	assert_int_equal(a->ok, b->ok);
	assert_string_equal(a->fault.field, b->fault.field);
	assert_string_equal(a->fault.why, b->fault.why);
	assert_int_equal(a->fault.too_large, b->fault.too_large);
	assert_string_equal(a->hash, b->hash);
	assert_int_equal(a->frame == NULL, b->frame == NULL);
	if (a->ok)
		assert_string_equal(a->members, b->members);
	if (a->frame)
		same_frame(a->frame, b->frame);
}

/* In every way; the outcome is the caller's. */
static inline struct outcome read_all_ways(enum tg_intake_kind kind, struct tg_slice body)
{
	struct outcome whole = read_body(kind, body, 0, 1u << 24);
	static const size_t most[] = { 1, 3, 17 };
	for (size_t i = 0; i < 3; i++) {
		struct outcome o = read_body(kind, body, most[i], 1u << 24);
		same_outcome(&whole, &o);
		outcome_free(&o);
	}
	return whole;
}
