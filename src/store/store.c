/*
 * The process's database: who opens it, who may use it now, and what is known while it is away.
 *
 * Invariants: `db` is touched under `lock` only, which may be held as long as a disk or another program's transaction takes; `identity` and `generation` have a lock of their own that is held for
 * moments, since the control thread asks for them. They change together, under both, after the commit that made them and after the file of what is known was written,
 * so that whoever sees a generation sees what it stands for, also after a crash. A load that fails leaves the old identity in force: keys do not stop being keys because a disk does.
 *
 * Everybody is read when the database is opened. After that only what changed is, and laid over what was (load.c); what is laid over is folded in when nobody waits for it (tg_store_tidy), without the lock. What is replaced
 * then may be hundreds of MiB, and the last to let go of it might be a loop: it is kept until nobody else has it, and freed here.
 */
#include "store/store.h"
#include "base/clock.h"
#include "base/log.h"
#include "base/secretfile.h"
#include "store/folder.h"
#include "store/identity.h"
#include "store/known.h"
#include "store/usage.h"
#include <errno.h>
#include <sodium.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>
#include <uv.h>

#define AGAIN_US 1000000u /* between tries to open a database that is away */
#define FOLD_AGAIN_US 60000000u
#define FOLD_KEYS 1024    /* and a sixty-fourth of all keys: laid over, each change copies them */
#define QUIET_US 10000000u /* without changes, and half a millisecond a key, which folding takes about a five-hundredth of */
#define QUIET_KEY_US 500u

struct tg_store {
	uv_mutex_t lock, face;    /* face: identity and generation */
	char *url;
	struct tg_known *known;
	struct tg_db *db;
	int64_t seen;             /* PRAGMA data_version: moves when others commit */
	struct tg_list_end end;   /* up to where the database's list of changes is in `identity` */
	uint64_t tried_us;
	int folder;               /* held (store/folder.h); -1: not yet */
	uint32_t secret;          /* a number that goes with the secret of the digests */
	const char *secret_from;  /* for people */
	bool fresh;               /* there never was a database here: it is made by the first who needs one */
	bool made;                /* by us, at the last try: there is nobody in it */
	bool looks;               /* only for looking at: it is not made */
	struct tg_db *empty;      /* what is read while there is none; NULL: nobody has yet */
	bool lost;                /* it was away, and that was said */
	bool closed;              /* its secret was not to be had at the start: digests are under another key now */
	bool own_change;          /* the last commit's load failed: what is in force is older than the database */
	bool folding;
	struct tg_identity *retired; /* replaced by its folded self; NULL: none */
	_Atomic uint64_t fold_us; /* when folding is due, monotonic; 0: nothing is laid over */
	struct tg_uses *uses;
	uint64_t told_us, tell_us; /* when the database last heard of them; and how often it does */
	unsigned usage_days;
	bool untold;              /* said that it could not be told */
	struct tg_identity *identity;
	_Atomic uint64_t generation;
	_Atomic int state;
};

static const char *path_of(const char *url)
{
	return strncmp(url, "sqlite:", 7) == 0 ? url + 7 : url;
}

static int64_t now_s(void)
{
	return (int64_t)(tg_wall_us() / 1000000u);
}

/* The file, or the driver, may be gone or be another one: it is opened anew. */
static void lose(struct tg_store *s, const struct tg_err *err)
{
	if (atomic_exchange(&s->state, TG_STORE_AWAY) == TG_STORE_OK)
		tg_log(TG_LOG_F_ERROR, "store.away", "s:why", err->text, NULL);
	s->lost = true;
	tg_db_close(s->db);
	s->db = NULL;
	s->tried_us = tg_mono_us();
}

static uint64_t fold_due(const struct tg_identity *d)
{
	size_t over = tg_identity_laid_over(d), keys = tg_identity_keys(d);
	return !over ? 0 : tg_mono_us() + (over > FOLD_KEYS + keys / 64 ? 0 : QUIET_US + keys * QUIET_KEY_US);
}

/* Takes `fresh` over. Who replaces what is large sees to who frees it. */
static void put_in_force(struct tg_store *s, struct tg_identity *fresh, bool large)
{
	uv_mutex_lock(&s->face);
	struct tg_identity *old = s->identity;
	s->identity = fresh;
	atomic_fetch_add(&s->generation, 1);
	uv_mutex_unlock(&s->face);
	atomic_store(&s->fold_us, fold_due(fresh));
	if (large && !s->retired)
		s->retired = old;
	else
		tg_identity_put(old);
}

