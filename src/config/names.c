/*
 * Names of options: looking one up, saying which known one was probably meant, and which belong to a later release. Kept apart from
 * the values (options.c): nothing here touches a configuration.
 */
#include "config/options.h"
#include <stdlib.h>

enum { NEAR = 3, WORD = 64 };

static const struct {
	const char *table, *name, *sentence;
} later[] = {
#define LATER(t, n, s) { t, n, s },
#include "tables/options.def"
};

static const struct {
	const char *name, *sentence;
} settings[] = {
#define SETTING(n, s) { n, s },
#include "tables/options.def"
};

static const struct tg_option *option_at(unsigned i)
{
	return i < tg_noptions ? &tg_options[i] : i < tg_noptions + tg_nmodel_options ? &tg_model_options[i - tg_noptions] : NULL;
}

const struct tg_option *tg_option_find(const char *table, const char *name)
{
	const struct tg_option *o;
	for (unsigned i = 0; (o = option_at(i)); i++)
		if (strcmp(o->table, table) == 0 && strcmp(o->name, name) == 0)
			return o;
	return NULL;
}

bool tg_option_table_known(const char *table)
{
	const struct tg_option *o;
	for (unsigned i = 0; (o = option_at(i)); i++)
		if (*o->table && strcmp(o->table, table) == 0)
			return true;
	return false;
}

const char *tg_option_later(const char *table, const char *name)
{
	for (size_t i = 0; i < sizeof later / sizeof *later; i++)
		if (strcmp(later[i].table, table) == 0 && (strcmp(later[i].name, "*") == 0 || strcmp(later[i].name, name) == 0))
			return later[i].sentence;
	return NULL;
}

/* Letters to insert, delete or change to make one word of the other; words longer than WORD are far from everything. */
static unsigned distance(const char *a, const char *b)
{
	size_t n = strlen(a), m = strlen(b);
	unsigned row[WORD + 1];
	if (n > WORD || m > WORD)
		return NEAR + 1;
	for (size_t j = 0; j <= m; j++)
		row[j] = (unsigned)j;
	for (size_t i = 1; i <= n; i++) {
		unsigned diagonal = row[0];
		row[0] = (unsigned)i;
		for (size_t j = 1; j <= m; j++) {
			unsigned best = diagonal + (a[i - 1] != b[j - 1]);
			diagonal = row[j];
			if (row[j] + 1 < best)
				best = row[j] + 1;
			if (row[j - 1] + 1 < best)
				best = row[j - 1] + 1;
			row[j] = best;
		}
	}
	return row[m];
}

/* A slip in a short word makes another word: three letters may differ by one, nine by three. */
static bool is_near(unsigned d, const char *name)
{
	size_t n = strlen(name);
	return d <= NEAR && d <= (n + 2) / 3;
}

static void append(struct tg_err *err, const char *fmt, const char *a, const char *b)
{
	struct tg_buf t;
	tg_buf_init(&t, sizeof err->text);
	for (const char *p = fmt; *p; p++) {
		if (*p == '@' && (p[1] == '1' || p[1] == '2'))
			tg_buf_cstr(&t, *++p == '1' ? a : b);
		else
			tg_buf_char(&t, *p);
	}
	size_t at = strlen(err->text);
	snprintf(err->text + at, sizeof err->text - at, "%.*s", (int)t.len, t.p ? t.p : "");
	tg_buf_free(&t);
}

void tg_option_suggest(const char *table, const char *name, struct tg_err *err)
{
	const struct tg_option *o, *best = NULL, *elsewhere = NULL;
	unsigned least = NEAR + 1;
	for (unsigned i = 0; (o = option_at(i)); i++) {
		if (strcmp(o->table, table) != 0) {
			if (!elsewhere && strcmp(o->name, name) == 0)
				elsewhere = o;
			continue;
		}
		unsigned d = distance(name, o->name);
		if (d < least && is_near(d, name)) {
			least = d;
			best = o;
		}
	}
	if (elsewhere && !*elsewhere->table)
		append(err, "; it belongs above the first table", "", "");
	else if (elsewhere)
		append(err, strcmp(elsewhere->table, "model") == 0 ? "; it belongs in [[@1]]" : "; it belongs in [@1]", elsewhere->table, "");
	else if (best)
		append(err, "; did you mean \"@1\"?", best->name, "");
	else if (!*table && tg_option_table_known(name))
		append(err, "; it is a table: write [@1]", name, "");
}

