/* Identities: what is laid over, folded, and folded while it goes on changing, against a plain array. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "policy/identity.h"
#include <stdio.h>
#include <stdlib.h>

enum { KEYS = 300 };

static struct {
	uint32_t perms; /* 0: nobody's */
	uint64_t expires_s;
} model[KEYS];
static uint32_t seed;

static uint32_t rnd(uint32_t n)
{
	seed = seed * 1664525u + 1013904223u;
	return (seed >> 8) % n;
}

static void digest_of(unsigned i, uint8_t out[32])
{
	memset(out, 0, 32);
	out[0] = (uint8_t)(i * 7);
	out[1] = (uint8_t)(i >> 8);
	out[9] = (uint8_t)i;
	out[2] = (uint8_t)(i & 255);
}

static struct tg_principal principal(unsigned i)
{
	struct tg_principal p;
	memset(&p, 0, sizeof p);
	p.source = TG_SRC_STORED_KEY;
	snprintf(p.id, sizeof p.id, "key_%016u", i);
	p.perms = model[i].perms;
	p.expires_s = model[i].expires_s;
	p.hash = i + 1;
	return p;
}

static void count_one(void *ctx, const uint8_t digest[32], const struct tg_principal *who)
{
	uint8_t want[32];
	unsigned i = (unsigned)(who->hash - 1);
	digest_of(i, want);
	assert_memory_equal(digest, want, 32);
	assert_int_equal(who->perms, model[i].perms);
	++*(size_t *)ctx;
}

static void agrees(const struct tg_identity *d)
{
	size_t n = 0, walked = 0;
	uint32_t all = 0;
	for (unsigned i = 0; i < KEYS; i++) {
		uint8_t digest[32];
		digest_of(i, digest);
		const struct tg_principal *p = tg_identity_key(d, digest);
		assert_int_equal(p != NULL, model[i].perms != 0);
		if (!p)
			continue;
		assert_int_equal(p->hash, i + 1);
		assert_int_equal(p->perms, model[i].perms);
		all |= p->perms;
		n++;
	}
	assert_int_equal(tg_identity_keys(d), n);
	assert_int_equal(tg_identity_union(d), all);
	tg_identity_each_key(d, count_one, &walked);
	assert_int_equal(walked, n);
}

/* One to five changes, some of them of nobody to nobody, laid over `d`. */
static struct tg_identity *changed(struct tg_identity *d)
{
	struct tg_identity *next = tg_identity_next(d, 100);
	assert_non_null(next);
	for (uint32_t k = rnd(5) + 1; k; k--) {
		unsigned i = rnd(KEYS);
		uint8_t digest[32];
		digest_of(i, digest);
		model[i].perms = rnd(3) ? 1u << rnd(16) : 0;
		struct tg_principal p = principal(i);
		assert_true(tg_identity_set_key(next, digest, model[i].perms ? &p : NULL));
	}
	assert_true(tg_identity_seal(next));
	tg_identity_put(d);
	return next;
}

static struct tg_identity *first(void)
{
	struct tg_identity *d = tg_identity_new();
	assert_non_null(d);
	memset(model, 0, sizeof model);
	for (unsigned i = 0; i < KEYS; i += 2) {
		uint8_t digest[32];
		digest_of(i, digest);
		model[i].perms = 1u << rnd(16);
		struct tg_principal p = principal(i);
		assert_true(tg_identity_add_key(d, digest, &p));
		assert_false(tg_identity_add_key(d, digest, &p));
	}
	assert_true(tg_identity_seal(d));
	agrees(d);
	return d;
}

