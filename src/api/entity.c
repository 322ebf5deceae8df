/*
 * Requests for records (see entity.h). JSON that is stored is kept to the letter (12 stays 12 and 100.50 stays 100.50, seed ledger S3-72): the scanner says where it lies, nothing prints it anew.
 */
#include "api/entity.h"

static void free_entity(struct tg_job *j)
{
	struct tg_entity *r = (struct tg_entity *)j;
	if (r->d->drop)
		r->d->drop(r);
	tg_buf_free(&r->out);
	free(r->body);
	free(r->rid);
	free(r);
}

void tg_entity_log(const struct tg_entity *r, const char *event)
{
	char route[96];
	snprintf(route, sizeof route, TG_SLICE_FMT, TG_SLICE_ARG(r->route->path));
	tg_log(TG_LOG_F_INFO, event, "t:route", route, "t:id", r->id, "t:request_id", r->rid, "t:user", r->principal, NULL);
}

static struct tg_kept_key key_of(const struct tg_entity *r)
{
	struct tg_kept_key k = { .what = r->d };
	memcpy(k.id, r->id, sizeof k.id);
	if (r->page.asked) {
		k.page = r->page.page;
		k.size = r->page.size;
	}
	return k;
}

static enum tg_db_result read_marked(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_entity *r = ctx;
	r->marked = tg_db_mark(db, &r->mark);
	return r->d->work(db, r, err);
}

static void keep(const struct tg_entity *r, struct tg_kept *kept)
{
	struct tg_kept_key k = key_of(r);
	if (r->r == TG_DB_OK && r->marked && !r->out.failed)
		tg_kept_put(kept, &r->mark, &k, r->found, tg_buf_view(&r->out));
}

static void run(struct tg_job *j)
{
	struct tg_entity *r = (struct tg_entity *)j;
	struct tg_store *s = j->gate->store;
	if (r->d->read)
		r->d->read(r);
	if (r->fault.why[0])
		return;
	r->r = r->d->writes ? tg_store_record(s, r->d->work, r, &r->err) : tg_store_read(s, r->d->kept ? read_marked : r->d->work, r, &r->err);
	if (r->d->kept)
		keep(r, j->gate->kept);
	if (r->r == TG_DB_OK && r->found && r->d->done == tg_entity_deleted)
		tg_entity_log(r, "record.deleted");
	if (r->r == TG_DB_OK && r->d->after)
		r->d->after(r);
}

static enum tg_step answer(struct tg_job *j, struct tg_exchange *x)
{
	struct tg_entity *r = (struct tg_entity *)j;
	if (r->fault.why[0])
		return r->fault.field[0] ? tg_field_fault(x, r->fault.field, r->fault.why) : tg_answer_problem(x, TG_E_bad_json, "bad_body", r->fault.why, NULL, NULL);
	return r->r == TG_DB_OK ? r->d->done(r, x) : tg_stored_fault(x, r->r, &r->err);
}

struct tg_entity *tg_entity_new(struct tg_exchange *x, const struct tg_entity_do *d, enum tg_step *answered)
{
	struct tg_entity *r = x->gl->gate->store ? calloc(1, d->size) : NULL;
	if (!r || !(r->rid = tg_slice_dup(tg_exchange_rid(x)))) {
		struct tg_err none = { "there is none, or no memory" };
		free(r);
		*answered = tg_stored_fault(x, TG_DB_AWAY, &none);
		return NULL;
	}
	r->job.run = run;
	r->job.answer = answer;
	r->job.free = free_entity;
	r->d = d;
	r->now_us = (int64_t)x->wall_us;
	r->route = x->route;
	if (x->principal)
		memcpy(r->principal, x->principal->id, sizeof r->principal);
	tg_buf_init(&r->out, TG_ENTITY_ANSWER_MAX);
	return r;
}

