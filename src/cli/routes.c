/*
 * `tollgate routes`: the permission matrix, printed from the very table that the gate decides by. What it says is therefore what is enforced.
 */
#include "base/buf.h"
#include "cli/cli.h"
#include "gate/route.h"
#include "policy/principal.h"
#include <stdio.h>

#define OUT_MAX (1u << 20)

static const char *method_of(const struct tg_route *r)
{
	return r->method == TG_METHOD_ANY ? "*" : tg_method_names[r->method];
}

static const char *state_of(const struct tg_route *r)
{
	static const char *const words[] = { [TG_ROUTE_LIVE] = "live", [TG_ROUTE_LATER] = "not yet (501)", [TG_ROUTE_NOWHERE] = "closed (404)", [TG_ROUTE_UPLOAD] = "live" };
	return words[r->state];
}

/* "read_models or manage_queue", or as JSON strings. */
static void permissions(struct tg_buf *b, uint32_t perms, const char *between, bool json)
{
	bool first = true;
	for (uint32_t bit = 1; bit & TG_PERM_ALL; bit <<= 1) {
		if (!(perms & bit))
			continue;
		if (!first)
			tg_buf_cstr(b, between);
		first = false;
		if (json)
			tg_buf_json(b, tg_slice_cstr(tg_perm_name(bit)));
		else
			tg_buf_cstr(b, tg_perm_name(bit));
	}
}

static void guard_words(struct tg_buf *b, const struct tg_route *r)
{
	if (r->guard == TG_GUARD_PUBLIC)
		tg_buf_lit(b, "public");
	else if (r->guard == TG_GUARD_ANY)
		tg_buf_lit(b, "any key");
	else
		permissions(b, r->perms, " or ", false);
}

static void json_member(struct tg_buf *b, const char *name, const char *value)
{
	tg_buf_json(b, tg_slice_cstr(name));
	tg_buf_char(b, ':');
	tg_buf_json(b, tg_slice_cstr(value));
	tg_buf_char(b, ',');
}

static void print_json(struct tg_buf *b)
{
	static const char *const guards[] = { [TG_GUARD_PUBLIC] = "public", [TG_GUARD_ANY] = "any", [TG_GUARD_PERMS] = "permissions" };
	static const char *const states[] = { [TG_ROUTE_LIVE] = "live", [TG_ROUTE_LATER] = "later", [TG_ROUTE_NOWHERE] = "closed", [TG_ROUTE_UPLOAD] = "live" };
	tg_buf_char(b, '[');
	for (unsigned i = 0; i < tg_nroutes; i++) {
		const struct tg_route *r = &tg_routes[i];
		tg_buf_cstr(b, i ? ",\n {" : "\n {");
		json_member(b, "method", method_of(r));
		json_member(b, "path", r->path.p);
		json_member(b, "guard", guards[r->guard]);
		tg_buf_lit(b, "\"permissions\":[");
		permissions(b, r->perms, ",", true);
		tg_buf_lit(b, "],");
		json_member(b, "limit", tg_limit_class_names[r->limit]);
		json_member(b, "state", states[r->state]);
		tg_buf_lit(b, "\"description\":");
		tg_buf_json(b, tg_slice_cstr(r->description));
		tg_buf_char(b, '}');
	}
	tg_buf_lit(b, "\n]\n");
}

enum { COLS = 5 };

/* The cells of a row, each ended by NUL, in one buffer: widths are known only after all rows were seen. */
static void cells(struct tg_buf *b, const struct tg_route *r)
{
	tg_buf_cstr(b, method_of(r));
	tg_buf_char(b, 0);
	tg_buf_slice(b, r->path);
	tg_buf_char(b, 0);
	guard_words(b, r);
	tg_buf_char(b, 0);
	tg_buf_cstr(b, tg_limit_class_names[r->limit]);
	tg_buf_char(b, 0);
	tg_buf_cstr(b, state_of(r));
	tg_buf_char(b, 0);
}

static void print_row(struct tg_buf *out, const char *cell, const size_t width[COLS], const char *description)
{
	for (unsigned c = 0; c < COLS; c++) {
		size_t n = strlen(cell);
		tg_buf_put(out, cell, n);
		for (size_t pad = width[c] + 2 - n; pad; pad--)
			tg_buf_char(out, ' ');
		cell += n + 1;
	}
	tg_buf_cstr(out, description);
	tg_buf_char(out, '\n');
}

static void print_table(struct tg_buf *out)
{
	static const char titles[] = "METHOD\0PATH\0GUARD\0LIMIT\0STATE";
	struct tg_buf row;
	tg_buf_init(&row, 4096);
	size_t width[COLS] = { 0 };
	for (unsigned pass = 0; pass < 2; pass++)
		for (unsigned i = 0; i <= tg_nroutes; i++) {
			row.len = 0;
			if (i == 0)
				tg_buf_put(&row, titles, sizeof titles);
			else
				cells(&row, &tg_routes[i - 1]);
			if (row.failed)
				break;
			const char *cell = row.p;
			for (unsigned c = 0; pass == 0 && c < COLS; c++) {
				size_t n = strlen(cell);
				width[c] = n > width[c] ? n : width[c];
				cell += n + 1;
			}
			if (pass)
				print_row(out, row.p, width, i ? tg_routes[i - 1].description : "WHAT IT DOES");
		}
	out->failed |= row.failed;
	tg_buf_free(&row);
	tg_buf_lit(out, "\nGUARD: \"public\" needs no key, \"any key\" any valid one; else one of the permissions named. Streamed inference also needs use_streaming.\n"
			"LIMIT: the class under [limits] in tollgate.toml. A path that is not listed answers 401 without a valid key, 404 with one.\n");
}

int tg_cmd_routes(int argc, char **argv)
{
	bool json = false;
	for (int i = 1; i < argc; i++) {
		if (strcmp(argv[i], "--json") == 0) {
			json = true;
		} else if (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0) {
			puts("usage: tollgate routes [--json]\n\n"
			     "Prints every route with the permission it needs, its limit class and whether it is there yet. This is the table\n"
			     "that the gate itself decides by.\n\n"
			     "  --json   one JSON array, for programs");
			return 0;
		} else {
			fprintf(stderr, "tollgate routes: unknown argument '%s' (there is only --json)\n", argv[i]);
			return 2;
		}
	}
	struct tg_buf out;
	tg_buf_init(&out, OUT_MAX);
	if (json)
		print_json(&out);
	else
		print_table(&out);
	bool ok = !out.failed && fwrite(out.p, 1, out.len, stdout) == out.len && fflush(stdout) == 0;
	tg_buf_free(&out);
	if (!ok)
		fprintf(stderr, "tollgate routes: cannot write\n");
	return ok ? 0 : 1;
}
