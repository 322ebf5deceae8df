/*
 * PATCH /api/v1/config (seed ledger S2-26): options that a reload changes, by the tables and names of tollgate.toml. What is wrong with the values is found here; then the control thread reads everything again with
 * the change, as by SIGHUP, and keeps it in data/settings.json if that goes well (gate/proposal.h). The answer comes when it is in force on every loop.
 */
#include "config/settings.h"
#include "api/fields.h"
#include "api/stored.h"
#include "gate/handlers.h"
#include <limits.h>

struct settings_job {
	struct tg_job job; /* first: callbacks cast */
	json_t *patch;     /* NULL: only look */
	struct tg_err err;
	enum { DONE, REFUSED, NOT_NOW, FAILED } how;
	char field[160];   /* REFUSED */
	const char *why;   /* NOT_NOW */
	char path[PATH_MAX];
	char *text;        /* owned: what is set now */
};

static void job_free(struct tg_job *j)
{
	struct settings_job *s = (struct settings_job *)j;
	json_decref(s->patch);
	free(s->text);
	free(s);
}

static bool loads(struct tg_gate *g, const json_t *settings, struct tg_err *err)
{
	struct tg_config_source trial = *g->source;
	trial.settings = settings;
	trial.reload = true;
	struct tg_config *c = tg_config_load(&trial, err, NULL, NULL);
	tg_config_free(c);
	return c != NULL;
}

/* Which option of the patch does not go with the rest: the one that the fault names, else the first. */
static void blame(struct settings_job *s)
{
	const char *table, *name;
	json_t *values, *v;
	json_object_foreach(s->patch, table, values)
		json_object_foreach(values, name, v)
			if (!s->field[0] || strstr(s->err.text, name))
				snprintf(s->field, sizeof s->field, "%.60s%s%.60s", table, *table ? "." : "", name);
}

/* Without "(where it was set)": a place on this machine. */
static void forget_places(char *text)
{
	char *to = text;
	unsigned within = 0;
	for (const char *at = text; *at; at++) {
		within += *at == '(';
		if (!within && !(*at == ' ' && at[1] == '('))
			*to++ = *at;
		within -= *at == ')' && within;
	}
	*to = 0;
}

/* One at a time: nobody else changes the file between reading and writing. */
static void change(struct settings_job *s, struct tg_gate *g)
{
	struct tg_err before;
	json_t *now = tg_settings_read(s->path, &s->err), *was = s->patch ? json_deep_copy(now) : NULL;
	s->how = FAILED;
	if (now && (!s->patch || (was && tg_settings_merge(now, s->patch))))
		s->how = DONE;
	if (s->how == DONE && s->patch) {
		struct tg_proposal c = { .settings = now, .path = s->path };
		if (!loads(g, now, &s->err) && loads(g, was, &before)) { /* else it is not the patch that is wrong */
			s->how = REFUSED;
			blame(s);
			forget_places(s->err.text);
		} else if (!tg_propose(&g->proposals, &c, &g->wake)) {
			s->how = NOT_NOW;
			s->why = c.why;
		}
		s->job.number = c.number;
	}
	if (s->how == DONE)
		s->text = json_dumps(now, JSON_COMPACT | JSON_SORT_KEYS);
	json_decref(now);
	json_decref(was);
}

static void run(struct tg_job *j)
{
	struct settings_job *s = (struct settings_job *)j;
	uv_mutex_t *one = s->patch ? &j->gate->proposals.one : NULL; /* the file is replaced whole: looking needs no turn */
	if (one)
		uv_mutex_lock(one);
	change(s, j->gate);
	if (one)
		uv_mutex_unlock(one);
}

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct settings_job *s = (struct settings_job *)j;
	char text[320];
	if (s->how == REFUSED)
		return tg_field_fault(x, s->field, s->err.text);
	if (s->how == NOT_NOW) {
		snprintf(text, sizeof text, "It cannot be put in force now: %s. Nothing was changed.", s->why);
		return tg_answer_problem(x, TG_E_unavailable, "settings", text, NULL, "Retry-After: 2\r\n");
	}
	if (s->how == FAILED || !s->text) {
		tg_log(TG_LOG_F_ERROR, "settings.failed", "s:why", s->err.text, NULL);
		return tg_answer_problem(x, TG_E_unavailable, "settings", "The settings could not be read; nothing was changed.", NULL, "Retry-After: 2\r\n");
	}
	struct tg_buf b;
	tg_buf_init(&b, 2 * TG_SETTINGS_MAX);
	tg_buf_fmt(&b, "{\"settings\":%s}", s->text);
	return tg_answer_buf(x, "application/json", &b, "Cache-Control: no-store\r\n");
}

