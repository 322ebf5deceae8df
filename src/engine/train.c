/*
 * POST /train. The connection's thread checks the request, has the zygote make a process, hands it the request and passes its lines on; the process does the work and writes the lines. Whatever
 * ends it, a fault of ours, too little memory, somebody's kill, is an error line for the caller and nothing else. The last line is held back until the process has ended well: a result that is told is
 * a file that is there.
 */
#include "base/clock.h"
#include "engine/folder.h"
#include "engine/learn.h"
#include "engine/service.h"
#include <errno.h>
#include <math.h>
#include <poll.h>
#include <stdio.h>
#include <sys/wait.h>
#include <unistd.h>

#define LINE_MAX_BYTES (16u << 20)

struct order {
	json_t *body; /* lends the rest its texts */
	const char *job;
	struct tg_plan plan;
	const char **features;
};

static void order_free(struct order *o)
{
	free(o->features);
	json_decref(o->body);
}

static bool fault(const char **why, const char *text)
{
	*why = text;
	return false;
}

static bool whole(const json_t *v, json_int_t min, json_int_t max, json_int_t *out)
{
	if (v && !json_is_integer(v))
		return false;
	*out = v ? json_integer_value(v) : 0;
	return !v || (*out >= min && *out <= max);
}

static bool read_features(struct order *o, const json_t *list, const char **why)
{
	size_t n = json_array_size(list);
	if (!list || json_is_null(list))
		return true;
	if (!json_is_array(list) || !n || n > TG_FRAME_COLUMNS_MAX)
		return fault(why, "features: must be null or a list of 1 to 4096 names");
	o->features = calloc(n, sizeof *o->features);
	if (!o->features)
		return fault(why, "out of memory");
	for (size_t i = 0; i < n; i++)
		if (!(o->features[i] = json_string_value(json_array_get(list, i))))
			return fault(why, "features: must be names");
	o->plan.features = o->features;
	o->plan.nfeatures = (unsigned)n;
	return true;
}

/* False: *why, which names the member. */
static bool read_order(struct order *o, const char **why)
{
	struct tg_plan *p = &o->plan;
	const json_t *b = o->body, *method = json_object_get(b, "method"), *task = json_object_get(b, "task"), *target = json_object_get(b, "target"), *size = json_object_get(b, "test_size"), *under = json_object_get(b, "undersample");
	json_int_t seed, folds;
	unsigned m = 0, k = TG_TASK_BY_TARGET;
	while (m < TG_METHOD_COUNT && !(json_is_string(method) && strcmp(json_string_value(method), tg_method_names[m]) == 0))
		m++;
	if (m == TG_METHOD_COUNT)
		return fault(why, "method: must be the name of a method");
	if (task && !json_is_null(task))
		for (k = TG_TASK_CLASSIFICATION; k < TG_TASK_COUNT && !(json_is_string(task) && strcmp(json_string_value(task), tg_task_names[k]) == 0);)
			k++;
	if (k == TG_TASK_COUNT)
		return fault(why, "task: must be null, classification or regression");
	if (target && !json_is_null(target) && !json_is_string(target))
		return fault(why, "target: must be a name or null");
	if (!whole(json_object_get(b, "seed"), 0, UINT32_MAX, &seed))
		return fault(why, "seed: must be a whole number from 0 to 4294967295");
	if (!whole(json_object_get(b, "cv_folds"), 0, 10, &folds) || folds == 1)
		return fault(why, "cv_folds: must be 0 or 2 to 10");
	double share = json_number_value(size);
	if ((size && !json_is_number(size)) || (share != 0 && !(share >= 0.1 && share <= 0.5)))
		return fault(why, "test_size: must be 0 or 0.1 to 0.5");
	if (under && !json_is_boolean(under))
		return fault(why, "undersample: must be true or false");
	p->method = (enum tg_method)m;
	p->task = (enum tg_task_kind)k;
	p->target = json_string_value(target);
	p->seed = (uint32_t)seed;
	p->cv_folds = (unsigned)folds;
	p->test_size = share;
	p->undersample = json_is_true(under);
	return read_features(o, json_object_get(b, "features"), why);
}

/* ---- in the child ---- */

static void write_line(int out, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(out, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			_exit(1); /* nobody listens any more */
		p += w;
		n -= (size_t)w;
	}
}