static void test_changes_are_laid_over_and_folded(void **state)
{
	(void)state;
	for (seed = 1; seed < 20; seed += 7) {
		struct tg_identity *d = first();
		for (int round = 0; round < 60; round++) {
			d = changed(d);
			agrees(d);
			if (round % 10 != 9)
				continue;
			/* Folding, while it goes on changing. */
			struct tg_identity *was = tg_identity_get(d), *folded = tg_identity_fold(was, 100);
			assert_non_null(folded);
			assert_int_equal(tg_identity_laid_over(folded), 0);
			agrees(folded);
			for (int k = (int)rnd(4); k; k--)
				d = changed(d);
			size_t over = tg_identity_laid_over(d);
			struct tg_identity *fresh = tg_identity_refold(d, folded, was);
			assert_non_null(fresh);
			agrees(fresh);
			assert_true(tg_identity_laid_over(fresh) <= 15);
			assert_true(over > 15);
			tg_identity_put(folded);
			tg_identity_put(was);
			tg_identity_put(d);
			d = fresh;
		}
		tg_identity_put(d);
	}
}

static void test_folding_belongs_to_what_it_was_made_of(void **state)
{
	(void)state;
	seed = 5;
	struct tg_identity *a = changed(first()), *folded = tg_identity_fold(a, 100), *b = first();
	assert_null(tg_identity_refold(b, folded, a)); /* everybody was read anew meanwhile */
	struct tg_identity *same = tg_identity_refold(a, folded, a);
	assert_ptr_equal(same, folded);
	assert_false(tg_identity_alone(folded));
	tg_identity_put(same);
	assert_true(tg_identity_alone(folded));
	struct tg_identity *next = tg_identity_next(folded, 1);
	assert_false(tg_identity_alone(folded)); /* it shares the large part */
	tg_identity_put(next);
	assert_true(tg_identity_alone(folded));
	tg_identity_put(folded);
	tg_identity_put(a);
	tg_identity_put(b);
}

static void test_expired_keys_are_folded_away(void **state)
{
	(void)state;
	seed = 9;
	struct tg_identity *d = first();
	uint8_t digest[32];
	digest_of(0, digest);
	model[0].expires_s = 100;
	struct tg_principal p = principal(0);
	struct tg_identity *next = tg_identity_next(d, 1), *folded;
	assert_true(tg_identity_set_key(next, digest, &p));
	assert_true(tg_identity_seal(next));
	folded = tg_identity_fold(next, 99);
	assert_non_null(tg_identity_key(folded, digest));
	tg_identity_put(folded);
	folded = tg_identity_fold(next, 100);
	assert_null(tg_identity_key(folded, digest));
	assert_int_equal(tg_identity_keys(folded), tg_identity_keys(next) - 1);
	tg_identity_put(folded);
	tg_identity_put(next);
	tg_identity_put(d);
}

/* A principal of an older identity, whichever of its sets it lies in, is found again or not by its secret. */
static void test_whose_secret_it_still_is(void **state)
{
	(void)state;
	seed = 3;
	struct tg_identity *a = first();
	uint8_t zero[32], two[32];
	digest_of(0, zero);
	digest_of(2, two);
	const struct tg_principal *in_base = tg_identity_key(a, zero);
	struct tg_principal p = principal(2);
	struct tg_identity *b = tg_identity_next(a, 1);
	assert_true(tg_identity_set_key(b, two, &p) && tg_identity_set_key(b, zero, NULL) && tg_identity_seal(b));
	const struct tg_principal *laid = tg_identity_key(b, two);
	struct tg_identity *c = tg_identity_next(b, 1);
	assert_true(tg_identity_set_key(c, two, NULL) && tg_identity_seal(c));
	struct tg_identity *folded = tg_identity_fold(b, 1);
	assert_true(tg_identity_still_has(a, a, in_base));
	assert_false(tg_identity_still_has(b, a, in_base));
	assert_true(tg_identity_still_has(b, b, laid));
	assert_false(tg_identity_still_has(c, b, laid));
	assert_true(tg_identity_still_has(folded, b, laid));
	assert_false(tg_identity_still_has(folded, a, in_base));
	assert_false(tg_identity_still_has(NULL, a, in_base));
	tg_identity_put(folded);
	tg_identity_put(c);
	tg_identity_put(b);
	tg_identity_put(a);
}

