/* Redaction (seed ledger S2-65 to S2-69): what must go, what must stay, and that no cut leaves half a key. */
#include "base/log.h"
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <cmocka.h>

static size_t redact(const char *in, size_t n, char *out, size_t cap)
{
	/* Of their exact sizes, so that the sanitizer sees every byte too many. */
	char *src = malloc(n ? n : 1), *dst = malloc(cap ? cap : 1);
	memcpy(src, in, n);
	size_t k = tg_log_redact((struct tg_slice){ src, n }, dst, cap);
	assert_true(k <= cap);
	memcpy(out, dst, k);
	out[k] = 0;
	free(src);
	free(dst);
	return k;
}

static void table(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out;
	} t[] = {
		/* S2-65: API keys */
		{ "key sk-abcdef1234 used", "key *** used" },
		{ "sk_ml_train_abc123xyz", "***" },
		{ "tg_k1_0123456789abcdefghij", "***" },
		{ "a1b2c3d4e5f6a7b8c9d0", "***" },
		{ "x=a1b2c3d4e5f6a7b8c9d0&y=1", "x=***&y=1" },
		{ "/v1/models/a1b2c3d4e5f6a7b8c9d0e1?z", "/v1/models/***?z" },
		{ "{\"api_key\": \"demo-key-12345\", \"n\": 1}", "{\"api_key\": \"***\", \"n\": 1}" },
		{ "X-API-Key: demo-key-12345", "X-API-Key: ***" },
		{ "x-api-key=demo-key-12345;a=b", "x-api-key=***;a=b" },
		{ "Authorization: Bearer demo-key-12345", "Authorization: Bearer ***" },
		{ "Authorization: demo-key", "Authorization: ***" },
		{ "sent Bearer demo-key-12345, twice", "sent Bearer ***, twice" },
		{ "Cookie: api_key=abc; b=c", "Cookie: ***; b=c" },
		/* S2-66: tokens */
		{ "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "***" },
		{ "Referer https://h/?t=eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln&x=1", "Referer https://h/?t=***&x=1" },
		{ "xeyJa", "***" },
		/* S2-67: passwords, also out of the snippets of a parser */
		{ "{\"username\":\"u\",\"password\":\"hunter2\"}", "{\"username\":\"u\",\"password\":\"***\"}" },
		{ "{\"password\":\"a\\\"b c\",\"n\":1}", "{\"password\":\"***\",\"n\":1}" },
		{ "{\"password\":\"hunter2", "{\"password\":\"***" },
		{ "near \\\"password\\\":\\\"hunter2\\\",x", "near \\\"password\\\":\\\"***\\\",x" },
		{ "user_password = hunter2 next", "user_password = *** next" },
		{ "{'passwd': 'x y'}", "{'passwd': '***'}" },
		{ "postgres://tollgate:hunter2@db:5432/x", "postgres://***/x" },
		{ "redis://:p/w@h", "redis://:p/***" },
		/* S2-68: e-mail addresses */
		{ "from a@b.co to c.d+e@sub.example.org.", "from *** to ***" },
		{ "u=a%40b.co&x", "u=***&x" },
		{ "<\"john smith\"@example.com>", "<***>" },
		{ "j\xc3\xbcrgen@b\xc3\xbc"
		  "cher.de", "***" },
		{ "@ home", "@ home" },
		{ "a@ b @c", "a@ b @c" },
		{ "@@@@@", "@@@@@" },
		/* What stays */
		{ "", "" },
		{ "connect ECONNREFUSED 10.0.0.5:8000", "connect ECONNREFUSED 10.0.0.5:8000" },
		{ "sk_ml_train", "sk_ml_train" },
		{ "models/gemma3-270m-q4.gguf", "models/gemma3-270m-q4.gguf" },
		{ "abcdefghijklmnopqrstuvwxyz", "abcdefghijklmnopqrstuvwxyz" },
		{ "12345678901234567890", "12345678901234567890" },
		{ "prompt_tokens: 5, max_tokens=7", "prompt_tokens: 5, max_tokens=7" },
		{ "wrong password", "wrong password" },
		{ "Basic auth", "Basic auth" },
		{ "caf\xc3\xa9 \xe2\x82\xac", "caf\xc3\xa9 \xe2\x82\xac" },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		char out[256], again[256];
		size_t n = redact(t[i].in, strlen(t[i].in), out, 200);
		if (strcmp(out, t[i].out) != 0)
			fail_msg("%s: got %s, want %s", t[i].in, out, t[i].out);
		redact(out, n, again, 200);
		if (strcmp(out, again) != 0)
			fail_msg("%s: a second pass changes %s to %s", t[i].in, out, again);
	}
}

static void no_half_of_a_key_at_any_cut(void **state)
{
	(void)state;
	static const char in[] = "word sk-abcdef123456 and a1b2c3d4e5f6a7b8c9d0e1f2 mail joe@example.com eyJhbGciOi.eyJz.x password=hunter2 \xe2\x82\xac end";
	static const char *const secret[] = { "sk-a", "a1b2", "joe", "eyJ", "hunt", "example" };
	for (size_t cap = 0; cap < sizeof in; cap++) {
		char out[256];
		size_t n = redact(in, sizeof in - 1, out, cap);
		for (size_t i = 0; i < sizeof secret / sizeof *secret; i++)
			if (strstr(out, secret[i]))
				fail_msg("cap %zu: %s", cap, out);
		/* Never half a character. */
		assert_true(n < 1 || (unsigned char)out[n - 1] != 0xe2);
		assert_true(n < 2 || (unsigned char)out[n - 2] != 0xe2);
	}
}

/* Texts made to cost: each is looked at a bounded number of times. */
static void bounded_work(void **state)
{
	(void)state;
	enum { N = 1 << 20 };
	static const char *const units[] = { "@", "%40", "a@", "a@ ", "\"@", "password=", "bearer ", "x", "\\", "a:b@" };
	char *p = malloc(N), out[1025];
	for (size_t u = 0; u < sizeof units / sizeof *units; u++) {
		size_t k = strlen(units[u]), n = 0;
		while (n + k <= N)
			memcpy(p + n, units[u], k), n += k;
		assert_true(tg_log_redact((struct tg_slice){ p, n }, out, 1024) <= 1024);
	}
	free(p);
}

static void random_bytes(void **state)
{
	(void)state;
	static const char alphabet[] = "ab1@%40\"\\ :=-_./\xc3\xa9\xff{}eyJsk-password";
	srand(7);
	for (int round = 0; round < 20000; round++) {
		char in[96], out[200];
		size_t n = (size_t)(rand() % 96);
		for (size_t i = 0; i < n; i++)
			in[i] = alphabet[(size_t)rand() % (sizeof alphabet - 1)];
		redact(in, n, out, (size_t)(rand() % 160));
		assert_null(strstr(out, "eyJ"));
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(table), cmocka_unit_test(no_half_of_a_key_at_any_cut), cmocka_unit_test(bounded_work), cmocka_unit_test(random_bytes),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
