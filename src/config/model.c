/* Models that come from the command line rather than from a file: `tollgate run` has exactly one. Same table, same bounds. */
#include "config/options.h"
#include <stdlib.h>

static bool set(struct tg_model_conf *m, const char *name, const char *text, struct tg_err *why)
{
	const struct tg_option *o = tg_option_find("model", name);
	return o && tg_option_set_text(o, m, text, NULL, why);
}

static struct tg_model_conf *add(struct tg_config *c, const char *name, enum tg_protocol protocol, struct tg_err *why)
{
	struct tg_model_conf *grown = realloc(c->models, (c->nmodels + 1) * sizeof *grown);
	if (!grown) {
		tg_err_set(why, "out of memory");
		return NULL;
	}
	c->models = grown;
	struct tg_model_conf *m = &grown[c->nmodels];
	*m = (struct tg_model_conf){ 0 };
	c->nmodels++; /* what is half made is freed with the configuration */
	for (unsigned i = 0; i < tg_nmodel_options; i++)
		if (*tg_model_options[i].deflt && !tg_option_set_text(&tg_model_options[i], m, tg_model_options[i].deflt, NULL, why))
			return NULL;
	m->protocol = protocol;
	return set(m, "name", name, why) ? m : NULL;
}

bool tg_config_add_model(struct tg_config *c, const char *name, const char *url, enum tg_protocol protocol, struct tg_err *why)
{
	struct tg_model_conf *m = add(c, name, protocol, why);
	return m && set(m, "urls", url, why);
}

bool tg_config_add_command(struct tg_config *c, const char *name, char *const *argv, enum tg_protocol protocol, struct tg_err *why)
{
	struct tg_model_conf *m = add(c, name, protocol, why);
	json_t *list = m ? json_array() : NULL;
	bool ok = list != NULL;
	for (; ok && *argv; argv++)
		ok = json_array_append_new(list, json_string(*argv)) == 0; /* an argument that is no UTF-8 is no string */
	if (m && !ok)
		tg_err_set(why, "the command cannot be taken: its arguments must be UTF-8");
	ok = ok && tg_option_set_json(tg_option_find("model", "command"), m, list, NULL, why);
	json_decref(list);
	if (ok)
		m->slots = tg_started_slots(protocol);
	return ok;
}

bool tg_model_says(const struct tg_model_conf *m, const char *word)
{
	for (size_t i = 0; i < m->command.n; i++)
		if (strstr(m->command.v[i], word))
			return true;
	for (size_t i = 0; i < m->env.n; i++)
		if (strstr(m->env.v[i], word))
			return true;
	return false;
}
