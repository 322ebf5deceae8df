/*
 * What started workers write: lines however the bytes arrive, without secrets, the last of them in memory and all of them as JSON in a file; and bounds on each line, on
 * what is kept, on what is written a second and on what is read a second.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "pool/output.h"
#include <fcntl.h>
#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PID = 4711 };
#define NOW 5000000u /* ms; the beginning of a second */

static char dir[64], path[96];

static int setup(void **state)
{
	struct tg_output *o = malloc(sizeof *o);
	struct tg_err err;
	snprintf(dir, sizeof dir, "/tmp/tg-output-XXXXXX");
	if (!o || !mkdtemp(dir) || !tg_output_init(o, "qwen3", "qwen3/0"))
		return -1;
	snprintf(path, sizeof path, "%s/workers.log", dir);
	*state = o;
	return tg_output_open(path, 0, 3, &err) ? 0 : -1;
}

static int teardown(void **state)
{
	tg_output_close();
	tg_output_free(*state);
	free(*state);
	static const char *const ends[] = { "", ".1", ".2", ".3", ".moved" };
	for (unsigned i = 0; i < sizeof ends / sizeof ends[0]; i++) {
		char name[128];
		snprintf(name, sizeof name, "%s%s", path, ends[i]);
		unlink(name);
	}
	return rmdir(dir);
}

static void feed(struct tg_output *o, const char *text)
{
	assert_true(tg_output_feed(o, PID, text, strlen(text), NOW));
}

/* The last lines, NUL-terminated: the caller's to free. */
static char *tail(struct tg_output *o, unsigned lines)
{
	struct tg_buf b;
	tg_buf_init(&b, TG_OUTPUT_TAIL_MAX + 16);
	tg_output_tail(o, lines, &b);
	tg_buf_char(&b, 0);
	assert_false(b.failed);
	return b.p;
}

static void expect_tail(struct tg_output *o, unsigned lines, const char *want)
{
	char *t = tail(o, lines);
	if (strcmp(t, want) != 0)
		fail_msg("the last %u: \"%.300s\", not \"%.300s\"", lines, t, want);
	free(t);
}

static char *slurp(const char *name, size_t *n)
{
	FILE *f = fopen(name, "r");
	char *b = malloc(4 << 20);
	*n = f ? fread(b, 1, 4 << 20, f) : 0;
	assert_true(*n < 4 << 20);
	if (f)
		fclose(f);
	return b;
}

/* Lines of a file, each one JSON object with the labels; each is given to `each` (may be NULL). */
static unsigned lines_of(const char *name, void (*each)(unsigned i, const char *line, void *arg), void *arg)
{
	size_t n;
	unsigned lines = 0;
	char *b = slurp(name, &n);
	for (char *s = b, *e; s < b + n; s = e + 1, lines++) {
		e = memchr(s, '\n', (size_t)(b + n - s));
		assert_non_null(e);
		json_t *o = json_loadb(s, (size_t)(e - s), JSON_REJECT_DUPLICATES, NULL);
		if (!o)
			fail_msg("not JSON: %.*s", (int)(e - s), s);
		assert_int_equal(json_object_size(o), 7);
		assert_int_equal(json_string_length(json_object_get(o, "ts")), 24);
		assert_string_equal(json_string_value(json_object_get(o, "level")), "info");
		assert_string_equal(json_string_value(json_object_get(o, "event")), "worker.output");
		assert_string_equal(json_string_value(json_object_get(o, "model")), "qwen3");
		assert_string_equal(json_string_value(json_object_get(o, "worker")), "qwen3/0");
		assert_int_equal(json_integer_value(json_object_get(o, "pid")), PID);
		const char *line = json_string_value(json_object_get(o, "line"));
		assert_non_null(line);
		if (each)
			each(lines, line, arg);
		json_decref(o);
	}
	free(b);
	return lines;
}

/* ---- lines ---- */

