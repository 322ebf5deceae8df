/*
 * Who holds which key (the sources and which of them wins), who is local and trusted, and which Host or Origin names us: the question on which the
 * keyless way in for local callers hangs.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "config/options.h"
#include "policy/policy.h"
#include <arpa/inet.h>
#include <netinet/in.h>

static struct tg_config *config(const char *admin, const char *read)
{
	struct tg_config *c = tg_config_defaults();
	assert_non_null(c);
	assert_true(tg_secret_set(&c->admin_key, tg_slice_cstr(admin)));
	assert_true(tg_secret_set(&c->read_key, tg_slice_cstr(read)));
	return c;
}

static void add(struct tg_strlist *l, const char *s)
{
	assert_true(tg_strlist_add(l, tg_slice_cstr(s)));
}

static void option(struct tg_config *c, const char *table, const char *name, const char *text)
{
	struct tg_err err = { "" };
	if (!tg_option_set_text(tg_option_find(table, name), c, text, NULL, &err))
		fail_msg("%s = %s: %s", name, text, err.text);
}

static const struct tg_principal *who(const struct tg_policy *p, const char *key)
{
	struct tg_digester d;
	uint8_t digest[32];
	assert_true(tg_digester_init(&d));
	assert_true(tg_digest(&d, tg_slice_cstr(key), digest));
	tg_digester_free(&d);
	return tg_keyset_find(p->keys, digest);
}

static void test_sources(void **state)
{
	(void)state;
	struct tg_config *c = config("admin-key-0123456789", "read-key-0123456789");
	struct tg_keyfile f = { .require_auth_for_external = true };
	add(&f.keys, "file-key-0123456789");
	add(&f.keys, "file-key-9876543210");
	add(&c->tollgate_keys, "tollgate-key-0123456789");
	add(&c->chapkit_keys, "chapkit-key-0123456789");
	add(&c->chapkit_file_keys, "chapkit-file-key-0123456789");
	add(&c->credit_risk_keys, "credit-key-0123456789");
	struct tg_policy p;
	struct tg_err err = { "" };
	assert_true(tg_policy_build(&p, c, &f, &err));
	static const struct {
		const char *key, *name;
		enum tg_source source;
		uint32_t perms;
	} rows[] = {
		{ "admin-key-0123456789", "admin", TG_SRC_ADMIN_KEY, TG_PERM_ALL },
		{ "read-key-0123456789", "read", TG_SRC_READ_KEY, TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming },
		{ "file-key-0123456789", "api_keys.json", TG_SRC_KEYS_FILE, TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming },
		{ "file-key-9876543210", "api_keys.json", TG_SRC_KEYS_FILE, TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming },
		{ "tollgate-key-0123456789", "TOLLGATE_API_KEYS", TG_SRC_TOLLGATE_KEYS, TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming },
		{ "chapkit-key-0123456789", "CHAPKIT_API_KEYS", TG_SRC_CHAPKIT_KEYS,
		  TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming | TG_PERM_train_models | TG_PERM_manage_configs | TG_PERM_manage_artifacts },
		{ "chapkit-file-key-0123456789", "CHAPKIT_API_KEY_FILE", TG_SRC_CHAPKIT_FILE,
		  TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming | TG_PERM_train_models | TG_PERM_manage_configs | TG_PERM_manage_artifacts },
		{ "credit-key-0123456789", "CREDIT_RISK_API_KEYS", TG_SRC_CREDIT_RISK_KEYS, TG_PERM_read_models | TG_PERM_run_inference | TG_PERM_use_streaming | TG_PERM_train_models },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		const struct tg_principal *w = who(&p, rows[i].key);
		assert_non_null(w);
		assert_string_equal(w->name, rows[i].name);
		assert_int_equal(w->source, rows[i].source);
		assert_int_equal(w->perms, rows[i].perms);
	}
	assert_int_equal(tg_keyset_count(p.keys), sizeof rows / sizeof rows[0]);
	static const char *const strangers[] = { "", "admin-key-012345678", "admin-key-01234567890", "Admin-key-0123456789", "api_keys.json" };
	for (unsigned i = 0; i < sizeof strangers / sizeof strangers[0]; i++)
		assert_null(who(&p, strangers[i]));
	/* The nameless: what the local caller may do, and under which name he is written down. */
	assert_string_equal(p.local_caller.id, "local");
	assert_int_equal(p.local_caller.source, TG_SRC_LOCAL);
	assert_int_equal(p.local_caller.perms, TG_PERM_run_inference | TG_PERM_use_streaming);
	assert_string_equal(p.outsider.id, "anonymous");
	assert_int_equal(p.outsider.source, TG_SRC_OUTSIDER);
	/* Where no key is asked for: CHAPKIT's permissions, none of an admin's. */
	assert_string_equal(p.anonymous.id, "anonymous");
	assert_int_equal(p.anonymous.source, TG_SRC_ANONYMOUS);
	assert_int_equal(p.anonymous.perms, rows[5].perms);
	assert_true(p.require_auth_for_external);
	tg_policy_free(&p);
	tg_policy_free(&p); /* an empty one may be freed again */
	tg_keyfile_free(&f);
	tg_config_free(c);
}

