#pragma once
/* What a model is in memory, and its bytes. For the files of learning; others see learn.h. */
#include "engine/fit.h"

/* A class of a target: the value as the frame had it. */
struct tg_label {
	enum { TG_LABEL_NONE, TG_LABEL_NUMBER, TG_LABEL_WHOLE, TG_LABEL_TEXT } kind;
	double number;
	struct tg_slice text; /* its own memory */
};
struct tg_trained {
	struct tg_fit fit;
	char *target;
	struct tg_label label[2]; /* classes: what 0 and 1 stand for */
	double threshold;         /* classes: from which probability on a row is taken for class 1 */
	uint64_t rows;            /* it was trained with */
	uint32_t seed;
};
json_t *tg_label_json(const struct tg_label *l); /* new reference */

/* The target of a training, as numbers and, for classes, as 0 and 1. */
struct tg_target {
	const char *name;
	double *y;              /* [rows]; linear regression: a null counts as 0 */
	uint8_t *class;         /* [rows]; NULL: regression */
	uint64_t count[2];      /* rows of each class */
	struct tg_label label[2];
};
/* What a target is for where nobody has said it: a classification, unless it has numbers of more than two values. */
bool tg_target_is_classes(const struct tg_column *c, uint64_t rows);
/* False: err is a sentence. The caller's to free in both cases. */
bool tg_target_learn(struct tg_target *t, enum tg_method method, bool classes, const struct tg_column *c, uint64_t rows, struct tg_err *err);
void tg_target_free(struct tg_target *t);

#define TG_MODEL_BYTES_MAX (64u << 20)
/* The whole file, from memory. NULL: refused; err is a sentence. */
struct tg_trained *tg_trained_parse(const void *p, size_t n, struct tg_err *err);
