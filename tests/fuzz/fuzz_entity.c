/* Bodies of configurations and artifacts: whatever comes, a fault is said or every value found lies in the body; what the check of a configuration takes is an object that jansson takes. */
#include "api/entity.h"
#include "api/ml_config.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "id", "name", "data", "created_at", "updated_at" };
	struct tg_entity e = { .body = malloc(size + 1), .body_len = size };
	struct tg_json_want w[3];
	char id[TG_ULID_LEN + 1], again[TG_ULID_LEN + 1];
	bool given;
	if (!e.body)
		return 0;
	memcpy(e.body, data, size);
	e.body[size] = 0;
	if (tg_entity_members(&e, names, 5, 3, w)) {
		must(!e.fault.why[0]);
		for (unsigned i = 0; i < 3; i++)
			must(w[i].type == TG_JSON_NONE || (w[i].from < w[i].to && w[i].to <= size));
		if (tg_entity_ulid(&e, &w[0], &given, id) && given)
			must(strlen(id) == TG_ULID_LEN && id[0] <= '7' && tg_ulid_read(tg_slice_cstr(id), again) && strcmp(id, again) == 0);
		struct tg_slice v = tg_entity_value(&e, &w[2]);
		json_t *tree = w[2].type == TG_JSON_OBJECT ? json_loadb(v.p, v.n, JSON_REJECT_DUPLICATES, NULL) : NULL;
		struct tg_fields_fault f = { "", "" };
		if (tree)
			must(tg_ml_config_check(tree, &f) || (strncmp(f.field, "data.", 5) == 0 && f.why[0]));
		json_decref(tree);
	} else {
		must(e.fault.why[0]);
	}
	free(e.body);
	return 0;
}
