/*
 * Requests to an object store (see s3.h). One easy handle per request under way; up to IDLE_MAX are kept with their connections. What an error says is made of our own words, the method, the status and the
 * server's error code: never of headers, where credentials are.
 */
#include "store/s3.h"
#include "base/clock.h"
#include "base/log.h"
#include <ctype.h>
#include <curl/curl.h>
#include <dlfcn.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#define IDLE_MAX 4
#define CONNECT_MS 5000L
#define SLOW_BYTES 1024L /* a second, for SLOW_S: then it is given up */
#define SLOW_S 20L
#define TOTAL_MS 3600000L
#define BACK_OFF_MS 100u /* and four times that */
#define ERROR_MAX 16384

/* libcurl, when it is needed. */
static struct {
	CURLcode (*global_init)(long flags);
	CURL *(*easy_init)(void);
	CURLcode (*easy_setopt)(CURL *c, CURLoption o, ...);
	CURLcode (*easy_perform)(CURL *c);
	CURLcode (*easy_getinfo)(CURL *c, CURLINFO i, ...);
	void (*easy_reset)(CURL *c);
	void (*easy_cleanup)(CURL *c);
	const char *(*easy_strerror)(CURLcode code);
	struct curl_slist *(*slist_append)(struct curl_slist *l, const char *s);
	void (*slist_free_all)(struct curl_slist *l);
	bool there;
} lib;
static pthread_once_t opened = PTHREAD_ONCE_INIT;

static void open_library(void)
{
	static const struct {
		void *to;
		const char *name;
	} rows[] = {
		{ &lib.global_init, "curl_global_init" }, { &lib.easy_init, "curl_easy_init" }, { &lib.easy_setopt, "curl_easy_setopt" }, { &lib.easy_perform, "curl_easy_perform" },
		{ &lib.easy_getinfo, "curl_easy_getinfo" }, { &lib.easy_reset, "curl_easy_reset" }, { &lib.easy_cleanup, "curl_easy_cleanup" }, { &lib.easy_strerror, "curl_easy_strerror" },
		{ &lib.slist_append, "curl_slist_append" }, { &lib.slist_free_all, "curl_slist_free_all" },
	};
	void *h = dlopen("libcurl.so.4", RTLD_NOW | RTLD_LOCAL);
	for (size_t i = 0; h && i < sizeof rows / sizeof *rows; i++) {
		void *f = dlsym(h, rows[i].name);
		if (!f)
			return;
		memcpy(rows[i].to, &f, sizeof f);
	}
	lib.there = h && lib.global_init(CURL_GLOBAL_DEFAULT) == CURLE_OK;
}

struct tg_s3 {
	struct tg_s3_credentials who;
	char bucket[64], region[64];
	char base[512]; /* "https://bucket.s3.eu-west-1.amazonaws.com", or the endpoint */
	char host[300];
	bool in_path;   /* the bucket is the path's first segment */
	atomic_bool stopped;
	pthread_mutex_t lock;
	CURL *idle[IDLE_MAX];
	unsigned nidle;
};

static const char *variable(const char *first, const char *second)
{
	const char *v = getenv(first);
	if ((!v || !*v) && second)
		v = getenv(second);
	return v && *v ? v : NULL;
}

static bool region_ok(const char *r)
{
	return strlen(r) < 64 && strspn(r, "abcdefghijklmnopqrstuvwxyz0123456789-") == strlen(r);
}

/* http://HOST[:PORT] or https://, nothing behind it. */
static bool take_endpoint(struct tg_s3 *s, const char *url, struct tg_err *err)
{
	size_t n = strlen(url), scheme = strncmp(url, "https://", 8) == 0 ? 8 : strncmp(url, "http://", 7) == 0 ? 7 : 0;
	while (n > scheme && url[n - 1] == '/')
		n--;
	bool ok = scheme && n > scheme && n - scheme < sizeof s->host;
	for (size_t i = scheme; ok && i < n; i++)
		ok = isalnum((unsigned char)url[i]) || strchr(".-_:[]", url[i]);
	if (!ok) {
		tg_err_set(err, "AWS_ENDPOINT_URL must be http://HOST[:PORT] or https://HOST[:PORT]");
		return false;
	}
	snprintf(s->base, sizeof s->base, "%.*s", (int)n, url);
	snprintf(s->host, sizeof s->host, "%.*s", (int)(n - scheme), url + scheme);
	s->in_path = true;
	return true;
}

