/*
 * /api/v1/artifacts (document 003; seed ledger S3-46 to S3-50, S3-83): results in trees. A trained model is a root, a prediction lies below it.
 *
 * One artifact has an ETag, which is a digest of the answer itself: whatever changes of it, also by what happens to its parent, changes the tag.
 */
#include "api/artifacts.h"
#include "api/configs.h"
#include "api/entity.h"
#include "gate/handlers.h"
#include "store/jobs.h"
#include "store/model_store.h"
#include <openssl/evp.h>
#include <sodium.h>

#define PATH "/api/v1/artifacts/"
#define HIERARCHY "ml"
#define TREE_NODES 10000 /* of one answer */
#define TAG_BYTES 16

struct artifact_record {
	struct tg_entity r; /* first: callbacks cast */
	struct tg_slice data;
	char parent[TG_ULID_LEN + 1]; /* "": none */
	bool parent_ok, linked, large;
	unsigned level;
	bool model, stays;            /* it has files; they cannot be removed now */
	bool named, promised;         /* the body has its id; a job that has not ended makes that one */
	struct tg_db *db;             /* while a tree is read */
	unsigned nodes;
	char tag[2 * TAG_BYTES + 3];  /* with its quotes */
};

static void put_members(struct tg_buf *b, const struct tg_artifact_row *a)
{
	tg_buf_lit(b, "{\"id\":\"");
	tg_buf_cstr(b, a->id);
	tg_buf_lit(b, "\",\"parent_id\":");
	tg_buf_json_or_null(b, tg_slice_cstr(a->parent_id));
	tg_buf_lit(b, ",\"level\":");
	tg_buf_u64(b, a->level);
	tg_buf_lit(b, ",\"data\":");
	tg_buf_put(b, a->data, a->data_len);
	tg_put_times_us(b, a->created_us, a->updated_us);
}

void tg_put_artifact(struct tg_buf *b, const struct tg_artifact_row *a)
{
	put_members(b, a);
	tg_buf_char(b, '}');
}

/* ---- on the job pool ---- */

static void read_artifact(struct tg_entity *r)
{
	static const char *const names[] = { "id", "parent_id", "data", "level", "created_at", "updated_at" };
	struct artifact_record *a = (struct artifact_record *)r;
	struct tg_json_want w[3];
	bool given;
	if (!tg_entity_members(r, names, 6, 3, w) || !tg_entity_ulid(r, &w[0], &given, r->id))
		return;
	a->named = given;
	if (!given)
		tg_ulid_monotonic((uint64_t)r->now_us, r->id);
	if (!tg_entity_ulid(r, &w[1], &given, a->parent))
		return;
	a->data = tg_entity_value(r, &w[2]);
	if (w[2].type == TG_JSON_NONE)
		tg_entity_fault(r, "data", "is required");
	else if (w[2].type == TG_JSON_NULL)
		tg_entity_fault(r, "data", "must not be null");
}

static enum tg_db_result put(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct artifact_record *a = ctx;
	struct tg_artifact_row row = { .id = a->r.id, .parent_id = a->parent[0] ? a->parent : NULL, .data = a->data.p, .data_len = a->data.n, .created_us = a->r.now_us, .updated_us = a->r.now_us };
	/* An id that was promised to a job is that job's: what stood there meanwhile would pass for its model, and go when it ends. */
	enum tg_db_result rc = a->named ? tg_job_rows_making(db, row.id, &a->promised, err) : TG_DB_OK;
	if (rc != TG_DB_OK || a->promised)
		return rc;
	rc = tg_artifacts_put(db, &row, &a->r.created, &a->parent_ok, err);
	if (rc == TG_DB_OK && a->parent_ok)
		tg_put_artifact(&a->r.out, &row);
	return rc;
}

static bool item(void *ctx, const struct tg_artifact_row *row)
{
	struct tg_entity *r = ctx;
	tg_entity_comma(r);
	tg_put_artifact(&r->out, row);
	return !r->out.failed;
}

static enum tg_db_result list(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	enum tg_db_result rc = r->page.asked ? tg_artifacts_count(db, &r->total, err) : TG_DB_OK;
	tg_paging_begin(&r->out, &r->page);
	if (rc == TG_DB_OK)
		rc = tg_artifacts_list(db, tg_paging_skip(&r->page), tg_paging_most(&r->page), item, r, err);
	tg_paging_end(&r->out, &r->page, r->total);
	return rc;
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	return tg_artifacts_get(db, r->id, item, r, &r->found, err);
}

