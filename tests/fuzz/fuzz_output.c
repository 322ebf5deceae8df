/*
 * What started workers write, in pieces as they come. Beyond not crashing: the lines kept are text (valid UTF-8, nothing that acts on a terminal), within their bounds, and do not
 * depend on where the pieces were cut; the worker's own key is in none of them.
 */
#include "base/terminal.h"
#include "base/utf8.h"
#include "pool/output.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static const char own[] = "open sesame";

static void must(bool ok)
{
	if (!ok)
		abort();
}

static char *lines_of(const char *p, size_t n, size_t piece, size_t *len)
{
	struct tg_output o;
	struct tg_buf tail;
	must(tg_output_init(&o, "m", "m/0"));
	o.secret = (struct tg_slice){ own, sizeof own - 1 };
	for (size_t at = 0; at < n; at += piece)
		(void)tg_output_feed(&o, 7, p + at, n - at < piece ? n - at : piece, 1000);
	tg_output_end(&o, 7);
	tg_buf_init(&tail, TG_OUTPUT_TAIL_MAX + 16);
	tg_output_tail(&o, 1000000, &tail);
	tg_output_free(&o);
	must(!tail.failed);
	*len = tail.len;
	return tail.p;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static bool opened;
	struct tg_err err;
	if (!opened)
		must(tg_output_open("/dev/null", 0, 1, &err));
	opened = true;
	if (size < 1)
		return 0;
	size_t n, m, piece = data[0] ? data[0] : 256;
	char *one = lines_of((const char *)data + 1, size - 1, size, &n), *other = lines_of((const char *)data + 1, size - 1, piece, &m);
	must(n == m && (!n || memcmp(one, other, n) == 0));
	must(n <= TG_OUTPUT_TAIL_MAX && tg_utf8_valid(one, n) && !memmem(one ? one : "", n, own, sizeof own - 1));
	for (size_t i = 0, start = 0; i < n; i++) {
		unsigned char c = (unsigned char)one[i];
		must(c == '\n' || c == '\t' || (c >= 0x20 && c != 0x7f));
		if (c == '\n') {
			must(i - start <= TG_OUTPUT_LINE_MAX + 3);
			start = i + 1;
		}
	}
	free(one);
	free(other);
	return 0;
}
