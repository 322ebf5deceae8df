/*
 * The model lists, one registry in three shapes (seed ledger C-07): OpenAI's, and those of document 000, whose bodies are its origin's (the union of what
 * its newer and its older clients read).
 */
#include "gate/exchange.h"
#include "gate/handlers.h"

#define LIST_MAX (4u << 20)

static void v1_entry(struct tg_buf *b, const struct tg_exchange *x, const struct tg_model *m)
{
	tg_buf_lit(b, "{\"id\":");
	tg_buf_json(b, tg_slice_cstr(m->conf->name));
	tg_buf_lit(b, ",\"object\":\"model\",\"created\":");
	tg_buf_u64(b, x->gl->gate->start_wall_us / 1000000u);
	tg_buf_lit(b, ",\"owned_by\":\"tollgate\"}");
}

enum tg_step tg_api_v1_models(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	struct tg_buf b;
	tg_buf_init(&b, LIST_MAX);
	tg_buf_lit(&b, "{\"object\":\"list\",\"data\":[");
	for (unsigned i = 0; i < ms->n; i++) {
		if (i)
			tg_buf_char(&b, ',');
		v1_entry(&b, x, &ms->v[i]);
	}
	tg_buf_lit(&b, "]}");
	return tg_answer_buf(x, "application/json", &b, NULL);
}

enum tg_step tg_api_v1_model(struct tg_exchange *x)
{
	size_t prefix = strcspn(x->route->path.p, "{"); /* "/v1/models/", "/api/v1/models/" */
	struct tg_slice path = x->head->path, name = { path.p + prefix, path.n - prefix };
	const struct tg_model *m = tg_models_find(&x->snap->models, name);
	if (!m) {
		char text[256];
		snprintf(text, sizeof text, "The model `%.*s` does not exist or you do not have access to it.", (int)(name.n < 100 ? name.n : 100), name.p);
		return tg_answer_problem(x, TG_E_model_not_found, "model_not_found", text, NULL, NULL);
	}
	struct tg_buf b;
	tg_buf_init(&b, 4096);
	v1_entry(&b, x, m);
	return tg_answer_buf(x, "application/json", &b, NULL);
}

enum tg_step tg_api_models(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	char created[20];
	tg_rfc3339_s(x->gl->gate->start_wall_us, created);
	struct tg_buf b;
	tg_buf_init(&b, LIST_MAX);
	tg_buf_lit(&b, "{\"models\":[");
	for (unsigned i = 0; i < ms->n; i++) {
		tg_buf_cstr(&b, i ? ",{\"id\":" : "{\"id\":");
		tg_buf_json(&b, tg_slice_cstr(ms->v[i].conf->name));
		tg_buf_lit(&b, ",\"path\":null,\"source\":\"configuration\",\"created_at\":\"");
		tg_buf_put(&b, created, sizeof created);
		tg_buf_cstr(&b, i ? "\",\"tags\":[],\"is_active\":false}" : "\",\"tags\":[],\"is_active\":true}");
	}
	tg_buf_lit(&b, "]}");
	return tg_answer_buf(x, "application/json", &b, NULL);
}

