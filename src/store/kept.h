#pragma once
/*
 * Answers that were made of the database and hold as long as nobody has committed anything: lists and records that are asked for again and again, as a job is until it has ended, without SQL and without a change of threads. That it
 * still holds is seen by the database's mark (tg_db_mark), at each question: nobody is shown what was, whichever process changed it. ADR 0025.
 *
 * Bounds: TG_KEPT_MOST answers of TG_KEPT_BYTES each. Any thread; nothing here waits for a disk.
 */
#include "base/buf.h"
#include "base/id.h"
#include "store/store.h"

#define TG_KEPT_MOST 64
#define TG_KEPT_BYTES 16384

struct tg_kept; /* opaque */
struct tg_kept_key {
	const void *what;          /* which question: an address that stays */
	char id[TG_ULID_LEN + 1];  /* of which record; "": of none */
	uint64_t page, size;       /* page 0: all */
};
struct tg_kept *tg_kept_new(void); /* NULL: out of memory */
void tg_kept_free(struct tg_kept *k);
/* True: *found and, behind what is in it, *answer are what the database would say now. */
bool tg_kept_get(struct tg_kept *k, struct tg_store *s, const struct tg_kept_key *key, bool *found, struct tg_buf *answer);
/* mark: taken before the database was asked, so that a commit in between spoils what is kept and not what is answered. Longer answers are not kept. */
void tg_kept_put(struct tg_kept *k, const struct tg_db_mark *mark, const struct tg_kept_key *key, bool found, struct tg_slice answer);
