/*
 * A model: what it tells of itself, and its file. The file is a head (magic with a version, length of the body, SHA-256 of the body) and a body of numbers and counted bytes, little-endian; nothing in it is
 * code or a name of code, and nothing of it is read by a library. Reading believes no count before there are bytes for it, and no place before it is within what it points into: the digest says that
 * a file is whole, not who wrote it.
 * Version 1 knows trees of classes only; version 2 says what the task is and what the trees' sum begins with. What version 1 can say is written as version 1: an older gate that shares the models can
 * use it, and refuses the others by their head.
 */
#include "engine/model.h"
#include "base/buf.h"
#include "base/utf8.h"
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <float.h>
#include <math.h>
#include <sodium.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "TGMODEL" /* and the version, a digit */
#define VERSION 2
#define HEAD (8 + 8 + crypto_hash_sha256_BYTES)
#define VALUES_SHOWN 1000 /* texts in tg_trained_about, of all features */
#define VALUE_SHOWN 256   /* bytes of one; a feature that has a longer one shows none */

/* What version 1 takes for granted. */
static bool is_classes(enum tg_method m)
{
	return m != TG_METHOD_LINEAR;
}

static bool is_trees(enum tg_method m)
{
	return m == TG_METHOD_XGBOOST || m == TG_METHOD_FOREST;
}

void tg_trained_free(struct tg_trained *m)
{
	if (!m)
		return;
	tg_fit_free(&m->fit);
	free(m->target);
	for (int i = 0; i < 2; i++)
		free((char *)m->label[i].text.p);
	free(m);
}

bool tg_trained_classifies(const struct tg_trained *m)
{
	return m->fit.classes;
}

static json_t *feature_json(const struct tg_feature *x, size_t *shown)
{
	static const char *const types[] = { [TG_COLUMN_EMPTY] = "empty", [TG_COLUMN_NUMBER] = "number", [TG_COLUMN_TEXT] = "text" };
	json_t *o = json_pack("{ssss}", "name", x->name, "type", types[x->type]);
	bool all = o && x->type == TG_COLUMN_TEXT && x->width <= VALUES_SHOWN - *shown;
	for (uint32_t k = 0; all && k < x->width; k++)
		all = x->values[k].n <= VALUE_SHOWN;
	if (o && x->binary)
		json_object_set_new(o, "binary", json_true());
	json_t *values = all ? json_array() : NULL;
	for (uint32_t k = 0; values && k < x->width; k++)
		json_array_append_new(values, json_stringn(x->values[k].p, x->values[k].n));
	if (values) {
		*shown += x->width;
		json_object_set_new(o, "values", values);
	}
	return o;
}

json_t *tg_trained_about(const struct tg_trained *m)
{
	size_t shown = 0;
	json_t *features = json_array(), *classes = m->fit.classes ? json_pack("[oo]", tg_label_json(&m->label[0]), tg_label_json(&m->label[1])) : json_null();
	for (unsigned i = 0; i < m->fit.recipe.nfeatures; i++)
		json_array_append_new(features, feature_json(&m->fit.recipe.features[i], &shown));
	return json_pack("{ss ss ss so so so sI sI}", "method", tg_method_names[m->fit.method], "task", tg_task_names[m->fit.classes ? TG_TASK_CLASSIFICATION : TG_TASK_REGRESSION], "target", m->target, "features", features, "classes", classes, "threshold",
		m->fit.classes ? json_real(m->threshold) : json_null(), "rows", (json_int_t)m->rows, "seed", (json_int_t)m->seed);
}

static void put_32(struct tg_buf *b, uint32_t v)
{
	v = htole32(v);
	tg_buf_put(b, (const char *)&v, sizeof v);
}

static void put_64(struct tg_buf *b, uint64_t v)
{
	v = htole64(v);
	tg_buf_put(b, (const char *)&v, sizeof v);
}

static void put_number(struct tg_buf *b, double v)
{
	uint64_t bits;
	memcpy(&bits, &v, sizeof bits);
	put_64(b, bits);
}

