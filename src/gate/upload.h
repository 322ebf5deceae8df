#pragma once
/*
 * A request's body, streamed to the tabular engine (docs/engine.md) as it comes and never held whole: for handlers of routes whose state is UPLOAD (tables/routes.def), whose bodies the receive
 * stage leaves alone. Back-pressure both ways: what the engine does not take is not read from the client (what lies in between is one receive buffer and what the sockets hold).
 *
 * Bounds: [ml] max_body_bytes (413, before reading where Content-Length tells); server.body_idle_ms for a pause of the client (408), of the engine that takes nothing, or that has the whole
 * body and does not answer (504); server.body_ms for the whole body; TG_UPLOAD_READY_MS for the engine to be ready (503); TG_UPLOAD_PLACE_MS for a
 * place (gate/places.h): 429 where the key has all it may, 503 where all are taken; TG_UPLOAD_ANSWER_MAX for its answer, counted against server.max_buffered_bytes (503)
 * where it is more than an ordinary table's.
 * An answer that the engine gives in the middle of the body (a fault in a row) goes to the client at once; what that still sends is dropped by the lingering close. A client that leaves closes the
 * engine's connection, and with it what the engine has written so far goes. (While it is held back that is seen when its last byte has arrived; what its own socket still holds hides its end, and body_idle_ms ends it.)
 */
#include "gate/exchange.h"
#include <jansson.h>

#define TG_UPLOAD_READY_MS 20000
#define TG_UPLOAD_PLACE_MS 5000
#define TG_UPLOAD_ANSWER_MAX (8u << 20)     /* 4096 names of 256 bytes, each byte of them escaped */
#define TG_UPLOAD_ANSWER_ORDINARY (64u << 10) /* not counted */

/* What a body must be by its Content-Type, and nothing else. */
enum tg_upload_type {
	TG_UPLOAD_JSON,
	TG_UPLOAD_CSV,
	TG_UPLOAD_FORM,              /* multipart/form-data: its boundary goes to the engine, which alone looks into it */
};
struct tg_upload_conf {
	const char *kind;            /* of docs/engine.md's POST /intake/KIND/ID; lives on */
	char id[TG_ULID_LEN + 1];
	enum tg_upload_type type;
};

/* The engine's answer of status 200, on the exchange's loop: what a handler does and returns. `body` lies in x->collected, which is the callee's to take over; the request's own body is read to its end.
 * Other answers (the body is at fault, the engine is) have been given to the client already, and this is not called. */
typedef enum tg_step (*tg_upload_done)(struct tg_exchange *x, const struct tg_upload_conf *conf, struct tg_slice body);

/* From a handler: what it returns. */
enum tg_step tg_upload_start(struct tg_exchange *x, const struct tg_upload_conf *conf, tg_upload_done done);

/* 503: the engine has no room for more data ([ml] spool_bytes, or its disk's). */
enum tg_step tg_spool_full(struct tg_exchange *x);
/* Of the engine's 500: whether it could not write the spool, for another reason than room; then that is logged, with its sentence. */
bool tg_spool_is_away(const json_t *answer);
enum tg_step tg_spool_away(struct tg_exchange *x);

/* ---- for receive.c ---- */
/* As tg_receive_feed. WAIT: look whether x->intake is still there; ANSWERED. */
enum tg_step tg_upload_feed(struct tg_exchange *x, char *p, size_t n, size_t *used);
