/*
 * Certificates and contexts: see the header. Every fault of a file is found here, before anything is listened on or replaced, and said with option and file.
 *
 * Each loop's context has objects of its own, parsed anew from the same bytes: OpenSSL counts references and locks blinding values per object, and shared ones would make
 * the loops wait for each other in handshakes. What TLS we speak stands in new_context and nowhere else; the system's openssl.cnf cannot make it less.
 */
#include "net/tls_context.h"
#include "base/clock.h"
#include "config/env.h"
#include "base/secret_mode.h"
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <stdatomic.h>
#include <time.h>

/* ECDHE with an AEAD: no CBC, no static RSA. AES-128 first: as safe for this, and faster. */
#define SUITES_12 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:" \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
#define SUITES_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
#define GROUPS "X25519:P-256:P-384"
#define SECURITY_LEVEL 2 /* 112 bits: RSA from 2048, no SHA-1 */

struct tg_tls {
	_Atomic unsigned refs;
	unsigned n;
	SSL_CTX **ctx; /* one a loop */
	char about[320];
};

/* The files' bytes, and how to speak of them. */
struct files {
	const struct tg_config *c;
	char *cert, *key;
	size_t ncert, nkey;
	struct tg_err *err;
};

static const char *option_path(const struct files *f, const char *option)
{
	return strcmp(option, "tls_cert") == 0 ? f->c->tls_cert : f->c->tls_key;
}

/* "[server] tls_cert (tollgate.toml:4): /etc/x.pem: <what>", and OpenSSL's own word for it if it has one. */
static bool fault(const struct files *f, const char *option, const char *what)
{
	unsigned long e = ERR_peek_last_error();
	const char *reason = e ? ERR_reason_error_string(e) : NULL;
	tg_err_set(f->err, "[server] %s (%.120s): %.160s: %s%s%s%s", option, tg_config_origin(f->c, "server", option), option_path(f, option), what, reason ? " (" : "",
		   reason ? reason : "", reason ? ")" : "");
	ERR_clear_error();
	return false;
}

static bool read_file(struct files *f, const char *option, char **p, size_t *n)
{
	struct tg_err why;
	*p = tg_read_file(option_path(f, option), TG_TLS_FILE_MAX, n, NULL, &why);
	if (*p)
		return true;
	ERR_clear_error();
	return fault(f, option, why.text);
}

/* ---- the certificate file ---- */

static bool at_end_of_pem(void)
{
	unsigned long e = ERR_peek_last_error();
	bool end = ERR_GET_LIB(e) == ERR_LIB_PEM && ERR_GET_REASON(e) == PEM_R_NO_START_LINE;
	if (end)
		ERR_clear_error();
	return end;
}

/* The server's own certificate is the first; *chain: the others. Owned by the caller, also on failure. */
static bool parse_chain(const struct files *f, X509 **own, STACK_OF(X509) **chain)
{
	BIO *in = BIO_new_mem_buf(f->cert, (int)f->ncert);
	*chain = sk_X509_new_null();
	if (!in || !*chain) {
		BIO_free(in);
		return fault(f, "tls_cert", "out of memory");
	}
	ERR_clear_error();
	int n = 0;
	X509 *x = NULL;
	while (n < TG_TLS_CHAIN_MAX + 1 && (x = PEM_read_bio_X509(in, NULL, NULL, NULL))) {
		if (n++ == 0)
			*own = x;
		else if (!sk_X509_push(*chain, x))
			X509_free(x);
	}
	BIO_free(in);
	char what[96];
	if (n > TG_TLS_CHAIN_MAX) {
		snprintf(what, sizeof what, "it holds more than %d certificates", TG_TLS_CHAIN_MAX);
		return fault(f, "tls_cert", what);
	}
	bool end = at_end_of_pem();
	if (n && end)
		return true;
	if (end)
		snprintf(what, sizeof what, "it holds no certificate in PEM form (-----BEGIN CERTIFICATE-----)");
	else
		snprintf(what, sizeof what, "its certificate %d cannot be read", n + 1);
	return fault(f, "tls_cert", what);
}

