/*
 * .env files, and the one function that reads a configuration file. The dialect is the common part of what shells and the usual
 * dotenv libraries agree on; nothing is expanded, since a key may hold any character and must arrive as written.
 *
 * Invariants: nothing is read past its bound; values are wiped before their memory goes back. A line that cannot be understood stops
 * the load: a key that is silently missing would be found out only by its callers.
 */
#include "config/env.h"
#include "base/buf.h"
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

char *tg_read_file(const char *path, size_t max, size_t *n, mode_t *mode, struct tg_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0) {
		int e = errno;
		tg_err_set(err, "cannot open: %s", strerror(e));
		errno = e;
		return NULL;
	}
	struct stat st;
	if (fstat(fd, &st) == 0 && mode)
		*mode = st.st_mode & 07777;
	size_t cap = 4096, len = 0;
	char *p = malloc(cap + 1);
	int e = p ? 0 : ENOMEM;
	while (!e) {
		if (len == cap) {
			/* Not realloc: it would leave a copy of a secret behind. */
			char *q = malloc(cap * 2 + 1);
			if (!q) {
				e = ENOMEM;
				break;
			}
			memcpy(q, p, len);
			explicit_bzero(p, cap);
			free(p);
			p = q;
			cap *= 2;
		}
		ssize_t r = read(fd, p + len, cap - len);
		if (r < 0 && errno == EINTR)
			continue;
		if (r < 0)
			e = errno;
		if (r <= 0)
			break;
		len += (size_t)r;
		if (len > max)
			e = EFBIG;
	}
	close(fd);
	if (e) {
		if (e == EFBIG)
			tg_err_set(err, "over %zu bytes", max);
		else
			tg_err_set(err, "cannot read: %s", strerror(e));
		if (p)
			explicit_bzero(p, cap);
		free(p);
		errno = e;
		return NULL;
	}
	p[len] = 0;
	*n = len;
	return p;
}

struct cursor {
	const char *p, *end;
	int line;
};

static bool name_char(char c, bool first)
{
	return (c >= 'A' && c <= 'Z') || (c >= 'a' && c <= 'z') || c == '_' || (!first && ((c >= '0' && c <= '9') || c == '.' || c == '-'));
}

static bool blank(char c)
{
	return c == ' ' || c == '\t' || c == '\r';
}

static void skip_blanks(struct cursor *c)
{
	while (c->p < c->end && blank(*c->p))
		c->p++;
}

static void skip_line(struct cursor *c)
{
	while (c->p < c->end && *c->p != '\n')
		c->p++;
}

/* A quoted value with the cursor on its quote. False: it does not end. */
static bool quoted(struct cursor *c, struct tg_buf *out)
{
	const char q = *c->p++;
	for (; c->p < c->end && *c->p != q; c->p++) {
		char ch = *c->p;
		if (ch == '\n')
			c->line++;
		if (ch == '\\' && q == '"' && c->p + 1 < c->end) {
			char e = c->p[1];
			if (e == 'n' || e == 'r' || e == 't') {
				ch = e == 'n' ? '\n' : e == 'r' ? '\r' : '\t';
				c->p++;
			} else if (e == '"' || e == '\\' || e == '$') {
				ch = e;
				c->p++;
			}
		}
		tg_buf_char(out, ch);
	}
	if (c->p == c->end)
		return false;
	c->p++;
	return true;
}

/* Runs to the line's end or to a # after white space. */
static void unquoted(struct cursor *c, struct tg_buf *out)
{
	const char *from = c->p, *to = c->p;
	for (; c->p < c->end && *c->p != '\n'; c->p++) {
		if (*c->p == '#' && (c->p == from || blank(c->p[-1])))
			break;
		if (!blank(*c->p))
			to = c->p + 1;
	}
	tg_buf_put(out, from, (size_t)(to - from));
	skip_line(c);
}

static bool store(struct tg_env_file *f, size_t *cap, struct tg_slice name, const struct tg_buf *value, int line)
{
	if (f->n == *cap) {
		size_t k = *cap ? *cap * 2 : 16;
		struct tg_env_var *v = realloc(f->v, k * sizeof *v);
		if (!v)
			return false;
		f->v = v;
		*cap = k;
	}
	struct tg_env_var v = { tg_slice_dup(name), malloc(value->len + 1), line };
	if (!v.name || !v.value) {
		free(v.name);
		free(v.value);
		return false;
	}
	if (value->len)
		memcpy(v.value, value->p, value->len);
	v.value[value->len] = 0;
	f->v[f->n++] = v;
	return true;
}

