#pragma once
/*
 * TLS of one connection, for net/conn.c, which is what owners see. Server side only (RFC 8446, RFC 5246), by OpenSSL on the socket itself, never blocking.
 *
 * No OpenSSL memory is taken before the first byte has come. A read may have to wait until the socket is writable, and a write until it is readable (a key update wants an
 * answer): both are seen to here. What OpenSSL has decrypted and the owner not read makes no event of the socket: a turn of the loop is asked for instead.
 */
#include "net/conn.h"

/* What to watch for in place of `want`. */
uint8_t tg_tls_interest(const struct tg_tls_conn *t, uint8_t want);
/* The socket is ready (UV_ events, or c->broken). True: go on with *events, which is what it means to the owner. False: that was all; c may be closing, c->tls be gone. */
bool tg_tls_ready(struct tg_conn *c, int *events);
long tg_tls_recv(struct tg_conn *c, char *p, size_t n); /* as tg_conn_recv */
/* Bytes taken; fewer than all: the rest must be sent again, in the same order, by the next call. -1: broken. */
long tg_tls_send(struct tg_conn *c, const struct iovec *v, int n);
void tg_tls_resume(struct tg_conn *c);   /* reading is wanted again */
void tg_tls_farewell(struct tg_conn *c); /* close_notify, once, if it can be sent now */
void tg_tls_free(struct tg_conn *c);     /* c->tls is NULL afterwards */
