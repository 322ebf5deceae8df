/* Matching: the ways one path can be spelled, the precedence of rows, and that no row of the table is unreachable. */
#include "gate/match_table.h"
#include "policy/principal.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

#define M(x) (1u << TG_##x)

static const struct tg_route *match(enum tg_method m, const char *path, size_t n, bool *known, uint32_t *mask)
{
	/* Not NUL-terminated, of its exact size: a read past the end is seen by the sanitizer. */
	char *p = malloc(n ? n : 1);
	memcpy(p, path, n);
	const struct tg_route *r = tg_route_match(m, (struct tg_slice){ p, n }, known, mask);
	free(p);
	return r;
}

static void spellings(void **state)
{
	(void)state;
	static const struct {
		enum tg_method m;
		const char *path;
		const char *row; /* NULL: no match */
		bool known;
	} t[] = {
		{ TG_GET, "/", "/", true },
		{ TG_GET, "", NULL, false },
		{ TG_GET, "*", NULL, false },
		{ TG_GET, "models", NULL, false },
		{ TG_GET, "/models", "/models", true },
		{ TG_HEAD, "/models", "/models", true },
		{ TG_GET, "/models/info", "/models/info", true },
		{ TG_GET, "//models", NULL, false },
		{ TG_GET, "//", NULL, false },
		{ TG_GET, "/models//info", NULL, false },
		{ TG_GET, "/models/.", NULL, false },
		{ TG_GET, "/models/..", NULL, false },
		{ TG_GET, "/models/./info", NULL, false },
		{ TG_GET, "/models/../health", NULL, false },
		{ TG_GET, "/./health", NULL, false },
		{ TG_GET, "/models/%2e%2e/health", NULL, false },
		{ TG_GET, "/models/%2E", NULL, false },
		{ TG_GET, "/models/.%2e", NULL, false },
		{ TG_GET, "/models/...", "/models/{id}", true },
		{ TG_GET, "/MODELS", NULL, false },
		{ TG_GET, "/Models/info", NULL, false },
		{ TG_GET, "/models/%69nfo", "/models/info", true },
		{ TG_GET, "/%6d%6F%64els/info", "/models/info", true },
		{ TG_GET, "/models%2finfo", NULL, false },
		{ TG_GET, "/models%2Finfo", NULL, false },
		{ TG_GET, "/models/a%2fb", NULL, false },
		{ TG_GET, "/models/a%5cb", NULL, false },
		{ TG_GET, "/models/a\\b", NULL, false },
		{ TG_GET, "/models/a%00", NULL, false },
		{ TG_GET, "/models/info%", NULL, false },
		{ TG_GET, "/models/info%4", NULL, false },
		{ TG_GET, "/models/info%zz", NULL, false },
		{ TG_GET, "/models/%g9", NULL, false },
		{ TG_DELETE, "/api/v1/auth/api-keys/key_1", "/api/v1/auth/api-keys/{id}", true },
		{ TG_POST, "/api/v1/auth/api-keys/key_1/rotate", "/api/v1/auth/api-keys/{id}/rotate", true },
		{ TG_POST, "/api/v1/auth/api-keys/%6bey_1/rotate", "/api/v1/auth/api-keys/{id}/rotate", true },
		{ TG_POST, "/api/v1/auth/api-keys//rotate", NULL, false },
		{ TG_POST, "/api/v1/auth/api-keys/rotate", NULL, true }, /* an id of that name has no POST */
		{ TG_POST, "/api/v1/auth/api-keys/a/b/rotate", NULL, false },
		{ TG_POST, "/api/v1/auth/api-keys/a/rotate/", NULL, false },
		{ TG_POST, "/api/v1/auth/api-keys/a/xrotate", NULL, false },
		{ TG_GET, "/api/v1/auth/api-keys/a/rotate", NULL, true },
		{ TG_GET, "/models/%20", "/models/{id}", true },      /* stays as it is */
		{ TG_GET, "/models/inf%256f", "/models/{id}", true }, /* decoded once: not info */
		{ TG_GET, "/models/%2469", "/models/{id}", true },    /* '$' is decoded */
		{ TG_GET, "/health", "/health", true },
		{ TG_GET, "/health/", NULL, false },
		{ TG_GET, "/models/", "/models/", true }, /* its own row has the slash */
		{ TG_HEAD, "/models/", "/models/", true },
		{ TG_GET, "/%6dodels/", "/models/", true },
		{ TG_POST, "/models/", NULL, true },
		{ TG_GET, "/models//", NULL, false },
		{ TG_GET, "/models/./", NULL, false },
		{ TG_GET, "//models/", NULL, false },
		{ TG_GET, "/models/info/", NULL, false },
		{ TG_GET, "/models/x/results", "/models/{id}/results", true },
		{ TG_GET, "/models/x/results/", NULL, false },
		{ TG_POST, "/models/x/persist", "/models/{id}/persist", true },
		{ TG_GET, "/health;x", NULL, false },
		{ TG_GET, "/healthz", NULL, false },
		{ TG_GET, "/heal", NULL, false },
		{ TG_POST, "/health", NULL, true },
		{ TG_OPTIONS, "/health", NULL, true },
		{ TG_METHOD_OTHER, "/health", NULL, true },
		{ TG_GET, "/v1/models/gemma3", "/v1/models/{model}", true },
		{ TG_HEAD, "/v1/models/gemma3", "/v1/models/{model}", true },
		{ TG_GET, "/v1/models/a/b", NULL, false },
		{ TG_GET, "/v1/models/", NULL, false },
		{ TG_POST, "/v1/models/x", NULL, true },
		{ TG_GET, "/v1/chat/completions", NULL, true },
		{ TG_POST, "/v1/chat/completions", "/v1/chat/completions", true },
		{ TG_POST, "/models/info", "/models/*", true },    /* a write is refused by the permission for writes */
		{ TG_POST, "/models/zzz/deep/er", "/models/*", true },
		{ TG_DELETE, "/models/info", "/models/*", true },
		{ TG_GET, "/models/reload", "/models/{id}", true },
		{ TG_OPTIONS, "/models/zzz", NULL, true },
		{ TG_PUT, "/models", NULL, true },
		{ TG_GET, "/jobs", "/jobs", true },
		{ TG_DELETE, "/jobs", "/jobs", true },
		{ TG_METHOD_OTHER, "/jobs", "/jobs", true },
		{ TG_GET, "/jobs/7", "/jobs/{id}", true },
		{ TG_DELETE, "/jobs/7", "/jobs/*", true },
		{ TG_GET, "/jobs/7/log", "/jobs/*", true },
		{ TG_GET, "/eval/jobs/7", "/eval/jobs/{id}", true },
		{ TG_GET, "/eval/jobs", "/eval/*", true },
		{ TG_GET, "/eval", NULL, false },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		bool known;
		uint32_t mask;
		const struct tg_route *r = match(t[i].m, t[i].path, strlen(t[i].path), &known, &mask);
		if (!t[i].row != !r || (r && strcmp(r->path.p, t[i].row) != 0) || known != t[i].known)
			fail_msg("%s %s: got %s, known %d", tg_method_names[t[i].m], t[i].path, r ? r->path.p : "nothing", known);
		if (r || !known)
			assert_int_equal(mask, 0);
		else
			assert_true(mask & M(OPTIONS));
	}
	bool known;
	uint32_t mask;
	assert_null(match(TG_GET, "/health\0", 8, &known, &mask));
	assert_false(known);
	/* The method's own row goes before the row for any method. */
	assert_int_equal(match(TG_GET, "/jobs", 5, &known, &mask)->method, TG_GET);
	assert_int_equal(match(TG_POST, "/jobs", 5, &known, &mask)->method, TG_METHOD_ANY);
}

