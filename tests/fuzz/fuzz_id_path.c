/*
 * From what a caller sends to the name of a file: ids of models and records, names that the engine gives to files of the spool. Whatever passes stays in its folder: joined to it, the path's
 * last slash is the folder's own. A file of that id that lies outside is never reached (tests/unit/test_model_store.c opens them).
 */
#include "base/id.h"
#include "jobs/spool.h"
#include "store/model_store.h"
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
	static const char folder[] = "/srv/models";
	struct tg_slice in = { (const char *)data, size };
	char id[TG_ULID_LEN + 1], again[TG_ULID_LEN + 1], path[PATH_MAX];
	if (tg_model_id_ok(in)) {
		must(size <= TG_MODEL_ID_MAX && !memchr(data, 0, size) && !memchr(data, '.', size) && !memchr(data, '/', size));
		int n = snprintf(path, sizeof path, "%s/%.*s" TG_MODEL_EXT, folder, (int)size, in.p);
		must(n == (int)(sizeof folder + size + sizeof TG_MODEL_EXT - 1));
		must(strrchr(path, '/') == path + sizeof folder - 1);
	}
	if (tg_ulid_read(in, id)) {
		must(size == TG_ULID_LEN && strlen(id) == TG_ULID_LEN && id[0] <= '7');
		must(tg_ulid_read((struct tg_slice){ id, TG_ULID_LEN }, again) && strcmp(id, again) == 0); /* one spelling */
		must(tg_model_id_ok((struct tg_slice){ id, TG_ULID_LEN }));
	}
	/* The engine's word for a file is no more to be trusted than a caller's. */
	struct tg_spool s = { .path = (char[]){ "/srv/spool" }, .folder = -1, .lock = -1 };
	static const char job[] = "01K7CXYHJ7BR4E87VVTG8FNBMA";
	char *name = malloc(size + sizeof job);
	must(name != NULL);
	for (int with = 0; with < 2; with++) {
		size_t at = with ? sizeof job - 1 : 0;
		memcpy(name, job, at);
		memcpy(name + at, data, size);
		name[at + size] = 0;
		if (tg_spool_file(&s, job, name, path, sizeof path)) {
			must(strncmp(name, job, sizeof job - 1) == 0);
			must(strrchr(path, '/') == path + sizeof "/srv/spool" - 1 && strlen(path) < sizeof path);
		}
	}
	free(name);
	return 0;
}