/* ---- the key file ---- */

/* A passphrase would have to stand beside it, and OpenSSL would ask the terminal. */
static int no_passphrase(char *buf, int size, int rw, void *asked)
{
	(void)buf, (void)size, (void)rw;
	*(bool *)asked = true;
	return -1;
}

static bool parse_key(const struct files *f, EVP_PKEY **key)
{
	BIO *in = BIO_new_mem_buf(f->key, (int)f->nkey);
	bool asked = false;
	ERR_clear_error();
	*key = in ? PEM_read_bio_PrivateKey(in, NULL, no_passphrase, &asked) : NULL;
	BIO_free(in);
	if (*key)
		return true;
	if (asked) {
		ERR_clear_error();
		return fault(f, "tls_key", "it is protected by a passphrase: write it without one (openssl pkey -in FILE -out NEW), readable by the gate alone");
	}
	/* What OpenSSL would say of anything else is "unsupported". */
	if (!memmem(f->key, f->nkey, "PRIVATE KEY-----", 16)) {
		ERR_clear_error();
		return fault(f, "tls_key", "it holds no private key in PEM form (-----BEGIN PRIVATE KEY-----)");
	}
	return fault(f, "tls_key", "its private key cannot be read");
}

static bool check_pair(const struct files *f, X509 *own, STACK_OF(X509) *chain, EVP_PKEY *key)
{
	ERR_clear_error();
	if (X509_check_private_key(own, key) == 1)
		return true;
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (X509_check_private_key(sk_X509_value(chain, i), key) == 1) {
			ERR_clear_error();
			return fault(f, "tls_cert", "the server's own certificate must be the first of the file");
		}
	ERR_clear_error();
	char what[320];
	snprintf(what, sizeof what, "it is not the key of the certificate in %.160s", f->c->tls_cert);
	return fault(f, "tls_key", what);
}

/* ---- what is spoken ---- */

