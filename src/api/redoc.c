/*
 * The description of the interface as a page to read: written here, on the server, from the same document that programs read, so that it needs no script and shows in any browser. Everything
 * from the document is escaped: the title is the operator's.
 */
#include "api/docs.h"
#include "base/version.h"

static void put(struct tg_buf *b, const json_t *v)
{
	tg_buf_html(b, json_is_string(v) ? json_string_value(v) : "");
}

static const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static void put_json(struct tg_buf *b, const json_t *v)
{
	char *s = json_is_string(v) ? NULL : json_dumps(v, JSON_INDENT(2) | JSON_ENCODE_ANY);
	tg_buf_lit(b, "<pre>");
	if (json_is_string(v))
		put(b, v);
	else
		tg_buf_html(b, s ? s : "");
	tg_buf_lit(b, "</pre>");
	free(s);
}

/* "array of string", "string or null". */
static void put_type(struct tg_buf *b, const json_t *schema)
{
	const json_t *type = json_object_get(schema, "type"), *items = json_object_get(schema, "items");
	if (json_is_string(type)) {
		put(b, type);
	} else if (json_is_array(type)) {
		for (size_t i = 0; i < json_array_size(type); i++) {
			tg_buf_cstr(b, i ? " or " : "");
			put(b, json_array_get(type, i));
		}
	} else {
		tg_buf_lit(b, "anything");
	}
	if (json_is_string(json_object_get(items, "type"))) {
		tg_buf_lit(b, " of ");
		put(b, json_object_get(items, "type"));
	}
}

static void put_bounds(struct tg_buf *b, const json_t *schema)
{
	static const struct {
		const char *name, *words;
	} bounds[] = { { "minimum", "from " }, { "maximum", "to " }, { "minLength", "characters from " }, { "maxLength", "to " } };
	for (size_t i = 0; i < sizeof bounds / sizeof *bounds; i++) {
		const json_t *v = json_object_get(schema, bounds[i].name);
		if (!json_is_integer(v))
			continue;
		tg_buf_char(b, ' ');
		tg_buf_cstr(b, bounds[i].words);
		tg_buf_i64(b, json_integer_value(v));
	}
	const json_t *values = json_object_get(json_object_get(schema, "items"), "enum");
	for (size_t i = 0; i < json_array_size(values ? values : json_object_get(schema, "enum")); i++) {
		tg_buf_cstr(b, i ? ", " : " one of: ");
		put(b, json_array_get(values ? values : json_object_get(schema, "enum"), i));
	}
}

static void put_row(struct tg_buf *b, const char *name, const char *where, bool required, const json_t *schema, const char *about)
{
	tg_buf_lit(b, "<tr><td><code>");
	tg_buf_html(b, name);
	tg_buf_lit(b, "</code>");
	tg_buf_cstr(b, required ? " <em>required</em>" : "");
	tg_buf_lit(b, "</td><td>");
	tg_buf_html(b, where);
	tg_buf_lit(b, "</td><td>");
	put_type(b, schema);
	put_bounds(b, schema);
	tg_buf_lit(b, "</td><td>");
	tg_buf_html(b, about);
	tg_buf_lit(b, "</td></tr>");
}

static bool is_required(const json_t *schema, const char *name)
{
	const json_t *list = json_object_get(schema, "required");
	for (size_t i = 0; i < json_array_size(list); i++)
		if (strcmp(json_string_value(json_array_get(list, i)), name) == 0)
			return true;
	return false;
}

static void put_inputs(struct tg_buf *b, const json_t *op, const json_t *schema)
{
	const json_t *parameters = json_object_get(op, "parameters");
	const char *name;
	json_t *one;
	size_t i;
	if (!json_array_size(parameters) && !json_object_size(json_object_get(schema, "properties")))
		return;
	tg_buf_lit(b, "<table><thead><tr><th>Name</th><th>Where</th><th>Type</th><th>Meaning</th></tr></thead><tbody>");
	json_array_foreach(parameters, i, one)
		put_row(b, text(one, "name"), text(one, "in"), json_is_true(json_object_get(one, "required")), json_object_get(one, "schema"), text(one, "description"));
	json_object_foreach(json_object_get(schema, "properties"), name, one)
		put_row(b, name, "body", is_required(schema, name), one, text(one, "description"));
	tg_buf_lit(b, "</tbody></table>");
}

/* An answer may be a reference into the components. */
static const json_t *answer_of(const json_t *doc, const json_t *answer)
{
	const char *ref = text(answer, "$ref"), *name = strrchr(ref, '/');
	return name ? json_object_get(json_object_get(json_object_get(doc, "components"), "responses"), name + 1) : answer;
}

static void put_answers(struct tg_buf *b, const json_t *doc, const json_t *op)
{
	const char *status, *type;
	json_t *one, *media;
	tg_buf_lit(b, "<h4>Answers</h4><dl>");
	json_object_foreach(json_object_get(op, "responses"), status, one) {
		const json_t *answer = answer_of(doc, one);
		tg_buf_lit(b, "<dt>");
		tg_buf_html(b, status);
		tg_buf_lit(b, "</dt><dd>");
		tg_buf_html(b, text(answer, "description"));
		if (status[0] == '2')
			json_object_foreach(json_object_get(answer, "content"), type, media) {
				tg_buf_lit(b, "<p><code>");
				tg_buf_html(b, type);
				tg_buf_lit(b, "</code></p>");
				put_json(b, json_object_get(media, "example"));
			}
		tg_buf_lit(b, "</dd>");
	}
	tg_buf_lit(b, "</dl>");
}

