/* Sentences about a body (see fault.h). Names are the only text of the caller's in them: cut, and without what could end a line. */
#include "engine/fault.h"
#include "base/utf8.h"

bool tg_fault(struct tg_intake_fault *f, const char *field, const char *why, ...)
{
	*f = (struct tg_intake_fault){ 0 };
	snprintf(f->field, sizeof f->field, "%s", field);
	va_list ap;
	va_start(ap, why);
	vsnprintf(f->why, sizeof f->why, why, ap);
	va_end(ap);
	return false;
}

bool tg_fault_memory(struct tg_intake_fault *f)
{
	tg_fault(f, "", "finds no memory");
	f->memory = true;
	return false;
}

const char *tg_name_cut(struct tg_slice name, char out[TG_NAME_CUT])
{
	size_t n = 0, k;
	for (; n < name.n && n <= 60 && (k = tg_utf8_len(name.p + n, name.n - n)); n += k) {
		memcpy(out + n, name.p + n, k);
		if (k == 1 && ((unsigned char)out[n] < 0x20 || out[n] == 0x7f))
			out[n] = '?';
	}
	snprintf(out + n, TG_NAME_CUT - n, "%s", n < name.n ? "..." : "");
	return out;
}