/* What is there in the place of a table's options: an option that stands above the tables, or nothing that could be one. */
static const char *no_table(const char *table, struct tg_err *err)
{
	const char *fault = tg_setting_fault("", table, err);
	return fault && *fault ? fault : "must be an object: a table of tollgate.toml with its options";
}

/* One option and its new value (null: as if it had not been set here). */
static bool allowed_one(struct tg_exchange *x, const char *table, const char *name, const json_t *v, bool *strong, enum tg_step *answered)
{
	struct tg_err err;
	char field[160], why[700];
	const char *fault = tg_setting_fault(table, name, &err);
	snprintf(field, sizeof field, "%.60s%s%.60s", table, *table ? "." : "", name);
	if (fault || (!json_is_null(v) && !tg_setting_takes(table, name, v, &err))) {
		snprintf(why, sizeof why, "%s%s", !fault ? "" : *fault ? fault : "there is no such option", fault && *fault ? "" : err.text);
		*answered = tg_field_fault(x, field, why);
		return false;
	}
	if (tg_setting_needs_all(table, name) && x->perms != TG_PERM_ALL) {
		snprintf(why, sizeof why, "Insufficient permissions: %s is changed by nobody but who holds all of them.", field);
		*answered = tg_answer_problem(x, TG_E_forbidden, "forbidden", why, field, NULL);
		return false;
	}
	*strong |= tg_setting_needs_all(table, name);
	const char *origin = tg_config_origin(x->snap->config, table, name);
	if (origin && strncmp(origin, "environment ", 12) == 0) {
		snprintf(why, sizeof why, "%s is set by the %.120s, which has the last word.", field, origin);
		*answered = tg_answer_problem(x, TG_E_conflict, "conflict", why, field, NULL);
		return false;
	}
	return true;
}

/* True: every option of the patch may be changed here and by this caller, to the value it has there, and is not held by a variable. strong: one needs all permissions. */
static bool allowed(struct tg_exchange *x, const json_t *patch, bool *strong, enum tg_step *answered)
{
	const char *table, *name;
	char field[64];
	json_t *values, *v;
	struct tg_err err;
	json_object_foreach((json_t *)(uintptr_t)patch, table, values) {
		if (!json_is_object(values)) {
			*answered = tg_field_fault(x, table, no_table(table, &err));
			return false;
		}
		const char *fault = json_object_size(values) ? NULL : tg_setting_table_fault(table, &err);
		if (fault) {
			snprintf(field, sizeof field, "%.60s", table);
			*answered = tg_field_fault(x, field, fault);
			return false;
		}
		json_object_foreach(values, name, v)
			if (!allowed_one(x, table, name, v, strong, answered))
				return false;
	}
	return true;
}

static enum tg_step start(struct tg_exchange *x, json_t *patch, bool strong)
{
	struct settings_job *s = x->gl->gate->source ? calloc(1, sizeof *s) : NULL;
	if (!s || !tg_config_data_path(x->snap->config, "settings.json", s->path, sizeof s->path)) {
		json_decref(patch);
		free(s);
		return tg_answer_problem(x, TG_E_unavailable, "settings", "This gate keeps no settings.", NULL, "Retry-After: 60\r\n");
	}
	s->job.run = run;
	s->job.answer = answer;
	s->job.free = job_free;
	s->job.needs = strong ? TG_PERM_ALL : 0;
	s->patch = patch;
	return tg_job_start(x, &s->job);
}

enum tg_step tg_api_config_change(struct tg_exchange *x)
{
	json_error_t e;
	enum tg_step answered;
	bool strong = false;
	if (!tg_receive_is_json(x->head))
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json.", NULL, NULL);
	json_t *patch = json_loadb(x->body.n ? x->body.p : "", x->body.n, JSON_REJECT_DUPLICATES, &e);
	if (!json_is_object(patch)) {
		json_decref(patch);
		return tg_answer_problem(x, TG_E_bad_json, "bad_body", "The body must be a JSON object of tables: {\"limits\": {\"api\": \"100/minute\"}}.", NULL, NULL);
	}
	if (allowed(x, patch, &strong, &answered))
		return start(x, patch, strong);
	json_decref(patch);
	return answered;
}

enum tg_step tg_api_config_get(struct tg_exchange *x)
{
	return start(x, NULL, false);
}