/* The same key in every source, then without the first, and so on: the strongest left decides. */
static void test_precedence(void **state)
{
	(void)state;
	static const enum tg_source order[] = { TG_SRC_ADMIN_KEY, TG_SRC_READ_KEY, TG_SRC_KEYS_FILE, TG_SRC_TOLLGATE_KEYS, TG_SRC_CHAPKIT_KEYS, TG_SRC_CHAPKIT_FILE, TG_SRC_CREDIT_RISK_KEYS };
	const char *k = "one-key-for-all-0123456789";
	for (unsigned without = 0; without < 7; without++) {
		struct tg_config *c = config(without < 1 ? k : "", without < 2 ? k : "");
		struct tg_keyfile f = { .require_auth_for_external = true };
		if (without < 3)
			add(&f.keys, k);
		if (without < 4)
			add(&c->tollgate_keys, k);
		if (without < 5)
			add(&c->chapkit_keys, k);
		if (without < 6)
			add(&c->chapkit_file_keys, k);
		add(&c->credit_risk_keys, k);
		add(&c->credit_risk_keys, k); /* twice in one list: once in the set */
		add(&c->chapkit_keys, "");
		struct tg_policy p;
		struct tg_err err = { "" };
		assert_true(tg_policy_build(&p, c, &f, &err));
		assert_int_equal(who(&p, k)->source, order[without]);
		assert_int_equal(tg_keyset_count(p.keys), 1);
		assert_null(who(&p, ""));
		tg_policy_free(&p);
		tg_keyfile_free(&f);
		tg_config_free(c);
	}
}

static bool has(const struct tg_cidr_list *l, const char *ip)
{
	struct tg_addr a;
	assert_true(tg_addr_parse(tg_slice_cstr(ip), &a));
	return tg_cidr_list_has(l, &a);
}

static void test_networks(void **state)
{
	(void)state;
	struct tg_config *c = config("", "");
	struct tg_policy p;
	struct tg_err err = { "" };
	/* No usable key file: nobody has a key of it, external callers need one, local is loopback alone. */
	assert_true(tg_policy_build(&p, c, NULL, &err));
	assert_int_equal(tg_keyset_count(p.keys), 0);
	assert_true(p.require_auth_for_external);
	assert_true(has(&p.local, "127.0.0.1") && has(&p.local, "::1"));
	assert_false(has(&p.local, "127.0.0.2") || has(&p.local, "192.168.0.1") || has(&p.local, "::"));
	assert_int_equal(p.trusted.n, 0);
	tg_policy_free(&p);

	struct tg_keyfile f = { .require_auth_for_external = false };
	add(&f.local_networks, "192.168.0.0/16");
	add(&c->trusted_proxies, "10.1.2.3");
	add(&c->trusted_proxies, "fd00::/8");
	assert_true(tg_policy_build(&p, c, &f, &err));
	assert_false(p.require_auth_for_external);
	assert_true(has(&p.local, "192.168.77.1"));
	assert_false(has(&p.local, "127.0.0.1")); /* the file's list is the list */
	assert_true(has(&p.trusted, "10.1.2.3") && has(&p.trusted, "fd12::1"));
	assert_false(has(&p.trusted, "10.1.2.4"));
	tg_policy_free(&p);

	/* A list without entries: nobody is local. */
	tg_strlist_free(&f.local_networks);
	assert_true(tg_policy_build(&p, c, &f, &err));
	assert_false(has(&p.local, "127.0.0.1"));
	tg_policy_free(&p);

	add(&f.local_networks, "10.0.0.0/33");
	assert_false(tg_policy_build(&p, c, &f, &err));
	assert_non_null(strstr(err.text, "local_networks"));
	assert_non_null(strstr(err.text, "10.0.0.0/33"));
	assert_null(p.keys);
	tg_keyfile_free(&f);

	add(&c->trusted_proxies, "proxy.example");
	assert_false(tg_policy_build(&p, c, NULL, &err));
	assert_non_null(strstr(err.text, "trusted_proxies"));
	assert_non_null(strstr(err.text, "proxy.example"));
	assert_null(p.trusted.v);
	tg_config_free(c);
}

