/*
 * Secrets and what may be shown of them. Invariants: no byte of a secret outlives its owner (explicit_bzero, which the compiler
 * may not drop), comparison time depends on lengths alone, and the two showing functions are the only way from a key to a log.
 * The label exists because people name their list keys (sk_ml_train_...) and search logs by that name; the rule is narrow
 * so that a random key never has one.
 */
#include "base/secret.h"
#include <openssl/crypto.h>
#include <stdlib.h>

bool tg_secret_set(struct tg_secret *s, struct tg_slice v)
{
	char *p = malloc(v.n + 1);
	if (!p)
		return false;
	if (v.n)
		memcpy(p, v.p, v.n);
	p[v.n] = '\0';
	/* Only now: v may be a part of the old value. */
	tg_secret_wipe(s);
	s->p = p;
	s->n = v.n;
	return true;
}

void tg_secret_wipe(struct tg_secret *s)
{
	if (s->p)
		explicit_bzero(s->p, s->n);
	free(s->p);
	s->p = NULL;
	s->n = 0;
}

bool tg_secret_equal(struct tg_slice a, struct tg_slice b)
{
	return a.n && a.n == b.n && CRYPTO_memcmp(a.p, b.p, a.n) == 0;
}

void tg_key_prefix(struct tg_slice key, char out[TG_KEY_PREFIX_MAX + 1])
{
	if (key.n < 16) {
		memcpy(out, "***", 4);
		return;
	}
	for (size_t i = 0; i < TG_KEY_PREFIX_MAX; i++)
		out[i] = key.p[i] >= 0x20 && key.p[i] < 0x7f ? key.p[i] : '?';
	out[TG_KEY_PREFIX_MAX] = '\0';
}

/* A word of a label: 1 to 10 lower-case letters, or 1 to 3 digits. */
static bool label_word(const char *p, size_t n)
{
	size_t letters = 0, digits = 0;
	for (size_t i = 0; i < n; i++) {
		letters += p[i] >= 'a' && p[i] <= 'z';
		digits += p[i] >= '0' && p[i] <= '9';
	}
	return n && ((letters == n && n <= 10) || (digits == n && n <= 3));
}

void tg_key_label(struct tg_slice key, char out[TG_KEY_LABEL_MAX + 1])
{
	out[0] = '\0';
	const char *last = key.n ? memrchr(key.p, '_', key.n) : NULL;
	if (!last)
		return;
	size_t n = (size_t)(last - key.p);
	if (n > TG_KEY_LABEL_MAX || key.n - n - 1 < 5)
		return;
	for (size_t from = 0, i = 0; i <= n; i++) {
		if (i < n && key.p[i] != '_')
			continue;
		if (!label_word(key.p + from, i - from))
			return;
		from = i + 1;
	}
	memcpy(out, key.p, n);
	out[n] = '\0';
}
