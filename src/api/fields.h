#pragma once
/*
 * The members of a JSON body by a table: what a handler takes, its types and bounds. What is not in the table is a fault, not ignored. Read whole before anything is done.
 */
#include "gate/exchange.h"
#include "policy/key_limits.h"
#include <jansson.h>

enum tg_field_type {
	TG_FIELD_TEXT,     /* struct tg_slice; min and max: characters; without control characters */
	TG_FIELD_NAME,     /* the same, and nothing that acts on a terminal (base/terminal.h): it is shown to people */
	TG_FIELD_PASSWORD, /* struct tg_slice; what policy/password.h takes; its text is never quoted */
	TG_FIELD_INT,      /* int64_t; min and max: its value */
	TG_FIELD_BOOL,     /* bool */
	TG_FIELD_PERMS,    /* uint32_t: an array of names of tables/permissions.def */
	TG_FIELD_LIMITS,   /* struct tg_key_limits */
};
struct tg_field {
	const char *name;
	enum tg_field_type type;
	bool required; /* else null is as if it were absent */
	int64_t min, max;
	size_t offset; /* in the handler's struct */
};

/* What a handler takes, for the description of the interface (tables/schemas.def): `tg_body_HANDLER`. optional: no member is required, whatever the table says. */
struct tg_body {
	const struct tg_field *fields;
	unsigned n;
	bool optional;
};

#define SCHEMA(handler) extern const struct tg_body tg_body_##handler;
#include "tables/schemas.def"
#undef SCHEMA

/* The body read into the handler's struct, which was zeroed or holds defaults. Slices point into the tree. given: 1 << place in the table. */
struct tg_fields {
	json_t *tree;
	uint32_t given;
};
/* What was wrong. field "": with the body as a whole. Nothing of the body's text is in `why` but names, cut. */
struct tg_fields_fault {
	char field[80], why[512];
};
/* Pure. False: *f is empty. An empty body is an empty object. */
bool tg_fields_parse(struct tg_slice body, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, struct tg_fields_fault *fault);
/* Of an object that base/json_scan.h takes and jansson does not: which member it is, below `where` ("data.a.b"), and why. False: jansson takes it. */
bool tg_fields_blame(struct tg_slice object, const char *where, struct tg_fields_fault *fault);
void tg_fields_free(struct tg_fields *f); /* wipes what was text */

/* The same of a request's body. False: *answered is the answer that was given (400, 415). A missing body will do where nothing is required. */
bool tg_fields_read(struct tg_exchange *x, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, enum tg_step *answered);
enum tg_step tg_field_fault(struct tg_exchange *x, const char *field, const char *why); /* 400 "Validation error on {field}: {why}" */