static void write_json(int out, json_t *line)
{
	size_t n = line ? json_dumpb(line, NULL, 0, JSON_COMPACT) : 0;
	char *text = n ? malloc(n + 1) : NULL;
	if (!text || json_dumpb(line, text, n, JSON_COMPACT) != n)
		_exit(1);
	json_decref(line);
	text[n] = '\n';
	write_line(out, text, n + 1); /* at once: the engine is woken by each */
	free(text);
}

static void progress(void *ctx, unsigned percent, const char *message)
{
	write_json(*(int *)ctx, json_pack("{s:i,s:s}", "progress", (int)(percent > 100 ? 100 : percent), "message", message));
}

static bool read_all(int fd, char *p, size_t n)
{
	while (n) {
		ssize_t r = read(fd, p, n);
		if (r < 0 && errno == EINTR)
			continue;
		if (r <= 0)
			return false;
		p += r;
		n -= (size_t)r;
	}
	return true;
}

static json_t *read_request(int in)
{
	uint32_t n;
	if (!read_all(in, (char *)&n, sizeof n) || n > 8 * TG_REQUEST_MAX) /* written anew, numbers may be longer than they were */
		return NULL;
	char *text = malloc(n ? n : 1);
	json_t *body = text && read_all(in, text, n) ? json_loadb(text, n, 0, NULL) : NULL;
	free(text);
	return body;
}

/* The model's file, and what is told of it. NULL: err. */
static json_t *save(const struct tg_service *s, const char *job, const struct tg_trained *m, uint64_t rows, uint64_t begun_us, json_t *report, struct tg_err *err)
{
	char name[TG_ID_LEN + 8], hex[TG_SHA256_TEXT];
	struct stat st;
	snprintf(name, sizeof name, "%.26s.tgm", job);
	if (!tg_trained_save(m, s->spool, name, err))
		return NULL;
	int fd = tg_open_beneath(s->spool, name, &st);
	bool ok = fd >= 0 && tg_sha256_fd(fd, hex);
	if (fd >= 0)
		close(fd);
	if (!ok) {
		tg_err_set(err, "The model's file cannot be read back: %s.", strerror(errno));
		return NULL;
	}
	double seconds = (double)(tg_mono_us() - begun_us) / 1e6;
	return json_pack("{s:{s:s,s:I,s:s,s:I,s:f,s:o,s:O}}", "result", "file", name, "bytes", (json_int_t)st.st_size, "sha256", hex, "rows", (json_int_t)rows, "seconds",
			 round(seconds * 1e6) / 1e6, "about", tg_trained_about(m), "report", report);
}

void tg_train_job(void *ctx, int in, int out)
{
	const struct tg_service *s = ctx;
	uint64_t begun = tg_mono_us();
	struct order o = { .body = read_request(in) };
	struct tg_err err = { "" };
	const char *why = "";
	char name[TG_ID_LEN + 8];
	json_t *report = NULL, *line = NULL;
	if (!o.body || !read_order(&o, &why))
		_exit(1); /* the engine has looked at it before */
	o.plan.threads = s->threads;
	snprintf(name, sizeof name, "%.26s.frame", json_string_value(json_object_get(o.body, "job")));
	struct tg_frame *f = tg_frame_read(s->spool, name, &err);
	struct tg_trained *m = f ? tg_train(f, &o.plan, progress, &out, &report, &err) : NULL;
	if (m)
		line = save(s, json_string_value(json_object_get(o.body, "job")), m, f->rows, begun, report, &err);
	write_json(out, line ? line : json_pack("{s:s}", "error", err.text[0] ? err.text : "The training failed."));
	json_decref(report);
	tg_trained_free(m);
	tg_frame_free(f);
	order_free(&o);
}

/* ---- in the engine ---- */

static bool hand_over(int fd, const json_t *body)
{
	char *text = json_dumps(body, JSON_COMPACT);
	uint32_t n = text ? (uint32_t)strlen(text) : 0;
	bool ok = text != NULL;
	const struct tg_slice parts[] = { { (const char *)&n, sizeof n }, { text, n } };
	for (unsigned i = 0; ok && i < 2; i++)
		for (size_t at = 0; ok && at < parts[i].n;) {
			ssize_t w = write(fd, parts[i].p + at, parts[i].n - at);
			ok = w > 0 || (w < 0 && errno == EINTR);
			at += w > 0 ? (size_t)w : 0;
		}
	free(text);
	return ok;
}

struct lines {
	struct tg_buf text; /* what has come and has not been passed on: the last line, and what follows it */
	size_t held;        /* bytes of the last whole line in it; 0: none */
};

