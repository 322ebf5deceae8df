/*
 * Loading a configuration: precedence, every kind of mistake with its place and words, .env, the sample, secrets that must not show. Each
 * test runs in an empty folder of its own, which is also the working folder, so that paths in messages are short and fixed.
 */
#include "config/env.h"
#include "config/options.h"
#include "config/toml.h"
#include <ftw.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <cmocka.h>

static char folder[] = "/tmp/tg-config-XXXXXX";
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

static struct tg_config *load_from(const char *path, char *const *env, struct tg_err *err)
{
	struct tg_config_source src = { .path = path, .env = env };
	warnings[0] = 0;
	return tg_config_load(&src, err, collect, NULL);
}

static struct tg_config *load(char *const *env)
{
	struct tg_err err;
	struct tg_config *c = load_from(NULL, env, &err);
	if (!c)
		fail_msg("%s", err.text);
	return c;
}

static struct tg_config *load_toml(const char *text)
{
	put("tollgate.toml", text, 0600);
	return load(NULL);
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

static void test_defaults(void **state)
{
	(void)state;
	struct tg_config *c = load(NULL);
	assert_null(c->path);
	assert_int_equal(c->listen.n, 1);
	assert_string_equal(c->listen.v[0], "127.0.0.1:9001");
	assert_int_equal(c->max_body_bytes, 10485760);
	assert_int_equal(c->max_prompt_chars, 10000);
	assert_int_equal(c->max_header_bytes, 32768);
	assert_int_equal(c->max_headers, 100);
	assert_int_equal(c->max_buffered_bytes, 268435456);
	assert_int_equal(c->max_connections, 50000);
	assert_int_equal(c->head_ms, 5000);
	assert_int_equal(c->body_idle_ms, 30000);
	assert_int_equal(c->keepalive_ms, 75000);
	assert_int_equal(c->write_stall_ms, 30000);
	assert_int_equal(c->drain_ms, 30000);
	assert_string_equal(c->api_keys_file, "api_keys.json");
	assert_int_equal(c->limit_api.n, 60);
	assert_int_equal(c->limit_api.period_s, 60);
	assert_int_equal(c->limit_train.n, 10);
	assert_int_equal(c->limit_train.period_s, 3600);
	assert_int_equal(c->limit_predict.n, 100);
	assert_int_equal(c->limit_poll.n, 1200);
	assert_int_equal(c->limit_infer.n, 0);
	assert_int_equal(c->limit_ml.n, 0);
	assert_string_equal(c->log_path, "logs/app.log");
	assert_int_equal(c->log_level, TG_LOG_INFO);
	assert_int_equal(c->log_rotate_bytes, 100 << 20);
	assert_int_equal(c->log_rotate_keep, 10);
	assert_int_equal(c->profile, TG_PROFILE_NONE);
	assert_false(c->metrics_loopback);
	assert_int_equal(c->admin_key.n, 0);
	assert_string_equal(tg_config_origin(c, "server", "listen"), "default");
	assert_null(tg_config_origin(c, "server", "nonsense"));
	assert_string_equal(warnings, "");
	struct tg_config *d = tg_config_defaults();
	assert_non_null(d);
	for (unsigned i = 0; i < tg_noptions; i++)
		assert_true(tg_option_equal(&tg_options[i], c, d));
	tg_config_free(d);
	tg_config_free(c);
}

static void test_precedence(void **state)
{
	(void)state;
	assert_int_equal(mkdir("data", 0700), 0);
	put("data/keys.env", "INFERENCE_ADMIN_KEY=from-keys-env-0001\nTOLLGATE_SERVER_MAX_HEADERS=11\nTOLLGATE_SERVER_HEAD_MS=111\nTOLLGATE_SERVER_DRAIN_MS=1111\nTOLLGATE_LOG_LEVEL=debug\n", 0600);
	put(".env", "TOLLGATE_SERVER_MAX_HEADERS=22\nTOLLGATE_SERVER_HEAD_MS=222\nTOLLGATE_SERVER_DRAIN_MS=2222\nTOLLGATE_API_KEYS=one-key-of-sixteen,two-key-of-sixteen\n", 0600);
	put("tollgate.toml", "profile = \"staging\"\n[server]\nhead_ms = 333\ndrain_ms = 3333\n", 0600);
	char *env[] = { "TOLLGATE_SERVER_DRAIN_MS=4444", "INFERENCE_ADMIN_KEY=", "TOLLGATE_PROFILE=production", "TOLLGATE_ARTIFACTS_URL=file:x", "CHAPKIT_API_KEYS=[\"json-key-of-sixteen\", \"b,c-key-of-sixteen\"]", NULL };
	struct tg_config *c = load(env);
	assert_int_equal(c->log_level, TG_LOG_DEBUG);
	assert_int_equal(c->max_headers, 22);
	assert_int_equal(c->head_ms, 333);
	assert_int_equal(c->drain_ms, 4444);
	assert_int_equal(c->profile, TG_PROFILE_PRODUCTION);
	assert_string_equal(c->admin_key.p, "from-keys-env-0001"); /* empty in the environment: unset */
	assert_int_equal(c->tollgate_keys.n, 2);
	assert_int_equal(c->chapkit_keys.n, 2);
	assert_string_equal(c->chapkit_keys.v[1], "b,c-key-of-sixteen");
	assert_string_equal(tg_config_origin(c, "log", "level"), "data/keys.env:5 TOLLGATE_LOG_LEVEL");
	assert_string_equal(tg_config_origin(c, "server", "max_headers"), ".env:1 TOLLGATE_SERVER_MAX_HEADERS");
	assert_string_equal(tg_config_origin(c, "server", "head_ms"), "tollgate.toml:3");
	assert_string_equal(tg_config_origin(c, "server", "drain_ms"), "environment TOLLGATE_SERVER_DRAIN_MS");
	assert_string_equal(tg_config_origin(c, "", "profile"), "environment TOLLGATE_PROFILE");
	assert_string_equal(warnings, "");
	tg_config_free(c);
	/* The same from another folder: the files beside the configuration file count. */
	struct tg_err err;
	char path[256];
	snprintf(path, sizeof path, "%s/tollgate.toml", folder);
	assert_int_equal(chdir("/"), 0);
	c = load_from(path, NULL, &err);
	assert_non_null(c);
	assert_int_equal(c->max_headers, 22);
	assert_string_equal(c->admin_key.p, "from-keys-env-0001");
	tg_config_free(c);
	struct tg_config_source src = { .dir = folder };
	c = tg_config_load(&src, &err, NULL, NULL);
	assert_non_null(c);
	assert_int_equal(c->head_ms, 333);
	tg_config_free(c);
}

static void test_documents_names(void **state)
{
	(void)state;
	char *env[] = { "INFERENCE_ADMIN_KEY=admin-key-of-sixteen", "INFERENCE_READ_KEY=read-key-of-sixteen", "API_KEYS_FILE=/etc/keys.json", NULL };
	struct tg_config *c = load(env);
	assert_string_equal(c->admin_key.p, "admin-key-of-sixteen");
	assert_string_equal(c->read_key.p, "read-key-of-sixteen");
	assert_string_equal(c->api_keys_file, "/etc/keys.json");
	assert_string_equal(tg_config_origin(c, "auth", "read_key"), "environment INFERENCE_READ_KEY");
	tg_config_free(c);
	/* Every option has its own name too, and that one goes first. */
	char *both[] = { "INFERENCE_ADMIN_KEY=admin-key-of-sixteen", "TOLLGATE_AUTH_ADMIN_KEY=other-key-of-sixteen", NULL };
	c = load(both);
	assert_string_equal(c->admin_key.p, "other-key-of-sixteen");
	tg_config_free(c);
}

#define TLS "[server]\ntls_cert = \"c.pem\"\ntls_key = \"k.pem\"\n"

static void test_load_balancer(void **state)
{
	static const struct {
		const char *toml, *dotenv, *env[3];
		const char *first; /* NULL: refused */
	} rows[] = {
		{ NULL, NULL, { "LOAD_BALANCER_HOST=0.0.0.0" }, "0.0.0.0:9001" },
		{ NULL, NULL, { "LOAD_BALANCER_PORT=9100" }, "127.0.0.1:9100" },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=::", "LOAD_BALANCER_PORT=9100" }, "[::]:9100" },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=[::1]" }, "[::1]:9001" },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=localhost" }, "127.0.0.1:9001" },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=" }, "127.0.0.1:9001" },
		{ NULL, "LOAD_BALANCER_HOST=0.0.0.0\n", { NULL }, "0.0.0.0:9001" },
		{ "[server]\nlisten = [\"127.0.0.3:8000\", \"127.0.0.4:8000\"]\n", NULL, { "LOAD_BALANCER_HOST=0.0.0.0" }, "0.0.0.0:8000" },
		{ "[server]\nlisten = [\"127.0.0.3:8000\"]\n", "LOAD_BALANCER_HOST=0.0.0.0\n", { NULL }, "127.0.0.3:8000" }, /* .env is below the file */
		{ NULL, NULL, { "TOLLGATE_SERVER_LISTEN=[::1]:7000, unix:/x", "LOAD_BALANCER_PORT=0" }, "[::1]:0" },
		{ TLS "listen = [\"tls:127.0.0.3:8443\"]\n", NULL, { "LOAD_BALANCER_HOST=::", "LOAD_BALANCER_PORT=443" }, "tls:[::]:443" },
		{ TLS "listen = [\"redirect:[::1]:80\", \"tls:127.0.0.1:8443\"]\n", NULL, { "LOAD_BALANCER_HOST=localhost", "LOAD_BALANCER_PORT=8080" }, "redirect:127.0.0.1:8080" },
		{ TLS "listen = [\"127.0.0.1:1\", \"tls:127.0.0.1:81\"]\n", NULL, { "LOAD_BALANCER_PORT=81" }, NULL },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=example.org" }, NULL },
		{ NULL, NULL, { "LOAD_BALANCER_HOST=1.2.3.4:80" }, NULL },
		{ NULL, NULL, { "LOAD_BALANCER_PORT=70000" }, NULL },
		{ NULL, NULL, { "LOAD_BALANCER_PORT=x" }, NULL },
		{ NULL, NULL, { "TOLLGATE_SERVER_LISTEN=unix:/x", "LOAD_BALANCER_PORT=80" }, NULL },
		{ NULL, NULL, { "TOLLGATE_SERVER_LISTEN=127.0.0.1:80,127.0.0.1:81", "LOAD_BALANCER_PORT=81" }, NULL },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		unlink("tollgate.toml");
		unlink(".env");
		if (rows[i].toml)
			put("tollgate.toml", rows[i].toml, 0600);
		if (rows[i].dotenv)
			put(".env", rows[i].dotenv, 0600);
		char *env[] = { (char *)(uintptr_t)rows[i].env[0], (char *)(uintptr_t)rows[i].env[1], NULL };
		struct tg_config *c = load_from(NULL, env, &err);
		if (!rows[i].first) {
			if (c || !(strstr(err.text, "environment LOAD_BALANCER_") || strstr(err.text, "given twice")))
				fail_msg("row %zu: %s", i, c ? "taken" : err.text);
			continue;
		}
		if (!c)
			fail_msg("row %zu: %s", i, err.text);
		assert_string_equal(c->listen.v[0], rows[i].first);
		tg_config_free(c);
	}
}

