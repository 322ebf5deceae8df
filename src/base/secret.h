#pragma once
/*
 * Secrets: API keys as callers send them and as files hold them. A struct tg_secret has no printing function; what may be
 * shown of a key is its prefix, and for list keys a label (seed ledger C-18).
 */
#include "base/slice.h"

struct tg_secret {
	char *p; /* owned, NUL-terminated for library calls; never printed */
	size_t n;
};

bool tg_secret_set(struct tg_secret *s, struct tg_slice v); /* copies; wipes what was there; false without memory */
void tg_secret_wipe(struct tg_secret *s);                   /* wipes and frees */
/* Constant time in the contents. Two empty secrets are not equal: nothing ever matches an unset key (seed ledger S0-12). */
bool tg_secret_equal(struct tg_slice a, struct tg_slice b);

#define TG_KEY_PREFIX_MAX 9
#define TG_KEY_LABEL_MAX 24
/* The first 9 characters, or "***" for a key under 16 characters. NUL-terminated. Characters outside printable ASCII become '?'. */
void tg_key_prefix(struct tg_slice key, char out[TG_KEY_PREFIX_MAX + 1]);
/* The text before the last '_', only if each part before it is lower-case letters (<= 10) or digits (<= 3), the label is
 * <= 24 characters and the last part >= 5; else "". NUL-terminated. */
void tg_key_label(struct tg_slice key, char out[TG_KEY_LABEL_MAX + 1]);
