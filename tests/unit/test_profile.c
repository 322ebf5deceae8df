/*
 * Profiles, document 004's settings, the key file of document 003 and the modes of secret files: whatever a load decides after its layers. Each test runs in an empty folder
 * of its own.
 */
#include "config/options.h"
#include "base/secret_mode.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/tg-profile-XXXXXX";
static char warnings[8192];

static void put(const char *path, const char *text, mode_t mode)
{
	FILE *f = fopen(path, "w");
	assert_non_null(f);
	assert_true(fputs(text, f) >= 0);
	assert_int_equal(fclose(f), 0);
	assert_int_equal(chmod(path, mode), 0);
}

static void collect(void *ctx, const char *line)
{
	(void)ctx;
	size_t n = strlen(warnings);
	snprintf(warnings + n, sizeof warnings - n, "%s\n", line);
}

static struct tg_config *load_source(struct tg_config_source *src, struct tg_err *err)
{
	warnings[0] = 0;
	if (!src->key_file)
		src->key_file = "absent/ml_api_keys"; /* not this machine's */
	return tg_config_load(src, err, collect, NULL);
}

static struct tg_config *load(char *const *env, struct tg_err *err)
{
	struct tg_config_source src = { .env = env };
	return load_source(&src, err);
}

static struct tg_config *must(char *const *env)
{
	struct tg_err err;
	struct tg_config *c = load(env, &err);
	if (!c)
		fail_msg("%s", err.text);
	return c;
}

static int wipe_one(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type;
	return ftw->level ? remove(path) : 0;
}

static int enter(void **state)
{
	(void)state;
	if (chdir(folder) != 0)
		return -1;
	return nftw(folder, wipe_one, 8, FTW_DEPTH | FTW_PHYS);
}

static const char *origin_of(const struct tg_config *c, const char *table, const char *name)
{
	return tg_config_origin(c, table, name);
}

/* S4-124 to S4-126, C-12: four values a profile; without one those of Settings. */
static void test_table(void **state)
{
	static const struct {
		const char *profile;
		bool require_auth, limits;
		const char *origin; /* the one entry of cors_origins; NULL: none */
	} rows[] = { { "", true, true, NULL }, { "dev", false, false, "*" }, { "staging", true, true, NULL }, { "production", true, true, NULL } };
	(void)state;
	for (unsigned i = 0; i < 4; i++) {
		char profile[40], from[40];
		snprintf(profile, sizeof profile, "TOLLGATE_PROFILE=%s", rows[i].profile);
		snprintf(from, sizeof from, *rows[i].profile ? "profile %s" : "default", rows[i].profile);
		bool production = i == 3;
		char *env[] = { profile, production ? "CREDIT_RISK_MODEL_STORAGE_TYPE=s3" : NULL, "CREDIT_RISK_S3_BUCKET=models", NULL };
		struct tg_config *c = must(env);
		assert_int_equal(c->require_auth, rows[i].require_auth);
		assert_int_equal(c->limits_enabled, rows[i].limits);
		assert_int_equal(c->cors_origins.n, rows[i].origin ? 1 : 0);
		if (rows[i].origin)
			assert_string_equal(c->cors_origins.v[0], rows[i].origin);
		assert_string_equal(c->artifacts_url, production ? "s3://models" : "file:artifacts/models");
		assert_string_equal(origin_of(c, "auth", "require_auth"), from);
		assert_string_equal(origin_of(c, "server", "cors_origins"), from);
		assert_string_equal(origin_of(c, "limits", "enabled"), from);
		assert_string_equal(origin_of(c, "artifacts", "url"), production ? "environment CREDIT_RISK_S3_BUCKET" : from);
		assert_string_equal(origin_of(c, "server", "threads"), "default");
		assert_string_equal(warnings, "");
		tg_config_free(c);
	}
}

