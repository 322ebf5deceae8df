/*
 * tollgate config: check, show, sample. `check` tries the configuration as `serve` would read it here and now, and then answers the
 * four questions of document 001's "Authentication Not Working" with what it finds, since they are what people come with.
 *
 * Invariants: nothing is written or started; no key is printed beyond its prefix. A key file that is missing or broken does not fail
 * the check: `serve` starts with it too (fail closed), so it is reported, not refused.
 */
#include "cli/cli.h"
#include "config/config.h"
#include "net/addr.h"
#include "net/tls_context.h"
#include "policy/policy.h"
#include "policy/token.h"
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <unistd.h>

static const char usage[] =
	"usage: tollgate config COMMAND [--config FILE]\n"
	"\n"
	"  check    try the configuration; then what decides whether callers need a key\n"
	"  show     every option, its value (keys by their first characters) and where it comes from\n"
	"  sample   a commented tollgate.toml with every option and its default\n"
	"\n"
	"Without --config FILE: tollgate.toml in this folder, if there is one.\n";

static void print_warning(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "warning: %s\n", line);
}

/* What signs tokens, where it is there already: `serve` would make it. */
static bool try_tokens(const struct tg_config *c, struct tg_err *err)
{
	char path[PATH_MAX];
	struct tg_token_key k;
	struct tg_err said; /* by the configuration's load */
	if (!c->store_url[0] || !tg_config_data_path(c, "jwt.secret", path, sizeof path) || access(path, F_OK) != 0)
		return true;
	bool ok = tg_token_key_load(&k, c, &said, err);
	if (ok)
		tg_token_key_wipe(&k);
	return ok;
}

/* Whether every address of the list is of this machine only. */
static bool loopback_only(const struct tg_strlist *networks, const char **wide)
{
	struct tg_cidr_list loopback = { 0 };
	bool ok = tg_cidr_list_add(&loopback, TG_S("127.0.0.0/8")) && tg_cidr_list_add(&loopback, TG_S("::1"));
	for (size_t i = 0; ok && i < networks->n; i++) {
		struct tg_slice s = tg_slice_cstr(networks->v[i]);
		const char *slash = memchr(s.p, '/', s.n);
		struct tg_addr a;
		struct tg_slice ip = { s.p, slash ? (size_t)(slash - s.p) : s.n };
		/* A short prefix reaches past the loopback network even where its address lies within. */
		bool inside = tg_slice_eq(s, TG_S("localhost")) || (tg_addr_parse(ip, &a) && tg_cidr_list_has(&loopback, &a));
		if (inside && slash) {
			struct tg_cidr_list one = { 0 };
			uint8_t least = memchr(ip.p, ':', ip.n) ? 128 : 104;
			inside = tg_cidr_list_add(&one, s) && one.n && one.v[0].bits >= least;
			tg_cidr_list_free(&one);
		}
		if (!inside) {
			*wide = networks->v[i];
			ok = false;
		}
	}
	tg_cidr_list_free(&loopback);
	return ok;
}

static void print_listen(const struct tg_strlist *listen)
{
	puts("   Listening on:");
	for (size_t i = 0; i < listen->n; i++) {
		struct tg_listen l;
		struct tg_err why;
		struct tg_addr a;
		const char *reach = "reachable from other machines";
		if (!tg_listen_parse(tg_slice_cstr(listen->v[i]), &l, &why))
			continue;
		if (l.unix_socket)
			reach = "Unix socket: its callers are never taken for local";
		else if (l.kind == TG_LISTEN_REDIRECT)
			reach = "sends callers to https://";
		else if (tg_addr_parse(l.host, &a) && tg_addr_is_loopback(&a))
			reach = "this machine only";
		printf("     %s (%s)\n", listen->v[i], reach);
	}
}

static void print_tls(const struct tg_config *c, const char *about)
{
	bool any = false;
	for (size_t i = 0; i < c->listen.n; i++)
		any |= strncmp(c->listen.v[i], "tls:", 4) == 0;
	if (c->tls_cert)
		printf("   Certificate: %s: %s%s\n", c->tls_cert, about, any ? "" : " (not used: no listen entry begins with tls:)");
}

