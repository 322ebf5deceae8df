/*
 * CORS: the list of a preflight (from the wire) and the origins of the configuration. Beyond not crashing: an origin's kept form is its own kept form, without a character
 * that could end a header line; only a kept form is allowed, and nothing that differs from it; a list is allowed exactly where each of its members is.
 */
#include "config/options.h"
#include "http/cors.h"
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static struct tg_head *head(enum tg_header_id id, struct tg_slice value)
{
	static struct tg_head h;
	h.nheaders = 1;
	for (int i = 0; i < TG_H_COUNT; i++)
		h.first[i] = -1;
	h.headers[0] = (struct tg_header){ .value = value, .id = (uint8_t)id };
	h.first[id] = 0;
	return &h;
}

static void origins(struct tg_slice in)
{
	char kept[TG_ORIGIN_MAX], again[TG_ORIGIN_MAX], *list[1] = { kept };
	const char *found;
	struct tg_err why;
	struct tg_config c = { .cors_origins = { list, 1 } };
	if (tg_origin_parse(in, kept, &why)) {
		must(strlen(kept) < sizeof kept && tg_origin_parse(tg_slice_cstr(kept), again, &why) && strcmp(kept, again) == 0);
		for (const char *p = kept; *p; p++)
			must(*p > ' ' && *p < 0x7f);
		if (strcmp(kept, "*") == 0)
			return;
		must(tg_cors_judge(&c, head(TG_H_ORIGIN, tg_slice_cstr(kept)), &found) == TG_CORS_LISTED && found == kept);
	} else {
		must(why.text[0] != 0);
		snprintf(kept, sizeof kept, "https://app.example");
	}
	bool same = tg_slice_eq(in, tg_slice_cstr(kept));
	must((tg_cors_judge(&c, head(TG_H_ORIGIN, in), &found) == TG_CORS_LISTED) == same);
}

static void asked(struct tg_slice in)
{
	char *names[] = { (char[]){ "Authorization" }, (char[]){ "X-API-Key" } };
	struct tg_strlist allowed = { names, 2 };
	bool all = true;
	for (size_t i = 0, from = 0; i <= in.n; i++)
		if (i == in.n || in.p[i] == ',') {
			struct tg_slice one = tg_slice_trim((struct tg_slice){ in.p + from, i - from });
			all = all && (!one.n || tg_slice_eq_nocase(one, TG_S("authorization")) || tg_slice_eq_nocase(one, TG_S("x-api-key")));
			from = i + 1;
		}
	must(tg_cors_all_listed(in, &allowed) == all);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const uint8_t none[1];
	struct tg_slice in = { (const char *)(size ? data : none), size };
	origins(in);
	asked(in);
	return 0;
}
