/* CORS: which origins are allowed, what answers say, what a preflight may ask for; the form in which origins are kept. */
#include "config/options.h"
#include "http/cors.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <cmocka.h>

static struct tg_config *config(const char *origins, const char *methods, const char *headers)
{
	struct tg_config *c = tg_config_defaults();
	struct tg_err why = { "" };
	const struct {
		const char *name, *value;
	} rows[] = { { "cors_origins", origins }, { "cors_methods", methods }, { "cors_headers", headers } };
	assert_non_null(c);
	for (unsigned i = 0; i < 3; i++)
		if (rows[i].value && !tg_option_set_text(tg_option_find("server", rows[i].name), c, rows[i].value, NULL, &why))
			fail_msg("%s: %s", rows[i].value, why.text);
	return c;
}

/* A head of up to eight header fields, "Name: value". */
static struct tg_head *head(const char *const *lines)
{
	static struct tg_head h;
	h = (struct tg_head){ .method = TG_OPTIONS };
	for (int i = 0; i < TG_H_COUNT; i++)
		h.first[i] = -1;
	for (; lines && *lines; lines++) {
		const char *colon = strchr(*lines, ':');
		struct tg_header *f = &h.headers[h.nheaders];
		f->name = (struct tg_slice){ *lines, (size_t)(colon - *lines) };
		f->value = tg_slice_trim(tg_slice_cstr(colon + 1));
		f->id = (uint8_t)tg_header_lookup(f->name);
		if (h.first[f->id] < 0)
			h.first[f->id] = (int16_t)h.nheaders;
		h.nheaders++;
	}
	return &h;
}

static enum tg_cors judge(const struct tg_config *c, const char *origin, const char **listed)
{
	char line[300];
	snprintf(line, sizeof line, "Origin: %s", origin ? origin : "");
	const char *const lines[] = { origin ? line : NULL, NULL };
	return tg_cors_judge(c, head(lines), listed);
}

/* T-CORS: look-alikes of a listed origin are other origins. */
static void test_judge(void **state)
{
	(void)state;
	struct tg_config *c = config("https://app.example, http://localhost:3000", NULL, NULL);
	const char *o;
	static const char *const strangers[] = { "https://app.example.evil", "https://evil.app.example", "https://xapp.example", "http://app.example", "https://app.example:8443", "https://app.example:443",
						 "https://app.example/", "HTTPS://APP.EXAMPLE", "https://app.exampl", "https://app.example https://app.example", "null", "*", "", "http://localhost",
						 "http://localhost:30000", "https://app.example." };
	assert_int_equal(judge(c, "https://app.example", &o), TG_CORS_LISTED);
	assert_string_equal(o, "https://app.example");
	assert_int_equal(judge(c, "http://localhost:3000", &o), TG_CORS_LISTED);
	for (unsigned i = 0; i < sizeof strangers / sizeof *strangers; i++)
		if (judge(c, strangers[i], &o) != TG_CORS_VARY || o)
			fail_msg("%s", strangers[i]);
	assert_int_equal(judge(c, NULL, &o), TG_CORS_VARY);
	const char *const two[] = { "Origin: https://app.example", "Origin: https://evil.example", NULL };
	assert_int_equal(tg_cors_judge(c, head(two), &o), TG_CORS_VARY);
	tg_config_free(c);
	c = config("null, https://app.example", NULL, NULL);
	assert_int_equal(judge(c, "null", &o), TG_CORS_LISTED);
	tg_config_free(c);
	c = config("*", NULL, NULL);
	assert_int_equal(judge(c, "https://any.example", &o), TG_CORS_ANY);
	assert_int_equal(judge(c, NULL, &o), TG_CORS_ANY);
	tg_config_free(c);
}

static const char *lines_of(const struct tg_config *c, enum tg_cors v, const char *origin)
{
	static char text[2048];
	struct tg_buf b;
	tg_buf_init(&b, sizeof text);
	tg_cors_lines(&b, c, v, origin);
	snprintf(text, sizeof text, "%.*s", (int)b.len, b.p ? b.p : "");
	tg_buf_free(&b);
	return text;
}

