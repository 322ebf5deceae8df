/*
 * The two listings made from the options table: the sample file (every option with its default, commented out) and `config show`
 * (every option as it is now, and where from). In the sample "# " begins words and "#name" an option, so that taking that one
 * character away from an option's line is all it takes to set it; a test does so for all of them and loads the result.
 */
#include "config/options.h"
#include <stdlib.h>

enum { LINE_MAX = 1 << 24, COLUMN = 100 };

/* Words, folded. */
static void comment(FILE *out, const char *text)
{
	while (*text) {
		size_t n = strlen(text);
		if (n > COLUMN) {
			n = COLUMN;
			while (n && text[n] != ' ')
				n--;
			if (!n)
				n = strcspn(text, " ");
		}
		fprintf(out, "# %.*s\n", (int)n, text);
		text += n + (text[n] == ' ');
	}
}

static void sample_option(FILE *out, const struct tg_option *o, const void *base)
{
	struct tg_buf b;
	tg_buf_init(&b, LINE_MAX);
	tg_option_print(o, base, &b);
	comment(out, o->doc);
	fprintf(out, "#%s = %.*s\n", o->name, (int)b.len, b.p);
	tg_buf_free(&b);
}

void tg_config_sample(FILE *out)
{
	struct tg_config *c = tg_config_defaults();
	if (!c)
		return;
	struct tg_model_conf m = { 0 };
	struct tg_err err;
	const char *table = "";
	comment(out, "Tollgate's configuration. Every option stands here with its default: take the # before a name away to set it. "
		     "Environment variables TOLLGATE_<TABLE>_<NAME> come first, then data/settings.json (PATCH /api/v1/config), then this file, then .env, then data/keys.env. "
		     "`tollgate config check` tries it, `tollgate config show` lists what is in force.");
	fputc('\n', out);
	for (unsigned i = 0; i < tg_noptions; i++) {
		const struct tg_option *o = &tg_options[i];
		if (strcmp(o->table, table) != 0)
			fprintf(out, "\n[%s]\n", table = o->table);
		sample_option(out, o, c);
	}
	fputs("\n# One [[model]] for each model; there may be several.\n#[[model]]\n", out);
	for (unsigned i = 0; i < tg_nmodel_options; i++) {
		const struct tg_option *o = &tg_model_options[i];
		const char *example = strcmp(o->name, "name") == 0 ? "my-model" : strcmp(o->name, "urls") == 0 ? "http://127.0.0.1:8000" : o->deflt;
		if (!*example || tg_option_set_text(o, &m, example, NULL, &err))
			sample_option(out, o, &m);
		tg_option_free(o, &m);
	}
	tg_config_free(c);
}

static void show_line(FILE *out, const char *prefix, const struct tg_option *o, const void *base, const char *origin)
{
	struct tg_buf b;
	tg_buf_init(&b, LINE_MAX);
	tg_buf_cstr(&b, prefix);
	tg_buf_cstr(&b, o->name);
	tg_buf_lit(&b, " = ");
	tg_option_print(o, base, &b);
	fprintf(out, "%-46.*s  # %s\n", (int)b.len, b.p ? b.p : "", origin);
	tg_buf_free(&b);
}

void tg_config_show(const struct tg_config *c, FILE *out)
{
	char text[320];
	for (unsigned i = 0; i < tg_noptions; i++) {
		const struct tg_option *o = &tg_options[i];
		snprintf(text, sizeof text, "%s%s", o->table, *o->table ? "." : "");
		show_line(out, text, o, c, tg_config_origin(c, o->table, o->name));
	}
	for (size_t m = 0; m < c->nmodels; m++) {
		const struct tg_model_conf *model = &c->models[m];
		fputs("[[model]]\n", out);
		for (unsigned i = 0; i < tg_nmodel_options; i++) {
			if (model->given >> i & 1)
				snprintf(text, sizeof text, "%.250s:%d", c->path ? c->path : "-", model->line);
			else
				snprintf(text, sizeof text, "default");
			show_line(out, "", &tg_model_options[i], model, text);
		}
	}
}