bool tg_entity_body(struct tg_exchange *x, struct tg_entity *r, enum tg_step *answered)
{
	if (tg_head_get(x->head, TG_H_CONTENT_TYPE).n && !tg_receive_is_json(x->head)) {
		*answered = tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json.", NULL, NULL);
	} else if (!tg_slice_trim(x->body).n) {
		*answered = tg_answer_problem(x, TG_E_bad_json, "bad_body", "The body is missing: a JSON object is needed.", NULL, NULL);
	} else {
		/* Its own buffer is taken over: the body may be as large as all of them together may be. It goes on being counted until the exchange ends. */
		r->body_len = x->body.n;
		r->body = x->body_owned ? realloc(x->body_owned, x->body.n + 1) : malloc(x->body.n + 1);
		if (r->body) {
			if (!x->body_owned)
				memcpy(r->body, x->body.p, x->body.n);
			r->body[r->body_len] = 0;
			x->body_owned = NULL;
			x->body = (struct tg_slice){ 0 };
			return true;
		}
		*answered = tg_answer_problem(x, TG_E_unavailable, "memory", "Too many bodies are in memory; try again.", NULL, "Retry-After: 1\r\n");
	}
	free_entity(&r->job);
	return false;
}

bool tg_entity_id(struct tg_exchange *x, size_t skip, char id[TG_ULID_LEN + 1], enum tg_step *answered)
{
	struct tg_slice s = tg_path_segment(x, skip);
	char text[160];
	if (tg_ulid_read(s, id))
		return true;
	snprintf(text, sizeof text, "Invalid ULID format: %.*s", s.n < 100 ? (int)s.n : 100, s.p);
	*answered = tg_answer_problem(x, TG_E_invalid_ulid, "bad_body", text, "id", NULL);
	return false;
}

enum tg_step tg_entity_start(struct tg_exchange *x, struct tg_entity *r)
{
	return tg_job_start(x, &r->job);
}

enum tg_step tg_entity_run(struct tg_exchange *x, const struct tg_entity_do *d, size_t skip, bool paged)
{
	char id[TG_ULID_LEN + 1] = "";
	struct tg_paging page = { 0 };
	enum tg_step answered;
	if ((skip && !tg_entity_id(x, skip, id, &answered)) || (paged && !tg_paging_of(x, &page, &answered)))
		return answered;
	struct tg_entity *r = tg_entity_new(x, d, &answered);
	if (!r)
		return answered;
	memcpy(r->id, id, sizeof id);
	r->page = page;
	struct tg_kept_key key = key_of(r);
	if (!d->kept || !tg_kept_get(x->gl->gate->kept, x->gl->gate->store, &key, &r->found, &r->out))
		return tg_entity_start(x, r);
	answered = d->done(r, x);
	free_entity(&r->job);
	return answered;
}

/* ---- the body ---- */

void tg_entity_fault(struct tg_entity *r, const char *field, const char *why)
{
	snprintf(r->fault.field, sizeof r->fault.field, "%s", field);
	snprintf(r->fault.why, sizeof r->fault.why, "%s", why);
}

/* What nobody takes is a fault, as everywhere: a misspelt member must not be as if it were absent. */
static bool unknown_member(struct tg_entity *r, struct tg_slice object, const char *const *names, unsigned n)
{
	struct tg_slice name, value;
	char plain[TG_JSON_NAME_MAX];
	for (size_t at = 0; tg_json_next_member(object, &at, &name, &value);) {
		long len = tg_json_unescape(name, plain, sizeof plain - 1);
		plain[len < 0 ? 0 : len] = 0;
		unsigned i = 0;
		while (i < n && strcmp(names[i], plain) != 0)
			i++;
		if (i < n && strlen(plain) == (size_t)len)
			continue;
		size_t to = (size_t)snprintf(r->fault.why, sizeof r->fault.why, "is not known here; known are");
		snprintf(r->fault.field, sizeof r->fault.field, "%s", len > 0 ? plain : "a member");
		for (i = 0; i < n && to < sizeof r->fault.why; i++)
			to += (size_t)snprintf(r->fault.why + to, sizeof r->fault.why - to, "%s %s", i ? "," : "", names[i]);
		return true;
	}
	return false;
}

