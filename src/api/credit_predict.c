/*
 * POST /predict (document 004; seed ledger S4-42, S4-64, S4-66, S4-74, C-16). The body goes to the engine as it comes; what the model needs is held against what came; the engine predicts; what it wrote becomes
 * the answer as it is. Nothing of it is durable: who leaves has no prediction, and what was written for him goes.
 *
 * A model_id is a name until the model store has found it: what is no id at all is as unknown as any other.
 */
#include "api/credit_task.h"
#include "api/ml_plan.h"
#include "audit/event.h"
#include "gate/handlers.h"
#include "store/model_store.h"

#define LINEAR "linear_regression"

struct prediction {
	struct tg_credit_task t; /* first: callbacks cast */
	json_t *asked, *model;   /* owned: the body's members; the model's metadata */
};

static void drop(struct tg_aside *a)
{
	struct prediction *p = (struct prediction *)a;
	json_decref(p->asked);
	json_decref(p->model);
	tg_credit_free(&p->t);
}

/* ---- on a thread of the pool ---- */

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

/* The member that the rows came in, as the engine read it: where faults lie. */
static const char *rows_in(const struct prediction *p)
{
	const char *name = text_of(p->t.tree, "table");
	return *name ? name : "data";
}

static bool read_body(struct prediction *p)
{
	if (!tg_credit_tree(&p->t))
		return false;
	p->asked = tg_credit_read(&tg_credit_predict_table, json_object_get(p->t.tree, "members"), &p->t.fault);
	if (!p->asked)
		return tg_credit_ends(&p->t, p->t.fault.field[0] ? TG_CREDIT_FAULT : TG_CREDIT_MEMORY);
	snprintf(p->t.named, sizeof p->t.named, "%s", text_of(p->asked, "model_id"));
	return json_is_object(json_object_get(p->t.tree, "frame")) || tg_credit_ends(&p->t, TG_CREDIT_BROKEN);
}

static bool find_model(struct prediction *p)
{
	struct tg_credit_task *t = &p->t;
	char path[PATH_MAX];
	struct tg_buf metadata;
	struct tg_err why = { "" };
	if (!tg_model_id_ok(tg_slice_cstr(t->named)))
		return tg_credit_ends(t, TG_CREDIT_NO_MODEL);
	tg_buf_init(&metadata, TG_MODEL_METADATA_MAX + 65536);
	enum tg_model_found found = tg_model_store_load(t->gate->model_store, t->named, path, &metadata, &why);
	p->model = found == TG_MODEL_FOUND ? json_loadb(metadata.p, metadata.len, 0, NULL) : NULL;
	tg_buf_free(&metadata);
	if (p->model)
		return true;
	if (found != TG_MODEL_NONE)
		tg_log(TG_LOG_F_WARN, found == TG_MODEL_AWAY ? "models.away" : "model.refused", "t:model_id", t->named, "s:why", why.text, NULL);
	return tg_credit_ends(t, found == TG_MODEL_NONE ? TG_CREDIT_NO_MODEL : found == TG_MODEL_AWAY ? TG_CREDIT_AWAY : TG_CREDIT_REFUSED);
}

/* A model from before there was a task is one of numbers by its method. */
static bool of_numbers(const struct prediction *p)
{
	const char *task = text_of(json_object_get(p->model, "about"), "task");
	return *task ? strcmp(task, "regression") == 0 : strcmp(text_of(p->model, "method"), LINEAR) == 0;
}

static bool it_fits(struct prediction *p)
{
	const json_t *frame = json_object_get(p->t.tree, "frame");
	if (of_numbers(p) && json_is_number(json_object_get(p->asked, "threshold")))
		return tg_credit_faulty(&p->t, "threshold", "has no meaning: the model predicts a number and no class");
	return tg_ml_fits(json_object_get(p->model, "about"), frame, rows_in(p), &p->t.fault) || tg_credit_ends(&p->t, TG_CREDIT_FAULT);
}

/* *result: the caller's. */
static bool ask_engine(struct prediction *p, json_t **result)
{
	struct tg_credit_task *t = &p->t;
	char file[TG_MODEL_ID_MAX + sizeof TG_MODEL_EXT];
	uint16_t status;
	json_t *answer = NULL;
	snprintf(file, sizeof file, "%.*s" TG_MODEL_EXT, TG_MODEL_ID_MAX, t->named);
	json_t *request = json_pack("{s:s, s:s, s:O, s:s, s:O, s:O}", "job", t->id, "model", file, "sha256", json_object_get(p->model, "sha256"), "as", "applications", "threshold",
				    json_object_get(p->asked, "threshold"), "include_probabilities", json_object_get(p->asked, "include_probabilities"));
	bool ok = request ? tg_credit_engine(t, "/predict", request, &status, &answer) : tg_credit_ends(t, TG_CREDIT_MEMORY);
	json_decref(request);
	if (!ok)
		return false;
	const char *error = json_string_value(json_object_get(answer, "error")), *refused = json_string_value(json_object_get(answer, "refused"));
	*result = status == 200 ? json_incref(json_object_get(answer, "result")) : NULL;
	if (refused) {
		tg_log(TG_LOG_F_WARN, "model.refused", "t:model_id", t->named, "s:why", refused, NULL);
		ok = tg_credit_ends(t, TG_CREDIT_REFUSED);
	} else if (status == 200 && error) {
		ok = tg_credit_faulty(t, rows_in(p), error);
	} else if (!json_is_object(*result)) {
		ok = tg_credit_ends(t, TG_CREDIT_BROKEN);
	}
	json_decref(answer);
	if (!ok) {
		json_decref(*result);
		*result = NULL;
	}
	return ok;
}

