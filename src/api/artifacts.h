#pragma once
/* An artifact as callers see it, for other handlers' answers. */
#include "store/artifacts.h"

void tg_put_artifact(struct tg_buf *b, const struct tg_artifact_row *a);