static void put_operation(struct tg_buf *b, const json_t *doc, const char *path, const char *method, const json_t *op)
{
	const char *type;
	json_t *media;
	tg_buf_lit(b, "<article id=\"");
	put(b, json_object_get(op, "operationId"));
	tg_buf_lit(b, "\"><h3><span class=\"method ");
	tg_buf_html(b, method);
	tg_buf_lit(b, "\">");
	tg_buf_html(b, method);
	tg_buf_lit(b, "</span> <code>");
	tg_buf_html(b, path);
	tg_buf_lit(b, "</code></h3><p>");
	put(b, json_object_get(op, "description"));
	tg_buf_lit(b, "</p>");
	const json_t *content = json_object_get(json_object_get(op, "requestBody"), "content");
	const json_t *first = json_object_iter_value(json_object_iter((json_t *)(uintptr_t)content));
	put_inputs(b, op, json_object_get(first, "schema"));
	json_object_foreach((json_t *)(uintptr_t)content, type, media)
		if (json_object_get(media, "example")) {
			tg_buf_lit(b, "<h4>Request, <code>");
			tg_buf_html(b, type);
			tg_buf_lit(b, "</code></h4>");
			put_json(b, json_object_get(media, "example"));
		}
	put_answers(b, doc, op);
	tg_buf_lit(b, "</article>");
}

static bool tagged(const json_t *op, const char *tag)
{
	return strcmp(json_string_value(json_array_get(json_object_get(op, "tags"), 0)), tag) == 0;
}

/* Every tag once, in the order in which they first come. */
static json_t *tags_of(const json_t *doc)
{
	json_t *seen = json_object(), *list = json_array(), *methods, *op;
	const char *path, *method;
	json_object_foreach(json_object_get(doc, "paths"), path, methods)
		json_object_foreach(methods, method, op) {
			json_t *tag = json_array_get(json_object_get(op, "tags"), 0);
			if (!json_object_get(seen, json_string_value(tag)))
				json_array_append(list, tag);
			json_object_set(seen, json_string_value(tag), tag);
		}
	json_decref(seen);
	return list;
}

static void contents(struct tg_buf *b, const json_t *doc, const json_t *tags)
{
	const char *path, *method;
	json_t *tag, *methods, *op;
	size_t i;
	tg_buf_lit(b, "<nav aria-label=\"Contents\"><ul>");
	json_array_foreach(tags, i, tag) {
		tg_buf_lit(b, "<li><a href=\"#tag-");
		put(b, tag);
		tg_buf_lit(b, "\">");
		put(b, tag);
		tg_buf_lit(b, "</a><ul>");
		json_object_foreach(json_object_get(doc, "paths"), path, methods)
			json_object_foreach(methods, method, op)
				if (tagged(op, json_string_value(tag))) {
					tg_buf_lit(b, "<li><a href=\"#");
					put(b, json_object_get(op, "operationId"));
					tg_buf_lit(b, "\">");
					put(b, json_object_get(op, "summary"));
					tg_buf_lit(b, "</a></li>");
				}
		tg_buf_lit(b, "</ul></li>");
	}
	tg_buf_lit(b, "</ul></nav>");
}

void tg_redoc(struct tg_buf *b, const json_t *doc)
{
	const json_t *info = json_object_get(doc, "info");
	const char *path, *method;
	json_t *tags = tags_of(doc), *tag, *methods, *op;
	size_t i;
	tg_buf_lit(b, "<!doctype html><html lang=\"en\"><head><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"><title>");
	put(b, json_object_get(info, "title"));
	tg_buf_lit(b, "</title><link rel=\"stylesheet\" href=\"/assets/docs.css\"></head><body>");
	contents(b, doc, tags);
	tg_buf_lit(b, "<main><h1>");
	put(b, json_object_get(info, "title"));
	tg_buf_lit(b, " <small>" TG_VERSION "</small></h1><p>");
	put(b, json_object_get(info, "description"));
	tg_buf_lit(b, " A credential is sent as <code>Authorization: Bearer KEY</code> or <code>X-API-Key: KEY</code>. <a href=\"/docs\">To try it</a>; <a href=\"/openapi.json\">for programs</a>.</p>");
	json_array_foreach(tags, i, tag) {
		tg_buf_lit(b, "<section><h2 id=\"tag-");
		put(b, tag);
		tg_buf_lit(b, "\">");
		put(b, tag);
		tg_buf_lit(b, "</h2>");
		json_object_foreach(json_object_get(doc, "paths"), path, methods)
			json_object_foreach(methods, method, op)
				if (tagged(op, json_string_value(tag)))
					put_operation(b, doc, path, method, op);
		tg_buf_lit(b, "</section>");
	}
	tg_buf_lit(b, "</main></body></html>\n");
	json_decref(tags);
}
