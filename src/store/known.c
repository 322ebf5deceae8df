/*
 * The file of what is known (see known.h). Lines of JSON, in sections. Each section ends with a line that says how many lines there were, what they follow upon (a position in the database's list of changes), what they lead
 * to, and a checksum of it all. The first section is everybody; each further one is a change. Before them stands a line of fixed length with the length of the first section, and of all.
 *
 * Invariants: whoever writes holds flock on the file that is under the name. A section is on disk before the length of all says so, so that a file that is shorter than it says was cut off, and is nothing; a section
 * that a crash left half written is behind that length, was answered to nobody, and is passed over. The file's end never lags behind what this process has in force: where a section cannot be added, the file is emptied.
 * What a line says of a digest, a user or a token is the whole truth about it, so that lines that tell of a newer row than their position do no harm.
 */
#include "store/known.h"
#include "base/buf.h"
#include "base/clock.h"
#include "base/newfile.h"
#include "policy/key_limits.h"
#include <errno.h>
#include <fcntl.h>
#include <jansson.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { LINE_WORST = 1600, CHUNK = 1 << 18, SUM = 16, HEAD = 96, END_MOST = 512, END_SUM = 43, LOCK_TRIES = 200, LOCK_AGAIN_US = 10000, SECTION_MAX = 1 << 28 };
#define TAIL_MAX (1u << 20)       /* and a fourth of the first section: so much is appended before it is folded */
#define FOLD_AGAIN_US 10000000u

struct tg_known {
	char *path;
	uint32_t check;
	_Atomic uint64_t due_us; /* monotonic; 0: not */
};

struct tg_known *tg_known_new(const char *database)
{
	struct tg_known *k = calloc(1, sizeof *k);
	if (k && asprintf(&k->path, "%s.known", database) < 0) {
		free(k);
		return NULL;
	}
	return k;
}

void tg_known_free(struct tg_known *k)
{
	if (k)
		free(k->path);
	free(k);
}

void tg_known_under(struct tg_known *k, uint32_t check)
{
	k->check = check;
}

const char *tg_known_path(const struct tg_known *k)
{
	return k->path;
}

bool tg_known_there(const struct tg_known *k)
{
	return access(k->path, F_OK) == 0;
}

bool tg_known_due(const struct tg_known *k)
{
	uint64_t due = atomic_load(&k->due_us);
	return due && tg_mono_us() >= due;
}

/* ---- lines ---- */

static void put_common(struct tg_buf *b, const struct tg_principal *p)
{
	char perms[TG_PERMS_TEXT];
	tg_perms_text(p->perms, ",", perms);
	tg_buf_lit(b, ",\"id\":");
	tg_buf_json(b, tg_slice_cstr(p->id));
	tg_buf_fmt(b, ",\"permissions\":\"%s\"", perms);
	if (!tg_key_limits_set(&p->limits))
		return;
	char *limits = tg_limits_dump(&p->limits);
	tg_buf_fmt(b, ",\"limits\":%s", limits ? limits : "");
	b->failed |= !limits;
	free(limits);
}

static void put_key(struct tg_buf *b, const char *hex, const struct tg_principal *p)
{
	tg_buf_fmt(b, "{\"key\":\"%s\"", hex);
	if (p) {
		put_common(b, p);
		tg_buf_lit(b, ",\"prefix\":");
		tg_buf_json(b, tg_slice_cstr(p->prefix));
		tg_buf_fmt(b, ",\"expires\":%llu", (unsigned long long)p->expires_s);
	}
	tg_buf_lit(b, "}\n");
}

static void put_user(struct tg_buf *b, const struct tg_user *u)
{
	tg_buf_fmt(b, "{\"user\":%s", u->disabled ? "false" : "true");
	put_common(b, &u->who);
	tg_buf_fmt(b, ",\"from\":%lld}\n", (long long)u->tokens_from);
}

static void put_ended(struct tg_buf *b, const char *jti, int64_t expires)
{
	tg_buf_lit(b, "{\"ended\":");
	tg_buf_json(b, tg_slice_cstr(jti));
	tg_buf_fmt(b, ",\"expires\":%lld}\n", (long long)expires);
}

