/* Frames in memory and in the spool: what was written is what is read; no file that was cut, changed or made up is read at all (ledger S3-60, S3-72, S3-82). */
#include "engine/frame.h"
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <openssl/evp.h>
#include <setjmp.h>
#include <stdarg.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cmocka.h>

static char folder_name[] = "/tmp/tg-frame-XXXXXX";
static int folder;

static int setup(void **state)
{
	(void)state;
	if (!mkdtemp(folder_name))
		return -1;
	folder = open(folder_name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	return folder < 0 ? -1 : 0;
}

static int teardown(void **state)
{
	(void)state;
	DIR *d = fdopendir(folder);
	for (struct dirent *e; d && (e = readdir(d));)
		unlinkat(folder, e->d_name, 0);
	closedir(d);
	return rmdir(folder_name);
}

static unsigned files_there(void)
{
	unsigned n = 0;
	DIR *d = opendir(folder_name);
	assert_non_null(d);
	for (struct dirent *e; (e = readdir(d));)
		n += e->d_name[0] != '.';
	closedir(d);
	return n;
}

/* One of everything: numbers with a null, texts with a null, an empty column, an odd number of rows, lines. */
static double numbers[] = { 12, -0.5, 1e300 };
static uint32_t word[] = { 0, TG_FRAME_NO_WORD, 1 };
static const struct tg_slice words[] = { { "Z\xc3\xbcrich", 7 }, { "", 0 } };
static struct tg_column columns[] = {
	{ .name = "rainfall", .type = TG_COLUMN_NUMBER, .number = numbers, .nulls = 0 },
	{ .name = "\xe5\x9f\x8e", .type = TG_COLUMN_TEXT, .word = word, .words = words, .nwords = 2, .nulls = 1 },
	{ .name = "nothing", .type = TG_COLUMN_EMPTY, .nulls = 3 },
};
static const char text[] = "12,\"Z\\u00fcrich\",null-0.50,null,null1E300,\"\",null";
static const uint64_t ends[] = { 21, 36, 49 };
static const struct tg_frame whole = { .rows = 3, .ncolumns = 3, .columns = columns, .text = text, .ends = ends };

static void same(const struct tg_frame *a, const struct tg_frame *b)
{
	char ha[65], hb[65];
	assert_int_equal(a->rows, b->rows);
	assert_int_equal(a->ncolumns, b->ncolumns);
	for (unsigned i = 0; i < a->ncolumns; i++) {
		const struct tg_column *x = &a->columns[i], *y = tg_frame_column(b, x->name);
		assert_ptr_equal(y, &b->columns[i]);
		assert_int_equal(x->type, y->type);
		assert_int_equal(x->integers, y->integers);
		assert_int_equal(x->nulls, y->nulls);
		for (uint64_t r = 0; r < a->rows; r++) {
			if (x->type == TG_COLUMN_NUMBER)
				assert_memory_equal(&x->number[r], &y->number[r], sizeof(double));
			if (x->type == TG_COLUMN_TEXT) {
				assert_int_equal(x->word[r], y->word[r]);
				if (x->word[r] != TG_FRAME_NO_WORD)
					assert_true(tg_slice_eq(x->words[x->word[r]], y->words[y->word[r]]));
			}
		}
	}
	assert_int_equal(a->ends == NULL, b->ends == NULL);
	for (uint64_t r = 0; a->ends && r < a->rows; r++)
		assert_true(tg_slice_eq(tg_frame_line(a, r), tg_frame_line(b, r)));
	assert_true(tg_frame_hash(a, ha) && tg_frame_hash(b, hb));
	assert_string_equal(ha, hb);
}

static void test_round_trip(void **state)
{
	(void)state;
	struct tg_column none = { .name = "a", .type = TG_COLUMN_EMPTY }, one = { .name = "a", .type = TG_COLUMN_NUMBER, .number = numbers, .integers = true };
	const struct tg_frame rows[] = { whole, { .columns = &none }, { .ncolumns = 1, .columns = &none }, { .rows = 1, .ncolumns = 1, .columns = &one },
		{ .ncolumns = 1, .columns = &none, .text = "", .ends = ends } };
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_err err = { "" };
		if (!tg_frame_write(&rows[i], folder, "x.frame", &err))
			fail_msg("%zu: %s", i, err.text);
		struct tg_frame *f = tg_frame_read(folder, "x.frame", &err);
		if (!f)
			fail_msg("%zu: %s", i, err.text);
		same(&rows[i], f);
		assert_null(tg_frame_column(f, "b"));
		tg_frame_free(f);
	}
	assert_int_equal(files_there(), 1); /* the temporary ones are gone */
	numbers[1] = NAN;
	columns[0].nulls = 1;
	struct tg_err err;
	assert_true(tg_frame_write(&whole, folder, "x.frame", &err));
	struct tg_frame *f = tg_frame_read(folder, "x.frame", &err);
	assert_true(f && isnan(f->columns[0].number[1]) && f->columns[0].nulls == 1);
	f->columns[0].number[0] = 13; /* the reader's own copy */
	tg_frame_free(f);
	numbers[1] = -0.5;
	columns[0].nulls = 0;
	f = tg_frame_read(folder, "x.frame", &err);
	assert_true(f && f->columns[0].number[0] == 12);
	tg_frame_free(f);
	tg_frame_free(NULL);
	struct tg_frame mine = whole;
	tg_frame_free(&mine); /* no owner: nothing is freed */
}

