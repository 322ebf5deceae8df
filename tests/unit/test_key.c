/*
 * Key sets and permission names. The digest is checked against what HMAC must do (equal for equal keys in every digester, different
 * otherwise) and against OpenSSL's HMAC, the table against a thousand keys, empty keys (S0-12) and near misses.
 */
#include "policy/key.h"
#include <openssl/evp.h>
#include <openssl/hmac.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <cmocka.h>

static struct tg_digester d;

static int setup(void **state)
{
	(void)state;
	return tg_digester_init(&d) ? 0 : -1;
}

static int teardown(void **state)
{
	(void)state;
	tg_digester_free(&d);
	return 0;
}

static const struct tg_principal *find(const struct tg_keyset *k, struct tg_slice key)
{
	uint8_t digest[32];
	assert_true(tg_digest(&d, key, digest));
	return tg_keyset_find(k, digest);
}

static void test_digest(void **state)
{
	(void)state;
	struct tg_digester other;
	uint8_t a[32], b[32];
	assert_true(tg_digester_init(&other));
	static const char *const keys[] = { "", "a", "demo-key-12345", "iszcx8YNM7xqyo_lj-_iD8vMODMfW7xc" };
	for (size_t i = 0; i < 4; i++) {
		assert_true(tg_digest(&d, tg_slice_cstr(keys[i]), a));
		assert_true(tg_digest(&d, tg_slice_cstr(keys[(i + 1) % 4]), b));
		assert_memory_not_equal(a, b, 32);
		assert_true(tg_digest(&other, tg_slice_cstr(keys[i]), b));
		assert_memory_equal(a, b, 32);
	}
	static char big[100000];
	assert_true(tg_digest(&d, (struct tg_slice){ big, sizeof big }, a));
	assert_true(tg_digest(&d, (struct tg_slice){ big, sizeof big - 1 }, b));
	assert_memory_not_equal(a, b, 32);
	tg_digester_free(&other);
}

static void *digest_thread(void *out)
{
	struct tg_digester mine;
	if (tg_digester_init(&mine)) {
		tg_digest(&mine, TG_S("one key"), out);
		tg_digester_free(&mine);
	}
	return NULL;
}

static void test_one_process_key(void **state)
{
	(void)state;
	pthread_t t[4];
	uint8_t out[4][32] = { 0 }, want[32];
	for (int i = 0; i < 4; i++)
		assert_int_equal(pthread_create(&t[i], NULL, digest_thread, out[i]), 0);
	for (int i = 0; i < 4; i++)
		pthread_join(t[i], NULL);
	assert_true(tg_digest(&d, TG_S("one key"), want));
	for (int i = 0; i < 4; i++)
		assert_memory_equal(out[i], want, 32);
}

/* The last test: from here on digests are made under another key. */
static void test_digest_key(void **state)
{
	uint8_t key[32], want[32], got[32];
	struct tg_digester other;
	unsigned n;
	(void)state;
	for (size_t i = 0; i < sizeof key; i++)
		key[i] = (uint8_t)(200 + i * 7);
	tg_digest_key(key);
	assert_true(tg_digester_init(&other));
	assert_true(tg_digest(&other, TG_S("sk_ml_train_abc123"), got));
	assert_non_null(HMAC(EVP_sha256(), key, sizeof key, (const unsigned char *)"sk_ml_train_abc123", 18, want, &n));
	assert_memory_equal(got, want, 32);
	tg_digester_free(&other);
}

