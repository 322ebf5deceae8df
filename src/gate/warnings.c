/* What a configuration leaves more open, or more useless, than it seems (see warnings.h): it is taken as it is written, and said. */
#include "gate/warnings.h"
#include "base/log.h"
#include <stdio.h>

void tg_warn_line(void *ctx, const char *line)
{
	(void)ctx;
	fprintf(stderr, "tollgate: warning: %s\n", line);
}

void tg_warn_about(const struct tg_snapshot *s)
{
	if (!s->config->api_keys_file[0])
		return; /* tollgate run: one key, which it has just printed */
	static const struct {
		uint32_t perm;
		const char *text;
	} rows[] = {
		{ TG_PERM_write_models, "no admin key: INFERENCE_ADMIN_KEY is not set; admin routes answer 500 (tollgate init makes one)" },
		{ TG_PERM_read_models, "no key at all: inference routes answer 500, /infer serves local callers only (tollgate init makes keys)" },
	};
	for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++)
		if (!(s->held & rows[i].perm)) {
			tg_warn_line(NULL, rows[i].text);
			tg_log(TG_LOG_F_WARN, "keys.none", "s:what", rows[i].text, NULL);
		}
	if (!s->config->require_auth) {
		static const char open[] = "AUTHENTICATION IS OFF: whoever reaches a loopback listener may use inference, training, configs and artifacts without a key ([auth] require_auth)";
		static const char shut[] = "[auth] require_auth = false has no effect while trusted_proxies is set: a proxy's callers are not on this machine";
		const char *text = s->policy.trusted.n ? shut : open;
		tg_warn_line(NULL, text);
		tg_log(TG_LOG_F_WARN, "auth.off", "s:what", text, NULL);
	}
	if (!s->policy.require_auth_for_external) {
		tg_warn_line(NULL, "require_auth_for_external is false: /infer is open to everybody who can reach it");
		tg_log(TG_LOG_F_WARN, "auth.open", "s:what", "require_auth_for_external is false: /infer is open to everybody", NULL);
	}
}