/* Larger than the writer's block, and than a page. */
static void test_large(void **state)
{
	(void)state;
	enum { ROWS = 100003 };
	double *x = malloc(ROWS * sizeof *x);
	for (int i = 0; i < ROWS; i++)
		x[i] = i * 0.37;
	struct tg_column c[] = { { .name = "x", .type = TG_COLUMN_NUMBER, .number = x }, { .name = "y", .type = TG_COLUMN_NUMBER, .number = x } };
	struct tg_frame f = { .rows = ROWS, .ncolumns = 2, .columns = c }, *g;
	struct tg_err err = { "" };
	assert_true(tg_frame_write(&f, folder, "x.frame", &err));
	g = tg_frame_read(folder, "x.frame", &err);
	assert_non_null(g);
	assert_memory_equal(g->columns[1].number, x, ROWS * sizeof *x);
	tg_frame_free(g);
	free(x);
}

static size_t load(const char *name, unsigned char *b, size_t cap)
{
	int fd = openat(folder, name, O_RDONLY);
	ssize_t n = read(fd, b, cap);
	close(fd);
	assert_true(n > 0 && (size_t)n < cap);
	return (size_t)n;
}

static void store(const char *name, const unsigned char *b, size_t n)
{
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_int_equal(write(fd, b, n), n);
	close(fd);
}

static void refused(const char *name, const char *what, size_t at)
{
	struct tg_err err = { "" };
	struct tg_frame *f = tg_frame_read(folder, name, &err);
	if (f)
		fail_msg("%s at %zu was read", what, at);
	size_t n = strlen(err.text);
	if (n < 20 || err.text[n - 1] != '.' || strchr(err.text, '\n'))
		fail_msg("%s at %zu: no sentence: %s", what, at, err.text);
}

static void test_damage(void **state)
{
	(void)state;
	static unsigned char b[4096], c[4096];
	struct tg_err err;
	assert_true(tg_frame_write(&whole, folder, "x.frame", &err));
	size_t n = load("x.frame", b, sizeof b);
	for (size_t i = 0; i < n; i++) {
		store("y.frame", b, i);
		refused("y.frame", "a file cut", i);
		memcpy(c, b, n);
		c[i] ^= (unsigned char)(1u << i % 8);
		store("y.frame", c, n);
		refused("y.frame", "a bit turned", i);
	}
	memcpy(c, b, n);
	c[n] = 0;
	store("y.frame", c, n + 1);
	refused("y.frame", "a byte too many", n);
}

/* With a digest that fits: what is left are the checks of every offset. Whatever is read then is whole, and every place of it can be looked at. */
static void test_made_up(void **state)
{
	(void)state;
	static unsigned char b[4096], c[4096];
	struct tg_err err;
	assert_true(tg_frame_write(&whole, folder, "x.frame", &err));
	size_t n = load("x.frame", b, sizeof b), seen = 0;
	static const unsigned char puts[] = { 0, 1, 7, 0x40, 0x80, 0xff };
	for (size_t i = 0; i < n - 64; i++)
		for (size_t k = 0; k < sizeof puts; k++) {
			memcpy(c, b, n);
			if (c[i] == puts[k])
				continue;
			c[i] = puts[k];
			assert_int_equal(EVP_Digest(c, n - 64, c + n - 64, NULL, EVP_blake2b512(), NULL), 1);
			store("y.frame", c, n);
			struct tg_frame *f = tg_frame_read(folder, "y.frame", &err);
			if (!f)
				continue;
			char hex[65];
			seen++;
			assert_true(f->ncolumns <= 4096 && (f->rows < 1000000 || f->columns[0].type == TG_COLUMN_EMPTY));
			assert_true(tg_frame_hash(f, hex));
			for (uint64_t r = 0; f->ends && r < f->rows; r++) {
				struct tg_slice cell;
				for (size_t at = 0; tg_frame_next_cell(tg_frame_line(f, r), &at, &cell);)
					assert_true(cell.p >= f->text);
			}
			tg_frame_free(f);
		}
	assert_true(seen > 50); /* a cell's bits, a letter of a name */
}

static void test_no_file(void **state)
{
	(void)state;
	struct tg_err err;
	static const char *const names[] = { "none.frame", "", ".", "..", "../x.frame", "/etc/passwd", "folder", "link" };
	assert_int_equal(mkdirat(folder, "folder", 0700), 0);
	assert_int_equal(symlinkat("x.frame", folder, "link"), 0);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++)
		refused(names[i], names[i], i);
	unsigned before = files_there();
	assert_false(tg_frame_write(&whole, folder, "../x.frame", &err));
	assert_int_equal(errno, EINVAL);
	assert_false(tg_frame_write(&whole, folder, "folder", &err));
	assert_string_equal(err.text, "The table could not be written to the spool: Is a directory.");
	assert_false(tg_frame_write(&whole, -1, "x.frame", &err));
	assert_int_equal(errno, EBADF);
	assert_int_equal(files_there(), before);
	unlinkat(folder, "folder", AT_REMOVEDIR);
}