static struct tg_user user(const char *id, const char *name, uint32_t perms)
{
	struct tg_user u = { .who = { .source = TG_SRC_USER, .perms = perms } };
	snprintf(u.who.id, sizeof u.who.id, "%s", id);
	snprintf(u.name, sizeof u.name, "%s", name);
	return u;
}

static void test_users_and_ended_tokens(void **state)
{
	(void)state;
	struct tg_identity *a = tg_identity_new();
	struct tg_user ann = user("usr_a", "ann", 1), bob = user("usr_b", "bob", 2);
	assert_true(tg_identity_add_user(a, &bob, "pb") && tg_identity_add_user(a, &ann, "pa") && tg_identity_add_revoked(a, "jti-1", 1000) && tg_identity_seal(a));
	struct tg_identity *keys_only = tg_identity_next(a, 0);
	assert_true(tg_identity_seal(keys_only));
	assert_ptr_equal(tg_identity_user(keys_only, TG_S("usr_a")), tg_identity_user(a, TG_S("usr_a"))); /* shared whole */
	tg_identity_put(keys_only);
	struct tg_identity *ahead = tg_identity_next(a, 1000 + TG_ENDED_KEPT_S - 1); /* a clock that is wrong for a while makes nobody's token live again */
	assert_true(tg_identity_add_revoked(ahead, "jti-0", 9000) && tg_identity_seal(ahead) && tg_identity_revoked(ahead, TG_S("jti-1")));
	tg_identity_put(ahead);
	struct tg_identity *b = tg_identity_next(a, 1000 + TG_ENDED_KEPT_S);
	struct tg_user anne = user("usr_a", "ann", 4);
	anne.disabled = true;
	assert_true(tg_identity_set_user(b, "usr_a", &anne, "px") && tg_identity_set_user(b, "usr_nobody", NULL, NULL) && tg_identity_add_revoked(b, "jti-2", 9000) && tg_identity_seal(b));
	assert_string_equal(tg_identity_user_named(b, TG_S("ann"))->password, "px");
	assert_string_equal(tg_identity_user_named(a, TG_S("ann"))->password, "pa");
	assert_ptr_equal(tg_identity_user(b, TG_S("usr_b")), tg_identity_user(a, TG_S("usr_b")));
	assert_int_equal(tg_identity_union(a), 3);
	assert_int_equal(tg_identity_union(b), 2);
	assert_true(tg_identity_revoked(b, TG_S("jti-2")));
	assert_false(tg_identity_revoked(b, TG_S("jti-1"))); /* its token ended 30 days ago */
	assert_true(tg_identity_revoked(a, TG_S("jti-1")));
	tg_identity_put(a);
	struct tg_identity *c = tg_identity_next(b, 0);
	assert_true(tg_identity_set_user(c, "usr_b", NULL, NULL) && tg_identity_seal(c));
	assert_null(tg_identity_user(c, TG_S("usr_b")));
	assert_null(tg_identity_user_named(c, TG_S("bob")));
	assert_int_equal(tg_identity_users(c), 1);
	struct tg_user thief = user("usr_c", "ann", 1);
	struct tg_identity *d = tg_identity_next(c, 0);
	assert_true(tg_identity_set_user(d, "usr_c", &thief, "p"));
	assert_false(tg_identity_seal(d)); /* a name twice */
	tg_identity_put(d);
	tg_identity_put(c);
	tg_identity_put(b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_changes_are_laid_over_and_folded), cmocka_unit_test(test_folding_belongs_to_what_it_was_made_of), cmocka_unit_test(test_expired_keys_are_folded_away),
		cmocka_unit_test(test_whose_secret_it_still_is), cmocka_unit_test(test_users_and_ended_tokens),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
