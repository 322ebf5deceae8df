/*
 * What the interface is, as OpenAPI 3.1, made of what the program itself goes by: the route table (paths, guards, limits, families), the field tables of bodies, the table of errors and the function
 * that writes them. Only what no table knows stands in tables/examples.json: an example of each request and answer, the schema of a body that no field table reads, words.
 *
 * Invariant: every row that answers is in it, with or without an entry in examples.json; an entry without a row is left out. tests/api/test_openapi.py demands both ways that there is one.
 */
#include "api/credit_body.h"
#include "api/docs.h"
#include "api/fields.h"
#include "base/version.h"
#include "gate/forwards.h"
#include "policy/password.h"

enum { KEY_MAX = 160, DEPTH_MAX = 12 };

static const struct {
	const char *handler;
	const struct tg_body *body;
} bodies[] = {
#define SCHEMA(handler) { #handler, &tg_body_##handler },
#include "tables/schemas.def"
#undef SCHEMA
};

static const struct tg_body *body_of(const struct tg_route *r)
{
	for (size_t i = 0; i < sizeof bodies / sizeof *bodies; i++)
		if (strcmp(bodies[i].handler, r->handler) == 0)
			return bodies[i].body;
	return NULL;
}

/* ---- schemas ---- */

static json_t *type_of(const char *type, bool may_be_null)
{
	return may_be_null ? json_pack("{s:[s,s]}", "type", type, "null") : json_pack("{s:s}", "type", type);
}

static json_t *perms_schema(void)
{
	json_t *names = json_array();
	for (uint32_t bit = 1; bit & TG_PERM_ALL; bit <<= 1)
		if (tg_perm_name(bit))
			json_array_append_new(names, json_string(tg_perm_name(bit)));
	return json_pack("{s:s, s:{s:s, s:o}}", "type", "array", "items", "type", "string", "enum", names);
}

static json_t *limits_schema(void)
{
	return json_pack("{s:[s,s], s:b, s:{s:{s:[s,s], s:s, s:s}, s:{s:[s,s], s:i, s:i, s:s}, s:{s:[s,s], s:i, s:i, s:s}}}", "type", "object", "null", "additionalProperties", 0, "properties",
			 "requests", "type", "string", "null", "pattern", "^(off|[0-9]+/(second|minute|hour|day))$", "description", "Requests in a window: N/second, minute, hour or day; \"off\": none",
			 "tokens_per_minute", "type", "integer", "null", "minimum", 1, "maximum", (int)TG_TOKENS_MAX, "description", "Tokens, of prompts and answers, a minute",
			 "in_flight", "type", "integer", "null", "minimum", 1, "maximum", (int)TG_IN_FLIGHT_MAX, "description", "Requests at the same time");
}

static json_t *field_schema(const struct tg_field *f, bool required)
{
	json_t *s;
	switch (f->type) {
	case TG_FIELD_TEXT:
	case TG_FIELD_NAME:
		s = type_of("string", !required);
		json_object_set_new(s, "minLength", json_integer(f->min));
		json_object_set_new(s, "maxLength", json_integer(f->max));
		return s;
	case TG_FIELD_PASSWORD:
		s = type_of("string", !required);
		json_object_set_new(s, "format", json_string("password"));
		json_object_set_new(s, "minLength", json_integer(TG_PASSWORD_MIN / 4)); /* the bound is in bytes */
		json_object_set_new(s, "maxLength", json_integer(TG_PASSWORD_MAX));
		return s;
	case TG_FIELD_INT:
		s = type_of("integer", !required);
		json_object_set_new(s, "minimum", json_integer(f->min));
		json_object_set_new(s, "maximum", json_integer(f->max));
		return s;
	case TG_FIELD_BOOL:
		return type_of("boolean", !required);
	case TG_FIELD_PERMS:
		s = perms_schema();
		if (!required)
			json_object_set_new(s, "type", json_pack("[s,s]", "array", "null"));
		return s;
	default:
		return limits_schema();
	}
}

