/*
 * Tokens. The first byte chooses: as it comes; or the rest, "HEADER\0CLAIMS", encoded and signed with our secret, so that what lies behind the signature is reached. Beyond not crashing: nothing unsigned
 * is ever OK; what is OK has sane claims, is OK again out of the verifier's memory, and not with one bit of it changed.
 */
#include "policy/token.h"
#include <sodium.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define NOW INT64_C(1700000000)
static const char secret[] = "0123456789abcdef0123456789abcdef", before[] = "fedcba9876543210fedcba9876543210";

static void must(bool ok)
{
	if (!ok)
		abort();
}

static size_t encode(char *out, size_t cap, const void *p, size_t n)
{
	sodium_bin2base64(out, cap, p, n, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	return strlen(out);
}

static struct tg_token_verifier *verifier(void)
{
	static struct tg_token_verifier *v;
	struct tg_token_key k = { 0 };
	if (v)
		return v;
	must(tg_secret_set(&k.current, tg_slice_cstr(secret)) && tg_secret_set(&k.previous, tg_slice_cstr(before)));
	v = tg_token_verifier_new(&k);
	must(v != NULL);
	tg_token_key_wipe(&k);
	return v;
}

static enum tg_token_result look(struct tg_slice text, bool signed_)
{
	struct tg_token t, again;
	enum tg_token_result r = tg_token_verify(verifier(), text, NOW, &t);
	must(tg_token_reason(r) != NULL);
	must(signed_ || (r != TG_TOKEN_OK && tg_token_guessed(r)));
	must(tg_token_verify(verifier(), text, NOW, &again) == r);
	if (r != TG_TOKEN_OK)
		return r;
	must(memcmp(&t, &again, sizeof t) == 0);
	must(t.sub[0] && strlen(t.sub) <= TG_TOKEN_SUB_MAX && t.jti[0] && strlen(t.jti) <= TG_TOKEN_JTI_MAX);
	must(t.exp > t.iat && t.exp - t.iat <= TG_TOKEN_LIFE_MAX_S && t.iat <= NOW + TG_TOKEN_SKEW_S && t.exp > NOW - TG_TOKEN_SKEW_S);
	char *bad = tg_slice_dup(text);
	must(bad != NULL);
	bad[(size_t)t.exp % text.n] ^= 1;
	must(tg_token_verify(verifier(), (struct tg_slice){ bad, text.n }, NOW, &again) != TG_TOKEN_OK);
	free(bad);
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	if (!size || size > 16384)
		return 0;
	bool as_it_comes = data[0] == 'r';
	const char *p = (const char *)data + 1;
	size_t n = size - 1;
	if (as_it_comes) {
		look((struct tg_slice){ p, n }, false);
		return 0;
	}
	const char *nul = memchr(p, 0, n);
	size_t hn = nul ? (size_t)(nul - p) : n, cn = nul ? n - hn - 1 : 0, cap = n * 2 + 200;
	char *text = malloc(cap);
	must(text != NULL);
	size_t len = encode(text, cap, p, hn);
	text[len++] = '.';
	len += encode(text + len, cap - len, nul ? nul + 1 : p, cn);
	unsigned char mac[32];
	crypto_auth_hmacsha256_state s;
	crypto_auth_hmacsha256_init(&s, (const unsigned char *)(data[0] == 'p' ? before : secret), sizeof secret - 1);
	crypto_auth_hmacsha256_update(&s, (const unsigned char *)text, len);
	crypto_auth_hmacsha256_final(&s, mac);
	text[len++] = '.';
	len += encode(text + len, cap - len, mac, sizeof mac);
	enum tg_token_result r = look((struct tg_slice){ text, len }, true);
	/* The seed that all others are changed from must get through, or nothing behind the signature is fuzzed. */
	static const char good[] = "s{\"alg\":\"HS256\",\"typ\":\"JWT\"}\0{\"iss\":\"tollgate\",\"sub\":\"u1\",\"jti\":\"j1\",\"iat\":1700000000,\"exp\":1700003600}";
	must(size != sizeof good - 1 || memcmp(data, good, size) != 0 || r == TG_TOKEN_OK);
	free(text);
	return 0;
}