static void print_causes(const struct tg_config *c)
{
	struct tg_keyfile f;
	struct tg_err err = { "" };
	enum tg_keyfile_result r = tg_keyfile_load(&f, c->api_keys_file, &err);
	bool ok = r == TG_KEYFILE_OK;
	puts("\nIf authentication does not work:");
	if (ok)
		printf("1. The key file exists and is valid JSON: yes, %s (%s)\n", c->api_keys_file, tg_config_origin(c, "auth", "api_keys_file"));
	else if (r == TG_KEYFILE_MISSING)
		printf("1. The key file exists and is valid JSON: no, there is no %s (%s); `tollgate keyfile generate` makes it\n", c->api_keys_file,
		       tg_config_origin(c, "auth", "api_keys_file"));
	else
		printf("1. The key file exists and is valid JSON: no: %s\n", err.text);
	if (ok)
		printf("2. The key is in valid_keys: it holds %zu key%s%s\n", f.keys.n, f.keys.n == 1 ? "" : "s",
		       f.keys.n ? "; `tollgate keyfile list` shows them" : "; `tollgate keyfile generate` adds one");
	else
		puts("2. The key is in valid_keys: none is, while the file cannot be used");
	printf("   Other keys: admin key %s, read key %s, %zu in TOLLGATE_API_KEYS, %zu in CHAPKIT_API_KEYS", c->admin_key.n ? "set" : "not set", c->read_key.n ? "set" : "not set",
	       c->tollgate_keys.n, c->chapkit_keys.n);
	if (c->chapkit_file_keys.n)
		printf(", %zu in %s", c->chapkit_file_keys.n, c->chapkit_key_file);
	printf(", %zu in CREDIT_RISK_API_KEYS\n", c->credit_risk_keys.n);
	if (!c->require_auth)
		printf("   require_auth is false (%s): callers on this machine need no key but for admin routes\n", tg_config_origin(c, "auth", "require_auth"));
	bool required = !ok || f.require_auth_for_external;
	printf("3. require_auth_for_external is true: %s\n", !ok ? "taken as true, while the file cannot be used" : required ? "yes" : "no: anyone who reaches /infer may use it without a key");
	if (!ok) {
		puts("4. The caller's address is not in local_networks: taken as 127.0.0.1, localhost and ::1 while the file cannot be used");
	} else {
		const char *wide = NULL;
		printf("4. The caller's address is not in local_networks:");
		for (size_t i = 0; i < f.local_networks.n; i++)
			printf("%s %s", i ? "," : "", f.local_networks.v[i]);
		puts(f.local_networks.n ? "" : " the list is empty");
		if (c->trusted_proxies.n)
			puts("   Since trusted_proxies is set, no caller is taken for local.");
		else if (loopback_only(&f.local_networks, &wide))
			puts("   Callers on this machine need no key for /infer; every other route asks for one.");
		else
			printf("   Callers in these networks (%s) need no key for /infer; every other route asks for one.\n", wide ? wide : "?");
	}
	print_listen(&c->listen);
	if (ok)
		tg_keyfile_free(&f);
}

int tg_cmd_config(int argc, char **argv)
{
	const char *command = NULL;
	struct tg_config_source src = { .env = environ };
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			fputs(usage, stdout);
			return 0;
		}
		if (strcmp(argv[i], "--config") == 0 && i + 1 < argc) {
			src.path = argv[++i];
		} else if (strncmp(argv[i], "--config=", 9) == 0) {
			src.path = argv[i] + 9;
		} else if (!command && argv[i][0] != '-') {
			command = argv[i];
		} else {
			fprintf(stderr, "tollgate config: not understood: %s\n\n%s", argv[i], usage);
			return 2;
		}
	}
	bool check = command && strcmp(command, "check") == 0, show = command && strcmp(command, "show") == 0;
	if (command && strcmp(command, "sample") == 0) {
		tg_config_sample(stdout);
	} else if (!check && !show) {
		if (command)
			fprintf(stderr, "tollgate config: no such command: %s\n\n", command);
		fputs(usage, stderr);
		return 2;
	} else {
		struct tg_err err;
		src.draft = show;
		struct tg_config *c = tg_config_load(&src, &err, check ? print_warning : NULL, NULL);
		struct tg_cidr_list trusted = { 0 };
		char about[320] = "";
		if (c && check && (!tg_tls_try(c, about, sizeof about, &err, print_warning, NULL) || !tg_keyfile_vet(c, &err, print_warning, NULL) || !try_tokens(c, &err))) {
			tg_config_free(c);
			c = NULL;
		}
		if (c && !tg_policy_trusted(c, show, &trusted, &err)) {
			tg_config_free(c);
			c = NULL;
		}
		tg_cidr_list_free(&trusted);
		if (!c) {
			fprintf(stderr, "%s\n", err.text);
			return 2;
		}
		if (show) {
			tg_config_show(c, stdout);
		} else {
			printf("OK: %s%s\n", c->path ? c->path : "no tollgate.toml here: defaults", c->path ? "" : ", environment and .env");
			print_causes(c);
			print_tls(c, about);
		}
		tg_config_free(c);
	}
	if (fflush(stdout) != 0) {
		fprintf(stderr, "tollgate config: cannot write: %s\n", strerror(errno));
		return 1;
	}
	return 0;
}
