/*
 * Stage 4: may this principal use this route? Only after that does a caller learn whether the route exists, takes the method, or is built.
 */
#include "gate/exchange.h"

static void allow_line(uint32_t mask, char *out, size_t cap)
{
	size_t n = (size_t)snprintf(out, cap, "Allow:");
	const char *sep = " ";
	for (unsigned m = 0; m < TG_METHOD_OTHER; m++)
		if (mask & (1u << m)) {
			n += (size_t)snprintf(out + n, cap - n, "%s%s", sep, tg_method_names[m]);
			sep = ", ";
		}
	snprintf(out + n, cap - n, "\r\n");
}

static enum tg_step unmatched(struct tg_exchange *x)
{
	char allow[96];
	if (!x->path_known)
		return tg_answer_problem(x, TG_E_not_found, "not_found", "There is nothing here.", NULL, NULL);
	allow_line(x->allow, allow, sizeof allow);
	if (x->method == TG_OPTIONS)
		return tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, allow);
	return tg_answer_problem(x, TG_E_method_not_allowed, "method_not_allowed", "This path does not take that method.", NULL, allow);
}

enum tg_step tg_answer_lacks(struct tg_exchange *x, uint32_t perms)
{
	char names[TG_PERMS_TEXT], text[TG_PERMS_TEXT + 64];
	tg_perms_text(perms, " or ", names);
	snprintf(text, sizeof text, "Insufficient permissions: this needs %s.", names);
	return tg_answer_problem(x, TG_E_forbidden, "forbidden", text, NULL, NULL);
}

enum tg_step tg_stage_authorize(struct tg_exchange *x)
{
	const struct tg_route *r = x->route;
	if (x->principal)
		x->perms = x->principal->perms;
	if (!r)
		return unmatched(x);
	if (r->guard == TG_GUARD_PERMS) {
		uint32_t perms = x->perms | (x->local ? TG_PERMS_LOCAL | TG_PERM_read_metrics : 0);
		if (!(perms & r->perms)) {
			/* 000's document compares an admin route's key with the admin key only: its read key is as good as none there (C-06). */
			if (x->principal->source == TG_SRC_READ_KEY && x->family == TG_FAM_ADMIN0) {
				x->event = "auth.invalid_key";
				return tg_answer_problem(x, TG_E_unauthenticated, "forbidden", tg_family_text(x->family)->invalid, NULL, NULL);
			}
			enum tg_step s = tg_stage_limit(x); /* whatever passed authentication counts */
			return s == TG_NEXT ? tg_answer_lacks(x, r->perms) : s;
		}
	}
	if (r->state == TG_ROUTE_NOWHERE)
		return tg_answer_problem(x, TG_E_not_found, "not_found", "There is nothing here.", NULL, NULL);
	if (r->state == TG_ROUTE_LATER)
		return tg_answer_problem(x, TG_E_not_implemented, "later", "This route is not built yet.", NULL, NULL);
	return TG_NEXT;
}
