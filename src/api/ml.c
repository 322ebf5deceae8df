/*
 * /api/v1/ml/$train and $predict (document 003; seed ledger S3-56 to S3-71): the body goes to the engine as it comes (gate/upload.h), which answers what its columns are; what can be judged by that is
 * judged before the 202; the row that is inserted then is the job (jobs/runner.h).
 *
 * The ids of the job and of what it makes are given here, so that a client can name the artifact before it is there. What was refused after its body was taken leaves nothing in the spool.
 */
#include "api/ml.h"
#include "api/ml_plan.h"
#include "api/stored.h"
#include "audit/event.h"
#include "gate/handlers.h"
#include "jobs/runner.h"
#include "policy/price.h"
#include "policy/use.h"
#include "store/artifacts.h"
#include "store/configs.h"
#include "store/jobs.h"
#include "store/model_store.h"

enum outcome { BROKEN, ACCEPTED, FAULT, NO_SUCH, NO_MODEL, NOT_YET, FULL, KEY_FULL, NO_MEMORY, REFUSED, MODEL_AWAY, MODEL_GONE, MODEL_REFUSED };

struct ml_job {
	struct tg_job job; /* first: callbacks cast */
	bool predicts, ran;
	enum outcome outcome;
	enum tg_db_result r;
	struct tg_err err;
	struct tg_fields_fault fault;
	char id[TG_ULID_LEN + 1], artifact[TG_ULID_LEN + 1];
	char named[TG_ULID_LEN + 1];     /* the config or the model that the body names */
	struct tg_shared_config *config; /* a count */
	struct tg_buf answer;            /* the engine's, owned */
	json_t *tree, *spec, *stored;    /* owned; stored: the config's or the model's data */
	bool found, pending;
	char principal[24], prefix[TG_KEY_PREFIX_MAX + 1], label[TG_KEY_LABEL_MAX + 1];
	char *rid;                       /* owned */
	struct tg_use *use;              /* whose account it is on; NULL: nobody's */
};

static void ml_free(struct tg_job *j)
{
	struct ml_job *m = (struct ml_job *)j;
	if (!m->ran) /* the client left, or there is no place in line: what run() would have seen to */
		tg_spool_drop(tg_runner_spool(m->job.gate->runner), m->id);
	tg_buf_free(&m->answer);
	json_decref(m->tree);
	json_decref(m->spec);
	json_decref(m->stored);
	tg_shared_config_put(m->config);
	free(m->rid);
	free(m);
}

/* ---- on the job pool ---- */

static bool refuse(struct ml_job *m, enum outcome why)
{
	m->outcome = why;
	return false;
}

struct train_body {
	struct tg_slice config_id;
};
static const struct tg_field train_fields[] = { { "config_id", TG_FIELD_TEXT, true, 1, 64, offsetof(struct train_body, config_id) } };

struct predict_body {
	struct tg_slice model, artifact;
};
static const struct tg_field predict_fields[] = {
	{ "model_artifact_id", TG_FIELD_TEXT, false, 1, 64, offsetof(struct predict_body, model) },
	{ "artifact_id", TG_FIELD_TEXT, false, 1, 64, offsetof(struct predict_body, artifact) },
};

/* A ULID that the body names, into m->named. */
static bool take_id(struct ml_job *m, const char *field, struct tg_slice id)
{
	if (tg_ulid_read(id, m->named))
		return true;
	snprintf(m->fault.field, sizeof m->fault.field, "%s", field);
	snprintf(m->fault.why, sizeof m->fault.why, "must be a ULID");
	return refuse(m, FAULT);
}

bool tg_ml_members_fault(struct tg_slice answer, struct tg_fields_fault *fault)
{
	static const char *const names[] = { "members" };
	struct tg_json_scan s;
	return tg_json_scan_all(&s, tg_slice_trim(answer), names, 1) == TG_JSON_DONE && s.want[0].type == TG_JSON_OBJECT && tg_fields_blame(tg_json_value(tg_slice_trim(answer), &s.want[0]), "", fault);
}

/* What the engine said of the body. */
static bool read_answer(struct ml_job *m)
{
	m->tree = json_loadb(m->answer.p, m->answer.len, JSON_REJECT_DUPLICATES, NULL);
	if (!m->tree && tg_ml_members_fault(tg_buf_view(&m->answer), &m->fault))
		return refuse(m, FAULT);
	return json_is_object(json_object_get(m->tree, "frame"));
}