/* The active model is the first configured one until models can be registered. */
enum tg_step tg_api_models_info(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	char started[20];
	tg_rfc3339_s(x->gl->gate->start_wall_us, started);
	unsigned up = 0;
	for (unsigned i = 0; i < ms->n; i++)
		up += tg_model_usable(&ms->v[i]);
	struct tg_buf b;
	tg_buf_init(&b, LIST_MAX);
	tg_buf_cstr(&b, up ? "{\"loaded\":true,\"model_id\":" : "{\"loaded\":false,\"model_id\":");
	tg_buf_json_or_null(&b, ms->n ? tg_slice_cstr(ms->v[0].conf->name) : (struct tg_slice){ 0 });
	tg_buf_lit(&b, ",\"checkpoint_step\":null,\"loaded_at\":\"");
	tg_buf_put(&b, started, sizeof started);
	tg_buf_lit(&b, "\",\"loaded_count\":");
	tg_buf_u64(&b, up);
	tg_buf_lit(&b, ",\"max_models\":null,\"total_vram_mb\":null,\"vram_usage_gb\":null,\"models\":[");
	for (unsigned i = 0; i < ms->n; i++) {
		const struct tg_model *m = &ms->v[i];
		tg_buf_cstr(&b, i ? ",{\"model_id\":" : "{\"model_id\":");
		tg_buf_json(&b, tg_slice_cstr(m->conf->name));
		tg_buf_cstr(&b, tg_model_usable(m) ? ",\"loaded\":true,\"workers\":" : ",\"loaded\":false,\"workers\":");
		tg_buf_u64(&b, m->nworkers);
		tg_buf_lit(&b, ",\"aliases\":[");
		for (size_t k = 0; k < m->conf->aliases.n; k++) {
			if (k)
				tg_buf_char(&b, ',');
			tg_buf_json(&b, tg_slice_cstr(m->conf->aliases.v[k]));
		}
		tg_buf_lit(&b, "]}");
	}
	tg_buf_lit(&b, "]}");
	return tg_answer_buf(x, "application/json", &b, NULL);
}

/*
 * POST /models/reload: no body reloads the active model (seed ledger C-51); {"model_id": ...} or the origin's {"model_path": ...} names one. For a URL worker reloading is
 * a fresh probe of all workers of that model, done by the control thread.
 */
enum tg_step tg_api_models_reload(struct tg_exchange *x)
{
	const struct tg_models *ms = &x->snap->models;
	static const char *const names[] = { "model_id", "model_path" };
	struct tg_slice body = tg_slice_trim(x->body), name = { 0 };
	char plain[256];
	if (body.n) {
		struct tg_json_scan s;
		if (tg_json_scan_all(&s, body, names, 2) != TG_JSON_DONE)
			return tg_answer_problem(x, TG_E_bad_json, "bad_body", "The body is not a valid JSON object.", NULL, NULL);
		for (unsigned i = 0; i < 2 && !name.p; i++) {
			if (s.want[i].type == TG_JSON_NONE || s.want[i].type == TG_JSON_NULL)
				continue;
			long n = s.want[i].type == TG_JSON_STRING ? tg_json_unescape(tg_json_value(body, &s.want[i]), plain, sizeof plain) : -1;
			if (n < 0) {
				char text[96];
				snprintf(text, sizeof text, "Validation error on %s: must be the name of a model", names[i]);
				return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, names[i], NULL);
			}
			name = (struct tg_slice){ plain, (size_t)n };
		}
	}
	struct tg_model *m = name.p ? tg_models_find(ms, name) : ms->n ? &ms->v[0] : NULL;
	if (name.p && !m) {
		struct tg_buf t;
		tg_buf_init(&t, 8192);
		tg_buf_lit(&t, "There is no such model. Known models: ");
		tg_models_list(ms, &t);
		tg_buf_char(&t, 0);
		enum tg_step r = tg_answer_problem(x, TG_E_model_not_found, "model_not_found", t.failed ? "There is no such model." : t.p, "model_id", NULL);
		tg_buf_free(&t);
		return r;
	}
	if (m)
		tg_gate_reprobe(x->gl->gate, m);
	char now[20];
	tg_rfc3339_s(x->wall_us, now);
	struct tg_buf b;
	tg_buf_init(&b, 4096);
	tg_buf_lit(&b, "{\"status\":\"reloaded\",\"model_id\":");
	tg_buf_json_or_null(&b, m ? tg_slice_cstr(m->conf->name) : (struct tg_slice){ 0 });
	tg_buf_lit(&b, ",\"checkpoint_step\":null,\"loaded_from\":null,\"loaded_at\":\"");
	tg_buf_put(&b, now, sizeof now);
	tg_buf_lit(&b, "\",\"vram_usage_gb\":null}");
	return tg_answer_buf(x, "application/json", &b, NULL);
}