/* Outside of the database: the digest of 32 MiB takes its time. */
static void make_tag(struct tg_entity *r)
{
	struct artifact_record *a = (struct artifact_record *)r;
	unsigned char md[EVP_MAX_MD_SIZE];
	char hex[2 * TAG_BYTES + 1];
	if (r->found && !r->out.failed && EVP_Digest(r->out.p, r->out.len, md, NULL, EVP_sha256(), NULL) == 1)
		snprintf(a->tag, sizeof a->tag, "\"%s\"", sodium_bin2hex(hex, sizeof hex, md, TAG_BYTES));
}

static bool level_of(void *ctx, const struct tg_artifact_row *row)
{
	((struct artifact_record *)ctx)->level = row->level;
	return false;
}

/* A model's files go too, and no earlier than its row has: they are marked before, so that a gate that ends in between leaves none that nobody finds. A model that is alone, as after a restore of the database,
 * goes as well: there is no other way to be rid of it. */
static enum tg_db_result delete(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct artifact_record *a = ctx;
	struct tg_model_store *models = a->r.job.gate->model_store;
	struct tg_err why;
	enum tg_db_result rc = tg_artifacts_get(db, a->r.id, level_of, a, &a->r.found, err);
	bool alone = rc == TG_DB_OK && !a->r.found && models;
	if (alone)
		rc = tg_job_rows_making(db, a->r.id, &a->promised, err);
	if (rc != TG_DB_OK || a->promised || (!a->r.found && !alone))
		return rc;
	a->stays = models && !tg_model_store_leaves(models, a->r.id, a->r.found && a->level == 0, &a->model, &why);
	if (a->stays)
		tg_log(TG_LOG_F_ERROR, "models.away", "s:why", why.text, NULL);
	if (a->stays)
		return TG_DB_OK;
	if (!alone)
		return tg_artifacts_delete(db, a->r.id, &a->r.found, err);
	a->r.found = a->model;
	return TG_DB_OK;
}

static void delete_model(struct tg_entity *r)
{
	const struct artifact_record *a = (const struct artifact_record *)r;
	if (!r->found || a->stays)
		return;
	tg_entity_log(r, "record.deleted");
	if (a->model)
		tg_model_store_gone(r->job.gate->model_store, r->id);
}

/* ---- trees ---- */

/* The origin's word for a level: what lies on it. */
static void put_level(struct tg_buf *b, unsigned level)
{
	if (level == 0)
		tg_buf_lit(b, ",\"level_label\":\"trained_model\"");
	else if (level == 1)
		tg_buf_lit(b, ",\"level_label\":\"prediction\"");
	else
		tg_buf_fmt(b, ",\"level_label\":\"level_%u\"", level);
	tg_buf_lit(b, ",\"hierarchy\":\"" HIERARCHY "\"");
}

static bool node(void *ctx, const struct tg_artifact_row *row)
{
	struct tg_entity *r = ctx;
	put_members(&r->out, row);
	put_level(&r->out, row->level);
	return !r->out.failed;
}

/* The ids first: a statement cannot be run again while its rows are being read. */
struct ids {
	char (*v)[TG_ULID_LEN + 1];
	unsigned n, most;
	bool failed;
};

static bool id_of(void *ctx, const char *id)
{
	struct ids *l = ctx;
	if (l->n == l->most)
		return !(l->failed = true);
	if ((l->n & (l->n - 1)) == 0) { /* a power of two, or none yet: full */
		void *grown = realloc(l->v, (l->n ? 2 * (size_t)l->n : 1) * sizeof *l->v);
		if (!grown)
			return !(l->failed = true);
		l->v = grown;
	}
	snprintf(l->v[l->n++], sizeof *l->v, "%s", id);
	return true;
}

