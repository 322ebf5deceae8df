/*
 * POST /train (document 004; seed ledger S4-41, S4-61, S4-75, S4-76): the body goes to the engine as it comes, or a data set is read there; what can be judged by options and columns is judged at once; then it is
 * a durable job like $train's (jobs/train.c), whose end this request waits for. Whoever asks by `Prefer: respond-async` (RFC 7240, section 4.1), or for whom it takes too long, has the job to look at.
 *
 * A client that leaves before the job's row is there has asked for nothing; afterwards the training goes on without him.
 */
#include "api/credit_models.h"
#include "api/credit_task.h"
#include "api/jobs.h"
#include "api/stored.h"
#include "audit/event.h"
#include "gate/handlers.h"
#include "gate/job.h"
#include "jobs/wait.h"
#include "store/jobs.h"
#include "store/model_store.h"

#define WAIT_S 300u
#define KIND "credit_train"
#define JOBS "/api/v1/jobs/"
#define RESULT_MAX (16u << 20)

struct training {
	struct tg_credit_task t; /* first: callbacks cast */
	enum tg_upload_type type;
	bool async;              /* answered before its end, if that is not there in time */
	unsigned wait_s;
	char *query;             /* owned; of CSV and forms: the options in the query string */
	char artifact[TG_ULID_LEN + 1];
	json_t *config, *spec;   /* owned */
};

static void drop(struct tg_aside *a)
{
	struct training *p = (struct training *)a;
	json_decref(p->config);
	json_decref(p->spec);
	free(p->query);
	tg_credit_free(&p->t);
}

/* ---- on a thread of the pool ---- */

static bool faulty_or_memory(struct training *p)
{
	return tg_credit_ends(&p->t, p->t.fault.field[0] ? TG_CREDIT_FAULT : TG_CREDIT_MEMORY);
}

/* New reference, or NULL. */
static json_t *options_of(struct training *p)
{
	json_t *members = json_object_get(p->t.tree, "members");
	if (p->type == TG_UPLOAD_JSON)
		return json_incref(members);
	return tg_credit_form(&tg_credit_train_table, tg_slice_cstr(p->query), members, &p->t.fault);
}

static bool read_options(struct training *p)
{
	if (!tg_credit_tree(&p->t))
		return false;
	json_t *members = options_of(p);
	p->config = members ? tg_credit_read(&tg_credit_train_table, members, &p->t.fault) : NULL;
	json_decref(members);
	return p->config || faulty_or_memory(p);
}

/* The data set's columns in the place of the body's. */
static bool read_dataset(struct training *p, json_t *name)
{
	char path[64];
	uint16_t status;
	json_t *answer, *request = json_pack("{s:O}", "name", name);
	snprintf(path, sizeof path, "/dataset/%s", p->t.id);
	bool ok = request ? tg_credit_engine(&p->t, path, request, &status, &answer) : tg_credit_ends(&p->t, TG_CREDIT_MEMORY);
	json_decref(request);
	if (!ok)
		return false;
	if (status == 200) {
		json_decref(p->t.tree);
		p->t.tree = answer;
		return true;
	}
	if (status == 500) {
		ok = tg_credit_ends(&p->t, tg_spool_is_away(answer) ? TG_CREDIT_NO_SPOOL : TG_CREDIT_BROKEN);
		json_decref(answer);
		return ok;
	}
	const char *field = json_string_value(json_object_get(answer, "field")), *why = json_string_value(json_object_get(answer, "why"));
	char text[400];
	snprintf(text, sizeof text, "%s%s%s", field && strcmp(field, "dataset") != 0 ? field : "", field && strcmp(field, "dataset") != 0 && *field ? ": " : "", why ? why : "");
	ok = why ? tg_credit_faulty(&p->t, "dataset", text) : tg_credit_ends(&p->t, TG_CREDIT_BROKEN);
	json_decref(answer);
	return ok;
}

static bool find_data(struct training *p)
{
	json_t *dataset = json_object_get(p->config, "dataset");
	bool data = json_is_object(json_object_get(p->t.tree, "frame")), named = json_is_string(dataset);
	static const char *const both[] = { [TG_UPLOAD_JSON] = "cannot be given together with data", [TG_UPLOAD_CSV] = "cannot be given together with a body of CSV",
					    [TG_UPLOAD_FORM] = "cannot be given together with a file" };
	if (data && named)
		return tg_credit_faulty(&p->t, "dataset", both[p->type]);
	if (!data && !named)
		return tg_credit_faulty(&p->t, "data", "is required, or dataset");
	return data || (read_dataset(p, dataset) && (json_is_object(json_object_get(p->t.tree, "frame")) || tg_credit_ends(&p->t, TG_CREDIT_BROKEN)));
}

