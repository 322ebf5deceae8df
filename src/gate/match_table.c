/*
 * Matching. Three kinds of rows: exact paths, found by one hash; "{x}" rows, which take one segment in its place; rows ending in a star, which take a tree
 * and are tried longest first. A path may have rows of all three kinds, and the first that has the method wins: POST /models/info is answered by the row for
 * writes under /models, so that a write is refused by its own permission before anyone learns that the path exists.
 *
 * Invariants: the table never changes after tg_route_init. A path is compared in one spelling only (see the header), decoded into a bounded buffer
 * only if it holds a '%'. The cost is linear in the path: trees are compared by prefix, never by walking up the segments.
 */
#include "gate/match_table.h"
#include <stdio.h>
#include <stdlib.h>

#define PATHS_MAX 256          /* distinct paths in the table */
#define SLOTS (PATHS_MAX * 2)  /* of the hash: at most half full */
#define DECODED_MAX 2048       /* a longer path with escapes in it matches nothing */
#define METHODS (TG_METHOD_OTHER + 1)

struct entry {
	struct tg_slice key;  /* exact: the path; pattern: up to its "{x}"; tree: up to and with the last slash */
	struct tg_slice tail; /* pattern: behind its "{x}": "" or "/rotate" */
	const struct tg_route *by[METHODS], *any;
};
struct list {
	struct entry v[PATHS_MAX];
	unsigned n;
};

static struct list exact, patterns, trees;
static uint16_t slots[SLOTS]; /* place in `exact` + 1; 0: free */
static size_t longest;        /* of the exact paths */

static uint32_t hash(struct tg_slice s)
{
	uint32_t h = 2166136261u; /* FNV-1a: the keys are ours, a caller can at most miss */
	for (size_t i = 0; i < s.n; i++)
		h = (h ^ (unsigned char)s.p[i]) * 16777619u;
	return h ^ h >> 15;
}

static _Noreturn void bad_table(const struct tg_route *r, const char *why)
{
	fprintf(stderr, "tollgate: tables/routes.def: %s: %s\n", r->path.p, why);
	abort();
}

static void add(struct list *l, struct tg_slice key, struct tg_slice tail, const struct tg_route *r)
{
	struct entry *e = NULL;
	for (unsigned i = 0; i < l->n && !e; i++)
		if (tg_slice_eq(l->v[i].key, key) && tg_slice_eq(l->v[i].tail, tail))
			e = &l->v[i];
	if (!e) {
		if (l->n == PATHS_MAX)
			bad_table(r, "too many paths");
		e = &l->v[l->n++];
		*e = (struct entry){ .key = key, .tail = tail };
	}
	const struct tg_route **place = r->method == TG_METHOD_ANY ? &e->any : &e->by[r->method];
	if (*place)
		bad_table(r, "two rows for one method and path");
	*place = r;
}

static int longer_first(const void *a, const void *b)
{
	size_t x = ((const struct entry *)a)->key.n, y = ((const struct entry *)b)->key.n;
	return x < y ? 1 : x > y ? -1 : 0;
}

void tg_route_init(void)
{
	exact.n = patterns.n = trees.n = 0;
	longest = 0;
	memset(slots, 0, sizeof slots);
	for (unsigned i = 0; i < tg_nroutes; i++) {
		const struct tg_route *r = &tg_routes[i];
		const char *last = memrchr(r->path.p, '/', r->path.n), *open = memchr(r->path.p, '{', r->path.n), *end = r->path.p + r->path.n;
		const char *close = open ? memchr(open, '}', (size_t)(end - open)) : NULL;
		struct tg_slice none = { 0 };
		if (!last)
			bad_table(r, "a path begins with a slash");
		if (open && (!close || open[-1] != '/' || (close + 1 != end && close[1] != '/') || memchr(close, '{', (size_t)(end - close))))
			bad_table(r, "\"{x}\" must be one whole segment, once");
		if (last[1] == '*')
			add(&trees, (struct tg_slice){ r->path.p, (size_t)(last + 1 - r->path.p) }, none, r);
		else if (open)
			add(&patterns, (struct tg_slice){ r->path.p, (size_t)(open - r->path.p) }, (struct tg_slice){ close + 1, (size_t)(end - close - 1) }, r);
		else
			add(&exact, r->path, none, r);
	}
	qsort(trees.v, trees.n, sizeof *trees.v, longer_first);
	for (unsigned i = 0; i < exact.n; i++) {
		uint32_t h = hash(exact.v[i].key) % SLOTS;
		while (slots[h])
			h = (h + 1) % SLOTS;
		slots[h] = (uint16_t)(i + 1);
		if (exact.v[i].key.n > longest)
			longest = exact.v[i].key.n;
	}
}

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c |= 0x20;
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool plain(int c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '.' || c == '_' || c == '~' || c == '$';
}

/* False: a spelling that never matches. */
static bool decode(struct tg_slice path, char out[DECODED_MAX], struct tg_slice *to)
{
	size_t n = 0;
	if (path.n > DECODED_MAX)
		return false;
	for (size_t i = 0; i < path.n; i++) {
		if (path.p[i] != '%') {
			out[n++] = path.p[i];
			continue;
		}
		int hi = path.n - i > 2 ? hex(path.p[i + 1]) : -1, lo = hi < 0 ? -1 : hex(path.p[i + 2]);
		if (lo < 0)
			return false;
		int c = hi << 4 | lo;
		if (c == '/' || c == '\\' || c == 0)
			return false;
		if (plain(c)) {
			out[n++] = (char)c;
		} else {
			memcpy(out + n, path.p + i, 3);
			n += 3;
		}
		i += 2;
	}
	*to = (struct tg_slice){ out, n };
	return true;
}