static void put_numbers(struct tg_buf *b, const double *v, uint32_t n)
{
	for (uint32_t i = 0; i < n; i++)
		put_number(b, v[i]);
}

static void put_bytes(struct tg_buf *b, struct tg_slice s)
{
	put_32(b, (uint32_t)s.n);
	tg_buf_slice(b, s);
}

static void put_trees(struct tg_buf *b, const struct tg_trees *t)
{
	put_32(b, t->ntrees);
	put_32(b, t->nnodes);
	for (uint32_t i = 0; i < t->ntrees; i++)
		put_32(b, t->root[i]);
	for (uint32_t i = 0; i < t->nnodes; i++) {
		const struct tg_node *n = &t->node[i];
		uint32_t bits;
		memcpy(&bits, &n->value, sizeof bits);
		put_32(b, n->left);
		put_32(b, n->right);
		put_32(b, (uint32_t)n->column | (uint32_t)n->missing_left << 31);
		put_32(b, bits);
	}
}

static unsigned version_of(const struct tg_trained *m)
{
	return m->fit.classes == is_classes(m->fit.method) ? 1 : 2;
}

static void put_body(struct tg_buf *b, const struct tg_trained *m, unsigned version)
{
	const struct tg_recipe *r = &m->fit.recipe;
	put_32(b, m->fit.method);
	if (version > 1)
		put_32(b, m->fit.classes ? TG_TASK_CLASSIFICATION : TG_TASK_REGRESSION);
	put_32(b, m->seed);
	put_64(b, m->rows);
	put_number(b, m->threshold);
	put_bytes(b, tg_slice_cstr(m->target));
	for (int i = 0; i < 2; i++) {
		put_32(b, m->label[i].kind);
		put_number(b, m->label[i].number);
		put_bytes(b, m->label[i].text);
	}
	put_32(b, r->nfeatures);
	for (unsigned i = 0; i < r->nfeatures; i++) {
		const struct tg_feature *x = &r->features[i];
		put_bytes(b, tg_slice_cstr(x->name));
		put_32(b, x->type);
		put_32(b, x->width);
		for (uint32_t k = 0; x->type == TG_COLUMN_TEXT && k < x->width; k++)
			put_bytes(b, x->values[k]);
	}
	put_numbers(b, r->fill, r->width);
	put_numbers(b, r->shift, r->width);
	put_numbers(b, r->scale, r->width);
	if (is_trees(m->fit.method)) {
		if (version > 1)
			put_number(b, m->fit.trees.base);
		put_trees(b, &m->fit.trees);
	} else {
		put_number(b, m->fit.intercept);
		put_numbers(b, m->fit.weight, r->width);
	}
}

static bool bad_name(const char *name)
{
	return !*name || strchr(name, '/') || strcmp(name, ".") == 0 || strcmp(name, "..") == 0 || strlen(name) > 200;
}

static bool write_all(int fd, const char *p, size_t n)
{
	while (n) {
		ssize_t w = write(fd, p, n);
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		p += w;
		n -= (size_t)w;
	}
	return true;
}

