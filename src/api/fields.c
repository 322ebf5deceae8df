/*
 * Bodies by table (see fields.h). jansson reads them: duplicates are refused, depth has its own bound, and a body that is read by a table is 64 KiB at most.
 */
#include "api/fields.h"
#include "base/terminal.h"
#include "policy/password.h"

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

static bool bad(struct tg_fields_fault *f, const char *field, const char *why)
{
	snprintf(f->field, sizeof f->field, "%s", field);
	snprintf(f->why, sizeof f->why, "%s", why);
	return false;
}

static bool text_fits(struct tg_slice s, const struct tg_field *t, struct tg_fields_fault *f)
{
	char why[96];
	size_t chars = 0;
	for (size_t i = 0; i < s.n; i++) {
		unsigned char c = (unsigned char)s.p[i];
		if (c < 0x20 || c == 0x7f)
			return bad(f, t->name, "has a control character");
		chars += (c & 0xc0) != 0x80;
	}
	if ((int64_t)chars >= t->min && (int64_t)chars <= t->max)
		return true;
	snprintf(why, sizeof why, "must have from %lld to %lld characters, not %zu", (long long)t->min, (long long)t->max, chars);
	return bad(f, t->name, why);
}

/* An unknown name is told, with the known ones. */
static bool read_perms(const struct tg_field *t, const json_t *v, uint32_t *out, struct tg_fields_fault *f)
{
	char names[TG_PERMS_TEXT];
	*out = 0;
	if (!json_is_array(v))
		return bad(f, t->name, "must be an array of permission names");
	for (size_t i = 0; i < json_array_size(v); i++) {
		const json_t *one = json_array_get(v, i);
		uint32_t bit = json_is_string(one) ? tg_perm_named((struct tg_slice){ json_string_value(one), json_string_length(one) }) : 0;
		*out |= bit;
		if (bit)
			continue;
		tg_perms_text(TG_PERM_ALL, ", ", names);
		snprintf(f->field, sizeof f->field, "%s[%zu]", t->name, i);
		if (json_is_string(one))
			snprintf(f->why, sizeof f->why, "\"%.40s\" is no permission. Known permissions: %s.", json_string_value(one), names);
		else
			snprintf(f->why, sizeof f->why, "must be a string. Known permissions: %s.", names);
		return false;
	}
	return true;
}

static bool read_int(const struct tg_field *t, const json_t *v, int64_t *out, struct tg_fields_fault *f)
{
	char why[96];
	if (!json_is_integer(v))
		return bad(f, t->name, "must be a whole number");
	*out = json_integer_value(v);
	if (*out >= t->min && *out <= t->max)
		return true;
	snprintf(why, sizeof why, "must be from %lld to %lld", (long long)t->min, (long long)t->max);
	return bad(f, t->name, why);
}