static const char model_head[] = "[[model]]\nname = \"a\"\nurls = [\"http://a\"]\n";

static void test_mistakes(void **state)
{
	/* model: put model_head in front (3 lines) */
	static const struct {
		bool model;
		const char *toml, *error; /* error: how it begins */
	} rows[] = {
		{ false, "\n[server]\nlisen = []\n", "tollgate.toml:3:1: [server] unknown key \"lisen\"; did you mean \"listen\"?" },
		{ false, "[server]\n  listen = []\n", "tollgate.toml:2:3: [server] listen: must have at least 1 entry" },
		{ false, "profil = \"dev\"\n", "tollgate.toml:1:1: unknown key \"profil\"; did you mean \"profile\"?" },
		{ false, "profile = \"prod\"\n", "tollgate.toml:1:1: profile: must be one of \"\", \"dev\", \"staging\", \"production\"" },
		{ false, "[servr]\n", "tollgate.toml:1:2: unknown table [servr]; did you mean [server]?" },
		{ false, "[models]\n", "tollgate.toml:1:2: unknown table [models]; did you mean [[model]]?" },
		{ false, "[wholly_different]\nx = 1\n", "tollgate.toml:1:2: unknown table [wholly_different]" },
		{ false, "listen = [\"127.0.0.1:1\"]\n", "tollgate.toml:1:1: unknown key \"listen\"; it belongs in [server]" },
		{ false, "[log]\nslots = 1\n", "tollgate.toml:2:1: [log] unknown key \"slots\"; it belongs in [[model]]" },
		{ false, "[server]\nprofile = \"dev\"\n", "tollgate.toml:2:1: [server] unknown key \"profile\"; it belongs above the first table" },
		{ false, "server = 1\n", "tollgate.toml:1:1: server must be a table, written [server]" },
		{ false, "[[server]]\n", "tollgate.toml:1:3: server must be a table, written [server]" },
		{ false, "[server]\nmax_headers = \"8\"\n", "tollgate.toml:2:1: [server] max_headers: must be a whole number" },
		{ false, "[server]\nmax_headers = 8.0\n", "tollgate.toml:2:1: [server] max_headers: must be a whole number" },
		{ false, "[server]\nmax_headers = 101\n", "tollgate.toml:2:1: [server] max_headers: must be from 8 to 100, not 101" },
		{ false, "[server]\nmax_headers = -1\n", "tollgate.toml:2:1: [server] max_headers: must be from 8 to 100, not -1" },
		{ false, "[server]\nhead_ms = 4294967297\n", "tollgate.toml:2:1: [server] head_ms: must be from 10 to 3600000, not 4294967297" },
		{ false, "[server]\nlisten = \"127.0.0.1:80\"\n", "tollgate.toml:2:1: [server] listen: must be a list of strings" },
		{ false, "[server]\nlisten = [80]\n", "tollgate.toml:2:1: [server] listen: must be a list of strings" },
		{ false, "[server]\nlisten = [\"localhost\"]\n", "tollgate.toml:2:1: [server] listen: entry 1 (\"localhost\"): must be ADDRESS:PORT" },
		{ false, "[server]\nlisten = [\"127.0.0.1:80\", \"localhost:80\"]\n", "tollgate.toml:2:1: [server] listen: \"127.0.0.1:80\" is given twice" },
		{ false, "[server]\nhosts = [\"a.example:80\"]\n", "tollgate.toml:2:1: [server] hosts: entry 1 (\"a.example:80\"): must be a name or an address without port" },
		{ false, "[server]\nhosts = [\"*.example\"]\n", "tollgate.toml:2:1: [server] hosts: entry 1" },
		{ false, "[server]\nmax_buffered_bytes = 1048576\n", "[server] max_buffered_bytes (tollgate.toml:2) is less than max_body_bytes" },
		{ false, "[metrics]\nloopback = 1\n", "tollgate.toml:2:1: [metrics] loopback: must be true or false" },
		{ false, "[limits]\napi = \"60 per minute\"\n", "tollgate.toml:2:1: [limits] api: must be N/second" },
		{ false, "[limits]\napi = 60\n", "tollgate.toml:2:1: [limits] api: must be a string" },
		{ false, "[log]\npath = \"\"\n", "tollgate.toml:2:1: [log] path: must not be empty" },
		{ false, "[log]\npath = \"a\\nb\"\n", "tollgate.toml:2:1: [log] path: holds a control character" },
		{ false, "[log]\nlevel = \"loud\"\n", "tollgate.toml:2:1: [log] level: must be one of \"debug\", \"info\", \"warn\", \"error\"" },
		{ false, "[auth]\nadmin_key = \"file:nope\"\n", "tollgate.toml:2:1: [auth] admin_key: nope: cannot open: No such file" },
		{ false, "[auth]\nadmin_key = \"file:empty\"\n", "tollgate.toml:2:1: [auth] admin_key: empty: the file is empty" },
		{ false, "[auth]\nadmin_key = \"env:NOPE\"\n", "tollgate.toml:2:1: [auth] admin_key: the environment variable NOPE is not set" },
		{ false, "[auth]\nkeys = [\"\"]\n", "tollgate.toml:2:1: [auth] keys: entry 1 is empty" },
		{ false, "[server]\ncors_origins = [\"app.example\"]\n", "tollgate.toml:2:1: [server] cors_origins: entry 1 (\"app.example\"): must be SCHEME://HOST" },
		{ false, "[server]\ncors_origins = [\"*\", \"https://a\"]\n", "[server] cors_origins (tollgate.toml:2): \"*\" must stand alone" },
		{ false, "[server]\ncors_origins = [\"*\"]\ncors_credentials = true\n", "[server] cors_credentials (tollgate.toml:3) is true, and cors_origins (tollgate.toml:2) is \"*\"" },
		{ false, "[server]\ncors_origins = [\"https://a.example\", \"HTTPS://A.example:443\"]\n", "tollgate.toml:2:1: [server] cors_origins: \"https://a.example\" is given twice" },
		{ false, "[server]\ncors_methods = [\"get\"]\n", "tollgate.toml:2:1: [server] cors_methods: entry 1 (\"get\"): must be a method, in capital letters" },
		{ false, "[server]\ncors_methods = [\"*\"]\n", "tollgate.toml:2:1: [server] cors_methods: entry 1 (\"*\"): there are no wildcards here" },
		{ false, "[server]\ncors_headers = [\"X Y\"]\n", "tollgate.toml:2:1: [server] cors_headers: entry 1 (\"X Y\"): must be the name of a header" },
		{ false, "[server]\ncors_max_age_s = 86401\n", "tollgate.toml:2:1: [server] cors_max_age_s: must be from 0 to 86400" },
		{ false, "[artifacts]\nurl = \"models\"\n", "tollgate.toml:2:1: [artifacts] url: must be \"file:FOLDER\" or \"s3://BUCKET/PREFIX\"" },
		{ false, "[artifacts]\nurl = \"s3://Up/x\"\n", "tollgate.toml:2:1: [artifacts] url: the bucket must be" },
		{ false, "[artifacts]\nurl = \"s3://bucket/a/../b\"\n", "tollgate.toml:2:1: [artifacts] url: the prefix has" },
		{ false, "[auth]\nchapkit_key_file = \"nope\"\n", "[auth] chapkit_key_file (tollgate.toml:2): nope: cannot open: No such file" },
		{ false, "[auth]\nchapkit_key_file = \"empty\"\n", "[auth] chapkit_key_file (tollgate.toml:2): empty: must have at least 1 entry" },
		{ false, "[auth]\nrequire_auth = \"no\"\n", "tollgate.toml:2:1: [auth] require_auth: must be true or false" },
		{ false, "[server]\ntls_cert = \"x\"\n", "[server] tls_cert (tollgate.toml:2) is set, tls_key is not: TLS needs both" },
		{ false, "[server]\n\ntls_key = \"x\"\n", "[server] tls_key (tollgate.toml:3) is set, tls_cert is not: TLS needs both" },
		{ false, "[server]\nlisten = [\"127.0.0.1:1\", \"tls:127.0.0.1:8443\"]\n", "[server] listen (tollgate.toml:2): \"tls:127.0.0.1:8443\" needs tls_cert and tls_key" },
		{ false, "[server]\nlisten = [\"127.0.0.1:1\", \"redirect:127.0.0.1:80\"]\n", "[server] listen (tollgate.toml:2): a redirect: entry sends callers to a tls: entry, and there is none" },
		{ false, "[server]\nlisten = [\"tls:unix:/x\"]\n", "tollgate.toml:2:1: [server] listen: entry 1 (\"tls:unix:/x\"): tls: and redirect: need an ADDRESS:PORT" },
		{ false, "[server]\ntls_cert = \"x\"\ntls_key = \"x\"\nlisten = [\"[::1]:0\", \"127.0.0.1:443\", \"tls:localhost:443\"]\n", "[server] listen (tollgate.toml:4): \"tls:127.0.0.1:443\" is given twice" },
		{ false, "[audit]\nrequired = true\n", "tollgate.toml:2:1: [audit] required: the audit trail is not a condition of answers yet" },
		{ false, "[model]\nname = \"a\"\n", "tollgate.toml:1:2: a model is written [[model]], with two brackets" },
		{ false, "model = [1]\n", "tollgate.toml:1:10: model must be written as tables" },
		{ false, "\n[[model]]\nurls = [\"http://a\"]\n", "tollgate.toml:2:1: [[model]] name is missing" },
		{ false, "[[model]]\nname = \"x\"\n", "tollgate.toml:1:1: [[model]] x: urls is missing" },
		{ false, "[[model]]\nname = \"x\"\nurls = []\n", "tollgate.toml:1:1: [[model]] x: urls is missing" },
		{ true, "[[model]]\nname = \"a\"\nurls = [\"http://b\"]\n", "tollgate.toml:4:1: [[model]] the name or alias \"a\" is taken by the model of line 1" },
		{ true, "[[model]]\nname = \"b\"\naliases = [\"a\"]\nurls = [\"http://b\"]\n", "tollgate.toml:4:1: [[model]] the name or alias \"a\" is taken by the model of line 1" },
		{ true, "aliases = [\"a\"]\n", "tollgate.toml:1:1: [[model]] the name or alias \"a\" is taken by the model of line 1" },
		{ true, "aliases = [\"pool\"]\n", "tollgate.toml:4:1: [[model]] aliases: entry 1 (\"pool\"): \"pool\" is reserved" },
		{ true, "aliases = [\"x y\"]\n", "tollgate.toml:4:1: [[model]] aliases: entry 1 (\"x y\"): must begin with a letter or digit" },
		{ false, "[[model]]\nname = \"info\"\nurls = [\"http://a\"]\n", "tollgate.toml:2:1: [[model]] name: \"info\" is reserved" },
		{ false, "[[model]]\nname = \"a\"\nurls = [\"https://a\"]\n", "tollgate.toml:3:1: [[model]] urls: entry 1 (\"https://a\"): https to workers is not built yet" },
		{ false, "[[model]]\nname = \"a\"\nurls = [\"http://a\", \"http://a\"]\n", "tollgate.toml:3:1: [[model]] urls: \"http://a\" is given twice" },
		{ true, "protocol = \"grpc\"\n", "tollgate.toml:4:1: [[model]] protocol: must be one of \"openai\", \"infer\"" },
		{ true, "command = [\"x\", \"{port}\"]\n", "tollgate.toml:1:1: [[model]] a: urls and command exclude each other" },
		{ true, "workers = 2\n", "tollgate.toml:1:1: [[model]] a: workers and env are of workers that command starts" },
		{ true, "env = [\"A=1\"]\n", "tollgate.toml:1:1: [[model]] a: workers and env are of workers that command starts" },
		{ true, "env = [\"A\"]\n", "tollgate.toml:4:1: [[model]] env: entry 1 (\"A\"): must be NAME=value" },
		{ true, "env = [\"1A=x\"]\n", "tollgate.toml:4:1: [[model]] env: entry 1 (\"1A=x\"): must be NAME=value" },
		{ true, "workers = 65\n", "tollgate.toml:4:1: [[model]] workers: must be from 0 to 64, not 65" },
		{ true, "affinity = \"ip\"\n", "tollgate.toml:4:1: [[model]] affinity: must be one of \"session\", \"key\", \"off\"" },
		{ false, "[[model]]\nname = \"a\"\ncommand = [\"x\"]\n", "tollgate.toml:1:1: [[model]] a: neither command nor env holds {port} or {socket}" },
		{ false, "[[model]]\nname = \"a\"\ncommand = [\"x\", \"{port}\", \"{socket}\"]\n", "tollgate.toml:1:1: [[model]] a: command and env hold both {port} and {socket}" },
		{ false, "[[model]]\nname = \"a\"\ncommand = [\"x\", \"{port}\", \"{file}\"]\n", "tollgate.toml:1:1: [[model]] a: the command holds {file}, and file is not set" },
		{ false, "[[model]]\nname = \"a\"\ncommand = [\"\", \"{port}\"]\n", "tollgate.toml:1:1: [[model]] a: command begins with an empty string" },
		{ false, "[[model]]\nname = \"a\"\ncommand = \"x {port}\"\n", "tollgate.toml:3:1: [[model]] command: must be a list of strings" },
		{ true, "slot = 2\n", "tollgate.toml:4:1: [[model]] unknown key \"slot\"; did you mean \"slots\"?" },
		{ true, "connect_ms = 0\n", "tollgate.toml:4:1: [[model]] connect_ms: must be from 1 to 3600000, not 0" },
		/* from the parser */
		{ false, "x = 1979-05-27\n", "tollgate.toml:1:5: dates and times are not taken" },
		{ false, "[server]\nhosts = [\"a\", 07:32:00]\n", "tollgate.toml:2:15: dates and times are not taken" },
		{ false, "x = \"a\\u0000b\"\n", "tollgate.toml:1:5: a string holds NUL" },
		{ false, "\n\"a\\u0000b\" = 1\n", "tollgate.toml:2:1: a key holds NUL" },
		{ false, "x = inf\n", "tollgate.toml:1:5: NaN and infinity" },
		{ false, "[server]\nhead_ms = 1\nhead_ms = 2\n", "tollgate.toml:3:" },
		{ false, "[server\n", "tollgate.toml:1:" },
		{ false, "[(\n", "tollgate.toml:1:2: Error while parsing" }, /* an assertion in toml++ */
		{ false, "# \xc7\x8e\n\"\xc7\x8e\" = \xc7\x8e\n", "tollgate.toml:2:7: Error while parsing" }, /* and a gap in its character tables */
		{ false, "x = \n", "tollgate.toml:1:" },
		{ false, "a.b.c.d.e.f.g.h.i = 1\n", "tollgate.toml:1:16: the key has too many parts" },
		{ false, "x = \"\"\"\na.b.c.d.e.f.g.h.i\n\"\"\"\n[y.b.c.d.e.f.g.h.i]\n", "tollgate.toml:4:17: the key has too many parts" },
	};
	(void)state;
	put("empty", "\n", 0600);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		char text[1024];
		snprintf(text, sizeof text, "%s%s", rows[i].model ? model_head : "", rows[i].toml);
		put("tollgate.toml", text, 0600);
		struct tg_config *c = load_from(NULL, NULL, &err);
		if (c)
			fail_msg("taken: %s", text);
		if (strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("%s\nsays: %s\n not: %s", text, err.text, rows[i].error);
	}
}