static void not_written(const struct tg_err *why)
{
	tg_log(TG_LOG_F_WARN, "store.known_not_written", "s:why", why->text, NULL);
}

/* After a load of everybody: the file says so already, mostly, or is ahead by what others changed since. */
static void keep_known(struct tg_store *s, const struct tg_identity *d, const struct tg_list_end *end)
{
	struct tg_list_end at;
	struct tg_err why;
	bool has = false;
	if (tg_known_at(s->known, &at) && at.seq >= end->seq && tg_identity_has(s->db, &at, &has, &why) == TG_DB_OK && has)
		return;
	if (!tg_known_replace(s->known, d, end, &why))
		not_written(&why);
}

static enum tg_db_result load(struct tg_store *s, struct tg_err *err)
{
	struct tg_identity *fresh;
	struct tg_list_end end;
	int64_t version = 0;
	enum tg_db_result r = tg_db_version(s->db, &version, err);
	if (r == TG_DB_OK)
		r = tg_identity_end(s->db, &end, err);
	if (r == TG_DB_OK)
		r = tg_identity_load(s->db, now_s(), s->uses, &fresh, err);
	if (r != TG_DB_OK)
		return r;
	keep_known(s, fresh, &end);
	s->seen = version;
	s->end = end;
	put_in_force(s, fresh, true);
	return TG_DB_OK;
}

/* After a commit of ours or of others. A commit that changed nobody makes no new generation, unless somebody waits for one (own_change). */
static enum tg_db_result catch_up(struct tg_store *s, struct tg_err *err)
{
	struct tg_identity *fresh = NULL;
	struct tg_list_end end = s->end;
	struct tg_changes changes = { 0 };
	struct tg_err why;
	int64_t version = 0;
	bool whole = false;
	enum tg_db_result r = tg_db_version(s->db, &version, err);
	if (r == TG_DB_OK)
		r = tg_identity_catch_up(s->db, now_s(), s->uses, s->identity, &end, &fresh, &changes, &whole, err);
	if (r == TG_DB_OK && whole)
		r = load(s, err);
	else if (r == TG_DB_OK) {
		if (fresh && !tg_known_append(s->known, fresh, &changes, &s->end, &end, &why))
			not_written(&why);
		s->seen = version;
		s->end = end;
		if (fresh || s->own_change)
			put_in_force(s, fresh ? fresh : tg_identity_get(s->identity), false);
	}
	free(changes.v);
	if (r == TG_DB_OK)
		s->own_change = false;
	return r;
}

static bool any_row(void *ctx, const struct tg_db_value *v, unsigned n)
{
	(void)v;
	*(bool *)ctx = n > 0;
	return false;
}

/* A database's keys are nobody's under another secret, and keys made under it would be nobody's later: it has the number of its own. One without keys takes ours, and one of an older program. */
static enum tg_db_result same_secret(struct tg_store *s, struct tg_err *err)
{
	uint32_t tag = 0;
	bool keys = false;
	struct tg_err later;
	enum tg_db_result r = tg_db_tag(s->db, &tag, err);
	if (r != TG_DB_OK || tag == s->secret)
		return r;
	r = tg_db_run(s->db, "SELECT 1 FROM api_key_secrets LIMIT 1", NULL, 0, any_row, &keys, NULL, err);
	if (r == TG_DB_OK && keys && tag) {
		tg_err_set(err, "%s: its keys are digests under another secret than that of %s: put the right one back", path_of(s->url), s->secret_from);
		return TG_DB_BROKEN;
	}
	if (r == TG_DB_OK)
		(void)tg_db_set_tag(s->db, s->secret, &later); /* if not now, then at the next start */
	return r;
}

static enum tg_db_result hold_folder(struct tg_store *s, struct tg_err *err)
{
	int fd = s->folder >= 0 ? s->folder : tg_folder_hold(path_of(s->url), false, err);
	s->folder = fd >= 0 ? fd : -1;
	return fd == -2 ? TG_DB_AWAY : TG_DB_OK;
}

