/* Tokens out of pieces (see token.h). Only one that a piece's end cuts through is ever copied. */
#include "engine/token.h"
#include "engine/text.h"

void tg_tokens_init(struct tg_tokens *t, size_t max)
{
	*t = (struct tg_tokens){ 0 };
	tg_buf_init(&t->carry, max + 2);
}

void tg_tokens_free(struct tg_tokens *t)
{
	tg_buf_free(&t->carry);
}

enum tg_token tg_token(struct tg_tokens *t, const char **c, const char *end, uint64_t base, size_t max, struct tg_slice *raw)
{
	const char *from = *c, *e = from;
	if (!t->open) {
		t->first = *from;
		t->at = base;
		t->carry.len = 0;
		t->escaped = false;
		if (*from == '"')
			e++;
	}
	bool string = t->first == '"';
	if (string)
		e = tg_text_end(e, end, &t->escaped);
	else
		while (e < end && !tg_token_ends(*e))
			e++;
	bool whole = e < end;
	if (whole && string)
		e++;
	size_t n = (size_t)(e - from);
	if (t->carry.len + n > max + (string ? 2 : 0))
		return TG_TOKEN_LONG;
	t->open = !whole;
	*c = e;
	if (whole && !t->carry.len) {
		*raw = (struct tg_slice){ from, n };
		return TG_TOKEN_WHOLE;
	}
	tg_buf_put(&t->carry, from, n);
	if (t->carry.failed)
		return TG_TOKEN_MEMORY;
	*raw = tg_buf_view(&t->carry);
	return whole ? TG_TOKEN_WHOLE : TG_TOKEN_MORE;
}
