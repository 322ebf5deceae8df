/*
 * A model's file (seed ledger S4-45, S4-50, S4-53): what is read back is what was written; what is cut, changed, somebody else's or made up is refused with a sentence, and whatever a body with a
 * right digest says, nothing outside of it is touched (under ASan). fuzz_model goes on where this ends.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <cmocka.h>
#include "engine/model.h"
#include "engine/sample.h"
#include "frame_fixture.h"
#include <fcntl.h>
#include <sodium.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define HEAD 48

static char folder_name[] = "/tmp/tollgate-models-XXXXXX";
static int folder = -1;
static const struct tg_slice colours[] = { { "red", 3 }, { "blue", 4 }, { "r\0d", 3 }, { "", 0 } };
#define ROWS 120
static double a[ROWS], y[ROWS];
static uint32_t colour[ROWS];
static struct tg_column past[] = { { .name = "a", .type = TG_COLUMN_NUMBER, .number = a }, { .name = "colour", .type = TG_COLUMN_TEXT, .word = colour, .words = colours, .nwords = 4 },
	{ .name = "e" }, { .name = "y", .type = TG_COLUMN_NUMBER, .number = y } };
static struct tg_frame frame = FRAME(ROWS, past);

static int open_folder(void **state)
{
	(void)state;
	struct tg_rng r = tg_seeded(1, 1);
	for (size_t i = 0; i < ROWS; i++) {
		a[i] = i % 9 ? (double)tg_below(&r, 1000) : NAN;
		colour[i] = i % 7 ? tg_below(&r, 4) : NONE;
		y[i] = tg_below(&r, 1000) < 200 + 100 * (colour[i] % 5) + (i % 9 ? (uint32_t)a[i] / 2 : 0);
	}
	return mkdtemp(folder_name) && (folder = open(folder_name, O_RDONLY | O_DIRECTORY)) >= 0 ? 0 : -1;
}

static int remove_folder(void **state)
{
	(void)state;
	close(folder);
	return rmdir(folder_name); /* empty: each test takes its own away */
}

/* What there is to write: a method each, and trees of numbers. */
static const struct tg_plan kinds[] = { { .method = TG_METHOD_LINEAR, .seed = 42 }, { .method = TG_METHOD_LOGISTIC, .seed = 42 }, { .method = TG_METHOD_XGBOOST, .seed = 42 },
	{ .method = TG_METHOD_FOREST, .seed = 42 }, { .method = TG_METHOD_XGBOOST, .task = TG_TASK_REGRESSION, .seed = 42 },
	{ .method = TG_METHOD_FOREST, .task = TG_TASK_REGRESSION, .seed = 42 } };
enum { LINEAR, LOGISTIC, XGBOOST, FOREST, XGBOOST_NUMBERS, FOREST_NUMBERS, KINDS };
_Static_assert(sizeof kinds / sizeof *kinds == KINDS, "as named");

static struct tg_trained *model(unsigned kind)
{
	struct tg_plan plan = kinds[kind];
	json_t *report;
	struct tg_err err;
	struct tg_trained *m = tg_train(&frame, &plan, NULL, NULL, &report, &err);
	assert_non_null(m);
	json_decref(report);
	return m;
}

static size_t read_file(const char *name, unsigned char **p)
{
	int fd = openat(folder, name, O_RDONLY);
	struct stat st;
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	*p = malloc((size_t)st.st_size + 1);
	assert_int_equal(read(fd, *p, (size_t)st.st_size), st.st_size);
	close(fd);
	return (size_t)st.st_size;
}

static void write_file(const char *name, const void *p, size_t n)
{
	int fd = openat(folder, name, O_WRONLY | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0 && write(fd, p, n) == (ssize_t)n);
	close(fd);
}

/* The bytes of a model's file. */
static size_t bytes_of(unsigned kind, unsigned char **p)
{
	struct tg_trained *m = model(kind);
	struct tg_err err;
	assert_true(tg_trained_save(m, folder, "m.tgm", &err));
	tg_trained_free(m);
	size_t n = read_file("m.tgm", p);
	unlinkat(folder, "m.tgm", 0);
	return n;
}

