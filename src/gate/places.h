#pragma once
/*
 * Uploads that are on their way to the engine at the same time, counted for each key or user and for all. The engine gives each connection a thread and has a bound of them (TG_CONNECTIONS_MAX in
 * engine/serve.h, 256): half of them are left to the runner and to who asks whether it lives, and of the others half is the most for one. So nobody keeps others out with bodies that never end.
 * Any thread.
 */
#include <stdbool.h>
#include <uv.h>

#define TG_UPLOADS_MAX 128
#define TG_UPLOADS_OF_ONE 64
#define TG_UPLOADS_NAME 24 /* a principal's id with its NUL */

enum tg_place_taken { TG_PLACE_TAKEN, TG_PLACE_OF_ONE, TG_PLACE_OF_ALL }; /* or whose bound is met */
struct tg_places {
	uv_mutex_t lock;
	unsigned all;
	struct {
		char name[TG_UPLOADS_NAME];
		unsigned n;         /* 0: free */
	} of[TG_UPLOADS_MAX];
};
void tg_places_init(struct tg_places *p);
void tg_places_free(struct tg_places *p);
enum tg_place_taken tg_places_take(struct tg_places *p, const char *name);
void tg_places_leave(struct tg_places *p, const char *name); /* once for each that was taken */
