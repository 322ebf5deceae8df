/*
 * $predict (document 003): a frame in the spool and a model of the store become an artifact below the model's. The spec: model (its artifact's id), config_id, rows, request_id. What the engine wrote is taken
 * as it is: the cells of the request are in it as they were sent (seed ledger S3-72).
 */
#include "audit/event.h"
#include "base/clock.h"
#include "jobs/kinds.h"
#include "store/artifacts.h"
#include "store/model_store.h"
#include <limits.h>

#define MIB 1048576u
_Static_assert(TG_ARTIFACT_DATA_MAX % MIB == 0, "it is said in MiB");

static void too_large(struct tg_err *err)
{
	tg_err_set(err, "The predictions are larger than an artifact may be, %u MiB: ask for fewer rows at a time.", TG_ARTIFACT_DATA_MAX / MIB);
}

static const char *text_of(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static enum tg_run_end find_model(struct tg_run *run, char digest[65], struct tg_err *err)
{
	char path[PATH_MAX];
	struct tg_err why = { "" };
	struct tg_buf metadata;
	tg_buf_init(&metadata, TG_MODEL_METADATA_MAX + 65536);
	enum tg_model_found found = tg_model_store_load(tg_runner_models(run->runner), run->parent, path, &metadata, &why);
	json_t *o = found == TG_MODEL_FOUND ? json_loadb(metadata.p, metadata.len, 0, NULL) : NULL;
	snprintf(digest, 65, "%s", text_of(o, "sha256"));
	json_decref(o);
	tg_buf_free(&metadata);
	if (found != TG_MODEL_FOUND)
		tg_log(TG_LOG_F_WARN, "model.not_loaded", "t:model", run->parent, "s:why", why.text, NULL);
	switch (found) {
	case TG_MODEL_FOUND: return TG_RUN_DONE;
	case TG_MODEL_NONE: tg_err_set(err, "The model's file is not there."); return TG_RUN_FAILED;
	case TG_MODEL_REFUSED: tg_err_set(err, "The model's file is not what was stored."); return TG_RUN_FAILED;
	case TG_MODEL_AWAY: break;
	}
	tg_err_set(err, "The model store could not be reached");
	return TG_RUN_REST;
}

/* {"ml_type":"prediction",...,"predictions":<what the engine wrote>} */
static bool put_data(struct tg_run *run, const json_t *result, struct tg_err *err)
{
	char path[PATH_MAX], started[21] = "", ended[21] = "";
	const char *file = text_of(result, "file");
	int64_t now_us = (int64_t)tg_wall_us();
	tg_rfc3339_s((uint64_t)run->started_us, started);
	tg_rfc3339_s((uint64_t)now_us, ended);
	tg_buf_lit(&run->data, "{\"ml_type\":\"prediction\",\"config_id\":");
	const char *config = json_string_value(json_object_get(run->spec, "config_id"));
	tg_buf_json_or_null(&run->data, tg_slice_cstr(config));
	tg_buf_fmt(&run->data, ",\"model_artifact_id\":\"%s\",\"started_at\":\"%s\",\"completed_at\":\"%s\",\"predictions\":", run->parent, started, ended);
	struct tg_err why = { "the engine named no file of this job" };
	if (!tg_spool_file(tg_runner_spool(run->runner), run->id, file, path, sizeof path) || !tg_spool_read(tg_runner_spool(run->runner), file, &run->data, &why)) {
		if (run->data.failed)
			too_large(err);
		tg_log(TG_LOG_F_ERROR, "job.no_result", "t:job", run->id, "s:why", why.text, NULL);
		return false;
	}
	while (run->data.len && (run->data.p[run->data.len - 1] == '\n' || run->data.p[run->data.len - 1] == ' '))
		run->data.len--;
	tg_buf_char(&run->data, '}');
	if (run->data.failed)
		too_large(err);
	return !run->data.failed;
}

static enum tg_run_end run(struct tg_run *run, struct tg_err *err)
{
	char digest[65], model[TG_ULID_LEN + sizeof TG_MODEL_EXT];
	run->parent = text_of(run->spec, "model");
	enum tg_run_end end = find_model(run, digest, err);
	if (end != TG_RUN_DONE)
		return end;
	snprintf(model, sizeof model, "%s" TG_MODEL_EXT, run->parent);
	json_t *result, *request = json_pack("{s:s, s:s, s:s, s:s, s:n, s:b}", "job", run->id, "model", model, "sha256", digest, "as", "frame", "threshold", "include_probabilities", 1);
	end = tg_run_engine(run, "/predict", request, &result, err);
	json_decref(request);
	if (end != TG_RUN_DONE)
		return end;
	tg_err_set(err, "The predictions could not be read.");
	if (!put_data(run, result, err))
		end = TG_RUN_FAILED;
	run->result = "Prediction completed successfully";
	run->note = result;
	return end;
}

static void told(struct tg_run *run, const char *error)
{
	struct tg_slice rid = tg_slice_cstr(text_of(run->spec, "request_id"));
	if (error)
		return;
	if (json_is_true(json_object_get(run->note, "loaded")))
		tg_audit_event(TG_AUDIT_model_loaded, &rid, "t:model_id", run->parent, NULL);
	tg_audit_event(TG_AUDIT_prediction_made, &rid, "t:model_id", run->parent, "u:n_samples", (uint64_t)json_integer_value(json_object_get(run->note, "rows")), "t:user", run->principal, NULL);
}

const struct tg_job_kind tg_job_predict = { "predict", true, run, NULL, told };