static bool read_one(const struct tg_field *t, const json_t *v, void *at, struct tg_fields_fault *f)
{
	struct tg_slice s = { json_string_value(v), json_string_length(v) };
	const char *fault;
	switch (t->type) {
	case TG_FIELD_TEXT:
	case TG_FIELD_NAME:
	case TG_FIELD_PASSWORD:
		if (!json_is_string(v))
			return bad(f, t->name, "must be a string");
		*(struct tg_slice *)at = s;
		if (t->type == TG_FIELD_NAME && !tg_terminal_fit(s))
			return bad(f, t->name, "has a control character, or one that turns the direction of text");
		if (t->type != TG_FIELD_PASSWORD)
			return text_fits(s, t, f);
		fault = tg_password_fault(s);
		return !fault || bad(f, t->name, fault);
	case TG_FIELD_INT:
		return read_int(t, v, at, f);
	case TG_FIELD_BOOL:
		*(bool *)at = json_is_true(v);
		return json_is_boolean(v) || bad(f, t->name, "must be true or false");
	case TG_FIELD_PERMS:
		return read_perms(t, v, at, f);
	default: {
		struct tg_key_limits_fault k;
		return tg_key_limits_parse(v, at, &k) || bad(f, k.field, k.reason);
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

static bool unknown(const struct tg_field *table, unsigned n, const char *name, struct tg_fields_fault *f)
{
	size_t at = (size_t)snprintf(f->why, sizeof f->why, "is not known here; known are");
	snprintf(f->field, sizeof f->field, "%s", name);
	for (unsigned i = 0; i < n && at < sizeof f->why; i++)
		at += (size_t)snprintf(f->why + at, sizeof f->why - at, "%s %s", i ? "," : "", table[i].name);
	return false;
}

static bool load(struct tg_slice body, struct tg_fields *f, struct tg_fields_fault *fault)
{
	char why[96];
	json_error_t e;
	f->tree = body.n ? json_loadb(body.p, body.n, JSON_REJECT_DUPLICATES, &e) : json_object();
	if (json_is_object(f->tree))
		return true;
	if (f->tree)
		return bad(fault, "", "The body must be a JSON object.");
	/* jansson's own text quotes the body, which may hold a password. */
	snprintf(why, sizeof why, "The body is not valid JSON: line %d, column %d.", e.line > 0 ? e.line : 1, e.column > 0 ? e.column : 1);
	explicit_bzero(&e, sizeof e);
	return bad(fault, "", body.n ? why : "Out of memory.");
}

bool tg_fields_parse(struct tg_slice body, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, struct tg_fields_fault *fault)
{
	*f = (struct tg_fields){ 0 };
	const char *name;
	json_t *v;
	bool ok = load(tg_slice_trim(body), f, fault);
	if (ok)
		json_object_foreach(f->tree, name, v) {
			const struct tg_field *t = field_named(table, n, name);
			if (t && json_is_null(v) && !t->required)
				continue;
			ok = t ? read_one(t, v, (char *)into + t->offset, fault) : unknown(table, n, name, fault);
			if (!ok)
				break;
			f->given |= 1u << (t - table);
		}
	for (unsigned i = 0; ok && i < n; i++)
		if (table[i].required && !(f->given & 1u << i))
			ok = bad(fault, table[i].name, "is required");
	if (!ok)
		tg_fields_free(f);
	return ok;
}

static const char *why_refused(const json_error_t *e)
{
	switch (json_error_code(e)) {
	case json_error_out_of_memory: return "cannot be read: out of memory";
	case json_error_null_character:
	case json_error_null_byte_in_key: return "holds a NUL";
	case json_error_numeric_overflow: return "holds a number out of range: whole ones are taken from -2^63 to 2^63 - 1, others to 1.7e308";
	case json_error_duplicate_key: return "has a member twice";
	default: return "is not valid JSON";
	}
}

/* The depth is bounded by the scanner's. */
bool tg_fields_blame(struct tg_slice object, const char *where, struct tg_fields_fault *fault)
{
	struct tg_slice name, value;
	json_error_t e;
	json_t *v = json_loadb(object.p, object.n, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &e);
	json_decref(v);
	if (v)
		return false;
	for (size_t at = 0; object.n && object.p[0] == '{' && tg_json_next_member(object, &at, &name, &value);) {
		char plain[TG_JSON_NAME_MAX], inner[sizeof fault->field];
		long n = tg_json_unescape(name, plain, sizeof plain - 1);
		plain[n < 0 ? 0 : n] = 0;
		if (strlen(plain) != (size_t)n || !n) /* too long, with a NUL in it, or empty: it is not shown */
			continue;
		snprintf(inner, sizeof inner, "%s%s%s", where, *where ? "." : "", plain);
		if (tg_fields_blame(value, inner, fault))
			return true;
	}
	return !bad(fault, where, why_refused(&e));
}

enum tg_step tg_field_fault(struct tg_exchange *x, const char *field, const char *why)
{
	char text[640];
	snprintf(text, sizeof text, "Validation error on %s: %s", field, why);
	return tg_answer_problem(x, TG_E_bad_field, "bad_body", text, field, NULL);
}

/* A new password that everybody has read is none, where profile production holds. */
static bool passwords_are_own(const struct tg_field *table, unsigned n, const void *into, const struct tg_fields *f, struct tg_fields_fault *fault)
{
	for (unsigned i = 0; i < n; i++) {
		struct tg_slice s;
		if (table[i].type != TG_FIELD_PASSWORD || !(f->given & 1u << i))
			continue;
		memcpy(&s, (const char *)into + table[i].offset, sizeof s);
		const char *document = tg_demo_key(s);
		if (document) {
			snprintf(fault->field, sizeof fault->field, "%s", table[i].name);
			snprintf(fault->why, sizeof fault->why, "is one that document %s prints, which profile production refuses", document);
			return false;
		}
	}
	return true;
}

bool tg_fields_read(struct tg_exchange *x, const struct tg_field *table, unsigned n, void *into, struct tg_fields *f, enum tg_step *answered)
{
	struct tg_fields_fault fault;
	bool needed = false, there = tg_slice_trim(x->body).n > 0;
	for (unsigned i = 0; i < n; i++)
		needed |= table[i].required;
	*f = (struct tg_fields){ 0 };
	if ((needed || there) && !tg_receive_is_json(x->head)) {
		*answered = tg_answer_problem(x, TG_E_media_type, "bad_media_type", "Content-Type must be application/json.", NULL, NULL);
		return false;
	}
	if (needed && !there) {
		*answered = tg_answer_problem(x, TG_E_bad_json, "bad_body", "The body is missing: a JSON object is needed.", NULL, NULL);
		return false;
	}
	bool ok = tg_fields_parse(x->body, table, n, into, f, &fault);
	if (ok && x->snap->config->profile == TG_PROFILE_PRODUCTION && !passwords_are_own(table, n, into, f, &fault)) {
		tg_fields_free(f);
		ok = false;
	}
	if (ok)
		return true;
	*answered = fault.field[0] ? tg_field_fault(x, fault.field, fault.why) : tg_answer_problem(x, TG_E_bad_json, "bad_body", fault.why, NULL, NULL);
	return false;
}
