#pragma once
/*
 * A certificate with its key, and what TLS is spoken with it: one OpenSSL context a loop, so that loops share no counter of OpenSSL's. Made whole from files or not at all;
 * immutable; a reload makes another one, and connections that began with the old keep its context. TLS 1.2 and 1.3, AEAD only (docs/tls.md).
 */
#include "config/config.h"
#include "net/tickets.h"

#define TG_TLS_CHAIN_MAX 16             /* certificates of a file */
#define TG_TLS_FILE_MAX (256u << 10)    /* bytes of a file */

struct tg_tls; /* opaque, counted */
/*
 * Reads c's tls_cert and tls_key. NULL: err names the option, the file and what is wrong with it. What is odd but no reason to stop (expired, not valid yet, a key that
 * others can read) goes to warn (may be NULL), one line a call; in profile production the last stops. tickets: a count of it is taken.
 */
struct tg_tls *tg_tls_load(const struct tg_config *c, unsigned nloops, struct tg_tickets *tickets, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx);
/* Whether that would succeed, for the command line; about: of what would be loaded, "" where c names no certificate. */
bool tg_tls_try(const struct tg_config *c, char *about, size_t cap, struct tg_err *err, void (*warn)(void *ctx, const char *line), void *ctx);
struct tg_tls *tg_tls_get(struct tg_tls *t);
void tg_tls_put(struct tg_tls *t); /* NULL is fine */
SSL_CTX *tg_tls_of_loop(const struct tg_tls *t, unsigned loop); /* borrowed */
/* For people: "CN=gate.example, valid until 2027-01-02T03:04:05Z". Lives as long as t. */
const char *tg_tls_about(const struct tg_tls *t);