static json_t *table_schema(const struct tg_body *b, const json_t *words)
{
	json_t *properties = json_object(), *needed = json_array();
	for (unsigned i = 0; i < b->n; i++) {
		const struct tg_field *f = &b->fields[i];
		bool required = f->required && !b->optional;
		json_t *s = field_schema(f, required), *about = json_object_get(words, f->name);
		if (about)
			json_object_set(s, "description", about);
		json_object_set_new(properties, f->name, s);
		if (required)
			json_array_append_new(needed, json_string(f->name));
	}
	json_t *schema = json_pack("{s:s, s:b, s:o}", "type", "object", "additionalProperties", 0, "properties", properties);
	if (json_array_size(needed))
		json_object_set(schema, "required", needed);
	json_decref(needed);
	return schema;
}

static bool is_among(const json_t *names, const char *name)
{
	size_t i;
	json_t *one;
	json_array_foreach(names, i, one)
		if (strcmp(json_string_value(one), name) == 0)
			return true;
	return false;
}

static void allow_null(json_t *schema)
{
	json_t *type = json_object_get(schema, "type");
	if (json_is_string(type))
		json_object_set_new(schema, "type", json_pack("[O,s]", type, "null"));
}

/* The shape of an example: types and members, nothing of what must be there. nullable: names of members, at any depth, that may be null although they are not here. */
static json_t *shape_of(const json_t *v, const json_t *nullable, unsigned depth)
{
	const char *name;
	json_t *one, *inner, *shape;
	if (depth > DEPTH_MAX || json_is_null(v))
		return json_object();
	switch (json_typeof(v)) {
	case JSON_OBJECT:
		inner = json_object();
		json_object_foreach((json_t *)(uintptr_t)v, name, one)
		{
			shape = shape_of(one, nullable, depth + 1);
			if (is_among(nullable, name))
				allow_null(shape);
			json_object_set_new(inner, name, shape);
		}
		return json_pack("{s:s, s:o}", "type", "object", "properties", inner);
	case JSON_ARRAY:
		return json_pack("{s:s, s:o}", "type", "array", "items", json_array_size(v) ? shape_of(json_array_get(v, 0), nullable, depth + 1) : json_object());
	case JSON_STRING:
		return type_of("string", false);
	case JSON_TRUE:
	case JSON_FALSE:
		return type_of("boolean", false);
	default:
		return type_of("number", false);
	}
}

/* ---- errors ---- */

static const struct fault {
	unsigned status;
	enum tg_error error;
	const char *description;
} faults[] = {
	{ 400, TG_E_bad_field, "The request is not as it must be; `message` says where" },
	{ 401, TG_E_unauthenticated, "No credential, or one that is unknown, expired or revoked; `event` says which of the first two" },
	{ 403, TG_E_forbidden, "The caller lacks the permission" },
	{ 404, TG_E_not_found, "There is no such thing" },
	{ 409, TG_E_conflict, "It collides with what is there" },
	{ 413, TG_E_too_large, "The body is larger than this route takes" },
	{ 415, TG_E_media_type, "The body's Content-Type is not what this route takes" },
	{ 429, TG_E_rate_limited, "A limit is used up, or too many credentials were wrong; Retry-After says when to come again" },
	{ 500, TG_E_internal, "The server failed, or has no key that could be compared with" },
	{ 502, TG_E_bad_gateway, "The worker answered nonsense, or was lost before it answered" },
	{ 503, TG_E_unavailable, "The server is starting, draining or full, or what it needs is away; Retry-After may say when to come again" },
	{ 504, TG_E_first_byte_timeout, "The worker took longer than its clocks allow" },
};

static const char *const family_names[] = {
	[TG_FAM_ADMIN0] = "admin", [TG_FAM_READ0] = "read", [TG_FAM_OPENAI] = "openai", [TG_FAM_INFER] = "infer",
	[TG_FAM_API] = "api", [TG_FAM_CHAPKIT] = "chapkit", [TG_FAM_CREDIT] = "credit", [TG_FAM_PLAIN] = "plain",
};
_Static_assert(sizeof family_names / sizeof *family_names == TG_FAM_COUNT, "a family has no name");

static const char *problem_schema_of(enum tg_family f)
{
	return f == TG_FAM_OPENAI ? "ProblemOpenAI" : f == TG_FAM_CREDIT ? "ProblemCode" : "Problem";
}

