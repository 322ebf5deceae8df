#pragma once
/* One token of JSON at a time, a string or a run of other characters (a number, true, a word that is none), out of a text that comes in pieces. What it is, the caller finds out. */
#include "base/buf.h"

enum tg_token { TG_TOKEN_WHOLE, TG_TOKEN_MORE, TG_TOKEN_LONG, TG_TOKEN_MEMORY };
struct tg_tokens {
	struct tg_buf carry; /* what came of the open one in the pieces before */
	bool open, escaped;
	char first;          /* of the open one */
	uint64_t at;         /* where the last one began: an offset in the text */
};

void tg_tokens_init(struct tg_tokens *t, size_t max);
void tg_tokens_free(struct tg_tokens *t);
/*
 * The token that begins at *c, or goes on there where one is open; *c < end. base: the offset of *c in the text. max: its bytes, without quotes; LONG past it, whatever the pieces were.
 * WHOLE: *raw with its quotes, in the piece or in carry, valid until the next call; *c behind it. MORE: the piece is used up.
 */
enum tg_token tg_token(struct tg_tokens *t, const char **c, const char *end, uint64_t base, size_t max, struct tg_slice *raw);
/* What ends a run. */
static inline bool tg_token_ends(char c)
{
	return c == ',' || c == ']' || c == '}' || c == '[' || c == '{' || c == ':' || c == '"' || c == ' ' || c == '\n' || c == '\r' || c == '\t';
}
