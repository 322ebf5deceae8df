/*
 * /api/v1/configs (document 003; seed ledger S3-37 to S3-45, C-44): named settings of trainings. A POST of an id that is there replaces it, so that the document's commands can be run twice.
 */
#include "api/configs.h"
#include "api/artifacts.h"
#include "api/ml_config.h"
#include "api/entity.h"
#include "gate/handlers.h"

#define PATH "/api/v1/configs/"

struct config_record {
	struct tg_entity r; /* first: callbacks cast */
	char name[TG_CONFIG_NAME_MAX * 4 + 1];
	const char *data; /* in the body, or "{}" */
};

void tg_put_config(struct tg_buf *b, const struct tg_config_row *c)
{
	tg_buf_lit(b, "{\"id\":\"");
	tg_buf_cstr(b, c->id);
	tg_buf_lit(b, "\",\"name\":");
	tg_buf_json(b, tg_slice_cstr(c->name));
	tg_buf_lit(b, ",\"data\":");
	tg_buf_cstr(b, c->data);
	tg_put_times_us(b, c->created_us, c->updated_us);
	tg_buf_char(b, '}');
}

/* ---- on the job pool ---- */

static bool read_name(struct config_record *c, const struct tg_json_want *w)
{
	char why[96];
	snprintf(why, sizeof why, "must have at most %d characters, not %zu", TG_CONFIG_NAME_MAX, w->chars);
	if (w->type == TG_JSON_NONE || w->type == TG_JSON_NULL) {
		tg_entity_fault(&c->r, "name", "is required");
	} else if (w->type != TG_JSON_STRING) {
		tg_entity_fault(&c->r, "name", "must be a string");
	} else if (w->chars > TG_CONFIG_NAME_MAX) {
		tg_entity_fault(&c->r, "name", why);
	} else {
		long n = tg_json_unescape(tg_entity_value(&c->r, w), c->name, sizeof c->name - 1);
		bool control = n < 0;
		for (long i = 0; i < n; i++)
			control |= (unsigned char)c->name[i] < 0x20 || c->name[i] == 0x7f;
		c->name[n < 0 ? 0 : n] = 0;
		if (!control)
			return true;
		tg_entity_fault(&c->r, "name", "has a control character");
	}
	return false;
}

/* Kept as it was written, once it is known to be what jansson, and so the training, takes as well. */
static bool read_data(struct config_record *c, const struct tg_json_want *w)
{
	if (w->type == TG_JSON_NONE) {
		c->data = "{}";
		return true;
	}
	if (w->type != TG_JSON_OBJECT) {
		tg_entity_fault(&c->r, "data", "must be an object");
		return false;
	}
	struct tg_slice v = tg_entity_value(&c->r, w);
	json_t *tree = json_loadb(v.p, v.n, JSON_REJECT_DUPLICATES, NULL);
	bool ok = tree && tg_ml_config_check(tree, &c->r.fault);
	if (!tree && !tg_fields_blame(v, "data", &c->r.fault))
		tg_entity_fault(&c->r, "data", "cannot be read: out of memory");
	json_decref(tree);
	c->r.body[w->to] = 0; /* at the latest the NUL behind the body */
	c->data = v.p;
	return ok;
}

static void read_config(struct tg_entity *r)
{
	static const char *const names[] = { "id", "name", "data", "created_at", "updated_at" };
	struct config_record *c = (struct config_record *)r;
	struct tg_json_want w[3];
	char id[TG_ULID_LEN + 1];
	bool given;
	if (!tg_entity_members(r, names, 5, 3, w) || !tg_entity_ulid(r, &w[0], &given, id) || !read_name(c, &w[1]) || !read_data(c, &w[2]))
		return;
	if (given && r->id[0] && strcmp(id, r->id) != 0)
		tg_entity_fault(r, "id", "is not the one of the path");
	else if (given)
		memcpy(r->id, id, sizeof id);
	else if (!r->id[0])
		tg_ulid_monotonic((uint64_t)r->now_us, r->id);
}

static enum tg_db_result put(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct config_record *c = ctx;
	struct tg_config_row row = { c->r.id, c->name, c->data, c->r.now_us, c->r.now_us };
	enum tg_db_result rc = tg_configs_put(db, &row, &c->r.created, err);
	if (rc == TG_DB_OK)
		tg_put_config(&c->r.out, &row);
	return rc;
}

static enum tg_db_result replace(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct config_record *c = ctx;
	struct tg_config_row row = { c->r.id, c->name, c->data, 0, c->r.now_us };
	enum tg_db_result rc = tg_configs_update(db, &row, &c->r.found, err);
	if (rc == TG_DB_OK && c->r.found)
		tg_put_config(&c->r.out, &row);
	return rc;
}