static void test_lines(void **state)
{
	(void)state;
	static const struct {
		const char *in, *out; /* out: with what tg_output_end makes of an incomplete one */
	} rows[] = {
		{ "", "" },
		{ "\n", "" },
		{ "\n\r\r\n\n", "" },
		{ "one\n", "one\n" },
		{ "one", "one\n" },
		{ "one\ntwo\n", "one\ntwo\n" },
		{ "one\r\ntwo\r\n", "one\ntwo\n" },
		{ "\none\n\n\ntwo\n\n", "one\ntwo\n" },
		{ " 10%\r 20%\r100%\n", " 10%\n 20%\n100%\n" }, /* a progress bar */
		{ "one\rtwo", "one\ntwo\n" },
		{ " \n\t\n", " \n\t\n" },
		{ "caf\xc3\xa9 \xe2\x82\xac\n", "caf\xc3\xa9 \xe2\x82\xac\n" },
		{ "\xff\xfe\n\x1b[31mred\x1b[0m\n\x1b[0m\n", "??\nred\n" },
		{ "key sk-abcdef1234567890 and Bearer demo-key-12345\nmail a@b.co\n", "key *** and Bearer ***\nmail ***\n" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		size_t n = strlen(rows[i].in);
		/* In one, in two at every place, and byte by byte. */
		for (size_t cut = 0; cut <= n + 1; cut++) {
			struct tg_output o;
			assert_true(tg_output_init(&o, "qwen3", "qwen3/0"));
			if (cut <= n) {
				assert_true(tg_output_feed(&o, PID, rows[i].in, cut, NOW));
				assert_true(tg_output_feed(&o, PID, rows[i].in + cut, n - cut, NOW));
			} else {
				for (size_t k = 0; k < n; k++)
					assert_true(tg_output_feed(&o, PID, rows[i].in + k, 1, NOW));
			}
			tg_output_end(&o, PID);
			expect_tail(&o, 1000, rows[i].out);
			tg_output_end(&o, PID); /* its end is no line of its own */
			expect_tail(&o, 1000, rows[i].out);
			tg_output_free(&o);
		}
	}
}

/* What is incomplete is kept until it ends; the next process of that worker begins a line of its own. */
static void test_incomplete(void **state)
{
	struct tg_output *o = *state;
	tg_output_end(o, PID); /* it wrote nothing at all */
	expect_tail(o, 10, "");
	feed(o, "loading");
	expect_tail(o, 10, "");
	assert_int_equal(lines_of(path, NULL, NULL), 0);
	feed(o, " model");
	tg_output_end(o, PID);
	expect_tail(o, 10, "loading model\n");
	feed(o, "again\n");
	expect_tail(o, 10, "loading model\nagain\n");
	assert_int_equal(lines_of(path, NULL, NULL), 2);
}

static void test_tail(void **state)
{
	struct tg_output *o = *state;
	for (unsigned n = 0; n < 3; n++)
		expect_tail(o, n * 50, ""); /* nothing yet */
	feed(o, "a\n\nbb\nccc\ndddd\nincompl");
	static const struct {
		unsigned lines;
		const char *out;
	} rows[] = {
		{ 0, "" }, { 1, "dddd\n" }, { 2, "ccc\ndddd\n" }, { 3, "bb\nccc\ndddd\n" }, { 4, "a\nbb\nccc\ndddd\n" }, { 5, "a\nbb\nccc\ndddd\n" },
		{ 1000, "a\nbb\nccc\ndddd\n" }, { UINT32_MAX, "a\nbb\nccc\ndddd\n" },
	};
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		expect_tail(o, rows[i].lines, rows[i].out);
	/* Appended to what is there. */
	struct tg_buf b;
	tg_buf_init(&b, 100);
	tg_buf_lit(&b, "before: ");
	tg_output_tail(o, 1, &b);
	assert_true(tg_slice_eq(tg_buf_view(&b), TG_S("before: dddd\n")));
	tg_buf_free(&b);
}

static void test_tail_is_bounded(void **state)
{
	struct tg_output *o = *state;
	char line[64];
	unsigned count = 0;
	/* Slowly, so that none is left out. */
	for (uint64_t now = NOW; count < 8000; now += 1000)
		for (unsigned k = 0; k < 1000; k++) {
			int n = snprintf(line, sizeof line, "line number %u of many\n", count++);
			assert_true(tg_output_feed(o, PID, line, (size_t)n, now));
			assert_true(o->tail.len <= TG_OUTPUT_TAIL_MAX && o->tail.cap <= TG_OUTPUT_TAIL_MAX);
		}
	char *t = tail(o, UINT32_MAX);
	size_t n = strlen(t);
	assert_true(n <= TG_OUTPUT_TAIL_MAX && n > TG_OUTPUT_TAIL_MAX * 3 / 4);
	/* Whole lines, without a gap, to the last. */
	unsigned first, at = 0, lines = 0;
	assert_int_equal(sscanf(t, "line number %u", &first), 1);
	for (char *p = t; *p; p = strchr(p, '\n') + 1, lines++) {
		assert_int_equal(sscanf(p, "line number %u of many\n", &at), 1);
		assert_int_equal(at, first + lines);
	}
	assert_int_equal(at, count - 1);
	char *some = tail(o, lines - 1), *all = tail(o, lines);
	assert_string_equal(some, strchr(t, '\n') + 1);
	assert_string_equal(all, t);
	free(some);
	free(all);
	free(t);
	/* To the last byte: 1024 lines of 32 bytes are all there, and one byte more costs the oldest. */
	for (unsigned more = 0; more < 2; more++) {
		struct tg_output full;
		assert_true(tg_output_init(&full, "qwen3", "qwen3/0"));
		for (unsigned i = 0; i < TG_OUTPUT_TAIL_MAX / 32 - 1; i++) {
			snprintf(line, sizeof line, "%031u\n", i);
			assert_true(tg_output_feed(&full, PID, line, 32, NOW));
		}
		snprintf(line, sizeof line, "%0*u\n", 31 + (int)more, 7);
		assert_true(tg_output_feed(&full, PID, line, 32 + more, NOW));
		t = tail(&full, UINT32_MAX);
		assert_int_equal(strtoul(t, NULL, 10) != 0, more);
		assert_int_equal(strlen(t) == TG_OUTPUT_TAIL_MAX, !more);
		assert_string_equal(t + strlen(t) - 32 - more, line);
		free(t);
		tg_output_free(&full);
	}
	/* Of the longest lines a few. */
	char *longest = malloc(TG_OUTPUT_LINE_MAX + 2);
	memset(longest, '.', TG_OUTPUT_LINE_MAX + 1);
	longest[TG_OUTPUT_LINE_MAX + 1] = '\n';
	for (unsigned i = 0; i < 40; i++)
		assert_true(tg_output_feed(o, PID, longest, TG_OUTPUT_LINE_MAX + 2, NOW + 100000000));
	assert_true(o->tail.len <= TG_OUTPUT_TAIL_MAX);
	t = tail(o, UINT32_MAX);
	assert_int_equal(strspn(t, ".\n"), strlen(t));
	assert_true(strlen(t) >= 6 * TG_OUTPUT_LINE_MAX);
	free(t);
	free(longest);
}

static void test_overlong(void **state)
{
	struct tg_output *o = *state;
	static const struct {
		size_t n;
		size_t kept;
		bool marked;
	} rows[] = {
		{ TG_OUTPUT_LINE_MAX - 1, TG_OUTPUT_LINE_MAX - 1, false }, { TG_OUTPUT_LINE_MAX, TG_OUTPUT_LINE_MAX, false },
		{ TG_OUTPUT_LINE_MAX + 1, TG_OUTPUT_LINE_MAX, true }, { 3 * TG_OUTPUT_LINE_MAX, TG_OUTPUT_LINE_MAX, true },
	};
	char *text = malloc(3 * TG_OUTPUT_LINE_MAX + 1);
	memset(text, '.', 3 * TG_OUTPUT_LINE_MAX);
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++)
		for (unsigned whole = 0; whole < 2; whole++) {
			if (whole)
				assert_true(tg_output_feed(o, PID, text, rows[i].n, NOW));
			for (size_t k = 0; !whole && k < rows[i].n; k += 7)
				assert_true(tg_output_feed(o, PID, text, rows[i].n - k < 7 ? rows[i].n - k : 7, NOW));
			feed(o, "\n");
			char *t = tail(o, 1);
				assert_int_equal(strlen(t), rows[i].kept + (rows[i].marked ? 3 : 0) + 1);
			free(t);
			feed(o, "short\n"); /* the next line is whole again */
			expect_tail(o, 1, "short\n");
		}
	/* The cut is where it is said to be. */
	memset(text, ' ', TG_OUTPUT_LINE_MAX);
	memcpy(text + TG_OUTPUT_LINE_MAX - 3, "abcdef\n", 7);
	assert_true(tg_output_feed(o, PID, text, TG_OUTPUT_LINE_MAX + 4, NOW));
	char *t = tail(o, 1);
	assert_string_equal(t + TG_OUTPUT_LINE_MAX - 4, " abc...\n");
	free(t);
	/* Cut by the end of the process. */
	assert_true(tg_output_feed(o, PID, text, TG_OUTPUT_LINE_MAX + 3, NOW));
	tg_output_end(o, PID);
	t = tail(o, 1);
	assert_string_equal(t + TG_OUTPUT_LINE_MAX - 4, " abc...\n");
	free(t);
	free(text);
}