/* All but the checksum and what closes the line. */
static void put_end(struct tg_buf *b, size_t lines, int64_t after, const struct tg_list_end *end)
{
	tg_buf_fmt(b, "{\"lines\":%zu,\"after\":%lld,\"seq\":%lld,\"mark\":\"%s\"", lines, (long long)after, (long long)end->seq, end->mark);
}

static void put_sum(struct tg_buf *b, crypto_generichash_state *st)
{
	unsigned char h[SUM];
	char hex[2 * SUM + 1];
	crypto_generichash_final(st, h, sizeof h);
	sodium_bin2hex(hex, sizeof hex, h, sizeof h);
	tg_buf_fmt(b, ",\"sum\":\"%s\"}\n", hex);
}

static void take_in(crypto_generichash_state *st, struct tg_slice s)
{
	crypto_generichash_update(st, (const unsigned char *)s.p, s.n);
}

static void head_line(char out[HEAD + 1], uint64_t base, uint64_t size, uint32_t check)
{
	int n = snprintf(out, HEAD + 1, "{\"known\":2,\"base\":\"%016llu\",\"size\":\"%016llu\",\"secret\":\"%08x\"}", (unsigned long long)base, (unsigned long long)size, check);
	memset(out + n, ' ', (size_t)(HEAD - n));
	out[HEAD - 1] = '\n';
}

static bool put_head(int fd, uint64_t base, uint64_t size, uint32_t check)
{
	char head[HEAD + 1];
	head_line(head, base, size, check);
	return pwrite(fd, head, HEAD, 0) == HEAD;
}

/* ---- the file under its name ---- */

/* What root makes belongs to whoever has the database. */
static void same_owner(int fd, const char *path)
{
	char database[4200];
	struct stat st;
	if (snprintf(database, sizeof database, "%.*s", (int)(strlen(path) - strlen(".known")), path) < (int)sizeof database && geteuid() == 0 && stat(database, &st) == 0 && st.st_uid != 0 &&
	    fchown(fd, st.st_uid, st.st_gid))
		return; /* then it cannot be read by others, and they say so */
}

static bool lock(int fd)
{
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		if (flock(fd, LOCK_EX | LOCK_NB) == 0)
			return true;
		if (errno != EWOULDBLOCK && errno != EINTR)
			return false;
		usleep(LOCK_AGAIN_US);
	}
	return false;
}

/* -1: errno. The file is ours until it is closed: others replace it under this lock only. Made, empty, where it is missing. */
static int open_locked(const char *path, struct stat *st)
{
	struct stat named;
	for (unsigned i = 0; i < LOCK_TRIES; i++) {
		int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
		if (fd < 0)
			return -1;
		same_owner(fd, path);
		if (!lock(fd) || fstat(fd, st)) {
			int e = errno;
			close(fd);
			errno = e;
			return -1;
		}
		if (stat(path, &named) == 0 && named.st_ino == st->st_ino && named.st_dev == st->st_dev)
			return fd;
		close(fd);
	}
	errno = EAGAIN;
	return -1;
}

struct found {
	bool whole;  /* it begins with everybody */
	bool ends;   /* with a section's end: one may be added */
	uint64_t base, size;
	struct tg_list_end end;
};

static uint64_t digits(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? strtoull(s, NULL, 10) : 0;
}

