/* Requests of document 004 on their way to an answer (see credit_task.h). Sentences for callers say what they can do; why the engine or the store could not is the log's. */
#include "api/credit_task.h"
#include "api/stored.h"
#include "jobs/engine_client.h"
#include "policy/price.h"
#include "policy/use.h"

#define OUT_MAX (48u << 20) /* bytes of an answer */
#define MODEL_SHOWN 64

struct tg_credit_task *tg_credit_new(struct tg_exchange *x, const struct tg_upload_conf *conf, size_t size, enum tg_step *answered)
{
	struct tg_credit_task *t = calloc(1, size);
	if (!t || !(t->rid = tg_slice_dup(tg_exchange_rid(x)))) {
		free(t);
		tg_spool_forget(tg_runner_spool(x->gl->gate->runner), conf->id);
		*answered = tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
		return NULL;
	}
	t->gate = x->gl->gate;
	t->config = tg_shared_config_get(x->snap->shared);
	memcpy(t->id, conf->id, sizeof t->id);
	memcpy(t->principal, x->principal->id, sizeof t->principal);
	memcpy(t->prefix, x->principal->prefix, sizeof t->prefix);
	memcpy(t->label, x->principal->label, sizeof t->label);
	t->use = x->principal->use;
	t->answer = x->collected;
	tg_buf_init(&x->collected, 0);
	tg_buf_init(&t->out, OUT_MAX);
	return t;
}

void tg_credit_free(struct tg_credit_task *t)
{
	if (!t->settled)
		tg_spool_forget(tg_runner_spool(t->gate->runner), t->id);
	tg_buf_free(&t->answer);
	tg_buf_free(&t->out);
	json_decref(t->tree);
	tg_shared_config_put(t->config);
	free(t->rid);
	free(t);
}

enum tg_step tg_credit_hindered(struct tg_credit_task *t, struct tg_exchange *x)
{
	char text[128];
	switch (t->end) {
	case TG_CREDIT_FAULT: return tg_field_fault(x, t->fault.field[0] ? t->fault.field : "body", t->fault.why);
	case TG_CREDIT_NO_MODEL:
		snprintf(text, sizeof text, "Model not found: %.*s", MODEL_SHOWN, t->named);
		return tg_answer_problem(x, TG_E_no_trained_model, "model_not_found", text, "model_id", NULL);
	case TG_CREDIT_REFUSED: return tg_answer_problem(x, TG_E_internal, "model_refused", "The model's files are not what was saved; it is not used.", "model_id", NULL);
	case TG_CREDIT_AWAY: return tg_answer_problem(x, TG_E_unavailable, "models_away", "The models' store cannot be reached now; try again.", NULL, "Retry-After: 5\r\n");
	case TG_CREDIT_LOST: return tg_answer_problem(x, TG_E_unavailable, "worker_gone", "The engine ended, or is not ready; try again.", NULL, "Retry-After: 2\r\n");
	case TG_CREDIT_BUSY: return tg_answer_problem(x, TG_E_unavailable, "busy", "The engine has too much to do; try again.", NULL, "Retry-After: 2\r\n");
	case TG_CREDIT_NO_ROOM: return tg_spool_full(x);
	case TG_CREDIT_NO_SPOOL: return tg_spool_away(x);
	case TG_CREDIT_STORE: return tg_stored_fault(x, t->r, &t->err);
	case TG_CREDIT_FULL: return tg_answer_problem(x, TG_E_unavailable, "queue_full", "Too many jobs are waiting; try again.", NULL, "Retry-After: 30\r\n");
	case TG_CREDIT_KEY_FULL: return tg_key_jobs_full(x, t->config->config->ml_key_jobs);
	case TG_CREDIT_MEMORY: return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	case TG_CREDIT_BROKEN:
	case TG_CREDIT_DONE: break;
	}
	return tg_answer_problem(x, TG_E_bad_gateway, "worker_rubbish", "The engine's answer was not valid.", NULL, NULL);
}

