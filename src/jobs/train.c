/*
 * $train (document 003) and /train (document 004): a frame in the spool becomes a model in the model store and an artifact that describes it. The spec is what api/ml.c or api/credit_train.c accepted:
 * method, task, target, features, seed, test_size, cv_folds, undersample; config_id (003) or training_config (004: what was asked for, in its words); hash and request_id for the audit trail. What the two make
 * is the same, so that each predicts with the other's models; only names differ.
 */
#include "audit/event.h"
#include "base/clock.h"
#include "jobs/kinds.h"
#include "store/model_store.h"
#include <errno.h>
#include <limits.h>

#define HOLD_US 1000000 /* between tries to store a model; twice as long each time, up to */
#define HOLD_MOST_US (15 * 1000000ll)

/* Names that clients of the documents look for (seed ledger C-47): what the method is called where they come from. */
static const char *model_type(const char *method, bool regression)
{
	static const struct {
		const char *method, *names[2]; /* of a classification, of a regression */
	} names[] = {
		{ "linear_regression", { "sklearn.linear_model.LinearRegression", "sklearn.linear_model.LinearRegression" } },
		{ "logistic_regression", { "sklearn.linear_model.LogisticRegression", "sklearn.linear_model.LogisticRegression" } },
		{ "xgboost", { "xgboost.XGBClassifier", "xgboost.XGBRegressor" } },
		{ "random_forest", { "xgboost.XGBRFClassifier", "xgboost.XGBRFRegressor" } },
	};
	for (size_t i = 0; i < sizeof names / sizeof names[0]; i++)
		if (strcmp(names[i].method, method) == 0)
			return names[i].names[regression];
	return "tollgate";
}

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static bool credit(const struct tg_run *run)
{
	return run->kind == &tg_job_credit_train;
}

static json_t *names_of(const json_t *features)
{
	json_t *out = json_array();
	size_t i;
	json_t *f;
	json_array_foreach(features, i, f)
		json_array_append(out, json_object_get(f, "name"));
	return out;
}

static json_t *request_of(const struct tg_run *run)
{
	static const char *const members[] = { "method", "task", "target", "features", "seed", "test_size", "cv_folds", "undersample" };
	json_t *o = json_pack("{s:s}", "job", run->id);
	for (size_t i = 0; i < sizeof members / sizeof members[0]; i++)
		json_object_set(o, members[i], json_object_get(run->spec, members[i]));
	return o;
}

/* The artifact's data: what callers see of the model. */
static json_t *artifact_of(const struct tg_run *run, const json_t *result, int64_t end_us)
{
	const json_t *about = json_object_get(result, "about"), *report = json_object_get(result, "report");
	json_t *metrics = json_object_get(report, "metrics"), *seconds = json_object_get(result, "seconds"), *o = json_object();
	static const char *const told[] = { "measured_on", "training_rows", "measured_rows", "optimal_threshold", "feature_importance", "cv" };
	const char *method = text_of(run->spec, "method");
	json_object_set_new(o, "model_type", json_string(credit(run) ? method : model_type(method, strcmp(text_of(about, "task"), "regression") == 0)));
	json_object_set_new(o, "trained_at", tg_run_time(end_us));
	json_object_set_new(o, "engine", json_string("tollgate-engine"));
	json_object_set_new(o, "ml_type", json_string("trained_model"));
	if (!credit(run))
		json_object_set(o, "config_id", json_object_get(run->spec, "config_id"));
	json_object_set_new(o, "started_at", tg_run_time(run->started_us));
	json_object_set_new(o, "completed_at", tg_run_time(end_us));
	json_object_set(o, "duration_seconds", seconds ? seconds : json_null());
	json_object_set(o, "model_size_bytes", json_object_get(result, "bytes"));
	json_object_set(o, "method", json_object_get(run->spec, "method"));
	json_object_set(o, "task", json_object_get(about, "task"));
	json_object_set(o, "target", json_object_get(about, "target"));
	json_object_set(o, "classes", json_object_get(about, "classes")); /* null: of numbers */
	json_object_set_new(o, "features", names_of(json_object_get(about, "features")));
	json_object_set(o, "rows", json_object_get(result, "rows"));
	json_object_set(o, "metrics", metrics ? metrics : json_null());
	for (size_t i = 0; i < sizeof told / sizeof *told; i++)
		json_object_set(o, told[i], json_object_get(report, told[i])); /* what is not there is not set */
	return o;
}

/* What lies beside the model's file: all that is known of it. */
static char *metadata_of(const struct tg_run *run, const json_t *result, int64_t end_us)
{
	json_t *o = artifact_of(run, result, end_us);
	json_object_set(o, "about", json_object_get(result, "about"));
	json_object_set(o, "report", json_object_get(result, "report"));
	json_object_set(o, "plan", run->spec);
	json_object_set(o, "training_time_seconds", json_object_get(result, "seconds"));
	json_object_set_new(o, "created_at", tg_run_time(end_us));
	if (credit(run))
		json_object_set(o, "training_config", json_object_get(run->spec, "training_config"));
	json_object_set(o, "sha256", json_object_get(result, "sha256")); /* the store refuses a file that is another */
	char *text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	return text;
}

