/*
 * The registry: from the configuration to models with workers. A reload keeps the worker object of every place that stays what it is, and with it the
 * connections, the process, the slots in use and what is known of its health.
 */
#include "pool/model.h"
#include "pool/sessions.h"
#include <stdlib.h>

/* The same worker, from the registry that was. */
static struct tg_worker *take_over(const struct tg_model *old, struct tg_worker *fresh)
{
	for (unsigned k = 0; old && k < old->nworkers; k++) {
		struct tg_worker *w = old->workers[k];
		if (!tg_worker_same(w, fresh))
			continue;
		tg_worker_put(fresh);
		return tg_worker_get(w);
	}
	return fresh;
}

static bool build_one(struct tg_model *m, const struct tg_model_conf *mc, const struct tg_models *old, unsigned nloops, struct tg_err *err)
{
	unsigned n = mc->command.n ? mc->workers : (unsigned)mc->urls.n;
	const struct tg_model *was = NULL;
	for (unsigned i = 0; old && i < old->n; i++)
		if (strcmp(old->v[i].conf->name, mc->name) == 0)
			was = &old->v[i];
	m->conf = mc;
	m->workers = calloc(n ? n : 1, sizeof *m->workers);
	m->turn = calloc(1, sizeof *m->turn);
	m->queue = was ? tg_queue_get(was->queue) : tg_queue_new();
	m->sessions = was ? tg_sessions_get(was->sessions) : tg_sessions_new();
	if (!m->workers || !m->turn || !m->queue || !m->sessions)
		return false;
	for (unsigned i = 0; i < n; i++) {
		struct tg_worker *w = tg_worker_new(mc, i, nloops, err);
		if (!w)
			return false;
		m->workers[m->nworkers++] = take_over(was, w);
	}
	return true;
}

bool tg_models_build(struct tg_models *ms, const struct tg_config *c, const struct tg_models *old, unsigned nloops, struct tg_err *err)
{
	*ms = (struct tg_models){ .v = calloc(c->nmodels ? c->nmodels : 1, sizeof *ms->v), .names = calloc(c->nmodels ? c->nmodels : 1, sizeof *ms->names) };
	tg_err_set(err, "out of memory");
	for (size_t i = 0; ms->v && ms->names && i < c->nmodels; i++) {
		struct tg_model *m = &ms->v[ms->n++];
		m->index = (unsigned)i;
		ms->names[i] = c->models[i].name;
		if (!build_one(m, &c->models[i], old, nloops, err)) {
			tg_models_free(ms);
			return false;
		}
	}
	return ms->v && ms->names;
}

void tg_models_free(struct tg_models *ms)
{
	for (unsigned i = 0; i < ms->n; i++) {
		struct tg_model *m = &ms->v[i];
		for (unsigned k = 0; k < m->nworkers; k++)
			tg_worker_put(m->workers[k]);
		free(m->workers);
		free(m->turn);
		tg_queue_put(m->queue);
		tg_sessions_put(m->sessions);
	}
	free(ms->v);
	free(ms->names);
	*ms = (struct tg_models){ 0 };
}

struct tg_model *tg_models_find(const struct tg_models *ms, struct tg_slice name)
{
	for (unsigned i = 0; i < ms->n; i++) {
		const struct tg_model_conf *c = ms->v[i].conf;
		if (tg_slice_eq(name, tg_slice_cstr(c->name)))
			return &ms->v[i];
		for (size_t k = 0; k < c->aliases.n; k++)
			if (tg_slice_eq(name, tg_slice_cstr(c->aliases.v[k])))
				return &ms->v[i];
	}
	return NULL;
}

void tg_models_list(const struct tg_models *ms, struct tg_buf *out)
{
	for (unsigned i = 0; i < ms->n; i++) {
		if (i)
			tg_buf_lit(out, ", ");
		tg_buf_cstr(out, ms->v[i].conf->name);
	}
}

bool tg_models_have_worker(const struct tg_models *ms, const struct tg_worker *w)
{
	for (unsigned i = 0; i < ms->n; i++)
		for (unsigned k = 0; k < ms->v[i].nworkers; k++)
			if (ms->v[i].workers[k] == w)
				return true;
	return false;
}

bool tg_model_usable(const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++)
		if (tg_worker_usable(m->workers[i]))
			return true;
	return false;
}

bool tg_model_failed(const struct tg_model *m)
{
	for (unsigned i = 0; i < m->nworkers; i++)
		if (atomic_load(&m->workers[i]->state) != TG_WORKER_FAILED)
			return false;
	return true;
}
