/*
 * Bodies read by a table: of a login, of a new key, of a user. Beyond not crashing: what is accepted is within the table's bounds, what is refused says why, within its room,
 * and never quotes a password.
 */
#include "api/fields.h"
#include "base/terminal.h"
#include "policy/password.h"
#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

struct all {
	struct tg_slice name, password;
	uint32_t perms;
	int64_t days;
	bool disabled;
	struct tg_key_limits limits;
};
static const struct tg_field table[] = {
	{ "username", TG_FIELD_NAME, true, 1, 64, offsetof(struct all, name) },
	{ "password", TG_FIELD_PASSWORD, true, 0, 0, offsetof(struct all, password) },
	{ "permissions", TG_FIELD_PERMS, false, 0, 0, offsetof(struct all, perms) },
	{ "expires_in_days", TG_FIELD_INT, false, 1, 36500, offsetof(struct all, days) },
	{ "disabled", TG_FIELD_BOOL, false, 0, 0, offsetof(struct all, disabled) },
	{ "limits", TG_FIELD_LIMITS, false, 0, 0, offsetof(struct all, limits) },
};

static void must(bool ok)
{
	if (!ok)
		abort();
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct all in = { 0 };
	struct tg_fields f;
	struct tg_fields_fault fault = { "", "" };
	if (tg_fields_parse((struct tg_slice){ (const char *)data, size }, table, 6, &in, &f, &fault)) {
		must((f.given & 3) == 3 && in.name.n >= 1 && in.name.n <= 256 && tg_terminal_fit(in.name) && !tg_password_fault(in.password));
		must(!(in.perms & ~TG_PERM_ALL) && (!(f.given & 8) || (in.days >= 1 && in.days <= 36500)));
		tg_fields_free(&f);
		return 0;
	}
	must(!f.tree && fault.why[0] && strlen(fault.why) < sizeof fault.why && strlen(fault.field) < sizeof fault.field);
	must((fault.field[0] && strcmp(fault.field, "password") != 0) || !strstr(fault.why, "hunter2")); /* elsewhere a name may be quoted */
	return 0;
}
