/* Jobs that wait (see waiting.h). The database is not made for this: a gate that nobody asks for one has none. */
#include "gate/waiting.h"
#include "store/jobs.h"

const char *const tg_waiting_kinds[TG_WAITING_KINDS] = { "train", "predict", "credit_train" };

static enum tg_db_result look(struct tg_db *db, void *ctx, struct tg_err *err)
{
	struct tg_waiting *w = ctx;
	enum tg_db_result r = TG_DB_OK;
	for (unsigned i = 0; i < TG_WAITING_KINDS && r == TG_DB_OK; i++) {
		uint64_t n;
		int64_t oldest;
		r = tg_job_rows_waiting(db, tg_waiting_kinds[i], &n, &oldest, err);
		if (r == TG_DB_OK) {
			atomic_store(&w->kind[i].n, n);
			atomic_store(&w->kind[i].oldest_us, oldest);
		}
	}
	return r;
}

void tg_waiting_look(struct tg_waiting *w, struct tg_store *s)
{
	struct tg_err ignored;
	if (tg_store_there(s))
		(void)tg_store_read(s, look, w, &ignored);
}
