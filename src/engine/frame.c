/* Frames in memory: what is asked of one wherever it came from. Its columns are plain arrays, so that who learns from them needs nothing of this file. */
#include "engine/frame.h"
#include <openssl/evp.h>

const struct tg_column *tg_frame_column(const struct tg_frame *f, const char *name)
{
	for (unsigned i = 0; i < f->ncolumns; i++)
		if (strcmp(f->columns[i].name, name) == 0)
			return &f->columns[i];
	return NULL;
}

void tg_frame_free(struct tg_frame *f)
{
	if (f && f->owner)
		f->owner->free(f);
}

bool tg_frame_next_cell(struct tg_slice line, size_t *at, struct tg_slice *cell)
{
	size_t i = *at;
	bool quoted = false;
	if (i >= line.n)
		return false;
	for (; i < line.n && (quoted || line.p[i] != ','); i++) {
		if (line.p[i] == '"')
			quoted = !quoted;
		else if (line.p[i] == '\\')
			i++;
	}
	if (i > line.n)
		i = line.n;
	*cell = (struct tg_slice){ line.p + *at, i - *at };
	*at = i + 1;
	return true;
}

static bool add_u64(EVP_MD_CTX *c, uint64_t v)
{
	unsigned char t[8];
	for (int i = 0; i < 8; i++)
		t[i] = (unsigned char)(v >> 8 * i);
	return EVP_DigestUpdate(c, t, sizeof t) == 1;
}

static bool add_bytes(EVP_MD_CTX *c, const void *p, size_t n)
{
	return add_u64(c, n) && EVP_DigestUpdate(c, p, n) == 1;
}

/* Every length stands in front of what it measures, so no two frames make the same bytes. Words are numbered in the order of their first use, which the cells alone decide. */
static bool add_column(EVP_MD_CTX *c, const struct tg_column *col, uint64_t rows)
{
	bool ok = add_bytes(c, col->name, strlen(col->name)) && add_u64(c, col->type);
	if (col->type == TG_COLUMN_NUMBER)
		return ok && EVP_DigestUpdate(c, col->number, (size_t)rows * sizeof *col->number) == 1;
	if (col->type == TG_COLUMN_EMPTY)
		return ok;
	ok = ok && add_u64(c, col->nwords);
	for (uint32_t i = 0; ok && i < col->nwords; i++)
		ok = add_bytes(c, col->words[i].p, col->words[i].n);
	return ok && EVP_DigestUpdate(c, col->word, (size_t)rows * sizeof *col->word) == 1;
}

bool tg_frame_hash(const struct tg_frame *f, char hex[65])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char d[EVP_MAX_MD_SIZE];
	EVP_MD_CTX *c = EVP_MD_CTX_new();
	bool ok = c && EVP_DigestInit_ex(c, EVP_sha256(), NULL) == 1 && add_u64(c, f->rows) && add_u64(c, f->ncolumns);
	for (unsigned i = 0; ok && i < f->ncolumns; i++)
		ok = add_column(c, &f->columns[i], f->rows);
	ok = ok && EVP_DigestFinal_ex(c, d, NULL) == 1;
	EVP_MD_CTX_free(c);
	for (int i = 0; ok && i < 32; i++) {
		hex[2 * i] = digits[d[i] >> 4];
		hex[2 * i + 1] = digits[d[i] & 15];
	}
	hex[ok ? 64 : 0] = 0;
	return ok;
}
