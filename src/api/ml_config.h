#pragma once
/* A configuration's data against tables/ml_config.def. */
#include "api/fields.h"

/* False: *f names the member ("data.test_size") and what it must be. */
bool tg_ml_config_check(const json_t *data, struct tg_fields_fault *f);
/* Whether a method (NULL: the default) can do a task (NULL: any); else *f says why, under `field`. */
bool tg_ml_task_check(const char *method, const char *task, const char *field, struct tg_fields_fault *f);
void tg_ml_config_schema(struct tg_buf *b); /* JSON Schema 2020-12 of it */
