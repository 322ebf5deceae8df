/*
 * Names of permissions, from the one table that defines them. A mask of no bit, of several, or of a bit without a row has
 * no name: asking for one is a fault of the caller, and NULL shows it at once.
 */
#include "policy/principal.h"

const char *tg_perm_name(uint32_t bit_mask)
{
	switch (bit_mask) {
#define PERM(bit, name, doc) \
	case 1u << (bit): \
		return #name;
#include "tables/permissions.def"
#undef PERM
	default:
		return NULL;
	}
}
