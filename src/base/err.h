#pragma once
/* Text of a failure for people: file, line, what was wrong. Fixed size, so that it can be filled when memory is short. */
#include <stdarg.h>
#include <stdio.h>

struct tg_err {
	char text[512];
};

__attribute__((format(printf, 2, 3))) static inline void tg_err_set(struct tg_err *e, const char *fmt, ...)
{
	va_list ap;
	va_start(ap, fmt);
	vsnprintf(e->text, sizeof e->text, fmt, ap);
	va_end(ap);
}
