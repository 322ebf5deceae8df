/* Life of what trainings and predictions are kept and run by (see learning.h). */
#include "gate/aside.h"
#include "gate/learning.h"
#include "jobs/runner.h"
#include "store/artifacts.h"
#include "store/model_store.h"
#include "store/store.h"

#define UPLOAD_MS 15000 /* between looks at models that wait for the bucket, or to be removed */
#define HURRY_MS 500    /* between two turns, however much there is to do */
#define END_MS 10000    /* how long a thread of the runner may take to end */

struct look {
	const char *id;
	bool there;
};

static bool is_there(void *ctx, const struct tg_artifact_row *a)
{
	(void)a;
	((struct look *)ctx)->there = true;
	return false;
}

static enum tg_db_result look_artifact(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct look *l = ctx;
	return tg_artifacts_get(db, l->id, is_there, l, &l->there, err);
}

static bool artifact_is_there(void *store, const char *id, bool *there)
{
	struct look l = { id, false };
	struct tg_err err;
	bool ok = tg_store_there(store) && tg_store_read(store, look_artifact, &l, &err) == TG_DB_OK;
	*there = l.there;
	return ok;
}

bool tg_learning_open(struct tg_learning *l, struct tg_gate *g, const struct tg_config *c, void (*warn)(void *ctx, const char *text), void *ctx)
{
	struct tg_err err;
	char text[600];
	*l = (struct tg_learning){ .gate = g };
	if (!c->ml_engine)
		return true;
	g->model_store = tg_model_store_open(c->artifacts_url, &err);
	if (!g->model_store) {
		snprintf(text, sizeof text, "no models can be kept: %s", err.text);
		warn(ctx, text);
		tg_log(TG_LOG_F_ERROR, "models.away", "s:why", err.text, NULL);
		return true;
	}
	if (!g->engine || !g->store)
		return true;
	tg_model_store_ask(g->model_store, artifact_is_there, g->store);
	return (g->train_asides = tg_asides_new(c->ml_train_jobs)) && (g->predict_asides = tg_asides_new(c->ml_predict_jobs)) && (g->runner = tg_runner_new(g, c));
}

void tg_learning_start(struct tg_learning *l)
{
	if (l->gate->runner)
		tg_runner_start(l->gate->runner);
}

static void upload_models(uv_work_t *w)
{
	struct tg_learning *l = w->data;
	tg_model_store_work(l->gate->model_store);
}

static void models_uploaded(uv_work_t *w, int status)
{
	(void)status;
	((struct tg_learning *)w->data)->uploading = false;
}

void tg_learning_look(struct tg_learning *l)
{
	struct tg_gate *g = l->gate;
	uint64_t now = uv_now(&g->control);
	if (!g->model_store || l->uploading || l->stopping)
		return;
	uint64_t since = l->uploaded_ms ? now - l->uploaded_ms : UINT64_MAX;
	if (since < HURRY_MS || (since < UPLOAD_MS && !tg_model_store_hurry(g->model_store)))
		return;
	l->uploading = true;
	l->uploaded_ms = now;
	l->work.data = l;
	uv_queue_work(&g->control, &l->work, upload_models, models_uploaded);
}

void tg_learning_stop(struct tg_learning *l)
{
	l->stopping = true;
	if (l->gate) {
		tg_asides_stop(l->gate->train_asides);
		tg_asides_stop(l->gate->predict_asides);
	}
	if (l->gate && l->gate->runner)
		tg_runner_stop(l->gate->runner);
	if (l->gate && l->gate->model_store)
		tg_model_store_stop(l->gate->model_store); /* whoever waits for the bucket would hold the end up */
}

bool tg_learning_close(struct tg_learning *l)
{
	if (!l->gate)
		return true;
	if (!tg_asides_free(l->gate->train_asides, END_MS) || !tg_asides_free(l->gate->predict_asides, END_MS) || !tg_runner_free(l->gate->runner, END_MS)) {
		tg_log(TG_LOG_F_ERROR, "jobs.forced_end", NULL);
		return false;
	}
	tg_model_store_close(l->gate->model_store);
	return true;
}