struct tg_s3 *tg_s3_open(const char *bucket, struct tg_err *err)
{
	struct tg_s3 *s = calloc(1, sizeof *s);
	tg_err_set(err, "out of memory");
	if (!s)
		return NULL;
	pthread_mutex_init(&s->lock, NULL);
	const char *region = variable("AWS_REGION", "AWS_DEFAULT_REGION"), *endpoint = variable("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL");
	const char *id = variable("AWS_ACCESS_KEY_ID", NULL), *secret = variable("AWS_SECRET_ACCESS_KEY", NULL), *session = variable("AWS_SESSION_TOKEN", NULL);
	bool ok = strlen(bucket) < sizeof s->bucket && (!region || region_ok(region));
	if (!ok)
		tg_err_set(err, "AWS_REGION must be the name of a region, such as eu-west-1");
	snprintf(s->bucket, sizeof s->bucket, "%s", bucket);
	snprintf(s->region, sizeof s->region, "%s", ok && region ? region : "us-east-1");
	if (ok && endpoint) {
		ok = take_endpoint(s, endpoint, err);
	} else if (ok) {
		s->in_path = strchr(bucket, '.') != NULL; /* a certificate for one label more does not hold for two */
		snprintf(s->host, sizeof s->host, "%s%ss3.%s.amazonaws.com", s->in_path ? "" : bucket, s->in_path ? "" : ".", s->region);
		snprintf(s->base, sizeof s->base, "https://%s", s->host);
	}
	if (ok && id && secret) {
		s->who.id = strdup(id);
		ok = s->who.id && strlen(id) < 256 && strspn(id, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789_-.") == strlen(id) &&
		     tg_secret_set(&s->who.secret, tg_slice_cstr(secret)) && (!session || tg_secret_set(&s->who.session, tg_slice_cstr(session)));
		if (!ok)
			tg_err_set(err, "AWS_ACCESS_KEY_ID is not one");
		for (const char *p = ok && session ? session : ""; *p && ok; p++)
			if ((ok = *p > 0x20 && *p < 0x7f) == false)
				tg_err_set(err, "AWS_SESSION_TOKEN has a character that no header can have");
	}
	if (ok)
		return s;
	tg_s3_close(s);
	return NULL;
}

void tg_s3_close(struct tg_s3 *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->nidle; i++)
		lib.easy_cleanup(s->idle[i]);
	free(s->who.id);
	tg_secret_wipe(&s->who.secret);
	tg_secret_wipe(&s->who.session);
	pthread_mutex_destroy(&s->lock);
	free(s);
}

void tg_s3_stop(struct tg_s3 *s)
{
	atomic_store(&s->stopped, true);
}

static CURL *take_handle(struct tg_s3 *s)
{
	pthread_mutex_lock(&s->lock);
	CURL *c = s->nidle ? s->idle[--s->nidle] : NULL;
	pthread_mutex_unlock(&s->lock);
	return c ? c : lib.easy_init();
}

static void give_handle(struct tg_s3 *s, CURL *c)
{
	lib.easy_reset(c); /* its connections stay */
	pthread_mutex_lock(&s->lock);
	bool kept = s->nidle < IDLE_MAX;
	if (kept)
		s->idle[s->nidle++] = c;
	pthread_mutex_unlock(&s->lock);
	if (!kept)
		lib.easy_cleanup(c);
}

/* ---- one try ---- */

struct try {
	struct tg_s3 *s;
	struct tg_s3_request *r;
	CURL *c;
	uint64_t sent, received;
	struct tg_buf error; /* the body of a refusal */
	long status, ms;
	bool too_much, disk;
};