static json_t *problem_schema(enum tg_family f)
{
	json_t *error = f == TG_FAM_CREDIT ? json_pack("{s:s, s:s}", "type", "string", "description", "The code once more")
					   : json_pack("{s:s, s:[s,s,s], s:{s:{s:s}, s:{s:s}, s:{s:s}, s:{s:[s,s]}, s:{}}}", "type", "object", "required", "code", "message", "type", "properties", "code",
						       "type", "string", "message", "type", "string", "type", "type", "string", "param", "type", "string", "null", "details");
	return json_pack("{s:s, s:s, s:[s,s,s,s,s,s,s,s,s,s], s:{s:{s:s,s:s}, s:{s:s}, s:{s:s}, s:{s:s,s:s}, s:{s:s,s:s}, s:{s:s,s:s}, s:{s:s}, s:{s:s,s:s}, s:{s:[s,s],s:s}, s:{s:s,s:[s,s]}, s:o}}",
			 "type", "object", "description", "RFC 9457's members, with the members that each kind of client looks for", "required", "type", "title", "status", "detail", "instance", "code",
			 "message", "timestamp", "request_id", "error", "properties", "type", "type", "string", "format", "uri-reference", "title", "type", "string", "status", "type", "integer", "detail",
			 "type", "string", "description", "One sentence for people", "instance", "type", "string", "format", "uri-reference", "code", "type", "string", "description",
			 "For programs: VALIDATION_ERROR, AUTHENTICATION_FAILED, PERMISSION_DENIED, NOT_FOUND, RATE_LIMITED ...", "message", "type", "string", "timestamp", "type", "string", "format",
			 "date-time", "request_id", "type", "string", "null", "description", "Of the header X-Request-ID; a line of the log has it too", "event", "type", "string", "enum",
			 "auth.missing_key", "auth.invalid_key", "error", error);
}

/* As the program writes it, but for the time. */
static json_t *problem_example(const struct fault *f, enum tg_family family)
{
	struct tg_buf b;
	struct tg_problem p = { .error = f->error, .family = family, .instance = TG_S("/"), .request_id = TG_S("01JDE8F0000000000000000000") };
	tg_buf_init(&b, 8192);
	tg_problem_write(&b, &p);
	json_t *o = json_loadb(b.p, b.failed ? 0 : b.len, 0, NULL);
	tg_buf_free(&b);
	if (o)
		json_object_set_new(o, "timestamp", json_string("2026-01-01T00:00:00.000Z"));
	return o ? o : json_object();
}

static void add_fault(json_t *components, json_t *responses, enum tg_family family, unsigned status, const char *words)
{
	const struct fault *f = NULL;
	char key[16], name[48], ref[96];
	for (size_t i = 0; i < sizeof faults / sizeof *faults && !f; i++)
		if (faults[i].status == status)
			f = &faults[i];
	snprintf(key, sizeof key, "%u", status);
	if (!f || (!words && json_object_get(responses, key)))
		return;
	snprintf(name, sizeof name, "%u-%s", status, family_names[family]);
	snprintf(ref, sizeof ref, "#/components/schemas/%s", problem_schema_of(family));
	json_t *known = json_object_get(json_object_get(components, "responses"), name);
	if (words || !known) {
		json_t *made = json_pack("{s:s, s:{s:{s:{s:s}, s:o}}}", "description", words ? words : f->description, "content", tg_problem_type(family), "schema", "$ref", ref, "example",
					 problem_example(f, family));
		if (words)
			json_object_set_new(responses, key, made);
		else
			json_object_set_new(json_object_get(components, "responses"), name, made);
	}
	if (words)
		return;
	snprintf(ref, sizeof ref, "#/components/responses/%s", name);
	json_object_set_new(responses, key, json_pack("{s:s}", "$ref", ref));
}

/* ---- operations ---- */

struct row {
	const struct tg_route *r;
	enum tg_method method;
	const json_t *words;              /* its entry in examples.json; NULL: none */
	const struct tg_body *table;
	const struct tg_forward *forward;
	bool body;
};