/* A node and what is below it; its depth is that of levels, TG_ARTIFACT_LEVEL_MAX at most. */
static enum tg_db_result put_tree(struct artifact_record *a, const char *id, unsigned depth, bool *found, struct tg_err *err)
{
	struct ids below = { .most = TREE_NODES - a->nodes };
	struct tg_buf *b = &a->r.out;
	enum tg_db_result rc = tg_artifacts_get(a->db, id, node, &a->r, found, err);
	if (rc != TG_DB_OK || !*found || b->failed)
		return rc;
	rc = tg_artifacts_children_ids(a->db, id, id_of, &below, err);
	a->nodes += below.n;
	if (below.failed || depth > TG_ARTIFACT_LEVEL_MAX)
		a->large = true;
	tg_buf_lit(b, ",\"children\":[");
	for (unsigned i = 0, written = 0; rc == TG_DB_OK && i < below.n && !a->large && !b->failed; i++) {
		bool there;
		size_t was = b->len;
		if (written)
			tg_buf_char(b, ',');
		rc = put_tree(a, below.v[i], depth + 1, &there, err);
		if (there)
			written++;
		else
			b->len = was; /* another process has deleted it meanwhile */
	}
	tg_buf_lit(b, "]}");
	free(below.v);
	return rc;
}

static enum tg_db_result tree(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct artifact_record *a = ctx;
	a->db = db;
	return put_tree(a, a->r.id, 0, &a->r.found, err);
}

static bool config_item(void *ctx, const struct tg_config_row *row)
{
	struct tg_entity *r = ctx;
	tg_put_config(&r->out, row);
	return true;
}

/* What it came of, where that is known and still there. */
static enum tg_db_result config_of(struct tg_db *db, struct artifact_record *a, struct tg_err *err)
{
	char config[TG_ULID_LEN + 1];
	enum tg_db_result rc = tg_artifacts_config(db, a->r.id, config, &a->r.found, err);
	return rc == TG_DB_OK && config[0] ? tg_configs_get(db, config, config_item, &a->r, &a->linked, err) : rc;
}

static enum tg_db_result expand(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct artifact_record *a = ctx;
	enum tg_db_result rc = tg_artifacts_get(db, a->r.id, node, &a->r, &a->r.found, err);
	if (rc != TG_DB_OK || !a->r.found)
		return rc;
	tg_buf_lit(&a->r.out, ",\"children\":null,\"config\":");
	rc = config_of(db, a, err);
	if (!a->linked)
		tg_buf_lit(&a->r.out, "null");
	tg_buf_char(&a->r.out, '}');
	return rc;
}

static enum tg_db_result config(struct tg_db *db, void *ctx, struct tg_err *err)
{
	return config_of(db, ctx, err);
}

/* ---- on the loop ---- */

static enum tg_step made(struct tg_entity *r, struct tg_exchange *x)
{
	struct artifact_record *a = (struct artifact_record *)r;
	char text[160];
	if (a->promised) {
		snprintf(text, sizeof text, "Artifact %s is being made by a job; it can be posted once that has ended.", a->r.id);
		return tg_answer_problem(x, TG_E_conflict, "conflict", text, "id", NULL);
	}
	if (a->parent_ok)
		return tg_entity_made(r, x, PATH);
	snprintf(text, sizeof text, "Artifact %s cannot be the parent: there is none of that id, or it is this artifact or below it, or the tree would be too deep.", a->parent);
	return tg_answer_problem(x, TG_E_conflict, "conflict", text, "parent_id", NULL);
}

static enum tg_step listed(struct tg_entity *r, struct tg_exchange *x)
{
	return tg_entity_answer(r, x, 200, NULL);
}

static enum tg_step shown(struct tg_entity *r, struct tg_exchange *x)
{
	struct artifact_record *a = (struct artifact_record *)r;
	char lines[192];
	if (!r->found)
		return tg_entity_none(x, "Entity", r->id);
	if (!a->tag[0])
		return tg_entity_answer(r, x, 200, NULL);
	/* Revalidated each time: who may see it can change, and so can what it says. */
	snprintf(lines, sizeof lines, "ETag: %s\r\nCache-Control: private, no-cache\r\nVary: Authorization, X-API-Key, Cookie\r\n", a->tag);
	if (tg_head_has_tag(x->head, a->tag))
		return tg_answer(x, 304, NULL, (struct tg_slice){ 0 }, lines);
	return tg_entity_answer(r, x, 200, lines);
}

static enum tg_step deleted(struct tg_entity *r, struct tg_exchange *x)
{
	if (((const struct artifact_record *)r)->stays)
		return tg_answer_problem(x, TG_E_unavailable, "models_away", "The models' store cannot be reached now; nothing was deleted; try again.", NULL, "Retry-After: 5\r\n");
	return tg_entity_deleted(r, x);
}