static void test_files(void **state)
{
	(void)state;
	struct tg_err err;
	assert_null(load_from("nope.toml", NULL, &err));
	assert_string_equal(err.text, "nope.toml: cannot open: No such file or directory");
	assert_null(load_from("/", NULL, &err));
	assert_non_null(strstr(err.text, "/: "));
	put("nul.toml", "", 0600);
	FILE *f = fopen("nul.toml", "w");
	assert_non_null(f);
	fwrite("x = 1\n\0", 1, 7, f);
	fclose(f);
	assert_null(load_from("nul.toml", NULL, &err));
	assert_string_equal(err.text, "nul.toml:2:1: the file holds NUL");
	f = fopen("big.toml", "w");
	assert_non_null(f);
	for (int i = 0; i < (1 << 20) / 16 + 1; i++)
		fputs("################\n", f);
	fclose(f);
	assert_null(load_from("big.toml", NULL, &err));
	assert_string_equal(err.text, "big.toml: over 1048576 bytes");
}

static void test_bad_variables(void **state)
{
	static const struct {
		const char *var, *error;
	} rows[] = {
		{ "TOLLGATE_SERVER_THREADS=x", "environment TOLLGATE_SERVER_THREADS: must be a whole number from 0 to 256" },
		{ "TOLLGATE_SERVER_THREADS=-1", "environment TOLLGATE_SERVER_THREADS: must be a whole number" },
		{ "TOLLGATE_SERVER_THREADS=257", "environment TOLLGATE_SERVER_THREADS: must be from 0 to 256, not 257" },
		{ "TOLLGATE_SERVER_MAX_BODY_BYTES=99999999999999999999999", "environment TOLLGATE_SERVER_MAX_BODY_BYTES: must be a whole number" },
		{ "TOLLGATE_METRICS_LOOPBACK=maybe", "environment TOLLGATE_METRICS_LOOPBACK: must be true or false" },
		{ "TOLLGATE_LIMITS_API=none", "environment TOLLGATE_LIMITS_API: must be N/second" },
		{ "TOLLGATE_API_KEYS=[\"topsecret-abc\"", "environment TOLLGATE_API_KEYS: begins like a JSON list and is none" },
		{ "TOLLGATE_API_KEYS=['topsecret-abc']", "environment TOLLGATE_API_KEYS: entry 1 begins with a quote or bracket" },
		{ "TOLLGATE_API_KEYS=[\"topsecret-abc\", 3]", "environment TOLLGATE_API_KEYS: must be a list of strings" },
		{ "TOLLGATE_API_KEYS=topsecret\x01-abc", "environment TOLLGATE_API_KEYS: entry 1 holds a control character" },
		{ "INFERENCE_ADMIN_KEY=  topsecret-abc", "environment INFERENCE_ADMIN_KEY: begins or ends with a space" },
		{ "INFERENCE_ADMIN_KEY=topsecret\n-abc", "environment INFERENCE_ADMIN_KEY: holds a control character" },
		{ "INFERENCE_ADMIN_KEY=topsecret\xff-abc", "environment INFERENCE_ADMIN_KEY: is not valid UTF-8" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		char *env[] = { (char *)(uintptr_t)rows[i].var, NULL };
		struct tg_config *c = load_from(NULL, env, &err);
		if (c || strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0)
			fail_msg("%s: %s", rows[i].var, c ? "taken" : err.text);
		assert_null(strstr(err.text, "topsecret"));
	}
}

static void test_warnings(void **state)
{
	static const struct {
		const char *var, *warning; /* NULL: none */
	} rows[] = {
		{ "TOLLGATE_SERVER_LISEN=x", "TOLLGATE_SERVER_LISEN is ignored: no such option; did you mean TOLLGATE_SERVER_LISTEN?" },
		{ "TOLLGATE_SERVR_LISTEN=x", "did you mean TOLLGATE_SERVER_LISTEN?" },
		{ "TOLLGATE_LOG_COLOUR_OF_LINES=x", "TOLLGATE_LOG_COLOUR_OF_LINES is ignored: no such option" },
		{ "TOLLGATE_AUDIT_REQUIRED=x", "TOLLGATE_AUDIT_REQUIRED is ignored: the audit trail is not a condition of answers yet" },
		{ "TOLLGATE_SOMETHING_OF_A_WRAPPER=x", NULL },
		{ "TOLLGATE_SERVER_THREADS=1", NULL },
		{ "OTHER_SERVER_LISEN=x", NULL },
		{ "INFERENCE_ADMIN_KEY=short", "the admin key is under 16 characters" },
		{ "TOLLGATE_API_KEYS=short,demo-key-12345,a-key-that-is-long-enough", "TOLLGATE_API_KEYS: 2 of 3 keys are under 16 characters" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		char *env[] = { (char *)(uintptr_t)rows[i].var, NULL };
		struct tg_config *c = load(env);
		if (rows[i].warning ? !strstr(warnings, rows[i].warning) : *warnings != 0)
			fail_msg("%s: \"%s\"", rows[i].var, warnings);
		tg_config_free(c);
	}
	char *same[] = { "INFERENCE_ADMIN_KEY=the-very-same-key-1", "INFERENCE_READ_KEY=the-very-same-key-1", NULL };
	tg_config_free(load(same));
	assert_non_null(strstr(warnings, "every reader is an admin"));
	assert_null(strstr(warnings, "the-very-same"));
	put(".env", "A=b\n", 0644);
	tg_config_free(load(NULL));
	assert_string_equal(warnings, ".env can be read or written by others (mode 0644): chmod 600 it\n");
	unlink(".env");
	put("tollgate.toml", "[[model]]\nname = \"a\"\nurls = [\"http://a/v1/\"]\napi_key = \"sk-upstream-secret-1\"\n", 0644);
	tg_config_free(load(NULL));
	assert_non_null(strstr(warnings, "tollgate.toml holds a key (api_key) and can be read by others"));
	assert_non_null(strstr(warnings, "http://a/v1/ ends in /v1"));
	assert_null(strstr(warnings, "sk-upstream"));
}

static void test_model(void **state)
{
	(void)state;
	put("worker.key", "sk-from-a-file\n", 0600);
	put(".env", "WORKER=sk-from-dotenv\n", 0600);
	struct tg_config *c = load_toml("[[model]]\nname = \"org/qwen3:8b\"\naliases = [\"qwen\", \"q\"]\nurls = [\"http://10.0.0.5:8000\", \"unix:/run/w.sock\"]\nupstream_model = \"Qwen3 8B\"\n"
					"protocol = \"infer\"\napi_key = \"file:worker.key\"\nslots = 4\nqueue = 0\n\n[[model]]\nname = \"b\"\nurls = [\"http://b\"]\napi_key = \"env:WORKER\"\n");
	assert_int_equal(c->nmodels, 2);
	const struct tg_model_conf *m = &c->models[0];
	assert_string_equal(m->name, "org/qwen3:8b");
	assert_string_equal(m->upstream_name, "Qwen3 8B");
	assert_int_equal(m->aliases.n, 2);
	assert_int_equal(m->urls.n, 2);
	assert_int_equal(m->protocol, TG_PROTO_INFER);
	assert_string_equal(m->api_key.p, "sk-from-a-file");
	assert_int_equal(m->slots, 4);
	assert_int_equal(m->queue, 0);
	assert_int_equal(m->line, 1);
	m = &c->models[1];
	assert_int_equal(m->line, 11);
	assert_null(m->upstream_name);
	assert_string_equal(m->api_key.p, "sk-from-dotenv");
	assert_int_equal(m->protocol, TG_PROTO_OPENAI);
	assert_int_equal(m->connect_ms, 2000);
	assert_int_equal(m->first_byte_ms, 300000);
	assert_int_equal(m->idle_ms, 120000);
	assert_int_equal(m->total_ms, 1800000);
	assert_int_equal(m->queue, 256);
	assert_int_equal(m->queue_ms, 30000);
	assert_int_equal(m->slots, 0);
	assert_int_equal(m->max_prompt_chars, 0);
	tg_config_free(c);
}

static void test_hosts(void **state)
{
	(void)state;
	struct tg_config *c = load_toml("[server]\nhosts = [\"Gate.Example\", \"[2001:DB8::1]\", \"10.0.0.1\"]\nlisten = [\"localhost:0\"]\n");
	assert_string_equal(c->hosts.v[0], "gate.example");
	assert_string_equal(c->hosts.v[1], "2001:db8::1");
	assert_string_equal(c->hosts.v[2], "10.0.0.1");
	assert_string_equal(c->listen.v[0], "127.0.0.1:0");
	tg_config_free(c);
}

static void test_env_file(void **state)
{
	static const struct {
		const char *text, *value; /* of A; NULL: absent */
		const char *error;
	} rows[] = {
		{ "A=b\n", "b", NULL }, { "A=b", "b", NULL }, { "export A=b\n", "b", NULL }, { "export\tA = b \n", "b", NULL }, { "exportA=b\n", NULL, NULL },
		{ "A=\n", "", NULL }, { "A=b\r\nB=c\r\n", "b", NULL }, { "\xef\xbb\xbf" "A=b\n", "b", NULL }, { "\n\n  # A=x\n  A=b\n", "b", NULL },
		{ "A=b # note\n", "b", NULL }, { "A=b#c\n", "b#c", NULL }, { "A=#c\n", "", NULL }, { "A='b # c' # d\n", "b # c", NULL }, { "A=\"b\"\n", "b", NULL },
		{ "A=\"b\\\"c\\\\d\\n\\$e\\q\"\n", "b\"c\\d\n$e\\q", NULL }, { "A='b\\n\"c'\n", "b\\n\"c", NULL }, { "A=\"one\ntwo\"\nB=c\n", "one\ntwo", NULL },
		{ "A=b c\n", "b c", NULL }, { "A=$B ${C}\n", "$B ${C}", NULL }, { "A=b=c==\n", "b=c==", NULL }, { "A=b\nA=c\n", "c", NULL }, { "# only\n", NULL, NULL },
		{ "A=[\"x\", \"y\"]\n", "[\"x\", \"y\"]", NULL }, { "", NULL, NULL },
		{ "A\n", NULL, "f:1: not a comment and not NAME=value" }, { "B=c\n=b\n", NULL, "f:2: not a comment" }, { "1A=b\n", NULL, "f:1: not a comment" },
		{ "B=\"x\ny\"\nA=\"b\n\n", NULL, "f:3: the quote does not end" }, { "A='b' c\n", NULL, "f:1: text after the closing quote" }, { "A='b'#c\n", NULL, "f:1: text after" },
		{ "\"A\"=b\n", NULL, "f:1: not a comment" },
	};
	(void)state;
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_env_file f;
		struct tg_err err = { "" };
		bool ok = tg_env_parse("f", tg_slice_cstr(rows[i].text), &f, &err);
		if (ok != !rows[i].error || (!ok && strncmp(err.text, rows[i].error, strlen(rows[i].error)) != 0))
			fail_msg("%s: %s", rows[i].text, ok ? "taken" : err.text);
		const struct tg_env_var *v = ok ? tg_env_find(&f, "A") : NULL;
		if (ok && (rows[i].value ? !v || strcmp(v->value, rows[i].value) != 0 : v != NULL))
			fail_msg("%s: \"%s\"", rows[i].text, v ? v->value : "(absent)");
		if (ok)
			tg_env_free(&f);
	}
	struct tg_env_file f;
	struct tg_err err;
	assert_false(tg_env_parse("f", TG_S("A=b\0c\n"), &f, &err));
	put(".env", "OK=1\nnonsense\n", 0600);
	assert_null(load_from(NULL, NULL, &err));
	assert_string_equal(err.text, ".env:2: not a comment and not NAME=value");
	put(".env", "\n# x\nTOLLGATE_SERVER_THREADS=many\n", 0600);
	assert_null(load_from(NULL, NULL, &err));
	assert_non_null(strstr(err.text, ".env:3 TOLLGATE_SERVER_THREADS: must be"));
}

static char *text_of(void (*print)(FILE *))
{
	char *text = NULL;
	size_t n;
	FILE *f = open_memstream(&text, &n);
	assert_non_null(f);
	print(f);
	fclose(f);
	return text;
}

/* Models whose workers are started: what the braces, counts and defaults come to. */
static void test_started(void **state)
{
	static const char two[] = "[[model]]\nname = \"a\"\ncommand = [\"x\", \"x\", \"\", \"a b\\n\", \"{port}\"]\nenv = [\"A=1 2\", \"B=\"]\nworkers = 3\nfile = \"models/a.gguf\"\nfetch = \"get it\"\n"
				  "[[model]]\nname = \"b\"\nprotocol = \"infer\"\ncommand = [\"y\"]\nenv = [\"LISTEN={socket}\"]\n"
				  "[[model]]\nname = \"c\"\ncommand = [\"z\", \"{port}\"]\nslots = 0\nworkers = 0\n";
	(void)state;
	struct tg_config *c = load_toml(two);
	const struct tg_model_conf *a = &c->models[0], *b = &c->models[1];
	assert_int_equal(a->command.n, 5);
	assert_string_equal(a->command.v[1], "x"); /* arguments may repeat, be empty, hold spaces and line ends */
	assert_string_equal(a->command.v[2], "");
	assert_string_equal(a->command.v[3], "a b\n");
	assert_int_equal(a->env.n, 2);
	assert_int_equal(a->workers, 3);
	assert_int_equal(a->slots, 4);
	assert_string_equal(a->file, "models/a.gguf");
	assert_string_equal(a->fetch, "get it");
	assert_int_equal(a->start_ms, 300000);
	assert_int_equal(a->stop_ms, 10000);
	assert_int_equal(a->affinity, TG_AFFINITY_SESSION);
	assert_int_equal(b->slots, 1);
	assert_int_equal(b->workers, 1);
	assert_true(tg_model_says(b, "{socket}") && !tg_model_says(b, "{port}"));
	assert_int_equal(c->models[2].slots, 0); /* said so */
	assert_int_equal(c->models[2].workers, 0);
	tg_config_free(c);

	/* --workers NAME=N replaces the file's; for models that start theirs only. */
	static const struct {
		struct tg_worker_count count;
		const char *error; /* NULL: taken */
	} rows[] = {
		{ { TG_S("a"), 64 }, NULL },
		{ { TG_S("b"), 0 }, NULL },
		{ { TG_S("nope"), 1 }, "--workers nope=1: there is no such model in the configuration" },
		{ { TG_S("u"), 2 }, "--workers u=2: that model has urls" },
	};
	char text[2048];
	snprintf(text, sizeof text, "%s[[model]]\nname = \"u\"\nurls = [\"http://a\"]\n", two);
	put("tollgate.toml", text, 0600);
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		struct tg_config_source src = { .workers = &rows[i].count, .nworkers = 1 };
		c = tg_config_load(&src, &err, NULL, NULL);
		if (rows[i].error) {
			assert_null(c);
			assert_int_equal(strncmp(err.text, rows[i].error, strlen(rows[i].error)), 0);
			continue;
		}
		assert_non_null(c);
		assert_int_equal(c->models[i].workers, rows[i].count.n);
		tg_config_free(c);
	}
}