/* One line that is neither blank nor a comment. NULL, or what is wrong with it. */
static const char *assignment(struct cursor *c, struct tg_env_file *f, size_t *cap, struct tg_buf *value)
{
	int line = c->line;
	if (c->end - c->p > 7 && memcmp(c->p, "export", 6) == 0 && blank(c->p[6])) {
		c->p += 7;
		skip_blanks(c);
	}
	struct tg_slice name = { c->p, 0 };
	while (c->p < c->end && name_char(*c->p, name.n == 0))
		c->p++, name.n++;
	skip_blanks(c);
	if (!name.n || c->p == c->end || *c->p != '=')
		return "not a comment and not NAME=value";
	c->p++;
	skip_blanks(c);
	value->len = 0;
	if (c->p < c->end && (*c->p == '"' || *c->p == '\'')) {
		if (!quoted(c, value)) {
			c->line = line;
			return "the quote does not end";
		}
		bool gap = c->p < c->end && blank(*c->p);
		skip_blanks(c);
		if (c->p < c->end && *c->p == '#' && gap)
			skip_line(c);
		if (c->p < c->end && *c->p != '\n')
			return "text after the closing quote";
	} else {
		unquoted(c, value);
	}
	if (f->n == TG_ENV_MAX_VARS)
		return "too many variables";
	return value->failed || !store(f, cap, name, value, line) ? "out of memory" : NULL;
}

bool tg_env_parse(const char *path, struct tg_slice text, struct tg_env_file *out, struct tg_err *err)
{
	*out = (struct tg_env_file){ 0 };
	struct cursor c = { text.p, text.p + text.n, 1 };
	if (text.n && memchr(text.p, 0, text.n)) {
		tg_err_set(err, "%s: the file holds NUL", path);
		return false;
	}
	if (text.n >= 3 && memcmp(text.p, "\xef\xbb\xbf", 3) == 0)
		c.p += 3;
	struct tg_buf value;
	tg_buf_init(&value, TG_ENV_MAX_BYTES + 256);
	/* One reservation for the longest possible value: the buffer never moves, so that one wipe at the end covers every value. */
	const char *bad = tg_buf_reserve(&value, text.n + 1) ? NULL : "over 256 KiB";
	size_t cap = 0;
	while (!bad && c.p < c.end) {
		skip_blanks(&c);
		if (c.p == c.end)
			break;
		if (*c.p == '\n') {
			c.p++;
			c.line++;
		} else if (*c.p == '#') {
			skip_line(&c);
		} else {
			bad = assignment(&c, out, &cap, &value);
		}
	}
	if (value.p)
		explicit_bzero(value.p, value.cap);
	tg_buf_free(&value);
	if (bad) {
		tg_err_set(err, "%s:%d: %s", path, c.line, bad);
		tg_env_free(out);
		return false;
	}
	return true;
}

void tg_env_free(struct tg_env_file *f)
{
	for (size_t i = 0; i < f->n; i++) {
		free(f->v[i].name);
		explicit_bzero(f->v[i].value, strlen(f->v[i].value));
		free(f->v[i].value);
	}
	free(f->v);
	*f = (struct tg_env_file){ 0 };
}

const struct tg_env_var *tg_env_find(const struct tg_env_file *f, const char *name)
{
	for (size_t i = f->n; i-- > 0;)
		if (strcmp(f->v[i].name, name) == 0)
			return &f->v[i];
	return NULL;
}

static char *withheld[TG_ENV_WITHHELD_MAX];
static unsigned nwithheld;

bool tg_env_withheld(const char *name, size_t n)
{
	for (unsigned i = 0; i < nwithheld; i++)
		if (strlen(withheld[i]) == n && memcmp(withheld[i], name, n) == 0)
			return true;
	return false;
}

bool tg_env_withhold(const char *name)
{
	if (tg_env_withheld(name, strlen(name)))
		return true;
	if (nwithheld == TG_ENV_WITHHELD_MAX || !(withheld[nwithheld] = strdup(name)))
		return false;
	nwithheld++;
	return true;
}