static size_t on_read(char *to, size_t size, size_t n, void *arg)
{
	struct try *t = arg;
	uint64_t left = t->r->length - t->sent;
	size_t most = size * n < left ? size * n : (size_t)left;
	if (t->r->body) {
		memcpy(to, t->r->body + t->sent, most);
	} else if (most) {
		ssize_t k = pread(t->r->fd, to, most, (off_t)(t->r->offset + t->sent));
		if (k <= 0)
			return CURL_READFUNC_ABORT;
		most = (size_t)k;
	}
	t->sent += most;
	return most;
}

/* A kept connection had been closed: the body is sent once more. */
static int on_seek(void *arg, curl_off_t offset, int origin)
{
	struct try *t = arg;
	if (origin != SEEK_SET || offset < 0 || (uint64_t)offset > t->r->length)
		return CURL_SEEKFUNC_FAIL;
	t->sent = (uint64_t)offset;
	return CURL_SEEKFUNC_OK;
}

static size_t on_write(char *p, size_t size, size_t n, void *arg)
{
	struct try *t = arg;
	struct tg_s3_request *r = t->r;
	n *= size;
	if (!t->status)
		lib.easy_getinfo(t->c, CURLINFO_RESPONSE_CODE, &t->status);
	if (t->status < 200 || t->status > 299) {
		if (t->error.len + n <= ERROR_MAX)
			tg_buf_put(&t->error, p, n);
		return n;
	}
	t->received += n;
	if (r->into) {
		tg_buf_put(r->into, p, n);
		t->too_much = r->into->failed;
	} else if (r->into_fd >= 0) {
		t->too_much = t->received > r->most;
		for (size_t done = 0; !t->too_much && done < n;) {
			ssize_t k = write(r->into_fd, p + done, n - done);
			if (k <= 0) {
				t->disk = true;
				return 0;
			}
			done += (size_t)k;
		}
	}
	return t->too_much ? 0 : n;
}

static bool header_is(struct tg_slice line, const char *name, struct tg_slice *value)
{
	size_t n = strlen(name);
	if (line.n <= n || strncasecmp(line.p, name, n) != 0 || line.p[n] != ':')
		return false;
	*value = tg_slice_trim((struct tg_slice){ line.p + n + 1, line.n - n - 1 });
	return true;
}

static size_t on_header(char *p, size_t size, size_t n, void *arg)
{
	struct try *t = arg;
	struct tg_slice line = { p, size * n }, v;
	while (line.n && (line.p[line.n - 1] == '\r' || line.p[line.n - 1] == '\n'))
		line.n--;
	if (header_is(line, "etag", &v) && v.n > 2 && v.p[0] == '"' && v.n - 2 < sizeof t->r->etag)
		snprintf(t->r->etag, sizeof t->r->etag, "%.*s", (int)(v.n - 2), v.p + 1);
	else if (header_is(line, "x-amz-server-side-encryption", &v))
		t->r->encrypted |= !tg_slice_eq(v, TG_S("AES256"));
	else if (header_is(line, "x-amz-server-side-encryption-customer-algorithm", &v))
		t->r->encrypted = true;
	return size * n;
}

static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
	(void)a, (void)b, (void)c, (void)d;
	return atomic_load(&((struct tg_s3 *)arg)->stopped);
}

/* "20130524T000000Z" */
static void amz_date(char out[17])
{
	time_t now = (time_t)(tg_wall_us() / 1000000u);
	struct tm tm;
	gmtime_r(&now, &tm);
	strftime(out, 17, "%Y%m%dT%H%M%SZ", &tm);
}

static struct curl_slist *add_line(struct curl_slist *l, const char *name, const char *value, bool *ok)
{
	struct tg_buf b;
	tg_buf_init(&b, 16384);
	tg_buf_cstr(&b, name);
	tg_buf_lit(&b, ": ");
	tg_buf_cstr(&b, value);
	tg_buf_char(&b, 0);
	struct curl_slist *n = b.failed ? NULL : lib.slist_append(l, b.p);
	if (b.p)
		explicit_bzero(b.p, b.len);
	tg_buf_free(&b);
	*ok &= n != NULL;
	return n ? n : l;
}

