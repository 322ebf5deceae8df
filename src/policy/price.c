/*
 * Costs in whole nanos (see price.h). No product here can exceed 64 bits: a price is at most 1,000 units (10^9 millionths), a count at most 10^9.
 */
#include "policy/price.h"

static uint64_t at_most(uint64_t v, uint64_t max)
{
	return v < max ? v : max;
}

uint64_t tg_price_tokens(const struct tg_model_conf *m, uint64_t prompt, uint64_t completion)
{
	if (!(m->price_prompt | m->price_completion))
		return 0;
	/* Millionths of a unit per million tokens are millionths of a millionth per token: a thousand of those are one nano. */
	uint64_t pico = m->price_prompt * at_most(prompt, TG_COUNT_MAX) + m->price_completion * at_most(completion, TG_COUNT_MAX);
	return at_most((pico + 500) / 1000, TG_COST_MAX);
}

/* A millionth per thousand rows is one nano a row; a millionth per operation is a thousand. */
static uint64_t operation(uint64_t each, uint64_t thousand_rows, uint64_t rows)
{
	return at_most(each * 1000 + thousand_rows * at_most(rows, TG_COUNT_MAX), TG_COST_MAX);
}

uint64_t tg_price_train(const struct tg_config *c, uint64_t rows)
{
	return operation(c->price_train, c->price_train_row, rows);
}

uint64_t tg_price_predict(const struct tg_config *c, uint64_t rows)
{
	return operation(c->price_predict, c->price_predict_row, rows);
}

void tg_cost_text(uint64_t nano, char out[TG_COST_TEXT])
{
	size_t n = (size_t)snprintf(out, TG_COST_TEXT, "%llu.%09u", (unsigned long long)(nano / 1000000000), (unsigned)(nano % 1000000000));
	while (out[n - 1] == '0')
		out[--n] = 0;
	if (out[n - 1] == '.')
		out[n - 1] = 0;
}
