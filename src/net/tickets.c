/*
 * Session-ticket keys: at most two, the one that seals and the one before. They are drawn at random, never derived: there is no secret from which an old one could be
 * had back.
 *
 * Invariant: keys leave the table only as copies made under the lock; whoever has one wipes it.
 */
#include "net/tickets.h"
#include "base/clock.h"
#include <openssl/core_names.h>
#include <openssl/crypto.h>
#include <openssl/evp.h>
#include <openssl/params.h>
#include <openssl/rand.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

struct tg_tickets {
	_Atomic unsigned refs;
	EVP_CIPHER *cipher; /* looked up once: by name it costs a search in each handshake */
	pthread_mutex_t lock;
	struct tg_ticket_key now, before;
	uint64_t since_s; /* `now` seals from here on */
	bool have_now, have_before;
};

struct tg_tickets *tg_tickets_new(void)
{
	struct tg_tickets *t = calloc(1, sizeof *t);
	if (!t)
		return NULL;
	t->refs = 1;
	t->cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	if (!t->cipher || pthread_mutex_init(&t->lock, NULL)) {
		EVP_CIPHER_free(t->cipher);
		free(t);
		return NULL;
	}
	return t;
}

struct tg_tickets *tg_tickets_get(struct tg_tickets *t)
{
	atomic_fetch_add(&t->refs, 1);
	return t;
}

void tg_tickets_put(struct tg_tickets *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	OPENSSL_cleanse(&t->now, sizeof t->now);
	OPENSSL_cleanse(&t->before, sizeof t->before);
	EVP_CIPHER_free(t->cipher);
	pthread_mutex_destroy(&t->lock);
	free(t);
}

static bool draw(struct tg_ticket_key *k)
{
	return RAND_bytes(k->name, sizeof k->name) == 1 && RAND_priv_bytes(k->cipher, sizeof k->cipher) == 1 && RAND_priv_bytes(k->mac, sizeof k->mac) == 1;
}

/* Under the lock. A table that has slept through more than one period has nothing left to open with. */
static void age(struct tg_tickets *t, uint64_t now_s)
{
	uint64_t periods = t->have_now && now_s > t->since_s ? (now_s - t->since_s) / TG_TICKET_PERIOD_S : 0;
	if (!periods)
		return;
	t->have_before = periods == 1;
	if (t->have_before)
		t->before = t->now;
	else
		OPENSSL_cleanse(&t->before, sizeof t->before);
	OPENSSL_cleanse(&t->now, sizeof t->now);
	t->have_now = false;
	t->since_s += periods * TG_TICKET_PERIOD_S;
}

bool tg_tickets_seal(struct tg_tickets *t, uint64_t now_s, struct tg_ticket_key *out)
{
	pthread_mutex_lock(&t->lock);
	age(t, now_s);
	if (!t->have_now) {
		/* `before` lives until one period after it was replaced, not after somebody came to replace it. */
		bool follows = t->have_before && now_s < t->since_s + TG_TICKET_PERIOD_S;
		if (t->have_before && !follows)
			OPENSSL_cleanse(&t->before, sizeof t->before);
		t->have_before = follows;
		if (!follows)
			t->since_s = now_s;
		t->have_now = draw(&t->now);
	}
	bool ok = t->have_now;
	if (ok)
		*out = t->now;
	pthread_mutex_unlock(&t->lock);
	return ok;
}

bool tg_tickets_open(struct tg_tickets *t, uint64_t now_s, const uint8_t name[TG_TICKET_NAME], struct tg_ticket_key *out, bool *renew)
{
	bool found = true;
	pthread_mutex_lock(&t->lock);
	age(t, now_s);
	bool old = t->have_before && now_s < t->since_s + TG_TICKET_PERIOD_S && memcmp(t->before.name, name, TG_TICKET_NAME) == 0;
	if (t->have_now && memcmp(t->now.name, name, TG_TICKET_NAME) == 0)
		*out = t->now;
	else if (old)
		*out = t->before;
	else
		found = false;
	*renew = old;
	pthread_mutex_unlock(&t->lock);
	return found;
}

void tg_tickets_turn(struct tg_tickets *t, uint64_t now_s)
{
	pthread_mutex_lock(&t->lock);
	age(t, now_s);
	if (t->have_before && now_s >= t->since_s + TG_TICKET_PERIOD_S) {
		OPENSSL_cleanse(&t->before, sizeof t->before);
		t->have_before = false;
	}
	pthread_mutex_unlock(&t->lock);
}

/* ---- OpenSSL ---- */

static bool begin(const struct tg_tickets *t, const struct tg_ticket_key *k, const unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
	char digest[] = "SHA2-256";
	const OSSL_PARAM params[] = {
		OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)(uintptr_t)k->mac, sizeof k->mac),
		OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, digest, 0),
		OSSL_PARAM_construct_end(),
	};
	return EVP_MAC_CTX_set_params(mac, params) == 1 && EVP_CipherInit_ex(cipher, t->cipher, NULL, k->cipher, iv, seal) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 sealed or opened, 2 opened and to be renewed, 0 no ticket or an unknown one (a full handshake follows), -1 failure. */
static int on_ticket(SSL *ssl, unsigned char *name, unsigned char *iv, EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, int seal)
{
	struct tg_tickets *t = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	struct tg_ticket_key k;
	uint64_t now_s = tg_mono_us() / 1000000;
	bool renew = false, ok;
	if (seal) {
		if (!tg_tickets_seal(t, now_s, &k) || RAND_bytes(iv, EVP_MAX_IV_LENGTH) != 1)
			return 0;
		memcpy(name, k.name, sizeof k.name);
	} else if (!tg_tickets_open(t, now_s, name, &k, &renew)) {
		return 0;
	}
	ok = begin(t, &k, iv, cipher, mac, seal);
	OPENSSL_cleanse(&k, sizeof k);
	/* TLS 1.3 gives a new ticket with every resumption as it is. */
	return !ok ? -1 : renew ? 2 : 1;
}

static void let_go(void *parent, void *ptr, CRYPTO_EX_DATA *ad, int idx, long argl, void *argp)
{
	(void)parent, (void)ad, (void)idx, (void)argl, (void)argp;
	tg_tickets_put(ptr);
}

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int held = -1; /* the place in a context where its count of the tickets is, and goes with it */

static void make_place(void)
{
	held = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, let_go);
}

bool tg_tickets_attach(struct tg_tickets *t, SSL_CTX *ctx)
{
	pthread_once(&once, make_place);
	if (held < 0 || SSL_CTX_set_ex_data(ctx, held, t) != 1)
		return false;
	tg_tickets_get(t);
	SSL_CTX_set_app_data(ctx, t);
	SSL_CTX_set_timeout(ctx, TG_TICKET_PERIOD_S);
	return SSL_CTX_set_tlsext_ticket_key_evp_cb(ctx, on_ticket) == 1;
}
