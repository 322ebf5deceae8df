#pragma once
/*
 * Sessions: which worker a session's requests go to, so that what a worker remembers of it (its prompt cache, or the conversation itself) is used. Bound while
 * that process lives: a worker that was started again, or was down, has forgotten. One table a model, of bounded size: past it the session of its set that was
 * used least recently is forgotten. Any thread; counted, survives a reload.
 */
#include "pool/model.h"

#define TG_SESSIONS_MAX 16384

struct tg_sessions *tg_sessions_new(void); /* its memory is taken with the first session */
struct tg_sessions *tg_sessions_get(struct tg_sessions *s);
void tg_sessions_put(struct tg_sessions *s);
/* The worker of a session, NULL: none yet, or it does not live any more. key: any well-mixed 64 bits but 0. */
struct tg_worker *tg_sessions_find(struct tg_sessions *s, const struct tg_model *m, uint64_t key);
void tg_sessions_bind(struct tg_sessions *s, uint64_t key, const struct tg_worker *w);