static void test_principals(void **state)
{
	(void)state;
	struct tg_keyset *k = tg_keyset_new();
	assert_non_null(k);
	assert_null(find(k, TG_S("anything")));
	assert_true(tg_keyset_add(k, &d, TG_S("admin-secret-0123456789"), TG_SRC_ADMIN_KEY, TG_PERM_ALL, "admin"));
	assert_int_equal(tg_keyset_union(k), TG_PERM_ALL);
	assert_true(tg_keyset_add(k, &d, TG_S("sk_ml_train_abc123"), TG_SRC_CHAPKIT_KEYS, TG_PERMS_CHAPKIT, "CHAPKIT_API_KEYS"));
	assert_true(tg_keyset_add(k, &d, TG_S("demo-key-12345"), TG_SRC_KEYS_FILE, TG_PERMS_USER, "api_keys.json"));
	/* The first source wins. */
	assert_true(tg_keyset_add(k, &d, TG_S("admin-secret-0123456789"), TG_SRC_KEYS_FILE, TG_PERMS_USER, "api_keys.json"));
	assert_int_equal(tg_keyset_count(k), 3);
	const struct tg_principal *p = find(k, TG_S("admin-secret-0123456789"));
	assert_non_null(p);
	assert_string_equal(p->name, "admin");
	assert_int_equal(p->perms, TG_PERM_ALL);
	assert_int_equal(p->source, TG_SRC_ADMIN_KEY);
	assert_string_equal(p->prefix, "admin-sec");
	assert_string_equal(p->label, "");
	p = find(k, TG_S("sk_ml_train_abc123"));
	assert_non_null(p);
	assert_string_equal(p->prefix, "sk_ml_tra");
	assert_string_equal(p->label, "sk_ml_train");
	uint8_t digest[32];
	assert_true(tg_digest(&d, TG_S("sk_ml_train_abc123"), digest));
	char id[24] = "key_";
	for (int i = 0; i < 8; i++)
		snprintf(id + 4 + 2 * i, 3, "%02x", digest[i]);
	assert_string_equal(p->id, id);
	assert_memory_equal(&p->hash, digest, 8);
	/* Same first 8 bytes, another tail: not the key. */
	digest[31] ^= 1;
	assert_null(tg_keyset_find(k, digest));
	static const char *const no[] = { "", " ", "demo-key-1234", "demo-key-123456", "Demo-key-12345", "demo-key-12345 " };
	for (size_t i = 0; i < sizeof no / sizeof *no; i++)
		assert_null(find(k, tg_slice_cstr(no[i])));
	tg_keyset_free(k);
}

static void test_empty_keys_never_match(void **state)
{
	(void)state;
	struct tg_keyset *k = tg_keyset_new();
	assert_true(tg_keyset_add(k, &d, TG_S(""), TG_SRC_READ_KEY, TG_PERMS_USER, "read"));
	assert_true(tg_keyset_add(k, &d, (struct tg_slice){ 0 }, TG_SRC_ADMIN_KEY, TG_PERM_ALL, "admin"));
	assert_int_equal(tg_keyset_count(k), 0);
	assert_int_equal(tg_keyset_union(k), 0);
	assert_null(find(k, TG_S("")));
	/* Nor does a digest of zeros hit a free slot. */
	static const uint8_t zero[32];
	assert_null(tg_keyset_find(k, zero));
	tg_keyset_free(k);
	tg_keyset_free(NULL);
}

static void test_many(void **state)
{
	(void)state;
	enum { N = 20000 };
	struct tg_keyset *k = tg_keyset_new();
	char key[40];
	for (int i = 0; i < N; i++) {
		int n = snprintf(key, sizeof key, "key-%d-abcdefghijklmnop", i);
		assert_true(tg_keyset_add(k, &d, (struct tg_slice){ key, (size_t)n }, TG_SRC_TOLLGATE_KEYS, TG_PERMS_USER, "TOLLGATE_API_KEYS"));
	}
	assert_int_equal(tg_keyset_count(k), N);
	assert_int_equal(tg_keyset_union(k), TG_PERMS_USER);
	for (int i = 0; i < 2 * N; i++) {
		int n = snprintf(key, sizeof key, "key-%d-abcdefghijklmnop", i);
		const struct tg_principal *p = find(k, (struct tg_slice){ key, (size_t)n });
		assert_int_equal(p != NULL, i < N);
	}
	tg_keyset_free(k);
}

static void test_perm_names(void **state)
{
	(void)state;
	assert_string_equal(tg_perm_name(TG_PERM_read_models), "read_models");
	assert_string_equal(tg_perm_name(TG_PERM_manage_power), "manage_power");
	uint32_t named = 0;
	for (unsigned bit = 0; bit < 32; bit++)
		if (tg_perm_name(1u << bit))
			named |= 1u << bit;
	assert_int_equal(named, TG_PERM_ALL);
	assert_null(tg_perm_name(0));
	assert_null(tg_perm_name(TG_PERM_read_models | TG_PERM_write_models));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_digest), cmocka_unit_test(test_one_process_key), cmocka_unit_test(test_principals),
		cmocka_unit_test(test_empty_keys_never_match), cmocka_unit_test(test_many), cmocka_unit_test(test_perm_names),
		cmocka_unit_test(test_digest_key),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
