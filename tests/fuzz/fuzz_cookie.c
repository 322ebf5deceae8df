/* One cookie out of a Cookie header. Beyond not crashing: the value lies within the header, holds no ';', and a cookie that is put in front is the one that is found. */
#include "http/cookie.h"
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
	static const char mine[] = "api_key=mine; ";
	struct tg_slice in = { (const char *)data, size }, v = tg_cookie_get(in, TG_S("api_key"));
	must(!v.n || (v.p > in.p && v.p + v.n <= in.p + in.n && !memchr(v.p, ';', v.n)));
	must(v.p == NULL || memmem(in.p, in.n, "api_key=", 8) != NULL);
	char *p = malloc(size + sizeof mine);
	must(p != NULL);
	memcpy(p, mine, sizeof mine - 1);
	if (size)
		memcpy(p + sizeof mine - 1, data, size);
	must(tg_slice_eq(tg_cookie_get((struct tg_slice){ p, size + sizeof mine - 1 }, TG_S("api_key")), TG_S("mine")));
	free(p);
	/* A name that is the header itself. */
	must(tg_cookie_get(in, in).n == 0);
	return 0;
}
