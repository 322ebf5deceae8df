#pragma once
/* HMAC-SHA256 (RFC 2104, FIPS 180-4) under a key that stays: what the key does to both halves is computed once. */
#include "base/slice.h"
#include <openssl/sha.h>
#include <stdbool.h>
#include <stdint.h>

#define TG_HMAC 32 /* bytes of a digest */
struct tg_hmac { /* as secret as its key */
	SHA256_CTX inner, outer;
};
bool tg_hmac_key(struct tg_hmac *h, struct tg_slice key);
void tg_hmac_wipe(struct tg_hmac *h);
/* Any number of threads may use one. */
bool tg_hmac(const struct tg_hmac *h, struct tg_slice text, uint8_t out[TG_HMAC]);