static void allowed_methods(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		uint32_t mask;
	} t[] = {
		{ "/health", M(GET) | M(HEAD) | M(OPTIONS) },
		{ "/v1/chat/completions", M(POST) | M(OPTIONS) },
		{ "/v1/models/x", M(GET) | M(HEAD) | M(OPTIONS) },
		{ "/models/info", M(GET) | M(HEAD) | M(OPTIONS) },  /* not those of the rows that only close the tree */
		{ "/models/reload", M(GET) | M(HEAD) | M(POST) | M(OPTIONS) },
		{ "/models/zzz", M(GET) | M(HEAD) | M(OPTIONS) },
		{ "/models/zzz/deep", M(GET) | M(HEAD) | M(POST) | M(PUT) | M(PATCH) | M(DELETE) | M(OPTIONS) },
		{ "/settings/power_profile", M(GET) | M(HEAD) | M(POST) | M(OPTIONS) },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		bool known;
		uint32_t mask;
		assert_null(match(TG_OPTIONS, t[i].path, strlen(t[i].path), &known, &mask));
		assert_true(known);
		if (mask != t[i].mask)
			fail_msg("%s: %x, not %x", t[i].path, mask, t[i].mask);
	}
}

static void every_row_is_reached(void **state)
{
	(void)state;
	for (unsigned i = 0; i < tg_nroutes; i++) {
		const struct tg_route *r = &tg_routes[i];
		char path[256];
		size_t n = 0;
		for (const char *p = r->path.p; *p; p++) {
			if (*p == '{' || *p == '*') {
				n += (size_t)snprintf(path + n, sizeof path - n, "%s", *p == '*' ? "zz/yy/xx" : "zz");
				p += strcspn(p, "}*");
				continue;
			}
			path[n++] = *p;
		}
		bool known;
		uint32_t mask;
		enum tg_method m = r->method == TG_METHOD_ANY ? TG_PATCH : (enum tg_method)r->method;
		const struct tg_route *got = match(m, path, n, &known, &mask);
		if (got != r)
			fail_msg("row %u, %s %s, is hidden by %s", i, tg_method_names[m], r->path.p, got ? got->path.p : "nothing");
	}
}

