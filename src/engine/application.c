/* Applications for a loan by their table: one row a field decides what is taken, and the same row writes what is said about a value that is not. */
#include "engine/application.h"
#include <math.h>
#include <stdio.h>

enum type { WHOLE, NUMBER, ABOVE, CHOICE };
static const struct field {
	const char *name;
	enum type type;
	double min, max;
	const char *values;
} fields[] = {
#define APPLICATION(name, type, min, max, values, doc) { #name, type, min, max, values },
#include "tables/application.def"
};

const char *tg_application_name(unsigned field)
{
	return fields[field].name;
}

unsigned tg_application_find(struct tg_slice name)
{
	unsigned i = 0;
	while (i < TG_APPLICATION_FIELDS && !tg_slice_eq(name, tg_slice_cstr(fields[i].name)))
		i++;
	return i;
}

bool tg_application_is_text(unsigned field)
{
	return fields[field].type == CHOICE;
}

bool tg_application_number_ok(unsigned field, double v)
{
	const struct field *f = &fields[field];
	bool low = f->type == ABOVE ? v > f->min : v >= f->min;
	return low && v <= f->max && isfinite(v) && (f->type != WHOLE || v == floor(v));
}

bool tg_application_text_ok(unsigned field, struct tg_slice text)
{
	const char *v = fields[field].values;
	while (*v) {
		size_t n = strcspn(v, " ");
		if (tg_slice_eq(text, (struct tg_slice){ v, n }))
			return true;
		v += n;
		v += strspn(v, " ");
	}
	return false;
}

const char *tg_application_rule(unsigned field, char out[256])
{
	const struct field *f = &fields[field];
	const char *kind = f->type == WHOLE ? "whole number" : "number";
	if (f->type == CHOICE) {
		size_t n = (size_t)snprintf(out, 256, "must be one of ");
		for (const char *v = f->values; *v && n < 250; v++) {
			if (*v == ' ')
				out[n++] = ',';
			out[n++] = *v;
		}
		out[n] = 0;
	} else {
		char most[32] = "";
		if (!isinf(f->max))
			snprintf(most, sizeof most, f->type == ABOVE ? ", %g at most" : " to %g", f->max);
		if (f->type == ABOVE)
			snprintf(out, 256, "must be a %s above %g%s", kind, f->min, most);
		else
			snprintf(out, 256, "must be a %s from %g%s%s", kind, f->min, most, most[0] ? "" : " up");
	}
	return out;
}