static void test_there_and_back(void **state)
{
	(void)state;
	for (unsigned kind = 0; kind < KINDS; kind++) {
		struct tg_trained *m = model(kind);
		struct tg_err err = { "" };
		double out[ROWS], again[ROWS];
		unsigned char *p, *q;
		assert_true(tg_trained_save(m, folder, "m.tgm", &err));
		assert_true(tg_trained_save(m, folder, "m.tgm", &err)); /* over the older one */
		struct tg_trained *back = tg_trained_load(folder, "m.tgm", &err);
		if (!back)
			fail_msg("%s", err.text);
		assert_true(tg_predict(m, &frame, out, &err) && tg_predict(back, &frame, again, &err));
		assert_memory_equal(out, again, sizeof out);
		assert_int_equal(back->fit.method, kinds[kind].method);
		assert_int_equal(tg_trained_classifies(back), kind != LINEAR && kind < XGBOOST_NUMBERS);
		json_t *one = tg_trained_about(m), *two = tg_trained_about(back);
		assert_non_null(one);
		assert_true(json_equal(one, two));
		assert_int_equal(json_array_size(json_object_get(json_array_get(json_object_get(one, "features"), 1), "values")), 4);
		assert_string_equal(json_string_value(json_object_get(json_array_get(json_object_get(one, "features"), 2), "type")), "empty");
		json_decref(one);
		json_decref(two);
		/* The same training gives the same bytes, and so does writing what was read. */
		size_t n = read_file("m.tgm", &p);
		assert_true(tg_trained_save(back, folder, "n.tgm", &err));
		assert_int_equal(read_file("n.tgm", &q), n);
		assert_memory_equal(p, q, n);
		free(q);
		assert_int_equal(bytes_of(kind, &q), n);
		assert_memory_equal(p, q, n);
		assert_memory_equal(p, kind < XGBOOST_NUMBERS ? "TGMODEL1" : "TGMODEL2", 8); /* no newer than it has to be */
		free(p);
		free(q);
		struct stat st;
		assert_true(fstatat(folder, "n.tgm", &st, 0) == 0 && (st.st_mode & 0777) == 0600);
		assert_true(fstatat(folder, "n.tgm.part", &st, 0) != 0);
		unlinkat(folder, "m.tgm", 0);
		unlinkat(folder, "n.tgm", 0);
		tg_trained_free(m);
		tg_trained_free(back);
	}
}

static void refused(const void *p, size_t n, const char *why)
{
	struct tg_err err = { "" };
	/* Memory of its own, so that a byte past the end is seen. */
	void *copy = malloc(n ? n : 1);
	memcpy(copy, p, n);
	struct tg_trained *m = tg_trained_parse(copy, n, &err);
	free(copy);
	assert_null(m);
	assert_true(err.text[0] && err.text[strlen(err.text) - 1] == '.');
	if (why)
		assert_string_equal(err.text, why);
}

static void test_cut(void **state)
{
	(void)state;
	unsigned char *p;
	size_t n = bytes_of(XGBOOST, &p);
	assert_true(n > 4096);
	for (size_t at = 0; at < n; at += at < 1024 ? 1 : 1024)
		refused(p, at, at < 8 ? "The file is no model of Tollgate." : "The model's file is not whole.");
	refused(p, n - 1, "The model's file is not whole.");
	p = realloc(p, n + 1);
	p[n] = 0;
	refused(p, n + 1, "The model's file is not whole.");
	/* And as a file. */
	struct tg_err err;
	write_file("cut.tgm", p, n / 2);
	assert_null(tg_trained_load(folder, "cut.tgm", &err));
	assert_string_equal(err.text, "The model's file is not whole.");
	unlinkat(folder, "cut.tgm", 0);
	free(p);
}

static void test_changed(void **state)
{
	(void)state;
	unsigned char *p;
	size_t n = bytes_of(LOGISTIC, &p);
	for (size_t at = 0; at < n; at++)
		for (unsigned bit = 0; bit < 8; bit += 3) {
			p[at] ^= (unsigned char)(1u << bit);
			refused(p, n, at >= 16 ? "The model's file has been changed or damaged." : at >= 8 ? "The model's file is not whole."
				: p[7] == '9' ? "The model was made by a later version of Tollgate." : "The file is no model of Tollgate.");
			p[at] ^= (unsigned char)(1u << bit);
		}
	struct tg_err err;
	struct tg_trained *m = tg_trained_parse(p, n, &err);
	assert_non_null(m);
	tg_trained_free(m);
	free(p);
}