static void rows_are_whole(void **state)
{
	(void)state;
	assert_true(tg_nroutes >= 37);
	for (unsigned i = 0; i < tg_nroutes; i++) {
		const struct tg_route *r = &tg_routes[i];
		assert_int_equal(r->guard == TG_GUARD_PERMS, r->perms != 0);
		assert_int_equal(r->perms & ~TG_PERM_ALL, 0);
		assert_true(r->limit < TG_LIMIT_COUNT && tg_limit_class_names[r->limit] != NULL);
		assert_true(r->family < TG_FAM_COUNT);
		assert_true(strlen(r->description) > 3 && strlen(r->handler) > 2);
		if (r->state != TG_ROUTE_LIVE)
			assert_int_equal(r->guard, TG_GUARD_PERMS);
	}
	/* Public is what DESIGN lists and nothing else. */
	static const char *const open[] = { "/", "/health", "/livez", "/readyz", "/docs", "/redoc", "/openapi.json", "/assets/*", "/api/v1/auth/login" };
	unsigned n = 0;
	for (unsigned i = 0; i < tg_nroutes; i++)
		if (tg_routes[i].guard == TG_GUARD_PUBLIC) {
			assert_true(n < sizeof open / sizeof *open);
			assert_string_equal(tg_routes[i].path.p, open[n++]);
		}
	assert_int_equal(n, sizeof open / sizeof *open);
}

/* A row of bodies.def that names no handler would leave its route with the small bound. */
static void larger_bodies(void **state)
{
	(void)state;
	static const char *const names[] = {
#define BODY(handler, bytes) #handler,
#include "tables/bodies.def"
#undef BODY
	};
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		unsigned n = 0;
		for (unsigned k = 0; k < tg_nroutes; k++)
			if (strcmp(tg_routes[k].handler, names[i]) == 0) {
				n++;
				assert_true(tg_route_body_max(&tg_routes[k]) > TG_LOCAL_BODY_MAX);
			}
		if (n != 1)
			fail_msg("%s: %u routes", names[i], n);
	}
	bool known;
	uint32_t mask;
	assert_int_equal(tg_route_body_max(match(TG_POST, "/api/v1/users", 13, &known, &mask)), TG_LOCAL_BODY_MAX);
}

