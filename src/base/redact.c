/*
 * Redaction of text from outside (seed ledger S2-65 to S2-69). One pass over runs of name characters: a run is kept or replaced as a whole,
 * never cut first, because the first half of a key is still most of a key. It errs on the side of hiding: a log that lacks a word is a
 * nuisance, one that holds a password is a leak. What must be readable (ids, names of the configuration) is not passed through here.
 *
 * Invariants: linear in the input up to where the output is full; never writes past cap; the output is valid UTF-8 where the input is.
 */
#include "base/log.h"
#include "base/utf8.h"

#define ADDRESS_BACK 320 /* the longest address: RFC 5321 section 4.5.3.1 */

struct out {
	char *p;
	size_t n, cap;
	bool full;
};

static void emit(struct out *o, const char *p, size_t n)
{
	if (o->full || !n)
		return;
	size_t room = o->cap - o->n;
	if (n > room) {
		n = room;
		/* Back to the start of the character that does not fit. */
		while (n && ((unsigned char)p[n] & 0xc0) == 0x80)
			n--;
		o->full = true;
	}
	memcpy(o->p + o->n, p, n);
	o->n += n;
}

static void mask(struct out *o)
{
	if (o->cap - o->n < 3)
		o->full = true;
	else
		emit(o, "***", 3);
}

static bool is_alpha(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z');
}
static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}
static bool is_run(char c)
{
	return is_alpha(c) || is_digit(c) || c == '_' || c == '-';
}
/* Characters of an address around '@': letters of every script, as RFC 6531 allows. */
static bool is_local(char c)
{
	return is_run(c) || c == '.' || c == '+' || c == '%' || c == '!' || c == '#' || c == '$' || c == '&' || c == '\'' || c == '*' || c == '^' || c == '~' ||
	       (unsigned char)c >= 0x80;
}
static bool is_domain(char c)
{
	return is_alpha(c) || is_digit(c) || c == '.' || c == '-' || c == '[' || c == ']' || c == ':' || (unsigned char)c >= 0x80;
}
static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static bool starts(struct tg_slice s, const char *lower)
{
	size_t n = strlen(lower);
	return s.n >= n && strncasecmp(s.p, lower, n) == 0;
}

static bool key_like(struct tg_slice run)
{
	if (run.n >= 8 && (starts(run, "sk-") || starts(run, "tg_")))
		return true;
	/* 12: the label sk_ml_train, which may be shown, is 11 long (C-18). */
	if (run.n >= 12 && (starts(run, "sk_") || starts(run, "pk_") || starts(run, "pk-")))
		return true;
	if (run.n < 20)
		return false;
	bool letter = false, digit = false;
	for (size_t i = 0; i < run.n; i++) {
		letter |= is_alpha(run.p[i]);
		digit |= is_digit(run.p[i]);
	}
	return letter && digit;
}

/* Names whose value is a secret when ':' or '=' follows; a run counts when it ends with one (user_password). */
static const char *const secret_names[] = {
	"password", "passwd", "passphrase", "pwd", "secret", "token", "api_key", "api-key", "apikey", "authorization", "cookie",
};

static bool names_secret(struct tg_slice run)
{
	for (size_t i = 0; i < sizeof secret_names / sizeof *secret_names; i++) {
		size_t n = strlen(secret_names[i]);
		if (run.n >= n && strncasecmp(run.p + run.n - n, secret_names[i], n) == 0)
			return true;
	}
	return false;
}

/* Where a quoted value that opens at i (past its quote) ends. A text that is itself quoted JSON has its quotes escaped: then \" ends the value;
 * else a backslash takes the next character with it. */
static size_t quoted_end(struct tg_slice s, size_t i, char quote, bool escaped)
{
	for (; i < s.n; i++) {
		if (s.p[i] == '\\') {
			if (escaped)
				return i;
			i++;
		} else if (s.p[i] == quote) {
			return i;
		}
	}
	return s.n;
}

static size_t bare_end(struct tg_slice s, size_t i)
{
	while (i < s.n && !is_space(s.p[i]) && s.p[i] != ',' && s.p[i] != ';' && s.p[i] != '&' && s.p[i] != '"' && s.p[i] != '\n' && s.p[i] != '\r' &&
	       s.p[i] != '}' && s.p[i] != '\\')
		i++;
	return i;
}

/* After a scheme word ("Bearer", "Basic") and white space: the credential; 0 where none follows. */
static size_t scheme_value(struct tg_slice s, struct tg_slice word, size_t i, size_t *from)
{
	if (!((word.n == 6 && starts(word, "bearer")) || (word.n == 5 && starts(word, "basic"))))
		return 0;
	size_t at = i;
	while (at < s.n && is_space(s.p[at]))
		at++;
	size_t end = bare_end(s, at);
	/* Short words after "basic" are prose; what was masked before counts as a credential, so that a second pass changes nothing. */
	if (at == i || (end - at < 6 && !(end - at == 3 && memcmp(s.p + at, "***", 3) == 0)))
		return 0;
	*from = at;
	return end;
}

