/*
 * api_keys.json from memory. What is accepted has only usable keys and known networks, and what would be written of it reads back as the same; what is refused has
 * a message that names the file, quotes nothing of it, and leaves the struct empty.
 */
#include "policy/keyfile.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void must(bool ok)
{
	if (!ok)
		abort();
}

static bool same(const struct tg_strlist *a, const struct tg_strlist *b)
{
	if (a->n != b->n)
		return false;
	for (size_t i = 0; i < a->n; i++)
		if (strcmp(a->v[i], b->v[i]) != 0)
			return false;
	return true;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct tg_keyfile f, g;
	struct tg_err err = { "" };
	enum tg_keyfile_result r = tg_keyfile_parse(&f, "f.json", (struct tg_slice){ (const char *)data, size }, &err);
	must(r == TG_KEYFILE_OK || r == TG_KEYFILE_INVALID);
	if (r == TG_KEYFILE_INVALID) {
		must(strncmp(err.text, "f.json:", 7) == 0 && !strstr(err.text, " near '"));
		must(f.keys.n == 0 && f.local_networks.n == 0 && !f.tree && f.require_auth_for_external);
		return 0;
	}
	struct tg_cidr_list nets = { 0 };
	for (size_t i = 0; i < f.keys.n; i++)
		must(!tg_keyfile_key_fault(tg_slice_cstr(f.keys.v[i])));
	for (size_t i = 0; i < f.local_networks.n; i++)
		must(tg_cidr_list_add(&nets, tg_slice_cstr(f.local_networks.v[i])));
	tg_cidr_list_free(&nets);

	size_t n = 0;
	char *text = tg_keyfile_text(&f, &n);
	/* Indentation can push a deeply nested file past what is read; then nothing is written. */
	if (text) {
		must(strlen(text) == n && text[n - 1] == '\n');
		must(tg_keyfile_parse(&g, "g.json", (struct tg_slice){ text, n }, &err) == TG_KEYFILE_OK);
		must(same(&f.keys, &g.keys) && same(&f.local_networks, &g.local_networks));
		must(f.require_auth_for_external == g.require_auth_for_external);
		tg_keyfile_free(&g);
		free(text);
	}
	tg_keyfile_free(&f);
	return 0;
}