static bool segments_ok(struct tg_slice s)
{
	if (!s.n || s.p[0] != '/')
		return false;
	if (s.n == 1)
		return true;
	if (memchr(s.p, '\\', s.n) || memchr(s.p, 0, s.n))
		return false;
	for (size_t i = 1; i <= s.n;) {
		const char *slash = i < s.n ? memchr(s.p + i, '/', s.n - i) : NULL;
		size_t end = slash ? (size_t)(slash - s.p) : s.n, n = end - i;
		if (n == 0 || (n == 1 && s.p[i] == '.') || (n == 2 && s.p[i] == '.' && s.p[i + 1] == '.'))
			return false;
		i = end + 1;
	}
	return true;
}

/* What a path's rows add up to while they are looked through. */
struct seen {
	bool known;
	uint32_t real, closed; /* methods of rows that lead somewhere, and of NOWHERE rows */
};

static const struct tg_route *row(const struct entry *e, enum tg_method m, struct seen *seen)
{
	seen->known = true;
	if (e->by[m])
		return e->by[m];
	if (m == TG_HEAD && e->by[TG_GET])
		return e->by[TG_GET];
	if (e->any && m != TG_OPTIONS)
		return e->any;
	for (unsigned i = 0; i < METHODS; i++)
		if (e->by[i])
			*(e->by[i]->state == TG_ROUTE_NOWHERE ? &seen->closed : &seen->real) |= 1u << i;
	if (e->any)
		*(e->any->state == TG_ROUTE_NOWHERE ? &seen->closed : &seen->real) |= (1u << TG_METHOD_OTHER) - 1;
	return NULL;
}

static const struct entry *find_exact(struct tg_slice s)
{
	if (s.n > longest)
		return NULL;
	for (uint32_t h = hash(s) % SLOTS; slots[h]; h = (h + 1) % SLOTS)
		if (tg_slice_eq(exact.v[slots[h] - 1].key, s))
			return &exact.v[slots[h] - 1];
	return NULL;
}

/* One segment, not empty, between the pattern's key and its tail. */
static bool fits(const struct entry *e, struct tg_slice s)
{
	if (s.n <= e->key.n + e->tail.n || !tg_slice_starts(s, e->key))
		return false;
	struct tg_slice end = { s.p + s.n - e->tail.n, e->tail.n };
	return tg_slice_eq(end, e->tail) && !memchr(s.p + e->key.n, '/', s.n - e->key.n - e->tail.n);
}

static const struct tg_route *look(enum tg_method m, struct tg_slice s, struct seen *seen)
{
	const struct tg_route *r = NULL;
	const struct entry *e = find_exact(s);
	if (e && (r = row(e, m, seen)))
		return r;
	for (unsigned i = 0; i < patterns.n; i++)
		if (fits(&patterns.v[i], s) && (r = row(&patterns.v[i], m, seen)))
			return r;
	for (unsigned i = 0; i < trees.n; i++)
		if (s.n > trees.v[i].key.n && tg_slice_starts(s, trees.v[i].key) && (r = row(&trees.v[i], m, seen)))
			return r;
	return NULL;
}

const struct tg_route *tg_route_match(enum tg_method m, struct tg_slice path, bool *path_known, uint32_t *allow_mask)
{
	char buf[DECODED_MAX];
	struct seen seen = { 0 };
	const struct tg_route *r = NULL;
	struct tg_slice s = path;
	if (!memchr(path.p ? path.p : "", '%', path.n) || decode(path, buf, &s)) {
		bool slash = s.n > 1 && s.p[s.n - 1] == '/';
		const struct entry *e = slash && segments_ok((struct tg_slice){ s.p, s.n - 1 }) ? find_exact(s) : NULL;
		if (e)
			r = row(e, m, &seen);
		else if (!slash && segments_ok(s))
			r = look(m, s, &seen);
	}
	*path_known = seen.known;
	uint32_t mask = seen.real ? seen.real : seen.closed;
	if (mask & 1u << TG_GET)
		mask |= 1u << TG_HEAD;
	*allow_mask = r || !seen.known ? 0 : mask | 1u << TG_OPTIONS;
	return r;
}

/* Whether `tree` is the path or one of its parents. */
static bool under(struct tg_slice path, struct tg_slice tree)
{
	return tg_slice_starts(path, tree) && (path.n == tree.n || path.p[tree.n] == '/');
}

enum tg_family tg_route_family(struct tg_slice path)
{
	static const struct {
		struct tg_slice tree;
		enum tg_family family;
	} trees_of[] = {
#define T(text, fam) { { text, sizeof(text) - 1 }, TG_FAM_##fam }
		T("/v1", OPENAI), T("/infer", INFER),
		T("/api/v1/auth", API), T("/api/v1/models", API), T("/api/v1/inference", API), T("/api/v1/users", API), T("/api/v1/audit", API),
		T("/api/v1/usage", API), T("/api/v1/config", API), T("/api/v1/queue", API), T("/api/v1/events", API), T("/api/v1", CHAPKIT),
		T("/train", CREDIT), T("/predict", CREDIT), T("/auth/verify", CREDIT),
		T("/models", ADMIN0), T("/gpu", ADMIN0), T("/system", ADMIN0), T("/settings", ADMIN0), T("/jobs", ADMIN0), T("/eval", ADMIN0),
		T("/data_gen", ADMIN0),
#undef T
	};
	char buf[DECODED_MAX];
	struct tg_slice s = path;
	if (path.n && memchr(path.p, '%', path.n) && !decode(path, buf, &s))
		s = path;
	for (size_t i = 0; i < sizeof trees_of / sizeof *trees_of; i++)
		if (under(s, trees_of[i].tree))
			return trees_of[i].family;
	return TG_FAM_PLAIN;
}