/* The lines that are signed, the signature, and what curl would add by itself and must not. */
static struct curl_slist *head_lines(struct tg_s3 *s, const struct tg_s3_request *r, struct tg_slice path, struct tg_slice query, bool *ok)
{
	char date[17], none[65];
	const char *payload = r->sha256;
	if (!payload[0]) {
		tg_s3_sha256_hex((struct tg_slice){ 0 }, none);
		payload = none;
	}
	amz_date(date);
	struct tg_s3_header h[4] = { { "host", s->host }, { "x-amz-content-sha256", payload }, { "x-amz-date", date } };
	unsigned n = 3;
	if (s->who.session.n)
		h[n++] = (struct tg_s3_header){ "x-amz-security-token", s->who.session.p };
	struct tg_buf sign;
	tg_buf_init(&sign, 4096);
	*ok = tg_s3_sign(&s->who, s->region, r->method, path, query, h, n, date, payload, &sign);
	tg_buf_char(&sign, 0);
	*ok &= !sign.failed;
	struct curl_slist *l = NULL;
	for (unsigned i = 0; i < n && *ok; i++)
		l = add_line(l, h[i].name, h[i].value, ok);
	if (*ok)
		l = add_line(l, "Authorization", sign.p, ok);
	if (*ok && r->length)
		l = add_line(l, "Content-Type", r->body ? "application/xml" : "application/octet-stream", ok);
	struct curl_slist *last = *ok ? lib.slist_append(l, "Expect:") : NULL;
	*ok &= last != NULL;
	tg_buf_free(&sign);
	return last ? last : l;
}

static void set_options(struct try *t, const char *url, struct curl_slist *lines)
{
	struct tg_s3_request *r = t->r;
	CURL *c = t->c;
#define SET(o, v) lib.easy_setopt(c, CURLOPT_##o, v)
	SET(URL, url);
	SET(HTTPHEADER, lines);
	SET(NOSIGNAL, 1L);
	SET(PROTOCOLS_STR, "http,https");
	SET(PATH_AS_IS, 1L);
	SET(HTTP_VERSION, (long)CURL_HTTP_VERSION_1_1);
	SET(USERAGENT, "tollgate");
	SET(CONNECTTIMEOUT_MS, CONNECT_MS);
	SET(LOW_SPEED_LIMIT, SLOW_BYTES);
	SET(LOW_SPEED_TIME, SLOW_S);
	SET(TIMEOUT_MS, t->ms);
	SET(NOPROGRESS, 0L);
	SET(XFERINFOFUNCTION, on_progress);
	SET(XFERINFODATA, t->s);
	SET(HEADERFUNCTION, on_header);
	SET(HEADERDATA, t);
	SET(WRITEFUNCTION, on_write);
	SET(WRITEDATA, t);
	if (strcmp(r->method, "PUT") == 0 || r->length) {
		SET(UPLOAD, 1L);
		SET(READFUNCTION, on_read);
		SET(READDATA, t);
		SET(SEEKFUNCTION, on_seek);
		SET(SEEKDATA, t);
		SET(INFILESIZE_LARGE, (curl_off_t)r->length);
	} else if (strcmp(r->method, "HEAD") == 0) {
		SET(NOBODY, 1L);
	} else if (strcmp(r->method, "POST") == 0) {
		SET(POSTFIELDS, "");
		SET(POSTFIELDSIZE, 0L);
	}
	if (strcmp(r->method, "HEAD") != 0)
		SET(CUSTOMREQUEST, r->method);
#undef SET
}

/* The server's own word for what is wrong: letters and digits. */
static void error_code(const struct tg_buf *body, char out[64])
{
	size_t at = 0;
	out[0] = 0;
	if (body->len && tg_s3_element(tg_buf_view(body), "Code", &at, out, 64) && strspn(out, "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789") != strlen(out))
		out[0] = 0;
}

