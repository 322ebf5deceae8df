#pragma once
/* The description of the interface: the document (openapi.c), and the page made of it (redoc.c). Pure; docs.c serves them. */
#include "base/buf.h"
#include <jansson.h>

/* A file that is compiled in (meson.build: web/, tables/examples.json); NULL: none of that name. */
const char *tg_web_file(struct tg_slice name);
/* OpenAPI 3.1 of the route table, under that title. A new reference; NULL: no memory, or tables/examples.json is no JSON (a mistake in the build, which tests/api/test_openapi.py sees). */
json_t *tg_openapi(const char *title);
void tg_redoc(struct tg_buf *b, const json_t *openapi); /* HTML; b->failed: no memory */
