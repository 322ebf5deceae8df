/* Boundaries (see boundary.h). The gate reads them out of a request's head, the engine checks what it is given: both by this. */
#include "base/boundary.h"
#include "base/param.h"

bool tg_boundary_ok(struct tg_slice b)
{
	if (!b.n || b.n > TG_BOUNDARY_MAX || b.p[b.n - 1] == ' ')
		return false;
	for (size_t i = 0; i < b.n; i++) {
		char c = b.p[i];
		bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (!letter && (!c || !strchr("'()+_,-./:=? ", c)))
			return false;
	}
	return true;
}

bool tg_boundary_of(struct tg_slice content_type, struct tg_slice *boundary, const char **why)
{
	struct tg_slice rest, name, raw;
	enum tg_param got;
	*boundary = (struct tg_slice){ 0 };
	(void)tg_param_main(content_type, &rest);
	while ((got = tg_param_next(&rest, &name, &raw)) == TG_PARAM_ONE) {
		if (!tg_slice_eq_nocase(name, TG_S("boundary")))
			continue;
		*why = "names two boundaries";
		if (boundary->p)
			return false;
		*boundary = raw;
	}
	*why = got == TG_PARAM_BAD ? "has parameters that cannot be read" : !boundary->p ? "names no boundary" : "names a boundary that is none: 1 to 70 letters, digits and '()+_,-./:=? are possible, and blanks not at its end";
	return got == TG_PARAM_END && boundary->p && tg_boundary_ok(*boundary);
}