/* Nobody has needed a database here yet. One that somebody else makes while we only look comes too late: its secret was not there. */
static bool is_none(const struct tg_store *s)
{
	return s->fresh && (s->looks || access(path_of(s->url), F_OK) != 0);
}

/* Who only reads finds one with nothing in it, and makes none. */
static struct tg_db *nothing(struct tg_store *s, struct tg_err *err)
{
	if (!s->empty)
		s->empty = tg_db_empty(err);
	return s->empty;
}

/* Who is known, by the file, where the database does not tell. Where that cannot be had, nobody may be told that he is unknown. NULL: no memory. */
static struct tg_identity *as_last_known(struct tg_store *s)
{
	struct tg_identity *d = tg_known_read(s->known, s->uses);
	return d ? d : tg_identity_blind_new();
}

/* There was none, and now there is one that cannot be had: it may hold anybody. */
static void appeared_away(struct tg_store *s, const struct tg_err *err)
{
	struct tg_identity *d = s->made ? NULL : as_last_known(s);
	if (!d && !s->made)
		return; /* looked at again in a moment */
	s->fresh = false;
	if (d)
		put_in_force(s, d, false);
	lose(s, err);
}

static enum tg_db_result reach_now(struct tg_store *s, struct tg_err *err)
{
	if (s->db)
		return TG_DB_OK;
	if (s->closed) {
		tg_err_set(err, "there was no database and none could be made when the gate started");
		return TG_DB_AWAY;
	}
	if (s->tried_us && tg_mono_us() - s->tried_us < AGAIN_US) {
		tg_err_set(err, "the database was away a moment ago"); /* who waits in line need not each wait for it */
		return TG_DB_AWAY;
	}
	enum tg_db_result why = hold_folder(s, err);
	if (why != TG_DB_OK)
		return why;
	bool missing = false;
	s->db = tg_db_open(s->url, s->fresh, &missing, &why, err);
	s->tried_us = tg_mono_us();
	s->made = s->fresh && missing && access(path_of(s->url), F_OK) == 0;
	if (!s->db)
		return why;
	s->tried_us = 0;
	(void)hold_folder(s, err); /* it may have been made just now */
	why = same_secret(s, err);
	if (why == TG_DB_OK)
		why = load(s, err);
	if (why != TG_DB_OK) {
		lose(s, err);
		return why;
	}
	s->fresh = false;
	atomic_store(&s->state, TG_STORE_OK);
	if (s->lost)
		tg_log(TG_LOG_F_INFO, "store.back", NULL);
	s->lost = false;
	tg_db_close(s->empty);
	s->empty = NULL;
	return TG_DB_OK;
}

static enum tg_db_result reach(struct tg_store *s, struct tg_err *err)
{
	uint64_t before = s->tried_us;
	enum tg_db_result r = reach_now(s, err);
	if (r != TG_DB_OK && s->fresh && s->tried_us != before && access(path_of(s->url), F_OK) == 0)
		appeared_away(s, err);
	return r;
}

struct tg_identity *tg_store_identity(struct tg_store *s, uint64_t *generation)
{
	uv_mutex_lock(&s->face);
	struct tg_identity *d = tg_identity_get(s->identity);
	*generation = atomic_load(&s->generation);
	uv_mutex_unlock(&s->face);
	return d;
}

uint64_t tg_store_generation(struct tg_store *s)
{
	return atomic_load(&s->generation);
}

enum tg_store_state tg_store_state(const struct tg_store *s)
{
	return (enum tg_store_state)atomic_load(&s->state);
}

struct telling {
	struct tg_db *db;
	enum tg_db_result r;
	struct tg_err *err;
};

static bool tell_one(void *ctx, const struct tg_owed *o)
{
	struct telling *t = ctx;
	if (o->last_s)
		t->r = tg_keys_used(t->db, o->id, (int64_t)o->last_s, t->err);
	if (t->r == TG_DB_OK)
		t->r = tg_usage_add(t->db, o, t->err);
	return t->r == TG_DB_OK;
}

/* Of now, and of the days that are kept, the first. */
static uint32_t first_day(const struct tg_store *s)
{
	uint64_t today = (uint64_t)now_s() / 86400;
	return today >= s->usage_days ? (uint32_t)(today - s->usage_days + 1) : 0;
}