static enum tg_step tree_shown(struct tg_entity *r, struct tg_exchange *x)
{
	const struct artifact_record *a = (struct artifact_record *)r;
	if (!r->found)
		return tg_entity_none(x, "Artifact", r->id);
	if (a->large || r->out.failed)
		return tg_answer_problem(x, TG_E_bad_request, "bad_body", "The tree is too large for one answer (10000 artifacts, 48 MiB): ask for its parts.", NULL, NULL);
	return tg_entity_answer(r, x, 200, NULL);
}

static enum tg_step config_shown(struct tg_entity *r, struct tg_exchange *x)
{
	const struct artifact_record *a = (struct artifact_record *)r;
	char text[96];
	if (!r->found)
		return tg_entity_none(x, "Artifact", r->id);
	if (a->linked)
		return tg_entity_answer(r, x, 200, NULL);
	snprintf(text, sizeof text, "Artifact with id %s has no configuration", r->id);
	return tg_answer_problem(x, TG_E_not_found, "not_found", text, NULL, NULL);
}

#define SIZE .size = sizeof(struct artifact_record)
static const struct tg_entity_do creates = { SIZE, .writes = true, .read = read_artifact, .work = put, .done = made };
static const struct tg_entity_do lists = { SIZE, .work = list, .done = listed };
static const struct tg_entity_do gets = { SIZE, .work = get, .after = make_tag, .done = shown };
static const struct tg_entity_do deletes = { SIZE, .writes = true, .work = delete, .after = delete_model, .done = deleted };
static const struct tg_entity_do shows_tree = { SIZE, .work = tree, .done = tree_shown };
static const struct tg_entity_do expands = { SIZE, .work = expand, .done = tree_shown };
static const struct tg_entity_do shows_config = { SIZE, .work = config, .done = config_shown };

enum tg_step tg_api_artifacts_create(struct tg_exchange *x)
{
	enum tg_step answered;
	struct tg_entity *r = tg_entity_new(x, &creates, &answered);
	return r && tg_entity_body(x, r, &answered) ? tg_entity_start(x, r) : answered;
}

enum tg_step tg_api_artifacts_list(struct tg_exchange *x)
{
	return tg_entity_run(x, &lists, 0, true);
}

enum tg_step tg_api_artifacts_get(struct tg_exchange *x)
{
	return tg_entity_run(x, &gets, sizeof PATH - 1, false);
}

enum tg_step tg_api_artifacts_delete(struct tg_exchange *x)
{
	return tg_entity_run(x, &deletes, sizeof PATH - 1, false);
}

enum tg_step tg_api_artifacts_tree(struct tg_exchange *x)
{
	return tg_entity_run(x, &shows_tree, sizeof PATH - 1, false);
}

enum tg_step tg_api_artifacts_expand(struct tg_exchange *x)
{
	return tg_entity_run(x, &expands, sizeof PATH - 1, false);
}

enum tg_step tg_api_artifacts_config(struct tg_exchange *x)
{
	return tg_entity_run(x, &shows_config, sizeof PATH - 1, false);
}

enum tg_step tg_api_artifacts_schema(struct tg_exchange *x)
{
	static const char schema[] = "{\"$schema\":\"https://json-schema.org/draft/2020-12/schema\",\"title\":\"Artifact\",\"type\":\"object\",\"properties\":{"
				     "\"id\":{\"type\":\"string\",\"pattern\":\"^[0-7][0-9A-HJKMNP-TV-Z]{25}$\"},\"parent_id\":{\"type\":[\"string\",\"null\"],\"pattern\":\"^[0-7][0-9A-HJKMNP-TV-Z]{25}$\"},"
				     "\"level\":{\"type\":\"integer\",\"minimum\":0},\"data\":{\"not\":{\"type\":\"null\"}},\"created_at\":{\"type\":\"string\",\"format\":\"date-time\"},"
				     "\"updated_at\":{\"type\":\"string\",\"format\":\"date-time\"}},\"required\":[\"id\",\"parent_id\",\"level\",\"data\",\"created_at\",\"updated_at\"]}";
	return tg_answer(x, 200, "application/json", (struct tg_slice){ schema, sizeof schema - 1 }, NULL);
}