static bool make_spec(struct training *p)
{
	const json_t *frame = json_object_get(p->t.tree, "frame");
	p->spec = tg_credit_plan(p->config, frame, &p->t.fault);
	if (!p->spec)
		return faulty_or_memory(p);
	static const char *const ours[] = { "dataset", "task" }; /* not document 004's: told where they were asked for */
	for (size_t i = 0; i < sizeof ours / sizeof *ours; i++)
		if (json_is_null(json_object_get(p->config, ours[i])))
			json_object_del(p->config, ours[i]);
	bool ok = json_object_set(p->spec, "training_config", p->config) == 0 && json_object_set(p->spec, "rows", json_object_get(frame, "rows")) == 0 &&
		  json_object_set(p->spec, "hash", json_object_get(p->t.tree, "hash")) == 0 && json_object_set_new(p->spec, "request_id", json_string(p->t.rid)) == 0;
	return ok || tg_credit_ends(&p->t, TG_CREDIT_MEMORY);
}

struct insertion {
	struct tg_job_row *row;
	struct tg_buf *out;
	uint64_t key_most;
	enum tg_job_room room;
	bool found;
};

static bool put_row(void *ctx, const struct tg_job_row *row)
{
	tg_put_job(((struct insertion *)ctx)->out, row);
	return false;
}

static enum tg_db_result insert(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct insertion *i = ctx;
	enum tg_db_result r = tg_job_rows_insert(db, i->row, i->key_most, &i->room, err);
	i->out->len = 0;
	return r == TG_DB_OK && i->room == TG_JOB_ROOM ? tg_job_rows_get(db, i->row->id, put_row, i, &i->found, err) : r;
}

static bool submit(struct training *p)
{
	struct tg_credit_task *t = &p->t;
	char place[TG_SPOOL_PLACE], *spec = json_dumps(p->spec, JSON_COMPACT);
	if (!spec)
		return tg_credit_ends(t, TG_CREDIT_MEMORY);
	t->r = TG_DB_AWAY;
	int64_t now = (int64_t)tg_wall_us();
	struct tg_job_row row = { .id = t->id, .kind = KIND, .status = TG_JOB_PENDING, .message = "", .spec = spec, .artifact_id = p->artifact, .principal = t->principal, .key_prefix = t->prefix,
				  .place = place, .created_us = now, .updated_us = now };
	struct insertion i = { .row = &row, .out = &t->out, .key_most = t->config->config->ml_key_jobs };
	if (tg_runner_place(t->gate->runner, place, &t->err) && !tg_aside_over(&t->aside))
		t->r = tg_store_record(t->gate->store, insert, &i, &t->err);
	free(spec);
	if (t->r != TG_DB_OK)
		return tg_credit_ends(t, TG_CREDIT_STORE);
	return i.room == TG_JOB_ROOM || tg_credit_ends(t, i.room == TG_JOB_FULL ? TG_CREDIT_FULL : TG_CREDIT_KEY_FULL);
}

static void tell(struct training *p)
{
	struct tg_slice rid = tg_slice_cstr(p->t.rid);
	char *config = json_dumps(p->config, JSON_COMPACT);
	tg_credit_tell(&p->t, false, (uint64_t)json_integer_value(json_object_get(p->spec, "rows")), p->artifact);
	tg_audit_event(TG_AUDIT_training_started, &rid, "j:config", config ? config : "null", "t:dataset_hash", json_string_value(json_object_get(p->spec, "hash")), "t:user", p->t.principal, NULL);
	free(config);
}

static void run(struct tg_aside *a)
{
	struct training *p = (struct training *)a;
	if (read_options(p) && find_data(p) && make_spec(p) && submit(p)) {
		p->t.end = TG_CREDIT_DONE;
		tell(p);
		tg_runner_kick(p->t.gate->runner, KIND);
		tg_audit_flush(); /* what the runner tells comes behind it in any case */
	} else {
		tg_spool_forget(tg_runner_spool(p->t.gate->runner), p->t.id);
	}
	p->t.settled = true;
}

/* ---- the end of the job ---- */

struct outcome {
	struct tg_job job; /* first: callbacks cast */
	char id[TG_ULID_LEN + 1], artifact[TG_ULID_LEN + 1], error[512];
	enum tg_job_status status;
	enum tg_db_result r;
	enum tg_model_found model;
	struct tg_err err;
	bool found;
	unsigned left_ms; /* that it may still be waited for; 0: not any longer */
	struct tg_buf out;
};

static void outcome_free(struct tg_job *j)
{
	struct outcome *o = (struct outcome *)j;
	tg_buf_free(&o->out);
	free(o);
}