/* Whole under its name or not at all: a temporary name beside it first. Not synced: see tg_spool_finish (folder.h). */
static bool put_file(int folder, const char *name, const char *p, size_t n)
{
	char temp[256];
	snprintf(temp, sizeof temp, "%s.part", name);
	unlinkat(folder, temp, 0);
	int fd = openat(folder, temp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	bool ok = write_all(fd, p, n);
	int e = errno;
	if (close(fd) != 0 && ok) {
		e = errno;
		ok = false;
	}
	if (ok && renameat(folder, temp, folder, name) != 0) {
		e = errno;
		ok = false;
	}
	if (!ok)
		unlinkat(folder, temp, 0);
	errno = e;
	return ok;
}

bool tg_trained_save(const struct tg_trained *m, int folder, const char *name, struct tg_err *err)
{
	struct tg_buf b;
	unsigned char digest[crypto_hash_sha256_BYTES];
	char head[HEAD] = MAGIC;
	unsigned version = version_of(m);
	head[sizeof MAGIC - 1] = (char)('0' + version);
	tg_buf_init(&b, TG_MODEL_BYTES_MAX);
	tg_buf_put(&b, head, sizeof head);
	put_body(&b, m, version);
	bool ok = !b.failed && !bad_name(name);
	if (!ok)
		tg_err_set(err, b.failed ? "The model is too large to be stored." : "The model has no proper name.");
	if (ok) {
		uint64_t n = htole64((uint64_t)(b.len - HEAD));
		crypto_hash_sha256(digest, (unsigned char *)b.p + HEAD, b.len - HEAD);
		memcpy(b.p + 8, &n, sizeof n);
		memcpy(b.p + 16, digest, sizeof digest);
		ok = put_file(folder, name, b.p, b.len);
		if (!ok)
			tg_err_set(err, "The model could not be written: %s.", strerror(errno));
	}
	tg_buf_free(&b);
	return ok;
}

struct in {
	const unsigned char *p;
	size_t n;
	bool bad; /* sticks: everything after is 0 */
};

static const unsigned char *get(struct in *in, size_t n)
{
	if (in->bad || n > in->n) {
		in->bad = true;
		return NULL;
	}
	const unsigned char *p = in->p;
	in->p += n;
	in->n -= n;
	return p;
}

static uint32_t get_32(struct in *in)
{
	uint32_t v = 0;
	const unsigned char *p = get(in, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return le32toh(v);
}

static uint64_t get_64(struct in *in)
{
	uint64_t v = 0;
	const unsigned char *p = get(in, sizeof v);
	if (p)
		memcpy(&v, p, sizeof v);
	return le64toh(v);
}

static double get_number(struct in *in)
{
	uint64_t bits = get_64(in);
	double v;
	memcpy(&v, &bits, sizeof v);
	return v;
}

/* A count that at least `each` bytes an item must follow. */
static uint32_t get_count(struct in *in, uint32_t max, size_t each)
{
	uint32_t n = get_32(in);
	if (n > max || n > in->n / each)
		in->bad = true;
	return in->bad ? 0 : n;
}

static double *get_numbers(struct in *in, uint32_t n, bool missing_too)
{
	double *v = in->bad || n > in->n / sizeof *v ? NULL : calloc(n ? n : 1, sizeof *v);
	in->bad |= !v;
	for (uint32_t i = 0; v && i < n; i++) {
		v[i] = get_number(in);
		in->bad |= !isfinite(v[i]) && !(missing_too && isnan(v[i]));
	}
	return v;
}

/* A copy with a NUL behind it. */
static struct tg_slice get_bytes(struct in *in, uint32_t max)
{
	uint32_t n = get_count(in, max, 1);
	const unsigned char *p = get(in, n);
	char *copy = p ? malloc((size_t)n + 1) : NULL;
	in->bad |= !copy;
	if (!copy)
		return (struct tg_slice){ NULL, 0 };
	memcpy(copy, p, n);
	copy[n] = 0;
	in->bad |= !tg_utf8_valid(copy, n);
	return (struct tg_slice){ copy, n };
}

static char *get_name(struct in *in)
{
	struct tg_slice s = get_bytes(in, TG_FRAME_NAME_MAX);
	in->bad |= !s.p || strlen(s.p) != s.n;
	return (char *)s.p;
}

static bool ascending(const struct tg_slice *a, const struct tg_slice *b)
{
	size_t n = a->n < b->n ? a->n : b->n;
	int d = n ? memcmp(a->p, b->p, n) : 0;
	return d ? d < 0 : a->n < b->n;
}

static void get_feature(struct in *in, struct tg_feature *x, uint32_t first)
{
	x->name = get_name(in);
	uint32_t type = get_32(in), width = get_count(in, TG_LEARN_WIDTH_MAX, type == TG_COLUMN_TEXT ? 4 : 1);
	in->bad |= type > TG_COLUMN_TEXT || (type == TG_COLUMN_NUMBER && width != 1) || (type == TG_COLUMN_EMPTY && width) || (type == TG_COLUMN_TEXT && !width);
	if (in->bad)
		return;
	x->type = (enum tg_column_type)type;
	x->first = first;
	if (type == TG_COLUMN_TEXT && !(x->values = calloc(width, sizeof *x->values))) {
		in->bad = true;
		return;
	}
	x->width = width;
	for (uint32_t k = 0; x->values && k < width && !in->bad; k++) {
		x->values[k] = get_bytes(in, TG_FRAME_TEXT_MAX);
		in->bad |= k && !in->bad && !ascending(&x->values[k - 1], &x->values[k]);
	}
}

static void get_recipe(struct in *in, struct tg_recipe *r, enum tg_method method)
{
	uint32_t n = get_count(in, TG_FRAME_COLUMNS_MAX, 12);
	if (!n || !(r->features = calloc(n, sizeof *r->features))) {
		in->bad = true;
		return;
	}
	r->nfeatures = n;
	for (uint32_t i = 0; i < n && !in->bad; i++) {
		get_feature(in, &r->features[i], r->width);
		r->width += r->features[i].width;
		in->bad |= r->width > TG_LEARN_WIDTH_MAX;
	}
	in->bad |= !r->width;
	if (in->bad)
		return;
	r->fill = get_numbers(in, r->width, is_trees(method));
	r->shift = get_numbers(in, r->width, false);
	r->scale = get_numbers(in, r->width, false);
	for (uint32_t k = 0; !in->bad && k < r->width; k++)
		in->bad |= !(r->scale[k] > 0);
}

static void get_trees(struct in *in, struct tg_trees *t, uint32_t width)
{
	uint32_t ntrees = get_count(in, TG_TREES_MAX, 4), nnodes = get_count(in, TG_NODES_MAX, 16);
	if (!ntrees || !nnodes || !(t->root = calloc(ntrees, sizeof *t->root)) || !(t->node = calloc(nnodes, sizeof *t->node))) {
		in->bad = true;
		return;
	}
	t->ntrees = ntrees;
	t->nnodes = nnodes;
	for (uint32_t i = 0; i < ntrees; i++)
		t->root[i] = get_32(in);
	for (uint32_t i = 0; i < nnodes; i++) {
		struct tg_node *n = &t->node[i];
		n->left = get_32(in);
		n->right = get_32(in);
		uint32_t column = get_32(in), bits = get_32(in);
		n->column = column & 0x7fffffffu;
		n->missing_left = (column & 0x80000000u) != 0;
		memcpy(&n->value, &bits, sizeof n->value);
	}
	in->bad |= !tg_trees_sound(t, width);
}

static void get_label(struct in *in, struct tg_label *l, bool classes)
{
	uint32_t kind = get_32(in);
	l->number = get_number(in);
	l->text = get_bytes(in, TG_FRAME_TEXT_MAX);
	in->bad |= kind > TG_LABEL_TEXT || (kind != TG_LABEL_NONE) != classes || !isfinite(l->number) || (kind == TG_LABEL_WHOLE && fabs(l->number) > 9e15);
	if (!in->bad)
		l->kind = kind;
}

/* Only of trees does the method not say it. */
static void get_task(struct in *in, struct tg_fit *fit, unsigned version)
{
	uint32_t task = version > 1 ? get_32(in) : is_classes(fit->method) ? TG_TASK_CLASSIFICATION : TG_TASK_REGRESSION;
	fit->classes = task == TG_TASK_CLASSIFICATION;
	in->bad |= (task != TG_TASK_CLASSIFICATION && task != TG_TASK_REGRESSION) || (!is_trees(fit->method) && fit->classes != is_classes(fit->method));
}

static void get_body(struct in *in, struct tg_trained *m, unsigned version)
{
	uint32_t method = get_32(in);
	in->bad |= method >= TG_METHOD_COUNT;
	if (in->bad)
		return;
	m->fit.method = (enum tg_method)method;
	get_task(in, &m->fit, version);
	m->seed = get_32(in);
	m->rows = get_64(in);
	m->threshold = get_number(in);
	in->bad |= !(m->threshold >= 0 && m->threshold <= 1) || m->rows > INT64_MAX;
	m->target = get_name(in);
	for (int i = 0; i < 2; i++)
		get_label(in, &m->label[i], m->fit.classes);
	if (!in->bad)
		get_recipe(in, &m->fit.recipe, m->fit.method);
	if (in->bad)
		return;
	if (is_trees(m->fit.method)) {
		double base = version > 1 ? get_number(in) : 0;
		in->bad |= !(fabs(base) <= FLT_MAX);
		m->fit.trees.base = in->bad ? 0 : (float)base;
		get_trees(in, &m->fit.trees, m->fit.recipe.width);
	} else {
		m->fit.intercept = get_number(in);
		m->fit.weight = get_numbers(in, m->fit.recipe.width, false);
		in->bad |= !isfinite(m->fit.intercept);
	}
	in->bad |= in->n != 0;
}

/* What people try first: the files of other programs, most of which run code when they are loaded. */
static const char *foreign(const unsigned char *p, size_t n)
{
	if (n >= 2 && p[0] == 0x80 && p[1] >= 2 && p[1] <= 5)
		return "a pickle (joblib); loading one runs the code that is in it";
	if (n >= 4 && memcmp(p, "PK\3\4", 4) == 0)
		return "a zip archive, which holds pickles; loading one runs the code that is in it";
	if (n >= 2 && ((p[0] == 0x1f && p[1] == 0x8b) || (p[0] == 0x78 && (p[1] == 0x01 || p[1] == 0x5e || p[1] == 0x9c || p[1] == 0xda))))
		return "compressed, as joblib writes pickles; loading one runs the code that is in it";
	return NULL;
}

struct tg_trained *tg_trained_parse(const void *p, size_t n, struct tg_err *err)
{
	struct in in = { p, n, false };
	unsigned char digest[crypto_hash_sha256_BYTES];
	const char *other = foreign(p, n);
	if (other) {
		tg_err_set(err, "The file is %s.", other);
		return NULL;
	}
	const unsigned char *magic = get(&in, 8);
	unsigned version = magic && memcmp(magic, MAGIC, sizeof MAGIC - 1) == 0 ? magic[sizeof MAGIC - 1] - (unsigned)'0' : 0; /* no digit: a large one */
	if (version < 1 || version > VERSION) {
		tg_err_set(err, version > VERSION && version <= 9 ? "The model was made by a later version of Tollgate." : "The file is no model of Tollgate.");
		return NULL;
	}
	uint64_t length = get_64(&in);
	const unsigned char *said = get(&in, sizeof digest);
	if (in.bad || length != in.n) {
		tg_err_set(err, "The model's file is not whole.");
		return NULL;
	}
	crypto_hash_sha256(digest, in.p, in.n);
	if (memcmp(digest, said, sizeof digest) != 0) {
		tg_err_set(err, "The model's file has been changed or damaged.");
		return NULL;
	}
	struct tg_trained *m = calloc(1, sizeof *m);
	if (!m) {
		tg_err_set(err, "There is not enough memory.");
		return NULL;
	}
	get_body(&in, m, version);
	if (in.bad) {
		tg_err_set(err, "The model's file is not as this version writes them.");
		tg_trained_free(m);
		return NULL;
	}
	return m;
}

struct tg_trained *tg_trained_load(int folder, const char *name, struct tg_err *err)
{
	struct stat st;
	int fd = bad_name(name) ? -1 : openat(folder, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (fd < 0) {
		tg_err_set(err, "The model's file is missing.");
		return NULL;
	}
	char *p = NULL;
	size_t have = 0, size = 0;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode) || st.st_size > (off_t)TG_MODEL_BYTES_MAX) {
		tg_err_set(err, "The model's file is too large, or no file.");
	} else if (!(p = malloc((size = (size_t)st.st_size) + 1))) {
		tg_err_set(err, "There is not enough memory.");
	}
	while (p && have < size) {
		ssize_t got = read(fd, p + have, size - have);
		if (got < 0 && errno == EINTR)
			continue;
		if (got <= 0)
			break;
		have += (size_t)got;
	}
	close(fd);
	struct tg_trained *m = p ? tg_trained_parse(p, have, err) : NULL;
	free(p);
	return m;
}