static bool put_answer(struct prediction *p, const json_t *result)
{
	struct tg_credit_task *t = &p->t;
	char path[PATH_MAX], now[21] = "";
	json_int_t rows = json_integer_value(json_object_get(result, "rows")), positive = json_integer_value(json_object_get(result, "positive"));
	const json_t *threshold = json_object_get(p->asked, "threshold");
	const char *file = text_of(result, "file");
	struct tg_err why = { "the engine named no file of this prediction" };
	if (!json_is_number(threshold))
		threshold = json_object_get(json_object_get(p->model, "about"), "threshold");
	if (json_integer_value(json_object_get(result, "bytes")) > (json_int_t)t->out.max - 4096)
		return tg_credit_faulty(t, rows_in(p), "has so many rows that the answer would be longer than 48 MiB; ask for fewer at once");
	tg_rfc3339_s(tg_wall_us(), now);
	tg_buf_lit(&t->out, "{\"model_id\":");
	tg_buf_json(&t->out, tg_slice_cstr(t->named));
	tg_buf_lit(&t->out, ",\"model_type\":");
	tg_buf_json(&t->out, tg_slice_cstr(text_of(p->model, "method")));
	tg_buf_lit(&t->out, ",\"threshold\":");
	if (of_numbers(p))
		tg_buf_lit(&t->out, "null");
	else
		tg_buf_fmt(&t->out, "%.17g", json_is_number(threshold) ? json_number_value(threshold) : 0.5);
	tg_buf_lit(&t->out, ",\"predictions\":");
	if (!tg_spool_file(tg_runner_spool(t->gate->runner), t->id, file, path, sizeof path) || !tg_spool_read(tg_runner_spool(t->gate->runner), file, &t->out, &why)) {
		tg_log(TG_LOG_F_ERROR, "predict.no_result", "t:request_id", t->rid, "s:why", why.text, NULL);
		return tg_credit_ends(t, t->out.failed ? TG_CREDIT_MEMORY : TG_CREDIT_BROKEN);
	}
	tg_buf_fmt(&t->out, ",\"timestamp\":\"%s\",\"total_applications\":%lld", now, (long long)rows);
	if (of_numbers(p))
		tg_buf_lit(&t->out, ",\"predicted_defaults\":null,\"predicted_approvals\":null}");
	else
		tg_buf_fmt(&t->out, ",\"predicted_defaults\":%lld,\"predicted_approvals\":%lld}", (long long)positive, (long long)(rows - positive));
	return !t->out.failed || tg_credit_ends(t, TG_CREDIT_MEMORY);
}

static void tell_loaded(struct prediction *p, const json_t *result)
{
	struct tg_slice rid = tg_slice_cstr(p->t.rid);
	if (json_is_true(json_object_get(result, "loaded")))
		tg_audit_event(TG_AUDIT_model_loaded, &rid, "t:model_id", p->t.named, NULL);
}

/* Only what is answered counts: who is refused is not billed. */
static void tell(struct prediction *p, const json_t *result)
{
	struct tg_slice rid = tg_slice_cstr(p->t.rid);
	uint64_t rows = (uint64_t)json_integer_value(json_object_get(result, "rows"));
	tg_credit_tell(&p->t, true, rows, p->t.named);
	tg_audit_event(TG_AUDIT_prediction_made, &rid, "t:model_id", p->t.named, "u:n_samples", rows, "t:user", p->t.principal, NULL);
	tg_audit_flush();
}

static void run(struct tg_aside *a)
{
	struct prediction *p = (struct prediction *)a;
	json_t *result = NULL;
	if (read_body(p) && find_model(p) && it_fits(p) && ask_engine(p, &result)) {
		tell_loaded(p, result);
		if (put_answer(p, result)) {
			tell(p, result);
			p->t.end = TG_CREDIT_DONE;
		}
	}
	json_decref(result);
	tg_spool_forget(tg_runner_spool(p->t.gate->runner), p->t.id);
	p->t.settled = true;
}

/* ---- on the loop ---- */

static enum tg_step answer(struct tg_aside *a, struct tg_exchange *x)
{
	struct prediction *p = (struct prediction *)a;
	if (p->t.end == TG_CREDIT_DONE)
		return tg_answer_counted(x, 200, "application/json", tg_buf_view(&p->t.out), NULL);
	return tg_credit_hindered(&p->t, x);
}

static enum tg_step taken(struct tg_exchange *x, const struct tg_upload_conf *conf, struct tg_slice body)
{
	enum tg_step answered;
	(void)body;
	struct prediction *p = (struct prediction *)tg_credit_new(x, conf, sizeof *p, &answered);
	if (!p)
		return answered;
	p->t.aside.run = run;
	p->t.aside.answer = answer;
	p->t.aside.free = drop;
	return tg_aside_start(x, x->gl->gate->predict_asides, &p->t.aside);
}

enum tg_step tg_api_credit_predict(struct tg_exchange *x)
{
	return tg_ml_start(x, "credit-predict", TG_UPLOAD_JSON, taken);
}