static void errors_of(json_t *components, json_t *responses, const struct row *o)
{
	enum tg_family f = (enum tg_family)o->r->family;
	const char *status;
	json_t *words;
	json_object_foreach(json_object_get(o->words, "errors"), status, words)
		add_fault(components, responses, f, (unsigned)strtoul(status, NULL, 10), json_string_value(words));
	bool open = o->r->guard == TG_GUARD_PUBLIC;
	const struct {
		bool applies;
		unsigned status;
	} rules[] = {
		{ o->body, 400 }, { !open, 401 }, { o->r->guard == TG_GUARD_PERMS, 403 }, { o->forward || memchr(o->r->path.p, '{', o->r->path.n) || o->r->path.p[o->r->path.n - 1] == '*', 404 },
		{ o->body, 413 }, { o->table || (o->forward && o->forward->strict_type), 415 }, { !open || o->r->limit != TG_LIMIT_NONE, 429 }, { true, 500 },
		{ o->forward, 502 }, { true, 503 }, { o->forward, 504 },
	};
	for (size_t i = 0; i < sizeof rules / sizeof *rules; i++)
		if (rules[i].applies)
			add_fault(components, responses, f, rules[i].status, NULL);
}

static void add_answer(json_t *responses, const json_t *words)
{
	json_t *example = json_object_get(words, "response"), *status = json_object_get(words, "status"), *about = json_object_get(words, "answer");
	const char *type = json_string_value(json_object_get(words, "type"));
	char key[16];
	snprintf(key, sizeof key, "%d", status ? (int)json_integer_value(status) : 200);
	json_t *answer = json_object_get(responses, key);
	if (!answer) {
		answer = json_pack("{s:s}", "description", about ? json_string_value(about) : "It is done");
		json_object_set_new(responses, key, answer);
	}
	if (!example)
		return;
	if (!json_object_get(answer, "content"))
		json_object_set_new(answer, "content", json_object());
	json_object_set_new(json_object_get(answer, "content"), type ? type : "application/json", json_pack("{s:o, s:O}", "schema", shape_of(example, json_object_get(words, "nullable"), 0), "example", example));
}

static json_t *answers(json_t *components, const struct row *o)
{
	json_t *responses = json_object(), *one;
	size_t i;
	add_answer(responses, o->words);
	json_array_foreach(json_object_get(o->words, "also"), i, one)
		add_answer(responses, one);
	errors_of(components, responses, o);
	return responses;
}

static json_t *body_schema(const struct row *o)
{
	json_t *credit = tg_credit_schema(o->r->handler), *own = json_object_get(o->words, "schema"), *example = json_object_get(o->words, "request");
	return credit ? credit : o->table ? table_schema(o->table, json_object_get(o->words, "fields")) : own ? json_incref(own) : example ? shape_of(example, NULL, 0) : json_pack("{s:s}", "type", "object");
}

static json_t *request_of(const struct row *o)
{
	json_t *example = json_object_get(o->words, "request"), *schema = body_schema(o);
	const char *type = json_string_value(json_object_get(o->words, "accepts"));
	bool needed = o->table ? json_array_size(json_object_get(schema, "required")) > 0 : !json_is_true(json_object_get(o->words, "optional_body"));
	json_t *media = json_pack("{s:o}", "schema", schema);
	if (example)
		json_object_set(media, "example", example);
	json_t *request = json_pack("{s:b, s:{s:o}}", "required", needed, "content", type ? type : "application/json", media), *text;
	const char *other;
	json_object_foreach(json_object_get(o->words, "or_as"), other, text) { /* {type: example} of bodies that are no JSON; an object is a form's */
		json_t *form = json_is_object(text) ? tg_credit_form_schema(o->r->handler) : NULL;
		json_object_set_new(json_object_get(request, "content"), other, json_pack("{s:o, s:O}", "schema", form ? form : type_of("string", false), "example", text));
	}
	return request;
}

static void add_parameter(json_t *list, const char *in, const char *name, size_t n, const json_t *words)
{
	json_t *schema = json_object_get(words, "schema"), *about = json_object_get(words, "description"), *example = json_object_get(words, "example");
	json_t *p = json_pack("{s:s%, s:s, s:b, s:o}", "name", name, n, "in", in, "required", strcmp(in, "path") == 0, "schema", schema ? json_incref(schema) : type_of("string", false));
	if (about)
		json_object_set(p, "description", about);
	if (example)
		json_object_set(p, "example", example);
	json_array_append_new(list, p);
}