/* What was counted and when keys were used, in one transaction: paid in full or still owed. */
static enum tg_db_result tell_uses(struct tg_store *s, struct tg_err *err)
{
	s->told_us = tg_mono_us();
	if (s->closed || !tg_uses_gather(s->uses))
		return TG_DB_OK;
	struct telling t = { NULL, reach(s, err), err };
	if (t.r == TG_DB_OK && (t.r = tg_db_begin(s->db, err)) == TG_DB_OK) {
		t.db = s->db;
		tg_uses_each_owed(s->uses, tell_one, &t);
		if (t.r == TG_DB_OK && s->usage_days)
			t.r = tg_usage_forget(s->db, first_day(s), err);
		if (t.r == TG_DB_OK)
			t.r = tg_db_commit(s->db, err);
		else
			tg_db_rollback(s->db);
	}
	if (t.r == TG_DB_OK)
		tg_uses_paid(s->uses);
	else if (!s->untold)
		tg_log(TG_LOG_F_WARN, "store.usage_waits", "s:why", err->text, NULL);
	s->untold = t.r != TG_DB_OK;
	return t.r;
}

void tg_store_keep_usage(struct tg_store *s, unsigned days, unsigned flush_s)
{
	s->usage_days = days;
	s->tell_us = flush_s * 1000000ull;
}

static struct tg_use *place(void *ctx, const struct tg_principal *who)
{
	return tg_uses_of(ctx, who);
}

void tg_store_places(struct tg_store *s, struct tg_policy *p)
{
	tg_policy_places(p, place, s->uses);
}

void tg_store_count(struct tg_store *s, const char *principal, uint64_t wall_us, const struct tg_counts *c)
{
	struct tg_use *u = s->usage_days ? tg_uses_of_id(s->uses, principal) : NULL;
	if (u)
		tg_use_add(u, wall_us, c);
}

enum tg_db_result tg_store_flush(struct tg_store *s, struct tg_err *err)
{
	uv_mutex_lock(&s->lock);
	enum tg_db_result r = tell_uses(s, err);
	if (s->db && (r == TG_DB_AWAY || r == TG_DB_BROKEN))
		lose(s, err);
	uv_mutex_unlock(&s->lock);
	return r;
}

/* A database that was replaced or removed under us answers from a file that nobody else sees. */
static bool same_file(struct tg_store *s, struct tg_err *err)
{
	if (tg_db_same_file(s->db))
		return true;
	tg_err_set(err, "the database's file was removed or replaced");
	return false;
}

static void free_retired(struct tg_store *s)
{
	if (!s->retired || !tg_identity_alone(s->retired))
		return;
	tg_identity_put(s->retired);
	s->retired = NULL;
}

bool tg_store_untidy(const struct tg_store *s)
{
	uint64_t due = atomic_load(&s->fold_us);
	return (due && tg_mono_us() >= due) || tg_known_due(s->known);
}

static void fold_identity(struct tg_store *s)
{
	uv_mutex_lock(&s->lock);
	free_retired(s);
	bool now = !s->folding && !s->retired && s->identity && tg_identity_laid_over(s->identity);
	struct tg_identity *was = now ? tg_identity_get(s->identity) : NULL;
	s->folding |= now;
	atomic_store(&s->fold_us, now ? tg_mono_us() + FOLD_AGAIN_US : atomic_load(&s->fold_us)); /* if it fails */
	uv_mutex_unlock(&s->lock);
	if (!now)
		return;
	struct tg_identity *folded = tg_identity_fold(was, now_s());
	uv_mutex_lock(&s->lock);
	struct tg_identity *fresh = folded ? tg_identity_refold(s->identity, folded, was) : NULL;
	if (fresh)
		put_in_force(s, fresh, true);
	s->folding = false;
	uv_mutex_unlock(&s->lock);
	tg_identity_put(folded);
	tg_identity_put(was);
}

/* Writing everybody takes seconds where they are many: changes are appended meanwhile, and go along. */
static void fold_known(struct tg_store *s)
{
	struct tg_known_fold f;
	struct tg_err why;
	uv_mutex_lock(&s->lock);
	bool now = s->db && tg_known_due(s->known) && tg_known_fold_begin(s->known, &s->end, &f);
	struct tg_identity *d = now ? tg_identity_get(s->identity) : NULL;
	uv_mutex_unlock(&s->lock);
	if (!now)
		return;
	tg_known_fold_fill(&f, d);
	uv_mutex_lock(&s->lock);
	bool done = tg_known_fold_end(s->known, &f, &why);
	uv_mutex_unlock(&s->lock);
	if (!done && why.text[0])
		not_written(&why);
	tg_identity_put(d);
}

