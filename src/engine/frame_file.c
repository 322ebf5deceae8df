/*
 * A frame's file in the spool: what a training reads without parsing anything. The columns lie in it as they lie in memory, so reading is a mapping, a checksum and one look at every
 * offset; nothing in the file is believed before that, because a disk that was full or a hand that edited must end in a sentence and never in a crash.
 *
 *   head      magic, version, columns, rows, size of the file, whether lines were kept
 *   columns   one record each: where its name, its cells and its words are
 *   the rest  names, cells, words, lines: each part begins at a multiple of 8
 *   digest    BLAKE2b of all before it, by libsodium: libcrypto sets itself up when it is first used, and in a process that is made for one training that takes as long as a small training
 *
 * All numbers are little-endian and of a fixed size. The file is written once under a name of its own and never changed after: who has it mapped sees no other bytes.
 */
#include "base/utf8.h"
#include "engine/frame.h"
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <sodium.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#define MAGIC "TGFRAME"
#define VERSION 1
#define DIGEST 64
#define BLOCK (256u << 10)
#define ROWS_MAX ((uint64_t)1 << 40) /* rows of nulls take no room in the file: nothing else bounds them */
_Static_assert(__BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__, "frames are mapped as they are written: little-endian");

struct head {
	char magic[8];
	uint32_t version, ncolumns;
	uint64_t rows, size;
	uint64_t text, textlen, ends; /* lines: offset, bytes, offset of their ends; ends 0: not kept */
};
struct record {
	uint64_t name, namelen, nulls;
	uint64_t cells;                  /* double[rows] or uint32_t[rows]; 0 for EMPTY */
	uint64_t words, wordends;        /* the texts in one run, and uint64_t[nwords] where each ends in it */
	uint32_t nwords;
	uint16_t type, integers;
};
_Static_assert(sizeof(struct head) == 56 && sizeof(struct record) == 56, "no padding: the file's layout");

/* ---- writing ---- */

struct writer {
	crypto_generichash_blake2b_state digest;
	int fd;
	bool failed;
	int error;
	uint64_t at;
	size_t n;
	unsigned char block[BLOCK];
};

static void fail(struct writer *w, int error)
{
	if (!w->failed)
		w->error = error;
	w->failed = true;
}

static void write_out(struct writer *w, const unsigned char *p, size_t n)
{
	while (n && !w->failed) {
		ssize_t k = write(w->fd, p, n);
		if (k < 0 && errno == EINTR)
			continue;
		if (k <= 0) {
			fail(w, k < 0 ? errno : EIO);
			return;
		}
		p += k;
		n -= (size_t)k;
	}
}

static void flush(struct writer *w)
{
	crypto_generichash_blake2b_update(&w->digest, w->block, w->n);
	write_out(w, w->block, w->n);
	w->n = 0;
}

static void put(struct writer *w, const void *p, size_t n)
{
	w->at += n;
	while (n && !w->failed) {
		size_t k = n < BLOCK - w->n ? n : BLOCK - w->n;
		memcpy(w->block + w->n, p, k);
		w->n += k;
		p = (const char *)p + k;
		n -= k;
		if (w->n == BLOCK)
			flush(w);
	}
}

static uint64_t round8(uint64_t at)
{
	return (at + 7) & ~(uint64_t)7;
}

static void pad(struct writer *w)
{
	static const char zero[8];
	put(w, zero, (size_t)(round8(w->at) - w->at));
}

static uint64_t words_bytes(const struct tg_column *c)
{
	uint64_t n = 0;
	for (uint32_t i = 0; i < c->nwords; i++)
		n += c->words[i].n;
	return n;
}