static int choose_protocol(SSL *ssl, const unsigned char **out, unsigned char *n, const unsigned char *offered, unsigned len, void *arg)
{
	static const unsigned char ours[] = "\x08http/1.1";
	unsigned char *chosen;
	(void)ssl, (void)arg;
	if (SSL_select_next_proto(&chosen, n, ours, sizeof ours - 1, offered, len) != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL; /* RFC 7301 section 3.2 */
	*out = chosen;
	return SSL_TLSEXT_ERR_OK;
}

static SSL_CTX *new_context(struct tg_tickets *tickets)
{
	SSL_CTX *x = SSL_CTX_new(TLS_server_method());
	if (!x)
		return NULL;
	SSL_CTX_set_security_level(x, SECURITY_LEVEL);
	SSL_CTX_clear_options(x, SSL_CTX_get_options(x));
	SSL_CTX_set_options(x, SSL_OP_NO_COMPRESSION | SSL_OP_NO_RENEGOTIATION | SSL_OP_CIPHER_SERVER_PREFERENCE | SSL_OP_PRIORITIZE_CHACHA | SSL_OP_ENABLE_MIDDLEBOX_COMPAT);
	SSL_CTX_set_mode(x, SSL_MODE_ENABLE_PARTIAL_WRITE | SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS);
	SSL_CTX_clear_mode(x, SSL_MODE_AUTO_RETRY);
	SSL_CTX_set_session_cache_mode(x, SSL_SESS_CACHE_OFF); /* tickets only: nothing is kept here */
	SSL_CTX_set_alpn_select_cb(x, choose_protocol, NULL);
	static const unsigned char name[] = "tollgate";
	if (SSL_CTX_set_min_proto_version(x, TLS1_2_VERSION) == 1 && SSL_CTX_set_max_proto_version(x, TLS1_3_VERSION) == 1 && SSL_CTX_set_cipher_list(x, SUITES_12) == 1 &&
	    SSL_CTX_set_ciphersuites(x, SUITES_13) == 1 && SSL_CTX_set1_groups_list(x, GROUPS) == 1 && SSL_CTX_set_max_early_data(x, 0) == 1 &&
	    SSL_CTX_set_session_id_context(x, name, sizeof name - 1) == 1 && tg_tickets_attach(tickets, x))
		return x;
	SSL_CTX_free(x);
	return NULL;
}

static uint64_t seconds_of(const ASN1_TIME *t)
{
	struct tm tm;
	return ASN1_TIME_to_tm(t, &tm) == 1 && timegm(&tm) > 0 ? (uint64_t)timegm(&tm) : 0;
}

static void time_text(const ASN1_TIME *t, char out[21])
{
	tg_rfc3339_s(seconds_of(t) * 1000000, out);
	out[20] = 0;
}

/* Its name: the common name, or the first DNS name where there is none. */
static void describe(struct tg_tls *t, X509 *own)
{
	char name[200] = "", until[21];
	X509_NAME_get_text_by_NID(X509_get_subject_name(own), NID_commonName, name, sizeof name);
	GENERAL_NAMES *names = *name ? NULL : X509_get_ext_d2i(own, NID_subject_alt_name, NULL, NULL);
	for (int i = 0; i < sk_GENERAL_NAME_num(names) && !*name; i++) {
		const GENERAL_NAME *g = sk_GENERAL_NAME_value(names, i);
		if (g->type == GEN_DNS)
			snprintf(name, sizeof name, "%.*s", ASN1_STRING_length(g->d.dNSName), (const char *)ASN1_STRING_get0_data(g->d.dNSName));
	}
	GENERAL_NAMES_free(names);
	for (char *p = name; *p; p++)
		if ((unsigned char)*p < 0x20 || *p == 0x7f)
			*p = '?';
	time_text(X509_get0_notAfter(own), until);
	snprintf(t->about, sizeof t->about, "%s, valid until %s", *name ? name : "(no name)", until);
	ERR_clear_error();
}

/* One loop's context. The first one is described. */
static bool make_one(const struct files *f, struct tg_tls *t, unsigned i, struct tg_tickets *tickets)
{
	X509 *own = NULL;
	STACK_OF(X509) *chain = NULL;
	EVP_PKEY *key = NULL;
	bool ok = parse_chain(f, &own, &chain) && parse_key(f, &key) && check_pair(f, own, chain, key);
	if (ok) {
		ERR_clear_error();
		t->ctx[i] = new_context(tickets);
		if (!t->ctx[i])
			ok = fault(f, "tls_cert", "no TLS context can be made");
		else if (SSL_CTX_use_cert_and_key(t->ctx[i], own, key, chain, 1) != 1)
			ok = fault(f, "tls_cert", "it cannot be used");
		else if (i == 0)
			describe(t, own);
	}
	EVP_PKEY_free(key);
	X509_free(own);
	sk_X509_pop_free(chain, X509_free);
	ERR_clear_error();
	return ok;
}

/* ---- warnings ---- */

struct warner {
	void (*fn)(void *ctx, const char *line);
	void *ctx;
};

__attribute__((format(printf, 2, 3))) static void warnf(const struct warner *w, const char *fmt, ...)
{
	struct tg_err e;
	va_list ap;
	if (!w->fn)
		return;
	va_start(ap, fmt);
	vsnprintf(e.text, sizeof e.text, fmt, ap);
	va_end(ap);
	w->fn(w->ctx, e.text);
}

static void warn_dates(const struct files *f, const struct tg_tls *t, const struct warner *w)
{
	X509 *own = SSL_CTX_get0_certificate(t->ctx[0]);
	char when[21];
	if (X509_cmp_current_time(X509_get0_notAfter(own)) < 0) {
		time_text(X509_get0_notAfter(own), when);
		warnf(w, "[server] tls_cert: %.200s: THE CERTIFICATE HAS EXPIRED on %s: clients will refuse it", f->c->tls_cert, when);
	} else if (X509_cmp_current_time(X509_get0_notBefore(own)) > 0) {
		time_text(X509_get0_notBefore(own), when);
		warnf(w, "[server] tls_cert: %.200s: the certificate is not valid before %s: clients will refuse it", f->c->tls_cert, when);
	}
	STACK_OF(X509) *chain = NULL;
	SSL_CTX_get0_chain_certs(t->ctx[0], &chain);
	for (int i = 0; i < sk_X509_num(chain); i++)
		if (X509_cmp_current_time(X509_get0_notAfter(sk_X509_value(chain, i))) < 0)
			warnf(w, "[server] tls_cert: %.200s: certificate %d of the chain has expired: clients will refuse it", f->c->tls_cert, i + 2);
}

/* The rule of secret files; in production it is no warning. */
static bool check_mode(const struct files *f, const struct warner *w)
{
	mode_t mode = tg_secret_file_exposed(f->c->tls_key);
	char what[128];
	if (!mode)
		return true;
	snprintf(what, sizeof what, "others can read or write it (mode %04o): chmod 600 it", (unsigned)mode);
	if (f->c->profile == TG_PROFILE_PRODUCTION)
		return fault(f, "tls_key", what);
	warnf(w, "[server] tls_key: %.200s: %s", f->c->tls_key, what);
	return true;
}

/* ---- the whole ---- */

static bool make_all(struct files *f, struct tg_tls *t, struct tg_tickets *tickets, const struct warner *w)
{
	if (!read_file(f, "tls_cert", &f->cert, &f->ncert) || !read_file(f, "tls_key", &f->key, &f->nkey))
		return false;
	for (unsigned i = 0; i < t->n; i++)
		if (!make_one(f, t, i, tickets))
			return false;
	if (!check_mode(f, w))
		return false;
	warn_dates(f, t, w);
	return true;
}

struct tg_tls *tg_tls_load(const struct tg_config *c, unsigned nloops, struct tg_tickets *tickets, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx)
{
	struct files f = { .c = c, .err = err };
	struct warner w = { warn, ctx };
	struct tg_tls *t = calloc(1, sizeof *t);
	if (t)
		*t = (struct tg_tls){ .refs = 1, .n = nloops, .ctx = calloc(nloops, sizeof *t->ctx) };
	if (!t || !t->ctx) {
		tg_err_set(err, "out of memory");
		tg_tls_put(t);
		return NULL;
	}
	bool ok = make_all(&f, t, tickets, &w);
	free(f.cert);
	if (f.key)
		explicit_bzero(f.key, f.nkey);
	free(f.key);
	if (ok)
		return t;
	tg_tls_put(t);
	return NULL;
}

bool tg_tls_try(const struct tg_config *c, char *about, size_t cap, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx)
{
	if (cap)
		*about = 0;
	if (!c->tls_cert)
		return true;
	struct tg_tickets *tickets = tg_tickets_new();
	tg_err_set(err, "out of memory");
	struct tg_tls *t = tickets ? tg_tls_load(c, 1, tickets, err, warn, ctx) : NULL;
	if (t)
		snprintf(about, cap, "%s", t->about);
	tg_tls_put(t);
	tg_tickets_put(tickets);
	return t != NULL;
}

struct tg_tls *tg_tls_get(struct tg_tls *t)
{
	if (t)
		atomic_fetch_add(&t->refs, 1);
	return t;
}

void tg_tls_put(struct tg_tls *t)
{
	if (!t || atomic_fetch_sub(&t->refs, 1) != 1)
		return;
	for (unsigned i = 0; t->ctx && i < t->n; i++)
		SSL_CTX_free(t->ctx[i]);
	free(t->ctx);
	free(t);
}

SSL_CTX *tg_tls_of_loop(const struct tg_tls *t, unsigned loop)
{
	return t->ctx[loop];
}

const char *tg_tls_about(const struct tg_tls *t)
{
	return t->about;
}
