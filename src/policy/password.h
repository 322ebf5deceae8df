#pragma once
/*
 * Passwords: argon2id (RFC 9106) by libsodium, kept as its encoded string ("$argon2id$v=19$m=65536,t=3,p=1$salt$hash"), which carries its own parameters.
 *
 * A hash costs about 0.1 s of a core and 64 MiB, on purpose. In the gate it is done on the job pool, through a hasher: a bounded queue, a bounded number at once, and so a bound on memory,
 * however many people log in. The plain functions are for the command line.
 */
#include "base/slice.h"
#include "net/loop.h"

#define TG_PASSWORD_MIN 12   /* bytes */
#define TG_PASSWORD_MAX 1024 /* bytes: a hash of it costs the same, but somebody has to hold it */
#define TG_PASSWORD_HASH 128 /* an encoded string with its NUL */

/* NULL: it may be set. Else what is wrong with it, for an error about the field: length, no UTF-8, control characters. Bytes are taken as they come: whoever types the same characters in another
 * Unicode form (NFC, NFD) types another password; browsers and terminals send what was typed. */
const char *tg_password_fault(struct tg_slice password);

enum tg_password_answer {
	TG_PASSWORD_OK,
	TG_PASSWORD_WRONG,
	TG_PASSWORD_FAILED, /* no memory, or the stored string is none that may be tried: nothing is known about the password */
};
/* On the caller's thread, which it holds for about 0.1 s. */
bool tg_password_hash(struct tg_slice password, char out[TG_PASSWORD_HASH]); /* false: no memory, or longer than TG_PASSWORD_MAX */
/* encoded NULL: there is no such user; a stand-in of today's parameters is tried, at the same cost, and the answer is WRONG. */
enum tg_password_answer tg_password_verify(const char *encoded, struct tg_slice password);

/*
 * The process's hasher. At most TG_HASHING_AT_ONCE hashes run at a time, each within TG_HASHING_MEMORY / TG_HASHING_AT_ONCE bytes (a stored string that asks for more is FAILED), and at most
 * TG_HASHING_WAITING more wait: about two seconds' work. libuv's pool has four threads: one is left for looking up names.
 */
#define TG_HASHING_MEMORY (256u << 20)
#define TG_HASHING_AT_ONCE 3u
#define TG_HASHING_WAITING 64u
struct tg_hasher; /* opaque */
struct tg_hasher *tg_hasher_new(void);
void tg_hasher_free(struct tg_hasher *h); /* after every loop that started a job has ended */

/* On the loop's thread, which may free or reuse ctx in it. hash: of a hashing job that is OK, valid in the call; else NULL. */
typedef void (*tg_password_fn)(void *ctx, enum tg_password_answer answer, const char *hash);
struct tg_password_job; /* opaque; gone once its function has been called or it was cancelled */
/*
 * Starts a job and returns at once; own thread of l only. password and encoded are copied, and wiped when done. done is called later, never from within. A password over TG_PASSWORD_MAX is WRONG,
 * at the same cost. NULL: BUSY, too many wait or there is no memory: answer 503 with a Retry-After.
 */
struct tg_password_job *tg_password_verify_start(struct tg_hasher *h, struct tg_loop *l, const char *encoded, struct tg_slice password, tg_password_fn done, void *ctx);
struct tg_password_job *tg_password_hash_start(struct tg_hasher *h, struct tg_loop *l, struct tg_slice password, tg_password_fn done, void *ctx);
/* The caller leaves: done is not called any more. Own thread of its loop, before that loop ends and before done was called. A job that waits is gone at once; one that runs is let run, for nobody. */
void tg_password_cancel(struct tg_password_job *j);
unsigned tg_hasher_waiting(struct tg_hasher *h);