static bool item(void *ctx, const struct tg_config_row *row)
{
	struct tg_entity *r = ctx;
	tg_entity_comma(r);
	tg_put_config(&r->out, row);
	return !r->out.failed;
}

static enum tg_db_result list(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	enum tg_db_result rc = r->page.asked ? tg_configs_count(db, &r->total, err) : TG_DB_OK;
	tg_paging_begin(&r->out, &r->page);
	if (rc == TG_DB_OK)
		rc = tg_configs_list(db, tg_paging_skip(&r->page), tg_paging_most(&r->page), item, r, err);
	tg_paging_end(&r->out, &r->page, r->total);
	return rc;
}

static enum tg_db_result get(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	return tg_configs_get(db, r->id, item, r, &r->found, err);
}

static enum tg_db_result delete(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	return tg_configs_delete(db, r->id, &r->found, err);
}

static bool artifact_item(void *ctx, const struct tg_artifact_row *row)
{
	struct tg_entity *r = ctx;
	tg_entity_comma(r);
	tg_put_artifact(&r->out, row);
	return !r->out.failed;
}

static bool nothing(void *ctx, const struct tg_config_row *row)
{
	(void)ctx, (void)row;
	return true;
}

static enum tg_db_result artifacts(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	enum tg_db_result rc = tg_configs_get(db, r->id, nothing, NULL, &r->found, err);
	tg_paging_begin(&r->out, &r->page);
	if (rc == TG_DB_OK && r->found && r->page.asked)
		rc = tg_artifacts_count_of_config(db, r->id, &r->total, err);
	if (rc == TG_DB_OK && r->found)
		rc = tg_artifacts_of_config(db, r->id, tg_paging_skip(&r->page), tg_paging_most(&r->page), artifact_item, r, err);
	tg_paging_end(&r->out, &r->page, r->total);
	return rc;
}

/* ---- on the loop ---- */

static enum tg_step made(struct tg_entity *r, struct tg_exchange *x)
{
	return tg_entity_made(r, x, PATH);
}

static enum tg_step shown(struct tg_entity *r, struct tg_exchange *x)
{
	return r->found ? tg_entity_answer(r, x, 200, NULL) : tg_entity_none(x, "Entity", r->id);
}

static enum tg_step listed(struct tg_entity *r, struct tg_exchange *x)
{
	return tg_entity_answer(r, x, 200, NULL);
}

static const struct tg_entity_do creates = { .size = sizeof(struct config_record), .writes = true, .read = read_config, .work = put, .done = made };
static const struct tg_entity_do replaces = { .size = sizeof(struct config_record), .writes = true, .read = read_config, .work = replace, .done = shown };
static const struct tg_entity_do lists = { .size = sizeof(struct tg_entity), .kept = true, .work = list, .done = listed };
static const struct tg_entity_do gets = { .size = sizeof(struct tg_entity), .kept = true, .work = get, .done = shown };
static const struct tg_entity_do deletes = { .size = sizeof(struct tg_entity), .writes = true, .work = delete, .done = tg_entity_deleted };
static const struct tg_entity_do lists_artifacts = { .size = sizeof(struct tg_entity), .kept = true, .work = artifacts, .done = shown };

enum tg_step tg_api_configs_create(struct tg_exchange *x)
{
	enum tg_step answered;
	struct tg_entity *r = tg_entity_new(x, &creates, &answered);
	return r && tg_entity_body(x, r, &answered) ? tg_entity_start(x, r) : answered;
}

enum tg_step tg_api_configs_replace(struct tg_exchange *x)
{
	char id[TG_ULID_LEN + 1];
	enum tg_step answered;
	if (!tg_entity_id(x, sizeof PATH - 1, id, &answered))
		return answered;
	struct tg_entity *r = tg_entity_new(x, &replaces, &answered);
	if (!r || !tg_entity_body(x, r, &answered))
		return answered;
	memcpy(r->id, id, sizeof id);
	return tg_entity_start(x, r);
}

enum tg_step tg_api_configs_list(struct tg_exchange *x)
{
	return tg_entity_run(x, &lists, 0, true);
}

enum tg_step tg_api_configs_get(struct tg_exchange *x)
{
	return tg_entity_run(x, &gets, sizeof PATH - 1, false);
}

enum tg_step tg_api_configs_delete(struct tg_exchange *x)
{
	return tg_entity_run(x, &deletes, sizeof PATH - 1, false);
}

enum tg_step tg_api_configs_artifacts(struct tg_exchange *x)
{
	return tg_entity_run(x, &lists_artifacts, sizeof PATH - 1, true);
}

enum tg_step tg_api_configs_schema(struct tg_exchange *x)
{
	struct tg_buf b;
	tg_buf_init(&b, 64u << 10);
	tg_ml_config_schema(&b);
	return tg_answer_buf(x, "application/json", &b, NULL);
}