/* The members of the body that were no frames. */
static bool read_members(struct ml_job *m)
{
	char *text = json_dumps(json_object_get(m->tree, "members"), JSON_COMPACT);
	struct tg_slice members = tg_slice_cstr(text ? text : "{}");
	struct train_body t = { { 0 } };
	struct predict_body p = { { 0 }, { 0 } };
	struct tg_fields f;
	bool ok = m->predicts ? tg_fields_parse(members, predict_fields, 2, &p, &f, &m->fault) : tg_fields_parse(members, train_fields, 1, &t, &f, &m->fault);
	free(text);
	if (!ok)
		return refuse(m, FAULT);
	if (m->predicts && p.model.n && p.artifact.n && !tg_slice_eq(p.model, p.artifact)) {
		snprintf(m->fault.field, sizeof m->fault.field, "artifact_id");
		snprintf(m->fault.why, sizeof m->fault.why, "is another model than model_artifact_id");
		ok = refuse(m, FAULT);
	} else if (m->predicts && !p.model.n && !p.artifact.n) {
		snprintf(m->fault.field, sizeof m->fault.field, "model_artifact_id");
		snprintf(m->fault.why, sizeof m->fault.why, "is required");
		ok = refuse(m, FAULT);
	} else if (m->predicts) {
		ok = p.model.n ? take_id(m, "model_artifact_id", p.model) : take_id(m, "artifact_id", p.artifact);
	} else {
		ok = take_id(m, "config_id", t.config_id);
	}
	tg_fields_free(&f);
	return ok;
}

static bool config_row(void *ctx, const struct tg_config_row *c)
{
	struct ml_job *m = ctx;
	m->stored = json_loads(c->data, JSON_REJECT_DUPLICATES, NULL);
	return false;
}

static bool artifact_row(void *ctx, const struct tg_artifact_row *a)
{
	struct ml_job *m = ctx;
	/* A model's data is small; what is as large as predictions can be is none. */
	m->stored = a->data_len <= TG_MODEL_METADATA_MAX ? json_loadb(a->data, a->data_len, JSON_REJECT_DUPLICATES, NULL) : NULL;
	return false;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct ml_job *m = ctx;
	if (!m->predicts)
		return tg_configs_get(db, m->named, config_row, m, &m->found, err);
	enum tg_db_result r = tg_artifacts_get(db, m->named, artifact_row, m, &m->found, err);
	return r == TG_DB_OK && !m->found ? tg_job_rows_making(db, m->named, &m->pending, err) : r;
}

static bool look_up(struct ml_job *m)
{
	m->r = tg_store_read(m->job.gate->store, look, m, &m->err);
	if (m->r != TG_DB_OK)
		return refuse(m, REFUSED);
	if (!m->found)
		return refuse(m, m->pending ? NOT_YET : NO_SUCH);
	return true;
}

static bool is_model(const json_t *data)
{
	const char *type = json_string_value(json_object_get(data, "ml_type"));
	return type && strcmp(type, "trained_model") == 0;
}

/* The engine would find it when the job runs (engine/predict.c). */
static bool has_room_for_the_prediction(struct ml_job *m)
{
	int place = tg_ml_column(json_object_get(json_object_get(m->tree, "frame"), "columns"), "sample_0");
	if (place < 0)
		return true;
	snprintf(m->fault.field, sizeof m->fault.field, "future.columns[%d]", place);
	snprintf(m->fault.why, sizeof m->fault.why, "is called sample_0, as the prediction's column is");
	return false;
}

/* What the model needs is in the model store, beside its file. */
static bool check_model(struct ml_job *m)
{
	struct tg_buf metadata;
	if (!is_model(m->stored))
		return refuse(m, NO_MODEL);
	tg_buf_init(&metadata, TG_MODEL_METADATA_MAX + 65536);
	enum tg_model_found found = tg_model_store_metadata(m->job.gate->model_store, m->named, &metadata, &m->err);
	json_t *o = found == TG_MODEL_FOUND ? json_loadb(metadata.p, metadata.len, 0, NULL) : NULL;
	bool ok = o && tg_ml_fits(json_object_get(o, "about"), json_object_get(m->tree, "frame"), "future", &m->fault) && has_room_for_the_prediction(m);
	tg_buf_free(&metadata);
	json_decref(o);
	if (o)
		return ok || refuse(m, FAULT);
	if (found != TG_MODEL_NONE)
		tg_log(TG_LOG_F_WARN, found == TG_MODEL_AWAY ? "models.away" : "model.refused", "t:model_id", m->named, "s:why", m->err.text, NULL);
	return refuse(m, found == TG_MODEL_NONE ? MODEL_GONE : found == TG_MODEL_AWAY ? MODEL_AWAY : MODEL_REFUSED);
}