/* What is everybody is judged as it is taken, not as it is written; a draft is only shown. */
static void test_vast_proxies(void **state)
{
	(void)state;
	static const struct {
		const char *text;
		bool vast;
	} rows[] = {
		{ "0.0.0.0/0", true }, { "0.0.0.0/1", true }, { "128.0.0.0/1", true }, { "10.0.0.0/7", true }, { "10.0.0.0/8", false }, { "1.2.3.4", false }, { "localhost", false },
		{ "::ffff:0:0/96", true }, { "::ffff:0.0.0.0/103", true }, { "::ffff:10.0.0.0/104", false }, { "::ffff:1.2.3.4", false },
		{ "::/0", true }, { "2000::/3", true }, { "2001::/15", true }, { "2001::/16", false }, { "::/80", true }, { "::fffe:0:0/95", true }, { "::/96", false }, { "::1", false },
		{ "fc00::/7", false }, { "fd00::/8", false }, { "fe80::/10", false }, { "fc00::/6", true }, { "fe80::/9", true },
	};
	struct tg_config *c = config("", "");
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
		for (unsigned k = 0; k < 3; k++) { /* 1: production, 2: a draft of it */
			struct tg_err err = { 0 };
			struct tg_cidr_list l = { 0 };
			c->profile = k ? TG_PROFILE_PRODUCTION : TG_PROFILE_STAGING;
			add(&c->trusted_proxies, rows[i].text);
			bool taken = tg_policy_trusted(c, k == 2, &l, &err);
			if (taken != (k != 1 || !rows[i].vast) || (!taken && !strstr(err.text, rows[i].text)))
				fail_msg("%s, %u: %s", rows[i].text, k, err.text);
			tg_cidr_list_free(&l);
			tg_strlist_free(&c->trusted_proxies);
		}
	tg_config_free(c);
}