static bool parse_head(const char *text, size_t n, uint32_t check, uint64_t *base, uint64_t *size)
{
	char want[16];
	json_t *o = n >= HEAD && text[HEAD - 1] == '\n' ? json_loadb(text, HEAD, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *secret = json_string_value(json_object_get(o, "secret"));
	snprintf(want, sizeof want, "%08x", check);
	bool ok = json_integer_value(json_object_get(o, "known")) == 2 && secret && strcmp(secret, want) == 0;
	*base = digits(o, "base");
	*size = digits(o, "size");
	json_decref(o);
	return ok && *base >= HEAD && *base <= *size;
}

struct end_line {
	json_int_t lines, after;
	struct tg_list_end end;
};

static bool parse_end(const char *text, size_t n, struct end_line *e)
{
	json_t *o = n > 10 && n <= END_MOST && memcmp(text, "{\"lines\":", 9) == 0 ? json_loadb(text, n, JSON_REJECT_DUPLICATES, NULL) : NULL;
	const char *mark = json_string_value(json_object_get(o, "mark"));
	bool ok = mark && strlen(mark) <= TG_MARK_LEN && json_is_string(json_object_get(o, "sum"));
	e->lines = json_integer_value(json_object_get(o, "lines"));
	e->after = json_integer_value(json_object_get(o, "after"));
	e->end.seq = json_integer_value(json_object_get(o, "seq"));
	snprintf(e->end.mark, sizeof e->end.mark, "%s", ok ? mark : "");
	json_decref(o);
	return ok && e->end.seq >= 0;
}

static struct found look(int fd, uint64_t size, uint32_t check)
{
	struct found f = { .size = size };
	char head[HEAD], tail[END_MOST + 1];
	uint64_t said = 0, from = size > END_MOST ? size - END_MOST : 0;
	ssize_t n = pread(fd, head, sizeof head, 0), t = pread(fd, tail, sizeof tail - 1, (off_t)from);
	f.whole = n == HEAD && parse_head(head, (size_t)n, check, &f.base, &said) && said <= size && f.base <= size;
	if (t < 2 || (uint64_t)t != size - from || tail[t - 1] != '\n')
		return f;
	const char *last = memrchr(tail, '\n', (size_t)t - 1);
	struct end_line e;
	last = last ? last + 1 : tail;
	f.ends = parse_end(last, (size_t)(tail + t - last), &e);
	f.end = e.end;
	return f;
}

bool tg_known_at(struct tg_known *k, struct tg_list_end *end)
{
	struct stat st;
	int fd = open(k->path, O_RDWR | O_CLOEXEC | O_NOFOLLOW); /* for writing: what cannot be written must be replaced */
	if (fd < 0)
		return false;
	bool ok = lock(fd) && fstat(fd, &st) == 0 && (st.st_mode & 0777) == 0600;
	struct found f = { 0 };
	if (ok)
		f = look(fd, (uint64_t)st.st_size, k->check);
	close(fd);
	*end = f.end;
	return ok && f.whole && f.ends;
}

/* ---- a change ---- */

static void put_token(struct tg_buf *b, const struct tg_identity *d, const char *jti, size_t *lines)
{
	int64_t expires = 0;
	const char *one;
	for (size_t i = 0; (one = tg_identity_revoked_at(d, i, &expires)); i++)
		if (strcmp(one, jti) == 0) {
			put_ended(b, jti, expires);
			++*lines;
			return;
		}
}

static void put_change(struct tg_buf *b, const struct tg_identity *d, const struct tg_change *c, size_t *lines)
{
	uint8_t digest[32];
	size_t n = 0;
	const struct tg_user *u;
	switch (c->kind) {
	case TG_CHANGE_SECRET:
		if (strlen(c->id) != 64 || sodium_hex2bin(digest, sizeof digest, c->id, 64, NULL, &n, NULL) || n != sizeof digest)
			return; /* no key of ours */
		put_key(b, c->id, tg_identity_key(d, digest));
		break;
	case TG_CHANGE_USER:
		u = tg_identity_user(d, tg_slice_cstr(c->id));
		if (u) {
			put_user(b, u);
		} else {
			tg_buf_lit(b, "{\"gone\":");
			tg_buf_json(b, tg_slice_cstr(c->id));
			tg_buf_lit(b, "}\n");
		}
		break;
	case TG_CHANGE_TOKEN:
		put_token(b, d, c->id, lines);
		return;
	default: /* a key: its secrets are in the list too */
		return;
	}
	++*lines;
}

static bool add_section(struct tg_known *k, int fd, const struct found *f, struct tg_buf *b)
{
	size_t done = 0;
	while (done < b->len) {
		ssize_t w = pwrite(fd, b->p + done, b->len - done, (off_t)(f->size + done));
		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			return false;
		done += (size_t)w;
	}
	uint64_t size = f->size + b->len;
	if (fdatasync(fd) || (f->whole && !put_head(fd, f->base, size, k->check)))
		return false;
	if (!f->whole || size - f->base > TAIL_MAX + f->base / 4) {
		uint64_t none = 0;
		atomic_compare_exchange_strong(&k->due_us, &none, tg_mono_us());
	}
	return true;
}

static bool append(struct tg_known *k, int fd, uint64_t size, struct tg_buf *b, size_t lines, const struct tg_list_end *from, const struct tg_list_end *to)
{
	struct found f = look(fd, size, k->check);
	bool follows = f.ends && (f.end.seq > from->seq || (f.end.seq == from->seq && strcmp(f.end.mark, from->mark) == 0));
	if (follows && f.end.seq >= to->seq)
		return true;
	if (!follows && f.size) {
		if (ftruncate(fd, 0))
			return false;
		f = (struct found){ 0 };
	}
	crypto_generichash_state st;
	crypto_generichash_init(&st, NULL, 0, SUM);
	put_end(b, lines, follows ? f.end.seq : from->seq, to);
	if (!b->failed)
		take_in(&st, tg_buf_view(b));
	put_sum(b, &st);
	if (b->failed)
		errno = ENOMEM;
	return !b->failed && add_section(k, fd, &f, b);
}

bool tg_known_append(struct tg_known *k, const struct tg_identity *d, const struct tg_changes *changes, const struct tg_list_end *from, const struct tg_list_end *to, struct tg_err *err)
{
	struct tg_buf b;
	struct stat st;
	size_t lines = 0;
	tg_buf_init(&b, (changes->n + 1) * LINE_WORST);
	for (size_t i = 0; i < changes->n; i++)
		put_change(&b, d, &changes->v[i], &lines);
	int fd = open_locked(k->path, &st);
	bool ok = fd >= 0 && append(k, fd, (uint64_t)st.st_size, &b, lines, from, to);
	if (!ok) {
		tg_err_set(err, "%s: cannot be written: %s", k->path, strerror(errno));
		if (fd < 0 || ftruncate(fd, 0))
			tg_known_forget(k);
		atomic_store(&k->due_us, tg_mono_us() + FOLD_AGAIN_US);
	}
	if (fd >= 0)
		close(fd);
	tg_buf_free(&b);
	return ok;
}

void tg_known_forget(struct tg_known *k)
{
	int fd = open(k->path, O_WRONLY | O_TRUNC | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0 && unlink(k->path) == 0) /* another's, or a link */
		fd = open(k->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd >= 0) {
		same_owner(fd, k->path);
		close(fd);
	}
}

/* ---- everybody ---- */

struct filling {
	struct tg_known_fold *f;
	struct tg_buf b;
	crypto_generichash_state st;
	size_t lines;
};

static void flush(struct filling *w)
{
	if (w->b.failed)
		w->f->ok = false;
	if (!w->f->ok || !w->b.len)
		return;
	take_in(&w->st, tg_buf_view(&w->b));
	w->f->ok = tg_write_all(w->f->fd, tg_buf_view(&w->b));
	w->f->base += w->b.len;
	w->b.len = 0;
}

static void fill_key(void *ctx, const uint8_t digest[32], const struct tg_principal *p)
{
	struct filling *w = ctx;
	char hex[65];
	if (!w->f->ok)
		return;
	sodium_bin2hex(hex, sizeof hex, digest, 32);
	put_key(&w->b, hex, p);
	w->lines++;
	if (w->b.len > CHUNK)
		flush(w);
}

static void fill_rest(struct filling *w, const struct tg_identity *d)
{
	int64_t expires = 0;
	const char *jti;
	for (size_t i = 0, n = tg_identity_users(d); i < n && w->f->ok; i++, w->lines++) {
		put_user(&w->b, tg_identity_user_at(d, i));
		if (w->b.len > CHUNK)
			flush(w);
	}
	for (size_t i = 0; w->f->ok && (jti = tg_identity_revoked_at(d, i, &expires)); i++, w->lines++) {
		put_ended(&w->b, jti, expires);
		if (w->b.len > CHUNK)
			flush(w);
	}
}

void tg_known_fold_fill(struct tg_known_fold *f, const struct tg_identity *d)
{
	struct filling w = { .f = f };
	struct tg_buf sum;
	tg_buf_init(&w.b, 2 * CHUNK);
	tg_buf_init(&sum, END_MOST);
	crypto_generichash_init(&w.st, NULL, 0, SUM);
	f->ok = lseek(f->fd, HEAD, SEEK_SET) == HEAD;
	f->base = HEAD;
	tg_identity_each_key(d, fill_key, &w);
	fill_rest(&w, d);
	put_end(&w.b, w.lines, 0, &f->end);
	flush(&w);
	put_sum(&sum, &w.st);
	f->base += sum.len;
	f->ok = f->ok && !sum.failed && tg_write_all(f->fd, tg_buf_view(&sum)) && put_head(f->fd, f->base, f->base, f->check) && fsync(f->fd) == 0;
	if (!f->ok && !errno)
		errno = ENOMEM;
	tg_buf_free(&w.b);
	tg_buf_free(&sum);
}

static bool begin(struct tg_known *k, const struct tg_list_end *end, struct tg_known_fold *f, bool anew)
{
	struct stat st;
	*f = (struct tg_known_fold){ .fd = -1, .end = *end, .check = k->check };
	int fd = open_locked(k->path, &st);
	if (fd < 0)
		return false;
	struct found was = { 0 };
	bool ok = true;
	if (anew)
		ok = ftruncate(fd, 0) == 0;
	else
		was = look(fd, (uint64_t)st.st_size, k->check);
	if (was.whole) /* at `end` exactly: from there on its changes go along */
		ok = was.ends && was.end.seq == end->seq && strcmp(was.end.mark, end->mark) == 0;
	else if (was.ends)
		ok = was.end.seq <= end->seq;
	f->dev = st.st_dev;
	f->ino = st.st_ino;
	f->from = was.whole ? was.size : 0;
	f->path = ok ? strdup(k->path) : NULL;
	f->fd = f->path ? tg_replace_begin(k->path, &f->temp) : -1;
	close(fd);
	if (f->fd >= 0)
		return true;
	free(f->path);
	return false;
}

bool tg_known_fold_begin(struct tg_known *k, const struct tg_list_end *end, struct tg_known_fold *f)
{
	atomic_store(&k->due_us, tg_mono_us() + FOLD_AGAIN_US);
	return begin(k, end, f, false);
}

/* What was appended meanwhile. The new file is ours alone until it has the name. */
static bool take_over(int old, uint64_t from, uint64_t to, struct tg_known_fold *f)
{
	char part[16384];
	uint64_t size = f->base;
	while (from < to) {
		ssize_t n = pread(old, part, to - from < sizeof part ? to - from : sizeof part, (off_t)from);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0 || !tg_write_all(f->fd, (struct tg_slice){ part, (size_t)n }))
			return false;
		from += (uint64_t)n;
		size += (uint64_t)n;
	}
	return size == f->base || (fdatasync(f->fd) == 0 && put_head(f->fd, f->base, size, f->check));
}