/* The sample loads as it is; and with every option's # taken away, where it must mean the defaults. */
static void test_sample(void **state)
{
	(void)state;
	char *sample = text_of(tg_config_sample);
	struct tg_config *d = tg_config_defaults(), *c = load_toml(sample);
	assert_non_null(d);
	for (unsigned i = 0; i < tg_noptions; i++)
		assert_true(tg_option_equal(&tg_options[i], c, d));
	assert_int_equal(c->nmodels, 0);
	tg_config_free(c);
	char *to = sample;
	unsigned options = 0;
	for (const char *from = sample; *from; from++) {
		bool option = from[0] == '#' && (from == sample || from[-1] == '\n') && from[1] != ' ' && from[1] != '\n';
		options += option && from[1] != '[';
		if (!option)
			*to++ = *from;
	}
	*to = 0;
	assert_int_equal(options, tg_noptions + tg_nmodel_options);
	c = load_toml(sample);
	for (unsigned i = 0; i < tg_noptions; i++) {
		if (!tg_option_equal(&tg_options[i], c, d))
			fail_msg("%s.%s", tg_options[i].table, tg_options[i].name);
		assert_int_equal(strncmp(tg_config_origin(c, tg_options[i].table, tg_options[i].name), "tollgate.toml:", 14), 0);
	}
	assert_int_equal(c->nmodels, 1);
	assert_string_equal(c->models[0].name, "my-model");
	assert_int_equal(c->models[0].total_ms, 1800000);
	tg_config_free(c);
	tg_config_free(d);
	free(sample);
}

