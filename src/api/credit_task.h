#pragma once
/* What /train and /predict share: one request whose body the engine has taken in, worked on aside (gate/aside.h), and the answers to whatever hinders it. */
#include "api/credit_body.h"
#include "api/ml.h"
#include "gate/aside.h"
#include "jobs/runner.h"

enum tg_credit_end {
	TG_CREDIT_BROKEN,  /* the engine's answer was none */
	TG_CREDIT_DONE,
	TG_CREDIT_FAULT,   /* fault */
	TG_CREDIT_NO_MODEL, /* named */
	TG_CREDIT_REFUSED, /* the model's file is not what was saved */
	TG_CREDIT_AWAY,    /* the model store does not answer */
	TG_CREDIT_LOST,    /* the engine ended, or is not ready */
	TG_CREDIT_BUSY,    /* it has too much to do */
	TG_CREDIT_NO_ROOM, /* it has no room for the data */
	TG_CREDIT_NO_SPOOL, /* it cannot write the data, room or not */
	TG_CREDIT_STORE,   /* r, err */
	TG_CREDIT_FULL,    /* too many jobs wait */
	TG_CREDIT_KEY_FULL, /* too many of this key do */
	TG_CREDIT_MEMORY,
};
struct tg_credit_task {
	struct tg_aside aside; /* first: callbacks cast */
	struct tg_gate *gate;
	enum tg_credit_end end;
	enum tg_db_result r;
	struct tg_err err;
	struct tg_fields_fault fault;
	char named[257];                 /* the model that the body names */
	char id[TG_ULID_LEN + 1];        /* of its files in the spool */
	bool settled;                    /* the files are a job's now, or gone; else they go with the record */
	struct tg_buf answer;            /* the engine's to the body, owned */
	json_t *tree;                    /* that, owned */
	struct tg_shared_config *config; /* a count */
	char principal[24], prefix[TG_KEY_PREFIX_MAX + 1], label[TG_KEY_LABEL_MAX + 1];
	char *rid;                       /* owned */
	struct tg_use *use;              /* whose account it is on; NULL: nobody's */
	struct tg_buf out;               /* the answer's body */
};

/* In `taken`: a zeroed record of that size which begins with a struct tg_credit_task; x->collected is its own. free: of what the handler added, then tg_credit_free. NULL: no memory, *answered. */
struct tg_credit_task *tg_credit_new(struct tg_exchange *x, const struct tg_upload_conf *conf, size_t size, enum tg_step *answered);
void tg_credit_free(struct tg_credit_task *t); /* the record too */
enum tg_step tg_credit_hindered(struct tg_credit_task *t, struct tg_exchange *x); /* the answer where `end` is not DONE */

/* ---- for run, on a thread of the pool ---- */
bool tg_credit_ends(struct tg_credit_task *t, enum tg_credit_end end); /* sets it; false */
bool tg_credit_faulty(struct tg_credit_task *t, const char *field, const char *why);
/* Reads the engine's answer to the body: t->tree, with an object `members`. */
bool tg_credit_tree(struct tg_credit_task *t);
/* POSTs to the engine. *answer: its last line, the caller's. False: t->end is set. */
bool tg_credit_engine(struct tg_credit_task *t, const char *path, const json_t *request, uint16_t *status, json_t **answer);
/* The log's ml_operation and the account, for what was done with that model. */
void tg_credit_tell(struct tg_credit_task *t, bool predicts, uint64_t rows, const char *model);