/* Where the changes of a file without anybody begin; -1: there are none. */
static int64_t first_after(const char *path)
{
	FILE *f = fopen(path, "re");
	struct end_line e;
	char *line = NULL;
	size_t cap = 0;
	int64_t after = -1;
	for (ssize_t n; f && after < 0 && (n = getline(&line, &cap, f)) > 0;)
		if (parse_end(line, (size_t)n, &e))
			after = e.after;
	free(line);
	if (f)
		fclose(f);
	return after;
}

/* The old file still goes with the new one: the same, not torn, not emptied, and without a gap behind what the new one stands for. */
static bool goes_with(const struct tg_known_fold *f, const struct found *was)
{
	if (!was->size)
		return !f->from;
	return was->ends && (f->from ? was->whole && was->size >= f->from : !was->whole && first_after(f->path) <= f->end.seq);
}

bool tg_known_fold_end(struct tg_known *k, struct tg_known_fold *f, struct tg_err *err)
{
	struct stat st = { 0 };
	int fd = f->ok ? open_locked(f->path, &st) : -1;
	bool ok = fd >= 0, meets = ok && st.st_dev == f->dev && st.st_ino == f->ino;
	err->text[0] = 0;
	if (meets) {
		struct found was = look(fd, (uint64_t)st.st_size, f->check);
		meets = goes_with(f, &was);
		ok = !meets || take_over(fd, f->from, was.size, f);
	}
	if (ok && meets)
		same_owner(f->fd, f->path);
	ok = tg_replace_end(f->fd, f->temp, f->path, ok && meets) || (ok && !meets);
	if (!ok)
		tg_err_set(err, "%s: cannot be written: %s", f->path, strerror(errno));
	if (fd >= 0)
		close(fd);
	if (ok && meets)
		atomic_store(&k->due_us, 0);
	free(f->path);
	return ok && meets;
}