static struct tg_config *shown;
static void show(FILE *f)
{
	tg_config_show(shown, f);
}

static void test_show(void **state)
{
	(void)state;
	put("tollgate.toml", "[auth]\nkeys = [\"tg_abcdefgh_SECRETPART\", \"tiny\"]\n[[model]]\nname = \"m\"\nurls = [\"http://m\"]\napi_key = \"sk-upstream-SECRETPART\"\n", 0600);
	char *env[] = { "INFERENCE_ADMIN_KEY=admin-key-SECRETPART", NULL };
	shown = load(env);
	char *text = text_of(show);
	assert_null(strstr(text, "SECRETPART"));
	assert_null(strstr(text, "tiny"));
	assert_non_null(strstr(text, "auth.admin_key = \"admin-key\""));
	assert_non_null(strstr(text, "# environment INFERENCE_ADMIN_KEY\n"));
	assert_non_null(strstr(text, "auth.keys = [\"tg_abcdef\", \"***\"]"));
	assert_non_null(strstr(text, "# tollgate.toml:2\n"));
	assert_non_null(strstr(text, "api_key = \"sk-upstre\""));
	assert_non_null(strstr(text, "server.listen = [\"127.0.0.1:9001\"]"));
	for (unsigned i = 0; i < tg_noptions; i++)
		assert_non_null(strstr(text, tg_options[i].name));
	free(text);
	tg_config_free(shown);
}

