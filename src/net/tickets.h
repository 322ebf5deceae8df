#pragma once
/*
 * Keys of TLS session tickets (RFC 5077, RFC 8446 section 4.6.1), of the process: every loop's context seals and opens tickets with the same ones, so that a client is
 * resumed on whichever loop it arrives, and after a reload. A key seals for TG_TICKET_PERIOD_S and opens for one period more, then it is wiped: what was recorded before
 * cannot be opened later. Any thread; one short lock a handshake.
 */
#include <openssl/types.h>
#include <stdbool.h>
#include <stdint.h>

#define TG_TICKET_PERIOD_S 43200u

struct tg_tickets; /* opaque, counted */
struct tg_tickets *tg_tickets_new(void); /* NULL: no memory, or no random numbers */
struct tg_tickets *tg_tickets_get(struct tg_tickets *t);
void tg_tickets_put(struct tg_tickets *t); /* NULL is fine */

#define TG_TICKET_NAME 16
struct tg_ticket_key {
	uint8_t name[TG_TICKET_NAME]; /* stands in clear in the ticket */
	uint8_t cipher[32], mac[32];  /* AES-256-CBC, HMAC-SHA256 */
};
/* now_s: any clock that never goes back, in seconds. The key to seal with; false: no random numbers for a new one. */
bool tg_tickets_seal(struct tg_tickets *t, uint64_t now_s, struct tg_ticket_key *out);
/* The key of that name, while it lives. *renew: it does not seal any more, so the client is given a new ticket. */
bool tg_tickets_open(struct tg_tickets *t, uint64_t now_s, const uint8_t name[TG_TICKET_NAME], struct tg_ticket_key *out, bool *renew);
/* Wipes what has had its time, without waiting for a handshake. */
void tg_tickets_turn(struct tg_tickets *t, uint64_t now_s);
/* Makes ctx, which then holds a count, use these keys. */
bool tg_tickets_attach(struct tg_tickets *t, SSL_CTX *ctx);
