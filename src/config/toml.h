#pragma once
/*
 * TOML in, a jansson tree out, with the place of every key. The parser is toml++ (C++); this is the only door to it and can be
 * included from C and C++.
 * Refused, each with its line and column: what TOML 1.0 refuses, dates and times (JSON has none), NaN and infinity, NUL in a key or a
 * string, keys of more than TG_TOML_KEY_PARTS parts and values nested deeper than TG_TOML_NEST.
 */
#include <jansson.h>
#include <stdbool.h>
#include <stddef.h>

#define TG_TOML_MAX_BYTES (1u << 20)
#define TG_TOML_KEY_PARTS 8
#define TG_TOML_NEST 16

#ifdef __cplusplus
extern "C" {
#endif

struct tg_toml_pos {
	char *path; /* RFC 6901 pointer: "/server/listen/0"; owned */
	int line, column; /* from 1. Of the key; of the value for an element of an array */
};

struct tg_toml {
	json_t *root; /* an object; owned */
	struct tg_toml_pos *pos; /* sorted by path */
	size_t npos;
};

struct tg_toml_fault {
	int line, column;
	char text[200];
};

/* False: fault is filled and out is empty. At most TG_TOML_MAX_BYTES. */
bool tg_toml_parse(const char *text, size_t n, struct tg_toml *out, struct tg_toml_fault *fault);
void tg_toml_free(struct tg_toml *t);
/* NULL: no such path. */
const struct tg_toml_pos *tg_toml_where(const struct tg_toml *t, const char *path);

#ifdef __cplusplus
}
#endif
