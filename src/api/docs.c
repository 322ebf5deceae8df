/*
 * The pages about the interface: /openapi.json, /docs (a page that reads it and lets one try), /redoc (the same to read, without scripts), and the files they need. All of it is ours and compiled in: no page asks
 * another host for anything, and its Content-Security-Policy would not let it.
 *
 * What is written of a configuration is made by the first who asks and kept with it; two loops that are first at once make it twice, and one of the two is thrown away.
 */
#include "api/docs.h"
#include "gate/exchange.h"
#include "gate/handlers.h"
#include <sodium.h>
#include <stdlib.h>

enum { PAGE_MAX = 4 << 20 };

#define PAGE_LINES                                                                                                                                       \
	"Content-Security-Policy: default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\n" \
	"X-Content-Type-Options: nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-cache\r\n"

static const struct {
	const char *name, *text;
} files[] = {
#include "web.inc"
};

const char *tg_web_file(struct tg_slice name)
{
	for (size_t i = 0; i < sizeof files / sizeof *files; i++)
		if (tg_slice_eq(name, tg_slice_cstr(files[i].name)))
			return files[i].text;
	return NULL;
}

static void etag_of(struct tg_slice text, char out[40])
{
	unsigned char digest[16];
	crypto_generichash(digest, sizeof digest, (const unsigned char *)text.p, text.n, NULL, 0);
	out[0] = '"';
	sodium_bin2hex(out + 1, 33, digest, sizeof digest);
	out[33] = '"';
	out[34] = 0;
}

static enum tg_step give(struct tg_exchange *x, const char *type, struct tg_slice text, const char *etag)
{
	char lines[512];
	snprintf(lines, sizeof lines, PAGE_LINES "ETag: %s\r\n", etag);
	if (tg_head_has_tag(x->head, etag))
		return tg_answer(x, 304, NULL, (struct tg_slice){ 0 }, lines);
	return tg_answer(x, 200, type, text, lines);
}

static enum tg_step give_file(struct tg_exchange *x, const char *type, const char *text)
{
	char etag[40];
	etag_of(tg_slice_cstr(text), etag);
	return give(x, type, tg_slice_cstr(text), etag);
}

static struct tg_page *make(enum tg_page_id id, const char *title)
{
	json_t *doc = tg_openapi(title);
	struct tg_page *p = doc ? calloc(1, sizeof *p) : NULL;
	struct tg_buf b;
	tg_buf_init(&b, PAGE_MAX);
	if (p && id == TG_PAGE_OPENAPI) {
		p->text = json_dumps(doc, JSON_COMPACT);
		p->n = p->text ? strlen(p->text) : 0;
	} else if (p) {
		tg_redoc(&b, doc);
		p->text = b.failed ? NULL : malloc(b.len);
		p->n = p->text ? b.len : 0;
		if (p->text)
			memcpy(p->text, b.p, b.len);
	}
	tg_buf_free(&b);
	json_decref(doc);
	if (p && p->text) {
		etag_of((struct tg_slice){ p->text, p->n }, p->etag);
		return p;
	}
	tg_page_free(p);
	return NULL;
}

static enum tg_step give_made(struct tg_exchange *x, enum tg_page_id id, const char *type)
{
	_Atomic(struct tg_page *) *place = &x->snap->shared->pages[id];
	struct tg_page *p = atomic_load(place), *mine = p ? NULL : make(id, x->snap->config->name);
	if (!p && mine && !atomic_compare_exchange_strong(place, &p, mine))
		tg_page_free(mine); /* p: the other's */
	else if (mine)
		p = mine;
	if (!p)
		return tg_answer_problem(x, TG_E_internal, "memory", "The description could not be made.", NULL, NULL);
	return give(x, type, (struct tg_slice){ p->text, p->n }, p->etag);
}

enum tg_step tg_api_openapi(struct tg_exchange *x)
{
	return give_made(x, TG_PAGE_OPENAPI, "application/json");
}

enum tg_step tg_api_redoc(struct tg_exchange *x)
{
	return give_made(x, TG_PAGE_REDOC, "text/html; charset=utf-8");
}

enum tg_step tg_api_docs(struct tg_exchange *x)
{
	return give_file(x, "text/html; charset=utf-8", tg_web_file(TG_S("docs.html")));
}

enum tg_step tg_api_assets(struct tg_exchange *x)
{
	static const struct {
		const char *ending, *type;
	} types[] = { { ".css", "text/css; charset=utf-8" }, { ".js", "text/javascript; charset=utf-8" } };
	struct tg_slice name = x->head->path;
	name.p += sizeof "/assets/" - 1;
	name.n -= sizeof "/assets/" - 1;
	for (size_t i = 0; i < sizeof types / sizeof *types; i++) {
		size_t n = strlen(types[i].ending);
		const char *text = name.n > n && memcmp(name.p + name.n - n, types[i].ending, n) == 0 ? tg_web_file(name) : NULL;
		if (text)
			return give_file(x, types[i].type, text);
	}
	return tg_answer_problem(x, TG_E_not_found, "not_found", "There is nothing here.", NULL, NULL);
}
