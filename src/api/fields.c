/*
 * Bodies by table (see fields.h). jansson reads them: duplicates are refused, depth is its own bound, a body of a local handler is 64 KiB at most.
 */
#include "api/fields.h"
#include "policy/password.h"

enum tg_step tg_field_fault(struct tg_exchange *x, const char *field, const char *why)
{
	char text[400];
	snprintf(text, sizeof text, "Validation error on %.64s: %.300s", field, why);
	return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, field, NULL);
}

static void wipe(json_t *v)
{
	const char *k;
	size_t i;
	json_t *one;
	if (json_is_string(v))
		explicit_bzero((void *)(uintptr_t)json_string_value(v), json_string_length(v));
	else if (json_is_object(v))
		json_object_foreach(v, k, one)
			wipe(one);
	else if (json_is_array(v))
		json_array_foreach(v, i, one)
			wipe(one);
}

void tg_fields_free(struct tg_fields *f)
{
	wipe(f->tree);
	json_decref(f->tree);
	f->tree = NULL;
}

static const char *text_fault(struct tg_slice s, const struct tg_field *t, char room[96])
{
	size_t chars = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < 0x20 || c == 0x7f)
			return "has a control character";
		chars += (c & 0xc0) != 0x80;
	}
	if ((int64_t)chars >= t->min && (int64_t)chars <= t->max)
		return NULL;
	snprintf(room, 96, chars ? "must have from %lld to %lld characters, not %zu" : "must have from %lld to %lld characters", (long long)t->min, (long long)t->max, chars);
	return room;
}

static void known_permissions(struct tg_buf *b)
{
	char names[TG_PERMS_TEXT];
	tg_perms_text(TG_PERM_ALL, ", ", names);
	tg_buf_cstr(b, names);
}

/* An unknown name is told, with the known ones. */
static bool read_perms(struct tg_exchange *x, const struct tg_field *t, const json_t *v, uint32_t *out, enum tg_step *answered)
{
	size_t i;
	json_t *one;
	*out = 0;
	if (!json_is_array(v)) {
		*answered = tg_field_fault(x, t->name, "must be an array of permission names");
		return false;
	}
	json_array_foreach((json_t *)(uintptr_t)v, i, one) {
		uint32_t bit = json_is_string(one) ? tg_perm_named((struct tg_slice){ json_string_value(one), json_string_length(one) }) : 0;
		*out |= bit;
		if (bit)
			continue;
		struct tg_buf b;
		tg_buf_init(&b, 4096);
		tg_buf_fmt(&b, "Validation error on %s[%zu]: ", t->name, i);
		if (json_is_string(one))
			tg_buf_fmt(&b, "\"%.40s\" is no permission. ", json_string_value(one));
		else
			tg_buf_lit(&b, "must be a string. ");
		tg_buf_lit(&b, "Known permissions: ");
		known_permissions(&b);
		tg_buf_lit(&b, ".");
		tg_buf_char(&b, 0);
		*answered = tg_answer_problem(x, TG_E_bad_field, "bad_body", b.failed ? "A permission is unknown." : b.p, t->name, NULL);
		tg_buf_free(&b);
		return false;
	}
	return true;
}

/* NULL: taken, or *answered is set. */
static const char *read_one(struct tg_exchange *x, const struct tg_field *t, const json_t *v, void *at, char room[256], enum tg_step *answered)
{
	struct tg_slice s = { json_string_value(v), json_string_length(v) };
	switch (t->type) {
	case TG_FIELD_TEXT:
		if (!json_is_string(v))
			return "must be a string";
		*(struct tg_slice *)at = s;
		return text_fault(s, t, room);
	case TG_FIELD_PASSWORD:
		if (!json_is_string(v))
			return "must be a string";
		*(struct tg_slice *)at = s;
		return tg_password_fault(s);
	case TG_FIELD_INT:
		if (!json_is_integer(v))
			return "must be a whole number";
		*(int64_t *)at = json_integer_value(v);
		if (*(int64_t *)at >= t->min && *(int64_t *)at <= t->max)
			return NULL;
		snprintf(room, 256, "must be from %lld to %lld", (long long)t->min, (long long)t->max);
		return room;
	case TG_FIELD_BOOL:
		if (!json_is_boolean(v))
			return "must be true or false";
		*(bool *)at = json_is_true(v);
		return NULL;
	case TG_FIELD_PERMS:
		(void)read_perms(x, t, v, at, answered);
		return NULL;
	default: {
		struct tg_key_limits_fault fault;
		if (tg_key_limits_parse(v, at, &fault))
			return NULL;
		*answered = tg_field_fault(x, fault.field, fault.reason);
		return NULL;
	}
	}
}

