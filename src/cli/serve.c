/* `tollgate serve`: the gate with the configuration of this folder, or of --config. */
#include "cli/cli.h"
#include "gate/control.h"
#include "net/tls_context.h"
#include <stdlib.h>
#include <unistd.h>

#define ALSO_MAX 16
#define COUNTS_MAX 64

static int usage(FILE *out, int code)
{
	fputs("usage: tollgate serve [--config FILE] [--also ADDRESS]... [--workers MODEL=N]...\n"
	      "\n"
	      "  --config FILE    the configuration; without it tollgate.toml of this folder, if there is one\n"
	      "  --also ADDRESS   listen there too, unless it is taken (127.0.0.1:8000, [::1]:9001, tls:0.0.0.0:443, redirect:0.0.0.0:80,\n"
	      "                   unix:/run/tollgate.sock)\n"
	      "  --workers MODEL=N  start N workers of that model (0 to 64) instead of what the configuration says\n"
	      "\n"
	      "SIGHUP reloads the configuration or keeps the old one and says why. SIGTERM finishes what runs, then ends.\n",
	      out);
	return code;
}

static void warn_line(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "tollgate: warning: %s\n", line);
}

/* "qwen=4" */
static bool parse_count(const char *text, struct tg_worker_count *out)
{
	const char *eq = strrchr(text, '=');
	if (!eq || eq == text || !eq[1] || strspn(eq + 1, "0123456789") != strlen(eq + 1) || strlen(eq + 1) > 2)
		return false;
	*out = (struct tg_worker_count){ { text, (size_t)(eq - text) }, (uint32_t)strtoul(eq + 1, NULL, 10) };
	return out->n <= TG_WORKERS_MAX;
}

int tg_cmd_serve(int argc, char **argv)
{
	const char *also[ALSO_MAX], *config = NULL;
	struct tg_worker_count counts[COUNTS_MAX];
	unsigned nalso = 0, ncounts = 0;
	for (int i = 1; i < argc; i++) {
		bool value = i + 1 < argc;
		if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)
			return usage(stdout, 0);
		if (strcmp(argv[i], "--config") == 0 && value) {
			config = argv[++i];
		} else if (strcmp(argv[i], "--also") == 0 && value && nalso < ALSO_MAX) {
			also[nalso++] = argv[++i];
		} else if (strcmp(argv[i], "--workers") == 0 && value && ncounts < COUNTS_MAX) {
			if (!parse_count(argv[++i], &counts[ncounts++])) {
				fprintf(stderr, "tollgate serve: --workers %s: must be MODEL=N with N from 0 to %d\n", argv[i], TG_WORKERS_MAX);
				return usage(stderr, 2);
			}
		} else {
			fprintf(stderr, "tollgate serve: \"%s\" is not understood here\n", argv[i]);
			return usage(stderr, 2);
		}
	}
	struct tg_config_source source = { .path = config, .env = environ, .workers = counts, .nworkers = ncounts, .also = also, .nalso = nalso };
	struct tg_err err;
	struct tg_config *c = tg_config_load(&source, &err, warn_line, NULL);
	if (!c) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		return 2;
	}
	struct tg_cidr_list trusted = { 0 };
	bool understood = tg_policy_trusted(c, false, &trusted, &err) && tg_keyfile_vet(c, &err, warn_line, NULL) &&
			  tg_tls_try(c, NULL, 0, &err, NULL, NULL); /* warnings of the certificate come when it is used */
	tg_cidr_list_free(&trusted);
	if (!understood) {
		fprintf(stderr, "tollgate: %s\n", err.text);
		tg_config_free(c);
		return 2;
	}
	struct tg_control_conf conf = { .config = c, .source = &source, .also = also, .nalso = nalso };
	return tg_control_main(&conf);
}