static void test_restart(void **state)
{
	(void)state;
	char names[256], little[8];
	char *live[] = { "TOLLGATE_LIMITS_API=1/day", "INFERENCE_ADMIN_KEY=admin-key-of-sixteen", "TOLLGATE_LOG_LEVEL=warn", NULL };
	char *dead[] = { "TOLLGATE_SERVER_THREADS=3", "LOAD_BALANCER_PORT=1", NULL };
	struct tg_config *a = load(NULL), *b = load(live), *c = load(dead);
	assert_false(tg_config_needs_restart(a, b, names, sizeof names));
	assert_string_equal(names, "");
	assert_true(tg_config_needs_restart(a, c, names, sizeof names));
	assert_string_equal(names, "server.listen, server.threads");
	assert_true(tg_config_needs_restart(a, c, little, sizeof little));
	assert_true(strlen(little) < sizeof little);
	tg_config_free(a);
	tg_config_free(b);
	tg_config_free(c);
}

/* What the table promises: names are unique, defaults are within their own bounds, documents are there, given fits its bits. */
static void test_table(void **state)
{
	(void)state;
	char a[TG_OPTION_ENV_MAX], b[TG_OPTION_ENV_MAX];
	assert_true(tg_nmodel_options <= 32);
	for (unsigned i = 0; i < tg_noptions; i++) {
		const struct tg_option *o = &tg_options[i];
		struct tg_err err;
		tg_option_env_name(o->table, o->name, a);
		assert_true(tg_option_env_known(a, &err));
		assert_ptr_equal(tg_option_find(o->table, o->name), o);
		assert_null(tg_option_later(o->table, o->name));
		assert_true(o->doc[0] && o->doc[strlen(o->doc) - 1] == '.');
		for (unsigned k = 0; k < i; k++) {
			tg_option_env_name(tg_options[k].table, tg_options[k].name, b);
			assert_string_not_equal(a, b);
			assert_true(tg_options[k].offset != o->offset);
		}
	}
}