static void test_host_only(void **state)
{
	(void)state;
	static const struct {
		struct tg_slice in;
		const char *want;
	} rows[] = {
		{ TG_S("localhost"), "localhost" },
		{ TG_S("localhost:80"), "localhost" },
		{ TG_S("127.0.0.1:65535"), "127.0.0.1" },
		{ TG_S("[::1]"), "::1" },
		{ TG_S("[::1]:80"), "::1" },
		{ TG_S("[2001:db8::5]:9001"), "2001:db8::5" },
		{ TG_S("localhost:"), "localhost" },
		{ TG_S("[::1]:"), "::1" },
		{ TG_S(""), "" },
		{ TG_S(":80"), "" },
		{ TG_S("[]"), "" },
		{ TG_S("[]:80"), "" },
		/* What is none of these forms must not become a host that it is not. */
		{ TG_S("["), "[" },
		{ TG_S("[::1"), "[::1" },
		{ TG_S("[::1:80"), "[::1:80" },
		{ TG_S("[::1].evil.example"), "[::1].evil.example" },
		{ TG_S("[::1]evil.example:80"), "[::1]evil.example:80" },
		{ TG_S("]"), "]" },
		{ TG_S("a]:80"), "a]" },
		{ TG_S("localhost/x"), "localhost/x" },
		{ TG_S("localhost.evil.example:80"), "localhost.evil.example" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		struct tg_slice got = tg_host_only(rows[i].in);
		if (!tg_slice_eq(got, tg_slice_cstr(rows[i].want)))
			fail_msg("\"%s\" became \"%.*s\"", rows[i].in.p, (int)got.n, got.p);
	}
	assert_int_equal(tg_host_only((struct tg_slice){ NULL, 0 }).n, 0);
	assert_int_equal(tg_host_only((struct tg_slice){ "[::1]:80", 4 }).n, 4); /* the ] lies behind the slice's end */
}

static void self_is(struct tg_addr *a, const char *ip)
{
	assert_true(tg_addr_parse(tg_slice_cstr(ip), a));
	a->port = 9001;
}

struct host_row {
	const char *authority; /* as a Host line or an Origin after :// has it */
	bool own;
};

static void check_hosts(const struct tg_policy *p, const struct tg_addr *self, const struct host_row *rows, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (tg_policy_own_host(p, tg_host_only(tg_slice_cstr(rows[i].authority)), self) != rows[i].own)
			fail_msg("Host \"%s\" should %sbe ours", rows[i].authority, rows[i].own ? "" : "not ");
}

static void test_own_host(void **state)
{
	(void)state;
	struct tg_config *c = config("", "");
	struct tg_policy p;
	struct tg_err err = { "" };
	struct tg_addr self;
	assert_true(tg_policy_build(&p, c, NULL, &err));
	static const struct host_row always[] = {
		{ "localhost", true }, { "LOCALHOST:9001", true }, { "127.0.0.1", true }, { "127.0.0.1:1", true }, { "127.8.8.8:9001", true },
		{ "[::1]:9001", true }, { "[::1]", true }, { "[0:0:0:0:0:0:0:1]", true }, { "[::ffff:127.0.0.1]:80", true },
		{ "", false }, { ":9001", false }, { "[]:80", false }, { "evil.example", false }, { "localhost.evil.example", false },
		{ "127.0.0.1.evil.example", false }, { "127.1", false }, { "2130706433", false }, { "0x7f000001", false }, { "0.0.0.0", false },
		{ "[::]", false }, { "192.168.1.6", false }, { "[::1].evil.example", false }, { "[::1]evil.example", false }, { "localhost.", false },
		{ "evillocalhost", false }, { "128.0.0.1", false }, { "[fe80::1]", false }, { "null", false },
	};
	check_hosts(&p, NULL, always, sizeof always / sizeof always[0]);
	self_is(&self, "192.168.1.5");
	check_hosts(&p, &self, always, sizeof always / sizeof always[0]);
	static const struct host_row by_self[] = {
		{ "192.168.1.5", true }, { "192.168.1.5:9001", true }, { "[::ffff:192.168.1.5]:9001", true }, { "192.168.1.50", false }, { "192.168.1", false },
	};
	check_hosts(&p, &self, by_self, sizeof by_self / sizeof by_self[0]);
	self_is(&self, "2001:db8::5");
	static const struct host_row by_self6[] = {
		{ "[2001:db8::5]:9001", true }, { "[2001:DB8:0::5]", true }, { "[2001:db8::6]", false }, { "192.168.1.5", false }, { "2001", false },
	};
	check_hosts(&p, &self, by_self6, sizeof by_self6 / sizeof by_self6[0]);
	tg_policy_free(&p);
	tg_config_free(c);
}

/* server.hosts, as the configuration takes it: names in lower case, addresses without brackets. */
static void test_configured_hosts(void **state)
{
	(void)state;
	struct tg_config *c = config("", "");
	option(c, "server", "hosts", "Gate.Example,10.0.0.7,[2001:db8::5],::7");
	struct tg_policy p;
	struct tg_err err = { "" };
	assert_true(tg_policy_build(&p, c, NULL, &err));
	static const struct host_row rows[] = {
		{ "gate.example", true }, { "GATE.example:443", true }, { "10.0.0.7:9001", true }, { "[2001:db8::5]:9001", true }, { "[2001:DB8:0:0::5]", true },
		{ "[::7]", true }, { "localhost", true },
		{ "gate.example.evil.example", false }, { "xgate.example", false }, { "10.0.0.8", false }, { "[2001:db8::6]", false }, { "[::8]", false },
		/* The beginning of a configured address up to its first colon is no host of ours, and nothing (Origin: null) is not either. */
		{ "2001", false }, { "2001:80", false }, { "", false }, { ":80", false }, { "[]", false },
	};
	check_hosts(&p, NULL, rows, sizeof rows / sizeof rows[0]);
	tg_policy_free(&p);
	tg_config_free(c);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_sources), cmocka_unit_test(test_precedence), cmocka_unit_test(test_networks), cmocka_unit_test(test_vast_proxies), cmocka_unit_test(test_host_only),
		cmocka_unit_test(test_own_host), cmocka_unit_test(test_configured_hosts),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
