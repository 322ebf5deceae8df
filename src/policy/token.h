#pragma once
/*
 * Tokens of logins: JSON Web Tokens (RFC 7519) in compact form, signed with HMAC-SHA256 (HS256, RFC 7518 section 3.2) and nothing else. The algorithm is that of our key; what the header says can
 * only be refused (RFC 8725 sections 3.1, 3.2).
 *
 * A token says who its bearer is (sub), and until when. What that user may do is never believed from it: the user is looked up in the snapshot at each request, and so is whether the
 * token's jti was revoked; both are the caller's part. What the bearer of a refused token is told is the 401 text of any unknown credential; the result below is for the log.
 *
 * A token that this thread has seen before costs 1.6 us (one HMAC, one look into a small table), a new one about 35, a forged one 1.3: nothing of it is parsed. (Release build, the 290 bytes that we
 * issue; `token_tool time` of the tests measures it.)
 */
#include "base/buf.h"
#include "base/err.h"
#include "base/secret.h"
#include "config/config.h"

#define TG_TOKEN_ISSUER "tollgate"
#define TG_TOKEN_MAX 8192           /* bytes; what is longer is looked at no further */
#define TG_TOKEN_SKEW_S 60          /* how far clocks may differ: exp, iat, nbf */
#define TG_TOKEN_LIFE_MAX_S 2592000 /* 30 days: the most that [auth] token_hours allows, and that a token may claim */
#define TG_TOKEN_SUB_MAX 64
#define TG_TOKEN_JTI_MAX 64
#define TG_TOKEN_SECRET_MIN 32

/* Immutable once loaded; every thread may read it. */
struct tg_token_key {
	struct tg_secret current;  /* signs and verifies */
	struct tg_secret previous; /* verifies only, while a secret is replaced; empty: none */
};
/* From the configuration (INFERNO_JWT_SECRET), else data/jwt.secret, made where it is missing: see base/secretfile.h for warning and err. *k is empty before. */
bool tg_token_key_load(struct tg_token_key *k, const struct tg_config *c, struct tg_err *warning, struct tg_err *err);
void tg_token_key_wipe(struct tg_token_key *k);

struct tg_token {
	char sub[TG_TOKEN_SUB_MAX + 1]; /* user id: letters, digits and . _ : @ - */
	char jti[TG_TOKEN_JTI_MAX + 1]; /* the token's own id, the same characters; ours: 128 random bits */
	int64_t iat, exp, nbf;          /* seconds since the epoch; nbf 0: not said */
};

enum tg_token_result {
	TG_TOKEN_OK,
	TG_TOKEN_NONE,      /* no token's form: perhaps an API key */
	TG_TOKEN_TOO_LONG,
	TG_TOKEN_SIGNATURE, /* not signed by us: perhaps an API key with two dots in it */
	TG_TOKEN_FORMAT,    /* signed with our secret, but the header or the claims are no plain JSON objects in canonical base64url */
	TG_TOKEN_HEADER,    /* another algorithm, or a header that asks for more: kid, jku, crit ... */
	TG_TOKEN_CLAIMS,    /* one is missing, of the wrong type or out of bounds, or there is an audience */
	TG_TOKEN_ISSUER_OTHER,
	TG_TOKEN_EARLY,     /* iat or nbf lie in the future */
	TG_TOKEN_EXPIRED,
	TG_TOKEN_MEMORY,    /* could not be judged */
};
const char *tg_token_reason(enum tg_token_result r); /* for the log: "expired token" */
/* Whether somebody who does not hold the secret made it up: only that is a guess (policy/guess.h). */
static inline bool tg_token_guessed(enum tg_token_result r)
{
	return r == TG_TOKEN_NONE || r == TG_TOKEN_TOO_LONG || r == TG_TOKEN_SIGNATURE;
}

/* One per thread; borrows nothing of the key. */
struct tg_token_verifier; /* opaque */
struct tg_token_verifier *tg_token_verifier_new(const struct tg_token_key *k); /* NULL: no memory, or an empty key */
void tg_token_verifier_free(struct tg_token_verifier *v);                      /* wipes */
/* now_s: the wall clock. *out is whole if and only if it is OK. */
enum tg_token_result tg_token_verify(struct tg_token_verifier *v, struct tg_slice text, int64_t now_s, struct tg_token *out);

/*
 * A new token for that user, from now_s until now_s + life_s, appended to `out`; *made (may be NULL) is what it says: exp is the login's expires_at. jti is drawn here. Any thread.
 * False: `sub` has no or over 64 characters or one that is not allowed, life_s is not from 1 to TG_TOKEN_LIFE_MAX_S, or there is no memory; `out` is as it was.
 */
bool tg_token_issue(const struct tg_token_key *k, struct tg_slice sub, int64_t now_s, int64_t life_s, struct tg_buf *out, struct tg_token *made);