static bool make_spec(struct ml_job *m)
{
	const json_t *frame = json_object_get(m->tree, "frame");
	if (m->predicts) {
		if (!check_model(m))
			return false;
		m->spec = json_pack("{s:s, s:O?}", "model", m->named, "config_id", json_object_get(m->stored, "config_id"));
	} else {
		m->spec = tg_ml_plan(m->stored, frame, &m->fault);
		if (!m->spec)
			return refuse(m, m->fault.field[0] ? FAULT : NO_MEMORY);
		json_object_set_new(m->spec, "config_id", json_string(m->named));
	}
	json_object_set(m->spec, "rows", json_object_get(frame, "rows"));
	json_object_set(m->spec, "hash", json_object_get(m->tree, "hash"));
	json_object_set_new(m->spec, "request_id", json_string(m->rid));
	return m->spec != NULL || refuse(m, NO_MEMORY);
}

struct insertion {
	const struct tg_job_row *row;
	uint64_t key_most;
	enum tg_job_room room;
};

static enum tg_db_result insert(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct insertion *i = ctx;
	return tg_job_rows_insert(db, i->row, i->key_most, &i->room, err);
}

static bool submit(struct ml_job *m)
{
	char place[TG_SPOOL_PLACE], *spec = json_dumps(m->spec, JSON_COMPACT);
	if (!spec || !tg_runner_place(m->job.gate->runner, place, &m->err)) {
		free(spec);
		m->r = TG_DB_AWAY;
		return refuse(m, spec ? REFUSED : NO_MEMORY);
	}
	int64_t now = (int64_t)tg_wall_us();
	struct tg_job_row row = { .id = m->id, .kind = m->predicts ? "predict" : "train", .status = TG_JOB_PENDING, .message = "", .spec = spec, .artifact_id = m->artifact,
				  .principal = m->principal, .key_prefix = m->prefix, .place = place, .created_us = now, .updated_us = now };
	struct insertion i = { .row = &row, .key_most = m->config->config->ml_key_jobs };
	m->r = tg_store_record(m->job.gate->store, insert, &i, &m->err);
	free(spec);
	if (m->r != TG_DB_OK)
		return refuse(m, REFUSED);
	return i.room == TG_JOB_ROOM || refuse(m, i.room == TG_JOB_FULL ? FULL : KEY_FULL);
}

/* Document 003's own event, and 004's. */
static void tell(struct ml_job *m)
{
	struct tg_slice rid = tg_slice_cstr(m->rid);
	uint64_t rows = (uint64_t)json_integer_value(json_object_get(m->spec, "rows"));
	const struct tg_config *cfg = m->config->config;
	struct tg_counts counts = { .rows = rows, .trainings = !m->predicts, .predictions = m->predicts };
	char cost[TG_COST_TEXT];
	counts.cost = m->predicts ? tg_price_predict(cfg, rows) : tg_price_train(cfg, rows);
	tg_cost_text(counts.cost, cost);
	if (m->use && cfg->usage_days)
		tg_use_add(m->use, tg_wall_us(), &counts);
	tg_log(TG_LOG_F_INFO, "ml_operation", "s:operation", m->predicts ? "predict" : "train", "t:job", m->id, "t:artifact", m->artifact, "t:request_id", m->rid, "t:user", m->principal,
	       "t:key_prefix", m->prefix[0] ? m->prefix : NULL, "t:key_label", m->label[0] ? m->label : NULL, "u:rows", rows, "n:cost_estimate", cost,
	       "t:currency", cfg->currency, NULL);
	if (m->predicts)
		return;
	char *config = json_dumps(m->spec, JSON_COMPACT);
	tg_audit_event(TG_AUDIT_training_started, &rid, "j:config", config, "t:dataset_hash", json_string_value(json_object_get(m->spec, "hash")), "t:user", m->principal, NULL);
	free(config);
}

static void run(struct tg_job *j)
{
	struct ml_job *m = (struct ml_job *)j;
	m->ran = true;
	if (read_answer(m) && read_members(m) && look_up(m) && make_spec(m) && submit(m)) {
		m->outcome = ACCEPTED;
		tell(m); /* here and not in the answer: a client that has left has its job all the same */
		tg_runner_kick(m->job.gate->runner, m->predicts ? "predict" : "train");
		if (!m->predicts)
			tg_audit_flush(); /* what the runner tells comes behind it in any case */
		return;
	}
	tg_spool_forget(tg_runner_spool(m->job.gate->runner), m->id);
}

/* ---- on the loop ---- */

