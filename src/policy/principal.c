/*
 * Names of permissions, from the one table that defines them. A mask of no bit, of several, or of a bit without a row has
 * no name: asking for one is a fault of the caller, and NULL shows it at once.
 */
#include "policy/principal.h"
#include <stdio.h>

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

uint32_t tg_perm_named(struct tg_slice name)
{
#define PERM(bit, n, doc) \
	if (tg_slice_eq(name, TG_S(#n))) \
		return 1u << (bit);
#include "tables/permissions.def"
#undef PERM
	return 0;
}

void tg_perms_text(uint32_t mask, const char *between, char out[TG_PERMS_TEXT])
{
	size_t n = 0;
	out[0] = 0;
	for (uint32_t bit = 1; bit; bit <<= 1)
		if (mask & bit && tg_perm_name(bit) && n < TG_PERMS_TEXT)
			n += (size_t)snprintf(out + n, TG_PERMS_TEXT - n, "%s%s", n ? between : "", tg_perm_name(bit));
}

uint32_t tg_perms_listed(struct tg_slice s)
{
	uint32_t perms = 0;
	while (s.n) {
		const char *comma = memchr(s.p, ',', s.n);
		struct tg_slice one = { s.p, comma ? (size_t)(comma - s.p) : s.n };
		perms |= tg_perm_named(one);
		s = comma ? (struct tg_slice){ comma + 1, s.n - one.n - 1 } : (struct tg_slice){ 0 };
	}
	return perms;
}
