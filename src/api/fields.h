#pragma once
/*
 * The members of a JSON body by a table: what a handler takes, its types and bounds. What is not in the table is a fault, not ignored. Read whole before anything is done.
 */
#include "gate/exchange.h"
#include "policy/key_limits.h"
#include <jansson.h>

enum tg_field_type {
	TG_FIELD_TEXT,     /* struct tg_slice; min and max: characters; without control characters */
	TG_FIELD_PASSWORD, /* struct tg_slice; what policy/password.h takes; its text is never quoted */
	TG_FIELD_INT,      /* int64_t; min and max: its value; null: not given */
	TG_FIELD_BOOL,     /* bool */
	TG_FIELD_PERMS,    /* uint32_t: names of tables/permissions.def */
	TG_FIELD_LIMITS,   /* struct tg_key_limits; null: none */
};
struct tg_field {
	const char *name;
	enum tg_field_type type;
	bool required;
	int64_t min, max;
	size_t offset; /* in the handler's struct */
};

/* The body read into `into`, zeroed before. given: 1 << place in the table. Slices point into *tree, which the caller frees by tg_fields_free. */
struct tg_fields {
	json_t *tree;
	uint32_t given;
};
/* True: read. False: *answered is the answer that was given (400, 415). A missing body is an empty object where nothing is required. */
bool tg_fields_read(struct tg_exchange *x, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, enum tg_step *answered);
void tg_fields_free(struct tg_fields *f); /* wipes what was text */
enum tg_step tg_field_fault(struct tg_exchange *x, const char *field, const char *why); /* 400 "Validation error on {field}: {why}" */