bool tg_entity_members(struct tg_entity *r, const char *const *names, unsigned n, unsigned ignored, struct tg_json_want *want)
{
	struct tg_json_scan s;
	struct tg_slice doc = { r->body, r->body_len };
	char text[160];
	if (tg_json_scan_all(&s, doc, names, n) != TG_JSON_DONE) {
		snprintf(text, sizeof text, "The body is not a valid JSON object: %s at byte %zu.", s.why ? s.why : "unexpected end", s.at);
		tg_entity_fault(r, s.member ? s.member : "", s.member ? "is given twice" : text);
		return false;
	}
	memcpy(want, s.want, ignored * sizeof *want);
	return !unknown_member(r, tg_slice_trim(doc), names, n);
}

struct tg_slice tg_entity_value(const struct tg_entity *r, const struct tg_json_want *w)
{
	return tg_json_value((struct tg_slice){ r->body, r->body_len }, w);
}

bool tg_entity_ulid(struct tg_entity *r, const struct tg_json_want *w, bool *given, char out[TG_ULID_LEN + 1])
{
	char name[32];
	struct tg_slice v = tg_entity_value(r, w);
	*given = w->type != TG_JSON_NONE && w->type != TG_JSON_NULL;
	if (!*given || (w->type == TG_JSON_STRING && !w->escaped && tg_ulid_read((struct tg_slice){ v.p + 1, v.n - 2 }, out)))
		return true;
	snprintf(name, sizeof name, "%.*s", (int)w->name.n, w->name.p);
	tg_entity_fault(r, name, "must be a ULID: 26 digits and letters without I, L, O and U");
	return false;
}

/* ---- answers ---- */

enum tg_step tg_entity_none(struct tg_exchange *x, const char *what, const char *id)
{
	char text[96];
	snprintf(text, sizeof text, "%s with id %s not found", what, id);
	return tg_answer_problem(x, TG_E_not_found, "not_found", text, NULL, NULL);
}

enum tg_step tg_entity_answer(struct tg_entity *r, struct tg_exchange *x, uint16_t status, const char *extra)
{
	if (r->out.failed && r->out.len > TG_ENTITY_ANSWER_MAX / 4)
		return tg_answer_problem(x, TG_E_bad_field, "bad_body", "Validation error on size: the answer would be longer than 48 MiB; ask for less at once, with page and size", "size", NULL);
	if (r->out.failed)
		return tg_answer_problem(x, TG_E_internal, "memory", "The answer could not be built.", NULL, NULL);
	return tg_answer_counted(x, status, "application/json", tg_buf_view(&r->out), extra);
}

enum tg_step tg_entity_made(struct tg_entity *r, struct tg_exchange *x, const char *path)
{
	char location[96];
	snprintf(location, sizeof location, "Location: %s%s\r\n", path, r->id);
	return tg_entity_answer(r, x, r->created ? 201 : 200, location);
}

enum tg_step tg_entity_deleted(struct tg_entity *r, struct tg_exchange *x)
{
	return r->found ? tg_answer(x, 204, NULL, (struct tg_slice){ 0 }, NULL) : tg_entity_none(x, "Entity", r->id);
}

void tg_entity_comma(struct tg_entity *r)
{
	if (r->n++)
		tg_buf_char(&r->out, ',');
}

void tg_put_times_us(struct tg_buf *b, int64_t created_us, int64_t updated_us)
{
	tg_buf_lit(b, ",\"created_at\":");
	tg_put_time(b, created_us / 1000000);
	tg_buf_lit(b, ",\"updated_at\":");
	tg_put_time(b, updated_us / 1000000);
}