static void test_cells(void **state)
{
	(void)state;
	static const struct {
		const char *line, *cells[4];
	} rows[] = {
		{ "", { NULL } }, { "1", { "1" } }, { "12,110.0,null", { "12", "110.0", "null" } }, { "\"a,b\",\"\\\",\",true", { "\"a,b\"", "\"\\\",\"", "true" } },
		{ "\"\\\\\",2", { "\"\\\\\"", "2" } }, { "\"", { "\"" } }, { "\\", { "\\" } },
	};
	for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
		struct tg_slice cell;
		size_t at = 0, k = 0;
		for (; tg_frame_next_cell(tg_slice_cstr(rows[i].line), &at, &cell); k++)
			if (!rows[i].cells[k] || !tg_slice_eq(cell, tg_slice_cstr(rows[i].cells[k])))
				fail_msg("%s: %zu: " TG_SLICE_FMT, rows[i].line, k, TG_SLICE_ARG(cell));
		assert_null(rows[i].cells[k]);
	}
}

/* What differs in a value, a name, a type or a place differs in the hash. */
static void test_hash_differs(void **state)
{
	(void)state;
	char was[65], is[65];
	assert_true(tg_frame_hash(&whole, was));
	assert_int_equal(strlen(was), 64);
	struct tg_column c[3];
	struct tg_frame f = whole;
	double other[] = { 12, -0.5, 1e299 };
	uint32_t other_word[] = { 0, 1, TG_FRAME_NO_WORD };
	for (int i = 0; i < 5; i++) {
		memcpy(c, columns, sizeof c);
		f.columns = c;
		f.ncolumns = 3;
		switch (i) {
		case 0: c[0].number = other; break;
		case 1: c[0].name = "rainfal"; break;
		case 2: c[1].word = other_word; break;
		case 3: f.ncolumns = 2; break;
		default: c[2].name = "nothinh"; break;
		}
		assert_true(tg_frame_hash(&f, is));
		assert_string_not_equal(was, is);
	}
	memcpy(c, columns, sizeof c);
	c[0].integers = true;
	f = (struct tg_frame){ .rows = 3, .ncolumns = 3, .columns = c };
	assert_true(tg_frame_hash(&f, is));
	assert_string_equal(was, is); /* how a number was written makes no other table, nor whether lines were kept */
}

/* A prediction of 10 000 rows (S3-82) from its body into the spool and back: every cell as it was written (S3-72). */
static void test_from_a_body(void **state)
{
	(void)state;
	enum { ROWS = 10000 };
	struct tg_buf b;
	struct tg_intake_fault fault;
	struct tg_frame *f, *g;
	struct tg_slice members;
	struct tg_err err = { "" };
	char hash[65], again[65], want[64];
	tg_buf_init(&b, 1u << 20);
	tg_buf_lit(&b, "{\"historic\":{\"columns\":[\"a\"],\"data\":[]},\"future\":{\"columns\":[\"a\",\"b\",\"c\"],\"data\":[");
	for (int i = 0; i < ROWS; i++)
		tg_buf_fmt(&b, "%s[%d, %d.50,\t\"t%d\"]", i ? ",\n" : "", i, i, i % 7);
	tg_buf_lit(&b, "]}}");
	struct tg_frame_reader *r = tg_frame_reader_new(TG_INTAKE_PREDICT, b.len);
	assert_true(r && tg_frame_reader_feed(r, b.p, b.len, &fault) && tg_frame_reader_end(r, &f, &members, hash, &fault));
	tg_frame_reader_free(r); /* the frame does not need it */
	tg_buf_free(&b);
	assert_true(tg_frame_write(f, folder, "body.frame", &err));
	g = tg_frame_read(folder, "body.frame", &err);
	assert_non_null(g);
	same(f, g);
	assert_true(tg_frame_hash(g, again));
	assert_string_equal(hash, again);
	assert_true(g->columns[0].integers && !g->columns[1].integers && g->columns[2].nwords == 7);
	for (int i = 0; i < ROWS; i++) {
		snprintf(want, sizeof want, "%d,%d.50,\"t%d\"", i, i, i % 7);
		assert_true(tg_slice_eq(tg_frame_line(g, (uint64_t)i), tg_slice_cstr(want)));
		assert_true(g->columns[1].number[i] == i + 0.5);
	}
	tg_frame_free(f);
	tg_frame_free(g);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_round_trip), cmocka_unit_test(test_large), cmocka_unit_test(test_damage), cmocka_unit_test(test_made_up),
		cmocka_unit_test(test_no_file), cmocka_unit_test(test_from_a_body), cmocka_unit_test(test_cells), cmocka_unit_test(test_hash_differs),
	};
	return cmocka_run_group_tests(tests, setup, teardown);
}