/* base/log.h: "looks at whole runs before it cuts, so that no half of a key is left". */
static void test_no_half_of_a_key(void **state)
{
	struct tg_output *o = *state;
	static const char key[] = "a1b2c3d4e5f6a7b8c9d0e1f2a3b4c5d6e7f8a9b0c1d2e3f4";
	char text[TG_OUTPUT_LINE_MAX + 64];
	unsigned wrong = 0;
	for (size_t shown = 1; shown < sizeof key - 1; shown++) { /* how much of it lies before the cut */
		memset(text, '.', sizeof text);
		memcpy(text + TG_OUTPUT_LINE_MAX - shown, key, sizeof key - 1);
		text[sizeof text - 1] = '\n';
		assert_true(tg_output_feed(o, PID, text, sizeof text, NOW));
		char *t = tail(o, 1);
		if (strstr(t, "a1b2c3d4"))
			wrong++;
		free(t);
	}
	if (wrong)
		print_message("%u lines with eight characters of the key or more\n", wrong);
	assert_int_equal(wrong, 0); /* cut first and redacted then, up to 19 characters of a key would stay */
}

static void test_redacted(void **state)
{
	struct tg_output *o = *state;
	static const struct {
		const char *in, *out;
	} rows[] = {
		{ "using sk-proj-abcdef1234567890", "using ***" },
		{ "Authorization: Bearer demo-key-12345", "Authorization: Bearer ***" },
		{ "password=hunter2 host=db", "password=*** host=db" },
		{ "{\"api_key\": \"demo-key-12345\"}", "{\"api_key\": \"***\"}" },
		{ "tg_k1_0123456789abcdefghij", "***" },
		{ "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiJ4In0.c2ln", "***" },
		{ "user a@b.co logged in", "user *** logged in" },
		{ "loaded models/gemma3-270m-q4.gguf in 2.1 s", "loaded models/gemma3-270m-q4.gguf in 2.1 s" },
	};
	size_t n;
	for (unsigned i = 0; i < sizeof rows / sizeof rows[0]; i++) {
		char want[128];
		feed(o, rows[i].in);
		feed(o, "\n");
		snprintf(want, sizeof want, "%s\n", rows[i].out);
		expect_tail(o, 1, want);
	}
	/* Nor are they in the file. */
	char *b = slurp(path, &n);
	static const char *const secrets[] = { "sk-proj", "demo-key", "hunter2", "tg_k1", "eyJ", "a@b" };
	for (unsigned i = 0; i < sizeof secrets / sizeof secrets[0]; i++)
		assert_null(memmem(b, n, secrets[i], strlen(secrets[i])));
	assert_non_null(memmem(b, n, "gemma3-270m-q4.gguf", 19));
	free(b);
}

