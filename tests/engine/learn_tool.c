/*
 * Learning on the command line, for the tests that hold it against scikit-learn and XGBoost's Python package (test_oracle.py); built with the unit tests, never installed.
 *   learn_tool FOLDER PLAN TRAIN.csv [PREDICT.csv]
 * FOLDER: where the model is written (model.tgm) and read back. PLAN: a JSON object of struct tg_plan's members. Prints {"about", "report", "seconds", "predictions"} or {"error"}.
 * The CSV is the plainest: a header, no quotes; an empty cell is a null, a column whose cells are all numbers holds numbers.
 */
#include "engine/learn.h"
#include <fcntl.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

static void *must(void *p)
{
	if (!p)
		abort();
	return p;
}

static bool is_number(const char *s, double *v)
{
	char *end;
	*v = strtod(s, &end);
	return end != s && !*end;
}

struct table {
	char ***cell; /* [row][column], the header first */
	size_t rows, columns;
};

static struct table read_table(const char *path)
{
	struct table t = { 0 };
	FILE *f = must(fopen(path, "r"));
	char *line = NULL;
	size_t cap = 0;
	ssize_t n;
	while ((n = getline(&line, &cap, f)) > 0) {
		if (line[n - 1] == '\n')
			line[n - 1] = 0;
		if ((t.rows & (t.rows + 1)) == 0)
			t.cell = must(realloc(t.cell, (2 * t.rows + 2) * sizeof *t.cell));
		char **row = NULL, *rest = line, *cell;
		size_t have = 0;
		while ((cell = strsep(&rest, ","))) {
			row = must(realloc(row, (have + 1) * sizeof *row));
			row[have++] = must(strdup(cell));
		}
		if (t.columns && have != t.columns)
			abort();
		t.columns = have;
		t.cell[t.rows++] = row;
	}
	free(line);
	fclose(f);
	return t;
}

/* What it makes is never freed: the program ends soon. */
static struct tg_frame *read_csv(const char *path)
{
	struct table t = read_table(path);
	struct tg_frame *f = must(calloc(1, sizeof *f));
	f->rows = t.rows - 1;
	f->ncolumns = (unsigned)t.columns;
	f->columns = must(calloc(t.columns, sizeof *f->columns));
	for (size_t c = 0; c < t.columns; c++) {
		struct tg_column *x = &f->columns[c];
		struct tg_slice *words = must(calloc(t.rows, sizeof *words));
		double v;
		x->name = t.cell[0][c];
		x->type = TG_COLUMN_EMPTY;
		x->integers = true;
		x->number = must(calloc(t.rows, sizeof *x->number));
		x->word = must(calloc(t.rows, sizeof *x->word));
		x->words = words;
		for (size_t r = 1; r < t.rows; r++) {
			const char *s = t.cell[r][c];
			bool number = is_number(s, &v);
			x->nulls += !*s;
			x->integers = x->integers && (!*s || (number && v == floor(v) && !strchr(s, '.')));
			if (*s && x->type != TG_COLUMN_TEXT)
				x->type = number ? TG_COLUMN_NUMBER : TG_COLUMN_TEXT;
		}
		for (size_t r = 1; r < t.rows; r++) {
			const char *s = t.cell[r][c];
			x->number[r - 1] = is_number(s, &v) ? v : NAN;
			x->word[r - 1] = TG_FRAME_NO_WORD;
			for (uint32_t w = 0; *s && x->type == TG_COLUMN_TEXT && x->word[r - 1] == TG_FRAME_NO_WORD; w++) {
				if (w == x->nwords)
					words[x->nwords++] = tg_slice_cstr(s);
				if (tg_slice_eq(words[w], tg_slice_cstr(s)))
					x->word[r - 1] = w;
			}
		}
	}
	return f;
}

static struct tg_plan read_plan(const char *text)
{
	json_error_t fault;
	json_t *o = must(json_loads(text, 0, &fault)), *list = json_object_get(o, "features");
	struct tg_plan p = { .method = TG_METHOD_COUNT, .target = json_string_value(json_object_get(o, "target")), .seed = (uint32_t)json_integer_value(json_object_get(o, "seed")),
		.test_size = json_number_value(json_object_get(o, "test_size")), .cv_folds = (unsigned)json_integer_value(json_object_get(o, "cv_folds")),
		.undersample = json_is_true(json_object_get(o, "undersample")), .threads = (unsigned)json_integer_value(json_object_get(o, "threads")) };
	const char *method = json_string_value(json_object_get(o, "method"));
	const char *task = json_string_value(json_object_get(o, "task"));
	for (int i = 1; i < TG_TASK_COUNT; i++)
		if (task && strcmp(task, tg_task_names[i]) == 0)
			p.task = (enum tg_task_kind)i;
	for (int i = 0; i < TG_METHOD_COUNT; i++)
		if (method && strcmp(method, tg_method_names[i]) == 0)
			p.method = (enum tg_method)i;
	if (list) {
		const char **names = must(calloc(json_array_size(list) + 1, sizeof *names));
		for (size_t i = 0; i < json_array_size(list); i++)
			names[p.nfeatures++] = json_string_value(json_array_get(list, i));
		p.features = names;
	}
	return p;
}

static json_t *predict(const struct tg_trained *m, const struct tg_frame *f, double *out, struct tg_err *err)
{
	if (!tg_predict(m, f, out, err))
		return NULL;
	json_t *list = json_array();
	for (uint64_t i = 0; i < f->rows; i++)
		json_array_append_new(list, json_real(out[i]));
	return list;
}

/* Ends here, before anybody looks for what was not freed: the table and the plan are there for the whole of a short life. */
static int finish(json_t *o)
{
	json_dumpf(must(o), stdout, 0);
	fflush(stdout);
	_exit(0);
}

int main(int argc, char **argv)
{
	if (argc < 4)
		return 2;
	struct tg_err err;
	struct tg_frame *f = read_csv(argv[3]), *future = argc > 4 ? read_csv(argv[4]) : NULL;
	struct tg_plan plan = read_plan(argv[2]);
	json_t *report;
	struct timespec from, to;
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &from);
	struct tg_trained *m = tg_train(f, &plan, NULL, NULL, &report, &err);
	clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &to);
	if (!m)
		return finish(json_pack("{ss}", "error", err.text));
	int folder = open(argv[1], O_RDONLY | O_DIRECTORY);
	struct tg_trained *back = tg_trained_save(m, folder, "model.tgm", &err) ? tg_trained_load(folder, "model.tgm", &err) : NULL;
	if (!back)
		return finish(json_pack("{ss}", "error", err.text));
	json_t *o = json_pack("{sososf}", "about", tg_trained_about(back), "report", report, "seconds", (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9);
	if (future) {
		double *out = must(calloc(future->rows + 1, sizeof *out)), *again = must(calloc(future->rows + 1, sizeof *again));
		json_t *list = predict(back, future, out, &err);
		if (!list)
			return finish(json_pack("{ss}", "error", err.text));
		/* The model that was read back is the model. */
		if (!tg_predict(m, future, again, &err) || memcmp(out, again, future->rows * sizeof *out) != 0)
			abort();
		json_object_set_new(o, "predictions", list);
	}
	tg_trained_free(m);
	tg_trained_free(back);
	return finish(o);
}