/* C-12: each explicit value wins, from every layer; said loudly where production is opened. */
static void test_explicit(void **state)
{
	(void)state;
	put("tollgate.toml", "profile = \"dev\"\n[auth]\nrequire_auth = true\n[server]\ncors_origins = [\"https://a.example\"]\n", 0600);
	put(".env", "CREDIT_RISK_RATE_LIMIT_ENABLED=true\n", 0600);
	char *storage[] = { "CREDIT_RISK_MODEL_STORAGE_PATH=/srv/models", NULL };
	struct tg_config *c = must(storage);
	assert_true(c->require_auth && c->limits_enabled);
	assert_string_equal(c->cors_origins.v[0], "https://a.example");
	assert_string_equal(c->artifacts_url, "file:/srv/models");
	assert_string_equal(origin_of(c, "auth", "require_auth"), "tollgate.toml:3");
	assert_string_equal(origin_of(c, "limits", "enabled"), ".env:1 CREDIT_RISK_RATE_LIMIT_ENABLED");
	tg_config_free(c);
	enter(NULL);
	char *open[] = { "TOLLGATE_PROFILE=production", "CREDIT_RISK_MODEL_STORAGE_TYPE=filesystem", "CREDIT_RISK_RATE_LIMIT_ENABLED=no", "CREDIT_RISK_REQUIRE_AUTH=0", NULL };
	c = must(open);
	assert_false(c->require_auth || c->limits_enabled);
	assert_string_equal(c->artifacts_url, "file:artifacts/models"); /* C-13: said so */
	assert_non_null(strstr(warnings, "profile production runs without limits: [limits] enabled (environment CREDIT_RISK_RATE_LIMIT_ENABLED) is false\n"));
	assert_non_null(strstr(warnings, "profile production runs without authentication on this machine: [auth] require_auth (environment CREDIT_RISK_REQUIRE_AUTH) is false\n"));
	tg_config_free(c);
	/* An explicitly empty list is explicit, and "*" with authentication is worth a word (S4-99). */
	char *none[] = { "TOLLGATE_PROFILE=dev", "CREDIT_RISK_CORS_ORIGINS=[]", NULL };
	c = must(none);
	assert_int_equal(c->cors_origins.n, 0);
	tg_config_free(c);
	char *any[] = { "CREDIT_RISK_CORS_ORIGINS=[\"*\"]", NULL };
	c = must(any);
	assert_non_null(strstr(warnings, "[server] cors_origins (environment CREDIT_RISK_CORS_ORIGINS) is \"*\""));
	tg_config_free(c);
}

#define PRODUCTION "TOLLGATE_PROFILE=production", "TOLLGATE_ARTIFACTS_URL=file:artifacts"

