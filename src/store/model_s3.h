#pragma once
/* Models in a bucket: objects <prefix><id>.tgm and <prefix><id>.json, the latter written last, so that a pair is whole or not there. Blocking, as store/s3.h. */
#include "store/s3.h"

#define TG_S3_PART (16u << 20) /* bytes: a larger file goes in parts of this size (or larger ones, where there would be too many) */

/* The file from its beginning; what the store says of it (ETag) must be what was sent. In parts where it is large: none is left behind where that fails. */
enum tg_s3_result tg_model_s3_put(struct tg_s3 *s, const char *key, int fd, uint64_t size, struct tg_err *err);
/* Ids that have both objects below `prefix`, in order. ms: for all of it; what takes longer is REFUSED. row returns false: enough. */
enum tg_s3_result tg_model_s3_list(struct tg_s3 *s, const char *prefix, unsigned ms, bool (*row)(void *ctx, const char *id), void *ctx, struct tg_err *err);