static const struct tg_field *field_named(const struct tg_field *table, unsigned n, const char *name)
{
	for (unsigned i = 0; i < n; i++)
		if (strcmp(table[i].name, name) == 0)
			return &table[i];
	return NULL;
}

static enum tg_step unknown(struct tg_exchange *x, const struct tg_field *table, unsigned n, const char *name)
{
	struct tg_buf b;
	tg_buf_init(&b, 2048);
	tg_buf_lit(&b, "is not known here; known are");
	for (unsigned i = 0; i < n; i++)
		tg_buf_fmt(&b, "%s %s", i ? "," : "", table[i].name);
	tg_buf_char(&b, 0);
	enum tg_step r = tg_field_fault(x, name, b.failed ? "is not known here" : b.p);
	tg_buf_free(&b);
	return r;
}

static bool load(struct tg_exchange *x, struct tg_fields *f, bool needed, enum tg_step *answered)
{
	struct tg_slice body = tg_slice_trim(x->body);
	json_error_t e;
	char text[160];
	if (!body.n && !needed) {
		f->tree = json_object();
		return f->tree != NULL;
	}
	if (!tg_receive_is_json(x->head)) {
		*answered = tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json.", NULL, NULL);
		return false;
	}
	f->tree = json_loadb(body.n ? body.p : "", body.n, JSON_REJECT_DUPLICATES, &e);
	if (json_is_object(f->tree))
		return true;
	/* jansson's own text quotes the body, which may hold a password. */
	snprintf(text, sizeof text, f->tree ? "The body must be a JSON object." : body.n ? "The body is not valid JSON: line %d, column %d." : "The body is missing: a JSON object is needed.",
		 e.line > 0 ? e.line : 1, e.column > 0 ? e.column : 1);
	explicit_bzero(&e, sizeof e);
	*answered = tg_answer_problem(x, TG_E_bad_json, "bad_body", text, NULL, NULL);
	return false;
}

bool tg_fields_read(struct tg_exchange *x, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, enum tg_step *answered)
{
	*f = (struct tg_fields){ 0 };
	bool needed = false;
	for (unsigned i = 0; i < n; i++)
		needed |= table[i].required;
	*answered = TG_NEXT;
	if (!load(x, f, needed, answered)) {
		tg_fields_free(f);
		if (*answered == TG_NEXT)
			*answered = tg_answer_problem(x, TG_E_unavailable, "memory", "Out of memory; try again.", NULL, "Retry-After: 1\r\n");
		return false;
	}
	const char *name, *fault = NULL;
	char room[256];
	json_t *v;
	json_object_foreach(f->tree, name, v) {
		const struct tg_field *t = field_named(table, n, name);
		if (!t) {
			*answered = unknown(x, table, n, name);
			break;
		}
		if (json_is_null(v) && !t->required)
			continue;
		f->given |= 1u << (t - table);
		fault = read_one(x, t, v, (char *)into + t->offset, room, answered);
		if (fault)
			*answered = tg_field_fault(x, name, fault);
		if (*answered != TG_NEXT)
			break;
	}
	for (unsigned i = 0; *answered == TG_NEXT && i < n; i++)
		if (table[i].required && !(f->given & 1u << i))
			*answered = tg_field_fault(x, table[i].name, "is required");
	if (*answered == TG_NEXT)
		return true;
	tg_fields_free(f);
	return false;
}