/* S2-60, S4-110, C-13, C-23, T-WEAK: what production does not start with; each row is all right outside of it. */
static void test_production(void **state)
{
	static const struct {
		const char *env[3];
		const char *error; /* NULL: taken */
	} rows[] = {
		{ { NULL }, NULL },
		{ { "LOAD_BALANCER_HOST=0.0.0.0" }, "[server] listen (default, environment LOAD_BALANCER_HOST): 0.0.0.0:9001 is reached by other machines without TLS" },
		{ { "TOLLGATE_SERVER_LISTEN=127.0.0.1:1,[::]:2" }, "[server] listen (environment TOLLGATE_SERVER_LISTEN): [::]:2 is reached" },
		{ { "TOLLGATE_SERVER_LISTEN=10.0.0.1:1" }, "[server] listen" },
		{ { "TOLLGATE_SERVER_LISTEN=127.9.9.9:1,[::1]:1,unix:/x,localhost:3" }, NULL },
		{ { "TOLLGATE_SERVER_LISTEN=0.0.0.0:1", "TOLLGATE_SERVER_TRUSTED_PROXIES=10.0.0.0/8" }, NULL },
		{ { "CREDIT_RISK_CORS_ORIGINS=*" }, "[server] cors_origins (environment CREDIT_RISK_CORS_ORIGINS) is \"*\", which profile production refuses" },
		{ { "CREDIT_RISK_CORS_ORIGINS=https://your-domain.com,https://www.your-domain.com,https://your-app.vercel.app" }, NULL },
		{ { "INFERENCE_ADMIN_KEY=your-secret-admin-key" }, "[auth] admin_key (environment INFERENCE_ADMIN_KEY) has a key that document 000 prints" },
		{ { "INFERENCE_READ_KEY=your-secret-read-key" }, "[auth] read_key" },
		{ { "TOLLGATE_API_KEYS=a-key-that-is-long-enough,prod-key-67890" }, "[auth] keys (environment TOLLGATE_API_KEYS) has a key that document 001 prints" },
		{ { "CHAPKIT_API_KEYS=sk_ml_train_abc123,sk_ml_predict_xyz789" }, "[auth] chapkit_keys (environment CHAPKIT_API_KEYS) has a key that document 003 prints" },
		{ { "CREDIT_RISK_API_KEYS=demo-key-12345" }, "[auth] credit_risk_keys" },
		{ { "CHAPKIT_API_KEY_FILE=demo" }, "[auth] chapkit_key_file (environment CHAPKIT_API_KEY_FILE) has a key that document 003 prints" },
		{ { "TOLLGATE_API_KEYS=demo-key-12345x" }, NULL },
	};
	(void)state;
	put("demo", "sk_ml_admin_master001\n", 0600);
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++)
		for (unsigned production = 0; production < 2; production++) {
			struct tg_err err = { "" };
			char *a = (char *)(uintptr_t)rows[i].env[0], *b = (char *)(uintptr_t)rows[i].env[1];
			char *in[] = { PRODUCTION, a, b, NULL }, *out[] = { a, b, NULL };
			struct tg_config *c = load(production ? in : out, &err);
			bool fine = !production || !rows[i].error;
			if (!c != !fine)
				fail_msg("row %u, production %u: %s", i, production, c ? "taken" : err.text);
			if (!fine && strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
				fail_msg("row %u: %s", i, err.text);
			/* Elsewhere a document's key is a warning. */
			if (c && rows[i].error && strstr(rows[i].error, "document"))
				assert_non_null(strstr(warnings, "prints: everybody can know it"));
			tg_config_free(c);
		}
	/* Artifacts need a word. */
	struct tg_err err;
	char *bare[] = { "TOLLGATE_PROFILE=production", NULL };
	assert_null(load(bare, &err));
	assert_string_equal(err.text, "[artifacts] url is not set, and profile production (environment TOLLGATE_PROFILE) needs it: \"s3://BUCKET/PREFIX\", or \"file:FOLDER\" to keep them on this machine");
	/* So does what the command line adds. */
	const char *also[] = { "127.0.0.1:0", "0.0.0.0:8000" };
	char *env[] = { PRODUCTION, NULL };
	struct tg_config_source src = { .env = env, .also = also, .nalso = 2 };
	assert_null(load_source(&src, &err));
	assert_non_null(strstr(err.text, "[server] listen (--also): 0.0.0.0:8000 is reached by other machines"));
	src.draft = true;
	tg_config_free(load_source(&src, &err));
	assert_string_equal(warnings, "");
	src.draft = false;
	src.nalso = 1;
	tg_config_free(load_source(&src, &err));
}

/* Every key that a seed document prints, by value; its neighbours are none. */
static void test_demo_keys(void **state)
{
	(void)state;
	assert_string_equal(tg_demo_key(TG_S("your-secret-admin-key")), "000");
	assert_string_equal(tg_demo_key(TG_S("demo-key-12345")), "001");
	assert_string_equal(tg_demo_key(TG_S("sk_ml_customer_2_xyz789")), "003");
	assert_string_equal(tg_demo_key(TG_S("your-password")), "002");
	assert_string_equal(tg_demo_key(TG_S("<api_key>")), "004");
	assert_null(tg_demo_key(TG_S("demo-key-1234")));
	assert_null(tg_demo_key(TG_S("")));
}