static void long_paths(void **state)
{
	(void)state;
	enum { N = 65536 };
	char *p = malloc(N);
	bool known;
	uint32_t mask;
	memset(p, 'a', N);
	memcpy(p, "/models/", 8);
	assert_string_equal(match(TG_GET, p, N, &known, &mask)->path.p, "/models/{id}");
	p[N - 1] = '/';
	assert_null(match(TG_GET, p, N, &known, &mask));
	memcpy(p + N - 3, "%61", 3); /* more than the buffer for decoding holds */
	assert_null(match(TG_GET, p, N, &known, &mask));
	for (int i = 8; i < N; i += 2)
		memcpy(p + i, "b/", 2);
	assert_non_null(match(TG_GET, p, N - 1, &known, &mask));
	/* At the edge of the buffer for decoding: all escapes that stay three bytes. */
	for (size_t n = 2042; n <= 2050; n++) {
		memset(p, 'a', n);
		memcpy(p, "/models/", 8);
		memcpy(p + n - 3, "%20", 3);
		assert_int_equal(match(TG_GET, p, n, &known, &mask) != NULL, n <= 2048);
	}
	free(p);
}

static void families(void **state)
{
	(void)state;
	static const struct {
		const char *path;
		enum tg_family f;
	} t[] = {
		{ "/v1", TG_FAM_OPENAI }, { "/v1/zzz", TG_FAM_OPENAI }, { "/v1x", TG_FAM_PLAIN }, { "/infer", TG_FAM_INFER }, { "/infer/x", TG_FAM_INFER },
		{ "/inference", TG_FAM_PLAIN }, { "/api/v1/auth/x", TG_FAM_API }, { "/api/v1/models", TG_FAM_API }, { "/api/v1/inference", TG_FAM_API },
		{ "/api/v1/users/1", TG_FAM_API }, { "/api/v1/audit", TG_FAM_API }, { "/api/v1/usage", TG_FAM_API }, { "/api/v1/config", TG_FAM_API },
		{ "/api/v1/queue", TG_FAM_API }, { "/api/v1/events", TG_FAM_API }, { "/api/v1/configs", TG_FAM_CHAPKIT }, { "/api/v1/zzz", TG_FAM_CHAPKIT },
		{ "/api/v1", TG_FAM_CHAPKIT }, { "/api/v2", TG_FAM_PLAIN }, { "/train", TG_FAM_CREDIT }, { "/predict", TG_FAM_CREDIT },
		{ "/auth/verify", TG_FAM_CREDIT }, { "/auth", TG_FAM_PLAIN }, { "/models/x", TG_FAM_ADMIN0 }, { "/gpu", TG_FAM_ADMIN0 },
		{ "/system", TG_FAM_ADMIN0 }, { "/settings/x", TG_FAM_ADMIN0 }, { "/jobs", TG_FAM_ADMIN0 }, { "/eval", TG_FAM_ADMIN0 },
		{ "/data_gen/x/y", TG_FAM_ADMIN0 }, { "/%6dodels/x", TG_FAM_ADMIN0 }, { "/", TG_FAM_PLAIN }, { "", TG_FAM_PLAIN }, { "/v1%2fx", TG_FAM_PLAIN },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		if (tg_route_family((struct tg_slice){ t[i].path, strlen(t[i].path) }) != t[i].f)
			fail_msg("%s", t[i].path);
	assert_int_equal(tg_route_family((struct tg_slice){ 0 }), TG_FAM_PLAIN);
}

static int setup(void **state)
{
	(void)state;
	tg_route_init();
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(spellings), cmocka_unit_test(allowed_methods), cmocka_unit_test(every_row_is_reached),
		cmocka_unit_test(rows_are_whole), cmocka_unit_test(larger_bodies), cmocka_unit_test(long_paths), cmocka_unit_test(families),
	};
	return cmocka_run_group_tests(tests, setup, NULL);
}