/* ---- too much ---- */

static unsigned count_of(const char *name)
{
	size_t n;
	unsigned lines = 0;
	char *b = slurp(name, &n);
	for (size_t i = 0; i < n; i++)
		lines += b[i] == '\n';
	free(b);
	return lines;
}

static void test_flood(void **state)
{
	struct tg_output *o = *state;
	char line[129];
	memset(line, '.', 127);
	line[127] = '\n';
	const unsigned limit = (256u << 10) / 127, extra = 1000;
	for (unsigned second = 0; second < 3; second++) {
		uint64_t now = NOW + second * 1000;
		for (unsigned i = 0; i < limit; i++)
			assert_true(tg_output_feed(o, PID, line, 128, now + i % 1000));
		unsigned before = count_of(path);
		assert_int_equal(before, (limit + 1) * second + limit);
		for (unsigned i = 0; i < extra + second; i++)
			assert_true(tg_output_feed(o, PID, line, 128, now + 999)); /* read, so that it need not wait */
		assert_int_equal(count_of(path), before);
		/* The next second begins with what was left out. */
		assert_true(tg_output_feed(o, PID, "", 0, now + 1000));
		assert_int_equal(count_of(path), before + 1);
		char want[128];
		snprintf(want, sizeof want, "[tollgate: %u lines left out: more than 256 KiB in one second]\n", extra + second);
		expect_tail(o, 1, want);
	}
	/* A process that floods and ends: at once. */
	for (unsigned i = 0; i < limit + 5; i++)
		assert_true(tg_output_feed(o, PID, line, 128, NOW + 3000));
	tg_output_end(o, PID);
	expect_tail(o, 1, "[tollgate: 5 lines left out: more than 256 KiB in one second]\n");
	unsigned lines = count_of(path);
	assert_true(tg_output_feed(o, PID, "fine\n", 5, NOW + 4000));
	assert_int_equal(count_of(path), lines + 1); /* told once */
	assert_int_equal(lines_of(path, NULL, NULL), lines + 1);
}