static bool job_row(void *ctx, const struct tg_job_row *row)
{
	struct outcome *o = ctx;
	o->status = row->status;
	snprintf(o->error, sizeof o->error, "%s", row->error ? row->error : "");
	snprintf(o->artifact, sizeof o->artifact, "%s", row->artifact_id ? row->artifact_id : "");
	o->out.len = 0;
	tg_put_job(&o->out, row);
	return false;
}

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct outcome *o = ctx;
	return tg_job_rows_get(db, o->id, job_row, o, &o->found, err);
}

static void put_result(struct outcome *o)
{
	struct tg_buf metadata;
	tg_buf_init(&metadata, TG_MODEL_METADATA_MAX + 65536);
	o->model = tg_model_store_metadata(o->job.gate->model_store, o->artifact, &metadata, &o->err);
	json_t *meta = o->model == TG_MODEL_FOUND ? json_loadb(metadata.p, metadata.len, 0, NULL) : NULL, *all = meta ? tg_credit_results(o->artifact, meta) : NULL;
	char *text = all ? json_dumps(all, JSON_COMPACT) : NULL;
	o->out.len = 0;
	if (text)
		tg_buf_cstr(&o->out, text);
	free(text);
	json_decref(all);
	json_decref(meta);
	tg_buf_free(&metadata);
}

static void look_up(struct tg_job *j)
{
	struct outcome *o = (struct outcome *)j;
	o->r = tg_store_read(j->gate->store, look, o, &o->err);
	if (o->r == TG_DB_OK && o->found && o->status == TG_JOB_COMPLETED)
		put_result(o);
}

static enum tg_step later(struct tg_exchange *x, const char *id, struct tg_slice job, bool asked)
{
	char extra[128];
	snprintf(extra, sizeof extra, "Location: " JOBS "%s\r\n%s", id, asked ? "Preference-Applied: respond-async\r\n" : "");
	return tg_answer(x, 202, "application/json", job, extra);
}

static enum tg_step failed(struct tg_exchange *x, const char *why)
{
	char text[600];
	if (strncmp(why, TG_JOB_NOT_STORED, sizeof TG_JOB_NOT_STORED - 1) == 0)
		return tg_answer_problem(x, TG_E_unavailable, "models_away", why, NULL, "Retry-After: 30\r\n");
	snprintf(text, sizeof text, "Training failed: %s", why);
	return tg_answer_problem(x, TG_E_training_failed, "training_failed", text, NULL, NULL);
}

static enum tg_step ended(struct tg_exchange *x, const char *id, unsigned left_ms);

static enum tg_step outcome(struct tg_job *j, struct tg_exchange *x)
{
	struct outcome *o = (struct outcome *)j;
	if (o->r != TG_DB_OK)
		return tg_stored_fault(x, o->r, &o->err);
	if (!o->found || o->status == TG_JOB_CANCELED)
		return failed(x, "The job was canceled.");
	if (o->status == TG_JOB_FAILED)
		return failed(x, o->error);
	if (o->status != TG_JOB_COMPLETED && o->left_ms)
		return tg_job_wait(x, tg_runner_waits(j->gate->runner), o->id, o->left_ms, ended);
	if (o->status != TG_JOB_COMPLETED)
		return later(x, o->id, tg_buf_view(&o->out), false);
	if (o->out.len && !o->out.failed)
		return tg_answer_counted(x, 200, "application/json", tg_buf_view(&o->out), NULL);
	if (o->model == TG_MODEL_NONE)
		return failed(x, "The model was deleted meanwhile.");
	tg_log(TG_LOG_F_WARN, "models.away", "t:model_id", o->artifact, "s:why", o->err.text, NULL);
	return tg_answer_problem(x, TG_E_unavailable, "models_away", "The models' store cannot be reached now; the model is trained: see GET /models/.", NULL, "Retry-After: 5\r\n");
}

static enum tg_step ended(struct tg_exchange *x, const char *id, unsigned left_ms)
{
	struct outcome *o = calloc(1, sizeof *o);
	if (!o)
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; the training goes on: see GET " JOBS ".", NULL, "Retry-After: 1\r\n");
	o->job.run = look_up;
	o->job.answer = outcome;
	o->job.free = outcome_free;
	o->job.away = tg_model_store_remote(x->gl->gate->model_store);
	o->left_ms = left_ms;
	snprintf(o->id, sizeof o->id, "%s", id);
	tg_buf_init(&o->out, RESULT_MAX);
	return tg_job_start(x, &o->job);
}

/* ---- the request ---- */

static enum tg_step answer(struct tg_aside *a, struct tg_exchange *x)
{
	struct training *p = (struct training *)a;
	if (p->t.end != TG_CREDIT_DONE)
		return tg_credit_hindered(&p->t, x);
	if (p->async && !p->wait_s)
		return later(x, p->t.id, tg_buf_view(&p->t.out), true);
	return tg_job_wait(x, tg_runner_waits(p->t.gate->runner), p->t.id, p->wait_s * 1000, ended);
}

