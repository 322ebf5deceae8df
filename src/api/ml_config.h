#pragma once
/* A configuration's data against tables/ml_config.def. */
#include "api/fields.h"

/* False: *f names the member ("data.test_size") and what it must be. */
bool tg_ml_config_check(const json_t *data, struct tg_fields_fault *f);
void tg_ml_config_schema(struct tg_buf *b); /* JSON Schema 2020-12 of it */
