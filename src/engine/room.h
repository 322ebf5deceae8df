#pragma once
/*
 * How much the spool may hold (--spool-bytes), and the disk below it. Who is about to write takes room first and says afterwards what became of it, so that several at once cannot pass the bound together. Thread-safe.
 *
 * Counted is all that lies there; refused is only what is taken in: what a training or a prediction makes of it (a model, a result; of as many jobs as run) is written all the same, since its job was promised.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>

struct tg_room {
	pthread_mutex_t lock;
	int folder;
	uint64_t most;           /* 0: no bound */
	uint64_t there, writing; /* at the last look and written since; under way */
	int64_t looked_ms;       /* monotonic; 0: never */
	int64_t took_ms;         /* that look */
};
void tg_room_init(struct tg_room *r, int folder, uint64_t most);
/* NULL: the room is the caller's until tg_room_done. Else a sentence for why not: try again later. */
const char *tg_room_take(struct tg_room *r, uint64_t bytes);
void tg_room_done(struct tg_room *r, uint64_t bytes, bool written);
/* What is to stay free of a disk of that size. A small one is the spool's own, and all of it may be used. */
uint64_t tg_room_margin(uint64_t disk);
