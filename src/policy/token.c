/*
 * Tokens (see token.h). The order of verification is the point of this file (docs/adr/0012):
 *
 *   1. size; two dots; 43 characters of base64url behind the second. No memory is taken, nothing is copied.
 *   2. HMAC-SHA256 over what stands before, under keys that were worked in once, compared in constant time. Whoever does not hold the secret ends here.
 *   3. Only then is anything parsed: strictly by jansson (duplicates, types, depth), and by libjwt, which must come to the same verdict under our key.
 *
 * libjwt 1.10 alone would not do: it parses before it verifies, takes "hs256" for HS256, the last of two equal claims, 1.5 as an integer 0, an array for the claims, and text behind a NUL;
 * and it costs 12 us a time.
 *
 * A verified signature names its text: two texts with one HMAC would be a collision of SHA-256. So what a text said is remembered under its signature, per thread, and a token that
 * comes again is neither parsed nor allocated for. Times are judged anew each time.
 */
#include "policy/token.h"
#include "base/hmac.h"
#include "base/secretfile.h"
#include <errno.h>
#include <jansson.h>
#include <jwt.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <openssl/err.h>
#include <sodium.h>

enum { MAC = TG_HMAC, MAC_TEXT = 43, SEEN = 64, JTI_BYTES = 16, JTI_TEXT = 22 };
#define TIME_MAX INT64_C(253402300799) /* the last second of the year 9999: expires_at has four digits for the year */

struct seen {
	uint8_t mac[MAC];
	bool set;
	struct tg_token token;
};

struct tg_token_verifier {
	struct tg_hmac hmac[2]; /* current, previous */
	int secrets;            /* how many of them there are */
	struct tg_token_key key;
	struct seen seen[SEEN]; /* by the first byte of the signature */
};

const char *tg_token_reason(enum tg_token_result r)
{
	switch (r) {
	case TG_TOKEN_OK: return "valid token";
	case TG_TOKEN_NONE: return "not a token";
	case TG_TOKEN_TOO_LONG: return "token over 8 KiB";
	case TG_TOKEN_SIGNATURE: return "token signed by somebody else";
	case TG_TOKEN_FORMAT: return "malformed token";
	case TG_TOKEN_HEADER: return "token with another algorithm or header";
	case TG_TOKEN_CLAIMS: return "token with wrong claims";
	case TG_TOKEN_ISSUER_OTHER: return "token of another issuer";
	case TG_TOKEN_EARLY: return "token from the future";
	case TG_TOKEN_EXPIRED: return "expired token";
	case TG_TOKEN_MEMORY: break;
	}
	return "token could not be judged";
}

/* ---- the key ---- */

bool tg_token_key_load(struct tg_token_key *k, const struct tg_config *c, struct tg_err *warning, struct tg_err *err)
{
	char path[PATH_MAX];
	*k = (struct tg_token_key){ 0 };
	if (!tg_config_data_path(c, "jwt.secret", path, sizeof path)) {
		tg_err_set(err, "the path of data/jwt.secret is too long");
		return false;
	}
	struct tg_slice given = { c->jwt_secret.p, c->jwt_secret.n }, before = { c->jwt_secret_previous.p, c->jwt_secret_previous.n };
	if (!tg_secret_file(path, "INFERNO_JWT_SECRET", given, TG_TOKEN_SECRET_MIN, &k->current, warning, err))
		return false;
	if (before.n && !tg_secret_set(&k->previous, before)) {
		tg_err_set(err, "out of memory");
		tg_token_key_wipe(k);
		return false;
	}
	return true;
}

void tg_token_key_wipe(struct tg_token_key *k)
{
	tg_secret_wipe(&k->current);
	tg_secret_wipe(&k->previous);
}

/* ---- the signature ---- */

static bool add(struct tg_token_verifier *v, const struct tg_secret *given, struct tg_secret *kept)
{
	struct tg_slice s = { given->p, given->n };
	return tg_secret_set(kept, s) && tg_hmac_key(&v->hmac[v->secrets++], s);
}

struct tg_token_verifier *tg_token_verifier_new(const struct tg_token_key *k)
{
	struct tg_token_verifier *v = k->current.n ? calloc(1, sizeof *v) : NULL;
	if (!v)
		return NULL;
	bool ok = add(v, &k->current, &v->key.current) && (!k->previous.n || add(v, &k->previous, &v->key.previous));
	if (ok)
		return v;
	tg_token_verifier_free(v);
	return NULL;
}

void tg_token_verifier_free(struct tg_token_verifier *v)
{
	if (!v)
		return;
	tg_token_key_wipe(&v->key);
	OPENSSL_cleanse(v, sizeof *v);
	free(v);
}

