#pragma once
/* From a method and a path to a row of the route table. Built once, read by every loop without a lock. */
#include "gate/route.h"

/* Before the first loop starts. A table that cannot be matched (two rows alike, too many rows) ends the program: it is a mistake in the build. */
void tg_route_init(void);

/*
 * The row for a request, or NULL. `path` as it came, without query. HEAD takes a GET row. ANYMETHOD rows take every method but OPTIONS, which no row
 * takes. NULL with *path_known: the path has rows, for other methods; *allow_mask holds them, 1 << enum tg_method, HEAD beside GET and OPTIONS always.
 * Rows that only close a tree (NOWHERE) make a path known; their methods are in the mask only where the path has no other row.
 *
 * Escapes of unreserved characters (RFC 3986 section 2.3) and of '$' are decoded before the comparison, others stay as they are. Never matched, not
 * even by a row for a whole tree: %2f, %00, %5c, a backslash, NUL, an invalid escape, and the segments "", "." and ".." (so that no worker or handler
 * ever sees two spellings of one path). A trailing slash is an empty segment too, save where a row's own path has it ("/models/").
 */
const struct tg_route *tg_route_match(enum tg_method m, struct tg_slice path, bool *path_known, uint32_t *allow_mask);

/* Which texts an unmatched path speaks, by its first segments. */
enum tg_family tg_route_family(struct tg_slice path);
