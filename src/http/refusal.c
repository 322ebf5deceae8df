/*
 * The table behind enum tg_refusal: label, status and sentence of every framing rule, made from tables/refusals.def and nothing
 * else, so that a rule cannot exist without a metric label and a text. Index 0 is "not refused".
 */
#include "http/h1.h"

#define REFUSAL(id, st, sentence) [TG_REFUSE_##id] = { .name = #id, .status = st, .text = sentence },
const struct tg_refusal_info tg_refusals[] = {
	[TG_REFUSE_NONE] = { .name = "none", .status = 0, .text = "" },
#include "tables/refusals.def"
};
#undef REFUSAL

_Static_assert(sizeof tg_refusals / sizeof *tg_refusals == TG_REFUSE_COUNT, "one row a refusal");