/* S4-93 to S4-106: each setting by environment, in any case, and by .env, which the environment overrides. */
static void test_settings(void **state)
{
	(void)state;
	char *env[] = { "credit_risk_app_name=My API", "CREDIT_RISK_debug=true", "CREDIT_RISK_API_KEYS=[\"one-key-of-sixteen\",\"two-key-of-sixteen\"]", "CREDIT_RISK_REQUIRE_AUTH=False",
			"CREDIT_RISK_CORS_ORIGINS=https://a.example, https://b.example", "CREDIT_RISK_RATE_LIMIT_ENABLED=off", "CREDIT_RISK_TRAIN_RATE_LIMIT=3/hour",
			"CREDIT_RISK_PREDICT_RATE_LIMIT=7/second", "CREDIT_RISK_MODEL_STORAGE_TYPE=s3", "CREDIT_RISK_S3_BUCKET=models/credit", "CREDIT_RISK_LOG_LEVEL=WARNING", NULL };
	struct tg_config *c = must(env);
	assert_string_equal(c->name, "My API");
	assert_int_equal(c->credit_risk_keys.n, 2);
	assert_string_equal(c->credit_risk_keys.v[1], "two-key-of-sixteen");
	assert_false(c->require_auth || c->limits_enabled);
	assert_int_equal(c->cors_origins.n, 2);
	assert_int_equal(c->limit_train.n, 3);
	assert_int_equal(c->limit_predict.period_s, 1);
	assert_string_equal(c->artifacts_url, "s3://models/credit");
	assert_int_equal(c->log_level, TG_LOG_DEBUG); /* debug says so, whatever the level */
	assert_string_equal(origin_of(c, "log", "level"), "log.debug, environment CREDIT_RISK_DEBUG");
	assert_string_equal(origin_of(c, "server", "name"), "environment CREDIT_RISK_APP_NAME");
	assert_string_equal(warnings, "");
	tg_config_free(c);
	put(".env", "# a comment\nexport CREDIT_RISK_API_KEYS=\"one-key-of-sixteen,two-key-of-sixteen\"\nCredit_Risk_Log_Level='WARNING'\nCREDIT_RISK_TRAIN_RATE_LIMIT=5/hour # so many\n", 0600);
	char *over[] = { "CREDIT_RISK_TRAIN_RATE_LIMIT=6/hour", NULL };
	c = must(over);
	assert_int_equal(c->credit_risk_keys.n, 2);
	assert_int_equal(c->log_level, TG_LOG_WARN);
	assert_int_equal(c->limit_train.n, 6);
	tg_config_free(c);
	/* The same name in two cases: as written in the table goes first. */
	char *two[] = { "credit_risk_app_name=low", "CREDIT_RISK_APP_NAME=high", NULL };
	c = must(two);
	assert_string_equal(c->name, "high");
	tg_config_free(c);
	/* Other names keep their case. */
	char *other[] = { "inference_admin_key=an-admin-key-in-lower-case", NULL };
	c = must(other);
	assert_int_equal(c->admin_key.n, 0);
	tg_config_free(c);
}

static void test_levels(void **state)
{
	static const struct {
		const char *var;
		enum tg_log_level level;
	} rows[] = { { "CREDIT_RISK_LOG_LEVEL=DEBUG", TG_LOG_DEBUG }, { "CREDIT_RISK_LOG_LEVEL=INFO", TG_LOG_INFO },   { "CREDIT_RISK_LOG_LEVEL=WARNING", TG_LOG_WARN },
		     { "CREDIT_RISK_LOG_LEVEL=ERROR", TG_LOG_ERROR }, { "CREDIT_RISK_LOG_LEVEL=CRITICAL", TG_LOG_ERROR }, { "TOLLGATE_LOG_LEVEL=warning", TG_LOG_WARN } };
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *env[] = { (char *)(uintptr_t)rows[i].var, NULL };
		struct tg_config *c = must(env);
		assert_int_equal(c->log_level, rows[i].level);
		tg_config_free(c);
	}
}

