#pragma once
/*
 * What one key or user holds of what all share: memory of large answers that nobody has taken yet, streams of jobs, and uploads on their way to the engine. The bound of all together (server.max_buffered_bytes, the streams of the process, UPLOADS_MAX of upload.c)
 * keeps the gate whole; this one keeps a single caller from being all of them.
 */
#include <stdbool.h>
#include <stdint.h>
#include <uv.h>

enum tg_share_of { TG_SHARE_ANSWERS /* bytes */, TG_SHARE_STREAMS, TG_SHARE_UPLOADS, TG_SHARE_KINDS };

struct tg_share;
struct tg_shares {
	uv_mutex_t lock;
	struct tg_share *first; /* of those who hold something */
};

void tg_shares_init(struct tg_shares *s);
void tg_shares_free(struct tg_shares *s);
/* Any thread. who: a principal's id. False: with n more it would hold more than `most`, or there is no memory; who holds nothing yet may take more than that at once. */
bool tg_share_take(struct tg_shares *s, const char *who, enum tg_share_of what, uint64_t n, uint64_t most);
void tg_share_give(struct tg_shares *s, const char *who, enum tg_share_of what, uint64_t n); /* exactly what was taken */
