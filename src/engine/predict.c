/*
 * POST /predict, on the connection's own thread: a prediction is short, and making a process for each would cost more than it. How many run at once is bounded; the others stand in line. What a
 * model's file can do to us is bounded by its digest (it is a file that a training of ours has written and the gate has stored), by the loader's own checks, and by the sandbox.
 */
#include "engine/folder.h"
#include "engine/loaded.h"
#include "engine/service.h"
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <unistd.h>

#define OUT_PIECE 65536

struct order {
	const char *job, *model, *sha256;
	bool applications, probabilities;
	bool numbers;     /* the model predicts a number and no class */
	double threshold; /* NaN: the model's */
};

/* ---- the file ---- */

struct writer {
	int fd;
	struct tg_buf b;
	uint64_t bytes;
	bool failed;
};

static void write_all(struct writer *w, struct tg_slice s)
{
	while (s.n && !w->failed) {
		ssize_t n = write(w->fd, s.p, s.n);
		if (n < 0 && errno == EINTR)
			continue;
		w->failed = n <= 0;
		if (n > 0) {
			w->bytes += (uint64_t)n;
			s = (struct tg_slice){ s.p + n, s.n - (size_t)n };
		}
	}
}

static void flush(struct writer *w)
{
	write_all(w, tg_buf_view(&w->b));
	w->failed = w->failed || w->b.failed;
	w->b.len = 0;
}

/* A row may be of any size: what is long does not go through the buffer. */
static void put(struct writer *w, struct tg_slice s)
{
	if (w->b.len + s.n > OUT_PIECE)
		flush(w);
	if (s.n > OUT_PIECE)
		write_all(w, s);
	else
		tg_buf_slice(&w->b, s);
}

static void put_name(struct writer *w, const char *name)
{
	tg_buf_json(&w->b, tg_slice_cstr(name));
	put(w, TG_S(""));
}

/* The shortest text that is read back as the same number; whole ones keep a ".0": floats out. */
static void put_number(struct writer *w, double v)
{
	char text[40];
	int n = 0;
	if (!isfinite(v)) {
		put(w, TG_S("null"));
		return;
	}
	for (int digits = 15; digits <= 17; digits++) {
		n = snprintf(text, sizeof text, "%.*g", digits, v);
		if (strtod(text, NULL) == v)
			break;
	}
	put(w, (struct tg_slice){ text, (size_t)n });
	if (!strpbrk(text, ".e"))
		put(w, TG_S(".0"));
}

static void write_frame(struct writer *w, const struct tg_frame *f, const double *out)
{
	put(w, TG_S("{\"columns\":["));
	for (unsigned i = 0; i < f->ncolumns; i++) {
		put_name(w, f->columns[i].name);
		put(w, TG_S(","));
	}
	put(w, TG_S("\"sample_0\"],\"data\":["));
	for (uint64_t r = 0; r < f->rows && !w->failed; r++) {
		put(w, r ? TG_S(",[") : TG_S("["));
		put(w, tg_frame_line(f, r));
		put(w, f->ncolumns ? TG_S(",") : TG_S(""));
		put_number(w, out[r]);
		put(w, TG_S("]"));
	}
	put(w, TG_S("]}"));
}

static void write_applications(struct writer *w, const struct tg_frame *f, const double *out, const struct order *o)
{
	put(w, TG_S("["));
	for (uint64_t r = 0; r < f->rows && !w->failed; r++) {
		bool yes = out[r] >= o->threshold;
		put(w, r ? TG_S(",{\"application\":{") : TG_S("{\"application\":{"));
		struct tg_slice line = tg_frame_line(f, r), cell;
		size_t at = 0;
		for (unsigned i = 0; i < f->ncolumns && tg_frame_next_cell(line, &at, &cell); i++) {
			put(w, i ? TG_S(",") : TG_S(""));
			put_name(w, f->columns[i].name);
			put(w, TG_S(":"));
			put(w, cell);
		}
		if (o->numbers) {
			put(w, TG_S("},\"prediction\":"));
			put_number(w, out[r]);
			put(w, TG_S("}"));
			continue;
		}
		put(w, yes ? TG_S("},\"predicted_default\":true,\"default_probability\":") : TG_S("},\"predicted_default\":false,\"default_probability\":"));
		put_number(w, o->probabilities ? out[r] : NAN);
		put(w, TG_S(",\"confidence\":"));
		put_number(w, out[r] > 0.5 ? out[r] : 1 - out[r]);
		put(w, TG_S("}"));
	}
	put(w, TG_S("]"));
}

/* ---- the prediction ---- */

struct result {
	char file[TG_ID_LEN + 8];
	uint64_t bytes, rows, positive;
	bool classes, fresh;
};

static bool write_result(struct tg_service *s, const struct order *o, const struct tg_frame *f, const double *out, const struct tg_http *h, struct result *r, struct tg_err *err)
{
	struct writer w = { .fd = tg_spool_begin(s->spool, r->file) };
	tg_err_set(err, "The result cannot be written: %s.", strerror(errno));
	if (w.fd < 0)
		return false;
	tg_buf_init(&w.b, 4u * OUT_PIECE); /* one piece and a column's name, escaped */
	if (o->applications)
		write_applications(&w, f, out, o);
	else
		write_frame(&w, f, out);
	flush(&w);
	tg_buf_free(&w.b);
	r->bytes = w.bytes;
	bool left = tg_service_gone(h), ok = tg_spool_finish(s->spool, w.fd, r->file, !w.failed && !left);
	if (!ok && !left)
		tg_err_set(err, "The result cannot be written: %s.", strerror(errno));
	return ok;
}