void tg_store_tidy(struct tg_store *s)
{
	fold_identity(s);
	fold_known(s);
}

void tg_store_poll(struct tg_store *s)
{
	struct tg_err err;
	uv_mutex_lock(&s->lock);
	free_retired(s);
	enum tg_db_result r = TG_DB_OK;
	if (!s->db) {
		if (!s->fresh || access(path_of(s->url), F_OK) == 0)
			(void)reach(s, &err);
	} else if (!same_file(s, &err)) {
		lose(s, &err);
	} else {
		int64_t version = s->seen;
		r = tg_db_version(s->db, &version, &err);
		if (r == TG_DB_OK && (version != s->seen || s->own_change))
			r = catch_up(s, &err);
	}
	if (r == TG_DB_OK && (s->db || s->fresh) && tg_mono_us() - s->told_us >= s->tell_us)
		r = tell_uses(s, &err);
	if (r != TG_DB_OK && s->db)
		lose(s, &err);
	uv_mutex_unlock(&s->lock);
}

bool tg_store_there(struct tg_store *s)
{
	uv_mutex_lock(&s->lock);
	bool there = s->db != NULL;
	uv_mutex_unlock(&s->lock);
	return there;
}

uint64_t tg_store_last_used(struct tg_store *s, const char *id)
{
	return tg_uses_last(s->uses, id);
}

/* One transaction, under the lock. */
static enum tg_db_result transact(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err)
{
	enum tg_db_result r = reach(s, err);
	if (r == TG_DB_OK && !same_file(s, err)) {
		lose(s, err);
		s->tried_us = 0; /* the new one is there already, perhaps */
		r = reach(s, err);
	}
	if (r != TG_DB_OK || (r = tg_db_begin(s->db, err)) != TG_DB_OK)
		return r;
	r = change(s->db, ctx, err);
	if (r == TG_DB_OK)
		return tg_db_commit(s->db, err);
	tg_db_rollback(s->db);
	return r;
}

/* What is to be changed is not there: the change finds that out, and nothing is kept of it. */
static enum tg_db_result change_nothing(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err)
{
	enum tg_db_result r = nothing(s, err) ? tg_db_begin(s->empty, err) : TG_DB_AWAY;
	if (r != TG_DB_OK)
		return r;
	r = change(s->empty, ctx, err);
	tg_db_rollback(s->empty);
	return r;
}

enum tg_db_result tg_store_write(struct tg_store *s, tg_store_change change, void *ctx, uint64_t *generation, struct tg_err *err)
{
	uv_mutex_lock(&s->lock);
	bool none = s->looks && is_none(s);
	enum tg_db_result r = none ? change_nothing(s, change, ctx, err) : transact(s, change, ctx, err);
	if (r == TG_DB_OK && !none && catch_up(s, err) != TG_DB_OK) {
		s->own_change = true; /* it is kept; it comes into force when it can be read */
		tg_log(TG_LOG_F_ERROR, "store.not_read", "s:why", err->text, NULL);
	}
	if (s->db && (r == TG_DB_AWAY || r == TG_DB_BROKEN))
		lose(s, err);
	*generation = atomic_load(&s->generation) + (s->own_change ? 1 : 0);
	uv_mutex_unlock(&s->lock);
	return r;
}

/* data_version does not move for the connection that commits: the next poll finds nothing new. */
enum tg_db_result tg_store_record(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err)
{
	uv_mutex_lock(&s->lock);
	enum tg_db_result r = transact(s, change, ctx, err);
	if (s->db && (r == TG_DB_AWAY || r == TG_DB_BROKEN))
		lose(s, err);
	uv_mutex_unlock(&s->lock);
	return r;
}