void tg_option_suggest_table(const char *table, struct tg_err *err)
{
	const struct tg_option *o;
	const char *best = NULL;
	unsigned least = NEAR + 1;
	for (unsigned i = 0; (o = option_at(i)); i++) {
		unsigned d = *o->table ? distance(table, o->table) : NEAR + 1;
		if (d < least && is_near(d, table)) {
			least = d;
			best = o->table;
		}
	}
	if (best)
		append(err, strcmp(best, "model") == 0 ? "; did you mean [[@1]]?" : "; did you mean [@1]?", best, "");
}

void tg_option_env_name(const char *table, const char *name, char out[TG_OPTION_ENV_MAX])
{
	snprintf(out, TG_OPTION_ENV_MAX, "TOLLGATE_%s%s%s", table, *table ? "_" : "", name);
	for (char *p = out; *p; p++)
		if (*p >= 'a' && *p <= 'z')
			*p = (char)(*p - 32);
}

bool tg_option_alias_is(const char *alias, size_t n, const char *var, size_t k)
{
	return n == k && (n > 12 && memcmp(alias, "CREDIT_RISK_", 12) == 0 ? strncasecmp(alias, var, n) == 0 : memcmp(alias, var, n) == 0);
}

/* Document 004's settings, which share one prefix: what has it and is none of them is a slip. */
static bool setting_known(const char *var, struct tg_err *why)
{
	size_t n = strlen(var);
	if (n < 12 || strncasecmp(var, "CREDIT_RISK_", 12) != 0)
		return false;
	for (size_t i = 0; i < sizeof settings / sizeof *settings; i++)
		if (tg_option_alias_is(settings[i].name, strlen(settings[i].name), var, n)) {
			if (settings[i].sentence[0])
				tg_err_set(why, "%.80s is ignored: %s", var, settings[i].sentence);
			return true;
		}
	tg_err_set(why, "%.80s is ignored: document 004 has no such setting", var);
	return false;
}

bool tg_option_env_known(const char *var, struct tg_err *why)
{
	char name[TG_OPTION_ENV_MAX], best[TG_OPTION_ENV_MAX] = "";
	unsigned least = NEAR + 1;
	bool table = false;
	why->text[0] = 0;
	for (unsigned i = 0; i < tg_noptions; i++) {
		const struct tg_option *o = &tg_options[i];
		tg_option_env_name(o->table, o->name, name);
		if (strcmp(var, name) == 0)
			return true;
		for (const char *a = o->aliases; *a;) {
			size_t n = strcspn(a, " ");
			if (tg_option_alias_is(a, n, var, strlen(var)))
				return true;
			a += n + (a[n] == ' ');
		}
		unsigned d = distance(var, name);
		if (d < least) {
			least = d;
			memcpy(best, name, sizeof best);
		}
		if (*o->table) {
			tg_option_env_name(o->table, "", name);
			table |= strncmp(var, name, strlen(name)) == 0;
		}
	}
	if (strncmp(var, "TOLLGATE_", 9) != 0)
		return setting_known(var, why);
	for (size_t i = 0; i < sizeof later / sizeof *later; i++) {
		bool all = strcmp(later[i].name, "*") == 0;
		tg_option_env_name(later[i].table, all ? "" : later[i].name, name);
		if (all ? strncmp(var, name, strlen(name)) == 0 : strcmp(var, name) == 0) {
			tg_err_set(why, "%.80s is ignored: %s", var, later[i].sentence);
			return false;
		}
	}
	if (least <= NEAR)
		tg_err_set(why, "%.80s is ignored: no such option; did you mean %s?", var, best);
	else if (table)
		tg_err_set(why, "%.80s is ignored: no such option", var);
	return false;
}
