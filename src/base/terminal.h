#pragma once
/* Text from somebody we do not trust, made fit for a terminal. */
#include "base/slice.h"

/* In place; returns the new length, never more than n. Escape sequences (ECMA-48: CSI, OSC and the other strings, single ones) are left out; other control characters but tab (C0, DEL,
 * C1), characters that turn the direction of text or end lines (Unicode's bidirectional controls, U+2028, U+2029) and bytes that are no UTF-8 become '?'. Linear. */
size_t tg_terminal_safe(char *p, size_t n);
/* Whether it is such text as it stands, and without a tab: what a name must be that is shown to people. */
bool tg_terminal_fit(struct tg_slice s);