enum tg_db_result tg_store_note(struct tg_store *s, tg_store_change change, void *ctx, struct tg_err *err)
{
	struct tg_err other;
	uv_mutex_lock(&s->lock);
	enum tg_db_result r = reach(s, err);
	if (r == TG_DB_OK)
		r = tg_db_lasting(s->db, false, err);
	if (r == TG_DB_OK)
		r = transact(s, change, ctx, err);
	if (s->db && (r == TG_DB_AWAY || r == TG_DB_BROKEN))
		lose(s, err);
	else if (s->db && tg_db_lasting(s->db, true, &other) != TG_DB_OK)
		lose(s, &other); /* the next one lasts */
	uv_mutex_unlock(&s->lock);
	return r;
}

enum tg_db_result tg_store_read(struct tg_store *s, tg_store_change look, void *ctx, struct tg_err *err)
{
	uv_mutex_lock(&s->lock);
	bool none = is_none(s);
	enum tg_db_result r = none ? (nothing(s, err) ? TG_DB_OK : TG_DB_AWAY) : reach(s, err);
	if (r == TG_DB_OK)
		r = look(none ? s->empty : s->db, ctx, err);
	if (s->db && (r == TG_DB_AWAY || r == TG_DB_BROKEN))
		lose(s, err);
	uv_mutex_unlock(&s->lock);
	return r;
}

bool tg_store_mark(struct tg_store *s, struct tg_db_mark *mark)
{
	if (uv_mutex_trylock(&s->lock))
		return false;
	bool ok = s->db && tg_db_mark(s->db, mark);
	uv_mutex_unlock(&s->lock);
	return ok;
}

bool tg_store_copy(struct tg_store *s, const char *to, struct tg_err *err)
{
	uv_mutex_lock(&s->lock);
	bool none = is_none(s);
	if (none)
		tg_err_set(err, "%s: there is no database yet", path_of(s->url));
	bool ok = !none && reach(s, err) == TG_DB_OK && tg_db_copy(s->db, to, err);
	uv_mutex_unlock(&s->lock);
	return ok;
}

/* Tells a secret from another one; with 31 bits it is no help in finding it. */
static uint32_t number_of(const uint8_t key[32])
{
	uint8_t h[16];
	uint32_t n;
	crypto_generichash(h, sizeof h, (const unsigned char *)"tollgate secret number", 22, key, 32);
	memcpy(&n, h, sizeof n);
	n &= 0x7fffffff;
	return n ? n : 1;
}

/* Keys are digests under this key: without it a database's keys are nobody's. *bad: there is one, and it cannot be used. */
static bool take_secret(struct tg_store *s, const struct tg_secret *given, bool *bad, void (*warn)(void *, const char *), void *ctx, struct tg_err *err)
{
	uint8_t key[32];
	const char *path = path_of(s->url);
	char *file = tg_folder_file(path, "secret.key");
	struct tg_err note = { "" };
	struct tg_secret secret = { 0 };
	struct stat st;
	bool ok = false;
	*bad = false;
	if (!file) {
		tg_err_set(err, "out of memory");
	} else if (!given->n && stat(path, &st) == 0 && st.st_size > 0 && access(file, F_OK) != 0) {
		tg_err_set(err, "%s is missing: the keys of %s are digests under it. Put it back from a backup, or set TOLLGATE_SECRET", file, path);
	} else if (tg_secret_file(file, "TOLLGATE_SECRET", (struct tg_slice){ given->p, given->n }, 32, &secret, &note, err)) {
		ok = crypto_generichash(key, sizeof key, (const unsigned char *)secret.p, secret.n, (const unsigned char *)"tollgate key digests", 20) == 0;
		if (note.text[0] && warn)
			warn(ctx, note.text);
		tg_digest_key(key);
		s->secret = number_of(key);
		s->secret_from = given->n ? "TOLLGATE_SECRET" : "secret.key beside it";
		tg_known_under(s->known, s->secret);
	} else {
		*bad = given->n || access(file, F_OK) == 0;
	}
	tg_secret_wipe(&secret);
	explicit_bzero(key, sizeof key);
	free(file);
	return ok;
}