static void test_positions(void **state)
{
	(void)state;
	static const char text[] = "a = 1\n[t]\n\"x/y~z\" = [10,\n  {b = true}]\n[[m]]\nk = \"v\"\n[[m]]\nk = \"w\"\n";
	static const struct {
		const char *path;
		int line, column;
	} rows[] = { { "/a", 1, 1 }, { "/t", 2, 2 }, { "/t/x~1y~0z", 3, 1 }, { "/t/x~1y~0z/0", 3, 12 }, { "/t/x~1y~0z/1", 4, 3 }, { "/t/x~1y~0z/1/b", 4, 4 },
		     { "/m/0", 5, 1 }, { "/m/0/k", 6, 1 }, { "/m/1/k", 8, 1 } };
	struct tg_toml t;
	struct tg_toml_fault fault;
	assert_true(tg_toml_parse(text, sizeof text - 1, &t, &fault));
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		const struct tg_toml_pos *p = tg_toml_where(&t, rows[i].path);
		if (!p || p->line != rows[i].line || p->column != rows[i].column)
			fail_msg("%s: %d:%d", rows[i].path, p ? p->line : 0, p ? p->column : 0);
	}
	assert_null(tg_toml_where(&t, "/m/2"));
	assert_true(json_is_true(json_object_get(json_array_get(json_object_get(json_object_get(t.root, "t"), "x/y~z"), 1), "b")));
	tg_toml_free(&t);
}

