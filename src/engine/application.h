#pragma once
/* The members of an application for a loan, by tables/application.def. Every rule here is pure. */
#include "base/buf.h"

enum {
#define APPLICATION(name, type, min, max, values, doc) TG_A_##name,
#include "tables/application.def"
	TG_APPLICATION_FIELDS
};
const char *tg_application_name(unsigned field);
/* The field of that name; TG_APPLICATION_FIELDS: there is none. */
unsigned tg_application_find(struct tg_slice name);
bool tg_application_is_text(unsigned field);
/* False: out of bounds, or not whole where it has to be. 30.0 is whole. */
bool tg_application_number_ok(unsigned field, double v);
bool tg_application_text_ok(unsigned field, struct tg_slice text);
/* "must be a whole number from 18 to 120": what is wrong with any value that is not right. Returns out. */
const char *tg_application_rule(unsigned field, char out[256]);
