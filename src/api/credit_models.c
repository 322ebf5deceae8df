/*
 * Trained models as document 004's service shows them: GET /models/, /models/{id}, /models/{id}/results, POST /models/{id}/persist. All of it comes out of the metadata that was saved with the model; the
 * model's own file is read by none of these. Which models answer for inference is another list (api/models.c: /models without the slash, of document 000).
 */
#include "api/credit_models.h"
#include "api/stored.h"
#include "audit/event.h"
#include "gate/handlers.h"
#include "store/model_store.h"

#define PATH "/models/"
#define LIST_MS 10000u /* a list of a slow bucket ends there, and says where it goes on */
#define OUT_MAX (16u << 20)
#define MOST_DEFAULT 100

enum what { LIST, ONE, RESULTS, PERSIST };

struct models_job {
	struct tg_job job; /* first: callbacks cast */
	enum what what;
	struct tg_model_store *store;
	enum tg_model_found r;
	struct tg_err err;
	char id[TG_MODEL_ID_MAX + 1], after[TG_MODEL_ID_MAX + 1], rid[129];
	unsigned most;
	bool further;          /* there are more than `most` */
	struct tg_buf ids, out;
};

static void models_free(struct tg_job *j)
{
	struct models_job *m = (struct models_job *)j;
	tg_buf_free(&m->ids);
	tg_buf_free(&m->out);
	free(m);
}

/* ---- on the job pool ---- */

/* What document 004 calls a thing, and the names under which the metadata may have it: the first that is there and not null. */
struct says {
	const char *as;
	const char *names[4];
};

static json_t *first_of(const json_t *o, const char *const names[4])
{
	json_t *j = NULL;
	for (unsigned i = 0; i < 4 && names[i] && (!j || json_is_null(j)); i++)
		j = json_object_get(o, names[i]);
	return j;
}

/* Members of o as `rows` name them; those that are not there are null. False: no memory. */
static bool put_members(json_t *to, const json_t *o, const struct says *rows, size_t n)
{
	bool ok = true;
	for (size_t i = 0; i < n; i++) {
		json_t *j = first_of(o, rows[i].names);
		ok = json_object_set_new(to, rows[i].as, j ? json_incref(j) : json_null()) == 0 && ok;
	}
	return ok;
}
#define PUT(to, o, rows) put_members(to, o, rows, sizeof(rows) / sizeof *(rows))

static const struct says type_row[] = { { "model_type", { "method", "model_type" } } };
static const struct says created_row[] = { { "created_at", { "created_at", "trained_at", "completed_at", "saved_at" } } };

static json_t *row_of(const char *id, json_t *meta)
{
	static const struct says threshold[] = { { "threshold", { "optimal_threshold", "threshold" } } }, metrics[] = { { "roc_auc", { "roc_auc" } }, { "accuracy", { "accuracy" } } };
	json_t *report = json_object_get(meta, "report"), *row = json_object(), *from = json_is_number(json_object_get(report, "optimal_threshold")) ? report : json_object_get(meta, "about");
	bool ok = json_object_set_new(row, "model_id", json_string(id)) == 0 && PUT(row, meta, type_row) && PUT(row, from, threshold) && PUT(row, json_object_get(report, "metrics"), metrics) &&
		  PUT(row, meta, created_row);
	if (ok)
		return row;
	json_decref(row);
	return NULL;
}

/* What /train answered, from what was kept of it. */
json_t *tg_credit_results(const char *id, json_t *meta)
{
	static const struct says asked[] = { { "model_type", { "method", "model_type" } }, { "test_size", { "test_size" } }, { "random_state", { "random_state", "seed" } }, { "undersample", { "undersample" } },
					     { "cv_folds", { "cv_folds" } }, { "selected_features", { "selected_features", "features" } }, { "target", { "target" } } };
	static const struct says told_always[] = { { "metrics", { "metrics" } }, { "optimal_threshold", { "optimal_threshold" } }, { "feature_importance", { "feature_importance" } } };
	static const struct says of_model[] = { { "classes", { "classes" } } };
	static const struct says seconds[] = { { "training_time_seconds", { "training_time_seconds", "duration_seconds", "seconds" } } };
	json_t *report = json_object_get(meta, "report"), *config = json_object_get(meta, "training_config"), *plan = json_object_get(meta, "plan"), *all = json_object(), *told = NULL;
	bool ok = PUT(all, report, told_always) &&
		  (!json_is_object(report) || json_object_update(all, report) == 0) && json_object_set_new(all, "model_id", json_string(id)) == 0 && PUT(all, meta, type_row) && PUT(all, meta, seconds) &&
		  PUT(all, meta, created_row) && PUT(all, json_object_get(meta, "about"), of_model);
	if (ok && json_is_object(config)) {
		ok = json_object_set(all, "training_config", config) == 0;
	} else if (ok) {
		told = json_object();
		ok = PUT(told, json_is_object(plan) ? plan : meta, asked) && json_object_set(all, "training_config", told) == 0;
	}
	json_decref(told);
	if (ok)
		return all;
	json_decref(all);
	return NULL;
}