static json_t *parameters_of(const struct row *o)
{
	json_t *list = json_array(), *path = json_object_get(o->words, "path"), *words;
	const char *at = o->r->path.p, *end = at + o->r->path.n, *name;
	while (at < end && (at = memchr(at, '{', (size_t)(end - at)))) {
		const char *close = memchr(at, '}', (size_t)(end - at));
		if (!close)
			break;
		char key[64];
		snprintf(key, sizeof key, "%.*s", (int)(close - at - 1), at + 1);
		add_parameter(list, "path", at + 1, (size_t)(close - at - 1), json_object_get(path, key));
		at = close;
	}
	if (end[-1] == '*')
		add_parameter(list, "path", "rest", 4, json_object_get(path, "rest"));
	json_object_foreach(json_object_get(o->words, "query"), name, words)
		add_parameter(list, "query", name, strlen(name), words);
	json_object_foreach(json_object_get(o->words, "header"), name, words)
		add_parameter(list, "header", name, strlen(name), words);
	json_t *credit = tg_credit_parameters(o->r->handler);
	json_object_foreach(credit, name, words)
		add_parameter(list, "query", name, strlen(name), words);
	json_decref(credit);
	return list;
}

/* "get_api_v1_auth_api_keys_id": stays what it is while method and path do. */
static void operation_id(const struct row *o, char out[KEY_MAX])
{
	struct tg_buf b;
	tg_buf_init(&b, KEY_MAX - 1);
	for (const char *m = tg_method_names[o->method]; *m; m++)
		tg_buf_char(&b, (char)(*m | 0x20));
	if (o->r->path.n == 1)
		tg_buf_lit(&b, "_root");
	for (size_t i = 0; i < o->r->path.n && o->r->path.n > 1; i++) {
		char c = o->r->path.p[i];
		bool word = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
		if (word)
			tg_buf_char(&b, c);
		else if (c == '*')
			tg_buf_lit(&b, "any");
		else if (c == '$')
			tg_buf_lit(&b, "do_");
		else if (b.len && b.p[b.len - 1] != '_' && c != '}')
			tg_buf_char(&b, '_');
	}
	snprintf(out, KEY_MAX, "%.*s%s", (int)b.len, b.p ? b.p : "", o->r->path.n > 1 && o->r->path.p[o->r->path.n - 1] == '/' ? "all" : "");
	tg_buf_free(&b);
}

static const char *tag_of(const struct tg_route *r, char room[32])
{
	if (r->family == TG_FAM_OPENAI)
		return "openai";
	if (r->family == TG_FAM_PLAIN)
		return "service";
	struct tg_slice p = r->path;
	size_t skip = tg_slice_starts(p, TG_S("/api/v1/")) ? 8 : 1, n = 0;
	while (skip + n < p.n && n < 31 && p.p[skip + n] != '/')
		n++;
	snprintf(room, 32, "%.*s", (int)n, p.p + skip);
	return room;
}

/* What it does, what it needs, what it counts against. */
static json_t *description(const struct row *o)
{
	char perms[TG_PERMS_TEXT];
	struct tg_buf b;
	const char *about = json_string_value(json_object_get(o->words, "about"));
	tg_buf_init(&b, 16384);
	tg_buf_cstr(&b, o->r->description);
	tg_buf_lit(&b, ". ");
	if (about) {
		tg_buf_cstr(&b, about);
		tg_buf_char(&b, ' ');
	}
	tg_perms_text(o->r->perms, " or ", perms);
	if (o->r->guard == TG_GUARD_PUBLIC)
		tg_buf_lit(&b, "Needs no credential.");
	else if (o->r->guard == TG_GUARD_ANY)
		tg_buf_lit(&b, "Needs any valid credential.");
	else
		tg_buf_fmt(&b, "Needs the permission %s.", perms);
	if (o->r->limit != TG_LIMIT_NONE)
		tg_buf_fmt(&b, " Counts against the limit `%s`.", tg_limit_class_names[o->r->limit]);
	json_t *text = json_stringn(b.p ? b.p : "", b.len);
	tg_buf_free(&b);
	return text;
}

