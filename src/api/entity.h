#pragma once
/*
 * What the handlers of configurations, artifacts and jobs share: one request, one look at the body, one transaction, one answer. Everything but the answer is done on the job pool (gate/job.h), so that
 * neither SQL nor a body of 32 MiB holds up a loop.
 */
#include "api/fields.h"
#include "api/paging.h"
#include "api/stored.h"

#define TG_ENTITY_ANSWER_MAX (48u << 20) /* bytes of an answer: the largest artifact and what stands around it fit; a list that does not is refused */

struct tg_entity;
struct tg_entity_do {
	size_t size;                                    /* of the handler's struct, which begins with a struct tg_entity */
	bool writes;
	bool kept;                                      /* a read, with no after, whose answer (found and out) is made of the database, the id and the page alone: it is kept (store/kept.h) */
	void (*read)(struct tg_entity *r);              /* on the job pool: the body; may say tg_entity_fault. NULL: there is none */
	tg_store_change work;                           /* on the job pool, its ctx is the record; in a transaction where it writes */
	void (*after)(struct tg_entity *r);             /* on the job pool, when work was OK, outside of the database; may be NULL */
	enum tg_step (*done)(struct tg_entity *r, struct tg_exchange *x); /* on x's loop, when all that was OK: the answer */
	void (*drop)(struct tg_entity *r);              /* frees what the handler added; may be NULL */
};
struct tg_entity {
	struct tg_job job; /* first: callbacks cast */
	const struct tg_entity_do *d;
	enum tg_db_result r;
	struct tg_err err;
	struct tg_fields_fault fault; /* why "": none */
	char *body;                   /* owned; NUL behind its end */
	size_t body_len;
	int64_t now_us;
	char id[TG_ULID_LEN + 1];
	char principal[24];           /* who asks */
	char *rid;                    /* owned: the request's id */
	const struct tg_route *route;
	bool found, created;
	struct tg_paging page;
	uint64_t n, total;            /* items written; of all there are */
	bool marked;
	struct tg_db_mark mark;       /* of the database that was read */
	struct tg_buf out;
};

/* A zeroed record with the request's time. NULL: *answered (503). */
struct tg_entity *tg_entity_new(struct tg_exchange *x, const struct tg_entity_do *d, enum tg_step *answered);
/* Takes the request's body over (application/json, or without a type, as this family's clients send it). False: *answered, and the record is gone. */
bool tg_entity_body(struct tg_exchange *x, struct tg_entity *r, enum tg_step *answered);
/* The id in the path behind `skip` bytes, in upper case. False: *answered (400 "Invalid ULID Format"). */
bool tg_entity_id(struct tg_exchange *x, size_t skip, char id[TG_ULID_LEN + 1], enum tg_step *answered);
enum tg_step tg_entity_start(struct tg_exchange *x, struct tg_entity *r); /* what the handler returns */
/* All of it for a route that has an id in its path (skip > 0), pages (paged), or neither. */
enum tg_step tg_entity_run(struct tg_exchange *x, const struct tg_entity_do *d, size_t skip, bool paged);

/* ---- for read ---- */
/* names: the members a body may have, at most 8, of which those from `ignored` on (what an answer of ours has besides) are not looked at. want: in their order. False: the fault was said. */
bool tg_entity_members(struct tg_entity *r, const char *const *names, unsigned n, unsigned ignored, struct tg_json_want *want);
struct tg_slice tg_entity_value(const struct tg_entity *r, const struct tg_json_want *w);
/* A member that is an id, or absent or null (then *given is false). */
bool tg_entity_ulid(struct tg_entity *r, const struct tg_json_want *w, bool *given, char out[TG_ULID_LEN + 1]);
void tg_entity_fault(struct tg_entity *r, const char *field, const char *why);

/* ---- for done ---- */
enum tg_step tg_entity_none(struct tg_exchange *x, const char *what, const char *id); /* 404 "{what} with id {id} not found" */
enum tg_step tg_entity_answer(struct tg_entity *r, struct tg_exchange *x, uint16_t status, const char *extra); /* r->out; of a list that is too long: 400 */
enum tg_step tg_entity_made(struct tg_entity *r, struct tg_exchange *x, const char *path); /* 201 where it was created, else 200; Location: path and id */
enum tg_step tg_entity_deleted(struct tg_entity *r, struct tg_exchange *x); /* 204, or 404 "Entity with ..." */

/* ---- for after ---- */
void tg_entity_log(const struct tg_entity *r, const char *event); /* what was done to which record, by whom: the access log has the route's template alone */

/* ---- for rows ---- */
void tg_entity_comma(struct tg_entity *r); /* before each item of a list */
void tg_put_times_us(struct tg_buf *b, int64_t created_us, int64_t updated_us); /* ,"created_at":...,"updated_at":... */
