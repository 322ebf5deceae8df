#pragma once
/* One model with equal workers, made by the program's own configuration and registry. For tests of choosing and queueing; nothing is ever sent. */
#include "pool/health.h"
#include <stdio.h>

struct fixture {
	struct tg_config *config;
	struct tg_models models;
	struct tg_model *m;
};

static inline void fixture_build(struct fixture *f, unsigned workers, unsigned slots, unsigned queue)
{
	struct tg_err err = { "" };
	f->config->models[0].slots = slots;
	f->config->models[0].queue = queue;
	if (!tg_models_build(&f->models, f->config, NULL, 1, &err))
		fail_msg("%s", err.text);
	f->m = &f->models.v[0];
	assert_int_equal(f->m->nworkers, workers);
}

static inline void fixture_make(struct fixture *f, unsigned workers, unsigned slots, unsigned queue)
{
	struct tg_err err = { "" };
	char url[64];
	f->config = tg_config_defaults();
	assert_non_null(f->config);
	assert_true(tg_config_add_model(f->config, "m", "http://127.0.0.1:7000", TG_PROTO_OPENAI, &err));
	for (unsigned i = 1; i < workers; i++) {
		snprintf(url, sizeof url, "http://127.0.0.1:%u", 7000 + i);
		assert_true(tg_strlist_add(&f->config->models[0].urls, tg_slice_cstr(url)));
	}
	fixture_build(f, workers, slots, queue);
}

/* Workers that are ours. Nothing is started: they are STARTING until the test, in the supervisor's place, says otherwise. */
static inline void fixture_make_started(struct fixture *f, unsigned workers, unsigned slots, unsigned queue)
{
	static char program[] = "worker", port[] = "--port={port}";
	struct tg_err err = { "" };
	f->config = tg_config_defaults();
	assert_non_null(f->config);
	assert_true(tg_config_add_command(f->config, "m", (char *const[]){ program, port, NULL }, TG_PROTO_OPENAI, &err));
	f->config->models[0].workers = workers;
	fixture_build(f, workers, slots, queue);
}

static inline void fixture_free(struct fixture *f)
{
	for (unsigned i = 0; i < f->m->nworkers; i++) {
		assert_int_equal(atomic_load(&f->m->workers[i]->in_use), 0);
		assert_false(atomic_load(&f->m->workers[i]->trying));
	}
	assert_int_equal(tg_queue_length(f->m->queue), 0);
	tg_models_free(&f->models);
	tg_config_free(f->config);
}

static inline int fixture_in_use(const struct fixture *f, unsigned worker)
{
	return atomic_load(&f->m->workers[worker]->in_use);
}

/* Nobody answers there; it answers again. */
static inline void fixture_down(struct tg_model *m, struct tg_worker *w)
{
	(void)tg_health_fault(m, w, TG_FAULT_UNREACHABLE, "a test", false, 1000);
}
static inline void fixture_up(struct tg_worker *w)
{
	(void)tg_health_good(w, false, 1000);
	atomic_store(&w->ramp_ms, 0);
}

/* As the corridor does when a request is over. */
static inline void fixture_done(struct tg_model *m, struct tg_worker *w, bool trial)
{
	if (trial)
		atomic_store(&w->trying, false);
	tg_model_release(m, w);
}