static void test_read_budget(void **state)
{
	struct tg_output *o = *state;
	enum { PIECE = 64 << 10, PIECES = (16 << 20) / PIECE };
	char *piece = malloc(PIECE);
	memset(piece, 'x', PIECE); /* one line without end: it costs no disk, and has its bound all the same */
	for (uint64_t now = NOW; now < NOW + 3000; now += 1000) {
		for (unsigned i = 1; i < PIECES; i++)
			assert_true(tg_output_feed(o, PID, piece, PIECE, now));
		assert_true(tg_output_feed(o, PID, piece, PIECE - 1, now));
		assert_false(tg_output_feed(o, PID, "x", 1, now + 500));
		assert_false(tg_output_feed(o, PID, "", 0, now + 999)); /* for the rest of that second */
	}
	assert_true(tg_output_feed(o, PID, "\nthat was much\n", 15, NOW + 3000));
	expect_tail(o, 1, "that was much\n");
	char *t = tail(o, 2);
	assert_true(strlen(t) <= TG_OUTPUT_LINE_MAX + 32);
	free(t);
	free(piece);
}

/* ---- the file ---- */

struct wanted {
	const char *const *lines;
	unsigned n;
};

static void same_line(unsigned i, const char *line, void *arg)
{
	const struct wanted *w = arg;
	assert_true(i < w->n);
	assert_string_equal(line, w->lines[i]);
}

