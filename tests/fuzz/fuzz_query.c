/*
 * Parameters of a query and the media types of Accept. Beyond not crashing: a value is within its room, ends with a NUL and holds none; what was encoded comes back.
 */
#include "http/message.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char room[24], value[24], *query = malloc(size * 3 + 8);
	struct tg_slice in = { (const char *)data, size };
	must(query != NULL);
	for (size_t cap = 1; cap <= sizeof room; cap += 23) {
		long n = tg_query_get(in, "a", room, cap);
		must(n >= -2 && n < (long)cap);
		must(n < 0 || (room[n] == 0 && strlen(room) == (size_t)n));
	}
	/* Behind whatever else there is in the query, unless that has one of this name. */
	size_t k = 0, n = 0;
	for (; n < sizeof value - 1 && n < size && data[n]; n++)
		value[n] = (char)data[n];
	k = (size_t)snprintf(query, 8, "z=");
	for (size_t i = 0; i < n; i++)
		k += (size_t)snprintf(query + k, 4, "%%%02X", (unsigned char)value[i]);
	long got = tg_query_get((struct tg_slice){ query, k }, "z", room, sizeof room);
	must(got == (long)n && memcmp(room, value, n) == 0);
	must(tg_query_get((struct tg_slice){ query, k }, "a", room, sizeof room) == -1);
	free(query);
	struct tg_head h = { .nheaders = 1 };
	for (int i = 0; i < TG_H_COUNT; i++)
		h.first[i] = -1;
	h.headers[0] = (struct tg_header){ TG_S("Accept"), in, TG_H_ACCEPT };
	h.first[TG_H_ACCEPT] = 0;
	bool accepts = tg_head_accepts(&h, "text/plain");
	must(!accepts || size >= 10);
	return 0;
}