static enum tg_step accepted(const struct ml_job *m, struct tg_exchange *x)
{
	char text[256];
	int n = snprintf(text, sizeof text, "{\"job_id\":\"%s\",\"%s\":\"%s\",\"status\":\"pending\",\"message\":\"%s\"}", m->id, m->predicts ? "prediction_artifact_id" : "model_artifact_id",
			 m->artifact, m->predicts ? "Prediction job submitted" : "Training job submitted");
	return tg_answer(x, 202, "application/json", (struct tg_slice){ text, (size_t)n }, NULL);
}

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct ml_job *m = (struct ml_job *)j;
	const char *field = m->predicts ? "model_artifact_id" : "config_id";
	char text[96];
	switch (m->outcome) {
	case ACCEPTED: return accepted(m, x);
	case FAULT: return tg_field_fault(x, m->fault.field[0] ? m->fault.field : "body", m->fault.why);
	case NO_SUCH:
		snprintf(text, sizeof text, "Entity with id %s not found", m->named);
		return tg_answer_problem(x, TG_E_not_found, "not_found", text, field, NULL);
	case NO_MODEL: return tg_field_fault(x, field, "is no trained model");
	case NOT_YET: return tg_answer_problem(x, TG_E_conflict, "conflict", "The model is still being trained.", field, NULL);
	case FULL: return tg_answer_problem(x, TG_E_unavailable, "queue_full", "Too many jobs are waiting; try again.", NULL, "Retry-After: 30\r\n");
	case KEY_FULL: return tg_key_jobs_full(x, m->config->config->ml_key_jobs);
	case NO_MEMORY: return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	case REFUSED: return tg_stored_fault(x, m->r, &m->err);
	case MODEL_AWAY: return tg_answer_problem(x, TG_E_unavailable, "models_away", "The models' store cannot be reached now; try again.", NULL, "Retry-After: 5\r\n");
	case MODEL_GONE: return tg_answer_problem(x, TG_E_conflict, "model_gone", "The model's files are missing; what is known of it is in its artifact.", field, NULL);
	case MODEL_REFUSED: return tg_answer_problem(x, TG_E_conflict, "model_refused", "The model's files are not what was saved; it is not used.", field, NULL);
	case BROKEN: break;
	}
	return tg_answer_problem(x, TG_E_bad_gateway, "worker_rubbish", "The engine's answer was not valid.", NULL, NULL);
}

enum tg_step tg_key_jobs_full(struct tg_exchange *x, unsigned most)
{
	char text[96];
	snprintf(text, sizeof text, "This key has %u jobs that wait or run, as many as it may; try again when one has ended.", most);
	return tg_answer_problem(x, TG_E_rate_limited, "too_many_jobs", text, NULL, "Retry-After: 30\r\n");
}

/* The engine has the body and says what is in it. */
static enum tg_step taken(struct tg_exchange *x, const struct tg_upload_conf *conf, struct tg_slice body)
{
	(void)body;
	struct tg_slice rid = tg_exchange_rid(x);
	struct ml_job *m = calloc(1, sizeof *m);
	if (!m || !(m->rid = tg_slice_dup(rid))) {
		free(m);
		tg_spool_drop(tg_runner_spool(x->gl->gate->runner), conf->id);
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	}
	m->job.run = run;
	m->job.answer = answer;
	m->job.free = ml_free;
	m->predicts = strcmp(conf->kind, "predict") == 0;
	m->job.away = m->predicts && tg_model_store_remote(x->gl->gate->model_store);
	m->config = tg_shared_config_get(x->snap->shared);
	memcpy(m->id, conf->id, sizeof m->id);
	tg_ulid_monotonic(tg_wall_us(), m->artifact);
	memcpy(m->principal, x->principal->id, sizeof m->principal);
	memcpy(m->prefix, x->principal->prefix, sizeof m->prefix);
	memcpy(m->label, x->principal->label, sizeof m->label);
	m->use = x->principal->use;
	m->answer = x->collected;
	tg_buf_init(&x->collected, 0);
	return tg_job_start(x, &m->job);
}

enum tg_step tg_ml_start(struct tg_exchange *x, const char *kind, enum tg_upload_type type, tg_upload_done done)
{
	struct tg_gate *g = x->gl->gate;
	struct tg_upload_conf conf = { .kind = kind, .type = type };
	if (!g->store) {
		struct tg_err none = { "there is none" };
		return tg_stored_fault(x, TG_DB_AWAY, &none);
	}
	if (!g->runner)
		return tg_answer_problem(x, TG_E_unavailable, "no_worker", "Training and prediction are not offered here ([ml] engine).", NULL, "Retry-After: 3600\r\n");
	tg_ulid_monotonic(tg_wall_us(), conf.id);
	return tg_upload_start(x, &conf, done);
}

enum tg_step tg_api_ml_train(struct tg_exchange *x)
{
	return tg_ml_start(x, "train", TG_UPLOAD_JSON, taken);
}

enum tg_step tg_api_ml_predict(struct tg_exchange *x)
{
	return tg_ml_start(x, "predict", TG_UPLOAD_JSON, taken);
}