static void test_file(void **state)
{
	struct tg_output *o = *state;
	static const char in[] = "plain\n\"quoted\" \\ back\nin\ttab\n\x1b[31mred\x1b[0m \x7f\x01\n\xff bytes \xc3\n\xe2\x80\xae turned \xc2\x9b\ncaf\xc3\xa9\n{\"json\": [1]}\n";
	static const char *const out[] = { "plain", "\"quoted\" \\ back", "in\ttab", "red ??", "? bytes ?", "? turned ?", "caf\xc3\xa9", "{\"json\": [1]}" };
	struct wanted want = { out, sizeof out / sizeof out[0] };
	feed(o, in);
	assert_int_equal(lines_of(path, same_line, &want), want.n);
	/* Nothing in the file acts on a terminal. */
	size_t n;
	char *b = slurp(path, &n);
	for (size_t i = 0; i < n; i++)
		assert_true(b[i] == '\n' || ((unsigned char)b[i] >= 0x20 && b[i] != 0x7f));
	assert_null(memmem(b, n, "\xc2\x9b", 2));
	assert_null(memmem(b, n, "\xe2\x80\xae", 3));
	free(b);
	struct stat st;
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_mode & 07137, 0); /* 0640 at most */
	/* A NUL does not end a line. */
	assert_true(tg_output_feed(o, PID, "a\0b\n", 4, NOW));
	struct tg_buf t;
	tg_buf_init(&t, 100);
	tg_output_tail(o, 1, &t);
	assert_true(tg_slice_eq(tg_buf_view(&t), TG_S("a?b\n")));
	tg_buf_free(&t);
	b = slurp(path, &n);
	assert_non_null(memmem(b, n, "\"a?b\"}\n", 7));
	free(b);
}

/* The worker's own key, whatever it looks like; also where it lies across the cut, or an escape sequence lies in it. */
static void test_own_key(void **state)
{
	struct tg_output *o = *state;
	o->secret = TG_S("open sesame");
	feed(o, "said open sesame twice: open sesame\nopen ses\x1b[1mame\nopen sesam\n");
	expect_tail(o, 3, "said *********** twice: ***********\n***********\nopen sesam\n");
	for (size_t before = TG_OUTPUT_LINE_MAX - 12; before <= TG_OUTPUT_LINE_MAX; before++) {
		for (size_t i = 0; i < before; i++)
			feed(o, ".");
		feed(o, "open sesame\n");
		char *t = tail(o, 1);
		assert_null(strstr(t, "ope"));
		free(t);
	}
}

/* The longest line of what takes the most room once it is escaped: it is one line of the file all the same. */
static void test_worst_line(void **state)
{
	struct tg_output *o = *state;
	static const char *const worst[] = { "\x01", "\xff", "\"", "\xc2\x80", "\xe2\x80\xae" };
	for (unsigned i = 0; i < sizeof worst / sizeof worst[0]; i++) {
		size_t k = strlen(worst[i]);
		for (size_t at = 0; at <= TG_OUTPUT_LINE_MAX + 10; at += k)
			assert_true(tg_output_feed(o, PID, worst[i], k, NOW));
		feed(o, "\n");
		assert_int_equal(lines_of(path, NULL, NULL), i + 1);
	}
}

