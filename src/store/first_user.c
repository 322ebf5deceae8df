/* The first user (see first_user.h). Two gates that start at once may both try: the name is unique, one of them finds it taken. */
#include "store/first_user.h"
#include "base/clock.h"
#include "policy/password.h"
#include "store/identity.h"

struct first {
	char hash[TG_PASSWORD_HASH];
};

static enum tg_db_result insert(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct first *f = ctx;
	char id[TG_STORED_ID_LEN + 12] = "";
	int64_t now = (int64_t)(tg_wall_us() / 1000000u);
	if (!tg_user_id_make(id)) {
		tg_err_set(err, "the system gives no random numbers");
		return TG_DB_AWAY;
	}
	struct tg_user_row u = { .id = id, .name = "admin", .password = f->hash, .perms = TG_PERM_ALL, .limits = "{}", .created_s = now, .updated_s = now };
	return tg_users_insert(db, &u, err);
}

bool tg_first_user(struct tg_store *s, struct tg_slice password, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err)
{
	uint64_t generation;
	struct tg_identity *d = tg_store_identity(s, &generation);
	bool there = tg_identity_user_named(d, TG_S("admin")) != NULL, known = tg_identity_named(d);
	tg_identity_put(d);
	if (there || !known)
		return true;
	struct first f;
	const char *fault = tg_password_fault(password);
	if (!fault && !tg_password_hash(password, f.hash))
		fault = "could not be hashed: no memory";
	if (fault) {
		tg_err_set(err, "INFERNO_ADMIN_PASSWORD %s", fault);
		return false;
	}
	struct tg_err why;
	enum tg_db_result r = tg_store_write(s, insert, &f, &generation, &why);
	explicit_bzero(&f, sizeof f);
	if (r != TG_DB_OK && r != TG_DB_CONFLICT) {
		char text[640];
		snprintf(text, sizeof text, "the user admin could not be made: %s", why.text);
		warn(ctx, text);
	}
	return true;
}