static bool model_threshold(const struct tg_trained *m, double *out)
{
	json_t *about = tg_trained_about(m);
	const json_t *t = json_object_get(about, "threshold");
	bool known = json_is_number(t);
	*out = known ? json_number_value(t) : 0.5;
	json_decref(about);
	return known;
}

static bool predict(struct tg_service *s, struct order *o, struct tg_loaded *m, const struct tg_http *h, struct result *r, struct tg_err *err)
{
	char name[TG_ID_LEN + 8];
	snprintf(name, sizeof name, "%.26s.frame", o->job);
	struct tg_frame *f = tg_frame_read(s->spool, name, err);
	double *out = NULL, usual;
	bool ok = f != NULL;
	r->classes = tg_trained_classifies(tg_loaded_model(m));
	(void)model_threshold(tg_loaded_model(m), &usual);
	if (isnan(o->threshold))
		o->threshold = usual;
	o->numbers = !r->classes;
	if (ok && !o->applications && tg_frame_column(f, "sample_0")) {
		tg_err_set(err, "The data has a column sample_0 already, which is what the prediction's is called.");
		ok = false;
	}
	if (ok && (!f->ends || f->rows > SIZE_MAX / sizeof *out)) {
		tg_err_set(err, "The data was not taken in for a prediction.");
		ok = false;
	}
	if (ok && !(out = calloc(f->rows ? f->rows : 1, sizeof *out))) {
		tg_err_set(err, "There is not enough memory for a prediction of %llu rows.", (unsigned long long)f->rows);
		ok = false;
	}
	ok = ok && tg_loaded_predict(m, f, out, err);
	for (uint64_t i = 0; ok && i < f->rows; i++)
		r->positive += out[i] >= o->threshold;
	if (ok) {
		snprintf(r->file, sizeof r->file, "%.26s.out", o->job);
		r->rows = f->rows;
		ok = write_result(s, o, f, out, h, r, err);
	}
	free(out);
	tg_frame_free(f);
	return ok;
}

static void put_result(struct tg_buf *b, const struct result *r)
{
	tg_buf_fmt(b, "{\"result\":{\"file\":\"%s\",\"bytes\":%llu,\"rows\":%llu,\"positive\":", r->file, (unsigned long long)r->bytes, (unsigned long long)r->rows);
	if (r->classes)
		tg_buf_u64(b, r->positive);
	else
		tg_buf_lit(b, "null");
	tg_buf_cstr(b, r->fresh ? ",\"loaded\":true}}\n" : ",\"loaded\":false}}\n");
}

static void run(struct tg_service *s, struct tg_http *h, struct order *o)
{
	struct result r = { 0 };
	struct tg_err err = { "" };
	struct tg_buf b;
	tg_buf_init(&b, 8192);
	tg_service_log(h, "%s: prediction with %.128s", o->job, o->model);
	struct tg_loaded *m = tg_loaded_get(s->loaded, o->model, o->sha256, &r.fresh, &err);
	if (!m)
		tg_service_error_line(&b, "refused", err.text);
	else if (predict(s, o, m, h, &r, &err))
		put_result(&b, &r);
	else
		tg_service_error_line(&b, "error", err.text);
	if (m)
		tg_loaded_put(s->loaded, m);
	if (!tg_http_answer(h, 200, tg_buf_view(&b)) && r.file[0])
		tg_spool_remove(s->spool, r.file); /* who asked for it has left */
	tg_buf_free(&b);
}

static const char *read_order(const json_t *b, struct order *o)
{
	const json_t *sha = json_object_get(b, "sha256"), *as = json_object_get(b, "as"), *threshold = json_object_get(b, "threshold"), *with = json_object_get(b, "include_probabilities");
	const char *as_text = json_is_string(as) ? json_string_value(as) : "";
	o->sha256 = json_string_value(sha);
	if (!o->sha256 || json_string_length(sha) != TG_SHA256_TEXT - 1 || strspn(o->sha256, "0123456789abcdef") != TG_SHA256_TEXT - 1)
		return "sha256: must be 64 hexadecimal digits, in small letters";
	o->applications = strcmp(as_text, "applications") == 0;
	if (!o->applications && strcmp(as_text, "frame") != 0)
		return "as: must be \"frame\" or \"applications\"";
	o->threshold = json_is_number(threshold) ? json_number_value(threshold) : NAN;
	if (threshold && !json_is_null(threshold) && !(o->threshold >= 0 && o->threshold <= 1))
		return "threshold: must be null or a number from 0 to 1";
	if (with && !json_is_boolean(with))
		return "include_probabilities: must be true or false";
	o->probabilities = !with || json_is_true(with);
	return NULL;
}

void tg_serve_predict(struct tg_service *s, struct tg_http *h)
{
	struct order o = { 0 };
	json_t *body = tg_service_json(h);
	const char *why;
	if (body && (o.job = tg_service_id(h, body, "job")) && (o.model = tg_service_name(h, body, "model"))) {
		if ((why = read_order(body, &o))) {
			tg_service_error(h, 400, why);
		} else {
			while (sem_wait(&s->predictions) != 0)
				; /* EINTR */
			if (tg_service_gone(h))
				h->close = true;
			else
				run(s, h, &o);
			sem_post(&s->predictions);
		}
	}
	json_decref(body);
}
