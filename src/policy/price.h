#pragma once
/*
 * What a request or an operation costs, from its counts and the configured prices ([prices]; price_prompt and price_completion of a [[model]]).
 *
 * Unit of a cost: nano, the thousand-millionth part of the configured currency's unit. Prices are exact millionths (config/decimal.c); so rows cost exact nanos, and a request's tokens are
 * rounded once, half up, to a whole nano. Costs are added as whole numbers: the sum of a bill's lines is the bill. One request or operation costs at most TG_COST_MAX.
 */
#include "config/config.h"

#define TG_COST_MAX 1000000000000000ull /* nanos: a million units */
#define TG_COUNT_MAX 1000000000ull      /* tokens or rows of one request that are counted: a worker that says more is not believed */

uint64_t tg_price_tokens(const struct tg_model_conf *m, uint64_t prompt, uint64_t completion);
uint64_t tg_price_train(const struct tg_config *c, uint64_t rows);
uint64_t tg_price_predict(const struct tg_config *c, uint64_t rows);
/* A decimal without superfluous noughts: "0", "42.5", "0.000000001"; a JSON number as it stands. NUL-terminated. */
#define TG_COST_TEXT 32
void tg_cost_text(uint64_t nano, char out[TG_COST_TEXT]);