/* Gives every part its place; the parts are written in this order. r NULL: only how large it is. */
static void lay_out(const struct tg_frame *f, struct head *h, struct record *r)
{
	uint64_t at = sizeof *h + f->ncolumns * (uint64_t)sizeof *r;
	*h = (struct head){ .magic = MAGIC, .version = VERSION, .ncolumns = f->ncolumns, .rows = f->rows };
	for (unsigned i = 0; i < f->ncolumns; i++) {
		const struct tg_column *c = &f->columns[i];
		struct record one = { .name = at, .namelen = strlen(c->name), .nulls = c->nulls, .type = (uint16_t)c->type, .integers = c->integers };
		at = round8(at + one.namelen + 1);
		if (c->type == TG_COLUMN_NUMBER) {
			one.cells = at;
			at += f->rows * sizeof *c->number;
		} else if (c->type == TG_COLUMN_TEXT) {
			one.nwords = c->nwords;
			one.cells = at;
			one.wordends = at = round8(at + f->rows * sizeof *c->word);
			one.words = at += c->nwords * (uint64_t)sizeof(uint64_t);
			at = round8(at + words_bytes(c));
		}
		if (r)
			r[i] = one;
	}
	if (f->ends) {
		h->ends = at;
		h->text = at += f->rows * sizeof *f->ends;
		h->textlen = f->rows ? f->ends[f->rows - 1] : 0;
		at = round8(at + h->textlen);
	}
	h->size = at + DIGEST;
}

uint64_t tg_frame_bytes(const struct tg_frame *f)
{
	struct head h;
	lay_out(f, &h, NULL);
	return h.size;
}

static void put_column(struct writer *w, const struct tg_column *c, uint64_t rows)
{
	put(w, c->name, strlen(c->name) + 1);
	pad(w);
	if (c->type == TG_COLUMN_NUMBER)
		put(w, c->number, (size_t)rows * sizeof *c->number);
	if (c->type != TG_COLUMN_TEXT)
		return;
	put(w, c->word, (size_t)rows * sizeof *c->word);
	pad(w);
	uint64_t end = 0;
	for (uint32_t i = 0; i < c->nwords; i++) {
		end += c->words[i].n;
		put(w, &end, sizeof end);
	}
	for (uint32_t i = 0; i < c->nwords; i++)
		put(w, c->words[i].p, c->words[i].n);
	pad(w);
}

static void put_frame(struct writer *w, const struct tg_frame *f, const struct head *h, const struct record *r)
{
	put(w, h, sizeof *h);
	put(w, r, f->ncolumns * sizeof *r);
	for (unsigned i = 0; i < f->ncolumns; i++)
		put_column(w, &f->columns[i], f->rows);
	if (f->ends) {
		put(w, f->ends, (size_t)f->rows * sizeof *f->ends);
		put(w, f->text, (size_t)h->textlen);
		pad(w);
	}
	flush(w);
	unsigned char digest[DIGEST];
	crypto_generichash_blake2b_final(&w->digest, digest, DIGEST);
	write_out(w, digest, DIGEST);
}

static bool plain_name(const char *name)
{
	return *name && *name != '.' && !strchr(name, '/');
}

