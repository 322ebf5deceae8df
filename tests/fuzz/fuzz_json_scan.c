/*
 * The scanner against jansson, and against itself in pieces.
 * Verdicts agree, and so does every wanted value, but for what is known to differ: our depth bound; jansson's taking of a NUL byte after a number, its refusal of NUL escapes in member
 * names and of numbers that a double cannot hold; duplicates, which we refuse for wanted names only (the verdict is therefore taken without wanted names).
 */
#include "base/json_scan.h"
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

static const char *const names[] = { "model", "stream", "usage", "a", "" };
#define NNAMES 5

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

static bool same_type(enum tg_json_type t, const json_t *v)
{
	switch (t) {
	case TG_JSON_STRING: return json_is_string(v);
	case TG_JSON_NUMBER: return json_is_number(v);
	case TG_JSON_TRUE: return json_is_true(v);
	case TG_JSON_FALSE: return json_is_false(v);
	case TG_JSON_NULL: return json_is_null(v);
	case TG_JSON_OBJECT: return json_is_object(v);
	case TG_JSON_ARRAY: return json_is_array(v);
	case TG_JSON_NONE: break;
	}
	return !v;
}

/* The value found is the value jansson has: decoded again on its own, it is equal. */
static void same_value(struct tg_slice raw, const struct tg_json_want *w, const json_t *v)
{
	json_t *own = json_loadb(raw.p, raw.n, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
	CHECK(own && json_equal(own, v));
	json_decref(own);
	if (w->type == TG_JSON_STRING) {
		size_t len = json_string_length(v), chars = 0;
		const char *s = json_string_value(v);
		char *out = malloc(len ? len : 1);
		CHECK(tg_json_unescape(raw, out, len) == (long)len && memcmp(out, s, len) == 0);
		CHECK(!len || tg_json_unescape(raw, out, len - 1) == -1);
		for (size_t i = 0; i < len; i++)
			chars += ((unsigned char)s[i] & 0xc0) != 0x80;
		CHECK(chars == w->chars);
		CHECK(w->escaped == (memchr(raw.p, '\\', raw.n) != NULL));
		free(out);
	} else if (w->type == TG_JSON_ARRAY) {
		struct tg_slice first = tg_json_first(raw);
		CHECK((first.n == 0) == (json_array_size(v) == 0));
		json_t *j = first.n ? json_loadb(first.p, first.n, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL) : NULL;
		CHECK(!first.n || json_equal(j, json_array_get(v, 0)));
		json_decref(j);
	} else if (w->type == TG_JSON_OBJECT) {
		struct tg_slice name, value;
		size_t count = 0;
		for (size_t at = 0; tg_json_next_member(raw, &at, &name, &value); count++) {
			json_t *j = json_loadb(value.p, value.n, JSON_ALLOW_NUL | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, NULL);
			CHECK(j && name.n >= 2 && name.p[0] == '"' && name.p[name.n - 1] == '"');
			json_decref(j);
		}
		CHECK(count >= json_object_size(v));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct tg_slice doc = { (const char *)data, n };
	struct tg_json_scan s, whole;
	json_error_t e;

	enum tg_json_state verdict = tg_json_scan_all(&s, doc, NULL, 0);
	json_t *root = json_loadb(doc.p, doc.n, JSON_ALLOW_NUL | JSON_DECODE_INT_AS_REAL, &e);
	if (verdict == TG_JSON_DONE) {
		CHECK(!memchr(doc.p, 0, n));
		if (!root)
			CHECK(json_error_code(&e) == json_error_numeric_overflow || json_error_code(&e) == json_error_null_byte_in_key);
	} else {
		CHECK(!root || !json_is_object(root) || memchr(doc.p, 0, n) || strcmp(s.why, "nested too deeply") == 0);
		CHECK(s.at <= n && s.why);
	}

	enum tg_json_state st = tg_json_scan_all(&whole, doc, names, NNAMES);
	CHECK(st == verdict || (whole.why && strcmp(whole.why, "duplicate member") == 0 && whole.at <= s.at));
	if (st == TG_JSON_DONE && root)
		for (unsigned i = 0; i < NNAMES; i++) {
			const json_t *v = json_object_get(root, names[i]);
			CHECK(same_type(whole.want[i].type, v));
			if (v)
				same_value(tg_json_value(doc, &whole.want[i]), &whole.want[i], v);
		}
	json_decref(root);

	/* In pieces: two for a cut that the input itself picks, then single bytes, then sevens. */
	for (int how = 0; how < 3; how++) {
		size_t step = how == 0 ? (n ? data[n / 2] % (n + 1) : 0) : how == 1 ? 1 : 7;
		tg_json_scan_init(&s, names, NNAMES);
		for (size_t i = 0, k; i < n; i += k) {
			k = step && (how || !i) ? step : n - i;
			if (k > n - i)
				k = n - i;
			char *copy = malloc(k);
			memcpy(copy, doc.p + i, k);
			tg_json_scan_feed(&s, copy, k);
			free(copy);
		}
		CHECK(tg_json_scan_end(&s) == st);
		CHECK(s.at == whole.at && s.why == whole.why && s.member == whole.member && s.first_member == whole.first_member && s.empty == whole.empty);
		for (unsigned i = 0; i < NNAMES; i++) {
			const struct tg_json_want *a = &s.want[i], *b = &whole.want[i];
			CHECK(a->type == b->type && a->from == b->from && a->to == b->to && a->chars == b->chars && a->escaped == b->escaped);
		}
	}
	return 0;
}