bool tg_known_replace(struct tg_known *k, const struct tg_identity *d, const struct tg_list_end *end, struct tg_err *err)
{
	struct tg_known_fold f;
	err->text[0] = 0;
	if (begin(k, end, &f, true)) {
		tg_known_fold_fill(&f, d);
		if (tg_known_fold_end(k, &f, err))
			return true;
	} else {
		tg_err_set(err, "%s: cannot be written: %s", k->path, strerror(errno));
		tg_known_forget(k);
	}
	atomic_store(&k->due_us, tg_mono_us() + FOLD_AGAIN_US);
	return !err->text[0];
}

/* ---- reading ---- */

static const char *text(const json_t *o, const char *name)
{
	const char *s = json_string_value(json_object_get(o, name));
	return s ? s : "";
}

static bool common(const json_t *o, struct tg_principal *p)
{
	struct tg_key_limits_fault ignored;
	struct tg_slice names = tg_slice_cstr(text(o, "permissions"));
	if (strlen(text(o, "id")) >= sizeof p->id || !tg_key_limits_parse(json_object_get(o, "limits"), &p->limits, &ignored))
		return false;
	snprintf(p->id, sizeof p->id, "%s", text(o, "id"));
	p->perms = tg_perms_listed(names);
	p->hash = tg_stored_account(p->id);
	return p->id[0] != 0;
}

