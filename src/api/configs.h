#pragma once
/* A configuration as callers see it, for other handlers' answers. */
#include "store/configs.h"

void tg_put_config(struct tg_buf *b, const struct tg_config_row *c);
