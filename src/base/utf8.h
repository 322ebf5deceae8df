#pragma once
/* UTF-8 as RFC 3629 has it: no overlong forms, no surrogates, nothing above U+10FFFF. */
#include <stdbool.h>
#include <stddef.h>

/* Length in bytes (1 to 4) of the well-formed sequence at p, or 0. */
size_t tg_utf8_len(const char *p, size_t n);
bool tg_utf8_valid(const char *p, size_t n);
