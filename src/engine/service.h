#pragma once
/*
 * What the engine's connections share, and the endpoints (docs/engine.md), one function each: they are called with the request's head read, read its body, answer, and return; the connection goes on
 * or ends by h->close. Any thread.
 */
#include "base/err.h"
#include "engine/charge.h"
#include "engine/http.h"
#include "engine/room.h"
#include "engine/zygote.h"
#include <jansson.h>
#include <semaphore.h>
#include <stdatomic.h>

#define TG_REQUEST_MAX (4u << 20)      /* bytes of a JSON body: thousands of features by name */
#define TG_DATASET_MAX (4ull << 30)    /* bytes of a file of the folder of data sets */

struct tg_loaded_models;
struct tg_service {
	int spool, models, datasets;   /* folders; datasets -1: there is none */
	unsigned threads;              /* of one training */
	struct tg_zygote zygote;
	struct tg_loaded_models *loaded;
	sem_t predictions;             /* how many may still begin */
	struct tg_room room;           /* in the spool */
	struct tg_charges charges;     /* memory of what is being taken in */
};
void tg_serve_intake(struct tg_service *s, struct tg_http *h, struct tg_slice kind, struct tg_slice id);
void tg_serve_dataset(struct tg_service *s, struct tg_http *h, struct tg_slice id);
void tg_serve_train(struct tg_service *s, struct tg_http *h);
void tg_serve_predict(struct tg_service *s, struct tg_http *h);
void tg_serve_forget(struct tg_service *s, struct tg_http *h);

/* train.c's part in a child of the zygote; ctx: struct tg_service. */
void tg_train_job(void *ctx, int in, int out);

/* service.c, for the endpoints. */
/* The whole body as a JSON object, a new reference. NULL: it has been answered, or the client is gone. */
json_t *tg_service_json(struct tg_http *h);
/* A line on stderr, with whose key it is done for where that is known. text: no line's end in it. */
__attribute__((format(printf, 2, 3))) void tg_service_log(const struct tg_http *h, const char *text, ...);
/* {"error":...} */
void tg_service_error(struct tg_http *h, int status, const char *why);
/* Members of the gate's JSON; NULL: it has been answered with 400. job: an id, name: a file's name. */
const char *tg_service_id(struct tg_http *h, const json_t *body, const char *member);
const char *tg_service_name(struct tg_http *h, const json_t *body, const char *member);
/* The client has closed its end: what is done for it can end. */
bool tg_service_gone(const struct tg_http *h);
/* A line of the answer: {"error":...}. */
void tg_service_error_line(struct tg_buf *b, const char *member, const char *why);
