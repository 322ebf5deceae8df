/* Reading the configuration again (see reread.h). */
#include "gate/reread.h"
#include "base/log.h"
#include "gate/warnings.h"
#include "pool/supervise.h"

static void warn_tls(void *ctx, const char *line)
{
	tg_warn_line(ctx, line);
	tg_log(TG_LOG_F_WARN, "tls.warning", "s:what", line, NULL);
}

bool tg_reread_tls(const struct tg_reread *r, struct tg_shared_config *shared, struct tg_err *err)
{
	if (!shared->config->tls_cert) {
		if (r->now && r->now->tls)
			warn_tls(NULL, "[server] tls_cert is gone: tls: addresses keep the certificate they have until a restart");
		shared->tls = r->now ? tg_tls_get(r->now->tls) : NULL;
		return true;
	}
	tg_err_set(err, "out of memory");
	if (!*r->tickets && !(*r->tickets = tg_tickets_new()))
		return false;
	shared->tls = tg_tls_load(shared->config, r->nloops, *r->tickets, err, warn_tls, NULL);
	if (shared->tls)
		tg_log(TG_LOG_F_INFO, "tls.loaded", "s:file", shared->config->tls_cert, "t:certificate", tg_tls_about(shared->tls), NULL);
	return shared->tls != NULL;
}

static bool blame(const char **why, const char *text)
{
	*why = text;
	return false;
}

static bool usable(const struct tg_config *c, const char **why, struct tg_err *err)
{
	if (!c)
		return blame(why, "tollgate.toml, or something else that the configuration is read from, cannot be used as it is");
	if (!tg_supervise_check(c, err))
		return blame(why, "a model's command cannot be run, or its file cannot be read");
	return tg_keyfile_vet(c, err, tg_warn_line, NULL) || blame(why, "the key file cannot be used as it lies there");
}

struct tg_shared_config *tg_reread(const struct tg_reread *r, const struct tg_config_source *source, const char **why, struct tg_err *err)
{
	struct tg_config *c = tg_config_load(source, err, tg_warn_line, NULL);
	if (!usable(c, why, err)) {
		tg_config_free(c);
		return NULL;
	}
	tg_err_set(err, "out of memory");
	*why = "there is not enough memory";
	struct tg_shared_config *shared = tg_shared_config_new(c);
	if (!shared || tg_reread_tls(r, shared, err))
		return shared;
	tg_shared_config_put(shared);
	blame(why, "the certificate or its key cannot be loaded");
	return NULL;
}