static void test_lines(void **state)
{
	(void)state;
	struct tg_config *c = config("https://app.example", NULL, NULL);
	assert_string_equal(lines_of(c, TG_CORS_NONE, NULL), "");
	assert_string_equal(lines_of(c, TG_CORS_VARY, NULL), "Vary: Origin\r\n");
	const char *t = lines_of(c, TG_CORS_ANY, NULL);
	assert_non_null(strstr(t, "Access-Control-Allow-Origin: *\r\n"));
	assert_null(strstr(t, "Credentials"));
	assert_null(strstr(t, "Vary"));
	t = lines_of(c, TG_CORS_LISTED, "https://app.example");
	assert_non_null(strstr(t, "Vary: Origin\r\nAccess-Control-Allow-Origin: https://app.example\r\nAccess-Control-Allow-Credentials: true\r\nAccess-Control-Expose-Headers: X-Request-ID, Retry-After, "));
	assert_string_equal(t + strlen(t) - 2, "\r\n");
	c->cors_credentials = false;
	assert_null(strstr(lines_of(c, TG_CORS_LISTED, "https://app.example"), "Credentials"));
	tg_config_free(c);
}

/* S2-54, S2-55, C-11: the built-in lists, and those of the documents. */
static void test_preflight(void **state)
{
	static const struct {
		const char *methods, *headers; /* NULL: built in */
		const char *method, *asked, *asked2;
		bool allowed;
	} rows[] = {
		{ NULL, NULL, "POST", NULL, NULL, true },
		{ NULL, NULL, "PUT", "authorization,content-type,x-api-key", NULL, true },
		{ NULL, NULL, "DELETE", "Authorization", "X-API-KEY", true },
		{ NULL, NULL, "GET", "", NULL, true },
		{ NULL, NULL, "HEAD", " , authorization ,, ", NULL, true },
		{ NULL, NULL, "PATCH", NULL, NULL, false },
		{ NULL, NULL, "post", NULL, NULL, false },
		{ NULL, NULL, "POS", NULL, NULL, false },
		{ NULL, NULL, "POSTS", NULL, NULL, false },
		{ NULL, NULL, "", NULL, NULL, false },
		{ NULL, NULL, "*", NULL, NULL, false },
		{ NULL, NULL, "POST", "x-foo", NULL, false },
		{ NULL, NULL, "POST", "authorization, x-foo", NULL, false },
		{ NULL, NULL, "POST", "authorization", "x-foo", false },
		{ NULL, NULL, "POST", "authorizatio", NULL, false },
		{ NULL, NULL, "POST", "authorization x-api-key", NULL, false },
		{ NULL, NULL, "POST", "*", NULL, false },
		{ "GET, POST, DELETE", NULL, "PUT", NULL, NULL, false },
		{ "GET, POST, DELETE", NULL, "DELETE", NULL, NULL, true },
		{ "POST", NULL, "HEAD", NULL, NULL, false },
		{ "[]", NULL, "POST", NULL, NULL, false },
		{ NULL, "Authorization, Content-Type", "POST", "x-api-key", NULL, false },
		{ NULL, "[]", "POST", "authorization", NULL, false },
		{ NULL, "[]", "POST", NULL, NULL, true },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		char method[80], a[120], b[120];
		struct tg_config *c = config("https://app.example", rows[i].methods, rows[i].headers);
		snprintf(method, sizeof method, "Access-Control-Request-Method: %s", rows[i].method);
		snprintf(a, sizeof a, "Access-Control-Request-Headers: %s", rows[i].asked ? rows[i].asked : "");
		snprintf(b, sizeof b, "access-control-request-headers: %s", rows[i].asked2 ? rows[i].asked2 : "");
		const char *const lines[] = { "Origin: https://app.example", method, rows[i].asked ? a : NULL, rows[i].asked2 ? b : NULL, NULL };
		if (tg_cors_allows(c, head(lines)) != rows[i].allowed)
			fail_msg("row %u", i);
		tg_config_free(c);
	}
	struct tg_config *c = config("*", NULL, NULL);
	struct tg_buf b;
	tg_buf_init(&b, 4096);
	tg_cors_preflight_lines(&b, c);
	tg_buf_char(&b, 0);
	assert_string_equal(b.p, "Access-Control-Allow-Methods: GET, POST, PUT, DELETE\r\nAccess-Control-Allow-Headers: Authorization, Content-Type, X-API-Key\r\nAccess-Control-Max-Age: 600\r\n");
	tg_buf_free(&b);
	tg_config_free(c);
}

