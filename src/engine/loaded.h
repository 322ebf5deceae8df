#pragma once
/*
 * Models in memory, by the SHA-256 of their files: the ones used last stay, bounded by number and by bytes. Any thread.
 */
#include "engine/learn.h"

#define TG_LOADED_MAX 16
#define TG_LOADED_BYTES (1ull << 30) /* of their files; a larger one is kept while it is used */

struct tg_loaded_models;
struct tg_loaded;
struct tg_loaded_models *tg_loaded_new(int folder); /* NULL: no memory */
void tg_loaded_free(struct tg_loaded_models *all);  /* nobody uses one */
/* The model of that file, whose content must have that digest. *fresh: it was not in memory. NULL: err, one sentence: it is missing, another one, damaged. */
struct tg_loaded *tg_loaded_get(struct tg_loaded_models *all, const char *name, const char *sha256, bool *fresh, struct tg_err *err);
void tg_loaded_put(struct tg_loaded_models *all, struct tg_loaded *one);
const struct tg_trained *tg_loaded_model(const struct tg_loaded *one);
/* tg_predict, for one caller of a model at a time: XGBoost does not promise that its predictor may be called by several. */
bool tg_loaded_predict(struct tg_loaded *one, const struct tg_frame *f, double *out, struct tg_err *err);
