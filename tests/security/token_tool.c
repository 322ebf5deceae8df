/*
 * Our tokens on the command line, for the tests that hold them against PyJWT (test_tokens.py); built with the unit tests, never installed.
 *   token_tool issue SECRET SUB NOW LIFE [PREVIOUS]    one token
 *   token_tool verify SECRET NOW [PREVIOUS]            tokens from stdin, one a line: "ok SUB JTI IAT EXP" or the reason
 *   token_tool time SECRET NOW COUNT                   a token from stdin: microseconds a verification: known, new, forged
 * SECRET and PREVIOUS in hexadecimal digits: any byte.
 */
#include "base/clock.h"
#include "policy/token.h"
#include <inttypes.h>
#include <sodium.h>
#include <stdio.h>

static bool set(struct tg_secret *s, const char *hex)
{
	unsigned char bin[1024];
	size_t n;
	return sodium_hex2bin(bin, sizeof bin, hex, strlen(hex), NULL, &n, NULL) == 0 && tg_secret_set(s, (struct tg_slice){ (char *)bin, n });
}

static int issue(const struct tg_token_key *k, const char *sub, int64_t now, int64_t life)
{
	struct tg_buf b;
	tg_buf_init(&b, TG_TOKEN_MAX);
	bool ok = tg_token_issue(k, tg_slice_cstr(sub), now, life, &b, NULL);
	printf("%.*s\n", (int)b.len, b.len ? b.p : "");
	tg_buf_free(&b);
	return !ok;
}

static int verify(const struct tg_token_key *k, int64_t now)
{
	struct tg_token_verifier *v = tg_token_verifier_new(k);
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	while (v && (n = getline(&line, &cap, stdin)) > 0) {
		struct tg_token t;
		enum tg_token_result r = tg_token_verify(v, (struct tg_slice){ line, (size_t)n - (line[n - 1] == '\n') }, now, &t);
		if (r == TG_TOKEN_OK)
			printf("ok %s %s %" PRId64 " %" PRId64 "\n", t.sub, t.jti, t.iat, t.exp);
		else
			printf("%s\n", tg_token_reason(r));
	}
	free(line);
	tg_token_verifier_free(v);
	return !v;
}

static double each(const struct tg_token_key *k, struct tg_slice text, int64_t now, int count, bool fresh)
{
	struct tg_token_verifier *v = tg_token_verifier_new(k);
	struct tg_token t;
	uint64_t us = 0;
	for (int i = 0; i < count; i++) {
		if (fresh) {
			tg_token_verifier_free(v);
			v = tg_token_verifier_new(k);
		}
		uint64_t from = tg_mono_us();
		for (int again = fresh ? 1 : 100; again; again--)
			tg_token_verify(v, text, now, &t);
		us += tg_mono_us() - from;
	}
	tg_token_verifier_free(v);
	return (double)us / count / (fresh ? 1 : 100);
}

static int measure(const struct tg_token_key *k, int64_t now, int count)
{
	char line[TG_TOKEN_MAX + 2];
	if (!fgets(line, sizeof line, stdin))
		return 1;
	size_t n = strcspn(line, "\n");
	double known = each(k, (struct tg_slice){ line, n }, now, count, false), fresh = each(k, (struct tg_slice){ line, n }, now, count, true);
	line[n / 2] ^= 1;
	printf("%.2f %.2f %.2f\n", known, fresh, each(k, (struct tg_slice){ line, n }, now, count, false));
	return 0;
}

int main(int argc, char **argv)
{
	struct tg_token_key k = { 0 };
	bool issues = argc >= 6 && strcmp(argv[1], "issue") == 0, verifies = argc >= 4 && strcmp(argv[1], "verify") == 0, times = argc == 5 && strcmp(argv[1], "time") == 0;
	int last = issues ? 6 : 4;
	if ((!issues && !verifies && !times) || !set(&k.current, argv[2]) || (!times && argc > last && !set(&k.previous, argv[last]))) {
		fprintf(stderr, "usage: see the head of tests/security/token_tool.c\n");
		return 2;
	}
	int r = issues ? issue(&k, argv[3], strtoll(argv[4], NULL, 10), strtoll(argv[5], NULL, 10))
		: verifies ? verify(&k, strtoll(argv[3], NULL, 10)) : measure(&k, strtoll(argv[3], NULL, 10), (int)strtol(argv[4], NULL, 10));
	tg_token_key_wipe(&k);
	return r;
}
