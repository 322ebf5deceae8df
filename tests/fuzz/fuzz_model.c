/*
 * A model's file from memory. First byte even: the rest is the file. Odd: the rest is a body (of version 2 where 2 is in the byte), and the head is made to fit, so that what is behind the digest is
 * reached. What is accepted tells of
 * itself, and predicts for a frame of its own columns: finite numbers, or a sentence.
 */
#include "engine/model.h"
#include <math.h>
#include <sodium.h>
#include <stdlib.h>

#define HEAD 48
#define ROWS 4

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static void predict(const struct tg_trained *m)
{
	static double number[ROWS] = { 1.5, NAN, -1e300, 0 };
	static uint32_t word[ROWS] = { 0, 1, TG_FRAME_NO_WORD, 0 };
	static const struct tg_slice unknown = { "unknown", 7 };
	const struct tg_recipe *r = &m->fit.recipe;
	struct tg_slice(*words)[2] = calloc(r->nfeatures, sizeof *words);
	struct tg_column *c = calloc(r->nfeatures, sizeof *c);
	struct tg_frame f = { .rows = ROWS, .ncolumns = r->nfeatures, .columns = c };
	must(words && c);
	for (unsigned i = 0; i < r->nfeatures; i++) {
		const struct tg_feature *x = &r->features[i];
		words[i][0] = x->width && x->values ? x->values[x->width - 1] : unknown;
		words[i][1] = unknown;
		c[i] = (struct tg_column){ .name = x->name, .type = x->type, .number = number, .word = word, .words = words[i], .nwords = 2 };
	}
	double out[ROWS];
	struct tg_err err = { "" };
	if (tg_predict(m, &f, out, &err)) {
		for (int i = 0; i < ROWS; i++)
			must(isfinite(out[i]) && (!tg_trained_classifies(m) || (out[i] >= 0 && out[i] <= 1)));
	} else {
		must(err.text[0] != 0);
	}
	free(words);
	free(c);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size)
		return 0;
	bool body = data[0] & 1;
	size_t n = size - 1 + (body ? HEAD : 0);
	unsigned char *p = malloc(n ? n : 1);
	must(p != NULL);
	memcpy(p + (body ? HEAD : 0), data + 1, size - 1);
	if (body) {
		uint64_t length = size - 1;
		memcpy(p, data[0] & 2 ? "TGMODEL2" : "TGMODEL1", 8);
		memcpy(p + 8, &length, sizeof length);
		crypto_hash_sha256(p + 16, p + HEAD, size - 1);
	}
	struct tg_err err = { "" };
	struct tg_trained *m = tg_trained_parse(p, n, &err);
	free(p);
	if (m) {
		json_t *about = tg_trained_about(m);
		json_decref(about);
		predict(m);
	} else {
		must(err.text[0] != 0);
	}
	tg_trained_free(m);
	return 0;
}