static bool begins(const struct lines *l, const char *with)
{
	return tg_slice_starts(tg_buf_view(&l->text), tg_slice_cstr(with));
}

/* Passes on all but the last whole line. False: that is no line of a training. */
static bool pass_on(struct lines *l, struct tg_http *h, bool *gone)
{
	for (;;) {
		const char *from = l->text.p + l->held, *nl = l->text.len > l->held ? memchr(from, '\n', l->text.len - l->held) : NULL;
		if (!nl)
			return !l->text.failed;
		if (l->held) {
			if (!begins(l, "{\"progress\":"))
				return false; /* something after the end */
			*gone = *gone || !tg_http_piece(h, (struct tg_slice){ l->text.p, l->held });
			tg_buf_consume(&l->text, l->held);
			nl -= l->held;
		}
		l->held = (size_t)(nl + 1 - l->text.p);
	}
}

/* Until the child closes its end, or the client its own. */
static bool pump(struct tg_http *h, const struct tg_zygote_job *j, struct lines *l, bool *gone)
{
	char piece[16384];
	while (!*gone) {
		struct pollfd p[2] = { { .fd = j->out, .events = POLLIN }, { .fd = h->fd, .events = POLLRDHUP } };
		if (poll(p, 2, -1) < 0 && errno != EINTR)
			return false;
		*gone = p[1].revents & (POLLRDHUP | POLLHUP | POLLERR);
		if (*gone || !p[0].revents)
			continue;
		ssize_t n = read(j->out, piece, sizeof piece);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return n == 0;
		tg_buf_put(&l->text, piece, (size_t)n);
		/* A progress line is news at once; a line that may be the last waits for the end. */
		if (!pass_on(l, h, gone))
			return false;
		if (l->held && begins(l, "{\"progress\":")) {
			*gone = *gone || !tg_http_piece(h, (struct tg_slice){ l->text.p, l->held });
			tg_buf_consume(&l->text, l->held);
			l->held = 0;
		}
	}
	return false;
}

static void end_text(int status, bool sound, char *out, size_t cap)
{
	if (status == -1)
		snprintf(out, cap, "The training process could not be started, or was lost.");
	else if (WIFSIGNALED(status) && sound)
		snprintf(out, cap, "The training process ended unexpectedly (signal %d).", WTERMSIG(status));
	else if (sound)
		snprintf(out, cap, "The training process ended unexpectedly (status %d).", WEXITSTATUS(status));
	else
		snprintf(out, cap, "The training process said what could not be understood.");
}

static void run(struct tg_service *s, struct tg_http *h, const json_t *body, const char *id)
{
	struct tg_zygote_job j;
	struct tg_err err;
	struct lines l = { 0 };
	char start[TG_ID_LEN + 8], why[160];
	snprintf(start, sizeof start, "%.26s.tgm", id);
	if (!tg_zygote_run(&s->zygote, &j, &err)) {
		tg_service_error(h, 500, err.text);
		return;
	}
	tg_buf_init(&l.text, LINE_MAX_BYTES);
	bool gone = !tg_http_stream(h), handed = !gone && hand_over(j.in, body), sound = handed && pump(h, &j, &l, &gone);
	int status = tg_zygote_end(&j);
	bool ended = status == 0 && sound && l.held == l.text.len && (begins(&l, "{\"result\":") || begins(&l, "{\"error\":"));
	if (gone || !ended || !begins(&l, "{\"result\":"))
		tg_spool_remove(s->spool, start);
	if (gone) {
		h->close = true;
	} else {
		if (!ended) {
			end_text(status, sound || !handed, why, sizeof why);
			l.text.len = 0;
			l.text.failed = false;
			tg_service_error_line(&l.text, "error", why);
			fprintf(stderr, "tollgate-engine: %s: %s\n", id, why);
		}
		if (!tg_http_stream_end(h, tg_buf_view(&l.text))) {
			h->close = true;
			tg_spool_remove(s->spool, start);
		}
	}
	tg_buf_free(&l.text);
}

void tg_serve_train(struct tg_service *s, struct tg_http *h)
{
	struct order o = { .body = tg_service_json(h) };
	const char *why = "";
	const char *id = o.body ? tg_service_id(h, o.body, "job") : NULL;
	if (id && !read_order(&o, &why))
		tg_service_error(h, 400, why);
	else if (id) {
		tg_service_log(h, "%s: training by %s", id, tg_method_names[o.plan.method]);
		run(s, h, o.body, id);
	}
	order_free(&o);
}