/* *passes: what hinders it may pass. */
static bool keep_model(struct tg_run *run, const json_t *result, int64_t end_us, bool *passes, struct tg_err *err)
{
	char path[PATH_MAX], uri[PATH_MAX];
	struct tg_model_store *models = tg_runner_models(run->runner);
	char *metadata = metadata_of(run, result, end_us);
	bool ok = false;
	*passes = false;
	tg_err_set(err, "out of memory");
	if (!metadata)
		return false;
	tg_err_set(err, "the engine named no file of this job");
	/* A large one takes as long as the bucket takes it, and this thread beats for nothing meanwhile: its lease is renewed by jobs/tend.c. A lapsed one would let another gate that starts then put the row back. */
	if (!tg_run_mark(run, err)) {
		tg_log(TG_LOG_F_WARN, "job.not_marked", "t:job", run->id, "s:why", err->text, NULL);
		tg_err_set(err, "the spool cannot be written");
		*passes = true;
	} else if (tg_spool_file(tg_runner_spool(run->runner), run->id, text_of(result, "file"), path, sizeof path)) {
		ok = tg_model_store_save(models, run->artifact_id, path, tg_slice_cstr(metadata), uri, err);
		*passes = !ok && errno;
	}
	free(metadata);
	if (ok)
		run->note = json_pack("{s:s, s:O?, s:O?}", "uri", uri, "metrics", json_object_get(json_object_get(result, "report"), "metrics"), "seconds", json_object_get(result, "seconds"));
	return ok;
}

/*
 * A full disk is no fault of who trains: what was learned lies in the spool, and is stored when there is room. This thread waits for that, for the next training would come to the same end; it waits as long as a
 * training may take.
 */
static enum tg_run_end store_model(struct tg_run *run, const json_t *result, int64_t end_us, struct tg_err *err)
{
	int64_t until_us = (int64_t)tg_mono_us() + (int64_t)tg_runner_job_seconds(run->runner) * 1000000, pause_us = HOLD_US;
	struct tg_err why = { "" };
	for (bool passes; !keep_model(run, result, end_us, &passes, &why); pause_us = 2 * pause_us < HOLD_MOST_US ? 2 * pause_us : HOLD_MOST_US) {
		int64_t left_us = until_us - (int64_t)tg_mono_us();
		tg_log(TG_LOG_F_ERROR, "model.not_kept", "t:model", run->artifact_id, "s:why", why.text, NULL);
		if (!passes || left_us <= 0) {
			tg_err_set(err, TG_JOB_NOT_STORED ": %s.", why.text);
			return TG_RUN_FAILED;
		}
		if (!tg_run_hold(run, pause_us < left_us ? pause_us : left_us, "The model cannot be stored now; it is tried again."))
			return TG_RUN_STOPPED;
	}
	return TG_RUN_DONE;
}

static enum tg_run_end run(struct tg_run *run, struct tg_err *err)
{
	json_t *request = request_of(run), *result;
	enum tg_run_end end = tg_run_engine(run, "/train", request, &result, err);
	json_decref(request);
	if (end != TG_RUN_DONE)
		return end;
	int64_t end_us = (int64_t)tg_wall_us();
	end = store_model(run, result, end_us, err);
	if (end == TG_RUN_DONE) {
		json_t *data = artifact_of(run, result, end_us);
		char *text = json_dumps(data, JSON_COMPACT);
		tg_buf_cstr(&run->data, text ? text : "{}");
		free(text);
		json_decref(data);
		run->result = "Training completed successfully";
	}
	json_decref(result);
	return end;
}

static void undo(struct tg_run *run)
{
	struct tg_err err;
	(void)tg_model_store_delete(tg_runner_models(run->runner), run->artifact_id, &err);
}

/* by: who canceled it; NULL: nobody did. */
static void tell_failed(const char *job, const json_t *spec, bool credit, const char *error, const char *by)
{
	struct tg_slice rid = tg_slice_cstr(text_of(spec, "request_id"));
	char *config = json_dumps(credit ? json_object_get(spec, "training_config") : spec, JSON_COMPACT);
	const char *text = config ? config : "null";
	if (by)
		tg_audit_event(TG_AUDIT_training_failed, &rid, "s:error", error, "j:config", text, "t:job", job, "t:user", by, NULL);
	else
		tg_audit_event(TG_AUDIT_training_failed, &rid, "s:error", error, "j:config", text, "t:job", job, NULL);
	free(config);
}

void tg_train_canceled(const char *job, const char *kind, const char *spec, const char *by)
{
	bool credit = strcmp(kind, tg_job_credit_train.name) == 0;
	if (!credit && strcmp(kind, tg_job_train.name) != 0)
		return;
	json_t *o = json_loads(spec, JSON_REJECT_DUPLICATES, NULL);
	tell_failed(job, o, credit, "canceled", by);
	json_decref(o);
}

static void told(struct tg_run *run, const char *error)
{
	struct tg_slice rid = tg_slice_cstr(text_of(run->spec, "request_id"));
	if (error) {
		tell_failed(run->id, run->spec, credit(run), error, NULL);
	} else {
		char *metrics = json_dumps(json_object_get(run->note, "metrics"), JSON_COMPACT | JSON_ENCODE_ANY);
		double seconds = json_number_value(json_object_get(run->note, "seconds"));
		tg_audit_event(TG_AUDIT_model_persisted, &rid, "t:model_id", run->artifact_id, "t:path", text_of(run->note, "uri"), NULL);
		tg_audit_event(TG_AUDIT_training_completed, &rid, "t:model_id", run->artifact_id, "j:metrics", metrics ? metrics : "null", "d:duration", seconds, "d:duration_seconds", seconds, NULL);
		free(metrics);
	}
}

const struct tg_job_kind tg_job_train = { "train", false, run, undo, told };
const struct tg_job_kind tg_job_credit_train = { "credit_train", false, run, undo, told };