/* RFC 7240: "Prefer: respond-async, wait=10". Without respond-async `wait` has no meaning here. */
static void read_prefer(struct training *p, const struct tg_head *h)
{
	uint64_t wait = 0;
	for (unsigned i = 0; i < h->nheaders; i++) {
		struct tg_slice v = h->headers[i].value;
		if (!tg_slice_eq_nocase(h->headers[i].name, TG_S("prefer")))
			continue;
		while (v.n) {
			const char *comma = memchr(v.p, ',', v.n);
			struct tg_slice one = { v.p, comma ? (size_t)(comma - v.p) : v.n };
			const char *semicolon = memchr(one.p, ';', one.n);
			v = comma ? (struct tg_slice){ comma + 1, v.n - one.n - 1 } : (struct tg_slice){ 0 };
			one = tg_slice_trim((struct tg_slice){ one.p, semicolon ? (size_t)(semicolon - one.p) : one.n });
			if (tg_slice_eq_nocase(one, TG_S("respond-async")))
				p->async = true;
			else if (one.n > 5 && tg_slice_eq_nocase((struct tg_slice){ one.p, 5 }, TG_S("wait=")) && tg_json_u64((struct tg_slice){ one.p + 5, one.n - 5 }, UINT32_MAX, &wait))
				wait = wait < WAIT_S ? wait : WAIT_S;
		}
	}
	p->wait_s = p->async ? (unsigned)wait : WAIT_S;
}

static enum tg_step taken(struct tg_exchange *x, const struct tg_upload_conf *conf, struct tg_slice body)
{
	enum tg_step answered;
	(void)body;
	struct training *p = (struct training *)tg_credit_new(x, conf, sizeof *p, &answered);
	if (!p)
		return answered;
	p->type = conf->type;
	read_prefer(p, x->head);
	tg_ulid_monotonic(tg_wall_us(), p->artifact);
	p->t.aside.run = run;
	p->t.aside.answer = answer;
	p->t.aside.free = drop;
	if (p->type != TG_UPLOAD_JSON && !(p->query = tg_slice_dup(x->head->query))) {
		drop(&p->t.aside);
		return tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
	}
	return tg_aside_start(x, x->gl->gate->train_asides, &p->t.aside);
}

/* Before a body of any size is taken in. */
static enum tg_step check_query(struct tg_exchange *x)
{
	struct tg_fields_fault fault;
	json_t *members = tg_credit_query(&tg_credit_train_table, x->head->query, &fault), *config = members ? tg_credit_read(&tg_credit_train_table, members, &fault) : NULL;
	bool ok = config != NULL;
	json_decref(members);
	json_decref(config);
	if (ok)
		return TG_NEXT;
	return fault.field[0] ? tg_field_fault(x, fault.field, fault.why) : tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
}

/* What would not be looked at is refused: an option that has no effect is a training of something else. */
static enum tg_step no_query(struct tg_exchange *x)
{
	struct tg_slice q = x->head->query, name;
	char field[64];
	while (q.n && *q.p == '&')
		q = (struct tg_slice){ q.p + 1, q.n - 1 };
	if (!q.n)
		return TG_NEXT;
	name = (struct tg_slice){ q.p, 0 };
	while (name.n < q.n && name.n < sizeof field - 1 && q.p[name.n] != '=' && q.p[name.n] != '&')
		name.n++;
	snprintf(field, sizeof field, TG_SLICE_FMT, TG_SLICE_ARG(name.n ? name : TG_S("\"\"")));
	return tg_field_fault(x, field, "stands in the query string: with a JSON body options are its members; in the query string they are those of CSV and forms");
}

enum tg_step tg_api_credit_train(struct tg_exchange *x)
{
	static const struct {
		const char *name, *kind;
		enum tg_upload_type type;
	} types[] = { { "application/json", "credit-train", TG_UPLOAD_JSON }, { "text/csv", "csv", TG_UPLOAD_CSV }, { "multipart/form-data", "form", TG_UPLOAD_FORM } };
	enum { TYPES = sizeof types / sizeof types[0] };
	unsigned i = 0;
	while (i < TYPES && !tg_receive_is_type(x->head, tg_slice_cstr(types[i].name)))
		i++;
	if (i == TYPES)
		return tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json, text/csv or multipart/form-data.", NULL, NULL);
	enum tg_step r = types[i].type == TG_UPLOAD_JSON ? no_query(x) : check_query(x);
	return r == TG_NEXT ? tg_ml_start(x, types[i].kind, types[i].type, taken) : r;
}
