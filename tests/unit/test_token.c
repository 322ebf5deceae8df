/* Tokens: every way to tamper with one, what a holder of the secret may not say, clocks, rotation, and many threads at once (seed ledger S2-04, S2-08, S2-09; threats T-JWT, CVE-2026-41432). */
#include "policy/token.h"
#include <errno.h>
#include <jansson.h>
#include <pthread.h>
#include <setjmp.h>
#include <sodium.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

#define NOW INT64_C(1700000000)
#define HEADER "{\"alg\":\"HS256\",\"typ\":\"JWT\"}"
#define CLAIMS_TAIL "\"jti\":\"j1\",\"iat\":1700000000,\"exp\":1700003600}"
#define CLAIMS "{\"iss\":\"tollgate\",\"sub\":\"u1\"," CLAIMS_TAIL
static const char secret[] = "0123456789abcdef0123456789abcdef";
static const char other[] = "fedcba9876543210fedcba9876543210";

static struct tg_token_key key_of(const char *current, const char *previous)
{
	struct tg_token_key k = { 0 };
	assert_true(tg_secret_set(&k.current, tg_slice_cstr(current)));
	if (previous)
		assert_true(tg_secret_set(&k.previous, tg_slice_cstr(previous)));
	return k;
}

static struct tg_token_verifier *verifier_of(const char *current, const char *previous)
{
	struct tg_token_key k = key_of(current, previous);
	struct tg_token_verifier *v = tg_token_verifier_new(&k);
	assert_non_null(v);
	tg_token_key_wipe(&k);
	return v;
}

static size_t encode(char *out, size_t cap, const void *p, size_t n)
{
	sodium_bin2base64(out, cap, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return strlen(out);
}

/* The MAC by libsodium: not the code under test. */
static void sign(char *text, size_t cap, const char *key)
{
	unsigned char mac[32];
	crypto_auth_hmacsha256_state s;
	crypto_auth_hmacsha256_init(&s, (const unsigned char *)key, strlen(key));
	crypto_auth_hmacsha256_update(&s, (const unsigned char *)text, strlen(text));
	crypto_auth_hmacsha256_final(&s, mac);
	size_t n = strlen(text);
	text[n++] = '.';
	encode(text + n, cap - n, mac, sizeof mac);
}

static char *forge_n(const char *header, size_t hn, const char *claims, size_t cn, const char *key)
{
	static char text[32768];
	size_t n = encode(text, sizeof text, header, hn);
	text[n++] = '.';
	encode(text + n, sizeof text - n, claims, cn);
	sign(text, sizeof text, key);
	return text;
}

static char *forge(const char *header, const char *claims, const char *key)
{
	return forge_n(header, strlen(header), claims, strlen(claims), key);
}

static enum tg_token_result verify(const char *text, int64_t now)
{
	struct tg_token_verifier *v = verifier_of(secret, NULL);
	struct tg_token t = { .sub = "untouched" };
	enum tg_token_result r = tg_token_verify(v, tg_slice_cstr(text), now, &t), again;
	again = tg_token_verify(v, tg_slice_cstr(text), now, &t); /* out of what was seen */
	assert_int_equal(r, again);
	assert_int_equal(r == TG_TOKEN_OK, strcmp(t.sub, "untouched") != 0);
	tg_token_verifier_free(v);
	return r;
}

static void issued_tokens_verify(void **state)
{
	(void)state;
	struct tg_token_key k = key_of(secret, NULL);
	struct tg_buf b, c;
	tg_buf_init(&b, 4096);
	tg_buf_init(&c, 4096);
	struct tg_token made, second, read;
	assert_true(tg_token_issue(&k, TG_S("usr_01"), NOW, 86400, &b, &made));
	assert_true(tg_token_issue(&k, TG_S("usr_01"), NOW, 86400, &c, &second));
	assert_true(tg_slice_starts(tg_buf_view(&b), TG_S("eyJ"))); /* S2-08 */
	assert_string_not_equal(made.jti, second.jti);
	assert_int_equal(strlen(made.jti), 22);
	assert_int_equal(made.exp, NOW + 86400); /* S2-09: what the login says is what the token says */
	struct tg_token_verifier *v = tg_token_verifier_new(&k);
	assert_int_equal(tg_token_verify(v, tg_buf_view(&b), NOW, &read), TG_TOKEN_OK);
	assert_memory_equal(&read, &made, sizeof read);
	tg_token_verifier_free(v);
	tg_buf_free(&b);
	tg_buf_free(&c);
	tg_token_key_wipe(&k);
}

static void issuing_is_bounded(void **state)
{
	(void)state;
	struct tg_token_key k = key_of(secret, NULL), none = { 0 };
	struct tg_buf b, tiny;
	tg_buf_init(&b, 4096);
	tg_buf_init(&tiny, 64);
	char long_sub[TG_TOKEN_SUB_MAX + 2];
	memset(long_sub, 'a', sizeof long_sub);
	assert_false(tg_token_issue(&k, TG_S(""), NOW, 60, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a b"), NOW, 60, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a\"b"), NOW, 60, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a\0b"), NOW, 60, &b, NULL));
	assert_false(tg_token_issue(&k, (struct tg_slice){ long_sub, TG_TOKEN_SUB_MAX + 1 }, NOW, 60, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a"), NOW, 0, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a"), NOW, -1, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a"), NOW, TG_TOKEN_LIFE_MAX_S + 1, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a"), 0, 60, &b, NULL));
	assert_false(tg_token_issue(&k, TG_S("a"), INT64_MAX, 60, &b, NULL));
	assert_false(tg_token_issue(&none, TG_S("a"), NOW, 60, &b, NULL));
	assert_null(tg_token_verifier_new(&none)); /* an empty secret verifies nothing */
	assert_int_equal(b.len, 0);
	assert_false(tg_token_issue(&k, TG_S("a"), NOW, 60, &tiny, NULL));
	assert_int_equal(tiny.len, 0);
	assert_true(tg_token_issue(&k, (struct tg_slice){ long_sub, TG_TOKEN_SUB_MAX }, NOW, TG_TOKEN_LIFE_MAX_S, &b, NULL));
	tg_buf_free(&b);
	tg_buf_free(&tiny);
	tg_token_key_wipe(&k);
}