static void test_others(void **state)
{
	(void)state;
	struct tg_err err;
	refused("\x80\x04\x95\x10\0\0\0", 8, "The file is a pickle (joblib); loading one runs the code that is in it.");
	refused("PK\3\4....", 8, "The file is a zip archive, which holds pickles; loading one runs the code that is in it.");
	refused("\x78\x9c....", 6, "The file is compressed, as joblib writes pickles; loading one runs the code that is in it.");
	refused("\x1f\x8b....", 6, "The file is compressed, as joblib writes pickles; loading one runs the code that is in it.");
	refused("{\"learner\":{}}", 14, "The file is no model of Tollgate.");
	refused("", 0, "The file is no model of Tollgate.");
	assert_null(tg_trained_load(folder, "absent.tgm", &err));
	assert_string_equal(err.text, "The model's file is missing.");
	const char *const names[] = { "../x", "", ".", "..", "a/b" };
	struct tg_trained *m = model(LINEAR);
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		assert_null(tg_trained_load(folder, names[i], &err));
		assert_false(tg_trained_save(m, folder, names[i], &err));
		assert_string_equal(err.text, "The model has no proper name.");
	}
	/* Not through a link, and no folder. */
	assert_true(tg_trained_save(m, folder, "m.tgm", &err));
	assert_int_equal(symlinkat("m.tgm", folder, "link.tgm"), 0);
	assert_null(tg_trained_load(folder, "link.tgm", &err));
	assert_int_equal(mkdirat(folder, "folder.tgm", 0700), 0);
	assert_null(tg_trained_load(folder, "folder.tgm", &err));
	assert_false(tg_trained_save(m, folder, "folder.tgm", &err)); /* and nothing is left of the try */
	unlinkat(folder, "m.tgm", 0);
	unlinkat(folder, "link.tgm", 0);
	unlinkat(folder, "folder.tgm", AT_REMOVEDIR);
	tg_trained_free(m);
}

static void seal(unsigned char *p, size_t n)
{
	uint64_t body = n - HEAD;
	memcpy(p + 8, &body, sizeof body);
	crypto_hash_sha256(p + 16, p + HEAD, body);
}

/* A version that is not the body's, a later one, a task that the method cannot do or that there is not, a sum that begins nowhere. */
static void test_versions(void **state)
{
	(void)state;
	static const char other[] = "The model's file is not as this version writes them.", later[] = "The model was made by a later version of Tollgate.";
	static const uint32_t tasks[] = { 0, 1, 3, UINT32_MAX };
	for (unsigned kind = 0; kind < KINDS; kind++) {
		unsigned char *p;
		size_t n = bytes_of(kind, &p);
		bool newer = p[7] == '2';
		p[7] = newer ? '1' : '2';
		refused(p, n, other);
		p[7] = '3';
		refused(p, n, later);
		p[7] = '0';
		refused(p, n, "The file is no model of Tollgate.");
		p[7] = '2';
		for (size_t i = 0; newer && i < sizeof tasks / sizeof *tasks; i++) {
			memcpy(p + HEAD + 4, &tasks[i], 4);
			seal(p, n);
			refused(p, n, other);
		}
		free(p);
	}
	/* As version 2 every model could be written: the task between the method and the seed, and what trees begin with in front of them. Linear regression has none: its body is the same else. */
	unsigned char *p;
	size_t n = bytes_of(LINEAR, &p);
	for (uint32_t task = 0; task < 4; task++) {
		unsigned char *q = malloc(n + 4);
		memcpy(q, p, HEAD + 4);
		memcpy(q + HEAD + 4, &task, 4);
		memcpy(q + HEAD + 8, p + HEAD + 4, n - HEAD - 4);
		q[7] = '2';
		seal(q, n + 4);
		struct tg_err err;
		struct tg_trained *m = tg_trained_parse(q, n + 4, &err);
		assert_int_equal(m != NULL, task == TG_TASK_REGRESSION);
		tg_trained_free(m);
		free(q);
	}
	free(p);
}

/* The body is somebody's invention, the digest right: it is a model, and can be predicted with, or it is none. */
static void test_made_up(void **state)
{
	(void)state;
	size_t accepted = 0, refusals = 0;
	struct tg_rng r = tg_seeded(7, 7);
	for (unsigned kind = LINEAR; kind < KINDS; kind += 2) {
		unsigned char *p;
		size_t n = bytes_of(kind, &p);
		unsigned char *q = malloc(n);
		for (int round = 0; round < 3000; round++) {
			static const uint32_t odd[] = { 0, 1, 2, 0x7fffffff, 0x80000000, 0xffffffff, 0x00ff00ff };
			size_t len = round % 5 ? n : HEAD + tg_below(&r, (uint32_t)(n - HEAD)), changes = 1 + tg_below(&r, 3);
			memcpy(q, p, n);
			for (size_t i = 0; i < changes && len > HEAD; i++) {
				/* Mostly in front, where the counts are. */
				size_t at = HEAD + tg_below(&r, (uint32_t)(tg_below(&r, 3) && len > HEAD + 300 ? 300 : len - HEAD));
				uint32_t v = odd[tg_below(&r, sizeof odd / sizeof *odd)];
				if (round % 2)
					q[at] = (unsigned char)tg_rng_next(&r);
				else
					memcpy(q + at, &v, len - at < sizeof v ? len - at : sizeof v);
			}
			seal(q, len);
			unsigned char *exact = malloc(len);
			memcpy(exact, q, len);
			struct tg_err err = { "" };
			struct tg_trained *m = tg_trained_parse(exact, len, &err);
			free(exact);
			double out[ROWS];
			if (m) {
				accepted++;
				json_decref(tg_trained_about(m));
				tg_predict(m, &frame, out, &err);
			} else {
				refusals++;
				assert_string_equal(err.text, "The model's file is not as this version writes them.");
			}
			tg_trained_free(m);
		}
		free(p);
		free(q);
	}
	assert_true(accepted > 100 && refusals > 1000);
}