/* S4-103, S4-105, S4-108: a bad value stops the start with the variable's name, never with a key. */
static void test_bad_settings(void **state)
{
	static const struct {
		const char *env[2], *error;
	} rows[] = {
		{ { "CREDIT_RISK_DEBUG=maybe" }, "environment CREDIT_RISK_DEBUG: must be true or false" },
		{ { "CREDIT_RISK_REQUIRE_AUTH=2" }, "environment CREDIT_RISK_REQUIRE_AUTH: must be true or false" },
		{ { "CREDIT_RISK_API_KEYS=['topsecret']" }, "environment CREDIT_RISK_API_KEYS: entry 1 begins with a quote or bracket" },
		{ { "CREDIT_RISK_CORS_ORIGINS=example.com" }, "environment CREDIT_RISK_CORS_ORIGINS: entry 1 (\"example.com\"): must be SCHEME" },
		{ { "CREDIT_RISK_TRAIN_RATE_LIMIT=10 per hour" }, "environment CREDIT_RISK_TRAIN_RATE_LIMIT: must be N/second" },
		{ { "CREDIT_RISK_PREDICT_RATE_LIMIT=0/minute" }, "environment CREDIT_RISK_PREDICT_RATE_LIMIT: must be N/second" },
		{ { "CREDIT_RISK_RATE_LIMIT_ENABLED=perhaps" }, "environment CREDIT_RISK_RATE_LIMIT_ENABLED: must be true or false" },
		{ { "CREDIT_RISK_LOG_LEVEL=LOUD" }, "environment CREDIT_RISK_LOG_LEVEL: must be one of" },
		{ { "CREDIT_RISK_MODEL_STORAGE_TYPE=ftp" }, "environment CREDIT_RISK_MODEL_STORAGE_TYPE: must be \"filesystem\" or \"s3\"" },
		{ { "CREDIT_RISK_MODEL_STORAGE_TYPE=s3" }, "environment CREDIT_RISK_MODEL_STORAGE_TYPE: s3 needs a bucket: set CREDIT_RISK_S3_BUCKET" },
		{ { "CREDIT_RISK_MODEL_STORAGE_TYPE=s3", "CREDIT_RISK_S3_BUCKET=Not_A_Bucket" }, "environment CREDIT_RISK_S3_BUCKET: the bucket must be" },
		{ { "CREDIT_RISK_MODEL_STORAGE_PATH=a\x01" }, "environment CREDIT_RISK_MODEL_STORAGE_PATH: holds a control character" },
		{ { "CREDIT_RISK_APP_NAME=a\x01" }, "environment CREDIT_RISK_APP_NAME: holds a control character" },
	};
	static const struct {
		const char *var, *warning;
	} slips[] = {
		{ "CREDIT_RISK_DEBUGS=true", "CREDIT_RISK_DEBUGS is ignored: document 004 has no such setting\n" },
		{ "CREDIT_RISK_S3_BUCKET=models", "environment CREDIT_RISK_S3_BUCKET is ignored: CREDIT_RISK_MODEL_STORAGE_TYPE is not s3\n" },
		{ "CREDIT_RISK_DEBUG=false", "" },
		{ "CREDIT_RISKY=1", "" },
	};
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		char *env[] = { (char *)(uintptr_t)rows[i].env[0], (char *)(uintptr_t)rows[i].env[1], NULL };
		struct tg_config *c = load(env, &err);
		if (c || strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("row %u: %s", i, c ? "taken" : err.text);
		assert_null(strstr(err.text, "topsecret"));
	}
	for (unsigned i = 0; i < sizeof slips / sizeof *slips; i++) {
		char *env[] = { (char *)(uintptr_t)slips[i].var, NULL };
		tg_config_free(must(env));
		assert_string_equal(warnings, slips[i].warning);
	}
}