/* Any byte of a token changed to any other, dropped or doubled: never the token it was. */
static void every_tampering_fails(void **state)
{
	(void)state;
	char good[512], bad[513];
	snprintf(good, sizeof good, "%s", forge(HEADER, CLAIMS, secret));
	size_t n = strlen(good);
	struct tg_token_verifier *v = verifier_of(secret, NULL);
	struct tg_token t;
	assert_int_equal(tg_token_verify(v, tg_slice_cstr(good), NOW, &t), TG_TOKEN_OK);
	for (size_t i = 0; i < n; i++) {
		for (int c = 0; c < 256; c++) {
			memcpy(bad, good, n + 1);
			bad[i] = (char)c;
			if (bad[i] != good[i])
				assert_int_not_equal(tg_token_verify(v, (struct tg_slice){ bad, n }, NOW, &t), TG_TOKEN_OK);
		}
		memcpy(bad, good, i);
		memcpy(bad + i, good + i + 1, n - i);
		assert_int_not_equal(tg_token_verify(v, (struct tg_slice){ bad, n - 1 }, NOW, &t), TG_TOKEN_OK);
		memcpy(bad, good, i + 1);
		memcpy(bad + i + 1, good + i, n - i + 1);
		assert_int_not_equal(tg_token_verify(v, (struct tg_slice){ bad, n + 1 }, NOW, &t), TG_TOKEN_OK);
		assert_int_not_equal(tg_token_verify(v, (struct tg_slice){ good, i }, NOW, &t), TG_TOKEN_OK); /* cut short */
	}
	tg_token_verifier_free(v);
}

