/* Models that come from the command line rather than from a file: `tollgate run` has exactly one. Same table, same bounds. */
#include "config/options.h"
#include <stdlib.h>

static bool set(struct tg_model_conf *m, const char *name, const char *text, struct tg_err *why)
{
	const struct tg_option *o = tg_option_find("model", name);
	return o && tg_option_set_text(o, m, text, NULL, why);
}

bool tg_config_add_model(struct tg_config *c, const char *name, const char *url, enum tg_protocol protocol, struct tg_err *why)
{
	struct tg_model_conf *grown = realloc(c->models, (c->nmodels + 1) * sizeof *grown);
	if (!grown) {
		tg_err_set(why, "out of memory");
		return false;
	}
	c->models = grown;
	struct tg_model_conf *m = &grown[c->nmodels];
	*m = (struct tg_model_conf){ 0 };
	c->nmodels++; /* what is half made is freed with the configuration */
	for (unsigned i = 0; i < tg_nmodel_options; i++)
		if (*tg_model_options[i].deflt && !tg_option_set_text(&tg_model_options[i], m, tg_model_options[i].deflt, NULL, why))
			return false;
	m->protocol = protocol;
	return set(m, "name", name, why) && set(m, "urls", url, why);
}
