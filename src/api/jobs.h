#pragma once
/* A job as callers see it, for its stream of changes. */
#include "store/jobs.h"

void tg_put_job(struct tg_buf *b, const struct tg_job_row *j);