/* base64url has one form for each string of bytes: the last character's unused bits are 0, nothing is padded, nothing stands between. */
static void other_spellings_fail(void **state)
{
	(void)state;
	static const char letters[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
	char text[600];
	snprintf(text, sizeof text, "%s", forge(HEADER, CLAIMS, secret));
	size_t n = strlen(text);
	char *at = strchr(letters, text[n - 1]);
	assert_non_null(at);
	for (int bits = 1; bits < 4; bits++) { /* 43 characters: two bits are left over */
		char bad[600];
		memcpy(bad, text, n + 1);
		bad[n - 1] = letters[(at - letters) | bits];
		assert_int_equal(verify(bad, NOW), TG_TOKEN_NONE);
	}
	static const char *const tails[] = { "=", "==", ".", "..", "\n", " ", "A", "!!", "%3D" };
	for (size_t i = 0; i < sizeof tails / sizeof *tails; i++) {
		char bad[600];
		snprintf(bad, sizeof bad, "%s%s", text, tails[i]);
		assert_int_equal(verify(bad, NOW), TG_TOKEN_NONE);
	}
	/* Signed, but not canonical within; the last has bits left over. */
	static const char *const headers[] = { "eyJhbGciOiJIUzI1NiJ9=", "eyJhbGciOiJIUzI1Ni J9", "eyJhbGciOiJIUzI1NiJ+", "eyJhbGciOiJIUzI1NiJ9\n", "eyJhbGciOiJIUzI1NiJ", "eyJhbGciOiJIUzI1NiIgfR" };
	for (size_t i = 0; i < sizeof headers / sizeof *headers; i++) {
		char bad[600];
		int k = snprintf(bad, sizeof bad, "%s.", headers[i]);
		encode(bad + k, sizeof bad - (size_t)k, CLAIMS, strlen(CLAIMS));
		sign(bad, sizeof bad, secret);
		assert_int_equal(verify(bad, NOW), TG_TOKEN_FORMAT);
	}
}

static void shapes_that_are_none(void **state)
{
	(void)state;
	static const char *const none[] = { "", ".", "..", "...", "a", "a.b", "a.b.c", "a..b", "..a", "tg_abcdefgh_0123456789", "1.2.3.4", "eyJhbGciOiJIUzI1NiJ9.e30.", "eyJhbGciOiJub25lIn0.e30." };
	for (size_t i = 0; i < sizeof none / sizeof *none; i++)
		assert_int_equal(verify(none[i], NOW), TG_TOKEN_NONE);
	struct tg_token_verifier *v = verifier_of(secret, NULL);
	struct tg_token t;
	assert_int_equal(tg_token_verify(v, (struct tg_slice){ 0 }, NOW, &t), TG_TOKEN_NONE);
	tg_token_verifier_free(v);
	/* Empty parts, signed. */
	char text[200] = ".";
	encode(text + 1, sizeof text - 1, CLAIMS, strlen(CLAIMS));
	sign(text, sizeof text, secret);
	assert_int_equal(verify(text, NOW), TG_TOKEN_NONE);
	snprintf(text, sizeof text, "eyJhbGciOiJIUzI1NiJ9.");
	sign(text, sizeof text, secret);
	assert_int_equal(verify(text, NOW), TG_TOKEN_NONE);
	/* Four parts. */
	snprintf(text, sizeof text, "eyJhbGciOiJIUzI1NiJ9.e30.e30");
	sign(text, sizeof text, secret);
	assert_int_equal(verify(text, NOW), TG_TOKEN_NONE);
}

/* S2-04: a key of the same length, of other lengths, and one that begins as ours. */
static void other_secrets_fail(void **state)
{
	(void)state;
	static const char *const keys[] = { other, "", "0", "0123456789abcdef0123456789abcde", "0123456789abcdef0123456789abcdeg", "0123456789abcdef0123456789abcdef0" };
	for (size_t i = 0; i < sizeof keys / sizeof *keys; i++)
		assert_int_equal(verify(forge(HEADER, CLAIMS, keys[i]), NOW), TG_TOKEN_SIGNATURE);
	assert_true(tg_token_guessed(TG_TOKEN_SIGNATURE) && tg_token_guessed(TG_TOKEN_NONE) && tg_token_guessed(TG_TOKEN_TOO_LONG));
	assert_false(tg_token_guessed(TG_TOKEN_EXPIRED) || tg_token_guessed(TG_TOKEN_OK) || tg_token_guessed(TG_TOKEN_CLAIMS) || tg_token_guessed(TG_TOKEN_MEMORY));
}

/* The header decides nothing: with our own signature under it, and (as an attacker has it) without. */
static void algorithms_are_pinned(void **state)
{
	(void)state;
	static const struct {
		const char *header;
		enum tg_token_result r;
	} t[] = {
		{ "{\"alg\":\"HS256\"}", TG_TOKEN_OK },
		{ "{\"typ\":\"jwt\",\"alg\":\"HS256\"}", TG_TOKEN_OK },
		{ "{\"alg\":\"none\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"None\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":null}", TG_TOKEN_HEADER },
		{ "{\"alg\":[\"HS256\"]}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"hs256\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256 \"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS384\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS512\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"RS256\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"ES256\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"PS256\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"EdDSA\"}", TG_TOKEN_HEADER },
		{ "{}", TG_TOKEN_HEADER },
		{ "{\"typ\":\"JWT\"}", TG_TOKEN_HEADER },
		{ "{\"typ\":\"JWE\",\"alg\":\"HS256\"}", TG_TOKEN_HEADER },
		{ "{\"typ\":1,\"alg\":\"HS256\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"kid\":\"../../dev/null\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"jku\":\"https://evil.example/k\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"jwk\":{\"kty\":\"oct\",\"k\":\"AA\"}}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"x5u\":\"https://evil.example/c\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"crit\":[\"b64\"],\"b64\":false}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"HS256\",\"zip\":\"DEF\"}", TG_TOKEN_HEADER },
		{ "{\"alg\":\"none\",\"alg\":\"HS256\"}", TG_TOKEN_FORMAT },
		{ "{\"alg\":\"HS256\"} ", TG_TOKEN_OK },
		{ "{\"alg\":\"HS256\"}x", TG_TOKEN_FORMAT },
		{ "[\"HS256\"]", TG_TOKEN_FORMAT },
		{ "\"HS256\"", TG_TOKEN_FORMAT },
		{ "not json", TG_TOKEN_FORMAT },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		assert_int_equal(verify(forge(t[i].header, CLAIMS, secret), NOW), t[i].r);
		assert_int_equal(verify(forge(t[i].header, CLAIMS, ""), NOW), TG_TOKEN_SIGNATURE);
		char unsigned_[600]; /* header.claims. */
		snprintf(unsigned_, sizeof unsigned_, "%s", forge(t[i].header, CLAIMS, other));
		strrchr(unsigned_, '.')[1] = 0;
		assert_int_equal(verify(unsigned_, NOW), TG_TOKEN_NONE);
	}
}

static void claims_are_strict(void **state)
{
	(void)state;
#define T(sub, iat, exp, more) "{\"iss\":\"tollgate\",\"jti\":\"j1\",\"sub\":" sub ",\"iat\":" iat ",\"exp\":" exp more "}"
	static const struct {
		const char *claims;
		enum tg_token_result r;
	} t[] = {
		{ T("\"u1\"", "1700000000", "1700003600", ""), TG_TOKEN_OK },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"permissions\":[\"manage_users\"],\"role\":\"admin\""), TG_TOKEN_OK }, /* ignored */
		{ T("\"u1\"", "1700000000", "1700003600.0", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000.5", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "\"1700003600\"", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1.7000036e9", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1e308", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1e309", ""), TG_TOKEN_FORMAT },
		{ T("\"u1\"", "1700000000", "9223372036854775807", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "9223372036854775808", ""), TG_TOKEN_FORMAT },
		{ T("\"u1\"", "1700000000", "253402300800", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1702592001", ""), TG_TOKEN_CLAIMS }, /* a second over 30 days */
		{ T("\"u1\"", "1700000000", "1702592000", ""), TG_TOKEN_OK },
		{ T("\"u1\"", "1700000000", "-1", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "-9223372036854775808", "9223372036854775807", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "0", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "0", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "null", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "true", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1700000000", ""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"exp\":1700003600"), TG_TOKEN_FORMAT },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"sub\":\"u2\""), TG_TOKEN_FORMAT },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"aud\":\"tollgate\""), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"aud\":[]"), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"nbf\":1700000061"), TG_TOKEN_EARLY },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"nbf\":1700000060"), TG_TOKEN_OK },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"nbf\":1700000000.5"), TG_TOKEN_CLAIMS },
		{ T("\"u1\"", "1700000000", "1700003600", ",\"nbf\":\"x\""), TG_TOKEN_CLAIMS },
		{ T("\"\"", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("1", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("null", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("\"a b\"", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("\"a\\u0000b\"", "1700000000", "1700003600", ""), TG_TOKEN_FORMAT },
		{ T("\"\\u00e4\"", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ T("\"aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa\"", "1700000000", "1700003600", ""), TG_TOKEN_CLAIMS },
		{ "{\"sub\":\"u1\"," CLAIMS_TAIL, TG_TOKEN_CLAIMS },
		{ "{\"iss\":\"inferno\",\"sub\":\"u1\"," CLAIMS_TAIL, TG_TOKEN_ISSUER_OTHER },
		{ "{\"iss\":[\"tollgate\"],\"sub\":\"u1\"," CLAIMS_TAIL, TG_TOKEN_CLAIMS },
		{ "{\"iss\":\"tollgate\"," CLAIMS_TAIL, TG_TOKEN_CLAIMS },
		{ "{\"iss\":\"tollgate\",\"sub\":\"u1\",\"iat\":1700000000,\"exp\":1700003600}", TG_TOKEN_CLAIMS },
		{ "{\"iss\":\"tollgate\",\"sub\":\"u1\",\"jti\":\"j\",\"exp\":1700003600}", TG_TOKEN_CLAIMS },
		{ "{\"iss\":\"tollgate\",\"sub\":\"u1\",\"jti\":\"j\",\"iat\":1700000000}", TG_TOKEN_CLAIMS },
		{ "{}", TG_TOKEN_CLAIMS },
		{ "[]", TG_TOKEN_FORMAT },
		{ "[" CLAIMS "]", TG_TOKEN_FORMAT },
		{ "null", TG_TOKEN_FORMAT },
		{ CLAIMS "{}", TG_TOKEN_FORMAT },
		{ "\xff\xfe", TG_TOKEN_FORMAT },
	};
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) {
		enum tg_token_result r = verify(forge(HEADER, t[i].claims, secret), NOW);
		if (r != t[i].r)
			fail_msg("%s: %s, not %s", t[i].claims, tg_token_reason(r), tg_token_reason(t[i].r));
	}
	/* libjwt would stop reading at the NUL. */
	static const char nul[] = CLAIMS "\0,\"role\":\"admin\"";
	assert_int_equal(verify(forge_n(HEADER, strlen(HEADER), nul, sizeof nul, secret), NOW), TG_TOKEN_FORMAT);
}

static void size_is_bounded(void **state)
{
	(void)state;
	char *claims = malloc(30000);
	assert_non_null(claims);
	/* To the byte: 36 for the header, 44 for dot and signature, 1 for the dot before: claims of 8111 characters are 6083 bytes. */
	for (int over = 0; over < 2; over++) {
		size_t want = over ? 6084 : 6083, n = (size_t)sprintf(claims, "{\"iss\":\"tollgate\",\"sub\":\"u1\",\"pad\":\"");
		while (n < want - strlen("\"," CLAIMS_TAIL))
			claims[n++] = 'x';
		memcpy(claims + n, "\"," CLAIMS_TAIL, sizeof "\"," CLAIMS_TAIL);
		char *text = forge(HEADER, claims, secret);
		assert_int_equal(strlen(claims), want);
		assert_int_equal(verify(text, NOW), strlen(text) <= TG_TOKEN_MAX ? TG_TOKEN_OK : TG_TOKEN_TOO_LONG);
		assert_true(over ? strlen(text) > TG_TOKEN_MAX : strlen(text) > TG_TOKEN_MAX - 4);
	}
	/* Nested as deep as it can be. */
	memset(claims, '[', 6000);
	claims[6000] = 0;
	assert_int_equal(verify(forge(HEADER, claims, secret), NOW), TG_TOKEN_FORMAT);
	memset(claims, '.', 20000);
	claims[20000] = 0;
	assert_int_equal(verify(claims, NOW), TG_TOKEN_TOO_LONG);
	free(claims);
}

/* The clock is the caller's: forwards and backwards, one verifier that remembers the token. */
static void clocks_step(void **state)
{
	(void)state;
	char text[512];
	snprintf(text, sizeof text, "%s", forge(HEADER, CLAIMS, secret));
	static const struct {
		int64_t now;
		enum tg_token_result r;
	} t[] = {
		{ NOW, TG_TOKEN_OK }, { NOW - 60, TG_TOKEN_OK }, { NOW - 61, TG_TOKEN_EARLY }, { NOW + 3600, TG_TOKEN_OK }, { NOW + 3659, TG_TOKEN_OK },
		{ NOW + 3660, TG_TOKEN_EXPIRED }, { NOW + 100000, TG_TOKEN_EXPIRED }, { NOW + 10, TG_TOKEN_OK }, { 0, TG_TOKEN_EARLY }, { NOW, TG_TOKEN_OK },
	};
	struct tg_token_verifier *v = verifier_of(secret, NULL);
	struct tg_token got;
	for (size_t i = 0; i < sizeof t / sizeof *t; i++)
		assert_int_equal(tg_token_verify(v, tg_slice_cstr(text), t[i].now, &got), t[i].r);
	tg_token_verifier_free(v);
	for (size_t i = 0; i < sizeof t / sizeof *t; i++) /* and without memory of it */
		assert_int_equal(verify(text, t[i].now), t[i].r);
}

static void secrets_rotate(void **state)
{
	(void)state;
	char old[512], fresh[512];
	snprintf(old, sizeof old, "%s", forge(HEADER, CLAIMS, secret));
	snprintf(fresh, sizeof fresh, "%s", forge(HEADER, CLAIMS, other));
	struct tg_token_verifier *both = verifier_of(other, secret), *after = verifier_of(other, NULL);
	struct tg_token t;
	for (int i = 0; i < 2; i++) {
		assert_int_equal(tg_token_verify(both, tg_slice_cstr(old), NOW, &t), TG_TOKEN_OK);
		assert_int_equal(tg_token_verify(both, tg_slice_cstr(fresh), NOW, &t), TG_TOKEN_OK);
		assert_int_equal(tg_token_verify(both, tg_slice_cstr(forge(HEADER, CLAIMS, "0123456789")), NOW, &t), TG_TOKEN_SIGNATURE);
		assert_int_equal(tg_token_verify(after, tg_slice_cstr(old), NOW, &t), TG_TOKEN_SIGNATURE);
		assert_int_equal(tg_token_verify(after, tg_slice_cstr(fresh), NOW, &t), TG_TOKEN_OK);
	}
	tg_token_verifier_free(both);
	tg_token_verifier_free(after);
	/* New tokens are signed by the current one alone. */
	struct tg_token_key k = key_of(other, secret);
	struct tg_buf b;
	tg_buf_init(&b, 4096);
	assert_true(tg_token_issue(&k, TG_S("u1"), NOW, 60, &b, NULL));
	after = verifier_of(other, NULL);
	assert_int_equal(tg_token_verify(after, tg_buf_view(&b), NOW, &t), TG_TOKEN_OK);
	tg_token_verifier_free(after);
	tg_buf_free(&b);
	tg_token_key_wipe(&k);
}

/* What was seen is kept by signature in few places: many tokens through one verifier stay themselves. */
static void many_tokens_are_not_mixed_up(void **state)
{
	(void)state;
	struct tg_token_key k = key_of(secret, NULL);
	struct tg_token_verifier *v = tg_token_verifier_new(&k);
	enum { N = 300 };
	static struct tg_token made[N];
	static char text[N][512];
	for (int i = 0; i < N; i++) {
		struct tg_buf b;
		char sub[16];
		tg_buf_init(&b, 4096);
		snprintf(sub, sizeof sub, "usr_%d", i);
		assert_true(tg_token_issue(&k, tg_slice_cstr(sub), NOW, 60 + i, &b, &made[i]));
		snprintf(text[i], sizeof text[i], "%.*s", (int)b.len, b.p);
		tg_buf_free(&b);
	}
	for (int round = 0; round < 3; round++)
		for (int i = 0; i < N; i++) {
			struct tg_token t;
			int at = (i * 7 + round) % N;
			assert_int_equal(tg_token_verify(v, tg_slice_cstr(text[at]), NOW, &t), TG_TOKEN_OK);
			assert_memory_equal(&t, &made[at], sizeof t);
		}
	tg_token_verifier_free(v);
	tg_token_key_wipe(&k);
}

/* One verifier a thread, all at once, as the loops have them; the key is shared. */
static void *verify_many(void *arg)
{
	const struct tg_token_key *k = arg;
	struct tg_token_verifier *v = tg_token_verifier_new(k);
	intptr_t bad = v == NULL;
	for (int i = 0; v && i < 200; i++) {
		struct tg_buf b;
		struct tg_token made, got;
		tg_buf_init(&b, 4096);
		bad += !tg_token_issue(k, TG_S("usr_1"), NOW, 60, &b, &made);
		bad += tg_token_verify(v, tg_buf_view(&b), NOW, &got) != TG_TOKEN_OK || strcmp(got.jti, made.jti) != 0;
		b.p[b.len - 20] ^= 1;
		bad += tg_token_verify(v, tg_buf_view(&b), NOW, &got) == TG_TOKEN_OK;
		tg_buf_free(&b);
	}
	tg_token_verifier_free(v);
	return (void *)bad; /* cmocka's asserts are for the main thread */
}

static void threads_do_not_meet(void **state)
{
	(void)state;
	struct tg_token_key k = key_of(secret, other);
	pthread_t t[4];
	for (size_t i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, verify_many, &k), 0);
	for (size_t i = 0; i < 4; i++) {
		void *bad;
		pthread_join(t[i], &bad);
		assert_null(bad);
	}
	tg_token_key_wipe(&k);
}

/* INFERNO_JWT_SECRET wins and must have 32 bytes; else data/jwt.secret beside the configuration, made once. */
static void the_secret_is_given_or_made(void **state)
{
	(void)state;
	char dir[] = "/tmp/tollgate-token-XXXXXX", path[128], toml[128];
	assert_non_null(mkdtemp(dir));
	snprintf(toml, sizeof toml, "%s/tollgate.toml", dir);
	snprintf(path, sizeof path, "%s/data", dir);
	assert_int_equal(mkdir(path, 0700), 0);
	FILE *f = fopen(toml, "w");
	assert_non_null(f);
	fputs("[auth]\ntoken_hours = 12\n", f);
	fclose(f);
	char *none[] = { NULL }, *given[] = { "INFERNO_JWT_SECRET=0123456789abcdef0123456789abcdef", NULL }, *brief[] = { "INFERNO_JWT_SECRET=0123456789abcdef0123456789abcde", NULL },
	     *blank[] = { "INFERNO_JWT_SECRET=                                        ", NULL };
	struct tg_config_source src = { .path = toml, .env = none };
	struct tg_err err, warning;
	struct tg_token_key k, again;
	struct tg_config *c = tg_config_load(&src, &err, NULL, NULL);
	assert_non_null(c);
	assert_int_equal(c->token_hours, 12);
	assert_true(tg_token_key_load(&k, c, &warning, &err));
	assert_true(tg_token_key_load(&again, c, &warning, &err));
	assert_int_equal(k.current.n, 64);
	assert_string_equal(k.current.p, again.current.p);
	tg_token_key_wipe(&k);
	tg_token_key_wipe(&again);
	tg_config_free(c);
	struct stat st;
	snprintf(path, sizeof path, "%s/data/jwt.secret", dir);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07777, 0600);
	src.env = given;
	assert_non_null(c = tg_config_load(&src, &err, NULL, NULL));
	assert_true(tg_token_key_load(&k, c, &warning, &err));
	assert_string_equal(k.current.p, secret);
	assert_null(k.previous.p);
	tg_token_key_wipe(&k);
	tg_config_free(c);
	src.env = brief;
	assert_null(tg_config_load(&src, &err, NULL, NULL));
	assert_non_null(strstr(err.text, "INFERNO_JWT_SECRET"));
	assert_non_null(strstr(err.text, "at least 32"));
	assert_null(strstr(err.text, "0123456789abcdef"));
	src.env = blank;
	assert_null(tg_config_load(&src, &err, NULL, NULL));
	unlink(path);
	unlink(toml);
	snprintf(path, sizeof path, "%s/data", dir);
	rmdir(path);
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(issued_tokens_verify), cmocka_unit_test(issuing_is_bounded), cmocka_unit_test(every_tampering_fails), cmocka_unit_test(other_spellings_fail),
		cmocka_unit_test(shapes_that_are_none), cmocka_unit_test(other_secrets_fail), cmocka_unit_test(algorithms_are_pinned), cmocka_unit_test(claims_are_strict),
		cmocka_unit_test(size_is_bounded), cmocka_unit_test(clocks_step), cmocka_unit_test(secrets_rotate), cmocka_unit_test(many_tokens_are_not_mixed_up),
		cmocka_unit_test(threads_do_not_meet), cmocka_unit_test(the_secret_is_given_or_made),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