/* ---- on a thread of the pool ---- */

bool tg_credit_ends(struct tg_credit_task *t, enum tg_credit_end end)
{
	t->end = end;
	return false;
}

bool tg_credit_faulty(struct tg_credit_task *t, const char *field, const char *why)
{
	snprintf(t->fault.field, sizeof t->fault.field, "%s", field);
	snprintf(t->fault.why, sizeof t->fault.why, "%s", why);
	return tg_credit_ends(t, TG_CREDIT_FAULT);
}

bool tg_credit_tree(struct tg_credit_task *t)
{
	t->tree = json_loadb(t->answer.p, t->answer.len, JSON_REJECT_DUPLICATES, NULL);
	if (json_is_object(json_object_get(t->tree, "members")))
		return true;
	/* The engine scans members, jansson reads them: what only it refuses (a NUL, a number out of range) is the sender's. */
	return tg_credit_ends(t, tg_ml_members_fault(tg_buf_view(&t->answer), &t->fault) ? TG_CREDIT_FAULT : TG_CREDIT_BROKEN);
}

struct line {
	struct tg_credit_task *t;
	json_t *last;
};

static bool tick(void *ctx)
{
	return !tg_aside_over(&((struct line *)ctx)->t->aside);
}

static bool keep_line(void *ctx, struct tg_slice text)
{
	struct line *l = ctx;
	json_decref(l->last);
	l->last = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL);
	return true;
}

bool tg_credit_engine(struct tg_credit_task *t, const char *path, const json_t *request, uint16_t *status, json_t **answer)
{
	struct line l = { t, NULL };
	struct tg_engine_call call = { .tick = tick, .line = keep_line, .ctx = &l, .inside = true, .key_prefix = t->prefix };
	struct tg_err why = { "" };
	char *body = json_dumps(request, JSON_COMPACT);
	*answer = NULL;
	if (!body)
		return tg_credit_ends(t, TG_CREDIT_MEMORY);
	enum tg_engine_end end = tg_engine_post(t->gate->engine, path, tg_slice_cstr(body), &call, status, &why);
	free(body);
	bool busy = end == TG_ENGINE_ANSWERED && (*status == 429 || *status == 503 || *status == 507);
	if (end == TG_ENGINE_ANSWERED && !busy && json_is_object(l.last)) {
		*answer = l.last;
		return true;
	}
	json_decref(l.last);
	if (end == TG_ENGINE_LOST)
		tg_log(TG_LOG_F_WARN, "engine.lost", "t:request_id", t->rid, "s:why", why.text, NULL);
	return tg_credit_ends(t, busy && *status == 507 ? TG_CREDIT_NO_ROOM : busy ? TG_CREDIT_BUSY : end == TG_ENGINE_ANSWERED ? TG_CREDIT_BROKEN : TG_CREDIT_LOST);
}

void tg_credit_tell(struct tg_credit_task *t, bool predicts, uint64_t rows, const char *model)
{
	const struct tg_config *cfg = t->config->config;
	struct tg_counts counts = { .rows = rows, .trainings = !predicts, .predictions = predicts };
	char cost[TG_COST_TEXT];
	counts.cost = predicts ? tg_price_predict(cfg, rows) : tg_price_train(cfg, rows);
	tg_cost_text(counts.cost, cost);
	if (t->use && cfg->usage_days)
		tg_use_add(t->use, tg_wall_us(), &counts);
	tg_log(TG_LOG_F_INFO, "ml_operation", "s:operation", predicts ? "predict" : "train", "t:job", predicts ? NULL : t->id, "t:artifact", model, "t:request_id", t->rid, "t:user", t->principal,
	       "t:key_prefix", t->prefix[0] ? t->prefix : NULL, "t:key_label", t->label[0] ? t->label : NULL, "u:rows", rows, "n:cost_estimate", cost, "t:currency", cfg->currency, NULL);
}