/* data/NAME: where it is, beside the configuration before here; else in the data/ that there is. */
static void test_data_path(void **state)
{
	(void)state;
	char out[256];
	assert_int_equal(mkdir("etc", 0700), 0);
	put("etc/t.toml", "[auth]\ntoken_hours = 2\n", 0600);
	struct tg_config *near = load(NULL), *far = NULL;
	struct tg_err err;
	assert_non_null(far = load_from("etc/t.toml", NULL, &err));
#define IS(c, text) (assert_true(tg_config_data_path(c, "x", out, sizeof out)), assert_string_equal(out, text))
	IS(near, "data/x");
	IS(far, "data/x");
	assert_int_equal(mkdir("etc/data", 0700), 0);
	IS(near, "data/x");
	IS(far, "etc/data/x");
	assert_int_equal(mkdir("data", 0700), 0);
	IS(far, "etc/data/x");
	put("data/x", "", 0600);
	IS(far, "data/x");
	put("etc/data/x", "", 0600);
	IS(far, "etc/data/x");
	IS(near, "data/x");
	assert_false(tg_config_data_path(near, "x", out, 6));
	assert_true(tg_config_data_path(near, "x", out, 7));
	assert_false(tg_config_data_path(far, "x", out, 10));
	assert_true(tg_config_data_path(far, "x", out, 11));
	tg_config_free(near);
	tg_config_free(far);
}

int main(void)
{
	if (!mkdtemp(folder))
		return 1;
#define T(f) cmocka_unit_test_setup(f, enter)
	const struct CMUnitTest tests[] = {
		T(test_defaults), T(test_precedence), T(test_documents_names), T(test_load_balancer), T(test_mistakes), T(test_files), T(test_bad_variables),
		T(test_warnings), T(test_model), T(test_hosts), T(test_env_file), T(test_started), T(test_sample), T(test_show), T(test_restart), T(test_table), T(test_positions), T(test_data_path),
	};
	int rc = cmocka_run_group_tests(tests, NULL, NULL);
	enter(NULL);
	if (chdir("/") == 0)
		rmdir(folder);
	return rc;
}