static bool write_file(const struct tg_frame *f, struct writer *w, struct record *r, int folder, const char *name)
{
	char part[NAME_MAX + 1];
	uint64_t random;
	if (getrandom(&random, sizeof random, 0) != sizeof random)
		return false;
	int n = snprintf(part, sizeof part, "%s.%016llx.part", name, (unsigned long long)random);
	if (n < 0 || (size_t)n >= sizeof part) {
		errno = ENAMETOOLONG;
		return false;
	}
	w->fd = openat(folder, part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	if (w->fd < 0)
		return false;
	struct head h;
	lay_out(f, &h, r);
	put_frame(w, f, &h, r);
	if (close(w->fd) != 0)
		fail(w, errno);
	if (!w->failed && renameat(folder, part, folder, name) != 0)
		fail(w, errno);
	if (w->failed)
		unlinkat(folder, part, 0);
	errno = w->error;
	return !w->failed;
}

bool tg_frame_write(const struct tg_frame *f, int folder, const char *name, struct tg_err *err)
{
	struct writer *w = aligned_alloc(_Alignof(struct writer), sizeof *w);
	struct record *r = calloc(f->ncolumns ? f->ncolumns : 1, sizeof *r);
	bool ok = false;
	errno = plain_name(name) ? ENOMEM : EINVAL;
	if (w && r && plain_name(name)) {
		w->failed = false;
		w->error = 0;
		w->at = w->n = 0;
		crypto_generichash_blake2b_init(&w->digest, NULL, 0, DIGEST);
		ok = write_file(f, w, r, folder, name);
	}
	int e = errno;
	if (!ok)
		tg_err_set(err, "The table could not be written to the spool: %s.", strerror(e));
	free(w);
	free(r);
	errno = e;
	return ok;
}

/* ---- reading ---- */

struct mapped {
	struct tg_frame_owner owner; /* first: what the frame points to */
	struct tg_frame frame;
	char *map;
	size_t size;
	struct tg_slice **words;     /* [ncolumns] */
};

static void mapped_free(struct tg_frame *f)
{
	struct mapped *m = (struct mapped *)(void *)f->owner;
	for (unsigned i = 0; m->words && i < m->frame.ncolumns; i++)
		free(m->words[i]);
	free(m->words);
	free(m->frame.columns);
	if (m->map)
		munmap(m->map, m->size);
	free(m);
}

/* n things of a size each at an offset that is a multiple of align, within the file and behind its head; NULL: they are not. */
static char *part_at(const struct mapped *m, uint64_t at, uint64_t n, size_t each, size_t align)
{
	uint64_t end = m->size - DIGEST;
	if (at < sizeof(struct head) || at > end || at % align || n > (end - at) / each)
		return NULL;
	return m->map + at;
}

static const char *read_words(struct mapped *m, struct tg_column *c, const struct record *r, struct tg_slice **kept)
{
	const uint64_t *ends = (const uint64_t *)(const void *)part_at(m, r->wordends, r->nwords, sizeof *ends, 8);
	if (!ends || r->nwords > TG_FRAME_WORDS_MAX)
		return "its words are out of place";
	const char *text = part_at(m, r->words, r->nwords ? ends[r->nwords - 1] : 0, 1, 1);
	struct tg_slice *words = calloc(r->nwords ? r->nwords : 1, sizeof *words);
	if (!words)
		return "there is no memory";
	*kept = words;
	uint64_t from = 0;
	for (uint32_t i = 0; text && i < r->nwords; i++) {
		if (ends[i] < from || ends[i] - from > TG_FRAME_TEXT_MAX || ends[i] > ends[r->nwords - 1])
			return "its words are out of place";
		words[i] = (struct tg_slice){ text + from, (size_t)(ends[i] - from) };
		if (!tg_utf8_valid(words[i].p, words[i].n))
			return "a word is no UTF-8";
		from = ends[i];
	}
	c->words = words;
	c->nwords = r->nwords;
	return text ? NULL : "its words are out of place";
}

static const char *read_cells(struct mapped *m, struct tg_column *c, const struct record *r)
{
	uint64_t rows = m->frame.rows, nulls = 0;
	if (c->type == TG_COLUMN_NUMBER) {
		c->number = (double *)(void *)part_at(m, r->cells, rows, sizeof *c->number, 8);
		if (!c->number)
			return "its cells are out of place";
		for (uint64_t i = 0; i < rows; i++) {
			if (isinf(c->number[i]))
				return "a cell is infinite";
			nulls += isnan(c->number[i]) ? 1 : 0;
		}
	} else if (c->type == TG_COLUMN_TEXT) {
		c->word = (uint32_t *)(void *)part_at(m, r->cells, rows, sizeof *c->word, 8);
		if (!c->word)
			return "its cells are out of place";
		for (uint64_t i = 0; i < rows; i++) {
			if (c->word[i] >= c->nwords && c->word[i] != TG_FRAME_NO_WORD)
				return "a cell is no word of its column";
			nulls += c->word[i] == TG_FRAME_NO_WORD;
		}
	} else {
		nulls = rows;
	}
	return nulls == c->nulls ? NULL : "its nulls were counted otherwise";
}

static const char *read_column(struct mapped *m, unsigned i, const struct record *r)
{
	struct tg_column *c = &m->frame.columns[i];
	const char *name = r->namelen && r->namelen <= TG_FRAME_NAME_MAX ? part_at(m, r->name, r->namelen + 1, 1, 1) : NULL;
	if (!name || memchr(name, 0, r->namelen + 1) != name + r->namelen || !tg_utf8_valid(name, r->namelen))
		return "a name is out of place";
	if (r->type > TG_COLUMN_TEXT || r->integers > 1)
		return "a column is of no known type";
	*c = (struct tg_column){ .name = name, .type = r->type, .integers = r->integers, .nulls = r->nulls };
	const char *fault = c->type == TG_COLUMN_TEXT ? read_words(m, c, r, &m->words[i]) : NULL;
	return fault ? fault : read_cells(m, c, r);
}

static int by_name(const void *a, const void *b)
{
	const struct tg_column *const *x = a, *const *y = b;
	return strcmp((*x)->name, (*y)->name);
}

static const char *names_differ(const struct tg_frame *f)
{
	const struct tg_column **c = calloc(f->ncolumns ? f->ncolumns : 1, sizeof *c);
	const char *fault = c ? NULL : "there is no memory";
	for (unsigned i = 0; c && i < f->ncolumns; i++)
		c[i] = &f->columns[i];
	if (c)
		qsort(c, f->ncolumns, sizeof *c, by_name);
	for (unsigned i = 1; c && i < f->ncolumns; i++)
		if (strcmp(c[i]->name, c[i - 1]->name) == 0)
			fault = "two columns have one name";
	free(c);
	return fault;
}

static const char *read_lines(struct mapped *m, const struct head *h)
{
	if (!h->ends)
		return NULL;
	struct tg_frame *f = &m->frame;
	f->ends = (const uint64_t *)(const void *)part_at(m, h->ends, f->rows, sizeof *f->ends, 8);
	f->text = part_at(m, h->text, h->textlen, 1, 1);
	if (!f->ends || !f->text)
		return "its lines are out of place";
	uint64_t from = 0;
	for (uint64_t i = 0; i < f->rows; i++) {
		if (f->ends[i] < from || f->ends[i] > h->textlen)
			return "its lines are out of place";
		from = f->ends[i];
	}
	return NULL;
}

static const char *read_frame(struct mapped *m)
{
	struct head h;
	unsigned char digest[DIGEST];
	if (m->size < sizeof h + DIGEST)
		return "it is too short";
	memcpy(&h, m->map, sizeof h);
	if (memcmp(h.magic, MAGIC, sizeof h.magic) != 0 || h.version != VERSION)
		return "it is none, or of another version";
	if (h.size != m->size)
		return "it is not as long as it was";
	crypto_generichash_blake2b(digest, DIGEST, (const unsigned char *)m->map, m->size - DIGEST, NULL, 0);
	if (memcmp(digest, m->map + m->size - DIGEST, DIGEST) != 0)
		return "it was changed";
	const struct record *r = (const struct record *)(const void *)part_at(m, sizeof h, h.ncolumns, sizeof *r, 8);
	if (!r || h.ncolumns > TG_FRAME_COLUMNS_MAX || h.rows > ROWS_MAX)
		return "its columns are out of place";
	m->frame.rows = h.rows;
	m->frame.columns = calloc(h.ncolumns ? h.ncolumns : 1, sizeof *m->frame.columns);
	m->words = calloc(h.ncolumns ? h.ncolumns : 1, sizeof *m->words);
	if (!m->frame.columns || !m->words)
		return "there is no memory";
	m->frame.ncolumns = h.ncolumns;
	const char *fault = NULL;
	for (unsigned i = 0; !fault && i < h.ncolumns; i++)
		fault = read_column(m, i, &r[i]);
	fault = fault ? fault : names_differ(&m->frame);
	return fault ? fault : read_lines(m, &h);
}

/* Copy on write: who works in a column in place changes nothing but his own. */
static const char *map_file(struct mapped *m, int folder, const char *name)
{
	struct stat st;
	int fd = plain_name(name) ? openat(folder, name, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK) : -1;
	if (fd < 0)
		return plain_name(name) && errno != ENOENT ? strerror(errno) : "there is none";
	const char *fault = NULL;
	if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode))
		fault = "it is no file";
	else if (st.st_size < (off_t)(sizeof(struct head) + DIGEST))
		fault = "it is too short";
	if (!fault) {
		m->size = (size_t)st.st_size;
		void *p = mmap(NULL, m->size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
		m->map = p == MAP_FAILED ? NULL : p;
		fault = m->map ? NULL : strerror(errno);
	}
	close(fd);
	return fault;
}

struct tg_frame *tg_frame_read(int folder, const char *name, struct tg_err *err)
{
	struct mapped *m = calloc(1, sizeof *m);
	if (!m) {
		tg_err_set(err, "The table could not be read from the spool: there is no memory.");
		return NULL;
	}
	m->owner.free = mapped_free;
	m->frame.owner = &m->owner;
	const char *fault = map_file(m, folder, name);
	fault = fault ? fault : read_frame(m);
	if (!fault)
		return &m->frame;
	tg_err_set(err, "The table could not be read from the spool: %s.", fault);
	mapped_free(&m->frame);
	return NULL;
}