static bool placed(struct tg_uses *uses, struct tg_principal *p)
{
	return !uses || (p->use = tg_uses_of(uses, p)) != NULL;
}

/* Before the change there may have been somebody of that id. */
static bool take_user(struct tg_identity *d, struct tg_uses *uses, const json_t *o, bool change)
{
	struct tg_user u = { .who = { .source = TG_SRC_USER, .name = "user" }, .disabled = !json_is_true(json_object_get(o, "user")), .tokens_from = json_integer_value(json_object_get(o, "from")) };
	/* Without a name nobody can log in; the id is enough for a token. */
	if (!common(o, &u.who) || !placed(uses, &u.who) || snprintf(u.name, sizeof u.name, "?%s", u.who.id) < 0)
		return false;
	return change ? tg_identity_set_user(d, u.who.id, &u, "!") : tg_identity_add_user(d, &u, "!");
}

static bool take_key(struct tg_identity *d, struct tg_uses *uses, const json_t *o, bool change)
{
	struct tg_principal p = { .source = TG_SRC_STORED_KEY, .name = "database" };
	uint8_t digest[32];
	const char *hex = text(o, "key");
	size_t n = 0;
	if (strlen(hex) != 64 || sodium_hex2bin(digest, sizeof digest, hex, 64, NULL, &n, NULL) || n != sizeof digest)
		return false;
	if (change && !json_object_get(o, "id"))
		return tg_identity_set_key(d, digest, NULL);
	if (!common(o, &p) || !placed(uses, &p))
		return false;
	snprintf(p.prefix, sizeof p.prefix, "%s", text(o, "prefix"));
	p.expires_s = (uint64_t)json_integer_value(json_object_get(o, "expires"));
	return change ? tg_identity_set_key(d, digest, &p) : tg_identity_add_key(d, digest, &p);
}

static bool take_line(struct tg_identity *d, struct tg_uses *uses, struct tg_slice line, bool change)
{
	json_t *o = json_loadb(line.p, line.n, JSON_REJECT_DUPLICATES, NULL);
	bool ok;
	if (json_object_get(o, "ended"))
		ok = tg_identity_add_revoked(d, text(o, "ended"), json_integer_value(json_object_get(o, "expires")));
	else if (json_object_get(o, "gone"))
		ok = change && tg_identity_set_user(d, text(o, "gone"), NULL, NULL);
	else if (json_object_get(o, "user"))
		ok = take_user(d, uses, o, change);
	else
		ok = take_key(d, uses, o, change);
	json_decref(o);
	return ok;
}