static bool put_model(struct models_job *m, const char *id, struct tg_slice text)
{
	json_t *meta = json_loadb(text.p, text.n, JSON_REJECT_DUPLICATES, NULL), *shown = m->what == RESULTS ? tg_credit_results(id, meta) : row_of(id, meta);
	char *s = shown ? json_dumps(shown, JSON_COMPACT) : NULL;
	if (s)
		tg_buf_cstr(&m->out, s);
	free(s);
	json_decref(shown);
	json_decref(meta);
	return s && !m->out.failed;
}

static bool one_id(void *ctx, const char *id)
{
	struct models_job *m = ctx;
	char row[TG_MODEL_ID_MAX + 1] = "";
	if (strcmp(id, m->after) <= 0)
		return true;
	m->further = m->ids.len / sizeof row >= m->most;
	if (!m->further) {
		snprintf(row, sizeof row, "%s", id);
		tg_buf_put(&m->ids, row, sizeof row);
	}
	return !m->further && !m->ids.failed;
}

/* A model whose metadata cannot be taken is no reason to show none of the others: it is left out, and logged. */
static void list(struct models_job *m)
{
	uint64_t until = tg_mono_us() / 1000 + LIST_MS;
	unsigned n = 0;
	struct tg_buf meta;
	tg_buf_init(&meta, TG_MODEL_METADATA_MAX);
	m->r = tg_model_store_list(m->store, one_id, m, &m->err);
	tg_buf_char(&m->out, '[');
	for (size_t i = 0; m->r == TG_MODEL_FOUND && i < m->ids.len; i += TG_MODEL_ID_MAX + 1) {
		const char *id = m->ids.p + i;
		if (n && tg_mono_us() / 1000 > until) {
			m->further = true;
			break;
		}
		meta.len = 0;
		enum tg_model_found r = tg_model_store_metadata(m->store, id, &meta, &m->err);
		if (r == TG_MODEL_AWAY)
			m->r = r;
		snprintf(m->after, sizeof m->after, "%s", id);
		if (r == TG_MODEL_REFUSED)
			tg_log(TG_LOG_F_WARN, "model.refused", "t:model_id", id, "s:why", m->err.text, NULL);
		if (r != TG_MODEL_FOUND)
			continue;
		if (n++)
			tg_buf_char(&m->out, ',');
		if (!put_model(m, id, tg_buf_view(&meta))) {
			m->out.failed = true;
			break;
		}
	}
	tg_buf_char(&m->out, ']');
	tg_buf_free(&meta);
}

static void one(struct models_job *m)
{
	struct tg_buf meta;
	tg_buf_init(&meta, TG_MODEL_METADATA_MAX);
	m->r = tg_model_store_metadata(m->store, m->id, &meta, &m->err);
	if (m->r == TG_MODEL_FOUND && !put_model(m, m->id, tg_buf_view(&meta)))
		m->out.failed = true;
	tg_buf_free(&meta);
}

static void persist(struct models_job *m)
{
	char uri[PATH_MAX];
	m->r = tg_model_store_persist(m->store, m->id, uri, &m->err);
	if (m->r != TG_MODEL_FOUND)
		return;
	struct tg_slice rid = tg_slice_cstr(m->rid);
	tg_audit_event(TG_AUDIT_model_persisted, &rid, "t:model_id", m->id, "t:path", uri, NULL);
	tg_audit_flush();
	tg_buf_lit(&m->out, "{\"model_id\":");
	tg_buf_json(&m->out, tg_slice_cstr(m->id));
	tg_buf_lit(&m->out, ",\"path\":");
	tg_buf_json(&m->out, tg_slice_cstr(uri));
	tg_buf_lit(&m->out, ",\"instructions\":");
	tg_buf_cstr(&m->out, tg_model_store_remote(m->store) ? "\"The model and its metadata (.json) are in the bucket: every gate with that [artifacts] url predicts with it by its model_id. Nothing else is to be done.\"}"
							     : "\"The model is on disk with its metadata (.json) beside it, and is there after a restart: predict with its model_id. To move it, copy both files.\"}");
}