/* A start in a time without the database: with what it last said. */
static bool begin_away(struct tg_store *s, void (*warn)(void *, const char *), void *ctx, struct tg_err *err)
{
	char text[1024];
	const char *known = tg_known_path(s->known);
	s->identity = as_last_known(s);
	if (!s->identity) {
		tg_err_set(err, "out of memory");
		return false;
	}
	if (!tg_identity_blind(s->identity))
		snprintf(text, sizeof text, "the database is away (%s): %zu keys are known from %s", err->text, tg_identity_keys(s->identity), known);
	else
		snprintf(text, sizeof text, "the database is away (%s), and %s does not tell who its keys and users are: they are answered 503, and this gate is not ready, until it is back. To begin without them remove both", err->text, known);
	atomic_fetch_add(&s->generation, 1);
	s->lost = true;
	if (warn)
		warn(ctx, text);
	return true;
}

/* ours: a secret, and later a database, are made where there are none. */
static struct tg_store *open_store(const char *url, const struct tg_secret *secret, bool ours, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err)
{
	const char *path = path_of(url);
	if (strncmp(url, "sqlite:", 7) != 0 && strstr(url, "://")) {
		tg_err_set(err, "[store] url: \"%.60s\": only sqlite:PATH is built", url);
		return NULL;
	}
	struct tg_store *s = calloc(1, sizeof *s);
	struct tg_known *known = tg_known_new(path);
	tg_err_set(err, "out of memory");
	if (s && known) {
		*s = (struct tg_store){ .url = strdup(url), .known = known, .folder = -1, .looks = !ours, .uses = tg_uses_new(), .told_us = tg_mono_us(), .tell_us = 60000000u };
	}
	if (!s || !known || !s->url || !s->uses || uv_mutex_init(&s->lock) || uv_mutex_init(&s->face)) {
		free(s ? s->url : NULL);
		tg_uses_free(s ? s->uses : NULL);
		tg_known_free(known);
		free(s);
		return NULL;
	}
	atomic_store(&s->state, TG_STORE_AWAY);
	bool there = access(path, F_OK) == 0 || tg_known_there(known), bad;
	enum tg_db_result r = TG_DB_AWAY;
	char text[640];
	if (hold_folder(s, err) != TG_DB_OK)
		goto never;
	if ((there || ours) && !take_secret(s, secret, &bad, warn, ctx, err)) {
		if (there || bad)
			goto never;
		snprintf(text, sizeof text, "no database: %s; keys of files and variables work, logins and managed keys do not", err->text);
		if (warn)
			warn(ctx, text);
		s->closed = true;
		return s; /* a folder that cannot be written: the rest of the gate needs no database */
	}
	if (hold_folder(s, err) != TG_DB_OK) /* the secret may have made it */
		goto never;
	if (!there) {
		s->fresh = true;
		s->identity = tg_identity_new();
		if (!s->identity || !tg_identity_seal(s->identity)) {
			tg_err_set(err, "out of memory");
			goto never;
		}
		atomic_store(&s->state, TG_STORE_OK);
		atomic_fetch_add(&s->generation, 1);
		return s;
	}
	if ((r = reach(s, err)) == TG_DB_BROKEN)
		goto never;
	if (r != TG_DB_OK && !begin_away(s, warn, ctx, err))
		goto never;
	return s;
never:
	tg_store_close(s);
	return NULL;
}

struct tg_store *tg_store_open(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err)
{
	return open_store(url, secret, true, warn, ctx, err);
}

struct tg_store *tg_store_look(const char *url, const struct tg_secret *secret, void (*warn)(void *ctx, const char *text), void *ctx, struct tg_err *err)
{
	return open_store(url, secret, false, warn, ctx, err);
}

bool tg_store_claim(const char *url, int *held, struct tg_err *err)
{
	*held = tg_folder_hold(path_of(url), true, err);
	if (*held == -2)
		return false;
	struct tg_known *known = tg_known_new(path_of(url));
	if (known && tg_known_there(known))
		tg_known_forget(known);
	tg_known_free(known);
	return true;
}

void tg_store_close(struct tg_store *s)
{
	struct tg_err err;
	if (!s)
		return;
	(void)tell_uses(s, &err);
	fold_known(s); /* the command line has nobody who would do it later */
	tg_db_close(s->db);
	tg_db_close(s->empty);
	tg_identity_put(s->identity);
	tg_identity_put(s->retired);
	tg_uses_free(s->uses);
	uv_mutex_destroy(&s->lock);
	uv_mutex_destroy(&s->face);
	free(s->url);
	tg_known_free(s->known);
	if (s->folder >= 0)
		close(s->folder);
	free(s);
}