static bool sum_fits(crypto_generichash_state *st, struct tg_slice line)
{
	unsigned char h[SUM];
	char hex[2 * SUM + 1];
	if (line.n <= END_SUM)
		return false;
	take_in(st, (struct tg_slice){ line.p, line.n - END_SUM });
	crypto_generichash_final(st, h, sizeof h);
	sodium_bin2hex(hex, sizeof hex, h, sizeof h);
	return memcmp(line.p + line.n - END_SUM + 8, hex, 2 * SUM) == 0;
}

struct reading {
	FILE *f;
	struct tg_identity *d;
	struct tg_uses *uses;
	char *line;
	size_t cap;
};

/* A section's lines into `b` up to its end. False: it has none, or it is not what was written. */
static bool next_section(struct reading *r, struct tg_buf *b, struct end_line *e)
{
	crypto_generichash_state st;
	json_int_t lines = 0;
	b->len = 0;
	crypto_generichash_init(&st, NULL, 0, SUM);
	for (ssize_t n; (n = getline(&r->line, &r->cap, r->f)) > 0; lines++) {
		struct tg_slice line = { r->line, (size_t)n };
		if (parse_end(line.p, line.n, e))
			return !b->failed && e->lines == lines && sum_fits(&st, line);
		take_in(&st, line);
		tg_buf_slice(b, line);
	}
	return false;
}

static bool take_lines(struct reading *r, struct tg_slice all, bool change)
{
	while (all.n) {
		const char *end = memchr(all.p, '\n', all.n);
		struct tg_slice line = { all.p, end ? (size_t)(end + 1 - all.p) : all.n };
		if (!take_line(r->d, r->uses, line, change))
			return false;
		all = (struct tg_slice){ all.p + line.n, all.n - line.n };
	}
	return true;
}

/* Everybody line by line: they may be a million. */
static bool take_base(struct reading *r, struct end_line *e)
{
	crypto_generichash_state st;
	json_int_t lines = 0;
	crypto_generichash_init(&st, NULL, 0, SUM);
	for (ssize_t n; (n = getline(&r->line, &r->cap, r->f)) > 0; lines++) {
		struct tg_slice line = { r->line, (size_t)n };
		if (parse_end(line.p, line.n, e))
			return e->lines == lines && sum_fits(&st, line);
		take_in(&st, line);
		if (!take_line(r->d, r->uses, line, false))
			return false;
	}
	return false;
}

/* `said`: so much was on disk when its last writer was done. */
static bool take_all(struct reading *r, uint64_t base, uint64_t said)
{
	struct end_line e, next;
	struct tg_buf b;
	bool ok = take_base(r, &e) && (uint64_t)ftello(r->f) == base;
	tg_buf_init(&b, SECTION_MAX);
	for (uint64_t at = base; ok; at = (uint64_t)ftello(r->f)) {
		if (!next_section(r, &b, &next)) {
			ok = at >= said && feof(r->f); /* half of one, which nobody was told of */
			break;
		}
		if (next.end.seq <= e.end.seq)
			continue; /* the first section says it already */
		ok = next.after <= e.end.seq && take_lines(r, tg_buf_view(&b), true);
		e = next;
	}
	tg_buf_free(&b);
	return ok;
}

struct tg_identity *tg_known_read(const struct tg_known *k, struct tg_uses *uses)
{
	char head[HEAD];
	uint64_t base = 0, said = 0;
	struct stat st;
	struct reading r = { .f = fopen(k->path, "re"), .uses = uses };
	bool ok = r.f && fstat(fileno(r.f), &st) == 0 && fread(head, 1, HEAD, r.f) == HEAD && parse_head(head, HEAD, k->check, &base, &said) && said <= (uint64_t)st.st_size;
	ok = ok && (r.d = tg_identity_new()) && take_all(&r, base, said) && tg_identity_seal(r.d);
	free(r.line);
	if (r.f)
		fclose(r.f);
	if (ok) {
		tg_identity_nameless(r.d);
		return r.d;
	}
	tg_identity_put(r.d);
	return NULL;
}