static void run(struct tg_job *j)
{
	struct models_job *m = (struct models_job *)j;
	if (m->what == LIST)
		list(m);
	else if (m->what == PERSIST)
		persist(m);
	else
		one(m);
}

/* ---- on the loop ---- */

static enum tg_step none(struct tg_exchange *x, const char *id)
{
	char text[TG_MODEL_ID_MAX + 32];
	snprintf(text, sizeof text, id ? "Model not found: %s" : "There is no such model.", id);
	return tg_answer_problem(x, TG_E_model_not_found, "model_not_found", text, "model_id", NULL);
}

static enum tg_step away(struct tg_exchange *x, const char *why)
{
	tg_log(TG_LOG_F_ERROR, "models.away", "s:why", why, NULL);
	return tg_answer_problem(x, TG_E_unavailable, "models_away", "The models' store cannot be reached now; try again.", NULL, "Retry-After: 5\r\n");
}

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct models_job *m = (struct models_job *)j;
	char more[TG_MODEL_ID_MAX + 64] = "";
	if (m->r == TG_MODEL_NONE)
		return none(x, m->id);
	if (m->r == TG_MODEL_REFUSED) {
		tg_log(TG_LOG_F_WARN, "model.refused", "t:model_id", m->id, "s:why", m->err.text, NULL);
		return tg_answer_problem(x, TG_E_conflict, "model_refused", "The model's files are not what was saved; it is not used.", "model_id", NULL);
	}
	if (m->r == TG_MODEL_AWAY)
		return away(x, m->err.text);
	if (m->out.failed)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	if (m->further)
		snprintf(more, sizeof more, "Link: <" PATH "?after=%s&limit=%u>; rel=\"next\"\r\n", m->after, m->most);
	return tg_answer(x, 200, "application/json", tg_buf_view(&m->out), more);
}

static struct models_job *job_new(struct tg_exchange *x, enum what what, enum tg_step *answered)
{
	struct tg_model_store *store = x->gl->gate->model_store;
	struct models_job *m = store ? calloc(1, sizeof *m) : NULL;
	if (!m) {
		*answered = away(x, store ? "no memory" : "there is none ([ml] engine, [artifacts] url)");
		return NULL;
	}
	m->job.run = run;
	m->job.answer = answer;
	m->job.free = models_free;
	m->job.away = true; /* a folder may be on another machine too, and what is read there large */
	m->what = what;
	m->store = store;
	struct tg_slice rid = tg_exchange_rid(x);
	snprintf(m->rid, sizeof m->rid, "%.*s", (int)rid.n, rid.p);
	tg_buf_init(&m->ids, TG_PAGE_MAX * sizeof m->id);
	tg_buf_init(&m->out, OUT_MAX);
	return m;
}

static enum tg_step on_one(struct tg_exchange *x, enum what what)
{
	enum tg_step answered;
	struct tg_slice id = tg_path_segment(x, sizeof PATH - 1);
	if (!tg_model_id_ok(id))
		return none(x, NULL);
	struct models_job *m = job_new(x, what, &answered);
	if (!m)
		return answered;
	memcpy(m->id, id.p, id.n);
	return tg_job_start(x, &m->job);
}

enum tg_step tg_api_credit_models(struct tg_exchange *x)
{
	enum tg_step answered;
	uint64_t most = MOST_DEFAULT;
	char number[8], after[TG_MODEL_ID_MAX + 1] = "";
	long n = tg_query_get(x->head->query, "after", after, sizeof after);
	if (n == -2 || (n > 0 && !tg_model_id_ok((struct tg_slice){ after, (size_t)n })))
		return tg_answer_problem(x, TG_E_bad_field, "bad_body", "Validation error on after: must be a model_id of this list", "after", NULL);
	n = tg_query_get(x->head->query, "limit", number, sizeof number);
	if (n != -1 && (n <= 0 || !tg_json_u64((struct tg_slice){ number, (size_t)n }, TG_PAGE_MAX, &most) || !most))
		return tg_answer_problem(x, TG_E_bad_field, "bad_body", "Validation error on limit: must be a whole number from 1 to 1000", "limit", NULL);
	struct models_job *m = job_new(x, LIST, &answered);
	if (!m)
		return answered;
	m->most = (unsigned)most;
	memcpy(m->after, after, sizeof after);
	return tg_job_start(x, &m->job);
}

enum tg_step tg_api_credit_model(struct tg_exchange *x)
{
	return on_one(x, ONE);
}

enum tg_step tg_api_credit_results(struct tg_exchange *x)
{
	return on_one(x, RESULTS);
}

enum tg_step tg_api_credit_persist(struct tg_exchange *x)
{
	return on_one(x, PERSIST);
}