/* The three variables of storage against [artifacts] url, layer by layer. */
static void test_storage(void **state)
{
	(void)state;
	put("tollgate.toml", "[artifacts]\nurl = \"s3://from-toml/x\"\n", 0600);
	put(".env", "CREDIT_RISK_MODEL_STORAGE_PATH=/from/dotenv\n", 0600);
	struct tg_config *c = must(NULL);
	assert_string_equal(c->artifacts_url, "s3://from-toml/x");
	tg_config_free(c);
	char *type[] = { "CREDIT_RISK_MODEL_STORAGE_TYPE=filesystem", NULL };
	c = must(type);
	assert_string_equal(c->artifacts_url, "file:/from/dotenv"); /* the type of the environment with the path of .env */
	tg_config_free(c);
	char *own[] = { "CREDIT_RISK_MODEL_STORAGE_TYPE=filesystem", "TOLLGATE_ARTIFACTS_URL=file:own", NULL };
	c = must(own);
	assert_string_equal(c->artifacts_url, "file:own");
	tg_config_free(c);
}

/* C-36: one key a line, comma separated or JSON; the usual place only where there is a file. */
static void test_key_file(void **state)
{
	static const struct {
		const char *text;
		unsigned keys; /* 0: refused */
	} rows[] = { { "first-key-of-sixteen\nsecond-key-of-sixteen\n", 2 },
		     { "# the team's\r\nfirst-key-of-sixteen\r\n\r\n  # and\r\n\tsecond-key-of-sixteen", 2 },
		     { "first-key-of-sixteen, second-key-of-sixteen\n", 2 },
		     { "\n[\"first-key-of-sixteen\",\n \"second-key-of-sixteen\"]\n", 2 },
		     { "first-key-of-sixteen,second-key-of-sixteen\nthird-key-of-sixteen", 3 },
		     { "", 0 },
		     { "\n# only words\n", 0 },
		     { "[\"first-key-of-sixteen\"", 0 },
		     { "[]", 0 },
		     { "a\x01 b", 0 } };
	(void)state;
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		char *env[] = { "CHAPKIT_API_KEY_FILE=keys.txt", NULL };
		put("keys.txt", rows[i].text, 0600);
		struct tg_config *c = load(env, &err);
		if (!c != !rows[i].keys)
			fail_msg("row %u: %s", i, c ? "taken" : err.text);
		if (c) {
			assert_int_equal(c->chapkit_file_keys.n, rows[i].keys);
			assert_string_equal(c->chapkit_file_keys.v[0], "first-key-of-sixteen");
			assert_string_equal(c->chapkit_file_keys.v[1], "second-key-of-sixteen");
			assert_string_equal(warnings, "");
		} else {
			assert_non_null(strstr(err.text, "[auth] chapkit_key_file (environment CHAPKIT_API_KEY_FILE): keys.txt: "));
			assert_null(strstr(err.text, "first"));
		}
		tg_config_free(c);
	}
	struct tg_err err;
	put("keys.txt", "usual-key-of-sixteen\n", 0600);
	struct tg_config_source src = { .key_file = "keys.txt" };
	struct tg_config *c = load_source(&src, &err);
	assert_non_null(c);
	assert_string_equal(c->chapkit_file_keys.v[0], "usual-key-of-sixteen");
	assert_string_equal(c->chapkit_key_file, "keys.txt");
	assert_string_equal(origin_of(c, "auth", "chapkit_key_file"), "found there");
	tg_config_free(c);
	unlink("keys.txt");
	c = load_source(&src, &err);
	assert_non_null(c);
	assert_int_equal(c->chapkit_file_keys.n, 0);
	assert_null(c->chapkit_key_file);
	tg_config_free(c);
	assert_int_equal(mkdir("keys.txt", 0700), 0); /* there, and not to be read */
	assert_null(load_source(&src, &err));
	assert_non_null(strstr(err.text, "CHAPKIT_API_KEY_FILE's usual place): keys.txt: cannot read: Is a directory"));
}

