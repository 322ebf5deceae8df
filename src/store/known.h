#pragma once
/*
 * What the database last said, in a file beside it (PATH.known, 0600): for a start in a time in which the database cannot be read. Digests, ids, permissions, limits; no key and no password hash, so logins wait for the
 * database while keys and tokens go on. That it is there, even with nothing that can be read, says that there was a database here.
 *
 * A change adds some lines at its end; they are folded into a new file when they have become many (ADR 0023). Several processes may have one: each change is written once, by whoever comes first.
 */
#include "policy/identity.h"
#include "store/identity.h"
#include "store/uses.h"

struct tg_known; /* opaque; but for tg_known_due its owner serializes its use */
struct tg_known *tg_known_new(const char *database); /* its path; NULL: no memory */
void tg_known_free(struct tg_known *k);
/* A number that goes with the secret under which the digests are (store/store.c): a file of another one is no knowledge. Before all that follows. */
void tg_known_under(struct tg_known *k, uint32_t check);
const char *tg_known_path(const struct tg_known *k);
bool tg_known_there(const struct tg_known *k);

/* NULL: nothing is known: no file, not whole, cut off, of another secret. uses (may be NULL): gives each its place. */
struct tg_identity *tg_known_read(const struct tg_known *k, struct tg_uses *uses);
/* The file has somebody to begin with and ends well; *end: what it stands for. Looks at its first and last line only. */
bool tg_known_at(struct tg_known *k, struct tg_list_end *end);

/*
 * `changes` led from `from` to `to`, which `d` stands for. Durable when it returns. Others may have written it already. What does not follow upon what is there empties the file first, so that nothing is known rather than
 * something old; then, and when the lines have become many, tg_known_due. False: the same, and err says why.
 */
bool tg_known_append(struct tg_known *k, const struct tg_identity *d, const struct tg_changes *changes, const struct tg_list_end *from, const struct tg_list_end *to, struct tg_err *err);
/* Everybody, in the place of whatever is there. As long as writing them all takes. */
bool tg_known_replace(struct tg_known *k, const struct tg_identity *d, const struct tg_list_end *end, struct tg_err *err);
void tg_known_forget(struct tg_known *k); /* empties it: something else is true now, and it is not known what */

/* Whether it should be folded; any thread. */
bool tg_known_due(const struct tg_known *k);
/*
 * The same as replace in three steps, of which the long one needs neither k nor a lock, while changes are appended. begin: false: others are ahead of `end`, or it cannot be made; it becomes due again later.
 * fill: with what `end` stands for. end: false: not done, err says why; an empty err: another process did it.
 */
struct tg_known_fold {
	char *path, *temp;
	uint32_t check;
	int fd;
	unsigned long long dev, ino, from; /* the old file; where what it does not stand for begins */
	struct tg_list_end end;
	uint64_t base;
	bool ok;
};
bool tg_known_fold_begin(struct tg_known *k, const struct tg_list_end *end, struct tg_known_fold *f);
void tg_known_fold_fill(struct tg_known_fold *f, const struct tg_identity *d);
bool tg_known_fold_end(struct tg_known *k, struct tg_known_fold *f, struct tg_err *err);