/* After the name of a secret at i: the value's bounds; 0 where no value follows. */
static size_t secret_value(struct tg_slice s, size_t i, size_t *from)
{
	while (i < s.n && (s.p[i] == '"' || s.p[i] == '\'' || s.p[i] == '\\' || is_space(s.p[i])))
		i++;
	if (i == s.n || (s.p[i] != ':' && s.p[i] != '='))
		return 0;
	i++;
	while (i < s.n && is_space(s.p[i]))
		i++;
	bool escaped = i < s.n && s.p[i] == '\\';
	if (escaped)
		i++;
	size_t end;
	if (i < s.n && (s.p[i] == '"' || s.p[i] == '\'')) {
		*from = i + 1;
		end = quoted_end(s, i + 1, s.p[i], escaped);
	} else {
		*from = i;
		end = bare_end(s, i);
		/* "Authorization: Bearer x": the scheme is no secret, what follows it is. */
		size_t from2, end2 = scheme_value(s, (struct tg_slice){ s.p + i, end - i }, end, &from2);
		if (end2) {
			*from = from2;
			return end2;
		}
	}
	return end > *from ? end : 0;
}

/* The address that has its '@' (or "%40") at `at`, not reaching back before `floor`. */
static bool address(struct tg_slice s, size_t floor, size_t at, size_t atlen, size_t *from, size_t *to)
{
	size_t l = at, r = at + atlen;
	/* The walk back is bounded, or a text of nothing but '@' would cost its length squared. */
	if (at - floor > ADDRESS_BACK)
		floor = at - ADDRESS_BACK;
	if (l > floor && s.p[l - 1] == '"') {
		/* A quoted local part ("a b"@c.d). */
		size_t q = l - 1;
		while (q > floor && s.p[q - 1] != '"')
			q--;
		if (q > floor)
			l = q - 1;
	} else {
		while (l > floor && is_local(s.p[l - 1]))
			l--;
		/* user:password@host: the password may hold what an address may not, so that all up to "//" goes. */
		size_t u = l;
		while (u > floor && !is_space(s.p[u - 1]) && s.p[u - 1] != '/' && s.p[u - 1] != '"')
			u--;
		if (u > floor + 1 && s.p[u - 1] == '/' && s.p[u - 2] == '/')
			l = u;
	}
	while (r < s.n && is_domain(s.p[r]))
		r++;
	if (l == at || r == at + atlen)
		return false;
	*from = l;
	*to = r;
	return true;
}

/* The next '@' or "%40" in [i, s.n). */
static bool find_at(struct tg_slice s, size_t i, size_t *at, size_t *len)
{
	for (; i < s.n; i++) {
		if (s.p[i] == '@') {
			*at = i;
			*len = 1;
			return true;
		}
		if (s.p[i] == '%' && s.n - i >= 3 && s.p[i + 1] == '4' && s.p[i + 2] == '0') {
			*at = i;
			*len = 3;
			return true;
		}
	}
	return false;
}

size_t tg_log_redact(struct tg_slice s, char *out, size_t cap)
{
	struct out o = { .p = out, .cap = cap };
	size_t i = 0, at = 0, atlen = 0;
	/* The next address is known before the runs in front of it are written. */
	size_t mail_from = s.n, mail_to = s.n;
	bool more = find_at(s, 0, &at, &atlen);
	while (more && !address(s, 0, at, atlen, &mail_from, &mail_to))
		more = find_at(s, at + atlen, &at, &atlen);
	while (i < s.n && !o.full) {
		if (more && i >= mail_from) {
			if (i < mail_to) {
				mask(&o);
				i = mail_to;
			}
			size_t floor = i;
			for (more = find_at(s, i, &at, &atlen); more && !address(s, floor, at, atlen, &mail_from, &mail_to);)
				more = find_at(s, at + atlen, &at, &atlen);
			continue;
		}
		size_t limit = more ? mail_from : s.n;
		size_t end = i;
		while (end < limit && is_run(s.p[end]))
			end++;
		if (end == i) {
			size_t k = tg_utf8_len(s.p + i, s.n - i);
			emit(&o, s.p + i, k ? k : 1);
			i += k ? k : 1;
			continue;
		}
		struct tg_slice run = { s.p + i, end - i };
		if (memmem(run.p, run.n, "eyJ", 3)) {
			while (end < s.n && (is_run(s.p[end]) || s.p[end] == '.'))
				end++;
			mask(&o);
			i = end;
			continue;
		}
		if (key_like(run)) {
			mask(&o);
			i = end;
			continue;
		}
		size_t from = 0, to = 0;
		if (names_secret(run))
			to = secret_value(s, end, &from);
		if (!to)
			to = scheme_value(s, run, end, &from);
		if (to) {
			emit(&o, s.p + i, from - i);
			mask(&o);
			i = to;
			continue;
		}
		emit(&o, run.p, run.n);
		i = end;
	}
	return o.n;
}