/* C-38 and the "Bad input": others' access is a warning that names file and mode; production does not start with such a .env. */
static void test_modes(void **state)
{
	static const struct {
		mode_t mode;
		bool exposed;
	} rows[] = { { 0600, false }, { 0400, false }, { 0700, false }, { 0711, false }, { 0640, true }, { 0644, true }, { 0604, true }, { 0620, true }, { 0602, true } };
	(void)state;
	struct tg_err err;
	char *secret[] = { "INFERENCE_ADMIN_KEY=file:admin", NULL }, *production[] = { PRODUCTION, "INFERENCE_ADMIN_KEY=file:admin", NULL };
	put("admin", "an-admin-key-of-a-file\n", 0600);
	for (unsigned i = 0; i < sizeof rows / sizeof *rows; i++) {
		char expect[200];
		put("f", "x", rows[i].mode);
		assert_int_equal(tg_secret_file_exposed("f"), rows[i].exposed ? rows[i].mode : 0);
		put(".env", "A=b\n", rows[i].mode);
		tg_config_free(must(NULL));
		snprintf(expect, sizeof expect, ".env can be read or written by others (mode %04o): chmod 600 it\n", (unsigned)rows[i].mode);
		assert_string_equal(warnings, rows[i].exposed ? expect : "");
		struct tg_config *c = load(production, &err);
		if (!c != rows[i].exposed)
			fail_msg("%04o: %s", (unsigned)rows[i].mode, c ? "taken" : err.text);
		if (!c)
			assert_non_null(strstr(err.text, ".env can be read or written by others"));
		tg_config_free(c);
	}
	assert_int_equal(chmod(".env", 0600), 0);
	assert_int_equal(chmod("admin", 0644), 0);
	tg_config_free(must(secret));
	assert_string_equal(warnings, "admin can be read or written by others (mode 0644): chmod 600 it\n");
	tg_config_free(must(production));
	/* data/keys.env is as .env. */
	assert_int_equal(mkdir("data", 0700), 0);
	put("data/keys.env", "A=b\n", 0640);
	assert_null(load(production, &err));
	assert_non_null(strstr(err.text, "data/keys.env can be read or written by others (mode 0640)"));
	/* By a link the file counts; what is no file, or not there, has no mode of ours. */
	assert_int_equal(symlink("admin", "link"), 0);
	assert_int_equal(tg_secret_file_exposed("link"), 0644);
	assert_int_equal(tg_secret_file_exposed("data"), 0);
	assert_int_equal(tg_secret_file_exposed("absent"), 0);
	/* On a read-only mount nobody can change a mode, nor is it ours. */
	struct statvfs fs;
	static const char read_only[] = "/sys/kernel/mm/transparent_hugepage/enabled";
	if (statvfs(read_only, &fs) == 0 && (fs.f_flag & ST_RDONLY))
		assert_int_equal(tg_secret_file_exposed(read_only), 0);
	/* The function by itself, as other options use it. */
	warnings[0] = 0;
	assert_true(tg_secret_file_check("admin", "the TLS key", false, &err, collect, NULL));
	assert_string_equal(warnings, "admin (the TLS key) can be read or written by others (mode 0644): chmod 600 it\n");
	assert_false(tg_secret_file_check("admin", "the TLS key", true, &err, NULL, NULL));
	assert_string_equal(err.text, "admin (the TLS key) can be read or written by others (mode 0644): chmod 600 it");
	assert_true(tg_secret_file_check("f", NULL, false, &err, NULL, NULL));
}

int main(void)
{
	if (!mkdtemp(folder))
		return 1;
#define T(f) cmocka_unit_test_setup(f, enter)
	const struct CMUnitTest tests[] = { T(test_table),  T(test_explicit),	  T(test_production), T(test_demo_keys), T(test_settings),
					    T(test_levels), T(test_bad_settings), T(test_storage),    T(test_key_file),	 T(test_modes) };
	int failed = cmocka_run_group_tests(tests, NULL, NULL);
	enter(NULL);
	if (chdir("/") == 0)
		rmdir(folder);
	return failed;
}