static enum tg_s3_result verdict(struct try *t, CURLcode code, bool *again, struct tg_err *err)
{
	struct tg_s3 *s = t->s;
	char word[64];
	*again = false;
	if (t->too_much) {
		tg_err_set(err, "the bucket %s sent more than it may", s->bucket);
		return TG_S3_REFUSED;
	}
	if (t->disk) {
		tg_err_set(err, "what the bucket %s sent could not be written", s->bucket);
		return TG_S3_AWAY;
	}
	if (code != CURLE_OK) {
		tg_err_set(err, "the bucket %s cannot be reached: %s", s->bucket, atomic_load(&s->stopped) ? "the gate ends" : lib.easy_strerror(code));
		*again = code != CURLE_PEER_FAILED_VERIFICATION;
		return TG_S3_AWAY;
	}
	if (t->status >= 200 && t->status <= 299)
		return TG_S3_OK;
	error_code(&t->error, word);
	tg_err_set(err, "the bucket %s answered %s with %ld%s%s", s->bucket, t->r->method, t->status, word[0] ? " " : "", word);
	*again = t->status >= 500 || t->status == 429 || t->status == 408 || strcmp(word, "RequestTimeout") == 0;
	return *again ? TG_S3_AWAY : t->status == 404 ? TG_S3_NONE : TG_S3_REFUSED;
}

static enum tg_s3_result try_once(struct tg_s3 *s, struct tg_s3_request *r, long ms, bool *again, struct tg_err *err)
{
	struct tg_buf path, query, url;
	tg_buf_init(&path, 8192);
	tg_buf_init(&query, 8192);
	tg_buf_init(&url, 16384);
	tg_buf_char(&path, '/');
	if (s->in_path)
		tg_buf_fmt(&path, "%s%s", s->bucket, r->key[0] ? "/" : "");
	tg_s3_encode(&path, tg_slice_cstr(r->key), true);
	tg_s3_query_text(&query, r->query, r->nquery);
	tg_buf_cstr(&url, s->base);
	tg_buf_slice(&url, tg_buf_view(&path));
	if (query.len)
		tg_buf_char(&url, '?');
	tg_buf_slice(&url, tg_buf_view(&query));
	tg_buf_char(&url, 0);
	struct try t = { .s = s, .r = r, .c = take_handle(s), .ms = ms };
	tg_buf_init(&t.error, ERROR_MAX);
	bool ok = t.c && !path.failed && !query.failed && !url.failed;
	struct curl_slist *lines = ok ? head_lines(s, r, tg_buf_view(&path), tg_buf_view(&query), &ok) : NULL;
	enum tg_s3_result result = TG_S3_AWAY;
	*again = false;
	tg_err_set(err, "out of memory");
	if (ok) {
		set_options(&t, url.p, lines);
		CURLcode code = lib.easy_perform(t.c);
		lib.easy_getinfo(t.c, CURLINFO_RESPONSE_CODE, &t.status);
		result = verdict(&t, code, again, err);
	}
	for (struct curl_slist *l = lines; l; l = l->next)
		explicit_bzero(l->data, strlen(l->data));
	lib.slist_free_all(lines);
	if (t.c)
		give_handle(s, t.c);
	tg_buf_free(&t.error);
	tg_buf_free(&path);
	tg_buf_free(&query);
	tg_buf_free(&url);
	return result;
}

/* False: it is to end meanwhile. */
static bool back_off(struct tg_s3 *s, unsigned ms)
{
	for (; ms >= 50 && !atomic_load(&s->stopped); ms -= 50)
		nanosleep(&(struct timespec){ .tv_nsec = 50000000 }, NULL);
	return !atomic_load(&s->stopped);
}

