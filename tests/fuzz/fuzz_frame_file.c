/*
 * Files of the spool. A checksum keeps a fuzzer out, so unless the first byte is odd it is put right, and the magic and the size with it: what is left are the checks of every offset. What is read
 * is whole: each place of it can be looked at, and written again it is the same table.
 */
#include "engine/frame.h"
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n);

#define CHECK(x) \
	do { \
		if (!(x)) { \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #x); \
			abort(); \
		} \
	} while (0)

static char shm[] = "/dev/shm/tg-fuzz-frame-XXXXXX", tmp[] = "/tmp/tg-fuzz-frame-XXXXXX", *name;
static int folder = -1;

static void clean(void)
{
	unlinkat(folder, "a.frame", 0);
	unlinkat(folder, "b.frame", 0);
	rmdir(name);
}

static void begin(void)
{
	if (folder >= 0)
		return;
	name = mkdtemp(shm); /* in memory where that can be: each run syncs a file */
	if (!name)
		name = mkdtemp(tmp);
	CHECK(name);
	folder = open(name, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	CHECK(folder >= 0);
	atexit(clean);
}

static void look_at(const struct tg_frame *f)
{
	for (uint64_t r = 0; f->ends && r < f->rows; r++) {
		struct tg_slice cell;
		for (size_t at = 0; tg_frame_next_cell(tg_frame_line(f, r), &at, &cell);)
			CHECK(cell.p >= f->text);
	}
	for (unsigned i = 0; i < f->ncolumns; i++)
		CHECK(tg_frame_column(f, f->columns[i].name) == &f->columns[i]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t n)
{
	struct tg_err err = { "" };
	begin();
	if (!n)
		return 0;
	bool right = !(data[0] & 1) && n > 130;
	size_t len = n - 1;
	unsigned char *b = malloc(len ? len : 1);
	memcpy(b, data + 1, len);
	if (right) {
		uint64_t size = len;
		memcpy(b, "TGFRAME\0\1\0\0\0", 12);
		memcpy(b + 24, &size, sizeof size);
		CHECK(EVP_Digest(b, len - 64, b + len - 64, NULL, EVP_blake2b512(), NULL) == 1);
	}
	int fd = openat(folder, "a.frame", O_WRONLY | O_CREAT | O_TRUNC, 0600);
	CHECK(fd >= 0 && write(fd, b, len) == (ssize_t)len);
	close(fd);
	free(b);
	struct tg_frame *f = tg_frame_read(folder, "a.frame", &err), *g;
	if (!f) {
		CHECK(err.text[0]);
		return 0;
	}
	look_at(f);
	char one[65], two[65];
	CHECK(tg_frame_hash(f, one));
	CHECK(tg_frame_write(f, folder, "b.frame", &err));
	g = tg_frame_read(folder, "b.frame", &err);
	CHECK(g && tg_frame_hash(g, two) && strcmp(one, two) == 0);
	look_at(g);
	tg_frame_free(f);
	tg_frame_free(g);
	return 0;
}