static double score(const struct tg_trees *t, const double *cells)
{
	return tg_trees_probability(tg_trees_sum(t, cells));
}

static void test_walks_that_would_not_end(void **state)
{
	(void)state;
	struct tg_node node[4] = { { 0 }, { .left = 2, .right = 3, .column = 1, .value = 0.5f }, { .value = 1 }, { .value = 2 } };
	uint32_t root[1] = { 1 };
	struct tg_trees t = { .ntrees = 1, .nnodes = 4, .root = root, .node = node };
	const double below[] = { 9, 0.4 }, above[] = { 9, 0.5 }, missing[] = { 9, NAN };
	assert_true(tg_trees_sound(&t, 2));
	assert_true(fabs(score(&t, below) - 0.7310585975646973) < 1e-9 && fabs(score(&t, above) - 0.8807970285415649) < 1e-7);
	assert_true(fabs(score(&t, missing) - score(&t, above)) < 1e-12);
	t.base = 2;
	assert_true(fabsf(tg_trees_sum(&t, below) - 3) < 1e-6f && fabsf(tg_trees_sum(&t, above) - 4) < 1e-6f);
	t.base = 0;
	node[1].missing_left = 1;
	assert_true(fabs(score(&t, missing) - score(&t, below)) < 1e-12);
	assert_false(tg_trees_sound(&t, 1)); /* a column that is not there */
	const uint32_t bad[] = { 1, 4, UINT32_MAX };
	for (size_t i = 0; i < 3; i++) {
		node[1].left = bad[i];
		assert_false(tg_trees_sound(&t, 2));
		node[1].left = 2;
		node[1].right = bad[i];
		assert_false(tg_trees_sound(&t, 2));
		node[1].right = 3;
	}
	node[1].right = 0;
	assert_false(tg_trees_sound(&t, 2));
	node[1].right = 3;
	root[0] = 4;
	assert_false(tg_trees_sound(&t, 2));
	root[0] = 0;
	assert_false(tg_trees_sound(&t, 2));
	root[0] = 1;
	node[3].value = NAN;
	assert_false(tg_trees_sound(&t, 2));
}

static void test_xgboost_description(void **state)
{
	(void)state;
	const char *const bad[] = { "", "[]", "{}", "{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":[]}}}}", "{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":[{}]}}}}",
		"{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":[{\"left_children\":[1,0,-1],\"right_children\":[2,-1,-1],\"split_indices\":[0,0,0],\"split_conditions\":[1,1,1],"
		"\"default_left\":[0,0,0],\"loss_changes\":[1,1,1]},{\"left_children\":[0],\"right_children\":[0],\"split_indices\":[9],\"split_conditions\":[1],\"default_left\":[0],"
		"\"loss_changes\":[1]}]}}}}",
		/* a circle */
		"{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":[{\"left_children\":[1,1],\"right_children\":[1,1],\"split_indices\":[0,0],\"split_conditions\":[1,1],"
		"\"default_left\":[0,0],\"loss_changes\":[1,1]}]}}}}",
		"{\"learner\":{\"gradient_booster\":{\"model\":{\"trees\":[{\"left_children\":[7],\"right_children\":[8],\"split_indices\":[0],\"split_conditions\":[1],"
		"\"default_left\":[0],\"loss_changes\":[1]}]}}}}" };
	for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
		struct tg_trees t = { 0 };
		double gain[1] = { 0 };
		if (i == 5) {
			/* Its first tree is well, its second has a split without children: a leaf. */
			assert_true(tg_trees_read(&t, gain, 1, bad[i], strlen(bad[i])));
			assert_int_equal(t.nnodes, 5);
			assert_true(gain[0] > 0.9 && gain[0] < 1.1);
			tg_trees_free(&t);
			continue;
		}
		assert_false(tg_trees_read(&t, gain, 1, bad[i], strlen(bad[i])));
		assert_null(t.node);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(test_there_and_back),
		cmocka_unit_test(test_cut),
		cmocka_unit_test(test_changed),
		cmocka_unit_test(test_others),
		cmocka_unit_test(test_versions),
		cmocka_unit_test(test_made_up),
		cmocka_unit_test(test_walks_that_would_not_end),
		cmocka_unit_test(test_xgboost_description),
	};
	return cmocka_run_group_tests(tests, open_folder, remove_folder);
}