/* Which secret signed it; NULL: none of ours. Both are tried, always: the time says nothing about which it was. */
static const struct tg_secret *signer(struct tg_token_verifier *v, struct tg_slice text, const uint8_t sent[MAC], bool *failed)
{
	const struct tg_secret *secrets[2] = { &v->key.current, &v->key.previous }, *found = NULL;
	for (int i = 0; i < v->secrets; i++) {
		uint8_t mac[MAC];
		bool made = tg_hmac(&v->hmac[i], text, mac);
		*failed |= !made;
		if (made && CRYPTO_memcmp(mac, sent, MAC) == 0)
			found = secrets[i];
	}
	return found;
}

/* ---- what it says; only of texts that are signed with our secret ---- */

static bool word(const char *s, size_t n, size_t max)
{
	if (!n || n > max)
		return false;
	for (size_t i = 0; i < n; i++) {
		char c = s[i];
		if (!((c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '.' || c == '_' || c == ':' || c == '@' || c == '-'))
			return false;
	}
	return true;
}

/* One part as a JSON object without duplicates. Canonical base64url only: no padding, no bits left over, nothing between. */
static json_t *part(struct tg_slice s)
{
	unsigned char text[TG_TOKEN_MAX];
	size_t n = 0;
	if (!s.n || sodium_base642bin(text, sizeof text, s.p, s.n, NULL, &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0)
		return NULL;
	json_t *j = json_loadb((const char *)text, n, JSON_REJECT_DUPLICATES, NULL);
	if (j && !json_is_object(j)) {
		json_decref(j);
		j = NULL;
	}
	return j;
}

/* alg and typ, as we write them. Whatever else a header may hold asks us to look for a key elsewhere, or for a feature we lack. */
static bool header_is_ours(json_t *h)
{
	const char *name;
	json_t *value;
	const char *alg = json_string_value(json_object_get(h, "alg"));
	json_object_foreach (h, name, value)
		if (strcmp(name, "alg") != 0 && (strcmp(name, "typ") != 0 || !json_is_string(value) || strcasecmp(json_string_value(value), "JWT") != 0))
			return false;
	return alg && strcmp(alg, "HS256") == 0;
}

static bool get_word(json_t *c, const char *name, char *out, size_t max)
{
	json_t *v = json_object_get(c, name);
	if (!json_is_string(v) || !word(json_string_value(v), json_string_length(v), max))
		return false;
	memcpy(out, json_string_value(v), json_string_length(v) + 1);
	return true;
}

static bool get_time(json_t *c, const char *name, bool required, int64_t *out)
{
	json_t *v = json_object_get(c, name);
	*out = v ? json_integer_value(v) : 0;
	return v ? json_is_integer(v) && *out > 0 && *out <= TIME_MAX : !required;
}

static enum tg_token_result claims(json_t *c, struct tg_token *t)
{
	const char *iss = json_string_value(json_object_get(c, "iss"));
	if (!iss || strcmp(iss, TG_TOKEN_ISSUER) != 0)
		return iss ? TG_TOKEN_ISSUER_OTHER : TG_TOKEN_CLAIMS;
	if (!get_word(c, "sub", t->sub, TG_TOKEN_SUB_MAX) || !get_word(c, "jti", t->jti, TG_TOKEN_JTI_MAX) || !get_time(c, "iat", true, &t->iat) ||
	    !get_time(c, "exp", true, &t->exp) || !get_time(c, "nbf", false, &t->nbf))
		return TG_TOKEN_CLAIMS;
	/* For somebody else (RFC 7519 section 4.1.3); or longer than a login lasts. */
	if (json_object_get(c, "aud") || t->exp <= t->iat || t->exp - t->iat > TG_TOKEN_LIFE_MAX_S)
		return TG_TOKEN_CLAIMS;
	return TG_TOKEN_OK;
}

/* libjwt's verdict, under our key. */
static enum tg_token_result second_opinion(struct tg_slice text, const struct tg_secret *secret)
{
	char z[TG_TOKEN_MAX + 1]; /* it takes strings */
	memcpy(z, text.p, text.n);
	z[text.n] = '\0';
	jwt_t *j = NULL;
	int e = jwt_decode(&j, z, (const unsigned char *)secret->p, (int)secret->n);
	enum tg_token_result r = e == ENOMEM ? TG_TOKEN_MEMORY : e || jwt_get_alg(j) != JWT_ALG_HS256 ? TG_TOKEN_FORMAT : TG_TOKEN_OK;
	if (!e)
		jwt_free(j);
	ERR_clear_error();
	return r;
}

static enum tg_token_result read_token(struct tg_slice text, size_t dot1, size_t dot2, const struct tg_secret *secret, struct tg_token *t)
{
	json_t *h = part((struct tg_slice){ text.p, dot1 }), *c = part((struct tg_slice){ text.p + dot1 + 1, dot2 - dot1 - 1 });
	enum tg_token_result r = TG_TOKEN_FORMAT;
	if (h && c)
		r = header_is_ours(h) ? claims(c, t) : TG_TOKEN_HEADER;
	json_decref(h);
	json_decref(c);
	return r == TG_TOKEN_OK ? second_opinion(text, secret) : r;
}

static enum tg_token_result judge_times(const struct tg_token *t, int64_t now)
{
	if (t->iat > now + TG_TOKEN_SKEW_S || t->nbf > now + TG_TOKEN_SKEW_S)
		return TG_TOKEN_EARLY;
	return now >= t->exp + TG_TOKEN_SKEW_S ? TG_TOKEN_EXPIRED : TG_TOKEN_OK;
}

enum tg_token_result tg_token_verify(struct tg_token_verifier *v, struct tg_slice text, int64_t now_s, struct tg_token *out)
{
	const char *dot1 = text.n ? memchr(text.p, '.', text.n) : NULL;
	const char *dot2 = dot1 ? memchr(dot1 + 1, '.', (size_t)(text.p + text.n - dot1 - 1)) : NULL;
	if (!dot2)
		return TG_TOKEN_NONE;
	if (text.n > TG_TOKEN_MAX)
		return TG_TOKEN_TOO_LONG;
	uint8_t sent[MAC];
	size_t n = 0, sig = (size_t)(text.p + text.n - dot2 - 1);
	if (dot1 == text.p || dot2 == dot1 + 1 || sig != MAC_TEXT ||
	    sodium_base642bin(sent, sizeof sent, dot2 + 1, sig, NULL, &n, NULL, sodium_base64_VARIANT_URLSAFE_NO_PADDING) != 0 || n != MAC)
		return TG_TOKEN_NONE;
	bool failed = false;
	const struct tg_secret *secret = signer(v, (struct tg_slice){ text.p, (size_t)(dot2 - text.p) }, sent, &failed);
	if (!secret)
		return failed ? TG_TOKEN_MEMORY : TG_TOKEN_SIGNATURE;
	struct seen *s = &v->seen[sent[0] % SEEN];
	if (!s->set || memcmp(s->mac, sent, MAC) != 0) {
		struct tg_token t = { 0 };
		enum tg_token_result r = read_token(text, (size_t)(dot1 - text.p), (size_t)(dot2 - text.p), secret, &t);
		if (r != TG_TOKEN_OK)
			return r;
		memcpy(s->mac, sent, MAC);
		s->token = t;
		s->set = true;
	}
	enum tg_token_result r = judge_times(&s->token, now_s);
	if (r == TG_TOKEN_OK)
		*out = s->token;
	return r;
}

/* ---- issuing ---- */

static bool fill(jwt_t *j, const struct tg_token_key *k, const struct tg_token *t)
{
	return jwt_set_alg(j, JWT_ALG_HS256, (const unsigned char *)k->current.p, (int)k->current.n) == 0 && jwt_add_grant(j, "iss", TG_TOKEN_ISSUER) == 0 &&
	       jwt_add_grant(j, "sub", t->sub) == 0 && jwt_add_grant(j, "jti", t->jti) == 0 && jwt_add_grant_int(j, "iat", t->iat) == 0 &&
	       jwt_add_grant_int(j, "exp", t->exp) == 0;
}

bool tg_token_issue(const struct tg_token_key *k, struct tg_slice sub, int64_t now_s, int64_t life_s, struct tg_buf *out, struct tg_token *made)
{
	if (!k->current.n || !word(sub.p, sub.n, TG_TOKEN_SUB_MAX) || life_s < 1 || life_s > TG_TOKEN_LIFE_MAX_S || now_s < 1 || now_s > TIME_MAX - life_s)
		return false;
	struct tg_token t = { .iat = now_s, .exp = now_s + life_s };
	memcpy(t.sub, sub.p, sub.n);
	uint8_t random[JTI_BYTES];
	randombytes_buf(random, sizeof random);
	sodium_bin2base64(t.jti, JTI_TEXT + 1, random, sizeof random, sodium_base64_VARIANT_URLSAFE_NO_PADDING);
	jwt_t *j = NULL;
	char *text = NULL;
	if (jwt_new(&j) == 0 && fill(j, k, &t))
		text = jwt_encode_str(j);
	jwt_free(j);
	if (!text)
		return false;
	size_t n = strlen(text), before = out->len;
	bool failed = out->failed;
	tg_buf_put(out, text, n);
	sodium_memzero(text, n);
	free(text);
	if (out->failed && !failed) {
		out->len = before;
		return false;
	}
	if (made)
		*made = t;
	return !out->failed;
}
