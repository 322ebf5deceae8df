#pragma once
/* Whether a training or a prediction can be done as it was asked for: the configuration, the frame's columns (docs/engine.md, answer of an intake) and the model held against each other. Pure; jansson trees. */
#include "api/fields.h"

/* The place of a column in a frame's `columns`; -1: none of that name. */
int tg_ml_column(const json_t *columns, const char *name);
/*
 * What is to be trained: config's data may have method, task, target, features, seed, test_size, cv_folds, undersample; anything else in it is its owner's. Without them: the last column, all others, and
 * linear_regression. New reference: {method, task (null: by the target), target, features (null: all others), seed, test_size, cv_folds, undersample}. NULL: fault (field "config.data.features[1]", "data.columns[2]"), or no memory (field "").
 */
json_t *tg_ml_plan(const json_t *config, const json_t *frame, struct tg_fields_fault *fault);
/*
 * Whether the frame has what the model was trained with; about: of the model's metadata; where: what the frame is called in the body ("future", "data"; "applications" has no columns of the caller's). Of document 004's a feature C_V that is
 * missing and was 0 or 1 in training may be a column C of texts, of which it says whether the text is V: the engine sees to that.
 */
bool tg_ml_fits(const json_t *about, const json_t *frame, const char *where, struct tg_fields_fault *fault);