static json_t *operation(json_t *components, const struct row *o)
{
	char id[KEY_MAX], tag[32];
	operation_id(o, id);
	json_t *op = json_pack("{s:s, s:s, s:o, s:[s], s:o, s:o}", "operationId", id, "summary", o->r->description, "description", description(o), "tags", tag_of(o->r, tag), "security",
			       o->r->guard == TG_GUARD_PUBLIC ? json_array() : json_pack("[{s:[]}, {s:[]}]", "bearer", "apiKey"), "responses", answers(components, o));
	json_t *parameters = parameters_of(o);
	if (json_array_size(parameters))
		json_object_set(op, "parameters", parameters);
	json_decref(parameters);
	if (o->body)
		json_object_set_new(op, "requestBody", request_of(o));
	return op;
}

/* OpenAPI has no tree in a path: "*" is a parameter. */
static void path_of(const struct tg_route *r, char out[KEY_MAX])
{
	bool tree = r->path.p[r->path.n - 1] == '*';
	snprintf(out, KEY_MAX, "%.*s%s", (int)(r->path.n - tree), r->path.p, tree ? "{rest}" : "");
}

static void add_row(json_t *paths, json_t *components, const json_t *examples, const struct tg_route *r, enum tg_method m)
{
	char key[KEY_MAX], name[8] = "";
	snprintf(key, sizeof key, "%s %.*s", tg_method_names[m], (int)r->path.n, r->path.p);
	struct row o = { .r = r, .method = m, .words = json_object_get(examples, key), .table = body_of(r), .forward = tg_forward_of(r) };
	o.body = o.table || o.forward || json_object_get(o.words, "request") || json_object_get(o.words, "schema");
	path_of(r, key);
	for (size_t i = 0; tg_method_names[m][i] && i < sizeof name - 1; i++)
		name[i] = (char)(tg_method_names[m][i] | 0x20);
	if (!json_object_get(paths, key))
		json_object_set_new(paths, key, json_object());
	json_object_set_new(json_object_get(paths, key), name, operation(components, &o));
}

json_t *tg_openapi(const char *title)
{
	const char *text = tg_web_file(TG_S("examples.json"));
	json_t *examples = text ? json_loads(text, JSON_REJECT_DUPLICATES, NULL) : NULL;
	if (!examples)
		return NULL;
	json_t *paths = json_object(), *components = json_pack("{s:{s:o, s:o, s:o}, s:{}, s:{s:{s:s,s:s,s:s}, s:{s:s,s:s,s:s,s:s}}}", "schemas", "Problem", problem_schema(TG_FAM_PLAIN), "ProblemOpenAI",
							       problem_schema(TG_FAM_OPENAI), "ProblemCode", problem_schema(TG_FAM_CREDIT), "responses", "securitySchemes", "bearer", "type", "http",
							       "scheme", "bearer", "description", "A key, or the token of a login", "apiKey", "type", "apiKey", "in", "header", "name", "X-API-Key",
							       "description", "A key");
	for (unsigned i = 0; i < tg_nroutes; i++) {
		const struct tg_route *r = &tg_routes[i];
		if (r->state == TG_ROUTE_LATER || r->state == TG_ROUTE_NOWHERE)
			continue;
		for (enum tg_method m = TG_GET; m <= TG_DELETE; m++)
			if (r->method == m || (r->method == TG_METHOD_ANY && m != TG_HEAD))
				add_row(paths, components, examples, r, m);
	}
	json_decref(examples);
	return json_pack("{s:s, s:{s:s, s:s, s:s, s:{s:s, s:s}}, s:[{s:s}], s:o, s:o}", "openapi", "3.1.0", "info", "title", title, "version", TG_VERSION, "description",
			 "A gate in front of model workers: who is calling, may they, how much, which worker.", "license", "name", "Apache-2.0", "identifier", "Apache-2.0", "servers", "url", "/", "paths",
			 paths, "components", components);
}