static void test_rotation_and_reopening(void **state)
{
	struct tg_output *o = *state;
	struct tg_err err;
	char name[128], line[64];
	assert_true(tg_output_open(path, 20000, 2, &err));
	for (unsigned i = 0; i < 1000; i++) {
		int n = snprintf(line, sizeof line, "number %u\n", i);
		assert_true(tg_output_feed(o, PID, line, (size_t)n, NOW));
	}
	unsigned total = 0;
	for (unsigned k = 0; k < 3; k++) {
		struct stat st;
		snprintf(name, sizeof name, k ? "%s.%u" : "%s", path, k);
		assert_int_equal(stat(name, &st), 0);
		assert_true(st.st_size <= 20000);
		total += lines_of(name, NULL, NULL);
	}
	snprintf(name, sizeof name, "%s.3", path);
	assert_int_equal(access(name, F_OK), -1);
	assert_true(total > 200 && total < 1000);
	/* logrotate has moved it, and sends HUP. */
	snprintf(name, sizeof name, "%s.moved", path);
	assert_int_equal(rename(path, name), 0);
	unsigned before = lines_of(name, NULL, NULL);
	feed(o, "to the old one\n");
	assert_int_equal(lines_of(name, NULL, NULL), before + 1);
	tg_output_reopen();
	feed(o, "to the new one\n");
	assert_int_equal(lines_of(name, NULL, NULL), before + 1);
	assert_int_equal(lines_of(path, NULL, NULL), 1);
	/* One that cannot be opened leaves the old one in use. */
	assert_false(tg_output_open(dir, 0, 0, &err));
	assert_non_null(strstr(err.text, "log.workers_path"));
	feed(o, "still here\n");
	assert_int_equal(lines_of(path, NULL, NULL), 2);
}

/* Without a file (`tollgate run`) a worker's lines go to stderr as they are, redacted. */
static void test_without_a_file(void **state)
{
	struct tg_output *o = *state;
	size_t n;
	tg_output_close();
	fflush(stderr);
	int keep = dup(2), to = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(dup2(to, 2), 2);
	feed(o, "hello \"you\"\nkey sk-abcdef1234567890\n");
	fflush(stderr);
	dup2(keep, 2);
	close(keep);
	close(to);
	char *b = slurp(path, &n);
	assert_true(tg_slice_eq((struct tg_slice){ b, n }, TG_S("hello \"you\"\nkey ***\n")));
	free(b);
	expect_tail(o, 10, "hello \"you\"\nkey ***\n");
}

/* ---- read while it is written ---- */

struct reading {
	struct tg_output *o;
	_Atomic bool over;
	unsigned wrong, looks;
};

static void *read_on(void *arg)
{
	struct reading *r = arg;
	while (!r->over || !r->looks) {
		char *t = tail(r->o, 50);
		unsigned first = 0, at, lines = 0;
		for (char *p = t; *p; lines++) {
			if (sscanf(p, "number %u\n", &at) != 1 || (lines && at != first + lines))
				r->wrong++;
			if (!lines)
				first = at;
			p = strchr(p, '\n');
			if (!p)
				break;
			p++;
		}
		r->wrong += lines > 50;
		r->looks++;
		free(t);
	}
	return NULL;
}

static void test_threads(void **state)
{
	struct reading r[3];
	pthread_t t[3];
	for (unsigned i = 0; i < 3; i++) {
		r[i] = (struct reading){ .o = *state };
		assert_int_equal(pthread_create(&t[i], NULL, read_on, &r[i]), 0);
	}
	for (unsigned i = 0; i < 3000; i++) {
		char line[64];
		int n = snprintf(line, sizeof line, "number %u\n", i);
		assert_true(tg_output_feed(*state, PID, line, (size_t)n, NOW + i));
	}
	for (unsigned i = 0; i < 3; i++) {
		r[i].over = true;
		pthread_join(t[i], NULL);
		assert_int_equal(r[i].wrong, 0);
	}
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
		T(test_lines), T(test_incomplete), T(test_tail), T(test_tail_is_bounded), T(test_overlong), T(test_no_half_of_a_key), T(test_redacted),
		T(test_flood), T(test_read_budget), T(test_file), T(test_own_key), T(test_worst_line), T(test_rotation_and_reopening), T(test_without_a_file), T(test_threads),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
