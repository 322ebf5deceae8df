/* Answers of an object store, and names: whatever comes, elements stay within their bounds and are terminated, and no id that is taken for one could be anything but a file's name. */
#include "store/model_store.h"
#include "store/s3.h"
#include <assert.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char *const names[] = { "Key", "IsTruncated", "NextContinuationToken", "UploadId", "ETag", "Code" };
	struct tg_slice s = { (const char *)data, size };
	char out[80];
	for (size_t i = 0; i < sizeof names / sizeof *names; i++) {
		size_t cap = i % 2 ? sizeof out : 5, before = 0;
		for (size_t at = 0; tg_s3_element(s, names[i], &at, out, cap); before = at) {
			assert(at > before && at <= size);
			assert(memchr(out, 0, cap));
		}
	}
	if (tg_model_id_ok(s)) {
		assert(size && size <= TG_MODEL_ID_MAX);
		assert(!memchr(data, '/', size) && !memchr(data, '.', size) && !memchr(data, 0, size) && !memchr(data, '\\', size));
	}
	return 0;
}
