/*
 * The model store by hand, for the tests from outside: model_tool URL save ID FILE METADATA | load ID | metadata ID | list | delete ID | persist ID | work.
 * One line of what came of it; exit status: 0 found, 1 none, 2 refused, 3 away.
 */
#include "store/model_store.h"
#include <stdio.h>
#include <stdlib.h>

static bool print_id(void *ctx, const char *id)
{
	(void)ctx;
	puts(id);
	return true;
}

int main(int argc, char **argv)
{
	struct tg_err err = { "" };
	char path[PATH_MAX] = "";
	struct tg_buf meta;
	if (argc < 3)
		return 9;
	struct tg_model_store *ms = tg_model_store_open(argv[1], &err);
	if (!ms) {
		fprintf(stderr, "%s\n", err.text);
		return 8;
	}
	tg_buf_init(&meta, TG_MODEL_METADATA_MAX);
	const char *what = argv[2], *id = argc > 3 ? argv[3] : "";
	enum tg_model_found r = TG_MODEL_FOUND;
	if (strcmp(what, "save") == 0 && argc == 6)
		r = tg_model_store_save(ms, id, argv[4], tg_slice_cstr(argv[5]), path, &err) ? TG_MODEL_FOUND : TG_MODEL_REFUSED;
	else if (strcmp(what, "load") == 0)
		r = tg_model_store_load(ms, id, path, NULL, &err);
	else if (strcmp(what, "metadata") == 0)
		r = tg_model_store_metadata(ms, id, &meta, &err);
	else if (strcmp(what, "list") == 0)
		r = tg_model_store_list(ms, print_id, NULL, &err);
	else if (strcmp(what, "delete") == 0)
		r = tg_model_store_delete(ms, id, &err);
	else if (strcmp(what, "persist") == 0)
		r = tg_model_store_persist(ms, id, path, &err);
	else if (strcmp(what, "work") == 0)
		printf("%u\n", tg_model_store_work(ms));
	if (path[0] && r == TG_MODEL_FOUND)
		puts(path);
	if (meta.len)
		printf("%.*s\n", (int)meta.len, meta.p);
	if (r != TG_MODEL_FOUND)
		fprintf(stderr, "%s\n", err.text);
	tg_buf_free(&meta);
	tg_model_store_close(ms);
	return (int)r;
}