enum tg_s3_result tg_s3_do(struct tg_s3 *s, struct tg_s3_request *r, struct tg_err *err)
{
	pthread_once(&opened, open_library);
	if (!lib.there) {
		tg_err_set(err, "libcurl.so.4 (Debian: libcurl4) is not there, and s3:// needs it");
		return TG_S3_REFUSED;
	}
	if (!s->who.id) {
		tg_err_set(err, "AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY are not set");
		return TG_S3_REFUSED;
	}
	unsigned pause = BACK_OFF_MS;
	long left = r->ms ? (long)r->ms : TOTAL_MS;
	uint64_t end_ms = tg_mono_us() / 1000 + (uint64_t)left;
	for (unsigned i = 1;; i++, pause *= 4) {
		bool again;
		r->etag[0] = 0;
		r->encrypted = false;
		if (r->into) {
			r->into->len = 0;
			r->into->failed = false;
		}
		if (r->into_fd >= 0 && (ftruncate(r->into_fd, 0) || lseek(r->into_fd, 0, SEEK_SET) != 0)) {
			tg_err_set(err, "a temporary file cannot be written");
			return TG_S3_AWAY;
		}
		enum tg_s3_result result = try_once(s, r, r->ms ? left : TOTAL_MS, &again, err);
		left = (long)end_ms - (long)(tg_mono_us() / 1000);
		if (!again || i == TG_S3_TRIES || (r->ms && left <= (long)pause) || !back_off(s, pause))
			return result;
		left -= (long)pause;
	}
}

/* ---- answers ---- */

/* n + 1, or cap: it does not fit. */
static size_t put_byte(char *out, size_t n, size_t cap, unsigned char c)
{
	if (!c || n + 1 >= cap)
		return cap;
	out[n] = (char)c;
	return n + 1;
}

/* As UTF-8. */
static size_t put_code(char *out, size_t n, size_t cap, unsigned long c)
{
	if (c < 0x80)
		return put_byte(out, n, cap, (unsigned char)c);
	if (c > 0x10ffff)
		return cap;
	unsigned more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
	static const unsigned char first[] = { 0, 0xc0, 0xe0, 0xf0 };
	n = put_byte(out, n, cap, (unsigned char)(first[more] | c >> 6 * more));
	while (more--)
		n = put_byte(out, n, cap, (unsigned char)(0x80 | (c >> 6 * more & 0x3f)));
	return n;
}

static void decode(struct tg_slice s, char *out, size_t cap)
{
	static const struct {
		const char *name;
		char c;
	} entities[] = { { "&amp;", '&' }, { "&lt;", '<' }, { "&gt;", '>' }, { "&quot;", '"' }, { "&apos;", '\'' } };
	size_t n = 0;
	for (size_t i = 0; i < s.n && n < cap;) {
		size_t used = 1;
		unsigned long c = (unsigned char)s.p[i];
		for (size_t k = 0; c == '&' && used == 1 && k < sizeof entities / sizeof *entities; k++) {
			size_t len = strlen(entities[k].name);
			if (s.n - i >= len && memcmp(s.p + i, entities[k].name, len) == 0) {
				used = len;
				c = (unsigned char)entities[k].c;
			}
		}
		if (used == 1 && c == '&' && s.n - i > 3 && s.p[i + 1] == '#') {
			bool hex = s.p[i + 2] == 'x';
			size_t k = i + (hex ? 3 : 2);
			for (c = 0; k < s.n && k < i + 10 && isxdigit((unsigned char)s.p[k]); k++)
				c = c * (hex ? 16 : 10) + (unsigned long)(isdigit((unsigned char)s.p[k]) ? s.p[k] - '0' : (s.p[k] | 32) - 'a' + 10);
			used = k < s.n && s.p[k] == ';' ? k + 1 - i : 1;
			c = used == 1 ? '&' : c;
		}
		n = used == 1 ? put_byte(out, n, cap, (unsigned char)c) : put_code(out, n, cap, c);
		i += used;
	}
	out[n < cap ? n : 0] = 0;
}

bool tg_s3_element(struct tg_slice xml, const char *name, size_t *at, char *out, size_t cap)
{
	char open[64], close[64];
	int a = snprintf(open, sizeof open, "<%s>", name), b = snprintf(close, sizeof close, "</%s>", name);
	if (a < 0 || b < 0 || (size_t)b >= sizeof close || *at > xml.n)
		return false;
	const char *from = memmem(xml.p + *at, xml.n - *at, open, (size_t)a);
	if (!from)
		return false;
	from += a;
	const char *to = memmem(from, (size_t)(xml.p + xml.n - from), close, (size_t)b);
	if (!to)
		return false;
	decode((struct tg_slice){ from, (size_t)(to - from) }, out, cap);
	*at = (size_t)(to - xml.p) + (size_t)b;
	return true;
}