/* Origins are kept as browsers write them. */
static void test_origin(void **state)
{
	static const struct {
		const char *text, *kept; /* kept NULL: refused */
		const char *why;
	} rows[] = {
		{ "*", "*", NULL },
		{ "null", "null", NULL },
		{ "https://app.example", "https://app.example", NULL },
		{ "HTTPS://App.Example:443", "https://app.example", NULL },
		{ "http://app.example:80", "http://app.example", NULL },
		{ "http://app.example:443", "http://app.example:443", NULL },
		{ "https://app.example:0080", "https://app.example:80", NULL },
		{ "http://[::1]:3000", "http://[::1]:3000", NULL },
		{ "http://[2001:DB8:0::1]", "http://[2001:db8::1]", NULL },
		{ "http://127.0.0.1:3000", "http://127.0.0.1:3000", NULL },
		{ "chrome-extension://abcdef", "chrome-extension://abcdef", NULL },
		{ "capacitor://localhost", "capacitor://localhost", NULL },
		{ "https://xn--bcher-kva.example", "https://xn--bcher-kva.example", NULL },
		{ "https://b\xc3\xbc" "cher.example", NULL, "xn-- form" },
		{ "https://app.example/", NULL, "without the last /" },
		{ "https://app.example/x", NULL, "without a path" },
		{ "https://app.example?x", NULL, "without a path" },
		{ "https://*.example", NULL, "no wildcards" },
		{ "https://", NULL, "the host is missing" },
		{ "https://.example", NULL, "begins with a dot" },
		{ "app.example", NULL, "must be SCHEME" },
		{ "://app.example", NULL, "must be SCHEME" },
		{ "ht tp://app.example", NULL, "must be SCHEME" },
		{ "1http://app.example", NULL, "must be SCHEME" },
		{ "NULL", NULL, "must be SCHEME" },
		{ "", NULL, "must be SCHEME" },
		{ "https://a@app.example", NULL, "user name" },
		{ "https://app.example:", NULL, "port" },
		{ "https://app.example:0", NULL, "port" },
		{ "https://app.example:65536", NULL, "port" },
		{ "https://app.example:443x", NULL, "port" },
		{ "https://app.example:000443", NULL, "port" },
		{ "http://[::1", NULL, "does not end" },
		{ "http://[::g]", NULL, "no IPv6 address" },
		{ "http://[::1]x", NULL, "port" },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		char out[TG_ORIGIN_MAX], again[TG_ORIGIN_MAX];
		struct tg_err why = { "" };
		bool ok = tg_origin_parse(tg_slice_cstr(rows[i].text), out, &why);
		if (ok != (rows[i].kept != NULL) || (ok ? strcmp(out, rows[i].kept) != 0 : !strstr(why.text, rows[i].why)))
			fail_msg("%s: %s", rows[i].text, ok ? out : why.text);
		if (ok) {
			assert_true(tg_origin_parse(tg_slice_cstr(out), again, &why));
			assert_string_equal(out, again);
		}
	}
	char longest[TG_ORIGIN_MAX + 40] = "https://";
	struct tg_err why;
	char out[TG_ORIGIN_MAX];
	for (size_t n = 8; n < sizeof longest - 1; n++) {
		longest[n] = 'a';
		bool ok = tg_origin_parse(tg_slice_cstr(longest), out, &why);
		assert_true(ok == (n - 7 <= 200));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = { cmocka_unit_test(test_judge), cmocka_unit_test(test_lines), cmocka_unit_test(test_preflight), cmocka_unit_test(test_origin) };
	return cmocka_run_group_tests(tests, NULL, NULL);
}
